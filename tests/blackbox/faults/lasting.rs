//! Faults that last: what cannot be had is counted and said, and holds up nothing else.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use simulator::microsoft::{Action, Operation, Plan, RetryAfter, Rule};

use super::{AGES, RECORDS, assert_clean, code, each, fill, run, throttle, verdict, world};

/// A lasting fault of the first tenant's first, third and fifth content.
fn on_three(action: &Action, ids: &[String]) -> Plan {
    let is_of_contents = matches!(
        action,
        Action::ContentVanished | Action::ContentExpired | Action::ForeignContentUri(_)
    );
    ids.iter()
        .take(AGES.len())
        .step_by(2)
        .fold(Plan::default(), |plan, id| {
            let rule = if is_of_contents {
                Rule::any(action.clone())
            } else {
                Rule::on(Operation::Blob, action.clone())
            };
            plan.rule(rule.content(id))
        })
}

#[test]
fn the_true_address_is_asked_for_even_where_no_sweep_is_wanted() {
    let mut world = world(1);
    world.set("collect", "overlap", "\"0s\"");
    world.set("collect", "resweep", "\"0s\"");
    fill(&mut world);
    let elsewhere = Action::ForeignContentUri("http://127.0.0.1:9".into());
    world
        .microsoft
        .faults(Plan::new(1).rule(Rule::any(elsewhere)));
    assert_eq!(run(&world), 3, "{}", world.log());
    world.microsoft.faults(Plan::default());
    assert_eq!(run(&world), 0, "{}", world.log());
    let verdict = verdict(&mut world);
    assert!(verdict.missing.is_empty(), "{verdict}");
}

/// Contents that cannot be had, and how the ledger counts them.
#[test]
fn what_cannot_be_had_is_counted_and_holds_nothing_up() {
    let status = |status: u16, body: &str| Action::Status {
        status,
        body: body.into(),
    };
    let rows: Vec<(&str, Action, &str)> = vec![
        ("vanished", Action::ContentVanished, "failed"),
        ("expired", Action::ContentExpired, "lost"),
        ("404", status(404, r#"{"Message":"no"}"#), "failed"),
        ("500", status(500, "<html>no</html>"), "failed"),
        ("401", Action::Message401, "failed"),
        ("403", status(403, r#"{"Message":"no"}"#), "failed"),
        (
            "400",
            status(400, r#"{"error":{"code":"AF99999","message":"no"}}"#),
            "failed",
        ),
        (
            "foreign",
            Action::ForeignContentUri("http://127.0.0.1:9".into()),
            "failed",
        ),
        ("cut", Action::CutJson(1), "failed"),
        ("truncated", Action::TruncateLength(1), "failed"),
        ("stall", Action::StallBeforeHeaders, "failed"),
    ];
    each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, action, counter)| {
            let mut world = world(2);
            world.set("http", "retries", "1");
            let ids = fill(&mut world);
            world.microsoft.faults(on_three(action, &ids));
            assert_eq!(run(&world), 3, "{}", world.log());
            let missing = verdict(&mut world).missing.len();
            let counted = usize::try_from(world.sum(counter)).unwrap();
            assert_eq!(counted, 3, "{counter}: {}", world.log());
            assert_eq!(missing, counted * RECORDS, "{}", world.log());
            assert!(
                world.log().contains("Audit.Exchange: content 20"),
                "{}",
                world.log()
            );
            let state = if *counter == "lost" {
                "lost"
            } else {
                "failing"
            };
            assert!(world.status().iter().any(|stream| stream["state"] == state));
            // New contents come, whatever stays behind.
            world.microsoft.faults(Plan::default());
            world.issue_small(0, "Audit.Exchange", RECORDS, TimeDelta::minutes(1));
            assert_eq!(run(&world), 0, "{}", world.log());
            let verdict = verdict(&mut world);
            assert!(verdict.repeated.is_empty());
            let lost = if *counter == "lost" { missing } else { 0 };
            assert_eq!(verdict.missing.len(), lost, "{}", world.log());
        },
    );
}

#[test]
fn a_damaged_blob_is_delivered_as_far_as_it_can_be_read() {
    let rows = [
        ("bad element", Action::BadElement, 0),
        ("null", Action::NullElement, 0),
        ("no objects", Action::NonObjectElement, 0),
        ("no array of records", Action::WrongJson, RECORDS),
    ];
    each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, action, lost)| {
            let mut world = world(1);
            let ids = fill(&mut world);
            world.microsoft.faults(on_three(action, &ids));
            for _ in 0..2 {
                assert_eq!(run(&world), 3, "{}", world.log());
                assert!(world.oracle.health().is_empty());
            }
            run(&world);
            let damaged = usize::try_from(world.sum("damaged")).unwrap();
            assert_eq!(damaged, 3, "{}", world.log());
            let verdict = verdict(&mut world);
            assert_eq!(verdict.missing.len(), damaged * lost);
            assert!(verdict.repeated.is_empty());
            let told = world.oracle.health_counts();
            assert!(told["content_damaged"] >= damaged, "{told:?}");
            assert!(world.log().contains("damaged"), "{}", world.log());
            // It is closed: nobody asks for it any more, nothing of it comes again.
            let before = world.queue.count();
            let asked = world.microsoft.request_count();
            assert_eq!(run(&world), 0, "{}", world.log());
            assert_eq!(world.queue.count(), before);
            let blobs =
                |request: &&simulator::microsoft::Request| request.operation == Operation::Blob;
            assert_eq!(
                world.microsoft.requests()[asked..]
                    .iter()
                    .filter(blobs)
                    .count(),
                0
            );
        },
    );
}

#[test]
fn what_stands_behind_a_syntax_fault_goes_out_as_raw_text() {
    let mut world = world(1);
    let id = world.id(0);
    let record = br#"{"Id":"before","RecordType":2,"Operation":"Send"}"#;
    world.oracle.issued(&id, "Audit.Exchange", record);
    let rest = r#" {"Id":"astray"} "#;
    let body = [b"[", &record[..], b"]", rest.as_bytes()].concat();
    let created = world.microsoft.now() - TimeDelta::minutes(1);
    world
        .microsoft
        .issue_raw(&id, "Audit.Exchange", body.clone(), created);
    for _ in 0..2 {
        assert_eq!(run(&world), 3, "{}", world.log());
    }
    run(&world);
    assert_eq!(world.sum("damaged"), 1, "{}", world.log());
    assert!(verdict(&mut world).missing.is_empty());
    let raw = |event: &&serde_json::Value| event.pointer("/o365_wodle/raw").is_some();
    let told: Vec<_> = world.oracle.health().iter().filter(raw).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["o365_wodle"]["raw"], rest.trim_start());
    assert_eq!(
        told[0]["o365_wodle"]["original_bytes"],
        rest.trim_start().len()
    );
    assert!(told[0]["o365_wodle"]["since"].is_string());
    assert_eq!(told[0]["o365_wodle"]["count"], 1);
    let fault = body.len() - rest.trim_start().len();
    assert_eq!(
        told[0]["office365"]["response"],
        format!("a syntax error in the array at byte {fault}")
    );
}

