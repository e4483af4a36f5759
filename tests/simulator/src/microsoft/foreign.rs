//! A host that is none of Microsoft's and that nobody should ask anything.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::Response;
use hyper::http::request::Parts;

use super::body::{Body, End, Transfer};
use super::server::Server;
use super::{ListenerCertificate, Microsoft};

/// Counts whoever comes. It answers `[]`, so that a client without caution goes on.
#[derive(Debug)]
pub struct Foreign {
    server: Server,
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Foreign {
    /// A plain HTTP listener on a loopback port.
    ///
    /// # Errors
    /// The port or the runtime cannot be had.
    pub fn start() -> io::Result<Self> {
        Self::listen(None)
    }

    /// A TLS listener whose certificate is as good as `of`'s, so that only a look at the host
    /// keeps a client away.
    ///
    /// # Errors
    /// The port or the runtime cannot be had, or the certificate cannot be made.
    pub fn start_tls(of: &Microsoft) -> io::Result<Self> {
        Self::listen(Some(of.authority().listener(ListenerCertificate::Good)?))
    }

    fn listen(tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>) -> io::Result<Self> {
        let (listener, address) = Server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let url = match tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&seen);
        let answer = move |parts: Parts, _: Bytes| {
            let token = parts.headers.contains_key("authorization");
            let with = if token {
                "with a token"
            } else {
                "without a token"
            };
            let line = format!("{} {} {with}", parts.method, parts.uri.path());
            list.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
            let body = Transfer::new(Body::from(&b"[]"[..]), End::Whole, false, None);
            std::future::ready(Some(Response::new(body)))
        };
        Ok(Self {
            server: Server::serve(listener, tls, answer)?,
            url,
            seen,
        })
    }

    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What was asked, a line each: method, path, with or without a token.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many connections were opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections.load(Ordering::Relaxed)
    }
}
