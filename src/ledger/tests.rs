//! The invariants of the ledger, one by one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{Days, TimeDelta};
use tempfile::TempDir;

use super::*;
use crate::config::ContentType;
use crate::stopping::Stopping;

pub(super) const TENANT: &str = "3f1c2a70-6d5b-4c1e-9a86-0d1f4be7a9c2";
pub(super) const EXCHANGE: ContentType = ContentType::Exchange;

pub(super) fn now() -> DateTime<Utc> {
    "2026-03-14T12:00:00Z".parse().unwrap()
}

pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) ledger: Ledger,
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, opened) = Ledger::open(&folder.path().join("ledger.db"), now()).unwrap();
        assert_eq!(opened, Opened::New);
        Self { folder, ledger }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    /// As after a kill: what was not committed is gone.
    pub(super) fn reopen(self) -> Self {
        let Self { folder, ledger } = self;
        drop(ledger);
        let (ledger, opened) = Ledger::open(&folder.path().join("ledger.db"), now()).unwrap();
        assert_eq!(opened, Opened::Existing);
        Self { folder, ledger }
    }

    pub(super) fn stream(&mut self) -> Stream {
        self.ledger
            .stream(TENANT, EXCHANGE, now() - Days::new(1))
            .unwrap()
    }

    /// A stream with the contents of these names, listed an hour ago.
    pub(super) fn listed(&mut self, names: &[&str]) -> Stream {
        let stream = self.stream();
        let contents: Vec<_> = names.iter().map(|name| content(name)).collect();
        self.ledger
            .insert_contents(stream.id, stream.floor, &contents, now())
            .unwrap();
        stream
    }

    pub(super) fn pending(&self, stream: &Stream) -> Vec<Pending> {
        self.ledger
            .pending(&[(stream.id, EXCHANGE)], now(), 100)
            .unwrap()
    }

    pub(super) fn names(&self, stream: &Stream) -> Vec<String> {
        let mut names: Vec<_> = self
            .pending(stream)
            .into_iter()
            .map(|content| content.content_id)
            .collect();
        names.sort();
        names
    }

    /// Hands over records of a content as one batch and ends the content.
    pub(super) fn send(&mut self, content: &Pending, ids: &[impl AsRef<str>]) -> i64 {
        let mut batch = Batch::default();
        for id in ids {
            let key = key(id.as_ref());
            self.ledger
                .remember(&mut batch, content.id, content.created, key, true)
                .unwrap();
        }
        self.ledger
            .content_sent(content.id, content.stream, false)
            .unwrap();
        let id = self.ledger.insert_batch(&batch, now(), "{}").unwrap();
        self.ledger.contents_settled(&[content.id]).unwrap();
        self.ledger.commit().unwrap();
        id
    }

    pub(super) fn prune(&mut self, keep: DateTime<Utc>) {
        while self.ledger.prune(keep).unwrap() {}
    }

    pub(super) fn confirm(&mut self, batch: i64) {
        let contents = self.ledger.confirm(batch).unwrap();
        self.ledger.contents_settled(&contents).unwrap();
    }
}

/// The ids of so many records.
pub(super) fn numbers(range: Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub(super) fn content(name: &str) -> NewContent {
    NewContent {
        content_id: name.to_owned(),
        uri: format!("https://manage.office.com/{name}"),
        created: now() - TimeDelta::hours(1),
        expires: now() + Days::new(6),
    }
}

pub(super) fn key(id: &str) -> Key {
    record_key(TENANT, EXCHANGE, id.as_bytes(), None)
}

#[test]
fn listings_and_markers_survive_only_with_their_commit() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    world.ledger.window_complete(stream.id, now()).unwrap();
    let mut world = world.reopen();
    assert_eq!(world.ledger.known_stream(TENANT, EXCHANGE).unwrap(), None);

    let stream = world.listed(&["a"]);
    world.ledger.window_complete(stream.id, now()).unwrap();
    world.ledger.commit().unwrap();
    let mut world = world.reopen();
    assert_eq!(world.stream().marker, Some(now()));
    assert_eq!(world.names(&stream), ["a"]);
}

