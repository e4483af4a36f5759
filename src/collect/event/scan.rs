//! One pass over a record: is it a JSON object, who is it, and does Wazuh take it as it is?
//!
//! Records stand in chunks of a blob, or alone where the splitter had to find their end.

use super::cut::LONGEST_STRING;
use super::findings::{Field, Findings};
use super::keys::{KeyPrint, lacks_name, may_be_known};
use super::lex;
use super::mapping::{ANY_TYPE, Shape, may_nest, seems_an_array, usual_shape};
use super::marks::{self, Marks};
use super::reasons::Reasons;
use super::reshape::FRONT;

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

/// An open object or array.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    array: bool,
    /// It is an array or inside one: Wazuh keeps it as it is, as one field.
    in_array: bool,
    /// Where its keys begin among the hashes.
    keys: usize,
    /// A bit for each of its keys, by hash, …
    seen: u64,
    /// … and another.
    seen_too: u64,
    /// For an array under a key that varies: what its elements should be.
    shape: Option<Shape>,
}

/// The scratch space of the pass, kept from record to record.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Of the current chunk …
    chunk_marks: Marks,
    /// … and of a record that comes alone.
    record_marks: Marks,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    frames: Vec<Frame>,
    /// The hashes of the keys of all open objects, innermost last.
    hashes: Vec<u64>,
}

impl Scanner {
    /// Reads one record that comes alone; `None` if it is no JSON object (faults inside strings apart).
    pub(super) fn scan<'a>(&mut self, record: &'a [u8]) -> Option<Findings<'a>> {
        self.record_marks.set(record);
        let (findings, end) = self.scratch.scan(&self.record_marks, record, 0)?;
        (end == record.len()).then_some(findings)
    }

    /// The records that are read next stand in this chunk.
    pub(super) fn set_chunk(&mut self, chunk: &[u8]) {
        self.chunk_marks.set(chunk);
    }

    /// Reads the record that begins at `start` of the chunk, and says where it ends; `None` as in [`Self::scan`], or if it
    /// does not end in this chunk.
    pub(super) fn scan_at<'a>(
        &mut self,
        chunk: &'a [u8],
        start: usize,
    ) -> Option<(Findings<'a>, usize)> {
        self.scratch.scan(&self.chunk_marks, chunk, start)
    }
}

impl Scratch {
    /// Reads the record that begins at `start`, and says where it ends; `None` as in [`Scanner::scan_at`].
    #[inline]
    fn scan<'a>(
        &mut self,
        marks: &Marks,
        text: &'a [u8],
        start: usize,
    ) -> Option<(Findings<'a>, usize)> {
        if *text.get(start)? != b'{' {
            return None;
        }
        self.frames.clear();
        self.hashes.clear();
        // Many scanners live side by side: what one absurd record took goes back.
        self.frames.shrink_to(KEPT_CAPACITY);
        self.hashes.shrink_to(KEPT_CAPACITY);
        let mut pass = Pass {
            marks: marks.words(),
            frames: &mut self.frames,
            hashes: &mut self.hashes,
            text,
            frame: Frame::default(),
            field: None,
            shape: None,
            findings: Findings {
                plain: true,
                ..Findings::default()
            },
        };
        let end = pass.members(start + 1)?;
        let mut findings = pass.findings;
        let record = text.get(start..end)?;
        let is_text = marks.is_ascii() || simdutf8::basic::from_utf8(record).is_ok();
        findings.plain &= is_text;
        findings.reasons.add_if(!is_text, Reasons::SURROGATE);
        let typed = findings
            .fields
            .get(Field::RecordType)
            .is_some_and(is_record_type);
        findings.reasons.add_if(!typed, Reasons::NO_RECORD_TYPE);
        Some((findings, end))
    }
}

/// The pass over one record.
struct Pass<'s, 'a> {
    marks: &'s [u64],
    /// The record, and what stands around it.
    text: &'a [u8],
    /// The innermost open object or array …
    frame: Frame,
    /// … and those around it.
    frames: &'s mut Vec<Frame>,
    /// The hashes of the keys of all open objects, innermost last.
    hashes: &'s mut Vec<u64>,
    /// What the current key of the record itself is known for …
    field: Option<Field>,
    /// … and the shape that its value usually has.
    shape: Option<Shape>,
    findings: Findings<'a>,
}

