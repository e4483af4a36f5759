//! Faults that pass: in the run itself, or with the next. Everything arrives once.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use simulator::microsoft::{
    Action, Duplicate, Foreign, Operation, Options, Plan, RetryAfter, Rule, Violation,
};

use super::{
    A_START_LATER, RECORDS, assert_clean, each, fill, first, run, throttle, verdict, world,
};
use crate::world::World;

/// A fault in the first attempt of a share of requests.
struct Passing {
    name: String,
    /// What it strikes: the plan's rules, for the first of two tenants.
    rules: Vec<Rule>,
    /// The exit code of the run that meets it.
    code: i32,
    /// How much later the clean runs are.
    later: Duration,
    /// What the simulator's answers trick the client into.
    allowed: Vec<Violation>,
    lookback: &'static str,
    /// Whether Microsoft's clock, but for the fault, is this machine's, rather than at noon.
    is_in_time: bool,
}

impl Passing {
    fn new(name: impl Into<String>, code: i32, rules: Vec<Rule>) -> Self {
        Self {
            name: name.into(),
            rules,
            code,
            later: Duration::ZERO,
            allowed: Vec::new(),
            lookback: "24h",
            is_in_time: false,
        }
    }

    fn later(mut self, later: Duration) -> Self {
        self.later = later;
        self
    }

    fn allowing(mut self, violation: Violation) -> Self {
        self.allowed.push(violation);
        self
    }

    fn test(&self) {
        let mut world = world(2);
        let id = world.id(0);
        world.tenant_settings.insert(
            "tenant-1".into(),
            vec![format!("initial_lookback = {:?}", self.lookback)],
        );
        if self.is_in_time {
            world.microsoft.set_clock(Utc::now());
        }
        fill(&mut world);
        for &violation in &self.allowed {
            world.microsoft.allow(violation);
        }
        let plan = |plan: Plan, rule: &Rule| plan.rule(rule.clone().tenant(&id));
        world
            .microsoft
            .faults(self.rules.iter().fold(Plan::new(3), plan));
        assert_eq!(run(&world), self.code, "first run; log: {}", world.log());
        assert!(
            world.microsoft.struck().iter().any(|struck| *struck > 0),
            "no fault happened"
        );
        let other = world.id(1);
        let missing = verdict(&mut world).missing;
        assert!(
            !missing.iter().any(|what| what.starts_with(&other)),
            "the other tenant: {missing:?}"
        );
        world.microsoft.faults(Plan::default());
        world.microsoft.advance(self.later);
        if run(&world) != 0 {
            assert_eq!(run(&world), 0, "third run; log: {}", world.log());
        }
        assert_clean(&mut world);
        let well = |stream: &serde_json::Value| stream["state"] == "ok";
        assert!(world.status().iter().all(well), "{:#?}", world.status());
    }
}

/// The fault in the first attempt of half of all listings, pages and blobs.
fn reading(action: &Action) -> Vec<Rule> {
    [Operation::Content, Operation::NextPage, Operation::Blob]
        .map(|operation| first(operation, action.clone()).share(0.5))
        .into()
}

