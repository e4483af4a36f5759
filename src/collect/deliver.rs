//! The hand-over: the one thread that owns the ledger and Wazuh's queue.
//!
//! Fetching and handing over run beside each other: the collector sends [`Order`]s and goes on.
//! Orders are served in their sequence, but those that only ask the ledger overtake records on their way
//! to Wazuh, so that a slow queue holds up records and never the listings of others.

mod parcel;
mod print;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Tally;
use super::order::{Ending, LedgerWork, Order, Telling};
use crate::ledger::{Batch, Ledger};
use crate::teeth;
use crate::wazuh::{Acknowledgement, Assurance, Cap, Home, Mark, Queue, QueueFault, Verdict};
use crate::{Error, Result};

/// Events that are committed together, at most.
const BATCH: usize = 2_000;
/// How long something written may wait for its commit.
const COMMIT_AFTER: Duration = Duration::from_millis(250);
/// How often confirmations are looked for.
const ASSESS_EVERY: Duration = Duration::from_millis(50);
/// How long the end of a run waits for confirmations.
const SETTLE: Duration = Duration::from_secs(3);
/// Parcels whose memory is given back together.
const FREE_TOGETHER: usize = 8;
/// How long a single wait may be, so that a stop is noticed.
const SLICE: Duration = Duration::from_millis(20);

/// Where events go.
pub(super) enum Outlet {
    /// To Wazuh.
    Wazuh(Box<Wazuh>),
    /// To standard output, as JSON lines.
    Print,
}

/// Wazuh's side of the hand-over.
pub(super) struct Wazuh {
    pub home: Home,
    pub queue: Option<Queue>,
    pub acknowledgement: Acknowledgement,
    pub cap: Cap,
    pub send_timeout: Duration,
    /// From when on at the end of a run somebody may want to know that it takes nothing.
    pub held_after: Duration,
}

/// Why the hand-over stops before its orders end.
enum Halt {
    /// It was told to.
    Asked,
    /// It cannot go on.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A batch that waits for its confirmation.
struct Sent {
    id: i64,
    events: usize,
    /// None: what an older version wrote, which tells nothing.
    mark: Option<Mark>,
    /// Which connection to the queue it went through; 0: one of an earlier run.
    connection: u32,
}

/// A content some of whose records were handed over, but not yet its end.
#[derive(Default)]
struct Open {
    /// Records of it were lost by Wazuh meanwhile: it has to come again.
    is_spoiled: bool,
    /// Records of it stand in batches that may be unconfirmed.
    depends: bool,
}

/// The hand-over.
pub(super) struct Delivery {
    orders: Receiver<Order>,
    postponed: VecDeque<Order>,
    ledger: Ledger,
    outlet: Outlet,
    stop: Arc<AtomicBool>,
    batch: Batch,
    written: Option<Instant>,
    /// Contents that may be confirmed as a whole, once the batch that grows is written as well.
    settling: Vec<i64>,
    open: HashMap<i64, Open>,
    unconfirmed: Vec<Sent>,
    assessed: Instant,
    /// How many events may go, and until when, before Wazuh is asked again.
    room: usize,
    room_until: Instant,
    /// Counts the connections to the queue.
    connection: u32,
    come_again: usize,
    tally: Tally,
    /// Since when Wazuh takes nothing, though there is something for it.
    held: Option<Instant>,
    /// Why, if it is more than that there is no room.
    held_by: Option<String>,
    /// Shares of memory that are free again, given back together: each time whoever waits for one wakes up.
    free: Vec<OwnedSemaphorePermit>,
}

impl Delivery {
    pub(super) fn new(
        orders: Receiver<Order>,
        ledger: Ledger,
        mut outlet: Outlet,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        if let Outlet::Wazuh(wazuh) = &mut outlet
            && let Some(queue) = &wazuh.queue
        {
            wazuh.acknowledgement.connected(queue);
        }
        let mut unconfirmed = Vec::new();
        // Who only prints waits for no confirmation.
        if let Outlet::Wazuh(_) = outlet {
            for batch in ledger.unconfirmed()? {
                unconfirmed.push(Sent {
                    id: batch.id,
                    events: batch.events,
                    mark: serde_json::from_str(&batch.mark).ok(),
                    connection: 0,
                });
            }
        }
        Ok(Self {
            orders,
            postponed: VecDeque::new(),
            ledger,
            outlet,
            stop,
            batch: Batch::default(),
            written: None,
            settling: Vec::new(),
            open: HashMap::new(),
            unconfirmed,
            assessed: Instant::now(),
            room: 0,
            room_until: Instant::now(),
            connection: 1,
            come_again: 0,
            tally: Tally::default(),
            held: None,
            held_by: None,
            free: Vec::new(),
        })
    }

