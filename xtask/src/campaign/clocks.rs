//! Row 6: clocks that are wrong, here and at Microsoft, and a marker that lies ahead.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use simulator::microsoft::{Action, Operation, Options, Plan, Rule};

use super::bench::Bench;
use super::{Case, Column, Setup, Trial};

/// What faketime sets the machine's clock to in a run.
const LOCAL: [&str; 16] = [
    "-1s",
    "+1s",
    "-1m",
    "+1m",
    "-10m",
    "+10m",
    "-3h",
    "+3h",
    "-1d",
    "+1d",
    "-8d",
    "+8d",
    "-40d",
    "+40d",
    "1970-01-02 00:00:00",
    "2038-01-19 03:14:00",
];

/// Sets the clock of what it runs. Files keep their true times, the monotonic clock its pace.
pub(super) const FAKETIME: [&str; 5] = [
    "env",
    "NO_FAKE_STAT=1",
    "DONT_FAKE_MONOTONIC=1",
    "faketime",
    "-f",
];

/// Row 6.
pub(super) fn cases(_column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    for clock in LOCAL {
        // Wrong in the first run, and wrong in a later one.
        for wrong in [
            [true, false, false],
            [false, true, false],
            [true, true, true],
        ] {
            cases.push(Case::new(
                format!("local clock {clock} in runs {wrong:?}"),
                move |setup| local(setup, clock, wrong),
            ));
        }
    }
    for skew in [-600, -60, -1, 1, 60, 600] {
        cases.push(Case::new(
            format!("Date header off by {skew} s"),
            move |setup| dated(setup, skew),
        ));
    }
    for day in ["2038-01-19T03:14:08Z", "2100-03-01T00:00:01Z"] {
        cases.push(Case::new(
            format!("Microsoft's clock at {day}"),
            move |setup| {
                let bench = Bench::new(setup, Options::default());
                bench
                    .microsoft
                    .set_clock(day.parse::<DateTime<Utc>>().unwrap());
                rounds(bench, |_| Vec::new())
            },
        ));
    }
    for ahead in [60, 600, 3_600, 86_400, 40 * 86_400, 400 * 86_400] {
        cases.push(Case::new(format!("marker {ahead} s ahead"), move |setup| {
            marked(setup, ahead)
        }));
    }
    cases
}

/// Three runs with something new before each, as far back as can be, then a last one.
fn rounds(mut bench: Bench, wrapper: impl Fn(usize) -> Vec<&'static str>) -> Trial {
    bench.set("collect", "initial_lookback", "\"7d\"");
    bench.set("collect", "overlap", "\"6h\"");
    bench.set("collect", "resweep", "\"1h\"");
    for round in 0..3 {
        bench.issue_some();
        if round == 0 {
            // Nearly out of reach, with room for the time that the runs take.
            let now = bench.microsoft.now();
            for ago in [
                TimeDelta::days(6),
                TimeDelta::days(7) - TimeDelta::minutes(45),
            ] {
                let records: Vec<_> = bench.records.by_ref().take(3).collect();
                bench.issue_these(0, "Audit.Exchange", records, now - ago);
            }
        }
        let ended = bench.go(&wrapper(round));
        assert_eq!(ended.code, Some(0), "{ended:?}\nlog: {}", bench.tail());
        // Longer than a clock here is late: what it says is yet to come is not due before.
        bench.microsoft.advance(Duration::from_mins(12));
    }
    bench.until_clean();
    bench.judge()
}

fn local(setup: &Arc<Setup>, clock: &'static str, wrong: [bool; 3]) -> Trial {
    let bench = Bench::new(setup, Options::default());
    rounds(bench, |round| {
        if wrong.get(round).copied().unwrap_or(false) {
            [&FAKETIME[..], &[clock]].concat()
        } else {
            Vec::new()
        }
    })
}

/// Only what Microsoft says about its time is wrong; what it counts with is right.
fn dated(setup: &Arc<Setup>, skew: i64) -> Trial {
    let bench = Bench::new(setup, Options::default());
    bench
        .microsoft
        .faults(Plan::new(1).rule(Rule::any(Action::ClockSkew(skew))));
    rounds(bench, |_| Vec::new())
}

/// The ledger believes that everything up to a time to come was listed.
fn marked(setup: &Arc<Setup>, ahead: i64) -> Trial {
    let mut bench = Bench::new(setup, Options::default());
    bench.issue_some();
    bench.until_clean();
    {
        let ledger = rusqlite::Connection::open(bench.ledger()).unwrap();
        let marker = (Utc::now() + TimeDelta::seconds(ahead)).timestamp_millis();
        ledger
            .execute("UPDATE stream SET marker = ?1", [marker])
            .unwrap();
    }
    bench.set("collect", "overlap", "\"6h\"");
    bench.issue_some();
    bench.until_clean();
    let windows = bench.microsoft.requests().into_iter();
    assert!(
        windows
            .filter(|request| request.operation == Operation::Content)
            .count()
            > 12
    );
    bench.judge()
}
