//! Row 10: servers, and users of a tenant, that mean harm.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use simulator::microsoft::{
    Action, Body, Foreign, INJECTED, Operation, Options, Part, Plan, Rule, Violation,
};
use simulator::oracle::Oracle;

use super::bench::{Bench, Ended, TYPES};
use super::{Case, Column, Setup, Trial};

/// What no attack may drive a run beyond, and no large blob, in bytes of memory.
const HOSTILE_PEAK: u64 = 64 << 20;
const LARGE_PEAK: u64 = 32 << 20;

/// What the attacks of a column have in common.
#[derive(Clone)]
struct Stage {
    setup: Arc<Setup>,
    /// Runs end by then: an answer without end is not read to the limit by an unoptimised program.
    deadline: &'static str,
    /// Tenants that an attack on blobs strikes at once.
    struck: usize,
}

type Work = Box<dyn FnOnce(&Stage) -> Trial + Send>;

/// Row 10.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let stage = Stage {
        setup: Arc::clone(&column.setup),
        deadline: if column.is_release { "2m" } else { "10s" },
        struck: column.of(1, 3),
    };
    let mut cases = Vec::new();
    let mut add = |name: String, work: Work| {
        let stage = stage.clone();
        cases.push(Case::new(name, move |_| work(&stage)));
    };
    // The heaviest first, so that none of them is waited for alone.
    for (operation, action) in answers() {
        add(
            format!("{operation:?} {action:?}"),
            Box::new(move |stage| stage.strikes(operation, action)),
        );
    }
    let contents = column.of(100_000, 1_000_000) as u64;
    add(
        format!("{contents} contents"),
        Box::new(move |stage| stage.many_contents(contents)),
    );
    for (name, body) in bodies() {
        add(
            name.to_owned(),
            Box::new(move |stage| stage.bad_blobs(&body)),
        );
    }
    for &megabytes in if column.is_release {
        &[50, 400][..]
    } else {
        &[50]
    } {
        add(
            format!("a blob of {megabytes} MB, whole"),
            Box::new(move |stage| stage.large(megabytes)),
        );
    }
    for place in [Place::Plain, Place::Tls, Place::LinkLocal] {
        for (operation, lead) in ways_elsewhere() {
            add(
                format!("{operation:?} {} {place:?}", lead.1),
                Box::new(move |stage| stage.leads_elsewhere(place, operation, lead.0)),
            );
        }
    }
    cases
}

/// Answers that a rule makes.
pub(super) fn answers() -> Vec<(Operation, Action)> {
    use Operation::{Blob, Content, SubscriptionsList, Token};
    let mut answers = vec![(Blob, Action::GzipBomb(10 << 10))];
    for operation in [Blob, Content, SubscriptionsList, Token] {
        answers.push((operation, Action::EndlessBody));
    }
    for operation in [Blob, Content] {
        answers.extend([
            (operation, Action::Depth(100_000)),
            (operation, Action::HugeString(100 << 20)),
            (operation, Action::InvalidUtf8),
            (operation, Action::LoneSurrogate),
        ]);
    }
    answers
}

/// A record with this as its last value.
fn record(value: &str) -> String {
    format!(
        r#"{{"CreationTime":"2026-03-14T09:26:53","Id":"{INJECTED}","Operation":"Injected","RecordType":6,"Workload":"SharePoint","UserId":"injected@fault.example","ObjectId":{value}}}"#
    )
}

