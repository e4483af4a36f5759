//! What is on this host: configuration, ledger, Wazuh.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, io, iter};

use chrono::{DateTime, Utc};
use rustix::io::Errno;

use super::finding::{Chain, Outcome};
use super::probes::{self, Probe, Said};
use super::test_event;
use crate::cli::DEFAULT_CONFIG;
use crate::command::names;
use crate::command::run::are_gone;
use crate::config::ownership::may_write;
use crate::config::{Settings, Tenant};
use crate::ledger::{Fault, Ledger, lock_file};
use crate::logging;
use crate::wazuh::{Acknowledgement, Home, Queue, Role, Told, native, ossec_conf};

/// Where systemd's timer is, once it is enabled.
const TIMER: &str = "/etc/systemd/system/timers.target.wants/o365-wodle.timer";
/// A queue that has no room for so long is not read.
const READS_WITHIN: Duration = Duration::from_secs(1);
/// With less space than this a commit may fail.
const FULL: u64 = 1_000_000;
/// Less space than this for the ledger is worth knowing.
const ROOM: u64 = 500_000_000;

/// What needs the configuration, in order.
const BEHIND_CONFIGURATION: &[&Probe] = &[
    &probes::LEDGER,
    &probes::QUEUE,
    &probes::ACKNOWLEDGEMENT,
    &probes::SCHEDULER,
];

/// The configuration, if it can be used.
pub(super) fn configuration(path: &Path, now: DateTime<Utc>) -> (Chain, Option<Settings>) {
    let mut chain = Chain::here();
    let settings = match Settings::check_but_credentials(path) {
        Ok(settings) => {
            let tenants = match settings.tenants.len() {
                1 => "1 tenant".to_owned(),
                count => format!("{count} tenants"),
            };
            let disabled = settings.tenants.iter().filter(|tenant| !tenant.enabled);
            let disabled = match disabled.count() {
                0 => String::new(),
                count => format!(" ({count} with `enabled = false`)"),
            };
            let file = path.display();
            // What is wrong with the ledger is found elsewhere.
            let outcome = if are_gone(&settings, now).unwrap_or_default() {
                Outcome::Failed(probes::TENANTS_GONE.with(&[("file", &file)]))
            } else {
                Outcome::Ok(format!(
                    "{file}: {tenants}{disabled}; owners and modes are right"
                ))
            };
            chain.add(&probes::CONFIGURATION, outcome);
            Some(settings)
        }
        Err(problems) => {
            for problem in problems {
                let outcome = Outcome::Failed(problem.in_place().into());
                chain.link(&probes::CONFIGURATION, outcome);
            }
            None
        }
    };
    chain.skip_what_is_left(BEHIND_CONFIGURATION);
    (chain, settings)
}

/// Wazuh: its queue and what it says there, what starts us, and who else collects.
pub(super) fn wazuh(
    config: &Path,
    settings: &Settings,
    tenants: &[Arc<Tenant>],
    sends_test: bool,
) -> Vec<Chain> {
    let mut queue = Chain::here();
    let home = match Home::find(&settings.wazuh) {
        Ok(home) => home,
        Err(error) => {
            queue.link(&probes::QUEUE, Outcome::failed_sentence(&error.to_string()));
            queue.skip_what_is_left(BEHIND_CONFIGURATION.get(1..).unwrap_or_default());
            return vec![queue];
        }
    };
    match Queue::connect(home.queue()) {
        Ok(open) => {
            queue.link(&probes::QUEUE, room(&open, &home, settings));
            queue.link(&probes::ACKNOWLEDGEMENT, acknowledgement(settings, &home));
            if sends_test && queue.holds() {
                let outcome = test_event::send(&open, &home, settings, tenants);
                queue.link(&probes::TEST_EVENT, outcome);
            }
        }
        Err(fault) => queue.link(&probes::QUEUE, Outcome::failed_sentence(&fault.to_string())),
    }
    queue.skip_what_is_left(&[&probes::ACKNOWLEDGEMENT]);
    if sends_test {
        queue.skip_what_is_left(&[&probes::TEST_EVENT]);
    }
    let mut others = Chain::here();
    others.add(
        &probes::SCHEDULER,
        scheduler(config, settings, &home, Path::new(TIMER), &is_timer_stopped),
    );
    if let Some(outcome) = native(&home, tenants) {
        others.add(&probes::BUILT_IN, outcome);
    }
    vec![queue, others]
}

