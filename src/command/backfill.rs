//! `backfill`: a span is fetched again, in rounds that leave scheduled runs their turn.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::run::{collect_and_report, judge, say_nobody, selected, warn_of_uncollected};
use crate::cli::{self, Moment};
use crate::collect::{self, Request, Stop};
use crate::config::{Settings, Tenant};
use crate::ledger::{BackfillLeft, Ledger, Lock, Purpose, ROUND};
use crate::stopping::Stopping;
use crate::{Error, Result};

/// How long Microsoft keeps contents.
const KEPT: TimeDelta = TimeDelta::days(7);
/// How long a run that waits is given to take the lock.
const PAUSE: Duration = Duration::from_millis(500);
/// Rounds in a row in which nothing moves before the rest is left to the scheduled runs …
const PATIENCE: u32 = 3;
/// … or in which no span and no content comes to its end, though something is sent: it may be new, or part of a blob that is
/// begun anew in each round.
const STUCK: u32 = 20;

/// Queues the span, then works it off; a run finishes what is interrupted.
///
/// # Errors
/// See the exit codes in the README.
pub(crate) fn backfill(
    settings: &Settings,
    arguments: &cli::Backfill,
    (since, until): (DateTime<Utc>, DateTime<Utc>),
    now: DateTime<Utc>,
    is_quiet: bool,
) -> Result<()> {
    let tenants = selected(settings, &arguments.tenants)?;
    if tenants.is_empty() {
        say_nobody(settings, now);
        return Ok(());
    }
    warn_of_uncollected(&tenants, &arguments.content_types);
    let stopping = Stopping::by_signal()?;
    queue(
        settings,
        arguments,
        &tenants,
        (since, until),
        &stopping,
        now,
    )?;
    log::info!(
        "from {} to {} is queued (tenants: {}); what is interrupted is finished by any later run",
        since.format("%F %T UTC"),
        until.format("%F %T UTC"),
        tenants.len()
    );
    let request = Request {
        tenants,
        content_types: arguments.content_types.clone(),
        deadline: ROUND,
        is_dry: false,
        purpose: Purpose::Backfill,
        stopping,
    };
    work_off(settings, &request, is_quiet)
}

/// What is asked for, within what Microsoft keeps.
pub(crate) fn span(
    arguments: &cli::Backfill,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
    let at = |moment: &Moment| match moment {
        Moment::At(time) => *time,
        // What no calendar holds is too far back, whatever it is.
        Moment::Ago(ago) => TimeDelta::from_std(*ago)
            .ok()
            .and_then(|ago| now.checked_sub_signed(ago))
            .unwrap_or_default(),
    };
    let since = at(&arguments.since);
    let until = arguments.until.as_ref().map_or(now, at).min(now);
    if since < now - KEPT {
        return Err(Error::Usage(format!(
            "--since: Microsoft keeps 7 days; the earliest is {} (write 7d)",
            (now - KEPT).format("%FT%TZ")
        )));
    }
    // Of what Microsoft is asked for, it has to be sure that it is still there.
    let since = since.max(now - collect::window::REACH);
    if since >= until {
        return Err(Error::Usage(format!(
            "--since {} is not before --until {}",
            since.format("%FT%TZ"),
            until.format("%FT%TZ")
        )));
    }
    Ok((since, until))
}

fn queue(
    settings: &Settings,
    arguments: &cli::Backfill,
    tenants: &[Arc<Tenant>],
    (since, until): (DateTime<Utc>, DateTime<Utc>),
    stopping: &Stopping,
    now: DateTime<Utc>,
) -> Result<()> {
    let _lock = Lock::take(&settings.state.ledger, Purpose::Backfill, stopping)?;
    let mut ledger = Ledger::open(&settings.state.ledger, now)?.0;
    for tenant in tenants {
        let floor = collect::floor(&ledger, tenant.initial_lookback, now)?;
        for content_type in tenant.content_types_among(&arguments.content_types) {
            let stream = ledger.stream(&tenant.tenant_id, content_type, floor)?;
            ledger.insert_span(stream.id, since, until, arguments.resend)?;
        }
    }
    Ok(ledger.close()?)
}

