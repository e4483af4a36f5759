#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::format_collect,
    reason = "a test fails by panicking, and is not in a hurry"
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
    assert_eq!(settings.wazuh.send_timeout, Duration::from_mins(1));
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
        ["tenants.d is writable by others (mode 0770); chmod go-w tenants.d"]
    );
    fs::remove_dir_all(folder.path().join("tenants.d")).unwrap();
    fs::write(folder.path().join("tenants.d"), "").unwrap();
    assert_eq!(
        found(&folder),
        [
            "tenants.d is no folder, or lies in what is none; move away what is in a folder's place, or correct the path"
        ]
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
            "tenants.d/T.toml: line 1 is not TOML (unquoted keys cannot be empty, expected letters, numbers, `-`, `_`); write key = \"value\", each on a line of its own",
            "tenants.d/one.toml: x: unknown key; remove it; known here: name, tenant_id, client_id, client_secret_file, client_secret_command, client_secret_credential, certificate_file, private_key_file, certificate_password_file, assertion_algorithm, federated_token_file, client_secret_expires, cloud, login_url, management_url, content_types, publisher_identifier, concurrency, requests_per_minute, initial_lookback, include, exclude, labels, enabled",
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

#[allow(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(String, Vec<&'static str>)> {
    const LABELS: &str = "config.toml: tenant[0].labels: has a name that the indexer refuses, or two that Wazuh takes for one; \
        write names without blank parts between dots, that differ in more than upper and lower case, and none that is the \
        beginning of another up to a dot";
    const ID_9: &str = "client_id = '8a3c1b6e-0000-4000-8000-000000000009'";
    let auth = |more: &str| tenant(1, "").replace("client_secret_file = 's'", more);
    vec![
        (tenant(1, ""), vec![]),
        ("\u{feff}[log]\n\n=".into(), vec![
            "config.toml: line 3 is not TOML (unquoted keys cannot be empty, expected letters, numbers, `-`, `_`); write key = \"value\", each on a line of its own",
        ]),
        ("[collect]\ndedline = '4m'\nconncurrency = 2".into(), vec![
            "config.toml: collect.conncurrency: unknown key; did you mean concurrency?",
            "config.toml: collect.dedline: unknown key; did you mean deadline?",
        ]),
        ("[wazuh]\nhome = '/x'\n[wazuh]".into(), vec![
            "config.toml: line 3 is not TOML (duplicate key); a key, or the header of a table, is there a second time: leave one, with all that belongs to it",
        ]),
        ("[wazuh]\nhome = '/x'\nlokation = 'x'\n[collect]\noverlapp = '1h'\nzz = 1\n[colect]".into(), vec![
            "config.toml: colect: unknown key; did you mean collect?",
            "config.toml: collect.overlapp: unknown key; did you mean overlap?",
            "config.toml: collect.zz: unknown key; remove it; known here: content_types, initial_lookback, overlap, resweep, deadline, concurrency, tenants_in_parallel, requests_per_minute, deduplicate_for, redact_dlp, silent_after, publisher_identifier",
            "config.toml: wazuh.lokation: unknown key; did you mean location?",
        ]),
        (format!("wazuh.queue = '/{}'", "q".repeat(107)), vec![
            "config.toml: wazuh.queue: is longer than the 107 bytes that a socket's path may have; name a shorter link to its folder",
        ]),
        (format!("{}{}", tenant(1, ""), tenant(2, "client_secrett = 'hunter2'")), vec![
            "config.toml: tenant[1].client_secrett: unknown key; did you mean client_secret_file?",
        ]),
        (auth("client_secret = 'hunter2'"), vec![
            "config.toml: tenant[0].client_secret: is no key: a secret never stands in the configuration; move the secret into a file of mode 0600 and name that with client_secret_file",
            "config.toml: tenant[0]: has no way to authenticate; set one of client_secret_file, client_secret_command, client_secret_credential, certificate_file, federated_token_file",
        ]),
        (tenant(1, "client_secret_command = ['/bin/true']"), vec![
            "config.toml: tenant[0]: has more than one way to authenticate (client_secret_file, client_secret_command); keep one of them",
        ]),
        (auth("client_secret_command = ['vault', 'read']"), vec![
            "config.toml: tenant[0].client_secret_command: does not start with an absolute path; write [\"/path/of/program\", \"argument\", …]; there is no shell and no search path",
        ]),
        (auth("client_secret_credential = '../x'"), vec![
            "config.toml: tenant[0].client_secret_credential: is no name of a credential; write the name that stands in LoadCredential= of the service",
        ]),
        (auth("client_secret_credential = 'abC8Q~d.E_f-GhIjKl'"), vec![
            "config.toml: tenant[0].client_secret_credential: looks like the secret itself, which never stands in the configuration; move it into a file of mode 0600 and name that with client_secret_file",
        ]),
        (auth("client_secret_credential = 'o365-ContosoProd-2026'"), vec![]),
        (auth("client_secret_file = 'Wazuh2026abcdefgh'"), vec![
            "config.toml: tenant[0].client_secret_file: looks like the secret itself, which never stands in the configuration; move it into a file of mode 0600 and name that with client_secret_file",
        ]),
        (auth("client_secret_file = 'nowhere'"), vec![
            "config.toml: tenant[0].client_secret_file: nowhere does not exist; create it, or correct the path",
        ]),
        (tenant(1, "").replace(ID_9, "client_id = 'hunter2'").replace("tenant_id = '8a", "tenant_id = 'ga"), vec![
            "config.toml: tenant[0].tenant_id: is no GUID; copy it from the app registration's overview page in Azure: 00000000-0000-0000-0000-000000000000",
            "config.toml: tenant[0].client_id: is no GUID; copy it from the app registration's overview page in Azure: 00000000-0000-0000-0000-000000000000",
        ]),
        ("[[tenant]]\nname = 'Contoso'\nclient_secret_file = 's'".into(), vec![
            "config.toml: tenant[0].name: is no name of a tenant; write 1 to 64 of a-z, 0-9 and -",
            "config.toml: tenant[0].tenant_id: is missing; copy it from the app registration's overview page in Azure",
            "config.toml: tenant[0].client_id: is missing; copy it from the app registration's overview page in Azure",
        ]),
        (format!("{}{}", tenant(1, ""), tenant(1, "")), vec![
            "config.toml: tenant[1].name: is the same as in config.toml tenant[0]; remove one of the two",
            "config.toml: tenant[1].tenant_id: is the same as in config.toml tenant[0]; remove one of the two",
        ]),
        // Whatever else is wrong with the two.
        (format!("{}{}", tenant(1, "concurrency = 0"), tenant(1, "concurrency = 0")).replacen("8a3c", "8A3C", 1), vec![
            "config.toml: tenant[0].concurrency: is out of range; choose 1 to 64",
            "config.toml: tenant[1].concurrency: is out of range; choose 1 to 64",
            "config.toml: tenant[1].name: is the same as in config.toml tenant[0]; remove one of the two",
            "config.toml: tenant[1].tenant_id: is the same as in config.toml tenant[0]; remove one of the two",
        ]),
        (tenant(1, "login_url = 'http://login.example'\nmanagement_url = 'https://u:hunter2@m.example/api'"), vec![
            "config.toml: tenant[0].login_url: is plain http to another machine, which would show the token to the network; write https://; http:// is for a loopback address only",
            "config.toml: tenant[0].management_url: has more than scheme, host and port; write https:// and the host, with a port if it needs one",
        ]),
        (tenant(1, "login_url = 'http://127.0.0.1.example'\nmanagement_url = 'http://[::1]:80'"), vec![
            "config.toml: tenant[0].login_url: is plain http to another machine, which would show the token to the network; write https://; http:// is for a loopback address only",
        ]),
        (tenant(1, "certificate_file = 'x'\nclient_secret_expires = 2027-05-01\ninclude = [{ operation = '*' }]\nexclude = []"), vec![
            "config.toml: tenant[0]: has more than one way to authenticate (client_secret_file, certificate_file); keep one of them",
        ]),
        ("[collect]\ninitial_lookback = '8d'\noverlap = '6 h'\ndeadline = '0s'\nconcurrency = 65\nretries = 1\ncontent_types = ['Audit.Teams']".into(), vec![
            "config.toml: collect.retries: unknown key; remove it; known here: content_types, initial_lookback, overlap, resweep, deadline, concurrency, tenants_in_parallel, requests_per_minute, deduplicate_for, redact_dlp, silent_after, publisher_identifier",
            "config.toml: collect.content_types: names an unknown content type; write any of \"Audit.AzureActiveDirectory\", \"Audit.Exchange\", \"Audit.SharePoint\", \"Audit.General\", \"DLP.All\"",
            "config.toml: collect.concurrency: is out of range; choose 1 to 64",
            "config.toml: collect.initial_lookback: is out of range; choose 0s to 7d",
            "config.toml: collect.overlap: is no duration; write a whole number and one of s, m, h, d: \"90s\", \"5m\", \"6h\", \"2d\"",
            "config.toml: collect.deadline: is out of range; choose 1s to 1d",
        ]),
        ("[wazuh]\nlocation = '[1] x'\nevents_per_second = 'fast'\nacknowledge = 'on'\n[http]\nretries = 'hunter2'\n[log]\nfile = 3".into(), vec![
            "config.toml: http.retries: has the wrong type, expected a whole number; write it without quotes and point",
            "config.toml: log.file: has the wrong type, expected a string; write it in quotes; a duration has a unit, such as \"4m\"",
            "config.toml: wazuh.location: would break the header of each event; write 1 to 256 bytes without : and | that do not start with [, such as \"office365\"",
            "config.toml: wazuh.events_per_second: is neither a whole number nor \"auto\"; write a number, 0 for no pacing, or \"auto\"",
            "config.toml: wazuh.acknowledge: is not a word that is known here; write \"auto\", \"off\"",
        ]),
        (tenant(1, "client_secret_expires = '2027-05-01'\ninclude = [{ record_type = 15 }]"), vec![
            "config.toml: tenant[0].client_secret_expires: has the wrong type, expected a date; write 2027-05-01, without quotes",
            "config.toml: tenant[0].include[0].record_type: has the wrong type, expected a list; write it in square brackets, such as [15] or [\"DLP.All\"]",
        ]),
        ("[tenant]\nname = 'a'".into(), vec![
            "config.toml: tenant: has the wrong type, expected a list; write [[tenant]]",
        ]),
        (tenant(1, "hunter2~hunter2"), vec![
            "config.toml: line 6 is not TOML (key with no value, expected `=`); write key = \"value\", each on a line of its own",
        ]),
        (tenant(1, "labels = { customer = 'a', Customer = 'b' }"), vec![LABELS]),
        (tenant(1, "labels = { 'a.b-c' = 'a', 'a.b' = 'b', 'A.B.c' = 'c' }"), vec![LABELS]),
        (tenant(1, "labels = { 'a. ' = 'a' }"), vec![LABELS]),
        (tenant(1, "labels = { '.' = 'a' }"), vec![LABELS]),
        (tenant(1, "labels = { 'a.b' = 'a', 'a.c' = 'b', ab = 'c', a-b = 'd' }"), vec![]),
        (tenant(1, &format!("labels = {{ a = '{}' }}", "x".repeat(257))), vec![
            "config.toml: tenant[0].labels: has a label that is empty or longer than 256 bytes; shorten it",
        ]),
    ]
}

