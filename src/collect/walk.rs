//! Windows of a stream, listed one after the other into the ledger.

use super::desk::Closed;
use super::gap::Before;
use super::late::Listing;
use super::tenant::{CLOCK_JITTER, Collector, End};
use super::window::Window;
use crate::ledger::{Ledger, NewContent, Span, Stream};
use crate::microsoft::{Activity, Class, Fault};
use crate::teeth;

/// What a window is listed for.
#[derive(Clone, Copy)]
pub(super) enum Aim {
    /// What is new; the marker moves to its end.
    Marker,
    /// What is new behind something that could not be read, or a sweep: the marker stays.
    Contents,
    /// What a backfill asked for; the span begins at its end.
    Span(Span),
    /// What a backfill asked for, while the span begins before what could not be read.
    Rest(Span),
}

/// How the listing of some windows ended.
pub(super) enum Listed {
    /// All were listed.
    Whole,
    /// Something of them was not.
    InPart(Fault),
    /// Nothing more can be listed now.
    Failed(Fault),
    /// The subscription has ended and cannot be started now, as was said.
    Unsubscribed,
}

impl Collector {
    /// Lists some windows, all of them though one fails, unless Microsoft does not answer.
    ///
    /// Where the last listing failed, every other one begins with another window than the oldest: one that is never answered
    /// must not keep the newer ones from being listed.
    pub(super) async fn list_windows(
        &self,
        activity: &Activity,
        stream: &Stream,
        mut windows: Vec<Window>,
        aim: Aim,
    ) -> Result<Listed, End> {
        let count = windows.len();
        let tries = match aim {
            Aim::Marker => stream.failures as usize,
            // Of a span they are not counted.
            Aim::Span(_) if stream.has_error => self.work.run,
            _ => 0,
        };
        let first = first(tries, count);
        windows.rotate_left(first);
        // Whether something before a window is not listed.
        let (mut failed, mut is_behind) = (None, first > 0);
        let mut newest = None;
        for (number, window) in windows.into_iter().enumerate() {
            if first > 0 && number == count - first {
                is_behind = false;
                self.looks_for_gap_before(stream, aim).await?;
            }
            // What comes after what could not be read is listed anyway.
            let aim = match aim {
                Aim::Marker if is_behind => Aim::Contents,
                Aim::Span(span) if is_behind => Aim::Rest(span),
                aim => aim,
            };
            let mut is_restarted = false;
            let fault = loop {
                match self.list_window(activity, stream, window, aim).await {
                    Ok(fault) => break fault,
                    Err(End::Fault(fault))
                        if !is_restarted && fault.class == Class::StartSubscription =>
                    {
                        is_restarted = true;
                        if !self.start(activity, stream).await? {
                            return Ok(Listed::Unsubscribed);
                        }
                    }
                    Err(End::Fault(_)) if teeth::is_off("marker") => {
                        self.complete(stream, window, aim).await?;
                        break None;
                    }
                    // Microsoft answers, but not for this window; unless it wants not to be asked for a while.
                    Err(End::Fault(fault))
                        if fault.status.is_some()
                            && !fault.is_of_sign_in
                            && fault.retry_after.is_none()
                            && is_of_window(fault.class)
                            && !fault.is_of_permission() =>
                    {
                        break Some(fault);
                    }
                    Err(End::Fault(fault)) => return Ok(Listed::Failed(fault)),
                    Err(closed) => return Err(closed),
                }
            };
            if first > 0 && number + 1 == count - first {
                let end = window.end.min(self.clock.now());
                newest = Some(Window { end, ..window });
            }
            if let Some(fault) = fault {
                is_behind = true;
                // It weighs more than an entry that cannot be read.
                let weighs_less =
                    |failed: &Fault| failed.status.is_none() && fault.status.is_some();
                if failed.as_ref().is_none_or(weighs_less) {
                    failed = Some(fault);
                }
            }
        }
        if let Some(fault) = failed {
            return Ok(Listed::InPart(fault));
        }
        if let Some(newest) = newest {
            self.complete(stream, newest, aim).await?;
        }
        Ok(Listed::Whole)
    }

