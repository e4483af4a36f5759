//! What fails, or does not come, alone: it keeps nobody else from being collected, and it is said.

use std::time::Duration;

use simulator::microsoft::{Action, Operation, Plan, RetryAfter, Rule};

use crate::world::World;

use super::{AGES, RECORDS, assert_clean, fill, run, throttle, world};

/// Records of one content type.
const OF_ONE: usize = AGES.len() * RECORDS;

fn refused() -> Action {
    Action::Status {
        status: 403,
        body: String::new(),
    }
}

/// As an operator does who has mended something.
fn all_comes_once_it_is_mended(world: &mut World) {
    world.microsoft.faults(Plan::default());
    world.run(&["doctor"]);
    assert_eq!(run(world), 0, "{}", world.log());
    assert_clean(world);
}

#[test]
fn a_listing_that_hangs_keeps_no_other_content_type() {
    let mut world = world(1);
    world.set("http", "request_timeout", "\"1m\"");
    fill(&mut world);
    let rule = Rule::on(Operation::Content, Action::StallBeforeHeaders).content_type("DLP.All");
    world.microsoft.faults(Plan::default().rule(rule));
    world.run_expecting(3, &["--deadline", "6s"]);
    assert_eq!(world.verdict().missing.len(), OF_ONE, "{}", world.log());
    assert!(
        world.log().contains("DLP.All: a listing was not answered"),
        "{}",
        world.log()
    );
    assert_eq!(world.run(&["status"]).status.code(), Some(3));
    world.microsoft.faults(Plan::default());
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn a_content_type_that_is_refused_alone_keeps_no_other() {
    let mut world = world(1);
    fill(&mut world);
    let rule = Rule::on(Operation::Content, refused()).content_type("Audit.Exchange");
    world.microsoft.faults(Plan::default().rule(rule));
    assert_eq!(run(&world), 3, "{}", world.log());
    assert_eq!(world.verdict().missing.len(), OF_ONE, "{}", world.log());
    // Where all are, it is the tenant.
    let rule = Rule::on(Operation::Content, refused());
    world.microsoft.faults(Plan::default().rule(rule));
    world.set("collect", "content_types", "[\"Audit.Exchange\"]");
    assert_eq!(run(&world), 77, "{}", world.log());
    all_comes_once_it_is_mended(&mut world);
}

#[test]
fn a_window_that_fails_keeps_no_later_one() {
    let mut world = world(1);
    world.set("http", "retries", "0");
    fill(&mut world);
    let broken = Action::Status {
        status: 500,
        body: String::new(),
    };
    let rule = Rule::on(Operation::Content, broken)
        .content_type("Audit.Exchange")
        .nth(1);
    world.microsoft.faults(Plan::default().rule(rule));
    assert_eq!(run(&world), 3, "{}", world.log());
    // At noon all ages but the last are of today.
    assert_eq!(world.verdict().missing.len(), RECORDS, "{}", world.log());
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn blobs_that_drip_let_others_come_first_next_time() {
    let mut world = world(1);
    world.set("collect", "concurrency", "2");
    let ids = fill(&mut world);
    // The oldest of each content type are fetched first.
    let slow = [&ids[AGES.len() - 1], &ids[2 * AGES.len() - 1]];
    let drip = Action::Drip(1, Duration::from_millis(100));
    let plan = slow.iter().fold(Plan::default(), |plan, id| {
        plan.rule(Rule::on(Operation::Blob, drip.clone()).content(id))
    });
    world.microsoft.faults(plan);
    world.run_expecting(3, &["--deadline", "6s"]);
    assert_eq!(world.sum("failed"), 2, "{}", world.log());
    world.run(&["run", "--deadline", "6s"]);
    assert_eq!(
        world.verdict().missing.len(),
        slow.len() * RECORDS,
        "{}",
        world.log()
    );
    world.microsoft.faults(Plan::default());
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn a_sign_in_that_hangs_is_told() {
    let mut world = world(1);
    world.set("http", "request_timeout", "\"1m\"");
    fill(&mut world);
    let rule = Rule::on(Operation::Token, Action::StallBeforeHeaders);
    world.microsoft.faults(Plan::default().rule(rule));
    for _ in 0..3 {
        world.run_expecting(75, &["--deadline", "3s"]);
    }
    assert_eq!(world.run(&["status"]).status.code(), Some(3));
    world.microsoft.faults(Plan::default());
    world.run(&["doctor"]);
    assert_eq!(run(&world), 0, "{}", world.log());
    let told = world.queue.received();
    let told = |what: &[u8]| {
        let has = |datagram: &&Vec<u8>| memchr::memmem::find(datagram, what).is_some();
        told.iter().filter(has).count()
    };
    assert_eq!(told(b"\"health\":\"fetch_failed\""), 1, "{}", world.log());
    assert_eq!(told(b"\"health\":\"recovered\""), 1, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn what_came_before_microsoft_wants_to_be_left_alone_counts() {
    let mut world = world(1);
    fill(&mut world);
    let wait = throttle(429, RetryAfter::Seconds(600), Some(600));
    let rule = Rule::on(Operation::Blob, wait).from(5);
    world.microsoft.faults(Plan::default().rule(rule));
    assert_eq!(run(&world), 3, "{}", world.log());
    assert!(world.verdict().received > 0);
    all_comes_once_it_is_mended(&mut world);
}

/// Nothing was asked of Microsoft, so nothing is left alone.
#[test]
fn a_secret_that_can_be_read_again_is_used_at_once() {
    use std::os::unix::fs::PermissionsExt;

    let mut world = world(1);
    world.keeps_secrets = true;
    fill(&mut world);
    world.configure();
    let secret = world.folder.path().join("secrets/tenant-1");
    let set = |mode| {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o666);
    assert_eq!(run(&world), 77, "{}", world.log());
    set(0o600);
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}
