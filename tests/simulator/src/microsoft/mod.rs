//! A fake Entra ID and Office 365 Management Activity API, by Microsoft's documents: tokens by
//! secret, certificate and federated token; subscriptions, listings, blobs; faults by a plan; and
//! a judge of what clients do.
//!
//! One address serves both. The API is synchronous, so that a plain `#[test]` can drive a child
//! process against it:
//!
//! ```
//! use simulator::microsoft::{Microsoft, Options, Records, TenantSpec};
//!
//! let microsoft = Microsoft::start(Options::default())?;
//! let tenant = TenantSpec::numbered(1);
//! microsoft.add_tenant(tenant.clone());
//! microsoft.issue(&tenant.tenant_id, "Audit.Exchange", Records::new(7).take(20), microsoft.now());
//! assert_eq!(microsoft.request_count(), 0);
//! # Ok::<(), std::io::Error>(())
//! ```

mod aadsts;
mod activity;
mod apply;
mod body;
mod call;
mod fault;
mod foreign;
mod journal;
mod listing;
mod login;
mod pki;
mod random;
mod records;
mod reply;
mod server;
mod world;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hyper::http::request::Parts;

pub use body::{Body, Part};
pub use call::Operation;
pub use fault::{Action, Duplicate, INJECTED, Plan, RetryAfter, Rule};
pub use foreign::Foreign;
pub use journal::{Request, Violation};
pub use pki::ListenerCertificate;
pub use records::Records;
pub use world::{CONTENT_TYPES, Subscription, TenantSpec};

use call::Call;
use pki::Authority;
use reply::Never;
use server::{Outcome, Server};
use world::World;

/// How the simulator is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// HTTPS (with HTTP/2 by ALPN) in place of plain HTTP.
    pub tls: bool,
    /// What an HTTPS listener shows.
    pub certificate: ListenerCertificate,
    /// Decides ids.
    pub seed: u64,
    /// Contents on a page of a listing.
    pub page_size: usize,
    /// A pause before each answer.
    pub latency: Duration,
    /// Compress for clients that accept gzip.
    pub gzip: bool,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// What it calls itself in the addresses that it hands out, where that is not what it listens on: Microsoft's own
    /// name, in a network where that name leads here.
    pub name: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: false,
            certificate: ListenerCertificate::Good,
            seed: 1,
            page_size: 100,
            latency: Duration::ZERO,
            gzip: true,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            name: None,
        }
    }
}

