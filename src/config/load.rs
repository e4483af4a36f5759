//! Reads `config.toml` and `tenants.d` and gathers everything that is wrong with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as KeyPath, Segment};
use toml::{Table, Value};

use super::checked;
use super::ownership::{self, Kind};
use super::problem::{Flaw, Problem};
use super::raw;
use super::scope::{Scope, parse_guid};
use super::settings::{Log, Settings};
use super::tenant;

/// No configuration is longer.
const MAX_BYTES: usize = 1 << 20;
/// Nobody reads more unknown keys of one table than this.
const MAX_PROBLEMS: usize = 50;

impl Settings {
    /// Reads the configuration: `path` and the files of `tenants.d` beside it.
    ///
    /// # Errors
    /// Everything that is wrong in all of these files. Secrets are not looked at.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        read(path, Looks::Nowhere)
    }

    /// What `[log]` says, or would if it said nothing, whatever is wrong with the configuration.
    #[must_use]
    pub fn log_alone(path: &Path) -> Log {
        let mut problems = Vec::new();
        let absolute = absolute(path);
        let mut scope = whole(path, &absolute, &mut problems);
        let table = parse(&mut scope).unwrap_or_default();
        let raw = take(&mut scope, table);
        checked::settings(&mut scope, raw, Looks::Nowhere).0.log
    }

    /// As [`load`](Self::load), and reads the files that `[http]` names.
    ///
    /// # Errors
    /// Everything that is wrong in all of these files. What tenants sign in with is not looked at.
    pub fn check_but_credentials(path: &Path) -> Result<Self, Vec<Problem>> {
        read(path, Looks::Aside)
    }

    /// As [`load`](Self::load), reads the secret files too, and looks for the folders of the files that are to be written; runs
    /// no command and calls nobody.
    ///
    /// # Errors
    /// Everything that is wrong in all of these files.
    pub fn check(path: &Path) -> Result<Self, Vec<Problem>> {
        read(path, Looks::Everywhere)
    }
}

/// How far what a configuration names is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Looks {
    Nowhere,
    /// At what is neither a tenant's nor written by a run, where another command looks.
    Aside,
    Everywhere,
}

fn read(path: &Path, looks: Looks) -> Result<Settings, Vec<Problem>> {
    let mut problems = Vec::new();
    let absolute = absolute(path);
    let mut scope = whole(path, &absolute, &mut problems);
    let table = parse(&mut scope).unwrap_or_default();
    let mut raw: raw::Settings = take(&mut scope, table);
    let here = std::mem::take(&mut raw.tenant);
    let (mut settings, inherited) = checked::settings(&mut scope, raw, looks);
    let credentials = looks == Looks::Everywhere;
    let mut origins = Vec::new();
    for (index, raw) in here.into_iter().enumerate() {
        let table = format!("tenant[{index}]");
        origins.push(Origin::of(&raw, path, &table));
        let tenant = tenant::tenant(&mut scope.at(&*table), raw, &inherited, credentials);
        settings.tenants.extend(tenant.map(Arc::new));
    }
    for file in tenant_files(&mut scope) {
        let mut scope = Scope {
            file: &file,
            ..scope.at("")
        };
        let Some(table) = parse(&mut scope) else {
            continue;
        };
        let mut raw: raw::Tenant = take(&mut scope, table);
        name_by_file(&mut scope, &mut raw);
        origins.push(Origin::of(&raw, &file, ""));
        let tenant = tenant::tenant(&mut scope, raw, &inherited, credentials);
        settings.tenants.extend(tenant.map(Arc::new));
    }
    refuse_repeated(&mut scope, &origins);
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The whole of a file, of which paths are relative to its folder.
fn whole<'a>(file: &'a Path, absolute: &'a Path, problems: &'a mut Vec<Problem>) -> Scope<'a> {
    Scope {
        problems,
        file,
        base: absolute.parent().unwrap_or(Path::new("/")),
        table: String::new(),
    }
}