/// A content type that fails for good stops neither the other one nor the other tenant.
#[test]
#[allow(
    clippy::too_many_lines,
    reason = "a table and what becomes of its rows"
)]
fn a_failing_stream_or_tenant_stops_no_other() {
    let server = Action::Status {
        status: 500,
        body: "<html>no</html>".into(),
    };
    let exchange =
        |operation, action: Action| Rule::on(operation, action).content_type("Audit.Exchange");
    let rows = [
        (
            "listing 500",
            exchange(Operation::Content, server.clone()),
            false,
        ),
        (
            "page 500",
            exchange(Operation::NextPage, server.clone()),
            false,
        ),
        (
            "listing 404",
            exchange(
                Operation::Content,
                Action::Status {
                    status: 404,
                    body: "{}".into(),
                },
            ),
            false,
        ),
        (
            "page loop",
            exchange(Operation::NextPage, Action::PageLoop),
            false,
        ),
        (
            "bad next page",
            exchange(Operation::Content, Action::BadNextPage),
            false,
        ),
        (
            "start",
            exchange(Operation::Start, Action::StartRefused),
            false,
        ),
        (
            "start 500",
            exchange(Operation::Start, server.clone()),
            false,
        ),
        (
            "audit log",
            Rule::on(Operation::Content, Action::AuditLogOff),
            true,
        ),
        (
            "no roles",
            Rule::on(Operation::Token, Action::TokenWithoutRoles),
            true,
        ),
        ("sign-in", Rule::on(Operation::Token, server), true),
        (
            "conditional access",
            Rule::on(Operation::Token, Action::aadsts(53_003)),
            true,
        ),
        ("stall", Rule::any(Action::StallBeforeHeaders), true),
    ];
    each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(name, rule, is_tenant)| {
            let mut world = world(2);
            world.set("http", "retries", "1");
            fill(&mut world);
            let id = world.id(0);
            world
                .microsoft
                .faults(Plan::new(2).rule(rule.clone().tenant(&id)));
            assert_eq!(run(&world), 3, "{}", world.log());
            let missing = verdict(&mut world).missing;
            let struck = if *is_tenant {
                id
            } else {
                format!("{id} Audit.Exchange")
            };
            // Each page of a loop was read.
            assert_eq!(missing.is_empty(), *name == "page loop");
            assert!(
                missing.iter().all(|what| what.starts_with(&struck)),
                "{missing:#?}"
            );
            let errors = world
                .log()
                .lines()
                .filter(|line| line.contains(" ERROR tenant-1"))
                .count();
            assert_eq!(errors, 1, "{name}: {}", world.log());
            assert!(
                world
                    .status()
                    .iter()
                    .any(|stream| stream["state"] == "failing" && stream["error"].is_string())
            );
        },
    );
}

