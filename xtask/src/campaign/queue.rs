//! Row 8: the queue socket gone, stale, full, of a wrong type; Wazuh restarted with events in memory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use simulator::microsoft::Options;
use simulator::wazuh::Settings;

use super::bench::Bench;
use super::kill::{Random, injected};
use super::{Case, Column, Setup, Trial, Work};

/// What a case does.
/// How Wazuh ends while events are in its memory.
#[derive(Debug, Clone, Copy)]
enum End {
    Terminated,
    Killed,
}

/// Row 8.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, work: Work| {
        cases.push(Case::new(name, work));
    };
    for seed in column.seeds(20) {
        for way in ["missing", "stale", "a file", "a folder", "a stream socket"] {
            add(
                format!("{way}, seed {seed}"),
                Box::new(move |setup| unusable(setup, way)),
            );
        }
        add(format!("denied, seed {seed}"), Box::new(denied));
        for error in ["ENOBUFS", "EAGAIN", "EMSGSIZE", "ECONNREFUSED"] {
            for when in [1, 2, 50] {
                let name = format!("{error} from send {when}, seed {seed}");
                add(name, Box::new(move |setup| send_fails(setup, error, when)));
            }
        }
        add(
            format!("full for a second, seed {seed}"),
            Box::new(|setup| full(setup, false)),
        );
        add(
            format!("full for ever, seed {seed}"),
            Box::new(|setup| full(setup, true)),
        );
        for number in 0..4 {
            let random = Random(seed << 32 | number);
            let name = format!("closed in the midst of a blob {number}, seed {seed}");
            add(name, Box::new(move |setup| closed(setup, random)));
        }
        for end in [End::Terminated, End::Killed] {
            for number in 0..6 {
                add(
                    format!("{end:?} in the midst {number}, seed {seed}"),
                    Box::new(move |setup| restarted(setup, end, Random(seed << 32 | number))),
                );
            }
        }
    }
    cases
}

fn bench(setup: &Arc<Setup>) -> Bench {
    let mut bench = Bench::new(setup, Options::default());
    bench.issue_some();
    bench
}

/// Exit code 75 or 78 before Microsoft is asked anything; then all is well again.
fn unusable(setup: &Arc<Setup>, way: &str) -> Trial {
    let bench = bench(setup);
    let path = bench.queue.path().to_owned();
    bench.queue.close();
    if way != "stale" {
        bench.queue.unlink().unwrap();
    }
    let _listener = match way {
        "a file" => {
            fs::write(&path, "").unwrap();
            None
        }
        "a folder" => {
            fs::create_dir(&path).unwrap();
            None
        }
        "a stream socket" => Some(UnixListener::bind(&path).unwrap()),
        _ => None,
    };
    let ended = bench.go(&[]);
    assert!(matches!(ended.code, Some(75 | 78)), "{ended:?}");
    assert!(ended.stderr.contains("queue"), "{ended:?}");
    assert_eq!(bench.microsoft.request_count(), 0, "Microsoft was called");
    if way == "a folder" {
        fs::remove_dir(&path).unwrap();
    }
    bench.queue.rebind().unwrap();
    bench.until_clean();
    bench.judge()
}

/// The user without rights.
pub(super) const NOBODY: u32 = 65_534;

/// Another user runs us, and the socket belongs to root.
fn denied(setup: &Arc<Setup>) -> Trial {
    let bench = bench(setup);
    bench.configure();
    let queue = bench.queue.path().to_owned();
    hand_to(bench.folder.path(), NOBODY);
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&queue, Some(0), Some(0)).unwrap();
    fs::set_permissions(&queue, fs::Permissions::from_mode(0o660)).unwrap();
    // The program may lie where only root can go.
    let copy = bench.copy_of_binary();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .arg("--config")
        .arg(bench.config())
        .arg("run")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(78),
        "{said}\nlog: {}",
        bench.tail()
    );
    assert!(
        said.contains("permission") && said.contains("queue"),
        "{said}"
    );
    hand_to(bench.folder.path(), 0);
    bench.until_clean();
    bench.judge()
}

