//! The figures for Prometheus.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use chrono::{TimeDelta, Utc};
use simulator::microsoft::Options;

use crate::world::World;

/// The file's samples, and its types by name. It has to be Prometheus' text format.
fn parse(text: &str) -> (BTreeMap<String, i64>, BTreeMap<String, String>) {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert!(
                types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            assert!(types.contains_key(name), "{line}: its type comes before it");
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let value = format!("{value:.0}").parse().unwrap();
            assert!(samples.insert(sample.to_owned(), value).is_none(), "{line}");
        }
    }
    (samples, types)
}

#[test]
fn figures_are_written_whole_after_each_run() {
    let mut world = World::with_tenants(2, Options::default());
    let file = world.folder.path().join("o365_wodle.prom");
    world.set(
        "metrics",
        "textfile",
        &format!("{:?}", file.display().to_string()),
    );
    let name = world.tenants[0].0.clone();
    world.tenant_settings.insert(
        name,
        vec![
            "client_secret_expires = 2099-05-01".to_owned(),
            "exclude = [{ operation = \"*\", record_type = [1] }]".to_owned(),
        ],
    );
    for content_type in ["Audit.Exchange", "DLP.All"] {
        world.issue_small(1, content_type, 7, TimeDelta::minutes(3));
    }
    let before = Utc::now().timestamp();
    world.run_expecting(0, &[]);
    let text = fs::read_to_string(&file).unwrap();
    let (samples, types) = parse(&text);
    let sample = |name: &str| samples[&format!("o365_wodle_{name}")];
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    assert_eq!(
        fs::read_dir(world.folder.path())
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .contains("prom")
            })
            .count(),
        1,
        "nothing else is left behind"
    );

    let exchange = "{tenant=\"tenant-2\",content_type=\"Audit.Exchange\"}";
    assert_eq!(sample(&format!("records_delivered_total{exchange}")), 7);
    assert_eq!(sample(&format!("blobs_pending{exchange}")), 0);
    assert_eq!(sample(&format!("blobs_lost_total{exchange}")), 0);
    assert!(sample(&format!("lag_seconds{exchange}")) < 60);
    assert!(sample(&format!("last_success_timestamp_seconds{exchange}")) >= before - 2);
    assert!(sample("last_run_timestamp_seconds") >= before);
    assert_eq!(sample("events_unconfirmed"), 0);
    assert_eq!(
        sample("secret_expiry_timestamp_seconds{tenant=\"tenant-1\"}"),
        4_081_276_800
    );
    let requests: i64 = samples
        .iter()
        .filter(|(name, _)| name.starts_with("o365_wodle_requests_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(
        usize::try_from(requests),
        Ok(world.microsoft.request_count())
    );
    let status: u64 = world.sum("delivered");
    let delivered: i64 = samples
        .iter()
        .filter(|(name, _)| name.starts_with("o365_wodle_records_delivered_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(u64::try_from(delivered), Ok(status));
    assert_eq!(types.len(), 13, "as documented: {types:?}");

    // A run that can do nothing has figures too; a file that cannot be written fails no run.
    world.queue.close();
    assert_eq!(world.run(&["run"]).status.code(), Some(75));
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("o365_wodle_run_duration_seconds")
    );
    // One that another keeps from running has none.
    let lock = fs::File::open(world.folder.path().join("ledger.db.lock")).unwrap();
    lock.lock().unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(world.run(&["run"]).status.code(), Some(75));
    assert!(!file.exists());
    drop(lock);
    world.queue.rebind().unwrap();
    world.set("metrics", "textfile", "\"/proc/o365_wodle.prom\"");
    world.run_expecting(0, &[]);
    assert!(
        world
            .log()
            .contains("the metrics ([metrics] textfile) cannot be written: /proc/o365_wodle.prom")
    );
}

/// So that it is noticed; until it is what somebody wanted.
#[test]
fn a_run_whose_tenants_are_gone_leaves_the_old_figures() {
    let mut world = World::with_tenants(1, Options::default());
    let file = world.folder.path().join("o365_wodle.prom");
    world.set(
        "metrics",
        "textfile",
        &format!("{:?}", file.display().to_string()),
    );
    world.run_expecting(0, &[]);
    let named = || fs::read_to_string(&file).unwrap().contains("tenant=");
    fs::remove_dir_all(world.folder.path().join("tenants.d")).unwrap();
    for is_named in [true, false] {
        assert_eq!(world.run_as_it_stands(&["run"]).status.code(), Some(0));
        assert_eq!(named(), is_named);
        let ledger = rusqlite::Connection::open(world.ledger()).unwrap();
        ledger
            .execute("UPDATE stream SET last_success = 1", [])
            .unwrap();
    }
    assert!(world.log().contains("There are no tenants any more"));
}
