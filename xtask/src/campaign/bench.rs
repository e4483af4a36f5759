//! What a trial works with: a world, a look into the ledger, and the judgement.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::ops::{Deref, DerefMut};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use rusqlite::{Connection, OpenFlags};
use simulator::microsoft::{Options, Violation};
use simulator::wazuh::{Manager, Settings};
use simulator::world::World;

use super::{Setup, Trial};
use crate::bench::measure::any_figures;

/// The content types of most trials.
pub(super) const TYPES: [&str; 2] = ["Audit.Exchange", "DLP.All"];

/// Events that may be handed over between two commits.
const BATCH: usize = 2_000;

/// No run takes longer; one that does hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// A world, and what a trial knows of its past.
pub(super) struct Bench {
    /// A whole manager in place of the bare queue; it ends before its folder does.
    pub manager: Option<Manager>,
    world: World,
    setup: Arc<Setup>,
    /// How far the oracle has seen its alerts file, in bytes.
    seen: u64,
    /// Repeats that the promise allows so far.
    pub allowed: usize,
    /// Blobs so far.
    issued: i64,
}

impl Deref for Bench {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit code; none for a death by signal.
    pub code: Option<i32>,
    /// What it wrote on standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Bench {
    /// A world of three tenants and two content types, with the bare queue.
    pub(super) fn new(setup: &Arc<Setup>, options: Options) -> Self {
        let mut world = World::with_tenants(3, options);
        world.keeps_secrets = true;
        world.binary.clone_from(&setup.binary);
        world.set("collect", "content_types", &format!("{TYPES:?}"));
        // Only a marker that is right keeps everything; not the second look behind it.
        world.set("collect", "overlap", "\"0s\"");
        world.set("collect", "resweep", "\"0s\"");
        Self {
            world,
            setup: Arc::clone(setup),
            manager: None,
            seen: 0,
            allowed: 0,
            issued: 0,
        }
    }

    /// With a manager that confirms.
    pub(super) fn with_manager(mut self, settings: Settings) -> Self {
        self.world.queue.close();
        self.world.settings.insert("wazuh", Vec::new());
        self.manager = Some(Manager::start(&self.world.home(), settings).unwrap());
        self
    }

    /// Four blobs of five records for each of three tenants' two content types.
    pub(super) fn issue_some(&mut self) {
        self.issue_blobs(4, 5);
    }

    /// So many blobs of so many records for each tenant's content types.
    pub(super) fn issue_blobs(&mut self, blobs: usize, records: usize) {
        let is_first = self.issued == 0;
        for tenant in 0..self.world.tenants.len() {
            for content_type in TYPES {
                for _ in 0..blobs {
                    self.issued += 1;
                    // At first some from before midnight, which only a first listing asks for.
                    let ago = if is_first {
                        TimeDelta::minutes(47 * self.issued % (20 * 60))
                    } else {
                        TimeDelta::zero()
                    };
                    self.world.issue(tenant, content_type, records, ago);
                }
            }
        }
        // Listings end at a full second.
        self.world.microsoft.advance(Duration::from_secs(2));
    }

    /// One blob of so many records.
    pub(super) fn issue_one(&mut self, records: usize) {
        self.issued += 1;
        let minute = TimeDelta::minutes(1);
        self.world.issue_small(0, TYPES[0], records, minute);
    }

    /// The binary, run by another program if one is named.
    pub(super) fn command(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.world.command_under(wrapper, arguments);
        command.stdout(Stdio::null());
        if let Some(without) = &self.setup.without {
            command.env("O365_WODLE_TEETH", without);
        }
        command
    }

    /// Starts a run.
    pub(super) fn spawn(&self, wrapper: &[&str]) -> Child {
        self.command(wrapper, &["run"]).spawn().unwrap()
    }

    /// A run to its end.
    pub(super) fn go(&self, wrapper: &[&str]) -> Ended {
        self.go_with(wrapper, &["run"])
    }

    /// A run with these arguments to its end.
    pub(super) fn go_with(&self, wrapper: &[&str], arguments: &[&str]) -> Ended {
        let child = self.command(wrapper, arguments).spawn().unwrap();
        self.wait(child)
    }

    /// The binary with these arguments to its end, and its memory at the peak, in bytes.
    pub(super) fn measured(&self, arguments: &[&str]) -> (Ended, u64) {
        let (figures, stderr) = any_figures(&self.command(&[], arguments)).unwrap();
        let ended = Ended {
            code: Some(figures.code),
            stderr,
            took: figures.wall,
        };
        (ended, figures.peak)
    }

