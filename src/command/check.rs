//! `check`: every configuration file, offline.

use std::io::Write;
use std::path::Path;

use crate::config::{Flaw, Problem, Settings};
use crate::error::{Error, Result};
use crate::ledger::{self, Fault};

/// Reads all the configuration files and the secret files that they name, looks at owner and mode of the ledger, and prints
/// every problem on a line of its own, or how many tenants there are.
///
/// # Errors
/// [`Error::Configuration`] if anything is wrong; [`Error::TryLater`] if `out` cannot be written.
pub(crate) fn check(path: &Path, out: &mut impl Write) -> Result<()> {
    let found = Settings::check(path).and_then(|settings| match ledgers_flaw(&settings) {
        None => Ok(settings),
        Some(flaw) => Err(vec![Problem {
            file: path.to_owned(),
            key: "state.ledger".to_owned(),
            flaw,
        }]),
    });
    report(path, &found, out)
        .map_err(|fault| Error::TryLater(format!("the outcome cannot be printed: {fault}")))?;
    match found {
        Ok(_) => Ok(()),
        Err(problems) => {
            let (count, plural) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
            Err(Error::Configuration(format!(
                "{count} problem{plural} in the configuration"
            )))
        }
    }
}

/// Why no run would take what stands at the ledger's path.
fn ledgers_flaw(settings: &Settings) -> Option<Flaw> {
    match ledger::may_stand_at(&settings.state.ledger) {
        Err(Fault::NotOurs { path, what, cure }) => Some(Flaw::new(
            format!("{}: {what}", path.display()),
            cure.trim_end_matches('.'),
        )),
        _ => None,
    }
}

fn report(
    path: &Path,
    found: &Result<Settings, Vec<Problem>>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    match found {
        Ok(settings) => {
            let tenants = match settings.tenants.len() {
                0 => "no tenants yet".to_owned(),
                1 => "1 tenant".to_owned(),
                count => format!("{count} tenants"),
            };
            writeln!(out, "{}: no problem found, {tenants}", path.display())
        }
        Err(problems) => problems
            .iter()
            .try_for_each(|problem| writeln!(out, "{problem}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn says_all_is_well_or_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let said = |config: &str| {
            fs::write(&path, config).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let mut out = Vec::new();
            let outcome = check(&path, &mut out).map_err(|fault| fault.to_string());
            let out = String::from_utf8(out).unwrap();
            (
                out.replace(&format!("{}/", folder.path().display()), ""),
                outcome,
            )
        };
        assert_eq!(
            said(""),
            (
                "config.toml: no problem found, no tenants yet\n".to_owned(),
                Ok(())
            )
        );
        let (out, outcome) = said("[wazuh]\nhom = 1\n[log]\nlevel = 'loud'\n");
        assert_eq!(
            out,
            "config.toml: wazuh.hom: unknown key; did you mean home?\n\
             config.toml: log.level: is not a word that is known here; write \"info\", \"error\", \"warn\", \"debug\", \"trace\"\n"
        );
        assert_eq!(outcome, Err("2 problems in the configuration".to_owned()));

        // What no run would take.
        let ledger = folder.path().join("ledger.db");
        fs::write(&ledger, "").unwrap();
        fs::set_permissions(&ledger, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            said("[state]\nledger = 'ledger.db'\n"),
            (
                "config.toml: state.ledger: ledger.db: others may read or write the ledger (mode 0644); \
                 Take that right away: chmod 600 ledger.db\n"
                    .to_owned(),
                Err("1 problem in the configuration".to_owned())
            )
        );
    }
}
