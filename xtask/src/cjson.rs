//! Shapes sample records and generated ones and has the real cJSON library, which Wazuh's decoder uses,
//! say what arrives.
//!
//! Needs a C compiler and cJSON (Debian: `libcjson-dev`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a check for developers fails by panicking and prints its verdict"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use o365_wodle::collect::event::{Envelope, Shaper};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hostile::{Maker, decimal, faults, members};

/// What the helper says of one event.
#[derive(Deserialize)]
struct Seen {
    fields: usize,
    lost: usize,
    leaves: Vec<(String, String)>,
}

/// Checks every sample record and `count` generated ones; panics at the first event that does not arrive whole.
pub(crate) fn run(count: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let helper = compile(folder.path());
    let mut shaper = Shaper::new(&Envelope {
        location: "office365",
        content_type: "Audit.General",
        tenant: "contoso",
        labels: &BTreeMap::from([("customer".into(), "C-42".into())]),
        annotate: true,
        flatten: true,
        redactor: None,
    });
    let mut child = Command::new(helper)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the helper starts");
    let mut to = child.stdin.take().expect("its stdin");
    let mut from = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    let (mut all, mut reshaped) = (0, 0);
    let generated = (0..count).map(|seed| Maker::new(seed, seed % 10 > 0).record());
    for record in samples().into_iter().chain(generated) {
        let Some(record) = shaper.read(&record) else {
            continue;
        };
        let mut datagram = Vec::new();
        reshaped += u64::from(!shaper.write(&record, false, &mut datagram).is_empty());
        all += 1;
        if all % 10_000 == 0 {
            eprintln!("{all}");
        }
        let event = datagram.strip_prefix(b"1:office365:").expect("the header");
        assert_eq!(faults(event), Vec::<String>::new());
        to.write_all(event)
            .and_then(|()| to.write_all(b"\n"))
            .expect("the helper reads");
        let answer = from.next().expect("an answer").expect("the helper writes");
        judge(std::str::from_utf8(event).expect("UTF-8"), &answer);
    }
    drop(to);
    assert!(child.wait().expect("the helper ends").success());
    println!("{all} records, {reshaped} of them reshaped: cJSON sees every event whole");
}

fn compile(folder: &Path) -> std::path::PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cjson.c");
    let helper = folder.join("decode");
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-o"])
        .arg(&helper)
        .args([source, "-lcjson"])
        .status()
        .expect("a C compiler");
    assert!(
        status.success(),
        "is cJSON installed (Debian: libcjson-dev)?"
    );
    helper
}

fn samples() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/simulator/data");
    let mut lines = Vec::new();
    for file in std::fs::read_dir(folder).expect("the samples") {
        let path = file.expect("a sample").path();
        if path.extension().is_some_and(|end| end == "ndjson") {
            let text = std::fs::read(path).expect("a sample");
            lines.extend(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
    }
    lines
}

/// Holds what cJSON saw against what was sent.
fn judge(event: &str, answer: &str) {
    let seen: Option<Seen> = serde_json::from_str(answer).expect("the helper's JSON");
    let seen = seen.unwrap_or_else(|| panic!("cJSON refuses {event}"));
    assert!(seen.fields <= 256, "{} fields in {event}", seen.fields);
    assert_eq!(seen.lost, 0, "{event}");
    let mut sent = Vec::new();
    flatten(event, "", &mut sent);
    assert_eq!(sent.len(), seen.leaves.len(), "{event}");
    for ((path, value), (seen_path, seen_value)) in sent.iter().zip(&seen.leaves) {
        assert_eq!(path, seen_path);
        let same = match value.as_bytes()[0] {
            b'"' => serde_json::from_str::<String>(value).expect("a string") == *seen_value,
            b'[' => alike(value, seen_value),
            b't' | b'f' | b'n' => value == seen_value,
            _ => decimal(value) == decimal(seen_value),
        };
        assert!(same, "{path}: sent {value}, seen {seen_value}");
    }
}

/// The leaves outside arrays.
fn flatten<'a>(json: &'a str, prefix: &str, leaves: &mut Vec<(String, &'a str)>) {
    for (key, value) in members(json).expect("an object") {
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{key}");
        if value.get().starts_with('{') {
            flatten(value.get(), &path, leaves);
        } else {
            leaves.push((path, value.get()));
        }
    }
}

/// Whether two JSON texts say the same, numbers to the last digit.
fn alike(sent: &str, seen: &str) -> bool {
    match sent.as_bytes()[0] {
        b'{' => {
            let (sent, seen) = (members(sent), members(seen));
            let (sent, seen) = (sent.expect("an object"), seen.unwrap_or_default());
            let same = |((a, x), (b, y)): (&(String, &RawValue), &(String, &RawValue))| {
                a == b && alike(x.get(), y.get())
            };
            sent.len() == seen.len() && sent.iter().zip(&seen).all(same)
        }
        b'[' => {
            let items = |json| serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default();
            let (sent, seen) = (items(sent), items(seen));
            let same = |(x, y): (&&RawValue, &&RawValue)| alike(x.get(), y.get());
            sent.len() == seen.len() && sent.iter().zip(&seen).all(same)
        }
        b'"' => {
            let text = |json| serde_json::from_str::<String>(json).ok();
            text(sent) == text(seen)
        }
        b't' | b'f' | b'n' => sent == seen,
        _ => decimal(sent) == decimal(seen),
    }
}
