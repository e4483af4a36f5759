//! What the collector asks the hand-over to do.

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::ledger::{self, HealthState, Key, Ledger, Scope};

/// Something to do with the ledger; it sends its own answer.
pub(super) type LedgerWork = Box<dyn FnOnce(&mut Ledger) -> Result<(), ledger::Fault> + Send>;

/// What the hand-over is asked to do.
pub(super) enum Order {
    /// Something with the ledger, at once even while Wazuh makes records wait.
    Ledger(LedgerWork),
    /// The same, but that it commits.
    Durable(LedgerWork),
    /// Something with the ledger that has to see what the orders before it did.
    InTurn(LedgerWork),
    /// Records of a blob.
    Parcel(Parcel),
    /// All records of a content were sent as parcels.
    End(Ending),
    /// Events about the collection, unless nobody waits for them any more; answers when they are remembered.
    Tell(Telling, oneshot::Sender<()>),
    /// Wait a little for confirmations; answers how many contents have to come again.
    Settle(oneshot::Sender<usize>),
}

/// Records of a blob, shaped into datagrams.
pub(super) struct Parcel {
    /// The ledger's number of the content.
    pub content: i64,
    /// The ledger's number of the stream.
    pub stream: i64,
    /// contentCreated.
    pub created: DateTime<Utc>,
    /// The span of a backfill that wants these records once more, if any.
    pub resend: Option<i64>,
    /// The datagrams, one after the other.
    pub datagrams: Vec<u8>,
    /// What they are.
    pub items: Vec<Item>,
    /// Its share of the memory for records in flight.
    pub permit: OwnedSemaphorePermit,
}

/// One record of a parcel.
pub(super) struct Item {
    /// Where its datagram ends in the parcel's bytes.
    pub end: usize,
    /// What it is known by.
    pub key: Key,
    /// Whether a filter holds it back.
    pub is_filtered: bool,
    /// Whether it had to be reshaped.
    pub is_reshaped: bool,
}

/// The end of a content.
pub(super) struct Ending {
    /// The ledger's number of the content.
    pub content: i64,
    /// The ledger's number of the stream.
    pub stream: i64,
    /// Whether it was unreadable in part.
    pub is_damaged: bool,
}

/// Events about a stream's collection, or a whole tenant's, and the states that they leave.
pub(super) struct Telling {
    pub tenant_id: String,
    pub scope: Scope,
    pub datagrams: Vec<Vec<u8>>,
    pub states: Vec<HealthState>,
}

impl Telling {
    /// The events are owed to Wazuh from now on, and the states say that they are told: both become durable together.
    pub(super) fn remember(&self, ledger: &mut Ledger) -> Result<(), ledger::Fault> {
        for datagram in &self.datagrams {
            ledger.owe(datagram)?;
        }
        ledger.set_health(&self.tenant_id, self.scope, &self.states)
    }
}
