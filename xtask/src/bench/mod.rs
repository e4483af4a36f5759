//! Whole runs of the program, each beside its floor: what the machine takes for the same blobs fetched and thrown away
//! (A), and for the same datagrams sent from memory to the same reader (B).

mod counts;
mod floor;
pub(crate) mod measure;
mod operator;
mod remembered;
mod table;
mod workload;

use std::path::{Path, PathBuf};

use crate::tools;
use workload::WORKLOADS;

/// What is asked to be measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this workload (repeatable), or `operator`: what `status` and `doctor` of 300 tenants take
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Runs of each, of which the median by wall time counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// The program to measure [default: the workspace's, built like this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Write the table into README.md
    #[arg(long)]
    readme: bool,
    /// Only count the instructions that a record, and a run that finds nothing, take under valgrind, and fail if they are too
    /// many for the build that `.ci/run` makes, or a faster one
    #[arg(long, conflicts_with_all = ["only", "runs", "readme"])]
    instructions: bool,
}

/// Instructions that a record may take in the build of `.ci/run`: a tenth more than it took when this was written (28,985; a
/// release build takes 25,111). Whoever makes it faster lowers this.
const MOST_A_RECORD: u64 = 32_000;

/// The same of a run of one tenant over TLS that finds nothing (48.9 million, about half of them for the machine's
/// certificates, of which others have more).
const MOST_A_RUN: u64 = 60_000_000;

/// Processes that the bench starts of itself, so that their processor time and memory are their own.
#[derive(clap::Subcommand)]
pub(crate) enum Part {
    /// Runs a command and tells what it took
    Measure {
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Floor A: fetches the addresses of a file
    Fetch {
        /// How to sign in, then one address a line
        list: PathBuf,
        /// Requests at once
        concurrency: usize,
    },
    /// Floor B: sends datagrams
    Send {
        /// The queue socket
        socket: PathBuf,
        /// The events, as `run --dry-run` prints them
        events: PathBuf,
    },
}

/// Measures and prints the table.
///
/// # Errors
/// Something that it needs is missing, or a run fails.
#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let binary = tools::program(arguments.binary.as_deref())?;
    if arguments.instructions {
        return instructions(&binary);
    }
    let mut results = Vec::new();
    for workload in WORKLOADS {
        let wanted = |name: &String| workload.name == name;
        if !arguments.only.is_empty() && !arguments.only.iter().any(wanted) {
            continue;
        }
        eprintln!("{}: {}", workload.name, workload.what);
        results.push(workload.measure(&binary, arguments.runs.max(1))?);
    }
    if !results.is_empty() {
        let text = table::of(&results);
        println!("{text}");
        if arguments.readme {
            table::into_readme(table::BEGIN, &text)?;
        }
    }
    if operator::is_wanted(&arguments.only) {
        operator::measure(&binary, arguments.runs.max(1), arguments.readme)?;
    }
    Ok(())
}

/// The gate of CI: unlike a time, the number is the same on a busy machine.
#[allow(clippy::print_stdout, reason = "what was asked for")]
fn instructions(binary: &Path) -> Result<(), String> {
    let counted = [
        (
            "a record",
            counts::instructions_a_record(workload::PLAIN, binary)?,
            MOST_A_RECORD,
        ),
        (
            "a run that finds nothing",
            counts::instructions(workload::IDLE, binary)?,
            MOST_A_RUN,
        ),
    ];
    for (what, taken, most) in counted {
        println!("{taken} instructions for {what}, of {most} allowed");
    }
    match counted.into_iter().find(|(_, taken, most)| taken > most) {
        None => Ok(()),
        Some((what, taken, most)) => Err(format!(
            "{what} takes {taken} instructions, more than {most}: make it cheaper, or raise the limit in \
             xtask/src/bench/mod.rs and say why"
        )),
    }
}

/// One of the bench's own processes.
///
/// # Errors
/// What kept it from its work.
pub(crate) fn part(part: Part) -> Result<(), String> {
    match part {
        Part::Measure { command } => measure::measure(&command),
        Part::Fetch { list, concurrency } => floor::fetch(&list, concurrency),
        Part::Send { socket, events } => floor::send(&socket, &events),
    }
}
