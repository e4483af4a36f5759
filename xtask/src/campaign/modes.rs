//! Row 13: owners, modes and links that let others in.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use simulator::microsoft::Options;
use simulator::world::write;

use super::bench::Bench;
use super::queue::NOBODY;
use super::{Case, Column, Setup, Trial, Work};

/// Row 13.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, work: Work| {
        cases.push(Case::new(name, work));
    };
    let files = [
        ("config.toml", &[0o666, 0o660, 0o642][..]),
        ("tenants.d/tenant-1.toml", &[0o666, 0o660]),
        ("tenants.d", &[0o777, 0o770, 0o1777]),
        ("secrets/tenant-1", &[0o604, 0o640, 0o644, 0o666]),
        ("secrets", &[0o777, 0o770, 0o1777]),
        ("ledger.db", &[0o644, 0o660]),
        (".", &[0o777, 0o775, 0o1777]),
    ];
    for (file, modes) in files {
        for &mode in modes {
            add(
                format!("{file} {mode:04o}"),
                Box::new(move |setup| {
                    refused(setup, file, |path| {
                        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                    })
                }),
            );
        }
        add(
            format!("{file} of another user"),
            Box::new(move |setup| {
                refused(setup, file, |path| {
                    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
                })
            }),
        );
        if file != "." {
            add(
                format!("{file} by another user's link"),
                Box::new(move |setup| refused(setup, file, link_of_another)),
            );
        }
    }
    add("umask 000".to_owned(), Box::new(no_umask));
    let rounds = column.of(10, 300);
    add(
        format!("a secret swapped for a link, {rounds} runs"),
        Box::new(move |setup| swapped(setup, rounds)),
    );
    cases
}

/// A tenant that was collected before, with nothing left to do.
fn bench(setup: &Arc<Setup>) -> Bench {
    let mut bench = Bench::new(setup, Options::default());
    bench.tenants.truncate(1);
    bench.issue(0, "Audit.Exchange", 5, chrono::TimeDelta::minutes(5));
    bench.until_clean();
    bench
}

/// Moves what is there aside, and lets a link of another user lead to it.
fn link_of_another(path: &Path) {
    let aside = path.with_file_name("aside");
    fs::rename(path, &aside).unwrap();
    symlink(&aside, path).unwrap();
    lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

/// A run refuses, names the file, and asks Microsoft nothing.
fn refused(setup: &Arc<Setup>, file: &str, spoil: impl FnOnce(&Path)) -> Trial {
    let bench = bench(setup);
    let before = bench.microsoft.request_count();
    let path = bench.folder.path().join(file);
    spoil(&path);
    let output = bench.run_as_it_stands(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &bench.log();
    // A secret that cannot be used is its tenant's trouble, everything else is the run's.
    let code = output.status.code();
    assert!(matches!(code, Some(77 | 78)), "{code:?}: {said}");
    assert!(
        said.contains(path.to_str().unwrap().trim_end_matches("/.")),
        "{said}"
    );
    assert_eq!(before, bench.microsoft.request_count(), "{said}");
    Trial::default()
}

/// Nothing that is made lets others in, though the creator's mask would.
fn no_umask(setup: &Arc<Setup>) -> Trial {
    let bench = Bench::new(setup, Options::default());
    bench.microsoft.issue(
        &bench.id(0),
        "Audit.Exchange",
        [br#"{"Id":"00000000-dead-4bad-8bad-injected0000","RecordType":1}"#],
        bench.microsoft.now(),
    );
    let masked = ["sh", "-c", "umask 000; exec \"$0\" \"$@\""];
    let ended = bench.go(&masked);
    assert_eq!(ended.code, Some(0), "{ended:?}\nlog: {}", bench.tail());
    let text = bench.folder.path().join("hand-over");
    let guid = "8a3c1b6e-0000-4000-8000-0123456789a";
    write(
        &text,
        &format!("Tenant ID: {guid}a\nClient ID: {guid}b\nClient secret: abc~D.e-f_G0123456789\n"),
        0o600,
    );
    let add = ["tenant", "add", "new", "--no-test", "--from"];
    let ended = bench.go_with(&masked, &[&add[..], &[text.to_str().unwrap()]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let folder = bench.folder.path();
    let mut made = 0;
    for (below, most) in [(".", 0o600), ("secrets", 0o600), ("tenants.d", 0o640)] {
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let ours = below != "." || name.starts_with("ledger.db") || name == "log";
            let metadata = entry.metadata().unwrap();
            if ours && metadata.is_file() {
                made += 1;
                let most = if name == "log" { 0o640 } else { most };
                let has = metadata.mode() & 0o7777;
                assert_eq!(has & !most, 0, "{below}/{name} has mode {has:04o}");
            }
        }
    }
    assert!(made > 8, "only {made} files were made");
    Trial::default()
}

/// While runs go on, the secret's file and another user's link to another secret take turns.
fn swapped(setup: &Arc<Setup>, rounds: usize) -> Trial {
    let bench = bench(setup);
    let folder = bench.folder.path();
    let (path, good) = (folder.join("secrets/tenant-1"), folder.join("secrets/good"));
    fs::copy(&path, &good).unwrap();
    let other = folder.join("other-secret");
    write(&other, "AnotherSecret~of-somebody-else", 0o600);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let next = path.with_file_name("next");
                symlink(&other, &next).unwrap();
                lchown(&next, Some(NOBODY), Some(NOBODY)).unwrap();
                fs::rename(&next, &path).unwrap();
                fs::copy(&good, &next).unwrap();
                fs::rename(&next, &path).unwrap();
            }
        });
        for _ in 0..rounds {
            let output = bench.run_as_it_stands(&["run"]);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 75 | 77 | 78)), "{output:?}");
        }
        is_over.store(true, Ordering::Relaxed);
        swapping.join().unwrap();
    });
    let wrong = bench.microsoft.requests().into_iter();
    let wrong = wrong.filter(|request| request.code.as_deref() == Some("AADSTS7000215"));
    assert_eq!(wrong.count(), 0, "another secret was presented");
    Trial::default()
}
