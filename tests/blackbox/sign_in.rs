//! Every way to sign in, as the configuration names it, at a Microsoft that verifies.

use std::path::Path;
use std::process::{Command, Stdio};

use chrono::TimeDelta;
use simulator::microsoft::{Options, TenantSpec};

use crate::world::{World, write};

const TOKEN: &str = "head.claims.signature";
const PASSWORD: &str = "fixture-pa%%word";

type Way = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

/// Name, lines of the tenant's file (files are relative to `secrets`), environment.
const WAYS: [Way; 12] = [
    (
        "a command",
        &["client_secret_command = [\"/bin/cat\", \"SECRETS/value\"]"],
        &[],
    ),
    (
        "a systemd credential",
        &["client_secret_credential = \"value\""],
        &[("CREDENTIALS_DIRECTORY", "SECRETS")],
    ),
    (
        "certificate and key",
        &[
            "certificate_file = \"SECRETS/certificate.pem\"",
            "private_key_file = \"SECRETS/key.pem\"",
        ],
        &[],
    ),
    (
        "both in one file",
        &["certificate_file = \"SECRETS/all-in-one.pem\""],
        &[],
    ),
    (
        "an encrypted key",
        &[
            "certificate_file = \"SECRETS/certificate.pem\"",
            "private_key_file = \"SECRETS/key-aes.pem\"",
            "certificate_password_file = \"SECRETS/password\"",
        ],
        &[],
    ),
    (
        "PFX of OpenSSL 3",
        &[
            "certificate_file = \"SECRETS/modern.pfx\"",
            "certificate_password_file = \"SECRETS/password\"",
        ],
        &[],
    ),
    (
        "PFX of old",
        &[
            "certificate_file = \"SECRETS/legacy.pfx\"",
            "certificate_password_file = \"SECRETS/password\"",
        ],
        &[],
    ),
    (
        "PFX without a password",
        &["certificate_file = \"SECRETS/empty-password.pfx\""],
        &[],
    ),
    (
        "RS256",
        &[
            "certificate_file = \"SECRETS/all-in-one.pem\"",
            "assertion_algorithm = \"RS256\"",
        ],
        &[],
    ),
    (
        "a federated token",
        &["federated_token_file = \"SECRETS/token\""],
        &[],
    ),
    (
        "a workload identity",
        &[],
        &[("AZURE_FEDERATED_TOKEN_FILE", "SECRETS/token")],
    ),
    (
        "a workload identity of this client",
        &[],
        &[
            ("AZURE_FEDERATED_TOKEN_FILE", "SECRETS/token"),
            ("AZURE_CLIENT_ID", "CLIENT"),
        ],
    ),
];

/// A world whose tenant knows the fixtures' certificate and a token, with everything in its folder of secrets.
fn world() -> World {
    let fixture = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/certificates")
            .join(name)
    };
    let mut world = World::new(Options::default());
    let spec = TenantSpec {
        certificates: vec![std::fs::read(fixture("certificate.pem")).unwrap()],
        federated_tokens: vec![TOKEN.to_owned()],
        ..TenantSpec::numbered(1)
    };
    world.add_tenant("tenant-1", spec);
    world.issue_small(0, "Audit.Exchange", 2, TimeDelta::minutes(3));
    world.configure();
    let secrets = world.folder.path().join("secrets");
    for name in [
        "certificate.pem",
        "key.pem",
        "all-in-one.pem",
        "key-aes.pem",
        "modern.pfx",
        "legacy.pfx",
        "empty-password.pfx",
    ] {
        let to = secrets.join(name);
        std::fs::copy(fixture(name), &to).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&to, mode).unwrap();
    }
    write(&secrets.join("password"), PASSWORD, 0o600);
    // Kubernetes lets others on the node read it.
    write(&secrets.join("token"), TOKEN, 0o644);
    write(&secrets.join("value"), &world.tenants[0].1.secret, 0o600);
    world
}

fn run(world: &World, lines: &[&str], environment: &[(&str, &str)]) -> Option<i32> {
    let secrets = world.folder.path().join("secrets").display().to_string();
    let filled = |text: &str| {
        text.replace("SECRETS", &secrets)
            .replace("CLIENT", &world.tenants[0].1.client_id)
    };
    let file = world.folder.path().join("tenants.d/tenant-1.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "client_secret_file = \"secrets/tenant-1\"",
        &filled(&lines.join("\n")),
    );
    write(&file, &text, 0o640);
    let mut command = Command::new(&world.binary);
    for (name, value) in environment {
        command.env(name, filled(value));
    }
    let command = command.arg("--config").arg(world.config()).arg("run");
    command.stdin(Stdio::null()).status().unwrap().code()
}

#[test]
fn every_way_that_the_configuration_names() {
    for (name, lines, environment) in WAYS {
        let mut world = world();
        let code = run(&world, lines, environment);
        assert_eq!(code, Some(0), "{name}: {}", world.log());
        world.assert_clean();
    }
    // Of another application than the environment's.
    let world = world();
    let other = [
        ("AZURE_FEDERATED_TOKEN_FILE", "SECRETS/token"),
        ("AZURE_CLIENT_ID", "somebody else"),
    ];
    assert_eq!(run(&world, &[], &other), Some(78));
}

/// The simulator stands on this host and speaks plain HTTP: nobody else may see what is said to it.
#[test]
fn what_does_not_leave_this_host_goes_through_no_proxy_of_the_environment() {
    let mut world = World::with_tenants(1, Options::default());
    world.issue_everywhere(1, 1);
    let nobody = "http://127.0.0.1:1";
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let ran = world.command(&["run"]).env(name, nobody).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{name}: {}", world.log());
    }
    world.assert_clean();
    // One that cannot be is named.
    let wrong = world
        .command(&["run"])
        .env("HTTPS_PROXY", "http://")
        .output();
    let wrong = wrong.unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(78), "{said}");
    assert!(said.contains("HTTPS_PROXY of the environment"), "{said}");
}
