//! Every state that a content can be in shows in `status`.

use std::thread;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rusqlite::Connection;
use simulator::microsoft::{Action, CONTENT_TYPES, Operation, Options, Plan, Rule};

use crate::world::World;

/// What `status` prints, its blanks folded, and its exit code.
fn table(world: &World) -> (Vec<String>, Option<i32>) {
    let output = world.run_as_it_stands(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let fold = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    (text.lines().map(fold).collect(), output.status.code())
}

#[test]
fn each_state_of_a_content_is_visible_and_worded() {
    let mut world = World::with_tenants(1, Options::default());
    for content_type in CONTENT_TYPES {
        world.issue_small(0, content_type, 2, TimeDelta::minutes(5));
    }
    let (lines, code) = {
        world.configure();
        table(&world)
    };
    assert_eq!(code, Some(0));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("tenant-1 DLP.All no run yet")),
        "{lines:?}"
    );
    let meaning = "5 no run yet: no run has looked at it yet";
    assert!(lines.contains(&meaning.to_owned()), "{lines:?}");

    world.run_expecting(0, &[]);
    let (lines, code) = table(&world);
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(
        lines.contains(&"tenant-1 DLP.All ok just now just now 2 2 0 0 0 0 0".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("Delivered records are accepted: taken by the reader")),
        "{lines:?}"
    );

    // One stream in each of the states that are left.
    let ledger = Connection::open(world.ledger()).unwrap();
    ledger
        .execute_batch(
            "UPDATE content SET state = 0 WHERE stream = 1;
             UPDATE content SET state = 0, attempts = 2, error = 'no answer', tried_at = 1 WHERE stream = 2;
             UPDATE content SET state = 3 WHERE stream = 3; UPDATE stream SET lost = 1 WHERE id = 3;
             UPDATE content SET state = 4 WHERE stream = 4; UPDATE stream SET damaged = 1 WHERE id = 4;
             UPDATE content SET state = 1 WHERE stream = 5;
             INSERT INTO batch (id, sent, events, mark, keys) VALUES (99, 0, 2, '', x'');
             INSERT INTO batch_content SELECT 99, id, 2 FROM content WHERE stream = 5;",
        )
        .unwrap();
    drop(ledger);
    let (lines, code) = table(&world);
    assert_eq!(code, Some(3));
    for (row, line) in [
        "tenant-1 Audit.Exchange FAILING just now just now 2 2 0 1 1 0 0",
        "tenant-1 Audit.SharePoint LOST just now just now 2 2 0 0 0 0 1",
        "tenant-1 Audit.General DAMAGED just now just now 2 2 0 0 0 1 0",
        "tenant-1 Audit.AzureActiveDirectory pending just now just now 2 2 0 1 0 0 0",
        "tenant-1 DLP.All ok just now just now 2 2 2 0 0 0 0",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(lines[row + 1], line, "problems first: {lines:?}");
    }
    for meaning in [
        "1 LOST: some of it was gone from Microsoft before it was fetched; the portal's audit search may still have it",
        "1 DAMAGED: Microsoft handed out what cannot be read, for good; what could be read of it was sent",
        "1 FAILING: the last attempt failed, as said below; a later run tries again",
        "1 pending: listed, not all fetched yet; the next run goes on",
        "1 ok: listed and fetched, as far as Microsoft lists",
    ] {
        assert!(lines.contains(&meaning.to_owned()), "{meaning}: {lines:?}");
    }
    assert!(
        lines.iter().any(|line| line.ends_with("no answer")),
        "the last error and its age: {lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.ends_with("Not yet confirmed: 2.")),
        "{lines:?}"
    );
}

