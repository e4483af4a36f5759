//! The outside world we read from: Entra ID and the Office 365 Management Activity API.
//!
//! [`Activity`] is one tenant's side of it: it signs in, lists subscriptions and contents, and
//! fetches blobs. It repeats what is worth repeating, keeps to the tenant's budget, sends the token
//! to the tenant's own hosts only, and says as a [`Fault`] what it could not do. It remembers
//! nothing beyond the run.

mod activity;
mod body;
mod budget;
mod certificate;
mod clock;
mod cloud;
mod fault;
mod fault_table;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod listing;
mod reach;
mod rest;
mod token;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use fault::tests::code_tables;

pub use activity::{Activity, START_AGAIN, Subscription};
pub use body::Body;
pub use budget::Requests;
pub use clock::{CLOCK_TOLERANCE, Clock, REACH, SKEW};
pub use fault::{Class, Fault, READ, READ_DLP};
pub use fault_table::{GRANT_READ, GRANT_READ_DLP, SWITCH_AUDIT_LOG_ON, cure_of};
pub use http::{Http, event_loop};
pub use listing::{Content, Listing};
pub use reach::{Obstacle, Step};
pub(crate) use rest::{rest_until, unless_it_rests};
pub use token::{Credential, TokenFacts};
