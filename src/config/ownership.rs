//! Opens files that only root and we may have written, and secrets that nobody else may read.
//!
//! The path is walked folder by folder from `/` on descriptors that stay open, so that what was
//! checked is what is read. Every folder, link and file on the way belongs to root or to the
//! running user. No folder is writable by anybody else; one further up may be if its sticky bit
//! keeps others from replacing what is not theirs (`/tmp`). Symbolic links are followed under these
//! rules, on both sides.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::problem::Flaw;

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Who else may look into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anybody may read it.
    Configuration,
    /// Nobody else may read it but, at most, the group `wazuh`.
    Secret,
}

/// Opens a regular file for reading and checks it, on the descriptor, together with all the
/// folders that hold it.
///
/// # Errors
/// What is wrong with which of them, and the cure.
pub fn open(path: &Path, kind: Kind) -> Result<File, Flaw> {
    let (parent, name, stat) = walk(path)?;
    check_type(path, &stat)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        openat(&parent, &name, flags, Mode::empty()).map_err(|fault| unopened(path, fault))?;
    let stat = fstat(&file).map_err(|fault| unopened(path, fault))?;
    check_owner(path, &stat)?;
    check_writers(path, &stat)?;
    if kind == Kind::Secret {
        check_readers(path, &stat, wazuh_group())?;
    }
    Ok(file.into())
}

/// Checks a program as [`open`] does a file of the configuration; whoever runs it need not be able to read it.
///
/// # Errors
/// As [`open`].
pub fn check_program(path: &Path) -> Result<(), Flaw> {
    let (_, _, stat) = walk(path)?;
    check_type(path, &stat)?;
    check_owner(path, &stat)?;
    check_writers(path, &stat)
}

fn check_type(path: &Path, stat: &Stat) -> Result<(), Flaw> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        return Ok(());
    }
    let what = format!("{} is no regular file", path.display());
    Err(Flaw::new(what, "name a file"))
}

/// Reads a whole file of at most `limit` bytes after the checks of [`open`].
///
/// # Errors
/// As [`open`]; a longer file; a read that fails.
pub fn read(path: &Path, kind: Kind, limit: usize) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    read_bounded(open(path, kind)?, limit)
        .map_err(|fault| {
            let what = format!("{} cannot be read: {fault}", path.display());
            Flaw::new(what, "look at the disk and at the file")
        })?
        .ok_or_else(|| {
            let what = format!("{} is longer than {limit} bytes", path.display());
            Flaw::new(what, "name the right file")
        })
}

/// Everything up to the end, or `None` if that is more than `limit` bytes. The buffer never grows,
/// so no copy of its content is left behind.
pub(super) fn read_bounded(
    source: impl Read,
    limit: usize,
) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 64));
    source.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// The names in a folder, sorted, after the checks of [`open`]; `None` if there is no such folder.
///
/// # Errors
/// What is wrong with the folder, and the cure.
pub fn list(path: &Path) -> Result<Option<Vec<PathBuf>>, Flaw> {
    // any other fault is told by the walk
    if path
        .symlink_metadata()
        .is_err_and(|fault| fault.kind() == ErrorKind::NotFound)
    {
        return Ok(None);
    }
    let (parent, name, _) = walk(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder =
        openat(&parent, &name, flags, Mode::empty()).map_err(|fault| unopened(path, fault))?;
    let stat = fstat(&folder).map_err(|fault| unopened(path, fault))?;
    check_owner(path, &stat)?;
    check_writers(path, &stat)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder).map_err(|fault| unopened(path, fault))? {
        let entry = entry.map_err(|fault| unopened(path, fault))?;
        names.push(PathBuf::from(OsString::from_vec(
            entry.file_name().to_bytes().to_vec(),
        )));
    }
    names.sort();
    Ok(Some(names))
}

