//! Where Wazuh lives on this host, and what it is here: manager or agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use super::file;
use crate::config;
use crate::error::{Error, Result};

/// What Wazuh is on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// wazuh-analysisd reads the queue.
    Manager,
    /// wazuh-agentd reads the queue.
    Agent,
    /// Neither was recognised; the queue may work nevertheless.
    Unknown,
}

/// Clock ticks a second, as `/proc` counts them.
const TICKS: u64 = 100;

/// A process of Wazuh: a pid alone can be used again, a pid with its start time cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Clock ticks between boot and its start (`/proc/PID/stat`, field 22).
    pub start: u64,
}

impl Process {
    /// How long it has lived, time in suspend included.
    pub(super) fn age(self) -> Duration {
        let start = Duration::from_millis(self.start.saturating_mul(1_000 / TICKS));
        seconds_of(ClockId::Boottime).saturating_sub(start)
    }
}

/// How long this machine has been suspended since it was booted.
pub(super) fn suspended() -> Duration {
    seconds_of(ClockId::Boottime).saturating_sub(seconds_of(ClockId::Monotonic))
}

fn seconds_of(clock: ClockId) -> Duration {
    Duration::from_secs(clock_gettime(clock).tv_sec.unsigned_abs())
}

/// Wazuh's home on this host.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
    queue: PathBuf,
    role: Role,
    major_version: Option<u32>,
}

/// The home of a manager from Wazuh 5 on.
const HOME_OF_MANAGER_5: &str = "/var/wazuh-manager";

impl Home {
    /// Looks at the home directory that the configuration names.
    ///
    /// Paths from 3.13 to 4.14 and of 5.x agents are known. A home that is not there, or not yet
    /// complete, is no error: the queue says better what is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for a manager of Wazuh 5 or later, which has no queue socket.
    pub fn find(config: &config::Wazuh) -> Result<Self> {
        let path = config.home.clone();
        let elsewhere = config.queue.is_none() && !path.exists();
        if is_manager_5(&path) || (elsewhere && is_manager_5(Path::new(HOME_OF_MANAGER_5))) {
            return Err(Error::Configuration(
                "This host runs a manager of Wazuh 5 or later, which has no queue socket that a \
                 program could write to. Install o365-wodle on a host with a Wazuh agent instead; \
                 the agent forwards its events to the manager."
                    .to_owned(),
            ));
        }
        let queue = config.queue.clone().unwrap_or_else(|| find_queue(&path));
        let role = find_role(&path);
        let major_version = find_major_version(&path);
        Ok(Self {
            path,
            queue,
            role,
            major_version,
        })
    }

    /// The home directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The queue socket.
    #[must_use]
    pub fn queue(&self) -> &Path {
        &self.queue
    }

    /// Manager or agent.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The socket on which a manager from 4.4 on answers `getstats`.
    #[must_use]
    pub fn statistics_socket(&self) -> PathBuf {
        self.path.join("queue/sockets/analysis")
    }

    /// Whether this manager may answer there: versions with the old paths do not.
    #[must_use]
    pub(super) fn may_have_statistics(&self) -> bool {
        !self.queue.ends_with("queue/ossec/queue")
    }

    /// The file that an agent before Wazuh 5 rewrites every 5 s.
    #[must_use]
    pub fn agent_state_file(&self) -> PathBuf {
        first_that_exists(
            &self.path,
            &["var/run/wazuh-agentd.state", "var/run/ossec-agentd.state"],
        )
    }

