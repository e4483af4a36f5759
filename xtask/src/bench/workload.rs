//! The workloads.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use simulator::microsoft::{CONTENT_TYPES, Operation, Options};
use simulator::wazuh::{Background, Manager, Queue, Settings};
use simulator::world::World;

use crate::tools;

use super::counts;
use super::measure::{Figures, figures, median, told_by};
use super::remembered::Remembered;

/// Requests at once of one tenant, and of all: blobs, or other requests; the program's defaults.
const CONCURRENCY: usize = 8;
const BLOBS_AT_ONCE: usize = 32;
const OTHERS_AT_ONCE: usize = 40;
/// Bytes of a record.
const RECORD: usize = 1536;

/// What is collected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    tenants: usize,
    /// Of each tenant, spread over the content types.
    blobs: usize,
    /// Of each blob.
    records: usize,
    latency: Duration,
    tls: bool,
    gzip: bool,
    /// Whether everything was collected before: what is measured is a run that finds nothing.
    nothing_new: bool,
    /// Events a second of a manager that confirms; without, a bare reader.
    manager: Option<f64>,
    /// Record ids in the ledger before.
    remembered: usize,
}

pub(super) const PLAIN: Workload = Workload {
    name: "W1",
    what: "2,000 blobs of 50 records",
    tenants: 1,
    blobs: 2000,
    records: 50,
    latency: Duration::ZERO,
    tls: false,
    gzip: false,
    nothing_new: false,
    manager: None,
    remembered: 0,
};

/// A run that finds nothing: what most runs are.
pub(super) const IDLE: Workload = Workload {
    name: "W5 TLS",
    what: "nothing new, 1 tenant",
    blobs: 20,
    nothing_new: true,
    tls: true,
    ..PLAIN
};

const IDLE_OF_300: Workload = Workload {
    name: "W5 300 TLS",
    what: "nothing new, 300 tenants, 20 ms a request",
    tenants: 300,
    blobs: 5,
    records: 1,
    latency: Duration::from_millis(20),
    ..IDLE
};

pub(super) const WORKLOADS: [Workload; 13] = [
    PLAIN,
    Workload {
        name: "W1 TLS",
        tls: true,
        ..PLAIN
    },
    Workload {
        name: "W1 TLS gzip",
        tls: true,
        gzip: true,
        ..PLAIN
    },
    Workload {
        name: "W2",
        what: "the same, 50 ms a request",
        latency: Duration::from_millis(50),
        ..PLAIN
    },
    Workload {
        name: "W3",
        what: "50 tenants of 20 blobs, 20 ms a request",
        tenants: 50,
        blobs: 20,
        latency: Duration::from_millis(20),
        ..PLAIN
    },
    Workload {
        name: "W4 50 MB",
        what: "one blob of 50 MB",
        blobs: 1,
        records: 50_000_000 / RECORD,
        ..PLAIN
    },
    Workload {
        name: "W4 400 MB",
        what: "one blob of 400 MB",
        blobs: 1,
        records: 400_000_000 / RECORD,
        ..PLAIN
    },
    Workload {
        name: "W5",
        tls: false,
        ..IDLE
    },
    IDLE,
    Workload {
        name: "W5 300",
        tls: false,
        ..IDLE_OF_300
    },
    IDLE_OF_300,
    Workload {
        name: "W6",
        what: "W1 and 10 million remembered ids",
        remembered: 10_000_000,
        ..PLAIN
    },
    Workload {
        name: "W7",
        what: "a manager of 15,000 events/s that confirms",
        manager: Some(15_000.0),
        ..PLAIN
    },
];

/// Figures of a workload.
pub(super) struct Measured {
    pub(super) workload: Workload,
    pub(super) ours: Figures,
    /// Floor A.
    pub(super) fetch: Option<Figures>,
    /// Floor B.
    pub(super) send: Option<Figures>,
    /// Requests of one run, the token's among them.
    pub(super) requests: usize,
    /// Events of one run.
    pub(super) events: usize,
    /// What the manager saw.
    pub(super) seen: Option<Seen>,
    /// How many times a run asks the disk to synchronise.
    pub(super) syncs: usize,
    /// Instructions that a record takes.
    pub(super) instructions: Option<u64>,
}

/// What a manager saw of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Events a second that it processed, from the first one's arrival to the end of the last.
    pub(super) rate: f64,
    /// Events that it dropped.
    pub(super) dropped: u64,
}

