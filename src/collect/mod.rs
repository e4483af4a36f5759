//! The flow itself: one collection, from the tenants' credentials to events in Wazuh's queue.

mod alike;
mod deliver;
mod desk;
pub mod event;
mod fetch;
mod floor;
mod gap;
mod health;
mod late;
mod list;
mod order;
mod outcome;
mod place;
mod refusals;
mod subscribe;
mod tell;
mod tenant;
mod walk;
pub mod window;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::config::{ContentType, Settings, Tenant};
use crate::ledger::{self, Ledger, Lock, Purpose};
use crate::microsoft::{Clock, Http, event_loop};
use crate::stopping::Stopping;
use crate::wazuh::{Acknowledgement, Assurance, Cap, Home, Queue, native};
use crate::{Error, Result};

use deliver::{Delivery, Outlet, Wazuh};
use desk::Desk;
use event::Redactor;
pub(crate) use floor::floor;
pub use outcome::{Outcome, Trouble};
pub(crate) use subscribe::remember_start;
use tenant::Collector;
pub(crate) use tenant::is_ahead;

/// How long closed contents are remembered: as long as a listing can name them, and a day.
const KEEP: Duration = Duration::from_hours(8 * 24);

/// Blobs at once for each tenant in parallel. A connection that fetches them may keep 200 kB, and 32 of them fetch, at 100 ms
/// a request, more than Wazuh can take.
const BLOBS_A_TENANT: usize = 2;

/// Shares of a place that a blob takes, and what else is asked for: in place of four blobs five short answers are waited for,
/// whose connections keep little.
const BLOB: u32 = 5;
const ANSWER: u32 = 4;

/// How many times as many answers as there are places for may rest, or go on after it, without any; of blobs once as many.
const RESTING: u32 = 4;

/// Blobs that are known to wait for a place, for each that has one. Each takes half a kilobyte.
const ROUNDS: usize = 32;

/// Blobs that a tenant takes from the ledger at a time, at least.
const FEWEST: usize = 4;

/// How often a run that takes long tidies up.
const TIDY_EVERY: Duration = Duration::from_mins(1);

/// What Wazuh lets wait for so long at a run's end is worth a word.
const HELD: Duration = Duration::from_secs(5);

/// What is slower than this gives its place to another and goes on beside it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of so many tenants that are left alone the log says why; of the others only how many they are.
const FEW: usize = 10;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// The tenants to collect.
    pub tenants: Vec<Arc<Tenant>>,
    /// Narrows each tenant's content types to these, if there are any.
    pub content_types: Vec<ContentType>,
    /// The run ends itself in order by then, counted from when it has the lock.
    pub deadline: Duration,
    /// Print events instead of sending them, and change nothing.
    pub is_dry: bool,
    /// Whether it is a run of its own or a round of a backfill.
    pub purpose: Purpose,
    /// Who asks it to stop.
    pub stopping: Stopping,
}

/// What a run did.
#[derive(Debug)]
pub struct Summary {
    /// An outcome a tenant, in the order of the request.
    pub outcomes: Vec<Outcome>,
    /// What was handed over.
    pub tally: Tally,
    /// What stopped the run with work left, if anything did.
    pub stopped_by: Option<Stop>,
}

/// What was handed over in a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Events that Wazuh took.
    pub sent: usize,
    /// Records that had been handed over before.
    pub duplicate: usize,
    /// Records that a filter held back.
    pub filtered: usize,
    /// Events that Wazuh confirmed in this run, of earlier ones too.
    pub confirmed: usize,
    /// How sure the last of these confirmations is.
    pub assurance: Option<Assurance>,
    /// Events that Wazuh lost and that have to come again.
    pub lost: usize,
    /// Events that Wazuh has not confirmed yet.
    pub unconfirmed: usize,
    /// How long Wazuh had taken nothing at the end, though there was something for it.
    pub held: Duration,
}

