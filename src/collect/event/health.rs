//! Events about the collection itself: Wazuh's official rule 91648 fires on them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::mapping::seems_an_array;
use super::{LONGEST, cut, text};

/// How much of Microsoft's answer, or of text of our own, an event carries, in bytes of JSON.
const LONGEST_TEXT: usize = 16_000;
/// How much of a damaged element an event carries, in bytes of JSON: what a string may hold in the indexer.
const LONGEST_RAW: usize = 32_000;

/// A state of the collection, to be told to Wazuh.
#[derive(Debug, Clone, Copy)]
pub struct Health<'a> {
    /// The tenant's GUID.
    pub tenant_id: &'a str,
    /// The content type, where only one is concerned.
    pub subscription: Option<&'a str>,
    /// Microsoft's error as JSON text, or ours.
    pub response: &'a str,
    /// One of the states of the interface, such as `auth_failed`.
    pub health: &'a str,
    /// Since when, RFC 3339.
    pub since: Option<&'a str>,
    /// How often so far.
    pub count: Option<u64>,
    /// The cure.
    pub hint: Option<&'a str>,
    /// The operator's name of the tenant.
    pub tenant: &'a str,
    /// The tenant's labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// An element of a blob that is no record.
#[derive(Debug, Clone, Copy)]
pub struct Damaged<'a> {
    /// Its bytes, or the first of them.
    pub raw: &'a [u8],
    /// Its whole length in bytes.
    pub bytes: u64,
    /// The SHA-256 of all of it.
    pub sha256: [u8; 32],
    /// Whether its text must not leave (`redact_dlp`): what cannot be read cannot be redacted.
    pub withhold: bool,
}

#[derive(Serialize)]
struct Event<'a> {
    integration: &'static str,
    office365: Office365<'a>,
    o365_wodle: Wodle<'a>,
}

#[derive(Serialize)]
struct Office365<'a> {
    actor: &'static str,
    tenant_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_name: Option<&'a str>,
    response: &'a str,
}

#[derive(Serialize)]
struct Wodle<'a> {
    health: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    tenant: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Appends the datagram that tells of a state.
pub fn health(location: &str, state: &Health<'_>, out: &mut Vec<u8>) {
    write(location, state, None, out);
}

/// Appends the datagram that tells of an element that is no JSON object; `state.health` should be `content_damaged`.
///
/// It carries the element's text, cut, as far as it is text.
pub fn damaged(location: &str, state: &Health<'_>, element: &Damaged<'_>, out: &mut Vec<u8>) {
    write(location, state, Some(element), out);
}

fn write(location: &str, state: &Health<'_>, element: Option<&Damaged<'_>>, out: &mut Vec<u8>) {
    let event = Event {
        integration: "office365",
        office365: Office365 {
            actor: "wazuh",
            tenant_id: state.tenant_id,
            subscription_name: state.subscription,
            response: &cut::to_json(state.response, LONGEST_TEXT),
        },
        o365_wodle: Wodle {
            health: state.health,
            since: state.since,
            count: state.count,
            hint: state.hint,
            tenant: state.tenant,
            labels: state.labels,
            original_bytes: element.map(|element| element.bytes),
            sha256: element.map(|element| super::hex(&element.sha256)),
        },
    };
    let start = out.len();
    out.extend_from_slice(format!("1:{location}:").as_bytes());
    // strings and numbers only: writing them to memory cannot fail
    if let Err(error) = serde_json::to_writer(&mut *out, &event) {
        out.truncate(start);
        log::error!("cannot write an event about the collection: {error}");
    }
    if let Some(element) = element.filter(|element| !element.withhold) {
        let closing = b"}}";
        let member = b",\"raw\":";
        let room = LONGEST.saturating_sub(out.len() - start + member.len());
        let head = element.raw.get(..LONGEST_RAW).unwrap_or(element.raw);
        let mut text = String::from_utf8_lossy(head).replace('\0', "\u{fffd}");
        if seems_an_array(&text) {
            text.insert(0, ' ');
        }
        out.truncate(out.len() - closing.len());
        out.extend_from_slice(member);
        text::write(&cut::to_json(&text, room.min(LONGEST_RAW)), out);
        out.extend_from_slice(closing);
    }
}
