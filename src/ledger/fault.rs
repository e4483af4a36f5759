//! What can be wrong with a ledger.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rustix::fs::{StatVfs, StatVfsMountFlags};

use crate::Error;
use crate::config::ownership;

/// What is wrong with the ledger, said in the operator's words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// `SQLite` calls the file corrupt or no database.
    #[error("the ledger is damaged: {0}")]
    Corrupt(String),
    /// It was written by a newer version.
    #[error(
        "{}: the ledger was written by a newer version of o365-wodle. Install that version again, \
         or restore the ledger that was backed up before the upgrade.", .0.display()
    )]
    Newer(PathBuf),
    /// The path names something that is no ledger of ours.
    #[error("{}: {what}. {cure}", path.display())]
    NotOurs {
        /// The path that `[state] ledger` names.
        path: PathBuf,
        /// What stands there.
        what: String,
        /// What to do.
        cure: String,
    },
    /// Another run is at work.
    #[error("{}: another run of o365-wodle is at work; this one leaves it alone.", .0.display())]
    Locked(PathBuf),
    /// The disk is full, or fails, or the file is busy.
    #[error("the ledger cannot be written for now: {0}. Nothing is lost: the next run goes on.")]
    Unwritable(String),
    /// A statement that should have worked did not.
    #[error("the ledger: {0}")]
    Unexpected(rusqlite::Error),
}

impl Fault {
    /// Names the file, which `SQLite` does not.
    pub(super) fn at(self, path: &Path) -> Self {
        let file = path.display().to_string();
        match self {
            // SQLite itself may call it an I/O error.
            Self::Unwritable(why) if why.contains("I/O error") && has_no_room(path) => {
                Self::Unwritable(format!("{file}: the disk is full"))
            }
            // SQLite only says that it cannot open a file beside it.
            Self::Unwritable(_) if is_read_only(path) => {
                Self::Unwritable(format!("{file}: its file system is mounted read-only"))
            }
            Self::Unwritable(why) if !why.contains(&file) => {
                Self::Unwritable(format!("{file}: {why}"))
            }
            other => other,
        }
    }
}

pub(super) fn not_ours(path: &Path, what: impl Into<String>, cure: impl Into<String>) -> Fault {
    Fault::NotOurs {
        path: path.to_owned(),
        what: what.into(),
        cure: cure.into(),
    }
}

pub(super) fn of_another_program(path: &Path) -> Fault {
    not_ours(
        path,
        "this is a database of another program",
        "Name another file in [state] ledger.",
    )
}

pub(super) fn irregular(path: &Path) -> Fault {
    not_ours(
        path,
        "this is no regular file, so it cannot be the ledger",
        "Name a file in [state] ledger, or move away what stands there.",
    )
}

pub(super) fn foreign(path: &Path, what: &str, owner: &dyn Display) -> Fault {
    let cure = format!("Either {}", ownership::run_as_owner(path));
    not_ours(path, format!("{what} belongs to user id {owner}"), cure)
}

pub(super) fn denied(path: &Path) -> Fault {
    not_ours(
        path,
        "the user that runs this may not use it",
        "Run it as the user that owns the ledger, or give that one its folder and all that is in it (chown -R, chmod -R u+rwX)",
    )
}

pub(super) fn open_to_others(path: &Path, mode: &dyn Display) -> Fault {
    not_ours(
        path,
        format!("others may read or write the ledger (mode {mode})"),
        format!("Take that right away: chmod 600 {}", path.display()),
    )
}

pub(super) fn folder_open_to_others(folder: &Path, mode: &dyn Display) -> Fault {
    not_ours(
        folder,
        format!("others may write in the ledger's folder (mode {mode})"),
        format!("Make it yours alone: chmod 750 {}", folder.display()),
    )
}

/// All that may be wrong with what stands at the ledger's path, for `docs/troubleshooting.md`.
#[cfg(test)]
pub(crate) fn what_is_not_ours() -> Vec<Fault> {
    let (file, folder) = (Path::new("{file}"), Path::new("{folder}"));
    vec![
        irregular(file),
        of_another_program(file),
        foreign(file, "the ledger", &"{id}"),
        denied(file),
        open_to_others(file, &"{mode}"),
        foreign(folder, "the ledger's folder", &"{id}"),
        folder_open_to_others(folder, &"{mode}"),
    ]
}

/// Whether the file system of a file is full.
fn has_no_room(path: &Path) -> bool {
    file_system(path).is_some_and(|space| space.f_bavail == 0)
}

fn is_read_only(path: &Path) -> bool {
    file_system(path).is_some_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn file_system(path: &Path) -> Option<StatVfs> {
    let folder = path.parent().unwrap_or(Path::new("."));
    rustix::fs::statvfs(folder).ok()
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)
                if crate::teeth::is_off("disk") =>
            {
                Self::Corrupt(error.to_string())
            }
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory,
            ) => Self::Unwritable(error.to_string()),
            // A value of another type than the schema allows: only a damaged file has that.
            _ if matches!(
                error,
                rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::FromSqlConversionFailure(..)
            ) =>
            {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Unexpected(error),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let said = fault.to_string();
        match fault {
            Fault::Newer(_) | Fault::NotOurs { .. } => Self::Configuration(said),
            Fault::Locked(_) => Self::Busy(said),
            Fault::Unwritable(why) => Self::Unwritable(why),
            Fault::Corrupt(why) => Self::Corrupt(why),
            Fault::Unexpected(_) => Self::Unexpected(said),
        }
    }
}
