//! The ledger as a file: its lock, its creation, what may stand at its path, setting it aside.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{Error as MigrationError, M, MigrationDefinitionError, Migrations};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::fault::{
    denied, folder_open_to_others, foreign, irregular, not_ours, of_another_program, open_to_others,
};
use super::seen::seen_table;
use super::{Fault, number};
use crate::config::Flaw;
use crate::config::ownership::{self, Kind, may_write};
use crate::stopping::Stopping;
use crate::teeth;

/// `o365` in ASCII: marks the file as ours in its header.
const APPLICATION_ID: i32 = 0x6f33_3635;

/// The shortest database that there is: one of its smallest pages.
const SHORTEST: u64 = 512;

/// Each released schema is one step; steps are never changed, only added.
const STEPS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("backfill.sql"),
    include_str!("health.sql"),
    include_str!("requests.sql"),
    include_str!("told.sql"),
    include_str!("standing.sql"),
    include_str!("too_long.sql"),
];

/// How a ledger came to be open.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// It was there.
    Existing,
    /// There was none: this is the first run.
    New,
    /// It was damaged and stands aside; the last 7 days have to be read again.
    Recovered,
}

/// The right to be the only run; given back when dropped, or by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// What the lock is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A run: it has the lock at once or not at all, unless a round of a backfill is about to end.
    Run,
    /// A round of a backfill, which waits for whoever has it.
    Backfill,
}

/// The longest that a round of a backfill may keep a run waiting.
pub const ROUND: Duration = Duration::from_secs(30);

/// How often a lock that is waited for is tried.
const TRY_EVERY: Duration = Duration::from_millis(100);

impl Lock {
    /// Takes the lock beside the ledger.
    ///
    /// # Errors
    /// [`Fault::Locked`] while another run holds it, or if it is not worth waiting any more;
    /// otherwise what is wrong with the folder.
    pub fn take(ledger: &Path, purpose: Purpose, stopping: &Stopping) -> Result<Self, Fault> {
        let since = Instant::now();
        loop {
            match Self::try_take(ledger, purpose) {
                Err(Fault::Locked(path)) => {
                    let goes_on = match purpose {
                        Purpose::Backfill => true,
                        // A round needs a moment to end in order.
                        Purpose::Run => {
                            since.elapsed() < ROUND + ROUND / 3
                                && fs::read(lock_file(ledger)).is_ok_and(|text| text == BACKFILL)
                        }
                    };
                    if !goes_on || stopping.is_wished() {
                        return Err(Fault::Locked(path));
                    }
                }
                taken => return taken,
            }
            stopping.pause(TRY_EVERY);
        }
    }

    /// Takes the lock at once or not at all.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn try_take(ledger: &Path, purpose: Purpose) -> Result<Self, Fault> {
        let path = lock_file(ledger);
        check_folder(ledger)?;
        if may_write(folder(ledger)) == Err(Errno::ACCESS) {
            return Err(denied(folder(ledger)));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::ISDIR | Errno::LOOP) => not_ours(
                    &path,
                    "this is no regular file, so it cannot be the ledger's lock",
                    "Remove it; the next run makes its own.",
                ),
                _ => unwritable(&path)(error),
            })?;
        match file.try_lock() {
            Ok(()) => {
                let purpose: &[u8] = match purpose {
                    Purpose::Run => b"",
                    Purpose::Backfill => BACKFILL,
                };
                // Without it runs do not wait, that is all; a disk that is full says so elsewhere.
                file.set_len(0)
                    .and_then(|()| file.write_all(purpose))
                    .unwrap_or_default();
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) if teeth::is_off("lock") => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Fault::Locked(ledger.to_owned())),
            Err(TryLockError::Error(error)) => Err(unwritable(&path)(error)),
        }
    }
}

/// What the lock file holds while a round of a backfill is at work.
const BACKFILL: &[u8] = b"backfill";