    /// What is new may have slipped out of reach since the listings were planned.
    async fn looks_for_gap_before(&self, stream: &Stream, aim: Aim) -> Result<(), Closed> {
        let reach = self.clock.reach();
        let Some(start) = stream.marker.filter(|start| *start < reach) else {
            return Ok(());
        };
        let gap = Window { start, end: reach };
        if matches!(aim, Aim::Marker) && !self.gap_grew(stream.content_type, gap) {
            self.finds_gap(stream, gap).await?;
        }
        Ok(())
    }

    /// Nothing before the end of a window has to be listed again.
    async fn complete(&self, stream: &Stream, window: Window, aim: Aim) -> Result<(), Closed> {
        let (id, is_span) = (stream.id, matches!(aim, Aim::Span(_)));
        // What was planned by a clock that ran ahead, the answers to the listing tell.
        let now = self.clock.now();
        let is_ahead = window.end > now + CLOCK_JITTER;
        let end = if is_ahead { now } else { window.end };
        let moves = is_span || stream.marker.is_none_or(|marker| marker < end);
        self.note(stream.content_type, |listing| listing.has_moved |= moves);
        let before = if is_span { Before::Span } else { Before::New };
        self.ends_gap(stream.content_type, before).await?;
        let completed = move |ledger: &mut Ledger| match aim {
            Aim::Span(span) | Aim::Rest(span) => ledger.span_listed_to(span.id, end),
            Aim::Marker | Aim::Contents => ledger.window_complete(id, end),
        };
        self.work.desk.ledger(completed).await
    }

    /// Lists a window into the ledger; what is incomplete about it.
    async fn list_window(
        &self,
        activity: &Activity,
        stream: &Stream,
        window: Window,
        aim: Aim,
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
            let now = self.clock.now();
            let more = self
                .work
                .desk
                .ledger(move |ledger| match aim {
                    Aim::Marker | Aim::Contents => {
                        ledger.insert_contents(id, floor, &contents, now)
                    }
                    Aim::Span(of) | Aim::Rest(of) => {
                        ledger.insert_span_contents(id, &of, &contents, now)
                    }
                })
                .await?;
            new += more;
            self.note(stream.content_type, Listing::answered);
            if more > 0 {
                self.news.notify_one();
            }
        }
        self.is_served.set(true);
        self.note(stream.content_type, Listing::answered);
        self.note(stream.content_type, |listing| listing.windows += 1);
        let incomplete = listing.incomplete();
        if incomplete.is_none() && matches!(aim, Aim::Marker | Aim::Span(_)) {
            self.complete(stream, window, aim).await?;
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
}

/// With which of some windows the try begins that comes after so many: every other one with the oldest.
fn first(tries: usize, count: usize) -> usize {
    if tries % 2 == 1 && count > 1 {
        1 + super::first(tries / 2, count - 1)
    } else {
        0
    }
}

/// Whether a fault says nothing of what else is asked for.
pub(super) fn is_of_window(class: Class) -> bool {
    matches!(
        class,
        Class::Retry | Class::Failed | Class::RestartWindow | Class::SkipBlob | Class::OurBug
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_is_the_first_of_some_try_and_the_oldest_of_every_other() {
        for count in 1..9 {
            let begins = |tries: usize| first(tries, count);
            assert!((0..40).step_by(2).all(|tries| begins(tries) == 0));
            for window in 0..count {
                assert!((0..2 * count).any(|tries| begins(tries) == window));
            }
        }
        // Of many, one of the first few lies behind any that hangs, unless that is among the last.
        for hangs in 1..600 {
            let is_passed = |tries: usize| first(tries, 672) > hangs;
            assert!((0..40).any(is_passed), "{hangs}");
        }
    }
}
