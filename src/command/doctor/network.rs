//! The way to one of Microsoft's hosts, and what time it is there.

use chrono::TimeDelta;

use super::finding::{Chain, Outcome};
use super::probes::{self, Probe, Trouble};
use crate::microsoft::{Clock, Http, Obstacle, SKEW, Step};

/// Each step to a host of this URL; its answer sets the clock.
pub(super) async fn probe(http: &Http, url: &str, clock: &Clock) -> Chain {
    let mut chain = Chain::to(url);
    let reached = http
        .reach(url, clock, |step, seen| {
            chain.link(probe_of(step), Outcome::Ok(seen));
        })
        .await;
    if let Err((obstacle, why)) = reached {
        let proxy = http.proxy_for(url);
        let trouble = trouble_of(obstacle, proxy.is_some());
        let proxy = proxy.unwrap_or_default();
        let said = trouble.with(&[("host", &url), ("proxy", &proxy), ("why", &why)]);
        chain.link(trouble.probe, Outcome::Failed(said));
    }
    let steps: Vec<_> = http.steps(url).into_iter().map(probe_of).collect();
    chain.skip_what_is_left(&steps);
    chain
}

fn probe_of(step: Step) -> &'static Probe {
    match step {
        Step::Name => &probes::NAME,
        Step::Connection => &probes::CONNECTION,
        Step::Proxy => &probes::PROXY,
        Step::Tls => &probes::TLS,
        Step::Answer => &probes::ANSWER,
    }
}

fn trouble_of(obstacle: Obstacle, has_proxy: bool) -> &'static Trouble {
    match obstacle {
        Obstacle::NoName if has_proxy => &probes::NO_PROXY_NAME,
        Obstacle::NoConnection if has_proxy => &probes::NO_PROXY_THERE,
        Obstacle::NoName => &probes::NO_NAME,
        Obstacle::NoConnection => &probes::NO_CONNECTION,
        Obstacle::ProxyRefuses => &probes::PROXY_REFUSES,
        Obstacle::Untrusted => &probes::UNTRUSTED,
        Obstacle::NoTls => &probes::NO_TLS,
        Obstacle::NoAnswer => &probes::NO_ANSWER,
    }
}

/// This machine's clock, by the host that differs most.
pub(super) fn clock<'a>(clocks: impl Iterator<Item = &'a Clock>) -> Chain {
    let mut chain = Chain::here();
    let mut clocks = clocks.peekable();
    // Without a tenant no host was asked for the time.
    if clocks.peek().is_none() {
        return chain;
    }
    match clocks.filter_map(Clock::skew).max_by_key(TimeDelta::abs) {
        Some(skew) => chain.link(&probes::CLOCK, judge_clock(skew)),
        None => chain.break_off(),
    }
    chain.skip_what_is_left(&[&probes::CLOCK]);
    chain
}

fn judge_clock(skew: TimeDelta) -> Outcome {
    if skew.abs() <= SKEW {
        return Outcome::Ok("as Microsoft's, to a minute".to_owned());
    }
    let is_ahead = skew > TimeDelta::zero();
    Outcome::Failed(probes::WRONG_CLOCK.with(&[
        ("seconds", &skew.num_seconds().abs()),
        ("direction", &if is_ahead { "ahead of" } else { "behind" }),
    ]))
}
