//! What analysisd does with an event, as a calculation: time goes in, alert lines come out.
//!
//! An event of ours passes three bounded queues: `others` (which drops when it is full), then
//! `processed` and `alerts` (which make the stage before wait). FIM and inventory events have
//! input queues of their own. Between two queues a few events are in the hands of workers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reader::until_nul;
use super::settings::{Background, Settings};
use super::stage::{Stage, real, whole};
use crate::oracle::{Fields, refused_by_cjson};

/// The time between two steps while there is work.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// A step that comes later leaves events in hands for longer than any worker would.
const LATE: Duration = Duration::from_millis(10);

/// analysisd flushes its files once a second.
const FLUSH: Duration = Duration::from_secs(1);

/// Decoders and rules keep ahead of the writer by these factors: a burst was seen to pile up in
/// `alerts` first.
const DECODE_FACTOR: f64 = 3.0;
const RULES_FACTOR: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Office365,
    Other,
    Fim,
    Inventory,
}

const KINDS: usize = 4;

/// An event in memory.
pub(super) struct Event {
    kind: Kind,
    /// the line that the alerts file gets
    line: Option<Vec<u8>>,
    /// whether a rule makes an alert of it
    alert: bool,
}

impl Event {
    /// Takes a datagram apart as analysisd does; `None` if it is refused outright.
    pub(super) fn of(datagram: &[u8]) -> Option<Self> {
        let datagram = until_nul(datagram);
        let (queue, rest) = datagram.split_at_checked(2)?;
        let queue = queue.strip_suffix(b":")?;
        let at = rest.iter().position(|&b| b == b':')?;
        let (location, message) = (rest.get(..at)?, rest.get(at + 1..)?);
        let kind = match (queue, location) {
            (b"8", _) => Kind::Fim,
            (b"d" | b"5", _) => Kind::Inventory,
            (_, b"office365") => Kind::Office365,
            _ => Kind::Other,
        };
        let alert = alerts(message);
        let mut line = alert.then(|| message.to_vec());
        if let Some(line) = line.as_mut().filter(|line| line.contains(&b'\n')) {
            line.iter_mut()
                .filter(|b| **b == b'\n')
                .for_each(|b| *b = b' ');
        }
        Some(Self { kind, line, alert })
    }

    fn background(kind: Kind) -> Self {
        Self {
            kind,
            line: None,
            alert: kind != Kind::Inventory,
        }
    }
}

/// Whether Wazuh's decoder and official rules make an alert of a message.
fn alerts(message: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        integration: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        office365: &'a serde_json::value::RawValue,
    }
    let Ok(text) = std::str::from_utf8(message) else {
        return false;
    };
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
        return false;
    };
    envelope.integration.contains("office365")
        && refused_by_cjson(text).is_none()
        && Fields::of(envelope.office365.get()).is_some_and(|fields| fields.alerts())
}

/// All that analysisd holds in memory, and its counters.
pub(super) struct Pipeline {
    pub(super) settings: Settings,
    uptime: u64,
    others: Stage<Event>,
    fim: Stage<Event>,
    inventory: Stage<Event>,
    processed: Stage<Event>,
    alerts: Stage<Event>,
    /// written, not flushed
    file: Vec<u8>,
    received: u64,
    decoded: [u64; KINDS],
    dropped: [u64; KINDS],
    through_rules: u64,
    written: u64,
    /// background events due, by kind
    due: [f64; KINDS],
    /// (second, events) of the eps limit
    spent: VecDeque<(u64, usize)>,
    begin: Instant,
    last: Instant,
    flushed: Instant,
    dice: u64,
}

impl Pipeline {
    /// Empty, with metrics from 0. `uptime` is the epoch second of the start.
    pub(super) fn new(settings: Settings, uptime: u64, now: Instant) -> Self {
        Self {
            settings,
            uptime,
            others: Stage::default(),
            fim: Stage::default(),
            inventory: Stage::default(),
            processed: Stage::default(),
            alerts: Stage::default(),
            file: Vec::new(),
            received: 0,
            decoded: [0; KINDS],
            dropped: [0; KINDS],
            through_rules: 0,
            written: 0,
            due: [0.0; KINDS],
            spent: VecDeque::new(),
            begin: now,
            last: now,
            flushed: now,
            dice: uptime,
        }
    }

