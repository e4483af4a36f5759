//! What was asked, and what of it breaks Microsoft's rules.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::call::{Call, Operation};
use super::world::{World, is_guid, known, sha256_hex};

/// How long after a refusal left its successors may still arrive: they were on their way.
const IN_FLIGHT: TimeDelta = TimeDelta::milliseconds(500);
/// By how much an old window may be late, for the time that a request takes.
const LATE: TimeDelta = TimeDelta::minutes(1);

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it arrived, by the simulator's clock.
    pub time: DateTime<Utc>,
    /// HTTP method.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// The query's pairs, decoded.
    pub query: Vec<(String, String)>,
    /// What it asked for.
    pub operation: Operation,
    /// The tenant in its path, in lower case; empty if there is none.
    pub tenant: String,
    /// The content type, where the query names it.
    pub content_type: Option<String>,
    /// The content id of a blob.
    pub content_id: Option<String>,
    /// SHA-256 of the bearer token in hex, if there was one.
    pub token: Option<String>,
    /// Status of the answer; 0 if there was none (reset, stalled).
    pub status: u16,
    /// The error code in the answer: `AF20030`, `AADSTS7000215`.
    pub code: Option<String>,
}

/// What a client must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    /// A token of one tenant for another tenant's path.
    ForeignToken,
    /// No `PublisherIdentifier`, or one that is no GUID.
    NoPublisher,
    /// The client id where the tenant id belongs.
    ClientIdAsTenant,
    /// A window over 24 hours.
    WindowTooLong,
    /// A window that begins over 7 days ago.
    WindowTooOld,
    /// One end of the window, or none.
    OneEnd,
    /// Two start requests for one content type within 15 minutes.
    StartTooSoon,
    /// A start of what was enabled.
    AlreadyEnabled,
    /// A request before the time that a refusal named was over.
    WhileThrottled,
    /// A token, assertion or secret in a query.
    TokenInQuery,
    /// A client assertion that was used before.
    AssertionReplayed,
}

/// A refusal that told until when to wait.
#[derive(Debug, Clone, Copy)]
struct Told {
    left: DateTime<Utc>,
    until: DateTime<Utc>,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) requests: Vec<Request>,
    pub(super) allowed: HashSet<Violation>,
    found: Vec<(Violation, String)>,
    starts: HashMap<(String, String), DateTime<Utc>>,
    told: HashMap<String, Told>,
}

impl Journal {
    /// Violations that were not allowed, and forgets them.
    pub(super) fn take(&mut self) -> Vec<String> {
        let found = std::mem::take(&mut self.found);
        let unasked = found
            .into_iter()
            .filter(|(kind, _)| !self.allowed.contains(kind));
        unasked
            .map(|(kind, text)| format!("{kind:?}: {text}"))
            .collect()
    }

    /// The kinds found so far and not taken yet.
    pub(super) fn kinds(&self) -> BTreeSet<Violation> {
        self.found.iter().map(|(kind, _)| *kind).collect()
    }

    pub(super) fn accuse(&mut self, kind: Violation, call: &Call, why: &str) {
        self.found
            .push((kind, format!("{} {}: {why}", call.method, call.path)));
    }

    /// A refusal of `key` (a tenant's GUID or a request's key) that said until when.
    pub(super) fn tell(&mut self, key: String, left: DateTime<Utc>, until: DateTime<Utc>) {
        self.told.insert(key, Told { left, until });
    }
}

impl World {
    /// Judges a request as it arrives.
    pub(super) fn judge(&mut self, call: &Call) {
        let mut found = Vec::new();
        let secret_name = |name: &str| {
            let name = name.to_ascii_lowercase();
            name.contains("secret") || name.contains("assertion") || name.ends_with("token")
        };
        if call
            .query
            .iter()
            .any(|(name, value)| secret_name(name) || value.starts_with("eyJ"))
        {
            found.push((
                Violation::TokenInQuery,
                "a secret stands in the query".to_owned(),
            ));
        }
        if call.is_activity() {
            self.judge_identity(call, &mut found);
            self.judge_patience(call, &mut found);
        }
        if matches!(call.operation, Operation::Content | Operation::NextPage) {
            self.judge_window(call, &mut found);
        }
        for (kind, why) in found {
            self.journal.accuse(kind, call, &why);
        }
    }

