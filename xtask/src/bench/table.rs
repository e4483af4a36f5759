//! The table, as README.md has it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::measure::Figures;
use super::workload::{Measured, Seen};

pub(super) const BEGIN: &str = "<!-- cargo xtask bench -->\n";
const END: &str = "<!-- end -->\n";

/// The table in Markdown, with machine and date.
pub(super) fn of(all: &[Measured]) -> String {
    let mut text = format!(
        "{}. Wall and processor time in ms, memory in MB; A: the same blobs fetched and thrown away, B: the same \
         datagrams sent from memory, ratio: ours to A + B; syncs: how often a run asks the disk to synchronise, counted in a \
         run of its own. What is handed over is committed in batches of at most 2,000 events or 250 ms.\n\n\
         | | | wall | A | B | ratio | CPU | A + B | ratio | peak | requests | syncs | instructions a record | events |\n\
         | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
        day_and_machine(),
    );
    for measured in all {
        row(&mut text, measured).ok();
    }
    text
}

fn row(text: &mut String, measured: &Measured) -> std::fmt::Result {
    let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1000.0);
    let ratio = |ours: Duration, floor: Duration| {
        format!("{:.2}", ours.as_secs_f64() / floor.as_secs_f64())
    };
    let blank = || [const { String::new() }; 5];
    let ours = measured.ours;
    let [a, b, wall_ratio, floor_cpu, cpu_ratio] = match (measured.fetch, measured.send) {
        (Some(fetch), Some(send)) => {
            let sum = |of: fn(&Figures) -> Duration| of(&fetch) + of(&send);
            let (wall, cpu) = (sum(|figures| figures.wall), sum(|figures| figures.cpu));
            [
                ms(fetch.wall),
                ms(send.wall),
                ratio(ours.wall, wall),
                ms(cpu),
                ratio(ours.cpu, cpu),
            ]
        }
        _ => match measured.network() {
            Some(network) => {
                let mut cells = blank();
                cells[0] = format!("{} (network)", ms(network));
                cells[2] = ratio(ours.wall, network);
                cells
            }
            None => blank(),
        },
    };
    let seen = match measured.seen {
        Some(Seen { rate, dropped }) => format!(" ({rate:.0}/s, {dropped} dropped)"),
        None => String::new(),
    };
    let instructions = match measured.instructions {
        Some(count) => format!("{:.1}k", count as f64 / 1000.0),
        None => String::new(),
    };
    writeln!(
        text,
        "| {} | {} | {} | {a} | {b} | {wall_ratio} | {} | {floor_cpu} | {cpu_ratio} | {:.1} | {} | {} | {instructions} | {}{seen} |",
        measured.workload.name,
        measured.workload.what,
        ms(ours.wall),
        ms(ours.cpu),
        ours.peak as f64 / 1e6,
        measured.requests,
        measured.syncs,
        measured.events,
    )
}

/// When and where figures were taken.
pub(super) fn day_and_machine() -> String {
    format!("{}, {}", chrono::Utc::now().format("%Y-%m-%d"), machine())
}

/// Cores and processor.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    format!("{cores} cores of {model}")
}

/// Replaces the table behind the mark `begin` in README.md.
pub(super) fn into_readme(begin: &str, table: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(said)?;
    let new = text.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some([before, begin, table, END, after].concat())
    });
    let new = new.ok_or("README.md has no place for the table")?;
    fs::write(&path, new).map_err(said)
}
