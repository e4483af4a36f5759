//! The commands, one file each.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod man;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod status;
