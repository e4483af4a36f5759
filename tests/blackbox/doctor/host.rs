//! What is wrong on this host.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::*;

#[test]
fn an_expired_certificate() {
    let expired = world(Options::default());
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256);
    let Ok(key) = key else {
        panic!("no RSA key can be made");
    };
    let certificate = parameters.self_signed(&key).unwrap();
    expired.configure();
    let pem = expired.folder.path().join("secrets/expired.pem");
    write(
        &pem,
        &format!("{}{}", certificate.pem(), key.serialize_pem()),
        0o600,
    );
    let file = expired.folder.path().join("tenants.d/tenant-1.toml");
    let text = fs::read_to_string(&file).unwrap().replace(
        "client_secret_file = \"secrets/tenant-1\"",
        "certificate_file = \"secrets/expired.pem\"",
    );
    write(&file, &text, 0o640);
    judge(
        "certificate",
        &expired.run_as_it_stands(&["doctor", "--json"]),
        &failed(
            "credential",
            "the certificate expired on 2021-01-01",
            "make a new one and add it in Azure: App registrations > the app > Certificates & secrets; then replace the old one here: a secret with `o365-wodle tenant rotate NAME --from FILE`, a certificate in its certificate_file",
        ),
    );
}

#[test]
fn what_is_wrong_on_this_host() {
    let missing = world(Options::default());
    missing.queue.unlink().unwrap();
    judge(
        "no socket",
        &missing.run(&["doctor", "--json"]),
        &failed(
            "queue",
            "Wazuh's queue */queue/sockets/queue does not exist",
            "Start Wazuh; if it lives elsewhere, set home or queue in [wazuh] of config.toml.",
        ),
    );

    let dead = world(Options::default());
    dead.queue.close();
    judge(
        "reader dead",
        &dead.run(&["doctor", "--json"]),
        &failed(
            "queue",
            "Nobody reads Wazuh's queue */queue/sockets/queue",
            "Wazuh is stopped or restarting; if this lasts, start it.",
        ),
    );

    let mut offline = world(Options::default());
    offline.set("wazuh", "acknowledge", "\"auto\"");
    fs::create_dir_all(offline.home().join("bin")).unwrap();
    fs::write(offline.home().join("bin/wazuh-agentd"), "").unwrap();
    fs::write(offline.home().join("queue/sockets/.wait"), "").unwrap();
    judge(
        "agent offline",
        &offline.run(&["doctor", "--json"]),
        &failed(
            "acknowledgement",
            "the agent is not connected to its manager, so nothing is sent to it",
            "look into the agent's logs/ossec.log, and at the manager's address and port 1514",
        ),
    );

    for (name, block, seen, cure) in [
        (
            "no block",
            String::new(),
            "*/etc/ossec.conf has no block that starts collections",
            "o365-wodle setup --write, then restart Wazuh (or switch on systemd's timer: systemctl enable --now o365-wodle.timer)",
        ),
        (
            "timeout",
            BLOCK.replace("<timeout>290", "<timeout>60"),
            "*/etc/ossec.conf: Wazuh stops a run after 60 s, before its own deadline of 240 s",
            "set <timeout> to 290 or more in the block, or lower deadline in [collect]",
        ),
        (
            "disabled",
            BLOCK.replace("<disabled>no", "<disabled>yes"),
            "*/etc/ossec.conf: the block is disabled",
            "set <disabled>no</disabled> in it and restart Wazuh",
        ),
        (
            "twice",
            BLOCK.repeat(2),
            "*/etc/ossec.conf has 2 blocks that start collections",
            "leave one of them",
        ),
    ] {
        let world = world(Options::default());
        ossec_conf(&world, &block);
        judge(
            name,
            &world.run(&["doctor", "--json"]),
            &failed("scheduler", seen, cure),
        );
    }

    let both = world(Options::default());
    let native = format!(
        "{BLOCK}<office365><api_auth><tenant_id>{}</tenant_id></api_auth></office365>",
        both.id(0)
    );
    ossec_conf(&both, &native);
    judge(
        "built-in module",
        &both.run(&["doctor", "--json"]),
        &failed(
            "built-in module",
            "Wazuh's <office365> module collects tenant-1 as well, so their records come twice",
            "take the tenants out of <office365> in */etc/ossec.conf (or in the agent.conf of the agent's group) and restart Wazuh",
        ),
    );
}