    /// An event comes off the socket: into its input queue, or dropped where that is full.
    pub(super) fn offer(&mut self, event: Event) {
        self.received += 1;
        let queue = match event.kind {
            Kind::Office365 | Kind::Other => &mut self.others.queue,
            Kind::Fim => &mut self.fim.queue,
            Kind::Inventory => &mut self.inventory.queue,
        };
        if queue.len() < self.settings.others {
            queue.push_back(event);
        } else if let Some(count) = self.dropped.get_mut(event.kind as usize) {
            *count += 1;
        }
    }

    /// Whether the queues that an event of ours passes are empty, hands included.
    pub(super) fn is_idle(&self) -> bool {
        self.others.is_empty() && self.processed.is_empty() && self.alerts.is_empty()
    }

    /// Whether nothing happens until an event comes or the files are flushed.
    pub(super) fn is_still(&self) -> bool {
        self.is_idle()
            && self.file.is_empty()
            && self.fim.is_empty()
            && self.inventory.is_empty()
            && self.settings.background == Background::default()
    }

    /// Events of location `office365` that were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.first().copied().unwrap_or(0)
    }

    /// Events taken off the socket.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Goes on to `now`; gives what is to be written to the alerts file now.
    pub(super) fn step(&mut self, now: Instant) -> Option<Vec<u8>> {
        let dt = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        let workers = self.settings.workers;
        let rate = self.settings.rate;
        // from the end to the beginning: an event takes at least a step a stage
        for event in self.alerts.advance(rate, dt, usize::MAX, 0, &mut self.dice) {
            self.written += 1;
            if let Some(line) = event.line {
                self.file.extend_from_slice(&line);
                self.file.push(b'\n');
            }
        }
        let room = self.settings.alerts.saturating_sub(self.alerts.queue.len());
        for event in self.processed.advance(
            rate.map(|r| r * RULES_FACTOR),
            dt,
            room,
            workers,
            &mut self.dice,
        ) {
            self.through_rules += 1;
            if event.alert {
                self.alerts.queue.push_back(event);
            }
        }
        let credits = self.credits(now);
        let mut spent = 0;
        for (at, input) in [&mut self.others, &mut self.fim].into_iter().enumerate() {
            let room = self
                .settings
                .processed
                .saturating_sub(self.processed.queue.len())
                .min(credits - spent);
            // FIM has decoders of its own
            let rate = if at == 0 {
                rate.map(|r| r * DECODE_FACTOR)
            } else {
                None
            };
            for event in input.advance(rate, dt, room, workers, &mut self.dice) {
                if let Some(count) = self.decoded.get_mut(event.kind as usize) {
                    *count += 1;
                }
                spent += 1;
                self.processed.queue.push_back(event);
            }
        }
        self.spend(now, spent);
        for event in self
            .inventory
            .advance(None, dt, usize::MAX, workers, &mut self.dice)
        {
            if let Some(count) = self.decoded.get_mut(event.kind as usize) {
                *count += 1;
            }
        }
        self.others_send(dt);
        if self.is_flush_due(now) {
            self.flushed = now;
            self.flush()
        } else {
            self.spill()
        }
    }

    pub(super) fn is_flush_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.flushed) >= FLUSH
    }

    /// Whether there is work and the last step was long ago.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        !self.is_still() && now.saturating_duration_since(self.last) > LATE
    }

    /// What is written but not flushed.
    pub(super) fn flush(&mut self) -> Option<Vec<u8>> {
        (!self.file.is_empty()).then(|| std::mem::take(&mut self.file))
    }

    /// The full blocks of the file's buffer, but whole lines only.
    fn spill(&mut self) -> Option<Vec<u8>> {
        let block = self.settings.file_buffer.max(1);
        let full = self.file.len() / block * block;
        let end = self.file.get(..full)?.iter().rposition(|&b| b == b'\n')?;
        let rest = self.file.split_off(end + 1);
        Some(std::mem::replace(&mut self.file, rest))
    }

    fn others_send(&mut self, dt: f64) {
        let Background {
            office365,
            other,
            fim,
            inventory,
        } = self.settings.background;
        for (kind, rate) in [
            (Kind::Office365, office365),
            (Kind::Other, other),
            (Kind::Fim, fim),
            (Kind::Inventory, inventory),
        ] {
            let Some(due) = self.due.get_mut(kind as usize) else {
                continue;
            };
            // a late step makes no burst beyond a tenth of a second
            *due += rate * dt.min(0.1);
            let count = whole(*due);
            *due -= real(count);
            for _ in 0..count {
                self.offer(Event::background(kind));
            }
        }
    }

    /// Events that the eps limit lets through now.
    fn credits(&mut self, now: Instant) -> usize {
        let Some(limit) = self.settings.eps else {
            return usize::MAX;
        };
        let second = now.saturating_duration_since(self.begin).as_secs();
        while self
            .spent
            .front()
            .is_some_and(|&(cell, _)| cell + u64::from(limit.timeframe) <= second)
        {
            self.spent.pop_front();
        }
        let spent: usize = self.spent.iter().map(|&(_, count)| count).sum();
        (limit.maximum as usize * limit.timeframe as usize).saturating_sub(spent)
    }

    fn spend(&mut self, now: Instant, count: usize) {
        if self.settings.eps.is_none() || count == 0 {
            return;
        }
        let second = now.saturating_duration_since(self.begin).as_secs();
        match self.spent.back_mut() {
            Some((cell, spent)) if *cell == second => *spent += count,
            _ => self.spent.push_back((second, count)),
        }
    }

    /// The `data` of `getstats` (Wazuh's `state.c`; the paths are those of 4.4 to 4.14).
    pub(super) fn statistics(&mut self, now: Instant, timestamp: u64) -> Value {
        let breakdown = |[office365, other, fim, inventory]: [u64; KINDS]| {
            json!({
                "agent": 0, "dbsync": 0,
                "integrations_breakdown": { "virustotal": 0 },
                "modules_breakdown": {
                    "aws": 0, "azure": 0, "ciscat": 0, "command": 0, "docker": 0, "gcp": 0, "github": 0,
                    "logcollector_breakdown": { "eventchannel": 0, "eventlog": 0, "macos": 0, "others": other },
                    "office365": office365, "oscap": 0, "osquery": 0, "rootcheck": 0, "sca": 0,
                    "syscheck": fim, "syscollector": inventory, "upgrade": 0, "vulnerability": 0,
                },
                "monitor": 0, "remote": 0,
            })
        };
        let queue = |stage: &Stage<Event>, size: usize| json!({ "size": size, "usage": real(stage.queue.len()) / real(size.max(1)) });
        let unused = json!({ "size": 16_384, "usage": 0 });
        let input = self.settings.others;
        let credits = self.credits(now);
        let mut metrics = json!({
            "bytes": { "received": 0 },
            "events": {
                "processed": self.through_rules,
                "received": self.received,
                "received_breakdown": {
                    "decoded_breakdown": breakdown(self.decoded),
                    "dropped_breakdown": breakdown(self.dropped),
                },
                "written_breakdown": { "alerts": self.written, "archives": 0, "firewall": 0, "fts": 0, "stats": 0 },
            },
            "queues": {
                "alerts": queue(&self.alerts, self.settings.alerts),
                "archives": unused, "dbsync": unused, "eventchannel": unused, "firewall": unused,
                "fts": unused, "hostinfo": unused,
                "others": queue(&self.others, input),
                "processed": queue(&self.processed, self.settings.processed),
                "rootcheck": unused, "sca": unused, "stats": unused,
                "syscheck": queue(&self.fim, input),
                "syscollector": queue(&self.inventory, input),
                "upgrade": unused,
            },
        });
        if self.settings.eps.is_some()
            && let Some(metrics) = metrics.as_object_mut()
        {
            let dropped: u64 = self.dropped.iter().sum();
            let eps = json!({
                "available_credits": credits, "available_credits_prev": credits,
                "events_dropped": if credits == 0 { dropped } else { 0 },
                "events_dropped_not_eps": if credits == 0 { 0 } else { dropped },
                "seconds_over_limit": 0,
            });
            metrics.insert("eps".into(), eps);
        }
        json!({ "uptime": self.uptime, "timestamp": timestamp, "name": "wazuh-analysisd", "metrics": metrics })
    }
}

#[cfg(test)]
mod tests;
