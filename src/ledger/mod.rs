//! What we remember: a `SQLite` file with the markers, contents, batches and record ids.
//!
//! Invariants, each with tests that guard it beside the model's (`no_order_of_losses_and_kills_loses_a_record`):
//!
//! 1. A marker moves only after every page of its window was read and every content of it stands
//!    here. Streams are keyed by tenant GUID and content type.
//!    (`listings_and_markers_survive_only_with_their_commit`, `a_marker_never_moves_back`)
//! 2. After a batch was accepted by the socket, one transaction remembers its record ids, the
//!    reader's identity and counters, and which blobs it finished. A kill between send and commit
//!    repeats at most one batch. A blob is sent when all its records are, confirmed when all its
//!    batches are. (`agrees_with_a_model_through_crashes`,
//!    `a_confirmed_content_is_done_and_its_records_stay_known`)
//! 3. When Wazuh restarts, or reports drops, with batches unconfirmed, those batches and their ids
//!    are forgotten together, their contents are pending again, and nothing is sent before its input
//!    queue is calm. Confirmed ones never. At most 50,000 events are unconfirmed at any time.
//!    (`a_lost_batch_is_forgotten_with_its_ids_and_contents`, `losses_in_a_row_slow_down`,
//!    `no_more_is_under_way_than_may_be_unconfirmed`)
//! 4. A pending blob is tried each run, but never before others' first try, until it expires; then
//!    it is counted and said. Back-off outlives a run, is at most an hour, and ends with a pass of
//!    `doctor` or a new secret. (`a_content_tried_in_vain_comes_after_the_untried_and_not_twice_in_a_run`,
//!    `what_expires_unfetched_is_counted`, `back_off_grows_to_an_hour_and_outlives_the_run`)
//! 5. Deduplication: key (tenant GUID, content type, `Id`, `RecordNumber`); a record without an id
//!    is known by its content's id, its bytes and which of the equal ones there it is. Remembered by
//!    the content's creation in whole time buckets, so that pruning is dropping a bucket.
//!    (`keys_tell_apart_what_differs_and_nothing_else`, `folded_keys_are_found_and_dropped_with_their_bucket`,
//!    `records_are_known_as_long_as_is_set`)
//! 6. Listings overlap; contents that are known, or below the floor, cost nothing.
//!    (`starts_at_the_midnight_before_and_cuts_at_midnights`,
//!    `known_contents_and_those_below_the_floor_cost_nothing`)
//! 7. A kill at any instruction, a power cut, a full disk: never loss, never a wrong marker. Only a
//!    file that `SQLite` calls corrupt or no database is set aside; what is not ours is exit code 78,
//!    a disk that is full, fails or is busy 75. (`what_is_corrupt_is_set_aside_and_the_new_ledger_knows_it`,
//!    `what_is_not_ours_stays_untouched`, rows 1 to 5 of the campaign)
//! 8. One run at a time. (`one_run_at_a_time`, row 7 of the campaign)
//! 9. A body that ends too early is tried again; one whose syntax is broken is read as far as it can
//!    be once three runs found it so, and closed as damaged.
//!    (`a_transfer_that_ends_early_is_a_fault`, `a_damaged_content_that_comes_again_is_counted_once`)
//!
//! All writes of a run go through one connection into one open transaction, which [`Ledger::commit`]
//! ends: what is read sees what was written, and a batch, the ends of its blobs and the listings
//! that came meanwhile become durable together.

mod backfill;
#[cfg(test)]
mod backfill_tests;
mod batches;
mod contents;
mod fault;
mod file;
#[cfg(test)]
mod file_tests;
mod health;
#[cfg(test)]
mod model_tests;
mod report;
mod seen;
#[cfg(test)]
mod seen_tests;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

pub use backfill::{BackfillLeft, Span};
pub use batches::{Batch, Unconfirmed};
pub use contents::{NewContent, Pending};
pub use fault::Fault;
#[cfg(test)]
pub(crate) use fault::what_is_not_ours;
pub use file::{
    Lock, Opened, Purpose, ROUND, installation_key, lock_file, may_stand_at, set_aside,
};
pub use health::{Gap, HealthState, Scope, Standing};
pub use report::StreamReport;
pub use seen::{Key, Keys, place_key, record_key, resend_key};
pub use streams::{LONGEST_BACK_OFF, Stream, TenantState};

use seen::Recent;

/// The open ledger of a run.
pub struct Ledger {
    connection: Connection,
    /// Whether nothing is ever committed.
    is_dry: bool,
    /// The number of this run.
    run: i64,
    /// Record keys that stand in batches, and are not yet folded; read when first asked for.
    recent: Option<Recent>,
    /// The `seen_…` tables there are, by bucket.
    buckets: BTreeSet<u32>,
}

impl Ledger {
    /// Opens the ledger, creating it where there is none, and setting it aside where it is corrupt.
    ///
    /// # Errors
    /// A ledger of a newer version, one that is not ours, a full or failing disk.
    pub fn open(path: &Path, now: DateTime<Utc>) -> Result<(Self, Opened), Fault> {
        let (connection, opened) = file::open(path, now).map_err(|fault| fault.at(path))?;
        let mut ledger = Self::over(connection)?;
        ledger.begin_run()?;
        Ok((ledger, opened))
    }

