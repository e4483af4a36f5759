//! `completions`: what a shell needs to complete our command line.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::unsaid;
use crate::Result;
use crate::cli::Cli;

/// Prints the completion script of a shell.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn completions(shell: Shell, out: &mut impl Write) -> Result<()> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "o365-wodle", &mut script);
    out.write_all(&script).map_err(unsaid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(shell, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}