/// What ails a single exchange and is gone with the next: the run itself overcomes it.
fn momentary() -> Vec<(&'static str, Action)> {
    let html = |status| Action::Status {
        status,
        body: "<html>sorry</html>".into(),
    };
    vec![
        ("408", html(408)),
        (
            "500",
            Action::af(500, "AF50000", "An internal error occurred."),
        ),
        ("502", html(502)),
        ("503", html(503)),
        ("504", html(504)),
        ("429", throttle(429, RetryAfter::None, None)),
        ("429, seconds", throttle(429, RetryAfter::Seconds(2), None)),
        ("429, date", throttle(429, RetryAfter::Date(2), None)),
        ("AF429 in 403", throttle(403, RetryAfter::None, None)),
        ("HTML with 200", Action::Html200),
        ("empty 200", Action::Empty200),
        ("error with 200", Action::ErrorObject200),
        ("Message 401", Action::Message401),
        ("reset", Action::Reset),
        ("stall", Action::StallBeforeHeaders),
        ("stall half-way", Action::StallMidBody),
        ("truncated", Action::TruncateLength(60)),
        ("truncated chunks", Action::TruncateChunked(60)),
        ("cut JSON", Action::CutJson(70)),
        ("slow drip", Action::Drip(64, Duration::from_millis(2))),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn passing() -> Vec<Passing> {
    let mut rows: Vec<Passing> = momentary()
        .into_iter()
        .map(|(name, action)| Passing::new(name, 0, reading(&action)))
        .collect();
    for (name, action) in momentary() {
        if matches!(action, Action::Drip(..) | Action::Message401) {
            continue;
        }
        rows.push(Passing::new(
            format!("{name} at sign-in and subscriptions"),
            0,
            vec![
                first(Operation::Token, action.clone()),
                first(Operation::SubscriptionsList, action),
            ],
        ));
    }
    // A start is not repeated within 15 minutes, so it fails for this run.
    for (name, action) in [
        ("start refused", Action::StartRefused),
        ("start reset", Action::Reset),
        ("start stalls", Action::StallBeforeHeaders),
        ("start meets HTML", Action::Html200),
        (
            "start meets 500",
            Action::af(500, "AF50000", "An internal error occurred."),
        ),
    ] {
        let row = Passing::new(name, 3, vec![first(Operation::Start, action)]);
        rows.push(row.later(A_START_LATER));
    }
    for (name, code, action) in [
        ("wrong JSON", 3, Action::WrongJson),
        ("bad element", 3, Action::BadElement),
        ("null element", 3, Action::NullElement),
        ("elements that are no objects", 3, Action::NonObjectElement),
        (
            "redirect",
            3,
            Action::Redirect("http://127.0.0.1:9/".into()),
        ),
        (
            "bare 404",
            3,
            Action::Status {
                status: 404,
                body: r#"{"Message":"no"}"#.into(),
            },
        ),
    ] {
        let blobs = first(Operation::Blob, action.clone()).share(0.8);
        rows.push(Passing::new(format!("{name} in blobs"), code, vec![blobs]));
        let pages = [Operation::Content, Operation::NextPage];
        let code = if name == "bare 404" { 3 } else { code };
        rows.push(Passing::new(
            format!("{name} in listings"),
            code,
            pages
                .map(|operation| first(operation, action.clone()).share(0.8))
                .into(),
        ));
    }
    for (name, code, action) in [
        ("invalid UTF-8", 0, Action::InvalidUtf8),
        ("lone surrogate", 0, Action::LoneSurrogate),
        ("depth", 0, Action::Depth(2_000)),
    ] {
        let blobs = first(Operation::Blob, action.clone()).share(0.8);
        rows.push(Passing::new(format!("{name} in blobs"), code, vec![blobs]));
    }
    rows.extend([
        Passing::new(
            "tenant-wide throttle",
            0,
            vec![
                Rule::on(
                    Operation::Blob,
                    throttle(429, RetryAfter::Seconds(3), Some(3)),
                )
                .nth(3),
            ],
        ),
        Passing::new(
            "token that ends at once",
            0,
            vec![first(
                Operation::Token,
                Action::TokenLifetime(Duration::from_secs(1)),
            )],
        ),
        Passing::new(
            "token that ends mid-run",
            0,
            vec![
                Rule::on(Operation::Blob, Action::Message401)
                    .from(4)
                    .times(4),
            ],
        ),
        Passing::new(
            "token without roles",
            3,
            vec![first(Operation::Token, Action::TokenWithoutRoles)],
        ),
        Passing::new(
            "audit log off",
            3,
            vec![first(Operation::Content, Action::AuditLogOff)],
        ),
        Passing::new(
            "subscription disabled",
            0,
            vec![first(Operation::Content, Action::SubscriptionDisabled)],
        )
        .allowing(Violation::AlreadyEnabled),
        Passing::new(
            "page loop",
            0,
            vec![first(Operation::Content, Action::PageLoop)],
        ),
        Passing::new(
            "repeated page",
            0,
            vec![first(Operation::Content, Action::RepeatedPage)],
        ),
        Passing::new(
            "bad next page",
            0,
            vec![first(Operation::Content, Action::BadNextPage)],
        ),
        Passing::new(
            "late content",
            0,
            vec![Rule::any(Action::LateContent(2)).share(0.8)],
        )
        // What is later than the overlap comes with the daily sweep.
        .later(Duration::from_hours(25)),
        Passing::new(
            "equal contentCreated",
            0,
            vec![Rule::any(Action::EqualContentCreated)],
        ),
        Passing {
            lookback: "7d",
            ..Passing::new("partial blobs", 0, vec![Rule::any(Action::PartialBlobs)])
        },
    ]);
    for duplicate in [
        Duplicate::OnPage,
        Duplicate::AcrossPages,
        Duplicate::InWindows,
    ] {
        let rule = Rule::any(Action::DuplicateContents(duplicate)).share(0.8);
        rows.push(Passing::new(format!("{duplicate:?}"), 0, vec![rule]));
    }
    for seconds in [-200_000, -86_400, -600, 600, 86_400, 200_000] {
        let rules = [Operation::Token, Operation::Content, Operation::Blob]
            .map(|operation| first(operation, Action::ClockSkew(seconds)))
            .into();
        rows.push(Passing {
            is_in_time: true,
            ..Passing::new(format!("clock {seconds:+} s"), 0, rules)
        });
    }
    rows
}

#[test]
fn a_passing_fault_costs_nothing() {
    each(&passing(), |row| row.name.clone(), Passing::test);
}

#[test]
fn no_foreign_address_is_asked_and_the_true_one_is_taken_later() {
    let foreign = Foreign::start().unwrap();
    let url = || foreign.url().to_owned();
    let rows = [
        (Rule::any(Action::ForeignContentUri(url())).share(0.8), 3),
        (first(Operation::Content, Action::ForeignNextPage(url())), 0),
        (first(Operation::Blob, Action::Redirect(url())), 3),
        (first(Operation::Content, Action::Redirect(url())), 3),
        (first(Operation::Token, Action::Redirect(url())), 3),
    ];
    each(
        &rows,
        |(rule, _)| format!("{rule:?}"),
        |(rule, code)| Passing::new("", *code, vec![rule.clone()]).test(),
    );
    assert_eq!(foreign.connections(), 0);
}

#[test]
fn all_faults_mixed_lose_and_repeat_nothing() {
    let seeds: Vec<u64> = (1..=20).collect();
    each(
        &seeds,
        |seed| format!("seed {seed}"),
        |seed| {
            let mut world = World::with_tenants(
                3,
                Options {
                    page_size: 3,
                    ..Options::default()
                },
            );
            world.set("http", "connect_timeout", "\"1s\"");
            world.set("http", "request_timeout", "\"2s\"");
            world.set("http", "retries", "3");
            for tenant in 0..3 {
                for content_type in simulator::microsoft::CONTENT_TYPES {
                    for age in [3, 400, 1_380] {
                        world.issue_small(tenant, content_type, RECORDS, TimeDelta::minutes(age));
                    }
                }
            }
            world.microsoft.allow(Violation::AlreadyEnabled);
            let mut plan = Plan::new(*seed);
            for (name, action) in momentary() {
                // A server whose clock is wrong would name a date as wrong; this one does not.
                if name == "429, date" {
                    continue;
                }
                plan = plan.rule(Rule::any(action).attempts(1).share(0.02));
            }
            for action in [
                Action::WrongJson,
                Action::BadElement,
                Action::NullElement,
                Action::NonObjectElement,
                Action::InvalidUtf8,
                Action::LoneSurrogate,
                Action::Depth(500),
                Action::BadNextPage,
                Action::PageLoop,
                Action::RepeatedPage,
                Action::SubscriptionDisabled,
                Action::AuditLogOff,
                Action::ClockSkew(-700),
                Action::ClockSkew(700),
                Action::ClockSkew(90_000),
            ] {
                for operation in [Operation::Content, Operation::NextPage, Operation::Blob] {
                    if operation == Operation::Blob
                        && matches!(action, Action::SubscriptionDisabled)
                    {
                        continue;
                    }
                    plan = plan.rule(first(operation, action.clone()).share(0.02));
                }
            }
            for action in [
                Action::LateContent(2),
                Action::DuplicateContents(Duplicate::OnPage),
                Action::DuplicateContents(Duplicate::InWindows),
                Action::EqualContentCreated,
                Action::PartialBlobs,
                Action::ForeignContentUri("http://127.0.0.1:9".into()),
            ] {
                plan = plan.rule(Rule::any(action).share(0.05));
            }
            plan = plan.rule(first(Operation::Start, Action::StartRefused).share(0.1));
            world.microsoft.faults(plan);
            let first = run(&world);
            assert!([0, 3].contains(&first), "{first}: {}", world.log());
            assert!(world.microsoft.struck().iter().sum::<u32>() > 0);
            world.microsoft.faults(Plan::default());
            world.microsoft.advance(A_START_LATER);
            if run(&world) != 0 {
                assert_eq!(run(&world), 0, "{}", world.log());
            }
            // What was listed late, and is older than the overlap, is for the daily sweep.
            world.microsoft.advance(Duration::from_hours(24));
            assert_eq!(run(&world), 0, "{}", world.log());
            assert_clean(&mut world);
        },
    );
}
