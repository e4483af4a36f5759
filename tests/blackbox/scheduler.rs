//! Life under Wazuh's scheduler: started and stopped as `wazuh-modulesd` does it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use simulator::microsoft::{Action, Operation, Options, Plan, Rule};

use crate::world::World;

const SOON: Duration = Duration::from_mins(1);

/// A session of its own, nice 10, no environment, no standard input, SIGPIPE ignored; what is
/// standard error here leaks into the program as descriptor 7.
fn script(umask: &str) -> String {
    format!(
        "trap '' PIPE; umask {umask}; exec 7>&2 2>/dev/null 0<&-; \
         exec nice -n 10 setsid env -i \"$@\""
    )
}

fn scheduled(world: &World, umask: &str) -> Command {
    let script = script(umask);
    let mut command = world.command_under(&["sh", "-c", &script, "sh"], &["run"]);
    command.current_dir(world.home());
    command
}

/// A run that the scheduler starts and that ends by itself.
fn run(world: &World, umask: &str) {
    let output = scheduled(world, umask).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", world.log());
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}

/// A signal to the child's process group.
fn signal(child: &Child, name: &str) {
    let group = format!("-{}", child.id());
    let sent = Command::new("kill")
        .args(["-s", name, "--", &group])
        .status();
    assert!(sent.unwrap().success());
}

/// Two tenants, of which Microsoft leaves the second without an answer.
fn world() -> World {
    let mut world = World::with_tenants(2, Options::default());
    world.set("http", "request_timeout", "\"2m\"");
    for blob in 0..6 {
        world.issue_small(0, "Audit.Exchange", 3, TimeDelta::minutes(blob + 1));
        world.issue_small(1, "DLP.All", 3, TimeDelta::minutes(blob + 1));
    }
    let stalls = Rule::on(Operation::Blob, Action::StallBeforeHeaders).tenant(&world.id(1));
    world.microsoft.faults(Plan::default().rule(stalls));
    world
}

/// Starts a run that hangs at its second tenant, and waits until it does.
fn start_and_hang(world: &World) -> Child {
    let (mut leak, end) = std::io::pipe().unwrap();
    let mut child = scheduled(world, "0027").stderr(end).spawn().unwrap();
    // The other end is closed by the program alone, or by its death.
    assert_eq!(leak.read(&mut [0]).unwrap(), 0);
    assert!(child.try_wait().unwrap().is_none(), "{}", world.log());
    assert!(world.queue.wait_for(18, SOON), "{}", world.log());
    let id = world.id(1);
    let is_hanging = world.microsoft.wait_for(SOON, |requests| {
        let mut blobs = requests
            .iter()
            .filter(|request| request.operation == Operation::Blob);
        blobs.any(|request| request.tenant == id)
    });
    assert!(is_hanging, "{}", world.log());
    child
}

/// Two fields of a process's `stat`.
fn session_and_niceness(stat: &str) -> (i64, i64) {
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
    (fields[4].parse().unwrap(), fields[17].parse().unwrap())
}

#[test]
fn a_run_starts_and_stops_as_the_scheduler_wants() {
    let mut world = world();
    let mut child = start_and_hang(&world);

    let process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    let (session, niceness) = session_and_niceness(&process("stat"));
    let (_, own) = session_and_niceness(&fs::read_to_string("/proc/self/stat").unwrap());
    assert_eq!(
        (session, niceness),
        (i64::from(child.id()), (own + 10).min(19)),
        "the harness: session and niceness"
    );
    assert_eq!(process("environ"), "", "the harness: environment");

    let begin = Instant::now();
    signal(&child, "TERM");
    let status = child.wait().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", world.log());
    let mut printed = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "");

    world.microsoft.faults(Plan::default());
    run(&world, "0027");
    world.assert_clean();
}

#[test]
fn a_wazuh_restart_that_kills_the_run_loses_nothing() {
    let mut world = world();
    let mut child = start_and_hang(&world);
    signal(&child, "KILL");
    assert_eq!(child.wait().unwrap().code(), None);
    world.microsoft.faults(Plan::default());
    run(&world, "0027");
    let verdict = world.verdict();
    assert!(verdict.missing.is_empty(), "{verdict}");
}

#[test]
fn files_have_their_modes_under_any_umask() {
    for umask in ["0", "0027", "0177"] {
        let world = World::with_tenants(1, Options::default());
        run(&world, umask);
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let log = world.folder.path().join("log");
        assert_eq!((mode(log), mode(world.ledger())), (0o640, 0o600), "{umask}");
    }
}

#[test]
fn the_built_in_module_beside_us_is_told_of_once_a_day() {
    let world = World::with_tenants(2, Options::default());
    fs::create_dir_all(world.home().join("etc")).unwrap();
    let conf = format!(
        "<ossec_config><office365><enabled>yes</enabled><api_auth><tenant_id>{}</tenant_id>\
         </api_auth></office365></ossec_config>\n<ossec_config></ossec_config>",
        world.id(1).to_uppercase()
    );
    fs::write(world.home().join("etc/ossec.conf"), conf).unwrap();
    // Not again where the test meets a midnight, but for that one.
    let day = chrono::Utc::now().date_naive();
    run(&world, "0027");
    run(&world, "0027");
    let days = 1 + usize::from(chrono::Utc::now().date_naive() != day);
    let log = world.log();
    let said = log.matches("comes twice: tenant-2.").count();
    assert!((1..=days).contains(&said), "{log}");
}

#[test]
fn a_manager_of_wazuh_5_is_refused_with_the_cure() {
    let world = World::with_tenants(1, Options::default());
    fs::create_dir_all(world.home().join("etc")).unwrap();
    fs::write(world.home().join("etc/wazuh-manager.conf"), "").unwrap();
    let output = world.run_expecting(78, &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Wazuh agent"));
    assert_eq!(world.microsoft.request_count(), 0);
}
