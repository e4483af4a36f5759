//! One tenant's turns: sign in, subscribe, list, then fetch a few blobs at a time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::desk::Closed;
use super::event::{Envelope, Shaper};
use super::window::{self, Window};
use super::{PATIENCE, Work, fetch};
use crate::Error;
use crate::config::{Authentication, ContentType, Secret, Tenant};
use crate::ledger::{LONGEST_BACK_OFF, NewContent, Pending, Stream};
use crate::microsoft::{Activity, Class, Clock, Credential, Fault};
use crate::teeth;

/// Blobs that a turn fetches, for each that is fetched at once; the first turn has no more than
/// these, so that everybody's first blobs come early.
const ROUNDS: usize = 32;
/// How often subscriptions are listed though nothing is known to be missing.
const LIST_SUBSCRIPTIONS: Duration = Duration::from_hours(24);
/// Microsoft wants that much between two starts of a subscription.
const START_AGAIN: Duration = Duration::from_mins(15);
/// How long a content type that the app lacks a permission for is left alone.
const UNAVAILABLE: Duration = Duration::from_hours(6);
/// By how much two readings of Microsoft's time, which is told to the second, may differ.
const CLOCK_JITTER: Duration = Duration::from_mins(1);
/// How far ahead of Microsoft's time a marker may be without being implausible.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(15);
/// The time that the first listing may take before its start is out of Microsoft's reach.
const REACH_MARGIN: Duration = Duration::from_mins(5);
/// Blobs in a row that are refused before it is the tenant that is refused.
const REFUSALS: u32 = 8;
/// What is read again after a ledger was lost.
const ALL_THERE_IS: Duration = Duration::from_hours(7 * 24);

/// Whether a tenant wants another turn.
pub(super) enum Turn {
    More,
    Done,
}

/// What kept a tenant, or part of it, from being collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Microsoft refuses it: credentials, permissions or the audit log.
    Refused,
    /// Microsoft, or the way there, failed for the whole tenant.
    Unreachable,
    /// Some content types or contents failed, the others did not.
    Partial,
}

/// How the collection of a tenant went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The operator's name for the tenant.
    pub tenant: String,
    /// The worst that happened; each was logged once.
    pub trouble: Option<Trouble>,
}

/// Collects one tenant.
pub(super) struct Collector {
    pub(super) tenant: Tenant,
    pub(super) work: Rc<Work>,
    /// What time it is at Microsoft. Each tenant has its own: one server must not move the markers
    /// of others.
    pub(super) clock: Clock,
    content_types: Vec<ContentType>,
    activity: RefCell<Option<Rc<Activity>>>,
    streams: RefCell<Vec<(i64, ContentType)>>,
    trouble: Cell<Option<Trouble>>,
    is_over: Cell<bool>,
    /// When its first turn began.
    begun: Cell<Option<Instant>>,
    /// Whether everything was listed.
    is_listed: Cell<bool>,
    /// Blobs in a row that were refused.
    refusals: Cell<u32>,
    /// The blobs that were asked for and not answered yet, and since when.
    waiting: RefCell<HashMap<i64, (Pending, Instant)>>,
}

/// Why a tenant's turn ends early.
enum End {
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
    pub(super) fn new(tenant: &Tenant, only: Option<&[ContentType]>, work: &Rc<Work>) -> Self {
        let content_types = tenant
            .content_types
            .iter()
            .copied()
            .filter(|content_type| only.is_none_or(|only| only.contains(content_type)))
            .collect();
        Self {
            tenant: tenant.clone(),
            work: Rc::clone(work),
            clock: Clock::default(),
            content_types,
            activity: RefCell::default(),
            streams: RefCell::default(),
            trouble: Cell::default(),
            is_over: Cell::default(),
            begun: Cell::default(),
            is_listed: Cell::default(),
            refusals: Cell::default(),
            waiting: RefCell::default(),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            tenant: self.tenant.name.clone(),
            trouble: self.trouble.get(),
        }
    }

