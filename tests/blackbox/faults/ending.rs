//! Runs that are ended, by a signal or their deadline: in order, in time, and saying who did not answer.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use simulator::microsoft::{
    Action, CONTENT_TYPES, Operation, Options, Plan, Request, RetryAfter, Rule,
};

use super::{AGES, RECORDS, assert_clean, fill, run, world};
use crate::world::World;

/// A world in which each answer takes so many milliseconds.
fn slow(tenants: usize, latency: u64) -> World {
    let latency = Duration::from_millis(latency);
    World::with_tenants(
        tenants,
        Options {
            latency,
            ..Options::default()
        },
    )
}

/// Runs until enough blobs were asked for, then asks the process to stop.
#[test]
fn a_signal_ends_a_run_in_order() {
    for name in ["TERM", "INT"] {
        let mut world = slow(2, 40);
        for blob in 1..=200 {
            world.issue_small(0, "Audit.Exchange", 2, TimeDelta::minutes(blob));
            world.issue_small(1, "DLP.All", 2, TimeDelta::minutes(blob));
        }
        let mut child = world.start(&["run"]);
        let blobs = |requests: &[Request]| {
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
    let pipe = world.folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let mut child = {
        world.configure();
        let file = world.folder.path().join("tenants.d/tenant-2.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace(
            "client_secret_file = \"secrets/tenant-2\"",
            &format!(
                "client_secret_command = [\"/bin/sh\", \"-c\", \"exec 3>{}; sleep 9; echo lived >&3\"]",
                pipe.display()
            ),
        );
        crate::world::write(&file, &text, 0o640);
        std::process::Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
            .args(["--config", world.config().to_str().unwrap(), "run"])
            .spawn()
            .unwrap()
    };
    // The command writes into it.
    let mut of_command = std::fs::File::open(pipe).unwrap();
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
    // The pipe ends when the command does.
    let mut said = String::new();
    of_command.read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "the command went on after the run");
    assert_eq!(run(&world), 0);
    assert_clean(&mut world);
}

#[test]
fn a_deadline_ends_a_run_in_order() {
    let mut world = slow(1, 100);
    for blob in 1..=300 {
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

/// A queue that is full does not hold up the end of a run, and what was to be told is told by the next.
#[test]
fn a_deadline_holds_though_wazuh_takes_nothing() {
    let mut world = World::with_tenants(1, Options::default());
    let id = world.id(0);
    world.microsoft.change_tenant(&id, |spec| {
        spec.roles = vec!["ActivityFeed.Read".to_owned()];
    });
    for blob in 1..=30 {
        world.issue_small(0, "Audit.Exchange", 2, TimeDelta::minutes(blob));
    }
    world.queue.pause();
    let begin = Instant::now();
    world.run_expecting(75, &["--deadline", "4s"]);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    world.queue.resume();
    world.run_expecting(0, &[]);
    let told =
        |datagram: &&Vec<u8>| memchr::memmem::find(datagram, b"permission_missing").is_some();
    assert_eq!(world.queue.received().iter().filter(told).count(), 1);
    world.assert_clean();
}

/// A queue that is full holds up records, and never what is new of others: their listings reach the ledger.
#[test]
fn listings_go_on_though_wazuh_takes_nothing() {
    const TENANTS: usize = 8;
    let mut world = slow(TENANTS, 20);
    world.set("collect", "concurrency", "1");
    world.set("collect", "tenants_in_parallel", "1");
    let only = vec!["content_types = [\"Audit.Exchange\"]".to_owned()];
    world.tenant_settings.insert("tenant-1".to_owned(), only);
    for blob in 1..=10 {
        world.issue_small(0, "Audit.Exchange", 20, TimeDelta::minutes(blob));
    }
    world.queue.pause();
    let mut child = world.start(&["run"]);
    let all_listed = |requests: &[Request]| {
        let listings = requests
            .iter()
            .filter(|request| request.operation == Operation::Content);
        let listed: BTreeSet<_> = listings
            .map(|request| (&request.tenant, &request.content_type))
            .collect();
        listed.len() == 1 + (TENANTS - 1) * CONTENT_TYPES.len()
    };
    let is_listed = world
        .microsoft
        .wait_for(Duration::from_secs(20), all_listed);
    let begun = world
        .microsoft
        .requests()
        .into_iter()
        .filter(|request| request.operation == Operation::Blob);
    world.queue.resume();
    assert!(is_listed, "{}", world.log());
    assert!(begun.count() > 0);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", world.log());
    world.assert_clean();
}

/// Being asked to wait is no failure, and the next run waits too.
#[test]
fn a_run_that_ends_while_microsoft_wants_to_be_left_alone_is_well() {
    let mut world = world(1);
    fill(&mut world);
    let wait = super::throttle(429, RetryAfter::Seconds(10), Some(10));
    let rule = Rule::on(Operation::Blob, wait).from(3).times(1);
    world.microsoft.faults(Plan::new(1).rule(rule));
    world.run_expecting(0, &["--deadline", "5s"]);
    assert!(world.verdict().received > 0);
    assert!(
        world.log().contains("left alone for a while"),
        "{}",
        world.log()
    );
    assert_eq!(world.run_as_it_stands(&["run"]).status.code(), Some(75));
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(run(&world), 0);
    assert_clean(&mut world);
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

/// Of those that had no turn nothing is known, and nothing was had of the others.
#[test]
fn a_run_that_ends_before_all_had_their_turn_and_had_nothing_was_in_vain() {
    let mut world = world(8);
    world.set("http", "request_timeout", "\"1m\"");
    world.set("collect", "tenants_in_parallel", "1");
    world.set("collect", "concurrency", "1");
    fill(&mut world);
    let rule = Rule::any(Action::StallBeforeHeaders);
    world.microsoft.faults(Plan::new(1).rule(rule));
    world.run_expecting(75, &["--deadline", "4s"]);
    let log = world.log();
    let said = "no tenant was collected (without a usable answer: tenant-";
    assert!(log.contains(said), "{log}");
    assert!(
        log.contains("; not tried before the run was stopped: tenant-"),
        "{log}"
    );
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

/// A pager that somebody looks at for long.
#[test]
fn a_dry_run_that_nobody_reads_ends_at_its_deadline() {
    let mut world = world(1);
    // A dry run starts no subscription.
    world.run_expecting(0, &[]);
    for blob in 1..=60 {
        world.issue_small(0, "Audit.Exchange", 10, TimeDelta::minutes(blob));
    }
    let begin = Instant::now();
    let mut child = world
        .command(&["run", "--dry-run", "--deadline", "3s"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert!(world.log().contains("stopped with work left"));
}
