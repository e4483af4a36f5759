//! Reads client secrets at the moment they are needed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use secrecy::SecretString;

use super::ownership::{self, Kind};
use super::problem::Flaw;
use super::scope::parse_guid;
use super::secret_text::{MAX_LENGTH, is_broken, is_invisible};
use super::settings::Secret;

/// How long a command may take to print a secret.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

impl Secret {
    /// The client secret, without the white space around it. Blocks, for at most ten seconds where
    /// a command is asked.
    ///
    /// # Errors
    /// The source cannot be used (owner, mode, exit status, time), or what it holds is no secret's
    /// value.
    pub fn read(&self) -> Result<SecretString, Flaw> {
        match self {
            Self::File(path) => {
                let bytes = ownership::read(path, Kind::Secret, MAX_LENGTH)?;
                value(&bytes, &path.display().to_string())
            }
            Self::Command(command) => run(command, COMMAND_LIMIT),
            Self::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    Flaw::new(
                        "systemd has passed no credentials ($CREDENTIALS_DIRECTORY is not set)",
                        format!("run as the systemd service, with LoadCredential={name}:…"),
                    )
                })?;
                credential(Path::new(&folder), name)
            }
        }
    }
}

/// systemd made the folder for us alone, with owners and modes of its own (ACLs included), so they
/// are not ours to judge.
fn credential(folder: &Path, name: &str) -> Result<SecretString, Flaw> {
    let shown = format!("the systemd credential {name}");
    let unread = |what: String| {
        let cure = format!("look at LoadCredential={name}:… in the service");
        Flaw::new(format!("{shown} {what}"), cure)
    };
    let bytes = std::fs::File::open(folder.join(name))
        .and_then(|file| ownership::read_bounded(file, MAX_LENGTH))
        .map_err(|fault| unread(format!("cannot be read: {fault}")))?
        .ok_or_else(|| unread(format!("is longer than {MAX_LENGTH} bytes")))?;
    value(&bytes, &shown)
}

/// The process groups of the commands that run now.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the commands that still run, at the end of the process: nobody waits for their secrets any more.
pub(crate) fn stop_commands() {
    for group in running().iter() {
        kill_process_group(*group, Signal::KILL).ok();
    }
}

/// Runs the command without a shell; it has our environment, which never holds a secret of ours.
fn run(command: &[String], limit: Duration) -> Result<SecretString, Flaw> {
    use std::os::unix::process::CommandExt;

    let [program, arguments @ ..] = command else {
        return Err(Flaw::new(
            "no command is named",
            "write [\"/path/of/program\", \"argument\", …]",
        ));
    };
    ownership::check_program(program.as_ref())?;
    let by_hand = || format!("run {program} by hand as this user and look");
    // Held while it starts: what is killed at the end is all that was started.
    let mut all = running();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|fault| Flaw::new(format!("{program} cannot be started: {fault}"), by_hand()))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    all.extend(group);
    drop(all);
    let stdout = child.stdout.take();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let read = stdout.map(|pipe| ownership::read_bounded(pipe, MAX_LENGTH));
        // only seen, not reaped: as long as the child is not, its number cannot be another's
        if let Some(pid) = group {
            waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )
            .ok();
        }
        sender.send(read).ok();
    });
    let read = receiver.recv_timeout(limit);
    if read.is_err()
        && let Some(group) = group
    {
        kill_process_group(group, Signal::KILL).ok();
    }
    // Before it is reaped, after which its number may be another's.
    running().retain(|other| Some(*other) != group);
    let status = child
        .wait()
        .map_err(|fault| Flaw::new(format!("{program} got lost: {fault}"), by_hand()))?;
    let Ok(read) = read else {
        let seconds = limit.as_secs();
        return Err(Flaw::new(
            format!("{program} did not end within {seconds} s and was killed"),
            by_hand(),
        ));
    };
    match read {
        // Before its status: who is not listened to any longer may well fail of that.
        Some(Ok(None)) => Err(Flaw::new(
            format!("{program} printed more than {MAX_LENGTH} bytes"),
            by_hand(),
        )),
        _ if !status.success() => Err(Flaw::new(format!("{program} failed ({status})"), by_hand())),
        Some(Ok(Some(bytes))) => value(&bytes, &format!("the output of {program}")),
        _ => Err(Flaw::new(
            format!("the output of {program} cannot be read"),
            by_hand(),
        )),
    }
}

