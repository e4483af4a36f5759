//! One blob → parcels of shaped records for the hand-over, as it streams in.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use chrono::{SecondsFormat, TimeDelta};
use tokio::time::timeout;

use super::PATIENCE;
use super::alike::Alike;
use super::desk::{Closed, Desk};
use super::event::{self, Record, Shaper};
use super::late::Wait;
use super::order::{Ending, Item, Parcel};
use super::outcome::Trouble;
use super::tenant::{Collector, End};
use crate::array::{Damage, Element, Sink, Splitter};
use crate::ledger::{Key, Pending, place_key, record_key};
use crate::microsoft::{Activity, Body, Class, Fault};
use crate::teeth;

/// A record longer than this is told about instead of being sent.
const LONGEST_RECORD: usize = 16 << 20;
/// Bytes of datagrams in one parcel, more or less.
const PARCEL: usize = 32 << 10;
/// Bytes of a body that are read before a look at the parcel.
const PIECE: usize = 16 << 10;
/// What a blob may hold back of a record that is not complete yet, without asking.
const SHARE: usize = 256 << 10;
/// How often a transfer that breaks off is begun again in one run.
const TRANSFERS: u32 = 3;
/// Runs that find the same blob broken before it is delivered as far as it can be read.
const DAMAGED_RUNS: u32 = 3;
/// Content created longer ago is marked as backlog.
const BACKLOG: TimeDelta = TimeDelta::hours(1);

/// Why a blob is given up that others wait behind.
const SLOW: &str = "a long record comes too slowly, while its memory is kept from others";

/// What an event says whose raw text is one element of a content.
const NO_RECORD: &str = "an element of a content is no record that Wazuh could take";

/// Why a blob was not delivered to its end.
pub(super) enum Failure {
    /// The hand-over has stopped.
    Closed(Closed),
    /// Microsoft, or the way there.
    Fault(Fault),
    /// The blob's bytes are not what they should be.
    Unreadable {
        /// What is wrong with them.
        what: String,
        /// Whether it may stay so, rather than being a transfer that broke off.
        is_damage: bool,
    },
}

impl From<Closed> for Failure {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed)
    }
}

/// Fetches a content and hands over its records; those that were before are dropped there.
pub(super) async fn fetch(
    collector: &Collector,
    activity: &Activity,
    content: &Pending,
) -> Result<(), Failure> {
    let mut transfer = 1;
    loop {
        // The request itself was repeated as often as it makes sense.
        collector.waits_for(content);
        let blob = activity.fetch(content.content_type, &content.uri).await;
        collector.got(content, 0);
        let blob = blob.map_err(Failure::Fault)?;
        collector.is_served.set(true);
        match hand_over(collector, content, blob).await {
            Err(Failure::Unreadable {
                is_damage: false, ..
            }) if transfer < TRANSFERS => {}
            Err(Failure::Fault(fault)) if transfer < TRANSFERS && fault.class == Class::Retry => {}
            result => return result,
        }
        tokio::time::sleep(Duration::from_millis(200) * transfer).await;
        transfer += 1;
    }
}

impl Collector {
    /// Remembers what came of a fetch; an error ends the tenant's collection.
    pub(super) async fn fetched(
        &self,
        content: Pending,
        fetched: Result<(), Failure>,
    ) -> Result<(), End> {
        let mut is_foreign = false;
        let (said, is_damage, is_expired, wait) = match fetched {
            Ok(()) => {
                self.refusals.borrow_mut().fetched(content.stream);
                return Ok(());
            }
            Err(Failure::Closed(closed)) => return Err(End::Closed(closed)),
            Err(Failure::Fault(fault)) => {
                if fault.is_of_sign_in || fault.class == Class::Throttled {
                    return Err(End::Fault(fault));
                }
                if self.refusals.borrow_mut().failed(content.stream, &fault) {
                    log::error!(
                        "{} {}: its contents are refused, the others of them are left to the next run: {fault}",
                        self.tenant.name,
                        content.content_type
                    );
                }
                is_foreign = fault.class == Class::ForeignAddress;
                let is_expired = fault.code.as_deref() == Some("AF20051");
                (fault.to_string(), false, is_expired, fault.retry_after)
            }
            Err(Failure::Unreadable { what, is_damage }) => (what, is_damage, false, None),
        };
        self.worse(Trouble::Partial);
        log::warn!(
            "{} {}: content {}: {said}",
            self.tenant.name,
            content.content_type,
            content.content_id
        );
        let now = self.clock.now();
        self.work
            .desk
            .ledger(move |ledger| {
                if is_foreign {
                    ledger.sweep_again(content.stream)?;
                }
                if is_expired {
                    ledger.content_expired(&content)
                } else {
                    ledger.content_failed(&content, now, is_damage, wait, &said)
                }
            })
            .await?;
        Ok(())
    }
}

