//! What has not come by the deadline: it is said to fail, so that somebody hears of it, and goes behind the others next
//! time, or a few that stall would keep all from being collected.

use std::time::Duration;

use tokio::time::Instant;

use super::desk::Closed;
use super::health::Finding;
use super::outcome::Trouble;
use super::tenant::{Collector, Failed};
use crate::config::ContentType;
use crate::ledger::{Pending, Stream};
use crate::microsoft::Fault;

/// Bytes a second that a blob comes with, on average, unless it stalls.
const SLOWEST: u64 = 8 << 10;

/// A stream that is being listed: what is new of it, or what comes beside that.
#[derive(Debug)]
pub(super) struct Listing {
    stream: i64,
    /// Whether the subscription need not be started first.
    is_subscribed: bool,
    is_new: bool,
    begun: Instant,
    answered: Instant,
    /// Whether the marker, or the beginning of a span, has moved since.
    pub(super) has_moved: bool,
    /// How many windows of it came to their end.
    pub(super) windows: usize,
}

impl Listing {
    /// From now on it is the listing that is waited for.
    pub(super) fn subscribed(&mut self) {
        self.is_subscribed = true;
        self.begun = Instant::now();
        self.answered = self.begun;
    }

    /// What was waited for came, or what is waited for now has only begun.
    pub(super) fn answered(&mut self) {
        self.answered = Instant::now();
    }
}

/// How long Microsoft was waited for, over the parts of one blob.
#[derive(Debug, Default)]
pub(super) struct Wait {
    before: Duration,
    since: Option<Instant>,
    bytes: u64,
}

impl Wait {
    pub(super) fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    pub(super) fn end(&mut self, bytes: usize) {
        let waited = self.since.take().map(|since| since.elapsed());
        self.before += waited.unwrap_or_default();
        self.bytes += bytes as u64;
    }

    /// Whether it stalls, or comes so slowly that it may as well.
    pub(super) fn is_in_vain(&self, patience: Duration) -> bool {
        let waited = self.waited();
        waited > patience && self.bytes < waited.as_secs() * SLOWEST
    }

    fn waited(&self) -> Duration {
        let now = self.since.map(|since| since.elapsed());
        self.before + now.unwrap_or_default()
    }
}

impl Collector {
    pub(super) fn begin_listing(&self, stream: &Stream, is_new: bool) {
        let begun = Instant::now();
        let listing = Listing {
            stream: stream.id,
            is_subscribed: !is_new,
            is_new,
            begun,
            answered: begun,
            has_moved: false,
            windows: 0,
        };
        self.listing
            .borrow_mut()
            .insert(stream.content_type, listing);
    }

    /// Notes something about a stream, if it is being listed.
    pub(super) fn note(&self, content_type: ContentType, what: impl FnOnce(&mut Listing)) {
        if let Some(listing) = self.listing.borrow_mut().get_mut(&content_type) {
            what(listing);
        }
    }

    /// Something of a blob is waited for.
    pub(super) fn waits_for(&self, content: &Pending) {
        if let Some((_, wait)) = self.fetching.borrow_mut().get_mut(&content.id) {
            wait.begin();
        }
    }

    /// So many bytes of it came.
    pub(super) fn got(&self, content: &Pending, bytes: usize) {
        if let Some((_, wait)) = self.fetching.borrow_mut().get_mut(&content.id) {
            wait.end(bytes);
        }
    }

    /// Whether a run is too short for what is new of a stream, or for a single window beside that, rather than too much going
    /// on in it. A round of a backfill says nothing of what is new.
    fn is_too_long(&self, listing: &Listing) -> bool {
        if listing.is_new {
            listing.begun.elapsed() > self.work.longest
        } else {
            listing.windows == 0
        }
    }

    /// In how much smaller parts what is new of a stream is listed from now on that came to its end: in larger ones again where
    /// there is time for twice as much; whether there is for whole days is tried on each `is_new_day`.
    pub(super) fn still_too_long(
        &self,
        content_type: ContentType,
        too_long: u32,
        is_new_day: bool,
    ) -> u32 {
        let is_round = self.work.longest == Duration::MAX;
        if is_round || (too_long == 1 && !is_new_day) {
            return too_long;
        }
        let listing = self.listing.borrow();
        let took = listing
            .get(&content_type)
            .map_or(Duration::MAX, |listing| listing.begun.elapsed());
        let enough = self.work.longest / if too_long == 1 { 8 } else { 3 };
        too_long.saturating_sub(u32::from(took < enough))
    }

    /// The content types of which what is new will be known before long.
    pub(super) fn listed_soon(&self) -> Vec<ContentType> {
        let soon = self.work.patience * 3 / 2;
        let listing = self.listing.borrow();
        let listing = listing
            .iter()
            .filter(|(_, listing)| listing.is_new && listing.begun.elapsed() < soon);
        listing.map(|(&content_type, _)| content_type).collect()
    }

    /// How long an answer may take. A low `requests_per_minute` makes requests wait for their turn.
    pub(super) fn patience(&self) -> Duration {
        let pace = Duration::from_mins(1).checked_div(self.tenant.requests_per_minute);
        let places = u32::try_from(self.tenant.concurrency).unwrap_or(u32::MAX);
        self.work.patience + pace.unwrap_or_default().saturating_mul(places)
    }