    /// One turn: in the first everything is listed; in each some blobs are fetched.
    pub(super) async fn turn(self: &Rc<Self>) -> Result<Turn, Closed> {
        if self.is_over.get() {
            return Ok(Turn::Done);
        }
        self.begun.set(self.begun.get().or(Some(Instant::now())));
        let signed_in = self.activity.borrow().clone();
        let is_first = signed_in.is_none();
        let turn = async {
            let activity = if let Some(activity) = signed_in {
                activity
            } else {
                let Some(activity) = self.sign_in().await? else {
                    self.is_over.set(true);
                    return Ok(Turn::Done);
                };
                self.list_all(&activity).await?;
                self.is_listed.set(true);
                activity
            };
            self.fetch_some(&activity, is_first).await
        };
        match turn.await {
            Ok(turn) => Ok(turn),
            Err(End::Closed(closed)) => Err(closed),
            Err(End::Fault(fault)) => {
                let is_refused = matches!(fault.class, Class::RefuseTenant | Class::AuditLogOff);
                self.failed(fault.to_string(), is_refused, fault.retry_after)
                    .await
            }
            Err(End::Credential(error)) => self.failed(error.to_string(), true, None).await,
        }
    }

    fn worse(&self, trouble: Trouble) {
        let rank = |trouble| match trouble {
            None => 0,
            Some(Trouble::Partial) => 1,
            Some(Trouble::Unreachable) => 2,
            Some(Trouble::Refused) => 3,
        };
        if rank(Some(trouble)) > rank(self.trouble.get()) {
            self.trouble.set(Some(trouble));
        }
    }

    /// The whole tenant failed: says so, and remembers until when to leave it alone.
    async fn failed(
        &self,
        said: String,
        is_refused: bool,
        wait: Option<Duration>,
    ) -> Result<Turn, Closed> {
        self.is_over.set(true);
        self.worse(if is_refused {
            Trouble::Refused
        } else {
            Trouble::Unreachable
        });
        // By this machine's clock, since the next run compares before Microsoft's is known.
        let (id, now) = (self.tenant.tenant_id.clone(), Utc::now());
        let (stamp, error) = (stamp(&self.tenant), said.clone());
        let not_before = self
            .work
            .desk
            .ledger(move |ledger| ledger.tenant_failed(&id, now, is_refused, wait, &stamp, &error))
            .await?;
        log::error!("{}: {said}{}", self.tenant.name, again(not_before, now));
        Ok(Turn::Done)
    }