/// Goes to the folder that really holds `path`: that folder, the last name, and what stands there.
fn walk(path: &Path) -> Result<(OwnedFd, OsString, Stat), Flaw> {
    let absolute = std::path::absolute(path).map_err(|fault| {
        Flaw::new(
            format!("{} is no path: {fault}", path.display()),
            "name a file",
        )
    })?;
    let mut ahead = names(&absolute);
    let mut shown = PathBuf::from("/");
    let mut folder = look(CWD, "/".as_ref())
        .map_err(|fault| unopened(path, fault))?
        .0;
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        let here = fstat(&folder).map_err(|fault| unopened(path, fault))?;
        check_owner(&shown, &here)?;
        let (entry, stat) = look(&folder, &name).map_err(|fault| unopened(path, fault))?;
        let next = shown.join(&name);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let last = ahead.is_empty() && kind != FileType::Symlink;
        // what lies directly in a folder needs more than the sticky bit: others could add to it
        if last || here.st_mode & 0o1000 == 0 {
            check_writers(&shown, &here)?;
        }
        if kind == FileType::Symlink {
            check_owner(&next, &stat)?;
            links += 1;
            if links > MAX_LINKS {
                return Err(unopened(path, Errno::LOOP));
            }
            let target =
                readlinkat(&entry, "", Vec::new()).map_err(|fault| unopened(path, fault))?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                folder = look(CWD, "/".as_ref())
                    .map_err(|fault| unopened(path, fault))?
                    .0;
                shown = PathBuf::from("/");
            }
            let mut through = names(&target);
            through.append(&mut ahead);
            ahead = through;
        } else if last {
            return Ok((folder, name, stat));
        } else {
            folder = entry;
            if name == ".." {
                shown.pop();
            } else {
                shown = next;
            }
        }
    }
    Err(Flaw::new(
        format!("{} is no file", path.display()),
        "name a file",
    ))
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// A descriptor that only marks the place: nothing is opened in the sense of a device or pipe.
fn look(folder: impl AsFd, name: &std::ffi::OsStr) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = openat(folder, name, flags, Mode::empty())?;
    let stat = fstat(&entry)?;
    Ok((entry, stat))
}

fn unopened(path: &Path, fault: Errno) -> Flaw {
    let path = path.display();
    match fault {
        Errno::NOENT => Flaw::new(
            format!("{path} does not exist"),
            "create it, or correct the path",
        ),
        Errno::NOTDIR => Flaw::new(
            format!("{path} is no folder, or lies in what is none"),
            "move away what is in a folder's place, or correct the path",
        ),
        Errno::ACCESS | Errno::PERM => Flaw::new(
            format!("{path} may not be opened by this user"),
            "run as root or as its owner",
        ),
        fault => {
            let fault = std::io::Error::from(fault);
            Flaw::new(
                format!("{path} cannot be opened: {fault}"),
                "name a readable file",
            )
        }
    }
}

/// The cure for what belongs to another user than root and the running one: an installation whose commands are all that
/// user's stays so unless root is to take it over.
pub(crate) fn run_as_owner(path: &Path) -> String {
    format!(
        "run this as that user (runuser -u NAME -- o365-wodle …), or, if root is to run it, chown root {}",
        path.display()
    )
}

fn check_owner(path: &Path, stat: &Stat) -> Result<(), Flaw> {
    if stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let cure = run_as_owner(path);
    let path = path.display();
    let owner = stat.st_uid;
    Err(Flaw::new(
        format!("{path} belongs to user {owner}, neither to root nor to the running user"),
        cure,
    ))
}

fn check_writers(path: &Path, stat: &Stat) -> Result<(), Flaw> {
    if stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    // Everybody's, such as /tmp: no right of it may be taken away.
    let is_shared = stat.st_mode & 0o1002 == 0o1002;
    let path = path.display();
    Err(Flaw::new(
        format!(
            "{path} is writable by others (mode {:04o})",
            stat.st_mode & 0o7777
        ),
        if is_shared {
            format!("move what is used out of {path} into a folder that is yours alone")
        } else {
            format!("chmod go-w {path}")
        },
    ))
}

fn check_readers(path: &Path, stat: &Stat, wazuh: Option<u32>) -> Result<(), Flaw> {
    let open_to = stat.st_mode & 0o077;
    if open_to == 0 || (open_to == 0o040 && wazuh == Some(stat.st_gid)) {
        return Ok(());
    }
    let path = path.display();
    Err(Flaw::new(
        format!(
            "{path} is readable by others (mode {:04o})",
            stat.st_mode & 0o7777
        ),
        format!("chmod 0600 {path}"),
    ))
}

/// The number of the group `wazuh`, as far as `/etc/group` knows it.
pub(crate) fn wazuh_group() -> Option<u32> {
    group_id(&std::fs::read_to_string("/etc/group").ok()?, "wazuh")
}

fn group_id(groups: &str, name: &str) -> Option<u32> {
    let entry = groups
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    entry.split(':').nth(1)?.parse().ok()
}