impl Tally {
    /// What is left to the next runs is no backlog where they may not get further either.
    ///
    /// # Errors
    /// [`Error::TryLater`] if Wazuh took nothing for more than half of a run that its `deadline` ended.
    pub(crate) fn unless_held(&self, deadline: Duration) -> Result<()> {
        if self.held < deadline / 2 {
            return Ok(());
        }
        Err(deliver::held(self.held))
    }
}

/// What stops a run with work left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its time was up.
    Deadline,
    /// SIGTERM or SIGINT.
    Signal,
}

/// One collection: every tenant, every content type.
///
/// # Errors
/// What stands in the way of all tenants alike: the ledger, the queue socket, the HTTP client.
pub fn collect(settings: &Settings, request: &Request) -> Result<Summary> {
    let _lock = Lock::take(&settings.state.ledger, request.purpose, &request.stopping)?;
    let result = collect_alone(settings, request);
    // Damage shows where it is met first, be it at the ledger's opening or in the midst.
    if let Err(Error::Corrupt(why)) = &result
        && !request.is_dry
    {
        ledger::set_aside(&settings.state.ledger, why, Utc::now())?;
    }
    result
}

/// The collection, by the one run that has the lock.
fn collect_alone(settings: &Settings, request: &Request) -> Result<Summary> {
    let begin = Instant::now();
    let mut ledger = if request.is_dry {
        Ledger::open_dry(&settings.state.ledger)?
    } else {
        Ledger::open(&settings.state.ledger, Utc::now())?.0
    };
    let recovered = floor::lately_recovered(&ledger)?;
    let redactor = settings
        .collect
        .redact_dlp
        .then(|| ledger::installation_key(&settings.state.ledger, request.is_dry))
        .transpose()?
        .map(|key| Redactor::new(key.as_slice()));
    let home = Home::find(&settings.wazuh)?;
    warn_of_native(&mut ledger, &home, &settings.tenants)?;
    let annotate = settings
        .wazuh
        .annotate
        .unwrap_or_else(|| home.before_wazuh_5());
    // Wazuh is looked at before Microsoft is called.
    let outlet = match outlet(settings, request, home, &ledger) {
        Ok(outlet) => outlet,
        Err(error) => {
            ledger.set_held(Some((Utc::now(), &error.to_string())))?;
            ledger.commit()?;
            return Err(error);
        }
    };
    let http = Http::new(&settings.http)?;
    // What can fail comes before the thread, which nobody would wait for.
    let runtime = event_loop()?;

    let run = ledger.run();
    let (orders, received) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let delivery = Delivery::new(received, ledger, outlet, Arc::clone(&stop))?;
    let delivering = thread::Builder::new()
        .name("deliver".to_owned())
        .spawn(move || delivery.run())
        .map_err(|error| Error::TryLater(format!("no thread can be started: {error}")))?;

    let tenants = request.tenants.iter();
    let concurrency = tenants.map(|tenant| tenant.concurrency).collect();
    let blobs = places(concurrency, settings.collect.tenants_in_parallel);
    let work = Rc::new(Work {
        settings: settings.clone(),
        desk: Desk::new(orders),
        http,
        annotate,
        is_dry: request.is_dry,
        recovered,
        redactor,
        places: Arc::new(Semaphore::new(blobs * BLOB as usize)),
        again: Arc::new(Semaphore::new(blobs * (RESTING * BLOB) as usize)),
        turns: Arc::new(Semaphore::new(blobs * BLOB as usize / ANSWER as usize)),
        blobs,
        unfinished: Cell::default(),
        left_alone: Cell::default(),
        patience: PATIENCE.min(request.deadline / 2),
        longest: match request.purpose {
            Purpose::Run => request.deadline / 2,
            // What a round is too short for, a run may have the time for.
            Purpose::Backfill => Duration::MAX,
        },
        run,
    });
    let local = LocalSet::new();
    let (outcomes, stopped_by) = local.block_on(&runtime, async {
        let collectors: Vec<_> = request
            .tenants
            .iter()
            .map(|tenant| Rc::new(Collector::new(tenant, &request.content_types, &work)))
            .collect();
        let end = begin + request.deadline - margin(request.deadline);
        let stopped_by = finish(&work, &collectors, &request.stopping, end).await;
        if stopped_by == Some(Stop::Deadline) && request.purpose == Purpose::Run {
            warn_of_unheard(&collectors);
        }
        if let more @ 1.. = work.left_alone.get().saturating_sub(FEW) {
            log::warn!("{more} more tenants are left alone; `o365-wodle status` says why");
        }
        let outcomes = collectors
            .iter()
            .map(|collector| collector.outcome(stopped_by.is_some()))
            .collect();
        (outcomes, stopped_by)
    });
    if stopped_by.is_some() {
        stop.store(true, Ordering::Relaxed);
    }
    // What still held an order's sender goes with them. A name that is being looked up, or a command
    // that is being asked for a secret, is not waited for.
    drop((local, work));
    runtime.shutdown_background();
    let tally = delivering
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let tally = tally?;
    if stopped_by == Some(Stop::Deadline) && request.purpose == Purpose::Run {
        tally.unless_held(request.deadline)?;
    }
    Ok(Summary {
        outcomes,
        tally,
        stopped_by,
    })
}