    /// Opens the ledger for a run that reads and decides as always, but leaves no trace in it.
    ///
    /// # Errors
    /// As [`Ledger::open`]; a corrupt ledger is not set aside.
    pub fn open_dry(path: &Path) -> Result<Self, Fault> {
        let connection = file::open_dry(path).map_err(|fault| fault.at(path))?;
        let mut ledger = Self::over(connection)?;
        ledger.is_dry = true;
        ledger.begin_run()?;
        Ok(ledger)
    }

    /// Opens the ledger for reading only; `None` where there is none yet.
    ///
    /// # Errors
    /// A ledger of a newer version, one that is corrupt or not ours.
    pub fn read(path: &Path) -> Result<Option<Self>, Fault> {
        let connection = file::read(path).map_err(|fault| fault.at(path))?;
        let ledger = connection.map(Self::over).transpose()?;
        Ok(ledger.map(|ledger| Self {
            is_dry: true,
            ..ledger
        }))
    }

    fn over(connection: Connection) -> Result<Self, Fault> {
        let buckets = connection
            .prepare("SELECT substr(name, 6) FROM sqlite_schema WHERE name GLOB 'seen_[0-9]*'")?
            .query_map([], |row| row.get::<_, String>(0))?
            .filter_map(|name| name.map(|name| name.parse().ok()).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            connection,
            is_dry: false,
            run: 0,
            recent: None,
            buckets,
        })
    }

    /// Numbers the run: what it tried in vain is left to later ones.
    fn begin_run(&mut self) -> Result<(), Fault> {
        let last: i64 = self
            .value("run")?
            .and_then(|run| run.parse().ok())
            .unwrap_or(0);
        self.run = last.saturating_add(1);
        self.set_value("run", &self.run.to_string())
    }

    /// Begins the transaction that the next [`Ledger::commit`] ends, unless one is open.
    fn write(&mut self) -> Result<&Connection, Fault> {
        if !self.is_dirty() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        Ok(&self.connection)
    }

    /// Whether something waits for a commit. `SQLite` knows: a full disk may make it undo a transaction by itself.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Makes everything written so far durable: one synchronisation of the disk.
    ///
    /// # Errors
    /// A full or failing disk: everything since the last commit is undone.
    pub fn commit(&mut self) -> Result<(), Fault> {
        if self.is_dirty() && !self.is_dry {
            self.connection.execute_batch("COMMIT")?;
        }
        Ok(())
    }

    /// Looks through all of it for damage.
    ///
    /// # Errors
    /// [`Fault::Corrupt`], or a failing disk.
    pub fn check(&self) -> Result<(), Fault> {
        let check = "PRAGMA quick_check(1)";
        let said: String = self.connection.query_row(check, [], |row| row.get(0))?;
        if said == "ok" {
            Ok(())
        } else {
            Err(Fault::Corrupt(said))
        }
    }

    /// A single value by name.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn value(&self, name: &str) -> Result<Option<String>, Fault> {
        Ok(self
            .connection
            .prepare_cached("SELECT value FROM value WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?)
    }

    /// Since when Wazuh takes nothing, as far as runs saw, and why.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn held(&self) -> Result<Option<(DateTime<Utc>, String)>, Fault> {
        let held = self.value("held")?;
        Ok(held.and_then(|held| {
            let (since, why) = held.split_once(' ')?;
            Some((time(since.parse().ok()?), why.to_owned()))
        }))
    }

    /// Remembers that Wazuh takes nothing, since then unless that is known already; `None`: that it does.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn set_held(&mut self, held: Option<(DateTime<Utc>, &str)>) -> Result<(), Fault> {
        let Some((since, why)) = held else {
            self.write()?
                .execute("DELETE FROM value WHERE name = 'held'", [])?;
            return Ok(());
        };
        let since = self.held()?.map_or(since, |(known, _)| known.min(since));
        self.set_value("held", &format!("{} {why}", since.timestamp_millis()))
    }

    /// When a damaged ledger was set aside for this one, if ever.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn recovered(&self) -> Result<Option<DateTime<Utc>>, Fault> {
        let recovered = self.value("recovered")?;
        Ok(recovered.and_then(|at| at.parse().ok()).map(time))
    }

    /// The number of this run.
    #[must_use]
    pub fn run(&self) -> usize {
        usize::try_from(self.run).unwrap_or(0)
    }

    /// Sets a single value.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn set_value(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        if self.value(name)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.write()?
            .prepare_cached("INSERT OR REPLACE INTO value (name, value) VALUES (?1, ?2)")?
            .execute(params![name, value])?;
        Ok(())
    }

    /// Closes the ledger, folding the write-ahead log into the file.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn close(mut self) -> Result<(), Fault> {
        self.commit()?;
        self.connection
            .close()
            .map_err(|(_, fault)| Fault::from(fault))
    }
}

/// A time of the ledger.
fn time(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A time of the ledger that 0 stands for "never" in.
fn time_or_never(milliseconds: i64) -> Option<DateTime<Utc>> {
    (milliseconds != 0).then(|| time(milliseconds))
}

/// A count, as `SQLite` stores it.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
