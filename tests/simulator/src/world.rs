//! A world for one test: a fake Microsoft, a fake Wazuh, an oracle, and the real binary.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::{NamedTempFile, TempDir};

use crate::microsoft::{CONTENT_TYPES, Microsoft, Options, Records, TenantSpec};
use crate::oracle::{Oracle, Verdict};
use crate::wazuh::Queue;

/// The world.
pub struct World {
    /// Where its files are.
    pub folder: TempDir,
    /// The program under test: by default the one built beside the test.
    pub binary: PathBuf,
    /// Where the ledger is.
    pub ledger: PathBuf,
    /// Whether secrets stay as they are from run to run: written anew they end a back-off.
    pub keeps_secrets: bool,
    /// Microsoft's side.
    pub microsoft: Microsoft,
    /// The bare queue of Wazuh's side.
    pub queue: Queue,
    /// The judge.
    pub oracle: Oracle,
    /// Where new records come from.
    pub records: Records,
    /// Each tenant's name in the configuration, and its registration.
    pub tenants: Vec<(String, TenantSpec)>,
    /// Lines of the configuration's sections.
    pub settings: BTreeMap<&'static str, Vec<String>>,
    /// Further lines of each tenant's file.
    pub tenant_settings: BTreeMap<String, Vec<String>>,
}

