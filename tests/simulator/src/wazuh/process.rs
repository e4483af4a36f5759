//! The identity of a daemon: a living process and the pid file that names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::reader::remove;

/// A process that does nothing, with its pid file. It dies with us too: its standard input ends.
pub(super) struct Process {
    child: Child,
    file: PathBuf,
}

impl Process {
    /// Starts one and writes `<home>/var/run/<daemon>-<pid>.pid`.
    pub(super) fn start(home: &Path, daemon: &str) -> io::Result<Self> {
        let folder = home.join("var/run");
        fs::create_dir_all(&folder)?;
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let file = folder.join(format!("{daemon}-{}.pid", child.id()));
        let process = Self { child, file };
        fs::write(&process.file, format!("{}\n", process.child.id()))?;
        Ok(process)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ended in order: the pid file goes too. Otherwise, as after a SIGKILL, it stays.
    pub(super) fn remove_file(&self) -> io::Result<()> {
        remove(&self.file)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // both fail only if it is gone already
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
