//! `docs/troubleshooting.md` is made of the probes and of the table of Microsoft's codes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::PathBuf;

use super::*;
use crate::ledger;
use crate::wazuh::QueueFault;

const HEAD: &str = "# What may be wrong, and the cure

`o365-wodle doctor` looks at every link from the configuration to Microsoft and to Wazuh, in this order, and names the one
that is broken first. What depends on a broken one is *skipped*. `tenant add`, `import` and `rotate` look at Microsoft's part.
The log, `status` and the events about the collection name Microsoft's code. This page is made of the tables that the
program itself decides by, but for *In the log*; `{…}` stands for what is known only where it is found.

## What `doctor` looks at

| probe | what it looks at |
| --- | --- |
";

const OF_LOG: &str = "
## In the log

| what it says | what to do |
| --- | --- |
| Wazuh took no event for {seconds} s: its queue is full or held | look whether the agent is connected, or the manager starting or overloaded; nothing is lost, the next run goes on |
| {tenant}: left alone; tried again after {time}: {why} | mend what stands behind it, then `o365-wodle doctor`: a tenant that is well is collected at once |
| {count} more tenants are left alone | the same: only ten are named in each run, `o365-wodle status` says why of all |
";

/// What other rooms say of a probe's subject, as they say it.
fn of_other_rooms(probe: &Probe) -> Vec<String> {
    let path = || PathBuf::from("{file}");
    match probe.name {
        "queue" => [
            QueueFault::Missing(path()),
            QueueFault::NoReader(path()),
            QueueFault::Denied(path()),
            QueueFault::WrongType(path()),
        ]
        .map(|fault| fault.to_string())
        .to_vec(),
        "ledger" => {
            let mut faults = ledger::what_is_not_ours();
            faults.push(ledger::Fault::Newer(path()));
            faults.iter().map(ledger::Fault::to_string).collect()
        }
        _ => Vec::new(),
    }
}

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn the_troubleshooting_page_is_made_of_the_tables() {
    let mut page = HEAD.to_owned();
    for probe in PROBES {
        writeln!(page, "| {} | {} |", probe.name, cell(probe.looks_at)).unwrap();
    }
    page.push_str(
        "\n## What `doctor` finds\n\n| probe | what it says | what to do |\n| --- | --- | --- |\n",
    );
    for probe in PROBES {
        let own = TROUBLES
            .iter()
            .filter(|trouble| std::ptr::eq(trouble.probe, *probe));
        for Trouble { seen, cure, .. } in own {
            writeln!(page, "| {} | {} | {} |", probe.name, cell(seen), cell(cure)).unwrap();
        }
        for said in of_other_rooms(probe) {
            let (seen, cure) = said.split_once(". ").unwrap();
            writeln!(page, "| {} | {} | {} |", probe.name, cell(seen), cell(cure)).unwrap();
        }
    }
    page.push_str(&crate::microsoft::code_tables());
    page.push_str(OF_LOG);
    let file = || PathBuf::from("{file}");
    for (fault, cure) in [
        (
            ledger::Fault::Locked(file()),
            "nothing; if it stays, look for a run that does not end",
        ),
        (
            ledger::Fault::Unwritable("{file}: {why}".to_owned()),
            "make room on the disk, or mend what the reason names: `o365-wodle doctor`",
        ),
    ] {
        let said = crate::Error::from(fault).of_ledger(&file()).to_string();
        writeln!(page, "| {} | {cure} |", cell(said.trim_end_matches('.'))).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == page,
        "docs/troubleshooting.md is not what the tables say; UPDATE=1 cargo test troubleshooting"
    );
}

#[test]
fn braces_are_filled_and_values_are_left_alone() {
    let trouble = Trouble {
        probe: &LEDGER,
        seen: "{file}: {why}",
        cure: "make {file}",
    };
    let said = trouble.with(&[("file", &"{why}"), ("why", &7)]);
    assert_eq!(
        (said.seen.as_str(), said.cure.as_str()),
        ("{why}: 7", "make {why}")
    );
}
