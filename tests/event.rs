//! Whatever Microsoft sends, Wazuh gets an event that it takes whole; what it takes whole already is not touched.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "event/arrays.rs"]
mod arrays;
mod hostile;
#[path = "event/long.rs"]
mod long;
#[path = "event/redaction.rs"]
mod redaction;

use std::collections::BTreeMap;

use hostile::{FRONT, Maker, faults, members, untouched};
use o365_wodle::collect::event::{
    Damaged, Envelope, Health, Reasons, Redactor, Shaper, damaged, passes,
};
use o365_wodle::config::Filter;
use proptest::prelude::*;

const HEADER: &str = "1:office365:";
const ORIGIN: &str = ",\"o365_wodle\":{\"tenant\":\"contoso\",\"labels\":{\"customer\":\"C-42\"}}";

fn shaper(annotate: bool, flatten: bool, redactor: Option<&Redactor>) -> Shaper {
    labelled(&[("customer", "C-42")], annotate, flatten, redactor)
}

/// The same with other labels.
fn labelled(
    labels: &[(&str, &str)],
    annotate: bool,
    flatten: bool,
    redactor: Option<&Redactor>,
) -> Shaper {
    let labels = labels
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    Shaper::new(&Envelope {
        location: "office365",
        content_type: "Audit.General",
        tenant: "contoso",
        labels: &labels.collect::<BTreeMap<_, _>>(),
        annotate,
        flatten,
        redactor,
    })
}

/// The JSON of a record's event, and why it was reshaped.
fn event(shaper: &mut Shaper, record: &[u8]) -> Option<(String, Reasons)> {
    let record = shaper.read(record)?;
    let mut out = b"before".to_vec();
    let reasons = shaper.write(&record, false, &mut out);
    let datagram = String::from_utf8(out)
        .expect("UTF-8")
        .split_off("before".len());
    Some((datagram.strip_prefix(HEADER).unwrap().to_owned(), reasons))
}

/// The record inside an event, without `Subscription`.
fn record_of(event: &str) -> String {
    let members = members(event).expect("an object");
    let record = members
        .iter()
        .find(|(key, _)| key == "office365")
        .expect("office365");
    let inner = record
        .1
        .get()
        .strip_prefix("{\"Subscription\":\"Audit.General\"")
        .unwrap();
    format!("{{{}", inner.strip_prefix(',').unwrap_or(inner))
}

/// Shapes a record and holds the event against everything that is promised of it.
fn judge(record: &[u8], annotate: bool) {
    let mut shaper = shaper(annotate, false, None);
    let seen = String::from_utf8_lossy(&record[..record.len().min(3000)]).into_owned();
    let Some((event, reasons)) = event(&mut shaper, record) else {
        let text = std::str::from_utf8(record);
        assert!(
            text.is_err() || members(text.unwrap()).is_none(),
            "refused: {seen}"
        );
        return;
    };
    assert_eq!(
        faults(event.as_bytes()),
        Vec::<String>::new(),
        "{seen}\n{event}"
    );
    let raw = untouched(record, if annotate { ORIGIN } else { "" });
    let raw_faults = faults(&raw);
    assert_eq!(
        reasons.is_empty(),
        raw_faults.is_empty(),
        "{:?} but {raw_faults:?}: {seen}\n{event}",
        reasons.names().collect::<Vec<_>>()
    );
    if reasons.is_empty() {
        assert_eq!(event.as_bytes(), raw);
        return;
    }
    let names: Vec<String> = reasons.names().map(|name| format!("{name:?}")).collect();
    let listed = format!(
        "\"reshaped\":[{}],\"original_bytes\":{},",
        names.join(","),
        record.len()
    );
    assert!(event.contains(&listed), "{listed} {event}");
    // once more, and nothing is left to do
    let kept = record_of(&event);
    let (again, reasons) = crate::event(&mut shaper, kept.as_bytes()).expect("an object");
    assert!(
        reasons.is_empty(),
        "{:?}: {seen}\n{event}",
        reasons.names().collect::<Vec<_>>()
    );
    assert_eq!(record_of(&again), kept);
    // the first value of each key field is in front, whole or cut
    let Ok(Some(before)) = std::str::from_utf8(record).map(members) else {
        return;
    };
    let after = members(&kept).unwrap();
    let mut place = 0;
    for name in FRONT {
        let Some((_, value)) = before.iter().find(|(key, _)| key == name) else {
            place += usize::from(name == "RecordType");
            continue;
        };
        assert_eq!(after[place].0, name, "{kept}");
        let now = after[place].1.get();
        place += 1;
        if name == "RecordType" && now == "0" {
            continue;
        }
        let text =
            |json: &str| serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
        let (value, now) = (text(value.get()), text(now));
        let harmless = value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        if value.len() <= 1024 && harmless && !value.starts_with(['{', '[']) {
            assert_eq!(now, value, "{name}");
        } else {
            assert!(now.len() <= 1024 + 2, "{name}");
        }
    }
}

