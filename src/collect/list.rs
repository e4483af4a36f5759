//! What is new of a tenant: the listings of its streams into the ledger.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::ANSWER;
use super::desk::Closed;
use super::floor;
use super::gap::Before;
use super::health::Finding;
use super::late::Listing;
use super::outcome::Trouble;
use super::tenant::{Collector, End, again, is_ahead};
use super::walk::{Aim, Listed};
use super::window::{self, DAY, HOUR, QUARTER, Window};
use crate::config::ContentType;
use crate::ledger::{LONGEST_BACK_OFF, Span, Stream};
use crate::microsoft::{Activity, CLOCK_TOLERANCE, Class, Fault};

/// How long a content type that the app lacks a permission for is left alone.
pub(super) const UNAVAILABLE: Duration = Duration::from_hours(6);

/// What is to be listed of a stream after all that is new.
struct Beside {
    stream: Stream,
    spans: Vec<Span>,
    sweep: Option<Vec<Window>>,
}

impl Collector {
    /// Lists what is new in every stream, some at once; one that fails never stops the others.
    pub(super) async fn list_all(self: &Rc<Self>, activity: &Rc<Activity>) -> Result<(), End> {
        let now = self.clock.now();
        let lookback = self.tenant.initial_lookback;
        let (id, content_types) = (self.tenant.tenant_id.clone(), self.content_types.clone());
        let (state, mut streams) = self
            .work
            .desk
            .ledger(move |ledger| {
                let floor = floor(ledger, lookback, now)?;
                let streams = content_types
                    .iter()
                    .map(|&content_type| ledger.stream(&id, content_type, floor))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok((ledger.tenant(&id)?, streams))
            })
            .await?;
        let is_unavailable = |stream: &Stream| is_ahead(stream.unavailable_until, now, UNAVAILABLE);
        let unavailable = streams
            .iter()
            .filter(|stream| is_unavailable(stream))
            .count();
        let place = self.work.place(ANSWER).await?;
        self.asked
            .set(Some(("the list of subscriptions", Instant::now())));
        let subscribing = self.subscribe(activity, place, state.subscriptions_listed, &streams);
        let enabled = Box::pin(subscribing).await?;
        self.asked.set(None);
        let (is_answered, mut missing) = (enabled.is_some(), Vec::new());
        if let Some(enabled) = enabled {
            for stream in &mut streams {
                stream.subscribed = enabled.contains(&stream.content_type);
            }
            let are_missing = streams.iter().filter(|stream| !stream.subscribed);
            missing = are_missing.map(|stream| stream.content_type).collect();
        }
        *self.streams.borrow_mut() = streams
            .iter()
            .map(|stream| (stream.id, stream.content_type))
            .collect();
        let mut are_left_alone = false;
        let due = streams.into_iter().filter(|stream| {
            let is_failing = is_ahead(stream.not_before, now, LONGEST_BACK_OFF);
            if is_failing {
                log::warn!(
                    "{} {}: left alone{}; `o365-wodle status` says why",
                    self.tenant.name,
                    stream.content_type,
                    again(stream.not_before.unwrap_or(now), now)
                );
                self.worse(Trouble::Partial);
            }
            are_left_alone |= is_failing;
            !is_failing && !is_unavailable(stream)
        });
        let mut due: Vec<Stream> = due.collect();
        // The deadline must not come before the same ones again and again.
        let first = self.work.run % due.len().max(1);
        due.rotate_left(first);
        let mut beside = self.list_all_new(activity, due, missing).await?;
        let are_refused = self.leave_refused(now, unavailable).await?;
        self.leave_unavailable(now).await?;
        // Where nothing is listed, only an answer says so, if nothing was refused or left alone.
        let is_answered = is_answered && !are_refused && !are_left_alone;
        self.is_well.set(self.is_well.get() || is_answered);
        self.conclude(now).await?;
        self.turn.take();
        self.is_heard.set(true);
        // What is known is fetched beside the old, unless it waits for its true address.
        if !beside.is_empty() && !beside.iter().any(|beside| beside.stream.is_sweep_asked) {
            self.new_is_listed.notify_one();
        }
        // The old comes after all that is new: a fault far back must not hold it up.
        self.some_at_once(
            ANSWER,
            async || Ok(std::mem::take(&mut beside)),
            |beside: Beside| {
                let (this, activity) = (Rc::clone(self), Rc::clone(activity));
                async move {
                    this.begin_listing(&beside.stream, false);
                    let content_type = beside.stream.content_type;
                    let listed = this.list_beside(&activity, beside).await;
                    this.listing.borrow_mut().remove(&content_type);
                    listed?;
                    this.looked_at(Some(content_type));
                    Ok(())
                }
            },
        )
        .await?;
        // Where a subscription had ended that cannot be started.
        for ((id, content_type), fault) in self.refused.take() {
            self.stream_left(id, content_type, now, &fault).await?;
        }
        self.leave_unavailable(now).await
    }