#[test]
fn a_collection_that_is_no_longer_started_is_not_well() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_everywhere(1, 2);
    world.run_expecting(0, &[]);
    for (hours, code) in [(24, 0), (26, 3)] {
        let ledger = Connection::open(world.ledger()).unwrap();
        let last = (Utc::now() - TimeDelta::hours(hours)).timestamp_millis();
        ledger
            .execute(
                "UPDATE stream SET last_success = ?1, last_record = ?1",
                [last],
            )
            .unwrap();
        drop(ledger);
        let (lines, said) = table(&world);
        assert_eq!(said, Some(code), "{hours} h: {lines:?}");
        let stale = lines.iter().filter(|line| line.contains(" STALE "));
        assert_eq!(stale.count(), if code == 0 { 0 } else { 5 }, "{lines:?}");
    }
    let is_gone = |line: &String| {
        line.starts_with("Nothing new was listed of tenant-1 for more than the 7 days")
    };
    assert!(!table(&world).0.iter().any(is_gone));
    let ledger = Connection::open(world.ledger()).unwrap();
    let marker = (Utc::now() - TimeDelta::days(9)).timestamp_millis();
    ledger
        .execute("UPDATE stream SET marker = ?1", [marker])
        .unwrap();
    drop(ledger);
    let lines = table(&world).0;
    assert_eq!(
        lines.iter().filter(|line| is_gone(line)).count(),
        1,
        "{lines:?}"
    );
    let ledger = Connection::open(world.ledger()).unwrap();
    let marker = Utc::now().timestamp_millis();
    ledger
        .execute("UPDATE stream SET marker = ?1", [marker])
        .unwrap();
    drop(ledger);
    world.run_expecting(0, &[]);
    assert_eq!(table(&world).1, Some(0));
}

/// A folder that was not mounted, or not restored, looks like no tenants.
#[test]
fn tenants_that_are_gone_are_missed_and_what_waits_of_them_is_said() {
    let mut world = World::with_tenants(2, Options::default());
    world.set("http", "retries", "0");
    world.issue_everywhere(1, 2);
    let never = Action::af(500, "AF50000", "no");
    let never = Rule::on(Operation::Blob, never).content_type("Audit.Exchange");
    world.microsoft.faults(Plan::default().rule(never));
    world.run_expecting(3, &[]);
    let gone = |tenant: usize| {
        let file = format!("tenants.d/tenant-{}.toml", tenant + 1);
        std::fs::remove_file(world.folder.path().join(file)).unwrap();
        world.id(tenant)
    };
    let waits = "not collected any more; 1 of its contents wait, and are fetched if it is again before they expire.";
    let (lines, _) = table(&world);
    assert!(!lines.iter().any(|line| line.contains(waits)), "{lines:?}");
    let line = format!("{} Audit.Exchange: {waits}", gone(1));
    let (lines, _) = table(&world);
    assert!(lines.contains(&line), "{lines:?}");
    gone(0);
    let (lines, code) = table(&world);
    assert_eq!(code, Some(3), "{lines:?}");
    assert!(
        lines[0].starts_with("There are no tenants any more"),
        "{lines:?}"
    );
    let json = world.run_as_it_stands(&["status", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["tenants_gone"], true);
    assert_eq!(json["left_behind"].as_array().unwrap().len(), 2, "{json}");
    let (doctor, said) = (
        world.run_as_it_stands(&["doctor"]),
        "there are no tenants any more",
    );
    assert_eq!(doctor.status.code(), Some(3));
    assert!(String::from_utf8(doctor.stdout).unwrap().contains(said));
    // After a while it is what somebody wanted.
    let ledger = Connection::open(world.ledger()).unwrap();
    let long_ago = (Utc::now() - TimeDelta::days(9)).timestamp_millis();
    ledger
        .execute("UPDATE stream SET last_success = ?1", [long_ago])
        .unwrap();
    ledger
        .execute("UPDATE content SET expires = ?1", [long_ago])
        .unwrap();
    drop(ledger);
    let (lines, code) = table(&world);
    assert_eq!((lines, code), (vec!["No tenants yet.".into()], Some(0)));
}

#[test]
fn what_is_wrong_with_a_tenant_or_a_permission_shows() {
    let world = World::with_tenants(2, Options::default());
    let (first, second) = (world.id(0), world.id(1));
    world
        .microsoft
        .change_tenant(&first, |spec| spec.roles.truncate(1));
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222)).tenant(&second);
    world.microsoft.faults(Plan::default().rule(refused));
    world.run(&["run"]);
    let log = world.log();
    let (lines, code) = table(&world);
    assert_eq!(code, Some(3));
    assert_eq!(world.log(), log, "the log is that of runs");
    assert!(
        lines[1].starts_with("tenant-2 Audit.AzureActiveDirectory FAILING"),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("tenant-1 DLP.All unavailable")),
        "{lines:?}"
    );
    let meaning =
        "1 unavailable: not collected, for the reason said below; a run looks again every 6 hours";
    assert!(lines.contains(&meaning.to_owned()), "{lines:?}");
    let said = |line: &String| {
        line.starts_with("tenant-2, just now: the client secret has expired (AADSTS7000222")
    };
    assert!(lines.iter().any(said), "{lines:?}");

    // It stays so until a run finds something else, whenever that looks again.
    world.microsoft.faults(Plan::default());
    let is_unavailable = |world: &World| {
        let (lines, code) = table(world);
        let mut lines = lines.iter();
        code == Some(0) && lines.any(|line| line.starts_with("tenant-1 DLP.All unavailable"))
    };
    assert_eq!(world.run(&["doctor"]).status.code(), Some(0));
    world.run_expecting(0, &[]);
    assert!(is_unavailable(&world));
    assert_eq!(world.run(&["doctor"]).status.code(), Some(0));
    assert!(is_unavailable(&world));
    // A fault of another kind is one.
    let broken = Action::Status {
        status: 500,
        body: "{}".into(),
    };
    let broken = Rule::on(Operation::Content, broken).content_type("DLP.All");
    world.microsoft.faults(Plan::default().rule(broken));
    world.microsoft.change_tenant(&first, |spec| {
        spec.roles.push("ActivityFeed.ReadDlp".to_owned());
    });
    world.run(&["doctor"]);
    world.run_expecting(3, &[]);
    assert!(!is_unavailable(&world));
}

