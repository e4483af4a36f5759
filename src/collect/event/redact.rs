//! Keeps what a data loss prevention rule matched (card numbers, passports) inside the tenant.
//!
//! With the `ReadDlp` permission, Microsoft hands out each matched value and the text around it in
//! `DetectedValues` of `SensitiveInformationDetections` (mail and documents) and of
//! `SensitiveInformationDetectionsInfo` (endpoints). Some records carry the same as JSON text.

use std::borrow::Cow;

use aws_lc_rs::hmac;

use super::node::{self, Members, Node};
use super::{hex, text};

/// Under a key that begins so, in any case, is nothing but detections.
const KEYS: [&str; 2] = ["detectedvalues", "sensitiveinformationdetections"];

/// Replaces matched values by keyed hashes: equal values stay equal within an installation.
#[derive(Debug, Clone)]
pub struct Redactor {
    key: hmac::Key,
}

impl Redactor {
    /// A redactor with the installation's key: at least 32 random bytes.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// Redacts every detection in a record and says whether there was any.
    pub(super) fn redact_members(&self, members: &mut Members<'_>) -> bool {
        let mut record = Node::Object(std::mem::take(members));
        let found = self.redact(&mut record);
        if let Node::Object(inner) = record {
            *members = inner;
        }
        found
    }

    /// Redacts every detection in a value, however deep, and says whether there was any.
    pub(super) fn redact(&self, value: &mut Node<'_>) -> bool {
        let mut found = false;
        match value {
            Node::Plain(_) => {}
            Node::Text(text) => {
                if let Some(redacted) = self.redact_text(text) {
                    *text = Cow::Owned(redacted);
                    found = true;
                }
            }
            Node::Array(items) => {
                for item in items {
                    found |= self.redact(item);
                }
            }
            Node::Object(members) => {
                for (key, value) in members {
                    let detections = KEYS.iter().any(|known| {
                        let start = key.as_bytes().get(..known.len());
                        start.is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
                    });
                    if detections {
                        self.replace(value);
                        found = true;
                    } else {
                        found |= self.redact(value);
                    }
                }
            }
        }
        found
    }

    /// Redacts JSON text, if it has detections; text that mentions them and cannot be read goes as a whole.
    fn redact_text(&self, text: &str) -> Option<String> {
        if !may_mention(text.as_bytes()) {
            return None;
        }
        let wrapped = format!("{{\"text\":{text}}}");
        match node::read(wrapped.as_bytes()).as_deref_mut() {
            Some([(_, value @ (Node::Array(_) | Node::Object(_)))]) => {
                self.redact(value).then(|| value.to_text())
            }
            // a string inside the string, or no JSON that is of use
            _ => mentions(text.as_bytes()).then(|| self.hash(text)),
        }
    }

    /// Replaces every text and number in a value.
    fn replace(&self, value: &mut Node<'_>) {
        match value {
            Node::Text(text) => *text = self.hash(text).into(),
            Node::Plain("true" | "false" | "null") => {}
            Node::Plain(token) => *value = Node::Text(self.hash(token).into()),
            Node::Array(items) => items.iter_mut().for_each(|item| self.replace(item)),
            Node::Object(members) => members
                .iter_mut()
                .for_each(|(_, value)| self.replace(value)),
        }
    }

    /// `hmac:` with half of the HMAC-SHA256, and the length in characters.
    fn hash(&self, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        let half = tag.as_ref().get(..16).unwrap_or_default();
        format!("hmac:{}:{}", hex(half), text.chars().count())
    }
}

/// Whether text may hold detections, whose keys may be written with escapes.
pub(super) fn may_mention(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\\u").is_some() || mentions(bytes)
}

/// Whether text names detections.
fn mentions(bytes: &[u8]) -> bool {
    KEYS.iter()
        .any(|key| text::contains_ignoring_case(bytes, key.as_bytes()))
}
