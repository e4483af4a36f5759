//! Checks of single values, each said with its file, its key and the cure.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use url::Host;

use super::load::Looks;
use super::ownership::{self, Kind};
use super::problem::{Flaw, Problem};
use super::settings::ContentType;

/// A day.
pub(super) const DAY: Duration = Duration::from_hours(24);

/// The table whose keys are being checked. A check returns a usable value even where it complains,
/// so that one look finds everything that is wrong.
pub(super) struct Scope<'a> {
    /// Where problems are gathered.
    pub(super) problems: &'a mut Vec<Problem>,
    /// The file, as the operator names it.
    pub(super) file: &'a Path,
    /// The folder to which relative paths are relative.
    pub(super) base: &'a Path,
    /// The table's own path: empty, `collect` or `tenant[1]`.
    pub(super) table: String,
}

impl Scope<'_> {
    /// Another table of the same file.
    pub(super) fn at(&mut self, table: impl Into<String>) -> Scope<'_> {
        Scope {
            problems: self.problems,
            file: self.file,
            base: self.base,
            table: table.into(),
        }
    }

    /// The path of a key of this table; an empty key is the table itself.
    fn path_of(&self, key: &str) -> String {
        match (self.table.as_str(), key) {
            (table, "") => table.to_owned(),
            ("", key) => key.to_owned(),
            (table, key) => format!("{table}.{key}"),
        }
    }

    /// Notes a problem, unless this key has one: the first is the cause of the others.
    pub(super) fn refuse(&mut self, key: &str, what: impl Into<String>, cure: impl Into<String>) {
        self.note(key, Flaw::new(what, cure));
    }

    /// Whether anything inside a list has a problem.
    pub(super) fn is_flawed_inside(&self, key: &str) -> bool {
        let inside = format!("{}[", self.path_of(key));
        let is_inside =
            |problem: &Problem| problem.file == self.file && problem.key.starts_with(&inside);
        self.problems.iter().any(is_inside)
    }

    /// As [`refuse`](Self::refuse).
    pub(super) fn note(&mut self, key: &str, flaw: Flaw) {
        let key = self.path_of(key);
        let known = |problem: &Problem| problem.file == self.file && problem.key == key;
        if !self.problems.iter().any(known) {
            self.problems.push(Problem {
                file: self.file.to_owned(),
                key,
                flaw,
            });
        }
    }

    /// Opens the file that a key names, as it is opened when it is used.
    pub(super) fn look_at(&mut self, key: &str, path: Option<&Path>, kind: Kind) {
        if let Some(Err(flaw)) = path.map(|path| ownership::open(path, kind)) {
            self.note(key, flaw);
        }
    }

    /// A duration such as `90s`, `5m`, `6h`, `2d`.
    pub(super) fn duration(
        &mut self,
        key: &str,
        value: Option<String>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(text) = value else { return default };
        let Some(duration) = parse_duration(&text) else {
            self.refuse(
                key,
                "is no duration",
                "write a whole number and one of s, m, h, d: \"90s\", \"5m\", \"6h\", \"2d\"",
            );
            return default;
        };
        if !range.contains(&duration) {
            let (least, most) = (show(*range.start()), show(*range.end()));
            self.refuse(key, "is out of range", format!("choose {least} to {most}"));
            return default;
        }
        duration
    }

    /// A whole number.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        value: Option<i64>,
        default: T,
        range: RangeInclusive<i64>,
    ) -> T {
        let Some(number) = value else { return default };
        match T::try_from(number) {
            Ok(fit) if range.contains(&number) => fit,
            _ => {
                let (least, most) = (range.start(), range.end());
                self.refuse(key, "is out of range", format!("choose {least} to {most}"));
                default
            }
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: Option<String>,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let Some(word) = value else { return default };
        if let Some((_, choice)) = words.iter().find(|(name, _)| *name == word) {
            return *choice;
        }
        let names: Vec<_> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
        self.refuse(
            key,
            "is not a word that is known here",
            format!("write {}", names.join(", ")),
        );
        default
    }

    /// A GUID, in lower case.
    pub(super) fn guid(&mut self, key: &str, value: Option<&str>) -> Option<String> {
        let guid = value.map(parse_guid)?;
        if guid.is_none() {
            self.refuse(key, "is no GUID", "copy it from the app registration's overview page in Azure: 00000000-0000-0000-0000-000000000000");
        }
        guid
    }

    /// A path; a relative one starts at the folder of `config.toml`.
    pub(super) fn path(&mut self, key: &str, value: Option<String>) -> Option<PathBuf> {
        let text = value?;
        if text.is_empty() || text.contains('\0') {
            self.refuse(key, "is no path", "write a path, or remove the line");
            return None;
        }
        Some(self.base.join(text))
    }

    /// The path of a file that is to be written: its folder has to be there.
    pub(super) fn written(
        &mut self,
        key: &str,
        value: Option<String>,
        looks: Looks,
    ) -> Option<PathBuf> {
        let path = self.path(key, value)?;
        if looks == Looks::Everywhere
            && let Some(folder) = path.parent()
            && !folder.is_dir()
        {
            let folder = folder.display();
            self.refuse(
                key,
                format!("there is no folder {folder}"),
                format!("create it (install -d -m 750 {folder}), or correct the path"),
            );
        }
        Some(path)
    }

    /// Content types, each once.
    pub(super) fn content_types(
        &mut self,
        value: Option<&[String]>,
        default: &[ContentType],
    ) -> Vec<ContentType> {
        let key = "content_types";
        let Some(names) = value else {
            return default.to_vec();
        };
        let mut types = Vec::new();
        for name in names {
            match ContentType::parse(name) {
                Some(known) if types.contains(&known) => {}
                Some(known) => types.push(known),
                None => {
                    let known: Vec<_> = ContentType::ALL.map(|known| format!("\"{known}\"")).into();
                    self.refuse(
                        key,
                        "names an unknown content type",
                        format!("write any of {}", known.join(", ")),
                    );
                }
            }
        }
        if names.is_empty() {
            self.refuse(key, "is empty", "name a content type, or remove the line");
        }
        types
    }

    /// Scheme, host and port of a server; plain http only for this machine.
    pub(super) fn server(&mut self, key: &str, value: Option<&str>) -> Option<String> {
        const SHAPE: &str = "write https:// and the host, with a port if it needs one";
        let text = value?;
        let url = match Url::parse(text) {
            Ok(url) if url.has_host() => url,
            _ => {
                self.refuse(key, "is no URL", SHAPE);
                return None;
            }
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            self.refuse(key, "has more than scheme, host and port", SHAPE);
        }
        if !url.username().is_empty() || url.password().is_some() {
            self.refuse(key, "has a user or password", SHAPE);
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => self.refuse(
                key,
                "is plain http to another machine, which would show the token to the network",
                "write https://; http:// is for a loopback address only",
            ),
            _ => self.refuse(key, "is neither https nor http", SHAPE),
        }
        Some(url.origin().ascii_serialization())
    }
}

/// Whether the URL leads to this machine, by its name or address alone.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The duration that `90s`, `5m`, `6h` or `2d` says.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // u32 of the largest unit still is far from where times overflow
    let count: u32 = digits.parse().ok()?;
    Some(Duration::from_secs(u64::from(count) * seconds))
}

fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    [(86_400, "d"), (3_600, "h"), (60, "m")]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit))
        .map_or(format!("{seconds}s"), |(unit, letter)| {
            format!("{}{letter}", seconds / unit)
        })
}

/// The GUID in lower case, if it is one (8-4-4-4-12 hexadecimal digits).
#[must_use]
pub fn parse_guid(text: &str) -> Option<String> {
    let text = text.trim();
    let groups = || text.split('-');
    let well_formed = groups().map(str::len).eq([8, 4, 4, 4, 12])
        && groups().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    well_formed.then(|| text.to_ascii_lowercase())
}
