//! The main job: everything that is listed arrives once, byte for byte.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use simulator::microsoft::{
    Action, Duplicate, Foreign, Microsoft, Operation, Options, Plan, Rule, TenantSpec,
};

use crate::world::World;

fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

#[test]
fn everything_arrives_once_and_unaltered() {
    let mut world = World::with_tenants(
        3,
        Options {
            page_size: 3,
            ..Options::default()
        },
    );
    world.issue_everywhere(7, 5);
    world.run_expecting(0, &[]);
    world.assert_clean();
    assert_eq!(world.oracle.verdict().issued, 3 * 5 * 7 * 5);

    let before = world.queue.count();
    world.run_expecting(0, &[]);
    world.assert_clean();
    assert_eq!(world.queue.count(), before, "a second run sends nothing");

    world.issue_everywhere(1, 3);
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn it_works_over_tls_with_gzip() {
    let mut world = World::with_tenants(
        2,
        Options {
            tls: true,
            gzip: true,
            ..Options::default()
        },
    );
    world.issue_everywhere(3, 10);
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn late_content_is_delivered_once() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue(0, "Audit.Exchange", 3, minutes(5));
    world.run_expecting(0, &[]);
    // Created before the marker, but listed only now.
    world.issue(0, "Audit.Exchange", 3, minutes(60));
    world.issue(0, "Audit.Exchange", 3, minutes(5));
    world.run_expecting(0, &[]);
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn a_content_listed_twice_is_delivered_once() {
    for duplicate in [
        Duplicate::OnPage,
        Duplicate::AcrossPages,
        Duplicate::InWindows,
    ] {
        let mut world = World::with_tenants(
            1,
            Options {
                page_size: 2,
                ..Options::default()
            },
        );
        world.issue_everywhere(5, 3);
        world
            .microsoft
            .faults(Plan::new(1).rule(Rule::any(Action::DuplicateContents(duplicate))));
        world.run_expecting(0, &[]);
        world.run_expecting(0, &[]);
        world.assert_clean();
    }
}

#[test]
fn an_id_is_delivered_once_a_content_type() {
    let mut world = World::with_tenants(1, Options::default());
    let record = world.records.next().unwrap();
    let now = world.microsoft.now();
    for (content_type, ago) in [
        ("Audit.Exchange", 10),
        ("Audit.Exchange", 20),
        ("Audit.Exchange", 60 * 20),
        ("DLP.All", 10),
    ] {
        world.issue_these(0, content_type, vec![record.clone()], now - minutes(ago));
    }
    world.run_expecting(0, &[]);
    world.assert_clean();
    assert_eq!(world.queue.count(), 2);
}

#[test]
fn records_without_an_id_all_arrive_once() {
    let mut world = World::with_tenants(1, Options::default());
    let now = world.microsoft.now();
    let same = br#"{"RecordType":1,"Operation":"x","Id":""}"#.to_vec();
    let none = br#"{"RecordType":1,"Operation":"x"}"#.to_vec();
    world.issue_these(
        0,
        "Audit.Exchange",
        vec![same.clone(), same, none.clone()],
        now - minutes(9),
    );
    world.issue_these(0, "Audit.Exchange", vec![none], now - minutes(8));
    world.run_expecting(0, &[]);
    world.run_expecting(0, &[]);
    world.assert_clean();
    assert_eq!(world.queue.count(), 4);
}

#[test]
fn nothing_below_the_floor_is_taken_nor_swept() {
    let mut world = World::with_tenants(1, Options::default());
    world.set("collect", "initial_lookback", "\"2h\"");
    world.set("collect", "resweep", "\"1h\"");
    let now = world.microsoft.now();
    let id = world.id(0);
    let old: Vec<_> = world.records.by_ref().take(2).collect();
    world
        .microsoft
        .issue(&id, "Audit.Exchange", old.clone(), now - minutes(121));
    world.issue(0, "Audit.Exchange", 2, minutes(119));
    world.run_expecting(0, &[]);
    world.assert_clean();
    world.microsoft.advance(std::time::Duration::from_hours(2));
    world
        .microsoft
        .issue(&id, "Audit.Exchange", old, now - minutes(300));
    world.run_expecting(0, &[]);
    world.assert_clean();
    assert_eq!(world.queue.count(), 2);
}

#[test]
fn a_missing_queue_stops_the_run_before_microsoft_is_called() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_everywhere(1, 2);
    for gone in [true, false] {
        if gone {
            world.queue.unlink().unwrap();
        } else {
            world.queue.close();
        }
        let output = world.run_expecting(75, &[]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("queue"));
        assert_eq!(world.microsoft.request_count(), 0);
        world.queue.rebind().unwrap();
    }
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn no_token_goes_to_another_host() {
    for (operation, action) in [
        (
            Operation::Content,
            Action::ForeignContentUri as fn(String) -> Action,
        ),
        (Operation::Content, Action::ForeignNextPage),
        (Operation::Blob, Action::Redirect),
        (Operation::Content, Action::Redirect),
        (Operation::Token, Action::Redirect),
    ] {
        let foreign = Foreign::start().unwrap();
        let mut world = World::with_tenants(1, Options::default());
        world.issue_everywhere(2, 2);
        let action = action(foreign.url().to_owned());
        let shown = format!("{operation:?} {action:?}");
        world
            .microsoft
            .faults(Plan::new(1).rule(Rule::on(operation, action)));
        world.run(&["run", "--deadline", "20s"]);
        assert!(foreign.requests().is_empty(), "{shown}");
        world.microsoft.faults(Plan::default());
        // What was remembered of the bad listing must not go there later either.
        world.run(&["run", "--deadline", "20s"]);
        assert!(foreign.requests().is_empty(), "{shown}");
    }
}

#[test]
fn a_dry_run_prints_events_and_changes_nothing() {
    let mut world = World::with_tenants(1, Options::default());
    world.microsoft.subscribe_all(&world.id(0));
    world.issue_everywhere(1, 4);
    let begin = Instant::now();
    let output = world.run_expecting(0, &["--dry-run"]);
    // Nobody confirms what is printed: the 3 s that a run waits for that are not to be waited.
    assert!(begin.elapsed() < Duration::from_secs(3));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 20);
    for line in printed.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["integration"], "office365");
    }
    assert_eq!(world.queue.count(), 0);
    assert!(!world.ledger().exists());
    world.run_expecting(0, &[]);
    world.assert_clean();
    world.issue_everywhere(1, 4);
    let before = fs::read(world.ledger()).unwrap();
    let output = world.run_expecting(0, &["--dry-run"]);
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').count() - 1, 20);
    assert_eq!(fs::read(world.ledger()).unwrap(), before);
}

