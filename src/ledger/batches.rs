//! Batches and record ids: what was handed over, what Wazuh confirmed, what is known already.
//!
//! A record's key is remembered in its batch's row first, and, once the batch is confirmed, folded
//! together with many others, in order, into the table of its time bucket: random keys one by one
//! would rewrite a page of that table each.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Fault, Ledger, number, time};
use crate::config::ContentType;
use crate::teeth;

/// A record's key: 128 bits of SHA-256 over what identifies it.
pub type Key = [u8; 16];

/// Keys without order.
pub type Keys = HashSet<Key, BuildHasherDefault<KeyHasher>>;

/// A key is a hash already: its first bytes serve.
#[derive(Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, key: &[u8]) {
        if let Some(first) = key.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The time span of a bucket, in milliseconds: few enough tables to look into for each record, and
/// small enough ones to drop without a pause.
const BUCKET: i64 = 2 * 24 * 60 * 60 * 1000;

/// Confirmed keys wait in their batches until there are so many.
const FOLD_AT: usize = 65_536;

/// Rows that one step of dropping a bucket deletes.
const DROP_STEP: usize = 50_000;

/// Keys that one statement looks for in a bucket.
const LOOK_FOR: usize = 32;

/// Keys in batches that are not yet folded.
#[derive(Default)]
pub(super) struct Recent {
    keys: Keys,
    /// Of them, how many are of confirmed batches.
    foldable: usize,
}

/// What is handed over and committed together, as it grows.
#[derive(Debug, Default)]
pub struct Batch {
    keys: Vec<u8>,
    events: usize,
    contents: Vec<(i64, usize)>,
    /// The datagrams of it that are no records.
    told: Vec<Vec<u8>>,
}

impl Batch {
    /// How many events it holds.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Adds an event that is no record.
    pub fn tell(&mut self, datagram: &[u8]) {
        self.events += 1;
        self.told.push(datagram.to_owned());
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
    /// When it was committed.
    pub sent: DateTime<Utc>,
    /// How many events it has.
    pub events: usize,
    /// Who read it, and where its confirmation is.
    pub mark: String,
}

/// The key of a record with an `Id`.
#[must_use]
pub fn record_key(
    tenant_id: &str,
    content_type: ContentType,
    id: &[u8],
    record_number: Option<&[u8]>,
) -> Key {
    digest(&[
        b"id",
        tenant_id.as_bytes(),
        content_type.as_str().as_bytes(),
        id,
        record_number.unwrap_or_default(),
    ])
}

/// The key of an element without an `Id`: its content and its place there.
#[must_use]
pub fn place_key(tenant_id: &str, content_type: ContentType, content_id: &str, place: u64) -> Key {
    digest(&[
        b"place",
        tenant_id.as_bytes(),
        content_type.as_str().as_bytes(),
        content_id.as_bytes(),
        &place.to_be_bytes(),
    ])
}

/// How a table of keys is made; with `IF NOT EXISTS` before its name, if need be.
pub(super) fn seen_table(name: &str) -> String {
    format!("CREATE TABLE {name} (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID")
}

/// The key by which a record of a resend is known beside its own.
#[must_use]
pub fn resend_key(key: &Key, span: i64) -> Key {
    digest(&[b"resend", key, &span.to_be_bytes()])
}

fn digest(parts: &[&[u8]]) -> Key {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    key
}

fn bucket(created: DateTime<Utc>) -> u32 {
    u32::try_from(created.timestamp_millis().div_euclid(BUCKET)).unwrap_or(0)
}

impl Ledger {
    /// Whether records were handed over already; `Some(true)` if by a batch that is not folded yet, and so
    /// may be unconfirmed.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn known(&mut self, keys: &[Key]) -> Result<Vec<Option<bool>>, Fault> {
        if teeth::is_off("known") {
            return Ok(vec![None; keys.len()]);
        }
        let recent = self.recent()?;
        let is_recent = |key: &Key| recent.keys.contains(key).then_some(true);
        let mut known: Vec<_> = keys.iter().map(is_recent).collect();
        let others = keys.iter().zip(&known).filter(|(_, known)| known.is_none());
        let others: Vec<&Key> = others.map(|(key, _)| key).collect();
        let folded = self.folded(&others)?;
        if !folded.is_empty() {
            for (known, key) in known.iter_mut().zip(keys) {
                *known = known.or_else(|| folded.contains(key).then_some(false));
            }
        }
        Ok(known)
    }

