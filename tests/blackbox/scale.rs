//! Many tenants in one run: one's trouble is its own, one's backlog delays nobody.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use simulator::microsoft::{Action, Operation, Options, Plan, RetryAfter, Rule, TenantSpec};

use crate::world::World;

#[test]
fn twenty_failing_tenants_of_three_hundred_fail_alone() {
    let mut world = World::with_tenants(300, Options::default());
    world.set(
        "collect",
        "content_types",
        r#"["Audit.Exchange", "Audit.General"]"#,
    );
    world.set("http", "connect_timeout", "\"2s\"");
    world.set("http", "request_timeout", "\"3s\"");
    world.set("http", "retries", "1");
    for tenant in 0..300 {
        for content_type in ["Audit.Exchange", "Audit.General"] {
            world.issue_small(tenant, content_type, 2, TimeDelta::minutes(5));
        }
    }
    let mut plan = Plan::new(1);
    for tenant in (0..300).step_by(15) {
        let id = world.id(tenant);
        let change = |change: fn(&mut TenantSpec)| world.microsoft.change_tenant(&id, change);
        let broken = |action| Some(Rule::any(action).tenant(&id));
        let rule = match tenant / 15 % 10 {
            0 => {
                change(|tenant| tenant.secret = "another".into());
                None
            }
            1 => {
                change(|tenant| tenant.secret_expires = Some(Utc::now() - TimeDelta::days(1)));
                None
            }
            2 => {
                change(|tenant| tenant.audit_log = false);
                None
            }
            3 => {
                change(|tenant| tenant.roles.clear());
                None
            }
            4 => {
                change(|tenant| tenant.disabled = true);
                None
            }
            5 => broken(Action::StallBeforeHeaders),
            6 => broken(Action::Reset),
            7 => broken(Action::af(500, "AF50000", "An internal error occurred.")),
            8 => broken(Action::aadsts(90_002)),
            _ => broken(Action::Throttle {
                status: 429,
                retry_after: RetryAfter::Seconds(600),
                tenant_wide: None,
            }),
        };
        if let Some(rule) = rule {
            plan = plan.rule(rule);
        }
    }
    world.microsoft.faults(plan);
    world.run_expecting(3, &["--deadline", "3m"]);
    let missing = world.verdict().missing;
    assert_eq!(missing.len(), 20 * 4, "{missing:#?}");
    let log = world.log();
    let mut told: HashMap<&str, usize> = HashMap::new();
    for line in log.lines().filter(|line| line.contains(" ERROR tenant-")) {
        let name = line
            .split_whitespace()
            .nth(2)
            .unwrap()
            .trim_end_matches(':');
        *told.entry(name).or_default() += 1;
    }
    for tenant in 0..300 {
        let name = world.tenants[tenant].0.as_str();
        let failed = tenant % 15 == 0;
        assert_eq!(told.get(name), failed.then_some(&1), "{name}");
        let id = world.id(tenant);
        assert_eq!(missing.iter().any(|what| what.starts_with(&id)), failed);
    }
}

#[test]
fn a_backlog_of_one_tenant_delays_no_other() {
    let mut world = World::with_tenants(100, Options::default());
    world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
    world.set("collect", "initial_lookback", "\"6h\"");
    // Noon: what the windows are does not depend on when the test runs.
    let noon = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap();
    world.microsoft.set_clock(noon.and_utc());
    for tenant in 0..100 {
        let id = world.id(tenant);
        world.microsoft.subscribe_all(&id);
        let blobs = if tenant == 0 { 5_000 } else { 1 };
        for blob in 0..blobs {
            let ago = TimeDelta::minutes(2) + TimeDelta::seconds(blob * 4);
            world.issue_small(tenant, "Audit.Exchange", 1, ago);
        }
    }
    world.run_expecting(0, &["--deadline", "5m"]);
    world.assert_clean();
    let requests = world.microsoft.requests();
    let served: Vec<usize> = (1..100)
        .map(|tenant| {
            let id = world.id(tenant);
            requests
                .iter()
                .position(|request| request.operation == Operation::Blob && request.tenant == id)
                .unwrap()
        })
        .collect();
    let last = served.iter().max().unwrap();
    assert!(last * 10 < requests.len(), "{last} of {}", requests.len());
    assert!(
        world
            .microsoft
            .wait_for(Duration::ZERO, |all| all.len() == requests.len())
    );
}

/// More blobs than are taken from the ledger at a time: the next are looked for while the last of those before are still being
/// fetched.
#[test]
fn each_blob_of_a_backlog_is_fetched_once() {
    const BLOBS: i64 = 600;
    let mut world = World::with_tenants(1, Options::default());
    for blob in 1..=BLOBS {
        world.issue_small(0, "Audit.Exchange", 1, TimeDelta::minutes(blob));
    }
    world.run_expecting(0, &[]);
    let mut fetches = HashMap::new();
    let requests = world.microsoft.requests();
    for content_id in requests
        .iter()
        .filter_map(|request| request.content_id.as_ref())
    {
        *fetches.entry(content_id).or_insert(0) += 1;
    }
    assert_eq!(fetches.len(), usize::try_from(BLOBS).unwrap());
    assert!(fetches.values().all(|&times| times == 1), "{fetches:?}");
    world.assert_clean();
}

