//! All that concerns Microsoft: its hosts, each once however many tenants go there, and each tenant.

use std::sync::Arc;

use tokio::task::LocalSet;

use super::finding::{Chain, Finding};
use super::{network, tenant};
use crate::Result;
use crate::command::places::some_at_a_time;
use crate::config::{ContentType, Settings, Tenant};
use crate::microsoft::{Clock, Credential, Http, event_loop};

pub(in crate::command) use tenant::SignIn;

/// A tenant, and what to go by.
pub(in crate::command) struct Candidate {
    pub(in crate::command) tenant: Arc<Tenant>,
    /// To be tried in place of its own.
    pub(in crate::command) credential: Option<Credential>,
    pub(in crate::command) past: Past,
}

/// What runs found of a tenant last.
#[derive(Debug, Clone, Default)]
pub(in crate::command) struct Past {
    /// Whether Microsoft had no audit log for it.
    pub(super) lacks_audit_log: bool,
    /// What kept content types from being collected, but for those that the application may not read.
    pub(super) errors: Vec<(ContentType, String)>,
}

impl From<Arc<Tenant>> for Candidate {
    /// As it is stored.
    fn from(tenant: Arc<Tenant>) -> Self {
        Self {
            tenant,
            credential: None,
            past: Past::default(),
        }
    }
}

/// What was found at Microsoft.
pub(in crate::command) struct Report {
    /// Hosts first, then tenants in the order asked for.
    pub(in crate::command) findings: Vec<Finding>,
    /// Of each tenant, in the same order.
    pub(in crate::command) tenants: Vec<OfTenant>,
}

/// What was found of a tenant.
pub(in crate::command) struct OfTenant {
    pub(in crate::command) name: String,
    /// Whether it and its hosts are.
    pub(in crate::command) is_well: bool,
    pub(in crate::command) sign_in: SignIn,
}

/// Walks all tenants' ways to Microsoft, some at a time.
///
/// # Errors
/// [`Error::Configuration`] for a `[http]` that cannot be used.
pub(in crate::command) fn probe(settings: &Settings, candidates: Vec<Candidate>) -> Result<Report> {
    let http = Http::probing(&settings.http)?;
    let runtime = event_loop()?;
    let at_once = settings.collect.tenants_in_parallel;
    let report = LocalSet::new().block_on(&runtime, walk(http, at_once, candidates));
    runtime.shutdown_background();
    Ok(report)
}

/// A host of Microsoft's, as it was found.
struct Host {
    url: String,
    clock: Clock,
    chain: Chain,
}

async fn walk(http: Http, at_once: usize, candidates: Vec<Candidate>) -> Report {
    let mut urls: Vec<String> = Vec::new();
    for Candidate { tenant, .. } in &candidates {
        for url in [tenant.login_host(), tenant.management_host()] {
            if !urls.iter().any(|known| known == url) {
                urls.push(url.to_owned());
            }
        }
    }
    let hosts = urls.into_iter().map(|url| {
        let http = http.clone();
        async move {
            let clock = Clock::default();
            let chain = network::probe(&http, &url, &clock).await;
            Host { url, clock, chain }
        }
    });
    let hosts = some_at_a_time(at_once, hosts).await;
    let clock = network::clock(hosts.iter().map(|host| &host.clock));

    let tenants = candidates.into_iter().map(|candidate| {
        let of = |url: &str| hosts.iter().find(|host| host.url == url);
        let (login, management) = (
            of(candidate.tenant.login_host()),
            of(candidate.tenant.management_host()),
        );
        let is_reached = [login, management]
            .iter()
            .flatten()
            .all(|h| h.chain.holds());
        // It is the management host by whose clock windows are asked for.
        let clock = management
            .map(|host| host.clock.clone())
            .unwrap_or_default();
        let http = http.clone();
        async move {
            let name = candidate.tenant.name.clone();
            let (chain, sign_in) =
                tenant::probe(&http, candidate, is_reached.then_some(clock)).await;
            let is_well = is_reached && chain.is_well();
            let of_tenant = OfTenant {
                name,
                is_well,
                sign_in,
            };
            (chain, of_tenant)
        }
    });
    let tenants = some_at_a_time(at_once, tenants).await;
    let (chains, tenants): (Vec<_>, Vec<_>) = tenants.into_iter().unzip();

    let hosts = hosts.into_iter().map(|host| host.chain);
    let chains = hosts.chain([clock]).chain(chains);
    Report {
        findings: chains.flat_map(Chain::into_findings).collect(),
        tenants,
    }
}
