//! A tenant's subscriptions: Microsoft lists contents only where they were started.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::Trouble;
use super::health::Finding;
use super::late::Listing;
use super::list::UNAVAILABLE;
use super::tenant::{Collector, End, is_ahead};
use super::walk::is_of_window;
use crate::config::ContentType;
use crate::ledger::{self, Ledger, Stream};
use crate::microsoft::{Activity, Class, Fault, START_AGAIN, rest_until};

/// How often subscriptions are listed though nothing is known to be missing.
const LIST_SUBSCRIPTIONS: Duration = Duration::from_hours(24);
/// How long a start waits where Microsoft wants to be left alone.
const LONGEST_REST: Duration = Duration::from_mins(1);

impl Collector {
    /// Finds out, where it is due, which subscriptions are missing; `None` if it is not known now.
    pub(super) async fn subscribe(
        &self,
        activity: &Activity,
        place: OwnedSemaphorePermit,
        listed: Option<DateTime<Utc>>,
        streams: &[Stream],
    ) -> Result<Option<Vec<ContentType>>, End> {
        let now = self.clock.now();
        let is_settled = |stream: &Stream| {
            stream.subscribed || is_ahead(stream.unavailable_until, now, UNAVAILABLE)
        };
        let are_settled = streams.iter().all(is_settled);
        let are_some = are_settled || streams.iter().any(|stream| stream.subscribed);
        let every = if are_settled {
            LIST_SUBSCRIPTIONS
        } else {
            START_AGAIN
        };
        if is_ahead(listed.map(|listed| listed + every), now, every) {
            return Ok(None);
        }
        let asked = self.at(place, activity.subscriptions());
        let subscriptions = if are_some {
            let late = "the list of subscriptions was not answered in time";
            timeout(self.patience(), asked)
                .await
                .unwrap_or_else(|_| Err(Fault::late(late)))
        } else {
            asked.await
        };
        let subscriptions = match subscriptions {
            // What was subscribed yesterday most likely is today.
            Err(fault) if is_of_window(fault.class) && are_some => {
                log::warn!("{}: the list of subscriptions: {fault}", self.tenant.name);
                self.finds(None, Finding::of_fault(&fault, false));
                return Ok(None);
            }
            subscriptions => subscriptions.map_err(End::Fault)?,
        };
        let enabled: Vec<ContentType> = subscriptions
            .iter()
            .filter(|subscription| subscription.enabled)
            .map(|subscription| subscription.content_type)
            .collect();
        let (id, known) = (self.tenant.tenant_id.clone(), enabled.clone());
        self.work
            .desk
            .ledger(move |ledger| ledger.subscriptions_listed(&id, now, &known))
            .await?;
        Ok(Some(enabled))
    }

    /// Starts a subscription; whether the stream can be listed.
    pub(super) async fn start(&self, activity: &Activity, stream: &Stream) -> Result<bool, End> {
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
        // Microsoft's clock may leap in a run; how long ago this run asked is known without it.
        let asked = self.started.borrow().get(&id).map(Instant::elapsed);
        if is_ahead(again, now, START_AGAIN) || asked.is_some_and(|ago| ago < START_AGAIN) {
            if !self.lacked_audit_log().await? {
                // Most likely it was carried out, whatever was heard of it.
                return Ok(true);
            }
            if !self.is_well.get() {
                self.finds(None, Finding::of_fault(&Fault::audit_log_off(), true));
            }
            self.worse(Trouble::Partial);
            self.lacks_audit_log.set(true);
            let again = again.unwrap_or(now);
            let said = format!(
                "{}; Microsoft allows a start every 15 minutes, the next after {}",
                Fault::audit_log_off(),
                again.format("%F %T UTC")
            );
            log::error!("{} {content_type}: {said}", self.tenant.name);
            let left = (again - now).to_std().ok();
            self.work
                .desk
                .ledger(move |ledger| ledger.stream_failed(id, now, left, &said))
                .await?;
            return Ok(false);
        }
        let turn = loop {
            let turn = timeout(self.work.patience, self.start.lock()).await;
            // From now on it is the start that is waited for.
            self.note(content_type, Listing::answered);
            let Some(left) = self.throttled_for() else {
                break turn;
            };
            if left > LONGEST_REST {
                let fault = Fault {
                    class: Class::Failed,
                    ..Fault::throttled(left)
                };
                self.stream_failed(stream, fault).await?;
                return Ok(false);
            }
            drop(turn);
            rest_until(Instant::now() + left).await;
        };
        self.started.borrow_mut().insert(id, Instant::now());
        // Remembered before it is requested: a kill in between must not make it two requests.
        self.work
            .desk
            .ledger_durably(move |ledger| ledger.subscription_starting(id, now))
            .await?;
        let started = activity.start(stream.content_type).await;
        drop(turn);
        let known = stream.clone();
        let remember = move |ledger: &mut Ledger| {
            remember_start(ledger, &known, &started)?;
            Ok(started)
        };
        match self.work.desk.ledger(remember).await? {
            Ok(_) => {
                log::info!(
                    "{} {}: subscription started",
                    self.tenant.name,
                    stream.content_type
                );
                Ok(true)
            }
            Err(fault) if fault.is_of_sign_in => Err(End::Fault(fault)),
            Err(mut fault) => {
                let finding = Finding::of_fault(&fault, true);
                // A start is not repeated, but what else is asked waits at the closed gate.
                if fault.class == Class::Throttled {
                    fault.class = Class::Failed;
                }
                self.finds(Some(stream.content_type), finding);
                self.stream_failed(stream, fault).await?;
                Ok(false)
            }
        }
    }

    /// Whether Microsoft had no audit log for the tenant when a run looked last.
    async fn lacked_audit_log(&self) -> Result<bool, End> {
        let id = self.tenant.tenant_id.clone();
        let desk = &self.work.desk;
        Ok(desk
            .ledger(move |ledger| ledger.lacks_audit_log(&id))
            .await?)
    }
}

/// Remembers what the start of a stream's subscription has shown.
///
/// # Errors
/// A full or failing disk.
pub(crate) fn remember_start(
    ledger: &mut Ledger,
    stream: &Stream,
    started: &Result<bool, Fault>,
) -> Result<(), ledger::Fault> {
    let was_on = match started {
        Ok(was_off) => !was_off,
        // Without the permission nobody knows.
        Err(fault) => fault.class == Class::TypeUnavailable,
    };
    // An earlier start may have been carried out, whatever was heard of it.
    if was_on && stream.off_since.is_none() {
        ledger.subscription_was_on(stream.id)?;
    }
    if started.is_ok() {
        ledger.subscription_enabled(stream.id)?;
    }
    Ok(())
}
