//! Tenants and streams: how far listings are complete, and what is left alone until when.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};

use super::{Fault, Gap, Ledger, number, time, time_or_never};
use crate::config::ContentType;

/// A tenant as the last run left it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TenantState {
    /// No request goes to Microsoft before then.
    pub not_before: DateTime<Utc>,
    /// Runs in a row that failed.
    pub failures: u32,
    /// Whether the last failure was a refusal, which another try cannot cure.
    pub refused: bool,
    /// Which credential failed (a stamp, not the credential): another one is tried at once.
    pub credential: String,
    /// When the subscriptions were listed last.
    pub subscriptions_listed: Option<DateTime<Utc>>,
    /// What was wrong last.
    pub error: Option<String>,
}

/// A stream: tenant × content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The ledger's number for it.
    pub id: i64,
    /// What it is a stream of.
    pub content_type: ContentType,
    /// The earliest contentCreated that `run` takes.
    pub floor: DateTime<Utc>,
    /// Listings are complete up to then; `None` before the first.
    pub marker: Option<DateTime<Utc>>,
    /// When everything down to the floor was listed last.
    pub swept: Option<DateTime<Utc>>,
    /// Whether that is to be done again at once, however rarely it is done otherwise.
    pub is_sweep_asked: bool,
    /// Whether Microsoft said that the subscription is enabled when asked last.
    pub subscribed: bool,
    /// When a start of the subscription was requested last.
    pub started: Option<DateTime<Utc>>,
    /// Until when it is not looked at, since the app lacks a permission.
    pub unavailable_until: Option<DateTime<Utc>>,
    /// No listing before then.
    pub not_before: Option<DateTime<Utc>>,
    /// How many listings in a row failed.
    pub failures: u32,
    /// Whether something of the last one did.
    pub has_error: bool,
    /// Where listings ended when the subscription was found to be off, until that is told.
    pub off_since: Option<DateTime<Utc>>,
    /// How many listings were too long for a run, less those that had time enough since.
    pub too_long: u32,
}

/// Tries in vain that cost no back-off: the fault may be gone at the next run.
const FREE_FAILURES: u32 = 3;
/// The longest back-off.
pub const LONGEST_BACK_OFF: Duration = Duration::from_hours(1);

/// The time before which something is left alone; 0 = no such time. (Not the present: the clock of
/// the next run, which is the server's to the second, may be a little behind.)
pub(super) fn not_before(now: DateTime<Utc>, wait: Duration) -> i64 {
    if wait.is_zero() {
        0
    } else {
        (now + wait).timestamp_millis()
    }
}

/// How long to leave something alone that failed `failures` times in a row, and for which Microsoft may have asked for a time.
pub(super) fn back_off(failures: u32, asked: Option<Duration>) -> Duration {
    let own = match failures.checked_sub(FREE_FAILURES) {
        None | Some(0) => Duration::ZERO,
        Some(more) => Duration::from_mins(1).saturating_mul(1 << more.min(8)),
    };
    own.max(asked.unwrap_or_default()).min(LONGEST_BACK_OFF)
}