pub(super) fn hand_to(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            hand_to(&entry.unwrap().path(), user);
        }
    }
}

/// The system refuses a datagram, three times from the nth on.
fn send_fails(setup: &Arc<Setup>, error: &str, when: usize) -> Trial {
    let mut bench = bench(setup);
    let inject = format!("inject=sendmmsg:error={error}:when={when}..{}", when + 2);
    let (ended, struck) = injected(&bench, &["-e", "trace=sendmmsg", "-e", &inject]);
    assert!(
        matches!(ended.code, Some(0 | 3 | 75)),
        "{ended:?}\nlog: {}",
        bench.tail()
    );
    bench.cut_off();
    bench.microsoft.advance(Duration::from_hours(2));
    bench.rotate();
    bench.until_clean();
    Trial {
        missed: !struck,
        ..bench.judge()
    }
}

/// The reader dies in the midst, with what it had not read, and another takes over.
fn closed(setup: &Arc<Setup>, mut random: Random) -> Trial {
    const RECORDS: usize = 5_000;
    let mut bench = Bench::new(setup, Options::default());
    // Between what is read and what the kernel keeps nobody can tell.
    bench.queue.slow(Some(3_000.0));
    bench.issue_one(RECORDS);
    let run = bench.spawn(&[]);
    let read = usize::try_from(random.below(RECORDS as u64 - 500)).unwrap();
    assert!(bench.queue.wait_for(read, Duration::from_secs(30)));
    bench.queue.close();
    let known = super::bench::confirmed(&bench.ledger());
    bench.allowed += bench.queue.count().saturating_sub(known);
    std::thread::sleep(random.moment(Duration::from_secs(1)));
    bench.queue.slow(None);
    bench.queue.rebind().unwrap();
    let ended = bench.wait(run);
    assert!(matches!(ended.code, Some(0 | 75)), "{ended:?}");
    bench.until_clean();
    bench.judge()
}

fn full(setup: &Arc<Setup>, is_for_ever: bool) -> Trial {
    let mut bench = bench(setup);
    bench.set(
        "wazuh",
        "send_timeout",
        if is_for_ever { "\"1s\"" } else { "\"30s\"" },
    );
    bench.queue.pause();
    let run = bench.spawn(&[]);
    if !is_for_ever {
        std::thread::sleep(Duration::from_secs(1));
        bench.queue.resume();
    }
    let ended = bench.wait(run);
    assert_eq!(
        ended.code,
        Some(if is_for_ever { 75 } else { 0 }),
        "{ended:?}\nlog: {}",
        bench.tail()
    );
    if is_for_ever {
        assert!(ended.took < Duration::from_secs(20), "{ended:?}");
        bench.queue.resume();
    }
    bench.until_clean();
    bench.judge()
}

/// A slow manager ends, with events in its memory, at a random moment of each of three runs.
fn restarted(setup: &Arc<Setup>, end: End, mut random: Random) -> Trial {
    let settings = Settings {
        rate: Some(400.0),
        ..Settings::default()
    };
    let mut bench = Bench::new(setup, Options::default()).with_manager(settings);
    for _ in 0..3 {
        bench.issue_blobs(4, 20);
        let run = bench.spawn(&[]);
        std::thread::sleep(random.moment(Duration::from_millis(2_500)));
        let manager = bench.manager.as_ref().unwrap();
        match end {
            End::Terminated => manager.terminate().unwrap(),
            End::Killed => manager.kill(),
        }
        // Whatever was not confirmed by now may come again: less than all that was issued so far.
        let confirmed = super::bench::confirmed(&bench.ledger());
        let issued = bench.oracle.verdict().issued;
        std::thread::sleep(random.moment(Duration::from_millis(500)));
        bench
            .manager
            .as_ref()
            .unwrap()
            .revive(random.moment(Duration::from_millis(1_500)))
            .unwrap();
        bench.allowed += issued.saturating_sub(confirmed);
        let ended = bench.wait(run);
        assert!(
            matches!(ended.code, Some(0 | 75)),
            "{ended:?}\nlog: {}",
            bench.tail()
        );
    }
    bench.until_clean();
    bench.judge()
}
