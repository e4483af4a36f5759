//! The fuzz targets one after the other, with cargo-fuzz.

use std::path::Path;
use std::process::Command;

use crate::tools;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The targets of `fuzz/`.
pub(crate) const TARGETS: [&str; 6] = [
    "records",
    "event",
    "hand_over",
    "settings",
    "listing",
    "fault",
];

/// What is asked to be fuzzed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this target (repeatable)
    #[arg(long = "target", value_name = "NAME", value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes; whether nothing was found.
///
/// # Errors
/// cargo-fuzz cannot be started.
#[allow(clippy::print_stdout, reason = "the verdict is what was asked for")]
pub(crate) fn run(arguments: &Arguments) -> Result<bool, String> {
    build()?;
    let mut is_well = true;
    for target in TARGETS {
        if !arguments.targets.is_empty() && !arguments.targets.iter().any(|name| name == target) {
            continue;
        }
        match one(target, arguments.seconds) {
            Ok(executions) => println!("{target}: nothing found in {executions} executions"),
            Err(found) => {
                is_well = false;
                println!("{target}: FAILED\n{found}");
            }
        }
    }
    Ok(is_well)
}

/// Builds all targets, with cargo-fuzz, which is installed unless it is there.
///
/// # Errors
/// They cannot be built.
pub(crate) fn build() -> Result<(), String> {
    if !tools::is_there("cargo-fuzz") {
        tools::run(Command::new("cargo").args(["install", "--quiet", "--locked", "cargo-fuzz"]))?;
    }
    tools::run(&mut cargo_fuzz("build"))
}

/// Fuzzes one target, which is built, for that long; how often it was executed. What is found lies in
/// `fuzz/artifacts`: once mended, put it into `fuzz/regressions/TARGET`, which the tests go through.
///
/// # Errors
/// What was found, in libFuzzer's words.
pub(crate) fn one(target: &str, seconds: u32) -> Result<u64, String> {
    // What it learns goes into the first folder; the corpus that is kept stays small.
    let learnt = Path::new(ROOT).join("fuzz/target/corpus").join(target);
    std::fs::create_dir_all(&learnt).map_err(|error| format!("{}: {error}", learnt.display()))?;
    let output = cargo_fuzz("run")
        .arg(target)
        .arg(&learnt)
        .arg(format!("fuzz/corpus/{target}"))
        .args(["--", "-timeout=10", "-rss_limit_mb=1024"])
        .args(["-max_len=65536", "-print_final_stats=1"])
        .arg(format!("-max_total_time={seconds}"))
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let executions = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|count| count.trim().parse().ok());
    match executions {
        Some(executions) if output.status.success() => Ok(executions),
        _ => Err(said.into_owned()),
    }
}

fn cargo_fuzz(what: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(ROOT)
        // The sanitizer is asked for by options that are still unstable.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["fuzz", what]);
    command
}
