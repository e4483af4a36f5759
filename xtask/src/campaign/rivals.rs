//! Row 7: several runs at once, and the one that works is killed.

use std::sync::Arc;
use std::time::Duration;

use simulator::microsoft::Options;

use super::bench::{Bench, kill_after};
use super::kill::Random;
use super::{Case, Column, Setup, Trial};

/// Row 7.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in column.seeds(1) {
        for number in 0..u64::try_from(column.of(20, 500)).unwrap_or(u64::MAX) {
            let runs = 2 + usize::try_from(number % 7).unwrap_or(0);
            let is_killed = number % 2 == 1;
            let name = format!("{number}: {runs} runs, holder killed: {is_killed}, seed {seed}");
            cases.push(Case::new(name, move |setup| {
                at_once(setup, runs, is_killed, Random(seed << 32 | number))
            }));
        }
    }
    cases
}

fn at_once(setup: &Arc<Setup>, runs: usize, is_killed: bool, mut random: Random) -> Trial {
    let options = Options {
        latency: Duration::from_millis(if is_killed { 150 } else { 40 }),
        ..Options::default()
    };
    let mut bench = Bench::new(setup, options);
    bench.issue_some();
    if random.below(2) == 1 {
        bench.until_clean();
        bench.issue_some();
    }
    if is_killed {
        // The first has the lock for sure: it is asking Microsoft.
        let requests = bench.microsoft.request_count();
        let mut holder = bench.spawn(&[]);
        assert!(
            bench
                .microsoft
                .wait_for(Duration::from_secs(30), |seen| seen.len() > requests)
        );
        for _ in 1..runs {
            let ended = bench.go(&[]);
            if holder.try_wait().unwrap().is_some() {
                // So slow a machine that it had finished.
                break;
            }
            assert_eq!(ended.code, Some(75), "{ended:?}\nlog: {}", bench.tail());
            assert!(ended.stderr.contains("another run"), "{}", ended.stderr);
        }
        kill_after(&mut holder, random.moment(Duration::from_millis(200)));
        bench.cut_off();
        // The kernel gave the lock back.
    } else {
        // One after the other, since that writes the configuration; then all of them at once.
        let commands: Vec<_> = (0..runs).map(|_| bench.command(&[], &["run"])).collect();
        let rivals: Vec<_> = commands
            .into_iter()
            .map(|mut command| command.spawn().unwrap())
            .collect();
        let codes: Vec<_> = rivals
            .into_iter()
            .map(|rival| bench.wait(rival).code)
            .collect();
        assert!(codes.contains(&Some(0)), "{codes:?}");
        assert!(
            codes.iter().all(|code| matches!(code, Some(0 | 75))),
            "{codes:?}"
        );
    }
    bench.until_clean();
    bench.judge()
}