#[test]
fn of_many_tenants_what_is_well_is_only_counted() {
    let world = World::with_tenants(21, Options::default());
    let id = world.id(4);
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222)).tenant(&id);
    world.microsoft.faults(Plan::default().rule(refused));
    world.run_expecting(3, &[]);
    let rows = |arguments: &[&str]| {
        let said = String::from_utf8(world.run(arguments).stdout).unwrap();
        let rows = said.lines().filter(|line| line.starts_with(" tenant-"));
        (rows.count(), said)
    };
    let (count, said) = rows(&["status"]);
    assert_eq!(count, 5, "{said}");
    let rest = "100 that are ok are not shown; `o365-wodle status --all` shows them.";
    assert!(said.contains(rest), "{said}");
    assert_eq!(rows(&["status", "--all"]).0, 21 * 5);
}

/// What a person reads of each assurance, and what a program.
#[test]
fn each_assurance_is_worded() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_small(0, "Audit.Exchange", 1, TimeDelta::minutes(5));
    world.run_expecting(0, &[]);
    for (assurance, words) in [
        (
            "confirmed",
            "Delivered records are confirmed: processed and written by the Wazuh manager. Not yet confirmed: 0.",
        ),
        (
            "forwarded",
            "Delivered records are forwarded: the Wazuh agent passed them on while connected. Not yet confirmed: 0.",
        ),
        (
            "accepted",
            "Delivered records are accepted: taken by the reader of the queue socket; nothing more can be known there. Not yet confirmed: 0.",
        ),
    ] {
        let ledger = Connection::open(world.ledger()).unwrap();
        let set = "UPDATE value SET value = ?1 WHERE name = 'assurance'";
        assert_eq!(ledger.execute(set, [assurance]).unwrap(), 1);
        drop(ledger);
        let (lines, _) = table(&world);
        assert!(lines.contains(&words.to_owned()), "{lines:?}");
        let output = world.run_as_it_stands(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["assurance"], assurance);
    }
}

