//! What a process took.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::{Deserialize, Serialize};

/// What a process took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// From start to end.
    pub(crate) wall: Duration,
    /// Processor time of it and its kernel.
    pub(crate) cpu: Duration,
    /// Memory at its peak, bytes.
    pub(crate) peak: u64,
    /// Its exit code.
    pub(crate) code: i32,
}

/// Runs a command, with nothing else as its child, and prints its [`Figures`] as JSON: the kernel counts the memory of
/// whoever started a process as that process's own, so this one has to be small.
pub(crate) fn measure(command: &[String]) -> Result<(), String> {
    let [program, arguments @ ..] = command else {
        return Err("no command".to_owned());
    };
    let since = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{program}: {error}"))?;
    tell(&Figures {
        wall: since.elapsed(),
        code: status.code().unwrap_or(-1),
        ..used(UsageWho::RUSAGE_CHILDREN)?
    });
    Ok(())
}

/// Does some work and prints the [`Figures`] of it alone: what this process did before does not count.
pub(crate) fn measure_own(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let before = used(UsageWho::RUSAGE_SELF)?;
    let since = Instant::now();
    work()?;
    let wall = since.elapsed();
    let after = used(UsageWho::RUSAGE_SELF)?;
    tell(&Figures {
        wall,
        cpu: after.cpu.saturating_sub(before.cpu),
        ..after
    });
    Ok(())
}

#[allow(clippy::print_stdout, reason = "what was asked for")]
fn tell(figures: &Figures) {
    println!("{}", serde_json::json!(figures));
}

/// Processor time and memory so far.
fn used(who: UsageWho) -> Result<Figures, String> {
    let used = getrusage(who).map_err(|error| error.to_string())?;
    let time = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    Ok(Figures {
        wall: Duration::ZERO,
        cpu: time(used.user_time()) + time(used.system_time()),
        peak: used.max_rss().unsigned_abs() * 1024,
        code: 0,
    })
}

/// Runs `command` through [`measure`] in a process of this program. It must succeed.
pub(crate) fn figures(command: &Command) -> Result<Figures, String> {
    let (figures, said) = any_figures(command)?;
    match figures.code {
        0 => Ok(figures),
        code => Err(format!("{command:?}: exit code {code}: {said}")),
    }
}

/// As [`figures`], however it ends; and what it wrote on standard error.
pub(crate) fn any_figures(command: &Command) -> Result<(Figures, String), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut wrapped = Command::new(own);
    wrapped
        .args(["part", "measure", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    told_by(&mut wrapped)
}

/// What a process that prints its [`Figures`] tells; and what it wrote on standard error.
pub(crate) fn told_by(command: &mut Command) -> Result<(Figures, String), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let figures: Figures = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((
        figures,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

/// The one with the median wall time.
pub(crate) fn median(mut all: Vec<Figures>) -> Option<Figures> {
    all.sort_by_key(|figures| figures.wall);
    all.get(all.len() / 2).copied()
}
