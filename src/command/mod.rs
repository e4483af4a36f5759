//! The commands, one file each, and what some of them share.

pub(crate) mod check;
mod files;
mod probe;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod tenant;
