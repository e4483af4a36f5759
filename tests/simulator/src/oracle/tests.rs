#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER: &str = "22222222-2222-2222-2222-222222222222";

fn datagram(subscription: &str, record: &str, more: &str) -> Vec<u8> {
    let rest = record.strip_prefix('{').unwrap();
    let comma = if rest == "}" { "" } else { "," };
    format!(r#"1:office365:{{"integration":"office365","office365":{{"Subscription":"{subscription}"{comma}{rest}{more}}}"#)
        .into_bytes()
}

fn record(id: &str) -> String {
    format!(r#"{{"Id":"{id}","RecordType":2,"Operation":"New-InboxRule"}}"#)
}

#[test]
fn a_record_that_arrives_once_and_whole_is_clean() {
    for mut oracle in [Oracle::new(), Oracle::cheap()] {
        oracle.issued(
            TENANT,
            "Audit.Exchange",
            br#"{ "Id" : "a b", "RecordType" : 2, "x": [ 1.0, "\u00e9 \"q" ] }"#,
        );
        oracle.received(&datagram(
            "Audit.Exchange",
            r#"{"Id":"a b","RecordType":2,"x":[1.0,"\u00e9 \"q"]}"#,
            "",
        ));
        let verdict = oracle.verdict();
        assert_eq!(
            verdict.to_string(),
            "verdict: 1 issued, 1 received, 0 missing, 0 repeated"
        );
        assert!(verdict.is_clean(), "{}", verdict.details());
    }
}

#[test]
fn missing_repeated_and_unexpected_are_counted_and_named() {
    for mut oracle in [Oracle::new(), Oracle::cheap()] {
        for id in ["a", "b", "b", "c"] {
            oracle.issued(TENANT, "Audit.Exchange", record(id).as_bytes());
        }
        for id in ["a", "b", "b", "b", "x"] {
            oracle.received(&datagram("Audit.Exchange", &record(id), ""));
        }
        let verdict = oracle.verdict();
        assert_eq!(
            verdict.to_string(),
            "verdict: 3 issued, 5 received, 1 missing, 2 repeated, 1 unexpected"
        );
        assert_eq!((verdict.repeated.len(), verdict.unexpected.len()), (1, 1));
        assert!(!verdict.is_clean_but_for_repeats());
    }
    let mut oracle = Oracle::new();
    oracle.issued(TENANT, "Audit.Exchange", record("c").as_bytes());
    assert_eq!(
        oracle.verdict().missing,
        [format!("{TENANT} Audit.Exchange c")]
    );
}

#[test]
fn one_changed_byte_is_altered_unless_the_event_says_so() {
    for mut oracle in [Oracle::new(), Oracle::cheap()] {
        oracle.issued(
            TENANT,
            "Audit.Exchange",
            br#"{"Id":"a","RecordType":2,"n":1.0}"#,
        );
        oracle.received(&datagram(
            "Audit.Exchange",
            r#"{"Id":"a","RecordType":2,"n":1}"#,
            "",
        ));
        assert_eq!(
            oracle.verdict().to_string(),
            "verdict: 1 issued, 1 received, 0 missing, 0 repeated, 1 altered"
        );
    }
    let mut oracle = Oracle::new();
    oracle.issued(
        TENANT,
        "Audit.Exchange",
        br#"{"Id":"a","RecordType":2,"n":99999999999}"#,
    );
    let more = r#","o365_wodle":{"tenant":"contoso","reshaped":["big_number"]}"#;
    oracle.received(&datagram(
        "Audit.Exchange",
        r#"{"Id":"a","RecordType":2,"n":"99999999999"}"#,
        more,
    ));
    let verdict = oracle.verdict();
    assert_eq!(
        verdict.to_string(),
        "verdict: 1 issued, 1 received, 0 missing, 0 repeated, 1 reshaped"
    );
    assert!(verdict.is_clean());
}

#[test]
fn the_order_of_keys_and_the_place_of_subscription_count() {
    let mut oracle = Oracle::new();
    oracle.issued(TENANT, "DLP.All", br#"{"Id":"a","RecordType":11}"#);
    oracle.received(br#"1:office365:{"integration":"office365","office365":{"Id":"a","RecordType":11,"Subscription":"DLP.All"}}"#);
    assert_eq!(oracle.verdict().altered.len(), 1);
}

#[test]
fn the_same_id_in_two_content_types_or_tenants_is_two_records() {
    let mut oracle = Oracle::new();
    oracle.tenant("fabrikam", OTHER);
    oracle.issued(TENANT, "Audit.Exchange", record("a").as_bytes());
    oracle.issued(TENANT, "Audit.General", record("a").as_bytes());
    oracle.issued(OTHER, "Audit.General", record("a").as_bytes());
    for subscription in ["Audit.Exchange", "Audit.General"] {
        oracle.received(&datagram(subscription, &record("a"), ""));
    }
    assert_eq!(oracle.verdict().missing.len(), 1);
    oracle.received(&datagram("Audit.General", &record("a"), ""));
    assert!(oracle.verdict().is_clean());
    // named, it is the other tenant's record even where the first tenant's is as equal
    oracle.received(&datagram(
        "Audit.General",
        &record("a"),
        r#","o365_wodle":{"tenant":"fabrikam"}"#,
    ));
    assert_eq!(
        oracle.verdict().repeated,
        [format!("{OTHER} Audit.General a")]
    );
}

#[test]
fn a_record_that_comes_as_anothers_is_altered() {
    let mut oracle = Oracle::new();
    oracle.tenant("contoso", TENANT);
    oracle.tenant("fabrikam", OTHER);
    for id in ["a", "b"] {
        oracle.issued(TENANT, "Audit.General", record(id).as_bytes());
    }
    for (id, name) in [("a", "contoso"), ("b", "fabrikam")] {
        let more = format!(r#","o365_wodle":{{"tenant":"{name}"}}"#);
        oracle.received(&datagram("Audit.General", &record(id), &more));
    }
    let said = format!("Audit.General of {TENANT} came as {OTHER}'s");
    assert_eq!(oracle.verdict().altered, [said]);
}

#[test]
fn record_number_is_part_of_the_identity() {
    let part = |n: u32| format!(r#"{{"Id":"a","RecordType":2,"RecordNumber":{n}}}"#);
    let mut oracle = Oracle::new();
    oracle.issued(TENANT, "Audit.Exchange", part(1).as_bytes());
    oracle.issued(TENANT, "Audit.Exchange", part(2).as_bytes());
    oracle.received(&datagram("Audit.Exchange", &part(1), ""));
    oracle.received(&datagram("Audit.Exchange", &part(2), ""));
    assert_eq!(
        oracle.verdict().to_string(),
        "verdict: 2 issued, 2 received, 0 missing, 0 repeated"
    );
}

#[test]
fn records_without_an_id_are_a_multiset_of_texts() {
    for mut oracle in [Oracle::new(), Oracle::cheap()] {
        for text in [
            r#"{"Id":"","RecordType":2}"#,
            r#"{"Id":"","RecordType":2}"#,
            r#"{"RecordType":3}"#,
        ] {
            oracle.issued(TENANT, "Audit.Exchange", text.as_bytes());
        }
        oracle.received(&datagram(
            "Audit.Exchange",
            r#"{"Id":"","RecordType":2}"#,
            "",
        ));
        assert_eq!(oracle.verdict().missing.len(), 2);
        oracle.received(&datagram(
            "Audit.Exchange",
            r#"{"Id":"","RecordType":2}"#,
            "",
        ));
        oracle.received(&datagram("Audit.Exchange", r#"{"RecordType":3}"#, ""));
        assert!(oracle.verdict().is_clean());
        oracle.received(&datagram("Audit.Exchange", r#"{"RecordType":3}"#, ""));
        assert_eq!(oracle.verdict().repeats, 1);
    }
}

#[test]
fn an_id_issued_with_two_texts_may_arrive_as_either() {
    let mut oracle = Oracle::new();
    oracle.issued(TENANT, "Audit.Exchange", record("a").as_bytes());
    oracle.issued(TENANT, "Audit.Exchange", br#"{"Id":"a","RecordType":2}"#);
    oracle.received(&datagram(
        "Audit.Exchange",
        r#"{"Id":"a","RecordType":2}"#,
        "",
    ));
    assert_eq!(
        oracle.verdict().to_string(),
        "verdict: 1 issued, 1 received, 0 missing, 0 repeated"
    );
}

#[test]
fn what_wazuh_would_not_decode_is_malformed() {
    let long = format!(
        r#"{{"Id":"a","RecordType":2,"x":"{}"}}"#,
        "y".repeat(64_000)
    );
    let event = String::from_utf8(datagram("Audit.Exchange", &record("a"), "")).unwrap();
    let cases = [
        "{}".to_owned(),
        "1::{}".to_owned(),
        "2:office365:{}".to_owned(),
        event.strip_suffix('}').unwrap().to_owned(),
        event.replace("2,", "2,\n"),
        event.replace(
            "\"integration\":\"office365\"",
            "\"integration\":\"github\"",
        ),
        event.replace("{\"integration", "{ \"integration"),
        event.replace("New-", "\\ud800"),
        format!("{event}{event}"),
    ];
    for case in cases {
        let mut oracle = Oracle::new();
        oracle.issued(TENANT, "Audit.Exchange", record("a").as_bytes());
        oracle.received(case.as_bytes());
        let verdict = oracle.verdict();
        assert_eq!(
            (verdict.malformed.len(), verdict.missing.len()),
            (1, 1),
            "{case}"
        );
    }
    let mut oracle = Oracle::new();
    oracle.issued(TENANT, "Audit.Exchange", long.as_bytes());
    oracle.received(&datagram("Audit.Exchange", &long, ""));
    assert_eq!(
        oracle.verdict().to_string(),
        "verdict: 1 issued, 1 received, 0 missing, 0 repeated, 1 oversize"
    );
}

#[test]
fn events_about_the_collection_stand_apart() {
    let mut oracle = Oracle::new();
    let event = br#"1:office365:{"integration":"office365","office365":{"actor":"wazuh","tenant_id":"t","response":"{}"},"o365_wodle":{"health":"auth_failed","count":1}}"#;
    oracle.received(event);
    oracle.received(event);
    assert_eq!(
        oracle.verdict().to_string(),
        "verdict: 0 issued, 0 received, 0 missing, 0 repeated"
    );
    assert_eq!(oracle.health().len(), 2);
    assert_eq!(oracle.health_counts().get("auth_failed"), Some(&2));
}

#[test]
fn an_element_that_is_no_object_comes_back_as_raw_text() {
    let mut oracle = Oracle::new();
    oracle.issued(TENANT, "Audit.General", b"null");
    oracle.issued(TENANT, "Audit.General", br#"["a", 1]"#);
    oracle.received(br#"1:office365:{"integration":"office365","office365":{"actor":"wazuh"},"o365_wodle":{"health":"content_damaged","raw":"null"}}"#);
    assert_eq!(
        oracle.verdict().missing,
        [format!("{TENANT} Audit.General without Id: [\"a\",1]")]
    );
    oracle.received(br#"1:office365:{"integration":"office365","office365":{"actor":"wazuh"},"o365_wodle":{"health":"content_damaged","raw":"[\"a\", "}}"#);
    assert!(oracle.verdict().is_clean());
}
