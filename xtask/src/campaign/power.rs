//! Row 3: the machine loses power. What the file system had not written by then is gone.
//!
//! The ledger lies on a file system of its own, in an image file. At some moment of a run it is
//! killed and the image copied at once: the copy is the disk as a power cut would leave it, and is
//! mounted in place of the first.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use simulator::microsoft::Options;
use tempfile::TempDir;

use super::bench::{Bench, batches, kill_after};
use super::kill::Random;
use super::{Case, Column, Setup, Trial};
use crate::tools::run;

/// Row 3: half of the trials cut the first run, which creates the ledger.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let template =
        Arc::new(Image::new("24M").expect("an ext4 file system in a loop device, as root"));
    // Said before all trials fail for the same reason.
    drop(
        Disk::mount(&template.file())
            .expect("loop devices: run this as root on a machine that has them"),
    );
    let mut cases = Vec::new();
    for seed in column.seeds(1) {
        for number in 0..u64::try_from(column.of(20, 1_000)).unwrap_or(u64::MAX) {
            let template = Arc::clone(&template);
            let is_first = number % 2 == 0;
            cases.push(Case::new(
                format!("cut {number}, first run: {is_first}, seed {seed}"),
                move |setup| cut(setup, &template, Random(seed << 32 | number), is_first),
            ));
        }
    }
    cases
}

fn cut(setup: &Arc<Setup>, template: &Image, mut random: Random, is_first: bool) -> Trial {
    let options = Options {
        latency: Duration::from_millis(3),
        ..Options::default()
    };
    let mut bench = Bench::new(setup, options);
    let image = template.copy();
    let disk = Disk::mount(&image.file()).unwrap();
    bench.ledger = disk.ledger();
    bench.issue_blobs(4, 50);
    if !is_first {
        bench.until_clean();
        bench.issue_blobs(4, 50);
    }
    // So slow that a run commits about ten batches.
    bench.queue.slow(Some(500.0));
    kill_after(
        &mut bench.spawn(&[]),
        random.moment(Duration::from_millis(2_800)),
    );
    let after = image.copy();
    let before = batches(&bench.ledger());
    drop(disk);
    bench.queue.slow(None);
    let disk = Disk::mount(&after.file()).unwrap();
    bench.ledger = disk.ledger();
    // The last one may not have been on the disk yet.
    let behind = before.saturating_sub(batches(&bench.ledger()));
    assert!(behind <= 1, "{behind} batches that were committed are gone");
    bench.cut_off();
    bench.until_clean();
    let trial = bench.judge();
    drop(disk);
    trial
}

/// A file with an ext4 file system in it.
pub(super) struct Image(TempDir);

impl Image {
    pub(super) fn new(size: &str) -> Result<Self, String> {
        let image = Self(tempfile::tempdir().map_err(|error| error.to_string())?);
        run(Command::new("truncate")
            .args(["-s", size])
            .arg(image.file()))?;
        run(Command::new("mkfs.ext4")
            // The blocks of a real disk: in smaller ones SQLite cannot reserve a whole page of its index.
            .args(["-q", "-F", "-b", "4096"])
            .arg(image.file()))?;
        Ok(image)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("image")
    }

    /// Another disk with the same bytes.
    fn copy(&self) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        run(Command::new("cp")
            .args(["--sparse=always"])
            .arg(self.file())
            .arg(copy.file()))
        .unwrap();
        copy
    }

    /// The file system, for as long as the disk lives.
    pub(super) fn mount(&self) -> Result<Disk, String> {
        Disk::mount(&self.file())
    }
}

/// A mounted image; unmounted when dropped, also by a trial that fails.
pub(super) struct Disk(TempDir);

impl Disk {
    fn mount(image: &Path) -> Result<Self, String> {
        let disk = Self(tempfile::tempdir().map_err(|error| error.to_string())?);
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(disk.0.path()))?;
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(disk.0.path(), mode).map_err(|error| error.to_string())?;
        Ok(disk)
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.0.path().join("ledger.db")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A program that was killed a moment ago may still hold it.
        if let Err(why) = run(Command::new("umount").arg("--lazy").arg(self.0.path())) {
            eprintln!("{why}");
        }
    }
}
