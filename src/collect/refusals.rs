//! What refused blobs mean: something of one content, of a content type, or of the tenant.

use std::collections::HashMap;

use crate::microsoft::{Class, Fault};

/// Blobs of a stream in a row that are refused before the others of the stream are left for another run.
const REFUSALS: u32 = 8;

/// What a run saw of a tenant's refused blobs. One that was listed may be refused alone, and so may those of one content
/// type: neither must keep the others.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By stream.
    in_a_row: HashMap<i64, u32>,
    count: u32,
    is_any_fetched: bool,
    /// The last that may be of the whole tenant.
    last: Option<Fault>,
}

impl Refusals {
    pub(super) fn fetched(&mut self, stream: i64) {
        self.is_any_fetched = true;
        self.in_a_row.remove(&stream);
    }

    /// Counts a fault if it is a refusal; whether it is the one from which on the stream is left alone.
    pub(super) fn failed(&mut self, stream: i64, fault: &Fault) -> bool {
        match fault.class {
            Class::RefuseTenant | Class::AuditLogOff => self.last = Some(fault.clone()),
            Class::TypeUnavailable => {}
            _ if fault.is_of_permission() => {}
            _ => return false,
        }
        self.count += 1;
        let in_a_row = self.in_a_row.entry(stream).or_default();
        *in_a_row += 1;
        *in_a_row == REFUSALS
    }

    /// Whether so many blobs of the stream were refused that it is left alone.
    pub(super) fn are_of_stream(&self, stream: i64) -> bool {
        let in_a_row = self.in_a_row.get(&stream);
        in_a_row.is_some_and(|&refused| refused >= REFUSALS)
    }

    /// What is to be said of the tenant once no blob is left to be asked for: many were refused, and none was not.
    pub(super) fn of_tenant(&self) -> Option<Fault> {
        let last = self.last.clone();
        last.filter(|_| self.count >= REFUSALS && !self.is_any_fetched)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn refusal() -> Fault {
        let mut fault = Fault::late("refused");
        fault.class = Class::RefuseTenant;
        fault
    }

    #[test]
    fn one_content_types_refusals_are_not_the_others() {
        let fault = refusal();
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
        assert!(refusals.of_tenant().is_none());
    }

    #[test]
    fn it_is_the_tenant_where_all_of_many_are_refused() {
        let fault = refusal();
        let mut refusals = Refusals::default();
        for stream in 1..i64::from(REFUSALS) {
            refusals.failed(stream, &fault);
        }
        assert!(refusals.of_tenant().is_none());
        refusals.failed(1, &fault);
        assert!(refusals.of_tenant().is_some());
        refusals.fetched(1);
        assert!(refusals.of_tenant().is_none());
    }
}
