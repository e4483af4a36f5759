//! What can no longer be listed: told when it is seen, whenever it has grown by a day, and once more when it grows no more.

use chrono::TimeDelta;

use super::desk::Closed;
use super::health::{self, Finding};
use super::tenant::Collector;
use super::window::{REACH, Window};
use crate::config::ContentType;
use crate::ledger::{Gap, HealthState, Ledger, Span};

/// A gap that grows is told again after so much.
const GROWN: TimeDelta = TimeDelta::days(1);
/// What slips out of reach between the request for the last 7 days and their listing is no gap.
const SLIPPED: TimeDelta = TimeDelta::minutes(5);

impl Collector {
    /// What is new of a content type does not begin where the last listing ended.
    pub(super) async fn finds_gap(
        &self,
        content_type: ContentType,
        gap: Window,
    ) -> Result<(), Closed> {
        let gap = Gap {
            since: gap.start,
            until: gap.end,
        };
        log::error!(
            "{} {content_type}: {gap} (Microsoft keeps 7 days); it is lost to this program. The portal's audit search may still \
             have it.",
            self.tenant.name
        );
        self.begins_behind(content_type, gap).await
    }

    /// What a backfill asked for has waited too long, as far as it has.
    pub(super) async fn finds_span_out_of_reach(
        &self,
        content_type: ContentType,
        span: &Span,
    ) -> Result<(), Closed> {
        let reach = self.clock.now() - REACH;
        if span.since + SLIPPED >= reach {
            return Ok(());
        }
        let gap = Gap {
            since: span.since,
            until: span.until.min(reach),
        };
        log::error!(
            "{} {content_type}: of a backfill, {gap} (Microsoft keeps 7 days). The portal's audit search may still have what was \
             not collected before.",
            self.tenant.name
        );
        // One at a time: what is new has one that still grows.
        if self.gaps.borrow().contains_key(&content_type) {
            return Ok(());
        }
        self.begins_behind(content_type, gap).await
    }

    /// The first window behind it is about to count as listed: a gap grows no more.
    pub(super) async fn ends_gap(&self, content_type: ContentType) -> Result<(), Closed> {
        let gap = self.gaps.borrow_mut().remove(&content_type);
        match gap {
            Some(gap) => self.tell_gap(content_type, gap, TimeDelta::zero()).await,
            None => Ok(()),
        }
    }

    async fn begins_behind(&self, content_type: ContentType, gap: Gap) -> Result<(), Closed> {
        self.gaps.borrow_mut().insert(content_type, gap);
        self.tell_gap(content_type, gap, GROWN).await
    }

    /// Tells of a gap, unless it was told and has not grown by more than `growth` since.
    async fn tell_gap(
        &self,
        content_type: ContentType,
        gap: Gap,
        growth: TimeDelta,
    ) -> Result<(), Closed> {
        let (id, now) = (self.tenant.tenant_id.clone(), self.clock.now());
        let scope = Some(content_type);
        let assess = move |ledger: &mut Ledger| {
            let mut known = ledger.health(&id)?.remove(&scope).unwrap_or_default();
            let told = known
                .iter()
                .find_map(Gap::of)
                .filter(|told| told.since == gap.since);
            if told.is_none() {
                known.retain(|state| state.state != Gap::STATE);
            }
            let told = told.filter(|told| gap.until - told.until <= growth);
            let finding = Finding::of_gap(&told.unwrap_or(gap));
            let is_gap = |state: &HealthState| state.state == Gap::STATE;
            let found = std::slice::from_ref(&finding);
            let (states, said) = health::assess_some(scope, known, is_gap, found, now);
            Ok((finding, (scope, states, said)))
        };
        let (finding, assessed) = self.work.desk.ledger(assess).await?;
        {
            let mut findings = self.findings.borrow_mut();
            let found = findings.entry(scope).or_default();
            found.retain(|other| other.state != finding.state);
            found.push(finding);
        }
        // What this run saw no other will see: it is remembered at once.
        self.leave_to_tell(vec![assessed]).await
    }
}
