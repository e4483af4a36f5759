//! Contents: listed, waiting to be fetched, tried in vain, given up.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, params};

use super::streams::{LONGEST_BACK_OFF, back_off, not_before};
use super::{Fault, Ledger, number, time};
use crate::config::ContentType;

/// A content of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContent {
    /// Microsoft's content id.
    pub content_id: String,
    /// Where its blob is.
    pub uri: String,
    /// contentCreated.
    pub created: DateTime<Utc>,
    /// contentExpiration.
    pub expires: DateTime<Utc>,
}

/// A content that waits to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The ledger's number for it.
    pub id: i64,
    /// The stream's number.
    pub stream: i64,
    /// What it is a content of.
    pub content_type: ContentType,
    /// Microsoft's content id.
    pub content_id: String,
    /// Where its blob is.
    pub uri: String,
    /// contentCreated.
    pub created: DateTime<Utc>,
    /// Runs that tried it in vain.
    pub attempts: u32,
    /// Runs that found its syntax broken.
    pub damage: u32,
    /// The span of a backfill that wants its records once more, if any.
    pub resend: Option<i64>,
}

impl Ledger {
    /// Inserts the contents that are not known yet and not below `floor`; returns how many are new.
    /// A pending content takes on the address that was listed last, since the one before may be what failed, and the latest
    /// expiration; one that had expired, and has not by what is listed now, is pending again and not lost.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn insert_contents(
        &mut self,
        stream: i64,
        floor: DateTime<Utc>,
        contents: &[NewContent],
        now: DateTime<Utc>,
    ) -> Result<usize, Fault> {
        let now = now.timestamp_millis();
        // Looking first keeps an idle run from opening a transaction at all.
        let mut new = 0;
        for content in contents.iter().filter(|content| content.created >= floor) {
            let expires = content.expires.timestamp_millis();
            let known: Option<(bool, bool)> = self
                .connection
                .prepare_cached(
                    "SELECT state = 0 AND (uri <> ?3 OR expires < ?4), state = 3 AND expires <= ?5 AND ?4 > ?5
                     FROM content WHERE stream = ?1 AND content_id = ?2",
                )?
                .query_row(
                    params![stream, content.content_id, content.uri, expires, now],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            if let Some((_, true)) = known {
                self.write()?
                    .prepare_cached("UPDATE stream SET lost = max(lost - 1, 0) WHERE id = ?1")?
                    .execute([stream])?;
            }
            if let Some((true, _) | (_, true)) = known {
                self.write()?
                    .prepare_cached(
                        "UPDATE content SET uri = ?3, expires = max(expires, ?4),
                             backfill = CASE state WHEN 3 THEN 0 ELSE backfill END, state = 0
                         WHERE stream = ?1 AND content_id = ?2",
                    )?
                    .execute(params![stream, content.content_id, content.uri, expires])?;
            }
            if known.is_none() {
                self.write()?
                    .prepare_cached(
                        "INSERT INTO content (stream, content_id, uri, created, expires)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        stream,
                        content.content_id,
                        content.uri,
                        content.created.timestamp_millis(),
                        expires
                    ])?;
                new += 1;
            }
        }
        Ok(new)
    }

    /// Up to `limit` contents of the streams that may be fetched now: what is new before what a
    /// backfill asks for, never tried ones first, the oldest first; none that this run tried already.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn pending(
        &self,
        streams: &[(i64, ContentType)],
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Pending>, Fault> {
        let mut found = Vec::new();
        for &(stream, content_type) in streams {
            let mut statement = self.connection.prepare_cached(
                "SELECT id, content_id, uri, created, attempts, damage, resend, backfill FROM content
                 WHERE stream = ?1 AND state = 0 AND tried < ?3
                   AND (not_before <= ?2 OR not_before > ?2 + ?5) -- a clock was put back
                 ORDER BY backfill, attempts, created LIMIT ?4",
            )?;
            let rows = statement.query_map(
                params![
                    stream,
                    now.timestamp_millis(),
                    self.run,
                    number(limit),
                    i64::try_from(2 * LONGEST_BACK_OFF.as_millis()).unwrap_or(i64::MAX)
                ],
                |row| {
                    let content = pending_content(row, stream, content_type)?;
                    Ok((row.get(7)?, content))
                },
            )?;
            for row in rows {
                found.push(row?);
            }
        }
        found.sort_by_key(|(backfill, content): &(bool, Pending)| {
            (*backfill, content.attempts, content.created)
        });
        found.truncate(limit);
        let mut is_pending = self.connection.prepare_cached(
            "SELECT 1 FROM content WHERE id = ?1 AND stream = ?2 AND state = 0 AND content_id = ?3",
        )?;
        for (_, content) in &found {
            // A damaged index names others, which would be found again and again.
            if !is_pending.exists(params![content.id, content.stream, content.content_id])? {
                return Err(Fault::Corrupt("an index is not its table's".to_owned()));
            }
        }
        Ok(found.into_iter().map(|(_, content)| content).collect())
    }

    /// Remembers that a content was tried in vain, and that Microsoft wants to be left alone with it for so long, if it said so.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn content_failed(
        &mut self,
        content: &Pending,
        now: DateTime<Utc>,
        is_damage: bool,
        wait: Option<Duration>,
        error: &str,
    ) -> Result<(), Fault> {
        let attempts = content.attempts.saturating_add(1);
        let wait = back_off(attempts, wait);
        let run = self.run;
        self.write()?
            .prepare_cached(
                "UPDATE content SET attempts = ?2, tried = ?3, not_before = ?4, error = ?5,
                     damage = damage + ?6, tried_at = ?7 WHERE id = ?1 AND state = 0",
            )?
            .execute(params![
                content.id,
                attempts,
                run,
                not_before(now, wait),
                error,
                is_damage,
                now.timestamp_millis()
            ])?;
        Ok(())
    }

    /// Gives up a content that can no longer be fetched.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn content_expired(&mut self, content: &Pending) -> Result<(), Fault> {
        self.give_up(content.stream, "id =", content.id)?;
        Ok(())
    }

    /// Gives up the pending contents whose expiration has passed; returns how many of each stream.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn expire(
        &mut self,
        streams: &[(i64, ContentType)],
        now: DateTime<Utc>,
    ) -> Result<Vec<(ContentType, usize)>, Fault> {
        let mut lost = Vec::new();
        for &(stream, content_type) in streams {
            let is_any = self
                .connection
                .prepare_cached(
                    "SELECT 1 FROM content INDEXED BY content_open
                     WHERE stream = ?1 AND state = 0 AND expires <= ?2",
                )?
                .exists(params![stream, now.timestamp_millis()])?;
            if is_any {
                let changed = self.give_up(stream, "expires <=", now.timestamp_millis())?;
                if changed > 0 {
                    lost.push((content_type, changed));
                }
            }
        }
        Ok(lost)
    }

    /// Gives up the pending contents of a stream of which `which` holds; how many are lost. One that was only wanted once more
    /// is what it was, confirmed or lost.
    fn give_up(&mut self, stream: i64, which: &str, value: i64) -> Result<usize, Fault> {
        let connection = self.write()?;
        let of = format!("WHERE stream = ?1 AND state = 0 AND {which} ?2");
        connection
            .prepare_cached(&format!(
                "UPDATE content SET state = backfill, uri = '' {of} AND backfill IN (2, 3)"
            ))?
            .execute([stream, value])?;
        let lost = connection
            .prepare_cached(&format!("UPDATE content SET state = 3 {of}"))?
            .execute([stream, value])?;
        connection
            .prepare_cached("UPDATE stream SET lost = lost + ?2 WHERE id = ?1")?
            .execute([stream, number(lost)])?;
        Ok(lost)
    }
}

fn pending_content(
    row: &Row<'_>,
    stream: i64,
    content_type: ContentType,
) -> rusqlite::Result<Pending> {
    Ok(Pending {
        id: row.get(0)?,
        stream,
        content_type,
        content_id: row.get(1)?,
        uri: row.get(2)?,
        created: time(row.get(3)?),
        attempts: row.get(4)?,
        damage: row.get(5)?,
        resend: Some(row.get(6)?).filter(|span| *span != 0),
    })
}
