//! Files that are there whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::Error;

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    /// User and group; `None`: those of this process.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: u32,
}

impl Access {
    /// The same as for another file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            owner: Some((metadata.uid(), metadata.gid())),
            mode: metadata.mode() & 0o777,
        }
    }
}

/// Puts a file in the place of `path`: a crash leaves the old one or the new one, and perhaps a
/// `.NAME.new` beside it that the next attempt clears away.
pub(super) fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let temporary = temporary(path);
    match fs::remove_file(&temporary) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    create(&temporary, content, access)?;
    fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    sync_folder(path)
}

/// Makes a new file; it is on the disk when this returns, and gone on an error.
pub(super) fn create(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    fill(file, content, access)
        .and_then(|()| sync_folder(path))
        .inspect_err(|_| drop(fs::remove_file(path)))
}

/// Takes a file away for good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_folder(path)
}

/// What a file that cannot be written means for the operator.
pub(super) fn unwritten(path: &Path, fault: &io::Error) -> Error {
    let path = path.display();
    if fault.kind() == ErrorKind::PermissionDenied {
        return Error::Configuration(format!(
            "{path}: {fault}; run this as root, or as its owner"
        ));
    }
    if matches!(fault.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        return Error::Configuration(format!(
            "{path}: {fault}; create its folder (install -d -m 750), or correct the path"
        ));
    }
    Error::TryLater(format!("{path}: {fault}; look at the disk and try again"))
}

fn fill(mut file: File, content: &[u8], access: Access) -> io::Result<()> {
    if let Some((user, group)) = access.owner {
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (user, group) {
            fchown(&file, Some(user), Some(group))?;
        }
    }
    file.set_permissions(Permissions::from_mode(access.mode))?;
    file.write_all(content)?;
    file.sync_all()
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// A name is on the disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const OURS: Access = Access {
        owner: None,
        mode: 0o640,
    };

    #[test]
    fn replaces_whole_files_and_clears_what_a_crash_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contoso");
        fs::write(temporary(&path), "left over").unwrap();
        replace(&path, b"one", OURS).unwrap();
        replace(&path, b"two", OURS).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(!temporary(&path).exists());
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contoso");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"one", OURS).is_err());
        assert!(!temporary(&path).exists());
        assert_eq!(
            create(&path, b"one", OURS).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert!(path.is_dir());
    }
}