impl Measured {
    /// What the requests take if nothing else does.
    pub(super) fn network(&self) -> Option<Duration> {
        let Workload {
            latency, tenants, ..
        } = self.workload;
        let blobs = if self.workload.nothing_new {
            0
        } else {
            tenants * self.workload.blobs
        };
        let rounds = |requests: usize, at_once: usize| {
            requests as f64 / at_once.min(CONCURRENCY * tenants) as f64
        };
        let others = self.requests.saturating_sub(blobs);
        let rounds = rounds(blobs, BLOBS_AT_ONCE) + rounds(others, OTHERS_AT_ONCE);
        (!latency.is_zero()).then(|| latency.mul_f64(rounds))
    }
}

impl Workload {
    /// Measures it so many times, each in a world of its own; the medians.
    pub(super) fn measure(self, binary: &Path, runs: usize) -> Result<Measured, String> {
        let (mut ours, mut fetch, mut send) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = None;
        let remembered = match self.remembered {
            0 => None,
            count => Some(Remembered::fill(count)?),
        };
        let remembered = remembered.as_ref();
        for _ in 0..runs {
            let stage = Stage::set(self, binary, remembered)?;
            let (figures, requests, events, seen) = stage.ours()?;
            ours.push(figures);
            if let Some(remembered) = remembered {
                remembered.is_in(&stage.world.ledger())?;
            }
            if self.has_floor() {
                fetch.push(stage.fetch()?);
                send.push(stage.send()?);
            }
            last = Some((requests, events, seen));
        }
        let (requests, events, seen) = last.ok_or("no runs")?;
        Ok(Measured {
            workload: self,
            ours: median(ours).ok_or("no runs")?,
            fetch: median(fetch),
            send: median(send),
            requests,
            events,
            seen,
            syncs: counts::syncs(self, binary, remembered)?,
            instructions: self.instructions(binary)?,
        })
    }

    /// Instructions that a record takes, of the first workloads: the others' records are the same.
    fn instructions(self, binary: &Path) -> Result<Option<u64>, String> {
        (self.what == PLAIN.what)
            .then(|| counts::instructions_a_record(self, binary))
            .transpose()
    }

    /// The same with so many blobs.
    pub(super) fn of_blobs(self, blobs: usize) -> Self {
        Self { blobs, ..self }
    }

    /// Whether what it takes is more than waiting.
    fn has_floor(&self) -> bool {
        !self.nothing_new && self.manager.is_none() && self.latency.is_zero()
    }

    /// What is issued.
    pub(super) fn events(&self) -> usize {
        self.tenants * self.blobs * self.records
    }

    /// What a run has to deliver.
    fn new_events(&self) -> usize {
        if self.nothing_new { 0 } else { self.events() }
    }
}

/// A world in which a workload is measured.
pub(super) struct Stage {
    workload: Workload,
    world: World,
    manager: Option<Manager>,
}

impl Stage {
    /// Makes it, with everything issued, and collected before if nothing new is to be found.
    pub(super) fn set(
        workload: Workload,
        binary: &Path,
        remembered: Option<&Remembered>,
    ) -> Result<Self, String> {
        let options = Options {
            tls: workload.tls,
            gzip: workload.gzip,
            latency: workload.latency,
            ..Options::default()
        };
        let mut world = World::with_tenants(workload.tenants, options);
        binary.clone_into(&mut world.binary);
        world.set("log", "level", "\"info\"");
        let manager = workload.manager.map(|rate| manager(&mut world, rate));
        if manager.is_none() {
            world.queue = Queue::bind_with(&world.home(), |_| {}).expect("a queue");
        }
        issue(&mut world, workload);
        if let Some(remembered) = remembered {
            remembered.copy_to(&world.ledger())?;
        }
        let stage = Self {
            workload,
            world,
            manager,
        };
        if workload.nothing_new {
            stage.collect()?;
        }
        Ok(stage)
    }

    /// Runs the program once.
    fn collect(&self) -> Result<(), String> {
        let output = self.world.run(&["run"]);
        if output.status.success() {
            return Ok(());
        }
        let log = self.world.log();
        Err(format!("the first run: {:?}\n{log}", output.status))
    }

    /// Where files may be left.
    pub(super) fn folder(&self) -> &Path {
        self.world.folder.path()
    }

    /// Runs the program under another one, that counts. Everything must arrive.
    pub(super) fn under(&self, wrapper: &[&str]) -> Result<(), String> {
        let before = self.arrived();
        tools::run(&mut self.world.command_under(wrapper, &["run"]))?;
        self.all_arrived(before).map(|_| ())
    }

    /// How many events arrived since: all of a run, or it fails.
    fn all_arrived(&self, before: usize) -> Result<usize, String> {
        let (events, wanted) = (self.arrived() - before, self.workload.new_events());
        if events == wanted {
            Ok(events)
        } else {
            Err(format!("{events} events arrived instead of {wanted}"))
        }
    }

