//! Which spans of contentCreated to list; pure.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

pub use crate::microsoft::REACH;

/// How long windows are that nothing keeps from being a day, …
pub const DAY: TimeDelta = TimeDelta::days(1);
/// … where a day's listing is longer than a run and all of some days is to be listed, …
pub const HOUR: TimeDelta = TimeDelta::hours(1);
/// … and where what was listed of it counts at once.
pub const QUARTER: TimeDelta = TimeDelta::minutes(15);

/// A half-open span `[start, end)` of contentCreated.
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
    /// The windows, the oldest first; they tile `[start, now)` without gap or overlap, now being the last whole second.
    pub windows: Vec<Window>,
    /// What can no longer be listed: from what is complete to where Microsoft's reach begins.
    pub gap: Option<Window>,
}

/// What is new of a stream that is listed up to `complete_to`: the windows up to `now`, as [`tile`] cuts them.
///
/// They start `overlap` before that, for what is listed late, but not below the floor. Where that is `too_long` for a run, it is
/// halved run by run, or what is new would never be reached; a sweep lists the rest. What lies between `complete_to` and `reach`
/// is lost.
#[must_use]
pub fn plan(
    complete_to: DateTime<Utc>,
    overlap: Duration,
    floor: DateTime<Utc>,
    now: DateTime<Utc>,
    reach: DateTime<Utc>,
    too_long: u32,
) -> Plan {
    let overlap = overlap / (1 << too_long.saturating_sub(1).min(16));
    let length = if too_long == 0 { DAY } else { QUARTER };
    let gap = (complete_to < reach).then_some(Window {
        start: complete_to,
        end: reach,
    });
    Plan {
        windows: tile((complete_to - overlap).max(floor), now, now, length),
        gap,
    }
}

/// The windows from the UTC midnight (hour, quarter of an hour) before `from`, or from where Microsoft's reach begins, to `to`, in
/// whole seconds: requests know no smaller time.
///
/// A start that moves makes Microsoft cut other, partial blobs, so windows are cut at midnights, or wherever this `length` of
/// theirs ends since one.
#[must_use]
pub fn tile(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    now: DateTime<Utc>,
    length: TimeDelta,
) -> Vec<Window> {
    let to = to.min(now).trunc_subsecs(0);
    let mut windows = Vec::new();
    let mut start = cut(from, length).max(now - REACH);
    while start < to {
        let end = (cut(start, length) + length).min(to);
        windows.push(Window { start, end });
        start = end;
    }
    windows
}

/// The time at or before another at which windows of this length are cut.
fn cut(time: DateTime<Utc>, length: TimeDelta) -> DateTime<Utc> {
    let behind = time.timestamp().rem_euclid(length.num_seconds());
    time.trunc_subsecs(0) - TimeDelta::seconds(behind)
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

    const SIX_HOURS: Duration = Duration::from_hours(6);

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn starts_at_the_midnight_before_and_cuts_at_midnights() {
        let plan = plan(
            at("2026-03-15T02:00:00Z"),
            SIX_HOURS,
            at("2026-03-01T00:00:00Z"),
            at("2026-03-16T03:04:05Z"),
            at("2026-03-09T03:09:05Z"),
            0,
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
    fn ends_with_the_last_whole_second() {
        let tile = |now| tile(at("2026-03-15T12:00:00Z"), at(now), at(now), DAY);
        assert_eq!(
            tile("2026-03-16T00:00:00.4Z").len(),
            1,
            "nothing of today yet"
        );
        let windows = tile("2026-03-16T00:00:01.4Z");
        assert_eq!(windows[1].end, at("2026-03-16T00:00:01Z"));
    }

    #[test]
    fn names_what_lies_beyond_the_reach() {
        let now = at("2026-03-16T03:00:00Z");
        let since = at("2026-03-01T06:00:00Z");
        // Where this machine's clock is ahead of Microsoft's, less can be asked for.
        let reach = now - REACH + Duration::from_mins(10);
        let plan = plan(since, SIX_HOURS, since, now, reach, 0);
        assert_eq!(plan.windows[0].start, at("2026-03-09T03:05:00Z"));
        let gap = plan.gap.unwrap();
        assert_eq!(gap.start, at("2026-03-01T06:00:00Z"));
        assert_eq!(gap.end, at("2026-03-09T03:15:00Z"));
    }

    #[test]
    fn a_marker_in_the_future_lists_nothing() {
        let now = at("2026-03-16T03:00:00Z");
        let to_come = now + TimeDelta::days(30);
        let plan = plan(to_come, SIX_HOURS, now, now, now - REACH, 0);
        assert!(plan.windows.is_empty());
    }

    #[test]
    fn the_overlap_ends_at_the_floor() {
        let (now, floor) = (at("2026-03-16T03:00:00Z"), at("2026-03-16T00:30:00Z"));
        let marker = at("2026-03-16T02:00:00Z");
        let plan = plan(marker, SIX_HOURS, floor, now, now - REACH, 0);
        assert_eq!(plan.windows[0].start, at("2026-03-16T00:00:00Z"));
    }

    /// With each run that a listing was too long for, less is listed once more, until what is new is in the first window.
    #[test]
    fn what_is_too_long_for_a_run_is_cut_until_it_is_not() {
        let (now, floor) = (at("2026-03-16T03:04:00Z"), at("2026-03-01T00:00:00Z"));
        let marker = at("2026-03-16T02:59:00Z");
        let starts: Vec<_> = (0..8)
            .map(|too_long| plan(marker, SIX_HOURS, floor, now, now - REACH, too_long).windows[0])
            .map(|window| window.start.format("%d %H:%M").to_string())
            .collect();
        let expected = [
            "15 00:00", "15 20:45", "15 23:45", "16 01:15", "16 02:00", "16 02:30", "16 02:45",
            "16 02:45",
        ];
        assert_eq!(starts, expected);
    }

    proptest! {
        #[test]
        fn windows_tile_the_span(
            now in 1_000_000_000i64..4_000_000_000,
            back in -10_000_000i64..10_000_000,
            too_long in 0u32..3,
        ) {
            let (length, most) = if too_long == 0 { (DAY, 8) } else { (QUARTER, 673) };
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let from = now - chrono::TimeDelta::seconds(back);
            let plan = plan(from, Duration::ZERO, from, now, now - REACH, too_long);
            let mut expected = cut(from, length).max(now - REACH).min(now);
            for window in &plan.windows {
                prop_assert_eq!(window.start, expected);
                prop_assert!(window.start < window.end);
                prop_assert!(window.end - window.start <= length);
                prop_assert!(window.start >= now - REACH);
                expected = window.end;
            }
            prop_assert_eq!(expected, now);
            prop_assert!(plan.windows.len() <= most);
        }
    }
}
