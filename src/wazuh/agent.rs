//! An agent: agentd forwards to its manager what its buffer holds.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::acknowledge::{
    Allowance, Assurance, Mark, ReaderId, Stage, Step, Verdict, monotonic_millis,
};
use super::home::{self, Home, Process};
use super::statistics::{PATIENCE, ask, number};
use super::{file, ossec_conf};

/// The anti-flooding buffer, unless `ossec.conf` says otherwise.
const USUAL_BUFFER: u64 = 5_000;
/// A state file is written every 5 s; one that is so old is written no more.
const STALE: Duration = Duration::from_mins(1);
/// How often a live state is asked for, in milliseconds.
const ASK_EVERY: u64 = 200;
/// How long a state takes from being put together to being seen, in milliseconds.
const SETTLED_AFTER: u64 = 100;
/// Messages to the manager that are no events (keep-alives and the like) while a buffer drains.
const CONTROL_MESSAGES: u64 = 100;

/// agentd, seen through its state.
#[derive(Debug)]
pub(super) struct Agent {
    home: Home,
    buffer_size: u64,
    state: Option<State>,
    /// No request of a live state before this time.
    ask_at: u64,
    /// What was sent when, as far as the state may not know of it.
    recent: VecDeque<(SystemTime, u64)>,
    baseline: ReaderId,
    unmarked: bool,
}

/// What agentd says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Another number is another state.
    version: u64,
    written: SystemTime,
    connected: bool,
    /// Events that wait in the buffer.
    buffered: u64,
    /// Messages sent to the manager since the agent started.
    sent: u64,
}

impl State {
    /// The file of agents before Wazuh 5: comments, and lines `key='value'`.
    fn from_file(text: &str, written: SystemTime) -> Option<Self> {
        let value = |wanted: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(key, _)| *key == wanted)
                .map(|(_, value)| value.trim_matches('\''))
        };
        let version = written.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Self {
            version: u64::try_from(version).ok()?,
            written,
            connected: value("status")? == "connected",
            // Empty where the buffer is switched off: then nothing waits.
            buffered: value("msg_buffer").map_or(0, |count| count.parse().unwrap_or(0)),
            sent: value("msg_sent").map_or(0, |count| count.parse().unwrap_or(0)),
        })
    }

    /// The `data` of `getstate` from Wazuh 5 on.
    fn from_answer(data: &Value, version: u64, asked: SystemTime) -> Option<Self> {
        let count = |key| data.get(key).and_then(number).unwrap_or(0);
        Some(Self {
            version,
            written: asked,
            connected: data.get("status")?.as_str()? == "connected",
            buffered: count("msg_buffer"),
            sent: count("msg_sent"),
        })
    }
}

impl Agent {
    pub(super) fn new(home: &Home) -> Self {
        let mut agent = Self {
            home: home.clone(),
            buffer_size: buffer_size(&home.ossec_conf()).unwrap_or(USUAL_BUFFER),
            state: None,
            ask_at: 0,
            recent: VecDeque::new(),
            baseline: ReaderId::default(),
            unmarked: false,
        };
        agent.look();
        agent
    }

    /// Whether it is connected to its manager, if it tells.
    pub(super) fn is_connected(&self) -> Option<bool> {
        if self.home.wait_file().exists() {
            return Some(false);
        }
        Some(self.state?.connected)
    }

    /// Whether its state is nowhere to be had.
    pub(super) fn is_silent(&self) -> bool {
        self.state.is_none()
    }

    pub(super) fn allowance(&mut self) -> Allowance {
        self.look();
        if self.home.wait_file().exists() {
            return Allowance::hold(250);
        }
        let Some(state) = self.state else {
            return Allowance {
                events: usize::MAX,
                ..Allowance::hold(20)
            };
        };
        if !state.connected {
            return Allowance::hold(250);
        }
        // Nobody tells what left the buffer since that state, so nothing is assumed to have.
        let unknown: u64 = self.recent.iter().map(|(_, events)| events).sum();
        let room = (self.buffer_size / 2).saturating_sub(state.buffered.saturating_add(unknown));
        Allowance {
            events: usize::try_from(room).unwrap_or(usize::MAX),
            ..Allowance::hold(if room == 0 { 100 } else { 20 })
        }
    }

    pub(super) fn sent(&mut self, events: usize) {
        if events > 0 {
            self.recent.push_back((SystemTime::now(), events as u64));
            self.unmarked = true;
        }
        if self.state.is_none() {
            self.recent.clear();
        }
    }

    pub(super) fn baseline(&mut self) -> ReaderId {
        self.unmarked = false;
        let baseline = self.baseline.clone();
        self.look();
        baseline
    }

