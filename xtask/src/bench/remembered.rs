//! A ledger that remembers many record ids already.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::{TimeDelta, Utc};
use o365_wodle::ledger::Ledger;
use rusqlite::Connection;
use tempfile::TempDir;

/// Days of which record ids are remembered, and of a table of them; see the program's src/ledger/seen.rs.
const DAYS: i64 = 8;
const TABLE_DAYS: i64 = 2;

/// The file of such a ledger, to be copied into each world: filling it takes a while.
pub(super) struct Remembered {
    folder: TempDir,
    count: usize,
}

impl Remembered {
    /// Fills a new ledger with so many random ids, evenly over all tables that are not yet forgotten.
    pub(super) fn fill(count: usize) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let new = Self { folder, count };
        let said = |error: rusqlite::Error| format!("{}: {error}", new.path().display());
        let (ledger, _) = Ledger::open(&new.path(), Utc::now()).map_err(|why| why.to_string())?;
        ledger.close().map_err(|why| why.to_string())?;
        let connection = Connection::open(new.path()).map_err(said)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA temp_store = memory;",
            )
            .map_err(said)?;
        let first = (Utc::now() - TimeDelta::days(DAYS))
            .timestamp_millis()
            .div_euclid(TimeDelta::days(TABLE_DAYS).num_milliseconds());
        let tables = DAYS / TABLE_DAYS + 1;
        let each = count.div_ceil(usize::try_from(tables).unwrap_or(1));
        for table in first..first + tables {
            connection
                .execute_batch(&filled(table, each))
                .map_err(said)?;
        }
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

/// Makes a table of so many random ids, in order, as the program does (`seen_table`).
fn filled(table: i64, count: usize) -> String {
    format!(
        "CREATE TABLE seen_{table} (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO seen_{table} SELECT randomblob(16) FROM n ORDER BY 1;"
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
