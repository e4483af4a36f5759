//! A manager: analysisd tells its queues and counters on its statistics socket (4.4 to 4.14).

use std::io::ErrorKind;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::acknowledge::{
    Allowance, Assurance, Mark, ReaderId, Stage, Step, Told, Verdict, monotonic_millis,
};
use super::home::Home;
use super::pace::Pace;
use super::queue::SocketId;
use super::statistics::{PATIENCE, ask, number};
use crate::config::{self, EventsPerSecond};

/// How old a look at the statistics may be: a request costs analysisd 0.35 ms.
const LOOK_EVERY: u64 = 20;
/// How long a statistics socket that is not there may still appear.
const GRACE: u64 = 1_000;
/// analysisd flushes its files once a second.
const FLUSHED_AFTER: u64 = 1_200;
/// What a queue holds unless the statistics say otherwise.
const USUAL_SIZE: u64 = 16_384;
/// How long an answer is waited for once one did not come in time: analysisd may have no power.
const LONGEST_PATIENCE: Duration = Duration::from_millis(1_600);
/// After so long without an answer it is sent without one: analysisd may read all the same, and where it does not, its socket
/// is soon full.
const SENT_BLINDLY_AFTER: u64 = 5_000;
/// How long to wait after each loss that follows another without a confirmation in between, doubled each time.
const AFTER_LOSSES: u64 = 1_000;
const AFTER_LOSSES_AT_MOST: u64 = 30_000;
/// Events beyond the credits of `<limits><eps>` that may wait, so that others never take all.
const BESIDE_CREDITS: u64 = 256;

/// Components with a queue of their own; all others pass `others`.
const OWN_QUEUE: [&str; 8] = [
    "dbsync",
    "eventchannel",
    "hostinfo",
    "rootcheck",
    "sca",
    "syscheck",
    "syscollector",
    "upgrade",
];

/// analysisd, seen through its statistics.
#[derive(Debug)]
pub(super) struct Manager {
    home: Home,
    socket: PathBuf,
    location: String,
    unpaced: bool,
    /// Events that workers may hold between two queues, in no queue's occupancy.
    in_hands: u64,
    answers: Answers,
    look: Option<Look>,
    /// No request before this time.
    ask_at: u64,
    created: u64,
    /// Sent after the last look, so in none of its figures.
    sent_since: u64,
    /// Who read and what was dropped before the events since the last mark were sent.
    baseline: (Option<ReaderId>, Option<u64>),
    unmarked: bool,
    /// Doubled by each drop, halved by each second without.
    caution: u64,
    caution_until: u64,
    /// Events that were dropped in this run, and when that was said last.
    dropped: u64,
    dropped_said: Option<u64>,
    /// After a loss: wait for calm, and until then.
    settling: Option<u64>,
    /// How long the next loss makes us wait, and the longest that one may.
    next_settling: u64,
    longest_settling: u64,
    /// Our events so far, and what was decoded of all when there were so many of them, of the reader that is there now.
    sent: u64,
    origin: Option<(u64, u64)>,
    patience: Duration,
    /// Since when it does not answer, and the pace after a while.
    silent_since: Option<u64>,
    blind: Pace,
    is_blindness_said: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    NotYet,
    Yes,
    /// It answers, but knows no statistics: a version before 4.4.
    Unknown,
}

/// One look at the statistics.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// The request left then, and its answer was here then: the figures are from in between.
    asked: u64,
    answered: u64,
    reader: ReaderId,
    /// Events of our location that a full queue refused.
    dropped: u64,
    others: Passage,
    processed: Passage,
    alerts: Passage,
    /// Events that `<limits><eps>` still allows.
    credits: Option<u64>,
    /// Whether events of our location are among those that are counted as decoded.
    is_counted: bool,
}

/// A queue and how many events have left it.
#[derive(Debug, Clone, Copy)]
struct Passage {
    size: u64,
    occupancy: u64,
    left: u64,
}

