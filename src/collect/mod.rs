//! The flow itself.

pub mod event;
