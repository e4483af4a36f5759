//! Row 12: no secret, token or assertion leaves by another way than the one it is meant for.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use simulator::microsoft::{Action, Operation, Options, Plan, Rule, TenantSpec, Violation};
use simulator::world::write;

use super::bench::{Bench, wait_at_most};
use super::{Case, Column, Setup, Trial, Work};

/// What signs in: each has characters that encodings change.
const SECRET: &str = "canary~Secret.1+/=&%9d1c0de7";
const ASSERTION: &str = "canary-head.canary-claims.canary-Assertion_5eed";
const PROXY_PASSWORD: &str = "canary:Proxy/word@5eed";
const PFX_PASSWORD: &str = "fixture-pa%%word";

/// Row 12.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, work: Work| {
        cases.push(Case::new(name, work));
    };
    add("the search finds".to_owned(), Box::new(|_| finds()));
    add("each way signs in".to_owned(), Box::new(signs_in));
    add("core dump".to_owned(), Box::new(dump));
    add("another process looks".to_owned(), Box::new(looked_at));
    let mut faults = super::api::faults();
    faults.extend(super::attack::answers());
    let every = column.of(7, 1);
    for (number, (operation, action)) in faults.into_iter().enumerate() {
        if number % every == 0 {
            add(
                format!("{operation:?} {action:?}"),
                Box::new(move |setup| leaks(setup, Rule::on(operation, action))),
            );
        }
    }
    cases
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/certificates")
}

/// A line of a private key's text, and the bytes that it stands for.
fn of_private_key() -> (String, Vec<u8>) {
    let text = fs::read_to_string(certificates().join("key.pem")).unwrap();
    let line = text.lines().nth(9).unwrap().to_owned();
    let value = |letter: &u8| LETTERS.iter().position(|known| known == letter).unwrap();
    let bytes = line.as_bytes().chunks_exact(4).flat_map(|four| {
        let word = four
            .iter()
            .fold(0, |word, letter| word << 6 | value(letter));
        [16, 8, 0].map(|shift| u8::try_from(word >> shift & 255).unwrap())
    });
    let bytes = bytes.collect();
    (line, bytes)
}

/// Four ways to sign in: a secret's file, a command that prints one, another provider's token, a certificate with its key.
fn bench(setup: &Arc<Setup>) -> Bench {
    let mut bench = Bench::new(setup, Options::default());
    bench.set("log", "level", "\"trace\"");
    bench.set("http", "request_timeout", "\"1s\"");
    bench.set("http", "retries", "1");
    // No proxy takes loopback addresses; its password is read all the same.
    bench.set("http", "proxy", "\"http://canary-user@127.0.0.1:9\"");
    bench.set("http", "no_proxy", "[\"127.0.0.1\"]");
    let password = bench.folder.path().join("proxy-password");
    write(&password, PROXY_PASSWORD, 0o600);
    bench.set(
        "http",
        "proxy_password_file",
        &format!("\"{}\"", password.display()),
    );
    for number in 0..3 {
        let change = |spec: &mut TenantSpec| {
            spec.secret = format!("{SECRET}{number}");
            spec.federated_tokens = vec![ASSERTION.to_owned()];
        };
        let spec = &mut bench.tenants[number].1;
        change(spec);
        let id = spec.tenant_id.clone();
        bench.microsoft.change_tenant(&id, change);
    }
    let certificate = fs::read(certificates().join("certificate.pem")).unwrap();
    let spec = TenantSpec {
        certificates: vec![certificate],
        ..TenantSpec::numbered(4)
    };
    bench.add_tenant("tenant-4", spec);
    bench.issue_some();
    bench
}

