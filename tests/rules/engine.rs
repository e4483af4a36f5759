//! Wazuh's rule engine, as far as the rules need it: a tree in which the children of a rule are tried by level, the higher
//! first, equal ones in the order of their files; of an event the fields that its JSON decoder makes.

use std::collections::BTreeMap;

use regex::Regex;
use roxmltree::{Document, Node};
use serde_json::{Value, json};

pub(super) const RULES: &str = include_str!("../../integration/o365_wodle_rules.xml");

/// The official rules that matter to the samples, in our words: id, level, parent, field, pattern.
pub(super) const OFFICIAL: [(u32, u32, u32, &str, &str); 13] = [
    (91_531, 0, 0, "integration", "office365"),
    (91_532, 3, 91_531, "office365.RecordType", "[0-9]+"),
    (91_533, 3, 91_532, "office365.RecordType", "^1$"),
    (91_537, 3, 91_532, "office365.RecordType", "^6$"),
    (91_539, 3, 91_532, "office365.RecordType", "^8$"),
    (91_542, 3, 91_532, "office365.RecordType", "^11$"),
    (91_545, 3, 91_532, "office365.RecordType", "^15$"),
    (91_648, 3, 91_531, "office365.actor", "wazuh"),
    (
        91_700,
        14,
        91_532,
        "office365.Operation",
        "^FileMalwareDetected$",
    ),
    (91_702, 4, 91_532, "office365.Operation", "^FileDownloaded$"),
    (
        91_705,
        6,
        91_532,
        "office365.Operation",
        "^Add-MailboxPermission$",
    ),
    (91_710, 6, 91_532, "office365.Operation", "^Update user.$"),
    (
        91_711,
        6,
        91_532,
        "office365.Operation",
        "^Add member to role.$",
    ),
];

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: u32,
    level: u32,
    pub(super) parents: Vec<u32>,
    fields: Vec<(String, Regex)>,
    /// How many must have matched before, and within how many seconds.
    counts: Option<(usize, u64)>,
    same: Vec<String>,
    different: Vec<String>,
}

fn rule(node: Node<'_, '_>) -> Rule {
    let number = |name: &str| {
        node.attribute(name)
            .map(|text| text.parse::<u32>().unwrap())
    };
    let all = |name: &'static str| {
        node.children()
            .filter(move |child| child.has_tag_name(name))
            .map(|child| child.text().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for child in node.children().filter(Node::is_element) {
        let known = [
            "if_sid",
            "if_matched_sid",
            "field",
            "same_field",
            "different_field",
            "description",
            "mitre",
            "options",
            "group",
        ];
        assert!(
            known.contains(&child.tag_name().name()),
            "{child:?}: the evaluator does not know it"
        );
    }
    let fields = node
        .children()
        .filter(|child| child.has_tag_name("field"))
        .map(|field| {
            assert_eq!(field.attribute("type"), Some("pcre2"));
            assert_eq!(
                field.attribute("negate"),
                None,
                "a missing field and negation: versions differ"
            );
            (
                field.attribute("name").unwrap().to_owned(),
                Regex::new(field.text().unwrap()).unwrap(),
            )
        })
        .collect();
    let counted = all("if_matched_sid");
    let parents = [all("if_sid"), counted.clone()].concat();
    Rule {
        id: number("id").unwrap(),
        level: number("level").unwrap(),
        parents: parents
            .iter()
            .flat_map(|ids| ids.split(','))
            .map(|id| id.trim().parse().unwrap())
            .collect(),
        fields,
        counts: number("frequency")
            .map(|count| (count as usize, u64::from(number("timeframe").unwrap()))),
        same: all("same_field"),
        different: all("different_field"),
    }
}

/// Ours behind the official ones, as Wazuh loads them.
pub(super) fn rules() -> Vec<Rule> {
    let official = OFFICIAL
        .iter()
        .map(|&(id, level, parent, field, pattern)| Rule {
            id,
            level,
            parents: vec![parent],
            fields: vec![(field.to_owned(), Regex::new(pattern).unwrap())],
            counts: None,
            same: Vec::new(),
            different: Vec::new(),
        });
    let document = Document::parse(RULES).unwrap();
    let ours = document
        .descendants()
        .filter(|node| node.has_tag_name("rule"))
        .map(rule);
    official.chain(ours).collect()
}

/// The fields of an event: objects by their paths, an array as one text as cJSON prints it, scalars as text.
fn fields(event: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    walk(&path, value, into);
                }
            }
            Value::String(text) => drop(into.insert(path.to_owned(), text.clone())),
            Value::Array(_) => drop(into.insert(path.to_owned(), printed(value, 0))),
            scalar => drop(into.insert(path.to_owned(), scalar.to_string())),
        }
    }
    let mut into = BTreeMap::new();
    walk("", event, &mut into);
    into
}

fn printed(value: &Value, depth: usize) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| printed(item, depth + 1)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let tabs = "\t".repeat(depth + 1);
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{tabs}{}:\t{}", json!(key), printed(value, depth + 1)))
                .collect();
            format!("{{\n{}\n{}}}", members.join(",\n"), "\t".repeat(depth))
        }
        scalar => scalar.to_string(),
    }
}

/// Evaluates events one after the other.
pub(super) struct Engine {
    rules: Vec<Rule>,
    /// What matched so far, each rule on the way down included.
    matched: Vec<(u64, u32, BTreeMap<String, String>)>,
}

impl Engine {
    pub(super) fn new() -> Self {
        Self {
            rules: rules(),
            matched: Vec::new(),
        }
    }

    /// The rule that an event at that second ends at.
    pub(super) fn fires(&mut self, second: u64, event: &Value) -> u32 {
        let fields = fields(event);
        let mut at = 0;
        let mut way = Vec::new();
        while let Some(next) = self.child(at, second, &fields) {
            at = next;
            way.push(next);
        }
        self.matched
            .extend(way.into_iter().map(|id| (second, id, fields.clone())));
        at
    }

    fn child(&self, parent: u32, second: u64, fields: &BTreeMap<String, String>) -> Option<u32> {
        let mut children: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.parents.contains(&parent))
            .collect();
        children.sort_by_key(|rule| std::cmp::Reverse(rule.level));
        children
            .into_iter()
            .find(|rule| self.matches(rule, parent, second, fields))
            .map(|rule| rule.id)
    }

    fn matches(
        &self,
        rule: &Rule,
        parent: u32,
        second: u64,
        fields: &BTreeMap<String, String>,
    ) -> bool {
        let has = |(name, pattern): &(String, Regex)| {
            fields.get(name).is_some_and(|text| pattern.is_match(text))
        };
        if !rule.fields.iter().all(has) {
            return false;
        }
        let Some((count, timeframe)) = rule.counts else {
            return true;
        };
        let earlier = self.matched.iter().filter(|(then, id, other)| {
            *id == parent
                && second - then <= timeframe
                && rule
                    .same
                    .iter()
                    .all(|name| fields.contains_key(name) && other.get(name) == fields.get(name))
                && rule
                    .different
                    .iter()
                    .all(|name| other.get(name) != fields.get(name))
        });
        earlier.count() >= count
    }
}
