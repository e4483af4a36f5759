//! `subscriptions`: by hand what a run does by itself. There is no stop: what is made while a subscription is stopped can
//! never be fetched.

use std::io::Write;
use std::sync::Arc;

use chrono::Utc;

use super::run::{error_of, say_nobody, selected, warn_of_uncollected};
use super::{names, unsaid};
use crate::Result;
use crate::cli;
use crate::collect::{self, Trouble};
use crate::config::{ContentType, Settings, Tenant};
use crate::ledger::{Ledger, Lock, Purpose};
use crate::microsoft::{Activity, Class, Clock, Credential, Fault, Http, START_AGAIN, event_loop};
use crate::stopping::Stopping;

/// Lists the subscriptions of tenants, or starts those that are missing.
///
/// # Errors
/// See the exit codes in the README.
pub(crate) fn subscriptions(
    settings: &Settings,
    command: &cli::Subscriptions,
    out: &mut impl Write,
) -> Result<()> {
    let names = match command {
        cli::Subscriptions::List { tenants } | cli::Subscriptions::Start { tenants, .. } => tenants,
    };
    let tenants = selected(settings, names)?;
    if tenants.is_empty() {
        say_nobody(settings, Utc::now());
    }
    if let cli::Subscriptions::Start { content_types, .. } = command {
        warn_of_uncollected(&tenants, content_types);
    }
    let http = Http::new(&settings.http)?;
    let runtime = event_loop()?;
    let mut outcomes = Vec::new();
    for tenant in &tenants {
        let name = tenant.name.as_str();
        let activity = match activity(&http, tenant) {
            Ok(activity) => activity,
            Err(error) => {
                writeln!(out, "{name}: {error}").map_err(unsaid)?;
                outcomes.push((name, Some(Trouble::Credential)));
                continue;
            }
        };
        let done = match command {
            cli::Subscriptions::List { .. } => runtime.block_on(list(&activity, tenant, out)),
            cli::Subscriptions::Start { content_types, .. } => {
                runtime.block_on(start(settings, &activity, tenant, content_types, out))
            }
        };
        match done? {
            Ok(each) => outcomes.extend(each.into_iter().map(|trouble| (name, trouble))),
            Err(fault) => {
                writeln!(out, "{name}: {fault}").map_err(unsaid)?;
                outcomes.push((name, Some(trouble(&fault))));
            }
        }
    }
    conclude(&outcomes)
}

fn activity(http: &Http, tenant: &Arc<Tenant>) -> Result<Activity> {
    let credential = Credential::read(&tenant.authentication)?;
    Activity::new(http, tenant, credential, Clock::default())
}

fn trouble(fault: &Fault) -> Trouble {
    match fault.class {
        Class::RefuseTenant | Class::AuditLogOff => Trouble::Refused,
        _ => Trouble::Unreachable,
    }
}

/// The exit code, as an error where it is not 0, judged as a run is.
fn conclude(outcomes: &[(&str, Option<Trouble>)]) -> Result<()> {
    let troubles: Vec<_> = outcomes.iter().map(|(_, trouble)| *trouble).collect();
    let Some(error) = error_of(&troubles) else {
        return Ok(());
    };
    let failed = outcomes.iter().filter(|(_, trouble)| trouble.is_some());
    let mut tenants: Vec<&str> = failed.map(|(name, _)| *name).collect();
    tenants.dedup();
    Err(error(format!(
        "not done for {}; see above",
        names(&tenants)
    )))
}

/// What was wrong with each thing that was asked for, or why nothing could be asked for.
type Asked = Result<Vec<Option<Trouble>>, Fault>;

async fn list(activity: &Activity, tenant: &Tenant, out: &mut impl Write) -> Result<Asked> {
    let subscriptions = match activity.subscriptions().await {
        Ok(subscriptions) => subscriptions,
        Err(fault) => return Ok(Err(fault)),
    };
    for &content_type in &tenant.content_types {
        let known = subscriptions
            .iter()
            .find(|one| one.content_type == content_type);
        let state = match known {
            Some(one) if one.enabled => "enabled",
            Some(_) => "disabled: `o365-wodle subscriptions start`, or the next run, starts it",
            None => "none: `o365-wodle subscriptions start`, or the next run, starts it",
        };
        writeln!(out, "{} {content_type}: {state}", tenant.name).map_err(unsaid)?;
    }
    Ok(Ok(vec![None]))
}

/// Starts what is missing, and remembers it as a run does.
async fn start(
    settings: &Settings,
    activity: &Activity,
    tenant: &Tenant,
    only: &[ContentType],
    out: &mut impl Write,
) -> Result<Asked> {
    let subscriptions = match activity.subscriptions().await {
        Ok(subscriptions) => subscriptions,
        Err(fault) => return Ok(Err(fault)),
    };
    let now = activity.clock().now();
    let _lock = Lock::take(&settings.state.ledger, Purpose::Run, &Stopping::default())?;
    let mut ledger = Ledger::open(&settings.state.ledger, now)?.0;
    let floor = collect::floor(&ledger, tenant.initial_lookback, now)?;
    let mut each = Vec::new();
    for content_type in tenant.content_types_among(only) {
        let mut wrong = None;
        let is_enabled = subscriptions
            .iter()
            .any(|one| one.enabled && one.content_type == content_type);
        let stream = ledger.stream(&tenant.tenant_id, content_type, floor)?;
        let again = stream.started.map(|started| started + START_AGAIN);
        let state = if is_enabled {
            "enabled already".to_owned()
        } else if let Some(again) =
            again.filter(|again| collect::is_ahead(Some(*again), now, START_AGAIN))
        {
            wrong = Some(Trouble::Unreachable);
            format!(
                "not started: Microsoft allows a start every 15 minutes; again after {}",
                again.format("%F %T UTC")
            )
        } else {
            ledger.subscription_starting(stream.id, now)?;
            ledger.commit()?;
            match activity.start(content_type).await {
                Ok(was_off) => {
                    ledger.subscription_enabled(stream.id)?;
                    if !was_off && stream.off_since.is_none() {
                        ledger.subscription_was_on(stream.id)?;
                    }
                    match stream.marker.filter(|_| was_off) {
                        Some(marker) => format!(
                            "started again; of what became available after {}, Microsoft kept nothing while it was off, which the next run tells Wazuh",
                            marker.format("%F %T UTC")
                        ),
                        None => "started; the first content may take hours".to_owned(),
                    }
                }
                Err(fault) => {
                    // What the app has no permission for is no failure.
                    if fault.class != Class::TypeUnavailable {
                        wrong = Some(trouble(&fault));
                    }
                    fault.to_string()
                }
            }
        };
        writeln!(out, "{} {content_type}: {state}", tenant.name).map_err(unsaid)?;
        each.push(wrong);
    }
    ledger.close()?;
    Ok(Ok(each))
}
