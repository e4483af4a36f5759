//! One tenant: sign in, subscribe, list, then fetch its blobs, several at once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::desk::Closed;
use super::event::{Envelope, Shaper};
use super::gap::Before;
use super::health::Finding;
use super::late::{Listing, Wait};
use super::outcome::{Outcome, Trouble};
use super::place::at;
use super::refusals::Refusals;
use super::{ANSWER, BLOB, FEW, RESTING, Stop, Work, fetch};
use crate::Error;
use crate::config::{Authentication, ContentType, Secret, Tenant};
use crate::ledger::{Gap, LONGEST_BACK_OFF, Pending, Scope};
use crate::microsoft::{Activity, Class, Clock, Credential, Fault};

/// By how much two readings of Microsoft's time, which is told to the second, may differ.
pub(super) const CLOCK_JITTER: Duration = Duration::from_mins(1);

/// Collects one tenant.
pub(super) struct Collector {
    pub(super) tenant: Arc<Tenant>,
    pub(super) work: Rc<Work>,
    /// What time it is at Microsoft. Each tenant has its own: one server must not move the markers of others.
    pub(super) clock: Clock,
    pub(super) content_types: Vec<ContentType>,
    /// The tenant at Microsoft, from the sign-in on.
    pub(super) activity: RefCell<Option<Rc<Activity>>>,
    pub(super) streams: RefCell<Vec<(i64, ContentType)>>,
    trouble: Cell<Option<Trouble>>,
    /// Whether anything that was asked for came: a listing, or the beginning of a blob.
    pub(super) is_served: Cell<bool>,
    pub(super) is_over: Cell<bool>,
    /// What of the whole tenant is asked for, and since when.
    pub(super) asked: Cell<Option<(&'static str, Instant)>>,
    pub(super) is_listed: Cell<bool>,
    pub(super) news: Notify,
    /// All that is new was listed, but not all that is to be listed beside it.
    pub(super) new_is_listed: Notify,
    /// The turn that other tenants wait for, until all that is new was listed.
    pub(super) turn: RefCell<Option<OwnedSemaphorePermit>>,
    /// Content types of which all that is new was listed.
    pub(super) heard: RefCell<HashSet<ContentType>>,
    /// Whether all that is new was listed, as far as it can be.
    pub(super) is_heard: Cell<bool>,
    /// Whether Microsoft has answered so that no fault of the whole tenant can last.
    pub(super) is_well: Cell<bool>,
    /// Whether a start was not asked for, since the last one was answered that there is no audit log.
    pub(super) lacks_audit_log: Cell<bool>,
    /// The streams that are being listed.
    pub(super) listing: RefCell<BTreeMap<ContentType, Listing>>,
    /// What can no longer be listed, until something behind it is.
    pub(super) gaps: RefCell<BTreeMap<(ContentType, Before), Gap>>,
    /// What this run saw of the tenant and the streams that it looked at.
    pub(super) findings: RefCell<BTreeMap<Scope, Vec<Finding>>>,
    /// Streams that the app has no permission for, as far as this run saw.
    pub(super) unavailable: RefCell<Vec<((i64, ContentType), Fault)>>,
    /// Streams that were refused, as far as this run saw: all of them, or some alone.
    pub(super) refused: RefCell<Vec<((i64, ContentType), Fault)>>,
    /// When the certificate ends, where one is used.
    pub(super) certificate_ends: Cell<Option<DateTime<Utc>>>,
    /// One start at a time, unless one hangs: Microsoft may want to be left alone meanwhile.
    pub(super) start: tokio::sync::Mutex<()>,
    /// When this run requested the start of a stream's subscription last.
    pub(super) started: RefCell<HashMap<i64, Instant>>,
    pub(super) refusals: RefCell<Refusals>,
    /// The blobs that are being fetched.
    pub(super) fetching: RefCell<HashMap<i64, (Pending, Wait)>>,
}

/// Where a whole tenant failed, which says when it may be tried again.
#[derive(Clone, Copy)]
pub(super) enum Failed {
    /// At Microsoft or on the way there: later, or after `wait` if a time was named.
    AtMicrosoft {
        is_refused: bool,
        wait: Option<Duration>,
    },
    /// Here: by the next run.
    Here,
}

/// Why a tenant's collection ends early.
pub(super) enum End {
    Closed(Closed),
    /// The whole tenant failed.
    Fault(Fault),
    /// Its credential cannot be read.
    Credential(Error),
}

impl From<Closed> for End {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed)
    }
}