#[test]
fn a_missing_role_for_dlp_is_no_failure() {
    let mut world = world(1);
    fill(&mut world);
    let id = world.id(0);
    world
        .microsoft
        .change_tenant(&id, |tenant| tenant.roles.truncate(1));
    assert_eq!(run(&world), 0, "{}", world.log());
    let missing = verdict(&mut world).missing;
    assert_eq!(missing.len(), AGES.len() * RECORDS);
    assert!(missing.iter().all(|what| what.contains("DLP.All")));
    assert!(world.log().contains("ActivityFeed.ReadDlp"));
    // Six hours long nobody asks for it, nor for the list of subscriptions.
    let asked = world.microsoft.request_count();
    world.microsoft.advance(Duration::from_hours(1));
    assert_eq!(run(&world), 0);
    let asked: Vec<_> = world.microsoft.requests().split_off(asked);
    assert!(
        asked
            .iter()
            .all(|request| request.content_type.as_deref() != Some("DLP.All"))
    );
    assert!(
        asked
            .iter()
            .all(|request| request.operation != Operation::SubscriptionsList)
    );
    // Once granted, it is had.
    world.microsoft.change_tenant(&id, |tenant| {
        tenant.roles.push("ActivityFeed.ReadDlp".into());
    });
    world.microsoft.advance(Duration::from_hours(6));
    assert_eq!(run(&world), 0, "{}", world.log());
    assert_clean(&mut world);
}

#[test]
fn a_long_throttle_outlives_the_run() {
    let mut world = world(1);
    fill(&mut world);
    let rule = Rule::on(
        Operation::Content,
        throttle(429, RetryAfter::Seconds(600), Some(600)),
    )
    .nth(1);
    world.microsoft.faults(Plan::new(1).rule(rule));
    assert_eq!(run(&world), 75, "{}", world.log());
    let asked = world.microsoft.request_count();
    assert_eq!(code(&world.run_as_it_stands(&["run"])), 75);
    assert_eq!(world.microsoft.request_count(), asked);
}

/// What the cures say to correct is tried at once when it was corrected, be it no secret.
#[test]
fn a_corrected_tenant_is_tried_at_once() {
    let mut world = world(1);
    fill(&mut world);
    let refused = Rule::on(Operation::Token, Action::aadsts(90_002));
    world.microsoft.faults(Plan::default().rule(refused));
    assert_eq!(run(&world), 77);
    world.microsoft.faults(Plan::default());
    let asked = world.microsoft.request_count();
    assert_eq!(code(&world.run_as_it_stands(&["run"])), 77);
    assert_eq!(world.microsoft.request_count(), asked, "left alone");
    let file = world.folder.path().join("tenants.d/tenant-1.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let login = format!("login_url = {:?}", world.microsoft.url());
    assert!(text.contains(&login));
    let corrected = login.replace("127.0.0.1", "localhost");
    crate::world::write(&file, &text.replace(&login, &corrected), 0o640);
    assert_eq!(
        code(&world.run_as_it_stands(&["run"])),
        0,
        "{}",
        world.log()
    );
    assert_clean(&mut world);
}

#[test]
fn an_expired_secret_costs_a_login_an_hour_and_a_rotated_one_is_tried_at_once() {
    for skew in [-600, 0, 600] {
        let mut world = world(1);
        world
            .microsoft
            .set_clock(Utc::now() + TimeDelta::seconds(skew));
        fill(&mut world);
        let id = world.id(0);
        let expired = world.microsoft.now() - TimeDelta::hours(1);
        world
            .microsoft
            .change_tenant(&id, |tenant| tenant.secret_expires = Some(expired));
        assert_eq!(run(&world), 77);
        for _ in 0..3 {
            assert_eq!(code(&world.run_as_it_stands(&["run"])), 77);
        }
        assert_eq!(world.microsoft.request_count(), 1, "clock {skew:+} s");
        assert_eq!(
            world.log().matches("AADSTS7000222").count(),
            4,
            "{}",
            world.log()
        );
        // An hour later.
        let ledger = rusqlite::Connection::open(world.ledger()).unwrap();
        ledger
            .execute("UPDATE tenant SET not_before = not_before - 3600000", [])
            .unwrap();
        drop(ledger);
        assert_eq!(code(&world.run_as_it_stands(&["run"])), 77);
        assert_eq!(world.microsoft.request_count(), 2);
        world.tenants[0].1.secret = "another~one".into();
        world.microsoft.change_tenant(&id, |tenant| {
            tenant.secret = "another~one".into();
            tenant.secret_expires = None;
        });
        assert_eq!(run(&world), 0, "{}", world.log());
        assert_clean(&mut world);
    }
}