impl Look {
    /// From the `data` of `getstats`.
    fn read(data: &Value, location: &str, home: &Home) -> Option<Self> {
        let counter = |path| data.pointer(path).and_then(number);
        let queue = |name: &str, left| {
            let queue = data.pointer("/metrics/queues")?.get(name)?;
            let size = number(queue.get("size")?).filter(|size| *size > 0);
            let size = size.unwrap_or(USUAL_SIZE);
            let usage = queue.get("usage")?.as_f64()?.clamp(0.0, 1.0);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share of a queue's size, rounded up: at most the size"
            )]
            let occupancy = (usage * size as f64 - 1e-6).ceil() as u64;
            Some(Passage {
                size,
                occupancy,
                left,
            })
        };
        let breakdown = data.pointer("/metrics/events/received_breakdown")?;
        let dropped = breakdown.get("dropped_breakdown")?;
        let dropped = dropped
            .get("modules_breakdown")
            .and_then(|modules| modules.get(location))
            .and_then(number)
            // A location that has no counter of its own: any drop may be ours.
            .unwrap_or_else(|| sum(dropped));
        let decoded = breakdown.get("decoded_breakdown")?;
        let modules = decoded.get("modules_breakdown");
        let is_counted = modules.is_some_and(|modules| modules.get(location).is_some())
            && !OWN_QUEUE.contains(&location);
        let decoded = sum(decoded);
        Some(Self {
            asked: 0,
            answered: 0,
            reader: ReaderId::new(Some(counter("/uptime")?), home.reader_process()),
            dropped,
            others: queue("others", decoded)?,
            processed: queue("processed", counter("/metrics/events/processed")?)?,
            alerts: queue(
                "alerts",
                counter("/metrics/events/written_breakdown/alerts")?,
            )?,
            credits: counter("/metrics/eps/available_credits"),
            is_counted,
        })
    }

    fn passage(&self, step: Step) -> Option<Passage> {
        match step {
            Step::Others => Some(self.others),
            Step::Processed => Some(self.processed),
            Step::Alerts => Some(self.alerts),
            Step::Socket | Step::State | Step::Buffer => None,
        }
    }

    /// Whether what was in a queue has left it. A worker that has an event of `others` in its hand waits there for credits.
    fn is_empty(&self, step: Step, queue: Passage) -> bool {
        queue.occupancy == 0 && (step != Step::Others || self.credits != Some(0))
    }

    fn enter(&self, step: Step, queue: Passage, in_hands: u64) -> Stage {
        if self.is_empty(step, queue) {
            Stage::Passed {
                step,
                at: self.answered,
            }
        } else {
            Stage::Waiting {
                step,
                goal: queue.left + queue.occupancy + in_hands,
            }
        }
    }

    /// How many events its queues have room for: `others`, which drops what it cannot hold, is
    /// filled to a quarter, and on towards half in small steps where other senders fill it too.
    fn room(&self, sent_since: u64, caution: u64) -> u64 {
        let half = |queue: Passage| (queue.size / 2 / caution).saturating_sub(queue.occupancy);
        let quarter = (self.others.size / 4 / caution).saturating_sub(self.others.occupancy);
        let mut room = quarter.max(half(self.others) / 8);
        room = room.min(half(self.processed)).min(half(self.alerts));
        if let Some(credits) = self.credits {
            room = room.min((credits + BESIDE_CREDITS).saturating_sub(self.others.occupancy));
        }
        room.saturating_sub(sent_since)
    }
}

/// The sum of the counters of all components that pass `others`, however deep.
fn sum(breakdown: &Value) -> u64 {
    let Some(components) = breakdown.as_object() else {
        return number(breakdown).unwrap_or(0);
    };
    components
        .iter()
        .filter(|(name, _)| !OWN_QUEUE.contains(&name.as_str()))
        .map(|(_, counter)| sum(counter))
        .sum()
}

