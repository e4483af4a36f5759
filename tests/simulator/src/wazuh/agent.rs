//! An agent: the queue socket, the anti-flooding buffer behind it, and what agentd tells of it.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use serde_json::json;

use super::process::Process;
use super::reader::{Reader, bind, remove, until_nul};
use super::statistics::{Answer, Server};
use super::{home, lock};

/// agentd refuses a message over this (`CreateSecMSG`).
const MAX_MESSAGE: usize = 65_408;

const TICK: Duration = Duration::from_millis(5);

const TIME: &str = "%Y-%m-%d %H:%M:%S";

/// How an agent behaves. The defaults are Wazuh's.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSettings {
    /// size of the anti-flooding buffer in events; `None`: disabled
    pub buffer: Option<usize>,
    /// events a second that leave the buffer while connected
    pub events_per_second: f64,
    /// how often the state file is written
    pub state_interval: Duration,
    /// where it tells its state
    pub state: StateSource,
    /// events a second of other modules, through the same buffer
    pub background: f64,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            buffer: Some(5_000),
            events_per_second: 500.0,
            state_interval: Duration::from_secs(5),
            state: StateSource::File,
            background: 0.0,
        }
    }
}

/// Where an agent tells its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateSource {
    /// 4.x: `var/run/wazuh-agentd.state`
    File,
    /// 5.x: `getstate` on `queue/sockets/agent`
    Socket,
}

/// An agent in `home`.
pub struct Agent {
    home: PathBuf,
    settings: AgentSettings,
    /// what came to the manager, over all lives
    delivered: Arc<Mutex<Vec<Vec<u8>>>>,
    life: Mutex<Option<Life>>,
}

struct Life {
    core: Arc<Core>,
    process: Process,
    // read and answer as long as the life lasts
    _reader: Reader,
    _server: Option<Server>,
    worker: Option<JoinHandle<()>>,
}

struct Core {
    home: PathBuf,
    settings: AgentSettings,
    delivered: Arc<Mutex<Vec<Vec<u8>>>>,
    state: Mutex<State>,
    changed: Condvar,
}

/// An event of another module has no bytes.
type Message = Option<Vec<u8>>;

#[derive(Default)]
struct State {
    buffer: VecDeque<Message>,
    status: Status,
    last_keepalive: Option<DateTime<Local>>,
    count: u64,
    sent: u64,
    dropped: u64,
    ended: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Status {
    #[default]
    Pending,
    Connected,
    Disconnected,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
        }
    }
}

impl Agent {
    /// Installs an agent in `home`, where none is yet, starts it and connects it.
    ///
    /// # Errors
    /// A folder, file, socket or process cannot be made.
    pub fn start(home: &Path, settings: AgentSettings) -> io::Result<Self> {
        home::agent(
            home,
            if settings.state == StateSource::File {
                "4.14.7"
            } else {
                "5.0.0"
            },
        )?;
        let agent = Self {
            home: home.to_owned(),
            settings,
            delivered: Arc::default(),
            life: Mutex::new(None),
        };
        agent.revive()?;
        agent.connect()?;
        Ok(agent)
    }

    /// What the manager got from our socket so far, over all lives.
    #[must_use]
    pub fn delivered(&self) -> Vec<Vec<u8>> {
        lock(&self.delivered).clone()
    }

