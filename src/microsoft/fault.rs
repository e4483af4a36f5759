//! What Microsoft's refusals mean and what to do about them. Pure: an answer goes in, a [`Fault`]
//! comes out, by the code first, then the status, then the shape.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::clock::http_date;
use super::fault_table::{
    AUDIT_LOG_OFF, GRANT_READ, GRANT_READ_DLP, Row, START_TOO_SOON, THROTTLED, find,
};
use crate::config::ContentType;

/// What the caller does about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It passes, and was repeated already as often as the policy allows: the next run again.
    Retry,
    /// Nothing goes to this tenant for `retry_after`; without one it is as after any passing fault.
    Throttled,
    /// The token was refused; handled inside: a second time it becomes [`Class::RefuseTenant`].
    NewToken,
    /// The subscription is missing or disabled: start it, then once more.
    StartSubscription,
    /// A start came too soon after another: this stream's next start not before `retry_after`.
    StartTooSoon,
    /// The subscription to be started runs already: a success.
    AlreadyEnabled,
    /// The blob is not there: tried again until it expires, then counted as lost; one that has expired at once.
    SkipBlob,
    /// Microsoft refuses the window or its page: list it again from its start.
    RestartWindow,
    /// This app has no such content type: say it once, look again hours later; no failure.
    TypeUnavailable,
    /// Credential, permission or configuration is wrong: end this tenant's turn, come back within the hour.
    RefuseTenant,
    /// The tenant has no audit log, as far as the API can see: like [`Class::RefuseTenant`], but not for lack of permission.
    AuditLogOff,
    /// A content's address is not the tenant's own, and was not asked: another listing may give the
    /// right one.
    ForeignAddress,
    /// Not understood, or not worth repeating now; the next run again.
    Failed,
    /// Microsoft says that we asked nonsense.
    OurBug,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    SignIn,
    Subscriptions,
    Start,
    List,
    Fetch,
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) operation: Operation,
    pub(super) content_type: Option<ContentType>,
    pub(super) status: u16,
    /// The beginning of the body.
    pub(super) body: &'a [u8],
    pub(super) retry_after: Option<Duration>,
    /// The token's roles, if it could be read.
    pub(super) roles: Option<&'a [String]>,
    /// Without query.
    pub(super) url: String,
}

