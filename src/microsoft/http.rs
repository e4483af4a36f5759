//! The one HTTP client of a run.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, NoProxy, Proxy, Url, redirect, retry, tls};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::budget::Retry;
use crate::config::ownership::{self, Kind};
use crate::{Error, Result, config};

/// The longest file of a password, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Commands that are asked for a secret, and names that are looked up, at a time.
const BLOCKING: usize = 16;

/// Pairs of descriptors that are free before an event loop starts: it opens a few, its requests some more.
const SPARE: usize = 6;

/// What requests run on: one thread, and a few for what blocks.
///
/// # Errors
/// [`Error::TryLater`] where the system gives none.
pub fn event_loop() -> Result<Runtime> {
    // Where there are too few, each request would fail of it.
    (0..SPARE)
        .map(|_| UnixStream::pair())
        .collect::<io::Result<Vec<_>>>()
        .map(drop)
        .and_then(|()| {
            Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING)
                .build()
        })
        .map_err(|error| {
            Error::TryLater(format!(
                "no event loop can be started: {error}; let the process that starts this one have more open files \
                 (ulimit -n, LimitNOFILE= of a service)"
            ))
        })
}

/// The HTTP client that all tenants share, and the limits of its exchanges.
///
/// TLS 1.2 or later, always verified, against the system's authorities (or `SSL_CERT_FILE`) and
/// `ca_file`; no redirects; no repetition of its own.
#[derive(Clone)]
pub struct Http {
    pub(super) client: Client,
    /// How long an answer may take to begin, and its body to make progress.
    pub(super) patience: Duration,
    pub(super) retry: Retry,
    /// The rule by which the client goes through a proxy, which it does not tell itself.
    proxies: Option<Arc<Matcher>>,
}

impl Http {
    /// Makes the client.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a proxy, password file or CA file that cannot be used.
    pub fn new(settings: &config::Http) -> Result<Self> {
        Self::with(settings, Client::builder())
    }

    /// A client that tells of its peers' certificates as well, and repeats nothing: somebody waits for what is so now.
    ///
    /// # Errors
    /// As [`Http::new`].
    pub fn probing(settings: &config::Http) -> Result<Self> {
        let mut http = Self::with(settings, Client::builder().tls_info(true))?;
        http.retry.attempts = 0;
        Ok(http)
    }

    fn with(settings: &config::Http, client: reqwest::ClientBuilder) -> Result<Self> {
        let mut client = client
            .user_agent(concat!("o365-wodle/", env!("CARGO_PKG_VERSION")))
            .tls_version_min(tls::Version::TLS_1_2)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            .connect_timeout(settings.connect_timeout);
        let way = Way::of(settings)?;
        client = match &way {
            Some(way) => client.proxy(way.client()?),
            None => client.no_proxy(),
        };
        if let Some(path) = &settings.ca_file {
            let certificates = config::authorities(path)
                .map_err(|flaw| Error::Configuration(format!("http.ca_file {flaw}")))?;
            client = client.tls_certs_merge(certificates);
        }
        let client = client.build().map_err(|error| {
            Error::Configuration(format!(
                "[http]: no HTTP client can be made: {}; check ca_file and the system's certificates (package ca-certificates)",
                causes(&error)
            ))
        })?;
        Ok(Self {
            client,
            patience: settings.request_timeout,
            retry: Retry {
                attempts: settings.retries,
                ..Retry::default()
            },
            proxies: way.map(|way| Arc::new(way.rule())),
        })
    }

    /// The proxy that requests to a URL go through, without user and password: that of `[http]` or of the environment, unless
    /// the host is one of those that are reached without.
    #[must_use]
    pub fn proxy_for(&self, url: &str) -> Option<String> {
        let proxy = self.proxies.as_ref()?.intercept(&url.parse().ok()?)?;
        Some(proxy.uri().to_string())
    }
}

impl fmt::Debug for Http {
    /// Without the client, whose proxy has a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// A way through a proxy.
struct Way {
    /// With user and password.
    proxy: Url,
    /// The hosts that are reached without, separated by commas.
    without: String,
    /// One of the environment is for TLS: what is not encrypted never leaves this host.
    is_for_all: bool,
}

impl Way {
    /// The way that `[http]` names, or the environment where that names none.
    fn of(settings: &config::Http) -> Result<Option<Self>> {
        let without = settings.no_proxy.join(",");
        let Some(proxy) = &settings.proxy else {
            return Self::of_environment(without);
        };
        let mut proxy = proxy.clone();
        if let Some(path) = &settings.proxy_password_file {
            let unusable = |why: &dyn fmt::Display| {
                Error::Configuration(format!("http.proxy_password_file: {why}"))
            };
            let password =
                ownership::read(path, Kind::Secret, MAX_FILE).map_err(|flaw| unusable(&flaw))?;
            let password = std::str::from_utf8(&password)
                .map_err(|_| unusable(&format!("{} is no UTF-8 text", path.display())))?;
            // A URL takes "%" as the start of an escape; all else it escapes by itself.
            let password = password.trim_end_matches(['\r', '\n']).replace('%', "%25");
            let password = Zeroizing::new(password);
            proxy
                .set_password(Some(&password))
                .map_err(|()| unusable(&"http.proxy has no host"))?;
        }
        Ok(Some(Self {
            proxy,
            without,
            is_for_all: true,
        }))
    }

    fn of_environment(without: String) -> Result<Option<Self>> {
        let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let first = |names: &[&'static str]| {
            let mut names = names.iter();
            names.find_map(|&name| Some((name, value(name)?)))
        };
        let Some((name, text)) = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
        else {
            return Ok(None);
        };
        let text = text.trim();
        let scheme = if text.contains("://") { "" } else { "http://" };
        let proxy = config::proxy_url(&format!("{scheme}{text}"));
        let proxy = proxy.ok_or_else(|| {
            Error::Configuration(format!(
                "{name} of the environment is not the URL of a proxy; write http://USER:PASSWORD@HOST:PORT with \
                 special characters escaped (%40 for @), or set proxy of [http]"
            ))
        })?;
        let without = match (without.is_empty(), first(&["NO_PROXY", "no_proxy"])) {
            (true, Some((_, hosts))) => hosts,
            _ => without,
        };
        Ok(Some(Self {
            proxy,
            without,
            is_for_all: false,
        }))
    }

    /// For the client.
    fn client(&self) -> Result<Proxy> {
        let proxy = if self.is_for_all {
            Proxy::all(self.proxy.clone())
        } else {
            Proxy::https(self.proxy.clone())
        };
        let proxy = proxy.map_err(|error| {
            Error::Configuration(format!("http.proxy: {}; correct it", causes(&error)))
        })?;
        Ok(proxy.no_proxy(NoProxy::from_string(&self.without)))
    }

    /// What the client does, in the words of the library by which it does it.
    fn rule(&self) -> Matcher {
        let mut shown = self.proxy.clone();
        if shown.set_username("").is_ok() {
            shown.set_password(None).unwrap_or_default();
        }
        let rule = if self.is_for_all {
            Matcher::builder().all(shown.as_str())
        } else {
            Matcher::builder().https(shown.as_str())
        };
        rule.no(self.without.as_str()).build()
    }
}

/// An error and what caused it, without the URL, whose query is nobody's business.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        next = error.source();
        let said = error.to_string();
        // The client's own layers say only "error sending request for url (…)" and "client error (Connect)".
        let is_frame = said.starts_with("client error (") && next.is_some();
        if !error.is::<reqwest::Error>() && !is_frame {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
    }
    if text.is_empty() {
        "no further cause given".to_owned()
    } else {
        text
    }
}
