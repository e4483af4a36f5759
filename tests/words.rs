//! What the program says of itself, what README.md says of it and what the example configuration shows agree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../packaging/config.toml");

/// Help of a command, given by its words.
fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
        .args(words)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Subcommands that a help lists.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command with its help.
fn commands() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in subcommands(&help(&[])) {
        let text = help(&[&name]);
        let below = subcommands(&text);
        for sub in &below {
            all.push((format!("{name} {sub}"), help(&[&name, sub])));
        }
        if below.is_empty() {
            all.push((name, text));
        }
    }
    all
}

#[test]
fn every_command_and_option_is_in_the_readme_and_has_an_example() {
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for (name, text) in commands {
        assert!(
            README.contains(&format!("`{name}")),
            "README.md does not name the command {name}"
        );
        assert!(
            text.contains("Example: o365-wodle"),
            "{name} --help has no example"
        );
        let options = text
            .split_whitespace()
            .filter(|word| word.starts_with("--"));
        let options: BTreeSet<&str> = options
            .map(|word| word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
            .filter(|word| {
                word.len() > 2
                    && !matches!(
                        *word,
                        "--help" | "--version" | "--config" | "--verbose" | "--quiet"
                    )
            })
            .collect();
        for option in options {
            assert!(
                README.contains(option),
                "README.md does not name {option} of {name}"
            );
        }
    }
    for option in ["--config PATH", "-v|-vv|-q"] {
        assert!(README.contains(option), "{option}");
    }
}

/// Keys of the example configuration, each with its table: `[wazuh] home`.
fn keys_of_example() -> BTreeSet<String> {
    let mut table = "";
    let mut keys = BTreeSet::new();
    for line in EXAMPLE.lines().map(|line| line.trim_start_matches('#')) {
        if line.starts_with('[') {
            table = line;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
            keys.insert(format!("{table} {key}"));
        }
    }
    keys
}

/// Keys that README.md's tables explain, in the same form.
fn keys_of_readme() -> BTreeSet<String> {
    let mut table = None;
    let mut keys = BTreeSet::new();
    for line in README.lines() {
        let mut cells = line.split(" | ");
        let first = cells.next().unwrap_or_default();
        let Some(first) = first.strip_prefix("| ") else {
            table = None;
            continue;
        };
        let mut quoted = first.split('`').skip(1).step_by(2);
        if cells.next() == Some("default") {
            table = quoted.next();
        } else if let Some(table) = table {
            keys.extend(quoted.map(|key| format!("{table} {key}")));
        }
    }
    keys
}

fn is_key(word: &str) -> bool {
    word.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn the_example_and_the_readme_have_the_same_keys() {
    let keys = keys_of_example();
    assert!(keys.len() > 40, "{keys:?}");
    assert_eq!(keys, keys_of_readme());
}

/// The keys that are promised: none of them goes away or changes its table within a major version. A new one is added here.
const PROMISED: [(&str, &str); 7] = [
    (
        "[wazuh]",
        "home queue location events_per_second acknowledge send_timeout annotate flatten",
    ),
    ("[state]", "ledger"),
    ("[log]", "file level format"),
    (
        "[collect]",
        "content_types initial_lookback overlap resweep deadline concurrency tenants_in_parallel requests_per_minute \
         deduplicate_for redact_dlp silent_after publisher_identifier",
    ),
    (
        "[http]",
        "proxy proxy_password_file no_proxy ca_file connect_timeout request_timeout retries",
    ),
    ("[metrics]", "textfile"),
    (
        "[[tenant]]",
        "name tenant_id client_id client_secret_file client_secret_command client_secret_credential certificate_file \
         private_key_file certificate_password_file assertion_algorithm federated_token_file client_secret_expires cloud \
         login_url management_url content_types publisher_identifier concurrency requests_per_minute initial_lookback \
         include exclude labels enabled",
    ),
];

#[test]
fn the_example_has_the_keys_that_are_promised() {
    let promised: BTreeSet<String> = PROMISED
        .iter()
        .flat_map(|(table, keys)| {
            keys.split_whitespace()
                .map(move |key| format!("{table} {key}"))
        })
        .collect();
    assert_eq!(keys_of_example(), promised);
}

#[test]
fn exit_codes_agree() {
    let help = help(&[]);
    let of_readme: BTreeSet<&str> = README
        .lines()
        .skip_while(|line| *line != "### Exit codes")
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|code| code.parse::<u8>().is_ok())
        .collect();
    let of_help: BTreeSet<&str> = help
        .lines()
        .skip_while(|line| *line != "Exit codes:")
        .filter_map(|line| line.split_whitespace().next())
        .filter(|code| code.parse::<u8>().is_ok())
        .collect();
    assert_eq!(of_readme, of_help);
    assert_eq!(of_help.len(), 7);
}
