//! Delivery to a Wazuh that tells what it has processed, and that is killed in the middle of it.

use std::collections::HashSet;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;
use simulator::microsoft::{Action, Operation, Options, Plan, Rule};
use simulator::wazuh::{Background, EpsLimit, Manager, Settings};

use crate::world::World;

/// A world whose Wazuh is a manager.
fn with_manager(settings: Settings) -> (World, Manager) {
    with_manager_and(settings, Options::default())
}

fn with_manager_and(settings: Settings, options: Options) -> (World, Manager) {
    let mut world = World::with_tenants(1, options);
    world.queue.unlink().unwrap();
    let manager = Manager::start(&world.home(), settings).unwrap();
    world.set("wazuh", "acknowledge", "\"auto\"");
    world.set("wazuh", "events_per_second", "\"auto\"");
    (world, manager)
}

pub(super) fn issue(world: &mut World, blobs: usize, records: usize) {
    for blob in 0..blobs {
        let records: Vec<_> = (0..records).map(|_| world.records.sized(600)).collect();
        let now = world.microsoft.now();
        let ago = TimeDelta::seconds(60 + i64::try_from(blob).unwrap());
        world.issue_these(0, "Audit.Exchange", records, now - ago);
    }
}

/// Hands the lines of the alerts file to the oracle.
fn judge(world: &mut World, manager: &Manager) -> simulator::oracle::Verdict {
    for line in manager.alerts() {
        world.oracle.received_event(line.as_bytes());
    }
    world.oracle.verdict()
}

pub(super) fn status(world: &World) -> Value {
    let output = world.run_as_it_stands(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_manager_confirms_what_it_has_written() {
    let (mut world, manager) = with_manager(Settings::default());
    issue(&mut world, 20, 250);
    world.run_expecting(0, &[]);
    world.run_expecting(0, &[]);
    let verdict = judge(&mut world, &manager);
    assert!(verdict.is_clean(), "{verdict} {}", world.log());
    assert_eq!(manager.dropped(), 0);
    let status = status(&world);
    assert_eq!(status["unconfirmed"], 0);
    assert_eq!(status["assurance"], "confirmed");
}

#[test]
fn other_senders_and_queues_that_are_never_empty_do_not_prevent_confirmation() {
    let (mut world, manager) = with_manager(Settings {
        background: Background {
            office365: 500.0,
            other: 2_000.0,
            fim: 500.0,
            inventory: 500.0,
        },
        ..Settings::default()
    });
    issue(&mut world, 8, 250);
    world.run_expecting(0, &[]);
    world.run_expecting(0, &[]);
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    let verdict = judge(&mut world, &manager);
    assert!(verdict.missing.is_empty(), "{verdict}");
    assert_eq!(verdict.repeats, 0, "{verdict}");
}

#[test]
fn what_a_killed_manager_lost_comes_again() {
    let (mut world, manager) = with_manager(Settings {
        rate: Some(3_000.0),
        ..Settings::default()
    });
    issue(&mut world, 40, 250);
    let is_over = AtomicBool::new(false);
    let kills = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut kills = 0;
            while kills < 3 && !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(900));
                if kills % 2 == 0 {
                    manager.kill();
                } else {
                    manager.terminate().unwrap();
                }
                manager.revive(Duration::from_millis(300)).unwrap();
                kills += 1;
            }
            kills
        });
        for _ in 0..6 {
            let output = world.run(&["run"]);
            assert!(
                matches!(output.status.code(), Some(0 | 75)),
                "{}",
                world.log()
            );
            if output.status.code() == Some(0) && status(&world)["unconfirmed"] == 0 {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        killer.join().unwrap()
    });
    assert!(kills > 0);
    world.run(&["run"]);
    world.run_expecting(0, &[]);
    let verdict = judge(&mut world, &manager);
    assert!(
        verdict.missing.is_empty(),
        "{kills} kills: {verdict} {}",
        world.log()
    );
    assert!(verdict.repeats <= kills * 4_000, "{kills} kills: {verdict}");
}

