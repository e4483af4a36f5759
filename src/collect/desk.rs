//! The collector's end of the hand-over: where orders are given.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::order::{Ending, LedgerWork, Order, Parcel, Telling};
use crate::ledger::{self, Ledger};

/// Bytes of shaped records that may wait for Wazuh: bounds the memory of a run.
const IN_FLIGHT: usize = 1 << 20;

/// The hand-over has stopped and takes no more orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Where orders for the hand-over are given.
pub(super) struct Desk {
    orders: Sender<Order>,
    in_flight: Arc<Semaphore>,
    /// Held by the one fetch that is allowed a record larger than its share.
    pub(super) large: Semaphore,
    /// Held while elements become events: these may be larger than there is room for.
    pub(super) packing: Semaphore,
}

impl Desk {
    pub(super) fn new(orders: Sender<Order>) -> Self {
        Self {
            orders,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            large: Semaphore::new(1),
            packing: Semaphore::new(1),
        }
    }

    /// Does something with the ledger, even while Wazuh makes records wait. A ledger that fails ends
    /// the run, so its fault reaches nobody but the hand-over.
    pub(super) async fn ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, ledger::Fault> + Send + 'static,
    ) -> Result<T, Closed> {
        self.ask(Order::Ledger, work).await
    }

    /// Does something with the ledger that outlasts a power cut from its answer on.
    pub(super) async fn ledger_durably<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, ledger::Fault> + Send + 'static,
    ) -> Result<T, Closed> {
        let durably = |ledger: &mut Ledger| {
            let result = work(ledger)?;
            ledger.commit()?;
            Ok(result)
        };
        self.ask(Order::Durable, durably).await
    }

    /// Does something with the ledger after everything that was ordered before.
    pub(super) async fn ledger_in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, ledger::Fault> + Send + 'static,
    ) -> Result<T, Closed> {
        self.ask(Order::InTurn, work).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        order: impl FnOnce(LedgerWork) -> Order,
        work: impl FnOnce(&mut Ledger) -> Result<T, ledger::Fault> + Send + 'static,
    ) -> Result<T, Closed> {
        let ask = |answer: oneshot::Sender<T>| {
            order(Box::new(move |ledger| {
                let result = work(ledger)?;
                // Nobody waits for the answer of a run that was stopped.
                drop(answer.send(result));
                Ok(())
            }))
        };
        self.answer(ask).await
    }

    /// The answer to an order.
    async fn answer<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, Closed> {
        let (answer, answered) = oneshot::channel();
        self.give(order(answer))?;
        answered.await.map_err(|_| Closed)
    }

    /// Waits for room for that many bytes.
    pub(super) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Closed> {
        let bytes = u32::try_from(bytes.min(IN_FLIGHT)).unwrap_or(u32::MAX);
        Arc::clone(&self.in_flight)
            .acquire_many_owned(bytes)
            .await
            .map_err(|_| Closed)
    }

    pub(super) fn parcel(&self, parcel: Parcel) -> Result<(), Closed> {
        self.give(Order::Parcel(parcel))
    }

    pub(super) fn end(&self, ending: Ending) -> Result<(), Closed> {
        self.give(Order::End(ending))
    }

    /// Waits until it is remembered that they are to be told.
    pub(super) async fn tell(&self, telling: Telling) -> Result<(), Closed> {
        self.answer(|answer| Order::Tell(telling, answer)).await
    }

    /// Waits a little for confirmations; how many contents have to come again.
    pub(super) async fn settle(&self) -> Result<usize, Closed> {
        self.answer(Order::Settle).await
    }

    fn give(&self, order: Order) -> Result<(), Closed> {
        self.orders.send(order).map_err(|_| Closed)
    }
}
