//! Files of Wazuh, which its group may write.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// The largest `ossec.conf`, or `agent.conf`, that is read.
pub const LARGEST_CONF: u64 = 4 * 1024 * 1024;
/// The largest of the others: states, versions, secrets.
pub const LARGEST: u64 = 64 * 1024;

/// Opens a file to read. A pipe in its place, which nobody may ever write into, is none, and neither is a device, which may
/// have no end.
///
/// # Errors
/// It cannot be opened, or is no file.
pub fn open(path: &Path) -> io::Result<File> {
    // It tells at once of a pipe, and says nothing to a file.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no file"))
    }
}

/// Reads a file of at most so many bytes. It may hold secrets: the buffer is as large as the file, so that no copy is left
/// behind.
///
/// # Errors
/// As [`open`]; it cannot be read, or is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read_opened(open(path)?, limit)
}

/// As [`read`], of a file that is open.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read_opened(file: File, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = file.metadata()?.len().min(limit);
    let capacity = usize::try_from(length).unwrap_or_default() + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let read = file.take(limit + 1).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        let what = format!(
            "it is longer than {limit} bytes, which none of Wazuh's needs to be: shorten it"
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn only_a_file_that_is_not_too_long_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(*read(&path, 5).unwrap(), b"12345");
        let refused = |path: &Path| read(path, 4).unwrap_err().to_string();
        assert!(refused(&path).starts_with("it is longer than 4 bytes"));
        assert_eq!(refused(Path::new("/dev/zero")), "it is no file");
        assert_eq!(refused(folder.path()), "it is no file");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(refused(&pipe), "it is no file");
    }
}