/// Each tenant has something to write down when the run is asked to stop, while the hand-over waits for Wazuh.
#[test]
fn a_stop_takes_no_longer_with_many_tenants() {
    const TENANTS: usize = 300;
    let mut world = World::with_tenants(TENANTS, Options::default());
    world.set("collect", "content_types", r#"["Audit.Exchange"]"#);
    for tenant in 0..TENANTS {
        world.issue_small(tenant, "Audit.Exchange", 10, TimeDelta::minutes(5));
    }
    world.queue.pause();
    let mut run = world.start(&["run"]);
    let are_listed = world
        .microsoft
        .wait_for(Duration::from_mins(1), |requests| {
            let listed = requests.iter();
            let listed = listed.filter(|request| request.operation == Operation::Content);
            let tenants: HashSet<_> = listed.map(|request| &request.tenant).collect();
            tenants.len() == TENANTS
        });
    assert!(are_listed, "{}", world.log());
    let begin = Instant::now();
    World::signal(&run, "TERM");
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", world.log());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    world.queue.resume();
    world.run_expecting(0, &[]);
    world.assert_clean();
}

/// Listing all takes longer than a run may: some come to their end, and others with the next run.
#[test]
fn a_deadline_too_near_for_all_is_near_for_others_each_time() {
    let options = Options {
        latency: Duration::from_millis(300),
        ..Options::default()
    };
    let mut world = World::with_tenants(40, options);
    world.set("collect", "tenants_in_parallel", "1");
    world.set(
        "collect",
        "content_types",
        r#"["Audit.Exchange", "DLP.All"]"#,
    );
    for tenant in 0..40 {
        let id = world.id(tenant);
        world.microsoft.subscribe_all(&id);
        world.issue_small(tenant, "Audit.Exchange", 1, TimeDelta::minutes(1));
        world.issue_small(tenant, "DLP.All", 1, TimeDelta::minutes(1));
    }
    for runs in 1..=20 {
        world.run_expecting(0, &["--deadline", "3s"]);
        let missing = world.verdict().missing.len();
        assert!(missing < 80, "{runs}: {}", world.log());
        if missing == 0 {
            break;
        }
        assert!(
            world.log().contains("not all that is new was listed"),
            "{}",
            world.log()
        );
    }
    world.assert_clean();
}

/// The same lines in each run would bury what is new.
#[test]
fn of_many_tenants_that_are_left_alone_few_are_named() {
    let mut world = World::with_tenants(13, Options::default());
    world.keeps_secrets = true;
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222));
    world.microsoft.faults(Plan::default().rule(refused));
    world.run_expecting(77, &[]);
    let first = world.log();
    assert_eq!(first.matches("(AADSTS7000222").count(), 13, "{first}");
    world.run_expecting(77, &[]);
    let log = world.log();
    let second = log.strip_prefix(&first).unwrap();
    let warned = |line: &&str| line.contains(" WARN ") && line.contains(": left alone");
    assert_eq!(second.lines().filter(warned).count(), 10, "{second}");
    assert!(
        second.contains("3 more tenants are left alone; "),
        "{second}"
    );
}

/// Microsoft wants most tenants to be left alone for longer than the run lasts, or has a fault for them: meanwhile others get
/// what was kept for them.
#[test]
fn tenants_that_rest_delay_no_other() {
    for action in [
        Action::Throttle {
            status: 429,
            retry_after: RetryAfter::Seconds(30),
            tenant_wide: None,
        },
        Action::af(503, "AF50000", "An internal error occurred."),
    ] {
        const TENANTS: usize = 60;
        let mut world = World::with_tenants(TENANTS, Options::default());
        let types = r#"["Audit.Exchange", "Audit.General"]"#;
        world.set("collect", "content_types", types);
        // The first run begins with the 42nd tenant: these are the last ones.
        let healthy = 36..41;
        let mut plan = Plan::new(1);
        for tenant in 0..TENANTS {
            world.microsoft.subscribe_all(&world.id(tenant));
            world.issue_small(tenant, "Audit.Exchange", 2, TimeDelta::minutes(5));
            if !healthy.contains(&tenant) {
                let rests = Rule::on(Operation::Content, action.clone());
                plan = plan.rule(rests.tenant(&world.id(tenant)));
            }
        }
        world.microsoft.faults(plan);
        world.run(&["run", "--deadline", "12s"]);
        let missing = world.verdict().missing.len();
        assert_eq!(missing, 2 * (TENANTS - healthy.len()), "{}", world.log());
    }
}
