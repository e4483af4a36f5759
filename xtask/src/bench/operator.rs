//! What an operator waits for: `status` and `doctor` of 300 tenants.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use simulator::microsoft::{CONTENT_TYPES, Options};
use simulator::world::World;

use super::measure::{Figures, figures, median};
use super::table;

/// Where the table stands in README.md.
const BEGIN: &str = "<!-- cargo xtask bench: operator -->\n";

const TENANTS: usize = 300;
/// Of each content type.
const BLOBS: usize = 20;
const LATENCY: Duration = Duration::from_millis(20);

/// A command, what it has before it, and how long it may take.
struct Wait {
    name: &'static str,
    what: &'static str,
    arguments: &'static [&'static str],
    at_most: Duration,
}

const WAITS: [Wait; 3] = [
    Wait {
        name: "status",
        what: "300 tenants, 30,000 blobs in the ledger",
        arguments: &["status"],
        at_most: Duration::from_millis(200),
    },
    Wait {
        name: "status --json",
        what: "the same",
        arguments: &["status", "--json"],
        at_most: Duration::from_millis(200),
    },
    Wait {
        name: "doctor",
        what: "300 tenants, 20 ms a request",
        arguments: &["doctor"],
        at_most: Duration::from_mins(1),
    },
];

/// Whether one of these is asked for by name; all of them if nothing is.
pub(super) fn is_wanted(only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|name| name == "operator")
}

/// Measures all, each so many times over the same ledger, and prints the table.
///
/// # Errors
/// A run fails, or takes longer than it may.
#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
pub(super) fn measure(binary: &Path, runs: usize, into_readme: bool) -> Result<(), String> {
    eprintln!("operator: {TENANTS} tenants");
    let world = collected(binary)?;
    let mut text = table::day_and_machine();
    text.push_str(
        ". Wall and processor time in ms, memory in MB.\n\n\
         | | | wall | may take | CPU | peak | requests |\n\
         | --- | --- | --: | --: | --: | --: | --: |\n",
    );
    let mut late = Vec::new();
    for wait in WAITS {
        let before = world.microsoft.request_count();
        let all: Result<Vec<Figures>, String> = (0..runs)
            .map(|_| figures(&world.command(wait.arguments)))
            .collect();
        let requests = (world.microsoft.request_count() - before) / runs;
        let figures = median(all?).ok_or("no runs")?;
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {:.1} | {requests} |",
            wait.name,
            wait.what,
            figures.wall.as_millis(),
            wait.at_most.as_millis(),
            figures.cpu.as_millis(),
            figures.peak as f64 / 1e6,
        )
        .ok();
        if figures.wall > wait.at_most {
            late.push(wait.name);
        }
    }
    println!("{text}");
    if into_readme {
        table::into_readme(BEGIN, &text)?;
    }
    if late.is_empty() {
        Ok(())
    } else {
        Err(format!("{}: longer than it may take", late.join(", ")))
    }
}

/// A world in which everything of so many tenants was collected.
fn collected(binary: &Path) -> Result<World, String> {
    let options = Options {
        latency: LATENCY,
        ..Options::default()
    };
    let mut world = World::with_tenants(TENANTS, options);
    binary.clone_into(&mut world.binary);
    world.set("log", "level", "\"info\"");
    for tenant in 0..TENANTS {
        let id = world.id(tenant);
        world.microsoft.subscribe_all(&id);
        for content_type in CONTENT_TYPES {
            for blob in 0..BLOBS {
                let ago = TimeDelta::minutes(1 + i64::try_from(blob).unwrap_or_default() * 60);
                let created = world.microsoft.now() - ago;
                let record = world.records.sized(700);
                world.microsoft.issue(&id, content_type, [record], created);
            }
        }
    }
    let output = world.run(&["run"]);
    if output.status.success() {
        Ok(world)
    } else {
        Err(format!(
            "the run before: {:?}\n{}",
            output.status,
            world.log()
        ))
    }
}
