//! A steady pace where nobody tells what Wazuh can take.

use std::time::{Duration, Instant};

use crate::config::EventsPerSecond;

/// What the built-in modules of Wazuh keep to.
const DEFAULT_RATE: u32 = 100;

/// A bucket of permissions to send: filled at the rate, holding a tenth of a second's worth.
#[derive(Debug)]
pub(super) struct Pace {
    /// `None`: no limit.
    rate: Option<f64>,
    permits: f64,
    filled: Option<Instant>,
}

impl Pace {
    /// The pace that the operator chose, "auto" being 100 a second.
    pub(super) fn new(rate: EventsPerSecond) -> Self {
        match rate {
            EventsPerSecond::Auto => Self::at(Some(DEFAULT_RATE)),
            EventsPerSecond::Fixed(rate) => Self::at(Some(rate)),
            EventsPerSecond::Unlimited => Self::at(None),
        }
    }

    /// The pace beside an acknowledgement, which "auto" leaves all to.
    pub(super) fn beside_acknowledgement(rate: EventsPerSecond) -> Self {
        match rate {
            EventsPerSecond::Auto | EventsPerSecond::Unlimited => Self::at(None),
            EventsPerSecond::Fixed(_) => Self::new(rate),
        }
    }

    fn at(rate: Option<u32>) -> Self {
        Self {
            rate: rate.map(|rate| f64::from(rate.max(1))),
            permits: 1.0,
            filled: None,
        }
    }

    /// How many events may be sent now, and when to ask again.
    pub(super) fn permits(&mut self, now: Instant) -> (usize, Duration) {
        let Some(rate) = self.rate else {
            return (usize::MAX, Duration::from_millis(20));
        };
        let burst = (rate / 10.0).max(1.0);
        let passed = self
            .filled
            .map_or(Duration::ZERO, |filled| now.duration_since(filled));
        self.permits = (self.permits + passed.as_secs_f64() * rate).min(burst);
        self.filled = Some(now);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounded down on purpose, between 0 and a tenth of a u32"
        )]
        let events = self.permits.max(0.0) as usize;
        // Half a bucket at a time: few wake-ups, and never a burst.
        let wanted = (burst / 2.0).max(1.0) - self.permits.min(0.0);
        (events, Duration::from_secs_f64((wanted / rate).min(1.0)))
    }

    /// `events` were sent.
    pub(super) fn sent(&mut self, events: usize) {
        if self.rate.is_some() {
            #[allow(
                clippy::cast_precision_loss,
                reason = "a batch is far below the 2^52 that fit"
            )]
            let events = events as f64;
            self.permits -= events;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_without_bursts() {
        for (rate, most) in [
            (EventsPerSecond::Auto, 100),
            (EventsPerSecond::Fixed(5), 5),
            (EventsPerSecond::Fixed(15_000), 15_000),
        ] {
            let mut pace = Pace::new(rate);
            let mut now = Instant::now();
            let end = now + Duration::from_secs(10);
            let mut sent = 0;
            while now < end {
                let (events, again) = pace.permits(now);
                assert!(
                    events <= (most / 10).max(1),
                    "{rate:?}: a burst of {events}"
                );
                pace.sent(events);
                sent += events;
                assert!(again > Duration::ZERO);
                now += again;
            }
            let ideal = most * 10;
            assert!(
                (ideal * 95 / 100..=ideal + 1).contains(&sent),
                "{rate:?}: {sent}"
            );
        }
    }

    #[test]
    fn a_rest_earns_no_burst() {
        let mut pace = Pace::new(EventsPerSecond::Auto);
        let start = Instant::now();
        pace.permits(start);
        assert_eq!(pace.permits(start + Duration::from_hours(1)).0, 10);
    }

    #[test]
    fn no_pacing_is_no_limit() {
        let mut pace = Pace::new(EventsPerSecond::Unlimited);
        pace.sent(1_000_000);
        assert_eq!(pace.permits(Instant::now()).0, usize::MAX);
    }
}
