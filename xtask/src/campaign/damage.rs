//! Row 5: the ledger flipped, zeroed and cut page by page, and what else may stand at its path.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;

use simulator::microsoft::Options;

use super::bench::Bench;
use super::kill::Random;
use super::{Case, Column, Setup, Trial};

/// `SQLite`'s own, and ours.
const PAGE: usize = 4_096;

/// Puts something else in the ledger's place.
type Spoil = fn(&Path);

/// What is done to the file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Cut,
    Noise,
}

/// Row 5.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in column.seeds(1) {
        for number in 0..u64::try_from(column.of(50, 2_000)).unwrap_or(u64::MAX) {
            let damage = [Damage::Flip, Damage::Zero, Damage::Cut, Damage::Noise]
                [usize::try_from(number % 4).unwrap_or(0)];
            let name = format!("{damage:?} {number}, seed {seed}");
            cases.push(Case::new(name, move |setup| {
                damaged(setup, damage, number / 4, Random(seed << 32 | number))
            }));
        }
    }
    cases.push(Case::new("an empty file", empty));
    let foreign: [(&str, Spoil); 6] = [
        ("a newer schema", |ledger| {
            let connection = rusqlite::Connection::open(ledger).unwrap();
            connection.pragma_update(None, "user_version", 999).unwrap();
        }),
        ("another program's database", |ledger| {
            fs::remove_file(ledger).unwrap();
            let connection = rusqlite::Connection::open(ledger).unwrap();
            connection
                .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
                .unwrap();
            fs::set_permissions(ledger, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("a directory", |ledger| {
            fs::remove_file(ledger).unwrap();
            fs::create_dir(ledger).unwrap();
        }),
        ("a symlink", |ledger| {
            let elsewhere = ledger.with_file_name("elsewhere");
            fs::rename(ledger, &elsewhere).unwrap();
            symlink(elsewhere, ledger).unwrap();
        }),
        ("a foreign owner", |ledger| {
            chown(ledger, Some(1_234), None).unwrap();
        }),
        ("a mode that is too wide", |ledger| {
            fs::set_permissions(ledger, fs::Permissions::from_mode(0o644)).unwrap();
        }),
    ];
    for (what, change) in foreign {
        cases.push(Case::new(what, move |setup| refused(setup, change)));
    }
    cases
}

/// A ledger that has seen a run, and more to do.
fn bench(setup: &Arc<Setup>) -> Bench {
    let mut bench = Bench::new(setup, Options::default());
    bench.issue_some();
    bench.until_clean();
    bench.issue_some();
    bench
}

fn damaged(setup: &Arc<Setup>, damage: Damage, page: u64, mut random: Random) -> Trial {
    let mut bench = bench(setup);
    let before = bench.arrived();
    let whole = fs::read(bench.ledger()).unwrap();
    let mut bytes = whole.clone();
    let pages = bytes.len() / PAGE;
    // The first pages each in their turn, then any.
    let page = usize::try_from(page).unwrap();
    let page = if page < pages {
        page
    } else {
        usize::try_from(random.below(pages as u64)).unwrap()
    };
    let place = page * PAGE;
    let within = |random: &mut Random| place + usize::try_from(random.below(PAGE as u64)).unwrap();
    match damage {
        Damage::Flip => {
            let at = within(&mut random);
            bytes[at] ^= 1 << random.below(8);
        }
        Damage::Zero => bytes[place..place + PAGE].fill(0),
        Damage::Cut => bytes.truncate(within(&mut random)),
        Damage::Noise => {
            for byte in &mut bytes[place..place + PAGE] {
                *byte = u8::try_from(random.below(256)).unwrap();
            }
        }
    }
    fs::write(bench.ledger(), &bytes).unwrap();
    recovers(bench, before, &whole)
}

fn empty(setup: &Arc<Setup>) -> Trial {
    let mut bench = bench(setup);
    let before = bench.arrived();
    let whole = fs::read(bench.ledger()).unwrap();
    fs::write(bench.ledger(), "").unwrap();
    recovers(bench, before, &whole)
}

/// Either the damage does not matter, or the ledger is set aside and all of it comes again: what a
/// first run would take is less than that.
fn recovers(mut bench: Bench, before: usize, whole: &[u8]) -> Trial {
    bench.set("collect", "initial_lookback", "\"1h\"");
    let is_hopeless = is_hopeless(&bench.ledger());
    let is_a_persons = is_a_persons(&fs::read(bench.ledger()).unwrap(), whole);
    let mut codes = Vec::new();
    let mut is_well = false;
    for _ in 0..4 {
        let ended = bench.go(&[]);
        codes.push(ended.code);
        assert!(
            matches!(ended.code, Some(0 | 75 | 78)),
            "{ended:?}\nlog: {}",
            bench.tail()
        );
        if ended.code == Some(78) {
            assert!(is_a_persons, "refused: {}", ended.stderr);
            assert!(ended.stderr.contains("ledger"), "{}", ended.stderr);
            return Trial::default();
        }
        is_well = ended.code == Some(0);
        if is_well {
            break;
        }
    }
    assert!(is_well, "never clean: {codes:?}\nlog: {}", bench.tail());
    let is_set_aside = fs::read_dir(bench.folder.path()).unwrap().any(|entry| {
        entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains(".corrupt-")
    });
    assert!(
        is_set_aside || !is_hopeless,
        "replaced without a word\nlog: {}",
        bench.tail()
    );
    if is_set_aside {
        assert!(
            bench.log().contains("set aside"),
            "not said: {}",
            bench.tail()
        );
        let ended = bench.go(&[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let all = bench.oracle.verdict().issued;
        bench.arrived();
        let verdict = bench.oracle.verdict();
        assert!(
            verdict.repeats >= before,
            "the last 7 days were not read again: {verdict}"
        );
        bench.allowed = all;
    } else {
        // What is forgotten comes again; what is only damaged elsewhere does not.
        bench.allowed = before;
    }
    bench.judge()
}

/// Whether `SQLite` itself can make nothing of the file.
fn is_hopeless(path: &Path) -> bool {
    let copy = path.with_file_name("copy");
    fs::copy(path, &copy).unwrap();
    let tables = rusqlite::Connection::open(&copy).and_then(|ledger| {
        let sql = "SELECT count(*) FROM sqlite_schema";
        ledger.query_row(sql, [], |row| row.get::<_, usize>(0))
    });
    tables.map_or(true, |tables| tables == 0)
}

/// Whether its header says another program or a newer version than it did when it was whole: a person has to look.
fn is_a_persons(damaged: &[u8], whole: &[u8]) -> bool {
    let (version, program) = (60..64, 68..72);
    let is_newer = damaged
        .get(version.clone())
        .is_some_and(|now| Some(now) > whole.get(version));
    let is_anothers = damaged
        .get(program.clone())
        .is_some_and(|now| Some(now) != whole.get(program));
    is_newer || is_anothers
}

/// Not ours to touch: exit code 78, and everything stays as it is.
fn refused(setup: &Arc<Setup>, change: fn(&Path)) -> Trial {
    let bench = bench(setup);
    let ledger = bench.ledger();
    change(&ledger);
    let state = || {
        let metadata = fs::symlink_metadata(&ledger).unwrap();
        let bytes = if metadata.is_dir() {
            Vec::new()
        } else {
            fs::read(&ledger).unwrap()
        };
        (metadata.permissions().mode(), bytes)
    };
    let before = state();
    let requests = bench.microsoft.request_count();
    let ended = bench.go(&[]);
    assert_eq!(ended.code, Some(78), "{ended:?}\nlog: {}", bench.tail());
    assert!(ended.stderr.contains("ledger"), "{}", ended.stderr);
    assert_eq!(state(), before, "it was touched");
    assert_eq!(
        bench.microsoft.request_count(),
        requests,
        "Microsoft was called"
    );
    Trial::default()
}
