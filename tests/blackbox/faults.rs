//! The bad world: every fault alone and all of them mixed. What can be had arrives once, what
//! cannot is counted and said, and no run outstays its deadline.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use simulator::microsoft::{
    Action, Duplicate, Foreign, INJECTED, Operation, Options, Plan, RetryAfter, Rule, Violation,
};
use simulator::oracle::Verdict;

use crate::world::World;

/// Minutes ago at which the contents of a world were created: on both sides of a midnight, within
/// the overlap and beyond it.
const AGES: [i64; 6] = [2, 9, 65, 300, 700, 1_380];
/// Records of a blob.
const RECORDS: usize = 2;
/// Microsoft wants 15 minutes between two starts of a subscription.
const A_START_LATER: Duration = Duration::from_mins(16);

/// A world whose stalls are short, with two content types.
fn world(tenants: usize) -> World {
    let mut world = World::with_tenants(
        tenants,
        Options {
            page_size: 3,
            ..Options::default()
        },
    );
    // Noon: what the windows are does not depend on when the test runs.
    let noon = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap();
    world.microsoft.set_clock(noon.and_utc());
    world.set(
        "collect",
        "content_types",
        r#"["Audit.Exchange", "DLP.All"]"#,
    );
    world.set("http", "connect_timeout", "\"1s\"");
    world.set("http", "request_timeout", "\"2s\"");
    world.set("http", "retries", "3");
    world
}

/// Issues contents of all ages; the ids of the first tenant's, Audit.Exchange before DLP.All.
fn fill(world: &mut World) -> Vec<String> {
    let mut ids = Vec::new();
    for tenant in 0..world.tenants.len() {
        for content_type in ["Audit.Exchange", "DLP.All"] {
            for age in AGES {
                ids.push(world.issue_small(tenant, content_type, RECORDS, TimeDelta::minutes(age)));
            }
        }
    }
    ids
}

/// A lasting fault of the first tenant's first, third and fifth content.
fn on_three(action: &Action, ids: &[String]) -> Plan {
    let is_of_contents = matches!(
        action,
        Action::ContentVanished | Action::ContentExpired | Action::ForeignContentUri(_)
    );
    ids.iter()
        .take(AGES.len())
        .step_by(2)
        .fold(Plan::default(), |plan, id| {
            let rule = if is_of_contents {
                Rule::any(action.clone())
            } else {
                Rule::on(Operation::Blob, action.clone())
            };
            plan.rule(rule.content(id))
        })
}

/// A run that has to be over by its deadline.
fn run(world: &World) -> i32 {
    let begin = Instant::now();
    let output = world.run(&["run", "--deadline", "20s"]);
    assert!(
        begin.elapsed() < Duration::from_secs(22),
        "{:?}",
        begin.elapsed()
    );
    code(&output)
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ended it")
}

/// The verdict, without the records that a fault put into blobs.
fn verdict(world: &mut World) -> Verdict {
    let mut verdict = world.verdict();
    verdict.unexpected.retain(|what| !what.contains(INJECTED));
    verdict
}

fn assert_clean(world: &mut World) {
    let verdict = verdict(world);
    assert!(
        verdict.is_clean(),
        "{verdict}\n{}\nlog: {}",
        verdict.details(),
        world.log()
    );
}

/// Tries each row in a world of its own, some at a time; tells of all that fail.
fn each<T: Sync>(rows: &[T], name: impl Fn(&T) -> String + Sync, test: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if catch_unwind(AssertUnwindSafe(|| test(row))).is_err() {
                        failures.lock().unwrap().push(name(row));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "failed: {failures:#?}");
}

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

fn first(operation: Operation, action: Action) -> Rule {
    Rule::on(operation, action).attempts(1)
}

