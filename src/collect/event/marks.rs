//! Where strings may end, found for a whole text, a record or a chunk of a blob, before it is read.

use wide::u8x16;

pub(super) use crate::marks::next;

/// What the marks keep from text to text, in words: enough for the longest event.
const KEPT_CAPACITY: usize = 1_024;

/// A bit for each byte of a text that may end a plain run inside a string: quotes, backslashes and what is below
/// 0x20. All bytes behind the text are marked.
#[derive(Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    is_ascii: bool,
}

impl Marks {
    /// Marks the bytes of another text.
    pub(super) fn set(&mut self, text: &[u8]) {
        self.words.shrink_to(KEPT_CAPACITY);
        let mut seen = u8x16::default();
        crate::marks::set(&mut self.words, text, |bytes| {
            seen |= bytes;
            bytes.simd_eq(u8x16::splat(b'"'))
                | bytes.simd_eq(u8x16::splat(b'\\'))
                | bytes.simd_eq(bytes.min(u8x16::splat(0x1F)))
        });
        self.is_ascii = seen.to_bitmask() == 0;
    }

    /// Whether the text has no byte above 0x7F.
    pub(super) fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// All marks, for [`next`].
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Marks, next};

    fn is_marked(byte: u8) -> bool {
        byte < 0x20 || byte == b'"' || byte == b'\\'
    }

    /// Holds the marks of these bytes against their definition, from each place.
    fn judge(marks: &mut Marks, record: &[u8]) {
        marks.set(record);
        assert_eq!(marks.is_ascii(), record.is_ascii());
        let mut expected = record.len();
        assert_eq!(next(marks.words(), expected), expected);
        for (at, byte) in record.iter().enumerate().rev() {
            if is_marked(*byte) {
                expected = at;
            }
            assert_eq!(next(marks.words(), at), expected, "from {at}");
        }
        assert!(next(marks.words(), record.len() + 200) >= record.len());
    }

    #[test]
    fn each_byte_is_marked_or_not_wherever_it_stands() {
        let mut marks = Marks::default();
        for byte in 0..=255 {
            for length in [1, 15, 16, 17, 63, 64, 65, 127, 128, 129] {
                for at in [0, length / 2, length - 1] {
                    let mut record = vec![b'x'; length];
                    if let Some(place) = record.get_mut(at) {
                        *place = byte;
                    }
                    judge(&mut marks, &record);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn marks_are_what_their_definition_says(
            records in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        20 => Just(b'x'),
                        1 => any::<u8>(),
                        1 => prop::sample::select(b"\"\\\x00\x1F\x20\x21\x23\x5B\x5D\x7F\x80\xFF".to_vec()),
                    ],
                    0..400,
                ),
                1..4,
            )
        ) {
            // one after the other, with the same scratch space
            let mut marks = Marks::default();
            for record in records {
                judge(&mut marks, &record);
            }
        }
    }
}
