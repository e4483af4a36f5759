//! `run`: one collection, and how it went as an exit code.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;

use super::progress::Progress;
use super::{metrics, names};
use crate::cli;
use crate::collect::{Request, Summary, Trouble, collect};
use crate::config::{ContentType, Settings, Tenant};
use crate::ledger::Purpose;
use crate::stopping::Stopping;
use crate::wazuh::Assurance;
use crate::{Error, Result};

/// Collects once.
///
/// # Errors
/// See the exit codes in the README.
pub(crate) fn run(settings: &Settings, arguments: &cli::Run) -> Result<()> {
    let begin = Instant::now();
    let tenants = selected(settings, &arguments.tenants)?;
    if tenants.is_empty() {
        say_nobody(settings);
        if !arguments.is_dry {
            metrics::write(settings, Utc::now(), begin.elapsed());
        }
        return Ok(());
    }
    warn_of_uncollected(&tenants, &arguments.content_types);
    let request = Request {
        tenants,
        content_types: arguments.content_types.clone(),
        deadline: arguments.deadline.unwrap_or(settings.collect.deadline),
        is_dry: arguments.is_dry,
        purpose: Purpose::Run,
        stopping: Stopping::by_signal()?,
    };
    judge(&collect_and_report(settings, &request)?)
}

/// Collects once, says how it went, and leaves the figures for Prometheus.
///
/// # Errors
/// What stands in the way of all tenants alike.
pub(super) fn collect_and_report(settings: &Settings, request: &Request) -> Result<Summary> {
    let begin = Instant::now();
    let _progress = (!request.is_dry).then(|| Progress::follow(settings.state.ledger.clone()));
    let collected = collect(settings, request);
    // A run that another one keeps from running is none.
    if !request.is_dry && !matches!(collected, Err(Error::Busy(_))) {
        metrics::write(settings, Utc::now(), begin.elapsed());
    }
    let summary = collected?;
    say(&summary, request.is_dry);
    Ok(summary)
}

/// The enabled tenants, or those that are named.
///
/// # Errors
/// [`Error::Usage`] for a name that no tenant has.
pub(crate) fn selected(settings: &Settings, names: &[String]) -> Result<Vec<Arc<Tenant>>> {
    for name in names {
        if !settings.tenants.iter().any(|tenant| tenant.name == *name) {
            return Err(Error::Usage(format!(
                "--tenant {name}: no tenant has that name; `o365-wodle status --all` lists them"
            )));
        }
    }
    for tenant in &settings.tenants {
        if !tenant.enabled && names.contains(&tenant.name) {
            log::warn!(
                "{} has `enabled = false`: it is looked at since it is named; runs that name no tenant leave it out",
                tenant.name
            );
        }
    }
    Ok(settings
        .tenants
        .iter()
        .filter(|tenant| {
            if names.is_empty() {
                tenant.enabled
            } else {
                names.contains(&tenant.name)
            }
        })
        .cloned()
        .collect())
}

/// Says why there is no tenant to collect.
pub(super) fn say_nobody(settings: &Settings) {
    if settings.tenants.is_empty() {
        log::warn!("no tenants yet: add one with `o365-wodle tenant add NAME --from FILE`");
    } else {
        log::warn!("all tenants are disabled: remove `enabled = false` from one");
    }
}

/// Says which tenants `--content-type` asks in vain.
pub(super) fn warn_of_uncollected(tenants: &[Arc<Tenant>], content_types: &[ContentType]) {
    for content_type in content_types {
        let without = tenants
            .iter()
            .filter(|tenant| !tenant.content_types.contains(content_type));
        let without: Vec<&str> = without.map(|tenant| tenant.name.as_str()).collect();
        if !without.is_empty() {
            log::warn!(
                "--content-type {content_type}: nothing is done for {}, whose content_types lack it; add it there",
                names(&without)
            );
        }
    }
}

fn say(summary: &Summary, is_dry: bool) {
    let tally = &summary.tally;
    let sent = if is_dry {
        format!("{} events printed", tally.sent)
    } else {
        let assurance = tally.assurance.unwrap_or(Assurance::Confirmed).as_str();
        format!(
            "{} events sent, {} {assurance}, {} not yet confirmed",
            tally.sent, tally.confirmed, tally.unconfirmed
        )
    };
    log::info!(
        "{sent}, {} duplicates dropped, {} filtered{}",
        tally.duplicate,
        tally.filtered,
        if summary.stopped_by.is_some() {
            "; stopped with work left"
        } else {
            ""
        }
    );
}

