//! Tenants of the built-in module go on where it stopped: nothing twice, nothing skipped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use simulator::microsoft::{Options, TenantSpec};

use crate::world::World;

const A: &str = "11111111-aaaa-4000-8000-000000000001";
const B: &str = "22222222-bbbb-4000-8000-000000000002";
const C: &str = "33333333-cccc-4000-8000-000000000003";

/// A host on which the built-in module ran.
struct Host(World);

impl Host {
    /// With this `ossec.conf`, and these tenants at Microsoft.
    fn new(conf: &[u8], tenants: &[(&str, &str)]) -> Self {
        let mut world = World::new(Options::default());
        for (tenant, secret) in tenants {
            let number = &tenant[35..];
            world.microsoft.add_tenant(TenantSpec {
                tenant_id: (*tenant).to_owned(),
                client_id: format!("c1c1c1c1-0000-4000-9000-00000000000{number}"),
                secret: (*secret).to_owned(),
                ..TenantSpec::numbered(number.parse().unwrap())
            });
            world.oracle.tenant(&name(tenant), tenant);
        }
        for folder in ["etc", "var/wodles", "var/run"] {
            fs::create_dir_all(world.home().join(folder)).unwrap();
        }
        fs::write(world.home().join("etc/ossec.conf"), conf).unwrap();
        Self(world)
    }

    fn bookmark(&self, tenant: &str, subscription: &str, at: DateTime<Utc>) {
        self.bookmark_bytes(tenant, subscription, &at.timestamp().to_ne_bytes());
    }

    fn bookmark_bytes(&self, tenant: &str, subscription: &str, bytes: &[u8]) {
        let name = format!("var/wodles/office365-{tenant}-{subscription}");
        fs::write(self.0.home().join(name), bytes).unwrap();
    }

    fn import(&self, code: i32) -> (String, String) {
        let output = self.0.run(&["import-native"]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{out}{err}");
        for said in [&out, &err] {
            assert!(!said.contains("aB8"), "a secret was printed: {said}");
        }
        (out, err)
    }

    fn tenant_file(&self, tenant: &str) -> PathBuf {
        let name = format!("tenants.d/{}.toml", name(tenant));
        self.0.folder.path().join(name)
    }

    /// Points an imported tenant at the simulator.
    fn redirect(&self, tenant: &str) {
        let (file, url) = (self.tenant_file(tenant), self.0.microsoft.url());
        let text = fs::read_to_string(&file).unwrap();
        let text = format!("{text}login_url = {url:?}\nmanagement_url = {url:?}\n");
        fs::write(file, text).unwrap();
    }

    /// A blob of two records; whether they have to arrive.
    fn issue(&mut self, tenant: &str, content_type: &str, created: DateTime<Utc>, arrives: bool) {
        let records: Vec<_> = self.0.records.by_ref().take(2).collect();
        if arrives {
            for record in &records {
                self.0.oracle.issued(tenant, content_type, record);
            }
        }
        self.0
            .microsoft
            .issue(tenant, content_type, records, created);
    }

    /// Blobs on both sides of a bookmark and at it; the module has handed over those before.
    fn issue_around(&mut self, tenant: &str, content_type: &str, bookmark: DateTime<Utc>) {
        let now = self.0.microsoft.now();
        for (created, arrives) in [
            (bookmark - TimeDelta::hours(3), false),
            (bookmark - TimeDelta::milliseconds(1), false),
            (bookmark, true),
            (bookmark + TimeDelta::minutes(1), true),
            (now - TimeDelta::minutes(1), true),
        ] {
            self.issue(tenant, content_type, created, arrives);
        }
    }

    fn run(&self) -> Output {
        let output = self.0.run_as_it_stands(&["run"]);
        let code = output.status.code();
        assert_eq!(code, Some(0), "{output:?}\n{}", self.0.log());
        output
    }

    /// Two runs bring what was issued to arrive, once, and nothing else.
    fn assert_goes_on(&mut self, tenants: &[&str]) {
        for tenant in tenants {
            self.redirect(tenant);
        }
        self.run();
        self.run();
        self.0.assert_clean();
        let verdict = self.0.oracle.verdict();
        assert_eq!(verdict.received, verdict.issued);
        assert!(verdict.issued > 0);
    }

    /// Every file below a folder.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.append(&mut Self::files(&path));
            } else if path.is_file() {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
        files
    }
}

