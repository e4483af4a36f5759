//! A listing or a content that fails, or does not come, alone: it keeps nobody else from being collected, and it is said.

use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::Connection;
use simulator::microsoft::{Action, Operation, Options, Plan, Rule};

use crate::world::World;

use super::{
    AGES, OF_ONE, RECORDS, all_comes_once_it_is_mended, assert_clean, broken, each, fill, refused,
    run, told, told_of, world,
};

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
    // Nor is it the tenant where nothing else is asked for.
    world.run_expecting(75, &["--content-type", "Audit.Exchange"]);
    assert_eq!(run(&world), 3, "{}", world.log());
    // Where all are, it is the tenant, though the app has the permission for DLP.All.
    let rule = Rule::on(Operation::Content, refused());
    world.microsoft.faults(Plan::default().rule(rule));
    world.run(&["doctor"]);
    assert_eq!(run(&world), 77, "{}", world.log());
    // A run for one of them does not know better.
    world.run_expecting(75, &["--content-type", "Audit.Exchange"]);
    assert_eq!(told(&world, "recovered"), 0, "{}", world.log());
    all_comes_once_it_is_mended(&mut world);
}

#[test]
fn where_nothing_can_be_had_no_part_failed() {
    for action in [broken(), Action::Reset] {
        let mut world = world(1);
        world.set("http", "retries", "1");
        fill(&mut world);
        let rule = Rule::on(Operation::Content, action);
        world.microsoft.faults(Plan::default().rule(rule.clone()));
        assert_eq!(run(&world), 75, "{}", world.log());
        assert_eq!(run(&world), 75, "left alone: {}", world.log());
        let rule = rule.content_type("DLP.All");
        world.microsoft.faults(Plan::default().rule(rule));
        world.microsoft.advance(Duration::from_hours(2));
        assert_eq!(run(&world), 3, "{}", world.log());
        world.microsoft.advance(Duration::from_hours(2));
        all_comes_once_it_is_mended(&mut world);
    }
}

#[test]
fn an_entry_that_cannot_be_read_keeps_nothing_new() {
    let mut world = world(1);
    world.set("http", "retries", "0");
    fill(&mut world);
    assert_eq!(run(&world), 0, "{}", world.log());
    let entry = Action::Status {
        status: 200,
        body: r#"[{"contentType": "Audit.Exchange"}]"#.into(),
    };
    let rule = Rule::on(Operation::Content, entry).content_type("Audit.Exchange");
    world.microsoft.advance(Duration::from_hours(24));
    for _ in 0..8 {
        // Yesterday's listing, of two.
        world
            .microsoft
            .faults(Plan::default().rule(rule.clone().nth(1)));
        world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(1));
        assert_eq!(run(&world), 3, "{}", world.log());
        assert_eq!(world.microsoft.struck(), [1]);
        assert_clean(&mut world);
        let log = world.log();
        assert!(log.contains("1 entries of the listing"), "{log}");
    }
    // What fails behind it is left alone all the same.
    let broken = Rule::on(Operation::Content, broken()).content_type("Audit.Exchange");
    let mut asked = 0;
    for _ in 0..6 {
        let entry = rule.clone().nth(1);
        let plan = Plan::default().rule(entry).rule(broken.clone().from(2));
        world.microsoft.faults(plan);
        assert_eq!(run(&world), 3, "{}", world.log());
        asked += world.microsoft.struck()[0];
    }
    assert!(asked < 6, "{}", world.log());
    world.microsoft.advance(Duration::from_hours(2));
    all_comes_once_it_is_mended(&mut world);
}

