//! The real binary against a fake Microsoft and a fake Wazuh.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod acknowledge;
mod faults;
mod main_job;
mod scale;

use simulator::world;
