//! The Activity API's operations, for one tenant.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::body::Body;
use super::budget::{Budget, Outcome, Requests};
use super::clock::{Clock, http_date};
use super::cloud::{Addresses, shown};
use super::fault::{Answer, Class, Fault, Operation, retry_after};
use super::http::{Http, causes};
use super::listing::Listing;
use super::token::{Credential, Form, Token, TokenFacts, no_token};
use crate::Result;
use crate::config::{ContentType, Tenant};

/// Microsoft wants that much between two starts of a subscription.
pub const START_AGAIN: Duration = Duration::from_mins(15);
/// How much of an answer is read that only explains a fault.
const FAULT_BYTES: usize = 64 * 1024;
/// How long a refused sign-in is not repeated, and one that only failed.
const REFUSED: Duration = Duration::from_hours(1);
const FAILED: Duration = Duration::from_secs(30);
/// The most that an answer other than a listing or a blob may hold.
const SMALL_BYTES: usize = 1024 * 1024;

/// One tenant at Microsoft. Its operations may run side by side.
#[derive(Debug)]
pub struct Activity {
    http: Http,
    tenant: Arc<Tenant>,
    credential: Credential,
    pub(super) addresses: Addresses,
    pub(super) clock: Clock,
    pub(super) budget: Budget,
    /// Held while signing in, so that many requests ask for one token.
    session: Mutex<Session>,
}

/// What came of signing in.
#[derive(Debug)]
enum Session {
    None,
    Token(Arc<Token>),
    /// Not tried again before: many requests wait for one sign-in, and one refusal answers them all.
    Refused(Fault, Instant),
}

/// A content type's subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Of which it is.
    pub content_type: ContentType,
    /// Whether it gathers content.
    pub enabled: bool,
}

/// What is asked for, for faults to speak about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) content_type: Option<ContentType>,
}

impl Activity {
    /// One tenant, not yet signed in. A tenant has its own `clock`, since clouds and test servers differ.
    ///
    /// # Errors
    /// [`crate::Error::Configuration`] if the tenant's URLs are unusable.
    pub fn new(
        http: &Http,
        tenant: &Arc<Tenant>,
        credential: Credential,
        clock: Clock,
    ) -> Result<Self> {
        Ok(Self {
            http: http.clone(),
            addresses: Addresses::of(tenant)?,
            budget: Budget::new(tenant.requests_per_minute, http.retry),
            tenant: Arc::clone(tenant),
            credential,
            clock,
            session: Mutex::new(Session::None),
        })
    }

    /// How much longer Microsoft wants to be left alone, if it does.
    #[must_use]
    pub fn throttled_for(&self) -> Option<Duration> {
        self.budget.closed_for()
    }

    /// The last fault, if the request is repeated for it and no answer came since that was none.
    #[must_use]
    pub fn last_fault(&self) -> Option<Fault> {
        self.budget.last_fault()
    }

