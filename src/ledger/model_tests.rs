//! The ledger against a model of what it promises, with crashes between any two steps. `PROPTEST_CASES` sets how many
//! histories are tried.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{Days, TimeDelta};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::config::ContentType;

const TENANT: &str = "3f1c2a70-6d5b-4c1e-9a86-0d1f4be7a9c2";
const EXCHANGE: ContentType = ContentType::Exchange;

#[derive(Debug, Clone)]
enum Step {
    /// A listing names these contents.
    List(Vec<u8>),
    /// The marker moves to so many minutes.
    Mark(u8),
    /// One of the pending contents is handed over with these records.
    Send(usize, Vec<u8>),
    Confirm(usize),
    Lose(usize),
    Commit,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop::collection::vec(0_u8..12, 1..5).prop_map(Step::List),
        1 => any::<u8>().prop_map(Step::Mark),
        2 => (any::<usize>(), ids()).prop_map(|(at, ids)| Step::Send(at, ids)),
        1 => any::<usize>().prop_map(Step::Confirm),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Commit),
        1 => Just(Step::Crash),
    ]
}

fn ids() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0_u8..30, 0..6)
}

/// What was promised.
#[derive(Debug, Clone, Default)]
struct Model {
    marker: Option<u8>,
    /// Contents by name, and whether they wait to be fetched.
    contents: BTreeMap<u8, bool>,
    /// By the ledger's number.
    batches: BTreeMap<i64, Sent>,
    /// The batch that grows.
    growing: Sent,
}

/// A batch that was not lost.
#[derive(Debug, Clone, Default)]
struct Sent {
    ids: BTreeSet<u8>,
    contents: BTreeSet<u8>,
    is_confirmed: bool,
}

impl Model {
    fn knows(&self, id: u8) -> bool {
        let mut batches = self.batches.values().chain([&self.growing]);
        batches.any(|batch| batch.ids.contains(&id))
    }

    /// Records of a content are handed over; says whether it depends on what is unconfirmed.
    fn hand_over(&mut self, name: u8, ids: &[u8]) -> bool {
        let mut depends = false;
        for &id in ids {
            // A record twice in a content counts as one that was there before.
            if self.knows(id) {
                depends = true;
            } else {
                self.growing.ids.insert(id);
                self.growing.contents.insert(name);
            }
        }
        depends
    }

    fn end(&mut self, name: u8, depends: bool) {
        self.contents.insert(name, false);
        if depends {
            let growing = (!self.growing.ids.is_empty()).then_some(&mut self.growing);
            let batches = self.batches.values_mut().chain(growing);
            for batch in batches.filter(|batch| !batch.is_confirmed) {
                batch.contents.insert(name);
            }
        }
    }

    /// The batch that grows got a number.
    fn commit(&mut self, number: Option<i64>) {
        let grown = std::mem::take(&mut self.growing);
        self.batches.extend(number.map(|number| (number, grown)));
    }

    fn pending(&self) -> Vec<u8> {
        let waiting = self.contents.iter().filter(|(_, waits)| **waits);
        waiting.map(|(name, _)| *name).collect()
    }

    fn unconfirmed(&self) -> Vec<i64> {
        let open = self.batches.iter().filter(|(_, batch)| !batch.is_confirmed);
        open.map(|(id, _)| *id).collect()
    }
}

fn now() -> DateTime<Utc> {
    "2026-03-14T12:00:00Z".parse().unwrap()
}

fn minute(minute: u8) -> DateTime<Utc> {
    now() + TimeDelta::minutes(minute.into())
}

fn key(id: u8) -> Key {
    record_key(TENANT, EXCHANGE, &[id], None)
}

/// Memory where there is some to be had: a disk would be waited for at each commit.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// The real one.
struct Real {
    folder: TempDir,
    ledger: Ledger,
    stream: Stream,
    growing: Batch,
    settling: Vec<i64>,
}

impl Real {
    fn open(folder: TempDir) -> Self {
        let (mut ledger, _) = Ledger::open(&folder.path().join("ledger.db"), now()).unwrap();
        let stream = ledger
            .stream(TENANT, EXCHANGE, now() - Days::new(1))
            .unwrap();
        ledger.commit().unwrap();
        Self {
            folder,
            ledger,
            stream,
            growing: Batch::default(),
            settling: Vec::new(),
        }
    }

    fn crash(self) -> Self {
        let Self { folder, ledger, .. } = self;
        drop(ledger);
        Self::open(folder)
    }

