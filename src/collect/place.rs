//! What work holds that others wait for, and when they get it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep_until, timeout};

use crate::microsoft::unless_it_rests;

/// Works at a place. Others get it whenever the work rests, which `rests` hears of and after which it waits for one like
/// others, and for good if it takes long: who does not answer, or may not be asked, holds up only itself.
pub(super) async fn at<T>(
    place: OwnedSemaphorePermit,
    patience: Duration,
    rests: impl Fn(),
    work: impl Future<Output = T>,
) -> T {
    let places = Arc::clone(place.semaphore());
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
                place = Arc::clone(&places).acquire_many_owned(shares).await.ok();
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
