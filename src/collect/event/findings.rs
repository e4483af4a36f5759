//! What one pass over a record tells.

use super::reasons::Reasons;

/// What one pass over a record's bytes tells.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Findings<'a> {
    /// Whether there is white space between tokens.
    pub(super) spaced: bool,
    /// Whether each string is UTF-8 without escapes: its bytes are its text.
    pub(super) plain: bool,
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
}

impl Field {
    /// The field of the record's key, if it is one of these.
    #[inline]
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        // which are looked for at all, `keys::LETTERS` says
        Some(match (key.len(), key.first()?) {
            (2, b'I') if key == b"Id" => Self::Id,
            (10, b'R') if key == b"RecordType" => Self::RecordType,
            (12, b'R') if key == b"RecordNumber" => Self::RecordNumber,
            _ => return None,
        })
    }
}

/// The raw tokens of these members where they are no objects or arrays, the first of each name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fields<'a>([Option<&'a [u8]>; 3]);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.0.get(field as usize).copied().flatten()
    }

    pub(super) fn set(&mut self, field: Field, token: &'a [u8]) {
        if let Some(slot) = self.0.get_mut(field as usize) {
            slot.get_or_insert(token);
        }
    }
}