#[test]
fn a_marker_never_moves_back() {
    let mut world = World::new();
    let stream = world.stream();
    world.ledger.window_complete(stream.id, now()).unwrap();
    world
        .ledger
        .window_complete(stream.id, now() - Days::new(2))
        .unwrap();
    assert_eq!(world.stream().marker, Some(now()));
}

#[test]
fn known_contents_and_those_below_the_floor_cost_nothing() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    let old = NewContent {
        created: stream.floor - TimeDelta::milliseconds(1),
        ..content("old")
    };
    let inserted = world
        .ledger
        .insert_contents(
            stream.id,
            stream.floor,
            &[content("a"), old, content("b")],
            now(),
        )
        .unwrap();
    assert_eq!(inserted, 1);
    assert_eq!(world.names(&stream), ["a", "b"]);
}

#[test]
fn a_confirmed_content_is_done_and_its_records_stay_known() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    let content = world.pending(&stream).remove(0);
    let batch = world.send(&content, &["1", "2"]);
    assert_eq!(world.names(&stream), [""; 0]);
    assert_eq!(world.ledger.unconfirmed_events().unwrap(), 2);
    world.confirm(batch);
    world.ledger.commit().unwrap();
    let mut world = world.reopen();
    assert_eq!(world.ledger.unconfirmed_events().unwrap(), 0);
    assert!(world.ledger.knows(&key("1")).unwrap().is_some());
    assert_eq!(
        world.ledger.forget(batch).unwrap(),
        [0; 0],
        "confirmed ones never"
    );
    assert_eq!(world.ledger.report(now()).unwrap()[0].delivered, 2);
}

#[test]
fn a_lost_batch_is_forgotten_with_its_ids_and_contents() {
    let mut world = World::new();
    let stream = world.listed(&["a", "b"]);
    let pending = world.pending(&stream);
    let first = world.send(&pending[0], &["1"]);
    let second = world.send(&pending[1], &["2"]);
    world.confirm(first);
    assert_eq!(world.ledger.forget(second).unwrap(), [pending[1].id]);
    world.ledger.commit().unwrap();
    assert_eq!(world.ledger.knows(&key("2")).unwrap(), None);
    assert!(world.ledger.knows(&key("1")).unwrap().is_some());
    assert_eq!(world.names(&stream), [pending[1].content_id.clone()]);
    let mut world = world.reopen();
    assert_eq!(world.ledger.knows(&key("2")).unwrap(), None);
}

#[test]
fn a_content_whose_records_came_in_anothers_batch_falls_with_it() {
    let mut world = World::new();
    let stream = world.listed(&["a", "b"]);
    let pending = world.pending(&stream);
    let batch = world.send(&pending[0], &["1"]);
    // The other content holds the same record: nothing of it is sent.
    assert_eq!(world.ledger.knows(&key("1")).unwrap(), Some(true));
    world
        .ledger
        .content_sent(pending[1].id, stream.id, false)
        .unwrap();
    world
        .ledger
        .depend_on_unconfirmed(&mut Batch::default(), pending[1].id)
        .unwrap();
    world.ledger.contents_settled(&[pending[1].id]).unwrap();
    world.ledger.forget(batch).unwrap();
    assert_eq!(world.names(&stream), ["a", "b"]);
}

#[test]
fn a_content_whose_records_stand_in_the_batch_that_grows_falls_with_it() {
    let mut world = World::new();
    let stream = world.listed(&["a", "b"]);
    let pending = world.pending(&stream);
    let mut batch = Batch::default();
    let (first, second) = (&pending[0], &pending[1]);
    world
        .ledger
        .remember(&mut batch, first.id, first.created, key("1"), true)
        .unwrap();
    for content in [first, second] {
        world
            .ledger
            .content_sent(content.id, stream.id, false)
            .unwrap();
    }
    world
        .ledger
        .depend_on_unconfirmed(&mut batch, second.id)
        .unwrap();
    let batch = world.ledger.insert_batch(&batch, now(), "{}").unwrap();
    world
        .ledger
        .contents_settled(&[first.id, second.id])
        .unwrap();
    world.ledger.forget(batch).unwrap();
    assert_eq!(world.names(&stream), ["a", "b"]);
}

