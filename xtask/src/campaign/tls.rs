//! Row 11: whoever cannot prove to be Microsoft is asked nothing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use simulator::microsoft::{ListenerCertificate, Options};

use super::bench::Bench;
use super::{Case, Column, Setup, Trial, Work};

/// Row 11.
pub(super) fn cases(_column: &Column) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, work: Work| {
        cases.push(Case::new(name, work));
    };
    // Without this one the others would prove nothing.
    add("a good certificate", Box::new(good));
    for (name, certificate) in [
        ("expired", ListenerCertificate::Expired),
        ("wrong host", ListenerCertificate::WrongHost),
        ("self-signed", ListenerCertificate::SelfSigned),
        ("unknown authority", ListenerCertificate::UnknownAuthority),
    ] {
        add(name, Box::new(move |setup| untrusted(setup, certificate)));
    }
    for minor in [1, 2] {
        add(
            &format!("TLS 1.{}", minor - 1),
            Box::new(move |setup| old(setup, minor)),
        );
    }
    add("no TLS where it is due", Box::new(no_tls));
    add("plain http", Box::new(plain));
    cases
}

fn bench(setup: &Arc<Setup>, options: Options) -> Bench {
    let mut bench = Bench::new(setup, options);
    bench.set("http", "retries", "1");
    bench.issue_some();
    bench
}

fn tls(certificate: ListenerCertificate) -> Options {
    Options {
        tls: true,
        certificate,
        ..Options::default()
    }
}

fn good(setup: &Arc<Setup>) -> Trial {
    let bench = bench(setup, tls(ListenerCertificate::Good));
    bench.until_clean();
    bench.judge()
}

/// Nothing is asked, nothing is handed over, and the log tells why.
fn refuses(bench: &Bench, code: i32, why: &[&str]) {
    let ended = bench.go(&[]);
    let said = format!("{}{}", ended.stderr, bench.log());
    assert_eq!(ended.code, Some(code), "{said}");
    assert!(why.iter().any(|why| said.contains(why)), "{said}");
    assert_eq!(bench.microsoft.request_count(), 0, "{said}");
    assert_eq!(bench.queue.count(), 0);
}

fn untrusted(setup: &Arc<Setup>, certificate: ListenerCertificate) -> Trial {
    let bench = bench(setup, tls(certificate));
    refuses(&bench, 75, &["certificate is not trusted"]);
    Trial::default()
}

/// The simulator's library speaks nothing older than TLS 1.2: a hand-made answer takes its place.
fn old(setup: &Arc<Setup>, minor: u8) -> Trial {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let bench = bench(
        setup,
        Options {
            name: Some(Box::leak(url.into_boxed_str())),
            ..Options::default()
        },
    );
    let server = answer_as(minor, listener);
    refuses(&bench, 75, &["no connection", "protocol version"]);
    let records = server.join().unwrap();
    assert!(!records.is_empty(), "nobody came");
    for record in records {
        // handshake and alert; never application data
        assert!(matches!(record, 21 | 22), "a record of type {record}");
    }
    Trial::default()
}

/// Takes one connection, chooses `TLS 1.(minor - 1)` whatever is offered; the types of the records that came.
fn answer_as(minor: u8, listener: TcpListener) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut types = vec![record(&mut stream).unwrap()];
        // ServerHello: version, 32 random bytes, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 0x2f, 0]);
        let mut answer = vec![22, 3, minor, 0, 42, 2, 0, 0, 38];
        answer.append(&mut hello);
        stream.write_all(&answer).unwrap();
        types.extend(std::iter::from_fn(|| record(&mut stream)));
        types
    })
}

/// The type of the next TLS record; none once the client has gone.
fn record(stream: &mut impl Read) -> Option<u8> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut body).ok()?;
    Some(head[0])
}

/// An https address where somebody speaks plain HTTP.
fn no_tls(setup: &Arc<Setup>) -> Trial {
    let plain = bench(setup, Options::default());
    let url = plain.microsoft.url().replace("http:", "https:");
    let bench = bench(
        setup,
        Options {
            name: Some(Box::leak(url.into_boxed_str())),
            ..Options::default()
        },
    );
    refuses(&bench, 75, &["no connection"]);
    assert_eq!(plain.microsoft.request_count(), 0);
    Trial::default()
}

/// Plain http to another machine is refused before anything is opened.
fn plain(setup: &Arc<Setup>) -> Trial {
    let bench = bench(
        setup,
        Options {
            name: Some("http://192.0.2.1"),
            ..Options::default()
        },
    );
    let calls = bench.folder.path().join("calls");
    let trace = ["strace", "-f", "-qq", "-o", calls.to_str().unwrap()];
    let ended = bench.go(&[&trace[..], &["-e", "trace=socket,connect"]].concat());
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("http"), "{ended:?}");
    let calls = std::fs::read_to_string(calls).unwrap();
    assert!(!calls.contains("AF_INET"), "{calls}");
    Trial::default()
}
