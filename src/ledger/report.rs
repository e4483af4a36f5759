//! What the ledger knows, for `status` and the metrics.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::params;

use super::{Fault, Gap, Ledger, time, time_or_never};
use crate::config::ContentType;

/// How long ago what is said of lately was created: as long as a content is remembered, at least.
const LATELY: TimeDelta = TimeDelta::days(8);

/// What the ledger knows of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// The tenant's GUID.
    pub tenant_id: String,
    /// The content type.
    pub content_type: ContentType,
    /// Listings are complete up to then.
    pub marker: Option<DateTime<Utc>>,
    /// When a listing was complete last.
    pub last_success: Option<DateTime<Utc>>,
    /// When a record was handed over last.
    pub last_record: Option<DateTime<Utc>>,
    /// Whether the app lacked a permission for it when it was looked at last.
    pub is_unavailable: bool,
    /// Records that Wazuh has, as sure as can be known.
    pub delivered: u64,
    /// Records delivered since midnight UTC.
    pub today: u64,
    /// Records delivered on the last 7 days, today included.
    pub week: u64,
    /// Records that came more than once and were dropped.
    pub duplicate: u64,
    /// Records that a filter held back.
    pub filtered: u64,
    /// Records that were reshaped to survive.
    pub reshaped: u64,
    /// Contents that wait to be fetched.
    pub pending: u64,
    /// Of them, those that were tried in vain.
    pub failed: u64,
    /// Of those that wait, those that have not expired.
    pub fetchable: u64,
    /// Contents that expired unfetched, of all time.
    pub lost: u64,
    /// Of them, those created in the last 8 days.
    pub lost_lately: u64,
    /// Contents that were unreadable in part, of all time.
    pub damaged: u64,
    /// Of them, those created in the last 8 days.
    pub damaged_lately: u64,
    /// What can no longer be listed, if that was found in the last 8 days.
    pub gap: Option<Gap>,
    /// Records that were handed over and that Wazuh has not confirmed yet.
    pub unconfirmed: u64,
    /// What was wrong last, and when.
    pub error: Option<(String, DateTime<Utc>)>,
}

