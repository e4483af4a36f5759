//! The built-in module's bookmarks: `var/wodles/office365-TENANT-SUBSCRIPTION` in Wazuh's home, each
//! a `time_t` of this machine. What was created before it was handed over; the module would have
//! asked for the rest from that second on.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::config::ContentType;
use crate::microsoft::CLOCK_TOLERANCE;
use crate::wazuh::file;

/// What is known of a stream of the built-in module.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bookmark {
    At(DateTime<Utc>),
    /// The module never listed it.
    None,
    /// The file holds no time of the past.
    Damaged(PathBuf),
}

/// The bookmark of a stream. Its name has the tenant and the subscription as `ossec.conf` wrote them
/// at the time; of several that differ in case the latest counts.
///
/// # Errors
/// Why the folder or the file cannot be read, and which.
pub(super) fn read(
    home: &Path,
    tenant_id: &str,
    content_type: ContentType,
    now: DateTime<Utc>,
) -> Result<Bookmark, (PathBuf, io::Error)> {
    let folder = home.join("var/wodles");
    let name = format!("office365-{tenant_id}-{content_type}");
    let entries = match fs::read_dir(&folder) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(Bookmark::None),
        entries => entries.map_err(|fault| (folder.clone(), fault))?,
    };
    let (mut latest, mut damaged) = (None, None);
    for entry in entries {
        let entry = entry.map_err(|fault| (folder.clone(), fault))?;
        if !entry.file_name().eq_ignore_ascii_case(&name) {
            continue;
        }
        let path = entry.path();
        match one(&path, now).map_err(|fault| (path.clone(), fault))? {
            Bookmark::None => {}
            Bookmark::At(time) => latest = latest.max(Some(time)),
            Bookmark::Damaged(path) => damaged = Some(path),
        }
    }
    Ok(match (latest, damaged) {
        (Some(time), _) => Bookmark::At(time),
        (None, Some(path)) => Bookmark::Damaged(path),
        (None, None) => Bookmark::None,
    })
}

/// The bookmark in a file; 0 is none to the module.
fn one(path: &Path, now: DateTime<Utc>) -> io::Result<Bookmark> {
    let mut bytes = Vec::new();
    file::open(path)?.take(9).read_to_end(&mut bytes)?;
    let seconds = <[u8; 8]>::try_from(bytes).map(i64::from_ne_bytes);
    Ok(match seconds {
        Ok(0) => Bookmark::None,
        Ok(seconds) if seconds > 0 => DateTime::from_timestamp(seconds, 0)
            .filter(|time| *time <= now + CLOCK_TOLERANCE)
            .map_or_else(|| Bookmark::Damaged(path.to_owned()), Bookmark::At),
        _ => Bookmark::Damaged(path.to_owned()),
    })
}
