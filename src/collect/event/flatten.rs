//! Arrays of names and values once more as objects, so that rules can address a property by its name.

use std::borrow::Cow;
use std::collections::HashSet;

use super::keys::lacks_name;
use super::mapping::seems_an_array;
use super::node::{Members, Node, member_length};

/// The fields of all top-level arrays whose elements are objects with a `Name` and `Value`, or with a
/// `Name`, `OldValue` and `NewValue`: at most `leaves` leaves and `room` bytes as a member `fields`.
///
/// A dot in a name becomes `_`, since it would nest; an array whose name is taken by then gets a number. The first property of
/// a name counts; one that finds no room, or that has no name, is left out.
pub(super) fn fields<'a>(
    members: &Members<'a>,
    mut leaves: usize,
    room: usize,
) -> Option<Members<'a>> {
    let mut arrays: Members<'a> = Vec::new();
    let mut names = HashSet::new();
    let mut room = room.checked_sub(",\"fields\":{}".len())?;
    for (array, value) in members {
        let Node::Array(items) = value else {
            continue;
        };
        let base = array.replace('.', "_");
        let mut name = base.clone();
        let mut count = 1;
        while names.contains(&name.to_ascii_lowercase()) {
            count += 1;
            name = format!("{base}_{count}");
        }
        let empty = (name.into(), Node::Object(Vec::new()));
        let Some(mut inside) = room.checked_sub(member_length(&empty) + 1) else {
            continue;
        };
        let mut seen = HashSet::new();
        let mut properties = Vec::new();
        for item in items {
            let Some((name, value)) = property(item) else {
                continue;
            };
            let count = value.leaves();
            let folded = name.to_ascii_lowercase();
            let member = (name, value);
            let length = member_length(&member) + 1;
            if count <= leaves && length <= inside && seen.insert(folded) {
                leaves -= count;
                inside -= length;
                properties.push(member);
            }
        }
        if !properties.is_empty() {
            room = inside;
            names.insert(empty.0.to_ascii_lowercase());
            arrays.push((empty.0, Node::Object(properties)));
        }
    }
    (!arrays.is_empty()).then_some(arrays)
}

/// The name and value of a property; a pair of old and new value as an object.
fn property<'a>(item: &Node<'a>) -> Option<(Cow<'a, str>, Node<'a>)> {
    let Node::Object(members) = item else {
        return None;
    };
    let get = |name| {
        let (_, value) = members.iter().find(|(key, _)| key == name)?;
        let text = match value {
            Node::Text(text) => text.clone(),
            other if other.is_null() => return None,
            other => other.to_text().into(),
        };
        Some(text)
    };
    let value = |name| {
        let text = get(name)?;
        let kept: Cow<'a, str> = if seems_an_array(&text) {
            format!(" {text}").into()
        } else {
            text
        };
        Some(Node::Text(kept))
    };
    let name: Cow<'a, str> = get("Name")?;
    let name = if name.contains('.') {
        name.replace('.', "_").into()
    } else {
        name
    };
    if lacks_name(name.as_bytes()) {
        return None;
    }
    if let Some(value) = value("Value") {
        return Some((name, value));
    }
    let pair: Members<'a> = ["OldValue", "NewValue"]
        .into_iter()
        .filter_map(|key| Some((key.into(), value(key)?)))
        .collect();
    (!pair.is_empty()).then_some((name, Node::Object(pair)))
}
