//! A ledger that remembers many record ids already.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::Utc;
use o365_wodle::ledger::Ledger;
use rusqlite::Connection;
use tempfile::TempDir;

/// Days of which record ids are remembered, and of a table of them; see the program's src/ledger/seen.rs.
const DAYS: i64 = 8;
const TABLE_DAYS: i64 = 2;
/// In milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;
/// Ids that the program puts into a table at once: pages that were written in one go would all be full.
const FOLD: usize = 102_000;

/// The file of such a ledger, to be copied into each world: filling it takes a while.
pub(super) struct Remembered {
    folder: TempDir,
    count: usize,
}

impl Remembered {
    /// Fills a new ledger with at least so many random ids, evenly over all tables that are not yet forgotten.
    pub(super) fn fill(count: usize) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let new = Self { folder, count };
        let (ledger, _) = Ledger::open(&new.path(), Utc::now()).map_err(|why| why.to_string())?;
        ledger.close().map_err(|why| why.to_string())?;
        write_tables(&new.path(), count)
            .map_err(|error| format!("{}: {error}", new.path().display()))?;
        Ok(new)
    }

    /// Copies it to where a program looks for its ledger. It is on the disk then: no synchronisation of the program's
    /// has to write it.
    pub(super) fn copy_to(&self, ledger: &Path) -> Result<(), String> {
        let said = |error: std::io::Error| format!("{}: {error}", ledger.display());
        fs::copy(self.path(), ledger).map_err(said)?;
        File::open(ledger)
            .and_then(|file| file.sync_all())
            .map_err(said)
    }

    /// Fails unless a ledger still has all of them: a program that did not take it for its own would have begun a new one,
    /// and be quick.
    pub(super) fn is_in(&self, ledger: &Path) -> Result<(), String> {
        let there = count(ledger).map_err(|error| format!("{}: {error}", ledger.display()))?;
        if there < self.count {
            return Err(format!(
                "{there} ids in the ledger instead of {}",
                self.count
            ));
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }
}

/// Puts at least so many random ids into a ledger, quickly.
fn write_tables(ledger: &Path, count: usize) -> rusqlite::Result<()> {
    let connection = Connection::open(ledger)?;
    connection.execute_batch(
        "PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA temp_store = memory;
         PRAGMA cache_size = -100000;",
    )?;
    let now = Utc::now().timestamp_millis();
    let table = |days: i64| (now - days * DAY).div_euclid(TABLE_DAYS * DAY);
    let tables = table(DAYS)..=table(0);
    let folds = count.div_ceil(FOLD * tables.clone().count());
    for table in tables {
        connection.execute_batch(&seen_table(table))?;
        for _ in 0..folds {
            connection.execute_batch(&fold_into(table))?;
        }
    }
    Ok(())
}

/// Makes a table as the program does.
fn seen_table(table: i64) -> String {
    format!("CREATE TABLE seen_{table} (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID")
}

/// Puts random ids into a table, in order.
fn fold_into(table: i64) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {FOLD})
         INSERT INTO seen_{table} SELECT randomblob(16) FROM n ORDER BY 1"
    )
}

/// Ids in all tables of a ledger.
fn count(ledger: &Path) -> rusqlite::Result<usize> {
    let connection = Connection::open(ledger)?;
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE name GLOB 'seen_[0-9]*'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut count = 0;
    for table in tables {
        let select = format!("SELECT count(*) FROM {table}");
        count += connection.query_row(&select, [], |row| row.get::<_, usize>(0))?;
    }
    Ok(count)
}
