//! What work holds that others wait for, and when they get it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::microsoft::unless_it_rests;

/// Works at a place. Others get it once the work rests, which `rests` hears of, or if it takes long: who does not answer, or may
/// not be asked, holds up only itself. So many shares of what is kept for those who come `again` are taken before the rest, so
/// that nothing is waited for after it; where they are not left, a rest is as any other time. No timer inside the work counts
/// while it rests.
pub(super) async fn at<T>(
    place: OwnedSemaphorePermit,
    (again, shares): (&Arc<Semaphore>, u32),
    patience: Duration,
    rests: impl Fn(),
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    let (mut place, mut is_kept) = (place, false);
    let mut end = Instant::now() + patience;
    while let Ok(worked) = timeout_at(end, unless_it_rests(work.as_mut())).await {
        let until = match worked {
            Ok(done) => return done,
            Err(until) => until,
        };
        if !is_kept && let Ok(kept) = Arc::clone(again).try_acquire_many_owned(shares) {
            (place, is_kept) = (kept, true);
            rests();
        }
        if is_kept {
            sleep_until(until).await;
            end = Instant::now() + patience;
        } else if timeout_at(end, sleep_until(until)).await.is_err() {
            break;
        }
    }
    drop(place);
    work.await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::cell::Cell;

    use tokio::time::sleep;

    use super::*;
    use crate::microsoft::rest_until;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many of two places are free, and of those kept for who comes again, in the middle of each second of some work.
    async fn free_during(
        kept: usize,
        work: impl Future<Output = ()>,
    ) -> (Vec<(usize, usize)>, u32) {
        let (places, again) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(kept)));
        let place = Arc::clone(&places).acquire_many_owned(2).await.unwrap();
        let rests = Cell::new(0);
        let mut free = Vec::new();
        let mut work = pin!(at(
            place,
            (&again, 2),
            seconds(4),
            || rests.set(rests.get() + 1),
            work
        ));
        let mut next = Duration::from_millis(500);
        loop {
            tokio::select! {
                () = &mut work => break,
                () = sleep(next) => free.push((places.available_permits(), again.available_permits())),
            }
            next = seconds(1);
        }
        assert_eq!(
            (places.available_permits(), again.available_permits()),
            (2, kept)
        );
        (free, rests.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_while_its_work_rests() {
        let (free, rests) = free_during(2, async {
            sleep(seconds(1)).await;
            rest_until(Instant::now() + seconds(2)).await;
            sleep(seconds(1)).await;
            // not worth a turn
            rest_until(Instant::now() + Duration::from_millis(999)).await;
        })
        .await;
        assert_eq!(free, [(0, 2), (2, 0), (2, 0), (2, 0), (2, 0)]);
        assert_eq!(rests, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_gives_its_place_away_for_good() {
        let (free, rests) = free_during(2, async {
            sleep(seconds(5)).await;
            rest_until(Instant::now() + seconds(1)).await;
            sleep(seconds(1)).await;
        })
        .await;
        assert_eq!(free, [vec![(0, 2); 4], vec![(2, 2); 3]].concat());
        assert_eq!(rests, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_place_is_kept_a_rest_is_as_any_other_time() {
        let (free, rests) = free_during(1, async {
            rest_until(Instant::now() + seconds(2)).await;
            rest_until(Instant::now() + seconds(3)).await;
            sleep(seconds(1)).await;
        })
        .await;
        assert_eq!(free, [vec![(0, 1); 4], vec![(2, 1); 2]].concat());
        assert_eq!(rests, 0);
    }
}
