//! Records as bad as they may come, from a seed, and a judge of events that shares no code with the shaper:
//! it knows what Wazuh's decoder and its indexer do with a JSON text.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::format_push_string,
    reason = "a test fails by panicking, and makes text the simple way"
)]

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The key fields that stand in front of a reshaped record.
pub(crate) const FRONT: [&str; 9] = [
    "RecordType",
    "Operation",
    "Workload",
    "UserId",
    "Id",
    "CreationTime",
    "OrganizationId",
    "ClientIP",
    "ResultStatus",
];

/// The members of a JSON object, double ones included; `None` if the text is none.
pub(crate) fn members(json: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let members = reader.deserialize_map(Members).ok()?;
    reader.end().ok()?;
    Some(members)
}

/// Valid JSON without the white space between its tokens.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut inside, mut escaped) = (false, false);
    let kept = json.iter().copied().filter(|byte| {
        let keep = inside || !byte.is_ascii_whitespace();
        inside ^= *byte == b'"' && !escaped;
        escaped = inside && *byte == b'\\' && !escaped;
        keep
    });
    kept.collect()
}

/// The event that a record would be if nobody shaped it.
pub(crate) fn untouched(record: &[u8], annotation: &str) -> Vec<u8> {
    let record = compact(record);
    let separator: &[u8] = if record == b"{}" { b"" } else { b"," };
    [
        b"{\"integration\":\"office365\",\"office365\":{\"Subscription\":\"Audit.General\"",
        separator,
        &record[1..],
        annotation.as_bytes(),
        b"}",
    ]
    .concat()
}

/// What is wrong with the JSON text of an event; empty: Wazuh and its indexer take all of it.
pub(crate) fn faults(event: &[u8]) -> Vec<String> {
    let mut judge = Judge::default();
    if event.len() + "1:office365:".len() > 64_000 {
        judge.say("longer than 64,000 bytes with its header");
    }
    if event.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        judge.say("a raw line end or NUL");
    }
    let Some(event) = std::str::from_utf8(event).ok() else {
        judge.say("no UTF-8");
        return judge.faults;
    };
    if !event.starts_with("{\"integration\":\"office365\",\"office365\":{\"") {
        judge.say("another beginning");
    }
    judge.object(event, &[], false, 0);
    if judge.fields > 256 {
        judge.faults.push(format!("{} fields", judge.fields));
    }
    let about_collection = judge.leaf("office365.actor") == Some("\"wazuh\"");
    // By this name: other spellings reach the rules, but neither the index nor the dashboards.
    let typed = judge.record_type.is_some_and(|token| {
        let is_digits = |text: &str| {
            (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if token.starts_with('"') {
            return serde_json::from_str(token).is_ok_and(|text: String| is_digits(&text));
        }
        // a whole number is printed as one, however it is written
        let printed = token.parse().map(|number: f64| number.to_string());
        is_digits(token) || (!token.starts_with('-') && printed.is_ok_and(|text| is_digits(&text)))
    });
    if typed == about_collection {
        judge.say("no RecordType");
    }
    judge.faults
}

#[derive(Default)]
struct Judge<'a> {
    faults: Vec<String>,
    fields: usize,
    leaves: HashMap<String, &'a str>,
    objects: HashSet<String>,
    record_type: Option<&'a str>,
}

impl<'a> Judge<'a> {
    fn say(&mut self, fault: &str) {
        self.faults.push(fault.to_owned());
    }

