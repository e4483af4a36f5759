//! The outside world we write to: the queue socket of Wazuh and what Wazuh tells about it.
//!
//! Nothing here waits longer than some milliseconds (a statistics request that is not answered: 200 ms, then 1.6 s, but no two
//! of them in a row; [`queue::Queue::send`]: 20 ms for each datagram that it is given), and nothing knows of Microsoft, the
//! ledger or an asynchronous runtime: the caller owns one thread that sends, waits and commits.

pub mod acknowledge;
mod agent;
pub mod cap;
pub mod file;
pub mod home;
mod inbox;
mod manager;
pub mod native;
pub mod ossec_conf;
mod pace;
pub mod queue;
mod statistics;

pub use acknowledge::{Acknowledgement, Allowance, Assurance, Mark, ReaderId, Told, Verdict};
pub use cap::Cap;
pub use home::{Home, Role};
pub use queue::{AT_ONCE, Queue, QueueFault, SocketId};

impl From<QueueFault> for crate::Error {
    fn from(fault: QueueFault) -> Self {
        let said = fault.to_string();
        match fault {
            QueueFault::Denied(_) | QueueFault::WrongType(_) => Self::Configuration(said),
            _ => Self::TryLater(said),
        }
    }
}
