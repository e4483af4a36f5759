//! The times in which a request waits to be sent, since its tenant's rate, Microsoft's wish or a fault before it wants it so:
//! whoever keeps something for it can give that to others meanwhile.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What is shorter is not worth another's turn.
const SHORTEST: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Until when the work at hand rests, if nobody has heard of it yet.
    static REST: Cell<Option<Instant>>;
}

/// Works until the work is done, or rests until the time that is returned as the error: before then it need not be asked for
/// more, and no timer in it counts.
pub(crate) async fn unless_it_rests<F: Future>(
    mut work: Pin<&mut F>,
) -> Result<F::Output, Instant> {
    let asked = poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => match REST.with(Cell::take) {
            Some(until) => Poll::Ready(Err(until)),
            None => Poll::Pending,
        },
    });
    REST.scope(Cell::default(), asked).await
}

/// Rests until then.
pub(crate) async fn rest_until(until: Instant) {
    let tell = |until| {
        // Where nobody asked, nobody wants to hear of it.
        REST.try_with(|rest| rest.set(until)).unwrap_or_default();
    };
    if until >= Instant::now() + SHORTEST {
        tell(Some(until));
    }
    sleep_until(until).await;
    tell(None);
}