    /// How long Microsoft, or its sign-in, still wants to be left alone.
    pub(super) fn throttled_for(&self) -> Option<Duration> {
        self.activity.borrow().as_ref()?.throttled_for()
    }

    /// The deadline has come: who has not answered in all this time is said to fail.
    pub(super) async fn cut_off(&self) -> Result<(), Closed> {
        let is_over = self.is_over.get();
        let (tenant, patience) = (&self.tenant, self.patience());
        // That Microsoft wants to be left alone is remembered elsewhere.
        if let Some(left) = self.throttled_for() {
            let is_listed = self.is_served.get() || self.listing.borrow().is_empty();
            if (self.asked.get().is_some() || !is_listed) && !is_over {
                self.finds(None, Finding::of_fault(&Fault::throttled(left), false));
                self.worse(Trouble::Unreachable);
            }
            return Ok(());
        }
        // Until its subscriptions are known, nothing of it is.
        let asked = self.asked.get().filter(|_| !is_over);
        if let Some((what, since)) = asked
            && since.elapsed() > patience
        {
            return self.nothing_came(what).await;
        }
        let now = self.clock.now();
        let (mut unanswered, mut endless) = (Vec::new(), Vec::new());
        let late = self.not_answered("a listing", "/subscriptions/content");
        let unstarted = self.not_answered("the start of the subscription", "/subscriptions/start");
        let long = took_too_long("a listing did not come to its end by the run's deadline");
        for (content_type, listing) in self.listing.take() {
            if listing.answered.elapsed() > patience {
                let late = if listing.is_subscribed {
                    &late
                } else {
                    &unstarted
                };
                self.says(content_type, late);
                unanswered.push((listing.stream, listing.is_new, late.to_string()));
            } else if listing.begun.elapsed() > patience && !listing.has_moved {
                // What it named so far is fetched, but the next run begins it anew, in smaller parts if it had time enough.
                self.finds(Some(content_type), Finding::of_fault(&long, false));
                log::warn!("{} {content_type}: {long}", tenant.name);
                endless.push((listing.stream, listing.is_new, self.is_too_long(&listing)));
            }
        }
        let blobs = self.late_blobs(patience);
        if unanswered.is_empty() && endless.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        let long = long.to_string();
        self.work
            .desk
            .ledger(move |ledger| {
                for (stream, is_new, late) in unanswered {
                    if is_new {
                        ledger.stream_failed(stream, now, None, &late)?;
                    } else {
                        ledger.stream_failed_beside(stream, now, &late)?;
                    }
                }
                for (stream, is_new, is_too_long) in endless {
                    ledger.stream_failed_beside(stream, now, &long)?;
                    if is_new {
                        ledger.stream_answered(stream)?;
                    }
                    if is_too_long {
                        ledger.stream_too_long(stream, is_new)?;
                    }
                }
                blobs.iter().try_for_each(|content| {
                    ledger.content_failed(
                        content,
                        now,
                        false,
                        None,
                        "it did not come by the run's deadline",
                    )
                })
            })
            .await
    }

    /// The blobs that came too slowly, or for too long, to come to their end in a run like this one.
    fn late_blobs(&self, patience: Duration) -> Vec<Pending> {
        let longest = patience.max(self.work.longest);
        let (mut late, mut are_slow) = (Vec::new(), false);
        for (content, wait) in self.fetching.take().into_values() {
            let is_slow = wait.is_in_vain(patience);
            if is_slow || wait.waited() > longest {
                late.push(content);
                are_slow |= is_slow;
            }
        }
        if !late.is_empty() {
            self.worse(Trouble::Partial);
            let what = format!("{} contents did not come by the run's deadline", late.len());
            let fault = if are_slow {
                Fault::late(&what)
            } else {
                took_too_long(&what)
            };
            log::error!("{}: {fault}", self.tenant.name);
        }
        late
    }

    /// What to say of what was asked for in vain: what came of such a request, at `path`, if anything did.
    fn not_answered(&self, what: &str, path: &str) -> Fault {
        let activity = self.activity.borrow();
        let bad = activity.as_ref().and_then(|activity| activity.last_fault());
        match bad.filter(|bad| bad.url.ends_with(path)) {
            Some(bad) => {
                let well = bad.status.map_or("", |_| " well");
                let message = &bad.message;
                let message =
                    format!("{what} was not answered{well} by the run's deadline: {message}");
                Fault {
                    message: message.into(),
                    ..bad
                }
            }
            None => Fault::late(&format!("{what} was not answered by the run's deadline")),
        }
    }

    /// Nothing of the tenant came.
    async fn nothing_came(&self, what: &str) -> Result<(), Closed> {
        let fault = self.not_answered(what, "");
        self.finds(None, Finding::of_fault(&fault, false));
        self.worse(Trouble::Unreachable);
        let failed = Failed::AtMicrosoft {
            is_refused: false,
            wait: None,
        };
        self.failed(fault.to_string(), failed).await
    }
}

/// Microsoft answers, but a run is too short for it.
fn took_too_long(what: &str) -> Fault {
    Fault {
        cure: "raise --deadline, and with it the timeout of whatever starts o365-wodle",
        ..Fault::late(what)
    }
}