/// Where events go: to Wazuh, if it is there.
fn outlet(settings: &Settings, request: &Request, home: Home, ledger: &Ledger) -> Result<Outlet> {
    if request.is_dry {
        return Ok(Outlet::Print);
    }
    Ok(Outlet::Wazuh(Box::new(Wazuh {
        queue: Some(Queue::connect(home.queue())?),
        acknowledgement: Acknowledgement::new(&home, &settings.wazuh)
            .since(ledger.value("reader")?.as_deref()),
        cap: Cap::from_saved(ledger.value("cap")?.as_deref()),
        send_timeout: settings.wazuh.send_timeout,
        // No later than it is why a run fails.
        held_after: HELD
            .min(settings.wazuh.send_timeout)
            .min(request.deadline / 2),
        home,
    })))
}

/// Says, once a day, which tenants Wazuh's built-in module collects too.
fn warn_of_native(ledger: &mut Ledger, home: &Home, tenants: &[Arc<Tenant>]) -> Result<()> {
    let collected = native::collected(home);
    let twice: Vec<&str> = tenants
        .iter()
        .filter(|tenant| tenant.enabled && collected.contains(&tenant.tenant_id))
        .map(|tenant| tenant.name.as_str())
        .collect();
    let today = Utc::now().date_naive().to_string();
    if twice.is_empty() || ledger.value("native_said")?.as_ref() == Some(&today) {
        return Ok(());
    }
    log::warn!(
        "Wazuh's built-in module collects these tenants too, so each of their records comes twice: {}. \
         Remove its <office365> block from {} (or from the agent.conf of the agent's group), then \
         restart Wazuh.",
        twice.join(", "),
        home.ossec_conf().display()
    );
    ledger.set_value("native_said", &today)?;
    Ok(())
}

/// What all tenants share in a run.
struct Work {
    settings: Settings,
    desk: Desk,
    http: Http,
    annotate: bool,
    is_dry: bool,
    /// When the ledger was lost: what Microsoft still had then is read again.
    recovered: Option<DateTime<Utc>>,
    /// Hashes what DLP rules matched, if it must not leave.
    redactor: Option<Redactor>,
    /// Places for what asks Microsoft for something, over all tenants, in shares.
    places: Arc<Semaphore>,
    /// Shares kept for what goes on after a rest.
    again: Arc<Semaphore>,
    /// Turns of tenants that sign in and are listed: so many that all places are taken, and no more, so that some come to
    /// their end before a deadline that is too near for all.
    turns: Arc<Semaphore>,
    /// How many blobs there are places for.
    blobs: usize,
    /// Tenants that may have work left.
    unfinished: Cell<usize>,
    /// Tenants that were left alone.
    left_alone: Cell<usize>,
    /// Who is waited for longer at the deadline is said to fail.
    patience: Duration,
    /// A blob that was waited for longer by the deadline would be begun anew in each run, and is said to fail as well.
    longest: Duration,
    /// The number of this run.
    run: usize,
}