/// The secret's value in what `source` gave.
fn value(bytes: &[u8], source: &str) -> Result<SecretString, Flaw> {
    let again =
        "put nothing but the secret's value there, as Azure showed it once when it was made";
    let refuse = |what: &str| Err(Flaw::new(format!("{source} {what}"), again));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return refuse("is no UTF-8 text");
    };
    let text = text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
    if text.is_empty() {
        return refuse("is empty");
    }
    if is_broken(text) {
        return refuse("has more than one line, or control characters");
    }
    if text.contains(is_invisible) {
        return refuse("has characters that cannot be seen");
    }
    if parse_guid(text).is_some() {
        return refuse("holds a GUID: that is the secret's ID in place of its value");
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn says(result: Result<SecretString, Flaw>) -> String {
        match result {
            Ok(secret) => secret.expose_secret().to_owned(),
            Err(flaw) => flaw.what,
        }
    }

    fn sh(script: &str, limit: Duration) -> String {
        let command = ["/bin/sh", "-c", script].map(String::from);
        says(run(&command, limit))
    }

    #[test]
    fn a_secret_is_its_text_without_what_surrounds_it() {
        let of = |bytes: &[u8]| says(value(bytes, "it"));
        assert_eq!(of(b"abc~D.e-f_G"), "abc~D.e-f_G");
        assert_eq!(of(b"\xef\xbb\xbf  abc \r\n\n"), "abc");
        assert_eq!(of("\u{202a}abc\u{202c}\n".as_bytes()), "abc");
        assert_eq!(
            of("a\u{200b}bc".as_bytes()),
            "it has characters that cannot be seen"
        );
        assert_eq!(of(b"\n \t"), "it is empty");
        assert_eq!(of(b"\xff\xfea\0b\0"), "it is no UTF-8 text");
        assert_eq!(
            of(b"a\0b\0"),
            "it has more than one line, or control characters"
        );
        assert_eq!(
            of(b"abc\ndef"),
            "it has more than one line, or control characters"
        );
        assert_eq!(
            of(b"8A3C1B6E-0000-4000-8000-0123456789ab\n"),
            "it holds a GUID: that is the secret's ID in place of its value"
        );
    }

    #[test]
    fn from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let read = || {
            says(Secret::File(path.clone()).read()).replace(folder.path().to_str().unwrap(), "DIR")
        };
        assert_eq!(read(), "DIR/s does not exist");
        fs::write(&path, "abc\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(), "abc");
        fs::write(&path, "a".repeat(4097)).unwrap();
        assert_eq!(read(), "DIR/s is longer than 4096 bytes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(read(), "DIR/s is readable by others (mode 0604)");
    }

    #[test]
    fn from_a_command() {
        let of = |script| sh(script, COMMAND_LIMIT);
        assert_eq!(of("echo ' abc '"), "abc");
        assert_eq!(of("echo abc; exit 3"), "/bin/sh failed (exit status: 3)");
        for endless in ["exec cat /dev/zero", "cat /dev/zero; exit 141"] {
            assert_eq!(of(endless), "/bin/sh printed more than 4096 bytes");
        }
        assert_eq!(of("true"), "the output of /bin/sh is empty");
        for endless in ["sleep 60 & sleep 60", "exec >&-; sleep 60"] {
            let said = sh(endless, Duration::from_millis(100));
            assert_eq!(said, "/bin/sh did not end within 0 s and was killed");
        }
        let missing = of("exec /nowhere");
        assert_eq!(missing, "/bin/sh failed (exit status: 127)");
        let missing = says(run(&["/nowhere".into()], COMMAND_LIMIT));
        assert_eq!(missing, "/nowhere does not exist");
    }

    #[test]
    fn a_command_that_others_may_write_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let (program, mark) = (folder.path().join("program"), folder.path().join("mark"));
        let script = format!("#!/bin/sh\ntouch {}\necho abc~def\n", mark.display());
        fs::write(&program, script).unwrap();
        for mode in [0o757, 0o775] {
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
            let said = says(run(&[program.display().to_string()], COMMAND_LIMIT));
            assert!(said.contains("is writable by others"), "{said}");
            assert!(!mark.exists());
        }
    }

    #[test]
    fn from_systemd() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("contoso"), "abc\n").unwrap();
        assert_eq!(says(credential(folder.path(), "contoso")), "abc");
        let missing = says(credential(folder.path(), "fabrikam"));
        assert!(
            missing.starts_with("the systemd credential fabrikam cannot be read: "),
            "{missing}"
        );
    }
}