/// Gives all tenants but the first another way to sign in than the one that the world wrote.
fn other_ways(bench: &Bench) {
    let folder = bench.folder.path();
    let token = folder.join("federated");
    write(&token, ASSERTION, 0o600);
    let pfx = folder.join("modern.pfx");
    fs::copy(certificates().join("modern.pfx"), &pfx).unwrap();
    fs::set_permissions(&pfx, fs::Permissions::from_mode(0o600)).unwrap();
    let password = folder.join("pfx-password");
    write(&password, PFX_PASSWORD, 0o600);
    let secret = folder.join("secrets/tenant-2");
    let script = format!(
        "env > {0}/child; tr '\\0' '\\n' < /proc/self/cmdline >> {0}/child; cat {1}",
        folder.display(),
        secret.display()
    );
    for (name, way) in [
        (
            "tenant-2",
            format!("client_secret_command = [\"/bin/sh\", \"-c\", {script:?}]"),
        ),
        (
            "tenant-3",
            format!("federated_token_file = \"{}\"", token.display()),
        ),
        (
            "tenant-4",
            format!(
                "certificate_file = {:?}\ncertificate_password_file = {:?}",
                pfx.display().to_string(),
                password.display().to_string()
            ),
        ),
    ] {
        let path = folder.join(format!("tenants.d/{name}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        let line = format!("client_secret_file = \"secrets/{name}\"");
        assert!(text.contains(&line));
        write(&path, &text.replace(&line, &way), 0o640);
    }
}

/// What is searched for was used.
fn signs_in(setup: &Arc<Setup>) -> Trial {
    let bench = bench(setup);
    let mut command = bench.command(&[], &["run"]);
    other_ways(&bench);
    let ended = bench.wait(command.spawn().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}\nlog: {}", bench.tail());
    bench.judge()
}

/// A run with a fault at the highest level of logging; nothing that it leaves behind holds a canary.
fn leaks(setup: &Arc<Setup>, rule: Rule) -> Trial {
    let bench = bench(setup);
    bench.microsoft.faults(Plan::new(1).rule(rule));
    let folder = bench.folder.path().to_owned();
    let mut found = BTreeSet::new();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut command = bench.command(&[], &["-vv", "run", "--deadline", "3s"]);
        other_ways(&bench);
        let (out, errors) = (folder.join("stdout"), folder.join("stderr"));
        command
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&errors).unwrap())
            .env("RUST_BACKTRACE", "full")
            .env("RUST_LOG", "trace");
        let mut child = command.spawn().unwrap();
        for _ in 0..20 {
            for file in ["cmdline", "environ"] {
                let path = format!("/proc/{}/{file}", child.id());
                seen.push((path.clone(), fs::read(path).unwrap_or_default()));
            }
            if wait_at_most_quietly(&mut child, Duration::from_millis(100)) {
                break;
            }
        }
        let status = wait_at_most(&mut child, Duration::from_secs(30)).expect("a run hangs");
        assert!(
            matches!(status.code(), Some(0 | 3 | 75 | 77)),
            "{status}\nlog: {}",
            bench.tail()
        );
        for name in [
            "stdout",
            "stderr",
            "log",
            "child",
            "ledger.db",
            "ledger.db-wal",
            "ledger.db-shm",
        ] {
            let bytes = fs::read(folder.join(name)).unwrap_or_default();
            seen.push((name.to_owned(), bytes));
        }
    }
    for datagram in bench.queue.received() {
        seen.push(("a datagram".to_owned(), datagram));
    }
    let mut canaries = bench.microsoft.credentials();
    let (line, key) = of_private_key();
    canaries.extend([SECRET, ASSERTION, PROXY_PASSWORD, PFX_PASSWORD, &line].map(str::to_owned));
    for canary in &canaries {
        let mut forms = forms(canary);
        if *canary == line {
            forms.push(key.clone());
        }
        for (place, bytes) in &seen {
            if forms.iter().any(|form| contains(bytes, form)) {
                found.insert(place.clone());
            }
        }
    }
    assert!(found.is_empty(), "a canary stands in {found:?}");
    for place in ["log", "child", "ledger.db"] {
        let is_there = |(name, bytes): &(String, Vec<u8>)| name == place && !bytes.is_empty();
        assert!(seen.iter().any(is_there), "{place} was not searched");
    }
    // A token file that is written anew counts as rotated, which ends a back-off.
    bench.allow(&[
        Violation::StartTooSoon,
        Violation::AlreadyEnabled,
        Violation::WhileThrottled,
    ]);
    Trial::default()
}