impl Work {
    /// Waits for a place of so many shares. They are given in the order in which they are asked for.
    async fn place(&self, shares: u32) -> Result<OwnedSemaphorePermit, desk::Closed> {
        let place = Arc::clone(&self.places).acquire_many_owned(shares).await;
        place.map_err(|_| desk::Closed)
    }

    /// Waits for a tenant's turn.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, desk::Closed> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.map_err(|_| desk::Closed)
    }

    /// How many blobs a tenant of this `concurrency` takes from the ledger at a time.
    fn blobs_ahead(&self, concurrency: usize) -> usize {
        blobs_ahead(self.blobs, self.unfinished.get(), concurrency)
    }
}

/// An equal part of what may wait for so many places; few if there are many tenants.
fn blobs_ahead(places: usize, tenants: usize, concurrency: usize) -> usize {
    let part = places.saturating_mul(ROUNDS) / tenants.max(1);
    part.clamp(FEWEST, concurrency.saturating_mul(ROUNDS))
}

/// How many blobs there are places for with tenants of such `concurrency`: some for each of `at_once` tenants, enough for one
/// that is alone, and none that they could not take.
fn places(mut concurrency: Vec<usize>, at_once: usize) -> usize {
    concurrency.sort_unstable_by(|a, b| b.cmp(a));
    let alone = concurrency.first().copied().unwrap_or_default();
    let taken = concurrency.into_iter().take(at_once);
    let taken = taken.fold(0, usize::saturating_add);
    let places = at_once.saturating_mul(BLOBS_A_TENANT).max(alone);
    places
        .min(taken)
        .clamp(1, Semaphore::MAX_PERMITS / (RESTING * BLOB) as usize)
}

/// Drops what no listing can name any more, by the earliest of all clocks: neither this machine's nor one of Microsoft's
/// must, if it runs ahead, make us forget what may be listed again.
async fn tidy(work: &Work, collectors: &[Rc<Collector>]) {
    let clocks = collectors.iter().map(|collector| &collector.clock);
    let Some(now) = clocks
        .filter(|clock| clock.skew().is_some())
        .map(Clock::now)
        .min()
    else {
        return;
    };
    let keep = now.min(Utc::now()) - work.settings.collect.deduplicate_for.max(KEEP);
    // Step by step: what waits meanwhile comes between, and so does a wish to stop.
    let mut is_more = true;
    while is_more {
        let pruned = work.desk.ledger_durably(move |ledger| ledger.prune(keep));
        // A hand-over that has stopped does not tidy up.
        is_more = pruned.await.unwrap_or_default();
    }
}

/// The part of the deadline that is kept for ending in order.
fn margin(deadline: Duration) -> Duration {
    (deadline / 10).min(Duration::from_secs(3))
}

/// Collects until all is done, the deadline comes or a signal asks to stop; what stopped it.
async fn finish(
    work: &Rc<Work>,
    collectors: &[Rc<Collector>],
    stopping: &Stopping,
    end: Instant,
) -> Option<Stop> {
    let all = async {
        // A run that takes long may not come to its end, and neither the next ones.
        let meanwhile = async {
            loop {
                tokio::time::sleep(TIDY_EVERY).await;
                tidy(work, collectors).await;
            }
        };
        tokio::select! {
            () = all_tenants(work, collectors) => {}
            () = meanwhile => {}
        }
        tidy(work, collectors).await;
    };
    let stopped_by = tokio::select! {
        () = all => None,
        () = stopping.wished() => {
            log::info!("asked to stop: what was handed over is remembered, the next run goes on");
            Some(Stop::Signal)
        }
        () = tokio::time::sleep_until(end) => {
            log::info!("the deadline has come: the next run goes on where this one stops");
            Some(Stop::Deadline)
        }
    };
    // All at once: the hand-over may be busy for a moment whenever it is asked.
    let mut leaving = JoinSet::new();
    for collector in collectors {
        let collector = Rc::clone(collector);
        leaving.spawn_local(async move { collector.leave(stopped_by).await });
    }
    leaving.join_all().await;
    stopped_by
}

