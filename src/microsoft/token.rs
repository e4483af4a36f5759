//! Signing in: what a tenant's application proves itself with, and what it gets for it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::cloud::Addresses;
use super::fault::{Class, Fault};
use crate::config::Tenant;

/// How long before its end a token is replaced.
const REFRESH: TimeDelta = TimeDelta::minutes(5);

/// The longest token of another identity provider.
const MAX_FILE: u64 = 1024 * 1024;

/// What an application proves itself with. `Debug` shows none of it.
#[derive(Debug)]
pub struct Credential(Kind);

#[derive(Debug)]
enum Kind {
    Secret(SecretString),
    Certificate(Box<Certificate>),
    /// The file of another identity provider's token, which is replaced from time to time.
    Federated(PathBuf),
}

/// Keys and values of a form.
pub(super) type Form = Vec<(&'static str, Zeroizing<String>)>;

impl Credential {
    /// A client secret.
    #[must_use]
    pub fn secret(secret: SecretString) -> Self {
        Self(Kind::Secret(secret))
    }

    /// A certificate with its key: a PEM or PFX file, perhaps the key's own PEM file, and perhaps
    /// the file with the password of either. `rs256`: the older kind of signature.
    ///
    /// # Errors
    /// What is wrong with the files, and the cure.
    pub fn certificate(
        certificate: &Path,
        key: Option<&Path>,
        password: Option<&Path>,
        rs256: bool,
    ) -> Result<Self, String> {
        let key_bytes = key.map(read).transpose()?;
        let password = password.map(read).transpose()?;
        let password = password
            .as_deref()
            .map(|bytes| str::from_utf8(bytes).map(|text| text.trim_end_matches(['\r', '\n'])))
            .transpose()
            .map_err(|_| {
                "the password file is not UTF-8; write the password into it as text".to_owned()
            })?;
        let bytes = read(certificate)?;
        Certificate::read(
            &bytes,
            key_bytes.as_deref().map(Vec::as_slice),
            password,
            rs256,
        )
        .map(|certificate| Self(Kind::Certificate(Box::new(certificate))))
        .map_err(|why| match key {
            Some(key) => format!("{} with {}: {why}", certificate.display(), key.display()),
            None => format!("{}: {why}", certificate.display()),
        })
    }

    /// Another identity provider's token in a file, read anew for each sign-in.
    #[must_use]
    pub fn federated(token: PathBuf) -> Self {
        Self(Kind::Federated(token))
    }

    /// When the certificate, if it is one, ends.
    #[must_use]
    pub fn not_after(&self) -> Option<DateTime<Utc>> {
        match &self.0 {
            Kind::Certificate(certificate) => Some(certificate.not_after),
            Kind::Secret(_) | Kind::Federated(_) => None,
        }
    }

    /// The form that asks for a token.
    pub(super) fn form(
        &self,
        tenant: &Tenant,
        addresses: &Addresses,
        now: DateTime<Utc>,
    ) -> Result<Form, Fault> {
        let mut form = vec![
            (
                "grant_type",
                Zeroizing::new("client_credentials".to_owned()),
            ),
            ("client_id", Zeroizing::new(tenant.client_id.clone())),
            ("scope", Zeroizing::new(addresses.scope.clone())),
        ];
        let assertion = match &self.0 {
            Kind::Secret(secret) => {
                form.push((
                    "client_secret",
                    Zeroizing::new(secret.expose_secret().to_owned()),
                ));
                return Ok(form);
            }
            Kind::Certificate(certificate) => certificate
                .assertion(&tenant.client_id, addresses.token.as_str(), now)
                .ok_or_else(|| {
                    Fault::new(
                        Class::RefuseTenant,
                        "the certificate's key does not sign",
                        "make a new certificate with an RSA key of 2048 bits or more",
                        "",
                    )
                })?,
            Kind::Federated(path) => foreign_token(path)?,
        };
        form.push((
            "client_assertion_type",
            Zeroizing::new("urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
        ));
        form.push(("client_assertion", assertion));
        Ok(form)
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| {
            format!(
                "{}: {error}; check that the file is there and readable",
                path.display()
            )
        })?;
    Ok(bytes)
}

fn foreign_token(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let refuse = |why: String| {
        Fault::new(
            Class::RefuseTenant,
            why,
            "check federated_token_file, and what writes it",
            "",
        )
    };
    let bytes = read(path).map_err(refuse)?;
    match str::from_utf8(&bytes).map(str::trim) {
        Ok(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Zeroizing::new(token.to_owned()))
        }
        _ => Err(refuse(format!("{} holds no token", path.display()))),
    }
}

/// What a token says about itself, read without checking its signature: for diagnosis only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenFacts {
    /// The application permissions; `None` if the token cannot be read.
    pub roles: Option<Vec<String>>,
    /// The host that the token is for.
    pub aud: Option<String>,
    /// The tenant.
    pub tid: Option<String>,
    /// The application.
    pub appid: Option<String>,
    /// Delegated permissions, which do not count here: this is somebody's token, not the app's.
    pub scp: Option<String>,
}

/// An access token with what is known about it.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: SecretString,
    pub(super) facts: TokenFacts,
    expires: DateTime<Utc>,
}

impl Token {
    /// Reads the token endpoint's answer, of v2 (numbers) or v1 (the same as strings).
    pub(super) fn read(body: &[u8], now: DateTime<Utc>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: SecretString,
            token_type: Option<String>,
            expires_in: Option<NumberOrText>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText {
            Number(f64),
            Text(String),
        }
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let value = answer.access_token.expose_secret();
        // What is no token would be refused as a header later, with less to say about it.
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        if answer
            .token_type
            .is_some_and(|kind| !kind.eq_ignore_ascii_case("Bearer"))
        {
            return None;
        }
        let seconds = match answer.expires_in {
            Some(NumberOrText::Number(seconds)) => seconds,
            Some(NumberOrText::Text(text)) => text.trim().parse().ok()?,
            None => 3600.0,
        };
        #[expect(clippy::cast_possible_truncation, reason = "clamped to a day")]
        let seconds = seconds.clamp(0.0, 86_400.0) as i64;
        Some(Self {
            facts: TokenFacts::read(value),
            expires: now + TimeDelta::seconds(seconds),
            value: answer.access_token,
        })
    }

    /// Whether it lasts for some more requests.
    pub(super) fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        self.expires - now >= REFRESH
    }
}

impl TokenFacts {
    fn read(token: &str) -> Self {
        #[derive(Deserialize)]
        struct Claims {
            #[serde(default)]
            roles: Vec<String>,
            aud: Option<String>,
            tid: Option<String>,
            appid: Option<String>,
            azp: Option<String>,
            scp: Option<String>,
        }
        jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token)
            .map(|claims| Self {
                roles: Some(claims.roles),
                aud: claims.aud,
                tid: claims.tid,
                appid: claims.appid.or(claims.azp),
                scp: claims.scp,
            })
            .unwrap_or_default()
    }
}

/// The fault of an answer with status 200 that holds no token.
pub(super) fn no_token(url: &str) -> Fault {
    Fault::broken("Entra ID's answer holds no token", url)
}
