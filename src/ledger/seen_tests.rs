//! What is known by its key, for how long, and what is forgotten.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::VecDeque;

use chrono::{Days, TimeDelta};

use super::tests::{EXCHANGE, TENANT, World, content, key, now, numbers};
use super::*;
use crate::config::ContentType;

#[test]
fn keys_tell_apart_what_differs_and_nothing_else() {
    let id = |content_type, id: &str, number: Option<&str>| {
        record_key(
            TENANT,
            content_type,
            id.as_bytes(),
            number.map(str::as_bytes),
        )
    };
    assert_eq!(id(EXCHANGE, "1", None), id(EXCHANGE, "1", None));
    assert_ne!(id(EXCHANGE, "1", None), id(ContentType::Dlp, "1", None));
    assert_ne!(id(EXCHANGE, "1", None), id(EXCHANGE, "1", Some("2")));
    assert_ne!(id(EXCHANGE, "12", None), id(EXCHANGE, "1", Some("2")));
    let place = |content, byte, number| place_key(TENANT, EXCHANGE, content, &[byte; 32], number);
    assert_ne!(place("a", 1, 0), place("a", 1, 1));
    assert_ne!(place("a", 1, 0), place("a", 2, 0));
    assert_ne!(place("a", 1, 0), place("b", 1, 0));
}

/// The set of keys that wait keeps its size, however many were folded.
#[test]
fn a_fold_makes_room_for_other_keys() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    let content = world.pending(&stream).remove(0);
    let mut unconfirmed = VecDeque::new();
    for lot in 0..21 {
        unconfirmed.push_back(world.send(&content, &numbers(lot * 10_000..(lot + 1) * 10_000)));
        if unconfirmed.len() > 1 {
            let first = unconfirmed.pop_front().unwrap();
            world.confirm(first);
        }
        world.ledger.fold().unwrap();
        let places = world.ledger.recent().unwrap().keys.capacity();
        assert!(places <= 131_072 / 8 * 7, "{places} after lot {lot}");
    }
    assert_eq!(world.ledger.buckets.len(), 1);
}

#[test]
fn folded_keys_are_found_and_dropped_with_their_bucket() {
    let mut world = World::new();
    let stream = world.listed(&["a"]);
    let content = world.pending(&stream).remove(0);
    let batch = world.send(&content, &numbers(0..120_000));
    world.ledger.fold().unwrap();
    assert_eq!(world.ledger.buckets.len(), 0, "unconfirmed ones wait");
    world.confirm(batch);
    world.ledger.fold().unwrap();
    assert_eq!(world.ledger.buckets.len(), 1);
    let mut world = world.reopen();
    for number in [0, 1, 60_000, 119_999] {
        assert_eq!(
            world.ledger.knows(&key(&number.to_string())).unwrap(),
            Some(false)
        );
    }
    assert_eq!(world.ledger.knows(&key("120000")).unwrap(), None);

    world.prune(now());
    assert_eq!(world.ledger.buckets.len(), 1, "still within the time");
    world.prune(now() + Days::new(8));
    assert_eq!(world.ledger.buckets.len(), 0);
    assert_eq!(world.ledger.knows(&key("1")).unwrap(), None);
}

/// Where few records come, they never are enough to be folded.
#[test]
fn a_few_keys_and_their_contents_are_forgotten_in_time() {
    let mut world = World::new();
    let stream = world.listed(&["a", "b"]);
    let contents = world.pending(&stream);
    let batch = world.send(&contents[0], &numbers(0..10));
    let waits = world.send(&contents[1], &["b"]);
    world.confirm(batch);
    let count = |world: &World, table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        let connection = &world.ledger.connection;
        connection.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    world.prune(now());
    assert_eq!(world.ledger.knows(&key("1")).unwrap(), Some(true));
    world.prune(now() + Days::new(8));
    assert_eq!(world.ledger.knows(&key("1")).unwrap(), None);
    assert_eq!(world.ledger.knows(&key("b")).unwrap(), Some(true));
    let mut world = world.reopen();
    assert_eq!(world.ledger.knows(&key("1")).unwrap(), None);
    assert_eq!(world.ledger.knows(&key("b")).unwrap(), Some(true));
    assert_eq!(
        (count(&world, "batch"), count(&world, "batch_content")),
        (1, 1)
    );
    world.confirm(waits);
    world.prune(now() + Days::new(9));
    assert_eq!(
        (count(&world, "batch"), count(&world, "batch_content")),
        (0, 0)
    );
    // the last words of the stream stay
    assert_eq!(count(&world, "content"), 1);
}

