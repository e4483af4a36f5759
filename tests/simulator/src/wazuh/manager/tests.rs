#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::oracle::Oracle;
use crate::wazuh::statistics::ask;

const SOON: Duration = Duration::from_secs(20);
const GETSTATS: &str =
    r#"{"version":1,"origin":{"module":"test"},"command":"getstats","parameters":{}}"#;

fn record(n: usize) -> String {
    format!(r#"{{"Id":"{n}","RecordType":2,"Operation":"x"}}"#)
}

fn send(home: &Path, numbers: std::ops::Range<usize>) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(home.join("queue/sockets/queue")).unwrap();
    for n in numbers {
        let record = record(n);
        let event = format!(
            r#"1:office365:{{"integration":"office365","office365":{{"Subscription":"Audit.Exchange",{}}}"#,
            record.strip_prefix('{').unwrap()
        );
        socket.send(event.as_bytes()).unwrap();
    }
}

fn missing(manager: &Manager, issued: usize) -> usize {
    let mut oracle = Oracle::new();
    (0..issued).for_each(|n| oracle.issued("t", "Audit.Exchange", record(n).as_bytes()));
    manager
        .alerts()
        .iter()
        .for_each(|line| oracle.received_event(line.as_bytes()));
    let verdict = oracle.verdict();
    assert!(
        verdict.malformed.is_empty() && verdict.altered.is_empty() && verdict.repeats == 0,
        "{}",
        verdict.details()
    );
    verdict.missing.len()
}

fn start(settings: Settings) -> (tempfile::TempDir, Manager) {
    let home = tempfile::tempdir().unwrap();
    let manager = Manager::start(home.path(), settings).unwrap();
    (home, manager)
}