/// Whether Wazuh takes what is sent: now, and in the last run.
fn room(open: &Queue, home: &Home, settings: &Settings) -> Outcome {
    let queue = home.queue().display();
    if !open.has_room(READS_WITHIN) {
        return Outcome::Failed(probes::QUEUE_FULL.with(&[("queue", &queue)]));
    }
    // What is wrong with the ledger is found elsewhere.
    let ledger = Ledger::read(&settings.state.ledger).ok().flatten();
    if let Some((since, why)) = ledger.and_then(|ledger| ledger.held().ok().flatten()) {
        let (since, why) = (since.format("%F %T"), why.trim_end_matches('.'));
        let values: [(&str, &dyn Display); 3] =
            [("queue", &queue), ("since", &since), ("why", &why)];
        return Outcome::Note(probes::WAS_HELD.with(&values));
    }
    let role = match home.role() {
        Role::Manager => "a Wazuh manager",
        Role::Agent => "a Wazuh agent",
        Role::Unknown => "somebody",
    };
    Outcome::Ok(format!("{queue}: {role} reads it"))
}

/// The file, what it holds, and the room that it has.
pub(super) fn ledger(settings: &Settings) -> Chain {
    let mut chain = Chain::here();
    chain.add(&probes::LEDGER, judge_ledger(&settings.state.ledger));
    chain
}

/// What keeps the log from being written, if anything does.
pub(super) fn log(settings: &Settings) -> Option<Chain> {
    let path = settings.log.file.as_ref()?;
    let why = logging::open(path).err()?;
    let said = probes::NO_LOG.with(&[("file", &path.display()), ("why", &why)]);
    let mut chain = Chain::here();
    chain.add(&probes::LOG, Outcome::Note(said));
    Some(chain)
}

/// What keeps the figures for Prometheus from being written, if anything does.
pub(super) fn metrics(settings: &Settings) -> Option<Chain> {
    let path = settings.metrics.textfile.as_ref()?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let why = if path.is_dir() {
        Errno::ISDIR
    } else {
        may_write(folder).err()?
    };
    let why = std::io::Error::from(why);
    let said = probes::NO_METRICS.with(&[("file", &path.display()), ("why", &why)]);
    let mut chain = Chain::here();
    chain.add(&probes::METRICS, Outcome::Note(said));
    Some(chain)
}

fn judge_ledger(path: &Path) -> Outcome {
    let file = path.display();
    let folder = path.parent().unwrap_or(Path::new("."));
    let shown = folder.display();
    if !folder.is_dir() {
        return Outcome::Failed(probes::NO_FOLDER.with(&[("folder", &shown)]));
    }
    let lock = lock_file(path);
    for (needed, named) in [(folder, path), (path, path), (&lock, &lock)] {
        if let Err(error) = may_write(needed)
            && error != rustix::io::Errno::NOENT
        {
            let (file, why) = (named.display(), std::io::Error::from(error));
            return Outcome::Failed(probes::READ_ONLY.with(&[("file", &file), ("why", &why)]));
        }
    }
    let free = rustix::fs::statvfs(folder).map(|space| space.f_bavail * space.f_frsize);
    if free.is_ok_and(|free| free < FULL) {
        return Outcome::Failed(probes::DISK_FULL.with(&[("file", &file), ("folder", &shown)]));
    }
    let read = Ledger::read(path).and_then(|ledger| ledger.map_or(Ok(()), |ledger| ledger.check()));
    match read {
        Ok(()) => {}
        Err(Fault::Corrupt(why)) => {
            return Outcome::Failed(probes::DAMAGED.with(&[("file", &file), ("why", &why)]));
        }
        Err(fault) => return Outcome::failed_sentence(&fault.to_string()),
    }
    match free {
        Ok(free) if free < ROOM => Outcome::Note(probes::LITTLE_ROOM.with(&[
            ("file", &file),
            ("free", &(free / 1_000_000)),
            ("folder", &shown),
        ])),
        _ if path.exists() => Outcome::Ok(format!("{file}: readable, writable, intact")),
        _ => Outcome::Ok(format!("{file}: the first run makes it")),
    }
}

