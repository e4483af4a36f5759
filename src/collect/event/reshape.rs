//! The changes that a record needs so that Wazuh and its indexer keep all of it.
//!
//! Each step leaves alone what is fine, so a reshaped record comes through a second time unchanged.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::cut::{self, LONGEST_STRING};
use super::keys;
use super::lex;
use super::mapping::{ANY_TYPE, Shape, may_nest, seems_an_array, usual_shape};
use super::node::{Members, Node};
use super::scan::{DEEPEST, is_digits, is_record_type};

/// What stands in front of a reshaped record, behind `Subscription`, and stays.
pub(super) const FRONT: [&str; 9] = [
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
/// The leaf that stands before the record's own members, as keys are compared.
const SUBSCRIPTION: &str = "subscription";
/// The longest value in front, in bytes of UTF-8.
const LONGEST_FRONT: usize = 1024;
/// Paths that are built to see whether two meet, in bytes. Of a record of more none keeps its dots.
const MOST_PATHS: usize = 4 * 1024 * 1024;
/// Where the members of a record go that has more of them than Wazuh takes.
const OVERFLOW: &str = "Overflow";

/// Gives keys a name that have none, or a part of none between dots, here and below: the indexer would refuse the document.
pub(super) fn name_keys(members: &mut Members<'_>, in_array: bool) {
    let lacks_name = |key: &str| keys::lacks_name(key.as_bytes());
    if members.iter().any(|(key, _)| lacks_name(key)) {
        let mut taken: HashSet<String> =
            members.iter().map(|(key, _)| fold(key, in_array)).collect();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (key, _) in members.iter_mut().filter(|(key, _)| lacks_name(key)) {
            let mut base = key.replace('.', "_");
            if lacks_name(&base) {
                base = "_".into();
            }
            let count = counts.entry(fold(&base, in_array)).or_insert(1);
            let mut name = base.clone();
            while !taken.insert(fold(&name, in_array)) {
                *count += 1;
                name = format!("{base}_{count}");
            }
            *key = name.into();
        }
    }
    for (_, value) in members {
        name_keys_below(value, in_array);
    }
}

fn name_keys_below(value: &mut Node<'_>, in_array: bool) {
    match value {
        Node::Object(members) => name_keys(members, in_array),
        Node::Array(items) => items
            .iter_mut()
            .for_each(|item| name_keys_below(item, true)),
        _ => {}
    }
}

/// What a key is told apart by.
fn fold(key: &str, in_array: bool) -> String {
    if in_array {
        key.to_owned()
    } else {
        key.to_ascii_lowercase()
    }
}

/// Gives keys that vary the shape that they usually have.
pub(super) fn map(members: &mut Members<'_>) {
    for (key, value) in members {
        match usual_shape(key.as_bytes()) {
            None => {}
            Some(Shape::Text) => match value {
                Node::Object(inner) if !inner.is_empty() => *value = to_text(value),
                Node::Array(items) => {
                    for item in items.iter_mut().filter(|item| !item.is_null()) {
                        *item = to_text(item);
                    }
                }
                _ => {}
            },
            Some(shape) => {
                let name = shape.member();
                let wrap = |value: &Node<'_>| Node::Object(vec![(name.into(), to_text(value))]);
                match value {
                    Node::Array(items) => {
                        for item in items.iter_mut() {
                            if !matches!(item, Node::Object(_)) && !item.is_null() {
                                *item = wrap(item);
                            }
                        }
                    }
                    Node::Text(text) if text.is_empty() => {}
                    Node::Object(_) => {}
                    Node::Text(_) | Node::Plain(_) => {
                        let object = if shape == Shape::Properties {
                            let name = Node::Text(key.to_string().into());
                            Node::Object(vec![
                                ("Name".into(), name),
                                ("Value".into(), to_text(value)),
                            ])
                        } else {
                            wrap(value)
                        };
                        *value = Node::Array(vec![object]);
                    }
                }
            }
        }
    }
}

fn to_text<'a>(value: &Node<'_>) -> Node<'a> {
    Node::Text(value.to_text().into())
}

