//! One stage of the pipeline: a queue and the workers that take from it.

use std::collections::VecDeque;
use std::time::Duration;

use super::pipeline::TICK;

/// How much of a late step is made up for.
const LATE: Duration = Duration::from_millis(250);

/// A queue, the workers behind it, and what they may take.
pub(super) struct Stage<T> {
    pub(super) queue: VecDeque<T>,
    /// taken, but not yet given on
    pub(super) hands: Vec<T>,
    credit: f64,
}

impl<T> Default for Stage<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            hands: Vec::new(),
            credit: 0.0,
        }
    }
}

impl<T> Stage<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.hands.is_empty()
    }

    /// What leaves the stage in a step of `dt` seconds: at most `room` events, none before those
    /// that its workers hold, except that the workers go on to hold some of the last.
    pub(super) fn advance(
        &mut self,
        rate: Option<f64>,
        dt: f64,
        room: usize,
        workers: usize,
        dice: &mut u64,
    ) -> Vec<T> {
        let allowed = match rate {
            None => usize::MAX,
            Some(rate) => {
                self.credit += rate * dt;
                whole(self.credit)
            }
        };
        let mut out: Vec<T> = self.hands.drain(..room.min(self.hands.len())).collect();
        let take = self.queue.len().min(allowed).min(room - out.len());
        self.credit -= real(take);
        out.extend(self.queue.drain(..take));
        // an idle worker saves nothing up, one that was kept waiting a little
        if let Some(rate) = rate {
            let most = if self.queue.is_empty() { TICK } else { LATE };
            self.credit = self.credit.min(rate * most.as_secs_f64());
        }
        // some of those just taken stay in hand, and may be overtaken by as many
        let hold = roll(dice, workers + 1)
            .min(take)
            .min(workers.saturating_sub(self.hands.len()));
        let overtaking = roll(dice, workers + 1).min(take - hold);
        let is_full = out.len() == room;
        let end = out.len() - overtaking;
        self.hands.extend(out.drain(end - hold..end));
        // a worker takes the next one, and then waits until it may give it on
        if is_full {
            let idle = workers.saturating_sub(self.hands.len());
            let next = self.queue.len().min(idle);
            self.hands.extend(self.queue.drain(..next));
        }
        out
    }
}

fn roll(dice: &mut u64, sides: usize) -> usize {
    *dice = dice
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*dice >> 33).unwrap_or(0) % sides
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of events stay far below 2^52"
)]
pub(super) fn real(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float saturates when it is cast"
)]
pub(super) fn whole(value: f64) -> usize {
    value.max(0.0) as usize
}
