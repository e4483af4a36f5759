//! One audit record → the bytes of one event; pure.
//!
//! [`Shaper::read`] looks at a record once and tells who it is. [`Shaper::write`] then wraps it into
//! Wazuh's envelope: byte for byte where Wazuh takes the record whole (white space between tokens apart),
//! reshaped just enough where Wazuh or its indexer would lose or change something.

mod cut;
mod filter;
mod findings;
mod fit;
mod flatten;
mod health;
mod keys;
mod lex;
mod mapping;
mod marks;
mod node;
mod reasons;
mod redact;
mod reshape;
mod scan;
mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};

pub use self::filter::passes;
use self::findings::{Field, Findings};
pub use self::health::{Damaged, Health, damaged, health};
use self::node::Members;
pub use self::reasons::Reasons;
pub use self::redact::Redactor;
use self::scan::Scanner;

/// The longest datagram, header included: it fits through every manager, agent and alert reader.
pub const LONGEST: usize = 64_000;
/// How many fields Wazuh's JSON decoder takes of an event (`analysisd.decoder_order_size`).
const MOST_LEAVES: usize = 256;
/// `integration` and `Subscription`.
const ENVELOPE_LEAVES: usize = 2;
/// `reshaped`, `original_bytes` and `sha256`.
const RESHAPED_LEAVES: usize = 3;

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
    /// Whether arrays of names and values come once more as objects, in `o365_wodle.fields`.
    pub flatten: bool,
    /// What replaces values that a data loss prevention rule matched, if they must not leave.
    pub redactor: Option<&'a Redactor>,
}

/// A record that was read once: a JSON object.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    bytes: &'a [u8],
    findings: Findings<'a>,
}

impl<'a> Record<'a> {
    /// Its bytes, as received.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// `Id`, where it is a string that is not empty: with the record number it identifies the record. In UTF-8, or its token
    /// where it says what is no text.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'a, [u8]>> {
        let token = self.findings.fields.get(Field::Id)?;
        let inside = token.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if inside.is_empty() {
            return None;
        }
        if self.findings.plain {
            return Some(Cow::Borrowed(inside));
        }
        Some(faithful(token))
    }

    /// `RecordNumber`, a number or a string that is not empty: tells apart the parts of a record that Microsoft split. As
    /// [`Self::id`].
    #[must_use]
    pub fn record_number(&self) -> Option<Cow<'a, [u8]>> {
        let token = self.findings.fields.get(Field::RecordNumber)?;
        let number = match token.first()? {
            b't' | b'f' | b'n' => return None,
            b'"' => faithful(token),
            _ => Cow::Borrowed(token),
        };
        Some(number).filter(|number| !number.is_empty())
    }
}

/// The text of a string token; where that might be another's too, since it says what is no text, the token itself. Only
/// tokens begin with a quote.
fn faithful(token: &[u8]) -> Cow<'_, [u8]> {
    match lex::text(token) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) if text.contains(char::REPLACEMENT_CHARACTER) || text.starts_with('"') => {
            Cow::Borrowed(token)
        }
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Makes events of one stream's records. It is prepared once and holds scratch space for one record.
#[derive(Debug)]
pub struct Shaper {
    scanner: Scanner,
    /// From the datagram's header to behind `Subscription`.
    prefix: String,
    /// `,"o365_wodle":{"tenant":…,"labels":{…}`; the second of a backlog.
    origin: [String; 2],
    /// What follows a record that goes as it is; the second of a backlog.
    suffix: [String; 2],
    /// How many leaves tenant and labels are.
    origin_leaves: usize,
    annotate: bool,
    flatten: bool,
    redactor: Option<Redactor>,
}