/// Moves the key fields to the front and gives a record without usable type the type 0, which Microsoft
/// does not use: Wazuh's rules want a number. What stood there instead is kept under a name of its own.
pub(super) fn front(members: &mut Members<'_>) {
    let typed = members
        .iter()
        .find(|(key, _)| key == "RecordType")
        .is_some_and(|(_, value)| match value {
            Node::Text(text) => is_digits(text.as_bytes()),
            Node::Plain(token) => is_record_type(token.as_bytes()),
            _ => false,
        });
    if !typed {
        members.insert(0, ("RecordType".into(), Node::Plain("0")));
    }
    let mut place = 0;
    for name in FRONT {
        if let Some(found) = members.iter().position(|(key, _)| key == name) {
            members
                .get_mut(place..=found)
                .unwrap_or_default()
                .rotate_right(1);
            place += 1;
        }
    }
}

/// How many key fields stand in front.
pub(super) fn front_length(members: &Members<'_>) -> usize {
    let is_front = |(key, _): &&(Cow<'_, str>, Node<'_>)| FRONT.contains(&key.as_ref());
    members.iter().take_while(is_front).count()
}

/// Cuts the key fields, which stand in front; says whether any had to be.
pub(super) fn cut_front(members: &mut Members<'_>) -> bool {
    let mut cut = false;
    let front = front_length(members);
    for (_, value) in members.iter_mut().take(front) {
        if !matches!(value, Node::Text(_)) && value.length() > LONGEST_FRONT {
            *value = to_text(value);
        }
        if let Node::Text(text) = value {
            cut |= cut_text(text, LONGEST_FRONT);
        }
    }
    cut
}

fn cut_text(text: &mut Cow<'_, str>, most: usize) -> bool {
    let too_long = text.len() > most;
    if too_long {
        *text = Cow::Owned(cut::to_utf8(text, most).into_owned());
    }
    too_long
}

/// Turns what wrapping has pushed too deep into JSON text; `depth` is the value's own. Says whether anything was.
pub(super) fn limit_depth(value: &mut Node<'_>, depth: usize) -> bool {
    let mut limited = false;
    match value {
        Node::Text(_) | Node::Plain(_) => {}
        _ if depth > DEEPEST => {
            *value = to_text(value);
            limited = true;
        }
        Node::Array(items) => {
            for item in items {
                limited |= limit_depth(item, depth + 1);
            }
        }
        Node::Object(members) => {
            for (_, value) in members {
                limited |= limit_depth(value, depth + 1);
            }
        }
    }
    limited
}

/// Writes numbers as strings that Wazuh would change or the indexer not take beside texts, keeps texts from becoming arrays, and
/// cuts strings that the indexer would refuse; says whether any was cut.
pub(super) fn tame_members(members: &mut Members<'_>) -> bool {
    let mut cut = false;
    for (key, value) in members {
        cut |= match value {
            // They stay as they are, but for their length.
            Node::Text(text) if FRONT.contains(&key.as_ref()) && !may_nest(text) => {
                cut_text(text, LONGEST_STRING)
            }
            value => tame(value, false),
        };
    }
    cut
}

/// As [`tame_members`], for one value.
fn tame(value: &mut Node<'_>, in_array: bool) -> bool {
    let mut cut = false;
    match value {
        Node::Text(text) => {
            cut = cut_text(text, LONGEST_STRING);
            if !in_array && seems_an_array(text) {
                *text = format!(" {text}").into();
                cut |= cut_text(text, LONGEST_STRING);
            }
        }
        Node::Plain(token) => {
            let number = !matches!(*token, "true" | "false" | "null");
            if number && !lex::number_survives(token.as_bytes(), in_array) {
                let text = Cow::Borrowed(*token);
                *value = Node::Text(text);
                cut = tame(value, in_array);
            }
        }
        Node::Array(items) => {
            for item in items {
                cut |= tame(item, true);
            }
        }
        Node::Object(members) => {
            for (key, value) in members {
                if in_array
                    && key.ends_with(ANY_TYPE)
                    && matches!(value, Node::Plain(token) if *token != "null")
                {
                    *value = to_text(value);
                }
                cut |= tame(value, in_array);
            }
        }
    }
    cut
}

/// Renames members that Wazuh would take for one already seen; says whether there was any.
pub(super) fn tell_apart(members: &mut Members<'_>) -> bool {
    let mut renamed = number_alike(members, false, Some(SUBSCRIPTION));
    let mut paths = Paths::default();
    paths.leaves.insert(SUBSCRIPTION.to_owned());
    if has_dots(members) && paths.any_lost(members, "") {
        undot(members);
        number_alike(members, false, Some(SUBSCRIPTION));
        renamed = true;
    }
    renamed
}

