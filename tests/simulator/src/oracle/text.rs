//! JSON as text: what can be told of a record without changing a byte of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The top-level fields that matter, as they stand in the text. The first of equal keys counts,
/// as in Wazuh.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) record_number: Option<&'a str>,
    pub(crate) record_type: Option<&'a str>,
    pub(crate) organization: Option<&'a str>,
    pub(crate) subscription: Option<&'a str>,
    pub(crate) actor: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// `None` if the text is no JSON object.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = json.deserialize_map(FieldsVisitor).ok()?;
        json.end().ok()?;
        Some(fields)
    }

    /// Whether Wazuh's official rules make an alert of it: 91532 (an integral `RecordType`) or
    /// 91648 (`actor` holds "wazuh").
    pub(crate) fn alerts(&self) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        self.record_type
            .is_some_and(|text| digits(text) || string(text).is_some_and(|text| digits(&text)))
            || self.is_health()
    }

    /// Whether it is an event about the collection itself, not a record.
    pub(crate) fn is_health(&self) -> bool {
        self.record_type.is_none()
            && self
                .actor
                .and_then(string)
                .is_some_and(|actor| actor == "wazuh")
    }

    /// The identity of a record: its `Id`, if it is a string that is not empty.
    pub(crate) fn identity(&self) -> Option<Cow<'a, str>> {
        self.id.and_then(string).filter(|id| !id.is_empty())
    }
}

/// The value of a JSON string.
pub(crate) fn string(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains(['\\', '"']) {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(inner.into())
    }
}

struct FieldsVisitor;

impl<'a> Visitor<'a> for FieldsVisitor {
    type Value = Fields<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<&'a RawValue>()? {
            let slot = match key.get() {
                "\"Id\"" => &mut fields.id,
                "\"RecordNumber\"" => &mut fields.record_number,
                "\"RecordType\"" => &mut fields.record_type,
                "\"OrganizationId\"" => &mut fields.organization,
                "\"Subscription\"" => &mut fields.subscription,
                "\"actor\"" => &mut fields.actor,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value = map.next_value::<&'a RawValue>()?;
            slot.get_or_insert(value.get());
        }
        Ok(fields)
    }
}

/// The text without white space between tokens.
pub(crate) fn compact(text: &str) -> Cow<'_, str> {
    let blank = |c| matches!(c, ' ' | '\t' | '\n' | '\r');
    if !text.contains(blank) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for c in text.chars() {
        if !inside && blank(c) {
            continue;
        }
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ => {}
        }
    }
    out.into()
}

/// Why cJSON would refuse a text that is valid JSON otherwise: then nothing is decoded and no
/// alert is made.
pub(crate) fn refused_by_cjson(text: &str) -> Option<&'static str> {
    // each level needs two brackets
    if text.len() > 2 * 998 && depth(text) >= 999 {
        return Some("nested over 998 deep");
    }
    (text.contains('\\') && lone_surrogate(text.as_bytes())).then_some("a lone surrogate")
}

fn depth(text: &str) -> usize {
    let (mut now, mut most, mut inside, mut escaped) = (0_usize, 0, false, false);
    for b in text.bytes() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !inside => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

fn lone_surrogate(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| b == b'\\') {
        let unit = |bytes: Option<&[u8]>| match bytes {
            Some([b'\\', b'u', hex @ ..]) => std::str::from_utf8(hex)
                .ok()
                .and_then(|hex| u16::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        let skip = match unit(rest.get(at..at + 6)) {
            Some(0xD800..=0xDBFF) => match unit(rest.get(at + 6..at + 12)) {
                Some(0xDC00..=0xDFFF) => 12,
                _ => return true,
            },
            Some(0xDC00..=0xDFFF) => return true,
            Some(_) => 6,
            None => 2,
        };
        rest = rest.get(at + skip..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn white_space_goes_between_tokens_and_stays_in_strings() {
        assert_eq!(
            compact("{ \"a b\" :\t[1, \"x\\\" y\"]\r\n}"),
            "{\"a b\":[1,\"x\\\" y\"]}"
        );
    }

    #[test]
    fn lone_surrogates_are_seen_and_pairs_are_not() {
        assert!(lone_surrogate(br#""\ud800""#));
        assert!(lone_surrogate(br#""\udc00\ud800x""#));
        assert!(!lone_surrogate(br#""\ud83d\ude00 \u00e9""#));
        assert!(!lone_surrogate(br#""\\ud800""#));
    }

    #[test]
    fn depth_counts_what_is_not_in_a_string() {
        assert_eq!(depth(r#"{"a[[[":[{"\"{":1}]}"#), 3);
        assert!(refused_by_cjson(&format!("{}{}", "[".repeat(999), "]".repeat(999))).is_some());
        assert!(refused_by_cjson(&format!("{}{}", "[".repeat(998), "]".repeat(998))).is_none());
    }

    #[test]
    fn only_an_integral_record_type_or_our_own_actor_makes_an_alert() {
        let alerts = |text| Fields::of(text).unwrap().alerts();
        assert!(alerts(r#"{"RecordType":15}"#));
        assert!(alerts(r#"{"RecordType":"15"}"#));
        assert!(alerts(r#"{"actor":"wazuh"}"#));
        assert!(!alerts(r#"{"Id":"x"}"#));
        assert!(!alerts(r#"{"RecordType":"x"}"#));
    }
}
