//! Splits a JSON array, as it streams in, into the bytes of its elements.
//!
//! A blob can be hundreds of megabytes, so nothing here holds more than one element. A [`Sink`] that reads
//! objects anyway is asked first where one ends. Of all else only brackets and quotes are looked at:
//! whether an element is sound is for the sink to say, and a broken one costs its neighbours nothing where
//! its end can be found.

use std::{fmt, mem};

use aws_lc_rs::digest::{Context, SHA256};
use wide::u8x16;

use crate::marks::{self, BLOCK};

/// How much is kept for a look at it: of a body that is no array, of what stands behind a fault, of an element that is
/// too long.
const HEAD: usize = 4096;
/// By so many bytes more each time are marks set, until an element's end is found; a multiple of [`BLOCK`].
const STEP: usize = 16 * BLOCK;
/// The room for an element in parts that a splitter keeps from one to the next.
const KEPT_CAPACITY: usize = 64 * 1024;

/// What takes the elements that a [`Splitter`] finds. A closure takes [`Element`]s only.
pub trait Sink {
    /// The objects that are offered next stand in this chunk.
    fn chunk(&mut self, _chunk: &[u8]) {}

    /// Takes the object that begins at `at` of the chunk that [`chunk`](Self::chunk) told, if all of it is there and sound, and
    /// says where in the chunk the byte behind it is. Otherwise nothing is taken, and it comes as an element once its end was
    /// found.
    fn object(&mut self, _chunk: &[u8], _at: usize) -> Option<usize> {
        None
    }

    /// Takes an element.
    fn element(&mut self, element: Element<'_>);
}

impl<F: FnMut(Element<'_>)> Sink for F {
    fn element(&mut self, element: Element<'_>) {
        self(element);
    }
}

/// What a [`Splitter`] hands to its sink.
#[derive(Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// One complete element, bytes as received without the white space around it.
    Value(&'a [u8]),
    /// An element longer than the limit, told when its end was found.
    TooLong {
        /// Its first bytes.
        head: &'a [u8],
        /// Its whole length in bytes.
        bytes: u64,
        /// The SHA-256 of all of it.
        sha256: [u8; 32],
    },
}

/// Why a body is not one complete, well-formed array.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The body is empty, `null`, an error object, HTML or anything else that does not begin with `[`.
    #[error("the body is no JSON array")]
    NotAnArray,
    /// Something between or behind the elements is wrong; what could be read was handed out.
    #[error("a syntax error in the array at byte {offset}")]
    Syntax {
        /// Bytes before the first fault.
        offset: u64,
        /// The first bytes from there on (at most 4,096); elements that were handed out may be among them.
        rest: Vec<u8>,
        /// How many there are from there on to the body's end.
        bytes: u64,
        /// The SHA-256 of all of them.
        sha256: [u8; 32],
    },
    /// The data ended before the array did.
    #[error("the array ends too early, after {offset} bytes")]
    Truncated {
        /// Bytes received.
        offset: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space or a byte order mark so far.
    Start,
    /// Between elements.
    Between(Due),
    /// Inside a number, a literal or rubbish at the array's level.
    Scalar,
    /// Inside a string at the array's level.
    Text,
    /// Inside an object or array.
    Nested,
    /// Behind the closing bracket.
    End,
}

/// What may come between elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The first element, or the end of an empty array.
    First,
    /// A comma, or the end.
    Comma,
    /// The element behind a comma.
    Element,
}

/// Finds the elements of one array in chunks of its bytes.
#[derive(Debug)]
pub struct Splitter {
    state: State,
    marked: Marked,
    nesting: Nesting,
    max_element: usize,
    /// The part of the current element that came in earlier chunks.
    buffer: Vec<u8>,
    /// How many bytes of the current element came in earlier chunks; more than `buffer` holds if it is too long.
    earlier: u64,
    /// Bytes of earlier chunks.
    offset: u64,
    /// Where the first fault between elements was.
    fault: Option<u64>,
    /// The head of what stands from there on …
    rest: Vec<u8>,
    /// … and the hash of all of it.
    rest_hash: Hash,
    /// The hash of the current element as far as it came in earlier chunks, once it is too long.
    hash: Hash,
}

/// A SHA-256 over parts.
#[derive(Default)]
struct Hash(Option<Context>);

impl Hash {
    fn add(&mut self, part: &[u8]) {
        self.0
            .get_or_insert_with(|| Context::new(&SHA256))
            .update(part);
    }

