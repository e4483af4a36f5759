//! Microsoft 365 audit records into Wazuh.
//!
//! A scheduler starts us; we ask Microsoft what is new for each tenant and content type, remember
//! in a ledger what Wazuh has confirmed, hand over what it has not, and leave. Data goes one way:
//!
//! ```text
//! settings → ledger (marker) → window → token → activity (subscribe → list → fetch)
//!          → record → event → queue (send, pace, acknowledge) → ledger (confirm)
//! ```
//!
//! Only [`collect`] knows all the others; nothing below it knows `collect`, and the two outside
//! worlds, [`microsoft`] and [`wazuh`], never see each other.

pub mod array;
pub mod collect;
pub mod command;
pub mod config;
pub mod error;
pub mod ledger;
pub mod microsoft;
pub mod wazuh;

pub use error::{Error, Result};
