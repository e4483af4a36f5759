//! A sign-in, or what is asked of the subscriptions, that fails or does not come: it keeps nothing else, and it is said.

use std::time::Duration;

use chrono::TimeDelta;
use simulator::microsoft::{Action, Operation, Options, Plan, RetryAfter, Rule};

use crate::world::World;

use super::{
    OF_ONE, RECORDS, all_comes_once_it_is_mended, assert_clean, broken, fill, run, throttle, told,
    world,
};

#[test]
fn a_sign_in_that_is_refused_in_between_is_no_fault_of_contents() {
    for asked in [Operation::Content, Operation::Blob] {
        let mut world = world(1);
        assert_eq!(run(&world), 0, "{}", world.log());
        world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(1));
        let no_token = Action::Status {
            status: 401,
            body: r#"{"error": "invalid_client"}"#.into(),
        };
        let plan = Plan::default()
            .rule(Rule::on(asked, Action::Message401))
            .rule(Rule::on(Operation::Token, no_token).from(2));
        world.microsoft.faults(plan);
        assert_eq!(run(&world), 77, "{}", world.log());
        assert_eq!(world.sum("failed"), 0, "{}", world.log());
        assert_eq!(told(&world, "auth_failed"), 1, "{}", world.log());
        all_comes_once_it_is_mended(&mut world);
    }
}

/// One content type cannot be started, so the subscriptions are listed in each run.
#[test]
fn a_list_of_subscriptions_that_fails_keeps_nothing_that_is_subscribed() {
    let mut world = world(1);
    world.set("http", "retries", "0");
    let start = Rule::on(Operation::Start, broken()).content_type("DLP.All");
    world.microsoft.faults(Plan::default().rule(start.clone()));
    assert_eq!(run(&world), 3, "{}", world.log());
    world.microsoft.advance(Duration::from_mins(20));
    world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(1));
    let list = Rule::on(Operation::SubscriptionsList, broken());
    world
        .microsoft
        .faults(Plan::default().rule(start).rule(list));
    assert_eq!(run(&world), 3, "{}", world.log());
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
    assert_eq!(told(&world, "fetch_failed"), 1, "{}", world.log());
    assert_eq!(told(&world, "recovered"), 1, "{}", world.log());
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
    for _ in 0..5 {
        assert_eq!(run(&world), 78, "{}", world.log());
    }
    set(0o600);
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn a_start_that_hangs_keeps_no_other_content_type() {
    let mut world = world(1);
    world.set("http", "request_timeout", "\"1m\"");
    fill(&mut world);
    let rule = Rule::on(Operation::Start, Action::StallBeforeHeaders).content_type("DLP.All");
    world.microsoft.faults(Plan::default().rule(rule));
    world.run_expecting(3, &["--deadline", "6s"]);
    assert_eq!(world.verdict().missing.len(), OF_ONE, "{}", world.log());
    let said = "DLP.All: the start of the subscription was not answered";
    assert!(world.log().contains(said), "{}", world.log());
    world.microsoft.faults(Plan::default());
    world.microsoft.advance(Duration::from_mins(16));
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

/// What was subscribed yesterday most likely is today.
#[test]
fn a_list_of_subscriptions_that_hangs_keeps_nothing() {
    let mut world = world(1);
    world.set("http", "request_timeout", "\"1m\"");
    assert_eq!(run(&world), 0, "{}", world.log());
    world.microsoft.advance(Duration::from_hours(25));
    fill(&mut world);
    let rule = Rule::on(Operation::SubscriptionsList, Action::StallBeforeHeaders);
    world.microsoft.faults(Plan::default().rule(rule));
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

/// Nothing of a tenant that is left alone for an hour is seen, and its state lasts all the same.
#[test]
fn what_lasts_is_told_though_its_tenant_is_left_alone() {
    let mut world = World::with_tenants(1, Options::default());
    world.keeps_secrets = true;
    let rule = Rule::on(Operation::SubscriptionsList, Action::AuditLogOff);
    world.microsoft.faults(Plan::default().rule(rule));
    for (run, times) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        world.run_expecting(77, &[]);
        assert_eq!(
            told(&world, "audit_log_off"),
            times,
            "{run} {}",
            world.log()
        );
    }
    let told_with_cure = world.queue.received().into_iter().any(|told| {
        let told = String::from_utf8(told).unwrap();
        told.contains("audit_log_off")
            && told.contains("\"hint\":\"check tenant_id; then switch the audit log on")
    });
    assert!(told_with_cure);
    world.microsoft.faults(Plan::default());
    world.run(&["doctor"]);
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_eq!(told(&world, "recovered"), 1, "{}", world.log());
}

/// The next run has to know when, and somebody has to hear of it.
#[test]
fn a_sign_in_that_is_throttled_until_the_deadline_is_told() {
    let mut world = World::with_tenants(1, Options::default());
    world.keeps_secrets = true;
    let throttled = throttle(429, RetryAfter::Seconds(30), None);
    world
        .microsoft
        .faults(Plan::default().rule(Rule::on(Operation::Token, throttled)));
    for _ in 0..3 {
        world.run_expecting(75, &["--deadline", "3s"]);
    }
    assert_eq!(world.log().matches("not answered").count(), 0);
    assert_eq!(told(&world, "throttled"), 1, "{}", world.log());
    // The third was left alone, and tells the cure all the same.
    let received = world.queue.received();
    let told = String::from_utf8_lossy(received.last().unwrap());
    let cure = "\"hint\":\"if it happens often, lower requests_per_minute";
    assert!(told.contains(cure), "{told}");
}

#[test]
fn what_failed_on_the_way_until_the_deadline_is_said_as_it_was() {
    let mut world = world(1);
    fill(&mut world);
    let rule = Rule::on(Operation::Token, Action::Reset);
    world.microsoft.faults(Plan::default().rule(rule));
    world.run_expecting(75, &["--deadline", "3s"]);
    let said = "the sign-in was not answered by the run's deadline: no answer: ";
    assert!(world.log().contains(said), "{}", world.log());
    all_comes_once_it_is_mended(&mut world);
}

/// An answer came each time, and so it is said, though the deadline ended the tries.
#[test]
fn what_is_answered_badly_until_the_deadline_is_said_as_it_was() {
    for operation in [Operation::Token, Operation::Content] {
        let mut world = world(1);
        world.set("http", "retries", "5");
        fill(&mut world);
        let rule = Rule::on(operation, broken());
        world.microsoft.faults(Plan::default().rule(rule));
        world.run_expecting(75, &["--deadline", "8s"]);
        let log = world.log();
        assert!(
            log.contains("was not answered well by the run's deadline"),
            "{log}"
        );
        assert!(log.contains("HTTP 500"), "{log}");
        assert!(!log.contains("proxy or firewall"), "{log}");
        all_comes_once_it_is_mended(&mut world);
    }
}

#[test]
fn a_tenant_that_is_throttled_until_the_deadline_had_nothing() {
    let mut world = world(1);
    fill(&mut world);
    let busy = throttle(429, RetryAfter::Seconds(20), None);
    let rule = Rule::on(Operation::Content, busy);
    world.microsoft.faults(Plan::default().rule(rule));
    world.run_expecting(75, &["--deadline", "5s"]);
    world.microsoft.advance(Duration::from_hours(1));
    all_comes_once_it_is_mended(&mut world);
}
