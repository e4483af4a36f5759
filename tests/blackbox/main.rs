//! The real binary against a fake Microsoft and a fake Wazuh.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod accepted;
mod acknowledge;
mod backfill;
mod doctor;
mod faults;
mod health;
mod import_native;
mod main_job;
mod metrics;
mod safeguards;
mod scale;
mod scheduler;
mod settings;
mod sign_in;
mod status;
mod time;

use simulator::world;