    fn leaf(&self, path: &str) -> Option<&'a str> {
        self.leaves.get(path).copied()
    }

    fn object(&mut self, json: &'a str, path: &[String], in_array: bool, depth: usize) {
        // the event and `office365` stand around the record
        if depth > 101 {
            self.say("too deep");
            return;
        }
        let Some(members) = members(json) else {
            self.say("broken JSON");
            return;
        };
        let mut keys = HashSet::new();
        for (key, value) in members {
            if key.contains('\0') {
                self.say("NUL in a key");
            }
            if key.split('.').any(|part| part.trim_ascii().is_empty()) {
                self.faults
                    .push(format!("{key:?} has a part without a name"));
            }
            let folded = if in_array {
                key.clone()
            } else {
                key.to_ascii_lowercase()
            };
            if !keys.insert(folded.clone()) {
                self.faults.push(format!("{key:?} twice"));
            }
            let mut path = path.to_vec();
            path.push(folded);
            if path.len() == 2 && path[0] == "office365" && !in_array {
                self.mapping(&key, value.get());
                if key == "RecordType" {
                    self.record_type.get_or_insert(value.get());
                }
            }
            let is_plain = !matches!(value.get().as_bytes()[0], b'"' | b'{' | b'[' | b'n');
            if in_array && key.ends_with("Value") && is_plain {
                self.say("a value beside texts that is none");
            }
            self.value(value.get(), &path, in_array, depth);
        }
    }

    fn value(&mut self, json: &'a str, path: &[String], in_array: bool, depth: usize) {
        let first = json.as_bytes()[0];
        if first == b'{' {
            self.object(json, path, in_array, depth + 1);
            return;
        }
        if !in_array {
            self.field(json, &path.join("."));
        }
        match first {
            b'[' => {
                if depth + 1 > 101 {
                    self.say("too deep");
                    return;
                }
                let items: Vec<&RawValue> = serde_json::from_str(json).expect("an array");
                for item in items {
                    self.value(item.get(), path, true, depth + 1);
                }
            }
            b'"' => match serde_json::from_str::<String>(json) {
                Err(_) => self.say("half a surrogate pair"),
                Ok(text) => {
                    if text.contains('\0') {
                        self.say("NUL in a string");
                    }
                    if text.len() > 32_766 {
                        self.say("a string longer than a term");
                    }
                    let in_brackets = text.starts_with('[') && text.ends_with(']');
                    let is_list = || serde_json::from_str::<Vec<String>>(&text).is_ok();
                    // The key fields stay as they are, but for what the indexer would refuse.
                    let is_front = || {
                        let is_it = |key: &str| path[1].eq_ignore_ascii_case(key);
                        path.len() == 2 && path[0] == "office365" && FRONT.into_iter().any(is_it)
                    };
                    let nests = text.get(1..).is_some_and(|rest| rest.contains(['{', '[']));
                    if !in_array && in_brackets && !is_list() && (!is_front() || nests) {
                        self.say("a string that is shown as an array, or not at all");
                    }
                }
            },
            b't' | b'f' | b'n' => {}
            _ => self.number(json, in_array),
        }
    }

    /// A field as Wazuh puts it into the alert: dots nest, the first one wins.
    fn field(&mut self, json: &'a str, path: &str) {
        self.fields += 1;
        let mut lost = self.objects.contains(path);
        for (at, _) in path.match_indices('.') {
            lost |= self.leaves.contains_key(&path[..at]);
            self.objects.insert(path[..at].to_owned());
        }
        lost |= self.leaves.insert(path.to_owned(), json).is_some();
        if lost {
            self.faults.push(format!("{path:?} is lost"));
        }
    }

    fn number(&mut self, json: &str, in_array: bool) {
        let value: f64 = json.parse().expect("a number");
        let printed = if in_array {
            format!("{value:.14e}")
        } else if value.abs() <= 2_147_483_647.0 {
            format!("{value:.0}")
        } else {
            "another".to_owned()
        };
        if decimal(&printed) != decimal(json) {
            self.faults.push(format!("{json} is printed as {printed}"));
        }
        if json.len() > 63 {
            self.faults.push(format!("{json} is read in part"));
        }
        if in_array && value.abs() >= 1e18 {
            self.faults
                .push(format!("{json} is too much for the indexer"));
        }
    }

    /// The types of keys that vary, each with the first letters that its value may have.
    fn mapping(&mut self, key: &str, json: &str) {
        const OBJECTS: [&str; 8] = [
            "ModifiedProperties",
            "Parameters",
            "ExtendedProperties",
            "OperationProperties",
            "Item",
            "Actor",
            "Target",
            "Members",
        ];
        const TEXTS: [&str; 4] = ["AdditionalInfo", "Message", "ExceptionInfo", "Data"];
        let squeezed: String = json.split_whitespace().collect();
        let odd = |allowed: &str| {
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            let item_odd =
                |item: &&RawValue| item.get() != "null" && !allowed.contains(&item.get()[..1]);
            json.starts_with('[') && items.iter().any(item_odd)
        };
        let fault = if OBJECTS.contains(&key) {
            (!json.starts_with(['[', '{']) && squeezed != "\"\"") || odd("{")
        } else if TEXTS.contains(&key) {
            (json.starts_with('{') && squeezed != "{}") || odd("\"")
        } else {
            false
        };
        if fault {
            self.faults.push(format!("{key} has another type"));
        }
    }
}

/// A number's sign, significant digits and exponent; zero has no sign.
pub(crate) fn decimal(token: &str) -> Option<(bool, String, i64)> {
    let (negative, token) = token
        .strip_prefix('-')
        .map_or((false, token), |rest| (true, rest));
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let exponent = exponent - i64::try_from(fraction.len()).ok()? + i64::try_from(trailing).ok()?;
    Some((negative, significant.to_owned(), exponent))
}

/// Records from a seed: half of them with only what Microsoft sends, the others with everything that hurts.
pub(crate) struct Maker {
    state: u64,
    hostile: bool,
}