/// Bodies of blobs, of which the worst are made while they are sent.
fn bodies() -> Vec<(&'static str, Body)> {
    let bytes = |text: &str| Part::Bytes(Bytes::copy_from_slice(text.as_bytes()));
    let letters = Bytes::from(vec![b'A'; 64 << 10]);
    let endless = letters.clone();
    let ten_gb = (10 << 30) / letters.len() as u64;
    let almost = 15 << 20;
    let one = |value: &str| Body::from(format!("[{}]", record(value)));
    let list =
        |count, member: fn(u32) -> String| (0..count).map(member).collect::<Vec<_>>().concat();
    let keys = list(1_500_000, |n| format!("\"{n:x}\":0,"));
    let pairs = list(700_000, |n| format!("\"{n:x}\":{{\"a\":0,\"b\":0}},"));
    let odd = [
        r#""a\u0000b""#,
        r#""a\r\nb""#,
        r#""{\"integration\":\"office365\"}""#,
        "\"raw\nnewline\"",
        "\"raw\0NUL\"",
    ];
    let odd = odd.map(record).join(",");
    vec![
        (
            "10 GB with its length",
            Body::of([bytes("[\""), Part::Repeat(letters.clone(), ten_gb)]),
        ),
        (
            "10 GB in chunks",
            Body::of([
                bytes("[\""),
                Part::Make(0..ten_gb, Arc::new(move |_| endless.clone())),
            ]),
        ),
        (
            "a record of 15 MiB",
            one(&format!("\"{}\"", "A".repeat(almost))),
        ),
        (
            "a record of 7 million numbers",
            one(&format!("[{}0]", "0,".repeat(almost / 2))),
        ),
        (
            "a record of a million keys",
            one(&format!("{{{keys}\"\":0}}")),
        ),
        (
            "a record of a million objects",
            Body::from(format!("[{{{pairs}\"Id\":\"{INJECTED}\"}}]")),
        ),
        (
            "a record of a million arrays",
            one(&format!("[{}0]", "[[]],".repeat(almost / 5))),
        ),
        (
            "tiny records",
            Body::from(format!("[{}{{}}]", "{},".repeat(5_000))),
        ),
        ("NUL, line ends, quotes", Body::from(format!("[{odd}]"))),
    ]
}

impl Stage {
    fn bench(&self, options: Options) -> Bench {
        let mut bench = Bench::new(&self.setup, options);
        bench.set("http", "request_timeout", "\"5s\"");
        bench.set("http", "retries", "1");
        bench.issue_some();
        bench
    }

    /// A run with the attack going on; its memory stays within its bounds.
    fn attacked(&self, bench: &Bench, most: u64) -> Ended {
        let (ended, peak) = bench.measured(&["run", "--deadline", self.deadline]);
        assert!(
            matches!(ended.code, Some(0 | 3 | 75 | 77)),
            "{ended:?}\nlog: {}",
            bench.tail()
        );
        assert!(
            peak <= most,
            "{} MiB of memory at the peak\nlog: {}",
            peak >> 20,
            bench.tail()
        );
        ended
    }

    fn strikes(&self, operation: Operation, action: Action) -> Trial {
        let bench = self.bench(Options::default());
        let rule = Rule::on(operation, action).times(3);
        bench.microsoft.faults(Plan::new(1).rule(rule));
        self.attacked(&bench, HOSTILE_PEAK);
        assert!(bench.microsoft.struck()[0] > 0, "the fault did not strike");
        recovers(bench)
    }

    /// Several blobs at once with the same body beside the genuine ones, which all arrive.
    fn bad_blobs(&self, body: &Body) -> Trial {
        let bench = self.bench(Options::default());
        for tenant in 0..self.struck {
            let id = bench.id(tenant);
            for _ in 0..2 {
                let created = bench.microsoft.now();
                bench
                    .microsoft
                    .issue_raw(&id, TYPES[0], body.clone(), created);
            }
        }
        bench.microsoft.advance(Duration::from_secs(2));
        self.attacked(&bench, HOSTILE_PEAK);
        genuine(bench)
    }

    /// One tenant's listing names more contents than anybody makes; the others get theirs.
    fn many_contents(&self, contents: u64) -> Trial {
        let mut bench = Bench::new(&self.setup, Options::default());
        for tenant in [1, 2] {
            bench.issue(tenant, TYPES[0], 20, TimeDelta::hours(1));
        }
        bench.microsoft.advance(Duration::from_secs(2));
        let rule = Rule::on(Operation::Content, Action::ManyContents(contents))
            .tenant(&bench.id(0))
            .times(1);
        bench.microsoft.faults(Plan::new(1).rule(rule));
        self.attacked(&bench, HOSTILE_PEAK);
        bench.judge()
    }

