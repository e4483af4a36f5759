//! Shaping ordinary records, beside the least that anybody could do: `serde_json` finds the end of the
//! record (`&RawValue`) and the bytes are copied.
//!
//! `cargo bench --bench event`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench prints figures for a person and may panic"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use o365_wodle::array::{Element, Splitter};
use o365_wodle::collect::event::{Envelope, Shaper};
use serde_json::value::RawValue;

const ROUNDS: usize = 20_000;

fn main() {
    let labels = BTreeMap::from([("customer".into(), "C-42".into())]);
    let mut shaper = Shaper::new(&Envelope {
        location: "office365",
        content_type: "Audit.General",
        tenant: "contoso",
        labels: &labels,
        annotate: true,
        flatten: false,
        redactor: None,
    });
    let records = ordinary(&mut shaper);
    let bytes: usize = records.iter().map(Vec::len).sum();
    let blob = [b"[".as_slice(), &records.join(&b','), b"]"].concat();
    let mut out = Vec::with_capacity(1 << 20);

    let wrapped = fastest(|| {
        for record in &records {
            out.clear();
            let record = shaper.read(black_box(record)).unwrap();
            black_box(record.id());
            black_box(shaper.write(&record, false, &mut out));
            black_box(&out);
        }
    });
    let copied = fastest(|| {
        for record in &records {
            out.clear();
            let raw: &RawValue = serde_json::from_slice(black_box(record)).unwrap();
            out.extend_from_slice(raw.get().as_bytes());
            black_box(&out);
        }
    });
    let split = fastest(|| {
        let mut splitter = Splitter::new(1 << 20);
        for chunk in black_box(&blob).chunks(16 << 10) {
            let sink = &mut |element: Element<'_>| {
                black_box(&element);
            };
            splitter.push(chunk, sink).unwrap();
        }
        splitter.finish().unwrap();
    });
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{} ordinary records of {} bytes on average",
        records.len(),
        bytes / records.len()
    );
    println!("shape (read, identify, wrap)   {:7.0} MB/s", rate(wrapped));
    println!("serde_json &RawValue and copy  {:7.0} MB/s", rate(copied));
    println!("split a blob in 16 KiB chunks  {:7.0} MB/s", rate(split));
    println!(
        "shape / RawValue: {:.2} of the time",
        wrapped.as_secs_f64() / copied.as_secs_f64()
    );
}

/// The least time of many rounds.
fn fastest(mut round: impl FnMut()) -> Duration {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .min()
        .unwrap_or_default()
}

/// The sample records that Wazuh takes as they are.
fn ordinary(shaper: &mut Shaper) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for name in [
        "msdocs_samples",
        "panther_m365",
        "pnp_insights",
        "synthetic_shapes",
    ] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulator/data");
        let text = std::fs::read(format!("{folder}/{name}.ndjson")).unwrap();
        for line in text.split(|byte| *byte == b'\n') {
            let Some(record) = shaper.read(line) else {
                continue;
            };
            if shaper.write(&record, false, &mut Vec::new()).is_empty() {
                records.push(line.to_vec());
            }
        }
    }
    records
}
