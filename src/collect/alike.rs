//! Tells apart the elements of a blob that have no id.
//!
//! Microsoft promises no order inside a blob: an element is known by its bytes, and by how many equal ones came before it.

use std::collections::HashMap;

/// So many different elements of a blob are counted: no blob of Microsoft's has more without an id.
const MOST: usize = 8_192;
/// Set in what tells apart elements that are not counted.
const UNCOUNTED: u64 = 1 << 63;

/// The elements without an id of one blob, so far.
#[derive(Debug, Default)]
pub(super) struct Alike {
    /// How often each came, by the first half of its SHA-256.
    counts: HashMap<[u8; 16], u64>,
}

impl Alike {
    /// What tells an element of this SHA-256 from equal ones in its blob: how many of them came before it.
    ///
    /// Beyond a number of different ones it is the place in the blob. Then another order may repeat an element; it loses none.
    pub(super) fn number(&mut self, sha256: &[u8; 32], place: u64) -> u64 {
        let [first, _] = sha256.as_chunks::<16>().0 else {
            return place | UNCOUNTED;
        };
        let room = self.counts.len() < MOST;
        match self.counts.get_mut(first) {
            Some(count) => {
                *count += 1;
                *count
            }
            None if room => {
                self.counts.insert(*first, 0);
                0
            }
            None => place | UNCOUNTED,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Alike, MOST};

    /// What the elements of a blob are known by, where each is named by a number.
    fn known(elements: &[u32]) -> BTreeSet<(u32, u64)> {
        let mut alike = Alike::default();
        (0..)
            .zip(elements)
            .map(|(place, element)| {
                let mut sha256 = [7; 32];
                if let Some(start) = sha256.first_chunk_mut() {
                    *start = element.to_be_bytes();
                }
                (*element, alike.number(&sha256, place))
            })
            .collect()
    }

    #[test]
    fn elements_without_an_id_are_the_same_in_any_order() {
        let expected = BTreeSet::from([(1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (3, 1)]);
        assert_eq!(known(&[1, 1, 1, 2, 3, 3]), expected);
        assert_eq!(known(&[3, 1, 2, 1, 3, 1]), expected);
        assert_eq!(known(&[2, 3, 3, 1, 1, 1]), expected);
    }

    #[test]
    fn elements_without_an_id_are_told_apart_however_many_there_are() {
        let most = u32::try_from(MOST).unwrap_or(0);
        let elements: Vec<u32> = (0..2 * most).chain(0..2 * most).chain([0, 0]).collect();
        assert_eq!(known(&elements).len(), elements.len());
    }
}
