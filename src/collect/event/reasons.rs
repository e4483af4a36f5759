//! What was done to a record so that it survives Wazuh.

use std::ops::BitOrAssign;

/// A set of reasons for reshaping, named as `o365_wodle.reshaped` lists them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reasons(u16);

impl Reasons {
    /// The datagram would have been longer than 64,000 bytes.
    pub const OVERSIZE: Self = Self(1);
    /// A string was longer than the indexer takes (32,766 bytes), or one of the key fields longer than 1 KiB.
    pub const LONG_STRING: Self = Self(1 << 1);
    /// More leaves than Wazuh's JSON decoder takes.
    pub const LEAF_LIMIT: Self = Self(1 << 2);
    /// Text that is not Unicode: half a surrogate pair, bytes that are no UTF-8, raw control characters.
    pub const SURROGATE: Self = Self(1 << 3);
    /// U+0000 in a string.
    pub const NUL: Self = Self(1 << 4);
    /// A number that Wazuh would print as another one.
    pub const BIG_NUMBER: Self = Self(1 << 5);
    /// Keys of one object that Wazuh takes for the same.
    pub const KEY_CASE: Self = Self(1 << 6);
    /// Nested deeper than 100.
    pub const DEPTH: Self = Self(1 << 7);
    /// What the indexer would refuse the document for: a key whose JSON type is not the usual one, or that has no name.
    pub const MAPPING: Self = Self(1 << 8);
    /// No `RecordType`, or one that is no number: no rule of Wazuh would match.
    pub const NO_RECORD_TYPE: Self = Self(1 << 9);

    const NAMES: [(Self, &'static str); 10] = [
        (Self::OVERSIZE, "oversize"),
        (Self::LONG_STRING, "long_string"),
        (Self::LEAF_LIMIT, "leaf_limit"),
        (Self::SURROGATE, "surrogate"),
        (Self::NUL, "nul"),
        (Self::BIG_NUMBER, "big_number"),
        (Self::KEY_CASE, "key_case"),
        (Self::DEPTH, "depth"),
        (Self::MAPPING, "mapping"),
        (Self::NO_RECORD_TYPE, "no_record_type"),
    ];

    /// Whether nothing had to be done.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is among these.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(reason, _)| self.contains(*reason))
            .map(|(_, name)| name)
    }

    /// These but `other`.
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Adds `reason` where `condition` holds.
    pub(super) fn add_if(&mut self, condition: bool, reason: Self) {
        if condition {
            *self |= reason;
        }
    }
}

impl BitOrAssign for Reasons {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
