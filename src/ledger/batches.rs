//! Batches: what was handed over together, and what Wazuh confirmed or lost of it.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::seen::{Key, bucket, entries};
use super::{Fault, Ledger, number};

/// What is handed over and committed together, as it grows.
#[derive(Debug, Default)]
pub struct Batch {
    keys: Vec<u8>,
    events: usize,
    contents: Vec<(i64, usize)>,
}

/// The number of the batch that grows, for events about the collection: it has its own when it is inserted.
pub(super) const GROWING: i64 = 0;

impl Batch {
    /// How many events it holds.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Adds an event that is no record.
    pub(super) fn add_event(&mut self) {
        self.events += 1;
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events == 0 && self.keys.is_empty()
    }
}

/// A batch that Wazuh has not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The ledger's number for it.
    pub id: i64,
    /// How many events it has.
    pub events: usize,
    /// Who read it, and where its confirmation is.
    pub mark: String,
}

impl Ledger {
    /// Adds a record of `content` to a batch: it is known from now on.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn remember(
        &mut self,
        batch: &mut Batch,
        content: i64,
        created: DateTime<Utc>,
        key: Key,
        is_event: bool,
    ) -> Result<(), Fault> {
        self.recent()?.keys.insert(key);
        batch.keys.extend_from_slice(&bucket(created).to_be_bytes());
        batch.keys.extend_from_slice(&key);
        let events = usize::from(is_event);
        batch.events += events;
        match batch.contents.last_mut() {
            Some((last, count)) if *last == content => *count += events,
            _ => batch.contents.push((content, events)),
        }
        Ok(())
    }

    /// Writes a batch into the open transaction; it counts as unconfirmed. Returns its number.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn insert_batch(
        &mut self,
        batch: &Batch,
        now: DateTime<Utc>,
        mark: &str,
    ) -> Result<i64, Fault> {
        let connection = self.write()?;
        connection
            .prepare_cached("INSERT INTO batch (sent, events, mark, keys) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                now.timestamp_millis(),
                number(batch.events),
                mark,
                batch.keys
            ])?;
        let id = connection.last_insert_rowid();
        let mut link = connection.prepare_cached(
            "INSERT INTO batch_content (batch, content, events) VALUES (?1, ?2, ?3)
             ON CONFLICT (batch, content) DO UPDATE SET events = events + ?3",
        )?;
        for &(content, events) in &batch.contents {
            link.execute(params![id, content, number(events)])?;
        }
        connection
            .prepare_cached("UPDATE told SET batch = ?1 WHERE batch = ?2")?
            .execute([id, GROWING])?;
        Ok(id)
    }

    /// Ties a content to every unconfirmed batch, and to the one that grows: records of it were already in one of
    /// them, so if they are lost this content has to come again.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn depend_on_unconfirmed(&mut self, batch: &mut Batch, content: i64) -> Result<(), Fault> {
        if !batch.is_empty() {
            batch.contents.push((content, 0));
        }
        self.write()?
            .prepare_cached(
                "INSERT OR IGNORE INTO batch_content (batch, content, events)
                 SELECT id, ?1, 0 FROM batch WHERE confirmed = 0",
            )?
            .execute([content])?;
        Ok(())
    }

    /// Closes a content: every record of it was handed over, or known, or it is damaged.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn content_sent(
        &mut self,
        content: i64,
        stream: i64,
        is_damaged: bool,
    ) -> Result<(), Fault> {
        let connection = self.write()?;
        // It came though it had expired while it was on its way.
        connection
            .prepare_cached(
                "UPDATE stream SET lost = max(lost - 1, 0)
                 WHERE id = ?2 AND EXISTS (SELECT 1 FROM content WHERE id = ?1 AND state = 3)",
            )?
            .execute([content, stream])?;
        connection
            .prepare_cached(
                "UPDATE content SET state = ?2, error = NULL,
                     backfill = CASE state WHEN 3 THEN min(backfill, 1) ELSE backfill END WHERE id = ?1",
            )?
            .execute(params![content, if is_damaged { 4 } else { 1 }])?;
        if is_damaged {
            connection
                .prepare_cached("UPDATE stream SET damaged = damaged + 1 WHERE id = ?1")?
                .execute([stream])?;
        }
        Ok(())
    }

    /// Of contents that were sent, those that no unconfirmed batch holds any more are confirmed. What still grows has to be
    /// inserted before.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn contents_settled(&mut self, contents: &[i64]) -> Result<(), Fault> {
        for content in contents {
            self.write()?
                .prepare_cached(
                    "UPDATE content SET state = 2, uri = '' WHERE id = ?1 AND state = 1
                     AND NOT EXISTS (SELECT 1 FROM batch_content b JOIN batch ON batch.id = b.batch
                                     WHERE b.content = ?1 AND batch.confirmed = 0)",
                )?
                .execute([content])?;
        }
        Ok(())
    }

    /// The batches that Wazuh has not confirmed, the oldest first.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn unconfirmed(&self) -> Result<Vec<Unconfirmed>, Fault> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, events, mark FROM batch WHERE confirmed = 0 ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            Ok(Unconfirmed {
                id: row.get(0)?,
                events: row.get(1)?,
                mark: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Remembers where a batch's confirmation is.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn set_mark(&mut self, batch: i64, mark: &str) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("UPDATE batch SET mark = ?2 WHERE id = ?1")?
            .execute(params![batch, mark])?;
        Ok(())
    }

    /// Wazuh has confirmed a batch: its records count as delivered. Returns its contents: they are to be
    /// [settled](Self::contents_settled) once no batch that holds more of them grows any more.
    ///
    /// # Errors
    /// A full or failing disk.
    #[must_use = "its contents are to be settled"]
    pub fn confirm(&mut self, batch: i64) -> Result<Vec<i64>, Fault> {
        let connection = self.write()?;
        let unconfirmed: Option<(i64, i64)> = connection
            .prepare_cached(
                "SELECT length(keys) / 20, sent FROM batch WHERE id = ?1 AND confirmed = 0",
            )?
            .query_row([batch], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((keys, sent)) = unconfirmed else {
            return Ok(Vec::new());
        };
        connection
            .prepare_cached("UPDATE batch SET confirmed = 1 WHERE id = ?1")?
            .execute([batch])?;
        connection
            .prepare_cached("DELETE FROM told WHERE batch = ?1")?
            .execute([batch])?;
        let counts: Vec<(i64, i64)> = connection
            .prepare_cached(
                "SELECT c.stream, sum(b.events) FROM batch_content b
                 JOIN content c ON c.id = b.content WHERE b.batch = ?1 GROUP BY c.stream",
            )?
            .query_map([batch], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (stream, events) in counts {
            connection
                .prepare_cached(
                    "UPDATE stream SET delivered = delivered + ?2, last_record = max(last_record, ?3)
                     WHERE id = ?1",
                )?
                .execute(params![stream, events, sent])?;
            connection
                .prepare_cached(
                    "INSERT INTO day (stream, day, records) VALUES (?1, ?2, ?3)
                     ON CONFLICT (stream, day) DO UPDATE SET records = records + ?3",
                )?
                .execute(params![stream, sent.div_euclid(86_400_000), events])?;
        }
        let contents = contents_of(connection, batch)?;
        if let Some(recent) = &mut self.recent {
            recent.foldable += usize::try_from(keys).unwrap_or(0);
        }
        Ok(contents)
    }

    /// Forgets a batch that Wazuh lost together with its record ids; its contents are pending again.
    /// Returns them.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn forget(&mut self, batch: i64) -> Result<Vec<i64>, Fault> {
        let connection = self.write()?;
        let keys: Option<Vec<u8>> = connection
            .prepare_cached("SELECT keys FROM batch WHERE id = ?1 AND confirmed = 0")?
            .query_row([batch], |row| row.get(0))
            .optional()?;
        let Some(keys) = keys else {
            return Ok(Vec::new());
        };
        let contents = contents_of(connection, batch)?;
        connection
            .prepare_cached("UPDATE told SET batch = NULL WHERE batch = ?1")?
            .execute([batch])?;
        // Of those that are damaged it is counted again.
        connection
            .prepare_cached(
                "UPDATE stream SET damaged = max(damaged - of.contents, 0) FROM (
                     SELECT c.stream, count(*) AS contents FROM batch_content b
                     JOIN content c ON c.id = b.content
                     WHERE b.batch = ?1 AND c.state = 4 GROUP BY c.stream) AS of
                 WHERE stream.id = of.stream",
            )?
            .execute([batch])?;
        connection
            .prepare_cached(
                "UPDATE content SET state = 0, tried = 0, not_before = 0 WHERE state IN (1, 4)
                 AND id IN (SELECT content FROM batch_content WHERE batch = ?1)",
            )?
            .execute([batch])?;
        delete(connection, batch)?;
        if let Some(recent) = &mut self.recent {
            for (_, key) in entries(&keys) {
                recent.keys.remove(&key);
            }
        }
        Ok(contents)
    }
}

fn contents_of(connection: &Connection, batch: i64) -> Result<Vec<i64>, Fault> {
    Ok(connection
        .prepare_cached("SELECT content FROM batch_content WHERE batch = ?1")?
        .query_map([batch], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}

/// Deletes a batch, and what ties contents to it.
pub(super) fn delete(connection: &Connection, batch: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM batch_content WHERE batch = ?1")?
        .execute([batch])?;
    connection
        .prepare_cached("DELETE FROM batch WHERE id = ?1")?
        .execute([batch])?;
    Ok(())
}
