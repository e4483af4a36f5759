//! `doctor`: every link of the chain from the configuration to Wazuh, one line each, with the cure.

mod finding;
mod host;
mod microsoft;
mod network;
mod probes;
mod tenant;
mod test_event;
mod token;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::run::selected;
use super::{print_json, unsaid};
use crate::cli;
use crate::config::{Settings, Tenant};
use crate::ledger::{Fault, Ledger, Lock, Purpose};
use crate::{Error, Result};
use finding::{Chain, Finding, Outcome, Verdict};
use microsoft::OfTenant;
use probes::Probe;

pub(super) use finding::print;
pub(super) use microsoft::{Candidate, Past, Report, SignIn, probe as probe_microsoft};

/// What cannot be tried without a client, in order.
const BEHIND_HTTP: &[&Probe] = &[
    &probes::NAME,
    &probes::CONNECTION,
    &probes::TLS,
    &probes::ANSWER,
    &probes::SIGN_IN,
];

/// Probes everything and prints what was found, what is wrong first.
///
/// # Errors
/// [`Error::Configuration`] if the configuration cannot be used, or no tenant's credential; [`Error::Partial`] if something
/// else is not well.
pub(crate) fn doctor(
    config: &Path,
    arguments: &cli::Doctor,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> Result<()> {
    let (configuration, settings) = host::configuration(config, now);
    let mut findings = configuration.into_findings();
    let mut can_sign_in = true;
    if let Some(settings) = &settings {
        let (found, can) = probe(config, settings, arguments, now)?;
        findings.extend(found);
        can_sign_in = can;
    }
    let printed = if arguments.json {
        let report = json!({ "version": 1, "time": now.to_rfc3339(), "findings": findings });
        print_json(&report, out)
    } else {
        print(&findings, out)
    };
    printed.map_err(unsaid)?;
    let bad = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Failed);
    match bad.count() {
        _ if settings.is_none() => Err(Error::Configuration(
            "the configuration cannot be used; see above".to_owned(),
        )),
        // As for a run.
        _ if !can_sign_in => Err(Error::Configuration(
            "no tenant's credential can be used as it stands here; see above".to_owned(),
        )),
        0 => Ok(()),
        1 => Err(Error::Partial(
            "one thing is not well; see above".to_owned(),
        )),
        count => Err(Error::Partial(format!(
            "{count} things are not well; see above"
        ))),
    }
}

/// All that needs a configuration, and whether there is any tenant that could sign in, or none at all.
fn probe(
    config: &Path,
    settings: &Settings,
    arguments: &cli::Doctor,
    now: DateTime<Utc>,
) -> Result<(Vec<Finding>, bool)> {
    let tenants = selected(settings, &arguments.tenants)?;
    let mut chains = vec![host::ledger(settings)];
    chains.extend(host::log(settings));
    chains.extend(host::metrics(settings));
    chains.extend(host::wazuh(config, settings, &tenants, arguments.send_test));
    let mut pasts = pasts(settings, &tenants, now);
    let candidates = tenants.iter().map(|tenant| Candidate {
        past: pasts.remove(&tenant.tenant_id).unwrap_or_default(),
        ..Arc::clone(tenant).into()
    });
    let candidates = candidates.collect();
    let report = match probe_microsoft(settings, candidates) {
        Err(Error::Configuration(why)) => {
            let mut chain = Chain::here();
            chain.link(&probes::CONFIGURATION, Outcome::failed(&why));
            chain.skip_what_is_left(BEHIND_HTTP);
            chains.push(chain);
            let found = chains.into_iter().flat_map(Chain::into_findings);
            return Ok((found.collect(), true));
        }
        report => report?,
    };
    let of_tenants = tenants.iter().zip(&report.tenants);
    let well = of_tenants.filter(|(_, found)| found.is_well);
    let well: Vec<&Arc<Tenant>> = well.map(|(tenant, _)| tenant).collect();
    let back_off = end_back_off(settings, &well, now);
    let here = chains.into_iter().flat_map(Chain::into_findings);
    let back_off = back_off.into_iter().flat_map(Chain::into_findings);
    let found = here.chain(report.findings).chain(back_off).collect();
    let is_impossible = |tenant: &OfTenant| tenant.sign_in == SignIn::Impossible;
    let can_sign_in = tenants.is_empty() || !report.tenants.iter().all(is_impossible);
    Ok((found, can_sign_in))
}

/// What runs found last, by the tenants' GUIDs.
fn pasts(
    settings: &Settings,
    tenants: &[Arc<Tenant>],
    now: DateTime<Utc>,
) -> HashMap<String, Past> {
    // What is wrong with the ledger is found elsewhere.
    let Ok(Some(ledger)) = Ledger::read(&settings.state.ledger) else {
        return HashMap::new();
    };
    let past = |tenant: &Arc<Tenant>| {
        let past = Past {
            lacks_audit_log: ledger
                .lacks_audit_log(&tenant.tenant_id)
                .unwrap_or_default(),
            errors: Vec::new(),
        };
        (tenant.tenant_id.clone(), past)
    };
    let mut pasts: HashMap<_, _> = tenants.iter().map(past).collect();
    for stream in ledger.report(now).unwrap_or_default() {
        if let (Some(past), Some((error, _)), false) = (
            pasts.get_mut(&stream.tenant_id),
            stream.error,
            stream.is_unavailable,
        ) {
            past.errors.push((stream.content_type, error));
        }
    }
    pasts
}

/// Tenants that are well need not be left alone any longer.
fn end_back_off(settings: &Settings, well: &[&Arc<Tenant>], now: DateTime<Utc>) -> Option<Chain> {
    let path = &settings.state.ledger;
    // A ledger that is damaged was said to be, and is set aside by the next run.
    if well.is_empty() || !Ledger::read(path).is_ok_and(|ledger| ledger.is_some()) {
        return None;
    }
    let ended = Lock::try_take(path, Purpose::Run).and_then(|_lock| {
        let mut ledger = Ledger::open(path, now)?.0;
        for tenant in well {
            ledger.end_back_off(&tenant.tenant_id)?;
        }
        ledger.close()
    });
    match ended {
        // What is wrong with the ledger was found already.
        Ok(()) | Err(Fault::Corrupt(_) | Fault::NotOurs { .. } | Fault::Newer(_)) => None,
        Err(fault) => {
            let mut chain = Chain::here();
            let said = probes::BACK_OFF_STAYS.with(&[("why", &fault)]);
            chain.add(&probes::BACK_OFF, Outcome::Note(said));
            Some(chain)
        }
    }
}
