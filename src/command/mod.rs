//! The commands, one file each, and what some of them share.

pub(crate) mod backfill;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
mod files;
pub(crate) mod import_native;
pub(crate) mod man;
mod metrics;
mod places;
mod progress;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod tenant;

use std::io::{self, ErrorKind, StdoutLock, Write};
use std::path::Path;

use comfy_table::{Table, presets};

use crate::terminal::{escaped, harmless};

/// Standard output, without what could command a terminal. Who closes it has seen enough: what else there is to do is done, and
/// that is no fault.
pub(crate) struct Output(pub(crate) StdoutLock<'static>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_closed(self.0.write(&harmless(bytes)), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.0.flush(), ())
    }
}

/// Of more tenants, what is well is not shown one by one.
const MOST_TENANTS: usize = 20;

/// A path for one line, whatever is in its name.
fn shown(path: &Path) -> String {
    path.display().to_string().replace(char::is_control, " ")
}

fn unless_closed<T>(done: io::Result<T>, as_if: T) -> io::Result<T> {
    match done {
        Err(fault) if fault.kind() == ErrorKind::BrokenPipe => Ok(as_if),
        done => done,
    }
}

/// A table without lines. It is as wide as what is in it, whatever the terminal is: what broke in its midst no one could copy.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

/// Names, for one line: of many the first say enough.
fn names<T: AsRef<str>>(all: &[T]) -> String {
    const ENOUGH: usize = 10;
    let first: Vec<&str> = all.iter().take(ENOUGH).map(AsRef::as_ref).collect();
    let more = all.len() - first.len();
    let first = first.join(", ");
    if more == 0 {
        first
    } else {
        format!("{first} and {more} more")
    }
}

/// Prints JSON for programs.
fn print_json(json: &serde_json::Value, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&escaped(format!("{json:#}\n").as_bytes()))
}

/// What was asked for cannot be printed.
#[allow(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn unsaid(fault: io::Error) -> crate::Error {
    crate::Error::TryLater(format!("standard output: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_line() {
        let path = Path::new("a\u{1b}]0;x\u{7}\nok");
        assert_eq!(shown(path), "a ]0;x  ok");
    }
}
