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
    Cjson,
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Cjson => {
            cjson::run(100_000);
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
