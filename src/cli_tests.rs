//! Help, man pages and every command that a page of ours shows agree with the command line as it is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use clap::CommandFactory;

use super::*;

/// Pages that show commands.
const PAGES: [(&str, &str); 6] = [
    ("README.md", include_str!("../README.md")),
    ("CHANGELOG.md", include_str!("../CHANGELOG.md")),
    (
        "integration/README.md",
        include_str!("../integration/README.md"),
    ),
    (
        "docs/troubleshooting.md",
        include_str!("../docs/troubleshooting.md"),
    ),
    (
        "packaging/config.toml",
        include_str!("../packaging/config.toml"),
    ),
    (
        "packaging/systemd/o365-wodle.service",
        include_str!("../packaging/systemd/o365-wodle.service"),
    ),
];

/// Every command with the words by which it is called, those with commands of their own too.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn walk(
        words: &[String],
        command: &clap::Command,
        all: &mut Vec<(Vec<String>, clap::Command)>,
    ) {
        all.push((words.to_vec(), command.clone()));
        for below in command.get_subcommands() {
            walk(
                &[words, &[below.get_name().to_owned()]].concat(),
                below,
                all,
            );
        }
    }
    let mut all = Vec::new();
    walk(&["o365-wodle".to_owned()], &Cli::command(), &mut all);
    all
}

/// The words of a command as a page shows it, with values in place of what it leaves open; without its comment, and without
/// what the shell does with it.
fn words(shown: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in shown.split_whitespace() {
        let word = word.trim_matches(['[', ']', '(', ')']);
        if word.starts_with(['#', '>', '|', '&', '<']) {
            break;
        }
        let filled = match word {
            "T" | "TIME" => "36h",
            "C" | "CLOUD" => "gcc",
            "TYPE" => "DLP.All",
            "SHELL" => "bash",
            "…" if words.last().is_some_and(|last| last == "--content-type") => "DLP.All",
            "NAME" | "…" => "contoso",
            "-v|-vv|-q" => "-v",
            "COMMAND" => "check",
            word => word,
        };
        words.push(filled.to_owned());
    }
    words
}

fn parses(shown: &str) -> Result<Cli, String> {
    let words = words(shown);
    Cli::try_parse_from(&words).or_else(|error| match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
            Cli::try_parse_from(["o365-wodle"]).map_err(|error| error.to_string())
        }
        _ => Err(format!("{words:?}: {error}")),
    })
}

/// The commands that a page shows: in code spans, and on lines of code.
fn shown(page: &str) -> Vec<String> {
    let is_ours = |text: &&str| *text == "o365-wodle" || text.starts_with("o365-wodle ");
    let spans = page
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let lines = page.lines().map(|line| {
        line.trim_start_matches("ExecStart=")
            .trim_start_matches(['#', '$', ' '])
            .trim_start_matches("/usr/bin/")
    });
    // A line of prose may begin with the program's name; one of code goes on with a command of its.
    let is_command = |line: &&str| {
        let second = line.split_whitespace().nth(1).unwrap_or_default();
        Cli::command().find_subcommand(second).is_some()
    };
    let spans = spans.filter(is_ours);
    let lines = lines.filter(is_ours).filter(is_command);
    spans.chain(lines).map(str::to_owned).collect()
}

#[test]
fn every_command_that_a_page_shows_is_understood() {
    let mut count = 0;
    for (name, page) in PAGES {
        for command in shown(page) {
            parses(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_command_of_the_readmes_table_is_understood() {
    let (_, readme) = PAGES[0];
    let table = readme.lines().skip_while(|line| *line != "## Commands");
    let table = table.skip_while(|line| !line.starts_with("| ---"));
    let rows = table.skip(1).take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let first = row.split(" | ").next().unwrap();
        for command in first.split('`').skip(1).step_by(2) {
            parses(&format!("o365-wodle {command}")).unwrap();
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn every_help_has_an_example_of_that_very_command() {
    for (words, command) in commands().into_iter().skip(1) {
        let after = command.get_after_help().map(ToString::to_string);
        let after = after.unwrap_or_default();
        let Some(example) = after.strip_prefix("Example: ") else {
            panic!("{words:?} --help has no example");
        };
        parses(example).unwrap();
        let called: Vec<String> = example
            .split_whitespace()
            .filter(|word| words.contains(&(*word).to_owned()))
            .map(str::to_owned)
            .collect();
        assert_eq!(called, words, "{example}");
    }
}

#[test]
fn every_command_option_and_example_is_in_its_man_page() {
    let folder = tempfile::tempdir().unwrap();
    crate::command::man::man(folder.path()).unwrap();
    let page = |words: &[String]| read_page(&folder.path().join(format!("{}.1", words.join("-"))));
    for (words, command) in commands() {
        let text = page(&words);
        let mut expected: Vec<String> = Vec::new();
        for argument in command.get_arguments() {
            expected.extend(argument.get_long().map(|long| format!("--{long}")));
            expected.extend(argument.get_help().map(ToString::to_string));
        }
        expected.extend(command.get_about().map(ToString::to_string));
        let after = command.get_after_help().map(ToString::to_string);
        expected.extend(after.iter().flat_map(|after| after.lines()).map(folded));
        for below in command.get_subcommands() {
            expected.push(format!("{}-{}(1)", words.join("-"), below.get_name()));
        }
        for one in expected {
            assert!(
                text.contains(&folded(&one)),
                "{words:?}: its man page does not have {one:?}\n{text}"
            );
        }
    }
}

/// A man page without its escapes, its blanks folded.
fn read_page(path: &Path) -> String {
    let page =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = page.replace("\\*(Aq", "'").replace("\\-", "-");
    for font in ["\\fB", "\\fI", "\\fR"] {
        text = text.replace(font, "");
    }
    folded(&text)
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