/// Hands a blob over as it streams in.
async fn hand_over(
    collector: &Collector,
    content: &Pending,
    mut blob: Body,
) -> Result<(), Failure> {
    let desk = &collector.work.desk;
    let mut packer = Packer::new(collector, content);
    let longest = if teeth::is_off("limit") {
        usize::MAX
    } else {
        LONGEST_RECORD
    };
    let mut splitter = Splitter::new(longest);
    let mut large = None;
    let damage = loop {
        collector.waits_for(content);
        let chunk = match &mut large {
            None => blob.chunk().await,
            Some((_, wait)) => in_time(&mut blob, wait).await,
        };
        let bytes = chunk.as_ref().map_or(0, |chunk| length(chunk.as_ref()));
        collector.got(content, bytes);
        let Some(chunk) = chunk.map_err(Failure::Fault)? else {
            break splitter.finish().err();
        };
        // One at a time waits for Wazuh with more than a parcel.
        let packing = desk.packing.acquire().await.map_err(|_| Closed)?;
        let mut damage = None;
        // Events may take a hundred times the bytes of their records.
        for piece in chunk.chunks(PIECE) {
            damage = splitter.push(piece, &mut packer).err();
            if packer.bytes() >= PARCEL {
                packer.hand_over(desk).await?;
            }
            if damage.is_some() {
                break;
            }
        }
        // While the next bytes are waited for, little is held back.
        if packer.bytes() >= PARCEL / 4 {
            packer.hand_over(desk).await?;
        }
        drop(packing);
        if damage.is_some() {
            break damage;
        }
        // Only one record at a time may grow beyond its share of memory.
        if splitter.buffered() <= SHARE {
            large = None;
        } else if large.is_none() {
            let permit = desk.large.acquire().await.map_err(|_| Closed)?;
            large = Some((permit, Wait::default()));
        }
    };
    drop(large);
    packer.end(damage, desk).await
}

/// The next bytes of a record whose memory others wait for.
async fn in_time(blob: &mut Body, wait: &mut Wait) -> Result<Option<Bytes>, Fault> {
    wait.begin();
    let Ok(chunk) = timeout(PATIENCE, blob.chunk()).await else {
        return Err(Fault::late(SLOW));
    };
    wait.end(length(chunk.as_ref().ok().and_then(Option::as_ref)));
    if wait.is_in_vain(PATIENCE) {
        return Err(Fault::late(SLOW));
    }
    chunk
}

fn length(chunk: Option<&Bytes>) -> usize {
    chunk.map_or(0, Bytes::len)
}

/// Shapes elements and packs them into parcels.
struct Packer<'a> {
    collector: &'a Collector,
    content: &'a Pending,
    shaper: Shaper,
    is_backlog: bool,
    is_last_try: bool,
    /// The next element's place in the blob.
    place: u64,
    /// Those without an id.
    alike: Alike,
    /// Elements that are no records.
    broken: usize,
    datagrams: Vec<u8>,
    items: Vec<Item>,
}

impl<'a> Packer<'a> {
    fn new(collector: &'a Collector, content: &'a Pending) -> Self {
        Self {
            collector,
            content,
            shaper: collector.shaper(content.content_type),
            is_backlog: collector.clock.now() - content.created > BACKLOG,
            is_last_try: content.damage + 1 >= DAMAGED_RUNS,
            place: 0,
            alike: Alike::default(),
            broken: 0,
            datagrams: Vec::new(),
            items: Vec::new(),
        }
    }

    /// Shapes a record.
    fn record(&mut self, record: &Record<'_>) {
        let collector = self.collector;
        let tenant = &collector.tenant;
        let key = match record.id() {
            Some(id) => record_key(
                &tenant.tenant_id,
                self.content.content_type,
                &id,
                record.record_number().as_deref(),
            ),
            None => self.key_of_place(&event::sha256(record.bytes())),
        };
        if event::passes(record, &tenant.include, &tenant.exclude) {
            if self.datagrams.is_empty() {
                // What a parcel usually comes to: it grows without being moved.
                self.datagrams.reserve(PARCEL + PIECE);
            }
            let reasons = self
                .shaper
                .write(record, self.is_backlog, &mut self.datagrams);
            if collector.work.is_dry && !reasons.is_empty() {
                let names: Vec<_> = reasons.names().collect();
                log::info!(
                    "{} {}: record {} was reshaped: {}",
                    tenant.name,
                    self.content.content_type,
                    String::from_utf8_lossy(&record.id().unwrap_or(Cow::Borrowed(b"without Id"))),
                    names.join(", ")
                );
            }
            self.item(key, false, !reasons.is_empty());
        } else {
            self.item(key, true, false);
        }
        self.place += 1;
    }

