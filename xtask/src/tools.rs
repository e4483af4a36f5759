//! The other programs that a campaign needs.

use std::process::{Command, Stdio};

/// A program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 4] = [
    ("strace", "strace"),
    ("faketime", "faketime"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
];

/// Sees to it that every program is there, installing what is not.
///
/// # Errors
/// What is missing and cannot be installed.
pub(crate) fn install() -> Result<(), String> {
    let missing: Vec<&str> = PROGRAMS
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
    match PROGRAMS.iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => Err(format!(
            "{package} was installed, but there is no {program}"
        )),
        None => Ok(()),
    }
}

fn is_there(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
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