    /// Waits for a run's end; it must not hang, nor panic, nor call itself faulty.
    pub(super) fn wait(&self, mut child: Child) -> Ended {
        let since = Instant::now();
        let status = wait_at_most(&mut child, PATIENCE)
            .unwrap_or_else(|| panic!("a run hangs\nlog: {}", self.tail()));
        let mut stderr = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            std::io::Read::read_to_string(&mut pipe, &mut stderr).unwrap();
        }
        let code = status.code();
        assert!(
            !matches!(code, Some(1 | 101)) && !matches!(status.signal(), Some(6 | 7 | 11)),
            "{status}: {stderr}\nlog: {}",
            self.tail()
        );
        Ended {
            code,
            stderr,
            took: since.elapsed(),
        }
    }

    /// The log's last lines, without the small talk.
    pub(super) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains(" DEBUG "))
            .collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    }

    /// Takes everything that arrived so far into the oracle; how much arrived at least once.
    pub(super) fn arrived(&mut self) -> usize {
        match &self.manager {
            None => {
                let verdict = self.world.verdict();
                verdict.received - verdict.repeats
            }
            Some(manager) => {
                if let Ok(file) = File::open(manager.alerts_file()) {
                    let mut alerts = BufReader::new(file);
                    alerts.seek(SeekFrom::Start(self.seen)).unwrap();
                    let mut line = Vec::new();
                    while alerts.read_until(b'\n', &mut line).unwrap() > 0 {
                        // What is not finished yet is read again.
                        let Some(event) = line.strip_suffix(b"\n") else {
                            break;
                        };
                        self.world.oracle.received_event(event);
                        self.seen += line.len() as u64;
                        line.clear();
                    }
                }
                let verdict = self.world.oracle.verdict();
                verdict.received - verdict.repeats
            }
        }
    }

    /// What a run that was cut off had handed over and not yet remembered may come again; that is
    /// one batch at most. The ledger must be whole.
    pub(super) fn cut_off(&mut self) {
        if let Some(manager) = &self.manager {
            assert!(manager.wait_idle(Duration::from_secs(20)));
            let decoded =
                "/metrics/events/received_breakdown/decoded_breakdown/modules_breakdown/office365";
            let told = manager
                .statistics()
                .pointer(decoded)
                .and_then(serde_json::Value::as_u64);
            let told = usize::try_from(told.expect("the manager tells what it decoded")).unwrap();
            assert!(manager.wait_for_alerts(told, Duration::from_secs(5)));
        }
        // What was handed over may not have been read yet.
        let mut arrived = self.arrived();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.arrived();
            if now == arrived && (self.manager.is_some() || self.queue.is_drained()) {
                break;
            }
            arrived = now;
        }
        let open = arrived.saturating_sub(remembered(&self.ledger()));
        assert!(open <= BATCH, "{open} events are not remembered");
        self.allowed += open;
    }

    /// Runs until a run ends well and everything is there.
    pub(super) fn until_clean(&self) {
        let mut codes = Vec::new();
        for _ in 0..8 {
            let ended = self.go(&[]);
            codes.push(ended.code);
            if matches!(ended.code, Some(3 | 75)) {
                // A start of a subscription that was cut off is not repeated for 15 minutes.
                self.world.microsoft.advance(Duration::from_mins(20));
            }
            if ended.code == Some(0) && self.is_settled() {
                return;
            }
        }
        panic!("never clean: {codes:?}\nlog: {}", self.tail());
    }

    /// Whether nothing waits for anything.
    fn is_settled(&self) -> bool {
        let Some(ledger) = look(&self.ledger()) else {
            return true;
        };
        let count = |sql: &str| {
            ledger
                .query_row(sql, [], |row| row.get::<_, usize>(0))
                .unwrap()
        };
        let pending = count("SELECT count(*) FROM content WHERE state IN (0, 1)");
        let unconfirmed = count("SELECT count(*) FROM batch WHERE confirmed = 0");
        pending + unconfirmed == 0
    }

    /// Looks once more, judges, and ends the world. Microsoft's rules were kept.
    pub(super) fn judge(mut self) -> Trial {
        if let Some(manager) = &self.manager {
            assert!(
                manager.wait_idle(Duration::from_secs(30)),
                "the manager is never idle"
            );
            let issued = self.oracle.verdict().issued;
            // That much must be there within seconds, or is lost.
            let _in_time = manager.wait_for_alerts(issued, Duration::from_secs(3));
        }
        self.arrived();
        let verdict = self.oracle.verdict();
        let odd = |text: &String| !text.contains(simulator::microsoft::INJECTED);
        assert!(
            verdict.altered.is_empty()
                && verdict.malformed.is_empty()
                && verdict.oversize.is_empty()
                && !verdict.unexpected.iter().any(odd),
            "{verdict}\n{}",
            verdict.details()
        );
        // Said here, since a panic in a drop could not be told.
        let violations = self.microsoft.violations();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        if !verdict.missing.is_empty() || verdict.repeats > self.allowed {
            keep_log(&self.log());
        }
        Trial {
            lost: verdict.missing.len(),
            repeated: verdict.repeats,
            allowed: self.allowed,
            ..Trial::default()
        }
    }

    /// Renews the secrets' files, which ends the back-off of tenants: before Microsoft has told its
    /// time, that goes by this machine's clock.
    pub(super) fn rotate(&self) {
        std::fs::remove_dir_all(self.folder.path().join("secrets")).unwrap();
    }

    /// Does not hold these against the program.
    pub(super) fn allow(&self, kinds: &[Violation]) {
        for kind in kinds {
            self.microsoft.allow(*kind);
        }
    }
}

