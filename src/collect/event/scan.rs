//! One pass over a record: is it a JSON object, who is it, and does Wazuh take it as it is?

use super::lex;
use super::mapping::{Shape, usual_shape};
use super::reasons::Reasons;

/// The longest string that Wazuh's indexer takes, in bytes of UTF-8 (a Lucene term).
pub(super) const LONGEST_STRING: usize = 32_766;
/// How deep a record may be nested, itself included.
pub(super) const DEEPEST: usize = 100;
/// From here on an element is not worth reading: a hundred times what anybody writes.
const ABSURD: usize = 10_000;

/// What one pass over a record's bytes tells.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Findings<'a> {
    /// Whether there is white space between tokens.
    pub(super) spaced: bool,
    /// What has to be reshaped whatever stands around the record; may claim `KEY_CASE` in vain.
    pub(super) reasons: Reasons,
    /// How many fields Wazuh makes of it.
    pub(super) leaves: usize,
    /// Whether an array of properties is there to be flattened.
    pub(super) properties: bool,
    /// Whether a string has `\u` escapes, so that a search for text in the bytes proves nothing.
    pub(super) unicode_escapes: bool,
    pub(super) fields: Fields<'a>,
}

/// A member of the record that tells what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    RecordNumber,
    RecordType,
    Operation,
    Workload,
    UserId,
    CreationTime,
}

impl Field {
    fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"Id" => Self::Id,
            b"RecordNumber" => Self::RecordNumber,
            b"RecordType" => Self::RecordType,
            b"Operation" => Self::Operation,
            b"Workload" => Self::Workload,
            b"UserId" => Self::UserId,
            b"CreationTime" => Self::CreationTime,
            _ => return None,
        })
    }
}

/// The raw tokens of these members where they are no objects or arrays, the first of each name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fields<'a>([Option<&'a [u8]>; 7]);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.0.get(field as usize).copied().flatten()
    }

    fn set(&mut self, field: Field, token: &'a [u8]) {
        if let Some(slot) = self.0.get_mut(field as usize) {
            slot.get_or_insert(token);
        }
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Key,
    KeyOrEnd,
    Value,
    ValueOrEnd,
    CommaOrEnd,
}

/// An open object or array.
#[derive(Debug, Clone, Copy)]
struct Frame {
    array: bool,
    /// It is an array or inside one: Wazuh keeps it as it is, as one field.
    in_array: bool,
    /// Where its keys begin among the hashes.
    keys: usize,
    /// For an array under a key that varies: what its elements should be.
    shape: Option<Shape>,
}

/// The scratch space of the pass, kept from record to record.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    frames: Vec<Frame>,
    /// The hashes of the keys of all open objects, innermost last.
    hashes: Vec<u64>,
}

impl Scanner {
    /// Reads one record; `None` if it is no JSON object (faults inside strings apart).
    pub(super) fn scan<'a>(&mut self, record: &'a [u8]) -> Option<Findings<'a>> {
        self.frames.clear();
        self.hashes.clear();
        let mut findings = Findings::default();
        findings
            .reasons
            .add_if(std::str::from_utf8(record).is_err(), Reasons::SURROGATE);
        let mut frame = Frame {
            array: false,
            in_array: false,
            keys: 0,
            shape: None,
        };
        // what the current key of the record itself is known for
        let mut field = None;
        let mut shape = None;
        let mut next = Next::KeyOrEnd;
        let mut at = 0;
        if *record.first()? != b'{' {
            return None;
        }
        at += 1;
        loop {
            let byte = *record.get(at)?;
            match (next, byte) {
                (_, b' ' | b'\t' | b'\n' | b'\r') => {
                    findings.spaced = true;
                    at += 1;
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    let token = lex::string(record.get(at..)?)?;
                    let raw = record.get(at..at + token.length)?;
                    at += token.length;
                    while record.get(at)?.is_ascii_whitespace() {
                        findings.spaced = true;
                        at += 1;
                    }
                    if *record.get(at)? != b':' {
                        return None;
                    }
                    at += 1;
                    findings.note_text(raw, token);
                    let decoded;
                    let key = if token.escaped {
                        decoded = lex::text(raw);
                        decoded.as_bytes()
                    } else {
                        raw.get(1..raw.len() - 1)?
                    };
                    let exact = frame.in_array;
                    self.hashes.push(hash(key, exact));
                    if !exact && memchr::memchr(b'.', key).is_some() {
                        // a dot nests; whether two paths meet is for a closer look
                        findings.reasons |= Reasons::KEY_CASE;
                    }
                    if self.frames.is_empty() {
                        field = Field::of(key);
                        shape = usual_shape(key);
                        if key.eq_ignore_ascii_case(b"Subscription") {
                            findings.reasons |= Reasons::KEY_CASE;
                        }
                    }
                    next = Next::Value;
                }
                (Next::Value | Next::ValueOrEnd, b'{' | b'[') => {
                    let array = byte == b'[';
                    let top = self.frames.is_empty();
                    findings.note_container(top, shape, &frame, array, record.get(at + 1..)?);
                    findings.leaves += usize::from(array && !frame.in_array);
                    if self.frames.len() >= ABSURD {
                        return None;
                    }
                    if self.frames.len() + 1 >= DEEPEST {
                        findings.reasons |= Reasons::DEPTH;
                    }
                    let inner = Frame {
                        array,
                        in_array: array || frame.in_array,
                        keys: self.hashes.len(),
                        shape: shape.take().filter(|_| array && top),
                    };
                    field = None;
                    self.frames.push(std::mem::replace(&mut frame, inner));
                    at += 1;
                    next = if array {
                        Next::ValueOrEnd
                    } else {
                        Next::KeyOrEnd
                    };
                }
                (Next::CommaOrEnd | Next::ValueOrEnd, b']') if frame.array => {
                    at += 1;
                    next = Next::CommaOrEnd;
                    frame = self.frames.pop()?;
                }
                (Next::Value | Next::ValueOrEnd, _) => {
                    let rest = record.get(at..)?;
                    let length = match byte {
                        b'"' => {
                            let token = lex::string(rest)?;
                            findings.note_text(rest.get(..token.length)?, token);
                            token.length
                        }
                        b't' if rest.starts_with(b"true") => 4,
                        b'f' if rest.starts_with(b"false") => 5,
                        b'n' if rest.starts_with(b"null") => 4,
                        _ => {
                            let length = lex::number(rest)?;
                            let survives =
                                lex::number_survives(rest.get(..length)?, frame.in_array);
                            findings.reasons.add_if(!survives, Reasons::BIG_NUMBER);
                            length
                        }
                    };
                    let token = rest.get(..length)?;
                    at += length;
                    findings.leaves += usize::from(!frame.in_array);
                    let odd = odd_scalar(shape.take(), frame.shape, token);
                    findings.reasons.add_if(odd, Reasons::MAPPING);
                    if let Some(field) = field.take() {
                        findings.fields.set(field, token);
                    }
                    next = Next::CommaOrEnd;
                }
                (Next::CommaOrEnd, b',') => {
                    at += 1;
                    next = if frame.array { Next::Value } else { Next::Key };
                }
                (Next::CommaOrEnd | Next::KeyOrEnd, b'}') if !frame.array => {
                    at += 1;
                    next = Next::CommaOrEnd;
                    let keys = self.hashes.get_mut(frame.keys..)?;
                    findings.reasons.add_if(any_twice(keys), Reasons::KEY_CASE);
                    self.hashes.truncate(frame.keys);
                    let Some(outer) = self.frames.pop() else {
                        break;
                    };
                    frame = outer;
                }
                _ => return None,
            }
        }
        if at != record.len() {
            return None;
        }
        let typed = findings
            .fields
            .get(Field::RecordType)
            .is_some_and(is_record_type);
        findings.reasons.add_if(!typed, Reasons::NO_RECORD_TYPE);
        Some(findings)
    }
}