    fn pending(&self) -> Vec<Pending> {
        let streams = [(self.stream.id, EXCHANGE)];
        self.ledger.pending(&streams, now(), 100).unwrap()
    }

    fn list(&mut self, names: &[u8]) {
        let contents: Vec<_> = names
            .iter()
            .map(|name| NewContent {
                content_id: name.to_string(),
                uri: format!("https://manage.office.com/{name}"),
                created: now() - TimeDelta::hours(1),
                expires: now() + Days::new(6),
            })
            .collect();
        self.ledger
            .insert_contents(self.stream.id, self.stream.floor, &contents, now())
            .unwrap();
    }

    /// As the hand-over does it: what is known is left out; says whether there was any.
    fn hand_over(&mut self, content: &Pending, ids: &[u8]) -> bool {
        let mut depends = false;
        for id in ids {
            match self.ledger.knows(&key(*id)).unwrap() {
                Some(is_recent) => depends |= is_recent,
                None => self
                    .ledger
                    .remember(
                        &mut self.growing,
                        content.id,
                        content.created,
                        key(*id),
                        true,
                    )
                    .unwrap(),
            }
        }
        depends
    }

    fn end(&mut self, content: &Pending, depends: bool) {
        self.ledger
            .content_sent(content.id, content.stream, false)
            .unwrap();
        if depends {
            self.ledger
                .depend_on_unconfirmed(&mut self.growing, content.id)
                .unwrap();
        }
        self.settling.push(content.id);
    }

    /// Gives the number of the batch that grew, if there was one.
    fn commit(&mut self) -> Option<i64> {
        let batch = std::mem::take(&mut self.growing);
        let id =
            (!batch.is_empty()).then(|| self.ledger.insert_batch(&batch, now(), "{}").unwrap());
        let settling = std::mem::take(&mut self.settling);
        self.ledger.contents_settled(&settling).unwrap();
        self.ledger.commit().unwrap();
        id
    }

    fn agrees_with(&mut self, model: &Model) {
        let mut pending: Vec<u8> = self
            .pending()
            .iter()
            .map(|content| content.content_id.parse().unwrap())
            .collect();
        pending.sort_unstable();
        assert_eq!(pending, model.pending(), "pending contents");
        let unconfirmed = self.ledger.unconfirmed().unwrap();
        let unconfirmed: Vec<i64> = unconfirmed.iter().map(|batch| batch.id).collect();
        assert_eq!(unconfirmed, model.unconfirmed(), "unconfirmed batches");
        for id in 0..30 {
            let is_known = self.ledger.knows(&key(id)).unwrap().is_some();
            assert_eq!(is_known, model.knows(id), "record {id}");
        }
        let stream = self.ledger.stream(TENANT, EXCHANGE, now()).unwrap();
        assert_eq!(stream.marker, model.marker.map(minute), "marker");
    }
}

fn play(steps: Vec<Step>) {
    let mut real = Real::open(folder());
    let mut model = Model::default();
    let mut durable = model.clone();
    for step in steps {
        match step {
            Step::List(names) => {
                real.list(&names);
                for name in names {
                    model.contents.entry(name).or_insert(true);
                }
            }
            Step::Mark(to) => {
                real.ledger
                    .window_complete(real.stream.id, minute(to))
                    .unwrap();
                model.marker = model.marker.max(Some(to));
            }
            Step::Send(at, ids) => {
                let pending = real.pending();
                if pending.is_empty() {
                    continue;
                }
                let content = &pending[at % pending.len()];
                let name: u8 = content.content_id.parse().unwrap();
                let depends = real.hand_over(content, &ids);
                assert_eq!(model.hand_over(name, &ids), depends);
                real.end(content, depends);
                model.end(name, depends);
            }
            Step::Confirm(at) => {
                let open = model.unconfirmed();
                if open.is_empty() {
                    continue;
                }
                let id = open[at % open.len()];
                real.settling.extend(real.ledger.confirm(id).unwrap());
                model.batches.entry(id).or_default().is_confirmed = true;
            }
            Step::Lose(at) => {
                let open = model.unconfirmed();
                if open.is_empty() {
                    continue;
                }
                let id = open[at % open.len()];
                real.ledger.forget(id).unwrap();
                for name in model.batches.remove(&id).unwrap_or_default().contents {
                    model.contents.insert(name, true);
                }
            }
            Step::Commit => {
                model.commit(real.commit());
                durable = model.clone();
            }
            Step::Crash => {
                real = real.crash();
                model = durable.clone();
            }
        }
        real.agrees_with(&model);
    }
}

