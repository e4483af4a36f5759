//! `status`: what the ledger knows.

use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::cli;
use crate::config::{Settings, Tenant};
use crate::ledger::{Ledger, StreamReport};
use crate::{Error, Result};

/// Prints the state of each stream.
///
/// # Errors
/// [`Error::Partial`] if something is not well; what is wrong with the ledger.
pub(crate) fn status(
    settings: &Settings,
    arguments: &cli::Status,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> Result<()> {
    let ledger = Ledger::read(&settings.state.ledger)?;
    let (reports, unconfirmed, assurance) = match &ledger {
        Some(ledger) => (
            ledger.report(now)?,
            ledger.unconfirmed_events()?,
            ledger.value("assurance")?,
        ),
        None => (Vec::new(), 0, None),
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for tenant in settings
        .tenants
        .iter()
        .filter(|tenant| tenant.enabled || arguments.all)
    {
        for &content_type in &tenant.content_types {
            let report = reports.iter().find(|report| {
                report.tenant_id == tenant.tenant_id && report.content_type == content_type
            });
            let trouble = match &ledger {
                Some(ledger) => ledger.tenant(&tenant.tenant_id)?.error,
                None => None,
            };
            rows.push(Row {
                tenant,
                content_type: content_type.as_str(),
                report,
                trouble,
            });
        }
    }
    let is_well = rows
        .iter()
        .all(|row| !row.tenant.enabled || row.state(now).is_well());
    let printed = if arguments.json {
        let streams: Vec<Value> = rows.iter().map(|row| row.json(now)).collect();
        let report = json!({
            "version": 1,
            "time": now.to_rfc3339(),
            "assurance": assurance,
            "unconfirmed": unconfirmed,
            "streams": streams,
        });
        writeln!(out, "{report:#}")
    } else {
        // Problems first; within the same state as the configuration has them.
        rows.sort_by_key(|row| row.state(now).is_well());
        print_table(&rows, assurance.as_deref(), unconfirmed, now, out)
    };
    printed.map_err(|error| Error::TryLater(format!("standard output: {error}")))?;
    if is_well {
        Ok(())
    } else {
        Err(Error::Partial(
            "something is not well; see above".to_owned(),
        ))
    }
}

/// A line of the table.
struct Row<'a> {
    tenant: &'a Tenant,
    content_type: &'static str,
    report: Option<&'a StreamReport>,
    /// What is wrong with the whole tenant.
    trouble: Option<String>,
}

/// How a stream is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Well,
    Unavailable,
    Pending,
    Failing,
    Lossy,
}

impl State {
    fn is_well(self) -> bool {
        !matches!(self, Self::Failing | Self::Lossy)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "no run yet",
            Self::Well => "ok",
            Self::Unavailable => "unavailable",
            Self::Pending => "pending",
            Self::Failing => "FAILING",
            Self::Lossy => "LOST",
        }
    }
}

impl Row<'_> {
    fn state(&self, now: DateTime<Utc>) -> State {
        if self.trouble.is_some() {
            return State::Failing;
        }
        match self.report {
            None => State::Waiting,
            Some(report) if report.lost > 0 => State::Lossy,
            Some(report) if report.unavailable_until.is_some_and(|until| until > now) => {
                State::Unavailable
            }
            Some(report) if report.error.is_some() => State::Failing,
            Some(report) if report.pending > 0 => State::Pending,
            Some(report) if report.marker.is_none() => State::Waiting,
            Some(_) => State::Well,
        }
    }

    fn error(&self) -> Option<&str> {
        self.trouble
            .as_deref()
            .or_else(|| self.report?.error.as_ref().map(|(error, _)| error.as_str()))
    }

    fn json(&self, now: DateTime<Utc>) -> Value {
        let time = |time: Option<DateTime<Utc>>| time.map(|time| time.to_rfc3339());
        let report = self.report;
        json!({
            "tenant": self.tenant.name,
            "tenant_id": self.tenant.tenant_id,
            "content_type": self.content_type,
            "enabled": self.tenant.enabled,
            "state": self.state(now).word().to_lowercase().replace(' ', "_"),
            "marker": time(report.and_then(|report| report.marker)),
            "lag_seconds": report.and_then(|report| Some((now - report.marker?).num_seconds())),
            "last_success": time(report.and_then(|report| report.last_success)),
            "last_record": time(report.and_then(|report| report.last_record)),
            "delivered": report.map_or(0, |report| report.delivered),
            "today": report.map_or(0, |report| report.today),
            "week": report.map_or(0, |report| report.week),
            "duplicate": report.map_or(0, |report| report.duplicate),
            "filtered": report.map_or(0, |report| report.filtered),
            "reshaped": report.map_or(0, |report| report.reshaped),
            "pending": report.map_or(0, |report| report.pending),
            "failed": report.map_or(0, |report| report.failed),
            "lost": report.map_or(0, |report| report.lost),
            "damaged": report.map_or(0, |report| report.damaged),
            "error": self.error(),
        })
    }
}

fn print_table(
    rows: &[Row<'_>],
    assurance: Option<&str>,
    unconfirmed: u64,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "No tenants yet.");
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header([
            "tenant",
            "content type",
            "state",
            "listed up to",
            "last record",
            "today",
            "7 days",
            "pending",
            "lost",
        ]);
    for row in rows {
        let report = row.report;
        let number = |number: Option<u64>| {
            number.map_or_else(|| "-".to_owned(), |number| number.to_string())
        };
        table.add_row([
            row.tenant.name.clone(),
            row.content_type.to_owned(),
            row.state(now).word().to_owned(),
            ago(report.and_then(|report| report.marker), now),
            ago(report.and_then(|report| report.last_record), now),
            number(report.map(|report| report.today)),
            number(report.map(|report| report.week)),
            number(report.map(|report| report.pending)),
            number(report.map(|report| report.lost)),
        ]);
    }
    writeln!(out, "{table}")?;
    let mut said: Vec<&str> = Vec::new();
    for row in rows {
        if let Some(error) = row.error()
            && !said.contains(&error)
        {
            said.push(error);
            writeln!(out, "\n{}: {error}", row.tenant.name)?;
        }
    }
    let assurance = match assurance {
        Some("confirmed") => "confirmed: processed and written by the Wazuh manager",
        Some("forwarded") => "forwarded: the Wazuh agent passed them on while connected",
        Some("accepted") => {
            "accepted: taken by the reader of the queue socket; nothing more can be known there"
        }
        _ => "nothing delivered yet",
    };
    writeln!(
        out,
        "\nDelivered records are {assurance}. Not yet confirmed: {unconfirmed}."
    )
}

/// How long ago, in the largest unit.
fn ago(time: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    let Some(time) = time else {
        return "-".to_owned();
    };
    let age = (now - time).max(TimeDelta::zero());
    match (age.num_days(), age.num_hours(), age.num_minutes()) {
        (0, 0, 0) => "just now".to_owned(),
        (0, 0, minutes) => format!("{minutes} min ago"),
        (0, hours, _) => format!("{hours} h ago"),
        (days, ..) => format!("{days} d ago"),
    }
}
