//! Delivery to a manager that confirms, at its full rate and under kills: 200,000 events each, judged by what stands in
//! its alerts file in the end.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::Value;
use simulator::microsoft::{CONTENT_TYPES, Options};
use simulator::oracle::{Oracle, Verdict};
use simulator::wazuh::{Background, Manager, Settings};
use simulator::world::World;

use crate::tools;

/// What is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only scenes whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Events of a scene
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    events: usize,
    /// The program to try [default: the workspace's, built like this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Decides when kills come
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Nobody,
    /// The manager, by SIGTERM and SIGKILL in turn, at random moments.
    Manager(usize),
    /// The manager, as soon as something was confirmed.
    AtConfirmation(usize),
    /// Our own run, by SIGTERM and SIGKILL in turn, at random moments.
    Run(usize),
}

struct Scene {
    name: &'static str,
    rate: f64,
    victim: Victim,
    /// Whether others send as well, enough to keep the queues from ever being empty.
    has_others: bool,
    /// Records of a blob.
    blob: usize,
}

const SCENES: [Scene; 10] = [
    Scene::of("2,000/s", 2_000.0, Victim::Nobody),
    Scene::of("15,000/s", 15_000.0, Victim::Nobody),
    Scene::of("2,000/s, manager killed", 2_000.0, Victim::Manager(20)),
    Scene::of("15,000/s, manager killed", 15_000.0, Victim::Manager(20)),
    Scene::of("15,000/s, run killed", 15_000.0, Victim::Run(20)),
    Scene::of("2,000/s among others", 2_000.0, Victim::Nobody).among_others(),
    Scene::of("15,000/s among others", 15_000.0, Victim::Nobody).among_others(),
    Scene::of(
        "15,000/s among others, manager killed",
        15_000.0,
        Victim::Manager(20),
    )
    .among_others(),
    Scene::of(
        "killed at confirmation",
        15_000.0,
        Victim::AtConfirmation(50),
    )
    .among_others(),
    Scene {
        blob: 50_000,
        ..Scene::of("a blob of 50,000, run killed", 15_000.0, Victim::Run(10))
    },
];

impl Scene {
    const fn of(name: &'static str, rate: f64, victim: Victim) -> Self {
        Self {
            name,
            rate,
            victim,
            has_others: false,
            blob: 50,
        }
    }

    const fn among_others(self) -> Self {
        Self {
            has_others: true,
            ..self
        }
    }
}

/// What came of a scene.
struct Outcome {
    verdict: Verdict,
    kills: usize,
    dropped: u64,
    /// Events a second until the last one was sent, without kills.
    rate: f64,
    /// Events that were unconfirmed after the run that followed the one that sent the last.
    unconfirmed: u64,
    seconds: f64,
}

/// Plays the scenes and prints their table; whether each kept the promise.
///
/// # Errors
/// The program cannot be had.
#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn run(arguments: &Arguments) -> Result<bool, String> {
    let binary = tools::program(arguments.binary.as_deref())?;
    println!(
        "{:<40}{:>8}{:>9}{:>9}{:>8}{:>6}{:>10}{:>7}{:>12}{:>6}{:>9}",
        "scene",
        "events",
        "seconds",
        "events/s",
        "dropped",
        "kills",
        "repeated",
        "a kill",
        "unconfirmed",
        "lost",
        "verdict"
    );
    let mut is_well = true;
    for scene in &SCENES {
        if arguments
            .only
            .as_ref()
            .is_some_and(|only| !scene.name.contains(only.as_str()))
        {
            continue;
        }
        // One batch a kill of the run; the manager's kills cost what was not confirmed.
        let events = if scene.blob > 50 {
            scene.blob
        } else {
            arguments.events
        };
        let outcome = scene.play(binary.clone(), events, arguments.seed)?;
        let each = outcome.verdict.repeats / outcome.kills.max(1);
        let allowed = match scene.victim {
            Victim::Nobody => 0,
            Victim::Run(_) => 2_000,
            Victim::Manager(_) | Victim::AtConfirmation(_) => 4_000,
        };
        let kept = outcome.verdict.missing.is_empty()
            && each <= allowed
            && outcome.unconfirmed == 0
            && (scene.victim != Victim::Nobody
                || outcome.dropped == 0 && (scene.has_others || outcome.rate >= 0.8 * scene.rate));
        is_well &= kept;
        println!(
            "{:<40}{:>8}{:>9.1}{:>9.0}{:>8}{:>6}{:>10}{:>7}{:>12}{:>6}{:>9}",
            scene.name,
            events,
            outcome.seconds,
            outcome.rate,
            outcome.dropped,
            outcome.kills,
            outcome.verdict.repeats,
            each,
            outcome.unconfirmed,
            outcome.verdict.missing.len(),
            if kept { "kept" } else { "BROKEN" }
        );
    }
    Ok(is_well)
}

/// A series of pauses that a seed decides.
struct Pauses(u64);

impl Pauses {
    /// Between nothing and `most`.
    fn next(&mut self, most: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64((self.0 >> 33) as f64 / f64::from(u32::MAX >> 1))
    }
}

