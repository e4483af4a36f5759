//! What can end a command, in the operator's words, each with its exit code.

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
    /// Microsoft refused every tenant (exit code 77).
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
    /// The exit code of the process, as documented in the README.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Unexpected(_) => 1,
            Self::Usage(_) => 2,
            Self::Partial(_) => 3,
            Self::TryLater(_) | Self::Busy(_) | Self::Corrupt(_) => 75,
            Self::Refused(_) => 77,
            Self::Configuration(_) => 78,
        })
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