#[test]
fn what_nobody_collects_any_more_is_given_up_and_days_are_forgotten() {
    let mut world = World::new();
    let stream = world.listed(&["left behind", "sent"]);
    let sent = world.pending(&stream).pop().unwrap();
    let batch = world.send(&sent, &["a"]);
    world.confirm(batch);
    let span = (now() - Days::new(2), now());
    let inserted = world.ledger.insert_span(stream.id, span.0, span.1, false);
    inserted.unwrap();
    let count = |world: &World, what: &str| -> i64 {
        let connection = &world.ledger.connection;
        connection
            .query_row(&format!("SELECT count(*) FROM {what}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    world.prune(now() - Days::new(8));
    assert_eq!((world.pending(&stream).len(), count(&world, "day")), (1, 1));
    assert_eq!(count(&world, "backfill"), 1);
    world.prune(now() + Days::new(7));
    assert_eq!(count(&world, "backfill"), 1);
    world.prune(now() + Days::new(31));
    assert_eq!(count(&world, "backfill"), 0);
    let left = count(&world, "content WHERE content_id = 'left behind'");
    assert_eq!((left, count(&world, "day")), (0, 0));
    assert_eq!(world.ledger.standing(stream.id).unwrap().lost, 1);
}

#[test]
fn a_stream_that_falls_silent_is_known_to_have_spoken_until_it_speaks_again() {
    let mut world = World::new();
    let stream = world.stream();
    let list = |world: &mut World, name: &str, created: DateTime<Utc>| {
        let content = NewContent {
            created,
            expires: created + Days::new(7),
            ..content(name)
        };
        world
            .ledger
            .insert_contents(stream.id, DateTime::UNIX_EPOCH, &[content], now())
            .unwrap();
    };
    for day in 0..5 {
        for hour in 0..3 {
            let created = now() - Days::new(day) - TimeDelta::hours(hour);
            list(&mut world, &format!("{day} {hour}"), created);
        }
    }
    let streams = [(stream.id, EXCHANGE)];
    world.ledger.expire(&streams, now() + Days::new(8)).unwrap();
    let standing = |world: &World| world.ledger.standing(stream.id).unwrap().last_words;
    let count = |world: &World| -> i64 {
        let count = "SELECT count(*) FROM content";
        let connection = &world.ledger.connection;
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    };
    let lately = |world: &World, days| {
        let report = world.ledger.report(now() + Days::new(days)).unwrap();
        (report[0].lost, report[0].lost_lately)
    };
    assert_eq!(lately(&world, 0), (15, 15));
    for days in [8, 9, 30] {
        world.prune(now() + Days::new(days));
        assert_eq!(standing(&world), Some((now(), 3)), "{days}");
        assert_eq!(count(&world), 3, "{days}");
    }
    assert_eq!(lately(&world, 30), (15, 0));
    assert!(
        !world.ledger.is_dirty(),
        "a prune of nothing writes nothing"
    );

    let later = now() + Days::new(30);
    list(&mut world, "later", later);
    world.prune(later);
    assert_eq!((standing(&world), count(&world)), (Some((later, 1)), 1));
}

#[test]
fn a_later_expiration_counts_even_if_it_was_given_up() {
    let mut world = World::new();
    let stream = world.listed(&["a", "b"]);
    let streams = [(stream.id, EXCHANGE)];
    let (past, later) = (now() + Days::new(7), now() + Days::new(9));
    let until = |name| NewContent {
        expires: later,
        ..content(name)
    };
    let mut after = |contents: &[NewContent]| {
        let listed = world
            .ledger
            .insert_contents(stream.id, stream.floor, contents, past);
        assert_eq!(listed.unwrap(), 0);
        let expired = world.ledger.expire(&streams, past).unwrap();
        (expired, world.names(&stream))
    };
    // What is not given up yet lives on, and an earlier one changes nothing.
    let (expired, pending) = after(&[until("a"), content("a")]);
    assert_eq!((expired, pending), (vec![(EXCHANGE, 1)], vec!["a".into()]));
    let (expired, pending) = after(&[content("b")]);
    assert_eq!((expired, pending), (vec![], vec!["a".into()]));
    // What is given up comes again, and is not lost before it expires once more.
    let (expired, pending) = after(&[until("b")]);
    assert_eq!((expired, pending), (vec![], vec!["a".into(), "b".into()]));
    assert_eq!(world.ledger.report(past).unwrap()[0].lost, 0);
    // Unless Microsoft said that it is gone.
    for content in world.pending(&stream) {
        world.ledger.content_expired(&content).unwrap();
    }
    let later_still = later + Days::new(1);
    let gone = ["a", "b"].map(|name| NewContent {
        expires: later_still,
        ..content(name)
    });
    world
        .ledger
        .insert_contents(stream.id, stream.floor, &gone, past)
        .unwrap();
    assert_eq!(world.names(&stream), [""; 0]);
    assert_eq!(world.ledger.report(past).unwrap()[0].lost, 2);
}
