//! How often and how fast a tenant's requests go: rate, throttling, repetition.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fault::{Class, Fault};
use super::rest::rest_until;

/// How a request is repeated after a fault that passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    /// How often it is repeated.
    pub attempts: u32,
    /// The first wait; each later one is twice as long.
    pub first: Duration,
    /// The longest wait; a server that wants a longer one is not waited for in this run.
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_secs(1),
            max: Duration::from_mins(1),
        }
    }
}

impl Retry {
    /// The wait before repetition `n` (from 0): `None` if there is none. Between half and all of the
    /// doubled wait, or a little more than what the server asked for: callers who failed together
    /// do not come back together, and none comes early by a clock that runs faster than the server's.
    fn wait(&self, n: u32, asked: Option<Duration>) -> Option<Duration> {
        if n >= self.attempts || asked.is_some_and(|asked| asked > self.max) {
            return None;
        }
        let full = self.first.saturating_mul(1 << n.min(16)).min(self.max);
        let random = random_fraction();
        let wait = full / 2 + full.mul_f64(random / 2.0);
        let late = Duration::from_millis(50) + Duration::from_millis(200).mul_f64(random);
        Some(asked.map_or(wait, |asked| wait.max(asked + late)))
    }
}

/// A random number in [0, 1).
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0,
        Err(_) => 0.5,
    }
}

/// One tenant's rate and gate.
#[derive(Debug)]
pub(super) struct Budget {
    /// Between two requests of a steady stream; zero: no limit.
    interval: Duration,
    /// How far requests may run ahead of a steady stream.
    burst: Duration,
    retry: Retry,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When a steady stream would send its next request.
    due: Instant,
    /// No request leaves before.
    closed_until: Instant,
    /// The last fault, if the request is repeated for it and no answer came since that was none.
    bad: Option<Box<Fault>>,
    requests: Requests,
}

impl Budget {
    pub(super) fn new(requests_per_minute: u32, retry: Retry) -> Self {
        let interval = Duration::from_mins(1)
            .checked_div(requests_per_minute)
            .unwrap_or_default();
        let now = Instant::now();
        Self {
            interval,
            burst: interval * (requests_per_minute / 5).saturating_sub(1),
            retry,
            state: Mutex::new(State {
                due: now,
                closed_until: now,
                bad: None,
                requests: Requests::default(),
            }),
        }
    }

    /// Waits until a request may leave.
    ///
    /// # Errors
    /// [`Class::Throttled`] with the time left, if the gate stays closed for longer than one waits.
    pub(super) async fn admit(&self) -> Result<(), Fault> {
        self.opened().await?;
        let slot = {
            let mut state = self.lock();
            let now = Instant::now();
            let slot = state.due.checked_sub(self.burst).unwrap_or(now);
            state.due = state.due.max(now) + self.interval;
            slot
        };
        rest_until(slot).await;
        self.opened().await
    }

    async fn opened(&self) -> Result<(), Fault> {
        loop {
            let closed_until = self.lock().closed_until;
            let left = closed_until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if left > self.retry.max {
                return Err(Fault::throttled(left));
            }
            rest_until(closed_until).await;
        }
    }

    /// Closes the gate for as long as Microsoft asks for.
    pub(super) fn heed(&self, fault: &Fault) {
        if fault.class == Class::Throttled
            && let Some(time) = fault.retry_after
        {
            self.close_for(time);
        }
    }

