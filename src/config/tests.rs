#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const ID: &str = "8a3c1b6e-0000-4000-8000-00000000000";

/// A folder with `config.toml`, other files by name, and a good secret `s`.
fn folder(config: &str, files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("config.toml", config), ("s", "abc~\n")]
        .iter()
        .chain(files)
    {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

fn load(config: &str) -> Settings {
    let folder = folder(config, &[]);
    Settings::load(&folder.path().join("config.toml")).unwrap()
}

/// What `check` finds, without the folder's own name.
fn found(folder: &TempDir) -> Vec<String> {
    let root = format!("{}/", folder.path().display());
    Settings::check(&folder.path().join("config.toml"))
        .err()
        .unwrap_or_default()
        .iter()
        .map(|problem| problem.to_string().replace(&root, ""))
        .collect()
}

fn problems(config: &str) -> Vec<String> {
    found(&folder(config, &[]))
}

/// A good tenant with number `n`; `more` stands under it.
fn tenant(n: u8, more: &str) -> String {
    format!(
        "[[tenant]]\nname = 't{n}'\ntenant_id = '{ID}{n}'\nclient_id = '{ID}9'\nclient_secret_file = 's'\n{more}\n"
    )
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let settings = load("");
    assert!(settings.tenants.is_empty());
    assert_eq!(settings.wazuh.home, Path::new("/var/ossec"));
    assert_eq!(settings.wazuh.queue, None);
    assert_eq!(settings.wazuh.location, "office365");
    assert_eq!(settings.wazuh.events_per_second, EventsPerSecond::Auto);
    assert!(settings.wazuh.acknowledge);
    assert_eq!(settings.wazuh.send_timeout, Duration::from_secs(60));
    assert_eq!(settings.wazuh.annotate, None);
    assert_eq!(
        settings.state.ledger,
        Path::new("/var/lib/o365-wodle/ledger.db")
    );
    let log = Path::new("/var/log/o365-wodle/o365-wodle.log");
    assert_eq!(settings.log.file.as_deref(), Some(log));
    assert_eq!(settings.log.level, log::LevelFilter::Info);
    assert_eq!(settings.log.format, LogFormat::Text);
    let hours = Duration::from_hours;
    let collect = &settings.collect;
    assert_eq!((collect.overlap, collect.resweep), (hours(6), hours(24)));
    assert_eq!(collect.deadline, Duration::from_mins(4));
    assert_eq!(collect.tenants_in_parallel, 16);
    assert_eq!(collect.deduplicate_for, hours(8 * 24));
    assert_eq!(collect.silent_after, hours(24));
    assert_eq!(settings.http.connect_timeout, Duration::from_secs(10));
    assert_eq!(settings.http.request_timeout, Duration::from_mins(2));
    assert_eq!(settings.http.retries, 5);
}

#[test]
fn a_tenant_inherits_and_overrides() {
    let settings = load(&format!(
        "[wazuh]\nevents_per_second = 0\nannotate = false\nacknowledge = 'off'\n[log]\nfile = ''\n\
         [collect]\nconcurrency = 3\ncontent_types = ['dlp.ALL', 'audit.general', 'DLP.All']\n\
         publisher_identifier = '{ID}7'\n{}{}",
        tenant(1, "").replace("8a3c", "8A3C"),
        tenant(
            2,
            "concurrency = 4\ncontent_types = ['Audit.Exchange']\ninitial_lookback = '7d'\n\
             login_url = 'http://127.0.0.1:8080/'\nmanagement_url = 'https://Manage.Example'\n\
             cloud = 'gcc-high'\nenabled = false\nlabels = { customer = 'C-42' }"
        ),
    ));
    assert_eq!(settings.wazuh.events_per_second, EventsPerSecond::Unlimited);
    assert_eq!(settings.wazuh.annotate, Some(false));
    assert!(!settings.wazuh.acknowledge);
    assert_eq!(settings.log.file, None);
    let (one, two) = (&settings.tenants[0], &settings.tenants[1]);
    assert_eq!(one.tenant_id, format!("{ID}1"));
    assert_eq!(one.content_types, [ContentType::Dlp, ContentType::General]);
    assert_eq!((one.concurrency, two.concurrency), (3, 4));
    assert_eq!(one.publisher_identifier, format!("{ID}7"));
    assert_eq!(one.initial_lookback, Duration::from_hours(24));
    assert!(one.enabled && !two.enabled);
    assert!(
        matches!(&one.authentication, Authentication::Secret(Secret::File(path)) if path.is_absolute())
    );
    assert_eq!(two.content_types, [ContentType::Exchange]);
    assert_eq!(two.initial_lookback, Duration::from_hours(7 * 24));
    assert_eq!(two.login_url.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(
        two.management_url.as_deref(),
        Some("https://manage.example")
    );
    assert_eq!(two.cloud, Cloud::GccHigh);
    assert_eq!(two.labels["customer"], "C-42");
    assert_eq!(
        load(&tenant(1, "")).tenants[0].publisher_identifier,
        format!("{ID}1")
    );
}

#[test]
fn tenants_d() {
    let one = format!("tenant_id = '{ID}1'\nclient_id = '{ID}9'\nclient_secret_file = 's'\n");
    let two = format!(
        "name = 'two'\ntenant_id = '{ID}2'\nclient_id = '{ID}9'\nclient_secret_credential = 'two'\n"
    );
    let files = [
        ("tenants.d/two.toml", &*two),
        ("tenants.d/one.toml", &*one),
        ("tenants.d/one.toml.bak", "?"),
        ("tenants.d/.one.toml", "?"),
    ];
    let folder = folder(&tenant(3, ""), &files);
    assert_eq!(found(&folder), [""; 0]);
    let settings = Settings::load(&folder.path().join("config.toml")).unwrap();
    let names: Vec<_> = settings
        .tenants
        .iter()
        .map(|tenant| &*tenant.name)
        .collect();
    assert_eq!(names, ["t3", "one", "two"]);
    fs::set_permissions(
        folder.path().join("tenants.d"),
        fs::Permissions::from_mode(0o770),
    )
    .unwrap();
    assert_eq!(
        found(&folder),
        ["tenants.d: tenants.d is writable by others (mode 0770); chmod go-w tenants.d"]
    );
}

#[test]
fn check_finds_what_is_wrong_in_tenants_d() {
    let tenant_d = format!(
        "name = 'three'\ntenant_id = '{ID}1'\nclient_id = '{ID}9'\nclient_secret_file = 's'\nx = 1\n"
    );
    let files = [
        ("tenants.d/one.toml", &*tenant_d),
        ("tenants.d/T.toml", "= 'hunter2'"),
    ];
    let folder = folder(&tenant(1, ""), &files);
    assert_eq!(
        found(&folder),
        [
            "tenants.d/T.toml: line 1 is no TOML (invalid key, expected `key`); write key = \"value\", each on a line of its own",
            "tenants.d/one.toml: x: unknown key; remove it; known here: name, tenant_id",
            "tenants.d/one.toml: name: differs from the file's name; remove the line, or rename the file",
            "tenants.d/one.toml: tenant_id: is the same as in config.toml tenant[0]; remove one of the two",
        ]
    );
}

/// Each message of `check`: what stands in the configuration, and what is said.
#[test]
fn check_says_what_where_and_the_cure() {
    let mut wrong = Vec::new();
    for (config, said) in table() {
        let problems = problems(&config);
        if problems != said {
            wrong.push(format!("{config}\n  said: {problems:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn table() -> Vec<(String, Vec<&'static str>)> {
    vec![(tenant(1, ""), vec![])]
}

proptest! {
    /// Whatever stands in the file: no panic, and never its content in a message.
    #[test]
    fn anything_is_loaded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = folder("", &[]);
        fs::write(folder.path().join("config.toml"), &bytes).unwrap();
        let _settings = Settings::check(&folder.path().join("config.toml"));
    }

    #[test]
    fn no_value_is_ever_shown(
        section in "(wazuh|state|log|collect|http|metrics|tenant|nothing)",
        key in "(home|events_per_second|annotate|concurrency|deadline|content_types|labels|proxy|name|tenant_id|client_secret|client_secret_command|client_secret_expires|login_url|cloud|include|enabled|xyz)",
        shape in "(V|\\[V\\]|\\{ a = V \\}|\\[\\[V\\], 1\\]|\\[\\{ b = V \\}\\]|\"|V V)",
        array in any::<bool>(),
    ) {
        let header = if array { format!("[[{section}]]") } else { format!("[{section}]") };
        let value = shape.replace('V', "'Hunter2~Hunter2'");
        let folder = folder(&format!("{header}\n{key} = {value}\n"), &[]);
        for problem in found(&folder) {
            prop_assert!(!problem.contains("Hunter2"), "{}", problem);
        }
    }
}
