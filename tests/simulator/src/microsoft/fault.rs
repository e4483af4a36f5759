//! What goes wrong, and when: a plan of rules as data. `apply` carries it out.

use std::collections::HashMap;
use std::time::Duration;

use super::call::{Call, Operation};
use super::random::chosen;

/// The `Id` of every element that a fault puts into a blob: nobody issued it, an oracle should
/// not expect it.
pub const INJECTED: &str = "00000000-dead-4bad-8bad-injected0000";

/// What a rule does to the requests that it strikes.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// This status and body in place of the answer; see [`Action::af`] and [`Action::aadsts`].
    Status {
        /// HTTP status.
        status: u16,
        /// The body; JSON if it begins like it, else HTML or text.
        body: String,
    },
    /// AF429 in place of the answer.
    Throttle {
        /// 429, or 403 as in Microsoft's example.
        status: u16,
        /// The header with it.
        retry_after: RetryAfter,
        /// How long every other request of the tenant is refused as well.
        tenant_wide: Option<Duration>,
    },
    /// A page of HTML with status 200, as a proxy or a gateway sends it.
    Html200,
    /// Status 200 and no body.
    Empty200,
    /// Status 200 and `{"error":…}` where an array is due.
    ErrorObject200,
    /// 401 and `{"Message":"Authorization has been denied for this request."}`.
    Message401,
    /// An array that breaks JSON's grammar in its first element, in place of the answer.
    WrongJson,
    /// `Tenant … does not exist` with a stack trace: unified audit logging is off.
    AuditLogOff,
    /// AF20023 in place of the answer; the subscription itself stays as it is.
    SubscriptionDisabled,
    /// The refusal of a subscription start within 15 minutes.
    StartRefused,
    /// 302 to this URL.
    Redirect(String),

    /// The connection is reset before an answer.
    Reset,
    /// No answer, and the connection stays open.
    StallBeforeHeaders,
    /// The body stops half-way, and the connection stays open.
    StallMidBody,
    /// The connection breaks after so many percent of the Content-Length.
    TruncateLength(u8),
    /// The connection breaks after so many percent of a chunked body.
    TruncateChunked(u8),
    /// A transfer without fault whose JSON ends after so many percent.
    CutJson(u8),
    /// So many bytes at a time, with this pause after each.
    Drip(usize, Duration),

    /// An element with a syntax error amid good ones.
    BadElement,
    /// `null` as an element.
    NullElement,
    /// A number, a string and an array as elements.
    NonObjectElement,
    /// A record with bytes that are not UTF-8 in a string.
    InvalidUtf8,
    /// A record with half a surrogate pair.
    LoneSurrogate,
    /// A record nested so deep.
    Depth(usize),
    /// A record with a string of so many bytes.
    HugeString(u64),
    /// A gzip body that unpacks to so many mebibytes of blanks, sent to whoever accepts gzip.
    GzipBomb(u64),
    /// White space without end behind the array's bracket.
    EndlessBody,

    /// Tokens live so long.
    TokenLifetime(Duration),
    /// Tokens carry no roles.
    TokenWithoutRoles,
    /// The `Date` header is off by so many seconds.
    ClockSkew(i64),

    /// So many contents in a listing that are gone when fetched, written as they are sent.
    ManyContents(u64),
    /// The next page is on another host (scheme, host and port of this URL).
    ForeignNextPage(String),
    /// The next page is this page.
    PageLoop,
    /// The page comes once more, as a page of its own, before the walk goes on.
    RepeatedPage,
    /// The link to the next page carries a token that AF20031 refuses.
    BadNextPage,

    /// Contents are listed only from their n-th listing on (1 = at once).
    LateContent(u32),
    /// Contents are listed more than once.
    DuplicateContents(Duplicate),
    /// Contents are cut in two and named anew for each start time that is not their own midnight.
    PartialBlobs,
    /// Contents carry the full hour as contentCreated, so that many are equal.
    EqualContentCreated,
    /// Contents have expired before they are fetched (AF20051).
    ContentExpired,
    /// Contents are listed, and gone when fetched (404, AF20050).
    ContentVanished,
    /// The contentUri is on another host (scheme, host and port of this URL).
    ForeignContentUri(String),
}

/// The Retry-After header of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// Not there.
    None,
    /// A number of seconds.
    Seconds(u32),
    /// An HTTP date so many seconds ahead.
    Date(u32),
}

/// Where a content is listed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicate {
    /// Right behind itself.
    OnPage,
    /// At the end of the listing, on another page if there are any.
    AcrossPages,
    /// In windows that it does not belong to.
    InWindows,
}

impl Action {
    /// An error of the Activity API.
    #[must_use]
    pub fn af(status: u16, code: &str, message: &str) -> Self {
        Self::Status {
            status,
            body: super::activity::error_body(code, message),
        }
    }

    /// An error of the token endpoint, by its number: `Action::aadsts(7_000_215)`.
    #[must_use]
    pub fn aadsts(code: u32) -> Self {
        let (status, body) = super::aadsts::error(code, "as the fault plan wants it");
        Self::Status { status, body }
    }

    /// Whether it strikes contents in listings rather than single requests.
    fn strikes_contents(&self) -> bool {
        matches!(
            self,
            Self::LateContent(_)
                | Self::DuplicateContents(_)
                | Self::PartialBlobs
                | Self::EqualContentCreated
                | Self::ContentExpired
                | Self::ContentVanished
                | Self::ForeignContentUri(_)
        )
    }
}