impl Shaper {
    /// A shaper for a stream.
    #[must_use]
    pub fn new(envelope: &Envelope<'_>) -> Self {
        let mut origin = format!(",\"o365_wodle\":{{\"tenant\":{}", quoted(envelope.tenant));
        for (index, (name, value)) in envelope.labels.iter().enumerate() {
            origin += if index == 0 { ",\"labels\":{" } else { "," };
            // Wazuh would take some texts for arrays.
            let blank = if mapping::seems_an_array(value) {
                " "
            } else {
                ""
            };
            origin.extend([&quoted(name), ":", &quoted(&format!("{blank}{value}"))]);
        }
        if !envelope.labels.is_empty() {
            origin.push('}');
        }
        let origin = [origin.clone(), origin + ",\"backlog\":true"];
        let whole = |origin: &String| {
            if envelope.annotate {
                origin.clone() + "}}"
            } else {
                "}".to_owned()
            }
        };
        Self {
            scanner: Scanner::default(),
            prefix: format!(
                "1:{}:{{\"integration\":\"office365\",\"office365\":{{\"Subscription\":{}",
                envelope.location,
                quoted(envelope.content_type)
            ),
            suffix: origin.each_ref().map(whole),
            origin,
            origin_leaves: 1 + envelope.labels.len(),
            annotate: envelope.annotate,
            flatten: envelope.flatten,
            redactor: envelope.redactor.cloned(),
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

    /// The records that [`Self::read_at`] reads next stand in this chunk of a blob.
    pub fn set_chunk(&mut self, chunk: &[u8]) {
        self.scanner.set_chunk(chunk);
    }

    /// Reads the element that begins at `start` of the chunk given to [`Self::set_chunk`], and says where the byte behind it is;
    /// `None` if it is no JSON object, or does not end in this chunk.
    #[must_use]
    pub fn read_at<'a>(&mut self, chunk: &'a [u8], start: usize) -> Option<(Record<'a>, usize)> {
        let (findings, end) = self.scanner.scan_at(chunk, start)?;
        let bytes = chunk.get(start..end)?;
        Some((Record { bytes, findings }, end))
    }

    /// Appends the event of a record to `out`, one whole datagram, and says what was done to the record.
    ///
    /// `backlog`: its content was created over an hour ago.
    pub fn write(&self, record: &Record<'_>, backlog: bool, out: &mut Vec<u8>) -> Reasons {
        let findings = &record.findings;
        let mut reasons = findings.reasons;
        let leaves = findings.leaves + self.leaves_around(self.annotate, backlog);
        reasons.add_if(leaves > MOST_LEAVES, Reasons::LEAF_LIMIT);
        if reasons.is_empty() && !self.may_redact(record) {
            if self.pass(record, backlog, out) {
                return reasons;
            }
            reasons |= Reasons::OVERSIZE;
        }
        // both readers know the same JSON
        let members = node::read(record.bytes).unwrap_or_default();
        self.reshape(record, members, reasons, backlog, out)
    }

    /// Appends the event of a record that goes as it is, unless it is too long; says whether it did.
    fn pass(&self, record: &Record<'_>, backlog: bool, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.extend_from_slice(self.prefix.as_bytes());
        let members = record.bytes.strip_prefix(b"{").unwrap_or(record.bytes);
        out.push(b',');
        if record.findings.spaced {
            lex::compact(members, out);
        } else {
            out.extend_from_slice(members);
        }
        let fields = (self.flatten && record.findings.properties)
            .then(|| node::read(record.bytes))
            .flatten();
        if fields.is_none() {
            let [recent, old] = &self.suffix;
            out.extend_from_slice(if backlog { old } else { recent }.as_bytes());
            return take_back_if_too_long(start, out);
        }
        let leaves = record.findings.leaves;
        let annotation = Annotation {
            reasons: Reasons::default(),
            backlog,
            flat: fields.as_ref().map(|members| (members, leaves)),
        };
        self.close(record, &annotation, start, out);
        take_back_if_too_long(start, out)
    }

    /// Appends the event of a record that has to change, or seems to.
    fn reshape<'a>(
        &self,
        record: &Record<'a>,
        mut members: Members<'a>,
        mut reasons: Reasons,
        backlog: bool,
        out: &mut Vec<u8>,
    ) -> Reasons {
        let redact = |members: &mut Members<'a>| {
            let redactor = self.redactor.as_ref();
            redactor.is_some_and(|redactor| redactor.redact_members(members))
        };
        let redacted = redact(&mut members);
        if reasons.is_empty() && redacted {
            reasons = self.close_redacted(record, &mut members, backlog, out);
            if reasons.is_empty() {
                return reasons;
            }
        }
        reshape::name_keys(&mut members, false);
        reshape::map(&mut members);
        reshape::front(&mut members);
        let renamed = reshape::tell_apart(&mut members);
        reasons = reasons.without(Reasons::KEY_CASE);
        reasons.add_if(renamed, Reasons::KEY_CASE);
        if reasons.is_empty() {
            if redacted {
                // in the record's own order
                let mut own = node::read(record.bytes).unwrap_or_default();
                redact(&mut own);
                reasons = self.close_redacted(record, &mut own, backlog, out);
            } else {
                reasons.add_if(!self.pass(record, backlog, out), Reasons::OVERSIZE);
            }
            if reasons.is_empty() {
                return reasons;
            }
        }
        let around = self.leaves_around(true, backlog) + RESHAPED_LEAVES;
        let limited = reshape::limit_leaves(&mut members, MOST_LEAVES - around);
        reasons.add_if(limited, Reasons::LEAF_LIMIT);
        for (_, value) in &mut members {
            reasons.add_if(reshape::limit_depth(value, 1), Reasons::DEPTH);
        }
        // an object that is a leaf now may stand in the way of another's path
        reasons.add_if(reshape::tell_apart(&mut members), Reasons::KEY_CASE);
        reasons.add_if(reshape::tame_members(&mut members), Reasons::LONG_STRING);
        reasons.add_if(reshape::cut_front(&mut members), Reasons::LONG_STRING);
        if !self.close_members(record, &members, reasons, backlog, out) {
            reasons |= Reasons::OVERSIZE;
            let start = out.len();
            let annotation = Annotation {
                reasons,
                backlog,
                flat: None,
            };
            self.close(record, &annotation, start, out);
            let around = self.prefix.len() + ",}".len() + out.len() - start;
            out.truncate(start);
            let whole = reshape::front_length(&members);
            fit::fit_record(&mut members, whole, LONGEST.saturating_sub(around));
            self.close_members(record, &members, reasons, backlog, out);
        }
        reasons
    }

    /// Appends the event of a record that only redaction has changed. Says what made that impossible: hashes may be
    /// longer than what they stand for.
    fn close_redacted(
        &self,
        record: &Record<'_>,
        members: &mut Members<'_>,
        backlog: bool,
        out: &mut Vec<u8>,
    ) -> Reasons {
        let mut reasons = Reasons::default();
        reasons.add_if(reshape::tame_members(members), Reasons::LONG_STRING);
        if reasons.is_empty() {
            let fits = self.close_members(record, members, reasons, backlog, out);
            reasons.add_if(!fits, Reasons::OVERSIZE);
        }
        reasons
    }

    /// Appends a whole datagram of these members, unless it is too long; says whether it did.
    fn close_members(
        &self,
        record: &Record<'_>,
        members: &Members<'_>,
        reasons: Reasons,
        backlog: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        out.extend_from_slice(self.prefix.as_bytes());
        for member in members {
            out.push(b',');
            node::write_members(std::slice::from_ref(member), out);
        }
        out.push(b'}');
        let leaves = members.iter().map(|(_, value)| value.leaves()).sum();
        let annotation = Annotation {
            reasons,
            backlog,
            flat: self.flatten.then_some((members, leaves)),
        };
        self.close(record, &annotation, start, out);
        take_back_if_too_long(start, out)
    }

    /// Appends `o365_wodle`, where it has something to say, and the last bracket.
    fn close(
        &self,
        record: &Record<'_>,
        annotation: &Annotation<'_, '_>,
        start: usize,
        out: &mut Vec<u8>,
    ) {
        let before = out.len();
        let [recent, old] = &self.origin;
        out.extend_from_slice(if annotation.backlog { old } else { recent }.as_bytes());
        let reshaped = !annotation.reasons.is_empty();
        if reshaped {
            for (index, name) in annotation.reasons.names().enumerate() {
                let separator: &[u8] = if index == 0 { b",\"reshaped\":[" } else { b"," };
                out.extend_from_slice(separator);
                text::write(name, out);
            }
            let bytes = record.bytes.len();
            let sha256 = hex(&sha256(record.bytes));
            out.extend_from_slice(
                format!("],\"original_bytes\":{bytes},\"sha256\":\"{sha256}\"").as_bytes(),
            );
        }
        let fields = annotation.flat.and_then(|(members, leaves)| {
            let around = self.leaves_around(true, annotation.backlog)
                + usize::from(reshaped) * RESHAPED_LEAVES;
            let left = MOST_LEAVES.saturating_sub(leaves + around);
            let room = LONGEST.saturating_sub(out.len() - start + b"}}".len());
            flatten::fields(members, left, room)
        });
        if let Some(fields) = &fields {
            out.extend_from_slice(b",\"fields\":{");
            node::write_members(fields, out);
            out.push(b'}');
        }
        out.push(b'}');
        if !self.annotate && !reshaped && fields.is_none() {
            out.truncate(before);
        }
        out.push(b'}');
    }

    /// How many leaves an event has besides the record's, those of reshaping and of flattening apart.
    fn leaves_around(&self, annotated: bool, backlog: bool) -> usize {
        let annotation = self.origin_leaves + usize::from(backlog);
        ENVELOPE_LEAVES + if annotated { annotation } else { 0 }
    }

    /// Whether a record may have something to redact.
    fn may_redact(&self, record: &Record<'_>) -> bool {
        self.redactor.is_some() && redact::may_mention(record.bytes)
    }
}

/// Takes back what was appended since `start` if it is too long for a datagram; says whether it was not.
fn take_back_if_too_long(start: usize, out: &mut Vec<u8>) -> bool {
    let fits = out.len() - start <= LONGEST;
    if !fits {
        out.truncate(start);
    }
    fits
}

/// What stands in `o365_wodle` of one event.
struct Annotation<'m, 'a> {
    reasons: Reasons,
    backlog: bool,
    /// What is to be flattened, and how many leaves it has.
    flat: Option<(&'m Members<'a>, usize)>,
}

/// A string as JSON writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = digest(&SHA256, bytes);
    // it always has that many
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests;
