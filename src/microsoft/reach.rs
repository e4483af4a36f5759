//! Whether a host of Microsoft's can be reached, step by step, for an operator who asks why not.

use std::error::Error;
use std::time::Duration;
use std::{io, iter};

use reqwest::{StatusCode, Url, tls};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::clock::Clock;
use super::http::{Http, causes};

/// How long a name or a connection may take, and how long an answer.
const SOON: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// A step on the way to a host, in the order in which they are taken. With a proxy, the first two lead to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Its name is resolved.
    Name,
    /// Something accepts a connection.
    Connection,
    /// The proxy lets us through.
    Proxy,
    /// What answers shows a certificate that is trusted.
    Tls,
    /// It answers.
    Answer,
}

/// What stands in the way, as an operator would put it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The name cannot be resolved.
    NoName,
    /// Nothing accepts a connection.
    NoConnection,
    /// The proxy refuses.
    ProxyRefuses,
    /// The certificate is not trusted.
    Untrusted,
    /// What accepts the connection speaks no TLS, or gives up in the handshake.
    NoTls,
    /// Nothing is answered.
    NoAnswer,
}

impl Obstacle {
    /// The step that it ends.
    #[must_use]
    pub fn step(self) -> Step {
        match self {
            Self::NoName => Step::Name,
            Self::NoConnection => Step::Connection,
            Self::ProxyRefuses => Step::Proxy,
            Self::Untrusted | Self::NoTls => Step::Tls,
            Self::NoAnswer => Step::Answer,
        }
    }
}

/// An obstacle, and what was said.
type Halt = (Obstacle, String);

impl Http {
    /// The steps to a host: no proxy without one, no TLS without `https`.
    #[must_use]
    pub fn steps(&self, url: &str) -> Vec<Step> {
        let mut steps = vec![Step::Name, Step::Connection];
        steps.extend(self.proxy_for(url).map(|_| Step::Proxy));
        steps.extend(url.starts_with("https:").then_some(Step::Tls));
        steps.push(Step::Answer);
        steps
    }

    /// Asks a host for its front page, which needs no token, and tells of each step as it is done: what was seen. Its
    /// `Date` sets `clock`. One exchange does all steps behind the connection, so they are told together.
    ///
    /// # Errors
    /// What stands in the way, and what was said there.
    pub async fn reach(
        &self,
        url: &str,
        clock: &Clock,
        mut tell: impl FnMut(Step, String),
    ) -> Result<(), Halt> {
        let proxy = self.proxy_for(url);
        connect(proxy.as_deref().unwrap_or(url), &mut tell).await?;
        let answer = match timeout(PATIENCE, self.client.get(url).send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let obstacle = obstacle(&error, url, proxy.is_some());
                if obstacle.step() > Step::Proxy
                    && let Some(proxy) = proxy
                {
                    tell(Step::Proxy, format!("{proxy} lets requests through"));
                }
                return Err((obstacle, causes(&error)));
            }
            Err(_) => {
                let said = format!("no answer within {} s", PATIENCE.as_secs());
                return Err((Obstacle::NoAnswer, said));
            }
        };
        if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let said = "it wants a user and a password".to_owned();
            return Err((Obstacle::ProxyRefuses, said));
        }
        if let Some(proxy) = proxy {
            tell(Step::Proxy, format!("{proxy} lets requests through"));
        }
        if url.starts_with("https:") {
            let seen = match issuer(&answer) {
                Some(issuer) => format!("its certificate is by {issuer}"),
                // reqwest does not hand it out of a proxy's tunnel.
                None => "its certificate is trusted; through a proxy, its issuer is not known"
                    .to_owned(),
            };
            tell(Step::Tls, seen);
        }
        clock.observe(answer.headers(), Instant::now());
        tell(Step::Answer, format!("status {}", answer.status().as_u16()));
        Ok(())
    }
}

/// Who issued the certificate of whoever answered.
fn issuer(answer: &reqwest::Response) -> Option<String> {
    let info = answer.extensions().get::<tls::TlsInfo>()?;
    let certificate = Certificate::from_der(info.peer_certificate()?).ok()?;
    Some(certificate.tbs_certificate().issuer().to_string())
}

/// What a request that was not answered met, once a connection was accepted.
fn obstacle(error: &reqwest::Error, url: &str, has_proxy: bool) -> Obstacle {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(_)) => Obstacle::Untrusted,
        Some(_) => Obstacle::NoTls,
        None if has_proxy => Obstacle::ProxyRefuses,
        None if error.is_connect() && url.starts_with("https:") => Obstacle::NoTls,
        None => Obstacle::NoAnswer,
    }
}

/// What TLS itself found wrong, if it was that.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    iter::successors(Some(error), |&error| {
        // An I/O error passes over the error that it wraps: its source is that one's source.
        let wrapped = error.downcast_ref().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
    .find_map(|error| error.downcast_ref())
}

/// Resolves the host of a URL and connects to it.
async fn connect(url: &str, tell: &mut impl FnMut(Step, String)) -> Result<(), Halt> {
    let parsed = Url::parse(url).ok();
    let host = parsed.as_ref().and_then(Url::host_str).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    // A proxy of SOCKS has no port that a URL would know.
    let port = parsed
        .as_ref()
        .and_then(Url::port_or_known_default)
        .unwrap_or(1080);
    let late = || format!("{host}: no answer within {} s", SOON.as_secs());
    let addresses: Vec<_> = timeout(SOON, lookup_host((host, port)))
        .await
        .map_err(|_| (Obstacle::NoName, late()))?
        .map_err(|error| (Obstacle::NoName, format!("{host}: {error}")))?
        .collect();
    let found: Vec<String> = addresses.iter().map(|one| one.ip().to_string()).collect();
    tell(Step::Name, format!("{host} is {}", found.join(", ")));
    let connection = timeout(SOON, TcpStream::connect(addresses.as_slice()))
        .await
        .map_err(|_| (Obstacle::NoConnection, late()))?
        .map_err(|error| {
            let said = format!("{host} port {port}: {error}");
            (Obstacle::NoConnection, said)
        })?;
    let peer = connection.peer_addr();
    let peer = peer.map_or_else(|_| format!("{host} port {port}"), |peer| peer.to_string());
    tell(Step::Connection, format!("{peer} accepts connections"));
    Ok(())
}