fn pid_files(home: &Path) -> Vec<String> {
    let files = fs::read_dir(home.join("var/run")).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn the_statistics_socket_answers_with_the_paths_of_the_contract() {
    let (home, manager) = start(Settings::default());
    let path = home.path().join("queue/sockets/analysis");
    send(home.path(), 0..5_000);
    assert!(manager.wait_received(5_000, SOON) && manager.wait_idle(SOON));
    let answer = ask(&path, GETSTATS).unwrap();
    assert_eq!(
        (&answer["error"], &answer["message"]),
        (&json!(0), &json!("ok"))
    );
    let metrics = &answer["data"]["metrics"];
    for path in [
        "/events/received",
        "/events/received_breakdown/decoded_breakdown/modules_breakdown/office365",
        "/events/processed",
        "/events/written_breakdown/alerts",
    ] {
        assert_eq!(metrics.pointer(path), Some(&json!(5_000)), "{path}");
    }
    let dropped = "/events/received_breakdown/dropped_breakdown/modules_breakdown/office365";
    assert_eq!(metrics.pointer(dropped), Some(&json!(0)));
    for queue in ["others", "processed", "alerts"] {
        assert_eq!(
            metrics["queues"][queue],
            json!({ "size": 16_384, "usage": 0.0 })
        );
    }
    assert!(answer["data"]["uptime"].as_u64().unwrap() > 1_700_000_000);
    assert!(metrics.get("eps").is_none());
    assert_ne!(ask(&path, "nonsense").unwrap()["error"], 0);
    assert!(manager.wait_for_alerts(5_000, SOON));
    assert_eq!(missing(&manager, 5_000), 0);
}

#[test]
fn a_kill_at_once_loses_what_was_processed_and_1_2_seconds_later_nothing() {
    let (home, manager) = start(Settings::default());
    // the flush comes once a second: right after one there is a whole second before the next
    send(home.path(), 0..1);
    assert!(manager.wait_for_alerts(1, SOON));
    send(home.path(), 1..501);
    assert!(manager.wait_received(501, SOON) && manager.wait_idle(SOON));
    manager.kill();
    let lost = missing(&manager, 501);
    assert!(lost > 0, "500 on a machine that is not too busy");

    manager.revive(Duration::ZERO).unwrap();
    send(home.path(), 501..1_001);
    assert!(manager.wait_received(500, SOON) && manager.wait_idle(SOON));
    // the length of the wait is what is tested
    thread::sleep(Duration::from_millis(1_200));
    manager.kill();
    assert_eq!(missing(&manager, 1_001), lost);
}

#[test]
fn a_small_file_buffer_loses_only_its_tail_at_a_kill() {
    let (home, manager) = start(Settings {
        file_buffer: 4_096,
        ..Settings::default()
    });
    send(home.path(), 0..1);
    assert!(manager.wait_for_alerts(1, SOON));
    send(home.path(), 1..501);
    assert!(manager.wait_received(501, SOON) && manager.wait_idle(SOON));
    manager.kill();
    assert!(
        (1..60).contains(&missing(&manager, 501)),
        "{}",
        missing(&manager, 501)
    );
}

#[test]
fn a_termination_loses_the_queues_and_flushes_the_file() {
    let (home, manager) = start(Settings {
        rate: Some(2_000.0),
        ..Settings::default()
    });
    send(home.path(), 0..10_000);
    assert!(manager.wait_received(10_000, SOON));
    let written = manager.statistics()["metrics"]["events"]["written_breakdown"]["alerts"]
        .as_u64()
        .unwrap();
    manager.terminate().unwrap();
    let lost = missing(&manager, 10_000);
    assert!(
        lost > 1_000 && lost as u64 <= 10_000 - written,
        "{lost} lost, {written} written"
    );
    assert!(manager.statistics().is_null());

    let (home, manager) = start(Settings::default());
    send(home.path(), 0..2_000);
    assert!(manager.wait_received(2_000, SOON) && manager.wait_idle(SOON));
    manager.terminate().unwrap();
    assert_eq!(missing(&manager, 2_000), 0);
}

#[test]
fn every_life_has_an_identity_of_its_own() {
    let (home, manager) = start(Settings::default());
    send(home.path(), 0..10);
    assert!(manager.wait_received(10, SOON));
    let mut uptimes = vec![manager.statistics()["uptime"].as_u64().unwrap()];
    let first = manager.pid().unwrap();
    assert_eq!(
        pid_files(home.path()),
        [format!("wazuh-analysisd-{first}.pid")]
    );
    assert!(Path::new(&format!("/proc/{first}/stat")).exists());
    for _ in 0..3 {
        manager.restart(Duration::ZERO).unwrap();
        uptimes.push(manager.statistics()["uptime"].as_u64().unwrap());
    }
    assert!(uptimes.is_sorted_by(|a, b| a < b), "{uptimes:?}");
    assert_eq!(manager.statistics()["metrics"]["events"]["received"], 0);
    assert!(!Path::new(&format!("/proc/{first}")).exists());
    let last = manager.pid().unwrap();
    assert_eq!(
        pid_files(home.path()),
        [format!("wazuh-analysisd-{last}.pid")]
    );
    manager.kill();
    assert_eq!(
        pid_files(home.path()),
        [format!("wazuh-analysisd-{last}.pid")],
        "stale after a kill"
    );
    assert!(!Path::new(&format!("/proc/{last}")).exists());
}

#[test]
fn a_loading_manager_is_bound_and_silent_and_a_dead_one_refuses() {
    let (home, manager) = start(Settings::default());
    manager.terminate().unwrap();
    let statistics = home.path().join("queue/sockets/analysis");
    assert_eq!(
        ask(&statistics, GETSTATS).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    let socket = UnixDatagram::unbound().unwrap();
    let queue = home.path().join("queue/sockets/queue");
    assert_eq!(
        socket.connect(&queue).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    manager.revive(Duration::from_millis(300)).unwrap();
    send(home.path(), 0..5);
    assert_eq!(manager.statistics()["metrics"]["events"]["received"], 0);
    assert_eq!(
        ask(&statistics, GETSTATS).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert!(manager.wait_received(5, SOON) && manager.wait_for_alerts(5, SOON));
    assert_eq!(ask(&statistics, GETSTATS).unwrap()["error"], 0);
}

#[test]
fn a_manager_before_4_4_has_no_statistics() {
    let (home, _manager) = start(Settings {
        statistics: false,
        ..Settings::default()
    });
    let path = home.path().join("queue/sockets/analysis");
    assert_eq!(
        ask(&path, GETSTATS).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_burst_beyond_the_queues_is_dropped_and_counted() {
    let settings = Settings {
        rate: Some(500.0),
        others: 100,
        processed: 100,
        alerts: 100,
        ..Settings::default()
    };
    let (home, manager) = start(settings);
    send(home.path(), 0..5_000);
    assert!(manager.wait_received(5_000, SOON));
    let dropped = manager.dropped();
    assert!(dropped > 1_000, "{dropped}");
    manager.tune(|settings| settings.rate = None);
    assert!(manager.wait_idle(SOON));
    assert!(manager.wait_for_alerts(5_000 - usize::try_from(dropped).unwrap(), SOON));
    assert_eq!(missing(&manager, 5_000) as u64, dropped);
}
