//! What `doctor` says first in worlds each of which is broken in one place.
//!
//! | where | worlds |
//! | --- | --- |
//! | `refused` | wrong cloud, wrong or expired secret, a secret's ID, swapped ids, no such app, no consent, only delegated, no ReadDlp, no audit log, throttled |
//! | `network` | no name, refused, TLS opened on the way, a proxy that refuses, a wrong clock |
//! | `host` | ledger read-only, damaged, disk full; queue missing, not writable, without reader; agent offline; the scheduler's block; an expired certificate |

mod host;
mod network;
mod refused;

use std::fs;
use std::process::Output;

use chrono::TimeDelta;
use serde_json::Value;
use simulator::microsoft::{Action, Operation, Options, Plan, Rule};
use simulator::wazuh::{Agent, AgentSettings, Manager, Settings, StateSource};

use crate::world::{World, write};

/// The block that starts us, as it is installed.
const BLOCK: &str = include_str!("../../../integration/ossec.conf");

/// A world in which all is well: a manager without statistics whose scheduler starts us.
fn world(options: Options) -> World {
    let mut world = World::with_tenants(1, options);
    let id = world.id(0);
    world.microsoft.subscribe_all(&id);
    world.issue_small(0, "Audit.Exchange", 2, TimeDelta::minutes(5));
    ossec_conf(&world, BLOCK);
    world
}

/// What a block starts there.
fn command(world: &World) -> String {
    let (binary, config) = (world.binary.display(), world.config());
    format!("{binary} --config {} run", config.display())
}

/// The block's command becomes one of this world.
fn ossec_conf(world: &World, block: &str) {
    fs::create_dir_all(world.home().join("etc")).unwrap();
    let block = block.replace("/usr/bin/o365-wodle run", &command(world));
    let text = format!("<ossec_config>\n{block}</ossec_config>\n<ossec_config/>\n");
    fs::write(world.home().join("etc/ossec.conf"), text).unwrap();
}

/// Replaces a line of the tenant's file that the world wrote.
fn edit(world: &World, key: &str, value: &str) {
    world.configure();
    let file = world.folder.path().join("tenants.d/tenant-1.toml");
    let lines: Vec<String> = fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| {
            if line.starts_with(&format!("{key} =")) {
                format!("{key} = {value:?}")
            } else {
                line.to_owned()
            }
        })
        .collect();
    write(&file, &lines.join("\n"), 0o640);
}

fn findings(output: &Output) -> Vec<Value> {
    let mut report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(report["version"], 1);
    serde_json::from_value(report["findings"].take()).unwrap()
}

/// Holds what is seen against a pattern in which `*` stands for what differs from run to run.
fn fits(seen: &str, pattern: &str) -> bool {
    let mut rest = seen;
    let mut parts = pattern.split('*');
    let Some(begin) = parts.next().filter(|begin| rest.starts_with(begin)) else {
        return false;
    };
    rest = &rest[begin.len()..];
    let mut ends_open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        ends_open = part.is_empty();
    }
    rest.is_empty() || ends_open
}

/// What is expected of a world: the exit code, and of the first thing that is not well its probe, what is seen, and the
/// cure.
struct Expected {
    code: i32,
    result: &'static str,
    probe: &'static str,
    seen: &'static str,
    cure: &'static str,
}

const fn failed(probe: &'static str, seen: &'static str, cure: &'static str) -> Expected {
    Expected {
        code: 3,
        result: "failed",
        probe,
        seen,
        cure,
    }
}

fn judge(name: &str, output: &Output, expected: &Expected) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(expected.code), "{name}: {said}");
    let findings = findings(output);
    let first = findings
        .iter()
        .find(|finding| finding["result"] == expected.result)
        .unwrap_or_else(|| panic!("{name}: {said}"));
    assert_eq!(first["probe"], expected.probe, "{name}: {said}");
    let seen = first["seen"].as_str().unwrap();
    assert!(fits(seen, expected.seen), "{name}: {seen}");
    let cure = first["cure"].as_str().unwrap_or_default();
    assert!(fits(cure, expected.cure), "{name}: {cure}");
    if expected.result == "failed" {
        let others = findings
            .iter()
            .filter(|finding| finding["result"] == "failed");
        assert_eq!(
            others.count(),
            1,
            "{name}: what depends on it is skipped: {said}"
        );
    }
}