/// The key of this installation, beside the ledger; made when first asked for, and kept unless the run `is_dry`. What is
/// hashed with it stays comparable within the installation and means nothing outside.
///
/// # Errors
/// The file cannot be read or made, or is not as long as a key.
pub fn installation_key(ledger: &Path, is_dry: bool) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let path = beside(ledger, "key");
    match ownership::read(&path, Kind::Secret, 4096) {
        Ok(key) if key.len() == 32 => return Ok(key),
        _ if !path.exists() => {}
        read => {
            let flaw = read.err().unwrap_or_else(|| {
                Flaw::new(
                    "it holds no key",
                    "Restore it; a new one (remove the file) makes hashes that match no old ones",
                )
            });
            return Err(Fault::NotOurs {
                path,
                what: format!("the key for redaction cannot be used: {}", flaw.what),
                cure: format!("{}.", flaw.cure),
            });
        }
    }
    let mut key = Zeroizing::new(vec![0; 32]);
    aws_lc_rs::rand::fill(&mut key)
        .map_err(|_| Fault::Unwritable("no random numbers can be had".to_owned()))?;
    if is_dry {
        return Ok(key);
    }
    let new = beside(&path, "new");
    remove(&new).map_err(unwritable(&new))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&key).and_then(|()| file.sync_all()))
        .map_err(unwritable(&new))?;
    place(&new, &path)?;
    Ok(key)
}

/// Opens the file for a run that holds the [`Lock`].
pub(super) fn open(path: &Path, now: DateTime<Utc>) -> Result<(Connection, Opened), Fault> {
    let is_there = check_file(path)?;
    if !is_there {
        create(path)?;
        return Ok((connect(path, Access::Alone)?, Opened::New));
    }
    match connect(path, Access::Alone) {
        Ok(connection) => Ok((connection, Opened::Existing)),
        Err(Fault::Corrupt(why)) => {
            if teeth::is_off("aside") {
                create(path)?;
                return Ok((connect(path, Access::Alone)?, Opened::New));
            }
            set_aside(path, &why, now)?;
            Ok((connect(path, Access::Alone)?, Opened::Recovered))
        }
        Err(fault) => Err(fault),
    }
}

/// Opens the file for reading only, if it is there.
pub(super) fn read(path: &Path) -> Result<Option<Connection>, Fault> {
    if !check_file(path)? {
        return Ok(None);
    }
    // A reader of a write-ahead log has to write its index, so the file is opened for writing.
    let connection = connect(path, Access::Beside)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(Some(connection))
}

/// Makes a new ledger and puts it in its place.
fn create(path: &Path) -> Result<(), Fault> {
    let new = prepare(path, None)?;
    for stale in [beside(path, "wal"), beside(path, "shm")] {
        remove(&stale).map_err(unwritable(path))?;
    }
    place(&new, path)
}

/// Sets a damaged ledger aside as `ledger.db.corrupt-TIME`, says so, and puts a new one in its
/// place that knows of it. A crash at any moment leaves one of the two at `path`.
///
/// # Errors
/// A full or failing disk.
pub fn set_aside(path: &Path, why: &str, now: DateTime<Utc>) -> Result<(), Fault> {
    let stamp = now.format("%Y%m%dT%H%M%S%.3fZ");
    let aside = PathBuf::from(format!("{}.corrupt-{stamp}", path.display()));
    let new = prepare(path, Some(now))?;
    for companion in ["wal", "shm"] {
        match fs::rename(beside(path, companion), beside(&aside, companion)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(unwritable(path)(error));
            }
            _ => {}
        }
    }
    fs::hard_link(path, &aside).map_err(unwritable(path))?;
    place(&new, path)?;
    log::error!(
        "{}: the ledger is damaged ({why}). It was set aside as {}; the last 7 days are read again, \
         so records of that time come a second time.",
        path.display(),
        aside.display()
    );
    Ok(())
}

