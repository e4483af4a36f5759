//! One pass over a record: is it a JSON object, who is it, and does Wazuh take it as it is?

use super::lex;
use super::mapping::{Shape, usual_shape};
use super::reasons::Reasons;

/// The longest string that Wazuh's indexer takes, in bytes of UTF-8 (a Lucene term).
pub(super) const LONGEST_STRING: usize = 32_766;
/// How many objects and arrays of a record may stand inside one another, the record itself apart.
pub(super) const DEEPEST: usize = 100;
/// Up to so many keys of an object are compared one by one.
const FEW_KEYS: usize = 64;
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
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    array: bool,
    /// It is an array or inside one: Wazuh keeps it as it is, as one field.
    in_array: bool,
    /// Where its keys begin among the hashes.
    keys: usize,
    /// A bit for each of its keys, by hash.
    seen: u128,
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
        let mut pass = Pass {
            scratch: self,
            record,
            frame: Frame::default(),
            field: None,
            shape: None,
            findings: Findings::default(),
        };
        if *record.first()? != b'{' {
            return None;
        }
        if pass.members()? != record.len() {
            return None;
        }
        let mut findings = pass.findings;
        findings
            .reasons
            .add_if(std::str::from_utf8(record).is_err(), Reasons::SURROGATE);
        let typed = findings
            .fields
            .get(Field::RecordType)
            .is_some_and(is_record_type);
        findings.reasons.add_if(!typed, Reasons::NO_RECORD_TYPE);
        Some(findings)
    }
}

/// The pass over one record.
struct Pass<'s, 'a> {
    scratch: &'s mut Scanner,
    record: &'a [u8],
    /// The innermost open object or array; the others wait in the scratch space.
    frame: Frame,
    /// What the current key of the record itself is known for …
    field: Option<Field>,
    /// … and the shape that its value usually has.
    shape: Option<Shape>,
    findings: Findings<'a>,
}

impl Pass<'_, '_> {
    /// Reads from behind the first bracket to behind the last, and says where that is.
    fn members(&mut self) -> Option<usize> {
        let mut next = Next::KeyOrEnd;
        let mut at = 1;
        loop {
            let byte = *self.record.get(at)?;
            next = match (next, byte) {
                (same, b' ' | b'\t' | b'\n' | b'\r') => {
                    self.findings.spaced = true;
                    at += 1;
                    same
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    at = self.key(at)?;
                    Next::Value
                }
                (Next::Value | Next::ValueOrEnd, b'{') => {
                    at += 1;
                    self.open(false, at)?;
                    Next::KeyOrEnd
                }
                (Next::Value | Next::ValueOrEnd, b'[') => {
                    at += 1;
                    self.open(true, at)?;
                    Next::ValueOrEnd
                }
                (Next::CommaOrEnd | Next::ValueOrEnd, b']') if self.frame.array => {
                    at += 1;
                    self.frame = self.scratch.frames.pop()?;
                    Next::CommaOrEnd
                }
                (Next::Value | Next::ValueOrEnd, _) => {
                    at = self.scalar(byte, at)?;
                    Next::CommaOrEnd
                }
                (Next::CommaOrEnd, b',') => {
                    at += 1;
                    if self.frame.array {
                        Next::Value
                    } else {
                        Next::Key
                    }
                }
                (Next::CommaOrEnd | Next::KeyOrEnd, b'}') if !self.frame.array => {
                    at += 1;
                    let Some(outer) = self.close_object() else {
                        return Some(at);
                    };
                    self.frame = outer;
                    Next::CommaOrEnd
                }
                _ => return None,
            };
        }
    }

    /// A key and its colon; says where they end.
    fn key(&mut self, mut at: usize) -> Option<usize> {
        let rest = self.record.get(at..)?;
        let token = lex::string(rest)?;
        let raw = rest.get(..token.length)?;
        at += token.length;
        while self.record.get(at)?.is_ascii_whitespace() {
            self.findings.spaced = true;
            at += 1;
        }
        if *self.record.get(at)? != b':' {
            return None;
        }
        at += 1;
        self.findings.note_text(raw, token);
        let decoded;
        let key = if token.escaped {
            decoded = lex::text(raw);
            decoded.as_bytes()
        } else {
            raw.get(1..raw.len() - 1)?
        };
        let exact = self.frame.in_array;
        let (hash, dot) = hash(key, exact);
        // a dot nests; whether two paths meet is for a closer look
        let mut closer_look = dot && !exact;
        closer_look |= self.comes_again(hash);
        if self.scratch.frames.is_empty() {
            self.field = Field::of(key);
            self.shape = usual_shape(key);
            closer_look |= key.eq_ignore_ascii_case(b"Subscription");
        }
        self.findings.reasons.add_if(closer_look, Reasons::KEY_CASE);
        Some(at)
    }

