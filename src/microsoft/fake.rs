//! A scripted HTTP/1.1 server: each request gets raw bytes, so answers can be as broken as need be.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::cloud::tests::TENANT;

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) head: String,
    pub(super) body: String,
}

impl Request {
    pub(super) fn is_sign_in(&self) -> bool {
        self.target.ends_with("/oauth2/v2.0/token")
    }
}

/// What a connection gets; it is closed then.
pub(super) enum Reply {
    Bytes(Vec<u8>),
    /// These, and then nothing for good.
    Stall(Vec<u8>),
    /// These, and then one more byte again and again.
    Drip(Vec<u8>),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(super) struct Fake {
    pub(super) base: String,
    pub(super) seen: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// A server whose `script` gets the base URL, the request and its number (from 0).
    pub(super) async fn start(
        script: impl FnMut(&str, &Request, usize) -> Reply + Send + 'static,
    ) -> Self {
        Self::start_with(None, script).await
    }

    /// The same over TLS, with the PEM of a certificate to trust.
    pub(super) async fn start_tls(
        script: impl FnMut(&str, &Request, usize) -> Reply + Send + 'static,
    ) -> (Self, String) {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (
            Self::start_with(Some(acceptor), script).await,
            own.cert.pem(),
        )
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        mut script: impl FnMut(&str, &Request, usize) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (host, log) = (base.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream: Box<dyn Stream> = match &tls {
                    None => Box::new(stream),
                    // A client that does not trust us hangs up.
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                let mut bytes = Vec::new();
                let request = loop {
                    let mut buffer = [0; 4096];
                    let n = stream.read(&mut buffer).await.unwrap();
                    bytes.extend_from_slice(&buffer[..n]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        assert_ne!(n, 0, "a request without end");
                        continue;
                    };
                    let length = head
                        .lines()
                        .find_map(|line| {
                            line.to_lowercase()
                                .strip_prefix("content-length:")?
                                .trim()
                                .parse()
                                .ok()
                        })
                        .unwrap_or(0);
                    if body.len() < length {
                        continue;
                    }
                    let mut words = head.split(' ');
                    break Request {
                        method: words.next().unwrap().to_owned(),
                        target: words.next().unwrap().to_owned(),
                        head: head.to_owned(),
                        body: body.to_owned(),
                    };
                };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                match script(&host, &request, number) {
                    Reply::Bytes(bytes) => {
                        drop(stream.write_all(&bytes).await);
                        drop(stream.shutdown().await);
                    }
                    Reply::Drip(bytes) => {
                        drop(stream.write_all(&bytes).await);
                        tokio::spawn(async move {
                            while stream.write_all(b" ").await.is_ok() {
                                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                            }
                        });
                    }
                    Reply::Stall(bytes) => {
                        drop(stream.write_all(&bytes).await);
                        tokio::spawn(async move {
                            let _stream = stream;
                            std::future::pending::<()>().await;
                        });
                    }
                }
            }
        });
        Self { base, seen }
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests other than sign-ins.
    pub(super) fn calls(&self) -> Vec<Request> {
        let mut seen = self.seen();
        seen.retain(|request| !request.is_sign_in());
        seen
    }
}

/// An answer with its length.
pub(super) fn reply(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for header in headers {
        bytes.push_str(header);
        bytes.push_str("\r\n");
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    Reply::Bytes(bytes)
}

/// An access token with these roles, number `n`.
pub(super) fn token(n: usize, roles: &[&str]) -> Reply {
    let key = jsonwebtoken::EncodingKey::from_secret(b"fake");
    let claims = serde_json::json!({"roles": roles, "tid": TENANT, "aud": "https://manage.office.com", "appid": "app", "n": n});
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    reply(
        200,
        &[],
        serde_json::json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token})
            .to_string(),
    )
}

/// One element of a listing.
pub(super) fn content(base: &str, id: &str) -> serde_json::Value {
    serde_json::json!({
        "contentType": "Audit.General", "contentId": id,
        "contentUri": format!("{base}/api/v1.0/{TENANT}/activity/feed/audit/{id}"),
        "contentCreated": "2026-11-20T10:00:00.123Z", "contentExpiration": "2026-11-27T10:00:00.123Z",
    })
}

/// A proxy that knows nothing but CONNECT; its address, and the heads of what it was asked.
pub(super) async fn connect_proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head
                .strip_prefix("CONNECT ")
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            log.lock().unwrap().push(head);
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, seen)
}
