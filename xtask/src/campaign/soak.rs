//! Row 16: weeks of runs with kills, a manager that dies and faults of the API together, then a quiet end.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rustix::process::{Pid, Signal, kill_process};
use simulator::microsoft::{Options, Plan, Violation};
use simulator::oracle::Oracle;
use simulator::wazuh::Settings;

use super::api::{Often, faults, rule};
use super::bench::{Bench, TYPES};
use super::clocks::FAKETIME;
use super::kill::Random;
use super::{Case, Column, Setup, Trial};

/// Records in a blob.
const RECORDS: usize = 100;
/// What a kill may repeat: what is handed over between two commits.
const BATCH: usize = 2_000;
/// From this day on the ledger forgets as much as it learns: ids are remembered for 8 days, in buckets of two.
const FULL: usize = 11;
/// Room for ids that wait to be sorted into their buckets, in bytes: 102,000 of them.
const UNSORTED: u64 = 3 << 20;
/// The most memory of a run that was not disturbed.
const PEAK: u64 = 64 << 20;

/// Row 16.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let days = column.of(18, 60);
    let records = column
        .records
        .unwrap_or(column.of(50_000, 2_000_000))
        .div_ceil(days);
    let mut cases = Vec::new();
    for seed in column.seeds(1) {
        cases.push(Case::new(
            format!("{days} days of {records} records, seed {seed}"),
            move |setup| Trial {
                tries: days * records,
                ..soak(setup, days, records, Random(seed))
            },
        ));
    }
    cases
}

fn soak(setup: &Arc<Setup>, days: usize, records: usize, mut random: Random) -> Trial {
    let manager = Settings {
        rate: None,
        ..Settings::default()
    };
    let options = Options {
        gzip: false,
        ..Options::default()
    };
    let mut bench = Bench::new(setup, options).with_manager(manager);
    bench.oracle = Oracle::cheap();
    // The log grows with what there is to say, and this is not what is measured here.
    bench.set("log", "level", "\"info\"");
    // A content that is listed late is found behind the marker.
    bench.set("collect", "overlap", "\"6h\"");
    bench.set("collect", "resweep", "\"1d\"");
    bench.set("http", "request_timeout", "\"1s\"");
    bench.allow(&[Violation::StartTooSoon, Violation::AlreadyEnabled]);
    let mut sizes = Vec::new();
    for day in 0..days {
        issue(&mut bench, records);
        disturb(&mut bench, &mut random, day);
        bench.arrived();
        bench.microsoft.advance(Duration::from_hours(24));
        sizes.push(ledger_size(&bench));
    }
    bench.microsoft.faults(Plan::default());
    // From here on the clock is the true one again.
    bench.rotate();
    bench.until_clean();
    let (ended, peak) = bench.measured(&["run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}\nlog: {}", bench.tail());
    assert!(peak <= PEAK, "{} MiB of memory at the peak", peak >> 20);
    let (full, later) = sizes.split_at(FULL + 3);
    let full = full[FULL..].iter().max().unwrap();
    let later = later.iter().max().unwrap();
    assert!(
        *later <= full * 3 / 2 + UNSORTED,
        "the ledger grows: {sizes:?}"
    );
    bench.judge()
}

fn issue(bench: &mut Bench, records: usize) {
    let streams = bench.tenants.len() * TYPES.len();
    let blobs = records.div_ceil(RECORDS * streams);
    for tenant in 0..bench.tenants.len() {
        for content_type in TYPES {
            for blob in 0..blobs {
                let ago = TimeDelta::seconds(i64::try_from(blob % 3_600).unwrap());
                let made = (0..RECORDS).map(|_| bench.records.sized(500)).collect();
                let created = bench.microsoft.now() - ago;
                bench.issue_these(tenant, content_type, made, created);
            }
        }
    }
    bench.microsoft.advance(Duration::from_secs(2));
}

/// A run with three faults of the API, that is killed, or whose manager dies, or neither; so many days later.
fn disturb(bench: &mut Bench, random: &mut Random, day: usize) {
    let all = faults();
    let mut plan = Plan::new(random.below(1 << 30));
    for _ in 0..3 {
        let at = usize::try_from(random.below(all.len() as u64)).unwrap();
        let (operation, action) = all[at].clone();
        let often = if random.below(2) == 0 {
            Often::Once
        } else {
            Often::Twice
        };
        let from = u32::try_from(1 + random.below(6)).unwrap();
        plan = plan.rule(rule(operation, action, often).from(from));
    }
    bench.microsoft.faults(plan);
    // What is forgotten has to be old by the clock here as well.
    let clock = format!("+{day}d");
    let mut later = FAKETIME.to_vec();
    later.push(&clock);
    let mut run = bench
        .command(&later, &["run", "--deadline", "30s"])
        .spawn()
        .unwrap();
    let moment = random.moment(Duration::from_millis(1_500));
    match random.below(3) {
        0 => {
            std::thread::sleep(moment);
            // faketime waits for the program as its child, if it has not ended yet.
            let children = format!("/proc/{0}/task/{0}/children", run.id());
            for child in fs::read_to_string(children).unwrap().split_whitespace() {
                let child = Pid::from_raw(child.parse().unwrap()).unwrap();
                kill_process(child, Signal::KILL).unwrap();
                bench.allowed += BATCH;
            }
            run.wait().unwrap();
            return;
        }
        1 => {
            std::thread::sleep(moment);
            let confirmed = super::bench::confirmed(&bench.ledger());
            let manager = bench.manager.as_ref().unwrap();
            manager.kill();
            manager.revive(Duration::from_millis(200)).unwrap();
            // Whatever was not confirmed before may come again.
            let issued = bench.oracle.verdict().issued;
            bench.allowed += issued.saturating_sub(confirmed);
        }
        _ => {}
    }
    let ended = bench.wait(run);
    assert!(
        matches!(ended.code, Some(0 | 3 | 75 | 77)),
        "{ended:?}\nlog: {}",
        bench.tail()
    );
}

/// The ledger's bytes, its log apart.
fn ledger_size(bench: &Bench) -> u64 {
    fs::metadata(bench.ledger()).map_or(0, |metadata| metadata.len())
}
