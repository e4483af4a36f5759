//! What there is: tenants, their subscriptions and contents, tokens, and the time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::apply::Throttled;
use super::body::{Body, gzip};
use super::fault::Plan;
use super::journal::Journal;
use super::random::Random;

/// The content types that the API knows.
pub const CONTENT_TYPES: [&str; 5] = [
    "Audit.AzureActiveDirectory",
    "Audit.Exchange",
    "Audit.SharePoint",
    "Audit.General",
    "DLP.All",
];

/// A tenant with one application registered in it.
#[derive(Debug, Clone)]
pub struct TenantSpec {
    /// Its GUID.
    pub tenant_id: String,
    /// A verified domain, which the token endpoint takes as well.
    pub domain: Option<String>,
    /// The application's GUID.
    pub client_id: String,
    /// The client secret's value.
    pub secret: String,
    /// When the secret ends (AADSTS7000222 from then on).
    pub secret_expires: Option<DateTime<Utc>>,
    /// The roles in its tokens; by default both of the Activity API.
    pub roles: Vec<String>,
    /// Registered certificates, DER or PEM.
    pub certificates: Vec<Vec<u8>>,
    /// Tokens of a foreign identity provider that sign in.
    pub federated_tokens: Vec<String>,
    /// The application is disabled (AADSTS7000112).
    pub disabled: bool,
    /// Unified audit logging; off, the API says that the tenant does not exist.
    pub audit_log: bool,
}

impl TenantSpec {
    /// The n-th tenant of a series: stable GUIDs, a secret with characters that need escaping.
    #[must_use]
    pub fn numbered(n: u64) -> Self {
        let mut random = Random::new(n ^ 0x7e4a);
        Self {
            tenant_id: random.guid(),
            domain: Some(format!("tenant{n}.example")),
            client_id: random.guid(),
            secret: format!("s3cret~{n}.+/=&%{:x}", random.next()),
            secret_expires: None,
            roles: vec!["ActivityFeed.Read".into(), "ActivityFeed.ReadDlp".into()],
            certificates: Vec::new(),
            federated_tokens: Vec::new(),
            disabled: false,
            audit_log: true,
        }
    }
}

/// The state of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription {
    /// `enabled`
    Enabled,
    /// `disabled`
    Disabled,
}

/// A blob and what the listing says of it.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) id: String,
    pub(super) content_type: &'static str,
    pub(super) created: DateTime<Utc>,
    pub(super) expires: DateTime<Utc>,
    pub(super) body: Body,
    pub(super) gzip: Option<Bytes>,
    /// Where the comma in the middle of the array stands.
    pub(super) middle: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) state: Option<Subscription>,
    pub(super) last_start: Option<DateTime<Utc>>,
    pub(super) contents: BTreeMap<(DateTime<Utc>, u64), Arc<Blob>>,
}

#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) spec: TenantSpec,
    pub(super) streams: BTreeMap<&'static str, Stream>,
    pub(super) contents: HashMap<String, Arc<Blob>>,
    /// How often each content stood in a window that was listed.
    pub(super) listed: HashMap<String, u32>,
    /// Names of assertions that were used.
    pub(super) assertions: HashSet<String>,
}

/// An access token that was given out.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) tenant: String,
    pub(super) resource: String,
    pub(super) roles: Vec<String>,
    pub(super) expires: DateTime<Utc>,
}

/// An entry of a listing.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) uri: String,
    pub(super) created: DateTime<Utc>,
    pub(super) expires: DateTime<Utc>,
}

/// What a page token stands for: a listing as it was when its first page was asked for.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) tenant: String,
    pub(super) items: Arc<Vec<Item>>,
    pub(super) offset: usize,
    /// This page was served before, as [`super::fault::Action::RepeatedPage`] wants it.
    pub(super) repeated: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) url: String,
    pub(super) seed: u64,
    pub(super) page_size: usize,
    pub(super) gzip: bool,
    pub(super) tenants: HashMap<String, Tenant>,
    pub(super) tokens: HashMap<String, Token>,
    /// Every assertion that was presented.
    pub(super) assertions: HashSet<String>,
    pub(super) pages: HashMap<String, Page>,
    pub(super) plan: Plan,
    pub(super) throttled: HashMap<String, Throttled>,
    pub(super) journal: Journal,
    offset: TimeDelta,
    counter: u64,
}

