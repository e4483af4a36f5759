//! Long campaigns, on demand.

mod campaign;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// Long campaigns, on demand.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Kills, power cuts, bad disks, clocks, rivals and faults of both sides against the real
    /// binary; an oracle judges what was lost and what was repeated
    Campaign(campaign::Arguments),
}

fn main() -> ExitCode {
    let Task::Campaign(arguments) = Task::parse();
    match campaign::run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("campaign: {why}");
            ExitCode::FAILURE
        }
    }
}