/// `O365_CAMPAIGN_LOGS=FOLDER` keeps the log of each failed trial there.
fn keep_log(log: &str) {
    if let Some(folder) = std::env::var_os("O365_CAMPAIGN_LOGS") {
        let stamp = chrono::Utc::now().format("%H%M%S%.6f").to_string();
        std::fs::write(Path::new(&folder).join(stamp), log).unwrap();
    }
}

/// Waits for a child; one that does not end in time is killed and `None`.
pub(super) fn wait_at_most(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let since = Instant::now();
    while since.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// Lets a run go on for so long, then kills it; whether it ended by itself.
pub(super) fn kill_after(child: &mut Child, moment: Duration) -> bool {
    wait_at_most(child, moment).is_some()
}

/// A copy of the ledger as the run left it, opened; `None` where there is none yet. It must be
/// whole.
pub(super) fn look(path: &Path) -> Option<Connection> {
    if !path.exists() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ledger.db");
    std::fs::copy(path, &copy).unwrap();
    for end in ["-wal", "-journal"] {
        let log = format!("{}{end}", path.display());
        if Path::new(&log).exists() {
            std::fs::copy(&log, format!("{}{end}", copy.display())).unwrap();
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ledger = Connection::open_with_flags(&copy, flags).unwrap();
    let said: String = ledger
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap_or_else(|error| error.to_string());
    assert_eq!(said, "ok", "the ledger's integrity");
    // An open file outlives its name.
    drop(folder);
    assert_eq!(at_odds(&ledger).unwrap(), 0, "contents and their batches");
    Some(ledger)
}

/// How many contents count as confirmed while a batch of theirs is not, or wait for one that there is not: at no time any.
fn at_odds(ledger: &Connection) -> rusqlite::Result<usize> {
    let sql = "SELECT count(*) FROM content WHERE state IN (1, 2) AND (state = 1) <> EXISTS (
                   SELECT 1 FROM batch_content b JOIN batch ON batch.id = b.batch
                   WHERE b.content = content.id AND batch.confirmed = 0)";
    ledger.query_row(sql, [], |row| row.get(0))
}

/// How many records the ledger of a run that goes on knows as confirmed.
pub(super) fn confirmed(path: &Path) -> usize {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|ledger| {
            ledger.busy_timeout(Duration::from_secs(5))?;
            assert_eq!(at_odds(&ledger)?, 0, "contents and their batches");
            let sql = "SELECT coalesce(sum(delivered), 0) FROM stream";
            ledger.query_row(sql, [], |row| row.get(0))
        })
        .unwrap_or(0)
}

/// How many batches the ledger has.
pub(super) fn batches(path: &Path) -> usize {
    look(path).map_or(0, |ledger| {
        let count = ledger.query_row("SELECT count(*) FROM batch", [], |row| row.get(0));
        count.unwrap()
    })
}

/// How many records the ledger remembers as handed over.
pub(super) fn remembered(path: &Path) -> usize {
    let Some(ledger) = look(path) else {
        return 0;
    };
    let count = |sql: &str| {
        ledger
            .query_row(sql, [], |row| row.get::<_, usize>(0))
            .unwrap()
    };
    let folded: Vec<String> = ledger
        .prepare("SELECT name FROM sqlite_schema WHERE name GLOB 'seen_[0-9]*'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    count("SELECT coalesce(sum(length(keys) / 20), 0) FROM batch")
        + folded
            .iter()
            .map(|table| count(&format!("SELECT count(*) FROM {table}")))
            .sum::<usize>()
}