/// Gives the second and later of keys that are alike a suffix, here and below.
fn number_alike(members: &mut Members<'_>, in_array: bool, taken: Option<&str>) -> bool {
    let fold = |key: &str| fold(key, in_array);
    // how often a key was seen; none of those that are still to come may be given as a new name
    let mut seen: HashMap<String, usize> = members.iter().map(|(key, _)| (fold(key), 0)).collect();
    seen.extend(taken.map(|key| (key.to_owned(), 1)));
    let mut renamed = false;
    for (key, value) in members {
        let folded = fold(key);
        let mut count = seen.get(&folded).copied().unwrap_or(0) + 1;
        if count > 1 {
            let mut name = format!("{key}_{count}");
            while seen.contains_key(&fold(&name)) {
                count += 1;
                name = format!("{key}_{count}");
            }
            seen.insert(fold(&name), 1);
            *key = name.into();
            renamed = true;
        }
        seen.insert(folded, count);
        renamed |= number_alike_below(value, in_array);
    }
    renamed
}

fn number_alike_below(value: &mut Node<'_>, in_array: bool) -> bool {
    match value {
        Node::Object(members) => number_alike(members, in_array, None),
        Node::Array(items) => {
            let mut renamed = false;
            for item in items {
                renamed |= number_alike_below(item, true);
            }
            renamed
        }
        _ => false,
    }
}

fn has_dots(members: &Members<'_>) -> bool {
    members.iter().any(|(key, value)| {
        key.contains('.') || matches!(value, Node::Object(inner) if has_dots(inner))
    })
}

fn undot(members: &mut Members<'_>) {
    for (key, value) in members {
        if key.contains('.') {
            *key = key.replace('.', "_").into();
        }
        if let Node::Object(inner) = value {
            undot(inner);
        }
    }
}

/// The paths that Wazuh has built so far out of keys and the dots in them.
#[derive(Default)]
struct Paths {
    leaves: HashSet<String>,
    objects: HashSet<String>,
    /// What they take, about.
    bytes: usize,
}

impl Paths {
    /// Whether Wazuh would lose a leaf because its path, or a part of it, is taken.
    fn any_lost(&mut self, members: &Members<'_>, prefix: &str) -> bool {
        members.iter().any(|(key, value)| {
            let path = format!("{prefix}{}", key.to_ascii_lowercase());
            // Each part of a path is one: a key may have millions, or stand in front of as many.
            self.bytes += path.len().saturating_mul(path.matches('.').count() + 1);
            if self.bytes > MOST_PATHS {
                return true;
            }
            if let Node::Object(inner) = value {
                return self.any_lost(inner, &format!("{path}."));
            }
            let mut lost = self.objects.contains(&path);
            for (at, _) in path.match_indices('.') {
                let outer = path.get(..at).unwrap_or_default();
                lost |= self.leaves.contains(outer);
                self.objects.insert(outer.to_owned());
            }
            lost || !self.leaves.insert(path)
        })
    }
}

/// Packs objects into arrays of one element, the largest first, until at most `most` leaves are left;
/// then the last members into one such array. Says whether that was needed.
pub(super) fn limit_leaves(members: &mut Members<'_>, most: usize) -> bool {
    let mut largest: Vec<_> = members
        .iter_mut()
        .map(|(_, value)| (value.leaves(), value))
        .collect();
    let mut leaves: usize = largest.iter().map(|(count, _)| count).sum();
    let needed = leaves > most;
    largest.sort_by_key(|(count, _)| Reverse(*count));
    for (count, value) in largest {
        if leaves <= most || count < 2 {
            break;
        }
        leaves -= count - 1;
        pack(value);
    }
    let mut packed = Vec::new();
    while leaves + 1 > most && (leaves > most || !packed.is_empty()) {
        let Some((key, value)) = members.pop() else {
            break;
        };
        leaves -= value.leaves();
        packed.push((key, value));
    }
    if !packed.is_empty() {
        packed.reverse();
        let mut rest = Node::Object(packed);
        pack(&mut rest);
        members.push((OVERFLOW.into(), rest));
    }
    needed
}

/// Puts an object into an array, where Wazuh leaves numbers numbers: as text they are what they were outside.
fn pack(value: &mut Node<'_>) {
    fn spell(value: &mut Node<'_>) {
        match value {
            Node::Plain(token) if *token != "null" => *value = Node::Text((*token).into()),
            Node::Object(members) => members.iter_mut().for_each(|(_, value)| spell(value)),
            _ => {}
        }
    }
    spell(value);
    let inner = std::mem::replace(value, Node::Plain("null"));
    *value = Node::Array(vec![inner]);
}
