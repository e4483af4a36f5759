//! What is printed has names that customers chose and records that anybody caused: none of it may command a terminal.

use std::borrow::Cow;
use std::io::Write;

/// The same bytes with blanks for those that could command a terminal.
pub(crate) fn harmless(bytes: &[u8]) -> Cow<'_, [u8]> {
    replaced(bytes, |taken, control| {
        taken.extend(control.iter().map(|_| b' '));
    })
}

/// The same JSON with escapes for them.
pub(crate) fn escaped(json: &[u8]) -> Cow<'_, [u8]> {
    replaced(json, |taken, control| {
        // writing into memory does not fail
        write!(taken, "\\u{:04x}", control.last().unwrap_or(&b' ')).unwrap_or_default();
    })
}

/// The same bytes with something else for each control character but the ends of lines and tabs.
fn replaced(bytes: &[u8], by: impl Fn(&mut Vec<u8>, &[u8])) -> Cow<'_, [u8]> {
    let mut rest = bytes;
    let mut taken = Vec::new();
    while let Some((at, length)) = first_control(rest) {
        let (before, control) = rest.split_at(at);
        let (control, behind) = control.split_at(length);
        taken.extend_from_slice(before);
        by(&mut taken, control);
        rest = behind;
    }
    if rest.len() == bytes.len() {
        return bytes.into();
    }
    taken.extend_from_slice(rest);
    taken.into()
}

/// Where the first control character is, and how many bytes it takes: U+0080 to U+009F are two, in UTF-8.
fn first_control(bytes: &[u8]) -> Option<(usize, usize)> {
    let is_first_of_two = |at: usize| matches!(bytes.get(at..at + 2), Some([0xC2, 0x80..=0x9F]));
    let mut each = bytes.iter().enumerate();
    each.find_map(|(at, byte)| match byte {
        b'\n' | b'\t' => None,
        0xC2 if is_first_of_two(at) => Some((at, 2)),
        byte => byte.is_ascii_control().then_some((at, 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_commands_a_terminal() {
        let plain = "tenant-1\tZürich — ok\n".as_bytes();
        assert!(matches!(harmless(plain), Cow::Borrowed(same) if same == plain));
        let evil = "a\u{1b}[2J\u{9b}2J\rb\u{7f}\nc\u{c2}\u{a0}";
        let said = |bytes: Cow<'_, [u8]>| String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(
            said(harmless(evil.as_bytes())),
            "a [2J  2J b \nc\u{c2}\u{a0}"
        );
        let json = serde_json::json!({ "text": evil }).to_string();
        let printed = said(escaped(json.as_bytes()));
        assert!(printed.contains(r"\u009b2J\rb\u007f\nc"), "{printed}");
        let read: serde_json::Value = serde_json::from_str(&printed).unwrap_or_default();
        assert_eq!(
            read.pointer("/text").and_then(|text| text.as_str()),
            Some(evil)
        );
    }
}
