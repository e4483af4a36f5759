//! A record as a tree, for the few that have to change.

use std::borrow::Cow;

use super::reshape::FRONT;
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

/// Values that a tree may have: more than fit into a datagram, at two bytes each with their commas.
const MOST_VALUES: usize = 40_000;

/// Reads the members of a JSON object; `None` if `json` is none. What is nested deeper than [`DEEPEST`] becomes JSON
/// text, and from the 40,000th value on only what names the record is read: no more of them would fit into an event,
/// and each costs a multiple of its bytes.
pub(super) fn read(json: &[u8]) -> Option<Members<'_>> {
    let mut reader = Reader {
        rest: json,
        values: 0,
    };
    match reader.value(0)? {
        Node::Object(members) if reader.peek().is_none() => Some(members),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// How many values the tree has so far.
    values: usize,
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

    /// Reads the value of a member or an element, and gives it to `keep` if there is room for it in the tree.
    fn next_value(
        &mut self,
        depth: usize,
        must_stay: bool,
        keep: impl FnOnce(Node<'a>),
    ) -> Option<()> {
        let kept_free = if must_stay { FRONT.len() } else { 0 };
        if self.values < MOST_VALUES + kept_free {
            self.values += 1;
            keep(self.value(depth)?);
        } else {
            self.peek()?;
            let length = self.length()?;
            self.take(length)?;
        }
        Some(())
    }

    /// A value at this depth; an object or array that begins deeper than [`DEEPEST`] as text.
    fn value(&mut self, depth: usize) -> Option<Node<'a>> {
        Some(match self.peek()? {
            b'"' => Node::Text(self.string()?),
            b'{' | b'[' if depth > DEEPEST => Node::Text(self.nested()?.into()),
            b'{' => {
                self.take(1)?;
                let mut members = Vec::new();
                let mut is_first = true;
                while !self.has(b'}') {
                    if !is_first && !self.has(b',') {
                        return None;
                    }
                    let key = (self.peek()? == b'"').then(|| self.string())??;
                    if !self.has(b':') {
                        return None;
                    }
                    is_first = false;
                    let must_stay = depth == 0 && FRONT.contains(&key.as_ref());
                    self.next_value(depth + 1, must_stay, |value| members.push((key, value)))?;
                }
                Node::Object(members)
            }
            b'[' => {
                self.take(1)?;
                let mut items = Vec::new();
                let mut is_first = true;
                while !self.has(b']') {
                    if !is_first && !self.has(b',') {
                        return None;
                    }
                    is_first = false;
                    self.next_value(depth + 1, false, |item| items.push(item))?;
                }
                Node::Array(items)
            }
            _ => {
                let length = self.scalar_length()?;
                Node::Plain(std::str::from_utf8(self.take(length)?).ok()?)
            }
        })
    }

    /// How long the number or literal is that comes next.
    fn scalar_length(&self) -> Option<usize> {
        let literals = ["true", "false", "null"];
        let literal = literals
            .iter()
            .find(|literal| self.rest.starts_with(literal.as_bytes()));
        match literal {
            Some(literal) => Some(literal.len()),
            None => lex::number(self.rest),
        }
    }

    /// How long the value is that comes next, however deep it is.
    fn length(&self) -> Option<usize> {
        if !matches!(self.rest.first()?, b'"' | b'{' | b'[') {
            return self.scalar_length();
        }
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
                return Some(at);
            }
        }
    }

    /// The text of the object or array that comes next, however deep it is.
    fn nested(&mut self) -> Option<String> {
        let length = self.length()?;
        let mut json = Vec::new();
        lex::compact(self.take(length)?, &mut json);
        Some(String::from_utf8_lossy(&json).replace('\0', "\u{fffd}"))
    }
}
