//! The fuzz targets in small: what the corpus and past finds hold, and a fixed number of mutations of it.
//! `cargo xtask fuzz` goes on where this ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../fuzz/targets.rs"]
mod targets;

/// Mutations of each target's inputs altogether.
const MUTATIONS: usize = 3_000;

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

/// The files of the corpus and of the regressions, in order.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut paths = Vec::new();
    for kind in ["corpus", "regressions"] {
        let Ok(folder) = fs::read_dir(fuzz.join(kind).join(target)) else {
            continue;
        };
        paths.extend(folder.map(|entry| entry.unwrap().path()));
    }
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One to four changes: a byte, a piece gone, doubled or replaced by one of another input.
fn mutate(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const TOKENS: [&str; 14] = [
        "\"", "\\", "{", "}", "[", "]", ",", ":", "\0", "\\ud800", "1e999", "null", "=", "\n",
    ];
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        let other = &inputs[random.below(inputs.len())];
        let from = random.below(other.len());
        let piece = match random.below(5) {
            0 => vec![u8::try_from(random.below(256)).unwrap()],
            1 => Vec::new(),
            2 => bytes[at..end].repeat(2),
            3 => TOKENS[random.below(TOKENS.len())].into(),
            _ => other[from..(from + random.below(64)).min(other.len())].to_vec(),
        };
        bytes.splice(at..end, piece);
    }
    bytes
}

fn try_all(name: &str, target: fn(&[u8])) {
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "no corpus");
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mutations = (0..MUTATIONS).map(|_| mutate(&inputs, &mut random));
    for input in inputs.iter().cloned().chain(mutations) {
        let result = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(
            result.is_ok(),
            "{name}: {:?}",
            String::from_utf8_lossy(&input)
        );
    }
}

#[test]
fn records() {
    try_all("records", targets::records);
}

#[test]
fn event() {
    try_all("event", targets::event);
}

#[test]
fn hand_over() {
    try_all("hand_over", targets::hand_over);
}

#[test]
fn settings() {
    try_all("settings", targets::settings);
}

#[test]
fn listing() {
    try_all("listing", targets::listing);
}

#[test]
fn fault() {
    try_all("fault", targets::fault);
}