impl World {
    pub(super) fn new(url: String, seed: u64, page_size: usize, gzip: bool) -> Self {
        Self {
            url,
            seed,
            page_size: page_size.max(1),
            gzip,
            tenants: HashMap::new(),
            tokens: HashMap::new(),
            assertions: HashSet::new(),
            pages: HashMap::new(),
            plan: Plan::default(),
            throttled: HashMap::new(),
            journal: Journal::default(),
            offset: TimeDelta::zero(),
            counter: 0,
        }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.offset
    }

    pub(super) fn set_clock(&mut self, now: DateTime<Utc>) {
        self.offset = now - Utc::now();
    }

    pub(super) fn advance(&mut self, by: TimeDelta) {
        self.offset += by;
    }

    /// A number that was not given before.
    pub(super) fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A GUID that was not given before.
    pub(super) fn fresh_guid(&mut self) -> String {
        let n = self.fresh();
        Random::new(self.seed ^ n << 20).guid()
    }

    /// The tenant's GUID for a GUID or a verified domain.
    pub(super) fn resolve(&self, name: &str) -> Option<String> {
        if self.tenants.contains_key(name) {
            return Some(name.to_owned());
        }
        let has_domain = |tenant: &&Tenant| {
            let domain = tenant.spec.domain.as_deref();
            domain.is_some_and(|domain| domain.eq_ignore_ascii_case(name))
        };
        let tenant = self.tenants.values().find(has_domain)?;
        Some(tenant.spec.tenant_id.to_ascii_lowercase())
    }

    pub(super) fn add_tenant(&mut self, spec: TenantSpec) {
        let streams = CONTENT_TYPES.map(|content_type| (content_type, Stream::default()));
        let tenant = Tenant {
            streams: streams.into(),
            contents: HashMap::new(),
            listed: HashMap::new(),
            assertions: HashSet::new(),
            spec,
        };
        let id = tenant.spec.tenant_id.to_ascii_lowercase();
        self.tenants.insert(id, tenant);
    }

    pub(super) fn stream(&mut self, tenant: &str, content_type: &str) -> Option<&mut Stream> {
        let content_type = known(content_type)?;
        self.tenants.get_mut(tenant)?.streams.get_mut(content_type)
    }

    /// A new content; its id, or `None` if there is no such tenant or content type. While the subscription is disabled Microsoft
    /// keeps nothing.
    pub(super) fn issue(
        &mut self,
        tenant: &str,
        content_type: &str,
        body: Body,
        middle: Option<usize>,
        created: DateTime<Utc>,
    ) -> Option<String> {
        let number = self.fresh();
        let content_type = known(content_type)?;
        // As precise as a listing tells it: a window may end where a content begins.
        let created = DateTime::from_timestamp_millis(created.timestamp_millis())?;
        let stamp = created.format("%Y%m%d%H%M%S%3f");
        let shard = content_type.to_ascii_lowercase().replace('.', "_");
        let salt = Random::new(self.seed ^ number).next();
        let content = Arc::new(Blob {
            id: format!("{stamp}{number:06}${stamp}{number:06}${salt:016x}{shard}$na0022"),
            content_type,
            created,
            expires: created + TimeDelta::days(7),
            gzip: if self.gzip {
                body.whole().map(|bytes| gzip(bytes))
            } else {
                None
            },
            body,
            middle,
        });
        let id = content.id.clone();
        let tenant = self.tenants.get_mut(tenant)?;
        let stream = tenant.streams.get_mut(content_type)?;
        if stream.state != Some(Subscription::Disabled) {
            tenant.contents.insert(id.clone(), Arc::clone(&content));
            stream.contents.insert((created, number), content);
        }
        Some(id)
    }

    /// The contents of a stream created in `[from, to)`, in order of availability.
    pub(super) fn contents(
        &self,
        tenant: &str,
        content_type: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Vec<Arc<Blob>> {
        let range = (
            Bound::Included((from, 0)),
            Bound::Excluded((to.max(from), 0)),
        );
        let streams = self.tenants.get(tenant).map(|tenant| &tenant.streams);
        streams
            .and_then(|streams| streams.get(content_type))
            .map(|stream| {
                stream
                    .contents
                    .range(range)
                    .map(|(_, content)| Arc::clone(content))
                    .collect()
            })
            .unwrap_or_default()
    }
}

/// The content type in its own spelling.
pub(super) fn known(content_type: &str) -> Option<&'static str> {
    CONTENT_TYPES
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(content_type))
}

/// Whether it is spelt as a GUID.
pub(super) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// SHA-256 in hex.
pub(super) fn sha256_hex(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let hex: Vec<_> = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.concat()
}