    /// Lists what is new in these streams; what is to be listed beside it.
    async fn list_all_new(
        self: &Rc<Self>,
        activity: &Rc<Activity>,
        mut due: Vec<Stream>,
        missing: Vec<ContentType>,
    ) -> Result<Vec<Beside>, End> {
        let missing = Rc::new(missing);
        let beside = Rc::new(RefCell::new(Vec::new()));
        self.some_at_once(
            ANSWER,
            async || Ok(std::mem::take(&mut due)),
            |stream| {
                let (this, activity) = (Rc::clone(self), Rc::clone(activity));
                let (beside, missing) = (Rc::clone(&beside), Rc::clone(&missing));
                async move {
                    this.begin_listing(&stream, true);
                    let is_missing = missing.contains(&stream.content_type);
                    let listed = this.list_new(&activity, &stream, is_missing).await;
                    this.listing.borrow_mut().remove(&stream.content_type);
                    this.news.notify_one();
                    if let Some(more) = listed? {
                        this.is_well.set(true);
                        if more.sweep.is_some() || !more.spans.is_empty() {
                            beside.borrow_mut().push(more);
                        }
                    }
                    Ok(())
                }
            },
        )
        .await?;
        Ok(beside.take())
    }

    /// All that is new was listed: the tenant is well, unless it is not, and what expired is given up.
    async fn conclude(&self, now: DateTime<Utc>) -> Result<(), Closed> {
        let is_well = self.is_well.get() && !self.is_over.get();
        let (id, streams) = (self.tenant.tenant_id.clone(), self.streams.borrow().clone());
        // What is given up has expired by Microsoft's clock and by this machine's: either may be wrong.
        // What is on its way may come all the same.
        let is_sure = self.clock.skew().is_some() && self.fetching.borrow().is_empty();
        let past = now.min(Utc::now());
        let lost = self
            .work
            .desk
            .ledger(move |ledger| {
                if is_well {
                    ledger.tenant_well(&id)?;
                }
                if is_sure {
                    ledger.expire(&streams, past)
                } else {
                    Ok(Vec::new())
                }
            })
            .await?;
        self.looked_at(None);
        for (content_type, contents) in lost {
            log::error!(
                "{} {content_type}: {contents} contents expired at Microsoft before they could be \
                 fetched; their records are lost",
                self.tenant.name
            );
        }
        Ok(())
    }