/// An action and what it strikes. Without conditions: every request of the operation, for ever.
/// Conditions add up.
///
/// Actions on contents ([`Action::LateContent`] to [`Action::ForeignContentUri`]) look only at
/// tenant, content type and share, and a share is then one of contents.
#[derive(Debug, Clone)]
pub struct Rule {
    operation: Option<Operation>,
    tenant: Option<String>,
    content_type: Option<String>,
    content: Option<String>,
    start: Option<String>,
    share: Option<f64>,
    attempts: Option<u32>,
    from: u32,
    times: Option<u32>,
    action: Action,
}

impl Rule {
    /// The action on requests of one operation.
    #[must_use]
    pub fn on(operation: Operation, action: Action) -> Self {
        Self {
            operation: Some(operation),
            ..Self::any(action)
        }
    }

    /// The action on every request (or on contents).
    #[must_use]
    pub fn any(action: Action) -> Self {
        Self {
            operation: None,
            tenant: None,
            content_type: None,
            content: None,
            start: None,
            share: None,
            attempts: None,
            from: 1,
            times: None,
            action,
        }
    }

    /// Only for this tenant, by its GUID.
    #[must_use]
    pub fn tenant(mut self, tenant_id: &str) -> Self {
        self.tenant = Some(tenant_id.to_ascii_lowercase());
        self
    }

    /// Only for this content type.
    #[must_use]
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.content_type = Some(content_type.to_owned());
        self
    }

    /// Only this content, by the id under which it was issued.
    #[must_use]
    pub fn content(mut self, content_id: &str) -> Self {
        self.content = Some(content_id.to_owned());
        self
    }

    /// Only listings whose `startTime` begins so, such as `2026-03-14`.
    #[must_use]
    pub fn start(mut self, time: &str) -> Self {
        self.start = Some(time.to_owned());
        self
    }

    /// Only a share (0 to 1) of the distinct requests, the same ones for the same seed.
    #[must_use]
    pub fn share(mut self, p: f64) -> Self {
        self.share = Some(p);
        self
    }

    /// Only the first so many attempts of each distinct request: a retry then succeeds.
    #[must_use]
    pub fn attempts(mut self, first: u32) -> Self {
        self.attempts = Some(first);
        self
    }

    /// Only the n-th request that matches, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u32) -> Self {
        self.from = n;
        self.times = Some(1);
        self
    }

    /// Only from the n-th request that matches on, counted from 1.
    #[must_use]
    pub fn from(mut self, n: u32) -> Self {
        self.from = n;
        self
    }

    /// Only so many requests altogether.
    #[must_use]
    pub fn times(mut self, n: u32) -> Self {
        self.times = Some(n);
        self
    }

    fn matches(&self, tenant: &str, content_type: Option<&str>, content: &str) -> bool {
        self.content
            .as_deref()
            .is_none_or(|wanted| wanted == content)
            && self.tenant.as_deref().is_none_or(|wanted| wanted == tenant)
            && self.content_type.as_deref().is_none_or(|wanted| {
                content_type.is_some_and(|got| got.eq_ignore_ascii_case(wanted))
            })
    }
}

/// Rules in order. Of the actions that strike one request, the first that takes the answer's
/// place wins; those that distort an answer add up.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    seed: u64,
    rules: Vec<(Rule, Tally)>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    matched: u32,
    attempts: HashMap<String, u32>,
    struck: u32,
}

impl Plan {
    /// No faults yet; `seed` decides the shares.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            rules: Vec::new(),
        }
    }

    /// One more rule.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push((rule, Tally::default()));
        self
    }

    /// How often each rule has struck so far: a test that asks for a fault should see it happen.
    /// Rules on contents count the listings that they changed.
    #[must_use]
    pub fn struck(&self) -> Vec<u32> {
        self.rules.iter().map(|(_, tally)| tally.struck).collect()
    }

    /// The actions that strike this request.
    pub(super) fn strike(&mut self, call: &Call) -> Vec<Action> {
        let mut actions = Vec::new();
        let key = call.key();
        let seed = self.seed;
        for (index, (rule, tally)) in self.rules.iter_mut().enumerate() {
            if rule.action.strikes_contents()
                || rule
                    .operation
                    .is_some_and(|wanted| wanted != call.operation)
                || !rule.matches(&call.tenant, call.content_type.as_deref(), &call.content_id)
                || rule.start.as_ref().is_some_and(|start| !call.starts(start))
                || rule
                    .share
                    .is_some_and(|p| !chosen(seed ^ index as u64, &key, p))
            {
                continue;
            }
            tally.matched += 1;
            if tally.matched < rule.from || rule.times.is_some_and(|n| tally.struck >= n) {
                continue;
            }
            if let Some(first) = rule.attempts {
                let attempt = tally.attempts.entry(key.clone()).or_default();
                *attempt += 1;
                if *attempt > first {
                    continue;
                }
            }
            tally.struck += 1;
            actions.push(rule.action.clone());
        }
        actions
    }

    /// Whether any rule strikes contents.
    pub(super) fn touches_contents(&self) -> bool {
        self.rules
            .iter()
            .any(|(rule, _)| rule.action.strikes_contents())
    }

    /// The actions on one content in a listing or at its fetch.
    pub(super) fn on_content(&mut self, tenant: &str, content_type: &str, id: &str) -> Vec<Action> {
        let seed = self.seed;
        let mut actions = Vec::new();
        for (index, (rule, tally)) in self.rules.iter_mut().enumerate() {
            if rule.action.strikes_contents()
                && rule.matches(tenant, Some(content_type), id)
                && rule
                    .share
                    .is_none_or(|p| chosen(seed ^ index as u64, id, p))
            {
                tally.struck += 1;
                actions.push(rule.action.clone());
            }
        }
        actions
    }
}
