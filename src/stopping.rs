//! The wish that a command ends: SIGTERM or SIGINT, heeded from its first lock to its last.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::{Error, Result};

/// How soon a wish is noticed by who waits for something else.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whether somebody wishes the command to end; by default nobody can, and a signal ends the process.
#[derive(Debug, Clone, Default)]
pub struct Stopping(Arc<AtomicBool>);

/// While this lives, SIGTERM and SIGINT end nothing.
#[derive(Debug)]
pub struct ForNow(Arc<AtomicBool>);

impl Drop for ForNow {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a limit on the size of files refuses is to fail as on a full disk, and not to end the process.
fn fail_beyond_a_limit() -> Result<()> {
    flag::register(SIGXFSZ, Arc::default()).map_err(|error| unheeded(&error))?;
    Ok(())
}

fn unheeded(error: &io::Error) -> Error {
    Error::TryLater(format!("signals cannot be heeded: {error}"))
}

impl Stopping {
    /// Lets SIGTERM and SIGINT no longer end the process at once, but make this wish.
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason to.
    pub fn by_signal() -> Result<Self> {
        let this = Self::default();
        fail_beyond_a_limit()?;
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&this.0)).map_err(|error| unheeded(&error))?;
        }
        Ok(this)
    }

    /// As [`Self::by_signal`], but only until the guard is dropped: then a signal ends the process again.
    ///
    /// # Errors
    /// As [`Self::by_signal`].
    pub fn by_signal_for_now() -> Result<(Self, ForNow)> {
        let this = Self::default();
        let is_over = Arc::<AtomicBool>::default();
        fail_beyond_a_limit()?;
        for signal in [SIGTERM, SIGINT] {
            flag::register_conditional_default(signal, Arc::clone(&is_over))
                .map_err(|error| unheeded(&error))?;
            flag::register(signal, Arc::clone(&this.0)).map_err(|error| unheeded(&error))?;
        }
        Ok((this, ForNow(is_over)))
    }

    /// Whether the command should end.
    #[must_use]
    pub fn is_wished(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until the command should end.
    pub async fn wished(&self) {
        while !self.is_wished() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits that long, or until the command should end.
    pub fn pause(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.is_wished() && Instant::now() < end {
            thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
        }
    }
}
