//! What the program can be asked to do, one file a command.

pub mod check;
