//! Shapes sample records and generated ones and has the real cJSON library, which Wazuh's decoder uses,
//! say what arrives.
//!
//! A record is to be reshaped exactly where its own bytes would not arrive whole.
//!
//! Needs a C compiler and cJSON (Debian: `libcjson-dev`).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::ScopedJoinHandle;

use o365_wodle::collect::event::{Envelope, Shaper};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hostile::{Maker, decimal, faults, members, untouched};

/// What the helper says of one event.
#[derive(Deserialize)]
struct Seen {
    fields: usize,
    lost: usize,
    leaves: Vec<(String, String)>,
}

const ORIGIN: &str = ",\"o365_wodle\":{\"tenant\":\"contoso\",\"labels\":{\"customer\":\"C-42\"}}";

/// Checks every sample record, `count` hostile ones and a tenth as many ordinary ones, on all processors; panics at
/// the first event that does not arrive whole and at the first record that was reshaped in vain.
#[allow(clippy::print_stdout, reason = "the verdict is what was asked for")]
pub(crate) fn run(count: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let helper = compile(folder.path());
    let step = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = step as u64;
    let made = |hostile, worker| {
        (worker..)
            .step_by(step)
            .map(move |seed| Maker::new(seed, hostile).record())
    };
    let checks = std::thread::scope(|scope| {
        let checks: Vec<_> = (0..workers)
            .map(|worker| {
                let helper = &helper;
                scope.spawn(move || {
                    // the same share for each, the first ones one more
                    let share = |all: u64| (all + workers - 1 - worker) / workers;
                    let mut check = Check::start(helper);
                    check.records(made(true, worker), share(count));
                    check.records(made(false, worker), share(count / 10));
                    if worker == 0 {
                        check.records(samples().into_iter(), u64::MAX);
                    }
                    check.end()
                })
            })
            .collect();
        let ends = checks.into_iter().map(ScopedJoinHandle::join);
        ends.map(|end| end.expect("a sound check"))
            .collect::<Vec<_>>()
    });
    let all: u64 = checks.iter().map(|(all, _)| all).sum();
    let reshaped: u64 = checks.iter().map(|(_, reshaped)| reshaped).sum();
    println!(
        "{all} records ({count} hostile), {reshaped} of them reshaped: cJSON sees every event whole"
    );
}

/// One shaper and the helper that decodes what it makes.
struct Check {
    shaper: Shaper,
    child: Child,
    answers: Lines<BufReader<ChildStdout>>,
    all: u64,
    reshaped: u64,
}

impl Check {
    fn start(helper: &Path) -> Self {
        let mut child = Command::new(helper)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the helper starts");
        let answers = child.stdout.take().expect("its stdout");
        Self {
            shaper: Shaper::new(&Envelope {
                location: "office365",
                content_type: "Audit.General",
                tenant: "contoso",
                labels: &BTreeMap::from([("customer".into(), "C-42".into())]),
                annotate: true,
                flatten: true,
                redactor: None,
            }),
            child,
            answers: BufReader::new(answers).lines(),
            all: 0,
            reshaped: 0,
        }
    }

    /// Checks the first `count` of these that are records: bytes broken at random may be no JSON object.
    fn records(&mut self, records: impl Iterator<Item = Vec<u8>>, count: u64) {
        let last = self.all.saturating_add(count);
        for record in records {
            if self.all == last {
                break;
            }
            self.record(&record);
        }
    }

    fn record(&mut self, bytes: &[u8]) {
        let Some(record) = self.shaper.read(bytes) else {
            return;
        };
        let mut datagram = Vec::new();
        let reasons = self.shaper.write(&record, false, &mut datagram);
        let event = datagram.strip_prefix(b"1:office365:").expect("the header");
        assert_eq!(faults(event), Vec::<String>::new());
        let raw_faults = faults(&untouched(bytes, ORIGIN));
        assert_eq!(
            reasons.is_empty(),
            raw_faults.is_empty(),
            "{raw_faults:?}: {}",
            String::from_utf8_lossy(event)
        );
        let mut to = self.child.stdin.as_ref().expect("its stdin");
        to.write_all(event)
            .and_then(|()| to.write_all(b"\n"))
            .expect("the helper reads");
        let answer = self.answers.next().expect("an answer");
        let answer = answer.expect("the helper writes");
        judge(std::str::from_utf8(event).expect("UTF-8"), &answer);
        self.reshaped += u64::from(!reasons.is_empty());
        self.all += 1;
        if self.all.is_multiple_of(10_000) {
            eprintln!("{}", self.all);
        }
    }

    /// How many records were checked, and how many of them were reshaped.
    fn end(mut self) -> (u64, u64) {
        // waiting closes its stdin first
        assert!(self.child.wait().expect("the helper ends").success());
        (self.all, self.reshaped)
    }
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
