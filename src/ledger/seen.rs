//! Record ids: which were handed over already, remembered as long as Microsoft may name them again.
//!
//! A record's key is remembered in its batch's row first, and, once the batch is confirmed, folded
//! together with many others, in order, into the table of its time bucket: random keys one by one
//! would rewrite a page of that table each.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{params, params_from_iter};

use super::{Fault, Ledger, batches, number};
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

/// Keys wait in their batches until there are so many: the more are folded together, the less of a large table is rewritten
/// for each. With six batches more they fill a set of 131,072 places, of which seven eighths may be taken.
const FOLD_AT: usize = 102_000;

/// Of them, how many have to be confirmed: a few are not worth a fold. Records that a filter holds back may make many wait that
/// are not.
const FOLD_OF: usize = FOLD_AT / 4;

/// How much longer what a backfill asked for stays than it can be listed.
const SPANS_STAY: TimeDelta = TimeDelta::days(30);

/// Rows that one step of dropping a bucket deletes.
const DROP_STEP: usize = 50_000;

/// Which contents `c` are forgotten: closed ones that were created before `?1`. The last one of each of a stream's last three
/// days stays until the stream speaks again: by them it is known whether it used to (see [`Ledger::standing`]).
const FORGETTABLE: &str = "state > 0 AND created < ?1
    AND (created < (SELECT max(created) FROM content WHERE stream = c.stream)
                       / 86400000 * 86400000 - 172800000
         OR id <> (SELECT id FROM content WHERE stream = c.stream
                       AND created < c.created / 86400000 * 86400000 + 86400000
                   ORDER BY created DESC, id DESC LIMIT 1))";

/// Keys that one statement looks for in a bucket, or adds to it.
const AT_ONCE: usize = 32;

/// Keys in batches that are not yet folded.
#[derive(Default)]
pub(super) struct Recent {
    pub(super) keys: Keys,
    /// Of them, how many are of confirmed batches.
    pub(super) foldable: usize,
}

/// The key of a record with an `Id`.
#[must_use]
pub fn record_key(
    tenant_id: &str,
    content_type: ContentType,
    id: &[u8],
    record_number: Option<&[u8]>,
) -> Key {
    key_of(&[
        b"id",
        tenant_id.as_bytes(),
        content_type.as_str().as_bytes(),
        id,
        record_number.unwrap_or_default(),
    ])
}

/// The key of an element without an `Id`: its content, its SHA-256, and which of the equal ones there it is.
#[must_use]
pub fn place_key(
    tenant_id: &str,
    content_type: ContentType,
    content_id: &str,
    sha256: &[u8; 32],
    number: u64,
) -> Key {
    key_of(&[
        b"element",
        tenant_id.as_bytes(),
        content_type.as_str().as_bytes(),
        content_id.as_bytes(),
        sha256,
        &number.to_be_bytes(),
    ])
}

/// How a table of keys is made; with `IF NOT EXISTS` before its name, if need be.
pub(super) fn seen_table(name: &str) -> String {
    format!("CREATE TABLE {name} (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID")
}

/// The key by which a record of a resend is known beside its own.
#[must_use]
pub fn resend_key(key: &Key, span: i64) -> Key {
    key_of(&[b"resend", key, &span.to_be_bytes()])
}