impl Collector {
    pub(super) fn new(tenant: &Arc<Tenant>, only: &[ContentType], work: &Rc<Work>) -> Self {
        Self {
            content_types: tenant.content_types_among(only),
            tenant: Arc::clone(tenant),
            work: Rc::clone(work),
            clock: Clock::default(),
            activity: RefCell::default(),
            start: tokio::sync::Mutex::default(),
            streams: RefCell::default(),
            trouble: Cell::default(),
            is_served: Cell::default(),
            is_over: Cell::default(),
            asked: Cell::default(),
            is_listed: Cell::default(),
            news: Notify::new(),
            new_is_listed: Notify::new(),
            turn: RefCell::default(),
            heard: RefCell::default(),
            is_heard: Cell::default(),
            is_well: Cell::default(),
            lacks_audit_log: Cell::default(),
            listing: RefCell::default(),
            gaps: RefCell::default(),
            findings: RefCell::default(),
            unavailable: RefCell::default(),
            refused: RefCell::default(),
            certificate_ends: Cell::default(),
            started: RefCell::default(),
            refusals: RefCell::default(),
            fetching: RefCell::default(),
        }
    }

    pub(super) fn outcome(&self, is_stopped: bool) -> Outcome {
        let is_served = self.is_served.get() || self.is_heard.get() || self.is_over.get();
        Outcome {
            tenant: self.tenant.name.clone(),
            trouble: match self.trouble.get() {
                None if is_stopped && !is_served => Some(Trouble::Untried),
                Some(Trouble::Partial) if !self.is_served.get() => {
                    Some(if self.lacks_audit_log.get() {
                        Trouble::Refused
                    } else {
                        Trouble::Unreachable
                    })
                }
                trouble => trouble,
            },
        }
    }

    /// Collects all there is. What takes much memory is boxed: hundreds of tenants wait for their place at the same time.
    pub(super) async fn collect(self: &Rc<Self>) -> Result<(), Closed> {
        if self.is_over.get() {
            return Ok(());
        }
        let signed_in = self.activity.borrow().clone();
        let collected = async {
            if !self.is_listed.get() {
                let turn = self.work.turn().await?;
                self.turn.replace(Some(turn));
            }
            let activity = if let Some(activity) = signed_in {
                activity
            } else {
                let place = self.work.place(ANSWER).await?;
                let signing_in = self.at(place, Box::pin(self.sign_in()));
                let signed_in = self.in_turn(self.work.patience, signing_in).await?;
                let Some(activity) = signed_in else {
                    self.is_over.set(true);
                    return Ok(());
                };
                activity
            };
            self.list_and_fetch(&activity).await
        };
        let collected = collected.await;
        self.turn.take();
        self.ends(collected).await
    }