    /// The hash of all parts; the next part is the first of another.
    fn take(&mut self) -> [u8; 32] {
        self.add(&[]);
        let hash = self.0.take().map(Context::finish);
        // it always has that many bytes
        hash.and_then(|hash| hash.as_ref().first_chunk().copied())
            .unwrap_or_default()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

impl Splitter {
    /// A splitter that hands out elements of up to `max_element` bytes.
    #[must_use]
    pub fn new(max_element: usize) -> Self {
        Self {
            state: State::Start,
            marked: Marked::default(),
            nesting: Nesting::default(),
            max_element,
            buffer: Vec::new(),
            earlier: 0,
            offset: 0,
            fault: None,
            rest: Vec::new(),
            rest_hash: Hash::default(),
            hash: Hash::default(),
        }
    }

    /// How many bytes of an element that is not complete yet are held.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the next bytes of the body and gives each element that ends in them to the sink.
    ///
    /// # Errors
    ///
    /// [`Damage::NotAnArray`] as soon as that is certain; more bytes are of no use then.
    pub fn push(&mut self, chunk: &[u8], sink: &mut impl Sink) -> Result<(), Damage> {
        self.marked.next_chunk();
        let mut is_told = false; // the sink, of this chunk
        let mut start = 0; // of the current element's part in this chunk
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            match self.state {
                State::Start => match byte {
                    b' ' | b'\t' | b'\n' | b'\r' | 0xEF | 0xBB | 0xBF => at += 1,
                    b'[' => {
                        self.state = State::Between(Due::First);
                        at += 1;
                    }
                    _ => return Err(Damage::NotAnArray),
                },
                State::Between(due) => {
                    start = at;
                    if byte == b'{' && due != Due::Comma && chunk.len() <= self.max_element {
                        if !is_told {
                            sink.chunk(chunk);
                            is_told = true;
                        }
                        if let Some(end) = sink.object(chunk, at) {
                            debug_assert!(at < end && end <= chunk.len(), "{at} to {end}");
                            self.state = State::Between(Due::Comma);
                            at = end;
                            continue;
                        }
                    }
                    at += self.between(byte, due, at);
                }
                State::Scalar => {
                    let rest = chunk.get(at..).unwrap_or_default();
                    match rest.iter().position(|byte| ends_scalar(*byte)) {
                        None => at = chunk.len(),
                        Some(length) => {
                            at += length;
                            self.hand_out(chunk.get(start..at).unwrap_or_default(), sink);
                        }
                    }
                }
                State::Text => {
                    let end = self.marked.quote(chunk, at);
                    at = end.saturating_add(1).min(chunk.len());
                    if end < at {
                        self.hand_out(chunk.get(start..at).unwrap_or_default(), sink);
                    }
                }
                State::Nested => {
                    let bracket = self.marked.bracket(chunk, at);
                    at = bracket.saturating_add(1).min(chunk.len());
                    match chunk.get(bracket) {
                        None => {}
                        Some(&open @ (b'{' | b'[')) => self.nesting.open(open == b'['),
                        Some(close) => {
                            self.nesting.close(*close == b']');
                            if self.nesting.depth == 0 {
                                self.hand_out(chunk.get(start..at).unwrap_or_default(), sink);
                            }
                        }
                    }
                }
                State::End => {
                    if !byte.is_ascii_whitespace() {
                        self.note_fault(at);
                        break;
                    }
                    at += 1;
                }
            }
        }
        if matches!(self.state, State::Text | State::Nested) {
            self.marked.read_all(chunk);
        }
        if matches!(self.state, State::Scalar | State::Text | State::Nested) {
            self.keep(chunk.get(start..).unwrap_or_default());
        }
        self.keep_rest(chunk);
        self.offset += chunk.len() as u64;
        Ok(())
    }

    /// Says whether the body was one complete, well-formed array.
    ///
    /// # Errors
    ///
    /// Every kind of [`Damage`]; a truncation outweighs a syntax error, since a transfer that broke is tried again.
    pub fn finish(&mut self) -> Result<(), Damage> {
        match self.state {
            State::Start => Err(Damage::NotAnArray),
            State::End => self.fault.map_or(Ok(()), |offset| {
                Err(Damage::Syntax {
                    offset,
                    rest: mem::take(&mut self.rest),
                    bytes: self.offset - offset,
                    sha256: self.rest_hash.take(),
                })
            }),
            _ => Err(Damage::Truncated {
                offset: self.offset,
            }),
        }
    }

    /// Handles a byte between elements and says how many bytes that took.
    fn between(&mut self, byte: u8, due: Due, at: usize) -> usize {
        let (expected, next) = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return 1,
            b',' => (due == Due::Comma, State::Between(Due::Element)),
            b']' => (due != Due::Element, State::End),
            b'{' | b'[' => {
                self.marked.begin(at);
                self.nesting.open(byte == b'[');
                (due != Due::Comma, State::Nested)
            }
            b'"' => {
                self.marked.begin(at);
                (due != Due::Comma, State::Text)
            }
            _ => (due != Due::Comma, State::Scalar),
        };
        if !expected {
            self.note_fault(at);
        }
        self.state = next;
        1
    }

