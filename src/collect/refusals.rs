//! What refusals mean: something of one content, of a content type, or of the tenant.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::health::Finding;
use super::list::UNAVAILABLE;
use super::tenant::{Collector, End};
use crate::microsoft::{Class, Fault};

/// Blobs of a stream in a row that are refused before the others of the stream are left for another run.
const REFUSALS: u32 = 8;

/// What a run saw of a tenant's refused blobs. One that was listed may be refused alone, and so may those of one content
/// type: neither must keep the others. Where all of the tenant is refused, its listings say so.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By stream; eight are final for this run.
    in_a_row: HashMap<i64, u32>,
}

impl Refusals {
    pub(super) fn fetched(&mut self, stream: i64) {
        if !self.are_of_stream(stream) {
            self.in_a_row.remove(&stream);
        }
    }

    /// Counts a fault if it is a refusal; whether it is the one from which on the stream is left alone.
    pub(super) fn failed(&mut self, stream: i64, fault: &Fault) -> bool {
        let is_refusal = matches!(
            fault.class,
            Class::RefuseTenant | Class::AuditLogOff | Class::TypeUnavailable
        );
        if !is_refusal && !fault.is_of_permission() {
            return false;
        }
        let in_a_row = self.in_a_row.entry(stream).or_default();
        *in_a_row += 1;
        *in_a_row == REFUSALS
    }

    /// Whether so many blobs of the stream were refused that it is left alone.
    pub(super) fn are_of_stream(&self, stream: i64) -> bool {
        let in_a_row = self.in_a_row.get(&stream);
        in_a_row.is_some_and(|&refused| refused >= REFUSALS)
    }
}

impl Collector {
    /// A content type that is refused alone must not keep the others. It is the tenant where all of its content types are
    /// refused, but for those that are `unavailable`, as was known before or is since. Whether any was refused alone.
    pub(super) async fn leave_refused(
        &self,
        now: DateTime<Utc>,
        unavailable: usize,
    ) -> Result<bool, End> {
        let mut refused = self.refused.take();
        let count = refused.len() + self.unavailable.borrow().len() + unavailable;
        let of_tenant = refused
            .iter()
            .position(|(_, fault)| fault.class == Class::RefuseTenant);
        if count >= self.tenant.content_types.len()
            && let Some(position) = of_tenant
        {
            return Err(End::Fault(refused.swap_remove(position).1));
        }
        let are_any = !refused.is_empty();
        for ((id, content_type), fault) in refused {
            self.stream_left(id, content_type, now, &fault).await?;
        }
        Ok(are_any)
    }

    /// Leaves alone what the app has no permission for. Only now: where all of a tenant is refused, one content type says
    /// nothing of its own.
    pub(super) async fn leave_unavailable(&self, now: DateTime<Utc>) -> Result<(), End> {
        for ((id, content_type), fault) in self.unavailable.take() {
            self.finds(Some(content_type), Finding::of_fault(&fault, false));
            log::warn!("{} {content_type}: {fault}", self.tenant.name);
            let said = fault.to_string();
            self.work
                .desk
                .ledger(move |ledger| ledger.stream_unavailable(id, now, now + UNAVAILABLE, &said))
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn one_content_types_refusals_are_not_the_others() {
        let mut fault = Fault::late("refused");
        assert!(!Refusals::default().failed(1, &fault));
        fault.class = Class::RefuseTenant;
        let mut refusals = Refusals::default();
        for n in 1..REFUSALS {
            assert!(!refusals.failed(1, &fault), "{n}");
            assert!(!refusals.failed(2, &fault), "{n}");
        }
        refusals.fetched(2);
        assert!(refusals.failed(1, &fault));
        assert!(!refusals.failed(1, &fault), "told once");
        assert!(!refusals.failed(2, &fault));
        assert!(refusals.are_of_stream(1));
        assert!(!refusals.are_of_stream(2));
        refusals.fetched(1);
        assert!(refusals.are_of_stream(1), "final");
    }
}
