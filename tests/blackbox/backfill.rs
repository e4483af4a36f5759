//! A span is fetched again: below the floor, once, beside scheduled runs.

use std::fs::{self, File};
use std::io::Write;
use std::process::Child;
use std::thread;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;
use simulator::microsoft::{Action, Operation, Options, Plan, Request, Rule, Violation};

use crate::world::World;

const DAYS: i64 = 6;

/// Contents of each of the last days, of which a first run takes the last one's only.
fn world(options: Options, blobs: i64) -> World {
    let mut world = World::with_tenants(2, options);
    for tenant in 0..2 {
        for day in 0..DAYS {
            for blob in 0..blobs {
                let age = TimeDelta::days(day) + TimeDelta::minutes(5 + blob);
                world.issue_small(tenant, "Audit.Exchange", 3, age);
                world.issue_small(tenant, "DLP.All", 3, age);
            }
        }
    }
    world
}

#[test]
fn what_lies_below_the_floor_comes_by_a_backfill_and_once() {
    let mut world = world(Options::default(), 2);
    world.run_expecting(0, &[]);
    let verdict = world.verdict();
    assert_eq!(
        verdict.missing.len(),
        verdict.issued - verdict.issued / usize::try_from(DAYS).unwrap(),
        "{verdict}"
    );

    // Only what is asked for.
    done(
        &world,
        &[
            "backfill", "--since", "50h", "--until", "30h", "--tenant", "tenant-1",
        ],
    );
    assert_eq!(
        world.verdict().missing.len(),
        verdict.missing.len() - 2 * 2 * 3
    );

    for (option, usage) in [
        ("--since", "Microsoft keeps 7 days"),
        ("--until", "is not before"),
    ] {
        let ages = ["backfill", "--since", "7d", option, "100000000d"];
        let ages = if option == "--since" {
            [ages[0], option, ages[4], "--until", "1d"]
        } else {
            ages
        };
        let output = world.run(&ages);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(usage),
            "{output:?}"
        );
    }

    done(&world, &["backfill", "--since", "7d"]);
    world.assert_clean();
    let received = world.verdict().received;
    done(&world, &["backfill", "--since", "7d"]);
    world.run_expecting(0, &[]);
    assert_eq!(world.verdict().received, received);

    done(
        &world,
        &[
            "backfill",
            "--since",
            "7d",
            "--content-type",
            "dlp.all",
            "--resend",
        ],
    );
    world.run_expecting(0, &[]);
    let verdict = world.verdict();
    assert_eq!(verdict.repeats, verdict.issued / 2, "{verdict}");
    assert_eq!(verdict.repeated.len(), verdict.issued / 2, "each once more");
}

#[test]
fn whatever_comes_first_after_a_ledger_was_lost_what_it_knew_is_read_again() {
    for first in [
        &["run"][..],
        &["backfill", "--since", "1h"],
        &["subscriptions", "start"],
    ] {
        let mut world = world(Options::default(), 1);
        // What was lost with the ledger may have to be asked for again.
        world.microsoft.allow(Violation::StartTooSoon);
        done(&world, &["backfill", "--since", "7d"]);
        fs::write(world.ledger(), "no database").unwrap();
        world.issue_small(0, "Audit.Exchange", 3, TimeDelta::days(3));
        done(&world, first);
        world.run_expecting(0, &[]);
        let verdict = world.verdict();
        assert!(verdict.missing.is_empty(), "{first:?}: {verdict}");
    }
}

#[test]
fn what_was_given_up_is_fetched_again() {
    for (rule, counter, after) in [
        (Rule::any(Action::ContentExpired), "lost", 1),
        (Rule::on(Operation::Blob, Action::WrongJson), "damaged", 0),
    ] {
        let mut world = World::with_tenants(1, Options::default());
        world.issue_small(0, "Audit.Exchange", 3, TimeDelta::hours(1));
        world.microsoft.faults(Plan::default().rule(rule));
        for _ in 0..3 {
            world.run(&["run"]);
        }
        assert_eq!(world.sum(counter), 1, "{}", world.log());
        // It is counted once, however often it is tried in vain.
        world.run(&["backfill", "--since", "6h"]);
        assert_eq!(world.sum(counter), 1, "{}", world.log());
        assert_eq!(left(&world), 0, "{}", world.log());

        world.microsoft.faults(Plan::default());
        for _ in 0..2 {
            done(&world, &["backfill", "--since", "6h"]);
        }
        world.assert_clean();
        assert_eq!(world.sum(counter), after, "{}", world.log());
    }
}