    /// The element ends with `last`, its part in the current chunk.
    fn hand_out(&mut self, last: &[u8], sink: &mut impl Sink) {
        self.state = State::Between(Due::Comma);
        let bytes = self.earlier + last.len() as u64;
        let whole = if self.earlier == 0 {
            last
        } else {
            self.keep(last);
            &self.buffer
        };
        if bytes > self.max_element as u64 {
            if self.earlier == 0 {
                self.hash.add(last);
            }
            let head = whole.get(..HEAD).unwrap_or(whole);
            let sha256 = self.hash.take();
            sink.element(Element::TooLong {
                head,
                bytes,
                sha256,
            });
        } else {
            sink.element(Element::Value(whole));
        }
        self.buffer.clear();
        // Many splitters live side by side: what one large element took goes back at once.
        self.buffer.shrink_to(KEPT_CAPACITY);
        self.earlier = 0;
    }

    /// Keeps a part of the current element until its end comes.
    fn keep(&mut self, part: &[u8]) {
        let most = self.max_element as u64;
        let was_too_long = self.earlier > most;
        self.earlier += part.len() as u64;
        let limit = if self.earlier > most {
            if !was_too_long {
                self.hash.add(&self.buffer);
            }
            self.hash.add(part);
            HEAD
        } else {
            self.max_element
        };
        if self.buffer.len() > limit {
            self.buffer.truncate(limit);
            self.buffer.shrink_to(KEPT_CAPACITY);
        }
        let room = limit - self.buffer.len();
        self.buffer
            .extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn note_fault(&mut self, at: usize) {
        self.fault.get_or_insert(self.offset + at as u64);
    }

    /// Keeps what stands behind the first fault, as far as there is room for it.
    fn keep_rest(&mut self, chunk: &[u8]) {
        let Some(fault) = self.fault else { return };
        let from = usize::try_from(fault.saturating_sub(self.offset)).unwrap_or(chunk.len());
        let behind = chunk.get(from..).unwrap_or_default();
        self.rest_hash.add(behind);
        let room = HEAD - self.rest.len();
        self.rest
            .extend_from_slice(behind.get(..room).unwrap_or(behind));
    }
}

fn ends_scalar(byte: u8) -> bool {
    matches!(
        byte,
        b',' | b']' | b'{' | b'[' | b'"' | b' ' | b'\t' | b'\n' | b'\r'
    )
}

/// Where strings begin and end in a part of the current chunk, and where brackets stand outside of them. The part begins
/// with the chunk or an element, and grows as far as an end is looked for.
#[derive(Debug, Default)]
struct Marked {
    /// Where the part begins in the chunk …
    from: usize,
    /// … and where it ends.
    to: usize,
    /// Quotes behind a backslash left out.
    quotes: Vec<u64>,
    brackets: Vec<u64>,
    /// Whether the byte behind the part stands inside a string (then all bits are set) …
    inside: u64,
    /// … and there behind a backslash.
    is_escaped: bool,
}

impl Marked {
    /// The next bytes are another chunk's, of the same element if one is open.
    fn next_chunk(&mut self) {
        self.quotes.clear();
        self.brackets.clear();
        self.from = 0;
        self.to = 0;
    }

    /// An element begins at `at`, outside of strings: there the part begins anew, unless it reaches beyond it.
    fn begin(&mut self, at: usize) {
        if at >= self.to {
            self.next_chunk();
            self.from = at;
            self.to = at;
            self.inside = 0;
            self.is_escaped = false;
        }
    }

    /// Where the first quote from `at` on is, if there is any; otherwise a place behind the chunk.
    #[inline]
    fn quote(&mut self, chunk: &[u8], at: usize) -> usize {
        self.next(chunk, at, |marked| &marked.quotes)
    }