fn wait_at_most_quietly(child: &mut std::process::Child, time: Duration) -> bool {
    let ended = child.try_wait().unwrap().is_some();
    if !ended {
        std::thread::sleep(time);
    }
    ended
}

/// A text as it stands, as JSON and URLs have it, and as base64 wherever it begins.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let url: String = text
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let form = url.replace('~', "%7E");
    let mut forms = vec![
        text.as_bytes().to_vec(),
        url.to_ascii_lowercase().into_bytes(),
        url.into_bytes(),
        form.into_bytes(),
        serde_json::json!(text).to_string().trim_matches('"').into(),
    ];
    for shift in 0..3 {
        let padded = [&b"\0\0\0"[..shift], text.as_bytes()].concat();
        // The first and last letters depend on the neighbours.
        let code = base64(&padded[..padded.len() / 3 * 3]);
        let code = code[4..].to_owned();
        forms.push(code.replace('+', "-").replace('/', "_").into_bytes());
        forms.push(code.into_bytes());
    }
    forms
}

/// Of whole groups of three bytes.
fn base64(bytes: &[u8]) -> String {
    let group = |three: &[u8]| {
        let word = three
            .iter()
            .fold(0_usize, |word, &b| word << 8 | usize::from(b));
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[word >> shift & 63]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

/// What is planted is found, in each form: a search that finds nothing must be able to.
fn finds() -> Trial {
    let encoded = base64(b"zz{\"secret\":\"canary~Secret.1+/=&%9d1c0de7\"}z");
    for text in [
        "x=canary~Secret.1+/=&%9d1c0de7;",
        "client_secret=canary%7ESecret.1%2B%2F%3D%26%259d1c0de7&",
        "client_secret=canary~secret.1%2b%2f%3d%26%259d1c0de7&",
        &encoded,
    ] {
        let is_found = forms(SECRET)
            .iter()
            .any(|form| contains(text.as_bytes(), form));
        assert!(is_found, "not found: {text}");
    }
    Trial::default()
}

/// A run that waits for Microsoft with its secret in memory.
fn waiting(bench: &Bench, mut command: Command) -> std::process::Child {
    let rule = Rule::on(Operation::Token, Action::StallBeforeHeaders);
    bench.microsoft.faults(Plan::new(1).rule(rule));
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let asked = bench
        .microsoft
        .wait_for(Duration::from_secs(20), |requests| !requests.is_empty());
    assert!(asked, "Microsoft was never asked");
    child
}

/// A signal that makes others leave their memory behind (SIGQUIT is one too, but a shell's background
/// jobs are started with that ignored).
fn dump(setup: &Arc<Setup>) -> Trial {
    let mut bench = Bench::new(setup, Options::default());
    bench.set("http", "request_timeout", "\"30s\"");
    let wrapper = ["prlimit", "--core=unlimited", "--"];
    let command = bench.command(&wrapper, &["run"]);
    let mut child = waiting(&bench, command);
    simulator::world::World::signal(&child, "ABRT");
    let status = wait_at_most(&mut child, Duration::from_secs(20)).expect("a run hangs");
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "memory was dumped");
    Trial::default()
}

/// Run by an ordinary user: that user's other processes cannot look into it.
fn looked_at(setup: &Arc<Setup>) -> Trial {
    let mut bench = Bench::new(setup, Options::default());
    bench.set("http", "request_timeout", "\"30s\"");
    bench.configure();
    super::queue::hand_to(bench.folder.path(), super::queue::NOBODY);
    let copy = bench.copy_of_binary();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .arg("--config")
        .arg(bench.config())
        .arg("run");
    if let Some(without) = &setup.without {
        command.env("O365_WODLE_TEETH", without);
    }
    let mut child = waiting(&bench, command);
    let process = format!("/proc/{}", child.id());
    let owner = fs::metadata(Path::new(&process).join("mem")).unwrap().uid();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(owner, 0, "its memory belongs to its user");
    Trial::default()
}