/// The file's content as TOML. The parser's own message would show the line, and with it what may
/// be a secret.
fn parse(scope: &mut Scope<'_>) -> Option<Table> {
    let bytes = match ownership::read(scope.file, Kind::Configuration, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(flaw) => {
            scope.note("", flaw);
            return None;
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        scope.refuse("", "is no UTF-8 text", "save it as UTF-8");
        return None;
    };
    let text = text.trim_start_matches('\u{feff}');
    match text.parse() {
        Ok(table) => Some(table),
        Err(fault) => {
            let before = fault.span().and_then(|span| text.get(..span.start));
            let line = before.unwrap_or_default().matches('\n').count() + 1;
            let what = format!("line {line} is not TOML ({})", fault.message());
            let cure = if fault.message().contains("duplicate key") {
                "a key, or the header of a table, is there a second time: leave one, with all that belongs to it"
            } else {
                "write key = \"value\", each on a line of its own"
            };
            scope.refuse("", what, cure);
            None
        }
    }
}

/// The raw form of a table. What does not fit is noted, taken out, and the rest looked at again.
fn take<T: DeserializeOwned + Default>(scope: &mut Scope<'_>, mut table: Table) -> T {
    for _ in 0..MAX_PROBLEMS {
        let fault = match serde_path_to_error::deserialize(table.clone()) {
            Ok(raw) => return raw,
            Err(fault) => fault,
        };
        let path = fault.path();
        let flaw = explain(path, fault.inner().message());
        scope.note(&path.to_string(), flaw);
        if remove(&mut table, path).is_none() {
            break;
        }
    }
    T::default()
}

/// Says what does not fit, without the value: of serde's message only what comes from our types.
fn explain(path: &KeyPath, message: &str) -> Flaw {
    let expected = message
        .rsplit_once("expected ")
        .map_or("something else", |(_, expected)| expected);
    if !message.starts_with("unknown field") {
        let table = (
            "a table",
            "write [its name] on a line of its own, or { key = \"value\" }",
        );
        let (expected, cure) = match expected {
            "i64" => ("a whole number", "write it without quotes and point"),
            "a boolean" => (expected, "write true or false, without quotes"),
            "a string" => (
                expected,
                "write it in quotes; a duration has a unit, such as \"4m\"",
            ),
            "a sequence" if path.to_string() == "tenant" => ("a list", "write [[tenant]]"),
            "a sequence" => (
                "a list",
                "write it in square brackets, such as [15] or [\"DLP.All\"]",
            ),
            "a TOML datetime" => ("a date", "write 2027-05-01, without quotes"),
            "a map" => table,
            expected if expected.starts_with("struct ") => table,
            expected => (expected, "correct the value"),
        };
        return Flaw::new(format!("has the wrong type, expected {expected}"), cure);
    }
    let key = match path.iter().next_back() {
        Some(Segment::Map { key }) => key.as_str(),
        _ => "",
    };
    if key == "client_secret" {
        let cure = "move the secret into a file of mode 0600 and name that with client_secret_file";
        return Flaw::new(
            "is no key: a secret never stands in the configuration",
            cure,
        );
    }
    let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
    let distance = |name: &&str| strsim::damerau_levenshtein(name, key);
    let near = known.iter().copied();
    let near = near.filter(|name| 2 * distance(name) <= name.len());
    let near = near.min_by_key(distance);
    let cure = near.map_or_else(
        || format!("remove it; known here: {}", known.join(", ")),
        |near| format!("did you mean {near}?"),
    );
    Flaw::new("unknown key", cure)
}

/// Takes out the innermost key on the path.
fn remove(table: &mut Table, path: &KeyPath) -> Option<Value> {
    let segments: Vec<_> = path.iter().collect();
    let last = segments
        .iter()
        .rposition(|segment| matches!(segment, Segment::Map { .. }))?;
    let (way, key) = (segments.get(..last)?, segments.get(last)?);
    let mut place = table;
    let mut way = way.iter();
    while let Some(segment) = way.next() {
        let Segment::Map { key } = segment else {
            return None;
        };
        let mut value = place.get_mut(key)?;
        while let Some(Segment::Seq { index }) = way.as_slice().first() {
            way.next();
            value = value.get_mut(*index)?;
        }
        place = value.as_table_mut()?;
    }
    match key {
        Segment::Map { key } => place.remove(key),
        _ => None,
    }
}

/// `tenants.d/*.toml` beside the configuration, by name.
fn tenant_files(scope: &mut Scope<'_>) -> Vec<PathBuf> {
    let folder = scope.file.with_file_name("tenants.d");
    match ownership::list(&folder) {
        Ok(names) => names
            .unwrap_or_default()
            .iter()
            .filter(|name| {
                name.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .filter(|name| !name.as_os_str().as_encoded_bytes().starts_with(b"."))
            .map(|name| folder.join(name))
            .collect(),
        Err(flaw) => {
            scope.problems.push(Problem {
                file: folder,
                key: String::new(),
                flaw,
            });
            Vec::new()
        }
    }
}

/// A tenant of `tenants.d` has its file's name, so that it is found and removed by that.
fn name_by_file(scope: &mut Scope<'_>, raw: &mut raw::Tenant) {
    let stem = scope
        .file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if raw.name.as_ref().is_some_and(|name| *name != stem) {
        scope.refuse(
            "name",
            "differs from the file's name",
            "remove the line, or rename the file",
        );
    }
    raw.name = Some(stem);
}

/// Where a tenant stands, and what no other may have: keys with their values.
struct Origin {
    file: PathBuf,
    table: String,
    own: [(&'static str, Option<String>); 2],
}

impl Origin {
    /// Of a tenant, whatever else may be wrong with it.
    fn of(raw: &raw::Tenant, file: &Path, table: &str) -> Self {
        let tenant_id = raw.tenant_id.as_deref().and_then(parse_guid);
        Self {
            file: file.to_owned(),
            table: table.to_owned(),
            own: [("name", raw.name.clone()), ("tenant_id", tenant_id)],
        }
    }
}

fn refuse_repeated(scope: &mut Scope<'_>, origins: &[Origin]) {
    for (later, origin) in origins.iter().enumerate() {
        for own in origin.own.iter().filter(|(_, value)| value.is_some()) {
            let mut earlier = origins.iter().take(later);
            let Some(first) = earlier.find(|other| other.own.contains(own)) else {
                continue;
            };
            let place = format!("{} {}", first.file.display(), first.table);
            let mut scope = Scope {
                file: &origin.file,
                ..scope.at(&*origin.table)
            };
            scope.refuse(
                own.0,
                format!("is the same as in {}", place.trim_end()),
                "remove one of the two",
            );
        }
    }
}
