//! One audit record → the bytes of one event; pure.
//!
//! [`Shaper::read`] looks at a record once and tells who it is. [`Shaper::write`] then wraps it into
//! Wazuh's envelope: byte for byte where Wazuh takes the record whole (white space between tokens apart),
//! reshaped just enough where Wazuh or its indexer would lose or change something.

mod health;
mod lex;
mod mapping;
mod reasons;
mod scan;
mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};

pub use self::health::{Damaged, Health, damaged, health};
pub use self::reasons::Reasons;
use self::scan::{Field, Findings, Scanner};

/// The longest datagram, header included: it fits through every manager, agent and alert reader.
pub const LONGEST: usize = 64_000;

/// What all events of one stream have in common.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The location in the datagram's header; holds neither `:` nor `|`.
    pub location: &'a str,
    /// The content type, for `Subscription`.
    pub content_type: &'a str,
    /// The operator's name of the tenant.
    pub tenant: &'a str,
    /// The tenant's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Whether each event gets `o365_wodle`, or only those where reshaping has something to say.
    pub annotate: bool,
}

/// A record that was read once: a JSON object.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    bytes: &'a [u8],
    findings: Findings<'a>,
}

impl<'a> Record<'a> {
    /// `Id`, where it is a string that is not empty: with the record number it identifies the record.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'a, str>> {
        string(self.findings.fields.get(Field::Id)).filter(|id| !id.is_empty())
    }

    /// `RecordNumber` as text, a number or a string that is not empty: tells apart the parts of a record that Microsoft split.
    #[must_use]
    pub fn record_number(&self) -> Option<Cow<'a, str>> {
        scalar(self.findings.fields.get(Field::RecordNumber)).filter(|number| !number.is_empty())
    }

    /// `CreationTime` as Microsoft wrote it.
    #[must_use]
    pub fn creation_time(&self) -> Option<Cow<'a, str>> {
        string(self.findings.fields.get(Field::CreationTime))
    }
}

/// The text of a string token.
fn string(token: Option<&[u8]>) -> Option<Cow<'_, str>> {
    token
        .filter(|token| token.starts_with(b"\""))
        .map(lex::text)
}

/// The text of a string or number token.
fn scalar(token: Option<&[u8]>) -> Option<Cow<'_, str>> {
    let token = token.filter(|token| !matches!(token.first(), Some(b't' | b'f' | b'n')))?;
    string(Some(token)).or_else(|| Some(String::from_utf8_lossy(token)))
}

/// Makes events of one stream's records. It is prepared once and holds scratch space for one record.
#[derive(Debug)]
pub struct Shaper {
    scanner: Scanner,
    /// From the datagram's header to behind `Subscription`.
    prefix: String,
    /// `"tenant":…,"labels":{…}`
    origin: String,
    /// How many leaves `origin` has.
    origin_leaves: usize,
    annotate: bool,
}

impl Shaper {
    /// A shaper for a stream.
    #[must_use]
    pub fn new(envelope: &Envelope<'_>) -> Self {
        let mut origin = format!("\"tenant\":{}", quoted(envelope.tenant));
        for (index, (name, value)) in envelope.labels.iter().enumerate() {
            origin += if index == 0 { ",\"labels\":{" } else { "," };
            origin += &format!("{}:{}", quoted(name), quoted(value));
        }
        if !envelope.labels.is_empty() {
            origin.push('}');
        }
        Self {
            scanner: Scanner::default(),
            prefix: format!(
                "1:{}:{{\"integration\":\"office365\",\"office365\":{{\"Subscription\":{}",
                envelope.location,
                quoted(envelope.content_type)
            ),
            origin,
            origin_leaves: 1 + envelope.labels.len(),
            annotate: envelope.annotate,
        }
    }

    /// Reads an element of a blob; `None` if it is no JSON object: then [`damaged`] tells of it.
    #[must_use]
    pub fn read<'a>(&mut self, element: &'a [u8]) -> Option<Record<'a>> {
        let findings = self.scanner.scan(element)?;
        Some(Record {
            bytes: element,
            findings,
        })
    }

    /// Appends the event of a record to `out`, one whole datagram, and says what was done to the record.
    ///
    /// `backlog`: its content was created over an hour ago.
    pub fn write(&self, record: &Record<'_>, backlog: bool, out: &mut Vec<u8>) -> Reasons {
        let start = out.len();
        self.pass(record, backlog, out);
        let mut reasons = record.findings.reasons;
        reasons.add_if(out.len() - start > LONGEST, Reasons::OVERSIZE);
        reasons
    }

    /// Appends the event of a record that goes as it is.
    fn pass(&self, record: &Record<'_>, backlog: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        let members = record.bytes.strip_prefix(b"{").unwrap_or(record.bytes);
        if record.findings.leaves > 0 || members.len() > 1 {
            out.push(b',');
        }
        if record.findings.spaced {
            lex::compact(members, out);
        } else {
            out.extend_from_slice(members);
        }
        if self.annotate {
            out.extend_from_slice(b",\"o365_wodle\":{");
            out.extend_from_slice(self.origin.as_bytes());
            if backlog {
                out.extend_from_slice(b",\"backlog\":true");
            }
            out.push(b'}');
        }
        out.push(b'}');
    }
}

/// A string as JSON writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The SHA-256 of bytes, in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