    /// The tenant's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The requests so far, sign-ins included.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.budget.requests()
    }

    /// Signs in, unless that was done, and tells what the token allows.
    ///
    /// # Errors
    /// [`Class::RefuseTenant`] for what the operator or Azure has to change; passing faults were
    /// repeated before.
    pub async fn sign_in(&self) -> Result<TokenFacts, Fault> {
        Ok(self.token(None).await?.facts.clone())
    }

    /// The tenant's subscriptions, those of other content types included.
    ///
    /// # Errors
    /// See [`Class`].
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, Fault> {
        let call = Call {
            operation: Operation::Subscriptions,
            content_type: None,
        };
        self.budget
            .repeat(async || {
                let url = self.addresses.operation("subscriptions/list", &[]);
                let mut body = self.array(call, &url).await?;
                let list: Vec<Value> = serde_json::from_slice(&body.whole(SMALL_BYTES).await?)
                    .map_err(|_| body.broken("the list of subscriptions is damaged".to_owned()))?;
                Ok(list.iter().filter_map(subscription).collect())
            })
            .await
    }

    /// Starts a subscription; whether it was off, or none: that it runs already is a success. Microsoft allows one start in 15
    /// minutes, so nothing is repeated here, not even what passes.
    ///
    /// # Errors
    /// [`Class::StartTooSoon`] with the time to wait, [`Class::TypeUnavailable`], and others.
    pub async fn start(&self, content_type: ContentType) -> Result<bool, Fault> {
        match self.start_once(content_type).await {
            Err(fault) if fault.class == Class::AlreadyEnabled => Ok(false),
            Err(fault) => {
                self.budget.heed(&fault);
                Err(fault)
            }
            Ok(()) => Ok(true),
        }
    }

    async fn start_once(&self, content_type: ContentType) -> Result<(), Fault> {
        let call = Call {
            operation: Operation::Start,
            content_type: Some(content_type),
        };
        let url = self.addresses.operation(
            "subscriptions/start",
            &[("contentType", content_type.as_str())],
        );
        let (mut answer, token) = self.send(call, Method::POST, &url).await?;
        let body = answer.head(FAULT_BYTES).await;
        // Success is an object without "error"; nothing at all is taken for it too.
        match serde_json::from_slice::<Value>(&body) {
            Ok(Value::Object(object)) if !object.contains_key("error") => {
                self.believe(&answer);
                Ok(())
            }
            Err(_) if body.is_empty() => Ok(()),
            _ => Err(judge(call, &answer, &body, token.roles(), &self.clock)),
        }
    }

    /// Lists the contents that became available in [start, end), at most a day, in whole seconds.
    /// Nothing is asked before [`Listing::next`].
    #[must_use]
    pub fn list(
        &self,
        content_type: ContentType,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Listing<'_> {
        Listing::new(self, content_type, start, end)
    }

    /// Fetches a blob by its content's URI.
    ///
    /// # Errors
    /// [`Class::SkipBlob`] if it is gone, [`Class::ForeignAddress`] for one that is not the tenant's
    /// own (no token goes there), and others.
    pub async fn fetch(&self, content_type: ContentType, uri: &str) -> Result<Body, Fault> {
        let call = Call {
            operation: Operation::Fetch,
            content_type: Some(content_type),
        };
        let url = self.addresses.handed_out(uri).map_err(|why| {
            Fault::new(
                Class::ForeignAddress,
                format!("Microsoft's address of a content is not the tenant's own: {why}"),
                "check the tenant's cloud; if it stays, report it with this message",
                "",
            )
        })?;
        self.budget
            .repeat(async || self.array(call, &url).await)
            .await
    }

    /// One request whose answer has to be a JSON array; nothing but white space was taken from it.
    pub(super) async fn array(&self, call: Call, url: &Url) -> Result<Body, Fault> {
        let (mut answer, token) = self.send(call, Method::GET, url).await?;
        // Any other success says that something else is yet to come.
        let is_whole = answer.response().status() == StatusCode::OK;
        if answer.first_byte().await? == Some(b'[') && is_whole {
            self.believe(&answer);
            return Ok(answer);
        }
        let body = answer.head(FAULT_BYTES).await;
        // Nothing may be written so.
        if body.trim_ascii() == b"null" && is_whole {
            self.believe(&answer);
            answer.put_back(Bytes::from_static(b"[]"));
            return Ok(answer);
        }
        Err(judge(call, &answer, &body, token.roles(), &self.clock))
    }

    /// One request with the token, and a second one with a new token if the first is refused; the answer, and the token that
    /// brought it.
    async fn send(
        &self,
        call: Call,
        method: Method,
        url: &Url,
    ) -> Result<(Body, Arc<Token>), Fault> {
        let token = self.token(None).await?;
        let refused = match self.send_with(call, &method, url, &token).await {
            Err(fault) if fault.class == Class::NewToken => fault,
            other => return Ok((other?, token)),
        };
        log::debug!("tenant {}: a new token after: {refused}", self.tenant.name);
        let token = self.token(Some(&token)).await?;
        match self.send_with(call, &method, url, &token).await {
            Ok(answer) => Ok((answer, token)),
            Err(fault) => Err(fault.after_new_token(call.content_type, token.roles())),
        }
    }

    async fn send_with(
        &self,
        call: Call,
        method: &Method,
        url: &Url,
        token: &Token,
    ) -> Result<Body, Fault> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.value.expose_secret()));
        let mut header = HeaderValue::from_str(&bearer).map_err(|_| no_token(&shown(url)))?;
        header.set_sensitive(true);
        let mut request = self
            .http
            .client
            .request(method.clone(), url.clone())
            .header(AUTHORIZATION, header);
        if method == Method::POST {
            request = request.header(CONTENT_LENGTH, 0);
        }
        let mut answer = self.answer(request, url).await?;
        self.accept(call, &mut answer, token.roles()).await?;
        Ok(answer)
    }

    /// Takes the time of an answer that is known to be Microsoft's: what says nothing of Microsoft's may be a proxy's page,
    /// and so may its time.
    fn believe(&self, answer: &Body) {
        self.clock
            .observe(answer.response().headers(), answer.begun());
    }

    /// Takes an answer with a good status; any other becomes a fault.
    async fn accept(
        &self,
        call: Call,
        answer: &mut Body,
        roles: Option<&[String]>,
    ) -> Result<(), Fault> {
        if answer.response().status().is_success() {
            self.budget.count(Outcome::Ok);
            return Ok(());
        }
        let body = answer.head(FAULT_BYTES).await;
        let fault = judge(call, answer, &body, roles, &self.clock);
        if fault.code.is_some() {
            self.believe(answer);
        }
        self.budget.count(match (fault.class, fault.status) {
            (Class::Throttled, _) => Outcome::Throttled,
            (_, Some(500..)) => Outcome::Failed,
            _ => Outcome::Refused,
        });
        Err(fault)
    }

    /// Sends a request when the budget allows; whatever answer begins in time.
    async fn answer(&self, request: RequestBuilder, url: &Url) -> Result<Body, Fault> {
        self.budget.admit().await?;
        let patience = self.http.patience;
        match timeout(patience, request.send()).await {
            Ok(Ok(response)) => Ok(Body::new(response, shown(url).into(), patience)),
            Ok(Err(error)) => {
                self.budget.count(Outcome::Unanswered);
                Err(no_answer(&error, url))
            }
            Err(_) => {
                self.budget.count(Outcome::Unanswered);
                Err(unanswered_within(patience.as_secs(), shown(url)))
            }
        }
    }

    /// The token: the one there is, or a new one if that is `refused` or about to end.
    async fn token(&self, refused: Option<&Arc<Token>>) -> Result<Arc<Token>, Fault> {
        let mut session = self.session.lock().await;
        match &*session {
            Session::Token(token)
                if token.is_fresh()
                    && !refused.is_some_and(|refused| Arc::ptr_eq(refused, token)) =>
            {
                return Ok(Arc::clone(token));
            }
            Session::Refused(fault, until) if Instant::now() < *until => return Err(fault.clone()),
            _ => *session = Session::None,
        }
        let ask = || self.budget.repeat(async || self.ask_for_token().await);
        let asked = match ask().await {
            // The refusal told what time it is there: signed by that clock, it may pass.
            Err(fault) if fault.code.as_deref() == Some("AADSTS700024") => ask().await,
            asked => asked,
        };
        match asked {
            Ok(token) => {
                let token = Arc::new(token);
                *session = Session::Token(Arc::clone(&token));
                Ok(token)
            }
            Err(mut fault) => {
                fault.is_of_sign_in = true;
                // What failed before anything was sent names no URL, and costs nothing to try again.
                if !fault.url.is_empty() {
                    let pause = if fault.class == Class::RefuseTenant {
                        REFUSED
                    } else {
                        FAILED
                    };
                    *session = Session::Refused(fault.clone(), Instant::now() + pause);
                }
                Err(fault)
            }
        }
    }

    async fn ask_for_token(&self) -> Result<Token, Fault> {
        let call = Call {
            operation: Operation::SignIn,
            content_type: None,
        };
        let url = &self.addresses.token;
        let form = self
            .credential
            .form(&self.tenant, &self.addresses, self.clock.now())?;
        let request = self
            .http
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(encoded(&form));
        let mut answer = self.answer(request, url).await?;
        self.accept(call, &mut answer, None).await?;
        let body = Zeroizing::new(answer.whole(SMALL_BYTES).await?);
        let token = Token::read(&body).ok_or_else(|| no_token(&shown(url)))?;
        self.believe(&answer);
        Ok(token)
    }
}