impl Manager {
    pub(super) fn new(home: &Home, config: &config::Wazuh) -> Self {
        // A worker for each processor at each queue, and the thread that reads the socket; more
        // than that only delays a confirmation on a manager whose queues are never empty.
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let now = monotonic_millis();
        Self {
            home: home.clone(),
            socket: home.statistics_socket(),
            location: config.location.clone(),
            unpaced: config.events_per_second == EventsPerSecond::Unlimited,
            in_hands: 16.max(2 * processors as u64),
            answers: Answers::NotYet,
            look: None,
            ask_at: now,
            created: now,
            sent_since: 0,
            baseline: (None, None),
            unmarked: false,
            caution: 1,
            caution_until: 0,
            dropped: 0,
            dropped_said: None,
            settling: None,
            next_settling: 0,
            // A run that waits must not give up for it.
            longest_settling: u64::try_from(config.send_timeout.as_millis() / 2)
                .unwrap_or(u64::MAX)
                .min(AFTER_LOSSES_AT_MOST),
            sent: 0,
            origin: None,
            patience: PATIENCE,
            silent_since: None,
            blind: Pace::new(EventsPerSecond::Auto),
            is_blindness_said: false,
        }
    }

    /// What it tells right now.
    pub(super) fn describe(&self) -> Told {
        match ask(&self.socket, "getstats", LONGEST_PATIENCE) {
            Ok(data) if Look::read(&data, &self.location, &self.home).is_some() => Told::Confirms,
            Ok(_) => Told::Nothing,
            Err(error) => match error.kind() {
                ErrorKind::InvalidData | ErrorKind::NotFound => Told::Nothing,
                _ => Told::Silent,
            },
        }
    }

    /// Whether nobody will tell anything: an old version, or no statistics socket at all.
    pub(super) fn is_silent(&mut self) -> bool {
        self.look(monotonic_millis());
        match self.answers {
            Answers::Yes => false,
            Answers::Unknown => true,
            // The file of an analysisd that is stopped stays, so one that is missing is none.
            Answers::NotYet => monotonic_millis() >= self.created + GRACE && !self.socket.exists(),
        }
    }

    /// `None`: nobody tells.
    pub(super) fn allowance(&mut self) -> Option<Allowance> {
        if self.is_silent() {
            return None;
        }
        let now = monotonic_millis();
        let (sent_since, unpaced) = (self.sent_since, self.unpaced);
        let (caution, settling) = (self.caution, self.settling);
        let Some(look) = self.look(now) else {
            return Some(self.allowance_without_look(now));
        };
        let others = look.others;
        let room = if unpaced {
            u64::MAX
        } else {
            look.room(sent_since, caution)
        };
        if let Some(until) = settling {
            if others.occupancy > others.size / 16 || now < until {
                return Some(Allowance::hold(50));
            }
            self.settling = None;
        }
        Some(Allowance {
            events: usize::try_from(room).unwrap_or(usize::MAX),
            ..Allowance::hold(LOOK_EVERY)
        })
    }

    /// Says, once, that it does not answer, if so.
    pub(super) fn warn_of_silence(&mut self) {
        if self.silent_since.is_some() && !self.is_blindness_said && !self.is_silent() {
            self.is_blindness_said = true;
            log::warn!(
                "{}: Wazuh's analysisd does not tell what it has processed: events are sent to it slowly, and stay unconfirmed \
                 until it does",
                self.socket.display()
            );
        }
    }

    /// The last that was seen of the reader, and of what it dropped.
    pub(super) fn save(&self, socket: Option<&SocketId>) -> Option<String> {
        let look = self.look.as_ref()?;
        serde_json::to_string(&(&look.reader, look.dropped, &self.location, socket)).ok()
    }

    /// As [`Self::save`] had it in an earlier run: what is sent before the first look is judged by it.
    pub(super) fn since(&mut self, saved: &str, socket: Option<&SocketId>) {
        type Saved = (ReaderId, u64, String, Option<SocketId>);
        // Another location has another counter, and another socket another reader.
        if let Ok((reader, dropped, location, of)) = serde_json::from_str::<Saved>(saved)
            && location == self.location
            && of.as_ref() == socket
        {
            self.baseline = (Some(reader), Some(dropped));
        }
    }

