//! States of the collection, and when Wazuh was told of each.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, Utc};
use rusqlite::params;

use super::batches::GROWING;
use super::{Batch, Fault, Ledger, time, time_or_never};
use crate::config::ContentType;

/// Whom a state concerns: one of a tenant's streams, or (`None`) the tenant.
pub type Scope = Option<ContentType>;

/// A state that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthState {
    /// Its name, such as `auth_failed`.
    pub state: String,
    /// What it is at; a change is told.
    pub detail: String,
    /// When it was seen first.
    pub since: DateTime<Utc>,
    /// Runs that saw it.
    pub runs: u32,
    /// When it was told last.
    pub said: Option<DateTime<Utc>>,
}

/// What became available in a span that can no longer be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Inclusive.
    pub since: DateTime<Utc>,
    /// Exclusive.
    pub until: DateTime<Utc>,
}

impl Gap {
    /// The name of the state that it is.
    pub const STATE: &str = "gap";

    /// As it stands in a state's detail.
    #[must_use]
    pub fn detail(&self) -> String {
        format!("{}/{}", self.since.to_rfc3339(), self.until.to_rfc3339())
    }

    /// The gap that a state is.
    #[must_use]
    pub fn of(state: &HealthState) -> Option<Self> {
        (state.state == Self::STATE).then(|| Self::read(&state.detail))?
    }

    pub(super) fn read(detail: &str) -> Option<Self> {
        let (since, until) = detail.split_once('/')?;
        let time = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
        Some(Self {
            since: time(since)?,
            until: time(until)?,
        })
    }
}

impl Display for Gap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "what became available from {} to {} can no longer be listed",
            self.since.format("%F %T UTC"),
            self.until.format("%F %T UTC")
        )
    }
}

/// How a stream stands, for states that no single request shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Contents that expired unfetched, of all time.
    pub lost: u64,
    /// Pending contents that were tried in vain.
    pub failed: u64,
    /// Why the last of them was.
    pub error: Option<String>,
    /// When its latest content was created, and on how many of the three days up to that day it had
    /// any.
    pub last_words: Option<(DateTime<Utc>, u32)>,
}

impl Ledger {
    /// A tenant's states by scope.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn health(&self, tenant_id: &str) -> Result<BTreeMap<Scope, Vec<HealthState>>, Fault> {
        let mut statement = self.connection.prepare_cached(
            "SELECT content_type, state, detail, since, runs, said FROM health WHERE tenant_id = ?1",
        )?;
        let mut rows = statement.query([tenant_id])?;
        let mut all: BTreeMap<Scope, Vec<HealthState>> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let scope = ContentType::parse(&row.get::<_, String>(0)?);
            all.entry(scope).or_default().push(HealthState {
                state: row.get(1)?,
                detail: row.get(2)?,
                since: time(row.get(3)?),
                runs: row.get(4)?,
                said: time_or_never(row.get(5)?),
            });
        }
        Ok(all)
    }

    /// Whether Microsoft had no audit log for a tenant when a run looked last.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn lacks_audit_log(&self, tenant_id: &str) -> Result<bool, Fault> {
        let state = "SELECT 1 FROM health WHERE tenant_id = ?1 AND content_type = '' AND state = 'audit_log_off'";
        Ok(self.connection.prepare_cached(state)?.exists([tenant_id])?)
    }

    /// Replaces a scope's states.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn set_health(
        &mut self,
        tenant_id: &str,
        scope: Scope,
        states: &[HealthState],
    ) -> Result<(), Fault> {
        let name = scope.map_or("", ContentType::as_str);
        let connection = self.write()?;
        connection
            .prepare_cached("DELETE FROM health WHERE tenant_id = ?1 AND content_type = ?2")?
            .execute([tenant_id, name])?;
        for state in states {
            connection
                .prepare_cached(
                    "INSERT INTO health (tenant_id, content_type, state, detail, since, runs, said)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    tenant_id,
                    name,
                    state.state,
                    state.detail,
                    state.since.timestamp_millis(),
                    state.runs,
                    state.said.map_or(0, |said| said.timestamp_millis()),
                ])?;
        }
        Ok(())
    }

    /// Owes Wazuh an event about the collection, until a batch that holds it is confirmed.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn owe(&mut self, datagram: &[u8]) -> Result<(), Fault> {
        self.write()?
            .prepare_cached("INSERT INTO told (batch, datagram) VALUES (NULL, ?1)")?
            .execute([datagram])?;
        Ok(())
    }

    /// The events about the collection that no batch holds, each with the ledger's number for it.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn owed(&self) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
        let mut statement = self.connection.prepare_cached(
            "SELECT rowid, datagram FROM told WHERE batch IS NULL ORDER BY rowid",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Such an event was handed over, with the batch that grows.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn owed_was_sent(&mut self, batch: &mut Batch, number: i64) -> Result<(), Fault> {
        batch.add_event();
        self.write()?
            .prepare_cached("UPDATE told SET batch = ?2 WHERE rowid = ?1")?
            .execute([number, GROWING])?;
        Ok(())
    }

    /// How a stream stands.
    ///
    /// # Errors
    /// A failing disk or corrupt ledger.
    pub fn standing(&self, stream: i64) -> Result<Standing, Fault> {
        let mut statement = self.connection.prepare_cached(
            "WITH failed AS (SELECT error, tried_at FROM content INDEXED BY content_open
                             WHERE stream = ?1 AND state = 0 AND attempts > 0),
                  latest AS (SELECT max(created) AS created,
                                    max(created) / 86400000 * 86400000 AS midnight
                             FROM content WHERE stream = ?1)
             SELECT (SELECT lost FROM stream WHERE id = ?1),
                    (SELECT count(*) FROM failed),
                    (SELECT error FROM failed ORDER BY tried_at DESC LIMIT 1),
                    latest.created,
                    1 + EXISTS (SELECT 1 FROM content WHERE stream = ?1
                                AND created >= midnight - 86400000 AND created < midnight)
                      + EXISTS (SELECT 1 FROM content WHERE stream = ?1
                                AND created >= midnight - 172800000
                                AND created < midnight - 86400000)
             FROM latest",
        )?;
        Ok(statement.query_row([stream], |row| {
            let latest: Option<i64> = row.get(3)?;
            let days = row.get(4)?;
            Ok(Standing {
                lost: row.get(0)?,
                failed: row.get(1)?,
                error: row.get(2)?,
                last_words: latest.map(|latest| (time(latest), days)),
            })
        })?)
    }
}
