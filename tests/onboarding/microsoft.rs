//! A small Entra ID and Activity API: one secret, some roles.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use super::place::{CLIENT, TENANT};

pub(super) const BOTH: &str = r#""ActivityFeed.Read","ActivityFeed.ReadDlp""#;

/// Gives tokens with these roles for one secret, one subscription, and no contents.
pub(super) struct Server {
    pub(super) url: String,
    /// Path and body of each request.
    pub(super) seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn start(secret: &'static str, roles: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, aud) = (Arc::clone(&seen), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&mut stream.unwrap(), secret, roles, &aud, &log);
            }
        });
        Self { url, seen }
    }

    /// The same for who believes to speak with Microsoft's commercial cloud: a proxy that answers
    /// itself, under the certificate that it writes.
    pub(super) fn start_as_microsoft(
        certificate: &Path,
        secret: &'static str,
        roles: &'static str,
    ) -> Self {
        const HOSTS: [&str; 2] = ["login.microsoftonline.com", "manage.office.com"];
        let own = rcgen::generate_simple_self_signed(HOSTS.map(str::to_owned)).unwrap();
        fs::write(certificate, own.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some((head, _)) = request(&mut stream) else {
                    continue;
                };
                assert!(
                    HOSTS
                        .iter()
                        .any(|host| head.starts_with(&format!("connect {host}:443 ")))
                );
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(tls, stream);
                answer(
                    &mut stream,
                    secret,
                    roles,
                    "https://manage.office.com",
                    &log,
                );
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        });
        Self { url, seen }
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// The head of a request in lower case, and its body; `None` from who only looked whether somebody is there.
pub(super) fn request(stream: &mut impl Read) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap();
        if count == 0 && bytes.is_empty() {
            return None;
        }
        bytes.extend_from_slice(&some[..count]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some((head, body.to_owned()));
            }
        }
        assert_ne!(count, 0, "a request without end");
    }
}

pub(super) fn answer(
    stream: &mut (impl Read + Write),
    secret: &str,
    roles: &str,
    aud: &str,
    log: &Mutex<Vec<String>>,
) {
    let Some((head, body)) = request(stream) else {
        return;
    };
    let path = head.split([' ', '?']).nth(1).unwrap().to_owned();
    let is_sign_in = path.ends_with("/oauth2/v2.0/token");
    let is_list = path.ends_with("/subscriptions/list");
    let is_known = body.contains(&format!("client_secret={}", secret.replace('~', "%7E")));
    log.lock().unwrap().push(path);
    let (status, answer) = match (is_sign_in, is_known) {
        (true, true) => {
            let claims = format!(r#"{{"aud":"{aud}","tid":"{TENANT}","appid":"{CLIENT}","roles":[{roles}]}}"#);
            let token = format!("{}.{}.c2ln", base64(r#"{"alg":"RS256","typ":"JWT"}"#), base64(&claims));
            (200, format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#))
        }
        (true, false) => (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215],"trace_id":"t-1"}"#.to_owned(),
        ),
        _ if is_list => (200, r#"[{"contentType":"Audit.Exchange","status":"enabled"}]"#.to_owned()),
        _ => (200, "[]".to_owned()),
    };
    let length = answer.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{answer}"
    )
    .unwrap();
}

/// For URLs, without padding.
pub(super) fn base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    text.as_bytes()
        .chunks(3)
        .flat_map(|three| {
            let bits = (0..3).fold(0_u32, |bits, at| {
                bits << 8 | u32::from(*three.get(at).unwrap_or(&0))
            });
            (0..=three.len())
                .map(move |at| char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]))
        })
        .collect()
}
