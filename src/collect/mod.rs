//! The flow itself.

pub mod event;
pub mod window;
