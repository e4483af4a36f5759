//! What the oracle says.

use std::fmt;

/// What came of the obligations. Its `Display` is the one line
/// `verdict: N issued, N received, 0 missing, 0 repeated`, with more only where something is wrong
/// (and the number of reshaped events, which is not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// records that had to arrive
    pub issued: usize,
    /// records that arrived, repeats included; events about the collection not
    pub received: usize,
    /// `tenant content-type id`
    pub missing: Vec<String>,
    /// records that arrived more often than they should, each once
    pub repeated: Vec<String>,
    /// arrivals beyond the first, of all of them
    pub repeats: usize,
    /// events that say `o365_wodle.reshaped`: matched by `Id`, not by text
    pub reshaped: usize,
    /// not byte for byte what was issued, and not marked as reshaped
    pub altered: Vec<String>,
    /// not Wazuh's framing, not JSON, or JSON that Wazuh refuses
    pub malformed: Vec<String>,
    /// datagrams over 64,000 bytes
    pub oversize: Vec<String>,
    /// records that nobody issued
    pub unexpected: Vec<String>,
}

impl Verdict {
    /// Whether everything arrived once, whole and as it was issued.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.repeated.is_empty() && self.is_clean_but_for_repeats()
    }

    /// As [`is_clean`](Self::is_clean), where the promise allows repeats.
    #[must_use]
    pub fn is_clean_but_for_repeats(&self) -> bool {
        [
            &self.missing,
            &self.altered,
            &self.malformed,
            &self.oversize,
            &self.unexpected,
        ]
        .iter()
        .all(|list| list.is_empty())
    }

    /// The first few of everything that is wrong, a line each.
    #[must_use]
    pub fn details(&self) -> String {
        let mut out = String::new();
        for (what, list) in [
            ("missing", &self.missing),
            ("repeated", &self.repeated),
            ("altered", &self.altered),
            ("malformed", &self.malformed),
            ("oversize", &self.oversize),
            ("unexpected", &self.unexpected),
        ] {
            for item in list.iter().take(5) {
                out.extend([what, ": ", item, "\n"]);
            }
        }
        out
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            issued,
            received,
            missing,
            repeats,
            ..
        } = self;
        write!(
            f,
            "verdict: {issued} issued, {received} received, {} missing, {repeats} repeated",
            missing.len()
        )?;
        for (count, what) in [
            (self.altered.len(), "altered"),
            (self.malformed.len(), "malformed"),
            (self.oversize.len(), "oversize"),
            (self.unexpected.len(), "unexpected"),
            (self.reshaped, "reshaped"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}
