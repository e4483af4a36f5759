//! A fake Wazuh: the bare queue socket ([`Queue`]), a manager's analysisd with its memory queues,
//! statistics socket and alerts file ([`Manager`]), an agent's agentd with its anti-flooding
//! buffer and state ([`Agent`]), and the installed tree around them ([`home`]).
//!
//! Each double runs plain threads and ends them when it is dropped. None of them removes its
//! socket file then, as the real daemons don't.

mod agent;
pub mod home;
mod manager;
mod pipeline;
mod process;
mod queue;
mod reader;
mod settings;
mod stage;
mod statistics;

pub use agent::{Agent, AgentSettings, StateSource};
pub use manager::Manager;
pub use queue::Queue;
pub use settings::{Background, EpsLimit, Settings};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks even after another thread panicked: the test that panicked has failed already.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
