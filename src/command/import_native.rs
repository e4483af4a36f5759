//! `import-native`: the tenants of Wazuh's built-in module go on here where it stopped.

mod blocks;
mod bookmarks;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use super::tenant::say_stored;
use super::tenant::store::{self, New, Place};
use super::{shown, unsaid};
use crate::cli::DEFAULT_CONFIG;
use crate::collect::window;
use crate::config::{ContentType, HandOver, Settings, Tenant, unusable};
use crate::ledger::{Ledger, Lock, Opened, Purpose};
use crate::stopping::Stopping;
use crate::wazuh::{Home, file, ossec_conf};
use crate::{Error, Result};
use blocks::{Auth, Block, Found, Native, Secret};
use bookmarks::Bookmark;

/// A tenant that is to be taken over.
struct Incoming {
    new: New,
    streams: Vec<(ContentType, Bookmark)>,
}

/// Stores the tenants of the `<office365>` blocks that are not known yet, and begins their streams at
/// the built-in module's bookmarks. Nothing of Wazuh's is changed.
///
/// # Errors
/// [`Error::Partial`] if something could not be taken over, but another tenant is here now;
/// [`Error::Configuration`] if none is; [`Error::TryLater`] while a run or the
/// built-in module goes on.
pub(crate) fn import(
    config: &Path,
    ossec_conf: Option<&Path>,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> Result<()> {
    let settings = Settings::load(config)?;
    let home = Home::find(&settings.wazuh)?;
    let path = ossec_conf.map_or_else(|| home.ossec_conf(), Path::to_owned);
    // What the operator names may be a pipe.
    let opened = match ossec_conf {
        Some(path) => File::open(path),
        None => file::open(&path),
    };
    let native = read(&path, opened)?;
    if native.blocks.is_empty() {
        let path = path.display();
        return writeln!(out, "{path}: no <office365> block; nothing to import").map_err(unsaid);
    }
    let mut wrong: Vec<String> = native
        .flaws
        .iter()
        .map(|(line, flaw)| format!("{}:{line}: {flaw}", path.display()))
        .collect();
    let mut incoming = Vec::new();
    // What the built-in module collects and nobody here would, stays with it.
    let takes_over = |tenant: &Tenant| tenant.enabled || !native.enabled;
    let is_known = |id: &String| {
        let mut tenants = settings.tenants.iter();
        tenants.any(|tenant| tenant.tenant_id == *id && takes_over(tenant))
    };
    let auths = native.blocks.iter().flat_map(|block| &block.auths);
    let ids = auths.filter_map(|auth| auth.tenant_id.clone());
    let mut here: BTreeSet<String> = ids.filter(is_known).collect();
    for found in native.tenants {
        let known = settings.tenants.iter();
        let mut known = known.filter(|tenant| tenant.tenant_id == found.tenant_id);
        if let Some(tenant) = known.next() {
            let (name, id) = (&tenant.name, &tenant.tenant_id);
            let is_off = if takes_over(tenant) {
                ""
            } else {
                ", with enabled = false, so its block in ossec.conf stays too"
            };
            writeln!(
                out,
                "{name}: has tenant ID {id} already; left as it is{is_off}"
            )
            .map_err(unsaid)?;
            continue;
        }
        let line = found.line;
        match take(&home, found, native.enabled, now) {
            Ok(one) => incoming.push(one),
            Err(why) => wrong.push(format!("{}:{line}: {why}", path.display())),
        }
    }
    if !incoming.is_empty() {
        if native.enabled && home.modules_process().is_some() {
            return Err(Error::TryLater(
                "Wazuh's built-in module is still collecting: what it takes from now on would come twice. \
                 Stop Wazuh (systemctl stop wazuh-manager, or wazuh-agent) and import again"
                    .to_owned(),
            ));
        }
        name(config, &settings, &mut incoming);
        let kept = store_all(config, &settings, &mut incoming)
            .map_err(|error| error.of_ledger(&settings.state.ledger))?;
        for one in &incoming {
            say(config, one, &kept, now, out).map_err(unsaid)?;
            wrong.extend(one.streams.iter().filter_map(damaged));
            here.insert(one.new.hand_over.tenant_id.clone());
        }
    }
    if here.is_empty() && wrong.is_empty() {
        let path = path.display();
        return writeln!(
            out,
            "{path}: no tenant (<api_auth>) is in its <office365>; nothing to import"
        )
        .map_err(unsaid);
    }
    if !here.is_empty() {
        say_next(config, &path, &native.blocks, &here, &incoming, out).map_err(unsaid)?;
    }
    conclude(&wrong, !here.is_empty())
}

/// What a bookmark that cannot be read means.
fn damaged((content_type, bookmark): &(ContentType, Bookmark)) -> Option<String> {
    let Bookmark::Damaged(file) = bookmark else {
        return None;
    };
    Some(format!(
        "{}: holds no time of the past, so {content_type} starts initial_lookback before \
         its first run; records of that time may come a second time",
        file.display()
    ))
}

/// The blocks of a file.
fn read(path: &Path, opened: io::Result<File>) -> Result<Native> {
    let shown = path.display();
    let wrong = |what: String| Error::Configuration(format!("{shown}{what}"));
    // Bytes that are no text must only not be in what is taken over.
    let text = opened.and_then(ossec_conf::text_of).map_err(|fault| {
        let cure = if fault.kind() == io::ErrorKind::FileTooLarge {
            ""
        } else {
            "; name the file with --ossec-conf, and run this as root"
        };
        wrong(format!(": {fault}{cure}"))
    })?;
    blocks::parse(&text).map_err(|line| {
        wrong(format!(
            ":{line}: it does not read as XML; correct it there"
        ))
    })
}

/// All that is to be known of a tenant, its name apart; or why it cannot be taken over.
fn take(
    home: &Home,
    found: Found,
    enabled: bool,
    now: DateTime<Utc>,
) -> std::result::Result<Incoming, String> {
    let client_secret = match found.secret {
        Secret::Value(secret) => secret,
        Secret::File(file) => secret_in(&home.path().join(file))?,
    };
    let streams = found
        .content_types
        .iter()
        .map(|&content_type| {
            bookmarks::read(home.path(), &found.tenant_id, content_type, now)
                .map(|bookmark| (content_type, bookmark))
                .map_err(|(file, fault)| format!("{}: {fault}; run this as root", file.display()))
        })
        .collect::<std::result::Result<_, _>>()?;
    Ok(Incoming {
        new: New {
            name: String::new(),
            cloud: found.cloud,
            hand_over: HandOver {
                tenant_id: found.tenant_id,
                client_id: found.client_id,
                client_secret,
            },
            content_types: found.content_types,
            enabled,
        },
        streams,
    })
}

/// The secret in a file. (The built-in module sends the line's end with it, ours is trimmed.)
fn secret_in(path: &Path) -> std::result::Result<SecretString, String> {
    let shown = shown(path);
    let bytes = file::read(path, file::LARGEST)
        .map_err(|fault| format!("{shown}: {fault}; check <client_secret_path>"))?;
    let secret = std::str::from_utf8(&bytes)
        .map_err(|_| format!("{shown}: it is no UTF-8 text; save the secret's value as UTF-8"))?
        .trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    match unusable(secret) {
        None => Ok(SecretString::from(secret)),
        Some(flaw) => Err(format!("{shown}: the secret {flaw}")),
    }
}

/// Names each tenant `tenant-` and the first part of its id, or all of it where that is taken.
fn name(config: &Path, settings: &Settings, incoming: &mut [Incoming]) {
    let known = settings.tenants.iter().map(|tenant| tenant.name.clone());
    let mut taken: BTreeSet<String> = known.collect();
    for one in incoming {
        let id = &one.new.hand_over.tenant_id;
        let short = format!("tenant-{}", id.split('-').next().unwrap_or_default());
        let place = Place::of(config, &short);
        let is_there = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
        let is_free =
            !taken.contains(&short) && !is_there(&place.tenant) && !is_there(&place.secret);
        one.new.name = if is_free {
            short
        } else {
            format!("tenant-{id}")
        };
        taken.insert(one.new.name.clone());
    }
}

/// Begins the streams, then stores the tenants; returns the streams that the ledger knew better.
///
/// In this order, and with no run in between: a tenant that is there has its streams, and streams
/// without a tenant are begun anew by the next import.
fn store_all(
    config: &Path,
    settings: &Settings,
    incoming: &mut [Incoming],
) -> Result<BTreeSet<(String, ContentType)>> {
    let _lock = Lock::take(&settings.state.ledger, Purpose::Run, &Stopping::default())?;
    let (mut ledger, opened) = Ledger::open(&settings.state.ledger, Utc::now())?;
    if opened == Opened::Recovered {
        // Whether it can be said or not, the next run says it to Wazuh.
        drop(writeln!(
            std::io::stderr(),
            "o365-wodle: {}: the ledger was damaged; it was set aside, and a new one begun",
            settings.state.ledger.display()
        ));
    }
    let mut kept = BTreeSet::new();
    for one in incoming.iter() {
        let id = &one.new.hand_over.tenant_id;
        for (content_type, bookmark) in &one.streams {
            if let Bookmark::At(time) = bookmark
                && !ledger.take_over_stream(id, *content_type, *time)?
            {
                kept.insert((id.clone(), *content_type));
            }
        }
    }
    ledger.close()?;
    let news: Vec<&New> = incoming.iter().map(|one| &one.new).collect();
    store::store(config, &news)?;
    Ok(kept)
}

fn say(
    config: &Path,
    one: &Incoming,
    kept: &BTreeSet<(String, ContentType)>,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let New {
        name, hand_over, ..
    } = &one.new;
    say_stored(config, name, out)?;
    let reach = now - window::REACH;
    for (content_type, bookmark) in &one.streams {
        write!(out, "{name}: {content_type} ")?;
        match bookmark {
            _ if kept.contains(&(hand_over.tenant_id.clone(), *content_type)) => {
                writeln!(
                    out,
                    "is in the ledger already and goes on where it stopped here"
                )?;
            }
            Bookmark::At(time) => {
                let shown = time.format("%F %T UTC");
                writeln!(out, "goes on at {shown}, where the built-in module stopped")?;
                if *time < reach {
                    let reach = reach.format("%F %T UTC");
                    writeln!(
                        out,
                        "{name}: {content_type} has a gap: Microsoft keeps 7 days, so what became \
                         available from {shown} to {reach} is lost to this program"
                    )?;
                }
            }
            Bookmark::None | Bookmark::Damaged(_) => writeln!(
                out,
                "has no bookmark: it starts initial_lookback before its first run"
            )?,
        }
    }
    if !one.new.enabled {
        let file = Place::of(config, name).tenant;
        writeln!(
            out,
            "{name}: the built-in module was disabled, so nothing is collected until `enabled = false` \
             is removed from {}",
            file.display()
        )?;
    }
    Ok(())
}

/// What is to be done by hand. A block without `<api_auth>` keeps Wazuh from starting, so one that
/// nothing is left in goes as a whole.
fn say_next(
    config: &Path,
    path: &Path,
    blocks: &[Block],
    here: &BTreeSet<String>,
    incoming: &[Incoming],
    out: &mut impl Write,
) -> std::io::Result<()> {
    let path = path.display();
    let program = if config == Path::new(DEFAULT_CONFIG) {
        "o365-wodle".to_owned()
    } else {
        format!("o365-wodle --config {}", config.display())
    };
    writeln!(
        out,
        "\nBefore anything is deleted, see that each tenant signs in here: {program} subscriptions list\n\
         {path} was not changed. Delete from it, so that nothing is collected twice:"
    )?;
    let is_here = |auth: &&Auth| auth.tenant_id.as_ref().is_some_and(|id| here.contains(id));
    let mut is_any_left = false;
    for Block { lines, auths } in blocks {
        if auths.iter().all(|auth| is_here(&auth)) {
            let (first, last) = (lines.start(), lines.end());
            writeln!(out, "  lines {first} to {last}: <office365> … </office365>")?;
            continue;
        }
        is_any_left = true;
        for auth in auths.iter().filter(is_here) {
            let (first, last) = (auth.lines.start(), auth.lines.end());
            let id = auth.tenant_id.as_deref().unwrap_or_default();
            writeln!(
                out,
                "  lines {first} to {last}: <api_auth> … </api_auth> of {id}"
            )?;
        }
    }
    if is_any_left {
        writeln!(
            out,
            "Every other <api_auth> stays, with the <office365> around it: its tenant is not here, for the reason said at \
             the end. Import again once that is corrected."
        )?;
    }
    let name = incoming.first().map_or("NAME", |one| one.new.name.as_str());
    writeln!(
        out,
        "Then:\n  \
         {program} setup --write\n  \
         systemctl restart wazuh-manager    (or wazuh-agent)\n  \
         {program} -v run\n  \
         {program} doctor\n\
         To rename a tenant, rename its file: tenants.d/{name}.toml to tenants.d/NEW-NAME.toml."
    )
}

fn conclude(wrong: &[String], is_any_here: bool) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong = wrong.join("\n");
    Err(if is_any_here {
        Error::Partial(wrong)
    } else {
        Error::Configuration(wrong)
    })
}