#[test]
fn contents_that_are_refused_keep_none_of_another_content_type() {
    let mut world = world(1);
    for minutes in 1..=20 {
        world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(minutes));
        world.issue_small(0, "DLP.All", RECORDS, TimeDelta::minutes(minutes + 30));
    }
    let refused = |content_type| {
        Rule::on(Operation::Blob, Action::af(403, "AF10001", "no"))
            .content_type(content_type)
            .attempts(99)
    };
    let plan = Plan::default().rule(refused("DLP.All"));
    world.microsoft.faults(plan.clone());
    assert_eq!(run(&world), 3, "{}", world.log());
    assert_eq!(world.verdict().missing.len(), 20 * RECORDS);
    // Asked for are so many as say that all are refused, and those on their way.
    let struck = world.microsoft.struck()[0];
    assert!((8..=16).contains(&struck), "{struck}");
    // Its listings would say if it were the tenant.
    for minutes in 1..=20 {
        world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(minutes));
    }
    world.microsoft.faults(plan.rule(refused("Audit.Exchange")));
    assert_eq!(run(&world), 3, "{}", world.log());
    // Contents that fail are told steadily, however many of them are due.
    for _ in 0..8 {
        world.microsoft.advance(Duration::from_mins(5));
        assert_eq!(run(&world), 3, "{}", world.log());
    }
    // This machine's clock, which comes nearer to Microsoft's at some hours, is another matter.
    for content_type in ["Audit.Exchange", "DLP.All"] {
        let of_stream = |health| told_of(&world, health, content_type);
        assert_eq!(of_stream("recovered"), 0, "{}", world.log());
        assert_eq!(of_stream("fetch_failed"), 1, "{}", world.log());
    }
    world.microsoft.advance(Duration::from_hours(2));
    all_comes_once_it_is_mended(&mut world);
}

#[test]
fn one_that_is_refused_and_one_that_is_not_permitted_keep_no_third() {
    let mut world = world(1);
    let all = r#"["Audit.Exchange", "DLP.All", "Audit.General"]"#;
    world.set("collect", "content_types", all);
    let id = world.id(0);
    world
        .microsoft
        .change_tenant(&id, |tenant| tenant.roles.truncate(1));
    let rule = Rule::on(Operation::Content, refused()).content_type("Audit.Exchange");
    world.microsoft.faults(Plan::default().rule(rule));
    for _ in 0..3 {
        world.issue_small(0, "Audit.General", RECORDS, TimeDelta::minutes(1));
        assert_eq!(run(&world), 3, "{}", world.log());
        assert_clean(&mut world);
        world.microsoft.advance(Duration::from_mins(5));
    }
}

/// What is listed beside the new fails or hangs: the new comes as soon as ever.
#[test]
fn a_sweep_that_fails_keeps_nothing_new() {
    for action in [broken(), Action::StallBeforeHeaders] {
        let mut world = world(1);
        world.set("http", "retries", "0");
        world.set("http", "request_timeout", "\"1m\"");
        world.set("collect", "concurrency", "1");
        world.set("collect", "initial_lookback", "\"7d\"");
        assert_eq!(run(&world), 0, "{}", world.log());
        world.microsoft.advance(Duration::from_hours(24));
        let mut failed = 0;
        // The new is of yesterday and today at first, then of today.
        for new in [2, 1, 1, 1] {
            world.microsoft.advance(Duration::from_mins(1));
            for content_type in ["Audit.Exchange", "DLP.All"] {
                world.issue_small(0, content_type, RECORDS, TimeDelta::seconds(5));
            }
            let rule = Rule::on(Operation::Content, action.clone())
                .content_type("Audit.Exchange")
                .from(new + 1);
            world.microsoft.faults(Plan::default().rule(rule));
            world.run_expecting(3, &["--deadline", "6s"]);
            failed += told(&world, "fetch_failed");
            assert_eq!(told(&world, "recovered"), 0, "{}", world.log());
            assert_clean(&mut world);
        }
        assert_eq!(failed, 1, "{}", world.log());
    }
}