fn name(tenant: &str) -> String {
    format!("tenant-{}", &tenant[..8])
}

fn secret(number: u8) -> String {
    format!("{number}aB8Q~d.E_f-GhIjKlMnOpQrStUvWxYz0123456")
}

fn ago(hours: i64) -> DateTime<Utc> {
    (Utc::now() - TimeDelta::hours(hours)).trunc_subsecs(0)
}

#[test]
fn one_root_goes_on_at_each_bookmark() {
    let conf = include_bytes!("../fixtures/native/one-root.conf");
    let mut host = Host::new(conf, &[(A, &secret(1))]);
    let streams = [
        (
            "Audit.AzureActiveDirectory",
            "Audit.AzureActiveDirectory",
            1,
        ),
        ("Audit.General", "Audit.General", 30),
        ("Audit.Exchange", "Audit.Exchange", 2),
        ("Audit.SharePoint", "Audit.SharePoint", 150),
        ("DLP.ALL", "DLP.All", 5),
    ];
    for (subscription, content_type, hours) in streams {
        host.bookmark(A, subscription, ago(hours));
        host.issue_around(A, content_type, ago(hours));
    }
    let wazuh = Host::files(&host.0.home());
    let (out, err) = host.import(0);
    assert_eq!(err, "");
    assert!(out.contains("lines 8 to 26"), "{out}");
    let program = format!("o365-wodle --config {}", host.0.config().display());
    let tried = out.find(&format!(
        "see that each tenant signs in here: {program} subscriptions list"
    ));
    assert!(
        tried.is_some() && tried < out.find("Delete from it"),
        "{out}"
    );
    let steps = [
        &format!("{program} setup --write"),
        "systemctl restart",
        &format!("{program} -v run"),
        &format!("{program} doctor"),
    ]
    .map(|step| out.find(step));
    assert!(steps.is_sorted() && steps[0].is_some(), "{out}");
    assert!(
        out.contains("tenant-11111111: DLP.All goes on at "),
        "{out}"
    );
    assert_eq!(Host::files(&host.0.home()), wazuh, "Wazuh's is not changed");
    let stored = host.0.folder.path().join("secrets/tenant-11111111");
    assert_eq!(fs::read_to_string(&stored).unwrap(), secret(1));
    assert_eq!(
        fs::metadata(stored).unwrap().permissions().mode() & 0o777,
        0o600
    );

    for stream in host.0.status() {
        assert_eq!(stream["state"], "no_run_yet", "{stream}");
        assert!(stream["marker"].is_string() && stream["last_success"].is_null());
    }

    let before = Host::files(host.0.folder.path());
    let (out, _) = host.import(0);
    assert!(out.contains("tenant-11111111: has tenant ID"), "{out}");
    assert!(
        out.contains("lines 8 to 26"),
        "what to delete is said again: {out}"
    );
    assert_eq!(
        Host::files(host.0.folder.path()),
        before,
        "a second import changes nothing"
    );
    // what nobody would collect here stays with the built-in module
    let text = fs::read_to_string(host.tenant_file(A)).unwrap();
    fs::write(host.tenant_file(A), format!("{text}enabled = false\n")).unwrap();
    let (out, _) = host.import(0);
    assert!(
        out.contains("with enabled = false") && !out.contains("lines 8 to 26"),
        "{out}"
    );
    fs::write(host.tenant_file(A), text).unwrap();
    host.assert_goes_on(&[A]);
}

#[test]
fn several_roots_and_blocks_are_read() {
    let conf = include_bytes!("../fixtures/native/several-roots.conf");
    let mut host = Host::new(conf, &[(A, &secret(1)), (B, &secret(2))]);
    for content_type in ["Audit.Exchange", "Audit.SharePoint"] {
        host.bookmark(A, content_type, ago(4));
        host.issue_around(A, content_type, ago(4));
        // as ossec.conf writes it
        host.bookmark(&B.to_uppercase(), content_type, ago(1));
        host.issue_around(B, content_type, ago(1));
        host.issue(B, "Audit.General", ago(1), false);
    }
    let (out, _) = host.import(0);
    assert!(
        out.contains("lines 3 to 14") && out.contains("lines 25 to 33"),
        "{out}"
    );
    host.assert_goes_on(&[A, B]);
}