fn key_of(parts: &[&[u8]]) -> Key {
    // In one piece it is hashed faster than piece by piece.
    let mut whole = Vec::with_capacity(256);
    for part in parts {
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        whole.extend_from_slice(&part.len().to_be_bytes());
        whole.extend_from_slice(part);
    }
    let hash = digest(&SHA256, &whole);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

pub(super) fn bucket(created: DateTime<Utc>) -> u32 {
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
        if keys.is_empty() || self.buckets.is_empty() {
            return Ok(found);
        }
        let places = vec!["(?)"; AT_ONCE].join(",");
        for bucket in &self.buckets {
            // IN would sort them first, into a table of its own.
            let select = format!(
                "WITH wanted(id) AS (VALUES {places})
                 SELECT id FROM wanted WHERE EXISTS (SELECT 1 FROM seen_{bucket} WHERE key = id)"
            );
            let mut statement = self.connection.prepare_cached(&select)?;
            for some in keys.chunks(AT_ONCE) {
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

    pub(super) fn recent(&mut self) -> Result<&mut Recent, Fault> {
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

    /// Folds the keys of confirmed batches into their buckets once enough wait.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn fold(&mut self) -> Result<(), Fault> {
        let foldable = match &self.recent {
            Some(recent) if recent.keys.len() >= FOLD_AT => recent.foldable,
            _ => return Ok(()),
        };
        if foldable < FOLD_OF {
            return Ok(());
        }
        let mut keys: Vec<(u32, Key)> = Vec::with_capacity(foldable);
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
            for some in group.chunks(AT_ONCE) {
                let places = vec!["(?)"; some.len()].join(",");
                let insert = format!("INSERT OR IGNORE INTO seen_{bucket} VALUES {places}");
                let mut insert = self.connection.prepare_cached(&insert)?;
                insert.execute(params_from_iter(some.iter().map(|(_, key)| key.as_slice())))?;
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
            // Until it is filled anew, a set keeps the places of what was removed.
            let rest: Vec<Key> = recent.keys.drain().collect();
            recent.keys.extend(rest);
            recent.foldable = 0;
        }
        self.commit()
    }

    /// Drops what is older than `keep`: whole buckets of record ids, and closed contents that no
    /// listing can name again. Does one step of it, and commits; whether there may be more.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn prune(&mut self, keep: DateTime<Utc>) -> Result<bool, Fault> {
        let old = self.buckets.range(..bucket(keep)).next().copied();
        if let Some(bucket) = old {
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
            }
            self.commit()?;
            return Ok(true);
        }
        self.leave_behind(keep)?;
        self.forget_batches(keep)?;
        let is_any = self
            .connection
            .prepare_cached(&format!(
                "SELECT 1 FROM content c WHERE {FORGETTABLE} LIMIT 1"
            ))?
            .exists([keep.timestamp_millis()])?;
        if !is_any {
            return Ok(false);
        }
        // A content that still belongs to an unconfirmed batch may have to come again.
        let deleted = self
            .write()?
            .prepare_cached(&format!(
                "DELETE FROM content WHERE id IN (SELECT id FROM content c WHERE {FORGETTABLE}
                     AND id NOT IN (SELECT content FROM batch_content) LIMIT ?2)"
            ))?
            .execute(params![keep.timestamp_millis(), number(DROP_STEP)])?;
        self.commit()?;
        Ok(deleted == DROP_STEP)
    }

    /// Forgets confirmed batches of which each record is that old: where few records come, none is ever folded.
    fn forget_batches(&mut self, keep: DateTime<Utc>) -> Result<(), Fault> {
        let mut forgotten = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        {
            let mut statement = self
                .connection
                .prepare_cached("SELECT id, keys FROM batch WHERE confirmed = 1 AND sent < ?1")?;
            let mut rows = statement.query([keep.timestamp_millis()])?;
            while let Some(row) = rows.next()? {
                let batch = row.get_ref(1)?.as_blob().unwrap_or_default();
                if entries(batch).all(|(of, _)| of < bucket(keep)) {
                    forgotten.push(row.get::<_, i64>(0)?);
                    keys.extend(entries(batch).map(|(_, key)| key));
                }
            }
        }
        if forgotten.is_empty() {
            return Ok(());
        }
        if let Some(recent) = &mut self.recent {
            recent.foldable = recent.foldable.saturating_sub(keys.len());
            for key in &keys {
                recent.keys.remove(key);
            }
        }
        let connection = self.write()?;
        for batch in forgotten {
            batches::delete(connection, batch)?;
        }
        self.commit()
    }

    /// Gives up what waits and expired before `keep`, and spans that ended long before: streams that are collected give up theirs
    /// as it expires, so this is of tenants and content types that no longer are. Forgets how many records came on the days before.
    fn leave_behind(&mut self, keep: DateTime<Utc>) -> Result<(), Fault> {
        let (keep, day) = (
            keep.timestamp_millis(),
            keep.timestamp_millis().div_euclid(86_400_000),
        );
        // As long as a stream may be listed again, that one says what was out of reach.
        let spans = keep - SPANS_STAY.num_milliseconds();
        let is_any = self
            .connection
            .prepare_cached(
                "SELECT 1 WHERE EXISTS (SELECT 1 FROM content WHERE state = 0 AND expires < ?1)
                     OR EXISTS (SELECT 1 FROM backfill WHERE until < ?3)
                     OR EXISTS (SELECT 1 FROM day WHERE day < ?2)",
            )?
            .exists([keep, day, spans])?;
        if !is_any {
            return Ok(());
        }
        let connection = self.write()?;
        connection
            .prepare_cached(
                "UPDATE stream SET lost = lost + (SELECT count(*) FROM content WHERE stream = stream.id
                     AND state = 0 AND backfill < 2 AND expires < ?1)",
            )?
            .execute([keep])?;
        connection
            .prepare_cached(
                "UPDATE content SET state = CASE backfill WHEN 2 THEN 2 ELSE 3 END, uri = ''
                 WHERE state = 0 AND expires < ?1",
            )?
            .execute([keep])?;
        connection
            .prepare_cached("DELETE FROM backfill WHERE until < ?1")?
            .execute([spans])?;
        connection
            .prepare_cached("DELETE FROM day WHERE day < ?1")?
            .execute([day])?;
        self.commit()
    }
}

pub(super) fn entries(keys: &[u8]) -> impl Iterator<Item = (u32, Key)> + '_ {
    keys.as_chunks::<20>().0.iter().map(|entry| {
        let (bucket, key) = entry.split_at(4);
        (
            u32::from_be_bytes(bucket.try_into().unwrap_or_default()),
            key.try_into().unwrap_or_default(),
        )
    })
}
