//! The commands, one file each, and what some of them share.

pub(crate) mod backfill;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
mod files;
pub(crate) mod import_native;
pub(crate) mod man;
mod metrics;
mod progress;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod tenant;

use std::borrow::Cow;
use std::io::{self, ErrorKind, StdoutLock, Write};
use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};

/// Standard output. Who closes it has seen enough: what else there is to do is done, and that is no fault.
pub(crate) struct Output(pub(crate) StdoutLock<'static>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_closed(self.0.write(&harmless(bytes)), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.0.flush(), ())
    }
}

/// The same bytes with blanks for those that could command a terminal: what is printed has names that a customer chose.
fn harmless(bytes: &[u8]) -> Cow<'_, [u8]> {
    let may_command = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t');
    // U+0080 to U+009F, in UTF-8
    let is_pair = |pair: &[u8]| matches!(pair, [0xC2, 0x80..=0x9F]);
    if !bytes.iter().any(may_command) && !bytes.windows(2).any(is_pair) {
        return bytes.into();
    }
    let mut taken = bytes.to_vec();
    for at in 0..taken.len() {
        let pair = taken.get_mut(at..at + 2).unwrap_or_default();
        if is_pair(pair) {
            pair.fill(b' ');
        }
        if let Some(byte) = taken.get_mut(at).filter(|byte| may_command(byte)) {
            *byte = b' ';
        }
    }
    taken.into()
}

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

/// A table without lines, as wide as the terminal if that says how wide it is.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    if table.width() != Some(0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
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

/// What was asked for cannot be printed.
#[allow(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn unsaid(fault: io::Error) -> crate::Error {
    crate::Error::TryLater(format!("standard output: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_commands_a_terminal() {
        let plain = "tenant-1\tZürich — ok\n".as_bytes();
        assert!(matches!(harmless(plain), Cow::Borrowed(same) if same == plain));
        let evil = "a\u{1b}[2J\u{9b}2J\rb\u{7f}\nc\u{c2}\u{a0}";
        let said = String::from_utf8_lossy(&harmless(evil.as_bytes())).into_owned();
        assert_eq!(said, "a [2J  2J b \nc\u{c2}\u{a0}");
        assert_eq!(shown(Path::new("a\u{1b}]0;x\u{7}\nok")), "a ]0;x  ok");
    }
}
