//! What stands between this host and Microsoft.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::*;
use simulator::microsoft::Microsoft;

/// An address at which nobody listens.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

const NETWORK: &str = "ask whoever runs the network what stands between this host and Microsoft; check login_url and management_url";

#[test]
fn the_way_to_a_host() {
    let other = Microsoft::start(Options {
        tls: true,
        ..Options::default()
    })
    .unwrap();
    let bad_request = "HTTP/1.1 400 Bad Request\r\n\r\n";
    for (name, url, skipped, expected) in [
        (
            "no such name",
            "https://login.invalid".to_owned(),
            &["connection", "tls", "answer"][..],
            failed(
                "name",
                "https://login.invalid: the name cannot be resolved (login.invalid: *",
                "check this host's name servers (/etc/resolv.conf), or set [http] proxy if only a proxy reaches the internet; check login_url and management_url",
            ),
        ),
        (
            "refused",
            format!("https://localhost:{}", nowhere().port()),
            &["tls", "answer"],
            failed(
                "connection",
                "https://localhost:*: nothing accepts a connection (localhost port *: Connection refused *",
                "let this host reach it (firewall), or set [http] proxy",
            ),
        ),
        (
            "opened on the way",
            other.url().to_owned(),
            &["answer"],
            failed(
                "tls",
                "https://*: its certificate is not trusted: something in between may intercept TLS (*",
                "if your organisation inspects TLS, put its authority's certificate into [http] ca_file, or exempt the host; otherwise install ca-certificates",
            ),
        ),
        (
            "gone in the handshake",
            format!("https://{}", answering("")),
            &["answer"],
            failed(
                "tls",
                "https://127.0.0.1:*: what accepts the connection there gives up before TLS (*",
                NETWORK,
            ),
        ),
        (
            "no TLS there",
            format!("https://{}", answering(bad_request)),
            &["answer"],
            failed(
                "tls",
                "https://127.0.0.1:*: what accepts the connection there gives up before TLS (*",
                NETWORK,
            ),
        ),
        (
            "no answer",
            format!("http://{}", answering("")),
            &[],
            failed(
                "answer",
                "http://127.0.0.1:*: it does not answer (*",
                "ask whoever runs the network what stands between this host and Microsoft",
            ),
        ),
    ] {
        let world = world(Options::default());
        edit(&world, "login_url", &url);
        let output = world.run_as_it_stands(&["doctor", "--json"]);
        judge(name, &output, &expected);
        let of_tenant = [
            "sign-in",
            "token",
            "permissions",
            "subscriptions",
            "listing",
            "audit log",
            "blob",
        ];
        assert_eq!(
            super::skipped(&output),
            [skipped, &of_tenant].concat(),
            "{name}: what depends on it"
        );
    }
}

#[test]
fn a_trusted_certificate_is_told_with_its_issuer() {
    let world = world(Options {
        tls: true,
        ..Options::default()
    });
    let found = findings(&world.run(&["doctor", "--json"]));
    let tls = found
        .iter()
        .find(|finding| finding["probe"] == "tls")
        .unwrap();
    assert_eq!(tls["seen"], "its certificate is by CN=Simulator authority");
    assert_eq!(tls["host"], world.microsoft.url());
}

const CHECK: &str = "check proxy and proxy_password_file of [http] (HTTPS_PROXY of the environment, where there is none), and ask whoever runs the proxy to allow the host";

#[test]
fn a_proxy() {
    let wants_password = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for (name, tls, proxy, expected) in [
        (
            "proxy refuses",
            false,
            answering(wants_password),
            failed(
                "proxy",
                "http://*: the proxy does not let the request through (it wants a user and a password)",
                CHECK,
            ),
        ),
        (
            "proxy refuses a tunnel",
            true,
            answering(wants_password),
            failed(
                "proxy",
                "https://*: the proxy does not let the request through (*",
                CHECK,
            ),
        ),
        (
            "proxy gone",
            true,
            nowhere(),
            failed(
                "connection",
                "https://*: the proxy http://127.0.0.1:*/ does not accept a connection (127.0.0.1 port *",
                "look whether the proxy runs; check proxy of [http] (HTTPS_PROXY of the environment, where there is none)",
            ),
        ),
    ] {
        let mut world = world(Options {
            tls,
            ..Options::default()
        });
        world.set("http", "proxy", &format!("\"http://{proxy}\""));
        judge(name, &world.run(&["doctor", "--json"]), &expected);
        // Letter case and subnets are the requests' own rule.
        for direct in ["127.0.0.0/8", "LocalHost"] {
            world.set("http", "no_proxy", &format!("[\"{direct}\"]"));
            let is_direct = (direct == "LocalHost") == tls;
            let code = world.run(&["doctor"]).status.code();
            assert_eq!(
                code,
                Some(if is_direct { 0 } else { 3 }),
                "{name}, {direct}"
            );
        }
    }
}