/// Of a content that comes slowly the first records are confirmed while the last are not even committed.
#[test]
fn the_end_of_a_slow_content_that_a_killed_manager_lost_comes_again() {
    let tried = |pause: u64| {
        let options = Options {
            gzip: false,
            ..Options::default()
        };
        let (mut world, manager) = with_manager_and(Settings::default(), options);
        let mut drip = |pause: u64| {
            let minute = TimeDelta::minutes(1);
            let content = world.issue_small(0, "Audit.Exchange", 40, minute);
            Rule::any(Action::Drip(20_000, Duration::from_millis(pause))).content(&content)
        };
        // Another is still to come: the end of a run commits.
        let plan = Plan::default().rule(drip(pause)).rule(drip(3_000));
        world.microsoft.faults(plan);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(manager.wait_received(1, Duration::from_mins(1)));
                thread::sleep(Duration::from_millis(700));
                manager.pause();
                thread::sleep(Duration::from_millis(1_300));
                manager.kill();
                manager.revive(Duration::ZERO).unwrap();
            });
            world.run_expecting(0, &[]);
        });
        for _ in 0..2 {
            world.run_expecting(0, &[]);
        }
        let verdict = judge(&mut world, &manager);
        let log = world.log();
        assert!(verdict.missing.is_empty(), "{pause} ms: {verdict} {log}");
        assert!(log.contains("sent again"), "{pause} ms: {log}");
    };
    // One of them falls into the quarter of a second before the commit.
    thread::scope(|scope| {
        for pause in [1_400, 1_450, 1_500, 1_550] {
            scope.spawn(move || tried(pause));
        }
    });
}

/// Two contents with the same records go out together; whichever of them is gone later, the other still has them.
#[test]
fn what_comes_twice_at_once_may_come_again_from_either() {
    for gone in 0..2 {
        let (mut world, manager) = with_manager(Settings::default());
        let records: Vec<_> = (0..5).map(|_| world.records.sized(600)).collect();
        let now = world.microsoft.now();
        let contents = [0, 1].map(|minutes| {
            let created = now - TimeDelta::minutes(3 + minutes);
            world.issue_these(0, "Audit.Exchange", records.clone(), created)
        });
        // As many as the kernel keeps for it.
        manager.pause();
        world.run_expecting(0, &[]);
        manager.kill();
        manager.revive(Duration::ZERO).unwrap();
        let vanished = Rule::any(Action::ContentVanished).content(&contents[gone]);
        world.microsoft.faults(Plan::default().rule(vanished));
        world.run(&["run"]);
        world.run(&["run"]);
        let verdict = judge(&mut world, &manager);
        assert!(
            verdict.missing.is_empty(),
            "{gone}: {verdict} {}",
            world.log()
        );
    }
}

/// The second content with the same records is still read when the batch with the first is lost.
#[test]
fn what_comes_twice_may_come_again_from_the_one_that_is_being_read() {
    let (mut world, manager) = with_manager(Settings::default());
    // More than is handed over at once of the second, and as many as the kernel keeps of the first.
    let records: Vec<_> = (0..8).map(|_| world.records.sized(8_000)).collect();
    let now = world.microsoft.now();
    let [first, second] = [3, 4].map(|minutes| {
        let created = now - TimeDelta::minutes(minutes);
        world.issue_these(0, "Audit.Exchange", records.clone(), created)
    });
    let slow = Rule::any(Action::Drip(2_000, Duration::from_millis(150))).content(&second);
    world.microsoft.faults(Plan::default().rule(slow));
    manager.pause();
    let mut run = world.start(&["run"]);
    while world.sum("duplicate") == 0 {
        assert!(run.try_wait().unwrap().is_none(), "{}", world.log());
    }
    let vanished = Rule::any(Action::ContentVanished).content(&first);
    world.microsoft.faults(Plan::default().rule(vanished));
    manager.kill();
    manager.revive(Duration::ZERO).unwrap();
    run.wait().unwrap();
    world.run(&["run"]);
    let verdict = judge(&mut world, &manager);
    assert!(verdict.missing.is_empty(), "{verdict} {}", world.log());
}

#[test]
fn without_acknowledgement_a_restart_sends_nothing_again() {
    let (mut world, manager) = with_manager(Settings::default());
    world.set("wazuh", "acknowledge", "\"off\"");
    world.set("wazuh", "events_per_second", "0");
    issue(&mut world, 5, 100);
    world.run_expecting(0, &[]);
    assert!(manager.wait_received(500, Duration::from_secs(10)));
    manager.restart(Duration::ZERO).unwrap();
    world.run_expecting(0, &[]);
    let verdict = judge(&mut world, &manager);
    assert_eq!(verdict.repeats, 0, "{verdict}");
    assert_eq!(status(&world)["unconfirmed"], 0);
    assert_eq!(status(&world)["assurance"], "accepted");
}

