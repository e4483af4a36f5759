//! Signing in: what a tenant's application proves itself with, and what it gets for it.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::cloud::Addresses;
use super::fault::{Class, Fault};
use crate::config::ownership::Kind::{Configuration, Secret};
use crate::config::{self, Authentication, Flaw, Tenant, ownership};

/// How long before its end a token is replaced.
const REFRESH: Duration = Duration::from_mins(5);

/// The longest certificate, key or token of another identity provider, in bytes.
const MAX_FILE: usize = 256 * 1024;

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

    /// As [`Self::read`]; what may take long, a command or the password of a key, holds up nobody else.
    ///
    /// # Errors
    /// As there.
    pub async fn read_aside(authentication: &Authentication) -> Result<Self, Flaw> {
        let is_soon = match authentication {
            Authentication::Secret(secret) => !matches!(secret, config::Secret::Command(_)),
            Authentication::FederatedToken(_) => true,
            Authentication::Certificate { .. } => false,
        };
        if is_soon {
            return Self::read(authentication);
        }
        let authentication = authentication.clone();
        tokio::task::spawn_blocking(move || Self::read(&authentication))
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// What the tenant's configuration names. Blocks while a command is asked for a secret.
    ///
    /// # Errors
    /// What is wrong with a file or command, and the cure.
    pub fn read(authentication: &Authentication) -> Result<Self, Flaw> {
        match authentication {
            Authentication::Secret(secret) => secret.read().map(Self::secret),
            Authentication::FederatedToken(path) => match foreign_token(path) {
                Ok(_) => Ok(Self::federated(path.clone())),
                Err(fault) => Err(Flaw::new(fault.message, fault.cure)),
            },
            Authentication::Certificate {
                certificate_file,
                private_key_file,
                password_file,
                rs256,
            } => {
                let secret = |path: &PathBuf| ownership::read(path, Secret, MAX_FILE);
                let key = private_key_file.as_ref().map(secret).transpose()?;
                let password = password_file.as_ref().map(secret).transpose()?;
                let kind = if key.is_some() { Configuration } else { Secret };
                let certificate = ownership::read(certificate_file, kind, MAX_FILE)?;
                let key = key.as_deref().map(Vec::as_slice);
                let password = password.as_deref().map(Vec::as_slice);
                Self::certificate(&certificate, key, password, *rs256).map_err(|flaw| {
                    let files = match private_key_file {
                        Some(key) => {
                            format!("{} with {}", certificate_file.display(), key.display())
                        }
                        None => certificate_file.display().to_string(),
                    };
                    Flaw::new(format!("{files}: {}", flaw.what), flaw.cure)
                })
            }
        }
    }

    /// A certificate with its key: the content of a PEM or PFX file, perhaps of the key's own PEM
    /// file, and perhaps the password of either. `rs256`: the older kind of signature.
    ///
    /// # Errors
    /// What is wrong with them, and the cure.
    pub fn certificate(
        certificate: &[u8],
        key: Option<&[u8]>,
        password: Option<&[u8]>,
        rs256: bool,
    ) -> Result<Self, Flaw> {
        let password = password
            .map(|bytes| str::from_utf8(bytes).map(|text| text.trim_end_matches(['\r', '\n'])))
            .transpose()
            .map_err(|_| {
                Flaw::new(
                    "the password is not UTF-8",
                    "write the password into its file as text",
                )
            })?;
        Certificate::read(certificate, key, password, rs256)
            .map(|certificate| Self(Kind::Certificate(Box::new(certificate))))
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
                .ok_or_else(unsigned)?,
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

pub(super) fn unsigned() -> Fault {
    Fault::new(
        Class::RefuseTenant,
        "the certificate's key does not sign",
        "make a new certificate with an RSA key of 2048 bits or more",
        "",
    )
}

pub(super) fn unusable(path: &Path, why: &dyn Display) -> Fault {
    Fault::new(
        Class::RefuseTenant,
        format!("federated_token_file {}: {why}", path.display()),
        "check the file, and what writes it",
        "",
    )
}

fn foreign_token(path: &Path) -> Result<Zeroizing<String>, Fault> {
    // Kubernetes writes tokens that others on the node may read.
    let bytes =
        ownership::read(path, Configuration, MAX_FILE).map_err(|flaw| unusable(path, &flaw))?;
    match str::from_utf8(&bytes).map(str::trim) {
        Ok(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Zeroizing::new(token.to_owned()))
        }
        _ => Err(unusable(path, &"it holds no token")),
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
    /// Delegated permissions, which do not count here: this is somebody's token, not the app's.
    pub scp: Option<String>,
}

/// An access token with what is known about it.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: SecretString,
    pub(super) facts: TokenFacts,
    expires: Instant,
}

impl Token {
    /// The application's permissions, if they could be read.
    pub(super) fn roles(&self) -> Option<&[String]> {
        self.facts.roles.as_deref()
    }

    /// Reads the token endpoint's answer, of v2 (numbers) or v1 (the same as strings).
    pub(super) fn read(body: &[u8]) -> Option<Self> {
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
        let lasts = Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).ok()?;
        Some(Self {
            facts: TokenFacts::read(value),
            expires: Instant::now() + lasts,
            value: answer.access_token,
        })
    }

    /// Whether it lasts for some more requests.
    pub(super) fn is_fresh(&self) -> bool {
        self.expires.saturating_duration_since(Instant::now()) >= REFRESH
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
            scp: Option<String>,
        }
        jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token)
            .map(|claims| Self {
                roles: Some(claims.roles),
                aud: claims.aud,
                tid: claims.tid,
                scp: claims.scp,
            })
            .unwrap_or_default()
    }
}

/// The fault of an answer with status 200 that holds no token.
pub(super) fn no_token(url: &str) -> Fault {
    Fault::broken("Entra ID's answer holds no token", url)
}
