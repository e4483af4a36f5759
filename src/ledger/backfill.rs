//! Spans to be fetched again, below the floor too.
//!
//! A span stands here until every content of it stands in the ledger; its contents are fetched
//! after all that is new. Records that were delivered are dropped like any other. Those of a *resend* are known by keys of
//! the span's own as well, so that each is handed over once more, however often that is interrupted.
//! What was given up is fetched again by either: it may be there by now.
//! `content.backfill` is 2 for what was confirmed before: where it expires, nothing is lost. It is 3 for what was counted as
//! lost before: where it expires again, it is not counted twice.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};

use super::{Fault, Ledger, NewContent, time};

/// States of a content, as the schema numbers them.
const EXPIRED: i64 = 3;
const DAMAGED: i64 = 4;

/// A span that is not completely listed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The ledger's number for it.
    pub id: i64,
    /// Of contentCreated, inclusive.
    pub since: DateTime<Utc>,
    /// Exclusive.
    pub until: DateTime<Utc>,
    /// Whether delivered records are wanted once more.
    pub is_resend: bool,
}

/// What is left of all backfills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackfillLeft {
    /// Spans that are not completely listed.
    pub spans: u64,
    /// Contents that wait to be fetched.
    pub contents: u64,
    /// The sum of the spans' beginnings, in milliseconds: it differs once anything of them was listed.
    pub listed: i64,
}

impl Ledger {
    /// Asks for a span of a stream. One that waits and reaches its beginning is made longer: who asks again while nothing
    /// moves asks for nothing more. A resend of which contents stand here already is not: they may have been sent.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn insert_span(
        &mut self,
        stream: i64,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        is_resend: bool,
    ) -> Result<(), Fault> {
        let span = params![
            stream,
            since.timestamp_millis(),
            until.timestamp_millis(),
            is_resend
        ];
        let made_longer = self
            .write()?
            .prepare_cached(
                "UPDATE backfill SET until = max(until, ?3) WHERE id = (
                     SELECT min(id) FROM backfill
                     WHERE stream = ?1 AND resend = ?4 AND since <= ?2 AND until >= ?2
                     AND id NOT IN (SELECT resend FROM content WHERE stream = ?1))",
            )?
            .execute(span)?;
        if made_longer == 0 {
            self.write()?
                .prepare_cached(
                    "INSERT INTO backfill (stream, since, until, resend) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(span)?;
        }
        Ok(())
    }

    /// The spans of a stream, the oldest request first.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn spans(&self, stream: i64) -> Result<Vec<Span>, Fault> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, since, until, resend FROM backfill WHERE stream = ?1 ORDER BY id",
        )?;
        let rows = statement.query_map([stream], |row| {
            Ok(Span {
                id: row.get(0)?,
                since: time(row.get(1)?),
                until: time(row.get(2)?),
                is_resend: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Inserts the contents of a span that are not known yet; those that expired or are damaged are pending once more, of a
    /// resend all that are known. Returns how many have to be fetched.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn insert_span_contents(
        &mut self,
        stream: i64,
        span: &Span,
        contents: &[NewContent],
        now: DateTime<Utc>,
    ) -> Result<usize, Fault> {
        let mut new = 0;
        let resend = if span.is_resend { span.id } else { 0 };
        for content in contents
            .iter()
            .filter(|content| content.created >= span.since && content.created < span.until)
        {
            let known: Option<(i64, i64)> = self
                .connection
                .prepare_cached(
                    "SELECT resend, state FROM content WHERE stream = ?1 AND content_id = ?2",
                )?
                .query_row(params![stream, content.content_id], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            match known {
                None => {
                    self.insert_contents(stream, span.since, std::slice::from_ref(content), now)?;
                }
                Some((last, _)) if span.is_resend && last != resend => {}
                Some((_, EXPIRED | DAMAGED)) if !span.is_resend => {}
                Some(_) => continue,
            }
            if known.is_some_and(|(_, state)| state == DAMAGED) {
                // It is counted again if it is still damaged, which is known at the first try.
                self.write()?
                    .prepare_cached(
                        "UPDATE stream SET damaged = max(damaged - 1, 0) WHERE id = ?1",
                    )?
                    .execute([stream])?;
            }
            self.write()?
                .prepare_cached(
                    "UPDATE content SET state = 0, uri = ?3, resend = ?4, expires = ?5, attempts = 0,
                         backfill = CASE state WHEN 0 THEN max(backfill, 1) WHEN 2 THEN 2 WHEN 3 THEN 3
                                               ELSE 1 END,
                         damage = CASE state WHEN 4 THEN damage ELSE 0 END,
                         tried = 0, not_before = 0, error = NULL
                     WHERE stream = ?1 AND content_id = ?2",
                )?
                .execute(params![
                    stream,
                    content.content_id,
                    content.uri,
                    resend,
                    content.expires.timestamp_millis()
                ])?;
            new += 1;
        }
        Ok(new)
    }

    /// Every content of a span that is older than `until` stands in the ledger.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn span_listed_to(&mut self, span: i64, until: DateTime<Utc>) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("UPDATE backfill SET since = max(since, min(?2, until)) WHERE id = ?1")?
            .execute(params![span, until.timestamp_millis()])?;
        Ok(())
    }

    /// Every content of a span stands in the ledger.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn span_listed(&mut self, span: i64) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("DELETE FROM backfill WHERE id = ?1")?
            .execute([span])?;
        Ok(())
    }

    /// What is left of all backfills.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn backfill_left(&self) -> Result<BackfillLeft, Fault> {
        Ok(self.connection.query_row(
            "SELECT (SELECT count(*) FROM backfill),
                    (SELECT count(*) FROM content WHERE state = 0 AND backfill > 0),
                    (SELECT coalesce(sum(since), 0) FROM backfill)",
            [],
            |row| {
                Ok(BackfillLeft {
                    spans: row.get(0)?,
                    contents: row.get(1)?,
                    listed: row.get(2)?,
                })
            },
        )?)
    }
}