    /// A blob of ordinary records arrives whole.
    fn large(&self, megabytes: usize) -> Trial {
        let mut bench = Bench::new(&self.setup, Options::default());
        bench.oracle = Oracle::cheap();
        let now = bench.microsoft.now();
        let records: Vec<_> = (0..megabytes * 500)
            .map(|_| bench.records.sized(2_000))
            .collect();
        bench.issue_these(0, TYPES[0], records, now);
        bench.microsoft.advance(Duration::from_secs(2));
        let (ended, peak) = bench.measured(&["run"]);
        assert_eq!(ended.code, Some(0), "{ended:?}\nlog: {}", bench.tail());
        assert!(peak <= LARGE_PEAK, "{} MiB at the peak", peak >> 20);
        bench.judge()
    }

    /// Nobody but Microsoft is so much as called.
    fn leads_elsewhere(
        &self,
        place: Place,
        operation: Operation,
        action: fn(String) -> Action,
    ) -> Trial {
        let bench = self.bench(Options {
            page_size: 2,
            tls: place == Place::Tls,
            ..Options::default()
        });
        let foreign = match place {
            Place::Plain => Some(Foreign::start().unwrap()),
            Place::Tls => Some(Foreign::start_tls(&bench.microsoft).unwrap()),
            Place::LinkLocal => None,
        };
        let url = foreign
            .as_ref()
            .map_or("http://169.254.169.254", |foreign| foreign.url());
        let rule = Rule::on(operation, action(url.to_owned()));
        bench.microsoft.faults(Plan::new(1).rule(rule));
        let calls = bench.folder.path().join("calls");
        let only_calls = ["-qq", "-e", "trace=connect", "-e", "signal=none"];
        let mut wrapper = vec!["strace", "-f", "-o", calls.to_str().unwrap()];
        wrapper.extend(only_calls);
        let ended = bench.go_with(&wrapper, &["run", "--deadline", self.deadline]);
        assert!(
            matches!(ended.code, Some(0 | 3 | 75 | 77)),
            "{ended:?}\nlog: {}",
            bench.tail()
        );
        assert!(bench.microsoft.struck()[0] > 0, "the fault did not strike");
        let port = bench.microsoft.url().rsplit(':').next().unwrap().to_owned();
        for call in std::fs::read_to_string(&calls).unwrap().lines() {
            assert!(
                !call.contains("AF_INET") || call.contains(&format!("htons({port})")),
                "another host was called: {call}"
            );
        }
        if let Some(foreign) = foreign {
            assert_eq!(foreign.connections(), 0, "{:?}", foreign.requests());
        }
        recovers(bench)
    }
}

/// The faults end, and everything that is genuine is there.
fn recovers(bench: Bench) -> Trial {
    bench.allow(&[Violation::StartTooSoon, Violation::AlreadyEnabled]);
    bench.microsoft.faults(Plan::default());
    bench.microsoft.advance(Duration::from_hours(2));
    bench.rotate();
    bench.until_clean();
    bench.judge()
}

/// Everything genuine is there, and whatever else is there is an event for Wazuh.
fn genuine(mut bench: Bench) -> Trial {
    bench.arrived();
    let verdict = bench.oracle.verdict();
    assert!(
        verdict.altered.is_empty() && verdict.malformed.is_empty() && verdict.oversize.is_empty(),
        "{verdict}\n{}",
        verdict.details()
    );
    Trial {
        lost: verdict.missing.len(),
        repeated: verdict.repeats,
        ..Trial::default()
    }
}

/// Where a server leads a client that trusts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Another host, without TLS.
    Plain,
    /// Another port, with a certificate as good as Microsoft's.
    Tls,
    /// The metadata service of a cloud's machine.
    LinkLocal,
}

type Lead = (fn(String) -> Action, &'static str);

fn ways_elsewhere() -> Vec<(Operation, Lead)> {
    use Operation::{Blob, Content, NextPage, SubscriptionsList, Token};
    let redirect: Lead = (Action::Redirect, "redirect");
    let mut ways: Vec<(Operation, Lead)> = vec![
        (Content, (Action::ForeignContentUri, "contentUri")),
        (Content, (Action::ForeignNextPage, "next page")),
    ];
    for operation in [Token, SubscriptionsList, Content, NextPage, Blob] {
        ways.push((operation, redirect));
    }
    ways
}