    /// How much longer the gate stays closed, if it is.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let left = self
            .lock()
            .closed_until
            .saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn close_for(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        state.closed_until = state.closed_until.max(until);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats `once` while its faults pass and the policy allows.
    pub(super) async fn repeat<T>(
        &self,
        mut once: impl AsyncFnMut() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut tried = 0;
        loop {
            match once().await {
                Ok(done) => return Ok(done),
                Err(fault) => self.pause(&mut tried, fault).await?,
            }
        }
    }

    /// Waits before what failed with `fault` is tried again, `tried` counting.
    ///
    /// # Errors
    /// The fault itself, if trying again now makes no sense.
    pub(super) async fn pause(&self, tried: &mut u32, fault: Fault) -> Result<(), Fault> {
        let wait = self.retry.wait(*tried, fault.retry_after);
        if fault.class == Class::Throttled
            && let Some(time) = wait
        {
            self.close_for(time);
        }
        self.heed(&fault);
        match (fault.class, wait) {
            // What failed in the sign-in was repeated there.
            (Class::Retry | Class::Throttled, Some(wait)) if !fault.is_of_sign_in => {
                log::debug!("again in {:.1} s: {fault}", wait.as_secs_f64());
                if fault.class == Class::Retry {
                    self.lock().bad = Some(Box::new(fault));
                }
                *tried += 1;
                rest_until(Instant::now() + wait).await;
                Ok(())
            }
            _ => Err(fault),
        }
    }

    /// The last fault, if the request is repeated for it and no answer came since that was none.
    pub(super) fn last_fault(&self) -> Option<Fault> {
        self.lock().bad.as_deref().cloned()
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let mut state = self.lock();
        if let Outcome::Ok = outcome {
            state.bad = None;
        }
        let Requests {
            ok,
            throttled,
            refused,
            failed,
            unanswered,
        } = &mut state.requests;
        *match outcome {
            Outcome::Ok => ok,
            Outcome::Throttled => throttled,
            Outcome::Refused => refused,
            Outcome::Failed => failed,
            Outcome::Unanswered => unanswered,
        } += 1;
    }

    pub(super) fn requests(&self) -> Requests {
        self.lock().requests
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Ok,
    Throttled,
    Refused,
    Failed,
    Unanswered,
}

/// A tenant's requests so far, by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Answered with success.
    pub ok: u64,
    /// Answered with "too many requests" in one of its spellings.
    pub throttled: u64,
    /// Refused for another reason (status below 500).
    pub refused: u64,
    /// Answered with a server's fault (status from 500).
    pub failed: u64,
    /// Not answered: no connection, reset, time-out.
    pub unanswered: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_at_once_then_the_rate() {
        let budget = Budget::new(60, Retry::default());
        let start = Instant::now();
        for _ in 0..12 {
            budget.admit().await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for n in 1..=5 {
            budget.admit().await.unwrap();
            assert_eq!(start.elapsed().as_secs(), n);
        }
        // Idle time fills the bucket again, but not beyond its size.
        tokio::time::advance(seconds(3600)).await;
        let start = Instant::now();
        for _ in 0..13 {
            budget.admit().await.unwrap();
        }
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit() {
        let budget = Budget::new(0, Retry::default());
        let start = Instant::now();
        for _ in 0..10_000 {
            budget.admit().await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_closes_the_gate_for_all() {
        let budget = Budget::new(0, Retry::default());
        let start = Instant::now();
        budget
            .pause(&mut 0, Fault::throttled(seconds(7)))
            .await
            .unwrap();
        budget.admit().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 7);

        let fault = budget
            .pause(&mut 0, Fault::throttled(seconds(600)))
            .await
            .unwrap_err();
        assert_eq!(
            (fault.class, fault.retry_after),
            (Class::Throttled, Some(seconds(600)))
        );
        tokio::time::advance(seconds(100)).await;
        let fault = budget.admit().await.unwrap_err();
        assert_eq!(
            (fault.class, fault.retry_after),
            (Class::Throttled, Some(seconds(500)))
        );
        assert_eq!(start.elapsed().as_secs(), 107);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_in_the_sign_in_is_not_repeated_around_it() {
        let budget = Budget::new(0, Retry::default());
        let start = Instant::now();
        let mut fault = Fault::broken("no answer within 30 s".to_owned(), String::new());
        fault.is_of_sign_in = true;
        let mut asked = 0;
        let refused = budget.repeat(async || {
            asked += 1;
            Err::<(), _>(fault.clone())
        });
        assert!(refused.await.unwrap_err().is_of_sign_in);
        assert_eq!((asked, start.elapsed()), (1, Duration::ZERO));
    }

    #[test]
    fn waits_double_with_jitter_up_to_the_longest_and_end() {
        let retry = Retry {
            attempts: 8,
            ..Retry::default()
        };
        for (n, full) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            let wait = retry.wait(u32::try_from(n).unwrap(), None).unwrap();
            assert!(
                wait >= seconds(full) / 2 && wait <= seconds(full),
                "{n}: {wait:?}"
            );
        }
        assert_eq!(retry.wait(8, None), None);
        let asked = retry.wait(0, Some(seconds(30))).unwrap();
        assert!(asked > seconds(30) && asked < seconds(31), "{asked:?}");
        assert_eq!(retry.wait(0, Some(seconds(61))), None);
    }
}
