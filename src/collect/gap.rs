//! What can no longer be listed.
//!
//! A gap before what is new is told when it is seen, whenever it has grown by a day, and once more when it grows no more; it
//! stands in `status` for some days. What a backfill asked for too late is told once, when the rest of it was listed: it may
//! have been collected before, so it is no loss for certain. That a subscription was off is told when it is started again.

use chrono::{DateTime, TimeDelta, Utc};

use super::desk::Closed;
use super::health::Said;
use super::tenant::Collector;
use super::window::Window;
use crate::config::ContentType;
use crate::ledger::{Gap, HealthState, Ledger, Span, Stream};

/// A gap that grows is told again after so much …
const GROWN: TimeDelta = TimeDelta::days(1);
/// … and when it has its end, if that is further than the last one told by so much.
const ROUGHLY: TimeDelta = TimeDelta::minutes(1);
/// What slips out of reach between the request for the last 7 days and their listing is no gap.
const SLIPPED: TimeDelta = TimeDelta::minutes(30);

/// Why something can no longer be listed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    /// It is older than what Microsoft keeps.
    OutOfReach,
    /// The subscription was off, and Microsoft keeps nothing then.
    Stopped,
}

impl Why {
    fn hint(self) -> &'static str {
        match self {
            Self::OutOfReach => {
                "Microsoft keeps 7 days; the portal's audit search may still have it. Run o365-wodle at least every few days, and do not leave a tenant refused for longer"
            }
            Self::Stopped => {
                "The portal's audit search may still have it. Find out who stopped the subscription: an administrator of the tenant, \
                 or another program that signs in as this application"
            }
        }
    }

    fn said(self, gap: &Gap) -> String {
        match self {
            Self::OutOfReach => gap.to_string(),
            Self::Stopped => {
                format!(
                    "the subscription was off, and Microsoft keeps nothing meanwhile: some of {gap}"
                )
            }
        }
    }
}

/// What a gap was found before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Before {
    /// What is new.
    New,
    /// What is left of a backfill's span.
    Span,
}

/// What becomes of a stream's states with a gap that was seen, and what is to be told of it. It `ends` where a run that saw it
/// has listed what comes behind.
fn assess(
    known: Vec<HealthState>,
    gap: &Gap,
    why: Why,
    ends: bool,
    now: DateTime<Utc>,
) -> (Vec<HealthState>, Option<Said>) {
    let (before, mut states): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|state| state.state == Gap::STATE);
    let told = |state: &HealthState| Gap::of(state).filter(|told| told.since == gap.since);
    let mut state = before
        .into_iter()
        .find(|state| told(state).is_some())
        .unwrap_or_else(|| HealthState {
            state: Gap::STATE.to_owned(),
            detail: String::new(),
            since: now,
            runs: 0,
            said: None,
        });
    // The run in which it ends has seen it, unless nobody was to hear of it before.
    if !ends || state.runs == 0 {
        state.runs = state.runs.saturating_add(1);
    }
    let growth = if ends { ROUGHLY } else { GROWN };
    let said = if told(&state).is_some_and(|told| gap.until - told.until < growth) {
        None
    } else {
        state.detail = gap.detail();
        state.said = Some(now);
        Some(Said {
            state: Gap::STATE.to_owned(),
            since: state.since,
            count: state.runs,
            response: why.said(gap),
            hint: why.hint().to_owned(),
        })
    };
    states.push(state);
    (states, said)
}

impl Collector {
    /// What is new of a stream does not begin where the last listing ended.
    pub(super) async fn finds_gap(&self, stream: &Stream, gap: Window) -> Result<(), Closed> {
        let content_type = stream.content_type;
        let gap = Gap {
            since: gap.start,
            until: gap.end,
        };
        let key = (content_type, Before::New);
        self.gaps.borrow_mut().insert(key, gap);
        // While the app has no permission, which was told, nobody waits for it.
        if stream.unavailable_until.is_some() {
            return Ok(());
        }
        self.tell_gap(content_type, gap, Why::OutOfReach, false)
            .await
    }

    /// A stream that is listed was found without subscription before, by this run or another: from when on it had none, nobody
    /// knows, nor what became of each start.
    pub(super) async fn tells_if_stopped(&self, stream: &Stream) -> Result<(), Closed> {
        let (id, content_type, floor) = (stream.id, stream.content_type, stream.floor);
        if stream.off_since.is_none() && !self.started.borrow().contains_key(&id) {
            return Ok(());
        }
        let tenant_id = self.tenant.tenant_id.clone();
        let stream = self
            .work
            .desk
            .ledger(move |ledger| ledger.stream(&tenant_id, content_type, floor))
            .await?;
        let (Some(since), Some(started)) = (stream.off_since, stream.started) else {
            return Ok(());
        };
        let until = started.max(since);
        let gap = Gap { since, until };
        self.tell_gap(content_type, gap, Why::Stopped, true).await?;
        self.work
            .desk
            .ledger(move |ledger| ledger.subscription_was_on(id))
            .await
    }