    /// Works at a place. A tenant that may not be asked for now gives up its turn as well.
    pub(super) async fn at<T>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl Future<Output = T>,
    ) -> T {
        // What keeps little while it rests may do so in greater numbers.
        let is_blob = place.num_permits() == BLOB as usize;
        let shares = if is_blob { RESTING * BLOB } else { ANSWER };
        let again = (&self.work.again, shares);
        let rests = || drop(self.turn.take());
        at(place, again, self.work.patience, rests, work).await
    }

    /// Works while it is the tenant's turn, which others get if that takes long.
    async fn in_turn<T>(&self, patience: Duration, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(patience, &mut work).await {
            return done;
        }
        self.turn.take();
        work.await
    }

    /// What ends the collection is said at once, by whatever meets it first, and remembered: what goes on beside it may last
    /// until the deadline.
    async fn ends(&self, ended: Result<(), End>) -> Result<(), Closed> {
        match ended {
            Ok(()) => Ok(()),
            Err(End::Closed(closed)) => Err(closed),
            Err(_) if self.is_over.replace(true) => Ok(()),
            Err(End::Fault(fault)) => {
                let is_refused = matches!(fault.class, Class::RefuseTenant | Class::AuditLogOff);
                self.finds(None, Finding::of_fault(&fault, false));
                self.worse(if is_refused {
                    Trouble::Refused
                } else {
                    Trouble::Partial
                });
                let wait = fault.retry_after;
                self.failed(fault.to_string(), Failed::AtMicrosoft { is_refused, wait })
                    .await
            }
            Err(End::Credential(error)) => {
                self.finds(None, Finding::of_credential(&error.to_string()));
                self.worse(Trouble::Credential);
                // Microsoft was not asked, so it is not Microsoft that is to be left alone.
                self.failed(error.to_string(), Failed::Here).await
            }
        }
    }

    pub(super) fn worse(&self, trouble: Trouble) {
        self.trouble.set(Some(trouble.or(self.trouble.get())));
    }

    /// Lists what is new, then fetches what is pending; beside what else is to be listed, and beside a listing that takes long,
    /// which must not hold up the known.
    async fn list_and_fetch(self: &Rc<Self>, activity: &Rc<Activity>) -> Result<(), End> {
        if !self.is_listed.get() {
            let mut listing = Box::pin(self.list(activity));
            tokio::select! {
                biased;
                listed = &mut listing => listed?,
                _ = timeout(self.work.patience, self.new_is_listed.notified()) => {
                    self.news.notify_one();
                    return Box::pin(async {
                        // Where requests take long, so does their turn.
                        let listing = self.in_turn(2 * self.work.patience, listing);
                        let (listed, fetched) = tokio::join!(listing, self.fetch_all(activity));
                        listed.and(fetched)
                    })
                    .await;
                }
            }
        }
        Box::pin(self.fetch_all(activity)).await
    }

    /// Lists everything.
    async fn list(self: &Rc<Self>, activity: &Rc<Activity>) -> Result<(), End> {
        let listed = self.list_all(activity).await;
        self.turn.take();
        self.is_listed.set(listed.is_ok());
        let ended = self.ends(listed).await;
        self.news.notify_one();
        Ok(ended?)
    }

    /// The whole tenant failed: says so, and remembers until when to leave it alone.
    pub(super) async fn failed(&self, said: String, failed: Failed) -> Result<(), Closed> {
        self.is_over.set(true);
        let (is_refused, wait, stamp) = match failed {
            Failed::AtMicrosoft { is_refused, wait } => (is_refused, wait, stamp(&self.tenant)),
            // No credential that there may be is the one that failed.
            Failed::Here => (false, None, String::new()),
        };
        // By this machine's clock, since the next run compares before Microsoft's is known.
        let (id, now) = (self.tenant.tenant_id.clone(), Utc::now());
        let error = said.clone();
        let not_before = self
            .work
            .desk
            .ledger(move |ledger| ledger.tenant_failed(&id, now, is_refused, wait, &stamp, &error))
            .await?;
        let again = match failed {
            Failed::AtMicrosoft { .. } => again(not_before, now),
            Failed::Here => String::new(),
        };
        log::error!("{}: {said}{again}", self.tenant.name);
        Ok(())
    }

    /// Signs in, unless the tenant is to be left alone for now.
    async fn sign_in(&self) -> Result<Option<Rc<Activity>>, End> {
        self.asked.set(Some(("the sign-in", Instant::now())));
        let id = self.tenant.tenant_id.clone();
        let state = self
            .work
            .desk
            .ledger(move |ledger| ledger.tenant(&id))
            .await?;
        let now = Utc::now();
        if is_ahead(Some(state.not_before), now, LONGEST_BACK_OFF)
            && state.credential == stamp(&self.tenant)
        {
            let error = state.error.as_deref().unwrap_or("it failed");
            let again = again(state.not_before, now);
            self.work.left_alone.update(|tenants| tenants + 1);
            let is_one_of_many = self.work.left_alone.get() > FEW;
            let level = if is_one_of_many {
                log::Level::Debug
            } else {
                log::Level::Warn
            };
            log::log!(level, "{}: left alone{again}: {error}", self.tenant.name);
            self.worse(if state.refused {
                Trouble::Refused
            } else {
                Trouble::Unreachable
            });
            // It is not asked, so it cannot be late.
            self.asked.set(None);
            self.lasts(error).await?;
            return Ok(None);
        }
        let credential = Credential::read_aside(&self.tenant.authentication)
            .await
            .map_err(|flaw| End::Credential(flaw.into()))?;
        self.certificate_ends.set(credential.not_after());
        let work = &self.work;
        let activity = Activity::new(&work.http, &self.tenant, credential, self.clock.clone())
            .map_err(End::Credential)?;
        let activity = Rc::new(activity);
        *self.activity.borrow_mut() = Some(Rc::clone(&activity));
        activity.sign_in().await.map_err(End::Fault)?;
        self.asked.set(None);
        Ok(Some(activity))
    }

    /// Fetches all pending blobs, several at once.
    async fn fetch_all(self: &Rc<Self>, activity: &Rc<Activity>) -> Result<(), End> {
        self.some_at_once(
            BLOB,
            async || self.pending().await,
            |content: Pending| {
                let (this, activity) = (Rc::clone(self), Rc::clone(activity));
                let id = content.id;
                let entry = (content.clone(), Wait::default());
                self.fetching.borrow_mut().insert(id, entry);
                async move {
                    let is_left =
                        this.is_over.get() || this.refusals.borrow().are_of_stream(content.stream);
                    let result = if is_left {
                        Ok(())
                    } else {
                        let result = fetch::fetch(&this, &activity, &content).await;
                        this.fetched(content, result).await
                    };
                    this.fetching.borrow_mut().remove(&id);
                    Ok(this.ends(result).await?)
                }
            },
        )
        .await
    }

    /// Some blobs more to fetch, as soon as there are any; none: all are, or are being fetched.
    async fn pending(&self) -> Result<Vec<Pending>, End> {
        loop {
            if !self.is_listed.get() && !self.is_over.get() {
                let news = timeout(self.work.patience, self.news.notified());
                news.await.unwrap_or_default();
            }
            if self.is_over.get() {
                return Ok(Vec::new());
            }
            let is_listed = self.is_listed.get();
            let (mut streams, now) = (self.streams.borrow().clone(), self.clock.now());
            streams.retain(|&(stream, _)| !self.refusals.borrow().are_of_stream(stream));
            let limit = self.work.blobs_ahead(self.tenant.concurrency);
            // What was fetched is known to the ledger by this order's turn, what is being fetched is not.
            let fetching: HashSet<i64> = self.fetching.borrow().keys().copied().collect();
            let listing = self.listed_soon();
            let pending = self.work.desk.ledger_in_turn(move |ledger| {
                let mut pending = ledger.pending(&streams, now, limit + fetching.len())?;
                // What failed before comes behind all that is new of its stream.
                pending.retain(|content| {
                    let is_new = content.attempts == 0;
                    !fetching.contains(&content.id)
                        && (is_listed || is_new || !listing.contains(&content.content_type))
                });
                Ok(pending)
            });
            let pending = pending.await?;
            if is_listed || !pending.is_empty() {
                // There may be more.
                self.news.notify_one();
                return Ok(pending);
            }
        }
    }

    /// Works on all items that `more` gives until it gives none, as many at once as the tenant may and each at a place of
    /// so many shares; once one ends the collection, those that have begun go on to their end, and no others begin.
    pub(super) async fn some_at_once<T, F>(
        self: &Rc<Self>,
        shares: u32,
        mut more: impl AsyncFnMut() -> Result<Vec<T>, End>,
        work: impl Fn(T) -> F,
    ) -> Result<(), End>
    where
        F: Future<Output = Result<(), End>> + 'static,
    {
        let mut items = more().await?.into_iter();
        let mut working = JoinSet::new();
        let mut fault = None;
        loop {
            while working.len() < self.tenant.concurrency
                && fault.is_none()
                && !(shares == BLOB && self.is_over.get())
                && let Some(item) = items.next()
            {
                let place = self.work.place(shares).await?;
                // Boxed, what it took goes back before it is joined.
                let (this, work) = (Rc::clone(self), Box::pin(work(item)));
                working.spawn_local(async move { this.at(place, work).await });
                if items.len() == 0 {
                    items = more().await?.into_iter();
                }
            }
            match working.join_next().await {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(End::Fault(ended)))) => fault = fault.or(Some(ended)),
                Some(Ok(Err(end))) => return Err(end),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        fault.map_or(Ok(()), |fault| Err(End::Fault(fault)))
    }

    /// Leaves what the next run has to know. A hand-over that has stopped remembers nothing more. Boxed is what is rare: all
    /// tenants leave at the same time.
    pub(super) async fn leave(&self, stopped_by: Option<Stop>) {
        if stopped_by == Some(Stop::Deadline) {
            Box::pin(self.cut_off()).await.unwrap_or_default();
        }
        if stopped_by.is_some() {
            Box::pin(self.tell_later()).await.unwrap_or_default();
            Box::pin(self.keep_distance()).await.unwrap_or_default();
        }
        self.count_requests().await.unwrap_or_default();
    }

    /// Remembers how the run's requests ended.
    async fn count_requests(&self) -> Result<(), Closed> {
        let activity = self.activity.borrow().clone();
        let Some(activity) = activity else {
            return Ok(());
        };
        let (id, requests) = (self.tenant.tenant_id.clone(), activity.requests());
        self.work
            .desk
            .ledger(move |ledger| {
                let counts = [
                    ("ok", requests.ok),
                    ("throttled", requests.throttled),
                    ("refused", requests.refused),
                    ("failed", requests.failed),
                    ("unanswered", requests.unanswered),
                ];
                ledger.count_requests(&id, &counts)
            })
            .await
    }

    /// The run ends while Microsoft wants to be left alone: the next one has to know.
    async fn keep_distance(&self) -> Result<(), Closed> {
        // What ended the collection for good was remembered then.
        let Some(wait) = self.throttled_for().filter(|_| !self.is_over.get()) else {
            return Ok(());
        };
        let why = "Microsoft asked to be left alone for a while";
        log::warn!("{}: {why}", self.tenant.name);
        // By this machine's clock, as in `failed`.
        let (id, now) = (self.tenant.tenant_id.clone(), Utc::now());
        let stamp = stamp(&self.tenant);
        self.work
            .desk
            .ledger(move |ledger| ledger.tenant_left_alone(&id, now, wait, &stamp, why))
            .await
    }

    /// What shapes the records of one of the tenant's content types.
    pub(super) fn shaper(&self, content_type: ContentType) -> Shaper {
        Shaper::new(&Envelope {
            location: &self.work.settings.wazuh.location,
            content_type: content_type.as_str(),
            tenant: &self.tenant.name,
            labels: &self.tenant.labels,
            annotate: self.work.annotate,
            flatten: self.work.settings.wazuh.flatten,
            redactor: self.work.redactor.as_ref(),
        })
    }
}

