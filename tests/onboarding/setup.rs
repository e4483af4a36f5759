//! `setup --write`, and how a command is called.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use super::place::Place;

#[test]
fn setup_write_inserts_the_block_once_after_a_backup() {
    let place = Place::new();
    let before = include_str!("../fixtures/ossec/manager-two-roots.conf");
    let conf = place.write("ossec/etc/ossec.conf", before);
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o660)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&conf, Some(0), Some(4321)).unwrap();
    }
    let owner = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    let was = owner(&conf);
    let said = place.run(&["setup", "--write"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out
            .starts_with("DIR/ossec/etc/ossec.conf: the block was inserted at line "),
        "{}",
        said.out
    );
    let after = place.read("ossec/etc/ossec.conf");
    assert_eq!(after.matches("<tag>o365-wodle</tag>").count(), 1);
    assert_eq!(after.matches("<ossec_config>").count(), 2);
    let files = place.files();
    let backup = files.iter().find(|name| name.contains(".bak")).unwrap();
    assert_eq!(place.read(backup), before);
    assert_eq!((owner(&place.path(backup)), owner(&conf)), (was, was));

    let said = place.run(&["setup", "--write"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out.contains("the block is there already"),
        "{}",
        said.out
    );
    assert_eq!(
        (place.read("ossec/etc/ossec.conf"), place.files()),
        (after, files.clone())
    );

    // In the same second, too.
    fs::write(&conf, before).unwrap();
    assert_eq!(place.run(&["setup", "--write"]).code, 0);
    assert_eq!(place.files().len(), files.len() + 1);
}

#[test]
fn setup_write_prints_the_block_where_the_file_is_beyond_it() {
    let place = Place::new();
    let said = place.run(&["setup", "--write"]);
    assert_eq!(said.code, 78);
    assert!(
        said.err.contains("DIR/ossec/etc/ossec.conf: "),
        "{}",
        said.err
    );
    let broken = b"<ossec_config>\n  <a>\xe9 & b</a>\n</ossec_config>\n";
    place.write("ossec/etc/ossec.conf", broken);
    let files = place.files();
    let said = place.run(&["setup", "--write"]);
    assert_eq!(said.code, 3);
    assert_eq!(said.out, place.run(&["setup"]).out);
    assert!(
        said.err.contains("was not changed: it is no UTF-8 text"),
        "{}",
        said.err
    );
    assert_eq!(
        fs::read(place.path("ossec/etc/ossec.conf")).unwrap(),
        broken
    );
    assert_eq!(place.files(), files);
}

#[test]
fn setup_write_that_fails_leaves_no_backup() {
    let place = Place::new();
    let before = include_str!("../fixtures/ossec/manager-two-roots.conf");
    place.write("ossec/etc/ossec.conf", before);
    // where the new file is made
    fs::create_dir(place.path("ossec/etc/.ossec.conf.new")).unwrap();
    let files = place.files();
    let said = place.run(&["setup", "--write"]);
    assert_eq!(said.code, 75, "{}", said.err);
    assert_eq!(place.read("ossec/etc/ossec.conf"), before);
    assert_eq!(place.files(), files);
}

/// Runs the program in the folder of a place, with this value of the variable that names the configuration.
fn run(place: &Place, variable: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
        .args(arguments)
        .current_dir(place.path(""))
        .env("O365_WODLE_CONFIG", variable)
        .output()
        .unwrap()
}

#[test]
fn the_scheduler_is_told_the_whole_path_of_the_configuration() {
    let place = Place::new();
    let conf = include_str!("../fixtures/ossec/manager-two-roots.conf");
    place.write("ossec/etc/ossec.conf", conf);
    let output = run(&place, "config.toml", &["setup", "--write"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let path = place.path("config.toml");
    let expected = format!("add --config {} to it", path.display());
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn an_empty_variable_names_no_configuration() {
    let place = Place::new();
    let said = |variable| {
        let output = run(&place, variable, &["check"]);
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8(said).unwrap()
    };
    assert!(said("").contains("/etc/o365-wodle/config.toml"));
    assert!(said("config.toml").contains("config.toml: no problem found"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let place = Place::new();
    let config = place.read("config.toml") + "[state]\nledger = \"ledger.db\"\n";
    place.write("config.toml", config);
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["tenant", "list"],
        &["setup"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
            .arg("--config")
            .arg(place.path("config.toml"))
            .args(arguments)
            .stdout(writer)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}