    /// The blob's bytes have ended: what is left goes out, and what is wrong with them is said.
    async fn end(&mut self, damage: Option<Damage>, desk: &Desk) -> Result<(), Failure> {
        if let Some(damage) = damage {
            match &damage {
                Damage::Syntax {
                    rest,
                    bytes,
                    sha256,
                    ..
                } if self.is_last_try => {
                    self.raw(&damage.to_string(), rest, *bytes, *sha256);
                }
                _ => {
                    // What could be read of it counts; the rest comes with another transfer.
                    self.hand_over(desk).await?;
                    return Err(Failure::Unreadable {
                        what: damage.to_string(),
                        is_damage: matches!(damage, Damage::Syntax { .. }),
                    });
                }
            }
        }
        self.hand_over(desk).await?;
        if self.broken > 0 && !self.is_last_try {
            return Err(Failure::Unreadable {
                what: format!("{} of its elements are no readable records", self.broken),
                is_damage: true,
            });
        }
        if self.broken > 0 {
            log::error!(
                "{} {}: content {} stays damaged: what could be read of it was sent, the rest goes out as \
                 an event about the collection; the portal's audit search may have it whole",
                self.collector.tenant.name,
                self.content.content_type,
                self.content.content_id
            );
        }
        desk.end(Ending {
            content: self.content.id,
            stream: self.content.stream,
            is_damaged: self.broken > 0,
        })?;
        Ok(())
    }

    /// What is no record goes out as raw text, once it is clear that it stays so.
    fn raw(&mut self, what: &str, text: &[u8], bytes: u64, sha256: [u8; 32]) {
        self.broken += 1;
        if self.is_last_try {
            self.told(what, text, bytes, sha256);
        }
    }

    /// An event about what cannot be sent as a record: the first bytes of its text, and the length and hash of all of them.
    fn told(&mut self, what: &str, text: &[u8], bytes: u64, sha256: [u8; 32]) {
        let tenant = &self.collector.tenant;
        let since = self
            .collector
            .clock
            .now()
            .to_rfc3339_opts(SecondsFormat::Secs, true);
        let withhold = self.collector.work.redactor.is_some();
        let about = event::Health {
            tenant_id: &tenant.tenant_id,
            subscription: Some(self.content.content_type.as_str()),
            response: what,
            health: "content_damaged",
            since: Some(&since),
            count: Some(1),
            hint: Some(if withhold {
                "What it says is withheld, since redact_dlp is on; the portal's audit search may have it."
            } else {
                "Its beginning stands in o365_wodle.raw; the portal's audit search may have it whole."
            }),
            tenant: &tenant.name,
            labels: &tenant.labels,
        };
        let element = event::Damaged {
            raw: text,
            bytes,
            sha256,
            withhold,
        };
        let location = &self.collector.work.settings.wazuh.location;
        event::damaged(location, &about, &element, &mut self.datagrams);
        let key = self.key_of_place(&sha256);
        self.item(key, false, true);
    }

    /// The key of an element without an id, of which this is the SHA-256.
    fn key_of_place(&mut self, sha256: &[u8; 32]) -> Key {
        place_key(
            &self.collector.tenant.tenant_id,
            self.content.content_type,
            &self.content.content_id,
            sha256,
            self.alike.number(sha256, self.place),
        )
    }

    /// What it holds: of a record that a filter holds back only the key.
    fn bytes(&self) -> usize {
        self.datagrams.len() + self.items.len() * size_of::<Item>()
    }

    fn item(&mut self, key: Key, is_filtered: bool, is_reshaped: bool) {
        self.items.push(Item {
            end: self.datagrams.len(),
            key,
            is_filtered,
            is_reshaped,
        });
    }

    async fn hand_over(&mut self, desk: &Desk) -> Result<(), Closed> {
        if self.items.is_empty() {
            return Ok(());
        }
        // What it did not come to is not kept while it waits.
        self.datagrams.shrink_to(self.datagrams.len());
        let permit = desk.room(self.bytes()).await?;
        desk.parcel(Parcel {
            content: self.content.id,
            stream: self.content.stream,
            created: self.content.created,
            resend: self.content.resend,
            datagrams: std::mem::take(&mut self.datagrams),
            items: std::mem::take(&mut self.items),
            permit,
        })
    }
}

impl Sink for Packer<'_> {
    fn chunk(&mut self, chunk: &[u8]) {
        self.shaper.set_chunk(chunk);
    }

    fn object(&mut self, chunk: &[u8], at: usize) -> Option<usize> {
        let (record, end) = self.shaper.read_at(chunk, at)?;
        self.record(&record);
        Some(end)
    }

    fn element(&mut self, element: Element<'_>) {
        match element {
            Element::Value(bytes) => {
                if let Some(record) = self.shaper.read(bytes) {
                    return self.record(&record);
                }
                self.raw(NO_RECORD, bytes, bytes.len() as u64, event::sha256(bytes));
            }
            Element::TooLong {
                head,
                bytes,
                sha256,
            } => {
                log::error!(
                    "{} {}: content {}: a record of {bytes} bytes is too long; its beginning goes out \
                     as an event about the collection",
                    self.collector.tenant.name,
                    self.content.content_type,
                    self.content.content_id
                );
                self.told(NO_RECORD, head, bytes, sha256);
            }
        }
        self.place += 1;
    }
}
