//! Keeps what a data loss prevention rule matched (card numbers, passports) inside the tenant.
//!
//! With the `ReadDlp` permission, Microsoft hands out each matched value and the text around it in
//! `DetectedValues` of `SensitiveInformationDetections` (mail and documents) and of
//! `SensitiveInformationDetectionsInfo` (endpoints). Some records carry the same as JSON text.

use std::borrow::Cow;

use aws_lc_rs::hmac;

use super::node::{self, Members, Node};
use super::{hex, text};

/// Under a key of which a part between dots begins so, in any case, is nothing but detections.
const KEYS: [&str; 2] = ["detectedvalues", "sensitiveinformationdetections"];

/// The keys that stand inside detections.
const INNER_KEYS: [&str; 4] = ["DetectedValues", "ResultsTruncated", "Name", "Value"];
/// JSON text is looked for in so many texts, one inside the other.
const DEEPEST_TEXT: usize = 4;

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
        let found = self.redact(&mut record, 0);
        if let Node::Object(inner) = record {
            *members = inner;
        }
        found
    }

    /// Redacts every detection in a value, however deep, and says whether there was any. The value stands in so many
    /// `texts`, one inside the other.
    fn redact(&self, value: &mut Node<'_>, texts: usize) -> bool {
        let mut found = false;
        match value {
            Node::Plain(_) => {}
            Node::Text(text) => {
                if let Some(redacted) = self.redact_text(text, texts) {
                    *text = Cow::Owned(redacted);
                    found = true;
                }
            }
            Node::Array(items) => {
                for item in items {
                    found |= self.redact(item, texts);
                }
            }
            Node::Object(members) => {
                let is_property = members.iter().any(names_detections);
                for member in members {
                    let (key, value) = &mut *member;
                    let is_value = text::contains_ignoring_case(key.as_bytes(), b"value");
                    if begins_as_detections(key) || (is_property && is_value) {
                        self.replace(value);
                        found = true;
                    } else if !names_detections(member) {
                        found |= self.redact(&mut member.1, texts);
                    }
                }
            }
        }
        found
    }

    /// Redacts JSON text, if it has detections; text that mentions them and cannot be read goes as a whole.
    fn redact_text(&self, text: &str, texts: usize) -> Option<String> {
        if !may_mention(text.as_bytes()) {
            return None;
        }
        if texts < DEEPEST_TEXT {
            let wrapped = format!("{{\"text\":{text}}}");
            if let Some([(_, value @ (Node::Array(_) | Node::Object(_)))]) =
                node::read(wrapped.as_bytes()).as_deref_mut()
            {
                return self.redact(value, texts + 1).then(|| value.to_text());
            }
        }
        // a string inside the string, or no JSON that is of use
        mentions(&unescaped(text.as_bytes())).then(|| self.hash(text))
    }

    /// Replaces every text and number in a value, and every key that is none of Microsoft's.
    fn replace(&self, value: &mut Node<'_>) {
        match value {
            Node::Text(text) => *text = self.hash(text).into(),
            Node::Plain("true" | "false" | "null") => {}
            Node::Plain(token) => *value = Node::Text(self.hash(token).into()),
            Node::Array(items) => items.iter_mut().for_each(|item| self.replace(item)),
            Node::Object(members) => {
                for (key, value) in members {
                    if !INNER_KEYS
                        .iter()
                        .any(|known| key.eq_ignore_ascii_case(known))
                    {
                        *key = self.hash(key).into();
                    }
                    self.replace(value);
                }
            }
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

/// Whether what has this name is detections. A dot nests in Wazuh, so each part counts.
fn begins_as_detections(name: &str) -> bool {
    let is_known = |part: &str, known: &str| {
        let start = part.as_bytes().get(..known.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
    };
    name.split('.')
        .any(|part| KEYS.iter().any(|known| is_known(part.trim_start(), known)))
}

/// Whether a member of a property says that the property is detections.
fn names_detections((key, value): &(Cow<'_, str>, Node<'_>)) -> bool {
    let is_name = |text: &str| {
        begins_as_detections(text) && text.trim().bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    key.eq_ignore_ascii_case("Name") && matches!(value, Node::Text(text) if is_name(text))
}

/// Text in which each `\uXXXX` of ASCII is what it stands for, however often it would have to be read for that.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    for byte in text {
        plain.push(*byte);
        while let Some(character) = last_escaped(&plain) {
            plain.truncate(plain.len() - "\\u0000".len());
            while plain.last() == Some(&b'\\') {
                plain.pop();
            }
            plain.push(character);
        }
    }
    plain
}

/// The character of ASCII that an escape at the end of text stands for.
fn last_escaped(text: &[u8]) -> Option<u8> {
    let [.., b'\\', b'u', b'0', b'0', high, low] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let character = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    character.is_ascii().then_some(character)
}