/// A state that began, and one that ended: neither would be seen again by looking.
#[test]
fn what_a_killed_manager_lost_of_health_comes_again() {
    let (world, manager) = with_manager(Settings::default());
    let told = |manager: &Manager, health: &str| {
        let is_it = |line: &String| {
            serde_json::from_str::<Value>(line).unwrap()["o365_wodle"]["health"] == health
        };
        manager.alerts().iter().filter(|line| is_it(line)).count()
    };
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222));
    world.microsoft.faults(Plan::default().rule(refused));
    // Accepted by a manager that never gets to process it.
    manager.pause();
    world.run_expecting(77, &[]);
    manager.kill();
    manager.revive(Duration::ZERO).unwrap();
    world.run_expecting(77, &[]);
    assert_eq!(told(&manager, "auth_failed"), 1, "{}", world.log());

    world.microsoft.faults(Plan::default());
    manager.pause();
    world.run_expecting(0, &[]);
    manager.kill();
    manager.revive(Duration::ZERO).unwrap();
    world.run_expecting(0, &[]);
    world.run_expecting(0, &[]);
    assert_eq!(told(&manager, "recovered"), 1, "{}", world.log());
    assert_eq!(told(&manager, "auth_failed"), 1);
}

/// As after a loss: what a manager has read and not processed counts as under way.
#[test]
fn no_more_is_under_way_than_may_be_unconfirmed() {
    const CAP: usize = 2_500;
    let (mut world, manager) = with_manager(Settings::default());
    world.run_expecting(0, &[]);
    rusqlite::Connection::open(world.ledger())
        .unwrap()
        .execute("INSERT OR REPLACE INTO value VALUES ('cap', ?1)", [CAP])
        .unwrap();
    // It reads, and nothing of it reaches its writer.
    manager.tune(|settings| settings.rate = Some(0.001));
    issue(&mut world, 20, 250);
    world.run_expecting(75, &["--deadline", "20s"]);
    let has_read = |events| manager.wait_received(events as u64, Duration::ZERO);
    assert!(has_read(CAP) && !has_read(CAP + 1), "{}", world.log());
    assert_eq!(status(&world)["unconfirmed"], CAP);
}

/// An analysisd that ends slowly, writing its core for instance, still holds the socket that another has replaced and answers
/// for.
#[test]
fn the_next_analysisd_confirms_nothing_that_went_into_the_last_ones_socket() {
    let (mut world, manager) = with_manager(Settings::default());
    let queue = world.home().join("queue/sockets/queue");
    let aside = queue.with_file_name("aside");
    std::fs::rename(&queue, &aside).unwrap();
    let last = UnixDatagram::bind(&queue).unwrap();
    issue(&mut world, 4, 250);
    let mut run = world.start(&[]);
    // What its socket takes has gone into it.
    thread::sleep(Duration::from_millis(1_500));
    std::fs::rename(&aside, &queue).unwrap();
    thread::sleep(Duration::from_millis(500));
    drop(last);
    run.wait().unwrap();
    world.run_expecting(0, &[]);
    let verdict = judge(&mut world, &manager);
    assert!(verdict.is_clean(), "{verdict} {}", world.log());
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
}

/// `<limits><eps>`: a worker has an event in its hand, in no queue, until there is a credit for it.
#[test]
fn what_waits_for_a_credit_is_not_confirmed() {
    let limit = EpsLimit {
        maximum: 20,
        timeframe: 10,
    };
    let settings = Settings {
        workers: 4,
        eps: Some(limit),
        ..Settings::default()
    };
    let (mut world, manager) = with_manager(settings);
    issue(&mut world, 1, 203);
    world.run_expecting(0, &["--deadline", "6s"]);
    assert_eq!(status(&world)["unconfirmed"], 203, "{}", world.log());
    manager.kill();
    manager.tune(|settings| settings.eps = None);
    manager.revive(Duration::ZERO).unwrap();
    world.run_expecting(0, &[]);
    world.run_expecting(0, &[]);
    let verdict = judge(&mut world, &manager);
    assert!(verdict.missing.is_empty(), "{verdict} {}", world.log());
}

/// Somebody else reads the queue beside a manager that lives: its counters tell nothing of ours.
#[test]
fn what_another_took_is_not_confirmed() {
    let (mut world, manager) = with_manager(Settings::default());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = simulator::wazuh::Queue::bind(elsewhere.path()).unwrap();
    world.set("wazuh", "queue", &format!("{:?}", other.path()));
    issue(&mut world, 1, 20);
    world.run_expecting(0, &["--deadline", "6s"]);
    assert_eq!(other.count(), 20);
    assert_eq!(status(&world)["unconfirmed"], 20, "{}", world.log());
    drop(manager);
}

