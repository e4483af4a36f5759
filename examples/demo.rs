//! The whole job on a simulated Microsoft 365 and a simulated Wazuh: no set-up at all.
//!
//! Starts a tenant's side (three tenants) and a Wazuh manager's side on this machine, runs the real
//! collection twice with new content in between, and lets an oracle judge what arrived.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a demonstration talks to a person and fails by panicking"
)]

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use chrono::TimeDelta;
use simulator::microsoft::{CONTENT_TYPES, Microsoft, Options, Records, TenantSpec};
use simulator::oracle::Oracle;
use simulator::wazuh::Queue;

const TENANTS: [&str; 3] = ["contoso", "fabrikam", "woodgrove"];

fn main() -> ExitCode {
    // Started with arguments it is the program: a collection wants a process of its own.
    if std::env::args_os().len() > 1 {
        return o365_wodle::main(std::env::args_os());
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let microsoft = Microsoft::start(Options {
        page_size: 10,
        ..Options::default()
    })
    .expect("a listening simulator");
    let queue = Queue::bind(&folder.path().join("ossec")).expect("a queue socket");
    let mut oracle = Oracle::new();
    let mut records = Records::new(1);

    println!(
        "A simulated Microsoft 365 with {} tenants at {}",
        TENANTS.len(),
        microsoft.url()
    );
    println!(
        "A simulated Wazuh with its queue at {}\n",
        queue.path().display()
    );
    let mut tenants = Vec::new();
    for (number, name) in (1..).zip(TENANTS) {
        let tenant = TenantSpec::numbered(number);
        microsoft.add_tenant(tenant.clone());
        oracle.tenant(name, &tenant.tenant_id);
        tenants.push((name, tenant));
    }
    configure(folder.path(), &microsoft, &tenants);

    let (mut shown, mut total) = (0, 0);
    for (run, blobs) in [(1, 12), (2, 3)] {
        let mut waiting = 0;
        for (_, tenant) in &tenants {
            for content_type in CONTENT_TYPES {
                for blob in 0..blobs {
                    // Records that Wazuh takes whole: the rest is for the tests.
                    let whole = records.by_ref().filter(|record| record.len() < 30_000);
                    let records: Vec<_> = whole.take(20).collect();
                    for record in &records {
                        oracle.issued(&tenant.tenant_id, content_type, record);
                    }
                    let created = microsoft.now() - TimeDelta::minutes(3 + 11 * blob);
                    microsoft.issue(&tenant.tenant_id, content_type, records, created);
                    waiting += 1;
                }
            }
        }
        println!("Run {run}: {waiting} blobs of 20 records wait at Microsoft.");
        collect(folder.path(), &["run"]);
        total += waiting * 20;
        // What was sent may still be on its way through the socket.
        if !queue.wait_for(total, Duration::from_secs(10)) {
            println!("       Not everything arrived.");
        }
        let events = queue.drain();
        println!("       {} events arrived in Wazuh's queue.", events.len());
        for event in &events {
            oracle.received(event);
            if shown < 3 && event.len() < 700 {
                shown += 1;
                println!("\n{}", String::from_utf8_lossy(event));
            }
        }
        println!();
    }
    collect(folder.path(), &["status"]);
    let verdict = oracle.verdict();
    println!("\n{verdict}");
    if verdict.is_clean() {
        ExitCode::SUCCESS
    } else {
        println!("{}", verdict.details());
        ExitCode::FAILURE
    }
}

/// Runs the program itself.
fn collect(folder: &Path, arguments: &[&str]) {
    let program = std::env::current_exe().expect("a path of its own");
    let status = Command::new(program)
        .arg("--config")
        .arg(folder.join("config.toml"))
        .args(arguments)
        .status()
        .expect("a process");
    assert!(status.success(), "the program ended with {status}");
}

/// What an operator would write into `/etc/o365-wodle`.
fn configure(folder: &Path, microsoft: &Microsoft, tenants: &[(&str, TenantSpec)]) {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut config = format!(
        "[wazuh]\nhome = \"{}\"\nevents_per_second = 0\n\
         [state]\nledger = \"{}\"\n\
         [log]\nfile = \"{}\"\n",
        path("ossec"),
        path("ledger.db"),
        path("o365-wodle.log"),
    );
    for (name, tenant) in tenants {
        write(&folder.join(name), &tenant.secret, 0o600);
        config.push_str("[[tenant]]\n");
        for (key, value) in [
            ("name", *name),
            ("tenant_id", &tenant.tenant_id),
            ("client_id", &tenant.client_id),
            ("client_secret_file", name),
            ("login_url", microsoft.url()),
            ("management_url", microsoft.url()),
        ] {
            writeln!(config, "{key} = \"{value}\"").expect("a string takes text");
        }
    }
    write(&folder.join("config.toml"), &config, 0o640);
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("a writable folder");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a changed mode");
}
