//! Row 9: every fault of the API once, twice and for ever, and several of them in any order.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use simulator::microsoft::{
    Action, Duplicate, Operation, Options, Plan, RetryAfter, Rule, Violation,
};

use super::bench::Bench;
use super::kill::Random;
use super::{Case, Column, Setup, Trial};

/// How long a run may take here; most end long before.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often a fault strikes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Often {
    Once,
    Twice,
    ForEver,
}

/// What goes wrong, by the requests it strikes.
pub(super) fn faults() -> Vec<(Operation, Action)> {
    use Operation::{Blob, Content, NextPage, Start, SubscriptionsList, Token};
    let status = |status: u16| Action::Status {
        status,
        body: "<html>no</html>".to_owned(),
    };
    let throttle = |status, retry_after| Action::Throttle {
        status,
        retry_after,
        tenant_wide: None,
    };
    let mut faults = Vec::new();
    for operation in [Token, Content, Blob] {
        for number in [400, 401, 403, 404, 408, 500, 502, 503, 504] {
            faults.push((operation, status(number)));
        }
        faults.extend([
            (operation, throttle(429, RetryAfter::None)),
            (operation, throttle(429, RetryAfter::Seconds(1))),
            (operation, throttle(429, RetryAfter::Date(2))),
            (operation, throttle(429, RetryAfter::Seconds(40))),
            (operation, Action::Html200),
            (operation, Action::Empty200),
            (operation, Action::Reset),
            (operation, Action::StallBeforeHeaders),
            (operation, Action::StallMidBody),
            (operation, Action::TruncateLength(50)),
            (operation, Action::TruncateChunked(50)),
            (operation, Action::CutJson(70)),
            (operation, Action::Drip(7, Duration::from_millis(1))),
        ]);
    }
    for operation in [Content, Blob] {
        faults.extend([
            (operation, throttle(403, RetryAfter::None)),
            (operation, Action::Message401),
            (operation, Action::ErrorObject200),
            (operation, Action::WrongJson),
            (operation, Action::SubscriptionDisabled),
        ]);
    }
    for (operation, code, number) in [
        (Content, "AF20022", 400),
        (Content, "AF20030", 400),
        (Content, "AF20055", 400),
        (Content, "AF10001", 403),
        (Content, "AF50000", 500),
        (Blob, "AF20050", 404),
        (Blob, "AF50000", 500),
        (Start, "AF20024", 400),
        (SubscriptionsList, "AF50000", 500),
    ] {
        faults.push((
            operation,
            Action::af(number, code, "as the campaign wants it"),
        ));
    }
    for code in [90_002, 700_016, 7_000_215, 7_000_222, 50_196] {
        faults.push((Token, Action::aadsts(code)));
    }
    faults.extend([
        (Token, Action::TokenLifetime(Duration::from_secs(1))),
        (SubscriptionsList, Action::AuditLogOff),
        (Start, Action::StartRefused),
        (Start, status(500)),
        (Content, Action::BadNextPage),
        (Content, Action::PageLoop),
        (Content, Action::RepeatedPage),
        (NextPage, status(503)),
        (NextPage, Action::Reset),
        (Content, Action::LateContent(2)),
        (Content, Action::DuplicateContents(Duplicate::OnPage)),
        (Content, Action::DuplicateContents(Duplicate::AcrossPages)),
        (Content, Action::DuplicateContents(Duplicate::InWindows)),
        (Content, Action::PartialBlobs),
        (Content, Action::EqualContentCreated),
    ]);
    faults
}

/// How a run ends in a world with faults that may be over.
const ANY: &[i32] = &[0, 3, 75, 77];

/// How the second run ends in a world with one that lasts.
fn ends(operation: Operation, action: &Action) -> &'static [i32] {
    let is_refusal = |body: &str| {
        body.contains("AF10001") || body.contains("AADSTS") && !body.contains("AADSTS50196")
    };
    match (operation, action) {
        // Too slow for so short a deadline.
        (Operation::Blob, Action::Drip(..)) => &[3],
        (
            _,
            Action::Drip(..)
            | Action::DuplicateContents(_)
            | Action::EqualContentCreated
            | Action::LateContent(_)
            | Action::PageLoop
            | Action::PartialBlobs
            | Action::RepeatedPage
            | Action::TokenLifetime(_),
        ) => &[0],
        (_, Action::AuditLogOff) | (Operation::Content, Action::Message401) => &[77],
        (_, Action::Status { body, .. }) if is_refusal(body) => &[77],
        // The rests between tries may last to the deadline, which leaves a backlog.
        (
            Operation::Blob,
            Action::Throttle {
                retry_after: RetryAfter::Date(_),
                ..
            },
        ) => &[0, 3, 75],
        // In part, or nothing for now.
        _ => &[3, 75],
    }
}

