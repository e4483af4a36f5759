//! How the collection of a tenant went.

/// What kept a tenant, or part of it, from being collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its credential cannot be read here.
    Credential,
    /// Microsoft refuses it: credentials, permissions or the audit log.
    Refused,
    /// Nothing could be had: Microsoft, or the way there, failed for the whole tenant, or for all that was not left alone.
    Unreachable,
    /// Some content types or contents failed, the others did not.
    Partial,
    /// The run was stopped before anything of it came, which says nothing of the tenant.
    Untried,
}

impl Trouble {
    /// The worse of what is known and this; of two alike the first.
    pub(super) fn or(self, known: Option<Self>) -> Self {
        let rank = |trouble| match trouble {
            Self::Untried => 0,
            Self::Partial => 1,
            Self::Unreachable => 2,
            Self::Refused | Self::Credential => 3,
        };
        known
            .filter(|known| rank(*known) >= rank(self))
            .unwrap_or(self)
    }
}

/// How the collection of a tenant went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The operator's name for the tenant.
    pub tenant: String,
    /// The worst that happened; each was logged once.
    pub trouble: Option<Trouble>,
}