#[test]
fn a_content_tried_in_vain_comes_after_the_untried_and_not_twice_in_a_run() {
    let mut world = World::new();
    let stream = world.stream();
    // The one that fails is the first: it would come first again.
    let first = NewContent {
        created: now() - TimeDelta::hours(2),
        ..content("a")
    };
    world
        .ledger
        .insert_contents(stream.id, stream.floor, &[first, content("b")], now())
        .unwrap();
    let pending = world.pending(&stream);
    assert_eq!(pending[0].content_id, "a");
    world
        .ledger
        .content_failed(&pending[0], now(), false, None, "HTTP 500")
        .unwrap();
    world.ledger.commit().unwrap();
    assert_eq!(world.names(&stream), [pending[1].content_id.clone()]);
    let mut world = world.reopen();
    let order: Vec<_> = world.pending(&stream).into_iter().map(|c| c.id).collect();
    assert_eq!(order, [pending[1].id, pending[0].id]);
    // A time that Microsoft named is kept, an hour at most.
    for (named, kept) in [(10, 10), (600, 60)] {
        let named = Some(Duration::from_mins(named));
        let failed = world
            .ledger
            .content_failed(&pending[0], now(), false, named, "HTTP 503");
        failed.unwrap();
        world.ledger.commit().unwrap();
        world = world.reopen();
        let count_after = |minutes| {
            let then = now() + TimeDelta::minutes(minutes);
            world
                .ledger
                .pending(&[(stream.id, EXCHANGE)], then, 9)
                .unwrap()
                .len()
        };
        assert_eq!((count_after(kept - 1), count_after(kept + 1)), (1, 2));
    }
}

#[test]
fn back_off_grows_to_an_hour_and_outlives_the_run() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let not_before = world
            .ledger
            .tenant_failed(TENANT, now(), false, None, "", "HTTP 503")
            .unwrap();
        waits.push((not_before - now()).num_minutes());
    }
    assert_eq!(waits, [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    world.ledger.commit().unwrap();
    let mut world = world.reopen();
    let refused = world
        .ledger
        .tenant_failed(TENANT, now(), true, None, "", "AADSTS7000222")
        .unwrap();
    assert_eq!(refused, now() + TimeDelta::hours(1));
    world.ledger.tenant_well(TENANT).unwrap();
    assert_eq!(world.ledger.tenant(TENANT).unwrap().failures, 0);
}

#[test]
fn what_expires_unfetched_is_counted() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    let streams = [(stream.id, EXCHANGE)];
    assert_eq!(world.ledger.expire(&streams, now()).unwrap(), []);
    let later = now() + Days::new(7);
    assert_eq!(
        world.ledger.expire(&streams, later).unwrap(),
        [(EXCHANGE, 1)]
    );
    assert_eq!(world.names(&stream), [""; 0]);
    // A backfill asks for it again, in vain.
    let since = now() - Days::new(1);
    world
        .ledger
        .insert_span(stream.id, since, now(), false)
        .unwrap();
    let span = world.ledger.spans(stream.id).unwrap()[0];
    world
        .ledger
        .insert_span_contents(stream.id, &span, &[content("a")], now())
        .unwrap();
    assert_eq!(world.names(&stream), ["a"]);
    assert_eq!(world.ledger.expire(&streams, later).unwrap(), []);
    assert_eq!(world.names(&stream), [""; 0]);
    assert_eq!(world.ledger.report(later).unwrap()[0].lost, 1);
}

#[test]
fn what_expires_on_its_way_and_comes_is_not_lost() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    let content = world.pending(&stream).remove(0);
    let later = now() + Days::new(8);
    world
        .ledger
        .expire(&[(stream.id, EXCHANGE)], later)
        .unwrap();
    assert_eq!(world.ledger.report(later).unwrap()[0].lost, 1);
    world.send(&content, &["1"]);
    assert_eq!(world.ledger.report(later).unwrap()[0].lost, 0);
}