/// Says that a deadline was too near.
fn warn_of_unheard(collectors: &[Rc<Collector>]) {
    let is_unheard = |one: &&Rc<Collector>| {
        !one.is_heard.get() && !one.is_over.get() && one.throttled_for().is_none()
    };
    let count = collectors.iter().filter(is_unheard).count();
    if count > 0 {
        log::warn!(
            "not all that is new was listed of {count} of {} tenants; the next run begins elsewhere. If it stays so, raise the \
             deadline ([collect] deadline), and with it the timeout of whatever starts o365-wodle",
            collectors.len()
        );
    }
}

/// Collects all tenants side by side until none has work left and Wazuh has confirmed what it has.
///
/// A large backlog delays nobody: all that is asked of Microsoft waits for a place, and a tenant waits for
/// one at a time, so that each gets the next after all others had theirs. Each run begins with another tenant, far from the
/// last one: if the deadline comes before all had their turn, it does not come before the same ones again.
async fn all_tenants(work: &Rc<Work>, collectors: &[Rc<Collector>]) {
    let mut collectors = collectors.to_vec();
    let first = first(work.run, collectors.len());
    collectors.rotate_left(first);
    loop {
        let mut tenants = JoinSet::new();
        work.unfinished.set(collectors.len());
        for collector in &collectors {
            let collector = Rc::clone(collector);
            tenants.spawn_local(async move {
                // A hand-over that has stopped takes and tells nothing more; its thread knows why.
                if collector.collect().await.is_ok() {
                    collector.work.unfinished.update(|tenants| tenants - 1);
                    collector.tell().await.unwrap_or_default();
                }
            });
        }
        while let Some(ended) = tenants.join_next().await {
            if let Err(panic) = ended
                && panic.is_panic()
            {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
        // What Wazuh lost meanwhile is pending again.
        match work.desk.settle().await {
            Ok(come_again) if come_again > 0 => {}
            _ => return,
        }
    }
}

/// With which of so many tenants, or windows, a run begins: in steps of about five eighths, a few runs spread over all of them,
/// and as many runs as there are of them begin with each once.
fn first(run: usize, count: usize) -> usize {
    let mut step = count * 5 / 8 + 1;
    while divisor(step, count) > 1 {
        step += 1;
    }
    (run % count.max(1) * step).checked_rem(count).unwrap_or(0)
}

/// The greatest common divisor.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{blobs_ahead, first, places};

    #[test]
    fn runs_begin_all_over_the_tenants() {
        for tenants in 0..=400 {
            let mut begins: Vec<_> = (0..tenants).map(|run| first(run, tenants)).collect();
            begins.sort_unstable();
            assert_eq!(begins, (0..tenants).collect::<Vec<_>>());
        }
        for tenants in [16, 24, 100, 300] {
            let begins: Vec<_> = (1..=8).map(|run| first(run, tenants)).collect();
            for quarter in 0..4 {
                let is_in = |begin: &usize| begin * 4 / tenants == quarter;
                assert!(begins.iter().any(is_in), "{tenants}: {begins:?}");
            }
        }
    }

    #[test]
    fn places_are_two_a_tenant_and_enough_for_one() {
        assert_eq!(places(vec![8; 300], 16), 32);
        assert_eq!(places(vec![8; 300], 1), 8);
        assert_eq!(places(vec![8], 16), 8);
        assert_eq!(places(vec![1, 1, 1], 2), 2);
        assert_eq!(places(vec![1, 40, 1], 16), 40);
        assert_eq!(places(Vec::new(), 16), 1);
        assert!(places(vec![usize::MAX; 2], usize::MAX) > 1);
    }

    #[test]
    fn few_blobs_wait_whatever_the_number_of_tenants() {
        assert_eq!(blobs_ahead(8, 1, 8), 256);
        assert_eq!(blobs_ahead(32, 50, 8), 20);
        for tenants in [1, 4, 16, 50, 300] {
            assert!(tenants * blobs_ahead(32, tenants, 8) <= 32 * 32 + 4 * tenants);
            assert!(blobs_ahead(32, tenants, 8) >= 4);
        }
        assert_eq!(blobs_ahead(32, 0, 1), 32);
    }
}
