//! The one HTTP client of a run.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, NoProxy, Proxy, redirect, retry, tls};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::budget::Retry;
use crate::config::ownership::{self, Kind};
use crate::{Error, Result, config};

/// The longest file of a password, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Commands that are asked for a secret, and names that are looked up, at a time.
const BLOCKING: usize = 16;

/// Pairs of descriptors that are free before an event loop starts: it opens six descriptors, its requests some more.
const SPARE: usize = 6;

/// What requests run on: one thread, and a few for what blocks.
///
/// # Errors
/// [`Error::TryLater`] where the system gives none.
pub fn event_loop() -> Result<Runtime> {
    // Where signals find no descriptor left, the library panics.
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
    proxies: Arc<Matcher>,
}

impl Http {
    /// Makes the client.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a proxy, password file or CA file that cannot be used.
    pub fn new(settings: &config::Http) -> Result<Self> {
        Self::with(settings, Client::builder())
    }

    /// A client that tells of its peers' certificates as well.
    ///
    /// # Errors
    /// As [`Http::new`].
    pub fn probing(settings: &config::Http) -> Result<Self> {
        Self::with(settings, Client::builder().tls_info(true))
    }

    fn with(settings: &config::Http, client: reqwest::ClientBuilder) -> Result<Self> {
        let mut client = client
            .user_agent(concat!("o365-wodle/", env!("CARGO_PKG_VERSION")))
            .tls_version_min(tls::Version::TLS_1_2)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            .connect_timeout(settings.connect_timeout);
        // Those of the environment are asked for below.
        client = client.no_proxy();
        if let Some(proxy) = proxy(settings)? {
            client = client.proxy(proxy);
        }
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
            proxies: Arc::new(proxies(settings)),
        })
    }

    /// The proxy that requests to a URL go through, without user and password: that of `[http]` or of the environment, unless
    /// the host is one of those that are reached without.
    #[must_use]
    pub fn proxy_for(&self, url: &str) -> Option<String> {
        let proxy = self.proxies.intercept(&url.parse().ok()?)?;
        Some(proxy.uri().to_string())
    }

    /// The same client with another policy of repetition.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
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

fn proxy(settings: &config::Http) -> Result<Option<Proxy>> {
    let Some(address) = &settings.proxy else {
        return of_environment(settings)
            .map(|(name, address, without)| {
                let proxy = Proxy::https(&address).map_err(|error| {
                    Error::Configuration(format!(
                        "{name} of the environment: {}; write http://USER@HOST:PORT, or remove it",
                        causes(&error)
                    ))
                })?;
                Ok(proxy.no_proxy(NoProxy::from_string(&without)))
            })
            .transpose();
    };
    let refuse =
        |why: &str| Error::Configuration(format!("http.proxy: {why}; write http://USER@HOST:PORT"));
    let mut url = reqwest::Url::parse(address).map_err(|error| refuse(&error.to_string()))?;
    if let Some(path) = &settings.proxy_password_file {
        let unusable = |why: &dyn fmt::Display| {
            Error::Configuration(format!("http.proxy_password_file: {why}"))
        };
        let password =
            ownership::read(path, Kind::Secret, MAX_FILE).map_err(|flaw| unusable(&flaw))?;
        let password = std::str::from_utf8(&password)
            .map_err(|_| unusable(&format!("{} is no UTF-8 text", path.display())))?;
        // A URL takes "%" as the start of an escape; all else it escapes by itself.
        let password = Zeroizing::new(password.trim_end_matches(['\r', '\n']).replace('%', "%25"));
        url.set_password(Some(&password))
            .map_err(|()| refuse("it has no host"))?;
    }
    let proxy = Proxy::all(url).map_err(|error| refuse(&causes(&error)))?;
    Ok(Some(proxy.no_proxy(NoProxy::from_string(
        &settings.no_proxy.join(","),
    ))))
}

/// The proxy that the environment names, by which variable, and the hosts that are reached without. It is one for TLS: what is
/// not encrypted never leaves this host.
fn of_environment(settings: &config::Http) -> Option<(&'static str, String, String)> {
    let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let first = |names: &[&'static str]| {
        let mut names = names.iter();
        names.find_map(|&name| Some((name, value(name)?)))
    };
    let (name, address) = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?;
    let without = if settings.no_proxy.is_empty() {
        first(&["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, without)| without)
    } else {
        settings.no_proxy.join(",")
    };
    Some((name, address, without))
}

/// What the client does with [`proxy`], in the words of the library by which it does it.
fn proxies(settings: &config::Http) -> Matcher {
    match &settings.proxy {
        Some(address) => Matcher::builder()
            .all(address)
            .no(settings.no_proxy.join(","))
            .build(),
        None => match of_environment(settings) {
            Some((_, address, without)) => Matcher::builder().https(address).no(without).build(),
            None => Matcher::builder().build(),
        },
    }
}

/// An error and what caused it, without the URL, whose query is nobody's business.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        // reqwest's own layer says only "error sending request for url (…)".
        if !error.is::<reqwest::Error>() {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
        }
        next = error.source();
    }
    if text.is_empty() {
        "no further cause given".to_owned()
    } else {
        text
    }
}