impl Scene {
    fn play(&self, binary: PathBuf, events: usize, seed: u64) -> Result<Outcome, String> {
        let mut world = World::with_tenants(1, Options::default());
        world.binary = binary;
        world.keeps_secrets = true;
        world.oracle = Oracle::cheap();
        world.queue.unlink().map_err(|error| error.to_string())?;
        let share = if self.has_others { 0.2 } else { 0.0 };
        let manager = Manager::start(
            &world.home(),
            Settings {
                rate: Some(self.rate),
                background: Background {
                    office365: self.rate * share / 4.0,
                    other: self.rate * share,
                    fim: self.rate * share / 2.0,
                    inventory: self.rate * share / 4.0,
                },
                ..Settings::default()
            },
        )
        .map_err(|error| error.to_string())?;
        for (key, value) in [
            ("acknowledge", "\"auto\""),
            ("events_per_second", "\"auto\""),
        ] {
            world.set("wazuh", key, value);
        }
        world.set("log", "level", "\"info\"");
        let id = world.id(0);
        world.oracle.tenant("tenant-1", &id);
        world.microsoft.subscribe_all(&id);
        for (number, content_type) in (0..events / self.blob).zip(CONTENT_TYPES.iter().cycle()) {
            let records = (0..self.blob).map(|_| world.records.sized(400)).collect();
            let ago = TimeDelta::seconds(60 + i64::try_from(number * 10).unwrap_or_default());
            world.issue_these(0, content_type, records, world.microsoft.now() - ago);
        }
        Ok(self.act(&mut world, &manager, seed))
    }

    fn act(&self, world: &mut World, manager: &Manager, seed: u64) -> Outcome {
        let since = Instant::now();
        let mut pauses = Pauses(seed);
        let (mut kills, mut dropped, mut runs) = (0, 0, 0);
        let mut rate = 0.0;
        let total = world.oracle.verdict().issued;
        // Kills are spread over the time that all of it takes.
        let whole = Duration::from_secs_f64(total as f64 / self.rate + 2.0);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let killer = match self.victim {
                Victim::Manager(times) | Victim::AtConfirmation(times) => {
                    let at_confirmation = matches!(self.victim, Victim::AtConfirmation(_));
                    let is_over = &is_over;
                    let ledger = world.ledger();
                    Some(scope.spawn(move || {
                        let mut done = (0, 0);
                        while done.0 < times && !is_over.load(Ordering::Relaxed) {
                            if at_confirmation {
                                confirmation(&ledger, is_over);
                            } else {
                                thread::sleep(
                                    pauses.next(whole * 2 / u32::try_from(times).unwrap_or(1)),
                                );
                            }
                            done.1 += manager.dropped();
                            if done.0 % 2 == 0 {
                                manager.kill();
                            } else {
                                manager.terminate().expect("a manager that ends");
                            }
                            manager
                                .revive(Duration::from_millis(300))
                                .expect("a manager that starts");
                            done.0 += 1;
                        }
                        done
                    }))
                }
                Victim::Nobody | Victim::Run(_) => None,
            };
            let mut left = match self.victim {
                Victim::Run(times) => times,
                _ => 0,
            };
            let mut pauses = Pauses(seed ^ 1);
            loop {
                runs += 1;
                let begin = Instant::now();
                let mut child = world.start(&["run"]);
                if left > 0 {
                    thread::sleep(Duration::from_millis(100) + pauses.next(whole * 2 / 20));
                    left -= 1;
                    kills += usize::from(strike(&mut child, left % 2 == 0));
                }
                let code = child.wait().expect("a run").code();
                if runs == 1 && code == Some(0) {
                    rate = total as f64 / begin.elapsed().as_secs_f64();
                }
                let is_done = code == Some(0) && left == 0 && pending(world) == 0;
                let is_quiet = killer
                    .as_ref()
                    .is_none_or(thread::ScopedJoinHandle::is_finished);
                if is_done && is_quiet || runs > 400 {
                    break;
                }
                if is_done {
                    // Everything was sent before the last kill came.
                    is_over.store(true, Ordering::Relaxed);
                }
            }
            if let Some(killer) = killer {
                (kills, dropped) = killer.join().expect("a killer");
            }
        });
        world.run(&["run"]);
        let unconfirmed = status(world)["unconfirmed"].as_u64().unwrap_or(u64::MAX);
        dropped += manager.dropped();
        for line in manager.alerts() {
            world.oracle.received_event(line.as_bytes());
        }
        Outcome {
            verdict: world.oracle.verdict(),
            kills,
            dropped,
            rate,
            unconfirmed,
            seconds: since.elapsed().as_secs_f64(),
        }
    }
}

/// Kills a run, unless it has ended by itself.
fn strike(child: &mut Child, gently: bool) -> bool {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return false;
    }
    World::signal(child, if gently { "TERM" } else { "KILL" });
    true
}

/// Waits until more was confirmed than before.
fn confirmation(ledger: &Path, is_over: &AtomicBool) {
    let mut before = None;
    while !is_over.load(Ordering::Relaxed) {
        let now = confirmed(ledger);
        if before.is_some_and(|before| now.is_some_and(|now| now > before)) {
            return;
        }
        before = now.or(before);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Contents that the ledger holds as confirmed.
fn confirmed(ledger: &Path) -> Option<i64> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(ledger, flags).ok()?;
    connection
        .query_row("SELECT count(*) FROM content WHERE state = 2", [], |row| {
            row.get(0)
        })
        .ok()
}

fn status(world: &World) -> Value {
    let output = world.run_as_it_stands(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Contents that are not sent yet.
fn pending(world: &World) -> u64 {
    world.sum("pending")
}
