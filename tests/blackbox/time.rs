//! What time does: outages, listings that come late, clocks that are wrong. Nothing of it is skipped.

use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, Timelike, Utc};
use simulator::microsoft::{Action, Operation, Options, Plan, Rule};

use crate::world::World;

const DAY: Duration = Duration::from_hours(24);

/// One stream; it is `hour` o'clock at Microsoft, whenever the test runs.
fn world(hour: u32) -> World {
    let mut world = World::with_tenants(1, Options::default());
    world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
    let today = Utc::now().with_hour(hour).unwrap();
    world.microsoft.set_clock(today - Days::new(1));
    world
}

fn issue(world: &mut World, hours_ago: &[i64]) {
    for &ago in hours_ago {
        let ago = TimeDelta::hours(ago) + TimeDelta::minutes(1);
        world.issue_small(0, "Audit.Exchange", 2, ago);
    }
}

#[test]
fn what_came_while_nothing_ran_is_fetched() {
    let mut world = world(12);
    // What the marker says is to be listed, and nothing else.
    world.set("collect", "resweep", "\"0s\"");
    issue(&mut world, &[1, 20]);
    world.run_expecting(0, &[]);
    world.microsoft.advance(3 * DAY);
    issue(&mut world, &[0, 1, 30, 50, 71]);
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn an_outage_of_nine_days_costs_only_what_microsoft_dropped() {
    let mut world = world(12);
    world.set("collect", "resweep", "\"0s\"");
    issue(&mut world, &[1]);
    world.run_expecting(0, &[]);
    world.microsoft.advance(9 * DAY);
    issue(&mut world, &[0, 60, 150, 167]);
    world.run_expecting(0, &[]);
    world.assert_clean();
    assert!(
        world.log().contains("can no longer be listed"),
        "{}",
        world.log()
    );
}

#[test]
fn what_is_listed_late_comes_with_the_overlap_and_what_is_later_still_with_the_daily_sweep() {
    // At three o'clock the overlap of six hours reaches into the day before.
    let mut world = world(3);
    world.set("collect", "initial_lookback", "\"7d\"");
    issue(&mut world, &[0]);
    world.run_expecting(0, &[]);
    issue(&mut world, &[4]);
    world.run_expecting(0, &[]);
    world.assert_clean();
    issue(&mut world, &[40, 100]);
    world.run_expecting(0, &[]);
    assert!(!world.verdict().missing.is_empty(), "the sweep is not due");
    // Microsoft's time is told to the second.
    world.microsoft.advance(DAY + Duration::from_secs(2));
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn a_clock_that_runs_ahead_hides_nothing() {
    // Ours is a day ahead of Microsoft's.
    let mut world = world(12);
    world.set("collect", "resweep", "\"0s\"");
    world.set("collect", "overlap", "\"0s\"");
    for _ in 0..3 {
        issue(&mut world, &[0]);
        world.run_expecting(0, &[]);
        world.microsoft.advance(Duration::from_hours(2));
    }
    world.assert_clean();
    // An older ledger, which began long ago, believes that a month to come was listed.
    let ledger = rusqlite::Connection::open(world.ledger()).unwrap();
    let at = |days| (world.microsoft.now() + TimeDelta::days(days)).timestamp_millis();
    ledger
        .execute(
            "UPDATE stream SET floor = ?1, started = ?1, marker = ?2",
            [at(-30), at(30)],
        )
        .unwrap();
    drop(ledger);
    issue(&mut world, &[0, 1]);
    world.run_expecting(0, &[]);
    world.assert_clean();
    let log = world.log();
    assert!(log.contains("yet to come"), "{log}");
    assert!(!log.contains("can no longer be listed"), "{log}");
}

#[test]
fn a_sign_in_whose_time_runs_ahead_moves_no_marker_ahead() {
    let mut world = World::with_tenants(1, Options::default());
    world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
    issue(&mut world, &[0]);
    world.run_expecting(0, &[]);
    let ahead = Rule::on(Operation::Token, Action::ClockSkew(11 * 3_600));
    world.microsoft.faults(Plan::default().rule(ahead));
    world.run_expecting(0, &[]);
    let marker = world.status()[0]["marker"].as_str().unwrap().to_owned();
    let marker = DateTime::parse_from_rfc3339(&marker).unwrap();
    let ahead = marker.to_utc() - world.microsoft.now();
    assert!(ahead < TimeDelta::minutes(2), "{ahead}");
}

#[test]
fn the_time_of_a_page_that_is_not_microsofts_hides_nothing() {
    let mut world = world(12);
    world.set("collect", "resweep", "\"0s\"");
    issue(&mut world, &[1]);
    world.run_expecting(0, &[]);
    world.microsoft.advance(3 * DAY);
    issue(&mut world, &[0, 1, 30, 50, 71]);
    let ahead = 8 * 24 * 3_600;
    let page = Rule::on(Operation::Content, Action::Html200).times(1);
    let skew = Rule::on(Operation::Content, Action::ClockSkew(ahead)).times(1);
    world
        .microsoft
        .faults(Plan::default().rule(page).rule(skew));
    world.run_expecting(0, &[]);
    world.assert_clean();
    assert_eq!(world.microsoft.struck(), [1, 1]);
}

#[test]
fn a_clock_of_microsofts_that_runs_ahead_gives_nothing_up() {
    for days in [7, 10] {
        let mut world = World::with_tenants(1, Options::default());
        world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
        issue(&mut world, &[1, 2, 3, 20]);
        let late = world.issue_small(0, "Audit.Exchange", 2, TimeDelta::hours(4));
        let gone = Rule::on(Operation::Blob, Action::af(404, "AF20050", "gone")).content(&late);
        world.microsoft.faults(Plan::default().rule(gone));
        world.run_expecting(3, &[]);
        // As if so much had come since that its batches were folded: what was delivered can be forgotten.
        let ledger = rusqlite::Connection::open(world.ledger()).unwrap();
        ledger.execute("DELETE FROM batch_content", []).unwrap();
        world.microsoft.advance(days * DAY);
        world.run_expecting(3, &[]);
        let known = ledger.query_row("SELECT count(*) FROM content", [], |row| row.get(0));
        assert_eq!(known, Ok(5), "{days} days: {}", world.log());

        world.microsoft.set_clock(Utc::now());
        world.microsoft.faults(Plan::default());
        for _ in 0..2 {
            world.run_expecting(0, &[]);
        }
        assert_eq!(world.sum("lost"), 0, "{days} days: {}", world.log());
        // Nor is a gap left that there was by that clock.
        let status = world.run_as_it_stands(&["status"]);
        assert_eq!(status.status.code(), Some(0), "{days} days");
        world.assert_clean();
    }
}