    /// The socket on which an agent from Wazuh 5 on answers `getstate`.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.path.join("queue/sockets/agent")
    }

    /// The file that is there while an agent has no connection to its manager.
    #[must_use]
    pub fn wait_file(&self) -> PathBuf {
        self.queue.with_file_name(".wait")
    }

    /// The configuration file of a manager or agent before, and an agent from, Wazuh 5.
    #[must_use]
    pub fn ossec_conf(&self) -> PathBuf {
        self.path.join("etc/ossec.conf")
    }

    /// Whether Wazuh is older than version 5; where no version is told, that is assumed: all of Wazuh 5
    /// tell theirs.
    #[must_use]
    pub fn before_wazuh_5(&self) -> bool {
        self.major_version.is_none_or(|major| major < 5)
    }

    /// The process that reads the queue, as far as its pid file tells.
    ///
    /// Pid files of killed processes stay behind, so only one whose process lives counts, and the
    /// newest of these (another process may have been given the pid of an old one).
    #[must_use]
    pub fn reader_process(&self) -> Option<Process> {
        let prefixes: &[&str] = match self.role {
            Role::Manager => &["wazuh-analysisd-", "ossec-analysisd-"],
            Role::Agent => &["wazuh-agentd-", "ossec-agentd-"],
            Role::Unknown => &[
                "wazuh-analysisd-",
                "wazuh-agentd-",
                "ossec-analysisd-",
                "ossec-agentd-",
            ],
        };
        living_process(&self.path, prefixes)
    }

    /// The living process that runs Wazuh's modules, the built-in `office365` among them.
    #[must_use]
    pub fn modules_process(&self) -> Option<Process> {
        living_process(&self.path, &["wazuh-modulesd-"])
    }
}

/// The first of `names` below `home` that exists, else the first, which is the newest spelling.
fn first_that_exists(home: &Path, names: &[&str]) -> PathBuf {
    let mut paths = names.iter().map(|name| home.join(name));
    let newest = paths.clone().next().unwrap_or_default();
    paths.find(|path| path.exists()).unwrap_or(newest)
}

fn find_queue(home: &Path) -> PathBuf {
    first_that_exists(home, &["queue/sockets/queue", "queue/ossec/queue"])
}

fn is_manager_5(home: &Path) -> bool {
    home.join("queue/sockets/queue-http.sock").exists()
        || home.join("etc/wazuh-manager.conf").exists()
}

/// The installed program decides; sockets and state files of a Wazuh that was removed stay behind.
fn find_role(home: &Path) -> Role {
    let exists = |names: &[&str]| names.iter().any(|name| home.join(name).exists());
    if exists(&["bin/wazuh-analysisd", "bin/ossec-analysisd"]) {
        Role::Manager
    } else if exists(&["bin/wazuh-agentd", "bin/ossec-agentd"]) {
        Role::Agent
    } else if living_process(home, &["wazuh-analysisd-", "ossec-analysisd-"]).is_some() {
        Role::Manager
    } else if living_process(home, &["wazuh-agentd-", "ossec-agentd-"]).is_some() {
        Role::Agent
    } else if exists(&["queue/sockets/analysis"]) {
        Role::Manager
    } else if exists(&[
        "var/run/wazuh-agentd.state",
        "var/run/ossec-agentd.state",
        "queue/sockets/agent",
    ]) {
        Role::Agent
    } else {
        Role::Unknown
    }
}

/// `VERSION.json` in the home of newer versions; nothing else there tells a version.
fn find_major_version(home: &Path) -> Option<u32> {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let text = file::read(&home.join("VERSION.json"), file::LARGEST).ok()?;
    let version: Version = serde_json::from_slice(&text).ok()?;
    let number = version.version.trim_start_matches('v');
    number.split('.').next()?.parse().ok()
}

/// The living process with the newest pid file `var/run/PREFIX<pid>.pid`.
fn living_process(home: &Path, prefixes: &[&str]) -> Option<Process> {
    let mut newest: Option<(SystemTime, Process)> = None;
    for entry in fs::read_dir(home.join("var/run")).ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|name| name.strip_suffix(".pid"))
            .and_then(|name| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)))
            .and_then(|pid| pid.parse().ok())
        else {
            continue;
        };
        let (Some(start), Ok(written)) = (
            start_of(pid),
            entry.metadata().and_then(|file| file.modified()),
        ) else {
            continue;
        };
        if newest.is_none_or(|(time, _)| time <= written) {
            newest = Some((written, Process { pid, start }));
        }
    }
    newest.map(|(_, process)| process)
}