/// The same with a manager that confirms, so that nothing at all is worth noting.
fn world_with_manager() -> (World, Manager) {
    let mut world = world(Options::default());
    world.queue.unlink().unwrap();
    let manager = Manager::start(&world.home(), Settings::default()).unwrap();
    ossec_conf(&world, BLOCK);
    world.set("wazuh", "acknowledge", "\"auto\"");
    (world, manager)
}

/// Probe and result of each finding.
fn results(output: &Output) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = findings(output);
    let results = findings.iter();
    results
        .map(|finding| (text(&finding["probe"]), text(&finding["result"])))
        .collect()
}

/// The probes that were skipped.
fn skipped(output: &Output) -> Vec<String> {
    let mut results = results(output);
    results.retain(|(_, result)| result == "skipped");
    results.into_iter().map(|(probe, _)| probe).collect()
}

#[test]
fn a_world_without_fault() {
    let (world, manager) = world_with_manager();
    let output = world.run(&["doctor", "--json"]);
    let probes = [
        "configuration",
        "ledger",
        "queue",
        "acknowledgement",
        "scheduler",
        "name",
        "connection",
        "answer",
        "clock",
        "credential",
        "sign-in",
        "token",
        "permissions",
        "subscriptions",
        "listing",
        "audit log",
        "blob",
    ];
    let expected = probes.map(|probe| (probe.to_owned(), "ok".to_owned()));
    assert_eq!(results(&output), expected, "{:#?}", findings(&output));
    assert_eq!(output.status.code(), Some(0));
    assert!(manager.alerts().is_empty(), "nothing is sent unasked");
    assert!(!world.ledger().exists(), "nor written");
}

/// What is said of the test event.
fn test_event(world: &World) -> Value {
    let output = world.run(&["doctor", "--json", "--send-test"]);
    let findings = findings(&output);
    let mut of_test = findings.into_iter();
    of_test
        .find(|finding| finding["probe"] == "test event")
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stdout)))
}

const LOOK: &str = "look for o365_wodle.health \"test\" (rule 91648) in Wazuh";

#[test]
fn a_test_event_is_followed_until_a_manager_has_processed_it() {
    let (world, manager) = world_with_manager();
    let found = test_event(&world);
    assert_eq!(
        found["seen"],
        format!("confirmed: the manager has processed it; {LOOK}"),
        "{found}"
    );
    let alerts = manager.alerts();
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].contains("\"health\":\"test\""), "{}", alerts[0]);
}

#[test]
fn a_test_event_is_followed_until_an_agent_has_passed_it_on() {
    let mut world = world(Options::default());
    world.queue.unlink().unwrap();
    let settings = AgentSettings {
        state: StateSource::Socket,
        ..AgentSettings::default()
    };
    let agent = Agent::start(&world.home(), settings).unwrap();
    world.set("wazuh", "acknowledge", "\"auto\"");
    let found = test_event(&world);
    assert_eq!(
        found["seen"],
        format!("forwarded: the agent has passed it on while connected; {LOOK}"),
        "{found}"
    );
    assert_eq!(agent.delivered().len(), 1);
}

#[test]
fn a_test_event_is_followed_until_it_is_read_where_nobody_tells_more() {
    let world = world(Options::default());
    let found = test_event(&world);
    assert_eq!(
        found["seen"],
        format!("accepted: it was read, and nobody here tells more; {LOOK}"),
        "{found}"
    );
    let sent = world.queue.received();
    assert_eq!(sent.len(), 1);
    assert!(String::from_utf8_lossy(&sent[0]).contains("\"health\":\"test\""));
}

#[test]
fn what_is_wrong_is_said_first() {
    let world = world(Options::default());
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_215));
    world.microsoft.faults(Plan::default().rule(refused));
    let output = world.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines = said.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("WRONG  tenant-1: sign-in: the client secret is wrong (AADSTS7000215"),
        "{said}"
    );
    let second = lines.next().unwrap();
    assert!(
        second.starts_with("       cure: hand over the secret's Value"),
        "{said}"
    );
}

#[test]
fn a_tenant_that_is_well_is_not_left_alone_any_longer() {
    let world = world(Options::default());
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_215));
    world.microsoft.faults(Plan::default().rule(refused));
    let code = |output: &Output| output.status.code();
    assert_eq!(code(&world.run(&["run"])), Some(77));
    world.microsoft.faults(Plan::default());
    assert_eq!(
        code(&world.run_as_it_stands(&["run"])),
        Some(77),
        "left alone"
    );
    assert_eq!(code(&world.run_as_it_stands(&["doctor"])), Some(0));
    assert_eq!(
        code(&world.run_as_it_stands(&["run"])),
        Some(0),
        "{}",
        world.log()
    );
}
