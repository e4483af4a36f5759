//! A world for one test: a fake Microsoft, a fake Wazuh queue, an oracle, and our real binary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use simulator::microsoft::{CONTENT_TYPES, Microsoft, Options, Records, TenantSpec};
use simulator::oracle::{Oracle, Verdict};
use simulator::wazuh::Queue;
use tempfile::TempDir;

/// The world.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) microsoft: Microsoft,
    pub(crate) queue: Queue,
    pub(crate) oracle: Oracle,
    pub(crate) records: Records,
    pub(crate) tenants: Vec<(String, TenantSpec)>,
    /// Lines of the configuration's sections.
    pub(crate) settings: BTreeMap<&'static str, Vec<String>>,
    /// Further lines of each tenant's file.
    pub(crate) tenant_settings: BTreeMap<String, Vec<String>>,
}

impl World {
    /// A world without tenants.
    pub(crate) fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let microsoft = Microsoft::start(options).unwrap();
        let queue = Queue::bind(&folder.path().join("ossec")).unwrap();
        let mut settings = BTreeMap::new();
        settings.insert(
            "wazuh",
            vec![
                "events_per_second = 0".to_owned(),
                "acknowledge = \"off\"".to_owned(),
            ],
        );
        settings.insert("collect", vec!["requests_per_minute = 0".to_owned()]);
        Self {
            folder,
            microsoft,
            queue,
            oracle: Oracle::new(),
            records: Records::new(11),
            tenants: Vec::new(),
            settings,
            tenant_settings: BTreeMap::new(),
        }
    }

    /// A world of so many tenants, with subscriptions still to be started.
    pub(crate) fn with_tenants(count: usize, options: Options) -> Self {
        let mut world = Self::new(options);
        for number in 1..=count {
            world.add_tenant(
                &format!("tenant-{number}"),
                TenantSpec::numbered(u64::try_from(number).unwrap()),
            );
        }
        world
    }

    pub(crate) fn add_tenant(&mut self, name: &str, spec: TenantSpec) {
        self.microsoft.add_tenant(spec.clone());
        self.oracle.tenant(name, &spec.tenant_id);
        self.tenants.push((name.to_owned(), spec));
    }

    /// The GUID of the nth tenant.
    pub(crate) fn id(&self, tenant: usize) -> String {
        self.tenants[tenant].1.tenant_id.clone()
    }

    /// Issues a blob of new records, created so long ago; its content id.
    pub(crate) fn issue(
        &mut self,
        tenant: usize,
        content_type: &str,
        records: usize,
        ago: TimeDelta,
    ) -> String {
        let records: Vec<_> = self.records.by_ref().take(records).collect();
        self.issue_these(tenant, content_type, records, self.microsoft.now() - ago)
    }

    /// Issues a blob of these records; each of them has to arrive.
    pub(crate) fn issue_these(
        &mut self,
        tenant: usize,
        content_type: &str,
        records: Vec<Vec<u8>>,
        created: DateTime<Utc>,
    ) -> String {
        let id = self.id(tenant);
        for record in &records {
            self.oracle.issued(&id, content_type, record);
        }
        self.microsoft.issue(&id, content_type, records, created)
    }

    /// As [`World::issue`], with records of the commonest size.
    pub(crate) fn issue_small(
        &mut self,
        tenant: usize,
        content_type: &str,
        records: usize,
        ago: TimeDelta,
    ) -> String {
        let records = (0..records).map(|_| self.records.sized(700)).collect();
        self.issue_these(tenant, content_type, records, self.microsoft.now() - ago)
    }

    /// Issues some blobs of every content type of every tenant, over the last hours.
    pub(crate) fn issue_everywhere(&mut self, blobs: usize, records: usize) {
        for tenant in 0..self.tenants.len() {
            for content_type in CONTENT_TYPES {
                for blob in 0..blobs {
                    let minutes = i64::try_from(blob * 7 + 1).unwrap();
                    self.issue(tenant, content_type, records, TimeDelta::minutes(minutes));
                }
            }
        }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("ossec")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sets a key of a section, in place of what the world has for it.
    pub(crate) fn set(&mut self, section: &'static str, key: &str, value: &str) {
        let lines = self.settings.entry(section).or_default();
        lines.retain(|line| !line.starts_with(&format!("{key} ")));
        lines.push(format!("{key} = {value}"));
    }

    /// Writes the configuration and the secrets.
    pub(crate) fn configure(&self) {
        let folder = self.folder.path();
        let mut text = String::new();
        let mut settings = self.settings.clone();
        settings
            .entry("wazuh")
            .or_default()
            .push(format!("home = {}", quoted(&self.home())));
        settings
            .entry("state")
            .or_default()
            .push(format!("ledger = {}", quoted(&self.ledger())));
        settings.entry("log").or_default().extend([
            format!("file = {}", quoted(&folder.join("log"))),
            "level = \"debug\"".to_owned(),
        ]);
        for (section, lines) in &settings {
            writeln!(text, "[{section}]\n{}", lines.join("\n")).unwrap();
        }
        write(&self.config(), &text, 0o640);
        for sub in ["tenants.d", "secrets"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
            fs::set_permissions(folder.join(sub), fs::Permissions::from_mode(0o750)).unwrap();
        }
        for (name, spec) in &self.tenants {
            write(&folder.join("secrets").join(name), &spec.secret, 0o600);
            let mut lines = vec![
                format!("tenant_id = {:?}", spec.tenant_id),
                format!("client_id = {:?}", spec.client_id),
                format!("client_secret_file = \"secrets/{name}\""),
                format!("login_url = {:?}", self.microsoft.url()),
                format!("management_url = {:?}", self.microsoft.url()),
            ];
            lines.extend(
                self.tenant_settings
                    .get(name)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            write(
                &folder.join("tenants.d").join(format!("{name}.toml")),
                &lines.join("\n"),
                0o640,
            );
        }
    }

    /// The binary with these arguments, over the configuration as it is now.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.configure();
        let mut command = Command::new(env!("CARGO_BIN_EXE_o365-wodle"));
        command
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("NO_COLOR");
        if self.microsoft.url().starts_with("https") {
            let ca = self.folder.path().join("ca.pem");
            self.microsoft.write_ca(&ca).unwrap();
            command.env("SSL_CERT_FILE", ca);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The binary over the configuration and secrets as they stand: writing them anew would be a
    /// rotation, which ends every back-off.
    pub(crate) fn run_as_it_stands(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What `status --json` says of each stream.
    pub(crate) fn status(&self) -> Vec<serde_json::Value> {
        let output = self.run_as_it_stands(&["status", "--json"]);
        let mut status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        serde_json::from_value(status["streams"].take()).unwrap()
    }

    /// The sum of one of its numbers over all streams.
    pub(crate) fn sum(&self, number: &str) -> u64 {
        let streams = self.status();
        streams
            .iter()
            .filter_map(|stream| stream[number].as_u64())
            .sum()
    }

    /// A signal, by its name, to a child.
    pub(crate) fn signal(child: &Child, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// A `run` with this exit code; its log goes into the message if it has another.
    pub(crate) fn run_expecting(&self, code: i32, arguments: &[&str]) -> Output {
        let mut all = vec!["run"];
        all.extend(arguments);
        let output = self.run(&all);
        assert_eq!(
            output.status.code(),
            Some(code),
            "stdout: {}\nstderr: {}\nlog: {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        output
    }

    /// Takes what the queue has received into the oracle and asks for its verdict.
    pub(crate) fn verdict(&mut self) -> Verdict {
        // A datagram that was sent is in the kernel's queue until the reader takes it.
        let mut before = usize::MAX;
        while before != self.queue.count() {
            before = self.queue.count();
            std::thread::sleep(Duration::from_millis(30));
        }
        for datagram in self.queue.drain() {
            self.oracle.received(&datagram);
        }
        self.oracle.verdict()
    }

    /// Everything issued arrived once, unaltered.
    pub(crate) fn assert_clean(&mut self) {
        let verdict = self.verdict();
        assert!(
            verdict.is_clean(),
            "{verdict}\n{}\nlog: {}",
            verdict.details(),
            self.log()
        );
    }
}

/// A path as TOML writes it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// Writes a file with this mode.
pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
