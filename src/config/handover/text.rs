//! From the bytes of a file to plain lines: encodings and pasted HTML.

use zeroize::Zeroizing;

use super::super::secret_text::is_invisible;

/// Tags that end a line, and those that do not, as what is both opened and closed; anything else in
/// angle brackets is text.
const BREAKS: [&str; 17] = [
    "br", "p", "div", "tr", "td", "th", "li", "ul", "ol", "table", "h1", "h2", "h3", "html",
    "body", "pre", "head",
];
const INLINE: [&str; 14] = [
    "b", "strong", "i", "em", "u", "span", "font", "code", "a", "meta", "tbody", "style", "o:p",
    "wbr",
];
const ENTITIES: [(&str, char); 11] = [
    ("nbsp", ' '),
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bull", '•'),
    ("ndash", '–'),
    ("hellip", '…'),
];

/// The text of UTF-8, UTF-16 of either order (with a byte order mark, or seen by its zeros) or
/// Windows-1252.
pub(super) fn decode(bytes: &[u8]) -> Zeroizing<String> {
    let zeros = |odd: usize| {
        bytes
            .iter()
            .skip(odd)
            .step_by(2)
            .filter(|byte| **byte == 0)
            .count()
            * 4
            > bytes.len()
    };
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks().0.iter().copied().map(unit);
        text(
            bytes.len(),
            char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')),
        )
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ if zeros(1) => utf16(bytes, u16::from_le_bytes),
        _ if zeros(0) => utf16(bytes, u16::from_be_bytes),
        _ => match std::str::from_utf8(bytes) {
            Ok(utf8) => text(utf8.len(), utf8.chars()),
            Err(_) => text(bytes.len(), bytes.iter().map(|byte| windows_1252(*byte))),
        },
    }
}

fn windows_1252(byte: u8) -> char {
    match byte {
        0x85 => '…',
        0x91 | 0x92 => '’',
        0x93 | 0x94 => '”',
        0x95 => '•',
        0x96 | 0x97 => '–',
        _ => char::from(byte),
    }
}

/// The characters without marks that cannot be seen, all line ends as `\n`. The buffer never grows,
/// so no copy of a secret is left behind.
fn text(bytes: usize, chars: impl Iterator<Item = char>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes * 3));
    text.extend(chars.filter_map(|c| match c {
        '\r' | '\u{2028}' | '\u{2029}' | '\u{b}' => Some('\n'),
        '\u{a0}' | '\u{202f}' => Some(' '),
        '\0' => None,
        c => (!is_invisible(c)).then_some(c),
    }));
    text
}

/// The text without HTML tags and entities.
pub(super) fn plain(html: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(html.len() * 3));
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (c, after) = tag(from, html).or_else(|| entity(from)).unwrap_or_else(|| {
            let mut chars = from.chars();
            (chars.next(), chars.as_str())
        });
        out.extend(c);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The line end or nothing that stands for a tag, and what follows it.
fn tag<'a>(from: &'a str, html: &str) -> Option<(Option<char>, &'a str)> {
    let (inside, after) = from.strip_prefix('<')?.split_once('>')?;
    let name = inside
        .trim_start_matches('/')
        .split([' ', '/', '\n', '\t'])
        .next()?
        .to_ascii_lowercase();
    if BREAKS.contains(&&*name) || inside.starts_with('!') {
        return Some((Some('\n'), after));
    }
    let is_name = name.len() < 16
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_pair = || {
        let has = |tag: String| html.contains(&tag);
        is_name && has(format!("<{name}")) && has(format!("</{name}>"))
    };
    (INLINE.contains(&&*name) || is_pair()).then_some((None, after))
}

/// The character that an entity stands for, and what follows it.
fn entity(from: &str) -> Option<(Option<char>, &str)> {
    let (name, after) = from.strip_prefix('&')?.split_once(';')?;
    let number = name.strip_prefix('#').and_then(|digits| {
        let code = match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        char::from_u32(code.ok()?).map(|c| if c == '\u{a0}' { ' ' } else { c })
    });
    let named = || {
        ENTITIES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, c)| *c)
    };
    Some((Some(number.or_else(named)?), after))
}
