//! The outside world we write to: the queue socket of Wazuh and what Wazuh tells about it.
//!
//! Nothing here waits longer than some milliseconds (a statistics request that is not answered:
//! 200 ms), and nothing knows of Microsoft, the ledger or an asynchronous runtime: the caller owns
//! one thread that sends, waits and commits.

pub mod home;
pub mod queue;

pub use home::{Home, Role};
pub use queue::{Queue, QueueFault, Sending};