proptest! {
    #[test]
    fn a_hostile_record_survives(seed: u64, annotate: bool) {
        judge(&Maker::new(seed, true).record(), annotate);
    }

    #[test]
    fn an_ordinary_record_is_not_touched(seed: u64) {
        let record = Maker::new(seed, false).record();
        judge(&record, true);
    }

    #[test]
    fn any_bytes_make_a_valid_event(bytes in prop::collection::vec(any::<u8>(), 0..200), object: bool) {
        let record = if object {
            [b"{\"a\":\"", &bytes[..], b"\"}"].concat()
        } else {
            bytes
        };
        judge(&record, true);
        let labels = BTreeMap::new();
        let state = Health {
            tenant_id: "g",
            subscription: None,
            response: "an element is no JSON object",
            health: "content_damaged",
            since: None,
            count: None,
            hint: None,
            tenant: "contoso",
            labels: &labels,
        };
        let element = Damaged { raw: &record, bytes: record.len() as u64, sha256: [0; 32], withhold: false };
        let mut out = Vec::new();
        damaged("office365", &state, &element, &mut out);
        prop_assert_eq!(faults(&out[HEADER.len()..]), Vec::<String>::new());
    }
}

/// The lines of all files of records.
fn samples(keep: fn(&str) -> bool) -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulator/data");
    let mut lines = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "ndjson") && keep(path.to_str().unwrap()) {
            let text = std::fs::read(path).unwrap();
            lines.extend(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
    }
    lines.retain(|line| !line.is_empty());
    assert!(lines.len() > 30);
    lines
}

#[test]
fn every_sample_record_survives() {
    for record in samples(|_| true) {
        judge(&record, true);
        judge(&record, false);
    }
}

#[test]
fn real_records_are_hardly_ever_touched() {
    let mut shaper = shaper(true, false, None);
    let mut touched = Vec::new();
    for record in samples(|path| !path.contains("hostile") && !path.contains("synthetic")) {
        let (event, reasons) = event(&mut shaper, &record).unwrap();
        if !reasons.is_empty() {
            touched.push((reasons.names().collect::<Vec<_>>(), event));
        }
    }
    assert!(touched.is_empty(), "{touched:?}");
}

