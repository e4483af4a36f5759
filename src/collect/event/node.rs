//! A record as a tree, for the few that have to change.

use std::borrow::Cow;

use super::scan::DEEPEST;
use super::{lex, text};

/// The members of an object, in order.
pub(super) type Members<'a> = Vec<(Cow<'a, str>, Node<'a>)>;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    Text(Cow<'a, str>),
    /// A number, `true`, `false` or `null` as received.
    Plain(&'a str),
    Array(Vec<Node<'a>>),
    Object(Members<'a>),
}

impl Node<'_> {
    /// How many bytes it takes.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Text(text) => text::length(text),
            Self::Plain(token) => token.len(),
            Self::Array(items) => {
                let commas = items.len().saturating_sub(1);
                2 + commas + items.iter().map(Self::length).sum::<usize>()
            }
            Self::Object(members) => {
                let commas = members.len().saturating_sub(1);
                2 + commas + members.iter().map(member_length).sum::<usize>()
            }
        }
    }

    /// How many fields Wazuh makes of it outside arrays.
    pub(super) fn leaves(&self) -> usize {
        match self {
            Self::Object(members) => members.iter().map(|(_, value)| value.leaves()).sum(),
            _ => 1,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => text::write(text, out),
            Self::Plain(token) => out.extend_from_slice(token.as_bytes()),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                write_members(members, out);
                out.push(b'}');
            }
        }
    }

    /// As text: a string's own, anything else as JSON.
    pub(super) fn to_text(&self) -> String {
        if let Self::Text(text) = self {
            return text.clone().into_owned();
        }
        let mut json = Vec::new();
        self.write(&mut json);
        String::from_utf8_lossy(&json).into_owned()
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Self::Plain("null")
    }
}

/// How many bytes `"key":value` takes.
pub(super) fn member_length((key, value): &(Cow<'_, str>, Node<'_>)) -> usize {
    text::length(key) + 1 + value.length()
}

/// Appends members with commas between them.
pub(super) fn write_members(members: &[(Cow<'_, str>, Node<'_>)], out: &mut Vec<u8>) {
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        text::write(key, out);
        out.push(b':');
        value.write(out);
    }
}

/// Reads the members of a JSON object; `None` if `json` is none. What is nested deeper than [`DEEPEST`] becomes JSON text.
pub(super) fn read(json: &[u8]) -> Option<Members<'_>> {
    let mut reader = Reader { rest: json };
    match reader.value(0)? {
        Node::Object(members) if reader.peek().is_none() => Some(members),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (token, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(token)
    }

    /// Takes `byte` if it comes next.
    fn has(&mut self, byte: u8) -> bool {
        let has = self.peek() == Some(byte);
        if has {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        has
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let token = lex::string(self.rest)?;
        self.take(token.length).map(lex::text)
    }

    /// A value at this depth; an object or array that begins deeper than [`DEEPEST`] as text.
    fn value(&mut self, depth: usize) -> Option<Node<'a>> {
        Some(match self.peek()? {
            b'"' => Node::Text(self.string()?),
            b'{' | b'[' if depth > DEEPEST => Node::Text(self.nested()?.into()),
            b'{' => {
                self.take(1)?;
                let mut members = Vec::new();
                while !self.has(b'}') {
                    if !members.is_empty() && !self.has(b',') {
                        return None;
                    }
                    let key = (self.peek()? == b'"').then(|| self.string())??;
                    if !self.has(b':') {
                        return None;
                    }
                    members.push((key, self.value(depth + 1)?));
                }
                Node::Object(members)
            }
            b'[' => {
                self.take(1)?;
                let mut items = Vec::new();
                while !self.has(b']') {
                    if !items.is_empty() && !self.has(b',') {
                        return None;
                    }
                    items.push(self.value(depth + 1)?);
                }
                Node::Array(items)
            }
            _ => {
                let literals = ["true", "false", "null"];
                let literal = literals
                    .iter()
                    .find(|literal| self.rest.starts_with(literal.as_bytes()));
                let length = match literal {
                    Some(literal) => literal.len(),
                    None => lex::number(self.rest)?,
                };
                Node::Plain(std::str::from_utf8(self.take(length)?).ok()?)
            }
        })
    }

    /// The text of the object or array that comes next, however deep it is.
    fn nested(&mut self) -> Option<String> {
        let mut depth = 0_usize;
        let mut at = 0;
        loop {
            let rest = self.rest.get(at..)?;
            match rest.first()? {
                b'"' => at += lex::string(rest)?.length,
                byte => {
                    at += 1;
                    match byte {
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth = depth.checked_sub(1)?,
                        _ => {}
                    }
                }
            }
            if depth == 0 {
                break;
            }
        }
        let mut json = Vec::new();
        lex::compact(self.take(at)?, &mut json);
        Some(String::from_utf8_lossy(&json).replace('\0', "\u{fffd}"))
    }
}