#[test]
fn a_sweep_that_is_longer_than_a_run_reaches_every_day() {
    let options = Options {
        latency: Duration::from_millis(350),
        ..Options::default()
    };
    let mut world = World::with_tenants(1, options);
    let noon = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap();
    world.microsoft.set_clock(noon.and_utc());
    world.set("collect", "content_types", "[\"Audit.Exchange\"]");
    world.set("collect", "initial_lookback", "\"7d\"");
    assert_eq!(run(&world), 0, "{}", world.log());
    world.microsoft.advance(Duration::from_hours(25));
    // What is listed late, days after it was created.
    for days in 2..7 {
        world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::days(days));
    }
    for _ in 0..8 {
        world.run(&["run", "--deadline", "2s"]);
    }
    assert_clean(&mut world);
}

#[test]
fn a_new_day_that_fails_keeps_no_sweep() {
    let mut world = world(1);
    world.set("http", "retries", "0");
    world.set("collect", "content_types", "[\"Audit.Exchange\"]");
    world.set("collect", "initial_lookback", "\"7d\"");
    assert_eq!(run(&world), 0, "{}", world.log());
    world.microsoft.advance(Duration::from_hours(49));
    // What is listed late, days after it was created.
    world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::days(5));
    let rule = Rule::on(Operation::Content, broken()).nth(1);
    world.microsoft.faults(Plan::default().rule(rule));
    assert_eq!(run(&world), 3, "{}", world.log());
    assert_clean(&mut world);
}

/// Microsoft refuses all content types but one, and Wazuh takes an event a second.
#[test]
fn what_was_told_when_the_run_ended_is_not_told_again() {
    let mut world = world(1);
    let all =
        r#"["Audit.Exchange", "Audit.SharePoint", "Audit.AzureActiveDirectory", "Audit.General"]"#;
    world.set("collect", "content_types", all);
    let plan = [
        "Audit.Exchange",
        "Audit.SharePoint",
        "Audit.AzureActiveDirectory",
    ]
    .into_iter()
    .map(|content_type| Rule::on(Operation::Content, refused()).content_type(content_type))
    .fold(Plan::default(), Plan::rule);
    world.microsoft.faults(plan);
    world.set("wazuh", "events_per_second", "1");
    world.run_expecting(3, &["--deadline", "2s"]);
    let some = told(&world, "permission_missing");
    assert!((1..3).contains(&some), "{some}: {}", world.log());
    world.set("wazuh", "events_per_second", "0");
    for _ in 0..2 {
        world.run_expecting(3, &[]);
    }
    assert_eq!(told(&world, "permission_missing"), 3, "{}", world.log());
}

/// What is known of a day takes longer to list than a run may, and what is new comes last.
#[test]
fn a_day_that_is_longer_than_a_run_is_listed_in_parts() {
    let options = Options {
        latency: Duration::from_millis(100),
        page_size: 1,
        ..Options::default()
    };
    let mut world = World::with_tenants(1, options);
    let noon = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap();
    world.microsoft.set_clock(noon.and_utc());
    world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
    for content in 1..=200 {
        let ago = TimeDelta::seconds(90 * content);
        world.issue_small(0, "Audit.Exchange", 1, ago);
    }
    world.run_expecting(0, &[]);
    world.microsoft.advance(Duration::from_mins(3));
    world.issue_small(0, "Audit.Exchange", 1, TimeDelta::minutes(1));
    let mut runs = 0;
    while world.queue.count() < 201 + told(&world, "fetch_failed") {
        assert!(runs < 6, "{}", world.log());
        world.run_expecting(0, &["--deadline", "6s"]);
        runs += 1;
    }
    assert_eq!(told(&world, "fetch_failed"), 1, "{}", world.log());
    world.assert_clean();
    // Where there is time enough, it is listed in larger parts again.
    let too_long = |world: &World| -> u32 {
        Connection::open(world.ledger())
            .unwrap()
            .query_row("SELECT too_long FROM stream", [], |row| row.get(0))
            .unwrap()
    };
    let before = too_long(&world);
    assert!(before >= 3);
    for less in 1..before {
        world.run_expecting(0, &[]);
        assert_eq!(too_long(&world), before - less);
    }
}

