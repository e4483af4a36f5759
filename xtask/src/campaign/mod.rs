//! The campaign: many trials of the real binary in a fake world, each of which damages something.
//!
//! A row is a property. Its module makes the cases; here they are run, a few at once, and counted.
//! A case passes if nothing is lost, no more is repeated than the promise allows, and nothing that
//! the case asserts fails.

mod api;
mod attack;
mod bench;
mod clocks;
mod damage;
mod disk;
mod generated;
mod kill;
mod modes;
mod power;
mod proxy;
mod queue;
mod rivals;
mod secrets;
mod soak;
mod tls;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::tools;

/// What a campaign is asked to do.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these rows
    #[arg(long = "row", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=17))]
    rows: Vec<u8>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Begin with this seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many seeds to use [default: 1; the release column has its own figures]
    #[arg(long, value_name = "S")]
    seeds: Option<u64>,
    /// How many records the soak has [default: 50,000; 2 million in the release column]
    #[arg(long, value_name = "N")]
    records: Option<usize>,
    /// The long column: hours
    #[arg(long)]
    release_column: bool,
    /// The program to try [default: the workspace's, built like this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Trials at once, which wait more than they work
    #[arg(long, value_name = "N", default_value_t = 16)]
    jobs: usize,
    /// Switch safeties of the program off, to see the rows fail; needs a program that was built with
    /// `--features teeth`
    #[arg(long, value_name = "SAFETY,…")]
    without: Option<String>,
    /// Say how each case went
    #[arg(short, long)]
    verbose: bool,
}

/// How much is tried.
pub(crate) struct Column {
    /// The first seed.
    seed: u64,
    /// How many seeds.
    seeds: Option<u64>,
    /// How many records the soak has.
    records: Option<usize>,
    /// Whether hours may pass.
    is_release: bool,
    /// What a case needs to know of the program.
    setup: Arc<Setup>,
}

impl Column {
    /// How often something is tried: for CI, or for a release.
    fn of(&self, ci: usize, release: usize) -> usize {
        if self.is_release { release } else { ci }
    }

    /// The seeds, `release` of them in the release column.
    fn seeds(&self, release: u64) -> std::ops::Range<u64> {
        let count = self
            .seeds
            .unwrap_or(if self.is_release { release } else { 1 });
        self.seed..self.seed + count
    }
}

/// What every trial shares.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The program.
    binary: PathBuf,
    /// Safeties that are switched off.
    without: Option<String>,
}

/// What a trial does.
type Work = Box<dyn FnOnce(&Arc<Setup>) -> Trial + Send>;

/// One trial.
pub(crate) struct Case {
    /// What it does; `--only` finds it.
    name: String,
    work: Work,
}

impl Case {
    fn new(
        name: impl Into<String>,
        work: impl FnOnce(&Arc<Setup>) -> Trial + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            work: Box::new(work),
        }
    }
}

/// What came of a trial.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Trial {
    /// Records that never arrived.
    lost: usize,
    /// Arrivals beyond the first.
    repeated: usize,
    /// How many of them the promise allows here.
    allowed: usize,
    /// What was to go wrong did not.
    missed: bool,
    /// How many tries it was, if it was not one.
    tries: usize,
}

/// A row's figures.
#[derive(Default)]
struct Sum {
    /// Those in which something went wrong.
    cases: usize,
    /// The others.
    missed: usize,
    total: Trial,
    failures: Vec<String>,
}