impl World {
    /// A world without tenants.
    #[must_use]
    pub fn new(options: Options) -> Self {
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
            binary: binary(),
            ledger: folder.path().join("ledger.db"),
            folder,
            keeps_secrets: false,
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
    #[must_use]
    pub fn with_tenants(count: usize, options: Options) -> Self {
        let mut world = Self::new(options);
        for number in 1..=count {
            world.add_tenant(
                &format!("tenant-{number}"),
                TenantSpec::numbered(u64::try_from(number).unwrap()),
            );
        }
        world
    }

    /// Adds a tenant on all sides.
    pub fn add_tenant(&mut self, name: &str, spec: TenantSpec) {
        self.microsoft.add_tenant(spec.clone());
        self.oracle.tenant(name, &spec.tenant_id);
        self.tenants.push((name.to_owned(), spec));
    }

    /// The GUID of the nth tenant.
    #[must_use]
    pub fn id(&self, tenant: usize) -> String {
        self.tenants[tenant].1.tenant_id.clone()
    }

    /// Issues a blob of new records, created so long ago; its content id.
    pub fn issue(
        &mut self,
        tenant: usize,
        content_type: &str,
        records: usize,
        ago: TimeDelta,
    ) -> String {
        let records: Vec<_> = self.records.by_ref().take(records).collect();
        self.issue_these(tenant, content_type, records, self.microsoft.now() - ago)
    }

    /// As [`World::issue`], with records of the commonest size.
    pub fn issue_small(
        &mut self,
        tenant: usize,
        content_type: &str,
        records: usize,
        ago: TimeDelta,
    ) -> String {
        let records = (0..records).map(|_| self.records.sized(700)).collect();
        self.issue_these(tenant, content_type, records, self.microsoft.now() - ago)
    }

    /// Issues a blob of these records; each of them has to arrive.
    pub fn issue_these(
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

    /// Issues some blobs of every content type of every tenant, over the last hours.
    pub fn issue_everywhere(&mut self, blobs: usize, records: usize) {
        for tenant in 0..self.tenants.len() {
            for content_type in CONTENT_TYPES {
                for blob in 0..blobs {
                    let minutes = i64::try_from(blob * 7 + 1).unwrap();
                    self.issue(tenant, content_type, records, TimeDelta::minutes(minutes));
                }
            }
        }
    }

    /// Wazuh's home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("ossec")
    }

    /// Where the ledger is.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.ledger.clone()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// What the program logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sets a key of a section, in place of what the world has for it.
    pub fn set(&mut self, section: &'static str, key: &str, value: &str) {
        let lines = self.settings.entry(section).or_default();
        lines.retain(|line| !line.starts_with(&format!("{key} ")));
        lines.push(format!("{key} = {value}"));
    }

    /// Writes the configuration and the secrets.
    pub fn configure(&self) {
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
        let log = settings.entry("log").or_default();
        log.push(format!("file = {}", quoted(&folder.join("log"))));
        if !log.iter().any(|line| line.starts_with("level ")) {
            log.push("level = \"debug\"".to_owned());
        }
        for (section, lines) in &settings {
            text.extend(["[", *section, "]\n", &lines.join("\n"), "\n"]);
        }
        write(&self.config(), &text, 0o640);
        for sub in ["tenants.d", "secrets"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
            fs::set_permissions(folder.join(sub), fs::Permissions::from_mode(0o750)).unwrap();
        }
        for (name, spec) in &self.tenants {
            let secret = folder.join("secrets").join(name);
            let is_there = || fs::read_to_string(&secret).is_ok_and(|there| there == spec.secret);
            if !(self.keeps_secrets && is_there()) {
                write(&secret, &spec.secret, 0o600);
            }
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
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_under(&[], arguments)
    }

    /// As [`Self::command`], run by another program: `["strace", "-f", …]`.
    #[must_use]
    pub fn command_under(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        self.configure();
        let mut command = match wrapper {
            [] => Command::new(&self.binary),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(&self.binary);
                command
            }
        };
        command
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("NO_COLOR");
        // Those of the machine that tests here must not come in between.
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        if self.microsoft.url().starts_with("https") {
            let ca = self.folder.path().join("ca.pem");
            self.microsoft.write_ca(&ca).unwrap();
            command.env("SSL_CERT_FILE", ca);
        }
        command
    }

    /// Puts the binary into the world's folder, where other users can start it.
    ///
    /// Another process copies it: what this one has open for writing, a child that another thread forks has too, for a
    /// moment, and what is open for writing cannot be started.
    #[must_use]
    pub fn copy_of_binary(&self) -> PathBuf {
        let copy = self.folder.path().join("o365-wodle");
        let copied = Command::new("cp").arg(&self.binary).arg(&copy).status();
        assert!(copied.unwrap().success());
        copy
    }

    /// Runs the binary with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The binary over the configuration and secrets as they stand: writing them anew would be a
    /// rotation, which ends every back-off.
    pub fn run_as_it_stands(&self, arguments: &[&str]) -> Output {
        Command::new(&self.binary)
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What `status --json` says of each stream.
    #[must_use]
    pub fn status(&self) -> Vec<serde_json::Value> {
        let output = self.run_as_it_stands(&["status", "--json"]);
        let mut status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        serde_json::from_value(status["streams"].take()).unwrap()
    }

    /// The sum of one of its numbers over all streams.
    #[must_use]
    pub fn sum(&self, number: &str) -> u64 {
        let streams = self.status();
        streams
            .iter()
            .filter_map(|stream| stream[number].as_u64())
            .sum()
    }

    /// A signal, by its name, to a child.
    pub fn signal(child: &Child, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Starts the binary with these arguments.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// A `run` with this exit code; its log goes into the message if it has another.
    pub fn run_expecting(&self, code: i32, arguments: &[&str]) -> Output {
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
    pub fn verdict(&mut self) -> Verdict {
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
    pub fn assert_clean(&mut self) {
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

/// Writes a file with this mode, whole at once: a program that was started before reads the former one or this.
pub fn write(path: &Path, text: &str, mode: u32) {
    let draft = NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).unwrap();
    draft.persist(path).unwrap();
}

/// The program in the folder where Cargo built the test; a name alone where it is not there, which
/// then cannot be started.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let mut folders = test.ancestors().skip(1).take(2);
    let found = folders.find_map(|folder| {
        let binary = folder.join("o365-wodle");
        binary.is_file().then_some(binary)
    });
    found.unwrap_or_else(|| "o365-wodle".into())
}
