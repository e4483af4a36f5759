//! Where a stream begins that is made now, whichever command makes it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::window;
use crate::ledger::{Fault, Ledger};

/// By how much this machine's clock is believed to be late where it differs from Microsoft's: a floor goes no lower.
const LATE: Duration = Duration::from_hours(24);
/// The time that the first listing may take before its start is out of Microsoft's reach.
const REACH_MARGIN: Duration = Duration::from_mins(5);
/// What is read again after a ledger was lost, and how long after: until nothing of what was there then can be listed.
const ALL_THERE_IS: Duration = Duration::from_hours(7 * 24);

/// The floor of a stream that is made now: `initial_lookback` before `now`, or as far back as Microsoft goes if a
/// ledger was lost lately, of which the stream may have been.
///
/// # Errors
/// A failing disk or corrupt ledger.
pub(crate) fn floor(
    ledger: &Ledger,
    initial_lookback: Duration,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, Fault> {
    let lookback = match lately_recovered(ledger)? {
        Some(_) => ALL_THERE_IS,
        None => initial_lookback,
    };
    Ok(begin(lookback, now, Utc::now()))
}

/// When a ledger was lost, if that is not so long ago that nothing can be made good any more.
///
/// # Errors
/// A failing disk or corrupt ledger.
pub(super) fn lately_recovered(ledger: &Ledger) -> Result<Option<DateTime<Utc>>, Fault> {
    // By this machine's clock, which wrote it.
    let now = Utc::now();
    let lately = now - ALL_THERE_IS..now + ALL_THERE_IS;
    Ok(ledger.recovered()?.filter(|at| lately.contains(at)))
}

/// Where the clocks differ, the earlier one counts: a floor too low costs a little, one too high hides contents. Nothing
/// below the reach is promised, so that nothing is missed there.
fn begin(lookback: Duration, now: DateTime<Utc>, local: DateTime<Utc>) -> DateTime<Utc> {
    let earlier = local.clamp(now - LATE, now);
    (earlier - lookback).max(now - window::REACH + REACH_MARGIN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use chrono::TimeDelta;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn the_earlier_clock_counts_but_for_a_day_at_most() {
        let now: DateTime<Utc> = "2026-03-15T12:00:00Z".parse().unwrap();
        for (lookback, local, expected) in [
            (1, TimeDelta::zero(), TimeDelta::days(1)),
            (1, TimeDelta::days(30), TimeDelta::days(1)),
            (1, TimeDelta::hours(-3), TimeDelta::hours(27)),
            (1, TimeDelta::days(-30), TimeDelta::days(2)),
            (
                7,
                TimeDelta::zero(),
                TimeDelta::days(7) - TimeDelta::minutes(10),
            ),
        ] {
            assert_eq!(
                now - begin(lookback * DAY, now, now + local),
                expected,
                "{lookback} {local}"
            );
        }
    }

    #[test]
    fn seven_days_after_a_loss_streams_begin_as_far_back_as_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(Ledger::open(&path, Utc::now()).unwrap());
        for (days, goes_back) in [(0, true), (1, true), (6, true), (8, false)] {
            std::fs::write(&path, "no database").unwrap();
            let now = Utc::now();
            let ledger = Ledger::open(&path, now - TimeDelta::days(days)).unwrap().0;
            let floor = now - floor(&ledger, DAY, now).unwrap();
            assert_eq!(floor > TimeDelta::days(6), goes_back, "{days} {floor}");
        }
    }
}
