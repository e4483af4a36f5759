//! Judges conservation: every record issued arrived once, unaltered.
//!
//! What Microsoft's side issues becomes an obligation; what Wazuh's side received discharges it.
//! A record is one by tenant, content type, `Id` and `RecordNumber` (where there is one), however
//! often it is issued; without an `Id` it is one by its text, as often as it was issued.

mod text;
mod verdict;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) use text::{Fields, refused_by_cjson};
use text::{compact, string};
pub use verdict::Verdict;

/// The most bytes that one datagram may have, header included.
pub const MAX_DATAGRAM: usize = 64_000;

/// Longer values may be cut where an event is reshaped.
const LONGEST_ID: usize = 1024;

/// Keeps the obligations and what came of them.
#[derive(Default)]
pub struct Oracle {
    hashes_only: bool,
    /// tenant names beside tenant ids
    names: HashMap<String, String>,
    tenants: Names,
    content_types: Names,
    obligations: Vec<Obligation>,
    /// by content type and identity, the first of a chain through `Obligation::next`
    first: HashMap<u64, usize>,
    received: usize,
    health: Vec<Value>,
    reshaped: usize,
    altered: Vec<String>,
    malformed: Vec<String>,
    oversize: Vec<String>,
    unexpected: Vec<String>,
}

struct Obligation {
    next: Option<usize>,
    tenant: usize,
    content_type: usize,
    /// whether an `Id` of usual length names it
    named: bool,
    /// how often it must arrive: more than once only without an `Id`
    due: u32,
    arrived: u32,
    /// of the text; several where the same `Id` was issued with different texts
    hash: u64,
    variants: Vec<u64>,
    /// `None` in the cheap mode
    kept: Option<Box<Kept>>,
}

struct Kept {
    label: String,
    text: String,
}

/// Strings by number.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("?", String::as_str)
    }
}

/// The event as Wazuh's side got it. Other top-level keys than these are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    integration: String,
    #[serde(borrow)]
    office365: &'a RawValue,
    #[serde(borrow)]
    o365_wodle: Option<&'a RawValue>,
}

/// What the collector adds beside the record.
#[derive(Deserialize, Default)]
struct Annotation {
    tenant: Option<String>,
    reshaped: Option<Vec<String>>,
    raw: Option<String>,
}