/// Whether this process may write to a path, by its effective user and capabilities.
///
/// # Errors
/// Why not.
pub fn may_write(path: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder of ours with one secret in it, and what `open` says after `change`.
    fn after(change: impl Fn(&Path)) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "x").unwrap();
        chmod(&secret, 0o600);
        change(folder.path());
        let root = folder.path().to_str().unwrap().to_owned();
        open(&secret, Kind::Secret)
            .map(drop)
            .map_err(|flaw| flaw.to_string().replace(&root, "DIR"))
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn says(change: impl Fn(&Path)) -> String {
        after(change).unwrap_err()
    }

    #[test]
    fn what_others_may_write_or_read_is_refused() {
        assert_eq!(after(|_| {}), Ok(()));
        assert_eq!(after(|dir| chmod(&dir.join("secret"), 0o400)), Ok(()));
        assert_eq!(
            says(|dir| chmod(&dir.join("secret"), 0o644)),
            "DIR/secret is readable by others (mode 0644); chmod 0600 DIR/secret"
        );
        assert_eq!(
            says(|dir| chmod(&dir.join("secret"), 0o620)),
            "DIR/secret is writable by others (mode 0620); chmod go-w DIR/secret"
        );
        assert_eq!(
            says(|dir| chmod(dir, 0o777)),
            "DIR is writable by others (mode 0777); chmod go-w DIR"
        );
        assert_eq!(
            says(|dir| chmod(dir, 0o1777)),
            "DIR is writable by others (mode 1777); move what is used out of DIR into a folder that is yours alone"
        );
    }

    #[test]
    fn what_is_no_file() {
        let remove = |dir: &Path| fs::remove_file(dir.join("secret")).unwrap();
        assert_eq!(
            says(remove),
            "DIR/secret does not exist; create it, or correct the path"
        );
        let folder = |dir: &Path| {
            remove(dir);
            fs::create_dir(dir.join("secret")).unwrap();
        };
        assert_eq!(says(folder), "DIR/secret is no regular file; name a file");
        let pipe = |dir: &Path| {
            remove(dir);
            rustix::fs::mknodat(CWD, dir.join("secret"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        };
        assert_eq!(says(pipe), "DIR/secret is no regular file; name a file");
    }

    #[test]
    fn links_are_followed_where_both_sides_are_safe() {
        let linked = |mode| {
            move |dir: &Path| {
                let place = dir.join("elsewhere");
                fs::create_dir(&place).unwrap();
                fs::rename(dir.join("secret"), place.join("secret")).unwrap();
                symlink("./elsewhere/../elsewhere/secret", dir.join("secret")).unwrap();
                chmod(&place, mode);
            }
        };
        assert_eq!(after(linked(0o750)), Ok(()));
        assert_eq!(
            says(linked(0o770)),
            "DIR/elsewhere is writable by others (mode 0770); chmod go-w DIR/elsewhere"
        );
        let around = |dir: &Path| {
            fs::remove_file(dir.join("secret")).unwrap();
            symlink("secret", dir.join("secret")).unwrap();
        };
        assert!(says(around).starts_with("DIR/secret cannot be opened: "));
    }

    #[test]
    fn foreign_owners() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let chown = |path: &Path| std::os::unix::fs::lchown(path, Some(4321), None).unwrap();
        assert_eq!(
            says(|dir| chown(&dir.join("secret"))),
            "DIR/secret belongs to user 4321, neither to root nor to the running user; run this as that user (runuser -u NAME -- o365-wodle …), or, if root is to run it, chown root DIR/secret"
        );
        assert_eq!(
            says(chown),
            "DIR belongs to user 4321, neither to root nor to the running user; run this as that user (runuser -u NAME -- o365-wodle …), or, if root is to run it, chown root DIR"
        );
    }

    #[test]
    fn the_group_wazuh_may_read() {
        let groups = "root:x:0:\nwazuhx:x:7:\nwazuh:x:118:someone\n";
        assert_eq!(group_id(groups, "wazuh"), Some(118));
        assert_eq!(group_id("root:x:0:\n", "wazuh"), None);
        let folder = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(folder.path()).unwrap();
        (stat.st_mode, stat.st_gid) = (0o100_640, 118);
        assert!(check_readers(Path::new("s"), &stat, Some(118)).is_ok());
        assert!(check_readers(Path::new("s"), &stat, Some(119)).is_err());
        assert!(check_readers(Path::new("s"), &stat, None).is_err());
        stat.st_mode = 0o100_644;
        assert!(check_readers(Path::new("s"), &stat, Some(118)).is_err());
    }
}
