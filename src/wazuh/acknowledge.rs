//! What Wazuh itself tells about the events that it was handed.
//!
//! A datagram that the kernel took is not delivered yet: a manager keeps it in memory for a while
//! and forgets it when it is restarted. So sending is *fed* by what the reader says it has room
//! for, and a batch is *confirmed* only when the reader's own counters show that it went through:
//!
//! | reader | fed by | confirmed when |
//! | --- | --- | --- |
//! | manager from 4.4 on | the room in its queues | its counters passed ours, queue by queue, and it has lived on for 1.2 s |
//! | the same, while it does not answer | a slow pace | never: that waits for an answer |
//! | agent | a steady pace, its buffer, its connection | its buffer drained while it was connected |
//! | any other, or `acknowledge = "off"` | a steady pace | it read the datagrams and lives |
//!
//! Source: Wazuh's `analysisd/state.c` and `client-agent/state.c`.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::home::{Home, Process, Role};
use super::inbox;
use super::manager::Manager;
use super::pace::Pace;
use super::queue::{Queue, SocketId};
use crate::config;

/// How old a look into the reader's inbox may be, in milliseconds.
const LOOK_EVERY: u64 = 20;

/// What Wazuh tells, whatever it is here. Owned by the one thread that sends.
#[derive(Debug)]
pub struct Acknowledgement {
    source: Source,
    home: Home,
    /// The operator's pace, applied beside what the source says.
    beside: Pace,
    /// The pace when nobody says anything.
    alone: Pace,
    /// Whom the present connection leads to.
    present: Option<SocketId>,
    /// Whether anything was sent through it.
    has_sent: bool,
    /// Whether anything that was sent through it was seen read.
    is_seen_read: bool,
    /// When it was looked what waits for the reader, and what did.
    inbox: (u64, Option<u32>),
}

#[derive(Debug)]
enum Source {
    Manager(Box<Manager>),
    Agent(Agent),
    Nobody,
}

/// How many events may be sent, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// So many events from now on; `usize::MAX`: no limit.
    pub events: usize,
    /// Ask again after this time, or after `events` were sent.
    pub look_again: Duration,
}

impl Allowance {
    pub(super) fn hold(millis: u64) -> Self {
        Self {
            events: 0,
            look_again: Duration::from_millis(millis),
        }
    }
}

/// What is known of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing for sure yet: ask again, in this run or in the next.
    Pending,
    /// It need not be sent again.
    Confirmed(Assurance),
    /// Some of it may be lost: send it again.
    Lost,
}

/// What Wazuh tells of what it was handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A manager confirms.
    Confirms,
    /// An agent forwards, and whether it is connected, if it tells.
    Forwards(Option<bool>),
    /// It could, and does not answer now.
    Silent,
    /// Nothing.
    Nothing,
}

/// How sure a confirmation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// Taken by the reader of the socket; nothing more can be known.
    Accepted,
    /// An agent's buffer drained while it was connected.
    Forwarded,
    /// Processed and written by a manager.
    Confirmed,
}

impl Assurance {
    /// The word in `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Forwarded => "forwarded",
            Self::Confirmed => "confirmed",
        }
    }
}

/// Who reads the queue: another value is another process, with empty memory.
///
/// It consists of what could be found out, so compare with [`ReaderId::same_as`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReaderId(String);

impl ReaderId {
    /// From what is known: when the reader says that it started, and its process.
    pub(super) fn new(started: Option<u64>, process: Option<Process>) -> Self {
        let started = started.map(|started| format!("started={started}"));
        let process = process.map(|process| {
            // Pids and ticks since boot may both come again after a reboot.
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let boot = boot.split('-').next().unwrap_or_default();
            format!("process={boot}-{}-{}", process.pid, process.start)
        });
        let parts: Vec<_> = [started, process].into_iter().flatten().collect();
        Self(parts.join(" "))
    }

    /// Whether anything is known of it.
    pub(super) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// False only if something that is known of both differs.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let parts = |id: &'_ Self| -> Vec<(String, String)> {
            id.0.split(' ')
                .filter_map(|part| part.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        };
        // In a sandbox the boot cannot be seen, but the process can.
        let alike = |one: &str, other: &str| match (one.split_once('-'), other.split_once('-')) {
            (Some(("", one)), Some((_, other))) | (Some((_, one)), Some(("", other))) => {
                one == other
            }
            _ => one == other,
        };
        let others = parts(other);
        parts(self).iter().all(|(key, value)| {
            others
                .iter()
                .all(|(other_key, other)| other_key != key || alike(other, value))
        })
    }
}

