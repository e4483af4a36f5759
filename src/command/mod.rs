//! The commands, one file each, and what some of them share.

pub(crate) mod backfill;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
mod files;
pub(crate) mod import_native;
pub(crate) mod man;
mod metrics;
mod progress;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod tenant;

/// What was asked for cannot be printed.
#[allow(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn unsaid(fault: std::io::Error) -> crate::Error {
    crate::Error::TryLater(format!("standard output: {fault}"))
}