type Row = (u8, &'static str, fn(&Column) -> Vec<Case>);

const ROWS: [Row; 17] = [
    (1, "kill -9 at every system call", kill::sweep),
    (2, "random kills, 1 to 5 a run", kill::random),
    (3, "power cut", power::cases),
    (4, "full and failing disks", disk::cases),
    (5, "damaged and foreign ledgers", damage::cases),
    (6, "wrong clocks", clocks::cases),
    (7, "several runs at once", rivals::cases),
    (8, "Wazuh's queue and restarts", queue::cases),
    (9, "faults of the API", api::cases),
    (10, "hostile servers and records", attack::cases),
    (11, "servers without proof", tls::cases),
    (12, "secrets stay inside", secrets::cases),
    (13, "owners, modes and links", modes::cases),
    (14, "fuzz targets, executions", generated::fuzzing),
    (15, "properties, cases each", generated::properties),
    (16, "soak, records", soak::cases),
    (17, "through a real forward proxy", proxy::cases),
];

/// Runs the campaign and prints its table; whether everything passed.
///
/// # Errors
/// Something that it needs is missing.
#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn run(arguments: &Arguments) -> Result<bool, String> {
    tools::install(&tools::CAMPAIGN)?;
    let binary = tools::program(arguments.binary.as_deref())?;
    let column = Column {
        seed: arguments.seed,
        seeds: arguments.seeds,
        records: arguments.records,
        is_release: arguments.release_column,
        setup: Arc::new(Setup {
            binary,
            without: arguments.without.clone(),
        }),
    };
    // What a trial asserts is told in the table's terms.
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "{:<34}{:>11}{:>6}{:>10}{:>10}  {:<8}{:>7}",
        "row", "cases", "lost", "repeated", "allowed", "verdict", "seconds"
    );
    let (mut passed, mut failed) = (0, 0);
    for (number, what, cases) in ROWS {
        if !arguments.rows.is_empty() && !arguments.rows.contains(&number) {
            continue;
        }
        let since = Instant::now();
        let sum = match catch_unwind(AssertUnwindSafe(|| cases(&column))) {
            // The tests try these in CI.
            Ok(cases) if cases.is_empty() => continue,
            Ok(mut cases) => {
                if let Some(only) = &arguments.only {
                    cases.retain(|case| case.name.contains(only));
                }
                all(cases, &column.setup, arguments.jobs, arguments.verbose)
            }
            Err(panic) => Sum {
                failures: vec![said(panic.as_ref())],
                ..Sum::default()
            },
        };
        let is_well = sum.failures.is_empty();
        *(if is_well { &mut passed } else { &mut failed }) += 1;
        println!(
            "{:<34}{:>11}{:>6}{:>10}{:>10}  {:<8}{:>7}",
            format!("{number} {what}"),
            sum.cases,
            sum.total.lost,
            sum.total.repeated,
            sum.total.allowed,
            if is_well { "passed" } else { "FAILED" },
            since.elapsed().as_secs()
        );
        if sum.missed > 0 {
            println!("    in {} cases more nothing went wrong", sum.missed);
        }
        for failure in sum.failures.iter().take(20) {
            println!("    {}", failure.replace('\n', "\n      "));
        }
        if sum.failures.len() > 20 {
            println!("    … and {} more", sum.failures.len() - 20);
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Runs the cases, a few at once.
fn all(cases: Vec<Case>, setup: &Arc<Setup>, jobs: usize, verbose: bool) -> Sum {
    let waiting = Mutex::new(VecDeque::from(cases));
    let sum = Mutex::new(Sum::default());
    let lock = |queue: &Mutex<VecDeque<Case>>| {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(case) = lock(&waiting) {
                    let since = Instant::now();
                    let result = catch_unwind(AssertUnwindSafe(|| (case.work)(setup)));
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(&case.name, result.map_err(|panic| said(panic.as_ref())));
                    if verbose {
                        eprintln!("{}: {:.1} s", case.name, since.elapsed().as_secs_f32());
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    if sum.missed * 2 > sum.cases {
        let why = format!(
            "nothing went wrong in {} cases more: they prove nothing",
            sum.missed
        );
        sum.failures.push(why);
    }
    sum
}

impl Sum {
    fn add(&mut self, name: &str, result: Result<Trial, String>) {
        match result {
            Ok(trial) if trial.missed && trial.lost + trial.repeated == 0 => self.missed += 1,
            Ok(trial) => {
                self.cases += trial.tries.max(1);
                self.total.lost += trial.lost;
                self.total.repeated += trial.repeated;
                self.total.allowed += trial.allowed;
                if trial.lost > 0 || trial.repeated > trial.allowed {
                    self.failures.push(format!(
                        "{name}: {} lost, {} repeated, {} allowed",
                        trial.lost, trial.repeated, trial.allowed
                    ));
                }
            }
            Err(why) => {
                self.cases += 1;
                self.failures.push(format!("{name}: {why}"));
            }
        }
    }
}

/// What a panic says.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}