    /// Signs in, unless the tenant is to be left alone for now.
    async fn sign_in(&self) -> Result<Option<Rc<Activity>>, End> {
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
            self.worse(if state.refused {
                Trouble::Refused
            } else {
                Trouble::Unreachable
            });
            log::warn!(
                "{}: left alone{}: {}",
                self.tenant.name,
                again(state.not_before, now),
                state.error.as_deref().unwrap_or("it failed")
            );
            return Ok(None);
        }
        // A command that is asked for a secret must not hold up other tenants.
        let authentication = self.tenant.authentication.clone();
        let credential = tokio::task::spawn_blocking(move || Credential::read(&authentication))
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            .map_err(|flaw| End::Credential(flaw.into()))?;
        let work = &self.work;
        let activity = Activity::new(&work.http, &self.tenant, credential, self.clock.clone())
            .map_err(End::Credential)?;
        let activity = Rc::new(activity);
        activity.sign_in().await.map_err(End::Fault)?;
        *self.activity.borrow_mut() = Some(Rc::clone(&activity));
        Ok(Some(activity))
    }

    /// Lists what is new in every stream; one that fails never stops the others.
    async fn list_all(&self, activity: &Activity) -> Result<(), End> {
        let now = self.clock.now();
        let lookback = match self.work.recovered {
            Some(recovered) if now < recovered + LIST_SUBSCRIPTIONS => ALL_THERE_IS,
            _ => self.tenant.initial_lookback,
        };
        // Where the clocks differ, the earlier one counts: a floor too low costs a little, one too
        // high hides contents. Nothing below the reach is promised, so that nothing is missed there.
        let earlier = Utc::now().clamp(now - LIST_SUBSCRIPTIONS, now);
        let floor = (earlier - lookback).max(now - window::REACH + REACH_MARGIN);
        let (id, content_types) = (self.tenant.tenant_id.clone(), self.content_types.clone());
        let (state, streams) = self
            .work
            .desk
            .ledger(move |ledger| {
                let streams = content_types
                    .iter()
                    .map(|&content_type| ledger.stream(&id, content_type, floor))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok((ledger.tenant(&id)?, streams))
            })
            .await?;
        let streams = self
            .subscribe(activity, state.subscriptions_listed, streams)
            .await?;
        *self.streams.borrow_mut() = streams
            .iter()
            .map(|stream| (stream.id, stream.content_type))
            .collect();
        for stream in &streams {
            if is_ahead(stream.not_before, now, LONGEST_BACK_OFF) {
                self.worse(Trouble::Partial);
            } else if !is_ahead(stream.unavailable_until, now, UNAVAILABLE) {
                self.list_stream(activity, stream).await?;
            }
        }
        let (id, streams) = (self.tenant.tenant_id.clone(), self.streams.borrow().clone());
        // Nothing is given up by a clock of which only this machine is sure.
        let is_sure = self.clock.skew().is_some();
        let lost = self
            .work
            .desk
            .ledger(move |ledger| {
                ledger.tenant_well(&id)?;
                if is_sure {
                    ledger.expire(&streams, now)
                } else {
                    Ok(Vec::new())
                }
            })
            .await?;
        for (content_type, contents) in lost {
            log::error!(
                "{} {content_type}: {contents} contents expired at Microsoft before they could be \
                 fetched; their records are lost",
                self.tenant.name
            );
        }
        Ok(())
    }

    /// Starts the subscriptions that are missing; leaves out streams that cannot be listed yet.
    async fn subscribe(
        &self,
        activity: &Activity,
        listed: Option<DateTime<Utc>>,
        mut streams: Vec<Stream>,
    ) -> Result<Vec<Stream>, End> {
        let now = self.clock.now();
        let is_settled = |stream: &Stream| {
            stream.subscribed || is_ahead(stream.unavailable_until, now, UNAVAILABLE)
        };
        let every = if streams.iter().all(is_settled) {
            LIST_SUBSCRIPTIONS
        } else {
            START_AGAIN
        };
        if is_ahead(listed.map(|listed| listed + every), now, every) {
            return Ok(streams);
        }
        let enabled: Vec<ContentType> = activity
            .subscriptions()
            .await
            .map_err(End::Fault)?
            .iter()
            .filter(|subscription| subscription.enabled)
            .filter_map(|subscription| ContentType::parse(&subscription.content_type))
            .collect();
        for stream in &mut streams {
            stream.subscribed = enabled.contains(&stream.content_type);
        }
        let id = self.tenant.tenant_id.clone();
        self.work
            .desk
            .ledger(move |ledger| ledger.subscriptions_listed(&id, now, &enabled))
            .await?;
        let mut ready = Vec::new();
        for stream in streams {
            if stream.subscribed || self.start(activity, &stream).await? {
                ready.push(stream);
            }
        }
        Ok(ready)
    }

    /// Starts a subscription; whether the stream can be listed.
    async fn start(&self, activity: &Activity, stream: &Stream) -> Result<bool, End> {
        let now = self.clock.now();
        let (id, content_type, floor) = (stream.id, stream.content_type, stream.floor);
        let tenant_id = self.tenant.tenant_id.clone();
        // This run may have requested a start already.
        let stream = &self
            .work
            .desk
            .ledger(move |ledger| ledger.stream(&tenant_id, content_type, floor))
            .await?;
        if is_ahead(stream.unavailable_until, now, UNAVAILABLE) {
            return Ok(false);
        }
        if self.work.is_dry {
            log::warn!(
                "{} {}: the subscription has to be started first, which a dry run does not do",
                self.tenant.name,
                stream.content_type
            );
            return Ok(false);
        }
        let again = stream.started.map(|started| started + START_AGAIN);
        if is_ahead(again, now, START_AGAIN) {
            return Ok(true);
        }
        // Remembered before it is requested: a kill in between must not make it two requests.
        self.work
            .desk
            .ledger(move |ledger| {
                ledger.subscription_starting(id, now)?;
                ledger.commit()
            })
            .await?;
        match activity.start(stream.content_type).await {
            Ok(()) => {
                log::info!(
                    "{} {}: subscription started",
                    self.tenant.name,
                    stream.content_type
                );
                self.work
                    .desk
                    .ledger(move |ledger| ledger.subscription_enabled(id))
                    .await?;
                Ok(true)
            }
            Err(mut fault) => {
                // A start is not repeated, but what else is asked waits at the closed gate.
                if fault.class == Class::Throttled {
                    fault.class = Class::Failed;
                }
                self.stream_failed(stream, fault).await?;
                Ok(false)
            }
        }
    }

    /// Lists the windows of a stream into the ledger and moves its marker.
    async fn list_stream(&self, activity: &Activity, stream: &Stream) -> Result<(), End> {
        let now = self.clock.now();
        let collect = &self.work.settings.collect;
        let stream = &self.plausible(stream, now).await?;
        let complete_to = stream.marker.unwrap_or(stream.floor);
        let from = (complete_to - collect.overlap).max(stream.floor);
        let plan = window::plan(from, complete_to, now);
        if let Some(gap) = plan.gap {
            log::error!(
                "{} {}: what became available from {} to {} can no longer be listed (Microsoft keeps 7 \
                 days); it is lost to this program. The portal's audit search may still have it.",
                self.tenant.name,
                stream.content_type,
                gap.start.format("%F %T UTC"),
                gap.end.format("%F %T UTC")
            );
        }
        // The new comes first: a fault far back must not hold it up.
        let sweep_at = stream.swept.map(|swept| swept + collect.resweep);
        let is_sweep_due = !collect.resweep.is_zero() && !is_ahead(sweep_at, now, collect.resweep);
        let mut windows = plan.windows;
        if is_sweep_due {
            let live = windows.first().map_or(now, |window| window.start);
            let sweep = window::plan(stream.floor, now, now).windows;
            windows.extend(sweep.into_iter().filter(|window| window.end <= live));
        }
        let mut incomplete = None;
        for window in windows {
            let mut is_restarted = false;
            loop {
                // The marker stays before what could not be read; what comes later is listed anyway.
                let moves = incomplete.is_none();
                match self.list_window(activity, stream, window, moves).await {
                    Ok(fault) => {
                        incomplete = incomplete.or(fault);
                        break;
                    }
                    Err(End::Fault(fault))
                        if !is_restarted && fault.class == Class::StartSubscription =>
                    {
                        is_restarted = true;
                        if !self.start(activity, stream).await? {
                            return Ok(());
                        }
                    }
                    Err(End::Fault(_)) if teeth::is_off("marker") => break,
                    Err(End::Fault(fault)) => return self.stream_failed(stream, fault).await,
                    Err(closed) => return Err(closed),
                }
            }
        }
        if let Some(fault) = incomplete {
            return self.stream_failed(stream, fault).await;
        }
        let id = stream.id;
        self.work
            .desk
            .ledger(move |ledger| ledger.listing_complete(id, now, is_sweep_due))
            .await?;
        Ok(())
    }

    /// A marker or floor that lies ahead was set by a clock that ran ahead: what lies before it may
    /// never have been listed.
    async fn plausible(&self, stream: &Stream, now: DateTime<Utc>) -> Result<Stream, Closed> {
        let latest = now + CLOCK_TOLERANCE;
        if stream.floor <= latest && stream.marker.is_none_or(|marker| marker <= latest) {
            return Ok(stream.clone());
        }
        log::error!(
            "{} {}: the ledger says that everything up to a time that is yet to come was listed, so a \
             clock ran ahead when it was written; what Microsoft has is listed again",
            self.tenant.name,
            stream.content_type
        );
        let (id, content_type) = (self.tenant.tenant_id.clone(), stream.content_type);
        let (number, floor) = (
            stream.id,
            stream.floor.min(now - self.tenant.initial_lookback),
        );
        self.work
            .desk
            .ledger(move |ledger| {
                ledger.begin_again(number, floor)?;
                ledger.stream(&id, content_type, floor)
            })
            .await
    }

    /// Lists a window into the ledger, and moves the marker to its end if it `moves` at all; what is
    /// incomplete about it.
    async fn list_window(
        &self,
        activity: &Activity,
        stream: &Stream,
        window: Window,
        moves: bool,
    ) -> Result<Option<Fault>, End> {
        let (id, floor) = (stream.id, stream.floor);
        let mut listing = activity.list(stream.content_type, window.start, window.end);
        let mut new = 0;
        while let Some(contents) = listing.next().await.map_err(End::Fault)? {
            let contents: Vec<NewContent> = contents
                .into_iter()
                .map(|content| NewContent {
                    content_id: content.id,
                    uri: content.uri,
                    created: content.created,
                    expires: content.expires,
                })
                .collect();
            new += self
                .work
                .desk
                .ledger(move |ledger| ledger.insert_contents(id, floor, &contents))
                .await?;
        }
        let incomplete = listing.incomplete();
        if moves && incomplete.is_none() {
            self.work
                .desk
                .ledger(move |ledger| ledger.window_complete(id, window.end))
                .await?;
        }
        log::debug!(
            "{} {}: {new} new contents from {} to {}",
            self.tenant.name,
            stream.content_type,
            window.start.format("%F %T"),
            window.end.format("%F %T")
        );
        Ok(incomplete)
    }

    /// A stream failed; what concerns the whole tenant ends its turn.
    async fn stream_failed(&self, stream: &Stream, fault: Fault) -> Result<(), End> {
        let (id, now) = (stream.id, self.clock.now());
        let said = fault.to_string();
        match fault.class {
            Class::Throttled | Class::RefuseTenant | Class::AuditLogOff => {
                return Err(End::Fault(fault));
            }
            Class::TypeUnavailable => {
                log::warn!("{} {}: {fault}", self.tenant.name, stream.content_type);
                self.work
                    .desk
                    .ledger(move |ledger| {
                        ledger.stream_unavailable(id, now, now + UNAVAILABLE, &said)
                    })
                    .await?;
            }
            _ => {
                self.worse(Trouble::Partial);
                log::error!("{} {}: {fault}", self.tenant.name, stream.content_type);
                let wait = fault.retry_after;
                self.work
                    .desk
                    .ledger(move |ledger| ledger.stream_failed(id, now, wait, &said))
                    .await?;
            }
        }
        Ok(())
    }

    /// Fetches some of the pending blobs, several at once.
    async fn fetch_some(
        self: &Rc<Self>,
        activity: &Rc<Activity>,
        is_first: bool,
    ) -> Result<Turn, End> {
        let concurrency = self.tenant.concurrency;
        let limit = concurrency * if is_first { 1 } else { ROUNDS };
        let streams = self.streams.borrow().clone();
        let now = self.clock.now();
        let mut pending = self
            .work
            .desk
            .ledger_in_turn(move |ledger| ledger.pending(&streams, now, limit))
            .await?
            .into_iter();
        if pending.len() == 0 {
            return Ok(Turn::Done);
        }
        let mut fetches = JoinSet::new();
        let mut fault = None;
        loop {
            while fetches.len() < concurrency
                && fault.is_none()
                && let Some(content) = pending.next()
            {
                let (this, activity) = (Rc::clone(self), Rc::clone(activity));
                fetches.spawn_local(async move {
                    let result = fetch::fetch(&this, &activity, &content).await;
                    this.fetched(content, result).await
                });
            }
            match fetches.join_next().await {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(End::Fault(ended)))) => fault = fault.or(Some(ended)),
                Some(Ok(Err(end))) => return Err(end),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        match fault {
            Some(fault) => Err(End::Fault(fault)),
            None => Ok(Turn::More),
        }
    }

    /// Remembers what came of a fetch; an error ends the tenant's turn.
    async fn fetched(
        &self,
        content: Pending,
        fetched: Result<(), fetch::Failure>,
    ) -> Result<(), End> {
        let mut is_foreign = false;
        let (said, is_damage, is_expired) = match fetched {
            Ok(()) => {
                self.refusals.set(0);
                return Ok(());
            }
            Err(fetch::Failure::Closed(closed)) => return Err(End::Closed(closed)),
            Err(fetch::Failure::Fault(fault)) => match fault.class {
                Class::Throttled => return Err(End::Fault(fault)),
                Class::RefuseTenant | Class::AuditLogOff if self.is_refused(&fault) => {
                    return Err(End::Fault(fault));
                }
                _ => {
                    is_foreign = fault.class == Class::ForeignAddress;
                    let is_expired = fault.code.as_deref() == Some("AF20051");
                    (fault.to_string(), false, is_expired)
                }
            },
            Err(fetch::Failure::Unreadable { what, is_damage }) => (what, is_damage, false),
        };
        self.worse(Trouble::Partial);
        log::warn!(
            "{} {}: content {}: {said}",
            self.tenant.name,
            content.content_type,
            content.content_id
        );
        let now = self.clock.now();
        self.work
            .desk
            .ledger(move |ledger| {
                if is_foreign {
                    ledger.sweep_again(content.stream)?;
                }
                if is_expired {
                    ledger.content_expired(&content)
                } else {
                    ledger.content_failed(&content, now, is_damage, &said)
                }
            })
            .await?;
        Ok(())
    }

    /// Whether a refused blob means that the tenant is refused: one that was listed may be refused
    /// alone, and must not keep the others.
    fn is_refused(&self, fault: &Fault) -> bool {
        self.refusals.set(self.refusals.get() + 1);
        let is_sign_in = fault
            .code
            .as_deref()
            .is_some_and(|code| code.starts_with("AADSTS"));
        is_sign_in || self.refusals.get() >= REFUSALS
    }

    /// A blob is asked for, and waited for.
    pub(super) fn asks_for(&self, content: &Pending) {
        let waiting = (content.clone(), Instant::now());
        self.waiting.borrow_mut().insert(content.id, waiting);
    }

    /// The answer has begun, or will not come.
    pub(super) fn has_answer(&self, content: &Pending) {
        self.waiting.borrow_mut().remove(&content.id);
    }

    /// The deadline has come: who has not answered in all this time is said to fail.
    pub(super) async fn cut_off(&self) -> Result<(), Closed> {
        // A low requests_per_minute makes blobs wait for their turn.
        let tenant = &self.tenant;
        let pace = Duration::from_mins(1).checked_div(tenant.requests_per_minute);
        let turn = pace.unwrap_or_default() * u32::try_from(tenant.concurrency).unwrap_or(u32::MAX);
        let is_long = |since: Instant| since.elapsed() > PATIENCE + turn;
        if self.is_over.get() || !self.begun.get().is_some_and(is_long) {
            return Ok(());
        }
        // What was waited for goes behind the others next time, or a few that stall would keep all
        // from being fetched.
        let waiting = self.waiting.take().into_values();
        let late: Vec<Pending> = waiting
            .filter(|(_, since)| is_long(*since))
            .map(|(content, _)| content)
            .collect();
        let signed_in = self.activity.borrow().clone();
        let is_silent = signed_in
            .as_ref()
            .is_some_and(|activity| activity.requests().unanswered > 0);
        let (trouble, what) = match signed_in {
            None => (Trouble::Unreachable, "sign-in has".to_owned()),
            Some(_) if !self.is_listed.get() && is_silent => {
                (Trouble::Partial, "some listings have".to_owned())
            }
            Some(_) if !late.is_empty() => {
                (Trouble::Partial, format!("{} contents have", late.len()))
            }
            Some(_) => return Ok(()),
        };
        self.worse(trouble);
        log::error!(
            "{}: {what} not been answered by the deadline; the next run tries again; if it stays, look \
             for a proxy or firewall in between, and lower [http] request_timeout to learn more",
            self.tenant.name
        );
        let now = self.clock.now();
        self.work
            .desk
            .ledger(move |ledger| {
                late.iter().try_for_each(|content| {
                    ledger.content_failed(content, now, false, "no answer by the deadline")
                })
            })
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

/// Which credential a tenant has, without reading it: a back-off for one ends when it is replaced.
fn stamp(tenant: &Tenant) -> String {
    let file = match &tenant.authentication {
        Authentication::Secret(Secret::File(file))
        | Authentication::FederatedToken(file)
        | Authentication::Certificate {
            certificate_file: file,
            ..
        } => Some(file),
        Authentication::Secret(Secret::Command(_) | Secret::Credential(_)) => None,
    };
    let version = file
        .and_then(|file| std::fs::metadata(file).ok())
        .map(|metadata| format!("{}.{}", metadata.mtime(), metadata.mtime_nsec()))
        .unwrap_or_default();
    format!("{} {version}", tenant.client_id)
}

/// Whether a time is still to come; one that is further ahead than it can ever be set was set by a
/// clock that has been put back since.
fn is_ahead(time: Option<DateTime<Utc>>, now: DateTime<Utc>, at_most: Duration) -> bool {
    time.is_some_and(|time| time > now && time <= now + at_most + CLOCK_JITTER)
}

/// "; not before …", where that is not now.
fn again(not_before: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if not_before <= now {
        return String::new();
    }
    format!("; tried again after {}", not_before.format("%F %T UTC"))
}