#[test]
fn a_dry_run_shows_the_bytes_of_each_event_and_says_why_a_record_was_reshaped() {
    let world = World::with_tenants(1, Options::default());
    world.microsoft.subscribe_all(&world.id(0));
    let records = [
        r#"{"Id":"plain","RecordType":2,"s":"\u00e9"}"#,
        r#"{"Id":"odd","RecordType":2,"s":"\ud800","n":1.5}"#,
    ];
    let created = world.microsoft.now() - TimeDelta::minutes(1);
    world
        .microsoft
        .issue(&world.id(0), "Audit.Exchange", records, created);
    let output = world.run(&["-v", "run", "--dry-run"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let reasons: Vec<_> = said
        .lines()
        .filter(|line| line.contains("reshaped"))
        .collect();
    assert_eq!(reasons.len(), 1, "{said}");
    let expected = "Audit.Exchange: record odd was reshaped: surrogate, big_number";
    assert!(reasons[0].ends_with(expected), "{said}");
    let quiet = world.run_expecting(0, &["--dry-run"]);
    assert_eq!(quiet.stdout, output.stdout);
    assert!(quiet.stderr.is_empty());
    world.run_expecting(0, &[]);
    let about_records =
        |datagram: &Vec<u8>| datagram.windows(12).any(|part| part == b"\"RecordType\"");
    let mut sent: Vec<_> = world.queue.received();
    sent.retain(about_records);
    let printed: Vec<_> = output
        .stdout
        .strip_suffix(b"\n")
        .unwrap()
        .split(|byte| *byte == b'\n')
        .map(|event| [b"1:office365:", event].concat())
        .collect();
    assert_eq!(printed, sent);
}

#[test]
fn a_dry_run_that_cannot_print_says_so_and_a_reader_that_has_seen_enough_is_none() {
    let mut world = World::with_tenants(1, Options::default());
    world.microsoft.subscribe_all(&world.id(0));
    world.issue_everywhere(1, 4);
    let dry = |out: Stdio| {
        let mut command = world.command(&["run", "--dry-run"]);
        let output = command.stdout(out).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut help = world.command(&["--help"]);
    let output = help.stdout(full.try_clone().unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let (code, said) = dry(full.into());
    assert_eq!(code, Some(75), "{said}");
    assert!(said.starts_with("o365-wodle: standard output: "), "{said}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(dry(writer.into()), (Some(0), String::new()));
}

#[test]
fn a_dry_run_starts_no_subscription() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_everywhere(1, 1);
    world.run(&["run", "--dry-run"]);
    let starts = world.microsoft.requests();
    assert!(
        starts
            .iter()
            .all(|request| request.operation != Operation::Start)
    );
}

#[test]
fn a_run_can_be_narrowed() {
    let mut world = World::with_tenants(2, Options::default());
    world.issue_everywhere(1, 2);
    world.run_expecting(
        0,
        &["--tenant", "tenant-2", "--content-type", "audit.exchange"],
    );
    world.verdict();
    assert_eq!(world.oracle.verdict().received, 2);
    world.run_expecting(2, &["--tenant", "nobody"]);
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn a_disabled_tenant_is_left_alone() {
    let mut world = World::with_tenants(1, Options::default());
    world
        .tenant_settings
        .insert("tenant-1".into(), vec!["enabled = false".into()]);
    world.issue_everywhere(1, 1);
    world.run_expecting(0, &[]);
    assert_eq!(world.microsoft.request_count(), 0);
    assert!(world.log().contains("all tenants are disabled"));
    let status = world.run(&["status"]);
    assert!(status.stdout.starts_with(b"All tenants are disabled"));
    let status = world.run(&["status", "--all"]);
    let said = String::from_utf8(status.stdout).unwrap();
    assert!(
        said.contains("\n5 disabled: not collected, since the tenant has `enabled = false`\n"),
        "{said}"
    );
    // No tenant, no host that could tell the time: nothing was skipped because of what failed.
    let doctor = world.run(&["doctor", "--json"]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(!said.contains("skipped"), "{said}");
    assert!(
        said.contains("1 tenant (1 with `enabled = false`)"),
        "{said}"
    );
}

#[test]
fn a_content_type_that_a_tenant_does_not_collect_is_asked_for_in_vain_and_that_is_said() {
    let mut world = World::with_tenants(2, Options::default());
    world.tenant_settings.insert(
        "tenant-2".into(),
        vec!["content_types = [\"DLP.All\"]".into()],
    );
    for command in [
        &["run"][..],
        &["subscriptions", "start"],
        &["backfill", "--since", "1h"],
    ] {
        let narrowed = [&["-v"], command, &["--content-type", "audit.exchange"]].concat();
        let output = world.run(&narrowed);
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8(output.stderr).unwrap();
        let warning = "--content-type Audit.Exchange: nothing is done for tenant-2, whose content_types lack it";
        assert!(said.contains(warning), "{said}");
    }
}

#[test]
fn no_tenants_yet_is_a_success() {
    let world = World::new(Options::default());
    let output = world.run_expecting(0, &[]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert!(world.log().contains("no tenants yet"));
}

#[test]
fn a_successful_run_prints_nothing() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_everywhere(1, 1);
    let output = world.run_expecting(0, &[]);
    assert_eq!((output.stdout, output.stderr), (vec![], vec![]));
}

#[test]
fn a_blob_larger_than_memory_should_hold_streams_through() {
    let mut world = World::with_tenants(1, Options::default());
    let records: Vec<_> = (0..20_000).map(|_| world.records.sized(1_500)).collect();
    let now = world.microsoft.now();
    world.issue_these(0, "Audit.SharePoint", records, now - minutes(3));
    world.configure();
    // Half of what the blob has; a run takes 6 MB.
    let limited = ["sh", "-c", "ulimit -d 15000 && exec \"$@\"", "sh"];
    let output = world.command_under(&limited, &["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?} {}", world.log());
    world.assert_clean();
}

#[test]
fn subscriptions_that_run_already_are_not_started() {
    let mut world = World::with_tenants(1, Options::default());
    let id = world.id(0);
    world.microsoft.subscribe_all(&id);
    world.issue_everywhere(1, 1);
    world.run_expecting(0, &[]);
    world.run_expecting(0, &[]);
    let requests = world.microsoft.requests();
    let count = |operation| {
        requests
            .iter()
            .filter(|request| request.operation == operation)
            .count()
    };
    assert_eq!(count(Operation::Start), 0);
    assert_eq!(
        count(Operation::SubscriptionsList),
        1,
        "once a day is enough"
    );
    world.assert_clean();
}

#[test]
fn a_wrong_secret_is_refused_once_an_hour_and_a_new_one_tried_at_once() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_everywhere(1, 2);
    let right = world.tenants[0].1.secret.clone();
    world.tenants[0].1.secret = "wrong~secret".into();
    let output = world.run_expecting(77, &[]);
    assert!(world.log().contains("AADSTS7000215"), "{}", world.log());
    assert!(!output.stderr.is_empty());
    assert_eq!(world.microsoft.request_count(), 1);
    // The secret's file is left as it is: `configure` would renew it.
    let again = std::process::Command::new(&world.binary)
        .args(["--config", world.config().to_str().unwrap(), "run"])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(77));
    assert_eq!(world.microsoft.request_count(), 1);
    world.tenants[0].1.secret = right;
    world.run_expecting(0, &[]);
    world.assert_clean();
}

#[test]
fn the_simulator_itself_is_not_blind() {
    let microsoft = Microsoft::start(Options::default()).unwrap();
    microsoft.add_tenant(TenantSpec::numbered(1));
    assert_eq!(microsoft.request_count(), 0);
}

#[test]
fn subscriptions_by_hand() {
    let mut world = World::with_tenants(2, Options::default());
    let id = world.id(1);
    world.microsoft.subscribe_all(&id);
    let said = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    let list = said(world.run(&["subscriptions", "list"]));
    assert!(
        list.contains("tenant-1 DLP.All: none: `o365-wodle subscriptions start`"),
        "{list}"
    );
    assert!(list.contains("tenant-2 DLP.All: enabled\n"), "{list}");
    let started = said(world.run(&[
        "subscriptions",
        "start",
        "--tenant",
        "tenant-1",
        "--content-type",
        "dlp.all",
    ]));
    assert_eq!(
        started,
        "tenant-1 DLP.All: started; the first content may take hours\n"
    );
    let again = said(world.run(&["subscriptions", "start", "--tenant", "tenant-1"]));
    assert!(
        again.contains("tenant-1 DLP.All: enabled already\n"),
        "{again}"
    );
    assert!(again.contains("tenant-1 Audit.General: started"), "{again}");
    // A run knows what was started by hand.
    world.issue_everywhere(1, 1);
    world.run_expecting(0, &[]);
    world.assert_clean();
    let unknown = world.run(&["subscriptions", "list", "--tenant", "nobody"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn many_tenants_are_asked_side_by_side_and_told_in_their_order() {
    const TENANTS: usize = 12;
    let mut world = World::with_tenants(
        TENANTS,
        Options {
            latency: Duration::from_millis(300),
            ..Options::default()
        },
    );
    world.set("collect", "tenants_in_parallel", "6");
    let since = Instant::now();
    let output = world.run(&["subscriptions", "list"]);
    let took = since.elapsed();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names.len(), 5 * TENANTS, "{said}");
    assert!(names.is_sorted(), "{said}");
    // A token and a list each, two after the other: 1.2 s; one tenant after the other would take 7.2 s.
    assert!(took > Duration::from_millis(1_100), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn starts_by_hand_are_judged_as_those_of_a_run() {
    let world = World::with_tenants(2, Options::default());
    let start = |rules: &[Rule]| {
        let plan = rules.iter().cloned().fold(Plan::default(), Plan::rule);
        world.microsoft.faults(plan);
        let output = world.run(&["subscriptions", "start"]);
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let fails = |operation| Rule::on(operation, Action::af(400, "AF20001", "no"));
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222)).tenant(&world.id(0));
    let unreachable = fails(Operation::SubscriptionsList);
    assert_eq!(start(&[refused.clone(), unreachable.clone()]).0, Some(75));
    assert_eq!(start(&[unreachable]).0, Some(75));
    assert_eq!(start(&[refused]).0, Some(3));
    // One of ten failed, and is said once.
    let one = fails(Operation::Start).content_type("Audit.Exchange");
    let world = World::with_tenants(1, Options::default());
    world.microsoft.faults(Plan::default().rule(one));
    let output = world.run(&["subscriptions", "start"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.matches("AF20001").count(), 1, "{said}");
    assert_eq!(said.matches(": started").count(), 4, "{said}");
    // What Microsoft allows no start of yet is not done.
    world.microsoft.faults(Plan::default());
    let output = world.run(&["subscriptions", "start"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.matches("not started: ").count(), 1, "{said}");
    let output = world.run(&["subscriptions", "start", "--content-type", "Audit.Exchange"]);
    assert_eq!(output.status.code(), Some(75));
}

#[test]
fn a_content_of_nothing_is_empty() {
    let world = World::with_tenants(1, Options::default());
    let created = world.microsoft.now() - TimeDelta::minutes(5);
    for (content_type, nothing) in [("Audit.Exchange", "null"), ("Audit.General", "[]")] {
        let nothing = nothing.to_owned();
        world
            .microsoft
            .issue_raw(&world.id(0), content_type, nothing, created);
    }
    world.run_expecting(0, &[]);
    assert_eq!((world.sum("pending"), world.sum("failed")), (0, 0));
}