/// Row 9.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    for (operation, action) in faults() {
        for often in [Often::Once, Often::Twice, Often::ForEver] {
            let name = format!("{operation:?} {action:?} {often:?}");
            let ends = match often {
                Often::ForEver => ends(operation, &action),
                Often::Once | Often::Twice => ANY,
            };
            let rule = rule(operation, action.clone(), often);
            let fault = (action.clone(), rule);
            cases.push(Case::new(name, move |setup| {
                strikes(setup, vec![fault], ends)
            }));
        }
    }
    for seed in column.seeds(20) {
        for number in 0..column.of(20, 150) {
            cases.push(Case::new(
                format!("some in any order {number}, seed {seed}"),
                move |setup| {
                    let mut random = Random(seed << 32 | number as u64);
                    let all = faults();
                    let rules = (0..4).map(|_| {
                        let (operation, action) =
                            all[usize::try_from(random.below(all.len() as u64)).unwrap()].clone();
                        let often =
                            [Often::Once, Often::Twice][usize::try_from(random.below(2)).unwrap()];
                        let from = u32::try_from(1 + random.below(6)).unwrap();
                        (action.clone(), rule(operation, action, often).from(from))
                    });
                    strikes(setup, rules.collect(), ANY)
                },
            ));
        }
    }
    cases
}

pub(super) fn rule(operation: Operation, action: Action, often: Often) -> Rule {
    let rule = Rule::on(operation, action);
    match often {
        Often::Once => rule.times(1),
        Often::Twice => rule.times(2),
        Often::ForEver => rule,
    }
}

/// Two runs with the faults, then they end; after the longest back-off everything is there.
fn strikes(setup: &Arc<Setup>, faults: Vec<(Action, Rule)>, ends: &[i32]) -> Trial {
    let options = Options {
        page_size: 2,
        ..Options::default()
    };
    let mut bench = Bench::new(setup, options);
    // Noon, so that the first run's contents always come from two days.
    let noon = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap();
    bench.microsoft.set_clock(noon.and_utc());
    let is_late = |(action, _): &(Action, Rule)| matches!(action, Action::LateContent(_));
    if faults.iter().any(is_late) {
        // A content that is listed late is found behind the marker.
        bench.set("collect", "overlap", "\"1d\"");
    }
    // Whatever the hour is here: a first listing that comes seven hours later still asks for all of it.
    bench.set("collect", "initial_lookback", "\"2d\"");
    bench.set("http", "request_timeout", "\"1s\"");
    bench.issue_some();
    let plan = faults
        .into_iter()
        .fold(Plan::new(1), |plan, (_, rule)| plan.rule(rule));
    bench.microsoft.faults(plan);
    let deadline = format!("{}s", DEADLINE.as_secs());
    for ends in [ANY, ends] {
        let ended = bench.go_with(&[], &["run", "--deadline", &deadline]);
        assert!(
            ended.code.is_some_and(|code| ends.contains(&code)),
            "{ended:?}\nlog: {}",
            bench.tail()
        );
        assert!(ended.took < DEADLINE + Duration::from_secs(5), "{ended:?}");
    }
    let missed = bench.microsoft.struck().iter().all(|times| *times == 0);
    // A fault for ever may send a client into the same refusal again, a run later.
    bench.allow(&[Violation::StartTooSoon, Violation::AlreadyEnabled]);
    bench.microsoft.faults(Plan::default());
    // A content type that seemed to lack a permission is left alone for six hours.
    bench.microsoft.advance(Duration::from_hours(7));
    bench.rotate();
    bench.until_clean();
    Trial {
        missed,
        ..bench.judge()
    }
}