    /// Events in the buffer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.core().map_or(0, |core| lock(&core.state).buffer.len())
    }

    /// Events that this life's process dropped because the buffer was full or they were too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.core().map_or(0, |core| lock(&core.state).dropped)
    }

    /// Waits until the manager got `n` events from our socket; says whether it came to that.
    #[must_use]
    pub fn wait_delivered(&self, n: usize, timeout: Duration) -> bool {
        let there = || lock(&self.delivered).len() >= n;
        there() || self.wait(timeout, |_| there())
    }

    /// Waits until this life's process took `n` events off the socket.
    #[must_use]
    pub fn wait_received(&self, n: u64, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.count >= n)
    }

    /// The id in the pid file, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        lock(&self.life).as_ref().map(|life| life.process.id())
    }

    /// The manager is reached: `.wait` goes, the buffer drains.
    ///
    /// # Errors
    /// `.wait` cannot be removed.
    pub fn connect(&self) -> io::Result<()> {
        if let Some(core) = self.core() {
            let mut state = lock(&core.state);
            state.status = Status::Connected;
            state.last_keepalive = Some(Local::now());
            // the control message of the connection
            state.sent += 1;
        }
        remove(&self.wait_file())
    }

    /// The manager is lost: `.wait` comes, the buffer fills. The state file says so at its next
    /// turn.
    ///
    /// # Errors
    /// `.wait` cannot be written.
    pub fn disconnect(&self) -> io::Result<()> {
        if let Some(core) = self.core() {
            lock(&core.state).status = Status::Disconnected;
        }
        fs::write(self.wait_file(), "")
    }

    /// Ends as on SIGTERM: the buffer is lost, the pid file removed, the sockets' files stay.
    ///
    /// # Errors
    /// The pid file cannot be removed.
    pub fn terminate(&self) -> io::Result<()> {
        let Some(life) = lock(&self.life).take() else {
            return Ok(());
        };
        life.process.remove_file()?;
        life.end();
        Ok(())
    }

    /// Ends as on SIGKILL: the pid file stays too.
    pub fn kill(&self) {
        if let Some(life) = lock(&self.life).take() {
            life.end();
        }
    }

    /// Starts another life, if none is: another process, an empty buffer, counters from 0, pending
    /// with `.wait` there until [`connect`](Self::connect).
    ///
    /// # Errors
    /// A socket, file or process cannot be made.
    pub fn revive(&self) -> io::Result<()> {
        let mut life = lock(&self.life);
        if life.is_some() {
            return Ok(());
        }
        fs::write(self.wait_file(), "")?;
        let core = Arc::new(Core {
            home: self.home.clone(),
            settings: self.settings.clone(),
            delivered: Arc::clone(&self.delivered),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let socket = bind(&self.home.join("queue/sockets/queue"))?;
        let process = Process::start(&self.home, "wazuh-agentd")?;
        let server = match self.settings.state {
            StateSource::File => {
                core.write_state()?;
                None
            }
            StateSource::Socket => {
                let core = Arc::clone(&core);
                let answer: Answer = Box::new(move |request| Some(core.answer(request)));
                Some(Server::spawn(
                    self.home.join("queue/sockets/agent"),
                    Instant::now(),
                    answer,
                )?)
            }
        };
        let worker = {
            let core = Arc::clone(&core);
            thread::Builder::new()
                .name("wazuh-agentd".into())
                .spawn(move || core.work())?
        };
        let sink = {
            let core = Arc::clone(&core);
            Box::new(move |datagram: &[u8]| core.take(datagram))
        };
        let reader = Reader::spawn(socket, Instant::now(), sink)?;
        *life = Some(Life {
            core,
            process,
            _reader: reader,
            _server: server,
            worker: Some(worker),
        });
        Ok(())
    }

    /// [`terminate`](Self::terminate), [`revive`](Self::revive) and [`connect`](Self::connect).
    ///
    /// # Errors
    /// As those three.
    pub fn restart(&self) -> io::Result<()> {
        self.terminate()?;
        self.revive()?;
        self.connect()
    }

    fn wait_file(&self) -> PathBuf {
        self.home.join("queue/sockets/.wait")
    }

    fn core(&self) -> Option<Arc<Core>> {
        lock(&self.life).as_ref().map(|life| Arc::clone(&life.core))
    }

    fn wait(&self, timeout: Duration, until: impl Fn(&State) -> bool) -> bool {
        let end = Instant::now() + timeout;
        let Some(core) = self.core() else {
            return false;
        };
        let mut state = lock(&core.state);
        while !until(&state) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return false;
            }
            state = core
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Life {
    fn end(mut self) {
        lock(&self.core.state).ended = true;
        self.core.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            // a panic has been printed by its thread
            worker.join().ok();
        }
    }
}

impl Core {
    fn take(&self, datagram: &[u8]) {
        let message = until_nul(datagram);
        let mut state = lock(&self.state);
        if !state.ended {
            self.offer(&mut state, Some(message.to_vec()));
        }
    }

    fn offer(&self, state: &mut State, message: Message) {
        state.count += 1;
        match self.settings.buffer {
            _ if message
                .as_ref()
                .is_some_and(|message| message.len() > MAX_MESSAGE) =>
            {
                state.dropped += 1;
            }
            Some(size) if state.buffer.len() < size => state.buffer.push_back(message),
            None if state.status == Status::Connected => self.send(state, message),
            _ => state.dropped += 1,
        }
    }

    fn send(&self, state: &mut State, message: Message) {
        state.sent += 1;
        if let Some(message) = message {
            lock(&self.delivered).push(message);
        }
    }

    fn work(&self) {
        let mut credit = 0.0_f64;
        let mut due = 0.0_f64;
        let mut last = Instant::now();
        let mut written = last;
        let mut state = lock(&self.state);
        while !state.ended {
            let now = Instant::now();
            let dt = (now - last).as_secs_f64();
            last = now;
            due += self.settings.background * dt;
            while due >= 1.0 {
                due -= 1.0;
                self.offer(&mut state, None);
            }
            credit += self.settings.events_per_second * dt;
            while credit >= 1.0 && state.status == Status::Connected {
                let Some(message) = state.buffer.pop_front() else {
                    break;
                };
                credit -= 1.0;
                self.send(&mut state, message);
            }
            if state.buffer.is_empty() || state.status != Status::Connected {
                credit = credit.min(1.0);
            }
            self.changed.notify_all();
            if self.settings.state == StateSource::File
                && now - written >= self.settings.state_interval
            {
                written = now;
                drop(state);
                if let Err(fault) = self.write_state() {
                    // seen by the test as a state that grows old
                    eprintln!("fake agentd: {fault}");
                }
                state = lock(&self.state);
            }
            state = self
                .changed
                .wait_timeout(state, TICK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Writes the state file by rename, as `state.c` does.
    fn write_state(&self) -> io::Result<()> {
        let text = {
            let state = lock(&self.state);
            let time = state
                .last_keepalive
                .map(|at| at.format(TIME).to_string())
                .unwrap_or_default();
            let buffer = self
                .settings
                .buffer
                .map(|_| state.buffer.len().to_string())
                .unwrap_or_default();
            format!(
                "# State file for wazuh-agentd\n\n\
                 # Agent status:\n# - pending\n# - connected\n# - disconnected\nstatus='{}'\n\n\
                 # Last time a keepalive was sent\nlast_keepalive='{time}'\n\n\
                 # Last time a control message was received\nlast_ack='{time}'\n\n\
                 # Number of generated events\nmsg_count='{}'\n\n\
                 # Number of messages (events + control messages) sent to the manager\nmsg_sent='{}'\n\n\
                 # Number of events currently buffered\nmsg_buffer='{buffer}'\n",
                state.status.word(),
                state.count,
                state.sent,
            )
        };
        let path = self.home.join("var/run/wazuh-agentd.state");
        let draft = self.home.join("var/run/wazuh-agentd.state.temp");
        fs::write(&draft, text)?;
        fs::rename(draft, path)
    }

    fn answer(&self, request: &str) -> String {
        let request = request.trim_end_matches('\0');
        let command = serde_json::from_str::<serde_json::Value>(request)
            .ok()
            .and_then(|json| json.get("command")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| request.to_owned());
        if command != "getstate" {
            return "err Unrecognized command".into();
        }
        let state = lock(&self.state);
        let time = state
            .last_keepalive
            .map(|at| at.format(TIME).to_string())
            .unwrap_or_default();
        let data = json!({
            "status": state.status.word(), "last_keepalive": time, "last_ack": time,
            "msg_count": state.count, "msg_sent": state.sent, "msg_buffer": state.buffer.len(),
            "buffer_enabled": self.settings.buffer.is_some(),
        });
        json!({ "error": 0, "data": data }).to_string()
    }
}

#[cfg(test)]
mod tests;
