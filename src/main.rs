//! The binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    o365_wodle::main(std::env::args_os())
}