/// A page at a time comes, but not the last by the deadline, and they all lie in one minute.
#[test]
fn a_listing_that_does_not_end_is_told_and_keeps_nothing_from_a_second_try() {
    let options = Options {
        latency: Duration::from_millis(500),
        page_size: 1,
        ..Options::default()
    };
    let mut world = World::with_tenants(1, options);
    let noon = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap();
    world.microsoft.set_clock(noon.and_utc());
    world.set("http", "retries", "0");
    world.set(
        "collect",
        "content_types",
        r#"["Audit.Exchange", "DLP.All"]"#,
    );
    let other = world.issue_small(0, "DLP.All", RECORDS, TimeDelta::minutes(30));
    let own = world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(31));
    let plan = [&other, &own].iter().fold(Plan::default(), |plan, id| {
        plan.rule(Rule::on(Operation::Blob, broken()).content(id))
    });
    world.microsoft.faults(plan);
    world.run_expecting(3, &[]);
    world.microsoft.faults(Plan::default());
    for second in 1..40 {
        world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::seconds(second));
    }
    world.microsoft.advance(Duration::from_mins(3));
    for _ in 0..3 {
        world.run_expecting(0, &["--deadline", "12s"]);
    }
    assert_eq!(told(&world, "fetch_failed"), 1, "{}", world.log());
    assert_eq!(world.run(&["status"]).status.code(), Some(3));
    assert_eq!(world.sum("failed"), 0, "{}", world.log());
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn who_was_not_asked_is_not_late() {
    let options = Options {
        latency: Duration::from_millis(1_500),
        ..Options::default()
    };
    let mut world = World::with_tenants(40, options);
    world.set("collect", "tenants_in_parallel", "1");
    world.run_expecting(0, &["--deadline", "6s"]);
    assert!(!world.log().contains("not answered"), "{}", world.log());
}

/// Wazuh holds up what is to be told until the run ends, and then the tenant is left alone for an hour.
#[test]
fn what_could_not_be_told_is_told_by_the_next_run() {
    for is_asked_to_stop in [false, true] {
        let mut world = world(2);
        world.keeps_secrets = true;
        world.issue_small(1, "Audit.Exchange", 1_000, TimeDelta::minutes(1));
        let id = world.id(0);
        world
            .microsoft
            .change_tenant(&id, |tenant| "another".clone_into(&mut tenant.secret));
        // The refusal comes when the other tenant's records are on their way.
        let slowly = Action::Drip(8, Duration::from_millis(20));
        let rule = Rule::on(Operation::Token, slowly).tenant(&id);
        world.microsoft.faults(Plan::default().rule(rule));
        world.queue.pause();
        let mut child = world.start(&["run", "--deadline", "10s"]);
        if is_asked_to_stop {
            let is_refused = || world.log().contains("AADSTS7000215");
            let begin = Instant::now();
            while !is_refused() && begin.elapsed() < Duration::from_secs(9) {
                thread::sleep(Duration::from_millis(20));
            }
            World::signal(&child, "TERM");
        }
        child.wait().unwrap();
        assert!(world.log().contains("AADSTS7000215"), "{}", world.log());
        world.queue.resume();
        for _ in 0..2 {
            world.run_expecting(3, &[]);
        }
        assert_eq!(told(&world, "auth_failed"), 1, "{}", world.log());
        assert!(world.verdict().missing.is_empty());
    }
}

