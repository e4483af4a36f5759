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
mod marks;
pub mod microsoft;
mod shield;
mod stopping;
mod surroundings;
mod teeth;
mod terminal;
pub mod wazuh;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use config::Settings;
pub use error::{Error, Result};

/// Runs the program with its raw arguments, the program's name first, in a process of its own: a collection closes every
/// descriptor that the process was started with.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Who closes it has seen enough of the help.
            if let Err(fault) = error.print()
                && fault.kind() != ErrorKind::BrokenPipe
                && !error.use_stderr()
            {
                drop(writeln!(
                    io::stderr(),
                    "o365-wodle: standard output: {fault}"
                ));
                return Error::TryLater(String::new()).exit_code();
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let verbosity = if cli.quiet {
        -1
    } else {
        i8::try_from(cli.verbose).unwrap_or(2)
    };
    let result = run(&cli, verbosity);
    config::stop_commands();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What is not well stands on standard output, not in the log.
            let is_verdict = matches!(cli.command, Some(Command::Status(_) | Command::Doctor(_)))
                && matches!(error, Error::Partial(_));
            if !is_verdict {
                log::error!("{error}");
            }
            // With a logger on standard error it was just said.
            let is_said = !is_verdict
                && log::max_level() > log::LevelFilter::Off
                && verbosity >= 0
                && (verbosity > 0 || io::stderr().is_terminal());
            if !is_said && verbosity >= 0 {
                // As in the log, but for its lines.
                let may_command = |char: char| char.is_control() && char != '\n';
                let said = error.to_string().replace(may_command, " ");
                drop(writeln!(io::stderr(), "o365-wodle: {said}"));
            }
            error.exit_code()
        }
    }
}

fn run(cli: &Cli, verbosity: i8) -> Result<()> {
    let now = chrono::Utc::now();
    let mut out = command::Output(io::stdout().lock());
    let default = Command::Run(cli::Run::default());
    let command = cli.command.as_ref().unwrap_or(&default);
    // A scheduler starts these. The others may be handed files as descriptors: `--from <(…)`.
    if matches!(command, Command::Run(_) | Command::Backfill(_)) {
        surroundings::settle();
    }
    // After that: a process that nobody may look into cannot list its own descriptors, unless it is root's.
    shield::raise();
    match command {
        Command::Run(arguments) => {
            drop(out);
            with_settings(cli, verbosity, |settings| {
                command::run::run(settings, arguments, cli.quiet)
            })
        }
        Command::Backfill(arguments) => {
            // A wrong command line is said before a wrong configuration.
            let span = command::backfill::span(arguments, now)?;
            drop(out);
            with_settings(cli, verbosity, |settings| {
                command::backfill::backfill(settings, arguments, span, now, cli.quiet)
            })
        }
        Command::Status(arguments) => with_settings(cli, verbosity, |settings| {
            command::status::status(settings, arguments, now, &mut out)
        }),
        Command::Subscriptions(command) => with_settings(cli, verbosity, |settings| {
            command::subscriptions::subscriptions(settings, command, &mut out)
        }),
        Command::Check => command::check::check(&cli.config, &mut out),
        Command::Doctor(arguments) => {
            command::doctor::doctor(&cli.config, arguments, now, &mut out)
        }
        Command::Setup { write: false } => command::setup::print(&mut out),
        Command::Setup { write: true } => command::setup::write(&cli.config, now, &mut out),
        Command::Tenant(command) => command::tenant::tenant(&cli.config, command, &mut out),
        Command::ImportNative { ossec_conf } => {
            command::import_native::import(&cli.config, ossec_conf.as_deref(), now, &mut out)
        }
        Command::Completions { shell } => command::completions::completions(*shell, &mut out),
        Command::Man { folder } => command::man::man(folder),
    }
}

/// Does a command's work with the settings, and the logger that they ask for.
fn with_settings(
    cli: &Cli,
    verbosity: i8,
    work: impl FnOnce(&Settings) -> Result<()>,
) -> Result<()> {
    let settings = Settings::load(&cli.config).inspect_err(|_| {
        // Of what a scheduler starts nobody sees more than the exit code.
        let log = Settings::log_alone(&cli.config);
        if matches!(cli.command, None | Some(Command::Run(_)))
            && log
                .file
                .as_deref()
                .is_some_and(|file| logging::open(file).is_ok())
        {
            logging::start(&log, verbosity);
        }
    })?;
    logging::start(&settings.log, verbosity);
    work(&settings).map_err(|error| error.of_ledger(&settings.state.ledger))
}
