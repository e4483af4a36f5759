//! The rules in `integration/`, evaluated as Wazuh's rule engine does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod engine;
mod samples;

use std::collections::BTreeSet;

use serde_json::json;

use engine::{Engine, OFFICIAL, RULES, rules};
use samples::{event, rows, samples};

const OURS: std::ops::RangeInclusive<u32> = 118_650..=118_749;

/// What Wazuh ships for Office 365, and what others publish.
const TAKEN: [std::ops::RangeInclusive<u32>; 2] = [91_531..=91_799, 108_000..=108_999];

#[test]
fn every_rule_fires_on_its_samples_and_on_no_other() {
    let mut fired = BTreeSet::new();
    for (expected, record, about) in samples() {
        let event = event(&record, &about);
        let id = Engine::new().fires(0, &event);
        assert_eq!(id, expected, "{event}");
        fired.insert(id);
    }
    for (before, last, count, pause, make, is_late) in rows() {
        let mut engine = Engine::new();
        let about = if is_late {
            json!({ "backlog": true })
        } else {
            json!({})
        };
        for number in 0..=count {
            let id = engine.fires(number as u64 * pause, &event(&make(number), &about));
            let expected = if number == count { last } else { before };
            assert_eq!(id, expected, "number {number} of {before}");
            fired.insert(id);
        }
    }
    let ours: BTreeSet<u32> = rules()
        .iter()
        .map(|rule| rule.id)
        .filter(|id| OURS.contains(id))
        .collect();
    let unproven: Vec<_> = ours.difference(&fired).collect();
    assert!(unproven.is_empty(), "without a sample: {unproven:?}");
}

#[test]
fn ids_are_ours_alone_and_parents_exist() {
    let rules = rules();
    let (official, ours) = rules.split_at(OFFICIAL.len());
    let ids: BTreeSet<u32> = rules.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), rules.len(), "an id comes twice");
    for rule in ours {
        assert!(OURS.contains(&rule.id), "{}", rule.id);
        assert!(
            TAKEN.iter().all(|taken| !taken.contains(&rule.id)),
            "{}",
            rule.id
        );
        assert!(
            rule.parents.iter().all(|parent| ids.contains(parent)),
            "{}",
            rule.id
        );
    }
    assert!(official.iter().all(|rule| TAKEN[0].contains(&rule.id)));
    assert!(!RULES.contains("overwrite"), "no official rule is replaced");
}