/// It had expired when it was given up, but Microsoft hands it out again.
#[test]
fn what_is_listed_again_after_it_expired_is_fetched() {
    for again in [&["run"][..], &["backfill", "--since", "6h"]] {
        let mut world = World::with_tenants(1, Options::default());
        world.set("http", "retries", "0");
        world.issue_small(0, "Audit.Exchange", 3, TimeDelta::hours(1));
        let blob = Rule::on(Operation::Blob, Action::WrongJson);
        world.microsoft.faults(Plan::default().rule(blob.clone()));
        world.run_expecting(3, &[]);
        let ledger = rusqlite::Connection::open(world.ledger()).unwrap();
        ledger
            .execute("UPDATE content SET expires = 1", [])
            .unwrap();
        drop(ledger);
        let listing = Rule::on(Operation::Content, Action::af(500, "AF50000", "no"));
        let both = Plan::default().rule(blob).rule(listing);
        world.microsoft.faults(both);
        world.run(&["run"]);
        assert_eq!(world.sum("lost"), 1, "{}", world.log());
        world.microsoft.faults(Plan::default());
        // The listing is left alone for a while.
        world.microsoft.advance(Duration::from_mins(2));
        done(&world, again);
        world.assert_clean();
    }
}

#[test]
fn a_resend_that_is_interrupted_sends_each_record_once_more() {
    let options = Options {
        latency: Duration::from_millis(20),
        ..Options::default()
    };
    let mut world = world(options, 10);
    done(&world, &["backfill", "--since", "7d"]);
    world.assert_clean();
    interrupted(&world, &["backfill", "--since", "7d", "--resend"]);
    for _ in 0..3 {
        interrupted(&world, &["run"]);
    }
    world.run_expecting(0, &[]);
    let verdict = world.verdict();
    assert!(verdict.missing.is_empty());
    assert_eq!(verdict.repeats, verdict.issued, "each once more: {verdict}");
}

#[test]
fn a_backfill_that_is_interrupted_loses_and_repeats_nothing_while_runs_go_on() {
    let options = Options {
        latency: Duration::from_millis(20),
        ..Options::default()
    };
    let mut world = world(options, 20);
    world.run_expecting(0, &[]);
    for (since, until) in [("7d", "4d"), ("4d", "2d"), ("2d", "1h")] {
        let fetched = blobs(&world.microsoft.requests());
        let mut child = world.start(&["backfill", "--since", since, "--until", until]);
        wait_for_blobs(&world, fetched + 20);
        // A scheduled run waits for the round instead of being turned away, and live content comes first.
        world.issue_small(0, "Audit.Exchange", 3, TimeDelta::minutes(2));
        let scheduled = world.start(&["run"]);
        World::signal(&child, "TERM");
        assert!(child.wait().unwrap().code().is_some(), "{}", world.log());
        let status = scheduled.wait_with_output().unwrap().status;
        assert_eq!(status.code(), Some(0), "{}", world.log());
    }
    done(&world, &["backfill", "--since", "7d"]);
    world.assert_clean();
}

#[test]
fn a_backfill_that_is_killed_loses_nothing_and_status_tells_what_is_left() {
    let options = Options {
        latency: Duration::from_millis(20),
        ..Options::default()
    };
    let mut world = world(options, 20);
    world.run_expecting(0, &[]);
    assert_eq!(left(&world), 0);
    let fetched = blobs(&world.microsoft.requests());
    let mut child = world.start(&["backfill", "--since", "7d"]);
    wait_for_blobs(&world, fetched + 20);
    World::signal(&child, "KILL");
    assert_eq!(child.wait().unwrap().code(), None);
    assert!(left(&world) > 0);
    world.run_expecting(0, &[]);
    assert_eq!(left(&world), 0);
    let verdict = world.verdict();
    assert!(verdict.missing.is_empty(), "{verdict}");
}

