//! How far long work is: a bar on a terminal, nothing elsewhere, where the log tells.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::ledger::Ledger;

/// How often the ledger is looked into.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A bar that follows the ledger until it is dropped.
pub(super) struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// Follows how many contents wait to be fetched, from the most there were down to nothing; unless it is to be quiet.
    pub(super) fn follow(ledger: &Path, is_quiet: bool) -> Self {
        if is_quiet || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let (stop, stopped) = mpsc::channel();
        let ledger = ledger.to_owned();
        let thread = thread::spawn(move || {
            let bar = ProgressBar::new(0).with_message("contents fetched");
            if let Ok(style) =
                ProgressStyle::with_template("{wide_bar} {pos} of {len} {msg}, {elapsed}")
            {
                bar.set_style(style);
            }
            let mut most = 0;
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                // A ledger that cannot be read now is for the work itself to tell.
                let ledger = Ledger::read(&ledger).ok().flatten();
                if let Some(count) = ledger.and_then(|ledger| ledger.pending_contents().ok()) {
                    most = most.max(count);
                    // None of none would be shown as all.
                    if most > 0 {
                        bar.set_length(most);
                        bar.set_position(most - count);
                    }
                }
            }
            bar.finish_and_clear();
        });
        Self(Some((stop, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // A bar that panicked is no reason to fail.
            thread.join().unwrap_or_default();
        }
    }
}