    /// While it does not answer: nothing for a while, then as slowly as where nobody tells and no pace is set.
    fn allowance_without_look(&mut self, now: u64) -> Allowance {
        let is_blind = self
            .silent_since
            .is_some_and(|since| now >= since + SENT_BLINDLY_AFTER);
        if !is_blind {
            return Allowance::hold(100);
        }
        self.warn_of_silence();
        let (events, look_again) = self.blind.permits(Instant::now());
        Allowance { events, look_again }
    }

    /// What was seen may have been of the reader of another socket, who decodes nothing of what goes into this one.
    pub(super) fn connected_to_another(&mut self) {
        if self.look.take().is_some() {
            log::info!("Wazuh's analysisd was restarted");
            self.settling.get_or_insert(0);
        }
        self.origin = None;
        self.baseline = (None, None);
    }

    pub(super) fn sent(&mut self, events: usize) {
        self.sent += events as u64;
        if self.silent_since.is_some() {
            self.blind.sent(events);
        }
        self.sent_since = self.sent_since.saturating_add(events as u64);
        self.unmarked |= events > 0;
    }

    pub(super) fn baseline(&mut self) -> (Option<ReaderId>, Option<u64>) {
        // For a batch without events nobody was asked for room yet. Where nobody can be asked any more, an earlier run's look
        // would be waited for in vain.
        if self.look.is_none() && self.is_silent() {
            self.unmarked = false;
            return (None, None);
        }
        self.unmarked = false;
        let baseline = self.baseline.clone();
        if let Some(look) = &self.look {
            self.baseline = (Some(look.reader.clone()), Some(look.dropped));
        }
        baseline
    }

    /// What will have been decoded at least, ours and others', once all that was sent so far is.
    pub(super) fn decoded_then(&self) -> Option<u64> {
        let (decoded, sent) = self.origin?;
        Some(decoded + (self.sent - sent))
    }

    /// `None`: nobody tells.
    pub(super) fn assess(&mut self, mark: &mut Mark, unread: Option<u32>) -> Option<Verdict> {
        if self.is_silent() && (self.answers == Answers::Unknown || mark.dropped.is_none()) {
            return None;
        }
        let now = monotonic_millis();
        let in_hands = self.in_hands;
        let Some(look) = self.look(now) else {
            return Some(Verdict::Pending);
        };
        let verdict = assess(mark, unread, look, now, in_hands);
        match verdict {
            Verdict::Lost => self.lost(),
            Verdict::Confirmed(_) => self.next_settling = 0,
            Verdict::Pending => {}
        }
        Some(verdict)
    }

    /// A batch was lost: what comes next waits a while, longer each time. One event may make many batches be lost.
    pub(super) fn lost(&mut self) {
        if self.settling.is_none() {
            self.settling = Some(monotonic_millis() + self.next_settling);
            let next = (2 * self.next_settling).max(AFTER_LOSSES);
            self.next_settling = next.min(self.longest_settling);
        }
    }

