//! What may stand at the ledger's path, and what becomes of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use tempfile::TempDir;

use super::tests::{World, now};
use super::*;

/// A closed ledger of some pages.
fn closed() -> (TempDir, PathBuf, Vec<u8>) {
    let mut world = World::new();
    let names: Vec<String> = (0..200).map(|n| format!("content {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.listed(&names);
    let path = world.path();
    world.ledger.close().unwrap();
    let bytes = fs::read(&path).unwrap();
    (world.folder, path, bytes)
}

#[test]
fn what_is_corrupt_is_set_aside_and_the_new_ledger_knows_it() {
    let (_folder, path, whole) = closed();
    let half = whole.len() / 2;
    let damages: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        (
            "no database",
            b"not a database at all, but long enough to look".repeat(99),
        ),
        (
            "zeroed start",
            [vec![0; 4096], whole[4096..].to_vec()].concat(),
        ),
        ("cut in half", whole[..half].to_vec()),
        ("cut within its header", whole[..60].to_vec()),
    ];
    for (name, bytes) in damages {
        fs::write(&path, &bytes).unwrap();
        let (ledger, opened) = Ledger::open(&path, now()).unwrap();
        assert_eq!(opened, Opened::Recovered, "{name}");
        assert_eq!(ledger.recovered().unwrap(), Some(now()), "{name}");
        drop(ledger);
        let aside: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.to_string_lossy().contains(".corrupt-")
                    && !path.to_string_lossy().contains("-wal")
            })
            .collect();
        assert_eq!(aside.len(), 1, "{name}: {aside:?}");
        assert_eq!(
            fs::read(&aside[0]).unwrap(),
            bytes,
            "{name}: kept as it was"
        );
        for path in aside {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn what_is_not_ours_stays_untouched() {
    let (folder, path, whole) = closed();
    let refused = |expected: &str| {
        let fault = Ledger::open(&path, now()).err().unwrap();
        let said = fault.to_string();
        assert!(said.contains(expected), "{said}");
        assert!(matches!(
            crate::Error::from(fault),
            crate::Error::Configuration(_)
        ));
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    refused("others may read or write the ledger (mode 0644)");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    refused("newer version");
    fs::write(&path, &whole).unwrap();

    let other = rusqlite::Connection::open(&path).unwrap();
    other.pragma_update(None, "application_id", 1).unwrap();
    drop(other);
    refused("another program");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("no regular file");
    fs::remove_dir(&path).unwrap();
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    refused("no regular file");
    fs::remove_file(&path).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    refused("others may write in the ledger's folder (mode 0777). Make it yours alone: chmod 750");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(folder.path(), Some(64_301), None).unwrap();
        refused("the ledger's folder belongs to user id 64301. Either run this as that user");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_not_replaced_and_the_cure_is_its_own() {
    let (_folder, ledger, _) = closed();
    let key = installation_key(&ledger, false).unwrap();
    let path = ledger.with_extension("db.key");
    let refused = |expected: &str| {
        let said = installation_key(&ledger, false).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&format!("chmod 0600 {}.", path.display()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(installation_key(&ledger, false).unwrap() == key);
    for wrong in [
        "",
        "no key at all, and longer than one could be: it is a text of somebody",
    ] {
        fs::write(&path, wrong).unwrap();
        refused("it holds no key. Restore it");
    }
}

#[test]
fn a_version_before_the_first_is_damage() {
    let (_folder, path, _) = closed();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", -7).unwrap();
    drop(connection);
    assert!(matches!(Ledger::read(&path), Err(Fault::Corrupt(_))));
    assert_eq!(Ledger::open(&path, now()).unwrap().1, Opened::Recovered);
}

/// A closed ledger of an earlier version.
fn older() -> (TempDir, PathBuf, Vec<u8>) {
    let (folder, path, _) = closed();
    fs::remove_file(&path).unwrap();
    let old = include_str!("../../tests/fixtures/ledgers/0.1.0.sql");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "journal_mode", "wal")
        .unwrap();
    connection.execute_batch(old).unwrap();
    drop(connection);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes)
}

#[test]
fn who_only_looks_leaves_an_older_ledger_as_it_is() {
    let (_folder, path, bytes) = older();
    let delivered = |ledger: &Ledger| ledger.report(now()).unwrap()[0].delivered;
    let mut dry = Ledger::open_dry(&path).unwrap();
    assert_eq!(delivered(&dry), 4711);
    // More than the cache holds goes to the disk before its end.
    dry.set_value("much", &"x".repeat(9 << 20)).unwrap();
    dry.commit().unwrap();
    dry.close().unwrap();
    assert!(fs::read(&path).unwrap() == bytes, "a dry run");

    let read = Ledger::read(&path).unwrap().unwrap();
    assert_eq!(delivered(&read), 4711);
    read.check().unwrap();
    read.close().unwrap();
    assert!(fs::read(&path).unwrap() == bytes, "a reader");

    let (ledger, opened) = Ledger::open(&path, now()).unwrap();
    assert_eq!((delivered(&ledger), opened), (4711, Opened::Existing));
}

#[test]
fn a_reader_waits_for_no_run_of_an_earlier_version() {
    let (_folder, path, _) = older();
    let lock = Lock::try_take(&path, Purpose::Run).unwrap();
    assert!(matches!(Ledger::read(&path), Err(Fault::Locked(_))));
    drop(lock);
    assert!(Ledger::read(&path).unwrap().is_some());
    // A run makes it this version's.
    let _lock = Lock::try_take(&path, Purpose::Run).unwrap();
    let _run = Ledger::open(&path, now()).unwrap();
    assert!(Ledger::read(&path).unwrap().is_some());
}

#[test]
fn what_cannot_be_the_lock_is_named() {
    let (_folder, path, _) = closed();
    let lock = path.with_extension("db.lock");
    for is_link in [true, false] {
        fs::remove_file(&lock).unwrap_or_default();
        let made = if is_link {
            symlink("elsewhere", &lock)
        } else {
            fs::create_dir(&lock)
        };
        made.unwrap();
        let fault = Lock::try_take(&path, Purpose::Run).unwrap_err();
        let said = fault.to_string();
        assert!(matches!(fault, Fault::NotOurs { .. }), "{said}");
        assert!(
            said.contains("ledger.db.lock") && said.contains("Remove it"),
            "{said}"
        );
    }
}
