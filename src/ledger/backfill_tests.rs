//! Spans to be fetched again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use chrono::{Days, TimeDelta};

use super::tests::{EXCHANGE, World, content, now};
use super::*;

#[test]
fn a_span_begins_where_it_was_listed_to() {
    let mut world = World::new();
    let id = world.stream().id;
    let (since, until) = (now() - Days::new(3), now());
    world.ledger.insert_span(id, since, until, false).unwrap();
    let span = |world: &World| {
        let span = world.ledger.spans(id).unwrap()[0];
        (span.since, span.until)
    };
    for (to, begins) in [(2, 2), (5, 2), (1, 1)] {
        let number = world.ledger.spans(id).unwrap()[0].id;
        let listed = now() - Days::new(to);
        world.ledger.span_listed_to(number, listed).unwrap();
        assert_eq!(span(&world), (now() - Days::new(begins), until));
    }
}

#[test]
fn who_asks_again_for_a_span_that_waits_makes_it_longer() {
    let mut world = World::new();
    let id = world.stream().id;
    let at = |hours| now() - TimeDelta::hours(hours);
    let mut asked = |since, until, is_resend| {
        world
            .ledger
            .insert_span(id, at(since), at(until), is_resend)
            .unwrap();
        let spans = world.ledger.spans(id).unwrap();
        spans
            .iter()
            .map(|span| {
                let ago = |time: DateTime<Utc>| (now() - time).num_hours();
                (ago(span.since), ago(span.until), span.is_resend)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(20, 10, false), [(20, 10, false)]);
    assert_eq!(asked(20, 10, false), [(20, 10, false)]);
    assert_eq!(asked(19, 9, false), [(20, 9, false)]);
    assert_eq!(asked(9, 8, false), [(20, 8, false)]);
    assert_eq!(asked(12, 11, false), [(20, 8, false)]);
    // What begins before it, or wants what was delivered, is another.
    assert_eq!(asked(21, 15, false), [(20, 8, false), (21, 15, false)]);
    assert_eq!(asked(20, 10, true).len(), 3);
    assert_eq!(asked(20, 10, true).len(), 3);
    // What was listed of it is wanted anew, in whatever order it was.
    let spans = world.ledger.spans(id).unwrap();
    let listed = NewContent {
        created: at(11),
        ..content("a")
    };
    let listed = world
        .ledger
        .insert_span_contents(id, &spans[2], &[listed], now());
    assert_eq!(listed.unwrap(), 1);
    world.ledger.insert_span(id, at(20), at(10), true).unwrap();
    assert_eq!(world.ledger.spans(id).unwrap().len(), 4);
    let number = world.ledger.spans(id).unwrap()[3].id;
    world.ledger.span_listed_to(number, at(15)).unwrap();
    world.ledger.insert_span(id, at(20), at(10), true).unwrap();
    assert_eq!(world.ledger.spans(id).unwrap().len(), 5);
}

#[test]
fn what_was_confirmed_and_expires_before_it_comes_again_is_not_lost() {
    let mut world = World::new();
    let stream = world.listed(&["delivered", "unconfirmed", "pending"]);
    for (name, is_confirmed) in [("delivered", true), ("unconfirmed", false)] {
        let contents = world.pending(&stream);
        let content = contents.iter().find(|content| content.content_id == name);
        let batch = world.send(content.unwrap(), &[name]);
        if is_confirmed {
            world.confirm(batch);
        }
    }
    let (since, until) = (now() - Days::new(1), now());
    for _ in 0..2 {
        world
            .ledger
            .insert_span(stream.id, since, until, true)
            .unwrap();
        let span = *world.ledger.spans(stream.id).unwrap().last().unwrap();
        let contents = ["delivered", "unconfirmed", "pending"].map(content);
        world
            .ledger
            .insert_span_contents(stream.id, &span, &contents, now())
            .unwrap();
        assert_eq!(
            world.names(&stream),
            ["delivered", "pending", "unconfirmed"]
        );
        world.ledger.span_listed(span.id).unwrap();
    }
    let contents = world.pending(&stream);
    let one = |name| {
        contents
            .iter()
            .find(|content| content.content_id == name)
            .unwrap()
    };
    world.ledger.content_expired(one("delivered")).unwrap();
    assert_eq!(world.ledger.report(now()).unwrap()[0].lost, 0);
    let streams = [(stream.id, EXCHANGE)];
    assert_eq!(
        world.ledger.expire(&streams, now() + Days::new(7)).unwrap(),
        [(EXCHANGE, 2)]
    );
}