#[test]
fn each_reason_has_its_remedy() {
    let long = "x".repeat(40_000);
    let wide: Vec<String> = (0..300)
        .map(|index| format!("\"k{index}\":{index}"))
        .collect();
    let wide = wide.join(",");
    let deep = format!("{}1{}", "[".repeat(101), "]".repeat(101));
    let remedies = [
        (r#""s":"\ud800x""#, "\"s\":\"\u{fffd}x\"", "surrogate"),
        (r#""s":"a\u0000b""#, "\"s\":\"a\u{fffd}b\"", "nul"),
        (
            r#""n":[1.5,9007199254740993],"m":1.10"#,
            r#""n":[1.5,"9007199254740993"],"m":"1.10""#,
            "big_number",
        ),
        (
            r#""a":1,"A":2,"a":3"#,
            r#""a":1,"A_2":2,"a_3":3"#,
            "key_case",
        ),
        (r#""SUBSCRIPTION":1"#, r#""SUBSCRIPTION_2":1"#, "key_case"),
        (
            r#""a_2":0,"a":1,"A":2,"z":[{"a":1,"A":2,"a":3}]"#,
            r#""a_2":0,"a":1,"A_3":2,"z":[{"a":1,"A":2,"a_2":3}]"#,
            "key_case",
        ),
        (
            r#""a.b.c":1,"a":{"b":2}"#,
            r#""a_b_c":1,"a":{"b":2}"#,
            "key_case",
        ),
        (
            r#""n":[1e17,1e18,1e39],"m":1.00000000000000000000000000000000000000000000000000000000000000"#,
            r#""n":[1e17,"1e18","1e39"],"m":"1.00000000000000000000000000000000000000000000000000000000000000""#,
            "big_number",
        ),
        (
            r#""ModifiedProperties":["a",{"Name":"b"},null]"#,
            r#""ModifiedProperties":[{"Name":"a"},{"Name":"b"},null]"#,
            "mapping",
        ),
        (
            r#""Parameters":"p q""#,
            r#""Parameters":[{"Name":"Parameters","Value":"p q"}]"#,
            "mapping",
        ),
        (
            r#""Message":{"a":[1]},"Data":[{"b":2},"c"]"#,
            r#""Message":"{\"a\":[1]}","Data":["{\"b\":2}","c"]"#,
            "mapping",
        ),
    ];
    let mut cases: Vec<(String, String, &str)> = remedies
        .iter()
        .map(|(before, after, reason)| ((*before).to_owned(), (*after).to_owned(), *reason))
        .collect();
    cases.push((
        format!("\"d\":{deep}"),
        format!("\"d\":{}\"[1]\"{}", "[".repeat(100), "]".repeat(100)),
        "depth",
    ));
    cases.push((
        format!("\"s\":[\"{long}\"]"),
        format!("\"s\":[\"{}…(cut)\"]", &long[..32_758]),
        "long_string",
    ));
    cases.push((
        format!("\"o\":{{{wide}}}"),
        format!("\"o\":[{{{}}}]", quote_numbers(&wide)),
        "leaf_limit",
    ));
    for (before, after, reason) in cases {
        let record = format!("{{\"RecordType\":2,{before}}}");
        judge(record.as_bytes(), true);
        let (event, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
        assert_eq!(reasons.names().collect::<Vec<_>>(), [reason], "{before}");
        assert_eq!(record_of(&event), format!("{{\"RecordType\":2,{after}}}"));
    }
    let (event, reasons) = event(&mut shaper(false, false, None), b"{\"a\":1}").unwrap();
    assert_eq!(reasons, Reasons::NO_RECORD_TYPE);
    assert_eq!(record_of(&event), "{\"RecordType\":0,\"a\":1}");
}

/// The index and the dashboards know one spelling.
#[test]
fn another_spelling_is_no_record_type() {
    let record = br#"{"a":"\/","recordtype":"25","Id":[]}"#;
    judge(record, true);
    let (event, _) = event(&mut shaper(false, false, None), record).unwrap();
    assert_eq!(
        record_of(&event),
        r#"{"RecordType":0,"Id":[],"a":"/","recordtype_2":"25"}"#
    );
}

/// `"k":1` → `"k":"1"`.
fn quote_numbers(members: &str) -> String {
    let quoted = members.split(',').map(|member| {
        let (key, number) = member.split_once(':').unwrap();
        format!("{key}:\"{number}\"")
    });
    quoted.collect::<Vec<_>>().join(",")
}

#[test]
fn what_does_not_fit_is_cut_largest_first_and_evenly() {
    let text = |letter: &str, length| format!("\"{letter}\":\"{}\"", letter.repeat(length));
    let record = format!(
        "{{\"RecordType\":2,{},{},{},{},\"Id\":\"i\"}}",
        text("s", 10_000),
        text("a", 30_000),
        text("b", 31_000),
        text("c", 32_000),
    );
    let (event, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
    assert_eq!(reasons, Reasons::OVERSIZE);
    let size = event.len() + HEADER.len();
    assert!((63_990..=64_000).contains(&size), "{size}");
    let shaped = record_of(&event);
    let lengths: Vec<usize> = members(&shaped).unwrap()[2..]
        .iter()
        .map(|(_, value)| value.get().len())
        .collect();
    assert_eq!(lengths[0], 10_002);
    assert!(lengths[1] > 17_000 && lengths[1..].iter().all(|length| *length == lengths[1]));
    judge(record.as_bytes(), true);
    // where a dot asked for a closer look first
    let dotted = format!(
        "{{\"RecordType\":2,\"a.b\":[{}0]}}",
        "\"xxxxxxx\",".repeat(7000)
    );
    judge(dotted.as_bytes(), true);
    // to the last byte
    for length in 50_000..50_010 {
        let items = "\"xxxxxxx\",".repeat(length / 10);
        let record = format!(
            "{{\"RecordType\":2,{},\"i\":[{items}0]}}",
            text("k", length % 10 + 20_000)
        );
        judge(record.as_bytes(), true);
    }
}

#[test]
fn more_members_than_wazuh_takes_go_into_an_overflow() {
    let members: Vec<String> = (0..400).map(|index| format!("\"k{index}\":true")).collect();
    let record = format!("{{{},\"RecordType\":2}}", members.join(","));
    let (event, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
    assert_eq!(reasons, Reasons::LEAF_LIMIT);
    let shaped: serde_json::Value = serde_json::from_str(&record_of(&event)).unwrap();
    let overflow = shaped["Overflow"][0].as_object().unwrap();
    assert_eq!(overflow.len() + shaped.as_object().unwrap().len(), 402);
    assert_eq!(overflow["k399"], "true");
    judge(record.as_bytes(), true);
}

#[test]
fn filters_keep_what_the_operator_wants() {
    let mut shaper = shaper(true, false, None);
    let record = br#"{"Operation":"New-InboxRule","Workload":"Exch\u0061nge","UserId":"Eve@Contoso.com","RecordType":"1"}"#;
    let record = shaper.read(record).unwrap();
    let filter = |operation: &str, workload: &str, user_id: &str, types: &[i64]| Filter {
        operation: (!operation.is_empty()).then(|| operation.to_owned()),
        workload: (!workload.is_empty()).then(|| workload.to_owned()),
        user_id: (!user_id.is_empty()).then(|| user_id.to_owned()),
        record_type: (!types.is_empty()).then(|| types.to_vec()),
    };
    let hit = filter("new-*", "exchange", "*@contoso.com", &[1, 2]);
    let miss = filter("new-*", "sharepoint", "", &[]);
    let wrong_type = filter("", "", "", &[2]);
    assert!(passes(&record, &[], &[]));
    assert!(passes(
        &record,
        &[miss.clone(), hit.clone()],
        std::slice::from_ref(&wrong_type)
    ));
    assert!(!passes(&record, std::slice::from_ref(&miss), &[]));
    assert!(!passes(&record, &[], &[wrong_type, hit]));
    for (token, types, does_pass) in [("15.0", 15, true), ("150", 15, false), ("10.0", 10, true)] {
        let record = format!("{{\"RecordType\":{token}}}");
        let record = shaper.read(record.as_bytes()).unwrap();
        assert_eq!(
            passes(&record, &[filter("", "", "", &[types])], &[]),
            does_pass
        );
    }
    let bare = shaper.read(b"{}").unwrap();
    assert!(!passes(&bare, &[filter("*", "", "", &[])], &[]));
}

#[test]
fn key_fields_stay_whole_however_long_the_record_is() {
    let user = "u".repeat(1000);
    let big = "z".repeat(3000);
    let many: Vec<String> = (0..100)
        .map(|index| format!("\"m{index}\":\"{big}\""))
        .collect();
    let empty: Vec<String> = (0..5900)
        .map(|index| format!("\"e{index}\":{{}}"))
        .collect();
    for members in [many, empty] {
        let record = format!(
            r#"{{"RecordType":1,"UserId":"{user}","Id":"80c76bd2-9d81-4c57-a97a-accfc3443dca",{}}}"#,
            members.join(",")
        );
        judge(record.as_bytes(), true);
        let (event, reasons) = event(&mut shaper(true, false, None), record.as_bytes()).unwrap();
        assert_eq!(reasons, Reasons::OVERSIZE);
        let size = event.len() + HEADER.len();
        assert!((63_000..=64_000).contains(&size), "{size}");
    }
    // so many escapes that even they do not fit
    let odd = "\\u0001".repeat(1024);
    let front = FRONT.iter().skip(1);
    let front: Vec<String> = front.map(|name| format!("\"{name}\":\"{odd}\"")).collect();
    for rest in [1, 60] {
        let rest = vec!["x".repeat(1000); rest].join("\",\"");
        let record = format!(
            "{{\"RecordType\":1,{},\"rest\":[\"{rest}\"]}}",
            front.join(",")
        );
        judge(record.as_bytes(), true);
    }
}

#[test]
fn ids_that_differ_stay_different() {
    let mut shaper = shaper(true, false, None);
    let mut ids = std::collections::HashSet::new();
    for (record, is_new) in [
        (r#"{"Id":"a\ud800"}"#, true),
        (r#"{"Id":"a\ud801"}"#, true),
        (r#"{"Id":"a\ufffd"}"#, true),
        (r#"{"Id":"b\u0000"}"#, true),
        (r#"{"Id":"b\ufffd"}"#, true),
        (r#"{"Id":"b"}"#, true),
        (r#"{"Id":"\u0062"}"#, false),
        (r#"{"Id":"b","c":"\n"}"#, false),
        // the text of another's token
        (r#"{"Id":"\"a\\ud800\""}"#, true),
        (r#"{"Id":"r","RecordNumber":"\ud800"}"#, true),
        (r#"{"Id":"r","RecordNumber":"\ud801"}"#, true),
        (r#"{"Id":"r","RecordNumber":"1"}"#, true),
        (r#"{"Id":"r","RecordNumber":1}"#, false),
    ] {
        let record = shaper.read(record.as_bytes()).unwrap();
        let id = record.id().unwrap().into_owned();
        let number = record.record_number().map(std::borrow::Cow::into_owned);
        assert_eq!(ids.insert((id, number)), is_new, "{record:?}");
    }
}

/// The indexer refuses a whole document for one key without a name, or with a part of none between dots.
#[test]
fn a_key_without_a_name_gets_one() {
    for (before, after) in [
        (r#""":1"#, r#""_":1"#),
        (r#""a":{"":2}"#, r#""a":{"_":2}"#),
        (
            r#""b":[{"":3,"_":4,"c":[{" ":5}]}]"#,
            r#""b":[{"__2":3,"_":4,"c":[{"_":5}]}]"#,
        ),
        (r#""":1,"":2,"_":3"#, r#""__2":1,"__3":2,"_":3"#),
        (
            r#"".a":1,"b.":2,"c..d":3,".":4"#,
            r#""_a":1,"b_":2,"c__d":3,"_":4"#,
        ),
        (r#""x":[{".a":1,"e. .f":2}]"#, r#""x":[{"_a":1,"e_ _f":2}]"#),
        (r#""\u0020":1,"\t.\t":2"#, r#""_":1,"\t_\t":2"#),
    ] {
        let record = format!("{{\"RecordType\":2,{before}}}");
        judge(record.as_bytes(), true);
        let (event, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
        assert_eq!(reasons, Reasons::MAPPING, "{before}");
        assert_eq!(record_of(&event), format!("{{\"RecordType\":2,{after}}}"));
    }
    // blanks and dots elsewhere are fine, inside arrays too
    for fine in [r#""a b":1,"(x) ":[{"a.b":1," c":2}]"#, r#""@odata.type":1"#] {
        let record = format!("{{\"RecordType\":2,{fine}}}");
        judge(record.as_bytes(), true);
        let (event, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
        assert!(reasons.is_empty());
        assert_eq!(event.as_bytes(), untouched(record.as_bytes(), ""));
    }
}

#[test]
fn a_path_below_the_subscription_is_renamed() {
    for (before, after) in [
        (r#""Subscription.x":"v""#, r#""Subscription_x":"v""#),
        (
            r#""a":1,"SUBSCRIPTION.x":{"y":1}"#,
            r#""a":1,"SUBSCRIPTION_x":{"y":1}"#,
        ),
    ] {
        let record = format!("{{\"RecordType\":2,{before}}}");
        judge(record.as_bytes(), true);
        let (event, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
        assert_eq!(reasons, Reasons::KEY_CASE);
        assert_eq!(record_of(&event), format!("{{\"RecordType\":2,{after}}}"));
    }
}

#[test]
fn flattened_arrays_have_a_name_each() {
    let record = br#"{"RecordType":1,"a.b":[{"Name":"x","Value":"1"}],"a_b":[{"Name":"x","Value":"2"},{"Name":" ","Value":"3"}],
        "A.B":[{"Name":"y","Value":"4"}]}"#;
    let (flat, _) = event(&mut shaper(true, true, None), record).unwrap();
    assert_eq!(faults(flat.as_bytes()), Vec::<String>::new());
    assert!(
        flat.ends_with(r#","fields":{"a_b":{"x":"1"},"a_b_2":{"x":"2"},"A_B_2_2":{"y":"4"}}}}"#),
        "{flat}"
    );
}

/// What is said to have been done was done, and was needed.
#[test]
fn nothing_is_reshaped_that_wazuh_takes() {
    let key = "k".repeat(33_000);
    for record in [
        r#"{"RecordType":"\u0031","a":1}"#.to_owned(),
        r#"{"RecordType":15.0,"a":1}"#.to_owned(),
        r#"{"RecordType":1e1}"#.to_owned(),
        format!(r#"{{"RecordType":1,"{key}":1}}"#),
    ] {
        judge(record.as_bytes(), true);
        let (event, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
        assert!(reasons.is_empty());
        assert_eq!(event.as_bytes(), untouched(record.as_bytes(), ""));
    }
    for odd in ["\"15.0\"", "1.5", "-1.0", "\"\\u0041\"", "\" 15\"", "\"\""] {
        let record = format!("{{\"RecordType\":{odd}}}");
        judge(record.as_bytes(), true);
        let (_, reasons) = event(&mut shaper(false, false, None), record.as_bytes()).unwrap();
        assert!(reasons.contains(Reasons::NO_RECORD_TYPE), "{odd}");
    }
}

/// Wazuh would take it for one.
#[test]
fn a_label_is_no_array() {
    let labels = [("a", "[{\"b\":1}]"), ("c", "[x")];
    let mut shaper = labelled(&labels, true, false, None);
    let (event, _) = event(&mut shaper, b"{\"RecordType\":1}").unwrap();
    let said = "\"labels\":{\"a\":\" [{\\\"b\\\":1}]\",\"c\":\"[x\"}";
    assert!(event.contains(said), "{event}");
}
