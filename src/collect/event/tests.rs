#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::keys::{KeyPrint, may_be_known};
use super::mapping::usual_shape;
use super::*;

fn envelope(annotate: bool, labels: &BTreeMap<String, String>) -> Envelope<'_> {
    Envelope {
        location: "office365",
        content_type: "Audit.Exchange",
        tenant: "contoso",
        labels,
        annotate,
        flatten: false,
        redactor: None,
    }
}

/// The event of one record as text, and why it was reshaped.
fn shape(record: &str, annotate: bool, backlog: bool) -> (String, Reasons) {
    let labels = BTreeMap::from([("customer".into(), "C-42".into())]);
    let mut shaper = Shaper::new(&envelope(annotate, &labels));
    let mut out = Vec::new();
    let record = shaper.read(record.as_bytes()).unwrap();
    let reasons = shaper.write(&record, backlog, &mut out);
    (String::from_utf8(out).unwrap(), reasons)
}

#[test]
fn an_ordinary_record_goes_byte_for_byte_without_white_space() {
    let record =
        "{\"Id\":\"a\\u00e9\\/\", \"RecordType\" : 2,\n\t\"b\":[1, 2.50,{ \"c\" : \"d e\" } ] }";
    let (event, reasons) = shape(record, false, true);
    assert!(reasons.is_empty());
    assert_eq!(
        event,
        "1:office365:{\"integration\":\"office365\",\"office365\":{\"Subscription\":\"Audit.Exchange\",\
         \"Id\":\"a\\u00e9\\/\",\"RecordType\":2,\"b\":[1,2.50,{\"c\":\"d e\"}]}}"
    );
    let (event, _) = shape("{\"RecordType\":2}", true, true);
    assert!(event.ends_with(
        ",\"RecordType\":2},\"o365_wodle\":{\"tenant\":\"contoso\",\"labels\":{\"customer\":\"C-42\"},\"backlog\":true}}"
    ));
}

