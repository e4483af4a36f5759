//! Long campaigns and benches, on demand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a trial fails by panicking, and a figure is rounded"
)]

mod bench;
mod campaign;
mod cjson;
mod delivery;
mod fuzz;
#[path = "../../tests/hostile/mod.rs"]
mod hostile;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// Long campaigns and benches, on demand.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Kills, power cuts, bad disks, clocks, rivals and faults of both sides against the real
    /// binary; an oracle judges what was lost and what was repeated
    Campaign(campaign::Arguments),
    /// Delivery to a manager that confirms, at its full rate and under kills
    Delivery(delivery::Arguments),
    /// Whole runs of the program: time, processor and memory beside the floor of the machine
    Bench(bench::Arguments),
    /// The fuzz targets, each for a while, with cargo-fuzz
    Fuzz(fuzz::Arguments),
    /// A process of the bench's own
    #[command(subcommand, hide = true)]
    Part(bench::Part),
    /// Shaped events against the real cJSON library
    Cjson {
        /// How many generated records, besides the samples
        #[arg(default_value_t = 100_000)]
        count: u64,
    },
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Cjson { count } => {
            cjson::run(count);
            Ok(true)
        }
        Task::Campaign(arguments) => campaign::run(&arguments),
        Task::Delivery(arguments) => delivery::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments).map(|()| true),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Part(part) => bench::part(part).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