/// A running simulator; it stops when dropped.
///
/// # Panics
/// On drop, if a client broke Microsoft's rules and the test neither allowed that kind
/// ([`Microsoft::allow`]) nor took the violations ([`Microsoft::violations`]).
#[derive(Debug)]
pub struct Microsoft {
    shared: Arc<Shared>,
    authority: Authority,
    url: String,
    _server: Server,
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    arrived: Condvar,
    latency: Duration,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Microsoft {
    /// Starts listening.
    ///
    /// # Errors
    /// The address or a runtime cannot be had, or a certificate cannot be made.
    pub fn start(options: Options) -> io::Result<Self> {
        let authority = Authority::new("Simulator authority")?;
        let (listener, address) = Server::bind(options.bind)?;
        let (url, tls) = if options.tls {
            let url = format!("https://localhost:{}", address.port());
            (url, Some(authority.listener(options.certificate)?))
        } else {
            (format!("http://{address}"), None)
        };
        let url = options.name.map_or(url, str::to_owned);
        let world = World::new(url.clone(), options.seed, options.page_size, options.gzip);
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            arrived: Condvar::new(),
            latency: options.latency,
        });
        let handler = {
            let shared = Arc::clone(&shared);
            move |parts, body| handle(Arc::clone(&shared), parts, body)
        };
        Ok(Self {
            _server: Server::serve(listener, tls, handler)?,
            shared,
            authority,
            url,
        })
    }

    /// `http://127.0.0.1:PORT`, `https://localhost:PORT` or [`Options::name`]; both the login and the management URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the simulator's authority.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }

    /// Writes [`Self::ca_pem`] to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_ca(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.ca_pem())?;
        // Whatever the creator's mask: what others could write is trusted by nobody.
        std::fs::set_permissions(path, Permissions::from_mode(0o644))
    }

    fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Registers a tenant with its application, or replaces what was known of it.
    pub fn add_tenant(&self, spec: TenantSpec) {
        self.shared.world().add_tenant(spec);
    }

    /// Changes a tenant's registration (a rotated secret, a lost role) and leaves its contents.
    pub fn change_tenant(&self, tenant_id: &str, change: impl FnOnce(&mut TenantSpec)) {
        let mut world = self.shared.world();
        if let Some(tenant) = world.tenants.get_mut(&tenant_id.to_ascii_lowercase()) {
            change(&mut tenant.spec);
        }
    }

    /// A new blob of these records (raw JSON each), available from `created` on; its content id.
    ///
    /// # Panics
    /// The tenant or the content type is not known.
    pub fn issue(
        &self,
        tenant_id: &str,
        content_type: &str,
        records: impl IntoIterator<Item = impl AsRef<[u8]>>,
        created: DateTime<Utc>,
    ) -> String {
        let (mut body, mut commas) = (vec![b'['], Vec::new());
        for (n, record) in records.into_iter().enumerate() {
            if n > 0 {
                commas.push(body.len());
                body.push(b',');
            }
            body.extend_from_slice(record.as_ref());
        }
        body.push(b']');
        let middle = commas.get(commas.len() / 2).copied();
        self.put(tenant_id, content_type, body.into(), middle, created)
    }

    /// A new blob with this body, which need not be an array; its content id.
    ///
    /// # Panics
    /// The tenant or the content type is not known.
    pub fn issue_raw(
        &self,
        tenant_id: &str,
        content_type: &str,
        body: impl Into<Body>,
        created: DateTime<Utc>,
    ) -> String {
        self.put(tenant_id, content_type, body.into(), None, created)
    }

    fn put(
        &self,
        tenant_id: &str,
        content_type: &str,
        body: Body,
        middle: Option<usize>,
        created: DateTime<Utc>,
    ) -> String {
        let tenant = tenant_id.to_ascii_lowercase();
        let id = self
            .shared
            .world()
            .issue(&tenant, content_type, body, middle, created);
        let Some(id) = id else {
            panic!("no tenant {tenant_id} or no content type {content_type}: add the tenant first");
        };
        id
    }

    /// The simulator's time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.world().now()
    }

    /// Sets the time, which goes on from there.
    pub fn set_clock(&self, now: DateTime<Utc>) {
        self.shared.world().set_clock(now);
    }

    /// Moves the time ahead.
    pub fn advance(&self, by: Duration) {
        self.shared
            .world()
            .advance(TimeDelta::from_std(by).unwrap_or_default());
    }

    /// Replaces the plan of faults; `Plan::default()` ends them all, a running throttle too.
    pub fn faults(&self, plan: Plan) {
        let mut world = self.shared.world();
        world.plan = plan;
        world.throttled.clear();
    }

    /// How often each rule of the plan has struck, in the plan's order.
    #[must_use]
    pub fn struck(&self) -> Vec<u32> {
        self.shared.world().plan.struck()
    }

    /// Every token that was given out, and every assertion that was presented: what nobody else should see.
    #[must_use]
    pub fn credentials(&self) -> Vec<String> {
        let world = self.shared.world();
        let tokens = world.tokens.keys();
        tokens.chain(&world.assertions).cloned().collect()
    }

    /// Everything asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.world().journal.requests.clone()
    }

    /// How much was asked so far.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.shared.world().journal.requests.len()
    }

    /// Waits until the requests so far satisfy `enough`; whether they did in time.
    pub fn wait_for(&self, timeout: Duration, enough: impl Fn(&[Request]) -> bool) -> bool {
        let world = self.shared.world();
        let waited = self
            .shared
            .arrived
            .wait_timeout_while(world, timeout, |world| !enough(&world.journal.requests));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Takes the violations found so far, `Kind: METHOD path: why` each, without the allowed.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.world().journal.take()
    }

    /// The kinds of violations found and not taken yet, the allowed among them.
    #[must_use]
    pub fn violation_kinds(&self) -> BTreeSet<Violation> {
        self.shared.world().journal.kinds()
    }

    /// Does not hold this kind against the client.
    pub fn allow(&self, kind: Violation) {
        self.shared.world().journal.allowed.insert(kind);
    }

    /// A tenant's subscriptions, by content type.
    #[must_use]
    pub fn subscriptions(&self, tenant_id: &str) -> Vec<(String, Subscription)> {
        let world = self.shared.world();
        let streams = world
            .tenants
            .get(&tenant_id.to_ascii_lowercase())
            .map(|tenant| &tenant.streams);
        let states = streams.into_iter().flatten();
        states
            .filter_map(|(name, stream)| Some(((*name).to_owned(), stream.state?)))
            .collect()
    }

    /// Sets a subscription's state as if it were so from long ago; `None` = never started.
    pub fn set_subscription(
        &self,
        tenant_id: &str,
        content_type: &str,
        state: Option<Subscription>,
    ) {
        let mut world = self.shared.world();
        if let Some(stream) = world.stream(&tenant_id.to_ascii_lowercase(), content_type) {
            stream.state = state;
        }
    }

    /// Enables every content type of a tenant.
    pub fn subscribe_all(&self, tenant_id: &str) {
        for content_type in CONTENT_TYPES {
            self.set_subscription(tenant_id, content_type, Some(Subscription::Enabled));
        }
    }
}

impl Drop for Microsoft {
    fn drop(&mut self) {
        let violations = self.violations();
        assert!(
            violations.is_empty() || std::thread::panicking(),
            "requests against Microsoft's rules:\n{}",
            violations.join("\n")
        );
    }
}

async fn handle(shared: Arc<Shared>, parts: Parts, body: Bytes) -> Outcome {
    let mut call = Call::new(
        parts.method,
        &parts.uri,
        parts.version,
        &parts.headers,
        &body,
    );
    if !shared.latency.is_zero() {
        // The runtime's own timer tells whole milliseconds, and comes one and a half late.
        let latency = shared.latency;
        let waited = tokio::task::spawn_blocking(move || std::thread::sleep(latency));
        waited.await.unwrap_or_default();
    }
    let (reply, now, gzip) = {
        let mut world = shared.world();
        if let Some((content, _)) = world.find(&call.tenant, &call.content_id) {
            call.content_type = Some(content.content_type.to_owned());
        }
        let now = world.now();
        world.judge(&call);
        let reply = world.answer(&call);
        world.record(&call, now, reply.status, reply.code.clone());
        (reply, now, world.gzip && call.accepts_gzip)
    };
    shared.arrived.notify_all();
    match reply.never {
        Some(Never::Reset) => None,
        Some(Never::Stall) => pending().await,
        None => Some(reply.travel(now, gzip)),
    }
}
