//! What is wrong with the configuration, in the operator's words.

use std::fmt;
use std::path::PathBuf;

use crate::Error;

/// What is wrong with something and what to do about it; never holds a configured value that may
/// be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {cure}")]
pub struct Flaw {
    /// What is wrong.
    pub what: String,
    /// The cure.
    pub cure: String,
}

impl Flaw {
    pub(crate) fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cure: cure.into(),
        }
    }
}

impl From<Flaw> for Error {
    fn from(flaw: Flaw) -> Self {
        Self::Configuration(flaw.to_string())
    }
}

impl From<Vec<Problem>> for Error {
    fn from(problems: Vec<Problem>) -> Self {
        let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Self::Configuration(lines.join("\n"))
    }
}

/// A flaw and where in the configuration it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: PathBuf,
    /// The path of the key, such as `tenant[1].client_secrett`; empty for the file as a whole.
    pub key: String,
    /// What is wrong there, and the cure.
    pub flaw: Flaw,
}

impl Problem {
    /// What is wrong with its place before it, as a line is said.
    pub(crate) fn in_place(&self) -> Flaw {
        let file = self.file.display().to_string();
        let mut what = String::new();
        if !self.key.is_empty() || !self.flaw.what.starts_with(&file) {
            what = file + ": ";
        }
        if !self.key.is_empty() {
            // a quoted key may hold anything, line ends and terminal controls included
            let shown = self.key.chars().take(200);
            what.extend(shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }));
            what.push_str(": ");
        }
        Flaw::new(what + &self.flaw.what, &self.flaw.cure)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.in_place().fmt(f)
    }
}
