//! An HTTP client by hand: what it sends and what it sees is exactly what stands here.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::format_push_string,
    clippy::assigning_clones,
    reason = "each test binary uses a part; a test fails by panicking"
)]

pub(crate) mod key;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::Value;
use simulator::microsoft::{Microsoft, TenantSpec};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// An answer as far as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body ended where its framing says.
    pub(crate) whole: bool,
    /// Reading ended with this.
    pub(crate) error: Option<ErrorKind>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The AF code, or the code and number of a token error.
    pub(crate) fn code(&self) -> String {
        let value = self.json();
        match value.pointer("/error/code") {
            Some(code) => code.as_str().unwrap().to_owned(),
            None => value["error_codes"][0].to_string(),
        }
    }
}

/// One request on a connection of its own.
pub(crate) fn exchange(
    ca: &str,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let stream = TcpStream::connect(authority).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(400)))
        .unwrap();
    let mut request =
        format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("\r\n{body}");
    if scheme == "http" {
        return talk(stream, &request);
    }
    let connection = connect_tls(ca, &[], "localhost");
    talk(StreamOwned::new(connection, stream), &request)
}

pub(crate) fn connect_tls(ca: &str, alpn: &[&[u8]], host: &str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    ClientConnection::new(Arc::new(config), host).unwrap()
}

fn talk(mut stream: impl Read + Write, request: &str) -> Answer {
    let mut error = stream
        .write_all(request.as_bytes())
        .err()
        .map(|error| error.kind());
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65_536];
    // Enough to see what an endless body is.
    while error.is_none() && bytes.len() < 8 << 20 {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(failed) => error = Some(failed.kind()),
        }
    }
    let nothing = Answer {
        status: 0,
        headers: Vec::new(),
        body: Vec::new(),
        whole: false,
        error,
    };
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return nothing;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let raw = &bytes[end + 4..];
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    let mut answer = Answer {
        status,
        headers: lines.map(pair).collect(),
        ..nothing
    };
    if answer.header("transfer-encoding") == Some("chunked") {
        (answer.body, answer.whole) = unchunk(raw);
    } else {
        let length = answer
            .header("content-length")
            .map_or(raw.len(), |length| length.parse().unwrap());
        answer.whole = raw.len() == length;
        answer.body = raw.to_vec();
    }
    if answer.header("content-encoding") == Some("gzip") && answer.whole {
        let mut plain = Vec::new();
        GzDecoder::new(answer.body.as_slice())
            .read_to_end(&mut plain)
            .unwrap();
        answer.body = plain;
    }
    answer
}

fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = raw.windows(2).position(|two| two == b"\r\n") else {
            return (body, false);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        raw = &raw[end + 2..];
        if size == 0 {
            return (body, true);
        }
        if raw.len() < size + 2 {
            body.extend_from_slice(raw);
            return (body, false);
        }
        body.extend_from_slice(&raw[..size]);
        raw = &raw[size + 2..];
    }
}

/// A tenant's side of the conversation.
pub(crate) struct Client<'a> {
    pub(crate) microsoft: &'a Microsoft,
    pub(crate) tenant: TenantSpec,
    pub(crate) token: String,
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}

impl<'a> Client<'a> {
    /// Adds the n-th tenant, signs in, and has every content type enabled.
    pub(crate) fn new(microsoft: &'a Microsoft, n: u64) -> Self {
        let tenant = TenantSpec::numbered(n);
        microsoft.add_tenant(tenant.clone());
        microsoft.subscribe_all(&tenant.tenant_id);
        let mut client = Self {
            microsoft,
            tenant,
            token: String::new(),
        };
        client.renew();
        client
    }

    pub(crate) fn renew(&mut self) {
        self.token = self.sign_in().json()["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
    }

    pub(crate) fn sign_in(&self) -> Answer {
        self.sign_in_with(&[("client_secret", &self.tenant.secret)])
    }

    pub(crate) fn sign_in_with(&self, credential: &[(&str, &str)]) -> Answer {
        let scope = format!("{}/.default", self.microsoft.url());
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.tenant.client_id.as_str()),
            ("scope", scope.as_str()),
        ];
        fields.extend_from_slice(credential);
        self.post_form(
            &format!("/{}/oauth2/v2.0/token", self.tenant.tenant_id),
            &fields,
        )
    }

    pub(crate) fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form(fields);
        let length = body.len().to_string();
        let headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", &length),
        ];
        exchange(
            self.microsoft.ca_pem(),
            "POST",
            &format!("{}{path}", self.microsoft.url()),
            &headers,
            &body,
        )
    }

    /// With token and gzip, to a whole URL.
    pub(crate) fn fetch(&self, method: &str, url: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Accept-Encoding", "gzip"),
        ];
        if method == "POST" {
            headers.push(("Content-Length", "0"));
        }
        exchange(self.microsoft.ca_pem(), method, url, &headers, "")
    }

    fn feed(&self, rest: &str) -> String {
        let Self {
            microsoft, tenant, ..
        } = self;
        let id = &tenant.tenant_id;
        let mark = if rest.contains('?') { '&' } else { '?' };
        format!(
            "{}/api/v1.0/{id}/activity/feed/{rest}{mark}PublisherIdentifier={id}",
            microsoft.url()
        )
    }

    pub(crate) fn get(&self, rest: &str) -> Answer {
        self.fetch("GET", &self.feed(rest))
    }

    pub(crate) fn post(&self, rest: &str) -> Answer {
        self.fetch("POST", &self.feed(rest))
    }

    /// The first page of the last 23 hours, up to an hour from now.
    pub(crate) fn list(&self, content_type: &str) -> Answer {
        let time = |hours| {
            (self.microsoft.now() + chrono::TimeDelta::hours(hours)).format("%Y-%m-%dT%H:%M:%S")
        };
        self.get(&format!(
            "subscriptions/content?contentType={content_type}&startTime={}&endTime={}",
            time(-23),
            time(1)
        ))
    }

    /// A link of the server's, with the publisher.
    pub(crate) fn follow(&self, link: &str) -> Answer {
        let mark = if link.contains('?') { '&' } else { '?' };
        self.fetch(
            "GET",
            &format!("{link}{mark}PublisherIdentifier={}", self.tenant.tenant_id),
        )
    }

    /// All pages of the last day: the entries.
    pub(crate) fn walk(&self, content_type: &str) -> Vec<Value> {
        let mut answer = self.list(content_type);
        let mut entries = answer.json().as_array().unwrap().clone();
        while let Some(link) = answer.header("NextPageUri") {
            assert!(entries.len() < 1000, "the walk does not end");
            answer = self.follow(link);
            entries.extend(answer.json().as_array().unwrap().iter().cloned());
        }
        entries
    }
}