/// The start time of a living process; a zombie reads no socket any more.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name, may hold blanks and parentheses itself.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // The state is field 3, the start time field 22.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::EventsPerSecond;
    use std::time::Duration;

    fn config(home: &Path) -> config::Wazuh {
        config::Wazuh {
            home: home.to_owned(),
            queue: None,
            location: "office365".to_owned(),
            events_per_second: EventsPerSecond::Auto,
            acknowledge: true,
            send_timeout: Duration::from_mins(1),
            annotate: None,
            flatten: false,
        }
    }

    fn home_with(files: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for file in files {
            let file = home.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        home
    }

    #[test]
    fn role_and_queue_are_found_on_every_version() {
        for (files, role, queue) in [
            (
                &["bin/wazuh-analysisd", "queue/sockets/queue"][..],
                Role::Manager,
                "queue/sockets/queue",
            ),
            (
                &["bin/ossec-analysisd", "queue/ossec/queue"],
                Role::Manager,
                "queue/ossec/queue",
            ),
            (
                &["bin/ossec-agentd", "queue/ossec/queue"],
                Role::Agent,
                "queue/ossec/queue",
            ),
            // A manager was removed and an agent installed in its place.
            (
                &[
                    "bin/wazuh-agentd",
                    "queue/sockets/analysis",
                    "queue/sockets/queue",
                    "queue/ossec/queue",
                ],
                Role::Agent,
                "queue/sockets/queue",
            ),
            (
                &["queue/sockets/analysis"],
                Role::Manager,
                "queue/sockets/queue",
            ),
            (
                &["var/run/wazuh-agentd.state"],
                Role::Agent,
                "queue/sockets/queue",
            ),
            (&[], Role::Unknown, "queue/sockets/queue"),
        ] {
            let dir = home_with(files);
            let home = Home::find(&config(dir.path())).unwrap();
            assert_eq!(home.role(), role, "{files:?}");
            assert_eq!(home.queue(), dir.path().join(queue), "{files:?}");
        }
    }

    #[test]
    fn a_configured_queue_is_taken_as_it_is() {
        let dir = home_with(&["queue/sockets/queue"]);
        let mut config = config(dir.path());
        config.queue = Some(PathBuf::from("/elsewhere/queue"));
        let home = Home::find(&config).unwrap();
        assert_eq!(home.queue(), Path::new("/elsewhere/queue"));
        assert_eq!(home.wait_file(), Path::new("/elsewhere/.wait"));
    }

    #[test]
    fn a_manager_of_wazuh_5_is_refused_with_the_cure() {
        for mark in ["queue/sockets/queue-http.sock", "etc/wazuh-manager.conf"] {
            let dir = home_with(&[mark]);
            let error = Home::find(&config(dir.path())).unwrap_err();
            assert!(matches!(&error, Error::Configuration(text) if text.contains("agent")));
        }
    }

    #[test]
    fn the_version_decides_about_annotations() {
        for (text, before_5) in [
            (r#"{"version":"4.14.7","stage":"rc1"}"#, true),
            (r#"{"version":"5.0.0"}"#, false),
            ("broken", true),
        ] {
            let dir = home_with(&["bin/wazuh-agentd"]);
            fs::write(dir.path().join("VERSION.json"), text).unwrap();
            let home = Home::find(&config(dir.path())).unwrap();
            assert_eq!(home.before_wazuh_5(), before_5, "{text}");
        }
    }

    #[test]
    fn the_reader_is_the_living_process_and_not_a_stale_pid_file() {
        let me = std::process::id();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let dir = home_with(&[
            &format!("var/run/wazuh-analysisd-{}.pid", gone.id()),
            "var/run/wazuh-analysisd-x.pid",
            "var/run/wazuh-remoted-1.pid",
            "bin/wazuh-analysisd",
        ]);
        let home = Home::find(&config(dir.path())).unwrap();
        assert_eq!(home.reader_process(), None);
        let file = dir.path().join(format!("var/run/wazuh-analysisd-{me}.pid"));
        fs::write(file, "").unwrap();
        let process = home.reader_process().unwrap();
        assert_eq!(process.pid, me);
        assert!(process.start > 0);
    }
}