/// Makes a whole new ledger under another name: a file at `path` itself is always a complete one,
/// so an empty one can only be what a crash of the machine left of it.
fn prepare(path: &Path, recovered: Option<DateTime<Utc>>) -> Result<PathBuf, Fault> {
    let new = beside(path, "new");
    for stale in [new.clone(), beside(&new, "wal"), beside(&new, "shm")] {
        remove(&stale).map_err(unwritable(path))?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .map_err(unwritable(path))?;
    let mut connection = Connection::open_with_flags(
        &new,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Nobody knows of it before it is whole; then all of it is synchronised at once. A log beside it would stay behind on a
    // full disk, with all that is in it.
    connection.pragma_update(None, "journal_mode", "memory")?;
    connection.pragma_update(None, "synchronous", "off")?;
    migrate(&mut connection, path)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    if let Some(recovered) = recovered {
        connection.execute(
            "INSERT INTO value (name, value) VALUES ('recovered', ?1)",
            [recovered.timestamp_millis().to_string()],
        )?;
    }
    connection
        .close()
        .map_err(|(_, error)| Fault::from(error))?;
    File::open(&new)
        .and_then(|file| file.sync_all())
        .map_err(unwritable(path))?;
    Ok(new)
}

fn place(new: &Path, path: &Path) -> Result<(), Fault> {
    fs::rename(new, path)
        .and_then(|()| File::open(folder(path))?.sync_all())
        .map_err(unwritable(path))
}

/// Opens the file, or an empty ledger in memory where there is none, for a run without a trace.
pub(super) fn open_dry(path: &Path) -> Result<Connection, Fault> {
    if check_file(path)? {
        return connect(path, Access::Dry);
    }
    let mut connection = Connection::open_in_memory()?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Fault {
    move |error| match error.kind() {
        // No later run may either.
        ErrorKind::PermissionDenied => denied(path),
        _ => Fault::Unwritable(format!("{}: {error}", path.display())),
    }
}

/// What the ledger is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// A run, which has the [`Lock`].
    Alone,
    /// A run without a trace, which has it too.
    Dry,
    /// Reading, beside a run or not.
    Beside,
}

fn connect(path: &Path, access: Access) -> Result<Connection, Fault> {
    let length = fs::metadata(path).map_err(unwritable(path))?.len();
    if length == 0 {
        return Err(Fault::Corrupt("the file is empty".to_owned()));
    }
    // For SQLite a header without an end is an empty database, and then one of another program.
    if length < SHORTEST {
        return Err(Fault::Corrupt("the file is cut off".to_owned()));
    }
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID {
        return Err(of_another_program(path));
    }
    settle(&connection)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A run of an earlier version may be at work, whose tables are not to be read.
    let lock = (access == Access::Beside && version < number(STEPS.len()))
        .then(|| Lock::try_take(path, Purpose::Run));
    let _lock = lock.transpose()?;
    if access == Access::Alone {
        migrate(&mut connection, path)?;
    } else {
        migrate_for_now(&connection, version, path)?;
    }
    check(&connection)?;
    Ok(connection)
}

/// Write-ahead log with a synchronisation a commit: no power cut lost a commit (see the campaign).
fn settle(connection: &Connection) -> Result<(), Fault> {
    let (journal, synchronous) = match () {
        () if teeth::is_off("sync") => ("wal", "off"),
        () if teeth::is_off("sync-commit") => ("wal", "normal"),
        () if teeth::is_off("wal") => ("delete", "extra"),
        () => ("wal", "full"),
    };
    connection.pragma_update(None, "journal_mode", journal)?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    // KiB. Four times as much is no faster, with millions of ids neither.
    connection.pragma_update(None, "cache_size", -512)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrations() -> Migrations<'static> {
    Migrations::new(STEPS.iter().copied().map(M::up).collect())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    migrations()
        .to_latest(connection)
        .map_err(|error| match error {
            MigrationError::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
                Fault::Newer(path.to_owned())
            }
            MigrationError::RusqliteError { err, .. } => not_migrated(err),
            other => Fault::Corrupt(other.to_string()),
        })
}

/// As [`migrate`], in a transaction that nobody commits: the file stays what it is.
fn migrate_for_now(connection: &Connection, version: i64, path: &Path) -> Result<(), Fault> {
    let done = usize::try_from(version)
        .map_err(|_| Fault::Corrupt("its schema has no version".to_owned()))?;
    let Some(steps) = STEPS.get(done..) else {
        return Err(Fault::Newer(path.to_owned()));
    };
    if !steps.is_empty() {
        connection.execute_batch("BEGIN IMMEDIATE")?;
    }
    for step in steps {
        connection.execute_batch(step).map_err(not_migrated)?;
    }
    Ok(())
}

fn not_migrated(error: rusqlite::Error) -> Fault {
    match Fault::from(error) {
        Fault::Unexpected(error) => Fault::Corrupt(error.to_string()),
        fault => fault,
    }
}

/// The schema and the small tables in full, which costs next to nothing; damage elsewhere is found
/// when it is met.
fn check(connection: &Connection) -> Result<(), Fault> {
    // Damaged text would make an error of a statement, which is not told from a fault of ours.
    let mut ours = Connection::open_in_memory()?;
    migrations()
        .to_latest(&mut ours)
        .map_err(|error| Fault::Corrupt(error.to_string()))?;
    let (there, ours) = (schema(connection)?, schema(&ours)?);
    let is_whole = ours.is_subset(&there)
        && there
            .difference(&ours)
            .all(|(name, text)| !name.starts_with("seen_") || *text == seen_table(name));
    if !is_whole {
        return Err(Fault::Corrupt("its schema is not ours".to_owned()));
    }
    for table in ["tenant", "stream", "value"] {
        let said: String =
            connection.query_row(&format!("PRAGMA integrity_check({table})"), [], |row| {
                row.get(0)
            })?;
        if said != "ok" {
            return Err(Fault::Corrupt(said));
        }
    }
    Ok(())
}

/// Name and text of all that is in a schema.
fn schema(connection: &Connection) -> Result<BTreeSet<(String, String)>, Fault> {
    let mut statement = connection.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether a ledger may be, and is, at `path`.
/// Whether a run of this user would take what stands at a ledger's path, as far as its owners and modes go; where there is no
/// folder, nothing does.
///
/// # Errors
/// [`Fault::NotOurs`]; `Unwritable` if it cannot be looked at.
pub fn may_stand_at(path: &Path) -> Result<(), Fault> {
    if folder(path).is_dir() {
        check_file(path)?;
    }
    Ok(())
}

fn check_file(path: &Path) -> Result<bool, Fault> {
    check_folder(path)?;
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unwritable(path)(error)),
    };
    if !metadata.is_file() {
        return Err(irregular(path));
    }
    if !is_ours(metadata.uid()) {
        return Err(foreign(path, "the ledger", &metadata.uid()));
    }
    // One of root's that somebody else runs into: a backup that came back, or a run by hand.
    if may_write(path) == Err(Errno::ACCESS) {
        return Err(denied(path));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(open_to_others(path, &mode(&metadata)));
    }
    Ok(true)
}

fn check_folder(path: &Path) -> Result<(), Fault> {
    let folder = folder(path);
    let metadata = fs::metadata(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => not_ours(
            folder,
            "the ledger's folder does not exist",
            format!("Create it: install -d -m 750 {}", folder.display()),
        ),
        _ => Fault::Unwritable(format!("{}: {error}", folder.display())),
    })?;
    if !is_ours(metadata.uid()) {
        return Err(foreign(folder, "the ledger's folder", &metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(folder_open_to_others(folder, &mode(&metadata)));
    }
    Ok(())
}

fn mode(metadata: &fs::Metadata) -> String {
    format!("{:04o}", metadata.mode() & 0o7777)
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The file that a run holds locked.
#[must_use]
pub fn lock_file(ledger: &Path) -> PathBuf {
    beside(ledger, "lock")
}

/// `ledger.db` → `ledger.db-wal`; our own companions are named with a dot: `ledger.db.lock`.
fn beside(path: &Path, what: &str) -> PathBuf {
    let sign = if matches!(what, "wal" | "shm") {
        '-'
    } else {
        '.'
    };
    PathBuf::from(format!("{}{sign}{what}", path.display()))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
