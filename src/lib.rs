//! Microsoft 365 audit records into Wazuh.
//!
//! A scheduler starts us; we ask Microsoft what is new for each tenant and content type, remember
//! in a ledger what Wazuh has confirmed, hand over what it has not, and leave. Data goes one way:
//!
//! ```text
//! settings → ledger (marker) → window → token → activity (subscribe → list → fetch)
//!          → record → event → queue (send, pace, acknowledge) → ledger (confirm)
//! ```
//!
//! Only [`collect`] knows all the others; nothing below it knows `collect`, and the two outside
//! worlds, [`microsoft`] and [`wazuh`], never see each other.

pub mod array;
mod cli;
pub mod collect;
mod command;
pub mod config;
pub mod error;
pub mod ledger;
mod logging;
pub mod microsoft;
mod teeth;
pub mod wazuh;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use config::Settings;
pub use error::{Error, Result};

/// Runs the program with its raw arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A broken pipe while help is printed is nobody's concern.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let verbosity = if cli.quiet {
        -1
    } else {
        i8::try_from(cli.verbose).unwrap_or(2)
    };
    match run(&cli, verbosity) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            // With a logger on standard error it was just said.
            let is_said = log::max_level() > log::LevelFilter::Off
                && verbosity >= 0
                && (verbosity > 0 || std::io::stderr().is_terminal());
            if !is_said && verbosity >= 0 {
                drop(writeln!(std::io::stderr(), "o365-wodle: {error}"));
            }
            error.exit_code()
        }
    }
}

fn run(cli: &Cli, verbosity: i8) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let default = Command::Run(cli::Run::default());
    let command = cli.command.as_ref().unwrap_or(&default);
    match command {
        Command::Check => return command::check::check(&cli.config, &mut out),
        Command::Setup { write: false } => return command::setup::print(&mut out),
        Command::Setup { write: true } => {
            return command::setup::write(&cli.config, chrono::Utc::now(), &mut out);
        }
        Command::Tenant(command) => return command::tenant::tenant(&cli.config, command, &mut out),
        Command::Completions { shell } => {
            return command::completions::completions(*shell, &mut out);
        }
        Command::Man { folder } => return command::man::man(folder),
        Command::Run(_) | Command::Status(_) => {}
    }
    let settings = Settings::load(&cli.config)?;
    logging::start(&settings.log, verbosity);
    match command {
        Command::Run(arguments) => {
            drop(out);
            command::run::run(&settings, arguments)
        }
        Command::Status(arguments) => {
            command::status::status(&settings, arguments, chrono::Utc::now(), &mut out)
        }
        Command::Check
        | Command::Setup { .. }
        | Command::Tenant(_)
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(()),
    }
}
