//! The commands, one file each, and what some of them share.

pub(crate) mod check;
mod files;
mod probe;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod tenant;

/// What was asked for cannot be printed.
#[allow(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn unsaid(fault: std::io::Error) -> crate::Error {
    crate::Error::TryLater(format!("standard output: {fault}"))
}