const KEYS: [&str; 44] = [
    "Id",
    "RecordType",
    "Operation",
    "Workload",
    "UserId",
    "CreationTime",
    "OrganizationId",
    "ClientIP",
    "ResultStatus",
    "UserType",
    "Version",
    "ObjectId",
    "Parameters",
    "ModifiedProperties",
    "ExtendedProperties",
    "OperationProperties",
    "AdditionalInfo",
    "Message",
    "ExceptionInfo",
    "Data",
    "Item",
    "Actor",
    "Target",
    "Members",
    "Name",
    "Value",
    "a",
    "b",
    "A",
    "a.b",
    "a.b.c",
    "Subscription",
    "subscription",
    "id",
    "recordtype",
    "",
    ".",
    "@odata.type",
    "é\\u00e9",
    "\\ud83d\\ude00",
    "x\\ud800",
    "n\\u0000",
    "\\u0041",
    "Overflow",
];
const NUMBERS: [&str; 22] = [
    "0",
    "-1",
    "15",
    "2147483647",
    "-2147483647",
    "2147483648",
    "-2147483648",
    "1714557600123",
    "9007199254740993",
    "1.5",
    "1.0",
    "1.10",
    "-0.0",
    "1e3",
    "1E+2",
    "1e-9",
    "1e400",
    "123456789012345678901234567890",
    "0.1",
    "1000000000000000",
    "2.50e1",
    "100000000000000000000",
];
const TEXTS: [&str; 20] = [
    "",
    "x",
    "New-InboxRule",
    "2026-03-14T09:26:53",
    "25",
    "a\\\"b\\\\",
    "\\/",
    "\\u00e9",
    "é",
    "\\ud83d\\ude00",
    "\\ud800x",
    "\\udc00",
    "\\ud800\\ud800",
    "a\\u0000b",
    "line\\nline",
    "[1,2]",
    "{\\\"a\\\":1}",
    "\\u202egpj",
    "😀",
    "[{\\\"Name\\\":\\\"x\\\"}]",
];

impl Maker {
    pub(crate) fn new(seed: u64, hostile: bool) -> Self {
        Self {
            state: seed ^ 0x9E37_79B9_7F4A_7C15,
            hostile,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n\t"][self.below(if self.hostile { 5 } else { 3 })]
    }

    /// One record as JSON text, perhaps with bytes that are no UTF-8.
    pub(crate) fn record(&mut self) -> Vec<u8> {
        let mut out = String::from("{");
        let typed = !self.hostile || self.below(4) > 0;
        if typed {
            out += "\"RecordType\":15,\"Id\":\"1\"";
        }
        let count = match self.below(if self.hostile { 40 } else { 30 }) {
            0 => 300,
            size => size,
        };
        for index in 0..count {
            if index > 0 || typed {
                out += ",";
            }
            let wide = count == 300 || !self.hostile;
            self.member(wide.then_some(index), 1, &mut out);
        }
        out += "}";
        let mut out = out.into_bytes();
        if self.hostile && self.below(20) == 0 {
            // a byte of a string, a key or, seldom, of something else
            let at = self.below(out.len() - 2) + 1;
            if out[at].is_ascii_lowercase() {
                out[at] = [0xFF, 0xC3, 0x01, 0x00, 0x0A][self.below(5)];
            }
        }
        out
    }

    fn member(&mut self, unique: Option<usize>, depth: usize, out: &mut String) {
        let key = match unique {
            Some(index) => format!("Key{index}"),
            None => KEYS[self.below(KEYS.len())].to_owned(),
        };
        out.push_str(&format!(
            "{}\"{key}\"{}:{}",
            self.space(),
            self.space(),
            self.space()
        ));
        self.value(depth, out);
    }

    fn value(&mut self, depth: usize, out: &mut String) {
        // what is large is rare, or checking takes for ever
        let kind = match self.below(if self.hostile { 600 } else { 90 }) {
            large @ 590.. => large - 480,
            small => small % 110,
        };
        match kind {
            0..30 if self.hostile => {
                let text = TEXTS[self.below(TEXTS.len())];
                out.push_str(&format!("\"{text}\""));
            }
            0..30 => out.push_str("\"some text\""),
            30..45 if self.hostile => out.push_str(NUMBERS[self.below(NUMBERS.len())]),
            30..45 => out.push_str("15"),
            45..55 => out.push_str(["true", "false", "null"][self.below(3)]),
            55..75 if depth < 6 => {
                out.push('{');
                let count = self.below(8);
                for index in 0..count {
                    if index > 0 {
                        out.push(',');
                    }
                    self.member((!self.hostile).then_some(index), depth + 1, out);
                }
                out.push_str(self.space());
                out.push('}');
            }
            75..95 if depth < 6 => {
                out.push('[');
                let count = self.below(6);
                for index in 0..count {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(self.space());
                    self.value(depth + 1, out);
                }
                out.push(']');
            }
            // what is large
            110 => {
                let length = self.below(90_000);
                let unit = ["x", "é", "\\n", "\\u0001", "\\\""][self.below(5)];
                out.push_str(&format!("\"{}\"", unit.repeat(length / unit.len())));
            }
            111 => {
                let deep = self.below(250);
                let (open, close) = [("[", "]"), ("{\"n\":", "}")][self.below(2)];
                out.push_str(&open.repeat(deep));
                out.push_str("\"\\ud800\"");
                out.push_str(&close.repeat(deep));
            }
            112 => {
                let count = self.below(3000);
                out.push_str("[0");
                for _ in 0..count {
                    out.push_str(",{\"Name\":\"n\",\"Value\":\"some value\"}");
                }
                out.push(']');
            }
            113 => {
                let count = self.below(400);
                out.push_str("{\"\":0");
                for index in 0..count {
                    out.push_str(&format!(",\"k{index}\":{index}.5"));
                }
                out.push('}');
            }
            _ => out.push_str("\"\""),
        }
    }
}