    /// As [`Self::quote`], of a bracket.
    #[inline]
    fn bracket(&mut self, chunk: &[u8], at: usize) -> usize {
        self.next(chunk, at, |marked| &marked.brackets)
    }

    #[inline]
    fn next(&mut self, chunk: &[u8], mut at: usize, words: impl Fn(&Self) -> &[u64]) -> usize {
        loop {
            let found = marks::next(words(self), at - self.from);
            if found != usize::MAX {
                return self.from + found;
            }
            if self.to == chunk.len() {
                return usize::MAX;
            }
            at = at.max(self.to);
            self.read_on(chunk);
        }
    }

    /// Lets the part grow to the chunk's end, so that the next chunk goes on with what is open there.
    fn read_all(&mut self, chunk: &[u8]) {
        while self.to < chunk.len() {
            self.read_on(chunk);
        }
    }

    /// Lets the part grow.
    #[inline(never)]
    fn read_on(&mut self, chunk: &[u8]) {
        let unread = chunk.get(self.to..).unwrap_or_default();
        let part = unread.get(..STEP).unwrap_or(unread);
        let (blocks, rest) = part.as_chunks();
        for block in blocks {
            self.block(block, BLOCK);
        }
        if !rest.is_empty() {
            let mut last = [0; BLOCK];
            if let Some(place) = last.get_mut(..rest.len()) {
                place.copy_from_slice(rest);
            }
            self.block(&last, rest.len());
        }
        self.to += part.len();
    }

    /// Reads the next block, of which the first `length` bytes are of the chunk.
    #[inline]
    fn block(&mut self, block: &[u8; BLOCK], length: usize) {
        let mut quotes = marks::word(block, |bytes| bytes.simd_eq(u8x16::splat(b'"')));
        let backslashes = marks::word(block, |bytes| bytes.simd_eq(u8x16::splat(b'\\')));
        let brackets = marks::word(block, |bytes| {
            // square brackets differ from curly ones in one bit
            let curly = bytes | u8x16::splat(b'{' ^ b'[');
            curly.simd_eq(u8x16::splat(b'{')) | curly.simd_eq(u8x16::splat(b'}'))
        });
        if backslashes != 0 || self.is_escaped {
            quotes = self.unescaped(quotes, backslashes, length);
        }
        // a bit for each byte from a string's first quote to the one before its last
        let shifts = [1, 2, 4, 8, 16, 32].into_iter();
        let inside = self.inside ^ shifts.fold(quotes, |bits, by| bits ^ (bits << by));
        self.inside = (inside >> 63).wrapping_neg();
        self.quotes.push(quotes);
        self.brackets.push(brackets & !inside);
    }

    /// The quotes that do not stand behind a backslash inside a string.
    fn unescaped(&mut self, quotes: u64, backslashes: u64, length: usize) -> u64 {
        let mut inside = self.inside != 0;
        // the place that does not count
        let mut escaped = if self.is_escaped { 0 } else { usize::MAX };
        let (mut left, mut unescaped) = (quotes | backslashes, 0);
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            let mark = 1 << at;
            left ^= mark;
            if at == escaped {
                continue;
            }
            if quotes & mark != 0 {
                inside = !inside;
                unescaped |= mark;
            } else if inside {
                escaped = at + 1;
            }
        }
        self.is_escaped = escaped == length;
        unescaped
    }
}

/// The open brackets of the current element. Up to 128 of them are told apart, so that one that was
/// forgotten or is too many ends at its parent's; a deeper element is only counted.
#[derive(Debug, Default)]
struct Nesting {
    depth: u64,
    /// The innermost in the lowest bit; set: an array.
    arrays: u128,
    only_counted: bool,
}

impl Nesting {
    fn open(&mut self, array: bool) {
        self.only_counted = (self.only_counted && self.depth > 0) || self.depth >= 128;
        self.arrays = (self.arrays << 1) | u128::from(array);
        self.depth += 1;
    }

    /// Closes the nearest bracket of that kind with all that is open inside it, or the innermost if there is none.
    fn close(&mut self, array: bool) {
        let mut levels = 1;
        if !self.only_counted {
            let alike = if array { self.arrays } else { !self.arrays };
            let nearest = alike.trailing_zeros();
            if u64::from(nearest) < self.depth {
                levels = nearest + 1;
            }
        }
        self.arrays = self.arrays.checked_shr(levels).unwrap_or(0);
        self.depth -= u64::from(levels);
    }
}

#[cfg(test)]
#[path = "array_tests.rs"]
mod tests;