/// A form as it travels, in memory that is overwritten when the request is done.
fn encoded(form: &Form) -> Bytes {
    // An escape takes three bytes. A buffer that never grows leaves no copy behind.
    let most = form
        .iter()
        .map(|(key, value)| 3 * (key.len() + value.len()) + 2)
        .sum();
    let mut text = form_urlencoded::Serializer::new(String::with_capacity(most));
    for (key, value) in form {
        text.append_pair(key, value);
    }
    Bytes::from_owner(Zeroizing::new(text.finish().into_bytes()))
}

fn judge(call: Call, answer: &Body, body: &[u8], roles: Option<&[String]>, clock: &Clock) -> Fault {
    let response = answer.response();
    let header = |name| response.headers().get(name)?.to_str().ok();
    // A date is meant by the clock of whoever wrote it.
    let now = header(DATE)
        .and_then(http_date)
        .unwrap_or_else(|| clock.now());
    let retry_after = header(RETRY_AFTER).and_then(|value| retry_after(value, now));
    Fault::judge(&Answer {
        operation: call.operation,
        content_type: call.content_type,
        status: response.status().as_u16(),
        body,
        retry_after,
        roles,
        url: shown(response.url()),
    })
}

fn no_answer(error: &reqwest::Error, url: &Url) -> Fault {
    unanswered(error.is_connect(), &causes(error), &shown(url))
}

