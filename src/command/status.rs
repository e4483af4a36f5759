//! `status`: what the ledger knows.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::Table;
use serde_json::{Value, json};

use super::run::GONE;
use super::{MOST_TENANTS, names, print_json, table, unsaid};
use crate::cli;
use crate::config::{Settings, Tenant};
use crate::ledger::{BackfillLeft, Ledger, StreamReport};
use crate::microsoft::REACH;
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
    let (reports, troubled, whole) = match &ledger {
        Some(ledger) => (
            ledger.report(now)?,
            ledger.troubled_tenants()?,
            Whole {
                unconfirmed: ledger.unconfirmed_events()?,
                unconfirmed_since: ledger
                    .unconfirmed_since()?
                    .filter(|since| now - *since > STALE),
                assurance: ledger.value("assurance")?,
                backfill: ledger.backfill_left()?,
                held: ledger.held()?,
            },
        ),
        None => Default::default(),
    };
    let left = left_behind(&reports, settings);
    let is_gone = super::run::are_gone(settings, now)?;
    let reports: HashMap<_, _> = reports
        .into_iter()
        .map(|report| ((report.tenant_id.clone(), report.content_type), report))
        .collect();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for tenant in settings
        .tenants
        .iter()
        .filter(|tenant| tenant.enabled || arguments.all)
    {
        for &content_type in &tenant.content_types {
            rows.push(Row {
                tenant,
                content_type: content_type.as_str(),
                report: reports.get(&(tenant.tenant_id.clone(), content_type)),
                trouble: troubled.get(&tenant.tenant_id),
            });
        }
    }
    let mut enabled = rows.iter().filter(|row| row.tenant.enabled);
    let is_held = (whole.held.is_some() || whole.unconfirmed_since.is_some())
        && enabled.clone().next().is_some();
    let is_well = !is_held && !is_gone && enabled.all(|row| row.state(now).is_well());
    let printed = if arguments.json {
        let streams: Vec<Value> = rows.iter().map(|row| row.json(now)).collect();
        let report = json!({
            "version": 1,
            "time": now.to_rfc3339(),
            "assurance": whole.assurance,
            "unconfirmed": whole.unconfirmed,
            "unconfirmed_since": whole.unconfirmed_since.map(|since| since.to_rfc3339()),
            "held": whole.held.as_ref().map(|(since, error)| json!({
                "since": since.to_rfc3339(),
                "error": error,
            })),
            "backfill": {
                "spans": whole.backfill.spans,
                "contents": whole.backfill.contents,
            },
            "streams": streams,
            "tenants_gone": is_gone,
            "left_behind": left.iter().map(|left| json!({
                "tenant": left.tenant,
                "content_type": left.content_type,
                "contents": left.contents,
            })).collect::<Vec<_>>(),
        });
        print_json(&report, out)
    } else if rows.is_empty() {
        let nobody = if is_gone {
            GONE
        } else if settings.tenants.is_empty() {
            "No tenants yet."
        } else {
            "All tenants are disabled; --all shows them."
        };
        writeln!(out, "{nobody}").and_then(|()| print_left(&left, out))
    } else {
        // Problems first; within the same state as the configuration has them.
        rows.sort_by_key(|row| !row.tenant.enabled || row.state(now).is_well());
        print_table(&rows, &whole, arguments.all, now, out).and_then(|()| print_left(&left, out))
    };
    printed.map_err(unsaid)?;
    if is_well {
        Ok(())
    } else {
        Err(Error::Partial(
            "something is not well; see above".to_owned(),
        ))
    }
}

/// What waits of a stream that is not collected any more.
struct Left {
    /// The tenant's name, or its GUID where the configuration has it no longer.
    tenant: String,
    content_type: &'static str,
    contents: u64,
}

/// What Microsoft still has of streams that are not collected any more.
fn left_behind(reports: &[StreamReport], settings: &Settings) -> Vec<Left> {
    let mut left = Vec::new();
    for report in reports.iter().filter(|report| report.fetchable > 0) {
        let mut tenants = settings.tenants.iter();
        let tenant = tenants.find(|tenant| tenant.tenant_id == report.tenant_id);
        let is_collected = tenant.is_some_and(|tenant| {
            tenant.enabled && tenant.content_types.contains(&report.content_type)
        });
        if !is_collected {
            left.push(Left {
                tenant: tenant
                    .map_or(&report.tenant_id, |tenant| &tenant.name)
                    .clone(),
                content_type: report.content_type.as_str(),
                contents: report.fetchable,
            });
        }
    }
    left
}

fn print_left(left: &[Left], out: &mut impl Write) -> std::io::Result<()> {
    for Left {
        tenant,
        content_type,
        contents,
    } in left
    {
        writeln!(
            out,
            "\n{tenant} {content_type}: not collected any more; {contents} of its contents wait, and are fetched if it is \
             again before they expire."
        )?;
    }
    Ok(())
}

/// What is known of all streams together.
#[derive(Default)]
struct Whole {
    assurance: Option<String>,
    /// Events.
    unconfirmed: u64,
    /// Since when the oldest of them is, if that is too long.
    unconfirmed_since: Option<DateTime<Utc>>,
    backfill: BackfillLeft,
    /// Since when Wazuh takes nothing, and why.
    held: Option<(DateTime<Utc>, String)>,
}