/// Round after round, until all is done or nothing moves any more.
fn work_off(settings: &Settings, request: &Request, is_quiet: bool) -> Result<()> {
    let (mut idle, mut stuck, mut last, mut trouble) = (0, 0, None, Ok(()));
    let mut fewest = u64::MAX;
    loop {
        let summary = collect_and_report(settings, request, is_quiet).inspect_err(|_| {
            log::warn!("what was asked for is queued: any later run goes on with it");
        })?;
        let tally = &summary.tally;
        let (left, pending) = match Ledger::read(&settings.state.ledger)? {
            Some(ledger) => (ledger.backfill_left()?, ledger.pending_contents()?),
            None => Default::default(),
        };
        // Duplicates alone may be the beginning of a blob that never comes to its end.
        let moves = last.as_ref() != Some(&left);
        // What is new goes first, and there may be much of it.
        stuck = if moves || pending < fewest {
            0
        } else {
            stuck + 1
        };
        fewest = fewest.min(pending);
        idle = if moves || tally.sent + tally.filtered > 0 {
            0
        } else {
            idle + 1
        };
        last = Some(left);
        let is_done = left == BackfillLeft::default();
        let goes_on = !is_done && idle < PATIENCE && stuck < STUCK;
        if summary.stopped_by == Some(Stop::Deadline) && goes_on {
            log::info!("{} contents are still to be fetched", left.contents);
            request.stopping.pause(PAUSE);
            if !request.stopping.is_wished() {
                trouble = trouble.and(judge(&summary));
                continue;
            }
        }
        if !is_done {
            log::warn!(
                "left: {} contents to be fetched, {} spans to be listed; later runs go on with them",
                left.contents,
                left.spans
            );
        }
        if !is_done && summary.stopped_by == Some(Stop::Deadline) {
            tally.unless_held(ROUND)?;
        }
        judge(&summary)?;
        // What failed in an earlier round may be what is left.
        return if is_done { Ok(()) } else { trouble };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn spans_lie_within_what_microsoft_keeps() {
        let now: DateTime<Utc> = "2026-03-15T12:00:00Z".parse().unwrap();
        let spanned = |since: &str, until: Option<&str>| {
            let arguments = cli::Backfill {
                since: cli::moment(since).unwrap(),
                until: until.map(|until| cli::moment(until).unwrap()),
                tenants: Vec::new(),
                content_types: Vec::new(),
                resend: false,
            };
            span(&arguments, now)
                .map(|(since, until)| format!("{since:?} {until:?}"))
                .map_err(|error| error.to_string())
        };
        for (since, until, expected) in [
            ("36h", None, Ok("2026-03-14T00:00:00Z 2026-03-15T12:00:00Z")),
            (
                "7d",
                Some("6d"),
                Ok("2026-03-08T12:05:00Z 2026-03-09T12:00:00Z"),
            ),
            (
                "2026-03-14T01:00:00+01:00",
                Some("2027-01-01T00:00:00Z"),
                Ok("2026-03-14T00:00:00Z 2026-03-15T12:00:00Z"),
            ),
            (
                "8d",
                None,
                Err(
                    "--since: Microsoft keeps 7 days; the earliest is 2026-03-08T12:00:00Z (write 7d)",
                ),
            ),
            (
                "1h",
                Some("2h"),
                Err("--since 2026-03-15T11:00:00Z is not before --until 2026-03-15T10:00:00Z"),
            ),
        ] {
            assert_eq!(
                spanned(since, until),
                expected.map(str::to_owned).map_err(str::to_owned)
            );
        }
        assert!(cli::moment("yesterday").is_err());
    }
}