/// Contents and spans of a backfill that are still to be fetched, by `status`.
fn left(world: &World) -> u64 {
    let output = world.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let left = |what| status["backfill"][what].as_u64().unwrap();
    left("contents") + left("spans")
}

/// Microsoft keeps 7 days: what a backfill asked for and could not list in time is told, once.
#[test]
fn a_span_that_slips_out_of_reach_is_told() {
    let mut world = World::with_tenants(1, Options::default());
    world.set("http", "retries", "0");
    world.run_expecting(0, &[]);
    let busy = Rule::on(Operation::Content, Action::af(500, "AF50000", "busy"));
    world.microsoft.faults(Plan::default().rule(busy));
    // One of them slips out of reach as a whole. The other begins before it, so that it is one of its own.
    for since in [["6d", "--until", "5d"], ["145h", "--until", "0s"]] {
        let arguments = [
            &["backfill", "--content-type", "DLP.All", "--since"],
            &since[..],
        ];
        // Nothing could be had, and the next run tries again.
        assert_eq!(world.run(&arguments.concat()).status.code(), Some(75));
    }
    world.microsoft.faults(Plan::default());
    let mut told = Vec::new();
    for days in [4, 1, 1] {
        world.microsoft.advance(Duration::from_hours(days * 24));
        world.run_expecting(0, &[]);
        let datagrams = world.queue.drain();
        let texts = datagrams.iter().map(|text| String::from_utf8_lossy(text));
        told.extend(
            texts
                .filter(|text| text.contains("\"health\":\"gap\""))
                .map(String::from),
        );
    }
    assert_eq!(told.len(), 2, "{told:?}");
    for gap in told {
        assert!(gap.contains("\"DLP.All\""), "{gap}");
        assert!(gap.contains("of a backfill, what became"), "{gap}");
    }
    assert_eq!(left(&world), 0);
    let log = world.log();
    assert_eq!(
        log.matches("of a backfill, what became").count(),
        2,
        "{log}"
    );
}

#[test]
fn who_waits_for_the_lock_ends_in_order_when_asked() {
    let world = world(Options::default(), 1);
    world.run_expecting(0, &[]);
    let path = world.ledger.with_extension("db.lock");
    let lock = File::options().write(true).open(path).unwrap();
    lock.lock().unwrap();
    // A round of another backfill, for which a run waits as well.
    (&lock).write_all(b"backfill").unwrap();
    for arguments in [&["run"][..], &["backfill", "--since", "2d"]] {
        for name in ["TERM", "INT"] {
            let mut child = world.start(arguments);
            wait_until_it_heeds_signals(&child);
            World::signal(&child, name);
            assert_eq!(
                child.wait().unwrap().code(),
                Some(75),
                "{arguments:?} {name}"
            );
        }
    }
    drop(lock);
    world.run_expecting(0, &[]);
    assert!(!world.log().contains("is queued"), "{}", world.log());
}

/// Until SIGTERM and SIGINT no longer end it at once.
fn wait_until_it_heeds_signals(child: &Child) {
    let wanted = 1_u64 << 14 | 1 << 1;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & wanted == wanted {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn done(world: &World, arguments: &[&str]) {
    let output = world.run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", world.log());
}

/// A call that is asked to stop once it has fetched some blobs.
fn interrupted(world: &World, arguments: &[&str]) {
    let fetched = blobs(&world.microsoft.requests());
    let mut child = world.start(arguments);
    wait_for_blobs(world, fetched + 20);
    World::signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", world.log());
}

fn wait_for_blobs(world: &World, count: usize) {
    assert!(
        world
            .microsoft
            .wait_for(Duration::from_mins(1), |requests| blobs(requests) >= count),
        "{}",
        world.log()
    );
}

fn blobs(requests: &[Request]) -> usize {
    let is_blob = |request: &&Request| request.operation == Operation::Blob;
    requests.iter().filter(is_blob).count()
}