fn throttle(status: u16, retry_after: RetryAfter, tenant_wide: Option<u64>) -> Action {
    Action::Throttle {
        status,
        retry_after,
        tenant_wide: tenant_wide.map(Duration::from_secs),
    }
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

/// Contents that cannot be had, and how the ledger counts them.
#[test]
fn what_cannot_be_had_is_counted_and_holds_nothing_up() {
    let status = |status: u16, body: &str| Action::Status {
        status,
        body: body.into(),
    };
    let rows: Vec<(&str, Action, &str)> = vec![
        ("vanished", Action::ContentVanished, "failed"),
        ("expired", Action::ContentExpired, "lost"),
        ("404", status(404, r#"{"Message":"no"}"#), "failed"),
        ("500", status(500, "<html>no</html>"), "failed"),
        ("401", Action::Message401, "failed"),
        ("403", status(403, r#"{"Message":"no"}"#), "failed"),
        (
            "400",
            status(400, r#"{"error":{"code":"AF99999","message":"no"}}"#),
            "failed",
        ),
        (
            "foreign",
            Action::ForeignContentUri("http://127.0.0.1:9".into()),
            "failed",
        ),
        ("cut", Action::CutJson(1), "failed"),
        ("truncated", Action::TruncateLength(1), "failed"),
        ("stall", Action::StallBeforeHeaders, "failed"),
    ];
    each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, action, counter)| {
            let mut world = world(2);
            world.set("http", "retries", "1");
            let ids = fill(&mut world);
            world.microsoft.faults(on_three(action, &ids));
            assert_eq!(run(&world), 3, "{}", world.log());
            let missing = verdict(&mut world).missing.len();
            let counted = usize::try_from(world.sum(counter)).unwrap();
            assert_eq!(counted, 3, "{counter}: {}", world.log());
            assert_eq!(missing, counted * RECORDS, "{}", world.log());
            assert!(
                world.log().contains("Audit.Exchange: content 20"),
                "{}",
                world.log()
            );
            let state = if *counter == "lost" {
                "lost"
            } else {
                "failing"
            };
            assert!(world.status().iter().any(|stream| stream["state"] == state));
            // New contents come, whatever stays behind.
            world.microsoft.faults(Plan::default());
            world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(1));
            assert_eq!(run(&world), 0, "{}", world.log());
            let verdict = verdict(&mut world);
            assert!(verdict.repeated.is_empty());
            let lost = if *counter == "lost" { missing } else { 0 };
            assert_eq!(verdict.missing.len(), lost, "{}", world.log());
        },
    );
}

#[test]
fn a_damaged_blob_is_delivered_as_far_as_it_can_be_read() {
    let rows = [
        ("bad element", Action::BadElement, 0),
        ("null", Action::NullElement, 0),
        ("no objects", Action::NonObjectElement, 0),
        ("no array of records", Action::WrongJson, RECORDS),
    ];
    each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, action, lost)| {
            let mut world = world(1);
            let ids = fill(&mut world);
            world.microsoft.faults(on_three(action, &ids));
            for _ in 0..2 {
                assert_eq!(run(&world), 3, "{}", world.log());
                assert!(world.oracle.health().is_empty());
            }
            run(&world);
            let damaged = usize::try_from(world.sum("damaged")).unwrap();
            assert_eq!(damaged, 3, "{}", world.log());
            let verdict = verdict(&mut world);
            assert_eq!(verdict.missing.len(), damaged * lost);
            assert!(verdict.repeated.is_empty());
            let told = world.oracle.health_counts();
            assert!(told["content_damaged"] >= damaged, "{told:?}");
            assert!(world.log().contains("damaged"), "{}", world.log());
            // It is closed: nobody asks for it any more, nothing of it comes again.
            let before = world.queue.count();
            let asked = world.microsoft.request_count();
            assert_eq!(run(&world), 0, "{}", world.log());
            assert_eq!(world.queue.count(), before);
            let blobs =
                |request: &&simulator::microsoft::Request| request.operation == Operation::Blob;
            assert_eq!(
                world.microsoft.requests()[asked..]
                    .iter()
                    .filter(blobs)
                    .count(),
                0
            );
        },
    );
}

/// A content type that fails for good stops neither the other one nor the other tenant.
#[test]
#[allow(
    clippy::too_many_lines,
    reason = "a table and what becomes of its rows"
)]
fn a_failing_stream_or_tenant_stops_no_other() {
    let server = Action::Status {
        status: 500,
        body: "<html>no</html>".into(),
    };
    let exchange =
        |operation, action: Action| Rule::on(operation, action).content_type("Audit.Exchange");
    let rows = [
        (
            "listing 500",
            exchange(Operation::Content, server.clone()),
            false,
        ),
        (
            "page 500",
            exchange(Operation::NextPage, server.clone()),
            false,
        ),
        (
            "listing 404",
            exchange(
                Operation::Content,
                Action::Status {
                    status: 404,
                    body: "{}".into(),
                },
            ),
            false,
        ),
        (
            "page loop",
            exchange(Operation::NextPage, Action::PageLoop),
            false,
        ),
        (
            "bad next page",
            exchange(Operation::Content, Action::BadNextPage),
            false,
        ),
        (
            "start",
            exchange(Operation::Start, Action::StartRefused),
            false,
        ),
        (
            "start 500",
            exchange(Operation::Start, server.clone()),
            false,
        ),
        (
            "audit log",
            Rule::on(Operation::Content, Action::AuditLogOff),
            true,
        ),
        (
            "no roles",
            Rule::on(Operation::Token, Action::TokenWithoutRoles),
            true,
        ),
        ("sign-in", Rule::on(Operation::Token, server), true),
        (
            "conditional access",
            Rule::on(Operation::Token, Action::aadsts(53_003)),
            true,
        ),
        ("stall", Rule::any(Action::StallBeforeHeaders), true),
    ];
    each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(name, rule, is_tenant)| {
            let mut world = world(2);
            world.set("http", "retries", "1");
            fill(&mut world);
            let id = world.id(0);
            world
                .microsoft
                .faults(Plan::new(2).rule(rule.clone().tenant(&id)));
            assert_eq!(run(&world), 3, "{}", world.log());
            let missing = verdict(&mut world).missing;
            let struck = if *is_tenant {
                id
            } else {
                format!("{id} Audit.Exchange")
            };
            // Each page of a loop was read.
            assert_eq!(missing.is_empty(), *name == "page loop");
            assert!(
                missing.iter().all(|what| what.starts_with(&struck)),
                "{missing:#?}"
            );
            let errors = world
                .log()
                .lines()
                .filter(|line| line.contains(" ERROR tenant-1"))
                .count();
            assert_eq!(errors, 1, "{name}: {}", world.log());
            assert!(
                world
                    .status()
                    .iter()
                    .any(|stream| stream["state"] == "failing" && stream["error"].is_string())
            );
        },
    );
}

