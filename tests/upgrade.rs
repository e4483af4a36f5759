//! Ledgers of every version that was released open with this one; ledgers of a later one are left alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use rusqlite::Connection;
use tempfile::TempDir;

/// A configuration with the tenant of the fixtures, and a ledger made by a fixture.
fn installed(fixture: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = format!(
        "[wazuh]\nhome = \"{}\"\n[state]\nledger = \"{}\"\n[log]\nfile = \"\"\n\
         [[tenant]]\nname = \"contoso\"\ntenant_id = \"03b95707-24f4-4974-9081-3bf2179289f4\"\n\
         client_id = \"2cccc67e-8cb6-46cf-b4f3-bc62454c9cbe\"\nclient_secret_file = \"{}\"\n",
        path("ossec").display(),
        path("ledger.db").display(),
        path("secret").display(),
    );
    fs::write(path("config.toml"), config).unwrap();
    fs::write(path("secret"), "secret").unwrap();
    Connection::open(path("ledger.db"))
        .unwrap()
        .execute_batch(&fs::read_to_string(fixture).unwrap())
        .unwrap();
    for file in ["config.toml", "secret", "ledger.db"] {
        fs::set_permissions(path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

fn program(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
        .arg("--config")
        .arg(folder.path().join("config.toml"))
        .args(arguments)
        .output()
        .unwrap()
}

fn fixtures() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ledgers");
    let all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!all.is_empty());
    all
}

#[test]
fn each_released_ledger_opens_with_what_it_knows() {
    for fixture in fixtures() {
        let folder = installed(&fixture);
        let output = program(&folder, &["status", "--all", "--json"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains("\"delivered\": 4711"),
            "{}: {said}",
            fixture.display()
        );
        assert!(
            said.contains("AF20024: fixture"),
            "{}: {said}",
            fixture.display()
        );
    }
}

#[test]
fn a_ledger_of_a_later_version_is_refused_and_left_alone() {
    for fixture in fixtures() {
        let folder = installed(&fixture);
        let ledger = folder.path().join("ledger.db");
        let open = || Connection::open(&ledger).unwrap();
        open().pragma_update(None, "user_version", 9999).unwrap();
        for command in [&["run"][..], &["status"]] {
            let output = program(&folder, command);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{command:?}: {said}");
            assert!(said.contains("newer version"), "{command:?}: {said}");
        }
        let version: i32 = open()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, 9999);
    }
}
