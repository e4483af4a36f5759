//! Cuts what is too long for a datagram, the largest values first and evenly.

use super::node::{Members, Node, member_length};
use super::{cut, text};

/// An element of an array is cut down to this many bytes before the last elements are left out …
const LEAST_ELEMENT: usize = 1024;
/// … and a member's value to this many before the last members are.
const LEAST_MEMBER: usize = 64;
/// Text is not cut below this: its mark must fit.
const LEAST_TEXT: usize = 12;

/// Cuts a record's members so that they take at most `most` bytes, with the commas between them. The first `whole` stay as
/// they are, unless they alone are too long.
pub(super) fn fit_record(members: &mut Members<'_>, whole: usize, most: usize) {
    let mut rest = members.split_off(whole.min(members.len()));
    let front: usize = members.iter().map(|member| member_length(member) + 1).sum();
    if let Some(room) = most.checked_sub(front) {
        fit_members(&mut rest, room);
    } else {
        rest.clear();
        fit_members(members, most);
    }
    members.append(&mut rest);
}

/// Cuts members so that they take at most `most` bytes, with the commas between them.
fn fit_members(members: &mut Members<'_>, most: usize) {
    let keys = |key: &str| text::length(key) + 2;
    let overhead: usize = members.iter().map(|(key, _)| keys(key)).sum();
    let sizes: Vec<usize> = members.iter().map(|(_, value)| value.length()).collect();
    let level = level(&sizes, most.saturating_sub(overhead)).max(LEAST_MEMBER.min(most));
    let mut room = most + 1;
    let mut sizes = sizes.into_iter();
    members.retain_mut(|(key, value)| {
        let (key, size) = (keys(key), sizes.next().unwrap_or_default());
        // What is deep would be cut again at each level, only to go with its key.
        if key >= room {
            return false;
        }
        let length = key + fit(value, size, level);
        let kept = length <= room;
        room -= if kept { length } else { 0 };
        kept
    });
}

/// Cuts a value of `size` bytes so that it takes at most `most`, as far as it can be cut; says how many it takes.
fn fit(value: &mut Node<'_>, size: usize, most: usize) -> usize {
    if size <= most {
        return size;
    }
    match value {
        Node::Text(text) => *text = cut::to_json(text, most.max(LEAST_TEXT)).into_owned().into(),
        Node::Plain(_) => {}
        Node::Array(items) => {
            // with the commas
            let sizes: Vec<usize> = items.iter().map(|item| item.length() + 1).collect();
            let inside = most.saturating_sub(2);
            let level = level(&sizes, inside).max(LEAST_ELEMENT.min(inside));
            let mut room = inside + 1;
            let mut kept = 0;
            for (item, size) in items.iter_mut().zip(sizes) {
                let length = fit(item, size - 1, level.saturating_sub(1)) + 1;
                if length > room {
                    break;
                }
                room -= length;
                kept += 1;
            }
            items.truncate(kept);
        }
        Node::Object(members) => fit_members(members, most.saturating_sub(2)),
    }
    value.length()
}

/// The largest size to which all can be cut so that together they take at most `most`.
fn level(sizes: &[usize], most: usize) -> usize {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    let mut room = most;
    for (index, size) in sizes.iter().enumerate() {
        let share = room / (sizes.len() - index);
        if *size > share {
            return share;
        }
        room -= size;
    }
    most
}