#[test]
fn a_missing_role_for_dlp_is_no_failure() {
    let mut world = world(1);
    fill(&mut world);
    let id = world.id(0);
    world
        .microsoft
        .change_tenant(&id, |tenant| tenant.roles.truncate(1));
    assert_eq!(run(&world), 0, "{}", world.log());
    let missing = verdict(&mut world).missing;
    assert_eq!(missing.len(), AGES.len() * RECORDS);
    assert!(missing.iter().all(|what| what.contains("DLP.All")));
    assert!(world.log().contains("ActivityFeed.ReadDlp"));
    // Six hours long nobody asks for it, nor for the list of subscriptions.
    let asked = world.microsoft.request_count();
    world.microsoft.advance(Duration::from_hours(1));
    assert_eq!(run(&world), 0);
    let asked: Vec<_> = world.microsoft.requests().split_off(asked);
    assert!(
        asked
            .iter()
            .all(|request| request.content_type.as_deref() != Some("DLP.All"))
    );
    assert!(
        asked
            .iter()
            .all(|request| request.operation != Operation::SubscriptionsList)
    );
    // Once granted, it is had.
    world.microsoft.change_tenant(&id, |tenant| {
        tenant.roles.push("ActivityFeed.ReadDlp".into());
    });
    world.microsoft.advance(Duration::from_hours(6));
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn a_long_throttle_outlives_the_run() {
    let mut world = world(1);
    fill(&mut world);
    let rule = Rule::on(
        Operation::Content,
        throttle(429, RetryAfter::Seconds(600), Some(600)),
    )
    .nth(1);
    world.microsoft.faults(Plan::new(1).rule(rule));
    assert_eq!(run(&world), 75, "{}", world.log());
    let asked = world.microsoft.request_count();
    assert_eq!(code(&world.run_as_it_stands(&["run"])), 75);
    assert_eq!(world.microsoft.request_count(), asked);
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
            assert_clean(&mut world);
        },
    );
}

/// Runs until enough blobs were asked for, then asks the process to stop.
#[test]
fn a_signal_ends_a_run_in_order() {
    for name in ["TERM", "INT"] {
        let mut world = World::with_tenants(
            2,
            Options {
                latency: Duration::from_millis(40),
                ..Options::default()
            },
        );
        for blob in 0..200 {
            world.issue_small(0, "Audit.Exchange", 2, TimeDelta::minutes(blob));
            world.issue_small(1, "DLP.All", 2, TimeDelta::minutes(blob));
        }
        let mut child = world.start(&["run"]);
        let blobs = |requests: &[simulator::microsoft::Request]| {
            requests
                .iter()
                .filter(|request| request.operation == Operation::Blob)
                .count()
                > 20
        };
        assert!(world.microsoft.wait_for(Duration::from_mins(1), blobs));
        let begin = Instant::now();
        World::signal(&child, name);
        let status = child.wait().unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
        assert_eq!(status.code(), Some(0), "{}", world.log());
        let verdict = world.verdict();
        assert!(
            !verdict.missing.is_empty() && verdict.received > 0,
            "{verdict}"
        );
        world.run_expecting(0, &[]);
        world.assert_clean();
    }
}