#[test]
fn a_wrong_clock() {
    let world = world(Options::default());
    let skew = Rule::any(Action::ClockSkew(600));
    world.microsoft.faults(Plan::default().rule(skew));
    judge(
        "clock",
        &world.run(&["doctor", "--json"]),
        &failed(
            "clock",
            "this machine's clock is * s behind Microsoft's",
            "switch time synchronisation on: timedatectl set-ntp true",
        ),
    );
}

#[test]
fn a_host_that_many_tenants_share_is_looked_at_once() {
    let world = World::with_tenants(3, Options::default());
    let found = results(&world.run(&["doctor", "--json"]));
    for (probe, times) in [
        ("name", 1),
        ("connection", 1),
        ("answer", 1),
        ("clock", 1),
        ("sign-in", 3),
    ] {
        let count = found.iter().filter(|(name, _)| name == probe).count();
        assert_eq!(count, times, "{probe}");
    }
}

#[test]
fn of_many_tenants_those_are_shown_of_which_something_is_not_ok() {
    let world = World::with_tenants(25, Options::default());
    let id = world.id(0);
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222)).tenant(&id);
    for tenant in 1..25 {
        world.microsoft.subscribe_all(&world.id(tenant));
    }
    world.microsoft.faults(Plan::default().rule(refused));
    let said = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    assert!(said.contains(" tenant-1 "), "{said}");
    assert!(!said.contains(" tenant-2 "), "{said}");
    let rest = "\nok: all of 24 more tenants; `o365-wodle doctor --tenant NAME` shows it\n";
    assert!(said.ends_with(rest), "{said}");
    let one = world.run(&["doctor", "--tenant", "tenant-2"]);
    assert!(
        String::from_utf8(one.stdout)
            .unwrap()
            .contains(" tenant-2 ")
    );

    // What follows for each of them from one fault is not shown for each.
    world
        .microsoft
        .faults(Plan::default().rule(Rule::any(Action::Reset)));
    let said = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    assert!(!said.contains(" tenant-2 "), "{said}");
    let rest = "\nskipped: 25 more tenants, since what they need failed; `o365-wodle doctor --tenant NAME` shows it\n";
    assert!(said.ends_with(rest), "{said}");
}

/// A server that says the same to everybody, and leaves.
fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            // The first connection only looks whether somebody is there.
            if stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    address
}

/// The way of a run, however it is written.
#[test]
fn a_proxy_of_the_environment_is_looked_at_without_its_password() {
    let mut world = world(Options {
        tls: true,
        ..Options::default()
    });
    world.set("http", "retries", "0");
    for proxy in [
        "127.0.0.1:1/",
        " http://127.0.0.1:1 ",
        "http://user:p@ss@127.0.0.1:1",
    ] {
        let with = |arguments: &[&str]| {
            let mut command = world.command(arguments);
            command.env("HTTPS_PROXY", proxy).output().unwrap()
        };
        let found = findings(&with(&["doctor", "--json"]));
        let said = "the proxy http://127.0.0.1:1/ does not accept a connection";
        let is_said = |finding: &Value| finding["seen"].as_str().unwrap().contains(said);
        assert!(found.iter().any(is_said), "{proxy}: {found:?}");
        assert!(!format!("{found:?}").contains("ss@"), "{found:?}");
        assert_eq!(with(&["run"]).status.code(), Some(75), "{proxy}");
    }
    for proxy in ["ftp://127.0.0.1:1", "http://DOMAIN\\user@127.0.0.1:1"] {
        let mut run = world.command(&["run"]);
        let run = run.env("HTTPS_PROXY", proxy).output().unwrap();
        assert_eq!(run.status.code(), Some(78), "{proxy}");
    }
}
