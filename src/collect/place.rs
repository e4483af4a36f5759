//! What work holds that others wait for, and when they get it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep_until, timeout};

use crate::microsoft::unless_it_rests;

/// Works at a place. Others get it once the work rests, which `rests` hears of, or if it takes long: who does not answer, or may
/// not be asked, holds up only itself. After a rest it goes on at one of the places that are kept for those who come `again`,
/// so that it neither waits behind all that is new nor makes that wait. No timer inside the work counts while it rests.
pub(super) async fn at<T>(
    place: OwnedSemaphorePermit,
    again: &Arc<Semaphore>,
    patience: Duration,
    rests: impl Fn(),
    work: impl Future<Output = T>,
) -> T {
    let shares = u32::try_from(place.num_permits()).unwrap_or(u32::MAX);
    let mut work = pin!(work);
    let mut place = Some(place);
    while let Some(held) = place.take() {
        match timeout(patience, unless_it_rests(work.as_mut())).await {
            Ok(Ok(done)) => return done,
            Ok(Err(until)) => {
                drop(held);
                rests();
                sleep_until(until).await;
                place = Arc::clone(again).acquire_many_owned(shares).await.ok();
            }
            Err(_) => {}
        }
    }
    work.await
}

/// Works, and gives something back once that takes long.
pub(super) async fn or_give_back<T>(
    patience: Duration,
    work: impl Future<Output = T>,
    give_back: impl FnOnce(),
) -> T {
    let mut work = pin!(work);
    if let Ok(done) = timeout(patience, &mut work).await {
        return done;
    }
    give_back();
    work.await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::cell::Cell;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::microsoft::rest_until;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many of two places are free, and of two for who comes again, in the middle of each second of some work.
    async fn free_during(work: impl Future<Output = ()>) -> (Vec<(usize, usize)>, u32) {
        let (places, again) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(2)));
        let place = Arc::clone(&places).acquire_many_owned(2).await.unwrap();
        let rests = Cell::new(0);
        let mut free = Vec::new();
        let mut work = pin!(at(
            place,
            &again,
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
            (2, 2)
        );
        (free, rests.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_while_its_work_rests() {
        let (free, rests) = free_during(async {
            sleep(seconds(1)).await;
            rest_until(Instant::now() + seconds(2)).await;
            sleep(seconds(1)).await;
            // not worth a turn
            rest_until(Instant::now() + Duration::from_millis(999)).await;
        })
        .await;
        assert_eq!(free, [(0, 2), (2, 2), (2, 2), (2, 0), (2, 0)]);
        assert_eq!(rests, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_gives_its_place_away_for_good() {
        let (free, rests) = free_during(async {
            sleep(seconds(5)).await;
            rest_until(Instant::now() + seconds(1)).await;
            sleep(seconds(1)).await;
        })
        .await;
        assert_eq!(free, [vec![(0, 2); 4], vec![(2, 2); 3]].concat());
        assert_eq!(rests, 0);
    }
}