/// The block is there and enabled, and nothing comes of it.
#[test]
fn a_block_whose_command_cannot_work() {
    const PATH: &str = "write the path that `command -v o365-wodle` says into the block's <command> and restart Wazuh";
    const CONFIG: &str = "write --config */config.toml into the block's <command> and restart Wazuh, or use --config * here";
    let good = world(Options::default());
    let run = command(&good);
    let binary = good.binary.display();
    for (name, command, seen, cure) in [
        (
            "no program",
            "/usr/no/o365-wodle run".to_owned(),
            "*/etc/ossec.conf: the block starts /usr/no/o365-wodle, which is no file",
            PATH,
        ),
        (
            "no program behind another",
            "/usr/bin/env /usr/no/o365-wodle run".to_owned(),
            "*/etc/ossec.conf: the block starts /usr/no/o365-wodle, which is no file",
            PATH,
        ),
        (
            "no wrapper",
            format!("/usr/no/setpriv --no-new-privs {run}"),
            "*/etc/ossec.conf: the block starts /usr/no/setpriv, which is no file",
            PATH,
        ),
        (
            "another configuration",
            format!("{binary} --config=/etc/passwd run"),
            "*/etc/ossec.conf: the block's runs read /etc/passwd, and this is about */config.toml",
            CONFIG,
        ),
        (
            "no configuration",
            format!("{binary} --config /no/config.toml run"),
            "*/etc/ossec.conf: the block's runs read /no/config.toml, and this is about */config.toml",
            CONFIG,
        ),
        (
            "the default configuration",
            format!("{binary} run"),
            "*/etc/ossec.conf: the block's runs read /etc/o365-wodle/config.toml, and this is about */config.toml",
            CONFIG,
        ),
    ] {
        let world = world(Options::default());
        ossec_conf(&world, &BLOCK.replace("/usr/bin/o365-wodle run", &command));
        judge(
            name,
            &world.run(&["doctor", "--json"]),
            &failed("scheduler", seen, cure),
        );
    }
    ossec_conf(
        &good,
        &BLOCK.replace("/usr/bin/o365-wodle run", &format!("/usr/bin/env {run}")),
    );
    let output = good.run(&["doctor", "--json"]);
    assert!(
        results(&output).contains(&("scheduler".to_owned(), "ok".to_owned())),
        "{:#?}",
        findings(&output)
    );
}

/// A scheduled run says it nowhere, and goes on.
#[test]
fn a_log_that_cannot_be_written() {
    let mute = world(Options::default());
    let log = mute.folder.path().join("log");
    std::os::unix::fs::symlink(mute.folder.path().join("elsewhere"), log).unwrap();
    judge(
        "a link for a log",
        &mute.run(&["doctor", "--json"]),
        &Expected {
            code: 0,
            result: "note",
            probe: "log",
            seen: "*/log: the log file cannot be written (Too many levels of symbolic links (os error 40)), so nobody sees what scheduled runs say",
            cure: "create its folder, or name another file in [log] of config.toml, not a link (\"\" for none)",
        },
    );
}

#[test]
fn metrics_that_cannot_be_written() {
    for (textfile, seen) in [
        (
            "/nowhere/o365.prom",
            "/nowhere/o365.prom: the figures for Prometheus cannot be written (No such file or directory (os error 2)), so that who watches them sees old ones",
        ),
        (
            "/tmp",
            "/tmp: the figures for Prometheus cannot be written (Is a directory (os error 21)), so that who watches them sees old ones",
        ),
    ] {
        let mut unwatched = world(Options::default());
        unwatched.set("metrics", "textfile", &format!("{textfile:?}"));
        judge(
            textfile,
            &unwatched.run(&["doctor", "--json"]),
            &Expected {
                code: 0,
                result: "note",
                probe: "metrics",
                seen,
                cure: "create its folder, or name another file in [metrics] of config.toml",
            },
        );
    }
}

/// `/proc` has no room, whoever asks; who may not write there hears of that first.
#[test]
fn an_http_section_that_cannot_be_used() {
    let mut unusable = world(Options::default());
    let ca = unusable.folder.path().join("ca");
    write(&ca, "nothing", 0o644);
    unusable.set("http", "ca_file", &format!("{ca:?}"));
    let output = unusable.run(&["doctor", "--json"]);
    let expected = Expected {
        code: 78,
        ..failed(
            "configuration",
            "* http.ca_file: */ca: no certificate in it",
            "give a PEM file with the certification authority's certificate",
        )
    };
    judge("no certificate", &output, &expected);
}