impl Ledger {
    /// A tenant's state; that of a new one if it is not known yet.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn tenant(&self, tenant_id: &str) -> Result<TenantState, Fault> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT not_before, failures, refused, credential, subscriptions_listed, error
                 FROM tenant WHERE tenant_id = ?1",
            )?
            .query_row([tenant_id], |row| {
                Ok(TenantState {
                    not_before: time(row.get(0)?),
                    failures: row.get(1)?,
                    refused: row.get(2)?,
                    credential: row.get(3)?,
                    subscriptions_listed: time_or_never(row.get(4)?),
                    error: row.get(5)?,
                })
            })
            .optional()?
            .unwrap_or_default())
    }

    /// What was wrong with each tenant last, and when, by its GUID.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn troubled_tenants(&self) -> Result<HashMap<String, (String, DateTime<Utc>)>, Fault> {
        let mut statement = self
            .connection
            .prepare("SELECT tenant_id, error, error_at FROM tenant WHERE error IS NOT NULL")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, (row.get(1)?, time(row.get(2)?))))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Remembers that a tenant's sign-in or a request for all of it failed, and returns when it may
    /// be tried again: at once for the first passing faults, then later and later up to an hour;
    /// after `wait` where Microsoft named a time; after an hour where it refused.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn tenant_failed(
        &mut self,
        tenant_id: &str,
        now: DateTime<Utc>,
        refused: bool,
        wait: Option<Duration>,
        credential: &str,
        error: &str,
    ) -> Result<DateTime<Utc>, Fault> {
        let failures = self.tenant(tenant_id)?.failures.saturating_add(1);
        let wait = if refused {
            LONGEST_BACK_OFF
        } else {
            back_off(failures, wait)
        };
        let not_before = now + wait;
        self.write()?
            .prepare_cached(
                "INSERT INTO tenant (tenant_id, not_before, failures, refused, credential, error, error_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (tenant_id) DO UPDATE SET not_before = ?2, failures = ?3, refused = ?4,
                     credential = ?5, error = ?6, error_at = ?7",
            )?
            .execute(params![
                tenant_id,
                not_before.timestamp_millis(),
                failures,
                refused,
                credential,
                error,
                now.timestamp_millis()
            ])?;
        Ok(not_before)
    }

    /// Remembers that Microsoft wants a tenant left alone for a while, which is no failure of its.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn tenant_left_alone(
        &mut self,
        tenant_id: &str,
        now: DateTime<Utc>,
        wait: Duration,
        credential: &str,
        why: &str,
    ) -> Result<(), Fault> {
        self.write()?
            .prepare_cached(
                "INSERT INTO tenant (tenant_id, not_before, credential, error, error_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (tenant_id) DO UPDATE SET not_before = ?2, refused = 0, credential = ?3,
                     error = ?4, error_at = ?5",
            )?
            .execute(params![
                tenant_id,
                not_before(now, wait.min(LONGEST_BACK_OFF)),
                credential,
                why,
                now.timestamp_millis()
            ])?;
        Ok(())
    }

    /// Forgets a tenant's failures.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn tenant_well(&mut self, tenant_id: &str) -> Result<(), Fault> {
        let is_well = {
            let state = self.tenant(tenant_id)?;
            state.failures == 0 && state.error.is_none()
        };
        if !is_well {
            self.write()?
                .prepare_cached(
                    "UPDATE tenant SET not_before = 0, failures = 0, refused = 0, error = NULL
                     WHERE tenant_id = ?1",
                )?
                .execute([tenant_id])?;
        }
        Ok(())
    }

    /// Lets everything of a tenant be tried at once that was to be left alone for a while.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn end_back_off(&mut self, tenant_id: &str) -> Result<(), Fault> {
        self.tenant_well(tenant_id)?;
        let connection = self.write()?;
        connection
            .prepare_cached(
                "UPDATE stream SET not_before = 0, unavailable_until = min(unavailable_until, 1)
                 WHERE tenant_id = ?1",
            )?
            .execute([tenant_id])?;
        connection
            .prepare_cached(
                "UPDATE content SET not_before = 0 WHERE state = 0 AND not_before > 0
                 AND stream IN (SELECT id FROM stream WHERE tenant_id = ?1)",
            )?
            .execute([tenant_id])?;
        Ok(())
    }

    /// Remembers which subscriptions Microsoft listed as enabled.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn subscriptions_listed(
        &mut self,
        tenant_id: &str,
        now: DateTime<Utc>,
        enabled: &[ContentType],
    ) -> Result<(), Fault> {
        let connection = self.write()?;
        connection
            .prepare_cached(
                "INSERT INTO tenant (tenant_id, subscriptions_listed) VALUES (?1, ?2)
                 ON CONFLICT (tenant_id) DO UPDATE SET subscriptions_listed = ?2",
            )?
            .execute(params![tenant_id, now.timestamp_millis()])?;
        for content_type in ContentType::ALL {
            connection
                .prepare_cached(
                    "UPDATE stream SET subscribed = ?3 WHERE tenant_id = ?1 AND content_type = ?2",
                )?
                .execute(params![
                    tenant_id,
                    content_type.as_str(),
                    enabled.contains(&content_type)
                ])?;
        }
        Ok(())
    }

    /// The stream of a tenant and content type, made with `floor` if it is new.
    ///
    /// # Errors
    /// A full or failing disk, a corrupt ledger.
    pub fn stream(
        &mut self,
        tenant_id: &str,
        content_type: ContentType,
        floor: DateTime<Utc>,
    ) -> Result<Stream, Fault> {
        if let Some(stream) = self.known_stream(tenant_id, content_type)? {
            return Ok(stream);
        }
        self.write()?
            .prepare_cached(
                "INSERT INTO stream (tenant_id, content_type, floor) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![
                tenant_id,
                content_type.as_str(),
                floor.timestamp_millis()
            ])?;
        self.known_stream(tenant_id, content_type)?
            .ok_or_else(|| Fault::Corrupt("a stream vanished as it was made".to_owned()))
    }

    /// The stream of a tenant and content type, if there is one yet.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn known_stream(
        &self,
        tenant_id: &str,
        content_type: ContentType,
    ) -> Result<Option<Stream>, Fault> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT id, floor, marker, swept, subscribed, started, unavailable_until, not_before,
                     failures, error IS NOT NULL, too_long, off_since
                 FROM stream WHERE tenant_id = ?1 AND content_type = ?2",
            )?
            .query_row(params![tenant_id, content_type.as_str()], |row| {
                Ok(Stream {
                    id: row.get(0)?,
                    content_type,
                    floor: time(row.get(1)?),
                    marker: row.get::<_, Option<i64>>(2)?.map(time),
                    swept: time_or_never(row.get::<_, i64>(3)?.max(0)),
                    is_sweep_asked: row.get::<_, i64>(3)? < 0,
                    subscribed: row.get(4)?,
                    started: time_or_never(row.get(5)?),
                    unavailable_until: time_or_never(row.get(6)?),
                    not_before: time_or_never(row.get(7)?),
                    failures: row.get(8)?,
                    has_error: row.get(9)?,
                    too_long: row.get(10)?,
                    off_since: time_or_never(row.get(11)?),
                })
            })
            .optional()?)
    }

    /// Remembers that a start of the subscription is being requested, before it is, and since when it may have been off.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn subscription_starting(&mut self, stream: i64, now: DateTime<Utc>) -> Result<(), Fault> {
        self.write()?
            .prepare_cached(
                "UPDATE stream SET started = ?2,
                     off_since = iif(off_since = 0, coalesce(marker, 0), off_since) WHERE id = ?1",
            )?
            .execute(params![stream, now.timestamp_millis()])?;
        Ok(())
    }

    /// That a subscription was off is told, or it was not.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn subscription_was_on(&mut self, stream: i64) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("UPDATE stream SET off_since = 0 WHERE id = ?1")?
            .execute([stream])?;
        Ok(())
    }

    /// Remembers that the subscription is enabled.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn subscription_enabled(&mut self, stream: i64) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("UPDATE stream SET subscribed = 1 WHERE id = ?1")?
            .execute([stream])?;
        Ok(())
    }

    /// Remembers until when a stream is not looked at, since the app lacks a permission for it.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn stream_unavailable(
        &mut self,
        stream: i64,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        error: &str,
    ) -> Result<(), Fault> {
        self.write()?
            .prepare_cached(
                "UPDATE stream SET unavailable_until = ?2, failures = 0, error = ?3, error_at = ?4
                 WHERE id = ?1",
            )?
            .execute(params![
                stream,
                until.timestamp_millis(),
                error,
                now.timestamp_millis()
            ])?;
        Ok(())
    }

    /// Remembers that a stream's listing failed.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn stream_failed(
        &mut self,
        stream: i64,
        now: DateTime<Utc>,
        wait: Option<Duration>,
        error: &str,
    ) -> Result<(), Fault> {
        let connection = self.write()?;
        let failures: u32 = connection
            .prepare_cached("SELECT failures FROM stream WHERE id = ?1")?
            .query_row([stream], |row| row.get(0))?;
        let failures = failures.saturating_add(1);
        let wait = back_off(failures, wait);
        connection
            .prepare_cached(
                "UPDATE stream SET failures = ?2, not_before = ?3, error = ?4, error_at = ?5
                 WHERE id = ?1",
            )?
            .execute(params![
                stream,
                failures,
                not_before(now, wait),
                error,
                now.timestamp_millis()
            ])?;
        Ok(())
    }

    /// Moves a stream's marker to `end`, after every content listed before it was inserted. A marker
    /// never moves back.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn window_complete(&mut self, stream: i64, end: DateTime<Utc>) -> Result<(), Fault> {
        self.write()?
            .prepare_cached(
                "UPDATE stream SET marker = max(coalesce(marker, 0), ?2) WHERE id = ?1",
            )?
            .execute(params![stream, end.timestamp_millis()])?;
        Ok(())
    }

    /// Makes a stream that begins at `begin`: another program took what was created before. One that
    /// was listed here already stays as it is; whether it was made.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn take_over_stream(
        &mut self,
        tenant_id: &str,
        content_type: ContentType,
        begin: DateTime<Utc>,
    ) -> Result<bool, Fault> {
        let changed = self
            .write()?
            .prepare_cached(
                "INSERT INTO stream (tenant_id, content_type, floor, marker) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT (tenant_id, content_type) DO UPDATE SET floor = ?3, marker = ?3
                     WHERE last_success = 0 AND swept = 0
                         AND NOT EXISTS (SELECT 1 FROM content WHERE stream = stream.id)",
            )?
            .execute(params![
                tenant_id,
                content_type.as_str(),
                begin.timestamp_millis()
            ])?;
        Ok(changed > 0)
    }

    /// Forgets how far a stream was listed: its next listing starts at `floor`.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn begin_again(&mut self, stream: i64, floor: DateTime<Utc>) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("UPDATE stream SET marker = NULL, swept = 0, floor = ?2 WHERE id = ?1")?
            .execute(params![stream, floor.timestamp_millis()])?;
        // What can no longer be listed by a clock that ran ahead can be.
        self.write()?
            .prepare_cached(
                "DELETE FROM health WHERE state = ?2 AND (tenant_id, content_type) =
                     (SELECT tenant_id, content_type FROM stream WHERE id = ?1)",
            )?
            .execute(params![stream, Gap::STATE])?;
        Ok(())
    }

    /// Remembers that all that is new in a stream was listed, and in which parts: see [`Stream::too_long`].
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn listing_complete(
        &mut self,
        stream: i64,
        now: DateTime<Utc>,
        too_long: u32,
    ) -> Result<(), Fault> {
        self.write()?
            .prepare_cached(
                "UPDATE stream SET last_success = ?2, failures = 0, not_before = 0, error = NULL,
                     unavailable_until = 0, too_long = ?3 WHERE id = ?1",
            )?
            .execute(params![stream, now.timestamp_millis(), too_long])?;
        Ok(())
    }

    /// Remembers that a stream was listed down to its floor, unless this run asked for it meanwhile.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn swept(&mut self, stream: i64, now: DateTime<Utc>) -> Result<(), Fault> {
        let run = self.run;
        self.write()?
            .prepare_cached("UPDATE stream SET swept = ?2 WHERE id = ?1 AND swept <> -?3")?
            .execute(params![stream, now.timestamp_millis(), run])?;
        Ok(())
    }

    /// Remembers what failed of a stream that is not to be left alone for it.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn stream_failed_beside(
        &mut self,
        stream: i64,
        now: DateTime<Utc>,
        error: &str,
    ) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("UPDATE stream SET error = ?2, error_at = ?3 WHERE id = ?1")?
            .execute(params![stream, error, now.timestamp_millis()])?;
        Ok(())
    }

    /// A listing was answered, though it did not come to its end: failures in a row are over.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn stream_answered(&mut self, stream: i64) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("UPDATE stream SET failures = 0 WHERE id = ?1")?
            .execute([stream])?;
        Ok(())
    }

    /// A listing is too long for a run: of what `is_new`, or of something beside that, for which smaller parts will do.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn stream_too_long(&mut self, stream: i64, is_new: bool) -> Result<(), Fault> {
        let change = if is_new {
            "too_long = too_long + 1"
        } else {
            "too_long = max(too_long, 1)"
        };
        self.write()?
            .prepare_cached(&format!("UPDATE stream SET {change} WHERE id = ?1"))?
            .execute([stream])?;
        Ok(())
    }

    /// Lets the next run list a stream down to its floor, even where `resweep` is off: `swept` is minus the number of this
    /// run until then.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn sweep_again(&mut self, stream: i64) -> Result<(), Fault> {
        let run = self.run;
        self.write()?
            .prepare_cached("UPDATE stream SET swept = -?2 WHERE id = ?1")?
            .execute([stream, run])?;
        Ok(())
    }

    /// Adds to a stream's counters of records that were not handed over, and of reshaped ones.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn count(
        &mut self,
        stream: i64,
        duplicate: usize,
        filtered: usize,
        reshaped: usize,
    ) -> Result<(), Fault> {
        self.write()?
            .prepare_cached(
                "UPDATE stream SET duplicate = duplicate + ?2, filtered = filtered + ?3,
                     reshaped = reshaped + ?4 WHERE id = ?1",
            )?
            .execute(params![
                stream,
                number(duplicate),
                number(filtered),
                number(reshaped)
            ])?;
        Ok(())
    }
}