/// The exit code, as an error where it is not 0.
pub(super) fn judge(summary: &Summary) -> Result<()> {
    let outcomes = &summary.outcomes;
    let named = |trouble| {
        let tenants: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.trouble == Some(trouble))
            .map(|outcome| outcome.tenant.as_str())
            .collect();
        (tenants.len(), names(&tenants))
    };
    let (unreadable, unreadable_names) = named(Trouble::Credential);
    let (refused, refused_names) = named(Trouble::Refused);
    let (unreachable, unreachable_names) = named(Trouble::Unreachable);
    let (partial, partial_names) = named(Trouble::Partial);
    if unreadable + refused + unreachable + partial == 0 {
        return Ok(());
    }
    if unreadable == outcomes.len() {
        return Err(Error::Configuration(format!(
            "no tenant's credential can be used as it stands here ({unreadable_names}); the log and \
             `o365-wodle doctor` say why and what to do"
        )));
    }
    if unreachable == outcomes.len() {
        return Err(Error::TryLater(format!(
            "nothing can be had from Microsoft for now, for any tenant ({unreachable_names}); the log and `o365-wodle doctor` say why"
        )));
    }
    if refused == outcomes.len() {
        return Err(Error::Refused(format!(
            "Microsoft refused every tenant ({refused_names}); the log and `o365-wodle doctor` say why and what to do"
        )));
    }
    let is_nobody_served = unreadable + refused + unreachable == outcomes.len();
    let parts: Vec<String> = [
        (unreadable, "without a usable credential", unreadable_names),
        (refused, "refused", refused_names),
        (unreachable, "not reachable", unreachable_names),
        (partial, "in part", partial_names),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(_, what, names)| format!("{what}: {names}"))
    .collect();
    let which = if is_nobody_served {
        "no tenant was collected"
    } else {
        "some tenants were not collected completely"
    };
    let said = format!(
        "{which} ({}); the log and `o365-wodle doctor` say why",
        parts.join("; ")
    );
    Err(match (is_nobody_served, unreachable) {
        (true, 0) => Error::Refused(said),
        (true, _) => Error::TryLater(said),
        (false, _) => Error::Partial(said),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::process::ExitCode;

    use super::*;
    use crate::collect::{Outcome, Tally};

    fn code(troubles: &[Option<Trouble>]) -> String {
        let summary = Summary {
            outcomes: troubles
                .iter()
                .map(|&trouble| Outcome {
                    tenant: "contoso".into(),
                    trouble,
                })
                .collect(),
            tally: Tally::default(),
            stopped_by: None,
        };
        let code = judge(&summary).map_or_else(|error| error.exit_code(), |()| ExitCode::SUCCESS);
        format!("{code:?}")
    }

    #[test]
    fn many_names_are_not_all_said() {
        let all: Vec<_> = (0..300).map(|tenant| format!("t{tenant}")).collect();
        assert_eq!(names(&["t0", "t1"]), "t0, t1");
        assert_eq!(
            names(&all),
            "t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 290 more"
        );
    }

    #[test]
    fn exit_codes_have_their_precedence() {
        use Trouble::{Credential, Partial, Refused, Unreachable};
        for (troubles, expected) in [
            (&[None, None][..], 0),
            (&[None, Some(Refused)], 3),
            (&[Some(Credential), Some(Credential)], 78),
            (&[Some(Credential), Some(Refused)], 77),
            (&[Some(Credential), None], 3),
            (&[Some(Refused), Some(Refused)], 77),
            (&[Some(Unreachable), Some(Unreachable)], 75),
            (&[Some(Unreachable), Some(Refused)], 75),
            (&[Some(Unreachable), Some(Credential)], 75),
            (&[Some(Unreachable), Some(Refused), None], 3),
            (&[Some(Unreachable), Some(Partial)], 3),
            (&[Some(Partial)], 3),
        ] {
            assert_eq!(
                code(troubles),
                format!("{:?}", ExitCode::from(expected)),
                "{troubles:?}"
            );
        }
    }
}