#[test]
fn a_system_without_authorities() {
    let bare = world(Options::default());
    let mut command = bare.command(&["doctor", "--json"]);
    let nothing = bare.folder.path().join("nothing");
    write(&nothing, "", 0o644);
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env(variable, &nothing);
    }
    let output = command.output().unwrap();
    judge(
        "no authorities",
        &output,
        &failed(
            "configuration",
            "[http]: no HTTP client can be made: *",
            "check ca_file and the system's certificates (package ca-certificates)",
        ),
    );
    let skipped = super::skipped(&output);
    assert!(
        skipped.iter().any(|probe| probe.contains("sign-in")),
        "{skipped:?}"
    );
}

#[test]
fn a_disk_without_room() {
    let mut full = world(Options::default());
    full.ledger = "/proc/ledger.db".into();
    let (seen, cure) = if rustix::fs::access("/proc", rustix::fs::Access::WRITE_OK).is_ok() {
        (
            "/proc/ledger.db: the disk is full",
            "make room on the file system of /proc; nothing is lost, runs go on from there",
        )
    } else {
        (
            "/proc/ledger.db: the ledger cannot be written (*",
            "mount its file system writable, and give file and folder to the user that runs o365-wodle",
        )
    };
    judge(
        "disk full",
        &full.run(&["doctor", "--json"]),
        &failed("ledger", seen, cure),
    );
}

#[test]
fn what_this_user_may_not_do() {
    let ledger = world(Options::default());
    ledger.run_expecting(0, &[]);
    let folder = ledger.ledger().parent().unwrap().to_owned();
    let output = as_nobody(&ledger, &["doctor", "--json"], || {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o550)).unwrap();
    });
    judge(
        "ledger read-only",
        &output,
        &failed(
            "ledger",
            "*/ledger.db: the ledger cannot be written (Permission denied (os error 13))",
            "mount its file system writable, and give file and folder to the user that runs o365-wodle",
        ),
    );

    // A backup that root has brought back.
    if rustix::process::geteuid().is_root() {
        let roots = world(Options::default());
        roots.run_expecting(0, &[]);
        let output = as_nobody(&roots, &["run"], || {
            chown(roots.ledger(), Some(0), Some(0)).unwrap();
        });
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        let seen =
            "the user that runs this may not use it. Run it as the user that owns the ledger";
        assert!(said.contains(seen), "{said}");
    }

    let queue = world(Options::default());
    let path = queue.queue.path().to_owned();
    let output = as_nobody(&queue, &["doctor", "--json"], || {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    });
    judge(
        "not writable",
        &output,
        &failed(
            "queue",
            "No permission to write to Wazuh's queue *",
            "Run as root or as a member of the group wazuh.",
        ),
    );
}

#[test]
fn a_damaged_ledger() {
    let world = world(Options::default());
    fs::write(world.ledger(), "x".repeat(8192)).unwrap();
    fs::set_permissions(world.ledger(), fs::Permissions::from_mode(0o600)).unwrap();
    judge(
        "ledger damaged",
        &world.run(&["doctor", "--json"]),
        &failed(
            "ledger",
            "*/ledger.db: the ledger is damaged (file is not a database)",
            "nothing to do: the next run sets it aside and reads the last 7 days again; if it comes again, look at the disk",
        ),
    );
}

/// Somebody without rights.
const NOBODY: u32 = 65_534;

/// A command of a user without rights, once `then` has taken some away: root, who may do everything, becomes somebody else
/// for it.
fn as_nobody(world: &World, command: &[&str], then: impl FnOnce()) -> Output {
    world.configure();
    if !rustix::process::geteuid().is_root() {
        then();
        return world.run_as_it_stands(command);
    }
    let folder = world.folder.path();
    let program = world.copy_of_binary();
    give(folder, NOBODY);
    then();
    let output = Command::new(&program)
        .uid(NOBODY)
        .gid(NOBODY)
        .arg("--config")
        .arg(world.config())
        .args(command)
        .output();
    output.unwrap_or_else(|error| {
        let folder = folder.display();
        panic!("{folder}: another user cannot run a program there ({error}); set TMPDIR to a folder where it can")
    })
}

/// Gives a folder and all that is in it to somebody.
fn give(path: &Path, to: u32) {
    chown(path, Some(to), Some(to)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), to);
        }
    }
}
