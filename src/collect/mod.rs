//! The flow itself: one collection, from the tenants' credentials to events in Wazuh's queue.

mod deliver;
mod desk;
pub mod event;
mod fetch;
mod list;
mod tenant;
pub mod window;

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::config::{ContentType, Settings, Tenant};
use crate::ledger::{self, Ledger, Lock};
use crate::microsoft::{Clock, Http};
use crate::wazuh::{Acknowledgement, Home, Queue, Window};
use crate::{Error, Result};

pub use deliver::Tally;
use deliver::{Delivery, Outlet, Wazuh};
use desk::Desk;
use event::Redactor;
use tenant::{Collector, Turn};
pub use tenant::{Outcome, Trouble};

/// How long closed contents are remembered: as long as a listing can name them, and a day.
const KEEP: Duration = Duration::from_hours(8 * 24);

/// A tenant that is slower than this gives its place to another and goes on beside it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// The tenants to collect.
    pub tenants: Vec<Tenant>,
    /// Narrows each tenant's content types, if given.
    pub content_types: Option<Vec<ContentType>>,
    /// The run ends itself in order by then.
    pub deadline: Duration,
    /// Print events instead of sending them, and change nothing.
    pub is_dry: bool,
}

/// What a run did.
#[derive(Debug)]
pub struct Summary {
    /// An outcome a tenant, in the order of the request.
    pub outcomes: Vec<Outcome>,
    /// What was handed over.
    pub tally: Tally,
    /// Whether the run was stopped with work left: by its deadline or a signal.
    pub is_stopped: bool,
}

/// One collection: every tenant, every content type.
///
/// # Errors
/// What stands in the way of all tenants alike: the ledger, the queue socket, the HTTP client.
pub fn collect(settings: &Settings, request: &Request) -> Result<Summary> {
    let _lock = Lock::take(&settings.state.ledger)?;
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
    let ledger = if request.is_dry {
        Ledger::open_dry(&settings.state.ledger)?
    } else {
        Ledger::open(&settings.state.ledger, Utc::now())?.0
    };
    let recovered = ledger.recovered()?;
    let redactor = settings
        .collect
        .redact_dlp
        .then(|| ledger::installation_key(&settings.state.ledger))
        .transpose()?
        .map(|key| Redactor::new(key.as_slice()));
    let home = Home::find(&settings.wazuh)?;
    let annotate = settings
        .wazuh
        .annotate
        .unwrap_or_else(|| home.before_wazuh_5());
    // Wazuh is looked at before Microsoft is called.
    let outlet = if request.is_dry {
        Outlet::Print
    } else {
        Outlet::Wazuh(Box::new(Wazuh {
            queue: Some(Queue::connect(home.queue())?),
            acknowledgement: Acknowledgement::new(&home, &settings.wazuh),
            window: Window::from_saved(ledger.value("window")?.as_deref()),
            send_timeout: settings.wazuh.send_timeout,
            home,
        }))
    };
    let http = Http::new(&settings.http)?;

    let (orders, received) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let delivery = Delivery::new(received, ledger, outlet, Arc::clone(&stop))?;
    let delivering = thread::Builder::new()
        .name("deliver".to_owned())
        .spawn(move || delivery.run())
        .map_err(|error| Error::TryLater(format!("no thread can be started: {error}")))?;

    let work = Rc::new(Work {
        settings: settings.clone(),
        desk: Desk::new(orders),
        http,
        annotate,
        is_dry: request.is_dry,
        recovered,
        redactor,
        stop: Arc::clone(&stop),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::TryLater(format!("no event loop can be started: {error}")))?;
    let local = LocalSet::new();
    let (outcomes, is_stopped) = local.block_on(&runtime, async {
        let collectors: Vec<_> = request
            .tenants
            .iter()
            .map(|tenant| {
                Rc::new(Collector::new(
                    tenant,
                    request.content_types.as_deref(),
                    &work,
                ))
            })
            .collect();
        let end = begin + request.deadline - margin(request.deadline);
        let is_stopped = !finishes(&work, &collectors, end).await;
        let outcomes = collectors
            .iter()
            .map(|collector| collector.outcome())
            .collect();
        (outcomes, is_stopped)
    });
    if is_stopped {
        stop.store(true, Ordering::Relaxed);
    }
    // What still held an order's sender goes with them. A name that is being looked up, or a command
    // that is being asked for a secret, is not waited for.
    drop((local, work));
    runtime.shutdown_background();
    let tally = delivering
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok(Summary {
        outcomes,
        tally: tally?,
        is_stopped,
    })
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
    /// Whether the hand-over was told to stop.
    stop: Arc<AtomicBool>,
}

/// Drops what no listing can name any more. By Microsoft's time: a local clock that runs ahead must
/// not make us forget what may be listed again.
async fn tidy(work: &Work, collectors: &[Rc<Collector>]) {
    let clocks = collectors.iter().map(|collector| &collector.clock);
    let Some(now) = clocks
        .filter(|clock| clock.skew().is_some())
        .map(Clock::now)
        .min()
    else {
        return;
    };
    let keep = now - work.settings.collect.deduplicate_for.max(KEEP);
    let stop = Arc::clone(&work.stop);
    let pruned = work
        .desk
        .ledger_in_turn(move |ledger| ledger.prune(keep, || !stop.load(Ordering::Relaxed)));
    // A hand-over that has stopped does not tidy up.
    pruned.await.unwrap_or_default();
}

/// The part of the deadline that is kept for ending in order.
fn margin(deadline: Duration) -> Duration {
    (deadline / 10).min(Duration::from_secs(3))
}

/// Collects until all is done, the deadline comes or a signal asks to stop; whether all is done.
async fn finishes(work: &Rc<Work>, collectors: &[Rc<Collector>], end: Instant) -> bool {
    let all = async {
        all_tenants(work, collectors).await;
        tidy(work, collectors).await;
    };
    let asked = async {
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let is_done = tokio::select! {
        () = all => true,
        () = asked => {
            log::info!("asked to stop: what was handed over is remembered, the next run goes on");
            false
        }
        () = tokio::time::sleep_until(end) => {
            log::info!("the deadline has come: the next run goes on where this one stops");
            for collector in collectors {
                // A hand-over that has stopped remembers nothing more.
                collector.cut_off().await.unwrap_or_default();
            }
            false
        }
    };
    if !is_done {
        for collector in collectors {
            collector.keep_distance().await.unwrap_or_default();
        }
    }
    is_done
}

/// Gives each tenant turn after turn until none has work left and Wazuh has confirmed what it has.
///
/// Turns keep a tenant with a large backlog from delaying the others: places are given in the order
/// in which they are asked for, and who has had a turn asks anew.
async fn all_tenants(work: &Rc<Work>, collectors: &[Rc<Collector>]) {
    loop {
        let places = Rc::new(Semaphore::new(work.settings.collect.tenants_in_parallel));
        let mut tenants = JoinSet::new();
        for collector in collectors {
            let (places, collector) = (Rc::clone(&places), Rc::clone(collector));
            tenants.spawn_local(async move {
                loop {
                    let Ok(place) = places.acquire().await else {
                        return;
                    };
                    let turn = collector.turn();
                    tokio::pin!(turn);
                    let soon = tokio::time::timeout(PATIENCE, &mut turn).await;
                    let turn = if let Ok(turn) = soon {
                        turn
                    } else {
                        drop(place);
                        turn.await
                    };
                    match turn {
                        Ok(Turn::More) => {}
                        // The hand-over has stopped: its thread knows why.
                        Ok(Turn::Done) | Err(desk::Closed) => return,
                    }
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