#[test]
fn several_tenants_of_a_block_come_with_cloud_and_secret_file() {
    let conf = include_bytes!("../fixtures/native/several-tenants.conf");
    let secrets = [secret(1), secret(2), secret(3)];
    let mut host = Host::new(
        conf,
        &[(A, &secrets[0]), (B, &secrets[1]), (C, &secrets[2])],
    );
    let file = host.0.home().join("etc/office365.secret");
    fs::write(file, format!("{}\r\n", secrets[0])).unwrap();
    for tenant in [A, B, C] {
        host.bookmark(tenant, "audit.exchange", ago(2));
        host.issue_around(tenant, "Audit.Exchange", ago(2));
    }
    // Of two spellings the later is where the module stopped.
    host.bookmark(A, "Audit.Exchange", ago(50));
    // The first of these was never listed, the second long ago, the third holds 0: never either.
    host.bookmark(B, "Audit.General", ago(24 * 9));
    host.bookmark_bytes(C, "Audit.General", &[0; 8]);
    host.issue(A, "Audit.General", ago(23), true);
    host.issue(A, "Audit.General", ago(25), false);
    host.issue(B, "Audit.General", ago(24 * 6), true);
    host.issue(C, "Audit.General", ago(25), false);
    let (out, _) = host.import(0);
    assert!(
        out.contains("tenant-11111111: Audit.General has no bookmark"),
        "{out}"
    );
    assert!(
        out.contains("tenant-22222222: Audit.General has a gap"),
        "{out}"
    );
    assert!(
        out.contains("tenant-33333333: Audit.General has no bookmark"),
        "{out}"
    );
    let stored = host.0.folder.path().join("secrets/tenant-11111111");
    assert_eq!(
        fs::read_to_string(stored).unwrap(),
        secrets[0],
        "without the line's end"
    );
    for (tenant, cloud) in [(A, "gcc"), (B, "gcc-high")] {
        let text = fs::read_to_string(host.tenant_file(tenant)).unwrap();
        assert!(text.contains(&format!("cloud = \"{cloud}\"\n")), "{text}");
    }
    host.assert_goes_on(&[A, B, C]);
    assert!(host.0.log().contains("can no longer be listed"));
}

#[test]
fn entities_cdata_crlf_and_bom_are_understood() {
    let conf = include_bytes!("../fixtures/native/entities-crlf-bom.conf");
    let secret = "1aB8&d.E<f-GhIjKlMn<&>OpQrStUvWxYz0123456";
    let mut host = Host::new(conf, &[(A, secret)]);
    host.bookmark(A, "Audit.Exchange", ago(7));
    host.issue_around(A, "Audit.Exchange", ago(7));
    let (out, _) = host.import(0);
    assert!(out.contains("lines 4 to 11"), "{out}");
    host.assert_goes_on(&[A]);
}

