//! One pass over a record: is it a JSON object, who is it, and does Wazuh take it as it is?

use super::lex::{self, KeyPrint};
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

/// Up to so many keys of a record's open objects are remembered.
const MOST_KEYS: usize = 65_536;
/// What the scratch space keeps from record to record, in entries.
const KEPT_CAPACITY: usize = 1_024;

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
        // Many scanners live side by side: what one absurd record took goes back.
        self.frames.shrink_to(KEPT_CAPACITY);
        self.hashes.shrink_to(KEPT_CAPACITY);
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
        let mut at = 1;
        if self.next(&mut at)? == b'}' {
            return Some(at + 1);
        }
        'member: loop {
            self.key(&mut at)?;
            'value: loop {
                match self.next(&mut at)? {
                    b'{' => {
                        at += 1;
                        self.open(false, at)?;
                        if self.next(&mut at)? != b'}' {
                            continue 'member;
                        }
                    }
                    b'[' => {
                        at += 1;
                        self.open(true, at)?;
                        if self.next(&mut at)? != b']' {
                            continue 'value;
                        }
                    }
                    byte => self.scalar(byte, &mut at)?,
                }
                loop {
                    let byte = self.next(&mut at)?;
                    at += 1;
                    match (byte, self.frame.array) {
                        (b',', false) => continue 'member,
                        (b',', true) => continue 'value,
                        (b'}', false) => match self.close_object() {
                            Some(outer) => self.frame = outer,
                            None => return Some(at),
                        },
                        (b']', true) => self.frame = self.scratch.frames.pop()?,
                        _ => return None,
                    }
                }
            }
        }
    }

    /// The byte at `at`, or behind the white space there.
    #[inline]
    fn next(&mut self, at: &mut usize) -> Option<u8> {
        loop {
            match *self.record.get(*at)? {
                byte if byte > b' ' => return Some(byte),
                b' ' | b'\t' | b'\n' | b'\r' => {
                    self.findings.spaced = true;
                    *at += 1;
                }
                byte => return Some(byte),
            }
        }
    }

    /// Measures the string in front of `rest`.
    #[inline]
    fn string(&mut self, rest: &[u8]) -> Option<usize> {
        let end = 1 + lex::plain(rest.get(1..)?);
        if *rest.get(end)? == b'"' && end <= LONGEST_STRING {
            return Some(end + 1);
        }
        self.odd_string(rest)
    }

    /// As [`Self::string`], for one with escapes, faults or length.
    #[cold]
    fn odd_string(&mut self, rest: &[u8]) -> Option<usize> {
        let token = lex::string(rest)?;
        let reasons = &mut self.findings.reasons;
        reasons.add_if(token.faults.surrogate, Reasons::SURROGATE);
        reasons.add_if(token.faults.nul, Reasons::NUL);
        if token.length - 2 > LONGEST_STRING {
            let text = lex::text(rest.get(..token.length)?);
            reasons.add_if(text.len() > LONGEST_STRING, Reasons::LONG_STRING);
        }
        Some(token.length)
    }

    /// A key and its colon.
    #[inline]
    fn key(&mut self, at: &mut usize) -> Option<()> {
        if self.next(at)? != b'"' {
            return None;
        }
        let exact = self.frame.in_array;
        let rest = self.record.get(*at..)?;
        let inner = rest.get(1..)?;
        let (print, length) = KeyPrint::of_plain(inner, exact);
        if *inner.get(length)? == b'"' && length <= LONGEST_STRING {
            *at += length + 2;
            self.note_key(inner.get(..length)?, print);
        } else {
            let length = self.odd_string(rest)?;
            *at += length;
            let key = lex::text(rest.get(..length)?);
            self.note_key(key.as_bytes(), KeyPrint::of(key.as_bytes(), exact));
        }
        if self.next(at)? != b':' {
            return None;
        }
        *at += 1;
        Some(())
    }

    /// Remembers what a key says about its value, and whether it is its object's only one of the name.
    #[inline]
    fn note_key(&mut self, key: &[u8], print: KeyPrint) {
        // a dot nests; whether two paths meet is for a closer look
        let mut closer_look = print.is_dotted() && !self.frame.in_array;
        closer_look |= self.comes_again(print.hash);
        if self.scratch.frames.is_empty() {
            self.field = Field::of(key);
            self.shape = usual_shape(key);
            closer_look |= key.eq_ignore_ascii_case(b"Subscription");
        }
        self.findings.reasons.add_if(closer_look, Reasons::KEY_CASE);
    }

    /// Notes a key's hash and says whether the object has it already; of many keys that is found at the end.
    fn comes_again(&mut self, hash: u64) -> bool {
        let bit = 1 << (hash >> 57);
        let maybe = self.frame.seen & bit != 0;
        self.frame.seen |= bit;
        let hashes = &mut self.scratch.hashes;
        let keys = hashes.get(self.frame.keys..).unwrap_or_default();
        let again = maybe && keys.len() <= FEW_KEYS && keys.contains(&hash);
        // With more keys the record is too long for an event, and looked at more closely anyway.
        if hashes.len() < MOST_KEYS {
            hashes.push(hash);
        }
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

    /// A string, number or literal that begins with `byte`.
    #[inline]
    fn scalar(&mut self, byte: u8, at: &mut usize) -> Option<()> {
        let rest = self.record.get(*at..)?;
        let in_array = self.frame.in_array;
        let length = match byte {
            b'"' => self.string(rest)?,
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
        *at += length;
        Some(())
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
