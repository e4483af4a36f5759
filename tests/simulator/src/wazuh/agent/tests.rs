#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::unix::net::UnixDatagram;

use super::*;
use crate::wazuh::statistics::ask;

const SOON: Duration = Duration::from_secs(20);

fn start(settings: AgentSettings) -> (tempfile::TempDir, Agent) {
    let home = tempfile::tempdir().unwrap();
    let agent = Agent::start(home.path(), settings).unwrap();
    (home, agent)
}

fn send(home: &Path, count: usize) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(home.join("queue/sockets/queue")).unwrap();
    for n in 0..count {
        socket
            .send(format!("1:office365:{n}\0").as_bytes())
            .unwrap();
    }
}

/// The state file, once `key='value'` stands in it.
fn state_with(home: &Path, key: &str, value: &str) -> String {
    let wanted = format!("\n{key}='{value}'\n");
    let end = Instant::now() + SOON;
    loop {
        let text = fs::read_to_string(home.join("var/run/wazuh-agentd.state")).unwrap();
        if text.contains(&wanted) {
            return text;
        }
        assert!(Instant::now() < end, "no {wanted:?} in {text}");
        // the file is all that the agent tells, and it is written by a clock
        thread::sleep(Duration::from_millis(5));
    }
}

fn fast() -> AgentSettings {
    AgentSettings {
        state_interval: Duration::from_millis(20),
        ..AgentSettings::default()
    }
}

#[test]
fn the_buffer_drains_at_500_a_second_and_drops_when_it_is_full() {
    let (home, agent) = start(fast());
    let begin = Instant::now();
    send(home.path(), 7_000);
    assert!(agent.wait_received(7_000, SOON));
    let (time, sent) = (begin.elapsed().as_secs_f64(), agent.delivered().len());
    let dropped = usize::try_from(agent.dropped()).unwrap();
    assert!((1..=2_000).contains(&dropped), "{dropped}");
    assert_eq!(7_000 - dropped - agent.delivered().len(), agent.buffered());
    assert!(agent.wait_delivered(sent + 500, SOON));
    let total = begin.elapsed().as_secs_f64();
    let rate = 500.0 / (total - time);
    assert!((300.0..700.0).contains(&rate), "{rate}");
    assert_eq!(agent.delivered()[1], b"1:office365:1", "cut at the NUL");
}

#[test]
fn wait_stands_while_it_is_offline_and_the_buffer_holds() {
    let (home, agent) = start(AgentSettings {
        events_per_second: 100_000.0,
        ..fast()
    });
    let wait = home.path().join("queue/sockets/.wait");
    assert!(!wait.exists());
    state_with(home.path(), "status", "connected");
    agent.disconnect().unwrap();
    assert!(wait.exists());
    send(home.path(), 100);
    assert!(agent.wait_received(100, SOON));
    let text = state_with(home.path(), "msg_buffer", "100");
    assert!(
        text.contains("\nstatus='disconnected'\n") && text.contains("\nmsg_count='100'\n"),
        "{text}"
    );
    for key in ["last_keepalive", "last_ack", "msg_sent"] {
        assert!(text.contains(&format!("\n{key}='")), "{key}");
    }
    assert!(agent.delivered().is_empty());
    agent.connect().unwrap();
    assert!(!wait.exists());
    assert!(agent.wait_delivered(100, SOON));
    state_with(home.path(), "msg_buffer", "0");
}

#[test]
fn a_restart_loses_the_buffer_and_changes_the_process() {
    let (home, agent) = start(AgentSettings {
        events_per_second: 10.0,
        ..fast()
    });
    send(home.path(), 1_000);
    assert!(agent.wait_received(1_000, SOON));
    let first = agent.pid().unwrap();
    agent.restart().unwrap();
    assert_eq!(agent.buffered(), 0);
    assert!(agent.delivered().len() < 500);
    assert_ne!(agent.pid(), Some(first));
    assert!(
        !home
            .path()
            .join(format!("var/run/wazuh-agentd-{first}.pid"))
            .exists()
    );
    let second = agent.pid().unwrap();
    agent.kill();
    assert!(
        home.path()
            .join(format!("var/run/wazuh-agentd-{second}.pid"))
            .exists()
    );
    agent.revive().unwrap();
    assert!(home.path().join("queue/sockets/.wait").exists(), "pending");
}

#[test]
fn other_modules_share_the_buffer() {
    let settings = AgentSettings {
        buffer: Some(50),
        background: 50_000.0,
        ..fast()
    };
    let (home, agent) = start(settings);
    assert!(agent.wait_received(1_000, SOON));
    send(home.path(), 1_000);
    assert!(agent.dropped() > 1_000);
}

#[test]
fn a_disabled_buffer_says_nothing_and_sends_at_once() {
    let (home, agent) = start(AgentSettings {
        buffer: None,
        ..fast()
    });
    send(home.path(), 2_000);
    assert!(agent.wait_delivered(2_000, Duration::from_secs(3)));
    state_with(home.path(), "msg_buffer", "");
}

#[test]
fn a_5_x_agent_tells_its_state_on_a_socket() {
    let (home, agent) = start(AgentSettings {
        state: StateSource::Socket,
        events_per_second: 1.0,
        ..fast()
    });
    send(home.path(), 100);
    assert!(agent.wait_received(100, SOON));
    let path = home.path().join("queue/sockets/agent");
    let state = ask(&path, "getstate").unwrap();
    assert_eq!(
        (&state["error"], &state["data"]["status"]),
        (&json!(0), &json!("connected"))
    );
    assert!(state["data"]["msg_buffer"].as_u64().unwrap() > 90);
    assert_eq!(state["data"]["msg_count"], 100);
    assert!(!home.path().join("var/run/wazuh-agentd.state").exists());
}
