//! What keeps others on the host, and whoever writes records, from more than is theirs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use chrono::TimeDelta;
use simulator::microsoft::{Action, Foreign, Operation, Options, Plan, Rule};

use crate::world::World;

#[test]
fn neither_ledger_nor_log_holds_anything_of_a_record() {
    const CANARY: &str = "canary-9d1c0de7";
    let mut world = World::with_tenants(1, Options::default());
    world.set("log", "level", "\"trace\"");
    world.set("http", "retries", "0");
    let id = world.id(0);
    let created = world.microsoft.now() - TimeDelta::minutes(5);
    let record = format!(
        r#"{{"Id":"{CANARY}","RecordType":2,"Operation":"{CANARY}","UserId":"{CANARY}","\ud800":"{CANARY}"}}"#
    );
    let oversize = format!(r#"{{"Id":"1","a":"{}"}}"#, CANARY.repeat(9_000));
    for body in [
        format!("[{record},{oversize}]"),
        format!(r#"[{record},"{CANARY}",{{"Id":"{CANARY}":1}}]"#),
        format!(r#"[{record}{{"{CANARY}":1}}]"#),
        record.clone(),
    ] {
        world
            .microsoft
            .issue_raw(&id, "Audit.Exchange", body, created);
    }
    for _ in 0..4 {
        world.run(&["-vv", "run"]);
    }
    assert!(world.sum("damaged") > 0 && world.sum("failed") > 0);
    let sent = world.queue.received().concat();
    assert!(contains(&sent, CANARY), "the harness: it was sent");
    for file in ["ledger.db", "ledger.db-wal", "log"] {
        let bytes = fs::read(world.folder.path().join(file)).unwrap_or_default();
        assert!(!contains(&bytes, CANARY), "{file}: {}", world.log());
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Only a build for the campaign listens.
#[test]
#[cfg(not(feature = "teeth"))]
fn no_environment_switches_a_safety_off() {
    let foreign = Foreign::start().unwrap();
    let mut world = World::with_tenants(1, Options::default());
    world.issue(0, "Audit.Exchange", 2, TimeDelta::minutes(5));
    let elsewhere = Action::ForeignContentUri(foreign.url().to_owned());
    let rule = Rule::on(Operation::Content, elsewhere);
    world.microsoft.faults(Plan::new(1).rule(rule));
    let mut command = world.command(&["run"]);
    let output = command.env("O365_WODLE_TEETH", "host").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", world.log());
    assert_eq!(foreign.connections(), 0);
}

#[test]
fn too_few_descriptors_are_an_error_with_a_cure() {
    let mut world = World::with_tenants(1, Options::default());
    world.set("http", "retries", "0");
    let limited = |limit: u32, arguments: &[&str]| {
        let script = format!("ulimit -n {limit} && exec \"$@\"");
        let mut command = world.command_under(&["sh", "-c", &script, "sh"], arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let mut cured = 0;
    for limit in 8..28 {
        for arguments in [&["run"][..], &["subscriptions", "list"]] {
            let (code, said) = limited(limit, arguments);
            assert_ne!(code, Some(101), "{limit} {arguments:?}: {said}");
            if said.contains("no event loop can be started") {
                assert_eq!(code, Some(75), "{said}");
                assert!(said.contains("ulimit -n"), "{said}");
                cured += 1;
            }
        }
    }
    assert!(cured > 0);
}

/// Who may write in the log's folder could lead root's lines, and the group that it gives the file,
/// to any other file.
#[test]
fn a_log_file_that_is_a_link_is_not_followed() {
    let world = World::with_tenants(1, Options::default());
    let elsewhere = world.folder.path().join("elsewhere");
    fs::write(&elsewhere, "as it was").unwrap();
    symlink(&elsewhere, world.folder.path().join("log")).unwrap();
    let output = world.run(&["-v", "run"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the log file cannot be written"), "{said}");
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "as it was");
}

#[test]
fn a_log_file_that_is_a_pipe_without_reader_holds_nothing_up() {
    let world = World::with_tenants(1, Options::default());
    let pipe = Command::new("mkfifo")
        .arg(world.folder.path().join("log"))
        .status();
    assert!(pipe.unwrap().success());
    let output = world.run(&["-v", "run"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the log file cannot be written"), "{said}");
}

/// A user and a group that the system knows nothing of: who they are does not count.
const USER: u32 = 64_301;
const WAZUH: u32 = 64_302;

/// integration/README.md, *With less than root*: the configuration is root's, the secrets, ledger and
/// log are the user's, and Wazuh's group opens the way to its sockets.
#[test]
fn a_user_of_its_own_in_wazuhs_group_is_enough() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut world = World::with_tenants(2, Options::default());
    let folder = world.folder.path().to_owned();
    world.ledger = folder.join("state/ledger.db");
    world.issue_everywhere(2, 3);
    world.configure();
    let program = world.copy_of_binary();
    owned(&folder, 0, WAZUH, 0o750);
    owned(&world.config(), 0, WAZUH, 0o640);
    owned(&folder.join("tenants.d"), 0, WAZUH, 0o750);
    for name in ["tenants.d/tenant-1.toml", "tenants.d/tenant-2.toml"] {
        owned(&folder.join(name), 0, WAZUH, 0o640);
    }
    owned(&folder.join("secrets"), USER, USER, 0o750);
    for name in ["secrets/tenant-1", "secrets/tenant-2"] {
        owned(&folder.join(name), USER, USER, 0o600);
    }
    fs::create_dir(folder.join("state")).unwrap();
    owned(&folder.join("state"), USER, USER, 0o750);
    fs::write(folder.join("log"), "").unwrap();
    owned(&folder.join("log"), USER, USER, 0o640);
    owned(&world.home(), 0, WAZUH, 0o750);
    let queue = world.home().join("queue/sockets/queue");
    for place in queue.ancestors().skip(1).take(2) {
        owned(place, 0, WAZUH, 0o770);
    }
    owned(&queue, 0, WAZUH, 0o660);

    let run = |groups: &str| {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={USER}"))
            .arg(format!("--regid={USER}"))
            .arg(groups)
            .args(["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"])
            .arg(&program)
            .arg("--config")
            .arg(world.config())
            .args(["run"]);
        command.output().unwrap()
    };
    let output = run("--clear-groups");
    assert_eq!(output.status.code(), Some(78), "the harness: {output:?}");
    let output = run(&format!("--groups={WAZUH}"));
    assert_eq!(output.status.code(), Some(0), "{output:?} {}", world.log());
    world.assert_clean();
    let ledger = fs::metadata(world.ledger()).unwrap();
    assert_eq!((ledger.uid(), ledger.mode() & 0o777), (USER, 0o600));
}

fn owned(path: &Path, user: u32, group: u32, mode: u32) {
    chown(path, Some(user), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_limit_on_the_size_of_files_is_as_a_full_disk() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_small(0, "Audit.Exchange", 20, TimeDelta::minutes(5));
    // 16 blocks of 512 bytes or 1 KiB, by the shell.
    let limited = ["sh", "-c", "ulimit -f 16; exec \"$0\" \"$@\""];
    let output = world.command_under(&limited, &["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", world.log());
    world.run_expecting(0, &[]);
    world.assert_clean();
}