    /// [`Ledger::known`] of a single record.
    ///
    /// # Errors
    /// As there.
    pub fn knows(&mut self, key: &Key) -> Result<Option<bool>, Fault> {
        let known = self.known(std::slice::from_ref(key))?;
        Ok(known.into_iter().next().flatten())
    }

    /// Those of the keys that stand in a bucket.
    fn folded(&self, keys: &[&Key]) -> Result<Keys, Fault> {
        let mut found = Keys::default();
        if keys.is_empty() {
            return Ok(found);
        }
        for bucket in &self.buckets {
            let places = vec!["?"; LOOK_FOR].join(",");
            let select = format!("SELECT key FROM seen_{bucket} WHERE key IN ({places})");
            let mut statement = self.connection.prepare_cached(&select)?;
            for some in keys.chunks(LOOK_FOR) {
                // What is not bound is NULL, which is in no table.
                statement.clear_bindings();
                for (index, key) in some.iter().enumerate() {
                    statement.raw_bind_parameter(index + 1, key.as_slice())?;
                }
                let mut rows = statement.raw_query();
                while let Some(row) = rows.next()? {
                    found.insert(row.get(0)?);
                }
            }
        }
        Ok(found)
    }

    fn recent(&mut self) -> Result<&mut Recent, Fault> {
        if self.recent.is_none() {
            let mut recent = Recent::default();
            let mut statement = self
                .connection
                .prepare("SELECT confirmed, keys FROM batch")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let is_confirmed: bool = row.get(0)?;
                let before = recent.keys.len();
                recent.keys.extend(
                    entries(row.get_ref(1)?.as_blob().unwrap_or_default()).map(|(_, key)| key),
                );
                if is_confirmed {
                    recent.foldable += recent.keys.len() - before;
                }
            }
            self.recent = Some(recent);
        }
        Ok(self.recent.get_or_insert_default())
    }

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
        let mut told =
            connection.prepare_cached("INSERT INTO told (batch, datagram) VALUES (?1, ?2)")?;
        for datagram in &batch.told {
            told.execute(params![id, datagram])?;
        }
        Ok(id)
    }

    /// Ties a content to every unconfirmed batch: records of it were already in one of them, so if
    /// they are lost this content has to come again.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn depend_on_unconfirmed(&mut self, content: i64) -> Result<(), Fault> {
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
        connection
            .prepare_cached("UPDATE content SET state = ?2, error = NULL WHERE id = ?1")?
            .execute(params![content, if is_damaged { 4 } else { 1 }])?;
        if is_damaged {
            connection
                .prepare_cached("UPDATE stream SET damaged = damaged + 1 WHERE id = ?1")?
                .execute([stream])?;
        }
        Ok(())
    }

    /// Of contents that were sent, those that no unconfirmed batch holds any more are confirmed.
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
        let mut statement = self.connection.prepare_cached(
            "SELECT id, sent, events, mark FROM batch WHERE confirmed = 0 ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(Unconfirmed {
                id: row.get(0)?,
                sent: time(row.get(1)?),
                events: row.get(2)?,
                mark: row.get(3)?,
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

    /// Wazuh has confirmed a batch: its records count as delivered, its contents as confirmed if
    /// all their batches are.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn confirm(&mut self, batch: i64) -> Result<(), Fault> {
        let connection = self.write()?;
        let (keys, sent): (i64, i64) = connection
            .prepare_cached(
                "SELECT length(keys) / 20, sent FROM batch WHERE id = ?1 AND confirmed = 0",
            )?
            .query_row([batch], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .unwrap_or_default();
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
        self.contents_settled(&contents)?;
        if let Some(recent) = &mut self.recent {
            recent.foldable += usize::try_from(keys).unwrap_or(0);
        }
        Ok(())
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
        connection
            .prepare_cached(
                "UPDATE content SET state = 0, tried = 0, not_before = 0 WHERE state IN (1, 4)
                 AND id IN (SELECT content FROM batch_content WHERE batch = ?1)",
            )?
            .execute([batch])?;
        connection
            .prepare_cached("DELETE FROM batch_content WHERE batch = ?1")?
            .execute([batch])?;
        connection
            .prepare_cached("DELETE FROM batch WHERE id = ?1")?
            .execute([batch])?;
        if let Some(recent) = &mut self.recent {
            for (_, key) in entries(&keys) {
                recent.keys.remove(&key);
            }
        }
        Ok(contents)
    }

    /// Folds the keys of confirmed batches into their buckets once enough wait.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn fold(&mut self) -> Result<(), Fault> {
        match &self.recent {
            Some(recent) if recent.foldable >= FOLD_AT => {}
            _ => return Ok(()),
        }
        let mut keys: Vec<(u32, Key)> = Vec::with_capacity(FOLD_AT);
        {
            let mut statement = self
                .connection
                .prepare_cached("SELECT keys FROM batch WHERE confirmed = 1")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                keys.extend(entries(row.get_ref(0)?.as_blob().unwrap_or_default()));
            }
        }
        keys.sort_unstable();
        self.write()?;
        for group in keys.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(bucket, _)) = group.first() else {
                continue;
            };
            if self.buckets.insert(bucket) {
                self.connection
                    .execute_batch(&seen_table(&format!("IF NOT EXISTS seen_{bucket}")))?;
            }
            let mut insert = self
                .connection
                .prepare_cached(&format!("INSERT OR IGNORE INTO seen_{bucket} VALUES (?1)"))?;
            for (_, key) in group {
                insert.execute([key.as_slice()])?;
            }
        }
        self.connection.execute_batch(
            "DELETE FROM batch_content WHERE batch IN (SELECT id FROM batch WHERE confirmed = 1);
             DELETE FROM batch WHERE confirmed = 1;",
        )?;
        if let Some(recent) = &mut self.recent {
            for (_, key) in &keys {
                recent.keys.remove(key);
            }
            recent.foldable = 0;
        }
        self.commit()
    }

    /// Drops what is older than `keep`: whole buckets of record ids, and closed contents that no
    /// listing can name again. Works in steps, each a transaction of its own, while `goes_on`.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn prune(
        &mut self,
        keep: DateTime<Utc>,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<(), Fault> {
        let first_kept = bucket(keep);
        let old: Vec<u32> = self.buckets.range(..first_kept).copied().collect();
        for bucket in old {
            loop {
                if !goes_on() {
                    return Ok(());
                }
                let deleted = self
                    .write()?
                    .prepare_cached(&format!(
                        "DELETE FROM seen_{bucket} WHERE key <= (SELECT max(key) FROM
                             (SELECT key FROM seen_{bucket} ORDER BY key LIMIT ?1))"
                    ))?
                    .execute([number(DROP_STEP)])?;
                if deleted < DROP_STEP {
                    self.connection.flush_prepared_statement_cache();
                    self.write()?
                        .execute_batch(&format!("DROP TABLE seen_{bucket}"))?;
                    self.buckets.remove(&bucket);
                    self.commit()?;
                    break;
                }
                self.commit()?;
            }
        }
        let is_any = self
            .connection
            .prepare_cached("SELECT 1 FROM content WHERE state > 0 AND created < ?1 LIMIT 1")?
            .exists([keep.timestamp_millis()])?;
        if is_any && goes_on() {
            // A content that still belongs to an unconfirmed batch may have to come again.
            self.write()?
                .prepare_cached(
                    "DELETE FROM content WHERE id IN (SELECT id FROM content WHERE state > 0
                         AND created < ?1 AND id NOT IN (SELECT content FROM batch_content)
                         LIMIT ?2)",
                )?
                .execute(params![keep.timestamp_millis(), number(DROP_STEP)])?;
            self.commit()?;
        }
        Ok(())
    }
}

fn contents_of(connection: &Connection, batch: i64) -> Result<Vec<i64>, Fault> {
    Ok(connection
        .prepare_cached("SELECT content FROM batch_content WHERE batch = ?1")?
        .query_map([batch], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}

fn entries(keys: &[u8]) -> impl Iterator<Item = (u32, Key)> + '_ {
    keys.as_chunks::<20>().0.iter().map(|entry| {
        let (bucket, key) = entry.split_at(4);
        (
            u32::from_be_bytes(bucket.try_into().unwrap_or_default()),
            key.try_into().unwrap_or_default(),
        )
    })
}