#[test]
fn a_disabled_module_is_taken_over_disabled() {
    let conf = include_bytes!("../fixtures/native/agent.conf");
    let mut host = Host::new(conf, &[(A, &secret(1))]);
    for content_type in ["Audit.AzureActiveDirectory", "Audit.Exchange"] {
        host.bookmark(A, content_type, ago(60));
        host.issue_around(A, content_type, ago(60));
    }
    let (out, _) = host.import(0);
    assert!(out.contains("the built-in module was disabled"), "{out}");
    host.redirect(A);
    host.run();
    assert_eq!(host.0.microsoft.request_count(), 0);
    let text = fs::read_to_string(host.tenant_file(A)).unwrap();
    let text = text
        .replace("enabled = false\n", "")
        .replace("login_url", "#");
    fs::write(host.tenant_file(A), text.replace("management_url", "#")).unwrap();
    host.assert_goes_on(&[A]);
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_stops_nothing_else() {
    let conf = format!(
        "<ossec_config>\n<office365>\n<enabled>maybe</enabled>\n\
         <api_auth>\n<tenant_id>contoso.example</tenant_id>\n<client_secret>{A}</client_secret>\n</api_auth>\n\
         <api_auth><tenant_id>{B}</tenant_id><client_id>{C}</client_id>\n\
         <client_secret_path>etc/none</client_secret_path></api_auth>\n\
         <api_auth><tenant_id>{C}</tenant_id><client_id>{C}</client_id>\n\
         <client_secret>x{0}</client_secret><api_type>dod</api_type></api_auth>\n\
         <api_auth><tenant_id>{A}</tenant_id><client_id>{C}</client_id>\n\
         <client_secret>{0}</client_secret></api_auth>\n\
         <subscriptions><subscription>Audit.Exchange</subscription>\n\
         <subscription>Audit.Teams</subscription></subscriptions>\n</office365>\n</ossec_config>\n",
        secret(1)
    );
    let host = Host::new(conf.as_bytes(), &[]);
    host.bookmark_bytes(A, "Audit.Exchange", b"short");
    let (out, err) = host.import(3);
    assert!(out.contains("tenant-11111111: stored in"), "{out}");
    for expected in [
        "ossec.conf:3: <enabled> is neither yes nor no",
        "ossec.conf:5: <tenant_id> is no GUID",
        "ossec.conf:4: <client_id> is missing",
        "ossec.conf:4: <client_secret> is a GUID",
        "ossec.conf:8: ",
        "etc/none: ",
        "ossec.conf:11: <api_type>",
        "ossec.conf:15: <subscription> is no content type",
        "Audit.Exchange: holds no time of the past",
    ] {
        assert!(err.contains(expected), "{expected}: {err}");
    }
    assert!(!host.tenant_file(B).exists() && !host.tenant_file(C).exists());
    // What the built-in module alone collects stays with it.
    let to_delete: Vec<_> = out.lines().filter(|line| line.contains("lines ")).collect();
    let expected = format!("  lines 12 to 13: <api_auth> … </api_auth> of {A}");
    assert_eq!(to_delete, [expected], "{out}");
    assert!(out.contains("Every other <api_auth> stays"), "{out}");
    // What is here by another way goes, whatever is wrong with what stands there.
    let text = format!("tenant_id = '{C}'\nclient_id = '{C}'\nclient_secret_file = 'secrets/c'\n");
    fs::write(host.tenant_file(C), text).unwrap();
    let (out, _) = host.import(3);
    assert!(
        out.contains(&format!("lines 10 to 11: <api_auth> … </api_auth> of {C}")),
        "{out}"
    );
}

#[test]
fn a_secret_that_is_none_stops_no_other_tenant() {
    let whole = secret(1);
    let of = |tenant: &str, secret: &str| {
        format!(
            "<api_auth><tenant_id>{tenant}</tenant_id><client_id>{C}</client_id>{secret}</api_auth>\n"
        )
    };
    for (wrong, said) in [
        (
            format!("<client_secret>{whole}\n{whole}</client_secret>"),
            "ossec.conf:4: <client_secret> has more than one line, or control characters",
        ),
        (
            format!("<client_secret>\"{whole}\"</client_secret>"),
            "ossec.conf:4: <client_secret> stands in quotes",
        ),
        (
            format!("<client_secret>{whole}\u{200b}</client_secret>"),
            "ossec.conf:4: <client_secret> has characters that cannot be seen",
        ),
        (
            "<client_secret>your-secret-here</client_secret>".to_owned(),
            "ossec.conf:4: <client_secret> is a remark in place of a value",
        ),
        (
            "<client_secret_path>/dev/zero</client_secret_path>".to_owned(),
            "ossec.conf:4: /dev/zero: it is no file",
        ),
        (
            "<client_secret_path>etc/lines</client_secret_path>".to_owned(),
            "etc/lines: the secret has more than one line, or control characters",
        ),
    ] {
        let good = of(A, &format!("<client_secret>{whole}</client_secret>"));
        let conf = format!(
            "<ossec_config>\n<office365>\n{good}{}\
             <subscriptions><subscription>Audit.Exchange</subscription></subscriptions>\n\
             </office365>\n</ossec_config>\n",
            of(B, &wrong)
        );
        let host = Host::new(conf.as_bytes(), &[]);
        fs::write(host.0.home().join("etc/lines"), format!("{whole}\nx\n")).unwrap();
        let (out, err) = host.import(3);
        assert!(out.contains("tenant-11111111: stored in"), "{out}");
        assert!(err.contains(said), "{said}: {err}");
        assert!(host.tenant_file(A).exists() && !host.tenant_file(B).exists());
    }
}

#[test]
fn an_id_that_is_not_one_is_said() {
    let conf = format!(
        "<ossec_config>\n<office365>\n\
         <api_auth><tenant_id>{A}</tenant_id><client_id>{A}</client_id><client_secret>{0}</client_secret></api_auth>\n\
         <api_auth><tenant_id>{B}\u{200b}</tenant_id><client_id>{C}</client_id><client_secret>{0}</client_secret></api_auth>\n\
         <subscriptions><subscription>Audit.Exchange</subscription></subscriptions>\n\
         </office365>\n</ossec_config>\n",
        secret(1)
    );
    let (_, err) = Host::new(conf.as_bytes(), &[]).import(78);
    for said in [
        "ossec.conf:3: <tenant_id> and <client_id> are the same",
        "ossec.conf:4: <tenant_id> has characters that cannot be seen",
    ] {
        assert!(err.contains(said), "{said}: {err}");
    }
}

#[test]
fn a_file_that_is_no_xml_is_refused_with_its_line() {
    let conf = format!("<ossec_config>\n<client_secret><{};\n", secret(1));
    let host = Host::new(conf.as_bytes(), &[]);
    let (_, err) = host.import(78);
    assert!(
        err.contains("ossec.conf:2: it does not read as XML"),
        "{err}"
    );
    fs::write(host.0.home().join("etc/ossec.conf"), "<ossec_config/>").unwrap();
    let (out, _) = host.import(0);
    assert!(out.contains("nothing to import"), "{out}");
    let empty = "<ossec_config>\n<office365/>\n</ossec_config>";
    fs::write(host.0.home().join("etc/ossec.conf"), empty).unwrap();
    let (out, err) = host.import(0);
    assert!(out.contains("no tenant (<api_auth>) is in"), "{out}{err}");
}

#[test]
fn while_the_module_or_a_run_goes_on_nothing_is_stored() {
    let conf = include_bytes!("../fixtures/native/one-root.conf");
    let host = Host::new(conf, &[(A, &secret(1))]);
    let me = std::process::id();
    let pid = host
        .0
        .home()
        .join(format!("var/run/wazuh-modulesd-{me}.pid"));
    fs::write(&pid, "").unwrap();
    let (_, err) = host.import(75);
    assert!(err.contains("Stop Wazuh"), "{err}");
    fs::remove_file(pid).unwrap();
    let lock = fs::File::create(host.0.folder.path().join("ledger.db.lock")).unwrap();
    lock.lock().unwrap();
    host.import(75);
    assert!(!host.tenant_file(A).exists() && !host.0.ledger().exists());
    lock.unlock().unwrap();
    host.import(0);
}

#[test]
fn a_stream_that_was_listed_here_keeps_its_place() {
    let conf = include_bytes!("../fixtures/native/entities-crlf-bom.conf");
    let mut host = Host::new(conf, &[(A, "1aB8&d.E<f-GhIjKlMn<&>OpQrStUvWxYz0123456")]);
    host.bookmark(A, "Audit.Exchange", ago(7));
    host.issue(A, "Audit.Exchange", ago(10), false);
    host.import(0);
    host.redirect(A);
    host.run();
    // The tenant goes and comes back; an older bookmark must not repeat what came before.
    let removed = host.0.run_as_it_stands(&["tenant", "remove", &name(A)]);
    assert_eq!(removed.status.code(), Some(0));
    host.bookmark(A, "Audit.Exchange", ago(20));
    let (out, _) = host.import(0);
    assert!(out.contains("is in the ledger already"), "{out}");
    host.issue(A, "Audit.Exchange", ago(1), true);
    host.assert_goes_on(&[A]);
}

#[test]
fn what_a_crash_left_of_an_import_is_begun_anew() {
    let conf = include_bytes!("../fixtures/native/one-root.conf");
    let mut host = Host::new(conf, &[(A, &secret(1))]);
    host.bookmark(A, "Audit.Exchange", ago(9));
    host.import(0);
    // Streams stand in the ledger before the tenant's files; the module went on meanwhile.
    fs::remove_file(host.tenant_file(A)).unwrap();
    fs::remove_file(host.0.folder.path().join("secrets/tenant-11111111")).unwrap();
    for content_type in simulator::microsoft::CONTENT_TYPES {
        host.bookmark(A, content_type, ago(2));
        host.issue_around(A, content_type, ago(2));
    }
    host.import(0);
    host.assert_goes_on(&[A]);
}
