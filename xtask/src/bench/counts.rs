//! What is counted in runs of their own, which would be slower if they were timed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::remembered::Remembered;
use super::workload::{Stage, Workload};
use crate::tools;

/// Instructions that one more record takes in runs like the workload, only smaller, libraries included and the kernel left
/// out. The difference of two runs leaves out what every run takes.
pub(super) fn instructions_a_record(workload: Workload, binary: &Path) -> Result<u64, String> {
    let (few, many) = (workload.of_blobs(10), workload.of_blobs(60));
    let more = instructions(many, binary)?.saturating_sub(instructions(few, binary)?);
    Ok(more / (many.events() - few.events()) as u64)
}

/// How many instructions a run takes.
pub(super) fn instructions(workload: Workload, binary: &Path) -> Result<u64, String> {
    tools::install(&[("valgrind", "valgrind"), ("strip", "binutils")])?;
    // Valgrind takes many times as long over debug information.
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let bare = folder.path().join("o365-wodle");
    tools::run(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .args([&bare, binary]),
    )?;
    let stage = Stage::set(workload, &bare, None)?;
    let out = stage.folder().join("callgrind");
    let option = format!("--callgrind-out-file={}", out.display());
    stage.under(&["valgrind", "-q", "--tool=callgrind", &option])?;
    let text = read(&out)?;
    text.lines()
        .find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
        .ok_or_else(|| format!("{}: no total", out.display()))
}

/// How many times a run asks the disk to synchronise. Only these calls are stopped, so that the run is as fast as others:
/// what is committed together depends on time too.
pub(super) fn syncs(
    workload: Workload,
    binary: &Path,
    remembered: Option<&Remembered>,
) -> Result<usize, String> {
    tools::install(&[("strace", "strace")])?;
    let stage = Stage::set(workload, binary, remembered)?;
    let out = stage.folder().join("syncs");
    let file = out.display().to_string();
    let calls = ["-e", "trace=fsync,fdatasync", "-e", "signal=none"];
    let strace = ["strace", "-f", "-qqq", "--seccomp-bpf", "-o", &file];
    stage.under(&[&strace[..], &calls].concat())?;
    // One line a call, and another if one was interrupted by another thread's.
    Ok(read(&out)?
        .lines()
        .filter(|line| line.contains("sync("))
        .count())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