/// A command that hangs must not hold up the end of a run.
#[test]
fn a_signal_is_heeded_while_a_secret_is_waited_for() {
    let mut world = world(2);
    fill(&mut world);
    let mut child = {
        world.configure();
        let file = world.folder.path().join("tenants.d/tenant-2.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace(
            "client_secret_file = \"secrets/tenant-2\"",
            "client_secret_command = [\"/usr/bin/sleep\", \"9\"]",
        );
        crate::world::write(&file, &text, 0o640);
        std::process::Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
            .args(["--config", world.config().to_str().unwrap(), "run"])
            .spawn()
            .unwrap()
    };
    let all = 2 * AGES.len() * RECORDS;
    assert!(
        world.queue.wait_for(all, Duration::from_mins(1)),
        "{}",
        world.log()
    );
    let begin = Instant::now();
    World::signal(&child, "TERM");
    let status = child.wait().unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert_eq!(run(&world), 0);
    assert_clean(&mut world);
}

#[test]
fn a_deadline_ends_a_run_in_order() {
    let mut world = World::with_tenants(
        1,
        Options {
            latency: Duration::from_millis(100),
            ..Options::default()
        },
    );
    for blob in 0..300 {
        world.issue_small(0, "Audit.Exchange", 2, TimeDelta::minutes(blob));
    }
    let begin = Instant::now();
    world.run_expecting(0, &["--deadline", "4s"]);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    let verdict = world.verdict();
    assert!(!verdict.missing.is_empty(), "{verdict}");
    assert!(world.log().contains("deadline"));
    while !world.verdict().missing.is_empty() {
        world.run_expecting(0, &["--deadline", "20s"]);
    }
    world.assert_clean();
}

/// Who does not answer at all is said to fail, though the deadline comes before patience ends.
#[test]
fn silence_until_the_deadline_is_a_failure() {
    let mut world = world(2);
    world.set("http", "request_timeout", "\"1m\"");
    fill(&mut world);
    let rule = Rule::any(Action::StallBeforeHeaders).tenant(&world.id(0));
    world.microsoft.faults(Plan::new(1).rule(rule));
    world.run_expecting(3, &["--deadline", "15s"]);
    let log = world.log();
    let told = |line: &&str| line.contains(" ERROR tenant-1");
    assert_eq!(log.lines().filter(told).count(), 1, "{log}");
    world.microsoft.faults(Plan::default());
    assert_eq!(run(&world), 0);
    assert_clean(&mut world);
}

/// Blobs that never answer take every place of a run, but not of the next.
#[test]
fn silent_blobs_let_others_come_first_next_time() {
    let mut world = world(1);
    world.set("http", "request_timeout", "\"1m\"");
    world.set("collect", "concurrency", "2");
    let ids = fill(&mut world);
    // The oldest of each content type are fetched first.
    let silent = [&ids[AGES.len() - 1], &ids[2 * AGES.len() - 1]];
    let plan = silent.iter().fold(Plan::default(), |plan, id| {
        plan.rule(Rule::on(Operation::Blob, Action::StallBeforeHeaders).content(id))
    });
    world.microsoft.faults(plan);
    world.run_expecting(3, &["--deadline", "14s"]);
    assert_eq!(world.verdict().received, 0);
    assert_eq!(world.sum("failed"), 2, "{}", world.log());
    world.run(&["run", "--deadline", "8s"]);
    assert_eq!(world.verdict().missing.len(), silent.len() * RECORDS);
    world.microsoft.faults(Plan::default());
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn an_expired_secret_costs_a_login_an_hour_and_a_rotated_one_is_tried_at_once() {
    for skew in [-600, 0, 600] {
        let mut world = world(1);
        world
            .microsoft
            .set_clock(Utc::now() + TimeDelta::seconds(skew));
        fill(&mut world);
        let id = world.id(0);
        let expired = world.microsoft.now() - TimeDelta::hours(1);
        world
            .microsoft
            .change_tenant(&id, |tenant| tenant.secret_expires = Some(expired));
        assert_eq!(run(&world), 77);
        for _ in 0..3 {
            assert_eq!(code(&world.run_as_it_stands(&["run"])), 77);
        }
        assert_eq!(world.microsoft.request_count(), 1, "clock {skew:+} s");
        assert_eq!(
            world.log().matches("AADSTS7000222").count(),
            4,
            "{}",
            world.log()
        );
        // An hour later.
        let ledger = rusqlite::Connection::open(world.ledger()).unwrap();
        ledger
            .execute("UPDATE tenant SET not_before = not_before - 3600000", [])
            .unwrap();
        drop(ledger);
        assert_eq!(code(&world.run_as_it_stands(&["run"])), 77);
        assert_eq!(world.microsoft.request_count(), 2);
        world.tenants[0].1.secret = "another~one".into();
        world.microsoft.change_tenant(&id, |tenant| {
            tenant.secret = "another~one".into();
            tenant.secret_expires = None;
        });
        assert_eq!(run(&world), 0, "{}", world.log());
        assert_clean(&mut world);
    }
}