#[test]
fn a_damaged_ledger_is_named_with_the_cure() {
    let world = World::with_tenants(1, Options::default());
    world.run_expecting(0, &[]);
    std::fs::write(world.ledger(), "x".repeat(8192)).unwrap();
    let expected = format!(
        "{}: the ledger is damaged (file is not a database). Nothing to do: runs set it aside",
        world.ledger().display()
    );
    for command in [&["status"][..], &["run", "--dry-run"]] {
        let output = world.run(command);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{command:?}: {said}");
        assert!(said.contains(&expected), "{command:?}: {said}");
    }
}

/// Listings are well all the while.
#[test]
fn that_wazuh_takes_nothing_is_said_until_it_does() {
    let mut world = World::with_tenants(1, Options::default());
    world.set("wazuh", "send_timeout", "\"6s\"");
    let held = |world: &World| {
        let output = world.run_as_it_stands(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = status["held"]["error"].as_str().map(str::to_owned);
        let (lines, code) = table(world);
        let is_said = lines
            .iter()
            .any(|line| line.starts_with("Wazuh has taken nothing since 20"));
        assert_eq!(is_said, error.is_some(), "{lines:?}");
        assert_eq!(code, Some(if is_said { 3 } else { 0 }), "{lines:?}");
        error
    };
    world.run_expecting(0, &[]);
    assert_eq!(held(&world), None);

    world.queue.close();
    world.run_expecting(75, &[]);
    let error = held(&world).unwrap();
    assert!(error.contains("queue"), "{error}");
    world.queue.rebind().unwrap();
    world.run_expecting(0, &[]);
    assert_eq!(held(&world), None);

    world.queue.pause();
    world.issue_small(0, "Audit.Exchange", 400, TimeDelta::minutes(5));
    world.run_expecting(75, &[]);
    let error = held(&world).unwrap();
    assert!(error.contains("full or held"), "{error}");
    let since = |world: &World| {
        let output = world.run_as_it_stands(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["held"]["since"].clone()
    };
    let first = since(&world);
    let doctor = |world: &World| {
        let output = world.run(&["doctor"]);
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = doctor(&world);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("it is full, and nobody takes anything out of it"),
        "{said}"
    );
    // A run that has nothing for it sees no better.
    world.run_expecting(0, &["--content-type", "DLP.All"]);
    assert_eq!((held(&world), since(&world)), (Some(error), first.clone()));
    // One that hands over, and then is held again: since then, however short it may wait.
    world.set("wazuh", "send_timeout", "\"2s\"");
    let run = world.start(&[]);
    thread::sleep(Duration::from_secs(1));
    world.queue.slow(Some(20.0));
    world.queue.resume();
    assert!(world.queue.wait_for(30, Duration::from_secs(20)));
    world.queue.pause();
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(75));
    assert!(held(&world).is_some() && since(&world) != first);
    world.queue.slow(None);
    world.queue.resume();
    let (code, said) = doctor(&world);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("there is room now, but runs found that"),
        "{said}"
    );
    world.run_expecting(0, &[]);
    assert_eq!(held(&world), None);
    world.assert_clean();
}

#[test]
fn what_is_not_confirmed_for_a_day_is_not_well() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_small(0, "Audit.Exchange", 3, TimeDelta::minutes(5));
    world.run_expecting(0, &[]);
    assert_eq!(table(&world).1, Some(0));
    let yesterday = Utc::now() - TimeDelta::hours(26);
    let ledger = Connection::open(world.ledger()).unwrap();
    let set = "UPDATE batch SET confirmed = 0, sent = ?1";
    assert_eq!(
        ledger.execute(set, [yesterday.timestamp_millis()]).unwrap(),
        1
    );
    let (lines, code) = table(&world);
    assert_eq!(code, Some(3), "{lines:?}");
    let is_said = |line: &String| line.starts_with("Wazuh has not confirmed what it was sent at");
    assert!(lines.iter().any(is_said), "{lines:?}");
    let output = world.run_as_it_stands(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let since = status["unconfirmed_since"].as_str().unwrap();
    let since: chrono::DateTime<Utc> = since.parse().unwrap();
    assert_eq!(since.timestamp_millis(), yesterday.timestamp_millis());
}