fn hash_of(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl Oracle {
    /// An oracle that keeps the texts and can tell what was altered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An oracle for millions of records: it keeps hashes in place of texts and labels.
    #[must_use]
    pub fn cheap() -> Self {
        Self {
            hashes_only: true,
            ..Self::default()
        }
    }

    /// Says how the collector's configuration calls a tenant, so that `o365_wodle.tenant` can
    /// tell records with equal ids apart.
    pub fn tenant(&mut self, name: &str, tenant_id: &str) {
        self.names.insert(name.to_owned(), tenant_id.to_owned());
    }

    /// A record, or another element of a blob's array, that must arrive. `record` is its text as
    /// it was issued, white space and all.
    pub fn issued(&mut self, tenant_id: &str, content_type: &str, record: &[u8]) {
        let text = String::from_utf8_lossy(record);
        let text = compact(&text);
        let hash = hash_of(&[&text]);
        let (identity, key) = match Fields::of(&text) {
            Some(fields) => keys(content_type, &fields, &text),
            // no object: it can only come back as raw text in an event about the collection
            None => (None, hash_of(&["raw", content_type])),
        };
        let tenant = self.tenants.number(tenant_id);
        let head = self.first.get(&key).copied();
        let same = self.chain(head).find(|&(_, known)| {
            known.tenant == tenant && (identity.is_some() || known.hash == hash)
        });
        if let Some((at, _)) = same {
            let Some(known) = self.obligations.get_mut(at) else {
                return;
            };
            if identity.is_none() {
                known.due += 1;
            } else if known.hash != hash && !known.variants.contains(&hash) {
                known.variants.push(hash);
            }
            return;
        }
        let named = identity.as_ref().is_some_and(|id| id.len() <= LONGEST_ID);
        let kept = (!self.hashes_only).then(|| {
            let label = identity.unwrap_or_else(|| format!("without Id: {}", clip(&text)));
            Box::new(Kept {
                label,
                text: text.into_owned(),
            })
        });
        self.first.insert(key, self.obligations.len());
        self.obligations.push(Obligation {
            next: head,
            tenant,
            content_type: self.content_types.number(content_type),
            named,
            due: 1,
            arrived: 0,
            hash,
            variants: Vec::new(),
            kept,
        });
    }

    /// A datagram that the queue socket's reader took: `1:<location>:<event>`.
    pub fn received(&mut self, datagram: &[u8]) {
        if datagram.len() > MAX_DATAGRAM {
            self.oversize.push(format!(
                "{} bytes: {}",
                datagram.len(),
                clip(&String::from_utf8_lossy(datagram))
            ));
        }
        let event = datagram
            .strip_prefix(b"1:")
            .and_then(|rest| {
                rest.iter()
                    .position(|&b| b == b':')
                    .and_then(|at| rest.split_at_checked(at))
            })
            .filter(|(location, _)| {
                !location.is_empty() && !location.starts_with(b"[") && !location.contains(&b'|')
            })
            .and_then(|(_, event)| event.strip_prefix(b":"));
        match event {
            Some(event) => self.received_event(event),
            None => self.malform("no header 1:<location>:", datagram),
        }
    }

    /// An event without the queue's header, such as a line of [`Manager::alerts`].
    ///
    /// [`Manager::alerts`]: crate::wazuh::Manager::alerts
    pub fn received_event(&mut self, event: &[u8]) {
        if let Err(why) = self.judge(event) {
            self.malform(&why, event);
        }
    }

    fn judge(&mut self, event: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(event).map_err(|fault| fault.to_string())?;
        if text.contains('\n') {
            return Err("more than one line".into());
        }
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        if envelope.integration != "office365"
            || !text.starts_with(r#"{"integration":"office365","office365":{"#)
        {
            return Err("not Wazuh's envelope".into());
        }
        if let Some(why) = refused_by_cjson(text) {
            return Err(format!("{why}: Wazuh refuses it"));
        }
        let annotation: Annotation = match envelope.o365_wodle {
            Some(raw) => {
                serde_json::from_str(raw.get()).map_err(|fault| format!("o365_wodle: {fault}"))?
            }
            None => Annotation::default(),
        };
        let record = envelope.office365.get();
        let fields = Fields::of(record).ok_or("office365 is no object")?;
        if fields.is_health() {
            self.health
                .push(serde_json::from_str(text).map_err(|fault| fault.to_string())?);
            if let Some(raw) = &annotation.raw {
                self.discharge_raw(raw);
            }
            return Ok(());
        }
        let subscription = fields
            .subscription
            .and_then(string)
            .ok_or("no Subscription")?;
        self.received += 1;
        let reshaped = annotation.reshaped.is_some();
        self.reshaped += usize::from(reshaped);

        let prefix = format!("{{\"Subscription\":\"{subscription}\"");
        let rest = record
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_prefix(',').or((rest == "}").then_some(rest)));
        let original = rest.map(|rest| format!("{{{rest}"));
        // without the Subscription in front nothing can be equal; an Id can still be found
        let original = original.as_deref().unwrap_or(record);
        let hash = hash_of(&[original]);
        let (identity, key) = keys(&subscription, &fields, original);
        let named = annotation
            .tenant
            .as_ref()
            .map(|name| self.names.get(name).unwrap_or(name));
        let organization = fields.organization.and_then(string);
        // the likeliest tenant, where several issued the same Id
        let likeliest = self
            .chain(self.first.get(&key).copied())
            .max_by_key(|(_, known)| {
                let tenant = self.tenants.name(known.tenant);
                (
                    named.is_some_and(|named| named == tenant),
                    known.is(hash),
                    organization.as_deref() == Some(tenant),
                    known.arrived < known.due,
                )
            });
        // reshaped, a record without an Id can be told by nothing: any that is still due will do
        let found = likeliest.map(|(at, _)| at).or_else(|| {
            let content_type = self.content_types.numbers.get(&*subscription)?;
            let due = |known: &Obligation| {
                !known.named && known.content_type == *content_type && known.arrived < known.due
            };
            if reshaped {
                self.obligations.iter().position(due)
            } else {
                None
            }
        });
        let Some(at) = found else {
            let who = identity.unwrap_or_else(|| clip(record));
            self.unexpected.push(format!("{subscription} {who}"));
            return Ok(());
        };
        if let Some(known) = self.obligations.get_mut(at) {
            known.arrived += 1;
            let tenant = self.tenants.name(known.tenant);
            let who = annotation.tenant.as_ref();
            let named = who.and_then(|name| self.names.get(name));
            if let Some(named) = named.filter(|named| *named != tenant) {
                self.altered
                    .push(format!("{subscription} of {tenant} came as {named}'s"));
            }
            let equal = known.is(hash);
            if !equal && !reshaped {
                let what = match &known.kept {
                    Some(kept) => format!(
                        "{subscription} {}: {}",
                        kept.label,
                        difference(&kept.text, original)
                    ),
                    None => format!("{subscription} {}", identity.unwrap_or_default()),
                };
                self.altered.push(what);
            }
        }
        Ok(())
    }

    /// An element that is no record came as raw text, perhaps cut.
    fn discharge_raw(&mut self, raw: &str) {
        let raw = compact(raw);
        let raw = raw.trim_end_matches('…');
        let content_types: Vec<String> = self.content_types.names.clone();
        for content_type in content_types {
            let head = self.first.get(&hash_of(&["raw", &content_type])).copied();
            let found = self.chain(head).find(|(_, known)| {
                known.arrived < known.due
                    && (known.hash == hash_of(&[raw])
                        || known
                            .kept
                            .as_ref()
                            .is_some_and(|kept| !raw.is_empty() && kept.text.starts_with(raw)))
            });
            let at = found.map(|(at, _)| at);
            if let Some(known) = at.and_then(|at| self.obligations.get_mut(at)) {
                known.arrived += 1;
                self.received += 1;
                return;
            }
        }
    }

    fn chain(&self, head: Option<usize>) -> impl Iterator<Item = (usize, &Obligation)> {
        let step = |at: usize| self.obligations.get(at).map(|known| (at, known));
        std::iter::successors(head.and_then(step), move |(_, known)| {
            known.next.and_then(step)
        })
    }

    fn malform(&mut self, why: &str, bytes: &[u8]) {
        self.malformed
            .push(format!("{why}: {}", clip(&String::from_utf8_lossy(bytes))));
    }

    /// The events about the collection itself, whole envelopes.
    #[must_use]
    pub fn health(&self) -> &[Value] {
        &self.health
    }

    /// How often each `o365_wodle.health` value came.
    #[must_use]
    pub fn health_counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for event in &self.health {
            if let Some(health) = event.pointer("/o365_wodle/health").and_then(Value::as_str) {
                *counts.entry(health.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// What came of the obligations so far.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict {
            issued: 0,
            received: self.received,
            missing: Vec::new(),
            repeated: Vec::new(),
            repeats: 0,
            reshaped: self.reshaped,
            altered: self.altered.clone(),
            malformed: self.malformed.clone(),
            oversize: self.oversize.clone(),
            unexpected: self.unexpected.clone(),
        };
        for known in &self.obligations {
            verdict.issued += known.due as usize;
            let label = || {
                let label = known
                    .kept
                    .as_ref()
                    .map_or("(hash only)", |kept| &kept.label);
                let (tenant, content_type) = (
                    self.tenants.name(known.tenant),
                    self.content_types.name(known.content_type),
                );
                format!("{tenant} {content_type} {label}")
            };
            for _ in known.arrived..known.due {
                verdict.missing.push(label());
            }
            if known.arrived > known.due {
                verdict.repeats += (known.arrived - known.due) as usize;
                verdict.repeated.push(label());
            }
        }
        verdict
    }
}

impl Obligation {
    fn is(&self, hash: u64) -> bool {
        self.hash == hash || self.variants.contains(&hash)
    }
}

/// The identity of a record, if it has one, and the key of its chain.
fn keys(content_type: &str, fields: &Fields<'_>, text: &str) -> (Option<String>, u64) {
    match (fields.identity(), fields.record_number) {
        (Some(id), None) => (
            Some(id.clone().into_owned()),
            hash_of(&["id", content_type, &id]),
        ),
        (Some(id), Some(number)) => (
            Some(format!("{id}#{number}")),
            hash_of(&["id", content_type, &id, number]),
        ),
        (None, _) => (None, hash_of(&["text", content_type, text])),
    }
}

fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().take(120).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

/// Where two texts part.
fn difference(issued: &str, received: &str) -> String {
    let at = issued
        .bytes()
        .zip(received.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let near = |text: &str| {
        let bytes = text.as_bytes();
        let from = at.saturating_sub(20);
        String::from_utf8_lossy(
            bytes
                .get(from..bytes.len().min(at + 40))
                .unwrap_or_default(),
        )
        .into_owned()
    };
    format!(
        "at byte {at} issued …{}… received …{}…",
        near(issued),
        near(received)
    )
}

#[cfg(test)]
mod tests;