    /// The last look, or a new one if that is too old; `None` while analysisd does not answer.
    fn look(&mut self, now: u64) -> Option<&Look> {
        if now >= self.ask_at {
            let asked = monotonic_millis();
            let answer = ask(&self.socket, "getstats", self.patience).and_then(|data| {
                Look::read(&data, &self.location, &self.home)
                    .ok_or_else(|| ErrorKind::InvalidData.into())
            });
            let answered = monotonic_millis();
            match answer {
                Ok(look) => {
                    self.answers = Answers::Yes;
                    self.silent_since = None;
                    // An analysisd without power is not asked all the time.
                    self.ask_at = answered + LOOK_EVERY.max(2 * (answered - asked));
                    self.learn(Look {
                        asked,
                        answered,
                        ..look
                    });
                }
                Err(error) => {
                    if error.kind() == ErrorKind::InvalidData && self.look.is_none() {
                        self.answers = Answers::Unknown;
                        self.ask_at = answered + 10_000;
                    } else {
                        // What took long is not tried again soon: this thread has work to do.
                        self.ask_at = answered + 100 + 5 * (answered - asked);
                        self.silent_since.get_or_insert(asked);
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                            self.patience = LONGEST_PATIENCE;
                        }
                    }
                    log::debug!("no statistics from {}: {error}", self.socket.display());
                    // Kept for its reader and its counters, not for its figures.
                    if let Some(look) = &mut self.look {
                        look.answered = 0;
                    }
                }
            }
        }
        self.look.as_ref().filter(|look| look.answered > 0)
    }

    fn learn(&mut self, look: Look) {
        // What was dropped is never decoded.
        let goes_on =
            |last: &Look| last.reader.same_as(&look.reader) && last.dropped == look.dropped;
        if !self.look.as_ref().is_some_and(goes_on) {
            self.origin = look.is_counted.then_some((look.others.left, self.sent));
        }
        if let Some(last) = &self.look {
            if !last.reader.same_as(&look.reader) {
                log::info!("Wazuh's analysisd was restarted");
                self.settling.get_or_insert(0);
            } else if look.dropped > last.dropped {
                self.dropped += look.dropped - last.dropped;
                let is_due = |said: u64| look.answered >= said + 60_000;
                if self.dropped_said.is_none_or(is_due) {
                    self.dropped_said = Some(look.answered);
                    log::warn!(
                        "Wazuh's analysisd dropped {} events in this run because its input queue was full; sending slower. \
                         Another source floods it, or its machine is too slow.",
                        self.dropped
                    );
                }
                self.caution = (self.caution * 2).min(32);
                self.caution_until = look.answered + 1_000;
            } else if look.answered >= self.caution_until && self.caution > 1 {
                self.caution /= 2;
                self.caution_until = look.answered + 1_000;
            }
        }
        if !self.unmarked {
            self.baseline = (Some(look.reader.clone()), Some(look.dropped));
        }
        self.sent_since = 0;
        self.look = Some(look);
    }
}

/// Moves a mark on, at most by one step a look: what is between two queues while one look is taken
/// is in none of its figures, but long arrived when the next one is.
fn assess(mark: &mut Mark, unread: Option<u32>, look: &Look, now: u64, in_hands: u64) -> Verdict {
    let another = mark
        .reader
        .as_ref()
        .is_some_and(|reader| !reader.same_as(&look.reader));
    // Where nothing was known before, any drop may be of it.
    if another || look.dropped > mark.dropped.unwrap_or(0) {
        return Verdict::Lost;
    }
    mark.stage = match mark.stage {
        Stage::Sent => {
            // Whoever read it, analysisd cannot have decoded what is not counted.
            let is_decoded = mark.decoded.is_none_or(|then| look.others.left >= then);
            if !mark.is_read(unread, now, Some(look.asked)) || !is_decoded {
                return Verdict::Pending;
            }
            Stage::Passed {
                step: Step::Socket,
                at: now,
            }
        }
        // The clock began anew.
        Stage::Passed { step, at } if at > now => Stage::Passed { step, at: now },
        Stage::Passed { step, at } => {
            let next = match step {
                Step::Socket => Step::Others,
                Step::Others => Step::Processed,
                Step::Processed => Step::Alerts,
                Step::Alerts | Step::State | Step::Buffer => {
                    return if look.asked >= at + FLUSHED_AFTER {
                        Verdict::Confirmed(Assurance::Confirmed)
                    } else {
                        Verdict::Pending
                    };
                }
            };
            match look.passage(next) {
                Some(queue) if look.asked > at => look.enter(next, queue, in_hands),
                _ => mark.stage,
            }
        }
        Stage::Waiting { step, goal } => match look.passage(step) {
            Some(queue) if look.is_empty(step, queue) || queue.left >= goal => Stage::Passed {
                step,
                at: look.answered,
            },
            Some(_) => mark.stage,
            // Marked on an agent that has become a manager: begin anew.
            None => Stage::Sent,
        },
    };
    Verdict::Pending
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
