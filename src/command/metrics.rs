//! Figures of the ledger for Prometheus' `node_exporter`, written by rename after each run.

use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, Utc};

use crate::config::{Settings, Tenant};
use crate::ledger::{Ledger, StreamReport};
use crate::{Error, Result};

/// Writes the file that `[metrics] textfile` names, if any. A run does not fail for want of figures.
pub(super) fn write(settings: &Settings, now: DateTime<Utc>, took: Duration) {
    let Some(path) = &settings.metrics.textfile else {
        return;
    };
    let written = render(settings, now, took).and_then(|text| {
        place(path, &text).map_err(|error| {
            let path = path.display();
            Error::TryLater(format!(
                "{path}: {error}; check that its folder is there and may be written"
            ))
        })
    });
    if let Err(error) = written {
        log::warn!("the metrics ([metrics] textfile) cannot be written: {error}");
    }
}

/// A reader never sees half a file, whoever else writes in the folder. `node_exporter` runs as another user, whatever our
/// umask is.
fn place(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    // In a container each run may have the number of one that was killed.
    match fs::remove_file(&new) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&new)
        .and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())
        })
        .and_then(|()| fs::rename(&new, path));
    written.inspect_err(|_| drop(fs::remove_file(&new)))
}

fn render(settings: &Settings, now: DateTime<Utc>, took: Duration) -> Result<String> {
    let ledger = Ledger::read(&settings.state.ledger)?;
    let (reports, unconfirmed, requests) = match &ledger {
        Some(ledger) => (
            ledger.report(now)?,
            ledger.unconfirmed_events()?,
            ledger.requests()?,
        ),
        None => (Vec::new(), 0, Vec::new()),
    };
    let tenant = |id: &str| {
        settings
            .tenants
            .iter()
            .find(|tenant| tenant.tenant_id == id)
    };
    let mut page = Page(String::new());
    page.gauge("last_run_timestamp_seconds", "When the last run ended.");
    page.sample("last_run_timestamp_seconds", &[], now.timestamp());
    page.gauge("run_duration_seconds", "How long the last run took.");
    page.sample("run_duration_seconds", &[], took.as_secs_f64());
    page.gauge(
        "events_unconfirmed",
        "Events that Wazuh has not confirmed yet.",
    );
    page.sample("events_unconfirmed", &[], unconfirmed);

    let streams: Vec<(&Arc<Tenant>, &StreamReport)> = reports
        .iter()
        .filter_map(|report| Some((tenant(&report.tenant_id)?, report)))
        .collect();
    for (name, kind, help, figure) in STREAM_FIGURES {
        page.head(name, kind, help);
        for (tenant, report) in &streams {
            let is_collected =
                tenant.enabled && tenant.content_types.contains(&report.content_type);
            // It would grow for ever.
            if name == "lag_seconds" && !is_collected {
                continue;
            }
            if let Some(figure) = figure(report, now) {
                let labels = [
                    ("tenant", tenant.name.as_str()),
                    ("content_type", report.content_type.as_str()),
                ];
                page.sample(name, &labels, figure);
            }
        }
    }
    page.head(
        "requests_total",
        "counter",
        "Requests to Microsoft by how they ended.",
    );
    for (tenant_id, outcome, count) in &requests {
        if let Some(tenant) = tenant(tenant_id) {
            let labels = [
                ("tenant", tenant.name.as_str()),
                ("outcome", outcome.as_str()),
            ];
            page.sample("requests_total", &labels, count);
        }
    }
    let expiry = "secret_expiry_timestamp_seconds";
    page.gauge(
        expiry,
        "When the client secret expires, as far as it was told.",
    );
    for tenant in &settings.tenants {
        if let Some(day) = tenant.client_secret_expires {
            let end = day.and_time(NaiveTime::MIN).and_utc().timestamp();
            page.sample(expiry, &[("tenant", &tenant.name)], end);
        }
    }
    Ok(page.0)
}

/// A figure of a stream; none where nothing is known yet.
type Figure = fn(&StreamReport, DateTime<Utc>) -> Option<i64>;

/// Name, kind, help and source of each figure that a stream has.
const STREAM_FIGURES: [(&str, &str, &str, Figure); 8] = [
    (
        "last_success_timestamp_seconds",
        "gauge",
        "When a listing was complete last.",
        |report, _| Some(report.last_success?.timestamp()),
    ),
    (
        "lag_seconds",
        "gauge",
        "How far behind now listings are complete.",
        |report, now| Some((now - report.marker?).num_seconds()),
    ),
    (
        "records_delivered_total",
        "counter",
        "Records that Wazuh has.",
        |report, _| i64::try_from(report.delivered).ok(),
    ),
    (
        "records_duplicate_total",
        "counter",
        "Records that came again and were dropped.",
        |report, _| i64::try_from(report.duplicate).ok(),
    ),
    (
        "records_filtered_total",
        "counter",
        "Records that a filter held back.",
        |report, _| i64::try_from(report.filtered).ok(),
    ),
    (
        "records_reshaped_total",
        "counter",
        "Records that were reshaped to survive.",
        |report, _| i64::try_from(report.reshaped).ok(),
    ),
    (
        "blobs_pending",
        "gauge",
        "Blobs that wait to be fetched.",
        |report, _| i64::try_from(report.pending).ok(),
    ),
    (
        "blobs_lost_total",
        "counter",
        "Blobs that expired unfetched.",
        |report, _| i64::try_from(report.lost).ok(),
    ),
];

/// A page in Prometheus' text format.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP o365_wodle_{name} {help}"));
        self.line(format_args!("# TYPE o365_wodle_{name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    /// Names of tenants, content types and outcomes need no escape.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        self.line(format_args!("o365_wodle_{name}{labels} {value}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing into memory does not fail.
        writeln!(self.0, "{line}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_a_run_of_the_same_number_left_when_it_was_killed_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o365_wodle.prom");
        let left = folder
            .path()
            .join(format!("o365_wodle.prom.{}", std::process::id()));
        fs::write(&left, "half").unwrap();
        place(&path, "whole").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert!(!left.exists());
    }
}
