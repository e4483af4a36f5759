//! The other programs that campaigns and benches need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program and the Debian package that has it.
type Needed = (&'static str, &'static str);

/// What a campaign needs.
pub(crate) const CAMPAIGN: [Needed; 5] = [
    ("strace", "strace"),
    ("faketime", "faketime"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("tinyproxy", "tinyproxy-bin"),
];

/// Sees to it that every program is there, installing what is not.
///
/// # Errors
/// What is missing and cannot be installed.
pub(crate) fn install(programs: &[Needed]) -> Result<(), String> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        return Err(format!(
            "{names}: not installed; install them, or run this as root"
        ));
    }
    for arguments in [
        &["-qq", "update"][..],
        &[&["-qq", "-y", "install"], &missing[..]].concat(),
    ] {
        run(Command::new("apt-get")
            .args(arguments)
            .stdout(Stdio::null()))?;
    }
    match programs.iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => Err(format!(
            "{package} was installed, but there is no {program}"
        )),
        None => Ok(()),
    }
}

/// Whether a program can be called by its name.
pub(crate) fn is_there(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// The program to try: `given`, or the workspace's, built in the profile of this one.
///
/// # Errors
/// It is not there or cannot be built.
pub(crate) fn program(given: Option<&Path>) -> Result<PathBuf, String> {
    let binary = match given {
        Some(binary) => binary.to_owned(),
        None => build()?,
    };
    binary
        .canonicalize()
        .map_err(|error| format!("{}: {error}", binary.display()))
}

fn build() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&root)
        .args(["build", "--quiet", "--locked"]);
    cargo.args(["--package", "o365-wodle", "--bin", "o365-wodle"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(own.with_file_name("o365-wodle"))
}

/// Runs a program that has to succeed.
///
/// # Errors
/// It cannot be started, or fails; with what it said.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let output = match child.and_then(std::process::Child::wait_with_output) {
        Ok(output) => output,
        Err(error) => return Err(format!("{command:?}: {error}")),
    };
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