    /// `None`: nobody tells.
    pub(super) fn assess(&mut self, mark: &mut Mark, unread: Option<u32>) -> Option<Verdict> {
        self.look();
        let now = monotonic_millis();
        let process = self.home.reader_process();
        let reader = ReaderId::new(None, process);
        if mark
            .reader
            .as_ref()
            .is_some_and(|old| !old.same_as(&reader))
        {
            return Some(Verdict::Lost);
        }
        let named = mark.reader.as_ref().is_some_and(ReaderId::is_known);
        match self.state {
            Some(state) => Some(assess(mark, unread, state, now, process.is_some())),
            // It went away, and its buffer with it, or it is starting: the next process tells which.
            None if named && process.is_none() => Some(Verdict::Pending),
            // It only looks old.
            None if process.is_some_and(|process| self.has_written(process)) => {
                Some(Verdict::Pending)
            }
            // Its state is not written.
            None => None,
        }
    }

    /// Takes notice of a newer state, if there is one.
    fn look(&mut self) {
        self.state = self.newest_state();
        if let Some(state) = self.state {
            while self
                .recent
                .front()
                .is_some_and(|(at, _)| *at < state.written)
            {
                self.recent.pop_front();
            }
        }
        if !self.unmarked {
            self.baseline = ReaderId::new(None, self.home.reader_process());
        }
    }

    /// Whether this process wrote the state file, and its age may be that of a suspend.
    fn has_written(&self, process: Process) -> bool {
        let written = fs::metadata(self.home.agent_state_file()).and_then(|file| file.modified());
        let age = written.ok().and_then(|written| written.elapsed().ok());
        age.is_some_and(|age| is_of_suspend(age, process.age(), home::suspended()))
    }

    fn newest_state(&mut self) -> Option<State> {
        if let Ok(file) = file::open(&self.home.agent_state_file()) {
            // Of the opened file: it is replaced by another all the time.
            let written = file.metadata().and_then(|file| file.modified()).ok()?;
            // A time in the future is a clock that was set back, not an old state.
            if written.elapsed().is_ok_and(|age| age > STALE) {
                return None;
            }
            if let Some(state) = self.state
                && state.written == written
            {
                return Some(state);
            }
            let text = file::read_opened(file, file::LARGEST).ok()?;
            return State::from_file(std::str::from_utf8(&text).ok()?, written);
        }
        let now = monotonic_millis();
        if now < self.ask_at {
            return self.state;
        }
        let asked = SystemTime::now();
        let state = ask(&self.home.agent_socket(), "getstate", PATIENCE)
            .ok()
            .and_then(|data| State::from_answer(&data, now, asked));
        self.ask_at = monotonic_millis() + if state.is_some() { ASK_EVERY } else { 1_000 };
        state
    }
}

fn is_of_suspend(age: Duration, lives_for: Duration, suspended: Duration) -> bool {
    age < lives_for && age.saturating_sub(suspended) <= STALE
}

/// Moves a mark on; `lives`: the reader was seen to live.
fn assess(mark: &mut Mark, unread: Option<u32>, state: State, now: u64, lives: bool) -> Verdict {
    mark.stage = match mark.stage {
        Stage::Sent => {
            if !mark.is_read(unread, now, lives.then_some(now)) {
                return Verdict::Pending;
            }
            Stage::Passed {
                step: Step::Socket,
                at: now,
            }
        }
        Stage::Passed { step, at } => {
            // A state that appears at this very moment was put together before.
            if at <= now && now - at < SETTLED_AFTER {
                return Verdict::Pending;
            }
            match step {
                Step::Socket => Stage::Waiting {
                    step: Step::State,
                    goal: state.version,
                },
                _ => return begin_anew(mark),
            }
        }
        Stage::Waiting { step, goal } => {
            let newer = match step {
                Step::State => state.version != goal,
                Step::Buffer => state.sent >= goal || state.buffered == 0,
                _ => return begin_anew(mark),
            };
            match step {
                _ if !state.connected || !newer => mark.stage,
                Step::State if state.buffered > 0 => Stage::Waiting {
                    step: Step::Buffer,
                    goal: state
                        .sent
                        .saturating_add(state.buffered)
                        .saturating_add(CONTROL_MESSAGES),
                },
                _ => return Verdict::Confirmed(Assurance::Forwarded),
            }
        }
    };
    Verdict::Pending
}

/// The mark was taken on a manager that has become an agent.
fn begin_anew(mark: &mut Mark) -> Verdict {
    mark.stage = Stage::Sent;
    Verdict::Pending
}

/// `<client_buffer><queue_size>` of an `ossec.conf`, which may have several roots.
fn buffer_size(ossec_conf: &Path) -> Option<u64> {
    let text = ossec_conf::text(ossec_conf).ok()?;
    let sizes = |all: roxmltree::Node<'_, '_>| {
        all.descendants()
            .filter(|node| node.has_tag_name("client_buffer"))
            .filter_map(|node| ossec_conf::child(node, "queue_size")?.parse().ok())
            .next_back()
    };
    ossec_conf::read(&text, sizes).ok()?
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