/// Something that Microsoft, or the way there, did not do for us.
///
/// `Display` says what, where and the cure. It holds no query, token, secret or content.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What the caller does about it.
    pub class: Class,
    /// Microsoft's code: `AADSTS7000222`, `AF20023`, …
    pub code: Option<Box<str>>,
    /// The status of the answer; none: there was no answer.
    pub status: Option<u16>,
    /// What is wrong, in the operator's words.
    pub message: Box<str>,
    /// What to do about it; may be empty.
    pub cure: &'static str,
    /// Entra's trace id.
    pub trace_id: Option<Box<str>>,
    /// Entra's correlation id.
    pub correlation_id: Option<Box<str>>,
    /// How long Microsoft wants us to wait.
    pub retry_after: Option<Duration>,
    /// What was asked, without its query; may be empty.
    pub url: Box<str>,
    /// Whether it was a token that could not be had, whatever was asked for.
    pub is_of_sign_in: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let ids = [
            ("", self.code.as_deref()),
            ("trace id ", self.trace_id.as_deref()),
            ("correlation id ", self.correlation_id.as_deref()),
        ];
        let mut separator = " (";
        for (label, id) in ids {
            if let Some(id) = id {
                write!(f, "{separator}{label}{id}")?;
                separator = ", ";
            }
        }
        if let Some(status) = self.status {
            write!(f, "{separator}HTTP {status}")?;
            separator = ", ";
        }
        if let Some(time) = self.retry_after {
            write!(f, "{separator}not before {} s from now", time.as_secs())?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")?;
        }
        if !self.url.is_empty() {
            write!(f, " at {}", self.url)?;
        }
        if !self.cure.is_empty() {
            write!(f, "; {}", self.cure)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

const AGAIN: &str = "the next run tries again";
const BROKEN: &str = "the next run tries again; if it stays, look for a firewall or proxy on the way, which `o365-wodle doctor` walks";

impl Fault {
    /// A fault that no table knows, without an answer.
    pub(super) fn new(
        class: Class,
        message: impl Into<Box<str>>,
        cure: &'static str,
        url: impl Into<Box<str>>,
    ) -> Self {
        Self {
            class,
            code: None,
            status: None,
            message: message.into(),
            cure,
            trace_id: None,
            correlation_id: None,
            retry_after: None,
            url: url.into(),
            is_of_sign_in: false,
        }
    }

    /// The connection or transfer broke.
    pub(super) fn broken(message: impl Into<Box<str>>, url: impl Into<Box<str>>) -> Self {
        Self::new(Class::Retry, message, BROKEN, url)
    }

    /// Whether it is a refusal that may be of one content type alone: no other code says that of the tenant. That of
    /// `DLP.All` has a class of its own where the app has the permission for it.
    #[must_use]
    pub fn is_of_permission(&self) -> bool {
        let is_refusal = match self.class {
            Class::RefuseTenant => true,
            Class::Failed => matches!(self.status, Some(401 | 403)),
            _ => false,
        };
        is_refusal && self.code.as_deref().is_none_or(|code| code == "AF10001")
    }

    /// What was waited for too long, in words.
    #[must_use]
    pub fn late(what: &str) -> Self {
        Self::new(
            Class::Retry,
            what,
            "the next run tries again; if it stays, look for a proxy or firewall in between, and lower [http] request_timeout to learn more",
            "",
        )
    }

    /// The tenant's gate is closed for this long.
    #[must_use]
    pub fn throttled(left: Duration) -> Self {
        Self {
            retry_after: Some(left),
            ..Self::new(Class::Throttled, THROTTLED.sentence, THROTTLED.cure, "")
        }
    }

    /// Nobody may ask again yet, and that was the answer.
    #[must_use]
    pub fn audit_log_off() -> Self {
        let Row {
            class,
            sentence,
            cure,
            ..
        } = AUDIT_LOG_OFF;
        Self::new(class, sentence, cure, "")
    }

    /// What an answer that is not what was asked for means.
    pub(super) fn judge(answer: &Answer<'_>) -> Self {
        let said = Said::by(answer.body);
        let mut retry_after = answer.retry_after;
        let known = said.row(answer.operation);
        let (mut class, mut message, mut cure): (Class, Box<str>, &str) = match known {
            Some(row) => {
                retry_after = retry_after
                    .or_else(|| minutes_and_seconds(&said.text))
                    .or(row.wait.map(Duration::from_secs));
                (row.class, row.sentence.into(), row.cure)
            }
            None => by_status(answer, &said),
        };
        let about_permission = match known {
            Some(row) => row.code == "AF10001",
            None => matches!(class, Class::NewToken | Class::RefuseTenant),
        };
        if about_permission && let Some((other, hint)) = by_roles(class, answer) {
            (class, cure) = (other, hint);
            match class {
                Class::TypeUnavailable => message = NO_READ_DLP.into(),
                Class::Failed => message = REFUSED_DLP.into(),
                _ => {}
            }
        }
        Self {
            class,
            code: said.code,
            status: Some(answer.status),
            message,
            cure,
            trace_id: said.trace_id,
            correlation_id: said.correlation_id,
            retry_after,
            url: answer.url.as_str().into(),
            is_of_sign_in: false,
        }
    }

    /// What the refusal of a fresh token means, which has these roles, if they are known.
    pub(super) fn after_new_token(
        mut self,
        content_type: Option<ContentType>,
        roles: Option<&[String]>,
    ) -> Self {
        if self.class == Class::NewToken {
            self.class = match (content_type, holds(roles, READ_DLP)) {
                (Some(ContentType::Dlp), Some(true)) => Class::Failed,
                (Some(ContentType::Dlp), _) => {
                    self.message = NO_READ_DLP.into();
                    Class::TypeUnavailable
                }
                _ => Class::RefuseTenant,
            };
        }
        self
    }
}

/// The permission for all content types but one.
pub const READ: &str = "ActivityFeed.Read";
/// The permission for DLP.All.
pub const READ_DLP: &str = "ActivityFeed.ReadDlp";
const NO_READ_DLP: &str = "the app lacks the permission ActivityFeed.ReadDlp";
const REFUSED_DLP: &str =
    "DLP.All is refused, though the app has the permission ActivityFeed.ReadDlp";

/// Whether a token holds a role, if its roles are known.
fn holds(roles: Option<&[String]>, role: &str) -> Option<bool> {
    roles.map(|roles| roles.iter().any(|held| held == role))
}

/// What the token's roles tell better than the API's refusal.
fn by_roles(class: Class, answer: &Answer<'_>) -> Option<(Class, &'static str)> {
    if answer.operation == Operation::SignIn {
        return None;
    }
    let has = |role| holds(answer.roles, role);
    if has(READ) == Some(false) && has(READ_DLP) == Some(false) {
        return Some((Class::RefuseTenant, GRANT_READ));
    }
    if answer.content_type != Some(ContentType::Dlp) {
        return None;
    }
    match (class, has(READ_DLP)) {
        (_, Some(false)) | (Class::RefuseTenant, None) => {
            Some((Class::TypeUnavailable, GRANT_READ_DLP))
        }
        (Class::RefuseTenant, Some(true)) if has(READ) == Some(false) => {
            Some((Class::RefuseTenant, GRANT_READ))
        }
        // The app has the permission: the refusal passes, or the tenant's other content types meet it as well.
        (Class::RefuseTenant, Some(true)) => Some((Class::Failed, AGAIN)),
        (Class::NewToken, Some(true)) => Some((Class::NewToken, AGAIN)),
        _ => Some((class, GRANT_READ_DLP)),
    }
}

/// What an answer without a known code means.
fn by_status(answer: &Answer<'_>, said: &Said) -> (Class, Box<str>, &'static str) {
    let sign_in = answer.operation == Operation::SignIn;
    let what = said.excerpt();
    match answer.status {
        429 => (THROTTLED.class, THROTTLED.sentence.into(), THROTTLED.cure),
        status if matches!(status, 408 | 425 | 500..) || said.transient => (
            Class::Retry,
            format!("Microsoft's server is not well{what}").into(),
            AGAIN,
        ),
        200..300 => (
            Class::Retry,
            format!(
                "the answer is not what was asked for, but {}{what}",
                said.shape
            )
            .into(),
            "if it stays, look for a proxy that answers in Microsoft's place, and at login_url and management_url",
        ),
        300..400 => (
            Class::Failed,
            "the answer is a redirect, which is never followed".into(),
            "look for a proxy that answers in Microsoft's place, and at login_url and management_url",
        ),
        // Microsoft refuses in JSON or not at all in words; a page of HTML is somebody else's.
        401 | 403 | 407 if said.shape == Shape::Other => (
            Class::Failed,
            "something between here and Microsoft refuses the request".into(),
            "ask whoever runs the proxy or firewall to let this host reach Microsoft's login and management hosts",
        ),
        401 if !sign_in => (
            Class::NewToken,
            format!("Microsoft does not accept the token{what}").into(),
            GRANT_READ,
        ),
        403 if !sign_in => (
            Class::RefuseTenant,
            format!("Microsoft refuses access{what}").into(),
            GRANT_READ,
        ),
        404 | 410 if answer.operation == Operation::Fetch && said.shape != Shape::Other => (
            Class::SkipBlob,
            "Microsoft does not have this content any more".into(),
            "nothing to do: runs try it again as long as Microsoft keeps contents, 7 days, then it is counted as lost",
        ),
        400 | 401 | 403 if sign_in && said.code.is_some() => (
            Class::RefuseTenant,
            format!("Entra ID refuses to sign the app in{what}").into(),
            "look the code up at https://login.microsoftonline.com/error",
        ),
        _ => (
            Class::Failed,
            format!("Microsoft refuses the request{what}").into(),
            "compare tenant_id with Azure, and look at login_url and management_url and for a proxy that answers in Microsoft's place; if it stays, report it with this message",
        ),
    }
}

/// The longest wait that is believed.
const A_DAY: Duration = Duration::from_hours(24);

/// `Retry-After`: seconds, or a date that is compared with `now`; at most a day.
pub(super) fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    let time = match header.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (http_date(header)? - now).to_std().unwrap_or_default(),
    };
    Some(time.min(A_DAY))
}

