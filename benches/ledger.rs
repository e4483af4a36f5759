//! The ledger at its full size: how large it is, how fast it takes batches, how long pruning holds up.
//!
//! `cargo bench --bench ledger [-- RECORDS]`; 10 million records by default.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench talks to a person and fails by panicking"
)]

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use o365_wodle::config::ContentType;
use o365_wodle::ledger::{Batch, Key, Ledger, NewContent, Pending, record_key};

const TENANT: &str = "3f1c2a70-6d5b-4c1e-9a86-0d1f4be7a9c2";
/// As many as `run` commits together.
const BATCH: usize = 2_000;
/// How long record ids are remembered.
const DAYS: i64 = 8;

fn main() {
    let records: usize = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(10_000_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let now = Utc::now();
    let (mut ledger, _) = Ledger::open(&path, now).unwrap();
    let content = content(&mut ledger, now);

    let batches = records / BATCH;
    let begin = Instant::now();
    for number in 0..batches {
        let day =
            DAYS - 1 - i64::try_from(number).unwrap() * DAYS / i64::try_from(batches).unwrap();
        batch(&mut ledger, &content, now - TimeDelta::days(day), number);
    }
    println!(
        "filled with {records} records in {:.1} s ({:.0} a second on the way)",
        begin.elapsed().as_secs_f64(),
        records as f64 / begin.elapsed().as_secs_f64()
    );

    let begin = Instant::now();
    let more = 100;
    let mut slowest = Duration::ZERO;
    for number in batches..batches + more {
        let one = Instant::now();
        batch(&mut ledger, &content, now, number);
        slowest = slowest.max(one.elapsed());
    }
    println!(
        "at that size: {:.0} look-ups and inserts a second, slowest batch {:.0} ms",
        (more * BATCH) as f64 / begin.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1_000.0
    );
    ledger.close().unwrap();
    println!(
        "file: {} MB",
        std::fs::metadata(&path).unwrap().len() / 1_000_000
    );

    let (mut ledger, _) = Ledger::open(&path, now).unwrap();
    let begin = Instant::now();
    let (mut last, mut pause) = (Instant::now(), Duration::ZERO);
    while ledger.prune(now - TimeDelta::days(3)).unwrap() {
        pause = pause.max(last.elapsed());
        last = Instant::now();
    }
    pause = pause.max(last.elapsed());
    println!(
        "pruning {} days: {:.1} s, longest step {:.0} ms",
        DAYS - 3,
        begin.elapsed().as_secs_f64(),
        pause.as_secs_f64() * 1_000.0
    );
}

fn content(ledger: &mut Ledger, now: DateTime<Utc>) -> Pending {
    let floor = now - TimeDelta::days(DAYS);
    let stream = ledger.stream(TENANT, ContentType::Exchange, floor).unwrap();
    let content = NewContent {
        content_id: "content".to_owned(),
        uri: "https://manage.office.com/content".to_owned(),
        created: now,
        expires: now + TimeDelta::days(7),
    };
    ledger
        .insert_contents(stream.id, floor, &[content], Utc::now())
        .unwrap();
    let streams = [(stream.id, ContentType::Exchange)];
    ledger.pending(&streams, now, 1).unwrap().remove(0)
}

/// What `run` does for a batch: look up, remember, commit, confirm, fold.
fn batch(ledger: &mut Ledger, content: &Pending, created: DateTime<Utc>, number: usize) {
    let mut batch = Batch::default();
    for record in 0..BATCH {
        let key = key(number * BATCH + record);
        assert_eq!(ledger.knows(&key).unwrap(), None);
        ledger
            .remember(&mut batch, content.id, created, key, true)
            .unwrap();
    }
    let id = ledger.insert_batch(&batch, created, "{}").unwrap();
    ledger.commit().unwrap();
    let contents = ledger.confirm(id).unwrap();
    ledger.contents_settled(&contents).unwrap();
    ledger.fold().unwrap();
}

fn key(record: usize) -> Key {
    record_key(
        TENANT,
        ContentType::Exchange,
        record.to_string().as_bytes(),
        None,
    )
}