/// A line of the table.
struct Row<'a> {
    tenant: &'a Tenant,
    content_type: &'static str,
    report: Option<&'a StreamReport>,
    /// What is wrong with the whole tenant.
    trouble: Option<&'a (String, DateTime<Utc>)>,
}

/// Where nothing came to its end for so long, no run comes any more: even a collection that is started once a day has had one.
const STALE: TimeDelta = TimeDelta::hours(25);

/// So many errors are told in full: where everything fails, the first say enough.
const MOST_ERRORS: usize = 20;

/// How a stream is that is not collected.
const DISABLED: &str = "disabled";

/// How a stream is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Well,
    Unavailable,
    Pending,
    Stale,
    Failing,
    Damaged,
    Lossy,
}

/// As they are explained, the worst first.
const STATES: [State; 8] = [
    State::Lossy,
    State::Damaged,
    State::Failing,
    State::Stale,
    State::Pending,
    State::Unavailable,
    State::Waiting,
    State::Well,
];

impl State {
    fn is_well(self) -> bool {
        !matches!(
            self,
            Self::Stale | Self::Failing | Self::Damaged | Self::Lossy
        )
    }

    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "no run yet",
            Self::Well => "ok",
            Self::Unavailable => "unavailable",
            Self::Pending => "pending",
            Self::Stale => "STALE",
            Self::Failing => "FAILING",
            Self::Damaged => "DAMAGED",
            Self::Lossy => "LOST",
        }
    }

    /// What that means to who looks.
    fn meaning(self) -> &'static str {
        match self {
            Self::Waiting => "no run has looked at it yet",
            Self::Well => "listed and fetched, as far as Microsoft lists",
            Self::Unavailable => {
                "not collected, for the reason said below; a run looks again every 6 hours"
            }
            Self::Pending => "listed, not all fetched yet; the next run goes on",
            Self::Stale => {
                "no listing came to its end for more than a day: is o365-wodle still started, and Wazuh there? `o365-wodle doctor` \
                 looks, and so do Wazuh's log and, for a timer, `systemctl list-timers`"
            }
            Self::Failing => "the last attempt failed, as said below; a later run tries again",
            Self::Damaged => {
                "Microsoft handed out what cannot be read, for good; what could be read of it was sent"
            }
            Self::Lossy => {
                "some of it was gone from Microsoft before it was fetched; the portal's audit search may still have it"
            }
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
            Some(report) if report.lost_lately > 0 || report.gap.is_some() => State::Lossy,
            Some(report) if report.damaged_lately > 0 => State::Damaged,
            Some(report) if report.is_unavailable => State::Unavailable,
            Some(report) if report.error.is_some() => State::Failing,
            // What takes runs to be listed brings records meanwhile.
            Some(report)
                if report.last_success.is_some_and(|listed| {
                    now - listed.max(report.last_record.unwrap_or(listed)) > STALE
                }) =>
            {
                State::Stale
            }
            Some(report) if report.pending > 0 => State::Pending,
            // What was taken over has a marker before any run looks at it.
            Some(report) if report.marker.and(report.last_success).is_none() => State::Waiting,
            Some(_) => State::Well,
        }
    }

    /// How it is, in one word.
    fn word(&self, now: DateTime<Utc>) -> &'static str {
        if self.tenant.enabled {
            self.state(now).word()
        } else {
            DISABLED
        }
    }

    /// Whether some of what is still to be listed can be no more.
    fn is_beyond_reach(&self, now: DateTime<Utc>) -> bool {
        let is_wrong = matches!(self.state(now), State::Failing | State::Stale);
        let marker = self.report.and_then(|report| report.marker);
        is_wrong && marker.is_some_and(|marker| marker < now - REACH)
    }

    /// What was wrong last, and when.
    fn error(&self) -> Option<&(String, DateTime<Utc>)> {
        self.trouble.or_else(|| self.report?.error.as_ref())
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
            "lost_lately": report.map_or(0, |report| report.lost_lately),
            "gap": report.and_then(|report| report.gap).map(|gap| json!({
                "since": gap.since.to_rfc3339(),
                "until": gap.until.to_rfc3339(),
            })),
            "damaged": report.map_or(0, |report| report.damaged),
            "damaged_lately": report.map_or(0, |report| report.damaged_lately),
            "unconfirmed": report.map_or(0, |report| report.unconfirmed),
            "error": self.error().map(|(error, _)| error),
            "error_at": time(self.error().map(|(_, at)| *at)),
        })
    }
}