fn acknowledgement(settings: &Settings, home: &Home) -> Outcome {
    if !settings.wazuh.acknowledge {
        return Outcome::Note(probes::ACKNOWLEDGE_OFF.with(&[]));
    }
    match Acknowledgement::new(home, &settings.wazuh).describe() {
        Told::Confirms => Outcome::Ok("the manager confirms what it has processed".to_owned()),
        Told::Forwards(Some(true)) => {
            Outcome::Ok("the agent is connected to its manager".to_owned())
        }
        Told::Forwards(Some(false)) => Outcome::Failed(probes::AGENT_OFFLINE.with(&[])),
        Told::Forwards(None) => Outcome::Note(probes::AGENT_SILENT.with(&[])),
        Told::Silent => {
            let socket = home.statistics_socket();
            Outcome::Note(probes::MANAGER_SILENT.with(&[("socket", &socket.display())]))
        }
        Told::Nothing => {
            let socket = home.statistics_socket();
            Outcome::Note(probes::NOBODY_TELLS.with(&[("socket", &socket.display())]))
        }
    }
}

/// Wazuh's block that starts us.
struct Block {
    command: String,
    is_disabled: bool,
    timeout: Option<u64>,
}

/// Whether systemd knows the timer and does not run it; false where nobody can say.
fn is_timer_stopped() -> bool {
    /// What `is-active` answers then.
    const INACTIVE: i32 = 3;
    let ask = || {
        Command::new("systemctl")
            .args(["--quiet", "is-active", "o365-wodle.timer"])
            .stderr(Stdio::null())
            .status()
    };
    Path::new("/run/systemd/system").is_dir()
        && ask().is_ok_and(|status| status.code() == Some(INACTIVE))
}

/// `timer` is where systemd's would be enabled.
fn scheduler(
    config: &Path,
    settings: &Settings,
    home: &Home,
    timer: &Path,
    is_stopped: &dyn Fn() -> bool,
) -> Outcome {
    let path = home.ossec_conf();
    let file = path.display();
    let text = match ossec_conf::text(&path) {
        Ok(text) => text,
        Err(why) => {
            return Outcome::Note(probes::CONF_UNREADABLE.with(&[("file", &file), ("why", &why)]));
        }
    };
    let blocks = ossec_conf::read(&text, |all| {
        all.descendants()
            .filter(|node| ossec_conf::is_ours(*node))
            .map(|node| Block {
                command: ossec_conf::child(node, "command")
                    .unwrap_or_default()
                    .into_owned(),
                is_disabled: ossec_conf::child(node, "disabled").as_deref() == Some("yes"),
                timeout: ossec_conf::child(node, "timeout")
                    .and_then(|timeout| timeout.parse().ok()),
            })
            .collect::<Vec<_>>()
    });
    let deadline = settings.collect.deadline.as_secs();
    let said = match blocks.as_deref() {
        Err(fault) => {
            let why = ossec_conf::why(fault);
            probes::CONF_BROKEN.with(&[("file", &file), ("why", &why)])
        }
        Ok([]) if timer.is_symlink() && is_stopped() => probes::TIMER_STOPPED.with(&[]),
        Ok([]) if timer.is_symlink() => {
            return Outcome::Ok("systemd's timer starts collections".to_owned());
        }
        Ok([]) => probes::NO_BLOCK.with(&[("file", &file)]),
        Ok([block]) if block.is_disabled => probes::BLOCK_DISABLED.with(&[("file", &file)]),
        Ok(
            [
                Block {
                    timeout: Some(timeout),
                    ..
                },
            ],
        ) if (1..=deadline).contains(timeout) => probes::TIMEOUT_TOO_LOW.with(&[
            ("file", &file),
            ("timeout", timeout),
            ("deadline", &deadline),
            ("enough", &(deadline + 50)),
        ]),
        Ok([block]) => match in_vain(&block.command, config, &path) {
            Some(said) => said,
            None => return Outcome::Ok(format!("{file}: Wazuh starts collections")),
        },
        Ok(more) => probes::TOO_MANY_BLOCKS.with(&[("file", &file), ("count", &more.len())]),
    };
    Outcome::Failed(said)
}