impl<'a> Pass<'_, 'a> {
    /// Reads from behind the first bracket to behind the last, and says where that is.
    fn members(&mut self, mut at: usize) -> Option<usize> {
        if self.next(&mut at)? == b'}' {
            return Some(at + 1);
        }
        'member: loop {
            if self.next(&mut at)? != b'"' {
                return None;
            }
            'key: loop {
                let mut byte = self.key(&mut at)?;
                'value: loop {
                    match byte {
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
                            byte = self.next(&mut at)?;
                            if byte != b']' {
                                continue 'value;
                            }
                        }
                        byte => {
                            self.scalar(byte, &mut at)?;
                            if !self.frame.array && self.has_next_key(at) {
                                at += 1;
                                continue 'key;
                            }
                        }
                    }
                    loop {
                        let behind = self.next(&mut at)?;
                        at += 1;
                        match (behind, self.frame.array) {
                            (b',', false) => continue 'member,
                            (b',', true) => {
                                byte = self.next(&mut at)?;
                                continue 'value;
                            }
                            (b'}', false) => match self.close_object() {
                                Some(outer) => self.frame = outer,
                                None => return Some(at),
                            },
                            (b']', true) => self.frame = self.frames.pop()?,
                            _ => return None,
                        }
                    }
                }
            }
        }
    }

    /// Whether a comma and a key follow without white space: the ordinary case, in a few instructions.
    #[inline]
    fn has_next_key(&self, at: usize) -> bool {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.first_chunk() == Some(b",\"")
    }

    /// The byte at `at`, or behind the white space there.
    #[inline]
    fn next(&mut self, at: &mut usize) -> Option<u8> {
        let byte = *self.text.get(*at)?;
        if byte > b' ' {
            return Some(byte);
        }
        *at = self.behind_space(*at);
        self.text.get(*at).copied()
    }

    /// Where the white space at `at` ends.
    #[inline(never)]
    fn behind_space(&mut self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let length = rest.iter().take_while(is_space).count();
        self.findings.spaced |= length > 0;
        at + length
    }

    /// Where the string ends that begins at `at`.
    #[inline]
    fn string(&mut self, at: usize) -> Option<usize> {
        let end = marks::next(self.marks, at + 1);
        if *self.text.get(end)? == b'"' && end - at <= LONGEST_STRING {
            return Some(end + 1);
        }
        self.odd_string(at)
    }

    /// As [`Self::string`], for one with escapes, faults or length.
    #[inline(never)]
    fn odd_string(&mut self, at: usize) -> Option<usize> {
        let end = self.odd_token(at)?;
        // without its quotes
        if end - at - 2 > LONGEST_STRING {
            let text = lex::text(self.text.get(at..end)?);
            let long = text.len() > LONGEST_STRING;
            self.findings.reasons.add_if(long, Reasons::LONG_STRING);
        }
        Some(end)
    }

    /// Where the string or key ends that begins at `at` and may have escapes or faults.
    fn odd_token(&mut self, at: usize) -> Option<usize> {
        self.findings.plain = false;
        let rest = self.text.get(at..)?;
        let next = |from| marks::next(self.marks, at + from).saturating_sub(at);
        let token = lex::string_by(rest, next)?;
        let reasons = &mut self.findings.reasons;
        reasons.add_if(token.faults.surrogate, Reasons::SURROGATE);
        reasons.add_if(token.faults.nul, Reasons::NUL);
        Some(at + token.length)
    }

    /// The key that begins at `at`, and its colon; says with which byte the value begins.
    #[inline]
    fn key(&mut self, at: &mut usize) -> Option<u8> {
        let start = *at + 1;
        let end = marks::next(self.marks, start);
        let behind = self.text.get(end..)?.first_chunk();
        if let Some([b'"', b':', value @ b'!'..=0xFF]) = behind
            && end != start
        {
            let inside = self.text.get(start..)?;
            self.note_key(inside, end - start);
            *at = end + 2;
            return Some(*value);
        }
        *at = self.odd_key(*at)?;
        self.text.get(*at).copied()
    }

    /// As [`Self::key`], for one with escapes or faults, without a name, or with white space behind it. Says where the value
    /// begins.
    #[inline(never)]
    fn odd_key(&mut self, mut at: usize) -> Option<usize> {
        let end = self.odd_token(at)?;
        let key = lex::text(self.text.get(at..end)?);
        self.note_key(key.as_bytes(), key.len());
        self.note_odd_key(key.as_bytes(), key.len(), false);
        at = end;
        if self.next(&mut at)? != b':' {
            return None;
        }
        at += 1;
        self.next(&mut at)?;
        Some(at)
    }

    /// Remembers what the key of this length in front of `bytes` says about its value, and whether it is its object's
    /// only one of the name.
    ///
    /// Not inline: the loop around it would lose its registers, which was measured to cost more than the call.
    #[inline(never)]
    fn note_key(&mut self, bytes: &[u8], length: usize) {
        let print = KeyPrint::of(bytes, length, self.frame.in_array);
        let again = self.comes_again(print.hash);
        if print.may_be_odd() | again {
            self.note_odd_key(bytes, length, again);
        }
        if self.frames.is_empty() {
            let key = bytes.get(..length).unwrap_or_default();
            if may_be_known(key) {
                self.note_known(key);
            }
        }
    }

    /// Remembers what is odd about a key, as given to [`Self::note_key`], that its object may have already, or in which a dot
    /// or a blank may be.
    #[inline(never)]
    fn note_odd_key(&mut self, bytes: &[u8], length: usize, again: bool) {
        let key = bytes.get(..length).unwrap_or_default();
        // a dot nests; whether two paths meet is for a closer look
        let nests = !self.frame.in_array && key.contains(&b'.');
        let reasons = &mut self.findings.reasons;
        reasons.add_if(again || nests, Reasons::KEY_CASE);
        reasons.add_if(lacks_name(key), Reasons::MAPPING);
    }

    /// Remembers what a key of the record itself may be known for.
    #[inline(never)]
    fn note_known(&mut self, key: &[u8]) {
        self.field = Field::of(key);
        self.shape = usual_shape(key);
        let taken = key.eq_ignore_ascii_case(b"Subscription");
        self.findings.reasons.add_if(taken, Reasons::KEY_CASE);
    }

    /// Notes a key's hash and says whether the object has it already; of many keys that is found at the end.
    #[inline]
    fn comes_again(&mut self, hash: u64) -> bool {
        let frame = &mut self.frame;
        let (bit, other) = (hash >> 58, (hash >> 52) % 64);
        let maybe = (frame.seen >> bit) & (frame.seen_too >> other) & 1 == 1;
        frame.seen |= 1 << bit;
        frame.seen_too |= 1 << other;
        let again = maybe && self.is_among_few(hash);
        // With more keys the record is too long for an event, and looked at more closely anyway.
        if self.hashes.len() < MOST_KEYS {
            self.hashes.push(hash);
        }
        again
    }

    /// Whether the object has a key of this hash already, if it does not have many.
    #[inline(never)]
    fn is_among_few(&self, hash: u64) -> bool {
        let keys = self.hashes.get(self.frame.keys..).unwrap_or_default();
        keys.len() <= FEW_KEYS && keys.contains(&hash)
    }

    /// The bracket that begins an object or array.
    fn open(&mut self, array: bool, behind: usize) -> Option<()> {
        let depth = self.frames.len();
        if depth >= ABSURD {
            return None;
        }
        let top = depth == 0;
        let odd = match (self.shape, self.frame.shape) {
            // an empty object leaves no trace in Wazuh
            (Some(Shape::Text), _) => !array && !is_empty(self.text.get(behind..)?),
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
            keys: self.hashes.len(),
            seen: 0,
            seen_too: 0,
            shape: self.shape.take().filter(|_| array),
        };
        let outer = std::mem::replace(&mut self.frame, inner);
        self.frames.push(outer);
        Some(())
    }

    /// The object around the one that ends here; `None` at the record's own end.
    fn close_object(&mut self) -> Option<Frame> {
        let keys = self.frame.keys;
        let hashes = self.hashes.get_mut(keys..).unwrap_or_default();
        if hashes.len() > FEW_KEYS && has_twice(hashes) {
            self.findings.reasons |= Reasons::KEY_CASE;
        }
        self.hashes.truncate(keys);
        self.frames.pop()
    }

    /// A string, number or literal that begins with `byte`.
    #[inline]
    fn scalar(&mut self, byte: u8, at: &mut usize) -> Option<()> {
        let end = match byte {
            b'"' => self.string(*at)?,
            _ => *at + self.plain_scalar(byte, *at)?,
        };
        match byte {
            b'"' if self.frame.in_array => {}
            b'"' => {
                if matches!(self.text.get(*at + 1), Some(b'[' | b'\\')) {
                    self.note_text(*at, end)?;
                }
            }
            b'n' => {}
            _ => {
                if self.frame.in_array && !self.frame.array {
                    self.note_plain(*at);
                }
            }
        }
        self.findings.leaves += usize::from(!self.frame.in_array);
        if self.field.is_some() | self.shape.is_some() | self.frame.shape.is_some() {
            self.note_scalar(self.text.get(*at..end)?);
        }
        *at = end;
        Some(())
    }

    /// Notes a string outside arrays that Wazuh may take for one.
    #[inline(never)]
    fn note_text(&mut self, at: usize, end: usize) -> Option<()> {
        let is_front = self.frames.is_empty()
            && FRONT.iter().any(|name| {
                let key = self.key_before(at).strip_suffix(name.as_bytes());
                key.is_some_and(|before| before.ends_with(b"\"") && !before.ends_with(b"\\\""))
            });
        let text = lex::text(self.text.get(at..end)?);
        let odd = seems_an_array(&text) && (!is_front || may_nest(&text));
        self.findings.reasons.add_if(odd, Reasons::MAPPING);
        Some(())
    }

    /// What stands up to the end of the key whose value begins at `at`.
    fn key_before(&self, at: usize) -> &[u8] {
        let before = self.text.get(..at).unwrap_or_default();
        let key = before.trim_ascii_end().strip_suffix(b":");
        let key = key.and_then(|key| key.trim_ascii_end().strip_suffix(b"\""));
        key.unwrap_or_default()
    }

    /// Notes a number or literal, inside an array, if texts have its key as well.
    #[inline(never)]
    fn note_plain(&mut self, at: usize) {
        let odd = self.key_before(at).ends_with(ANY_TYPE.as_bytes());
        self.findings.reasons.add_if(odd, Reasons::MAPPING);
    }

    /// Notes a scalar that stands where the record tells what it is, or where types vary.
    #[inline(never)]
    fn note_scalar(&mut self, token: &'a [u8]) {
        let odd = odd_scalar(self.shape.take(), self.frame.shape, token);
        self.findings.reasons.add_if(odd, Reasons::MAPPING);
        if let Some(field) = self.field.take() {
            self.findings.fields.set(field, token);
        }
    }

    /// Measures the number or literal that begins with `byte` at `at`.
    #[inline]
    fn plain_scalar(&mut self, byte: u8, at: usize) -> Option<usize> {
        let rest = self.text.get(at..)?;
        Some(match byte {
            b't' if rest.starts_with(b"true") => 4,
            b'f' if rest.starts_with(b"false") => 5,
            b'n' if rest.starts_with(b"null") => 4,
            _ => match lex::small_number(rest) {
                Some(length) => length,
                None => self.number(rest)?,
            },
        })
    }

    /// Measures the number in front of `rest`.
    #[inline(never)]
    fn number(&mut self, rest: &[u8]) -> Option<usize> {
        let length = lex::number(rest)?;
        let survives = lex::number_survives(rest.get(..length)?, self.frame.in_array);
        self.findings.reasons.add_if(!survives, Reasons::BIG_NUMBER);
        Some(length)
    }
}

/// Sorts many hashes and says whether any two are the same.
#[inline(never)]
fn has_twice(hashes: &mut [u64]) -> bool {
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair.first() == pair.last())
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

/// Whether Wazuh's rules take this token for a record type: text of digits, or a number that Wazuh prints so.
pub(super) fn is_record_type(token: &[u8]) -> bool {
    match token.first() {
        Some(b'"') => is_digits(lex::text(token).as_bytes()),
        Some(b'0'..=b'9') => is_digits(token) || lex::number_survives(token, false),
        _ => false,
    }
}

/// Whether text is the digits of a record type.
pub(super) fn is_digits(text: &[u8]) -> bool {
    (1..=20).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}
