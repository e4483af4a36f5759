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
    /// One of the pending contents is handed over with these records, the second ones after a commit.
    Send(usize, Vec<u8>, Option<Vec<u8>>),
    Confirm(usize),
    Lose(usize),
    Commit,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(0_u8..12, 1..5).prop_map(Step::List),
        any::<u8>().prop_map(Step::Mark),
        (any::<usize>(), ids()).prop_map(|(at, ids)| Step::Send(at, ids, None)),
        (any::<usize>(), ids(), ids()).prop_map(|(at, ids, later)| Step::Send(
            at,
            ids,
            Some(later)
        )),
        any::<usize>().prop_map(Step::Confirm),
        any::<usize>().prop_map(Step::Lose),
        Just(Step::Commit),
        Just(Step::Crash),
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
            .insert_contents(self.stream.id, self.stream.floor, &contents)
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
            Step::Send(at, ids, later) => {
                let pending = real.pending();
                if pending.is_empty() {
                    continue;
                }
                let content = &pending[at % pending.len()];
                let name: u8 = content.content_id.parse().unwrap();
                let mut depends = real.hand_over(content, &ids);
                assert_eq!(model.hand_over(name, &ids), depends);
                if let Some(later) = later {
                    model.commit(real.commit());
                    durable = model.clone();
                    let more = real.hand_over(content, &later);
                    assert_eq!(model.hand_over(name, &later), more);
                    depends |= more;
                }
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

proptest! {
    #[test]
    fn agrees_with_a_model_through_crashes(steps in prop::collection::vec(step(), 1..50)) {
        play(steps);
    }
}