/// All that a tenant signs in with, without reading what is secret: a back-off ends when any of it is
/// replaced. What a command prints, or a credential of systemd's holds, is not seen.
fn stamp(tenant: &Tenant) -> String {
    let files: Vec<&Path> = match &tenant.authentication {
        Authentication::Secret(Secret::File(file)) | Authentication::FederatedToken(file) => {
            vec![file]
        }
        Authentication::Certificate {
            certificate_file,
            private_key_file,
            password_file,
            ..
        } => [
            Some(certificate_file),
            private_key_file.as_ref(),
            password_file.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect(),
        Authentication::Secret(Secret::Command(_) | Secret::Credential(_)) => Vec::new(),
    };
    let versions: Vec<_> = files
        .iter()
        .filter_map(|file| file.metadata().ok())
        // Of its owner and mode too.
        .map(|file| {
            (
                file.mtime(),
                file.mtime_nsec(),
                file.ctime(),
                file.ctime_nsec(),
            )
        })
        .collect();
    let stamp = format!(
        "{} {:?} {:?} {:?} {versions:?}",
        tenant.client_id, tenant.cloud, tenant.login_url, tenant.authentication
    );
    // A command's arguments are nobody's business.
    format!("{:?}", digest(&SHA256, stamp.as_bytes()))
}

/// Whether a time is still to come; one that is further ahead than it can ever be set is of a clock that was put back since.
pub(crate) fn is_ahead(time: Option<DateTime<Utc>>, now: DateTime<Utc>, at_most: Duration) -> bool {
    time.is_some_and(|time| time > now && time <= now + at_most + CLOCK_JITTER)
}

/// "; tried again after …", where that is not now.
pub(super) fn again(not_before: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if not_before <= now {
        return String::new();
    }
    format!("; tried again after {}", not_before.format("%F %T UTC"))
}
