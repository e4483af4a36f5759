//! A parcel's way: which of its records are new, which go out, and what is remembered of each.

use super::{Delivery, Halt};
use crate::collect::order::{Item, Parcel};
use crate::ledger::{self, Key, Keys};
use crate::wazuh::AT_ONCE;
use crate::{Result, teeth};

/// A record that was not handed over before.
struct Fresh<'a> {
    item: &'a Item,
    datagram: &'a [u8],
    /// What it is known by afterwards; in a resend not its own key.
    known_by: Key,
}

impl Delivery {
    /// Hands over what of a parcel is new, in its order, batch by batch.
    pub(super) fn parcel(&mut self, parcel: &Parcel) -> Result<(), Halt> {
        // Open from the first record on: a batch that holds it may be lost while the next waits.
        self.open.entry(parcel.content).or_default();
        let fresh = self.fresh(parcel)?;
        let mut rest = fresh.as_slice();
        while let Some(first) = rest.first() {
            let mut done = 1;
            if !first.item.is_filtered {
                let events = rest.iter().take_while(|fresh| !fresh.item.is_filtered);
                // No batch grows beyond its size: that is what a kill may repeat.
                let room = self.full_batch().saturating_sub(self.batch.events());
                let events = events.take(room.clamp(1, AT_ONCE));
                let events: Vec<&[u8]> = events.map(|fresh| fresh.datagram).collect();
                if teeth::is_off("order") {
                    self.remember(parcel, rest.get(..events.len()).unwrap_or_default())?;
                    self.commit()?;
                }
                done = self.hand_over(&events)?;
                self.tally.sent += done;
            }
            let (taken, left) = rest.split_at_checked(done).unwrap_or((rest, &[]));
            self.remember(parcel, taken)?;
            rest = left;
            self.look_around()?;
        }
        let duplicate = parcel.items.len() - fresh.len();
        let filtered = fresh.iter().filter(|fresh| fresh.item.is_filtered).count();
        let reshaped = fresh.iter().filter(|fresh| fresh.item.is_reshaped).count();
        self.tally.duplicate += duplicate;
        self.tally.filtered += filtered;
        if duplicate + filtered + reshaped > 0 {
            self.ledger
                .count(parcel.stream, duplicate, filtered, reshaped)?;
        }
        Ok(())
    }

    /// The records of a parcel that were not handed over before.
    fn fresh<'a>(&mut self, parcel: &'a Parcel) -> Result<Vec<Fresh<'a>>> {
        let known_by = |item: &Item| match parcel.resend {
            Some(span) => ledger::resend_key(&item.key, span),
            None => item.key,
        };
        let keys: Vec<Key> = parcel.items.iter().map(known_by).collect();
        let known = self.ledger.known(&keys)?;
        let mut met = Keys::default();
        met.reserve(keys.len());
        let mut fresh = Vec::with_capacity(keys.len());
        let mut depends = false;
        let mut start = 0;
        for ((item, known_by), known) in parcel.items.iter().zip(keys).zip(known) {
            let datagram = parcel.datagrams.get(start..item.end).unwrap_or_default();
            start = item.end;
            // One that comes twice in a parcel is as good as sent.
            let is_recent = known.or_else(|| (!met.insert(known_by)).then_some(true));
            match is_recent {
                Some(is_recent) => depends |= is_recent,
                None => fresh.push(Fresh {
                    item,
                    datagram,
                    known_by,
                }),
            }
        }
        self.open.entry(parcel.content).or_default().depends |= depends;
        Ok(fresh)
    }

    /// Adds records that were handed over, or that a filter holds back, to the batch.
    fn remember(&mut self, parcel: &Parcel, records: &[Fresh<'_>]) -> Result<()> {
        let (content, created) = (parcel.content, parcel.created);
        for record in records {
            let (own, known_by) = (record.item.key, record.known_by);
            let is_event = !record.item.is_filtered;
            self.ledger
                .remember(&mut self.batch, content, created, known_by, is_event)?;
            if known_by != own && self.ledger.knows(&own)?.is_none() {
                self.ledger
                    .remember(&mut self.batch, content, created, own, false)?;
            }
        }
        Ok(())
    }
}