    /// Lists what is new of a stream into the ledger and moves its marker; what is to be listed beside it, unless the stream
    /// cannot be listed now.
    async fn list_new(
        &self,
        activity: &Activity,
        stream: &Stream,
        is_missing: bool,
    ) -> Result<Option<Beside>, End> {
        if is_missing && !self.start(activity, stream).await? {
            return Ok(None);
        }
        self.note(stream.content_type, Listing::subscribed);
        let now = self.clock.now();
        let collect = &self.work.settings.collect;
        let stream = &self.plausible(stream, now).await?;
        let complete_to = stream.marker.unwrap_or(stream.floor);
        let reach = self.clock.reach();
        let too_long = stream.too_long;
        let plan = window::plan(
            complete_to,
            collect.overlap,
            stream.floor,
            now,
            reach,
            too_long,
        );
        // Of what was never listed nothing was there before the subscription was started.
        let is_missed = |gap: &Window| {
            let is_started_since = stream.started.is_some_and(|started| started >= gap.end);
            stream.marker.is_some() || stream.subscribed && !is_started_since
        };
        if let Some(gap) = plan.gap.filter(is_missed) {
            self.finds_gap(stream, gap).await?;
        }
        let sweep_at = stream.swept.map(|swept| swept + collect.resweep);
        let is_sweep_due = stream.is_sweep_asked
            || !collect.resweep.is_zero() && !is_ahead(sweep_at, now, collect.resweep);
        let mut sweep = Vec::new();
        if is_sweep_due {
            let live = plan.windows.first().map_or(now, |window| window.start);
            let length = if too_long == 0 { DAY } else { HOUR };
            sweep = window::tile(stream.floor, live, now, length);
            // One that is longer than a run begins elsewhere in the next.
            let first = self.work.run % sweep.len().max(1);
            sweep.rotate_left(first);
        }
        let (id, desk) = (stream.id, &self.work.desk);
        let listed = self
            .list_windows(activity, stream, plan.windows, Aim::Marker)
            .await?;
        if matches!(listed, Listed::Whole | Listed::InPart(_)) {
            self.tells_if_stopped(stream).await?;
        }
        match listed {
            Listed::Whole => {
                self.heard.borrow_mut().insert(stream.content_type);
                let is_new_day = complete_to.date_naive() < now.date_naive();
                let too_long = self.still_too_long(stream.content_type, too_long, is_new_day);
                desk.ledger(move |ledger| ledger.listing_complete(id, now, too_long))
                    .await?;
            }
            // It came to its end, and so will the next.
            Listed::InPart(fault) if fault.status.is_none() => {
                self.failed_beside(stream, fault).await?;
            }
            Listed::InPart(fault) => self.stream_failed(stream, fault).await?,
            Listed::Failed(fault) => {
                self.stream_failed(stream, fault).await?;
                return Ok(None);
            }
            Listed::Unsubscribed => return Ok(None),
        }
        let spans = if self.work.is_dry {
            Vec::new()
        } else {
            desk.ledger(move |ledger| ledger.spans(id)).await?
        };
        // Until then a fault that a former run found there may last.
        if spans.is_empty() && !is_sweep_due {
            self.looked_at(Some(stream.content_type));
        }
        Ok(Some(Beside {
            stream: stream.clone(),
            spans,
            sweep: is_sweep_due.then_some(sweep),
        }))
    }

    /// Lists what a backfill asked for of a stream, and its sweep if it is due; the sweep first in every other run, where one of
    /// them may not be answered.
    async fn list_beside(&self, activity: &Activity, beside: Beside) -> Result<(), End> {
        let Beside {
            stream,
            spans,
            sweep,
        } = beside;
        let (earlier, later) = if stream.has_error && self.work.run % 2 == 1 {
            (sweep, None)
        } else {
            (None, sweep)
        };
        if let Some(sweep) = earlier {
            self.list_sweep(activity, &stream, sweep).await?;
        }
        let goes_on = self.list_spans(activity, &stream, spans).await?;
        if let Some(sweep) = later.filter(|_| goes_on) {
            self.list_sweep(activity, &stream, sweep).await?;
        }
        Ok(())
    }

    async fn list_sweep(
        &self,
        activity: &Activity,
        stream: &Stream,
        windows: Vec<Window>,
    ) -> Result<(), End> {
        let (id, now) = (stream.id, self.clock.now());
        self.begin_listing(stream, false);
        match self
            .list_windows(activity, stream, windows, Aim::Contents)
            .await?
        {
            Listed::Whole => {
                let desk = &self.work.desk;
                desk.ledger(move |ledger| ledger.swept(id, now)).await?;
                Ok(())
            }
            Listed::InPart(fault) | Listed::Failed(fault) => {
                self.failed_beside(stream, fault).await
            }
            Listed::Unsubscribed => Ok(()),
        }
    }