/// Where a batch was when it was last seen; stored with it, so that the next run can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Who was reading before the first event of the batch was sent.
    pub(super) reader: Option<ReaderId>,
    /// The counter of dropped events before the first event of the batch was sent.
    pub(super) dropped: Option<u64>,
    /// What will have been decoded once all of it is, by the counters of the reader that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decoded: Option<u64>,
    /// When it was taken, on the machine's monotonic clock, in milliseconds.
    pub(super) taken: u64,
    pub(super) stage: Stage,
    /// Whom the batch was sent to; none: an older version did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<SocketId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// In the socket, as far as we know.
    Sent,
    /// Out of `step` by the time `at`.
    Passed { step: Step, at: u64 },
    /// In `step`, and out of it when its counter reaches `goal`.
    Waiting { step: Step, goal: u64 },
}

/// What an event passes, in this order: from `Socket` to `Alerts` on a manager, `Socket` and the last two on an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Socket,
    Others,
    Processed,
    Alerts,
    /// The agent's state was written anew; `goal` is the one seen before.
    State,
    /// The agent's buffer; `goal` counts messages sent to the manager.
    Buffer,
}

impl Mark {
    /// Whether the reader has taken all datagrams by now. `unread` as in
    /// [`Acknowledgement::assess`], `answered` when the reader last showed that it lives.
    pub(super) fn is_read(&mut self, unread: Option<u32>, now: u64, answered: Option<u64>) -> bool {
        // The machine was booted since; never count time that did not pass.
        self.taken = self.taken.min(now);
        match unread {
            Some(unread) => unread == 0,
            // The socket is gone with its process. A reader that lives takes what is there at
            // once, since it does nothing else with that thread.
            None => answered.is_some_and(|answered| answered >= self.taken + 1_000),
        }
    }
}

impl Acknowledgement {
    /// Finds out who tells something here.
    #[must_use]
    pub fn new(home: &Home, config: &config::Wazuh) -> Self {
        let source = match home.role() {
            _ if !config.acknowledge => Source::Nobody,
            Role::Manager if home.may_have_statistics() => {
                Source::Manager(Box::new(Manager::new(home, config)))
            }
            Role::Agent => Source::Agent(Agent::new(home)),
            Role::Manager | Role::Unknown => Source::Nobody,
        };
        let beside = match source {
            // An agent says what it has, not what it can take.
            Source::Agent(_) | Source::Nobody => Pace::new(config.events_per_second),
            Source::Manager(_) => Pace::beside_acknowledgement(config.events_per_second),
        };
        Self {
            source,
            home: home.clone(),
            beside,
            alone: Pace::new(config.events_per_second),
            present: SocketId::at(home.queue()),
            has_sent: false,
            is_seen_read: false,
            inbox: (0, None),
        }
    }

    /// Goes on where an earlier run saw who read, and what was dropped by then: see [`Acknowledgement::save`].
    #[must_use]
    pub fn since(mut self, saved: Option<&str>) -> Self {
        if let (Source::Manager(manager), Some(saved)) = (&mut self.source, saved) {
            manager.since(saved, self.present.as_ref());
        }
        self
    }

    /// For the ledger.
    #[must_use]
    pub fn save(&self) -> Option<String> {
        match &self.source {
            Source::Manager(manager) => manager.save(self.present.as_ref()),
            Source::Agent(_) | Source::Nobody => None,
        }
    }

    /// Says, once a run, that nobody answers who could confirm.
    pub fn warn_of_silence(&mut self) {
        if let Source::Manager(manager) = &mut self.source {
            manager.warn_of_silence();
        }
    }

    /// From now on it is sent through `queue`. Without it, whoever was there at the beginning counts as the reader.
    pub fn connected(&mut self, queue: &Queue) {
        let is_another = self.present.as_ref() != Some(queue.reader());
        self.present = Some(queue.reader().clone());
        self.has_sent = false;
        self.is_seen_read = false;
        if let Source::Manager(manager) = &mut self.source
            && is_another
        {
            manager.connected_to_another();
        }
    }

    /// What it tells right now, for an operator.
    #[must_use]
    pub fn describe(&self) -> Told {
        match &self.source {
            Source::Manager(manager) => manager.describe(),
            Source::Agent(agent) => Told::Forwards(agent.is_connected()),
            Source::Nobody => Told::Nothing,
        }
    }

    /// How many more events may be sent. Call it before sending; it waits for no more than one answer of Wazuh's.
    pub fn allowance(&mut self, now: Instant) -> Allowance {
        let told = match &mut self.source {
            Source::Manager(manager) => manager.allowance(),
            Source::Agent(agent) => Some(agent.allowance()),
            // Of an agent that is not asked, or not known to be one: what it cannot forward it drops once its buffer is full.
            Source::Nobody if self.home.wait_file().exists() => return Allowance::hold(250),
            Source::Nobody => None,
        };
        let (pace, told) = match told {
            Some(told) => (&mut self.beside, told),
            None => (
                &mut self.alone,
                Allowance {
                    events: usize::MAX,
                    look_again: Duration::ZERO,
                },
            ),
        };
        let (events, look_again) = pace.permits(now);
        if events <= told.events {
            Allowance {
                events,
                look_again: look_again.max(told.look_again),
            }
        } else {
            told
        }
    }