    /// Notes a key's hash and says whether the object has it already; of many keys that is found at the end.
    fn comes_again(&mut self, hash: u64) -> bool {
        let bit = 1 << (hash >> 57);
        let maybe = self.frame.seen & bit != 0;
        self.frame.seen |= bit;
        let hashes = &mut self.scratch.hashes;
        let keys = hashes.get(self.frame.keys..).unwrap_or_default();
        let again = maybe && keys.len() <= FEW_KEYS && keys.contains(&hash);
        hashes.push(hash);
        again
    }

    /// The bracket that begins an object or array.
    fn open(&mut self, array: bool, behind: usize) -> Option<()> {
        let depth = self.scratch.frames.len();
        if depth >= ABSURD {
            return None;
        }
        let top = depth == 0;
        let empty = !array && is_empty(self.record.get(behind..)?);
        let odd = match (self.shape, self.frame.shape) {
            // an empty object leaves no trace in Wazuh
            (Some(Shape::Text), _) => !array && !empty,
            (None, Some(Shape::Text)) => true,
            (None, Some(_)) => array,
            (Some(_) | None, _) => false,
        };
        let findings = &mut self.findings;
        findings.reasons.add_if(odd, Reasons::MAPPING);
        findings.reasons.add_if(depth >= DEEPEST, Reasons::DEPTH);
        findings.properties |= top && array;
        findings.leaves += usize::from(array && !self.frame.in_array);
        if let Some(field) = self.field.take() {
            // an object or array says nothing about who the record is, nor does what comes later
            findings.fields.set(field, b"");
        }
        let inner = Frame {
            array,
            in_array: array || self.frame.in_array,
            keys: self.scratch.hashes.len(),
            seen: 0,
            shape: self.shape.take().filter(|_| array),
        };
        let outer = std::mem::replace(&mut self.frame, inner);
        self.scratch.frames.push(outer);
        Some(())
    }

    /// The object around the one that ends here; `None` at the record's own end.
    fn close_object(&mut self) -> Option<Frame> {
        let keys = self.frame.keys;
        let hashes = self.scratch.hashes.get_mut(keys..).unwrap_or_default();
        if hashes.len() > FEW_KEYS {
            hashes.sort_unstable();
            let twice = hashes.windows(2).any(|pair| pair.first() == pair.last());
            self.findings.reasons.add_if(twice, Reasons::KEY_CASE);
        }
        self.scratch.hashes.truncate(keys);
        self.scratch.frames.pop()
    }

    /// A string, number or literal that begins with `byte`; says where it ends.
    #[inline]
    fn scalar(&mut self, byte: u8, at: usize) -> Option<usize> {
        let rest = self.record.get(at..)?;
        let in_array = self.frame.in_array;
        let length = match byte {
            b'"' => {
                let token = lex::string(rest)?;
                self.findings.note_text(rest.get(..token.length)?, token);
                token.length
            }
            b't' if rest.starts_with(b"true") => 4,
            b'f' if rest.starts_with(b"false") => 5,
            b'n' if rest.starts_with(b"null") => 4,
            _ => {
                let length = lex::number(rest)?;
                let survives = lex::number_survives(rest.get(..length)?, in_array);
                self.findings.reasons.add_if(!survives, Reasons::BIG_NUMBER);
                length
            }
        };
        let token = rest.get(..length)?;
        self.findings.leaves += usize::from(!in_array);
        let odd = odd_scalar(self.shape.take(), self.frame.shape, token);
        self.findings.reasons.add_if(odd, Reasons::MAPPING);
        if let Some(field) = self.field.take() {
            self.findings.fields.set(field, token);
        }
        Some(at + length)
    }
}

impl Findings<'_> {
    fn note_text(&mut self, raw: &[u8], token: lex::Token) {
        self.reasons
            .add_if(token.faults.surrogate, Reasons::SURROGATE);
        self.reasons.add_if(token.faults.nul, Reasons::NUL);
        self.unicode_escapes |= token.unicode;
        if token.length - 2 > LONGEST_STRING {
            self.reasons
                .add_if(lex::text(raw).len() > LONGEST_STRING, Reasons::LONG_STRING);
        }
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
    (1..=20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

/// A hash of a key, the same for keys that differ in case only unless `exact`, and whether there may be a dot in it.
/// Some other keys share the hash too.
#[inline]
fn hash(key: &[u8], exact: bool) -> (u64, bool) {
    const ONES: u64 = u64::MAX / 255;
    const SPREAD: u64 = 0x517C_C1B7_2722_0A95;
    let fold = if exact { 0 } else { ONES * 0x20 };
    let mut dots = 0;
    let mut mix = |hash: u64, word: u64| {
        let differs = word ^ (ONES * u64::from(b'.'));
        dots |= differs.wrapping_sub(ONES) & !differs;
        (hash.rotate_left(5) ^ (word | fold)).wrapping_mul(SPREAD)
    };
    let (words, rest) = key.as_chunks::<8>();
    let whole = words.iter().fold(key.len() as u64, |hash, word| {
        mix(hash, u64::from_le_bytes(*word))
    });
    let last = rest
        .iter()
        .fold(0, |word, byte| (word << 8) | u64::from(*byte));
    let hash = mix(whole, last);
    (hash, dots & (ONES * 0x80) != 0)
}