/// `Please retry again after 14m 56s`
fn minutes_and_seconds(text: &str) -> Option<Duration> {
    let (_, rest) = text.split_once("retry again after ")?;
    let mut time = Duration::ZERO;
    for word in rest.split_whitespace() {
        let word = word.trim_end_matches('.');
        let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
        let unit = match unit {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => break,
        };
        let Ok(number) = number.parse::<u32>() else {
            break;
        };
        time += Duration::from_secs(u64::from(number) * unit);
    }
    Some(time.min(A_DAY)).filter(|time| !time.is_zero())
}

/// What kind of thing a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    Json,
    Other,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "nothing",
            Self::Json => "other JSON",
            Self::Other => "a page that is no JSON",
        })
    }
}

/// What a body of unknown making says about a fault.
#[derive(Debug)]
struct Said {
    shape: Shape,
    code: Option<Box<str>>,
    /// The server's text: for matching, and in parts for the log.
    text: String,
    entra: bool,
    transient: bool,
    trace_id: Option<Box<str>>,
    correlation_id: Option<Box<str>>,
}

impl Said {
    fn by(body: &[u8]) -> Self {
        let body = body
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(body)
            .trim_ascii();
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let shape = match (&json, body) {
            (_, []) => Shape::Empty,
            (Some(_), _) => Shape::Json,
            _ => Shape::Other,
        };
        let json = json.unwrap_or(Value::Null);
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str);
        let id = |pointer: &str| text(pointer).and_then(clean);
        let entra = json.get("error").is_some_and(Value::is_string);
        let words = text("/error/message")
            .or_else(|| text("/error_description"))
            .or_else(|| text("/Message"))
            .or_else(|| text("/message"))
            .unwrap_or_default();
        let code = if entra {
            json.pointer("/error_codes/0")
                .and_then(Value::as_u64)
                .map(|number| format!("AADSTS{number}").into())
                .or_else(|| aadsts(words))
                .or_else(|| id("/error"))
        } else {
            id("/error/code").or_else(|| {
                json.pointer("/error/code")
                    .and_then(Value::as_u64)
                    .map(|number| number.to_string().into())
            })
        };
        let words = match shape {
            Shape::Other => String::from_utf8_lossy(body).into_owned(),
            // An exception's stack trace may stand where the code belongs.
            _ => format!("{} {words}", text("/error/code").unwrap_or_default()),
        };
        Self {
            shape,
            code,
            entra,
            transient: text("/error") == Some("temporarily_unavailable")
                || words.contains("Server Busy"),
            trace_id: id("/trace_id"),
            correlation_id: id("/correlation_id"),
            text: words,
        }
    }

    /// The table's row for this answer.
    fn row(&self, operation: Operation) -> Option<&'static Row> {
        if operation != Operation::SignIn {
            if operation == Operation::Start && self.text.contains("subscription start requests") {
                return Some(&START_TOO_SOON);
            }
            if let Some((_, rest)) = self.text.split_once("Tenant ")
                && rest.contains("does not exist")
            {
                return Some(&AUDIT_LOG_OFF);
            }
        }
        find(self.code.as_deref()?)
    }

    /// The server's own words, cut; Entra's stay out, since they may repeat what was sent.
    fn excerpt(&self) -> String {
        let text = self.text.trim();
        if self.entra
            || self.shape == Shape::Other
            || text.is_empty()
            || text.contains("eyJ")
            || text.contains("Bearer")
        {
            return String::new();
        }
        let text: String = text
            .chars()
            .take(200)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        format!(": \"{text}\"")
    }
}

/// A short code or id, or nothing.
fn clean(text: &str) -> Option<Box<str>> {
    let fine = !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    fine.then(|| text.into())
}

/// The code at the beginning of Entra's description: `AADSTS7000215: Invalid client secret …`
fn aadsts(description: &str) -> Option<Box<str>> {
    let digits: String = description
        .split_once("AADSTS")?
        .1
        .chars()
        .take_while(char::is_ascii_digit)
        .take(12)
        .collect();
    (!digits.is_empty()).then(|| format!("AADSTS{digits}").into())
}

#[cfg(test)]
#[path = "fault_tests.rs"]
pub(super) mod tests;
