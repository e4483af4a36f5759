//! Work for many tenants, some of it at a time.

use std::panic::resume_unwind;
use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// Begins work that waits until one of the places is free; gives what comes of it.
pub(super) fn at_a_place<T: 'static>(
    places: &Rc<Semaphore>,
    work: impl Future<Output = T> + 'static,
) -> impl Future<Output = T> {
    let places = Rc::clone(places);
    let task = spawn_local(async move {
        // Nobody closes it.
        let _place = places.acquire().await;
        work.await
    });
    async {
        task.await
            .unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
    }
}