    /// Lists the spans that a backfill asked for, all of them though a window of one fails. Whether more can be listed now.
    async fn list_spans(
        &self,
        activity: &Activity,
        stream: &Stream,
        spans: Vec<Span>,
    ) -> Result<bool, End> {
        for span in spans {
            self.looks_for_gap(stream.content_type, &span);
            let now = self.clock.now();
            let length = if stream.too_long == 0 { DAY } else { QUARTER };
            let windows = window::tile(span.since, span.until, now, length);
            match self
                .list_windows(activity, stream, windows, Aim::Span(span))
                .await?
            {
                Listed::Whole => {
                    self.ends_gap(stream.content_type, Before::Span).await?;
                    let desk = &self.work.desk;
                    desk.ledger(move |ledger| ledger.span_listed(span.id))
                        .await?;
                }
                Listed::InPart(fault) => self.failed_beside(stream, fault).await?,
                Listed::Failed(fault) => {
                    self.failed_beside(stream, fault).await?;
                    return Ok(false);
                }
                Listed::Unsubscribed => return Ok(false),
            }
        }
        Ok(true)
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
            // What is out of reach was listed at its time, for all that is known. (The ledger cuts times.)
            stream
                .floor
                .min(now - self.tenant.initial_lookback)
                .max(now - window::REACH + Duration::from_secs(1)),
        );
        self.work
            .desk
            .ledger(move |ledger| {
                ledger.begin_again(number, floor)?;
                ledger.stream(&id, content_type, floor)
            })
            .await
    }

    /// A stream failed; what concerns the whole tenant ends its collection.
    pub(super) async fn stream_failed(&self, stream: &Stream, fault: Fault) -> Result<(), End> {
        let (id, now) = (stream.id, self.clock.now());
        match fault.class {
            _ if fault.is_of_sign_in => return Err(End::Fault(fault)),
            _ if fault.is_of_permission() => {
                let stream = (id, stream.content_type);
                self.refused.borrow_mut().push((stream, fault));
            }
            Class::Throttled | Class::RefuseTenant | Class::AuditLogOff => {
                return Err(End::Fault(fault));
            }
            Class::TypeUnavailable => {
                let stream = (id, stream.content_type);
                self.unavailable.borrow_mut().push((stream, fault));
            }
            _ => {
                self.stream_left(id, stream.content_type, now, &fault)
                    .await?;
            }
        }
        Ok(())
    }

    /// What is listed beside the new failed. The new comes all the same, so the stream is not to be left alone.
    async fn failed_beside(&self, stream: &Stream, fault: Fault) -> Result<(), End> {
        let (id, now, said) = (stream.id, self.clock.now(), fault.to_string());
        match fault.class {
            _ if fault.is_of_sign_in => return Err(End::Fault(fault)),
            Class::RefuseTenant if fault.is_of_permission() => {}
            Class::RefuseTenant | Class::AuditLogOff => return Err(End::Fault(fault)),
            // Unless Microsoft wants it.
            _ if fault.retry_after.is_some() => {
                self.stream_left(id, stream.content_type, now, &fault)
                    .await?;
                return Ok(());
            }
            _ => {}
        }
        self.says(stream.content_type, &fault);
        let desk = &self.work.desk;
        desk.ledger(move |ledger| ledger.stream_failed_beside(id, now, &said))
            .await?;
        Ok(())
    }

    /// A stream failed alone: says so, and remembers until when to leave it alone.
    pub(super) async fn stream_left(
        &self,
        id: i64,
        content_type: ContentType,
        now: DateTime<Utc>,
        fault: &Fault,
    ) -> Result<(), Closed> {
        self.says(content_type, fault);
        let (wait, said) = (fault.retry_after, fault.to_string());
        self.work
            .desk
            .ledger(move |ledger| ledger.stream_failed(id, now, wait, &said))
            .await
    }

    /// Says that something of a content type failed.
    pub(super) fn says(&self, content_type: ContentType, fault: &Fault) {
        self.worse(Trouble::Partial);
        self.finds(Some(content_type), Finding::of_fault(fault, false));
        log::error!("{} {content_type}: {fault}", self.tenant.name);
    }
}
