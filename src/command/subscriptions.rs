//! `subscriptions`: by hand what a run does by itself. There is no stop: what is made while a subscription is stopped can
//! never be fetched.

use std::io::Write;
use std::sync::Arc;

use chrono::Utc;
use tokio::task::LocalSet;

use super::places::some_at_a_time;
use super::run::{error_of, say_nobody, selected, warn_of_uncollected};
use super::{names, unsaid};
use crate::cli;
use crate::collect::{self, Trouble};
use crate::config::{ContentType, Settings, Tenant};
use crate::ledger::{Ledger, Lock, Purpose};
use crate::microsoft::{
    Activity, Class, Clock, Credential, Fault, Http, START_AGAIN, Subscription, event_loop,
};
use crate::stopping::Stopping;
use crate::{Error, Result};

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
    let outcomes = LocalSet::new().block_on(&runtime, async {
        let asks = tenants.iter().map(|tenant| {
            let (http, tenant) = (http.clone(), Arc::clone(tenant));
            async move { ask(&http, &tenant).await }
        });
        // All before the first start, which may have to wait for a run.
        let asked = some_at_a_time(settings.collect.tenants_in_parallel, asks).await;
        let mut outcomes = Vec::new();
        for (tenant, asked) in tenants.iter().zip(asked) {
            let name = tenant.name.as_str();
            match (asked, command) {
                (Err((said, trouble)), _) => {
                    writeln!(out, "{name}: {said}").map_err(unsaid)?;
                    outcomes.push((name, Some(trouble)));
                }
                (Ok(asked), cli::Subscriptions::List { .. }) => {
                    list(&asked, tenant, out)?;
                    outcomes.push((name, None));
                }
                (Ok(asked), cli::Subscriptions::Start { content_types, .. }) => {
                    let each = start(settings, &asked, tenant, content_types, out).await?;
                    outcomes.extend(each.into_iter().map(|trouble| (name, trouble)));
                }
            }
        }
        Ok::<_, Error>(outcomes)
    });
    conclude(&outcomes?)
}

/// A tenant's way to Microsoft, and what it is subscribed to there.
struct Asked {
    activity: Activity,
    subscriptions: Vec<Subscription>,
}

/// Asks for a tenant's subscriptions; says why that cannot be done.
async fn ask(http: &Http, tenant: &Arc<Tenant>) -> Result<Asked, (String, Trouble)> {
    let credential = |error: Error| (error.to_string(), Trouble::Credential);
    let read = Credential::read_aside(&tenant.authentication).await;
    let activity = read
        .map_err(Error::from)
        .and_then(|read| Activity::new(http, tenant, read, Clock::default()))
        .map_err(credential)?;
    match activity.subscriptions().await {
        Ok(subscriptions) => Ok(Asked {
            activity,
            subscriptions,
        }),
        Err(fault) => Err((fault.to_string(), trouble(&fault))),
    }
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

fn list(asked: &Asked, tenant: &Tenant, out: &mut impl Write) -> Result<()> {
    for &content_type in &tenant.content_types {
        let mut all = asked.subscriptions.iter();
        let known = all.find(|one| one.content_type == content_type);
        let state = match known {
            Some(one) if one.enabled => "enabled",
            Some(_) => "disabled: `o365-wodle subscriptions start`, or the next run, starts it",
            None => "none: `o365-wodle subscriptions start`, or the next run, starts it",
        };
        writeln!(out, "{} {content_type}: {state}", tenant.name).map_err(unsaid)?;
    }
    Ok(())
}

/// Starts what is missing, and remembers it as a run does; what was wrong with each content type.
async fn start(
    settings: &Settings,
    asked: &Asked,
    tenant: &Tenant,
    only: &[ContentType],
    out: &mut impl Write,
) -> Result<Vec<Option<Trouble>>> {
    let Asked {
        activity,
        subscriptions,
    } = asked;
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
            let started = activity.start(content_type).await;
            collect::remember_start(&mut ledger, &stream, &started)?;
            match started {
                Ok(was_off) => match stream.marker.filter(|_| was_off) {
                    Some(marker) => format!(
                        "started again; of what became available after {}, Microsoft kept nothing while it was off, which the next run tells Wazuh",
                        marker.format("%F %T UTC")
                    ),
                    None => "started; the first content may take hours".to_owned(),
                },
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
    Ok(each)
}
