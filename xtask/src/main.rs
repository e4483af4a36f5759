//! Long campaigns and benches, on demand.

mod campaign;
mod cjson;
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
    /// Shaped events against the real cJSON library
    Cjson {
        /// How many generated records, besides the samples
        #[arg(default_value_t = 100_000)]
        count: u64,
    },
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Cjson { count } => {
            cjson::run(count);
            ExitCode::SUCCESS
        }
        Task::Campaign(arguments) => match campaign::run(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(why) => {
                eprintln!("campaign: {why}");
                ExitCode::FAILURE
            }
        },
    }
}
