//! What can end a command, in the operator's words, each with its exit code.

use std::path::Path;
use std::process::ExitCode;

/// Why a command ended without doing all that was asked.
///
/// A message names what, where and the cure, never a token, a secret or a record's content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line asks for something that does not exist (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// The configuration, or the ledger that it names, cannot be used (exit code 78).
    #[error("{0}")]
    Configuration(String),
    /// Nothing could be done for now; the next run will (exit code 75).
    #[error("{0}")]
    TryLater(String),
    /// Another run is at work (exit code 75).
    #[error("{0}")]
    Busy(String),
    /// The ledger turned out to be damaged while it was used; the caller sets it aside (75).
    #[error("the ledger is damaged: {0}")]
    Corrupt(String),
    /// The ledger's disk is full, or fails, or the file is busy (75).
    #[error("the ledger cannot be written for now: {0}. Nothing is lost: the next run goes on.")]
    Unwritable(String),
    /// Microsoft refused every tenant whose credential could be read (exit code 77).
    #[error("{0}")]
    Refused(String),
    /// Some tenants or content types failed, the others succeeded (exit code 3).
    #[error("{0}")]
    Partial(String),
    /// A fault of this program (exit code 1).
    #[error("{0}\nThis is a fault of o365-wodle; please report it with this message.")]
    Unexpected(String),
}

impl Error {
    /// Names the ledger, and the cure, where it is what is wrong: what met it knew neither.
    pub(crate) fn of_ledger(self, path: &Path) -> Self {
        let file = path.display();
        match self {
            // In the midst of a run it was set aside already.
            Self::Corrupt(why) => Self::TryLater(format!(
                "{file}: the ledger is damaged ({why}). Nothing to do: runs set it aside and read the last 7 \
                 days again; if it comes again, look at the disk."
            )),
            Self::Unwritable(why) => {
                let own = format!("{file}: ");
                let why = why.strip_prefix(&own).unwrap_or(&why);
                Self::TryLater(format!(
                    "{file}: the ledger cannot be written for now: {why}. Nothing is lost: the next run goes \
                     on; if it comes again, look at the disk."
                ))
            }
            other => other,
        }
    }

    /// The exit code of the process, as documented in the README.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Unexpected(_) => 1,
            Self::Usage(_) => 2,
            Self::Partial(_) => 3,
            Self::TryLater(_) | Self::Busy(_) | Self::Corrupt(_) | Self::Unwritable(_) => 75,
            Self::Refused(_) => 77,
            Self::Configuration(_) => 78,
        })
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_ledger_names_it_and_the_cure() {
        let path = Path::new("/var/lib/ledger.db");
        for (error, expected) in [
            (
                Error::Corrupt("malformed".into()),
                "/var/lib/ledger.db: the ledger is damaged (malformed). Nothing to do: runs set it aside and \
                 read the last 7 days again; if it comes again, look at the disk.",
            ),
            (
                Error::Unwritable("disk full".into()),
                "/var/lib/ledger.db: the ledger cannot be written for now: disk full. Nothing is lost: the \
                 next run goes on; if it comes again, look at the disk.",
            ),
            (
                Error::Unwritable("/var/lib/ledger.db: disk full".into()),
                "/var/lib/ledger.db: the ledger cannot be written for now: disk full. Nothing is lost: the \
                 next run goes on; if it comes again, look at the disk.",
            ),
        ] {
            let error = error.of_ledger(path);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.exit_code(), ExitCode::from(75));
        }
    }
}
