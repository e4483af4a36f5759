//! Work for many tenants, some of it at a time.

use std::panic::resume_unwind;
use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// Does all of the work, so much of it at a time; what comes of it, in its order.
pub(super) async fn some_at_a_time<W>(
    at_once: usize,
    work: impl IntoIterator<Item = W>,
) -> Vec<W::Output>
where
    W: Future<Output: 'static> + 'static,
{
    let places = Rc::new(Semaphore::new(at_once));
    let begin = |work: W| {
        let places = Rc::clone(&places);
        spawn_local(async move {
            // Nobody closes it.
            let _place = places.acquire().await;
            work.await
        })
    };
    let tasks: Vec<_> = work.into_iter().map(begin).collect();
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        let result = task.await;
        done.push(result.unwrap_or_else(|panic| resume_unwind(panic.into_panic())));
    }
    done
}
