//! Row 4: disks that are full or fail, at each call in turn, and one that is really full.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use simulator::microsoft::Options;

use super::bench::{Bench, Ended};
use super::kill::injected;
use super::power::Image;
use super::{Case, Column, Setup, Trial};

/// A call that writes, and how often it is made to fail, each time in a trial of its own: more than
/// any run makes of it.
const CALLS: [(&str, usize); 10] = [
    ("openat", 10),
    ("pwrite64", 40),
    ("write", 3),
    ("fsync", 4),
    ("fdatasync", 12),
    ("unlink", 5),
    ("rename", 2),
    ("ftruncate", 4),
    ("fchmod", 2),
    ("mmap", 3),
];

/// Row 4.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in column.seeds(5) {
        let mut turn = 0;
        for is_later in [false, true] {
            for (call, count) in CALLS {
                for when in 1..=count {
                    for error in ["ENOSPC", "EIO", "EDQUOT"] {
                        turn += 1;
                        // For CI each call with one error, in turn.
                        if !column.is_release && turn % 3 != (turn / 3) % 3 {
                            continue;
                        }
                        let name =
                            format!("{error} at {call} {when}, later run: {is_later}, seed {seed}");
                        cases.push(Case::new(name, move |setup| {
                            failing(setup, seed, call, when, error, is_later)
                        }));
                    }
                }
            }
        }
    }
    for is_later in [false, true] {
        cases.push(Case::new(
            format!("a full disk, later run: {is_later}"),
            move |setup| full(setup, is_later),
        ));
    }
    for kilobytes in (40..=280).step_by(20) {
        cases.push(Case::new(
            format!("a new ledger with {kilobytes} kB left"),
            move |setup| nearly_full(setup, kilobytes),
        ));
    }
    for kilobytes in [1, 16, 64, 100, 140] {
        cases.push(Case::new(
            format!("no file over {kilobytes} kB"),
            move |setup| limited(setup, kilobytes),
        ));
    }
    cases
}

fn bench(setup: &Arc<Setup>, seed: u64) -> Bench {
    let mut bench = Bench::new(
        setup,
        Options {
            seed,
            ..Options::default()
        },
    );
    bench.issue_some();
    bench
}

/// The error at one call on one of the ledger's files.
fn failing(
    setup: &Arc<Setup>,
    seed: u64,
    call: &str,
    when: usize,
    error: &str,
    is_later: bool,
) -> Trial {
    let mut bench = bench(setup, seed);
    if is_later {
        bench.until_clean();
        bench.issue_some();
    }
    let ledger = bench.ledger().display().to_string();
    let files = ["", ".lock", ".new", ".new-wal", ".new-shm", "-wal", "-shm"]
        .map(|end| format!("{ledger}{end}"));
    let inject = format!("inject={call}:error={error}:when={when}");
    let trace = format!("trace={call}");
    let mut more = vec!["-e", &trace, "-e", &inject];
    for file in &files {
        more.extend(["-P", file]);
    }
    let (ended, struck) = injected(&bench, &more);
    said_clearly(&bench, &ended);
    bench.cut_off();
    bench.until_clean();
    Trial {
        missed: !struck,
        ..bench.judge()
    }
}

/// It did not matter, or nothing could be done for now, and a person was told why.
fn said_clearly(bench: &Bench, ended: &Ended) {
    assert!(
        matches!(ended.code, Some(0 | 75)),
        "{ended:?}\nlog: {}",
        bench.tail()
    );
    if ended.code == Some(75) {
        assert!(
            ended.stderr.starts_with("o365-wodle: ") && ended.stderr.contains("ledger"),
            "unclear: {}",
            ended.stderr
        );
    }
}

/// A disk of 8 MB without a free block.
fn full(setup: &Arc<Setup>, is_later: bool) -> Trial {
    let disk = Image::new("8M").and_then(|image| image.mount()).unwrap();
    let mut bench = bench(setup, 1);
    bench.ledger = disk.ledger();
    if is_later {
        bench.until_clean();
        bench.issue_some();
    }
    let filler = disk.ledger().with_file_name("filler");
    fill(&filler);
    let ended = bench.go(&[]);
    assert_eq!(ended.code, Some(75), "{ended:?}\nlog: {}", bench.tail());
    said_clearly(&bench, &ended);
    bench.cut_off();
    fs::remove_file(filler).unwrap();
    bench.until_clean();
    bench.judge()
}

/// A disk on which a new ledger may or may not find room. What there was no room for is no damage.
fn nearly_full(setup: &Arc<Setup>, kilobytes: usize) -> Trial {
    let disk = Image::new("8M").and_then(|image| image.mount()).unwrap();
    let mut bench = bench(setup, 1);
    bench.ledger = disk.ledger();
    let reserve = disk.ledger().with_file_name("reserve");
    fs::write(&reserve, vec![b'x'; kilobytes << 10]).unwrap();
    let filler = disk.ledger().with_file_name("filler");
    fill(&filler);
    fs::remove_file(reserve).unwrap();
    let ended = bench.go(&[]);
    said_clearly(&bench, &ended);
    bench.cut_off();
    fs::remove_file(filler).unwrap();
    bench.until_clean();
    let log = bench.tail();
    assert!(!log.contains("set aside"), "{log}");
    bench.judge()
}

/// Writes until not a byte more fits: ext4 gives back what it kept in reserve when it has allocated.
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    for piece in [1 << 20, 4_096, 512, 1] {
        let bytes = vec![b'x'; piece];
        while filler.write_all(&bytes).is_ok() {}
        filler.sync_all().unwrap();
    }
}

/// `ulimit -f`: writes beyond it fail, or end the program by SIGXFSZ.
fn limited(setup: &Arc<Setup>, kilobytes: u32) -> Trial {
    let mut bench = bench(setup, 1);
    let script = format!("ulimit -f {kilobytes}; trap '' XFSZ; exec \"$@\"");
    let ended = bench.go(&["bash", "-c", &script, "limited"]);
    said_clearly(&bench, &ended);
    bench.cut_off();
    bench.until_clean();
    bench.judge()
}