/// Why no answer came, by what the libraries say.
const UNANSWERED: [(&[&str], Class, &str, &str); 3] = [
    (
        &["invalid peer certificate"],
        Class::Failed,
        "the server's certificate is not trusted",
        "if a proxy inspects TLS here, give its authority as http.ca_file; check this machine's clock and ca-certificates",
    ),
    (
        &["tunnel error", "proxy authentication required"],
        Class::Retry,
        "the proxy does not let the request through",
        "check proxy and proxy_password_file of [http] (HTTPS_PROXY of the environment, where there is none), and ask whoever runs the proxy to allow Microsoft's login and management hosts",
    ),
    (
        &["dns error"],
        Class::Retry,
        "a host's name cannot be resolved",
        "the next run tries again; if it stays, check this host's name servers (/etc/resolv.conf), and proxy, login_url and management_url; if only a proxy reaches the internet, set [http] proxy",
    ),
];

pub(super) fn unanswered(is_of_connection: bool, causes: &str, url: &str) -> Fault {
    let is_said = |says: &[&str]| says.iter().any(|words| causes.contains(words));
    match UNANSWERED.iter().find(|(says, ..)| is_said(says)) {
        Some((_, class, sentence, cure)) => {
            Fault::new(*class, format!("{sentence}: {causes}"), cure, url)
        }
        None if is_of_connection => Fault::broken(format!("no connection: {causes}"), url),
        None => Fault::broken(format!("no answer: {causes}"), url),
    }
}

pub(super) fn unanswered_within(patience: impl Display, url: String) -> Fault {
    Fault::broken(format!("no answer within {patience} s"), url)
}

fn subscription(item: &Value) -> Option<Subscription> {
    Some(Subscription {
        // One that we do not know is not ours to look at.
        content_type: ContentType::parse(item.get("contentType")?.as_str()?)?,
        // Some answers leave the status out; only what says so is disabled.
        enabled: item
            .get("status")
            .and_then(Value::as_str)
            .is_none_or(|status| status.eq_ignore_ascii_case("enabled")),
    })
}