fn print_table(
    rows: &[Row<'_>],
    whole: &Whole,
    shows_all: bool,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let tenants: HashSet<_> = rows.iter().map(|row| &row.tenant.name).collect();
    let shows_all = shows_all || tenants.len() <= MOST_TENANTS;
    let is_shown = |row: &&Row<'_>| shows_all || row.state(now) != State::Well;
    let shown = rows.iter().filter(is_shown).count();
    if shown > 0 {
        let table = table_of(rows.iter().filter(is_shown), now);
        writeln!(out, "{table}\n")?;
    }
    match rows.len() - shown {
        0 => {}
        well => writeln!(
            out,
            "{well} that are ok are not shown; `o365-wodle status --all` shows them."
        )?,
    }
    print_meanings(rows, now, out)?;
    let beyond = rows.iter().filter(|row| row.is_beyond_reach(now));
    let mut beyond: Vec<&str> = beyond.map(|row| row.tenant.name.as_str()).collect();
    beyond.dedup();
    if !beyond.is_empty() {
        writeln!(
            out,
            "\nNothing new was listed of {} for more than the 7 days that Microsoft keeps: what is older is gone from there, which \
             Wazuh is told by the first run that can. The portal's audit search may still have it.",
            names(&beyond)
        )?;
    }
    if let Some((since, why)) = &whole.held {
        let (since, why) = (since.format("%F %T"), why.trim_end_matches('.'));
        writeln!(
            out,
            "\nWazuh has taken nothing since {since} UTC: {why}. Nothing is lost for now; `o365-wodle doctor` says more."
        )?;
    }
    if let Some(since) = whole.unconfirmed_since {
        writeln!(
            out,
            "\nWazuh has not confirmed what it was sent at {} UTC: `o365-wodle doctor` looks whether it can.",
            since.format("%F %T")
        )?;
    }
    print_errors(rows, now, out)?;
    let assurance = match whole.assurance.as_deref() {
        Some("confirmed") => {
            "Delivered records are confirmed: processed and written by the Wazuh manager"
        }
        Some("forwarded") => {
            "Delivered records are forwarded: the Wazuh agent passed them on while connected"
        }
        Some("accepted") => {
            "Delivered records are accepted: taken by the reader of the queue socket; nothing more can be known \
             there"
        }
        _ => "Nothing is delivered and confirmed yet",
    };
    writeln!(
        out,
        "\n{assurance}. Not yet confirmed: {}.",
        whole.unconfirmed
    )?;
    if whole.backfill != BackfillLeft::default() {
        writeln!(
            out,
            "Left of a backfill: {} contents to fetch, {} spans to list; runs go on with them.",
            whole.backfill.contents, whole.backfill.spans
        )?;
    }
    Ok(())
}

/// A line a stream.
fn table_of<'a>(rows: impl Iterator<Item = &'a Row<'a>>, now: DateTime<Utc>) -> Table {
    let mut table = table([
        "tenant",
        "content type",
        "state",
        "listed up to",
        "last record",
        "today",
        "7 days",
        "unconfirmed",
        "pending",
        "failed",
        "damaged",
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
            row.word(now).to_owned(),
            ago(report.and_then(|report| report.marker), now),
            ago(report.and_then(|report| report.last_record), now),
            number(report.map(|report| report.today)),
            number(report.map(|report| report.week)),
            number(report.map(|report| report.unconfirmed)),
            number(report.map(|report| report.pending)),
            number(report.map(|report| report.failed)),
            number(report.map(|report| report.damaged)),
            number(report.map(|report| report.lost)),
        ]);
    }
    table
}

/// What the words of the states mean that stand in the table.
fn print_meanings(
    rows: &[Row<'_>],
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    for state in STATES {
        let rows = rows.iter().filter(|row| row.word(now) == state.word());
        let count = rows.count();
        if count > 0 {
            writeln!(out, "{count} {}: {}", state.word(), state.meaning())?;
        }
    }
    let disabled = rows.iter().filter(|row| !row.tenant.enabled).count();
    if disabled > 0 {
        writeln!(
            out,
            "{disabled} {DISABLED}: not collected, since the tenant has `enabled = false`"
        )?;
    }
    Ok(())
}

/// Gaps, and what was wrong last: what many streams have in common once.
fn print_errors(rows: &[Row<'_>], now: DateTime<Utc>, out: &mut impl Write) -> std::io::Result<()> {
    let mut errors: Vec<(&str, DateTime<Utc>, Vec<String>)> = Vec::new();
    for row in rows {
        let stream = format!("{} {}", row.tenant.name, row.content_type);
        if let Some(gap) = row.report.and_then(|report| report.gap) {
            writeln!(out, "\n{stream}: {gap}")?;
        }
        let Some((error, at)) = row.error() else {
            continue;
        };
        let place = match row.trouble {
            Some(_) => row.tenant.name.clone(),
            None => stream,
        };
        match errors.iter_mut().find(|(said, ..)| said == error) {
            None => errors.push((error, *at, vec![place])),
            Some((_, last, places)) => {
                *last = (*last).max(*at);
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
    }
    for (error, at, places) in errors.iter().take(MOST_ERRORS) {
        let places = names(places);
        writeln!(out, "\n{places}, {}: {error}", ago(Some(*at), now))?;
    }
    match errors.len().saturating_sub(MOST_ERRORS) {
        0 => Ok(()),
        more => writeln!(
            out,
            "\nSo much for {MOST_ERRORS} of them; {more} more stand in `o365-wodle status --json`."
        ),
    }
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