    /// Whether something that is sent may show that what an earlier run sent was read.
    #[must_use]
    pub fn knows_by_sending(&mut self) -> bool {
        !self.has_sent
            && match &mut self.source {
                Source::Manager(manager) => manager.is_silent(),
                Source::Agent(agent) => agent.is_silent(),
                Source::Nobody => true,
            }
    }

    /// `events` were sent since the last call. Say so before the next [`Acknowledgement::mark`].
    pub fn sent(&mut self, events: usize) {
        self.has_sent |= events > 0;
        self.beside.sent(events);
        self.alone.sent(events);
        match &mut self.source {
            Source::Manager(manager) => manager.sent(events),
            Source::Agent(agent) => agent.sent(events),
            Source::Nobody => {}
        }
    }

    /// Marks where Wazuh was with the batch that was sent since the last mark, or with nothing. To
    /// be taken after its last event and before the first of the next, and stored with the batch.
    pub fn mark(&mut self) -> Mark {
        let mut decoded = None;
        let (reader, dropped) = match &mut self.source {
            Source::Manager(manager) => {
                decoded = manager.decoded_then();
                manager.baseline()
            }
            Source::Agent(agent) => (Some(agent.baseline()), None),
            Source::Nobody => (None, None),
        };
        Mark {
            reader,
            dropped,
            decoded,
            taken: monotonic_millis(),
            stage: Stage::Sent,
            socket: self.present.clone(),
        }
    }

    /// Moves a mark on by what Wazuh tells now. Cheap enough for many marks in a row: they share
    /// one look, and the older ones may be asked first.
    ///
    /// `unread` is [`super::Queue::unread`] of the queue that the batch was sent by, or `None` if
    /// that process or queue is gone. Store the mark again when it has changed.
    pub fn assess(&mut self, mark: &mut Mark, unread: Option<u32>) -> Verdict {
        // What reads another socket is another process: where no process can be seen, and where one that is gone read its old
        // socket to its end beside the one that is asked.
        let is_nobody = matches!(self.source, Source::Nobody);
        if !is_nobody {
            let now = SocketId::at(self.home.queue());
            if mark.socket.is_some() && now.is_some() && now != mark.socket {
                if let Source::Manager(manager) = &mut self.source {
                    manager.lost();
                }
                return Verdict::Lost;
            }
        }
        let told = match &mut self.source {
            Source::Manager(manager) => manager.assess(mark, unread),
            Source::Agent(agent) => agent.assess(mark, unread),
            Source::Nobody => None,
        };
        told.unwrap_or_else(|| self.accepted(mark, unread))
    }

    /// Where nobody tells more: what the reader took counts.
    ///
    /// The kernel throws away what a reader that dies has not read, and then nothing is unread either. So the reader
    /// has to be there still, looked at after what is unread.
    fn accepted(&mut self, mark: &mut Mark, unread: Option<u32>) -> Verdict {
        if matches!(unread, Some(1..)) {
            return Verdict::Pending;
        }
        let Some(reader) = &mark.socket else {
            return Verdict::Confirmed(Assurance::Accepted);
        };
        self.is_seen_read |= unread.is_some() && self.has_sent;
        // Of an earlier connection: it reads in the order of sending; else unread is whatever waits, whoever sent it.
        let is_before = self.is_seen_read && self.present.as_ref() == Some(reader);
        let unread = unread
            .or_else(|| is_before.then_some(0))
            .or_else(|| self.waiting(mark.taken));
        // Who comes next tells whether it is another.
        let Ok(queue) = Queue::connect(self.home.queue()) else {
            return Verdict::Pending;
        };
        if queue.reader() != reader {
            return Verdict::Lost;
        }
        let now = monotonic_millis();
        // Where the kernel does not tell, as of a reader in a container of its own, what is read later does.
        if unread.is_some() && mark.is_read(unread, now, Some(now)) {
            Verdict::Confirmed(Assurance::Accepted)
        } else {
            Verdict::Pending
        }
    }

    /// [`inbox::waiting`] at some time after `taken`. Many marks share one look.
    fn waiting(&mut self, taken: u64) -> Option<u32> {
        let now = monotonic_millis();
        let (looked, _) = self.inbox;
        if looked <= taken || looked + LOOK_EVERY <= now {
            self.inbox = (now, inbox::waiting(self.home.queue()));
        }
        self.inbox.1
    }
}

/// Milliseconds on a clock that no administrator sets and all processes since boot share, so that
/// a mark means the same in the next run.
pub(super) fn monotonic_millis() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1_000 + nanos / 1_000_000
}

#[cfg(test)]
#[path = "acknowledge_tests.rs"]
mod tests;
