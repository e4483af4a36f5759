#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use super::super::acknowledge::Acknowledgement;
use super::super::queue::Queue;
use std::fs::File;

use super::*;
use crate::config::{self, EventsPerSecond};

const DONE: Verdict = Verdict::Confirmed(Assurance::Forwarded);

fn home_with_agent(rate: EventsPerSecond) -> (tempfile::TempDir, Home, config::Wazuh) {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["queue/sockets", "bin", "var/run", "etc"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    fs::write(dir.path().join("bin/wazuh-agentd"), "").unwrap();
    let config = config::Wazuh {
        home: dir.path().to_owned(),
        queue: None,
        location: "office365".to_owned(),
        events_per_second: rate,
        acknowledge: true,
        send_timeout: Duration::from_mins(1),
        annotate: None,
        flatten: false,
    };
    let home = Home::find(&config).unwrap();
    (dir, home, config)
}

fn write_state(home: &Home, written: SystemTime, status: &str, sent: u64, buffered: &str) {
    let text = format!(
        "# State file for wazuh-agentd\n\n# Agent status:\nstatus='{status}'\n\
         last_keepalive='2026-11-22 10:00:00'\nmsg_count='900'\nmsg_sent='{sent}'\n\
         msg_buffer='{buffered}'\n"
    );
    let temporary = home.path().join("var/run/state.temp");
    fs::write(&temporary, text).unwrap();
    File::options()
        .write(true)
        .open(&temporary)
        .unwrap()
        .set_modified(written)
        .unwrap();
    fs::rename(temporary, home.agent_state_file()).unwrap();
}

fn state(version: u64, connected: bool, buffered: u64, sent: u64) -> State {
    State {
        version,
        written: UNIX_EPOCH,
        connected,
        buffered,
        sent,
    }
}

fn mark() -> Mark {
    Mark {
        reader: None,
        dropped: None,
        decoded: None,
        taken: 0,
        stage: Stage::Sent,
        socket: None,
    }
}

#[test]
fn a_newer_state_with_an_empty_buffer_is_forwarded() {
    let mut mark = mark();
    let old = state(1, true, 0, 100);
    for now in [0, 50, 100, 5_000] {
        assert_eq!(assess(&mut mark, Some(0), old, now, true), Verdict::Pending);
    }
    let offline = state(2, false, 0, 100);
    assert_eq!(
        assess(&mut mark, Some(0), offline, 9_000, true),
        Verdict::Pending
    );
    let drained = state(3, true, 0, 100);
    assert_eq!(assess(&mut mark, Some(0), drained, 14_000, true), DONE);
}

#[test]
fn a_buffer_that_is_never_empty_must_send_what_it_held() {
    let mut mark = mark();
    for (version, now) in [(1, 0), (1, 100), (2, 5_000)] {
        let full = state(version, true, 400, 1_000);
        assert_eq!(
            assess(&mut mark, Some(0), full, now, true),
            Verdict::Pending
        );
    }
    for (sent, verdict) in [
        (1_400, Verdict::Pending),
        (1_400 + CONTROL_MESSAGES - 1, Verdict::Pending),
        (1_400 + CONTROL_MESSAGES, DONE),
    ] {
        let busy = state(sent, true, 300, sent);
        assert_eq!(
            assess(&mut mark, Some(0), busy, 10_000, true),
            verdict,
            "{sent}"
        );
    }
}

#[test]
fn a_state_that_appears_at_once_was_put_together_before() {
    let mut mark = mark();
    for (version, now) in [(1, 0), (2, 99), (2, 100), (2, 4_000)] {
        let early = state(version, true, 0, 0);
        assert_eq!(
            assess(&mut mark, Some(0), early, now, true),
            Verdict::Pending
        );
    }
    assert_eq!(
        assess(&mut mark, Some(0), state(3, true, 0, 0), 5_000, true),
        DONE
    );
}

#[test]
fn an_agent_is_paced_held_and_kept_below_half() {
    let (_dir, home, config) = home_with_agent(EventsPerSecond::Auto);
    let start = Instant::now();
    let mut acknowledgement = Acknowledgement::new(&home, &config);
    let later = |seconds| start + Duration::from_secs(seconds);
    // No state is written here: the pace alone.
    assert_eq!(acknowledgement.allowance(later(1)).events, 1);
    assert_eq!(acknowledgement.allowance(later(2)).events, 10);

    fs::write(home.wait_file(), "").unwrap();
    assert_eq!(acknowledgement.allowance(later(3)).events, 0);
    fs::remove_file(home.wait_file()).unwrap();
    assert_eq!(acknowledgement.allowance(later(4)).events, 10);

    let now = SystemTime::now();
    write_state(&home, now, "pending", 0, "0");
    assert_eq!(acknowledgement.allowance(later(5)).events, 0);
    write_state(
        &home,
        now + Duration::from_millis(1),
        "connected",
        0,
        "2495",
    );
    assert_eq!(acknowledgement.allowance(later(6)).events, 5);
    write_state(&home, now + Duration::from_millis(2), "connected", 0, "");
    assert_eq!(acknowledgement.allowance(later(7)).events, 10);
}

#[test]
fn what_the_state_cannot_know_yet_counts_as_waiting() {
    let (_dir, home, config) = home_with_agent(EventsPerSecond::Unlimited);
    fs::write(
        home.ossec_conf(),
        "<?xml version=\"1.0\"?>\n<ossec_config>\n<!-- x -->\n<client_buffer>\n\
         <queue_size>2000</queue_size></client_buffer></ossec_config>\n<ossec_config/>",
    )
    .unwrap();
    let now = SystemTime::now();
    write_state(&home, now, "connected", 0, "100");
    let mut acknowledgement = Acknowledgement::new(&home, &config);
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 900);
    acknowledgement.sent(900);
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 0);
    // The next state counts them itself.
    write_state(&home, now + Duration::from_secs(5), "connected", 500, "400");
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 600);
}

