//! `setup`: what Wazuh needs to start collections.

mod insertion;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use chrono::{DateTime, Utc};

use super::files::{self, Access, unwritten};
use super::unsaid;
use crate::cli::DEFAULT_CONFIG;
use crate::config::Settings;
use crate::wazuh::file;
use crate::{Error, Result};
use insertion::{Insertion, insert_block};

/// The block for `ossec.conf`.
///
/// Neither its tag nor its command holds the string `office365`, nor any tenant's id: tools that
/// look for the built-in module by that string must not find it here. The timeout is above our own
/// deadline, since Wazuh sends one SIGTERM then and waits for ever.
const BLOCK: &str = include_str!("../../integration/ossec.conf");

/// Prints the block.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(out: &mut impl Write) -> Result<()> {
    out.write_all(BLOCK.as_bytes()).map_err(unsaid)
}

/// Puts the block into Wazuh's `ossec.conf`, unless it is there.
///
/// # Errors
/// [`Error::Partial`] if the file is not one that can be changed safely: the block is printed.
/// [`Error::Configuration`] and [`Error::TryLater`] if it cannot be read or written.
pub(crate) fn write(config: &Path, now: DateTime<Utc>, out: &mut impl Write) -> Result<()> {
    let home = Settings::load(config)?.wazuh.home;
    // A link stays a link.
    let path = home.join("etc/ossec.conf");
    let path = fs::canonicalize(&path).map_err(|fault| unread(&path, &fault))?;
    let shown = path.display();
    let file = file::open(&path).map_err(|fault| unread(&path, &fault))?;
    // Of the file that is read, whatever takes its place meanwhile.
    let access = file.metadata().map(|metadata| Access::of(&metadata));
    let access = access.map_err(|fault| unread(&path, &fault))?;
    let before = file::read_opened(file, file::LARGEST_CONF);
    let before = before.map_err(|fault| unread(&path, &fault))?;
    let insertion = match std::str::from_utf8(&before) {
        Ok(text) => insert_block(text),
        Err(_) => Insertion::Refused("it is no UTF-8 text".to_owned()),
    };
    let (text, line) = match insertion {
        Insertion::Done { text, line } => (text, line),
        Insertion::Present { line, is_disabled } => {
            let disabled = if is_disabled { ", disabled" } else { "" };
            return writeln!(
                out,
                "{shown}: the block is there already, at line {line}{disabled}; nothing was changed"
            )
            .map_err(unsaid);
        }
        Insertion::Refused(why) => return by_hand(&path, &why, out),
    };
    let mut backup = path.clone().into_os_string();
    backup.push(now.format(".%Y%m%dT%H%M%S%.3fZ.bak").to_string());
    let backup = Path::new(&backup);
    files::create(backup, &before, access).map_err(|fault| unwritten(backup, &fault))?;
    if let Err(error) = replace(&path, &before, &text, access, out) {
        // Nothing of ours is in it, so nobody needs the backup.
        let now = file::read(&path, 2 * file::LARGEST_CONF);
        if now.is_ok_and(|now| *now != text.as_bytes()) {
            drop(files::remove(backup));
        }
        return Err(error);
    }
    let backup = backup.display();
    writeln!(
        out,
        "{shown}: the block was inserted at line {line}; the file as it was is {backup}.\n\
         Restart Wazuh to use it: systemctl restart wazuh-manager (or wazuh-agent)."
    )
    .map_err(unsaid)?;
    // The scheduler starts it in a folder of its own.
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    if config != Path::new(DEFAULT_CONFIG) {
        let config = config.display();
        writeln!(
            out,
            "The block's command reads {DEFAULT_CONFIG}; for {config} add --config {config} to it."
        )
        .map_err(unsaid)?;
    }
    Ok(())
}

fn replace(
    path: &Path,
    before: &[u8],
    text: &str,
    access: Access,
    out: &mut impl Write,
) -> Result<()> {
    let now = file::read(path, file::LARGEST_CONF).map_err(|fault| unread(path, &fault))?;
    if *now != before {
        return Err(Error::TryLater(format!(
            "{} was changed by somebody else just now; nothing was written, try again",
            path.display()
        )));
    }
    files::replace(path, text.as_bytes(), access).or_else(|fault| match fault.kind() {
        ErrorKind::ResourceBusy => {
            let why = "it is a mount of its own, as in a container: change what is mounted there";
            by_hand(path, why, out)
        }
        _ => Err(unwritten(path, &fault)),
    })
}

/// Prints the block for who has to insert it without us.
fn by_hand(path: &Path, why: &str, out: &mut impl Write) -> Result<()> {
    print(out)?;
    Err(Error::Partial(format!(
        "{} was not changed: {why}; put the block on standard output inside its <ossec_config> by hand",
        path.display()
    )))
}

fn unread(path: &Path, fault: &std::io::Error) -> Error {
    let path = path.display();
    Error::Configuration(if fault.kind() == ErrorKind::FileTooLarge {
        format!("{path}: {fault}")
    } else {
        format!("{path}: {fault}; set home of [wazuh] to Wazuh's folder, and run this as root")
    })
}
