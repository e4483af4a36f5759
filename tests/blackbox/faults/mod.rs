//! The bad world: every fault alone and all of them mixed. What can be had arrives once, what
//! cannot is counted and said, and no run outstays its deadline.

mod alone;
mod before;
mod ending;
mod lasting;
mod passing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use simulator::microsoft::{Action, INJECTED, Operation, Options, Plan, RetryAfter, Rule};
use simulator::oracle::Verdict;

use crate::world::World;

/// Minutes ago at which the contents of a world were created: on both sides of a midnight, within
/// the overlap and beyond it.
const AGES: [i64; 6] = [2, 9, 65, 300, 700, 1_380];

/// Records of a blob.
const RECORDS: usize = 2;

/// Records of one content type.
const OF_ONE: usize = AGES.len() * RECORDS;

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

fn refused() -> Action {
    status(403)
}

fn broken() -> Action {
    status(500)
}

fn status(status: u16) -> Action {
    let body = String::new();
    Action::Status { status, body }
}

/// How many events tell of this state.
fn told(world: &World, health: &str) -> usize {
    told_of(world, health, "")
}

/// How many events of a content type tell of this state.
fn told_of(world: &World, health: &str, content_type: &str) -> usize {
    let what = format!("\"health\":\"{health}\"");
    let has =
        |datagram: &[u8], text: &str| memchr::memmem::find(datagram, text.as_bytes()).is_some();
    let told = world.queue.received();
    let told = told.iter();
    told.filter(|told| has(told, &what) && has(told, content_type))
        .count()
}

/// As an operator does who has mended something.
fn all_comes_once_it_is_mended(world: &mut World) {
    world.microsoft.faults(Plan::default());
    world.run(&["doctor"]);
    assert_eq!(run(world), 0, "{}", world.log());
    assert_clean(world);
}
