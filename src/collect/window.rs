//! Which spans of contentCreated to list; pure.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveTime, Utc};

/// How far back Microsoft lists contents, less a margin for the way there.
pub const REACH: Duration = Duration::from_mins(7 * 24 * 60 - 5);

/// A half-open span `[start, end)` of contentCreated, at most 24 hours long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Inclusive.
    pub start: DateTime<Utc>,
    /// Exclusive.
    pub end: DateTime<Utc>,
}

/// What to list of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The windows, the oldest first; they tile `[start, now)` without gap or overlap.
    pub windows: Vec<Window>,
    /// What can no longer be listed: from the marker (or floor) to where Microsoft's reach begins.
    pub gap: Option<Window>,
}

/// The windows from the UTC midnight before `from` to `now`, cut at UTC midnights.
///
/// A start that moves makes Microsoft cut other, partial blobs, so starts stay at midnights as long
/// as its reach allows. `from` is the point up to which everything is known to be listed, less the
/// overlap; `complete_to` is that point itself, and what lies between it and the reach is lost.
#[must_use]
pub fn plan(from: DateTime<Utc>, complete_to: DateTime<Utc>, now: DateTime<Utc>) -> Plan {
    let reach = now - REACH;
    let first = midnight(from).max(reach).min(now);
    let mut windows = Vec::new();
    let mut start = first;
    while start < now {
        let end = (midnight(start) + Days::new(1)).min(now);
        windows.push(Window { start, end });
        start = end;
    }
    let gap = (complete_to < reach).then_some(Window {
        start: complete_to,
        end: reach,
    });
    Plan { windows, gap }
}

/// The UTC midnight at or before a time.
fn midnight(time: DateTime<Utc>) -> DateTime<Utc> {
    time.date_naive().and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn starts_at_the_midnight_before_and_cuts_at_midnights() {
        let plan = plan(
            at("2026-03-14T20:00:00Z"),
            at("2026-03-15T02:00:00Z"),
            at("2026-03-16T03:04:05Z"),
        );
        let bounds: Vec<_> = plan
            .windows
            .iter()
            .map(|window| (window.start.to_rfc3339(), window.end.to_rfc3339()))
            .collect();
        assert_eq!(
            bounds,
            [
                (
                    "2026-03-14T00:00:00+00:00".into(),
                    "2026-03-15T00:00:00+00:00".into()
                ),
                (
                    "2026-03-15T00:00:00+00:00".into(),
                    "2026-03-16T00:00:00+00:00".into()
                ),
                (
                    "2026-03-16T00:00:00+00:00".into(),
                    "2026-03-16T03:04:05+00:00".into()
                ),
            ] as [(String, String); 3]
        );
        assert_eq!(plan.gap, None);
    }

    #[test]
    fn names_what_lies_beyond_the_reach() {
        let now = at("2026-03-16T03:00:00Z");
        let plan = plan(at("2026-03-01T00:00:00Z"), at("2026-03-01T06:00:00Z"), now);
        assert_eq!(plan.windows[0].start, at("2026-03-09T03:05:00Z"));
        let gap = plan.gap.unwrap();
        assert_eq!(gap.start, at("2026-03-01T06:00:00Z"));
        assert_eq!(gap.end, at("2026-03-09T03:05:00Z"));
    }

    #[test]
    fn a_marker_in_the_future_lists_nothing() {
        let now = at("2026-03-16T03:00:00Z");
        assert!(
            plan(now + Days::new(30), now + Days::new(30), now)
                .windows
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn windows_tile_the_span(now in 1_000_000_000i64..4_000_000_000, back in -10_000_000i64..10_000_000) {
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let from = now - chrono::TimeDelta::seconds(back);
            let plan = plan(from, from, now);
            let mut expected = midnight(from).max(now - REACH).min(now);
            for window in &plan.windows {
                prop_assert_eq!(window.start, expected);
                prop_assert!(window.start < window.end);
                prop_assert!(window.end - window.start <= chrono::TimeDelta::days(1));
                prop_assert!(window.start >= now - REACH);
                expected = window.end;
            }
            prop_assert_eq!(expected, now);
            prop_assert!(plan.windows.len() <= 8);
        }
    }
}
