//! `run`: one collection, and how it went as an exit code.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::progress::Progress;
use super::{metrics, names};
use crate::cli;
use crate::collect::{Request, Summary, Trouble, collect};
use crate::config::{ContentType, Settings, Tenant};
use crate::ledger::{Ledger, Purpose};
use crate::stopping::Stopping;
use crate::wazuh::Assurance;
use crate::{Error, Result};

/// Collects once.
///
/// # Errors
/// See the exit codes in the README.
pub(crate) fn run(settings: &Settings, arguments: &cli::Run, is_quiet: bool) -> Result<()> {
    let begin = Instant::now();
    let tenants = selected(settings, &arguments.tenants)?;
    if tenants.is_empty() {
        let now = Utc::now();
        // Where tenants are gone the figures grow old, which whoever watches them sees.
        if !say_nobody(settings, now) && !arguments.is_dry {
            metrics::write(settings, now, begin.elapsed());
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
    judge(&collect_and_report(settings, &request, is_quiet)?)
}

/// Collects once, says how it went, and leaves the figures for Prometheus.
///
/// # Errors
/// What stands in the way of all tenants alike.
pub(super) fn collect_and_report(
    settings: &Settings,
    request: &Request,
    is_quiet: bool,
) -> Result<Summary> {
    let begin = Instant::now();
    let _progress = Progress::follow(&settings.state.ledger, is_quiet || request.is_dry);
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
                "--tenant {name}: no tenant has that name; `o365-wodle tenant list` shows them"
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

/// That there are no tenants, where there were.
pub(super) const GONE: &str = "There are no tenants any more, and some were collected in the last 8 days. Unless they were \
    removed on purpose (then nothing: it is said for 8 days), look whether tenants.d, beside config.toml, is what it was.";

/// Whether there are no tenants, though some were collected lately.
pub(super) fn are_gone(settings: &Settings, now: DateTime<Utc>) -> Result<bool> {
    if !settings.tenants.is_empty() {
        return Ok(false);
    }
    Ok(match Ledger::read(&settings.state.ledger)? {
        Some(ledger) => ledger.was_collecting(now)?,
        None => false,
    })
}

/// Says why there is no tenant to collect; whether there were some.
pub(super) fn say_nobody(settings: &Settings, now: DateTime<Utc>) -> bool {
    // What is wrong with the ledger is nobody's matter then.
    let are_gone = are_gone(settings, now).unwrap_or_default();
    if are_gone {
        log::error!("{GONE}");
    } else if settings.tenants.is_empty() {
        log::warn!("no tenants yet: add one with `o365-wodle tenant add NAME --from FILE`");
    } else {
        log::warn!("all tenants are disabled: remove `enabled = false` from one");
    }
    are_gone
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
    let troubles: Vec<_> = outcomes.iter().map(|outcome| outcome.trouble).collect();
    let Some(error) = error_of(&troubles) else {
        return Ok(());
    };
    let parts = [
        (Trouble::Credential, "without a usable credential"),
        (Trouble::Refused, "refused"),
        (Trouble::Unreachable, "without a usable answer"),
        (Trouble::Partial, "in part"),
        (Trouble::Untried, "not tried before the run was stopped"),
    ]
    .map(|(trouble, what)| {
        let those = outcomes
            .iter()
            .filter(|outcome| outcome.trouble == Some(trouble));
        let those: Vec<_> = those.map(|outcome| outcome.tenant.as_str()).collect();
        (!those.is_empty()).then(|| format!("{what}: {}", names(&those)))
    });
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let is_any = troubles
        .iter()
        .any(|trouble| matches!(trouble, None | Some(Trouble::Partial)));
    let which = if is_any {
        "some tenants were not collected completely"
    } else {
        "no tenant was collected"
    };
    Err(error(format!(
        "{which} ({}); the log and `o365-wodle doctor` say why",
        parts.join("; ")
    )))
}

/// What it comes to that this was wrong with each thing that was asked for.
pub(super) fn error_of(troubles: &[Option<Trouble>]) -> Option<fn(String) -> Error> {
    use Trouble::{Credential, Refused, Unreachable, Untried};
    let all = |expected: &[Trouble]| {
        let mut troubles = troubles.iter();
        troubles.all(|trouble| trouble.is_some_and(|trouble| expected.contains(&trouble)))
    };
    if (troubles.iter()).all(|trouble| matches!(trouble, None | Some(Untried))) {
        None
    } else if all(&[Credential]) {
        Some(Error::Configuration)
    } else if all(&[Credential, Refused]) {
        Some(Error::Refused)
    } else if all(&[Credential, Refused, Unreachable, Untried]) {
        // Of some the next run may have more.
        Some(Error::TryLater)
    } else {
        Some(Error::Partial)
    }
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
        use Trouble::{Credential, Partial, Refused, Unreachable, Untried};
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
            (&[None, Some(Untried)], 0),
            (&[Some(Untried)], 0),
            (&[Some(Unreachable), Some(Untried)], 75),
            (&[Some(Refused), Some(Untried)], 75),
            (&[Some(Refused), Some(Untried), None], 3),
        ] {
            assert_eq!(
                code(troubles),
                format!("{:?}", ExitCode::from(expected)),
                "{troubles:?}"
            );
        }
    }
}