#[test]
fn a_damaged_content_that_comes_again_is_counted_once() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    let content = world.pending(&stream).remove(0);
    for _ in 0..2 {
        let mut batch = Batch::default();
        world
            .ledger
            .remember(&mut batch, content.id, content.created, key("1"), true)
            .unwrap();
        world
            .ledger
            .content_sent(content.id, stream.id, true)
            .unwrap();
        let batch = world.ledger.insert_batch(&batch, now(), "{}").unwrap();
        assert_eq!(world.ledger.report(now()).unwrap()[0].damaged, 1);
        world.ledger.forget(batch).unwrap();
        assert_eq!(world.ledger.report(now()).unwrap()[0].damaged, 0);
        assert_eq!(world.names(&stream), ["a"]);
    }
}

#[test]
fn a_sweep_that_is_asked_for_during_another_is_not_forgotten() {
    let mut world = World::new();
    let id = world.stream().id;
    world.ledger.sweep_again(id).unwrap();
    world.ledger.swept(id, now()).unwrap();
    assert!(world.stream().is_sweep_asked);
    world.ledger.commit().unwrap();
    let mut world = world.reopen();
    world.ledger.swept(id, now()).unwrap();
    let stream = world.stream();
    assert_eq!((stream.is_sweep_asked, stream.swept), (false, Some(now())));
}

#[test]
fn a_damaged_schema_or_index_is_found() {
    let spoilt = |spoil: &[&str]| {
        let mut world = World::new();
        let stream = world.listed(&["a", "b"]);
        world.ledger.commit().unwrap();
        let path = world.path();
        let World { folder, ledger } = world;
        ledger.close().unwrap();
        for step in spoil {
            // Each by a connection of its own, which reads the schema anew.
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection
                .execute_batch("PRAGMA writable_schema = ON")
                .unwrap();
            connection.execute_batch(step).unwrap();
        }
        (folder, path, stream)
    };
    let text = "UPDATE sqlite_schema SET sql = replace(sql, ' id ', ' ie ') WHERE name = 'content'";
    let (_folder, path, _) = spoilt(&[text]);
    let (_, opened) = Ledger::open(&path, now()).unwrap();
    assert_eq!(opened, Opened::Recovered);

    // The index still has what its table no longer has.
    let (_folder, path, stream) = spoilt(&[
        "CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'content_open';
         DELETE FROM sqlite_schema WHERE name = 'content_open'",
        "UPDATE content SET state = 2 WHERE content_id = 'a'",
        "INSERT INTO sqlite_schema SELECT * FROM kept",
        "DROP TABLE kept",
    ]);
    let (ledger, opened) = Ledger::open(&path, now()).unwrap();
    assert_eq!(opened, Opened::Existing);
    let pending = ledger.pending(&[(stream.id, EXCHANGE)], now(), 100);
    assert!(matches!(pending, Err(Fault::Corrupt(_))), "{pending:?}");
}

#[test]
fn one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let lock = Lock::take(&path, Purpose::Run, &Stopping::default()).unwrap();
    assert!(matches!(
        Lock::take(&path, Purpose::Run, &Stopping::default()),
        Err(Fault::Locked(_))
    ));
    drop(lock);
    Lock::take(&path, Purpose::Run, &Stopping::default()).unwrap();
}

#[test]
fn a_dry_run_leaves_no_trace() {
    let mut world = World::new();
    world.listed(&["a"]);
    world.ledger.commit().unwrap();
    drop(world.ledger);
    let path = world.folder.path().join("ledger.db");
    let mut dry = Ledger::open_dry(&path).unwrap();
    let stream = dry.stream(TENANT, EXCHANGE, now()).unwrap();
    dry.insert_contents(stream.id, stream.floor, &[content("b")], now())
        .unwrap();
    dry.commit().unwrap();
    assert_eq!(
        dry.pending(&[(stream.id, EXCHANGE)], now(), 9)
            .unwrap()
            .len(),
        2
    );
    drop(dry);
    let (ledger, _) = Ledger::open(&path, now()).unwrap();
    assert_eq!(
        ledger
            .pending(&[(stream.id, EXCHANGE)], now(), 9)
            .unwrap()
            .len(),
        1
    );

    let none = world.folder.path().join("none.db");
    Ledger::open_dry(&none).unwrap();
    assert!(!none.exists());
}
