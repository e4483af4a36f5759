//! Bytes that matter in a text, found for all of it at once: sixteen at a time.

use wide::u8x16;

/// Bytes that one word of marks stands for.
pub(crate) const BLOCK: usize = 64;

/// Makes `words` hold a bit for each of the bytes, the first one's the lowest of the first word: set where `is_mark` has all
/// bits of its byte set. Bytes of zero are added to fill the last word.
#[inline]
pub(crate) fn set(words: &mut Vec<u64>, bytes: &[u8], mut is_mark: impl FnMut(u8x16) -> u8x16) {
    words.clear();
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut last = [0; BLOCK];
    if let Some(place) = last.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
    words.reserve(blocks.len() + 1);
    words.extend(blocks.iter().map(|block| word(block, &mut is_mark)));
    words.push(word(&last, &mut is_mark));
}

/// The word of one block.
#[inline]
pub(crate) fn word(block: &[u8; BLOCK], mut is_mark: impl FnMut(u8x16) -> u8x16) -> u64 {
    let (quarters, _) = block.as_chunks::<16>();
    quarters.iter().rfold(0, |word, quarter| {
        let marked = is_mark(u8x16::new(*quarter));
        (word << 16) | u64::from(marked.to_bitmask())
    })
}

/// The first marked place from `from` on, if there is any; otherwise a place behind all.
#[inline]
pub(crate) fn next(words: &[u64], from: usize) -> usize {
    let mut index = from / BLOCK;
    let word = words.get(index).map_or(0, |word| word >> (from % BLOCK));
    if word != 0 {
        return from + word.trailing_zeros() as usize;
    }
    loop {
        index += 1;
        match words.get(index) {
            Some(0) => {}
            Some(word) => return index * BLOCK + word.trailing_zeros() as usize,
            None => return usize::MAX,
        }
    }
}
