//! What is set is seen at Wazuh's socket, and by Microsoft.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::microsoft::Options;

use crate::world::World;

const DAY: Duration = Duration::from_hours(24);
const MATCHED: &str = "4111 1111 1111 1111";
const PUBLISHER: &str = "6d1c2f3e-0000-4000-8000-0123456789ab";

/// What arrived since it was asked last, each behind this location.
fn events(world: &World, location: &str) -> Vec<Value> {
    let head = format!("1:{location}:");
    let parse = |datagram: &Vec<u8>| {
        let event = datagram
            .strip_prefix(head.as_bytes())
            .expect("the location that was set");
        serde_json::from_slice(event).unwrap()
    };
    world.queue.drain().iter().map(parse).collect()
}

/// A content with one record, created so many minutes ago.
fn issue(world: &World, content_type: &str, minutes: i64, record: &Value) {
    let created = world.microsoft.now() - TimeDelta::minutes(minutes);
    let records = vec![record.to_string().into_bytes()];
    world
        .microsoft
        .issue(&world.id(0), content_type, records, created);
}

/// An hour is what tells a backlog from what is new.
fn a_forwarding_rule_and_a_match() -> World {
    let mut world = World::with_tenants(1, Options::default());
    let rule = json!({"Id": "new", "RecordType": 1, "Operation": "New-InboxRule",
        "Parameters": [{"Name": "ForwardTo", "Value": "elsewhere"}]});
    let found = json!({"Id": "old", "RecordType": 11, "Operation": "DlpRuleMatch",
        "DetectedValues": [{"Name": MATCHED, "Value": MATCHED}]});
    issue(&world, "Audit.Exchange", 59, &rule);
    issue(&world, "DLP.All", 61, &found);
    world.set(
        "collect",
        "content_types",
        r#"["Audit.Exchange", "DLP.All"]"#,
    );
    world
}

#[test]
fn what_is_set_of_events_shows_in_each() {
    let mut world = a_forwarding_rule_and_a_match();
    world.set("wazuh", "location", "\"elsewhere\"");
    world.set("wazuh", "annotate", "true");
    world.set("wazuh", "flatten", "true");
    world.set("collect", "redact_dlp", "true");
    world.set("collect", "publisher_identifier", &format!("{PUBLISHER:?}"));
    let labels = "labels = { customer = \"C-42\" }".to_owned();
    let name = world.tenants[0].0.clone();
    world.tenant_settings.insert(name.clone(), vec![labels]);
    world.run_expecting(0, &[]);

    let events = events(&world, "elsewhere");
    assert_eq!(events.len(), 2, "{}", world.log());
    for event in events {
        let wodle = &event["o365_wodle"];
        assert_eq!(wodle["tenant"], name);
        assert_eq!(wodle["labels"], json!({"customer": "C-42"}));
        if event["office365"]["Id"] == "new" {
            assert_eq!(wodle["backlog"], Value::Null);
            assert_eq!(wodle["fields"]["Parameters"]["ForwardTo"], "elsewhere");
        } else {
            assert_eq!(wodle["backlog"], true);
            assert!(!event.to_string().contains(MATCHED), "{event}");
            assert!(event.to_string().contains("hmac:"), "{event}");
        }
    }
    let requests = world.microsoft.requests();
    let publishers = requests.iter().flat_map(|request| &request.query);
    let publishers: Vec<_> = publishers
        .filter(|(key, _)| key == "PublisherIdentifier")
        .map(|(_, value)| value)
        .collect();
    assert!(publishers.len() > 2);
    assert!(publishers.iter().all(|publisher| *publisher == PUBLISHER));
}

#[test]
fn what_is_not_set_of_events_leaves_the_records_alone() {
    for annotate in ["true", "false"] {
        let mut world = a_forwarding_rule_and_a_match();
        world.set("wazuh", "annotate", annotate);
        world.run_expecting(0, &[]);
        let events = events(&world, "office365");
        assert_eq!(events.len(), 2, "{}", world.log());
        for event in events {
            let annotation = &event["o365_wodle"];
            assert_eq!(annotation.is_object(), annotate == "true", "{event}");
            assert!(annotation["fields"].is_null());
            assert!(annotation["labels"].is_null());
            assert!(!event.to_string().contains("hmac:"));
        }
        let id = world.id(0);
        let requests = world.microsoft.requests();
        let mut query = requests.iter().flat_map(|request| &request.query);
        assert!(query.any(|(key, value)| key == "PublisherIdentifier" && *value == id));
    }
}

#[test]
fn records_are_known_as_long_as_is_set() {
    for (days, arrive) in [("8d", 2), ("20d", 1)] {
        let mut world = World::with_tenants(1, Options::default());
        world.set("collect", "deduplicate_for", &format!("{days:?}"));
        // What is old by one clock only is kept, and this machine's stays where it is.
        let begin = world.microsoft.now() - 15 * DAY;
        world.microsoft.set_clock(begin);
        let record = json!({"Id": "the same", "RecordType": 1});
        issue(&world, "Audit.Exchange", 5, &record);
        world.run_expecting(0, &[]);
        rusqlite::Connection::open(world.ledger())
            .unwrap()
            .execute("UPDATE batch SET sent = ?1", [begin.timestamp_millis()])
            .unwrap();
        for _ in 0..2 {
            world.microsoft.advance(6 * DAY);
            world.run_expecting(0, &[]);
        }
        issue(&world, "Audit.Exchange", 5, &record);
        world.run_expecting(0, &[]);
        let events = events(&world, "office365");
        let same = events
            .iter()
            .filter(|event| event["office365"]["Id"] == "the same");
        assert_eq!(same.count(), arrive, "{days}: {}", world.log());
    }
}

#[test]
fn silence_is_told_as_soon_as_is_set() {
    for (after, told) in [("3h", 1), ("12h", 0), ("0s", 0)] {
        let mut world = World::with_tenants(1, Options::default());
        world.set("collect", "silent_after", &format!("{after:?}"));
        world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
        for day in 0..4 {
            issue(&world, "Audit.Exchange", 5, &json!({"Id": day.to_string()}));
            world.run_expecting(0, &[]);
            world.microsoft.advance(DAY);
        }
        issue(&world, "Audit.Exchange", 5, &json!({"Id": "last"}));
        world.run_expecting(0, &[]);
        world.microsoft.advance(Duration::from_hours(6));
        for _ in 0..3 {
            world.run_expecting(0, &[]);
        }
        let events = events(&world, "office365");
        let silent = events
            .iter()
            .filter(|event| event["o365_wodle"]["health"] == "silent");
        assert_eq!(silent.count(), told, "{after}: {}", world.log());
    }
}

/// Nobody sees what a program that a scheduler started says.
#[test]
fn a_run_says_in_the_log_what_is_wrong_with_its_configuration() {
    let mut world = World::with_tenants(1, Options::default());
    world.set("wazuh", "hom", "\"/\"");
    world.run_expecting(78, &[]);
    let said = "wazuh.hom: unknown key; did you mean home?";
    assert!(world.log().contains(said), "{}", world.log());
    assert_eq!(world.run(&["status"]).status.code(), Some(78));
    assert_eq!(world.log().matches(said).count(), 1, "{}", world.log());
}