    /// The program's figures, its requests, its events, and what a manager saw of them.
    fn ours(&self) -> Result<(Figures, usize, usize, Option<Seen>), String> {
        let before = (self.world.microsoft.request_count(), self.arrived());
        let command = self.world.command(&["run"]);
        let (figures, seen) = thread::scope(|scope| {
            let seen = scope.spawn(|| self.seen());
            (figures(&command), seen.join())
        });
        let figures = figures.map_err(|error| format!("{error}\n{}", self.world.log()))?;
        let seen = seen.map_err(|_| "the watcher of the manager panicked")?;
        let events = self.all_arrived(before.1)?;
        Ok((
            figures,
            self.world.microsoft.request_count() - before.0,
            events,
            seen,
        ))
    }

    /// Watches the manager until it has processed everything.
    fn seen(&self) -> Option<Seen> {
        const PATIENCE: Duration = Duration::from_mins(5);
        let (manager, events) = (self.manager.as_ref()?, self.workload.events());
        let is_begun = manager.wait_received(1, PATIENCE);
        let begin = Instant::now();
        let is_done = manager.wait_received(events as u64, PATIENCE) && manager.wait_idle(PATIENCE);
        (is_begun && is_done).then(|| Seen {
            rate: events as f64 / begin.elapsed().as_secs_f64(),
            dropped: manager.dropped(),
        })
    }

    fn arrived(&self) -> usize {
        match &self.manager {
            None => self.world.queue.count(),
            Some(manager) => {
                if !manager.wait_idle(Duration::from_mins(1)) {
                    eprintln!("the manager is still at work");
                }
                manager.alerts().len()
            }
        }
    }

    /// Floor A.
    fn fetch(&self) -> Result<Figures, String> {
        let (url, spec) = (self.world.microsoft.url(), &self.world.tenants[0].1);
        let mut lines = vec![
            format!("{url}/{}/oauth2/v2.0/token", spec.tenant_id),
            spec.client_id.clone(),
            spec.secret.clone(),
        ];
        for request in self.world.microsoft.requests() {
            if request.operation == Operation::Blob {
                let publisher = &spec.tenant_id;
                lines.push(format!(
                    "{url}{}?PublisherIdentifier={publisher}",
                    request.path
                ));
            }
        }
        let list = self.folder().join("addresses");
        fs::write(&list, lines.join("\n")).map_err(|error| error.to_string())?;
        let mut client = part()?;
        client.arg("fetch").arg(list).arg(CONCURRENCY.to_string());
        if self.workload.tls {
            client.env("SSL_CERT_FILE", self.folder().join("ca.pem"));
        }
        figures(&client)
    }

    /// Floor B. The ledger is gone afterwards: the program prints what it would send if it had sent nothing yet.
    fn send(&self) -> Result<Figures, String> {
        let events = self.folder().join("events");
        let file = fs::File::create(&events).map_err(|error| error.to_string())?;
        fs::remove_file(self.world.ledger()).map_err(|error| error.to_string())?;
        tools::run(self.world.command(&["run", "--dry-run"]).stdout(file))?;
        let before = self.arrived();
        let (socket, events) = (self.world.queue.path(), events.as_path());
        let mut sender = part()?;
        let (figures, _) = told_by(sender.arg("send").args([socket, events]))?;
        self.all_arrived(before)?;
        Ok(figures)
    }
}

/// One of the bench's own processes.
fn part() -> Result<Command, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command.arg("part");
    Ok(command)
}

/// A manager of so many events a second in place of the world's queue.
fn manager(world: &mut World, rate: f64) -> Manager {
    world.set("wazuh", "acknowledge", "\"auto\"");
    world.set("wazuh", "events_per_second", "\"auto\"");
    world.queue.close();
    fs::remove_dir_all(world.home()).ok();
    let settings = Settings {
        rate: Some(rate),
        background: Background::default(),
        ..Settings::default()
    };
    Manager::start(&world.home(), settings).expect("a manager")
}

/// Issues a workload's contents, over the last hours.
fn issue(world: &mut World, workload: Workload) {
    for tenant in 0..workload.tenants {
        let id = world.id(tenant);
        world.microsoft.subscribe_all(&id);
        for (blob, content_type) in (0..workload.blobs).zip(CONTENT_TYPES.into_iter().cycle()) {
            let ago = TimeDelta::seconds(60 + i64::try_from(blob).unwrap_or_default() * 20);
            let created = world.microsoft.now() - ago;
            let records: Vec<_> = (0..workload.records)
                .map(|_| world.records.sized(RECORD))
                .collect();
            world.microsoft.issue(&id, content_type, records, created);
        }
    }
}