#[test]
fn a_window_that_fails_keeps_no_later_one() {
    let mut world = world(1);
    world.set("http", "retries", "0");
    fill(&mut world);
    let rule = Rule::on(Operation::Content, broken())
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
fn a_day_that_fails_keeps_no_other_of_a_backfill() {
    let mut world = world(1);
    world.set("http", "retries", "0");
    assert_eq!(run(&world), 0, "{}", world.log());
    for day in 2..6 {
        let ago = TimeDelta::days(day) + TimeDelta::minutes(1);
        world.issue_small(0, "Audit.Exchange", RECORDS, ago);
    }
    // After the new of yesterday and today, the second of the days that the backfill asks for.
    let rule = Rule::on(Operation::Content, broken())
        .content_type("Audit.Exchange")
        .nth(4);
    world.microsoft.faults(Plan::default().rule(rule));
    let output = world.run(&["backfill", "--since", "6d"]);
    assert_eq!(output.status.code(), Some(3), "{}", world.log());
    assert_eq!(world.verdict().missing.len(), RECORDS, "{}", world.log());
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn a_day_that_hangs_keeps_no_other_of_a_backfill() {
    let mut world = world(1);
    world.set("http", "retries", "0");
    world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
    assert_eq!(run(&world), 0, "{}", world.log());
    for day in 2..6 {
        let ago = TimeDelta::days(day) + TimeDelta::minutes(1);
        world.issue_small(0, "Audit.Exchange", RECORDS, ago);
    }
    let oldest = world.microsoft.now() - TimeDelta::days(5) - TimeDelta::minutes(1);
    let day = oldest.date_naive().format("%F").to_string();
    let rule = Rule::on(Operation::Content, Action::StallBeforeHeaders).start(&day);
    world.microsoft.faults(Plan::default().rule(rule));
    world.run(&["backfill", "--since", "140h"]);
    for _ in 0..8 {
        world.run(&["run", "--deadline", "6s"]);
    }
    assert_eq!(world.verdict().missing.len(), RECORDS, "{}", world.log());
    all_comes_once_it_is_mended(&mut world);
}

/// What one run did not list another within 15 minutes does not know to be missing.
#[test]
fn what_a_narrowed_run_did_not_look_at_is_not_started() {
    let mut world = world(1);
    world.microsoft.subscribe_all(&world.id(0));
    fill(&mut world);
    world.run_expecting(0, &["--content-type", "Audit.Exchange"]);
    let output = world.run(&["run", "--dry-run"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        printed.matches("\"Subscription\":\"DLP.All\"").count(),
        OF_ONE
    );
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_eq!(world.log().matches("subscription").count(), 0);
    assert_clean(&mut world);
}

/// After an outage of three days one of them can never be listed.
#[test]
fn a_window_that_cannot_be_read_or_hangs_keeps_no_later_one() {
    let damaged = || Action::Status {
        status: 200,
        body: "[{\"contentType\":".to_owned(),
    };
    let rows = [
        (damaged(), 3),
        (Action::BadNextPage, 3),
        (Action::StallBeforeHeaders, 3),
        (Action::StallBeforeHeaders, 2),
    ];
    let name = |row: &(Action, i64)| format!("{row:?}");
    each(&rows, name, |(action, ago)| {
        let mut world = world(1);
        world.set("http", "retries", "0");
        world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
        world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(1));
        assert_eq!(run(&world), 0, "{}", world.log());
        world.microsoft.advance(Duration::from_hours(72));
        for day in (0..4).filter(|day| day != ago) {
            let ago = TimeDelta::days(day) + TimeDelta::minutes(1);
            world.issue_small(0, "Audit.Exchange", RECORDS, ago);
        }
        let day = world.microsoft.now() - TimeDelta::days(*ago) - TimeDelta::minutes(1);
        let day = day.date_naive().format("%F").to_string();
        let rule = Rule::on(Operation::Content, action.clone()).start(&day);
        world.microsoft.faults(Plan::default().rule(rule));
        // In step with the back-off of an hour.
        for _ in 0..24 {
            world.run(&["run", "--deadline", "6s"]);
            world.microsoft.advance(Duration::from_mins(20));
        }
        let missing = world.verdict().missing;
        assert!(missing.is_empty(), "{missing:?} {}", world.log());
        all_comes_once_it_is_mended(&mut world);
        let status = world.status();
        let marker: DateTime<Utc> = status[0]["marker"].as_str().unwrap().parse().unwrap();
        let lag = world.microsoft.now() - marker;
        assert!(lag < TimeDelta::minutes(1), "the marker: {status:?}");
    });
}
