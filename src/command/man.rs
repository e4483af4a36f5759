//! `man`: the manual as man pages, one for the program and one a command.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::{Error, Result};

/// Writes `o365-wodle.1` and `o365-wodle-COMMAND.1` into a folder that is there.
///
/// # Errors
/// [`Error::Usage`] if the folder cannot be written.
pub(crate) fn man(folder: &Path) -> Result<()> {
    clap_mangen::generate_to(Cli::command(), folder).map_err(|error| {
        Error::Usage(format!(
            "man pages cannot be written into {}: {error}; name a folder that exists and that you may write",
            folder.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        let main = std::fs::read_to_string(folder.path().join("o365-wodle.1")).unwrap();
        assert!(
            main.contains("configuration error"),
            "the exit codes are missing"
        );
        for command in Cli::command().get_subcommands() {
            let page = format!("o365-wodle-{}.1", command.get_name());
            assert!(folder.path().join(&page).is_file(), "{page}");
        }
    }

    #[test]
    fn a_missing_folder_is_wrong_use() {
        let folder = tempfile::tempdir().unwrap();
        let error = man(&folder.path().join("none")).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
    }
}