impl Ledger {
    /// A report a stream, in the order in which they were made.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn report(&self, now: DateTime<Utc>) -> Result<Vec<StreamReport>, Fault> {
        let today = now.timestamp_millis().div_euclid(86_400_000);
        let lately = (now - LATELY).timestamp_millis();
        let mut statement = self.connection.prepare(
            "SELECT tenant_id, content_type, marker, last_success, last_record,
                 unavailable_until > 0 AND failures = 0,
                 delivered, duplicate, filtered, reshaped, s.lost, s.damaged,
                 coalesce(error, (SELECT error FROM content INDEXED BY content_open
                                  WHERE stream = s.id AND state = 0 AND error IS NOT NULL
                                  ORDER BY tried_at DESC LIMIT 1)),
                 iif(error IS NOT NULL, error_at, coalesce(p.tried_at, 0)),
                 coalesce(p.contents, 0), coalesce(p.failed, 0),
                 (SELECT coalesce(sum(records), 0) FROM day WHERE stream = s.id AND day = ?1),
                 (SELECT coalesce(sum(records), 0) FROM day WHERE stream = s.id AND day > ?1 - 7),
                 coalesce(i.lost, 0), coalesce(i.damaged, 0), coalesce(u.events, 0),
                 (SELECT detail FROM health WHERE tenant_id = s.tenant_id
                      AND content_type = s.content_type AND state = ?3),
                 coalesce(p.fetchable, 0)
             FROM stream s LEFT JOIN
                 (SELECT stream, count(*) AS contents, count(nullif(attempts, 0)) AS failed,
                      count(*) FILTER (WHERE expires > ?4) AS fetchable,
                      max(tried_at) AS tried_at
                  FROM content INDEXED BY content_open
                  WHERE state = 0 GROUP BY stream) p ON p.stream = s.id LEFT JOIN
                 (SELECT stream, count(*) FILTER (WHERE state = 3) AS lost,
                      count(*) FILTER (WHERE state = 4) AS damaged
                  FROM content INDEXED BY content_ill
                  WHERE state IN (3, 4) AND created >= ?2 GROUP BY stream) i ON i.stream = s.id LEFT JOIN
                 (SELECT c.stream AS stream, sum(b.events) AS events FROM batch
                  JOIN batch_content b ON b.batch = batch.id JOIN content c ON c.id = b.content
                  WHERE batch.confirmed = 0 GROUP BY c.stream) u ON u.stream = s.id
             ORDER BY s.id",
        )?;
        let mut rows =
            statement.query(params![today, lately, Gap::STATE, now.timestamp_millis()])?;
        let mut reports = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            let Some(content_type) = ContentType::parse(&name) else {
                return Err(Fault::Corrupt("a stream of no content type".to_owned()));
            };
            let error: Option<String> = row.get(12)?;
            let error_at = time(row.get(13)?);
            let gap: Option<String> = row.get(21)?;
            reports.push(StreamReport {
                tenant_id: row.get(0)?,
                content_type,
                marker: row.get::<_, Option<i64>>(2)?.map(time),
                last_success: time_or_never(row.get(3)?),
                last_record: time_or_never(row.get(4)?),
                is_unavailable: row.get(5)?,
                delivered: row.get(6)?,
                duplicate: row.get(7)?,
                filtered: row.get(8)?,
                reshaped: row.get(9)?,
                lost: row.get(10)?,
                damaged: row.get(11)?,
                error: error.map(|error| (error, error_at)),
                pending: row.get(14)?,
                fetchable: row.get(22)?,
                failed: row.get(15)?,
                today: row.get(16)?,
                week: row.get(17)?,
                lost_lately: row.get(18)?,
                damaged_lately: row.get(19)?,
                unconfirmed: row.get(20)?,
                gap: gap.as_deref().and_then(Gap::read),
            });
        }
        Ok(reports)
    }

    /// Whether any stream was listed lately.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn was_collecting(&self, now: DateTime<Utc>) -> Result<bool, Fault> {
        let listed = "SELECT 1 FROM stream WHERE last_success > ?1";
        let lately = (now - LATELY).timestamp_millis();
        Ok(self.connection.prepare(listed)?.exists([lately])?)
    }

    /// Adds to a tenant's requests by how they ended.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn count_requests(&mut self, tenant_id: &str, counts: &[(&str, u64)]) -> Result<(), Fault> {
        for (outcome, count) in counts.iter().filter(|(_, count)| *count > 0) {
            self.write()?
                .prepare_cached(
                    "INSERT INTO request (tenant_id, outcome, requests) VALUES (?1, ?2, ?3)
                     ON CONFLICT (tenant_id, outcome) DO UPDATE SET requests = requests + ?3",
                )?
                .execute(params![tenant_id, outcome, count])?;
        }
        Ok(())
    }

    /// All requests so far: a tenant's GUID, how they ended, how many.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn requests(&self) -> Result<Vec<(String, String, u64)>, Fault> {
        let mut statement = self
            .connection
            .prepare("SELECT tenant_id, outcome, requests FROM request")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many contents wait to be fetched, of all streams.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn pending_contents(&self) -> Result<u64, Fault> {
        let count = "SELECT count(*) FROM content WHERE state = 0";
        Ok(self.connection.query_row(count, [], |row| row.get(0))?)
    }

    /// How many events Wazuh has not confirmed yet.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn unconfirmed_events(&self) -> Result<u64, Fault> {
        Ok(self.connection.query_row(
            "SELECT coalesce(sum(events), 0) FROM batch WHERE confirmed = 0",
            [],
            |row| row.get(0),
        )?)
    }

    /// When the oldest event was sent that Wazuh has not confirmed yet.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn unconfirmed_since(&self) -> Result<Option<DateTime<Utc>>, Fault> {
        let sql = "SELECT min(sent) FROM batch WHERE confirmed = 0";
        let since: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(since.map(time))
    }
}
