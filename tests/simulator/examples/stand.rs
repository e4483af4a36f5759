//! A simulated Microsoft 365 and the queue of a simulated Wazuh as a process of their own, for tests that are no
//! Rust: `stand WAZUH_HOME`, then one command a line on standard input, one line of answer each. It stands on port 443
//! under Microsoft's own names, so it needs a network of its own (`unshare --net`) where they lead to 127.0.0.1.
//!
//! | command | answer |
//! | --- | --- |
//! | `ca`, `handover` | the path of its authority's certificate; that of the customer's text with the three values |
//! | `issue N` | `ok`: N records more wait at Microsoft, half an hour old at most |
//! | `pause`, `resume` | `ok`: Wazuh stops reading its queue, reads again |
//! | `verdict` | the oracle's: what was issued, received, is missing, came again |
//!
//! It ends with its standard input.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program of the tests: talks to a script and fails by panicking"
)]

use std::io::stdin;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use chrono::TimeDelta;
use simulator::microsoft::{CONTENT_TYPES, Microsoft, Options, Records, TenantSpec};
use simulator::oracle::Oracle;
use simulator::wazuh::Queue;

/// Records of a blob.
const BLOB: usize = 50;

fn main() {
    let home = PathBuf::from(std::env::args_os().nth(1).expect("usage: stand WAZUH_HOME"));
    let microsoft = Microsoft::start(Options {
        tls: true,
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 443)),
        name: Some("https://manage.office.com"),
        ..Options::default()
    })
    .expect("a listening simulator");
    let queue = Queue::bind(&home).expect("a queue socket");
    let tenant = TenantSpec::numbered(1);
    microsoft.add_tenant(tenant.clone());
    let mut oracle = Oracle::new();
    oracle.tenant("contoso", &tenant.tenant_id);
    let handover = home.join("handover.txt");
    let text = format!(
        "Directory (tenant) ID: {}\r\nApplication (client) ID: {}\r\nClient secret: {}\r\n",
        tenant.tenant_id, tenant.client_id, tenant.secret
    );
    std::fs::write(&handover, text).expect("a writable home");
    let authority = home.join("authority.pem");
    microsoft.write_ca(&authority).expect("a writable home");

    let mut records = Records::new(1);
    let mut blobs = 0;
    for line in stdin().lines() {
        let line = line.expect("text");
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("ca", _) => println!("{}", authority.display()),
            ("handover", _) => println!("{}", handover.display()),
            ("issue", count) => {
                let batch: Vec<_> = records
                    .by_ref()
                    .take(count.parse().expect("a number"))
                    .collect();
                for (blob, content_type) in batch.chunks(BLOB).zip(CONTENT_TYPES.iter().cycle()) {
                    for record in blob {
                        oracle.issued(&tenant.tenant_id, content_type, record);
                    }
                    let created = microsoft.now() - TimeDelta::seconds(120 + blobs % 1600);
                    microsoft.issue(&tenant.tenant_id, content_type, blob.to_vec(), created);
                    blobs += 1;
                }
                println!("ok");
            }
            ("pause", _) => {
                queue.pause();
                println!("ok");
            }
            ("resume", _) => {
                queue.resume();
                println!("ok");
            }
            ("verdict", _) => {
                for event in queue.drain() {
                    oracle.received(&event);
                }
                println!("{}", oracle.verdict());
            }
            _ => println!("unknown command: {line}"),
        }
    }
}