/// It reads all the while, but has no power to say what it did, or does not say it at all.
#[test]
fn a_manager_that_answers_late_or_never_gets_its_events() {
    for late in [300, 2_500] {
        let (mut world, manager) = with_manager(Settings::default());
        let answers_after = |after| manager.tune(|settings| settings.answers_after = after);
        answers_after(Duration::from_millis(late));
        issue(&mut world, 1, 100);
        world.run_expecting(0, &["--deadline", "15s"]);
        let is_there = manager.wait_received(100, Duration::from_secs(1));
        assert!(is_there, "{late:?}: {}", world.log());
        let is_silent = late > 2_000;
        assert_eq!(
            world.log().contains("does not tell what it has processed"),
            is_silent
        );
        let doctor = world.run(&["doctor"]);
        let said = String::from_utf8(doctor.stdout).unwrap();
        assert_eq!(
            said.contains("the manager does not answer"),
            is_silent,
            "{said}"
        );
        answers_after(Duration::ZERO);
        world.run_expecting(0, &[]);
        assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
        let verdict = judge(&mut world, &manager);
        assert!(verdict.is_clean(), "{late:?}: {verdict} {}", world.log());
    }
}

/// It drops what it is sent while it does not answer, and then says so.
#[test]
fn what_is_dropped_in_silence_comes_again() {
    let (mut world, manager) = with_manager(Settings::default());
    manager.tune(|settings| {
        settings.answers_after = Duration::from_millis(2_500);
        settings.others = 10;
        settings.rate = Some(1.0);
    });
    issue(&mut world, 1, 200);
    world.run_expecting(0, &["--deadline", "15s"]);
    assert!(manager.dropped() > 0, "{}", world.log());
    manager.tune(|settings| *settings = Settings::default());
    for _ in 0..3 {
        world.run_expecting(0, &[]);
    }
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    let verdict = judge(&mut world, &manager);
    assert!(verdict.missing.is_empty(), "{verdict} {}", world.log());
}

/// What was dropped before a run that knows it is no matter of what is sent in silence later.
#[test]
fn what_was_dropped_long_ago_makes_nothing_come_again() {
    let (mut world, manager) = with_manager(Settings::default());
    manager.tune(|settings| {
        settings.others = 10;
        settings.rate = Some(1.0);
    });
    world.set("wazuh", "events_per_second", "0");
    issue(&mut world, 1, 200);
    world.run(&["run", "--deadline", "5s"]);
    assert!(manager.dropped() > 0, "{}", world.log());
    manager.tune(|settings| *settings = Settings::default());
    for _ in 0..3 {
        world.run_expecting(0, &[]);
    }
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    let repeats = || {
        let lines = manager.alerts();
        lines.len() - lines.iter().collect::<HashSet<_>>().len()
    };
    let before = repeats();

    manager.tune(|settings| settings.answers_after = Duration::from_millis(2_500));
    issue(&mut world, 1, 50);
    world.run_expecting(0, &["--deadline", "12s"]);
    assert_eq!(status(&world)["unconfirmed"], 50, "{}", world.log());
    manager.tune(|settings| settings.answers_after = Duration::ZERO);
    for _ in 0..3 {
        world.run_expecting(0, &[]);
    }
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    assert_eq!(repeats(), before, "{}", world.log());
    let verdict = judge(&mut world, &manager);
    assert!(verdict.missing.is_empty(), "{verdict} {}", world.log());
}

/// Nothing of it was sent, so nothing of it can have been dropped.
#[test]
fn what_a_filter_held_back_is_fetched_once() {
    let (mut world, manager) = with_manager(Settings::default());
    manager.tune(|settings| {
        settings.others = 10;
        settings.rate = Some(1.0);
        settings.background.office365 = 500.0;
    });
    while manager.dropped() == 0 {
        thread::sleep(Duration::from_millis(20));
    }
    manager.tune(|settings| *settings = Settings::default());
    let name = world.tenants[0].0.clone();
    let lines = vec!["exclude = [{ operation = \"*\" }]".to_owned()];
    world.tenant_settings.insert(name, lines);
    issue(&mut world, 1, 20);
    for _ in 0..3 {
        world.run_expecting(0, &[]);
    }
    let requests = world.microsoft.requests();
    let is_blob = |request: &&simulator::microsoft::Request| request.operation == Operation::Blob;
    assert_eq!(
        requests.iter().filter(is_blob).count(),
        1,
        "{}",
        world.log()
    );
    assert_eq!(world.sum("filtered"), 20);
}