/// Why a block's command starts no collection of this configuration, as far as can be seen from here: what is quoted,
/// looked for in Wazuh's `PATH` or relative to its working directory, or not to be seen by this user, is believed.
fn in_vain(command: &str, config: &Path, file: &Path) -> Option<Said> {
    if command.contains(['"', '\'', '\\']) {
        return None;
    }
    let words: Vec<&str> = command.split_whitespace().collect();
    let (first, others) = words.split_first()?;
    // Behind `setpriv` and its like.
    let ours = others
        .iter()
        .filter(|word| Path::new(word).file_name() == Some("o365-wodle".as_ref()));
    let programs = iter::once(first).chain(ours);
    let mut programs = programs.filter(|program| Path::new(program).is_absolute());
    if let Some(program) = programs.find(|program| is_no_file(Path::new(program))) {
        return Some(probes::NO_PROGRAM.with(&[("file", &file.display()), ("program", program)]));
    }
    let named = words.iter().enumerate().find_map(|(at, word)| {
        word.strip_prefix("--config=")
            .or_else(|| word.strip_prefix("O365_WODLE_CONFIG="))
            .or_else(|| (*word == "--config").then(|| words.get(at + 1).copied())?)
    });
    let theirs = match (named, env::var_os("O365_WODLE_CONFIG")) {
        (Some(named), _) => PathBuf::from(named),
        // Perhaps Wazuh's environment has it too.
        (None, Some(_)) => return None,
        (None, None) => PathBuf::from(DEFAULT_CONFIG),
    };
    let is_other = match (theirs.canonicalize(), config.canonicalize()) {
        (Ok(theirs), Ok(ours)) => theirs != ours,
        (Err(error), Ok(_)) => theirs.is_absolute() && is_absent(&error),
        _ => false,
    };
    is_other.then(|| {
        probes::OTHER_CONFIGURATION.with(&[
            ("file", &file.display()),
            ("theirs", &theirs.display()),
            (
                "ours",
                &std::path::absolute(config)
                    .unwrap_or_else(|_| config.to_owned())
                    .display(),
            ),
        ])
    })
}

fn is_no_file(path: &Path) -> bool {
    match path.metadata() {
        Ok(metadata) => !metadata.is_file(),
        Err(error) => is_absent(&error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The built-in module, where it collects the same tenants.
fn native(home: &Home, tenants: &[Arc<Tenant>]) -> Option<Outcome> {
    let collected = native::collected(home);
    let both: Vec<&str> = tenants
        .iter()
        .filter(|tenant| collected.contains(&tenant.tenant_id))
        .map(|tenant| tenant.name.as_str())
        .collect();
    if both.is_empty() {
        return None;
    }
    Some(Outcome::Failed(probes::COLLECTED_TWICE.with(&[
        ("tenants", &names(&both)),
        ("file", &home.ossec_conf().display()),
    ])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::*;

    #[test]
    fn the_timer_of_systemd_starts_collections_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("etc")).unwrap();
        fs::write(path("etc/ossec.conf"), "<ossec_config></ossec_config>").unwrap();
        fs::write(
            path("config.toml"),
            format!("[wazuh]\nhome = {:?}\n", folder.path()),
        )
        .unwrap();
        let settings = Settings::load(&path("config.toml")).unwrap();
        let home = Home::find(&settings.wazuh).unwrap();
        let timer = path("o365-wodle.timer");
        let found_if = |is_stopped: bool| {
            let config = path("config.toml");
            scheduler(&config, &settings, &home, &timer, &|| is_stopped)
        };
        let found = || found_if(false);
        assert!(matches!(found(), Outcome::Failed(_)));
        std::os::unix::fs::symlink("/usr/lib/systemd/system/o365-wodle.timer", &timer).unwrap();
        assert!(matches!(found(), Outcome::Ok(_)));
        assert!(matches!(found_if(true), Outcome::Failed(_)));
    }
}
