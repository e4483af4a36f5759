//! What each fuzz target does with its input; `cargo test` does the same with the corpus and some mutations of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use o365_wodle::array::{Element, Sink, Splitter};
use o365_wodle::collect::event::{Damaged, Envelope, Health, Record, Shaper, damaged};
use o365_wodle::config::{Settings, parse_hand_over, parse_new_secret};
use o365_wodle::microsoft::fuzzing;
use serde_json::value::RawValue;

#[path = "../tests/hostile/mod.rs"]
#[allow(dead_code, reason = "only the judge is needed")]
mod hostile;

/// A body in chunks of one size, which its first byte says, is the same as in one, and whether its records are read where
/// they stand or once their ends were found; and what `serde_json` takes for an array comes out as its elements.
pub(crate) fn records(data: &[u8]) {
    let Some((&size, body)) = data.split_first() else {
        return;
    };
    let whole = split(body, body.len().max(1), false);
    for (size, in_place) in [
        (usize::from(size).max(1), false),
        (usize::from(size).max(1), true),
        (body.len().max(1), true),
    ] {
        assert_eq!(split(body, size, in_place), whole, "{size} {in_place}");
    }
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text)
    {
        let expected: Vec<_> = elements
            .iter()
            .map(|raw| raw.get().as_bytes().to_vec())
            .collect();
        let (found, is_whole) = whole;
        let found: Vec<_> = found.into_iter().map(|(element, _)| element).collect();
        assert_eq!((found, is_whole), (expected, true), "{text}");
    }
}

/// Elements, with what is known of those that are records.
type Found = Vec<(Vec<u8>, Option<Known>)>;

/// A record's event, and what it is known by.
#[derive(Debug, PartialEq)]
struct Known([Option<Vec<u8>>; 3]);

/// What is found, and whether the array is whole.
fn split(body: &[u8], size: usize, in_place: bool) -> (Found, bool) {
    let mut splitter = Splitter::new(1 << 20);
    let mut reader = Reader {
        shaper: shaper(false),
        in_place,
        found: Vec::new(),
    };
    for chunk in body.chunks(size) {
        if splitter.push(chunk, &mut reader).is_err() {
            return (reader.found, false);
        }
    }
    let is_whole = splitter.finish().is_ok();
    (reader.found, is_whole)
}

/// Reads elements, those that it can where they stand if told to.
struct Reader {
    shaper: Shaper,
    in_place: bool,
    found: Found,
}

impl Sink for Reader {
    fn chunk(&mut self, chunk: &[u8]) {
        self.shaper.set_chunk(chunk);
    }

    fn object(&mut self, chunk: &[u8], at: usize) -> Option<usize> {
        if !self.in_place {
            return None;
        }
        let (record, end) = self.shaper.read_at(chunk, at)?;
        let known = self.known(&record);
        self.found.push((chunk[at..end].to_vec(), Some(known)));
        Some(end)
    }

    fn element(&mut self, element: Element<'_>) {
        let (Element::Value(bytes) | Element::TooLong { head: bytes, .. }) = element;
        let record = self.shaper.read(bytes);
        let known = record.map(|record| self.known(&record));
        self.found.push((bytes.to_vec(), known));
    }
}

impl Reader {
    fn known(&self, record: &Record<'_>) -> Known {
        let mut event = Vec::new();
        self.shaper.write(record, false, &mut event);
        let [id, number] = [record.id(), record.record_number()];
        Known([
            Some(event),
            id.map(Cow::into_owned),
            number.map(Cow::into_owned),
        ])
    }
}

/// Makes the events of a stream of a tenant without labels.
fn shaper(flatten: bool) -> Shaper {
    Shaper::new(&Envelope {
        location: "office365",
        content_type: "Audit.General",
        tenant: "contoso",
        labels: &BTreeMap::new(),
        annotate: true,
        flatten,
        redactor: None,
    })
}

/// Whatever an element is, its event is one that Wazuh and its indexer take.
pub(crate) fn event(data: &[u8]) {
    let labels = BTreeMap::new();
    for flatten in [false, true] {
        let mut shaper = shaper(flatten);
        let mut out = Vec::new();
        match shaper.read(data) {
            Some(record) => {
                shaper.write(&record, false, &mut out);
            }
            None => told(data, &labels, &mut out),
        }
        let event = out
            .strip_prefix(b"1:office365:")
            .expect("the queue's header");
        assert_eq!(hostile::faults(event), Vec::<String>::new());
    }
}

/// The event about an element that is no record.
fn told(data: &[u8], labels: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    let about = Health {
        tenant_id: "g",
        subscription: Some("Audit.General"),
        response: "an element is no record",
        health: "content_damaged",
        since: None,
        count: None,
        hint: None,
        tenant: "contoso",
        labels,
    };
    let element = Damaged {
        raw: data,
        bytes: data.len() as u64,
        sha256: [0; 32],
        withhold: false,
    };
    damaged("office365", &about, &element, out);
}

/// A customer's text is taken or refused, and no flaw shows a long piece of it, which may be the secret.
pub(crate) fn hand_over(data: &[u8]) {
    let flaws = [parse_hand_over(data).err(), parse_new_secret(data).err()];
    for flaw in flaws.into_iter().flatten().flatten() {
        assert!(!flaw.what.is_empty() && !flaw.cure.is_empty());
        let said = format!("{} {}", flaw.what, flaw.cure);
        let is_shown = |piece: &[u8]| {
            piece.iter().all(u8::is_ascii_alphanumeric)
                && str::from_utf8(piece).is_ok_and(|piece| said.contains(piece))
        };
        assert!(!data.windows(20).any(is_shown), "{said}");
    }
}

/// A configuration is taken or refused; every refusal names its cure.
pub(crate) fn settings(data: &[u8]) {
    static FOLDER: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        (folder, path)
    });
    let path = &FOLDER.1;
    fs::write(path, data).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
    if let Err(problems) = Settings::load(path) {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(!problem.to_string().is_empty());
        }
    }
}

/// An entry of a listing is a content, with times that can be computed with, or none.
pub(crate) fn listing(data: &[u8]) {
    if let Some(content) = fuzzing::content(data) {
        assert!(!content.id.is_empty() && !content.uri.is_empty());
        // what the ledger adds to and takes from a time stays far below this
        let century = std::time::Duration::from_hours(100 * 366 * 24);
        for time in [content.created, content.expires] {
            let _ = (time + century, time - century);
        }
    }
}

/// A refusal's body means something, and the message is one line of bearable length.
pub(crate) fn fault(data: &[u8]) {
    let Some((&[operation, status], body)) = data.split_first_chunk() else {
        return;
    };
    let statuses = [200, 302, 400, 401, 403, 404, 408, 429, 500, 503];
    let status = statuses[usize::from(status) % statuses.len()];
    let said = fuzzing::fault(operation, status, body).to_string();
    assert!(
        !said.is_empty() && said.len() < 8_192,
        "{} bytes",
        said.len()
    );
}
