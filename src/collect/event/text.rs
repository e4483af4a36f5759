//! Text as JSON writes it: how long it gets, and how it is cut.

use std::borrow::Cow;

/// Stands at the end of text that was cut.
pub(super) const MARK: &str = "…[cut]";

/// How many bytes a character takes inside a JSON string.
pub(super) fn width(character: char) -> usize {
    match character {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// How many bytes text takes as a JSON string, with its quotes.
pub(super) fn length(text: &str) -> usize {
    text.chars().map(width).sum::<usize>() + 2
}

/// Cuts text so that it takes at most `most` bytes as a JSON string, mark and quotes included.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    cut_by(text, most.saturating_sub(2), width)
}

/// Cuts text to at most `most` bytes of UTF-8, mark included.
pub(super) fn cut_utf8(text: &str, most: usize) -> Cow<'_, str> {
    cut_by(text, most, char::len_utf8)
}

fn cut_by(text: &str, most: usize, width: fn(char) -> usize) -> Cow<'_, str> {
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

/// Appends text as a JSON string.
pub(super) fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x0C => b"\\f",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"\\u00",
            _ => continue,
        };
        out.extend_from_slice(text.as_bytes().get(plain..at).unwrap_or_default());
        out.extend_from_slice(escape);
        if escape.len() == 4 {
            out.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        plain = at + 1;
    }
    out.extend_from_slice(text.as_bytes().get(plain..).unwrap_or_default());
    out.push(b'"');
}

/// Whether `needle`, which is in lower case, occurs in any ASCII case.
pub(super) fn contains_ignoring_case(bytes: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else {
        return true;
    };
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), bytes).any(|at| {
        let found = bytes.get(at..at + needle.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(needle))
    })
}