    /// Whether this run found a gap in what is new of a stream already; it is as large as this, then.
    pub(super) fn gap_grew(&self, content_type: ContentType, gap: Window) -> bool {
        let mut gaps = self.gaps.borrow_mut();
        let found = gaps.get_mut(&(content_type, Before::New));
        found.is_some_and(|found| {
            found.until = gap.end;
            true
        })
    }

    /// What a backfill asked for may have waited too long.
    pub(super) fn looks_for_gap(&self, content_type: ContentType, span: &Span) {
        let key = (content_type, Before::Span);
        self.gaps.borrow_mut().remove(&key);
        let reach = self.clock.reach();
        if span.until > reach && span.since + SLIPPED >= reach {
            return;
        }
        let gap = Gap {
            since: span.since,
            until: span.until.min(reach),
        };
        self.gaps.borrow_mut().insert(key, gap);
    }

    /// What comes behind is about to count as listed: a gap grows no more.
    pub(super) async fn ends_gap(
        &self,
        content_type: ContentType,
        before: Before,
    ) -> Result<(), Closed> {
        let gap = self.gaps.borrow_mut().remove(&(content_type, before));
        match (gap, before) {
            (None, _) => Ok(()),
            (Some(gap), Before::New) => {
                self.tell_gap(content_type, gap, Why::OutOfReach, true)
                    .await
            }
            (Some(gap), Before::Span) => {
                let now = self.clock.now();
                let said = Said {
                    state: Gap::STATE.to_owned(),
                    since: now,
                    count: 1,
                    response: format!("of a backfill, {gap}"),
                    hint: Why::OutOfReach.hint().to_owned(),
                };
                self.tell_of(content_type, move |known| (known, Some(said)))
                    .await
            }
        }
    }

    async fn tell_gap(
        &self,
        content_type: ContentType,
        gap: Gap,
        why: Why,
        ends: bool,
    ) -> Result<(), Closed> {
        let now = self.clock.now();
        self.tell_of(content_type, move |known| {
            assess(known, &gap, why, ends, now)
        })
        .await
    }

    /// What this run saw no other will see: it is remembered at once.
    async fn tell_of(
        &self,
        content_type: ContentType,
        assess: impl FnOnce(Vec<HealthState>) -> (Vec<HealthState>, Option<Said>) + Send + 'static,
    ) -> Result<(), Closed> {
        let (id, scope) = (self.tenant.tenant_id.clone(), Some(content_type));
        let assess = move |ledger: &mut Ledger| {
            let known = ledger.health(&id)?.remove(&scope).unwrap_or_default();
            let (states, said) = assess(known);
            Ok((scope, states, said.into_iter().collect()))
        };
        let assessed: (_, _, Vec<Said>) = self.work.desk.ledger(assess).await?;
        for said in &assessed.2 {
            let (tenant, what, hint) = (&self.tenant.name, &said.response, &said.hint);
            log::error!("{tenant} {content_type}: {what}. {hint}.");
        }
        self.leave_to_tell(vec![assessed]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    fn gap(since: i64, until: i64) -> Gap {
        let (since, until) = (at(since), at(until));
        Gap { since, until }
    }

    #[test]
    fn a_gap_is_told_as_it_grows_and_when_it_has_its_end() {
        let mut known = Vec::new();
        let mut told = Vec::new();
        for (hour, seen, ends) in [
            (0, gap(0, 1), false),
            (1, gap(0, 2), false),
            (24, gap(0, 25), false),
            (25, gap(0, 26), false),
            (25, gap(0, 26), true),
            // the next one, and it ends at once
            (300, gap(100, 200), false),
            (300, gap(100, 200), true),
        ] {
            let (states, said) = assess(known, &seen, Why::OutOfReach, ends, at(hour));
            told.extend(said.map(|said| (hour, said.response, said.count, said.since)));
            known = states;
        }
        let expected = [
            (0, gap(0, 1), 1, 0),
            (24, gap(0, 25), 3, 0),
            (25, gap(0, 26), 4, 0),
            (300, gap(100, 200), 1, 300),
        ]
        .map(|(hour, gap, count, since)| (hour, gap.to_string(), count, at(since)));
        assert_eq!(told, expected);
        assert_eq!(known.len(), 1);
        assert_eq!(known.iter().find_map(Gap::of), Some(gap(100, 200)));
    }

    #[test]
    fn one_that_an_older_version_told_is_told_once_more() {
        let older = HealthState {
            state: Gap::STATE.to_owned(),
            detail: at(0).to_rfc3339(),
            since: at(0),
            runs: 7,
            said: Some(at(0)),
        };
        let (states, said) = assess(vec![older], &gap(0, 1), Why::OutOfReach, false, at(1));
        assert_eq!((states.len(), said.is_some()), (1, true));
    }
}
