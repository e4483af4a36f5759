//! What tells keys of one object apart, and which keys of a record are worth a closer look.

use super::lex::{ONES, equal, short_word};

/// What a key is told apart by.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyPrint {
    /// The same for equal keys, and for some others.
    pub(super) hash: u64,
    /// Not zero if there is a dot or a blank in it; for some other keys, too.
    marks: u64,
}

impl KeyPrint {
    /// The print of the key that the first `length` bytes are; unless `exact`, the same in upper and lower case.
    ///
    /// What stands behind the key changes nothing.
    #[inline]
    pub(super) fn of(bytes: &[u8], length: usize, exact: bool) -> Self {
        let key = bytes.get(..length).unwrap_or(bytes);
        // the bits that letters of either case have in common, unless case matters
        let fold = u64::from(exact).wrapping_sub(1) & (ONES * 0x20);
        let print = Self {
            hash: key.len() as u64,
            marks: 0,
        };
        if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
            let print = print.with(u64::from_le_bytes(*first), fold);
            let print = if key.len() > 16 {
                print.with_middle(key, fold)
            } else {
                print
            };
            // some of these bytes may be in it already
            return print.with(u64::from_le_bytes(*last), fold);
        }
        let word = match bytes.first_chunk() {
            Some(word) => u64::from_le_bytes(*word) & !(u64::MAX << (8 * key.len())),
            None => short_word(key),
        };
        print.with(word, fold)
    }

    /// This and eight bytes of a key.
    #[inline]
    fn with(self, word: u64, fold: u64) -> Self {
        const SPREAD: u64 = 0x517C_C1B7_2722_0A95;
        Self {
            hash: (self.hash.rotate_left(5) ^ (word | fold)).wrapping_mul(SPREAD),
            // the bits that a dot and a blank have in common
            marks: self.marks | equal(word & !(ONES * u64::from(b'.' ^ b' ')), b' '),
        }
    }

    /// This and what stands between the first and the last eight bytes of a long key.
    #[inline(never)]
    fn with_middle(self, key: &[u8], fold: u64) -> Self {
        let (words, _) = key.get(8..).unwrap_or_default().as_chunks::<8>();
        let with = |print: Self, word: &[u8; 8]| print.with(u64::from_le_bytes(*word), fold);
        words.iter().fold(self, with)
    }

    /// Whether there may be a dot or a blank in it.
    #[inline]
    pub(super) fn may_be_odd(self) -> bool {
        self.marks != 0
    }
}

/// Whether the indexer refuses a document with this key: it has no name, or a part of it between dots has none.
pub(super) fn lacks_name(key: &[u8]) -> bool {
    // what Java calls white space
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r' | 0x1C..=0x1F);
    key.split(|byte| *byte == b'.')
        .any(|part| part.iter().all(is_blank))
}

/// The first letters of the record's own keys that are known for something, regardless of case, by the keys' length:
/// those of [`Field`](super::findings::Field), those whose [`usual_shape`](super::mapping::usual_shape) is known, and
/// `Subscription`.
const LETTERS: [u32; 20] = {
    let mut known = [0; 20];
    known[2] = letters(b"I");
    known[4] = letters(b"DI");
    known[5] = letters(b"A");
    known[6] = letters(b"T");
    known[7] = letters(b"M");
    known[10] = letters(b"PR");
    known[12] = letters(b"RS");
    known[13] = letters(b"E");
    known[14] = letters(b"A");
    known[18] = letters(b"EM");
    known[19] = letters(b"O");
    known
};

/// A bit for each letter.
const fn letters(all: &[u8]) -> u32 {
    match all {
        [letter, rest @ ..] => (1 << (*letter % 32)) | letters(rest),
        [] => 0,
    }
}

/// Whether a key of the record itself may be one that is known for something: most are not, and need no closer look.
#[inline]
pub(super) fn may_be_known(key: &[u8]) -> bool {
    let letters = LETTERS.get(key.len()).copied().unwrap_or(0);
    key.first()
        .is_some_and(|letter| (letters >> (letter % 32)) & 1 == 1)
}