#[test]
fn a_record_tells_who_it_is() {
    let labels = BTreeMap::new();
    let mut shaper = Shaper::new(&envelope(true, &labels));
    let mut read = |record: &'static str| {
        let record = shaper.read(record.as_bytes()).unwrap();
        let text = |bytes: Cow<'_, [u8]>| String::from_utf8(bytes.into_owned()).unwrap();
        (record.id().map(text), record.record_number().map(text))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        read(r#"{"id":"x","a":{"Id":"y"},"Id":"\u0061","RecordNumber":7,"Id":"z"}"#),
        (some("a"), some("7"))
    );
    assert_eq!(
        read(r#"{"I\u0064":"b","RecordNumber":"2"}"#),
        (some("b"), some("2"))
    );
    assert_eq!(read(r#"{"Id":"","RecordNumber":""}"#), (None, None));
    assert_eq!(read(r#"{"Id":5,"RecordNumber":null}"#), (None, None));
    assert_eq!(read("{}"), (None, None));
}

#[test]
fn a_key_has_one_print_whatever_stands_behind_it() {
    assert!(!KeyPrint::of(b"OrganizationId", 14, false).may_be_odd());
    for text in [
        "Aa.z@`[{é_09Zz-Subscription0123456789Abcdefgh",
        "Subscription0123456789Abcdefgh of a",
    ] {
        judge_prints(text);
    }
}

fn judge_prints(text: &str) {
    for exact in [false, true] {
        for (end, _) in text.char_indices() {
            let key = &text.as_bytes()[..end];
            let whole = KeyPrint::of(key, end, exact);
            let is_odd = key.iter().any(|byte| matches!(byte, b'.' | b' '));
            assert!(whole.may_be_odd() || !is_odd);
            for behind in [
                "\"",
                "\":1}",
                "\\u0041.",
                "\n.........",
                "\" . . . . . .",
                "",
            ] {
                let bytes = [key, behind.as_bytes()].concat();
                let print = KeyPrint::of(&bytes, end, exact);
                assert_eq!(lex::plain(&bytes), end);
                assert_eq!(print.hash, whole.hash, "{end} {behind}");
                assert_eq!(print.may_be_odd(), whole.may_be_odd());
            }
            let lower = KeyPrint::of(&key.to_ascii_lowercase(), end, exact);
            let same = !exact || !key.iter().any(u8::is_ascii_uppercase);
            assert_eq!(lower.hash == whole.hash, same);
            // each byte counts, and so does the length
            for at in 0..end {
                let mut other = key.to_vec();
                other[at] ^= 1;
                assert_ne!(
                    KeyPrint::of(&other, end, exact).hash,
                    whole.hash,
                    "{end} {at}"
                );
            }
            if end > 0 {
                assert_ne!(KeyPrint::of(key, end - 1, exact).hash, whole.hash);
            }
        }
    }
}

#[test]
fn a_key_that_is_known_may_be_known() {
    let fields = ["Id", "RecordNumber", "RecordType"];
    let shapes = [
        "ModifiedProperties",
        "Item",
        "Members",
        "Actor",
        "Target",
        "Parameters",
        "ExtendedProperties",
        "OperationProperties",
        "AdditionalInfo",
        "Message",
        "ExceptionInfo",
        "Data",
    ];
    for name in fields {
        assert!(Field::of(name.as_bytes()).is_some(), "{name}");
        assert!(may_be_known(name.as_bytes()), "{name}");
    }
    for name in shapes {
        assert!(usual_shape(name.as_bytes()).is_some(), "{name}");
        assert!(may_be_known(name.as_bytes()), "{name}");
    }
    assert!(may_be_known(b"Subscription") && may_be_known(b"sUBSCRIPTION"));
    for name in [
        "",
        "x",
        "ClientIP",
        "ObjectId",
        "a key longer than any known",
    ] {
        assert!(!may_be_known(name.as_bytes()), "{name}");
    }
}

#[test]
fn a_small_number_is_what_any_number_is() {
    for start in [
        "", "0", "1", "9", "12", "01", "123456", "1234567", "12345678", "-1", "x", "/", ":",
    ] {
        for end in [
            "", ",", "}", "]", " ", ".5", "e1", "E1", "/", ":", "x", "\u{ff}", "\0", "-",
        ] {
            let text = format!("{start}{end}");
            let bytes = format!("{text},\"a\":1}}").into_bytes();
            if let Some(length) = lex::small_number(&bytes) {
                assert_eq!(Some(length), lex::number(&bytes), "{text}");
                assert!(lex::number_survives(&bytes[..length], true), "{text}");
                assert!(lex::number_survives(&bytes[..length], false), "{text}");
            }
        }
    }
    assert_eq!(lex::small_number(b"1234567,"), Some(7));
    assert_eq!(lex::small_number(b"0}      "), Some(1));
}

#[test]
fn what_is_no_json_object_is_told_so() {
    let labels = BTreeMap::new();
    let mut shaper = Shaper::new(&envelope(true, &labels));
    for element in [
        "",
        "null",
        "1",
        "\"x\"",
        "[{}]",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\":nullx}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"b}",
        "{\"a\":[1,]}",
        "{\"a\":[1}",
        "{\"a\":{]}",
        "{} {}",
        "{a:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\"1}",
        "{\"a\":NaN}",
    ] {
        assert!(shaper.read(element.as_bytes()).is_none(), "{element}");
    }
    for element in [
        "{}",
        "{ }",
        "{\"\":[ ]}",
        "{\"a\":-0.0e+00,\"b\":[[],{},null]}",
    ] {
        assert!(shaper.read(element.as_bytes()).is_some(), "{element}");
    }
}

#[test]
fn an_event_about_the_collection_fires_wazuhs_rule() {
    let labels = BTreeMap::from([("customer".into(), "C-42".into())]);
    let state = Health {
        tenant_id: "41463f53-8812-40f4-890f-865bf6e35190",
        subscription: Some("DLP.All"),
        response: r#"{"error":{"code":"AF10001"}}"#,
        health: "permission_missing",
        since: Some("2026-03-14T09:26:53Z"),
        count: Some(3),
        hint: Some("grant ReadDlp"),
        tenant: "contoso",
        labels: &labels,
    };
    let mut out = Vec::new();
    health("office365", &state, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "1:office365:{\"integration\":\"office365\",\"office365\":{\"actor\":\"wazuh\",\
         \"tenant_id\":\"41463f53-8812-40f4-890f-865bf6e35190\",\"subscription_name\":\"DLP.All\",\
         \"response\":\"{\\\"error\\\":{\\\"code\\\":\\\"AF10001\\\"}}\"},\"o365_wodle\":{\
         \"health\":\"permission_missing\",\"since\":\"2026-03-14T09:26:53Z\",\"count\":3,\
         \"hint\":\"grant ReadDlp\",\"tenant\":\"contoso\",\"labels\":{\"customer\":\"C-42\"}}}"
    );
    let rubbish: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    for withhold in [false, true] {
        let element = Damaged {
            raw: &rubbish,
            bytes: 5_000_000,
            sha256: [0xA5; 32],
            withhold,
        };
        let mut out = Vec::new();
        damaged("office365", &state, &element, &mut out);
        assert!(out.len() <= LONGEST);
        let event: serde_json::Value = serde_json::from_slice(&out[12..]).unwrap();
        let wodle = &event["o365_wodle"];
        assert_eq!(wodle["original_bytes"], 5_000_000);
        assert_eq!(wodle["sha256"], "a5".repeat(32));
        assert_eq!(wodle.get("raw").is_none(), withhold);
        let raw = wodle["raw"].as_str().unwrap_or("…(cut)");
        assert!(raw.ends_with("…(cut)") && raw.len() < 32_766 && !raw.contains('\0'));
    }
}