    fn judge_identity(&self, call: &Call, found: &mut Vec<(Violation, String)>) {
        if !call.param("PublisherIdentifier").is_some_and(is_guid) {
            found.push((
                Violation::NoPublisher,
                "no GUID as PublisherIdentifier".into(),
            ));
        }
        let token = call.token.as_ref().and_then(|token| self.tokens.get(token));
        if let Some(token) = token.filter(|token| token.tenant != call.tenant) {
            found.push((
                Violation::ForeignToken,
                format!("the token is of tenant {}", token.tenant),
            ));
        }
        let is_client = |id: &str| id.eq_ignore_ascii_case(&call.tenant);
        if self
            .tenants
            .values()
            .any(|tenant| is_client(&tenant.spec.client_id))
        {
            found.push((
                Violation::ClientIdAsTenant,
                "a client id in the tenant's place".into(),
            ));
        }
    }

    fn judge_patience(&self, call: &Call, found: &mut Vec<(Violation, String)>) {
        let now = self.now();
        for key in [&call.tenant, &call.key()] {
            let told = self.journal.told.get(key);
            if told.is_some_and(|told| now > told.left + IN_FLIGHT && now < told.until) {
                found.push((
                    Violation::WhileThrottled,
                    "sooner than Retry-After said".into(),
                ));
            }
        }
    }

    fn judge_window(&self, call: &Call, found: &mut Vec<(Violation, String)>) {
        let ends = (call.param("startTime"), call.param("endTime"));
        let (Some(start), Some(end)) = ends else {
            found.push((Violation::OneEnd, format!("the window is {ends:?}")));
            return;
        };
        let (Some(start), Some(end)) = (super::listing::time(start), super::listing::time(end))
        else {
            return;
        };
        if end - start > TimeDelta::hours(24) {
            found.push((Violation::WindowTooLong, format!("{start} to {end}")));
        }
        if self.now() - start > TimeDelta::days(7) + LATE {
            found.push((Violation::WindowTooOld, format!("it begins at {start}")));
        }
    }

    /// Judges a start request that got past authorization.
    pub(super) fn judge_start(&mut self, call: &Call) {
        let now = self.now();
        let content_type = call
            .content_type
            .as_deref()
            .and_then(known)
            .unwrap_or("")
            .to_owned();
        let stream = self.stream(&call.tenant, &content_type);
        if stream.is_some_and(|stream| stream.state == Some(super::Subscription::Enabled)) {
            self.journal.accuse(
                Violation::AlreadyEnabled,
                call,
                &format!("{content_type} was enabled"),
            );
        }
        let before = self
            .journal
            .starts
            .insert((call.tenant.clone(), content_type), now);
        if let Some(gap) = before
            .map(|before| now - before)
            .filter(|gap| *gap < TimeDelta::minutes(15))
        {
            let why = format!("{} s after the last one", gap.num_seconds());
            self.journal.accuse(Violation::StartTooSoon, call, &why);
        }
    }

    /// Writes a request down.
    pub(super) fn record(
        &mut self,
        call: &Call,
        time: DateTime<Utc>,
        status: u16,
        code: Option<String>,
    ) {
        let is_blob = call.operation == Operation::Blob;
        self.journal.requests.push(Request {
            time,
            method: call.method.to_string(),
            path: call.path.clone(),
            query: call.query.clone(),
            operation: call.operation,
            tenant: call.tenant.clone(),
            content_type: call.content_type.clone(),
            content_id: is_blob.then(|| call.content_id.clone()),
            token: call.token.as_deref().map(sha256_hex),
            status,
            code,
        });
    }
}