#[test]
fn another_agentd_has_lost_its_buffer() {
    let (dir, home, config) = home_with_agent(EventsPerSecond::Auto);
    let pid_file = |pid: u32| dir.path().join(format!("var/run/wazuh-agentd-{pid}.pid"));
    fs::write(pid_file(std::process::id()), "").unwrap();
    write_state(&home, SystemTime::now(), "connected", 0, "7");
    let mut acknowledgement = Acknowledgement::new(&home, &config);
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 1);
    acknowledgement.sent(1);
    let mut mark = acknowledgement.mark();
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), Verdict::Pending);
    let mut another = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    fs::remove_file(pid_file(std::process::id())).unwrap();
    // Stopped: unknown for now, also once its state is no longer written.
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), Verdict::Pending);
    let stale = SystemTime::now() - STALE - Duration::from_secs(1);
    write_state(&home, stale, "connected", 0, "7");
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), Verdict::Pending);
    assert_eq!(acknowledgement.assess(&mut mark, None), Verdict::Pending);
    fs::write(pid_file(another.id()), "").unwrap();
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), Verdict::Lost);
    another.kill().unwrap();
    another.wait().unwrap();
}

#[test]
fn a_state_that_only_a_suspend_makes_old_is_told_from_one_that_is_written_no_more() {
    for (age, lives_for, suspended, is) in [
        (600, 900, 599, true),
        (600, 900, 598, false),
        (600, 900, 0, false),
        // It was there before this process.
        (600, 600, 700, false),
    ] {
        let [age, lives_for, suspended] = [age, lives_for, suspended].map(Duration::from_mins);
        let is_it = is_of_suspend(age, lives_for, suspended);
        assert_eq!(is_it, is, "{age:?} {lives_for:?} {suspended:?}");
    }
}

/// As in a container of its own.
#[test]
fn where_no_process_is_seen_another_socket_is_another_agentd() {
    let (_dir, home, config) = home_with_agent(EventsPerSecond::Auto);
    let reader = UnixDatagram::bind(home.queue()).unwrap();
    write_state(&home, SystemTime::now(), "connected", 0, "7");
    let mut acknowledgement = Acknowledgement::new(&home, &config);
    acknowledgement.connected(&Queue::connect(home.queue()).unwrap());
    acknowledgement.sent(1);
    let mut mark = acknowledgement.mark();
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), Verdict::Pending);
    drop(reader);
    fs::remove_file(home.queue()).unwrap();
    // An inode of its own.
    fs::write(home.path().join("queue/between"), "").unwrap();
    let _another = UnixDatagram::bind(home.queue()).unwrap();
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), Verdict::Lost);
}

#[test]
fn the_state_of_wazuh_5_is_read_from_its_answer() {
    let data = serde_json::json!({"status": "connected", "msg_sent": 9, "msg_buffer": 4});
    let state = State::from_answer(&data, 3, UNIX_EPOCH).unwrap();
    assert_eq!(state, self::state(3, true, 4, 9));
    let data = serde_json::json!({"status": "pending", "msg_buffer": ""});
    assert!(!State::from_answer(&data, 3, UNIX_EPOCH).unwrap().connected);
    assert_eq!(
        State::from_answer(&serde_json::json!({}), 3, UNIX_EPOCH),
        None
    );
}
