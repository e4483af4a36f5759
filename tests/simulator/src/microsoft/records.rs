//! Audit records of realistic shapes and sizes.

use std::fs;
use std::io;
use std::path::Path;

use super::random::Random;

/// Yields records without end: unique Ids, 0.4 to 260 KB, most of them 1 to 2 KB, the same ones
/// for the same seed.
#[derive(Debug, Clone)]
pub struct Records {
    random: Random,
    number: u32,
}

/// Operation, record type, workload.
const SHAPES: [(&str, u32, &str); 8] = [
    ("UserLoggedIn", 15, "AzureActiveDirectory"),
    ("Update user.", 8, "AzureActiveDirectory"),
    ("FileAccessed", 6, "SharePoint"),
    ("MailItemsAccessed", 50, "Exchange"),
    ("Set-Mailbox", 1, "Exchange"),
    ("MessageSent", 25, "MicrosoftTeams"),
    ("AlertEntityGenerated", 64, "SecurityComplianceCenter"),
    ("DlpRuleMatch", 11, "Exchange"),
];

/// What values are made of.
const WORDS: [&str; 16] = [
    "https://contoso.sharepoint.example/sites/finance/",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) ",
    "Success ",
    "f3a1c9d2-",
    "7be04d10-",
    "Exchange ",
    "Inbox ",
    "True ",
    "False ",
    "[] ",
    "user@contoso.example ",
    "Grüße ",
    "日本語 ",
    "2026-03-14T09:26:53 ",
    "Microsoft.Exchange.Admin ",
    "203.0.113.7 ",
];

impl Records {
    /// The series of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            number: 0,
        }
    }

    /// A record of just about so many bytes (400 at least).
    pub fn sized(&mut self, bytes: usize) -> Vec<u8> {
        let shape = usize::try_from(self.random.below(SHAPES.len() as u64)).unwrap_or(0);
        let (operation, record_type, workload) =
            SHAPES
                .get(shape)
                .copied()
                .unwrap_or(("FileAccessed", 6, "SharePoint"));
        self.number += 1;
        let (id, tenant) = (self.random.guid(), self.random.guid());
        let user = self.random.below(5_000);
        let second = self.random.below(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let mut text = format!(
            r#"{{"CreationTime":"2026-03-14T{hour:02}:{minute:02}:{second:02}","Id":"{id}","Operation":"{operation}","OrganizationId":"{tenant}","RecordType":{record_type},"ResultStatus":"Success","UserKey":"{:016X}","UserType":0,"Version":1,"Workload":"{workload}","ClientIP":"203.0.113.{}","UserId":"user{user}@contoso.example","ObjectId":"https://contoso.example/{}""#,
            self.random.next(),
            user % 250 + 1,
            self.number,
        );
        let properties = match record_type {
            1 => "Parameters",
            8 => "ModifiedProperties",
            _ => "ExtendedProperties",
        };
        if bytes > text.len() + 120 {
            text.push_str(",\"");
            text.push_str(properties);
            text.push_str("\":[");
            while text.len() + 90 < bytes {
                // One value in eight is long, as NewValue and Folders are.
                let room = bytes - text.len() - 80;
                let length = if self.random.below(8) == 0 {
                    room.min(4_000)
                } else {
                    room.min(40)
                };
                let name = self.random.below(40).to_string();
                let value = if record_type == 8 {
                    r#"","OldValue":"[]","NewValue":""#
                } else {
                    r#"","Value":""#
                };
                text += &[r#"{"Name":"Property"#, &name, value].concat();
                let end = text.len() + length;
                while text.len() < end {
                    let word = self.random.below(WORDS.len() as u64);
                    let word = usize::try_from(word).ok().and_then(|at| WORDS.get(at));
                    text += word.copied().unwrap_or(" ");
                }
                text.truncate(text.floor_char_boundary(end));
                text.push_str("\"},");
            }
            if text.ends_with(',') {
                text.pop();
            }
            text.push(']');
        }
        text.push('}');
        text.into_bytes()
    }

    /// The records of a folder's `*.ndjson` files as they stand there, files in order of name.
    /// Some of their Ids may repeat or be missing.
    ///
    /// # Errors
    /// The folder or a file cannot be read.
    pub fn lines(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
        let mut paths = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "ndjson"));
        paths.sort();
        let mut records = Vec::new();
        for path in paths {
            let text = fs::read(path)?;
            let lines = text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            records.extend(lines.map(<[u8]>::to_vec));
        }
        Ok(records)
    }
}

impl Iterator for Records {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let pick = self.random.below(1_000);
        let (least, span) = match pick {
            0..=299 => (400, 700),
            300..=899 => (1_000, 1_200),
            900..=979 => (2_200, 15_000),
            980..=996 => (17_000, 47_000),
            _ => (64_000, 196_000),
        };
        let bytes = least + self.random.below(span);
        Some(self.sized(usize::try_from(bytes).unwrap_or(400)))
    }
}