#[test]
fn check_looks_at_owners_and_modes() {
    let wrong = |name: &str, mode| {
        let folder = folder(&tenant(1, ""), &[]);
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        found(&folder)
    };
    assert_eq!(wrong("config.toml", 0o644), [""; 0]);
    assert_eq!(
        wrong("config.toml", 0o664),
        ["config.toml is writable by others (mode 0664); chmod go-w config.toml"]
    );
    assert_eq!(
        wrong("s", 0o644),
        [
            "config.toml: tenant[0].client_secret_file: s is readable by others (mode 0644); chmod 0600 s"
        ]
    );
    if rustix::process::geteuid().is_root() {
        let folder = folder(&tenant(1, ""), &[]);
        std::os::unix::fs::chown(folder.path().join("s"), Some(4321), None).unwrap();
        assert_eq!(
            found(&folder),
            [
                "config.toml: tenant[0].client_secret_file: s belongs to user 4321, neither to root nor to the running user; run this as that user (runuser -u NAME -- o365-wodle …), or, if root is to run it, chown root s"
            ]
        );
    }
    let http = "[http]\nproxy = 'http://u@proxy:3128'\nno_proxy = ['*', 'localhost, .corp.example,', 'xn--bro-hoa', '::1', \
                '10.0.0.0/8', 'fd00::/8']\n";
    assert_eq!(found(&folder(http, &[])), [""; 0]);
    for host in [
        "*.corp.example",
        "localhost:443",
        "http://localhost",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "büro",
        "999.1.1.1",
        "",
    ] {
        let files = folder(
            &format!("[http]\nno_proxy = ['localhost', '{host}']\n"),
            &[],
        );
        assert_eq!(
            found(&files),
            [format!(
                "config.toml: http.no_proxy[1]: is {host:?}, which does not name a host; write a name (and all below it is \
                 meant as well), an address or a subnet: \"corp.example\", \"10.0.0.0/8\""
            )]
        );
    }
    let http = "[http]\nproxy = 'http://u@proxy:3128'\nproxy_password_file = 'p'\nca_file = 'ca'\n";
    let authority = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let files = folder(http, &[("p", "x"), ("ca", &authority.cert.pem())]);
    assert_eq!(found(&files), [""; 0]);
    let set = |name: &str, mode| {
        fs::set_permissions(files.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("p", 0o644);
    set("ca", 0o666);
    assert_eq!(
        found(&files),
        [
            "config.toml: http.proxy_password_file: p is readable by others (mode 0644); chmod 0600 p",
            "config.toml: http.ca_file: ca is writable by others (mode 0666); chmod go-w ca",
        ]
    );
    assert_eq!(
        problems("state.ledger = 'a/b'\nlog.file = 'c/d'\nmetrics.textfile = 'e'\n"),
        [
            "config.toml: state.ledger: there is no folder a; create it (install -d -m 750 a), or correct the path",
            "config.toml: log.file: there is no folder c; create it (install -d -m 750 c), or correct the path",
        ]
    );
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (content, what) in [
        ("", "no certificate in it"),
        (broken, "a certificate in it is broken"),
    ] {
        let files = folder("[http]\nca_file = 'ca'\n", &[("ca", content)]);
        let cure = "give a PEM file with the certification authority's certificate";
        let expected = format!("config.toml: http.ca_file: ca: {what}; {cure}");
        assert_eq!(found(&files), [expected]);
    }
    let nowhere = folder("", &[]);
    fs::remove_file(nowhere.path().join("config.toml")).unwrap();
    assert_eq!(
        found(&nowhere),
        ["config.toml does not exist; create it, or correct the path"]
    );
}

/// The example as it is shipped, and with every key uncommented.
#[test]
fn the_shipped_example() {
    let example = include_str!("../../packaging/config.toml");
    assert_eq!(format!("{:?}", load(example)), format!("{:?}", load("")));
    let uncommented = |skip: &[&str]| -> String {
        example
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .filter(|line| {
                !skip
                    .iter()
                    .any(|key| line.starts_with(&format!("{key} = ")))
            })
            .map(|line| format!("{line}\n"))
            .collect()
    };
    // what the example shows as defaults are the defaults
    let no_default = [
        "queue",
        "publisher_identifier",
        "proxy",
        "proxy_password_file",
        "no_proxy",
        "ca_file",
        "textfile",
    ];
    let text = uncommented(&no_default);
    let defaults = text.split("[[tenant]]").next().unwrap();
    assert_eq!(format!("{:?}", load(defaults)), format!("{:?}", load("")));
    // the keys of the example are the keys there are
    let all: toml::Table = uncommented(&[]).parse().unwrap();
    toml::Value::Table(all.clone())
        .try_into::<raw::Settings>()
        .unwrap();
    let mut missing = Vec::new();
    for section in [
        "wazuh", "state", "log", "collect", "http", "metrics", "tenant",
    ] {
        let nonsense = format!("[[tenant]]\n[{section}]\nnonsense = 1\n")
            .replace("[[tenant]]\n[tenant]", "[[tenant]]");
        let fault = toml::from_str::<raw::Settings>(&nonsense).unwrap_err();
        let table = all[section]
            .get(0)
            .unwrap_or(&all[section])
            .as_table()
            .unwrap();
        let keys: Vec<_> = fault
            .message()
            .split('`')
            .skip(1)
            .step_by(2)
            .skip(1)
            .collect();
        assert!(!keys.is_empty(), "{fault}");
        missing.extend(
            keys.iter()
                .filter(|key| !table.contains_key(**key))
                .map(|key| format!("{section}.{key}")),
        );
    }
    assert_eq!(missing, [""; 0]);
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