impl Findings<'_> {
    fn note_text(&mut self, raw: &[u8], token: lex::Token) {
        self.reasons
            .add_if(token.faults.surrogate, Reasons::SURROGATE);
        self.reasons.add_if(token.faults.nul, Reasons::NUL);
        if token.escaped && !self.unicode_escapes {
            self.unicode_escapes = memchr::memmem::find(raw, b"\\u").is_some();
        }
        if token.length - 2 > LONGEST_STRING {
            self.reasons
                .add_if(lex::text(raw).len() > LONGEST_STRING, Reasons::LONG_STRING);
        }
    }

    /// An object or array begins: under a key of the record that varies (`shape`), or as an element of such a key's array.
    fn note_container(
        &mut self,
        top: bool,
        shape: Option<Shape>,
        frame: &Frame,
        array: bool,
        inside: &[u8],
    ) {
        let odd = match (shape.filter(|_| top), frame.shape) {
            // an empty object leaves no trace in Wazuh
            (Some(Shape::Text), _) => !array && !is_empty(inside),
            (None, Some(Shape::Text)) => true,
            (None, Some(_)) => array,
            (Some(_) | None, _) => false,
        };
        self.reasons.add_if(odd, Reasons::MAPPING);
        self.properties |= top && array;
    }
}

/// Whether the object that begins before `inside` has no member.
fn is_empty(inside: &[u8]) -> bool {
    inside.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}')
}

/// Whether a scalar is not what the key of the record (`own`), or the array of such a key (`elements`), usually has.
fn odd_scalar(own: Option<Shape>, elements: Option<Shape>, token: &[u8]) -> bool {
    match (own, elements) {
        (None, None) | (Some(Shape::Text), _) => false,
        // Wazuh leaves empty strings out
        (Some(_), _) => token != b"\"\"",
        (None, Some(Shape::Text)) => token.first() != Some(&b'"') && token != b"null",
        (None, Some(_)) => token != b"null",
    }
}

/// Whether Wazuh's rules take this token for a record type: digits, as a number or as text.
pub(super) fn is_record_type(token: &[u8]) -> bool {
    let digits = token
        .strip_prefix(b"\"")
        .and_then(|token| token.strip_suffix(b"\""))
        .unwrap_or(token);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// A hash of a key, the same for keys that differ in case only unless `exact`. Some other keys share it too.
#[inline]
fn hash(key: &[u8], exact: bool) -> u64 {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    const SPREAD: u64 = 0x517C_C1B7_2722_0A95;
    let fold = if exact { 0 } else { FOLD };
    let mut hash = key.len() as u64;
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        hash = (hash.rotate_left(5) ^ (u64::from_le_bytes(*word) | fold)).wrapping_mul(SPREAD);
    }
    let last = rest
        .iter()
        .fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
    (hash.rotate_left(5) ^ (last | fold)).wrapping_mul(SPREAD)
}

/// Whether a hash comes twice.
fn any_twice(hashes: &mut [u64]) -> bool {
    if hashes.len() > 40 {
        hashes.sort_unstable();
        return hashes.windows(2).any(|pair| pair.first() == pair.last());
    }
    let mut rest = &*hashes;
    while let [first, others @ ..] = rest {
        if others.contains(first) {
            return true;
        }
        rest = others;
    }
    false
}
