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
