//! What a probe found, and how it is said.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Instant;

use comfy_table::{ColumnConstraint, ContentArrangement};
use serde::Serialize;

use super::probes::{Probe, Said};
use crate::command::{MOST_TENANTS, table};

/// Whether a link of the chain holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// Worth knowing; collection works.
    Note,
    Failed,
    /// It depends on one that failed.
    Skipped,
}

/// What a probe found.
#[derive(Debug, Clone, Serialize)]
pub(in crate::command) struct Finding {
    pub(super) probe: &'static str,
    #[serde(flatten)]
    subject: Subject,
    #[serde(rename = "result")]
    pub(super) verdict: Verdict,
    milliseconds: u64,
    /// What was seen, or what is wrong, in one sentence.
    pub(super) seen: String,
    /// What to click or to type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cure: String,
}

/// What was looked at.
#[derive(Debug, Clone, Default, Serialize)]
struct Subject {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// One of Microsoft's hosts, by its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

/// What comes of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok(String),
    Note(Said),
    Failed(Said),
}

impl Outcome {
    /// From what another room says is wrong, with its cure behind a semicolon.
    pub(super) fn failed(said: &str) -> Self {
        Self::split(said, "; ")
    }

    /// The same of two sentences.
    pub(super) fn failed_sentence(said: &str) -> Self {
        Self::split(said, ". ")
    }

    fn split(said: &str, between: &str) -> Self {
        let (seen, cure) = said.split_once(between).unwrap_or((said, ""));
        Self::Failed(Said {
            seen: seen.to_owned(),
            cure: cure.to_owned(),
        })
    }
}

/// Probes of which each needs those before it.
#[derive(Debug)]
pub(super) struct Chain {
    subject: Subject,
    findings: Vec<Finding>,
    is_broken: bool,
    since: Instant,
}

impl Chain {
    /// What is on this host.
    pub(super) fn here() -> Self {
        Self::of(Subject::default())
    }

    /// The way to one of Microsoft's hosts.
    pub(super) fn to(url: &str) -> Self {
        Self::of(Subject {
            host: Some(url.to_owned()),
            ..Subject::default()
        })
    }

    pub(super) fn of_tenant(name: &str) -> Self {
        Self::of(Subject {
            tenant: Some(name.to_owned()),
            ..Subject::default()
        })
    }

    fn of(subject: Subject) -> Self {
        Self {
            subject,
            findings: Vec::new(),
            is_broken: false,
            since: Instant::now(),
        }
    }

    /// Whether a probe that needs those before it makes sense.
    pub(super) fn holds(&self) -> bool {
        !self.is_broken
    }

    /// Whether nothing failed.
    pub(super) fn is_well(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| matches!(finding.verdict, Verdict::Ok | Verdict::Note))
    }

    /// A probe that the next ones need.
    pub(super) fn link(&mut self, probe: &Probe, outcome: Outcome) {
        self.is_broken |= matches!(outcome, Outcome::Failed(..));
        self.add(probe, outcome);
    }

    /// A probe that nothing depends on.
    pub(super) fn add(&mut self, probe: &Probe, outcome: Outcome) {
        let (verdict, seen, cure) = match outcome {
            Outcome::Ok(seen) => (Verdict::Ok, seen, String::new()),
            Outcome::Note(said) => (Verdict::Note, said.seen, said.cure),
            Outcome::Failed(said) => (Verdict::Failed, said.seen, said.cure),
        };
        self.push(probe, verdict, seen, cure);
    }

    /// What comes next cannot be tried, for a reason that another chain tells.
    pub(super) fn break_off(&mut self) {
        self.is_broken = true;
    }

    /// Once a link is broken: those of these probes that were not tried.
    pub(super) fn skip_what_is_left(&mut self, probes: &[&Probe]) {
        for probe in probes {
            let is_done = |finding: &Finding| finding.probe == probe.name;
            if self.is_broken && !self.findings.iter().any(is_done) {
                let seen = "not tried, since what it needs failed".to_owned();
                self.push(probe, Verdict::Skipped, seen, String::new());
            }
        }
    }

    fn push(&mut self, probe: &Probe, verdict: Verdict, seen: String, cure: String) {
        let took = self.since.elapsed();
        self.since = Instant::now();
        self.findings.push(Finding {
            probe: probe.name,
            subject: self.subject.clone(),
            verdict,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            seen,
            cure,
        });
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// What is wrong, then what is worth knowing, then the whole chain.
pub(in crate::command) fn print(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    for (verdict, word) in [(Verdict::Failed, "WRONG"), (Verdict::Note, "note")] {
        for finding in findings.iter().filter(|finding| finding.verdict == verdict) {
            let tenant = finding.subject.tenant.as_deref();
            let tenant = tenant.map(|name| format!("{name}: ")).unwrap_or_default();
            writeln!(out, "{word:5}  {tenant}{}: {}", finding.probe, finding.seen)?;
            if !finding.cure.is_empty() {
                writeln!(out, "       cure: {}", finding.cure)?;
            }
        }
    }
    let tenants = |findings: &mut dyn Iterator<Item = &Finding>| -> BTreeSet<String> {
        findings
            .filter_map(|finding| finding.subject.tenant.clone())
            .collect()
    };
    let having = |verdicts: &[Verdict]| {
        tenants(&mut (findings.iter()).filter(|finding| verdicts.contains(&finding.verdict)))
    };
    let all = tenants(&mut findings.iter());
    let others = having(&[Verdict::Failed, Verdict::Note]);
    let skipped = &having(&[Verdict::Skipped]) - &others;
    // Of many tenants, nothing that follows from what is said elsewhere.
    let is_shown = |finding: &&Finding| {
        let is_of = |name: &String| others.contains(name) && finding.verdict != Verdict::Skipped;
        all.len() <= MOST_TENANTS || finding.subject.tenant.as_ref().is_none_or(is_of)
    };
    let mut table = table(["result", "of", "probe", "ms", "seen"]);
    // What was seen fills the terminal's lines, if that says how wide it is.
    if table.width() != Some(0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        for column in table.column_iter_mut().take(4) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    for finding in findings.iter().filter(is_shown) {
        let Subject { tenant, host } = &finding.subject;
        table.add_row([
            match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Note => "note",
                Verdict::Failed => "WRONG",
                Verdict::Skipped => "skipped",
            },
            tenant.as_deref().or(host.as_deref()).unwrap_or("-"),
            finding.probe,
            &finding.milliseconds.to_string(),
            &finding.seen,
        ]);
    }
    writeln!(out, "\n{table}")?;
    if all.len() <= MOST_TENANTS {
        return Ok(());
    }
    let show = "`o365-wodle doctor --tenant NAME` shows it";
    match skipped.len() {
        0 => {}
        count => writeln!(
            out,
            "\nskipped: {count} more tenants, since what they need failed; {show}"
        )?,
    }
    match all.len() - others.len() - skipped.len() {
        0 => Ok(()),
        well => writeln!(out, "\nok: all of {well} more tenants; {show}"),
    }
}
