//! What time it is at Microsoft.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use tokio::time::Instant;

/// How far back contents can be listed: Microsoft keeps 7 days; five minutes of it are left for the request to arrive.
pub const REACH: Duration = Duration::from_mins(7 * 24 * 60 - 5);

/// A clock that is wrong by no more is right.
pub const SKEW: TimeDelta = TimeDelta::minutes(1);

/// By how much two clocks differ that may both be right about a time that one of them wrote down.
pub const CLOCK_TOLERANCE: Duration = Duration::from_mins(15);

/// One tenant's clock: the server's time once an answer told it, the machine's before.
///
/// Clones share what they know. A wrong local clock then neither moves a marker beyond what
/// Microsoft has published nor asks for a window that Microsoft refuses.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Mutex<Option<Seen>>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    server: DateTime<Utc>,
    skew: TimeDelta,
    at: Instant,
}

impl Clock {
    /// The time, in UTC: the last `Date` of a server, moved on by the monotonic clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.seen()
            .and_then(|seen| {
                let since = TimeDelta::from_std(seen.at.elapsed()).ok()?;
                seen.server.checked_add_signed(since)
            })
            .unwrap_or_else(Utc::now)
    }

    /// Since when contents can be listed, by the later of Microsoft's time and this machine's where they
    /// differ by minutes only: what Microsoft's own clock says is out of reach must not be asked for,
    /// whichever of the two is late.
    #[must_use]
    pub fn reach(&self) -> DateTime<Utc> {
        let (server, local) = (self.now(), Utc::now());
        let later = if local <= server + CLOCK_TOLERANCE {
            server.max(local)
        } else {
            server
        };
        later - REACH
    }

    /// How far the machine's clock is ahead of the server's (negative: behind), if a server has
    /// told its time; exact to a second or two.
    #[must_use]
    pub fn skew(&self) -> Option<TimeDelta> {
        self.seen().map(|seen| seen.skew)
    }

    /// Takes the `Date` header of an answer that began to come at `at`; anything else is ignored.
    pub(super) fn observe(&self, headers: &reqwest::header::HeaderMap, at: Instant) {
        let Some(server) = headers
            .get(reqwest::header::DATE)
            .filter(|_| !crate::teeth::is_off("clock"))
            .and_then(|date| http_date(date.to_str().ok()?))
        else {
            return;
        };
        let since = TimeDelta::from_std(at.elapsed()).unwrap_or_default();
        let skew = Utc::now() - since - server;
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer that came slowly tells nothing new.
        if seen.is_none_or(|seen| seen.at <= at) {
            *seen = Some(Seen { server, skew, at });
        }
    }

    fn seen(&self) -> Option<Seen> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`. The day of the week may be wrong.
pub(super) fn http_date(text: &str) -> Option<DateTime<Utc>> {
    let date = text.split_once(',').map_or(text, |(_, date)| date);
    let date = DateTime::parse_from_rfc2822(date.trim()).ok()?.to_utc();
    // Times are reckoned from it, which have to be ones that a calendar knows.
    (1970..3000).contains(&date.year()).then_some(date)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use reqwest::header::{DATE, HeaderMap, HeaderValue};

    #[tokio::test(start_paused = true)]
    async fn the_servers_time_goes_on_with_the_monotonic_clock() {
        let clock = Clock::default();
        assert!(clock.skew().is_none());
        let mut headers = HeaderMap::new();
        headers.insert(
            DATE,
            HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"),
        );
        clock.clone().observe(&headers, Instant::now());
        tokio::time::advance(std::time::Duration::from_secs(30)).await;
        assert_eq!(clock.now().to_rfc3339(), "1994-11-06T08:50:07+00:00");
        assert!(clock.skew().unwrap() > TimeDelta::days(9000));

        // An answer that came slowly tells what time it was when it began.
        let begun = Instant::now();
        let date = Utc::now().to_rfc2822().replace("+0000", "GMT");
        tokio::time::advance(std::time::Duration::from_secs(90)).await;
        let slow = Clock::default();
        headers.insert(DATE, HeaderValue::from_str(&date).unwrap());
        slow.observe(&headers, begun);
        assert_eq!(slow.skew().unwrap().num_minutes(), -1);
        headers.insert(
            DATE,
            HeaderValue::from_static("Sun, 06 Nov 1994 08:00:00 GMT"),
        );
        slow.observe(&headers, begun - std::time::Duration::from_secs(1));
        assert_eq!(slow.skew().unwrap().num_minutes(), -1, "newer is known");

        for date in ["yesterday", "Sat, 31 Dec 262142 23:59:59 GMT"] {
            headers.insert(DATE, HeaderValue::from_static(date));
            clock.observe(&headers, Instant::now());
            assert_eq!(clock.now().to_rfc3339(), "1994-11-06T08:51:37+00:00");
        }
    }
}