    /// Serves orders until nobody can send any, then leaves everything committed.
    pub(super) fn run(mut self) -> Result<Tally> {
        let result = self.serve();
        let finished = self.finish();
        match result {
            Err(Halt::Failed(error)) => Err(error),
            Ok(()) | Err(Halt::Asked) => finished,
        }
    }

    fn serve(&mut self) -> Result<(), Halt> {
        self.assess()?;
        self.tell_owed()?;
        loop {
            if self.is_stopped() {
                return Err(Halt::Asked);
            }
            let postponed = self.postponed.pop_front();
            let order = if let Some(order) = postponed.or_else(|| self.orders.try_recv().ok()) {
                order
            } else {
                self.free.clear();
                match self.orders.recv_timeout(ASSESS_EVERY) {
                    Ok(order) => order,
                    Err(RecvTimeoutError::Timeout) => {
                        self.look_around()?;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            };
            match order {
                Order::Ledger(work) | Order::InTurn(work) => work(&mut self.ledger)?,
                Order::Durable(work) => self.durable(work)?,
                Order::Parcel(parcel) => {
                    self.parcel(&parcel)?;
                    self.free.push(parcel.permit);
                    if self.free.len() >= FREE_TOGETHER {
                        self.free.clear();
                    }
                }
                Order::End(ending) => self.end(&ending)?,
                Order::Tell(_, answer) if answer.is_closed() => {}
                Order::Tell(telling, answer) => self.tell(&telling, answer)?,
                Order::Settle(answer) => {
                    self.settle()?;
                    // Nobody waits for the answer of a run that was stopped.
                    answer
                        .send(std::mem::take(&mut self.come_again))
                        .unwrap_or_default();
                }
            }
            self.look_around()?;
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Commits and assesses when it is time.
    fn look_around(&mut self) -> Result<()> {
        if self.ledger.is_dirty() || !self.batch.is_empty() {
            let since = *self.written.get_or_insert_with(Instant::now);
            if since.elapsed() >= COMMIT_AFTER || self.batch.events() >= self.full_batch() {
                self.commit()?;
            }
        }
        if !self.unconfirmed.is_empty() && self.assessed.elapsed() >= ASSESS_EVERY {
            self.assess()?;
        }
        Ok(())
    }

    /// Batches are smaller while few events may be unconfirmed.
    fn full_batch(&self) -> usize {
        match &self.outlet {
            Outlet::Wazuh(wazuh) => BATCH.min(wazuh.cap.limit() / 5),
            Outlet::Print => BATCH,
        }
    }

    fn end(&mut self, ending: &Ending) -> Result<()> {
        let open = self.open.remove(&ending.content).unwrap_or_default();
        if open.is_spoiled {
            self.come_again += 1;
            return Ok(());
        }
        self.ledger
            .content_sent(ending.content, ending.stream, ending.is_damaged)?;
        if open.depends {
            self.ledger
                .depend_on_unconfirmed(&mut self.batch, ending.content)?;
        }
        self.settling.push(ending.content);
        Ok(())
    }

    /// Events about the collection go the way of records, and are sent again if they get lost.
    fn tell(&mut self, telling: &Telling, answer: oneshot::Sender<()>) -> Result<(), Halt> {
        telling.remember(&mut self.ledger)?;
        // Nobody waits for the answer of a run that was stopped.
        answer.send(()).unwrap_or_default();
        self.tell_owed()?;
        Ok(self.look_around()?)
    }

    /// Sends what Wazuh is owed of the events about the collection.
    fn tell_owed(&mut self) -> Result<(), Halt> {
        for (number, datagram) in self.ledger.owed()? {
            self.tally.sent += self.hand_over(&[&datagram])?;
            self.ledger.owed_was_sent(&mut self.batch, number)?;
        }
        Ok(())
    }

    /// Gives datagrams to Wazuh, waiting as long as `send_timeout` allows until it takes the first of them;
    /// how many it took.
    fn hand_over(&mut self, datagrams: &[&[u8]]) -> Result<usize, Halt> {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                self.meanwhile(order)?;
            }
            let sending = match &mut self.outlet {
                Outlet::Print => {
                    self.print(datagrams)?;
                    return Ok(datagrams.len());
                }
                Outlet::Wazuh(wazuh) => {
                    if self.room == 0 || Instant::now() > self.room_until {
                        None
                    } else if let Some(queue) = &wazuh.queue {
                        let some = datagrams.get(..self.room).unwrap_or(datagrams);
                        Some(queue.send(some))
                    } else {
                        match Queue::connect(wazuh.home.queue()) {
                            Ok(queue) => {
                                wazuh.acknowledgement.connected(&queue);
                                wazuh.queue = Some(queue);
                                self.connection += 1;
                                self.room = 0;
                                continue;
                            }
                            Err(fault) => Some(Err(fault)),
                        }
                    }
                }
            };
            let is_full = matches!(sending, Some(Ok(0)));
            let why = match sending {
                None => {
                    if self.ask_for_room()? {
                        continue;
                    }
                    None
                }
                Some(Ok(0)) => None,
                Some(Ok(sent)) => {
                    self.room = self.room.saturating_sub(sent);
                    if let Outlet::Wazuh(wazuh) = &mut self.outlet {
                        wazuh.acknowledgement.sent(sent);
                    }
                    self.held = None;
                    return Ok(sent);
                }
                Some(Err(fault @ (QueueFault::Missing(_) | QueueFault::NoReader(_)))) => {
                    self.reader_is_gone()?;
                    Some(fault)
                }
                Some(Err(fault)) => return Err(Halt::Failed(fault.into())),
            };
            let since = *self.held.get_or_insert_with(Instant::now);
            if why.is_some() || self.has_queue() {
                self.held_by = why.as_ref().map(ToString::to_string);
            }
            if since.elapsed() >= self.send_timeout() {
                let why = why.map_or_else(|| held(since.elapsed()), Error::from);
                return Err(Halt::Failed(why));
            }
            if self.is_stopped() {
                return Err(Halt::Asked);
            }
            // A full queue was waited for already.
            if !is_full {
                self.wait()?;
            }
            self.look_around()?;
        }
    }

    fn has_queue(&self) -> bool {
        matches!(&self.outlet, Outlet::Wazuh(wazuh) if wazuh.queue.is_some())
    }

    fn send_timeout(&self) -> Duration {
        match &self.outlet {
            Outlet::Wazuh(wazuh) => wazuh.send_timeout,
            Outlet::Print => Duration::MAX,
        }
    }

    /// The reader went away: what it had is a batch of its own, whose fate the next look tells.
    fn reader_is_gone(&mut self) -> Result<()> {
        if let Outlet::Wazuh(wazuh) = &mut self.outlet {
            wazuh.queue = None;
        }
        self.commit()
    }

    /// Asks Wazuh how much more it takes; false if nothing for now.
    fn ask_for_room(&mut self) -> Result<bool> {
        if matches!(&self.outlet, Outlet::Wazuh(wazuh) if wazuh.queue.as_ref().is_some_and(Queue::is_replaced))
        {
            self.reader_is_gone()?;
        }
        let in_flight = self.in_flight();
        let Outlet::Wazuh(wazuh) = &mut self.outlet else {
            return Ok(true);
        };
        let mut left = wazuh.cap.limit().saturating_sub(in_flight);
        // What is sent now may be the only thing that shows that the others were read.
        if left == 0 && wazuh.acknowledgement.knows_by_sending() {
            left = 1;
        }
        let now = Instant::now();
        let allowance = wazuh.acknowledgement.allowance(now);
        self.room = allowance.events.min(left).min(BATCH);
        self.room_until = now + allowance.look_again.max(SLICE);
        if left == 0 {
            // Only a committed batch can be confirmed.
            self.commit()?;
            self.assess()?;
        }
        Ok(self.room > 0)
    }

    /// Events that Wazuh has and that are not confirmed.
    fn in_flight(&self) -> usize {
        self.unconfirmed
            .iter()
            .map(|sent| sent.events)
            .sum::<usize>()
            + self.batch.events()
    }

    /// Waits a moment, serving what has nothing to do with Wazuh.
    fn wait(&mut self) -> Result<()> {
        match self.orders.recv_timeout(SLICE) {
            Ok(order) => self.meanwhile(order)?,
            Err(RecvTimeoutError::Timeout) => {}
            // The orders that were postponed are still to be served.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(SLICE),
        }
        Ok(())
    }

    /// Serves an order while records are on their way to Wazuh, if it has nothing to do with Wazuh.
    fn meanwhile(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Ledger(work) => work(&mut self.ledger)?,
            Order::Durable(work) => self.durable(work)?,
            order => self.postponed.push_back(order),
        }
        Ok(())
    }

    /// Serves an order that commits: the end of a content must not be durable before its last batch is.
    fn durable(&mut self, work: LedgerWork) -> Result<()> {
        self.commit()?;
        Ok(work(&mut self.ledger)?)
    }

    /// Makes everything handed over so far durable, as a batch of its own.
    fn commit(&mut self) -> Result<()> {
        self.written = None;
        if !self.batch.is_empty() {
            let mark = match &mut self.outlet {
                Outlet::Wazuh(wazuh) => Some(wazuh.acknowledgement.mark()),
                Outlet::Print => None,
            };
            let id = self
                .ledger
                .insert_batch(&self.batch, Utc::now(), &text(mark.as_ref()))?;
            let batch = std::mem::take(&mut self.batch);
            // What was printed is not waited for.
            if mark.is_some() {
                self.unconfirmed.push(Sent {
                    id,
                    events: batch.events(),
                    mark,
                    connection: self.connection,
                });
            }
        }
        self.ledger
            .contents_settled(&std::mem::take(&mut self.settling))?;
        self.ledger.fold()?;
        self.ledger.commit()?;
        Ok(())
    }

    /// Looks which batches Wazuh has confirmed or lost.
    fn assess(&mut self) -> Result<()> {
        self.assessed = Instant::now();
        let Outlet::Wazuh(wazuh) = &mut self.outlet else {
            return Ok(());
        };
        let unread = wazuh.queue.as_ref().and_then(|queue| queue.unread().ok());
        let mut lost = 0;
        let mut still = Vec::with_capacity(self.unconfirmed.len());
        for mut sent in self.unconfirmed.drain(..) {
            let unread = unread.filter(|_| sent.connection == self.connection);
            let verdict = match &mut sent.mark {
                Some(mark) => wazuh.acknowledgement.assess(mark, unread),
                None => Verdict::Lost,
            };
            let verdict = match verdict {
                Verdict::Lost if teeth::is_off("forget") => Verdict::Confirmed(Assurance::Accepted),
                verdict => verdict,
            };
            match verdict {
                Verdict::Pending => still.push(sent),
                Verdict::Confirmed(assurance) => {
                    self.settling.extend(self.ledger.confirm(sent.id)?);
                    self.ledger.set_value("assurance", assurance.as_str())?;
                    wazuh.cap.confirmed(sent.events);
                    self.tally.confirmed += sent.events;
                    self.tally.assurance = Some(assurance);
                }
                Verdict::Lost => {
                    for content in self.ledger.forget(sent.id)? {
                        match self.open.get_mut(&content) {
                            Some(open) => open.is_spoiled = true,
                            None => self.come_again += 1,
                        }
                    }
                    // What was left out of them may have been in this batch.
                    for open in self.open.values_mut() {
                        open.is_spoiled |= open.depends;
                    }
                    lost += sent.events;
                }
            }
        }
        self.unconfirmed = still;
        if lost > 0 {
            log::warn!(
                "Wazuh restarted, or dropped events, before it had processed {lost} events of ours: \
                 they are fetched and sent again, as far as their tenants and content types are still collected."
            );
            wazuh.cap.lost();
            self.tally.lost += lost;
        }
        Ok(())
    }

    /// Commits, and waits a little for confirmations.
    fn settle(&mut self) -> Result<(), Halt> {
        self.tell_owed()?;
        self.commit()?;
        let since = Instant::now();
        self.assess()?;
        while !self.unconfirmed.is_empty() && since.elapsed() < SETTLE && self.come_again == 0 {
            if self.is_stopped() {
                return Err(Halt::Asked);
            }
            self.wait()?;
            self.look_around()?;
        }
        Ok(self.commit()?)
    }

    /// Leaves the ledger as the next run needs it.
    fn finish(mut self) -> Result<Tally> {
        self.commit()?;
        self.assess()?;
        for sent in &self.unconfirmed {
            self.ledger.set_mark(sent.id, &text(sent.mark.as_ref()))?;
        }
        if let Outlet::Wazuh(wazuh) = &mut self.outlet {
            self.ledger.set_value("cap", &wazuh.cap.save())?;
            if let Some(reader) = wazuh.acknowledgement.save() {
                self.ledger.set_value("reader", &reader)?;
            }
            if !self.unconfirmed.is_empty() {
                wazuh.acknowledgement.warn_of_silence();
            }
            let long = self.held.map(|since| since.elapsed());
            if let Some(long) = long.filter(|long| *long >= wazuh.held_after) {
                if self.tally.sent > 0 {
                    self.ledger.set_held(None)?;
                }
                let why = self.held_by.as_deref().unwrap_or(HOLDS);
                self.ledger.set_held(Some((Utc::now() - long, why)))?;
            } else if self
                .ledger
                .held()?
                .is_some_and(|(_, why)| self.tally.sent > 0 || why != HOLDS)
            {
                // That its queue is there again says nothing of one that is full.
                self.ledger.set_held(None)?;
            }
        }
        self.commit()?;
        self.tally.held = self.held.map(|held| held.elapsed()).unwrap_or_default();
        self.tally.unconfirmed = self.unconfirmed.iter().map(|sent| sent.events).sum();
        self.ledger.close()?;
        Ok(self.tally)
    }
}

/// Why it takes nothing, as far as can be told from its queue.
const HOLDS: &str = "its queue is full or held (an agent that is offline, a manager that is starting or overloaded)";

/// Wazuh took nothing for so long.
pub(super) fn held(time: Duration) -> Error {
    Error::TryLater(format!(
        "Wazuh took no event for {} s: {HOLDS}. The next run goes on where this one stopped.",
        time.as_secs()
    ))
}

/// A mark as the ledger keeps it.
fn text(mark: Option<&Mark>) -> String {
    mark.and_then(|mark| serde_json::to_string(mark).ok())
        .unwrap_or_default()
}