/// What the hand-over does, in an order that kills, losses and confirmations may come between.
#[derive(Debug, Clone)]
enum Act {
    /// So many records more of a pending content are handed over.
    Part(usize, usize),
    /// The rest of one, and its end.
    End(usize),
    Confirm(usize),
    Lose(usize),
    Commit,
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (any::<usize>(), 1_usize..4).prop_map(|(at, records)| Act::Part(at, records)),
        3 => any::<usize>().prop_map(Act::End),
        2 => any::<usize>().prop_map(Act::Confirm),
        2 => any::<usize>().prop_map(Act::Lose),
        3 => Just(Act::Commit),
        1 => Just(Act::Crash),
    ]
}

/// A content some of whose records were handed over.
#[derive(Debug, Clone, Default)]
struct Opened {
    records: usize,
    depends: bool,
    is_spoiled: bool,
}

/// Nothing is lost: each record of a content that does not wait stands in a batch that was not lost.
fn nothing_is_lost(contents: &[Vec<u8>], acts: Vec<Act>) {
    let mut real = Real::open(folder());
    let names: Vec<u8> = (0..u8::try_from(contents.len()).unwrap()).collect();
    real.list(&names);
    real.commit();
    let mut open: BTreeMap<i64, Opened> = BTreeMap::new();
    let mut growing = BTreeSet::new();
    // The records of each batch, as it is now and as it is durable.
    let mut batches: BTreeMap<i64, BTreeSet<u8>> = BTreeMap::new();
    let mut durable = batches.clone();
    for act in acts {
        let unconfirmed = |at: usize| {
            let open: Vec<i64> = real
                .ledger
                .unconfirmed()
                .unwrap()
                .iter()
                .map(|batch| batch.id)
                .collect();
            (!open.is_empty()).then(|| open[at % open.len()])
        };
        match act {
            Act::Part(at, _) | Act::End(at) => {
                let pending = real.pending();
                if pending.is_empty() {
                    continue;
                }
                let content = &pending[at % pending.len()];
                let name: usize = content.content_id.parse().unwrap();
                let opened = open.entry(content.id).or_default();
                let rest = &contents[name][opened.records..];
                let many = if let Act::Part(_, many) = act {
                    many.min(rest.len())
                } else {
                    rest.len()
                };
                for id in &rest[..many] {
                    if real.ledger.knows(&key(*id)).unwrap().is_none() {
                        growing.insert(*id);
                    }
                }
                opened.depends |= real.hand_over(content, &rest[..many]);
                opened.records += many;
                if let Act::End(_) = act {
                    let opened = open.remove(&content.id).unwrap();
                    if !opened.is_spoiled {
                        real.end(content, opened.depends);
                    }
                }
            }
            Act::Confirm(at) => {
                if let Some(id) = unconfirmed(at) {
                    real.settling.extend(real.ledger.confirm(id).unwrap());
                }
            }
            Act::Lose(at) => {
                if let Some(id) = unconfirmed(at) {
                    batches.remove(&id);
                    for content in real.ledger.forget(id).unwrap() {
                        if let Some(opened) = open.get_mut(&content) {
                            opened.is_spoiled = true;
                        }
                    }
                    for opened in open.values_mut() {
                        opened.is_spoiled |= opened.depends;
                    }
                }
            }
            Act::Commit => {
                let grown = std::mem::take(&mut growing);
                batches.extend(real.commit().map(|id| (id, grown)));
                durable = batches.clone();
            }
            Act::Crash => {
                real = real.crash();
                (open, growing, batches) = (BTreeMap::new(), BTreeSet::new(), durable.clone());
            }
        }
        let there: BTreeSet<u8> = batches
            .values()
            .flatten()
            .chain(&growing)
            .copied()
            .collect();
        let waiting: BTreeSet<String> = real
            .pending()
            .into_iter()
            .map(|content| content.content_id)
            .collect();
        for (name, records) in contents.iter().enumerate() {
            let is_closed = !waiting.contains(&name.to_string());
            let lost = records.iter().find(|id| !there.contains(id));
            assert!(
                !is_closed || lost.is_none(),
                "content {name}: record {lost:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_losses_and_kills_loses_a_record(
        contents in prop::collection::vec(ids(), 1..6),
        acts in prop::collection::vec(act(), 1..60),
    ) {
        nothing_is_lost(&contents, acts);
    }

    #[test]
    fn agrees_with_a_model_through_crashes(steps in prop::collection::vec(step(), 1..50)) {
        play(steps);
    }
}
