//! Rows 1 and 2: `kill -9` at every system call, and at random moments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use simulator::microsoft::Options;
use simulator::wazuh::Settings;

use super::bench::{Bench, Ended, kill_after};
use super::{Case, Column, Setup, Trial};

/// What can change a file, a socket or what another process sees.
const CALLS: &str = "openat,close,fcntl,flock,pread64,pwrite64,write,writev,fsync,fdatasync,ftruncate,fallocate,\
    unlink,rename,link,linkat,sendto,sendmsg,sendmmsg,recvfrom,connect,mmap,munmap,fchmod,newfstatat,statx,futex,\
    epoll_wait,clone3,exit_group";

/// What a run that is killed has behind it, and who reads its events.
#[derive(Debug, Clone, Copy)]
struct Scene {
    /// It is not the first one: the ledger exists.
    is_later: bool,
    /// A manager confirms.
    is_acknowledged: bool,
}

const SCENES: [Scene; 4] = [
    Scene {
        is_later: false,
        is_acknowledged: false,
    },
    Scene {
        is_later: true,
        is_acknowledged: false,
    },
    Scene {
        is_later: false,
        is_acknowledged: true,
    },
    Scene {
        is_later: true,
        is_acknowledged: true,
    },
];

impl Scene {
    fn bench(self, setup: &Arc<Setup>, seed: u64, latency: Duration) -> Bench {
        let options = Options {
            seed,
            latency,
            ..Options::default()
        };
        let mut bench = Bench::new(setup, options);
        if self.is_acknowledged {
            bench = bench.with_manager(Settings::default());
        }
        bench.issue_some();
        if self.is_later {
            bench.until_clean();
            bench.issue_some();
        }
        bench
    }
}

/// Row 1.
pub(super) fn sweep(column: &Column) -> Vec<Case> {
    let mut points = Vec::new();
    for scene in SCENES {
        for (call, count) in counts(&scene.bench(&column.setup, 1, Duration::ZERO)) {
            // A run more or less has a few calls more or less.
            points.extend((1..=count + 2).map(|when| (scene, call.clone(), when)));
        }
    }
    let wanted = column.of(300, usize::MAX).min(points.len());
    let mut cases = Vec::new();
    for seed in column.seeds(20) {
        for number in 0..wanted {
            // Spread over all points, and over others with each seed.
            let shift = usize::try_from(seed).unwrap_or(0) - 1;
            let (scene, call, when) =
                points[(number * points.len() / wanted + shift) % points.len()].clone();
            let name = format!("{call} {when}, {scene:?}, seed {seed}");
            cases.push(Case::new(name, move |setup| {
                let mut bench = scene.bench(setup, seed, Duration::ZERO);
                let inject = format!("inject={call}:signal=SIGKILL:when={when}");
                let trace = format!("trace={call}");
                let ended = bench.go(&strace(&["-e", &trace, "-e", &inject]));
                let struck = ended.code.is_none();
                if struck {
                    bench.cut_off();
                }
                bench.until_clean();
                Trial {
                    missed: !struck,
                    ..bench.judge()
                }
            }));
        }
    }
    cases
}

/// The command line of a quiet strace. Not `--seccomp-bpf`, with which its signals never come.
pub(super) fn strace<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["strace", "-f", "-qqq", "-o", "/dev/null"], more].concat()
}

/// A run in which strace injects something; whether it did.
pub(super) fn injected(bench: &Bench, more: &[&str]) -> (Ended, bool) {
    let file = bench.folder.path().join("injected");
    let strace = ["strace", "-f", "-qqq", "-o", file.to_str().unwrap()];
    let ended = bench.go(&[&strace, more].concat());
    let trace = std::fs::read_to_string(file).unwrap_or_default();
    (ended, trace.contains("(INJECTED)"))
}

/// How often each call is made by the thread that makes it most: strace counts by thread.
fn counts(bench: &Bench) -> BTreeMap<String, usize> {
    let file = bench.folder.path().join("trace");
    let trace = format!("trace={CALLS}");
    let ended = bench.go(&[
        "strace",
        "-f",
        "-qqq",
        "-o",
        file.to_str().unwrap(),
        "-e",
        &trace,
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut threads: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else {
            continue;
        };
        if let Some((call, _)) = rest.split_once('(') {
            *threads
                .entry((call.to_owned(), thread.to_owned()))
                .or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in threads {
        let known = most.entry(call).or_insert(0);
        *known = count.max(*known);
    }
    most
}

/// Row 2.
pub(super) fn random(column: &Column) -> Vec<Case> {
    // So slow that a run can be killed several times on its way.
    let latency = Duration::from_millis(5);
    let bench = SCENES[0].bench(&column.setup, 1, latency);
    let begin = Instant::now();
    bench.until_clean();
    let usual = begin.elapsed();
    drop(bench);
    let runs = u64::try_from(column.of(100, 5_000)).unwrap_or(u64::MAX);
    let mut cases = Vec::new();
    for seed in column.seeds(1) {
        for number in 0..runs {
            let scene = SCENES[usize::try_from(number % 4).unwrap_or(0)];
            cases.push(Case::new(
                format!("run {number}, {scene:?}, seed {seed}"),
                move |setup| killed(setup, scene, Random(seed << 32 | number), usual, latency),
            ));
        }
        for number in 0..runs / 20 {
            cases.push(Case::new(
                format!("a large blob {number}, seed {seed}"),
                move |setup| killed_over_a_large_blob(setup, Random(seed << 32 | number)),
            ));
        }
    }
    cases
}

/// Killed in the midst of several batches: no more than one of them may come again.
fn killed_over_a_large_blob(setup: &Arc<Setup>, mut random: Random) -> Trial {
    const RECORDS: usize = 10_000;
    let mut bench = Bench::new(setup, Options::default());
    bench.issue_one(RECORDS);
    let mut child = bench.spawn(&[]);
    let read = usize::try_from(random.below(RECORDS as u64)).unwrap();
    assert!(bench.queue.wait_for(read, Duration::from_secs(30)));
    let missed = kill_after(&mut child, Duration::ZERO);
    bench.cut_off();
    bench.until_clean();
    Trial {
        missed,
        ..bench.judge()
    }
}

fn killed(
    setup: &Arc<Setup>,
    scene: Scene,
    mut random: Random,
    usual: Duration,
    latency: Duration,
) -> Trial {
    let mut bench = scene.bench(setup, random.below(1 << 30), latency);
    for _ in 0..=random.below(5) {
        let moment = random.moment(usual * 5 / 4);
        let mut child = bench.spawn(&[]);
        if kill_after(&mut child, moment) {
            continue;
        }
        bench.cut_off();
    }
    bench.until_clean();
    bench.judge()
}

/// Numbers that look random and are the same for the same seed.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub(super) fn moment(&mut self, within: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(within.as_micros()).unwrap_or(u64::MAX)))
    }
}
