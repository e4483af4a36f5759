//! How text that is too long is cut: at a character's end, with a mark.

use std::borrow::Cow;

use super::text::width;

/// The longest string that Wazuh's indexer takes, in bytes of UTF-8 (a Lucene term).
pub(super) const LONGEST_STRING: usize = 32_766;
/// Stands at the end of text that was cut; no square bracket, with which it might seem an array.
const MARK: &str = "…(cut)";

/// Cuts text so that it takes at most `most` bytes as a JSON string, mark and quotes included.
pub(super) fn to_json(text: &str, most: usize) -> Cow<'_, str> {
    to(text, most.saturating_sub(2), width)
}

/// Cuts text to at most `most` bytes of UTF-8, mark included.
pub(super) fn to_utf8(text: &str, most: usize) -> Cow<'_, str> {
    to(text, most, char::len_utf8)
}

fn to(text: &str, most: usize, width: fn(char) -> usize) -> Cow<'_, str> {
    if text.chars().map(width).sum::<usize>() <= most {
        return Cow::Borrowed(text);
    }
    let mut room = most.saturating_sub(MARK.len());
    let end = text
        .char_indices()
        .find(|(_, character)| {
            let width = width(*character);
            let full = width > room;
            room = room.saturating_sub(width);
            full
        })
        .map_or(text.len(), |(at, _)| at);
    let kept = text.get(..end).unwrap_or_default();
    Cow::Owned(format!("{kept}{MARK}"))
}
