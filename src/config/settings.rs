//! The checked settings: every value is present, in range and in its own type.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use reqwest::Url;

/// Everything that the configuration says, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[wazuh]`
    pub wazuh: Wazuh,
    /// `[state]`
    pub state: State,
    /// `[log]`
    pub log: Log,
    /// `[collect]`
    pub collect: Collect,
    /// `[http]`
    pub http: Http,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[[tenant]]` and `tenants.d`, disabled ones included, in the order in which they were read.
    pub tenants: Vec<Arc<Tenant>>,
}

/// Where events go and how.
#[derive(Debug, Clone)]
pub struct Wazuh {
    /// Wazuh's home directory.
    pub home: PathBuf,
    /// The queue socket, if the operator names one; otherwise it is looked for below `home`.
    pub queue: Option<PathBuf>,
    /// The location in the datagram's header; holds neither `:` nor `|`.
    pub location: String,
    /// The pace of sending.
    pub events_per_second: EventsPerSecond,
    /// Whether to ask Wazuh what it has processed (`auto`) or not (`off`).
    pub acknowledge: bool,
    /// How long a full or starting queue may block before the run gives up for now.
    pub send_timeout: Duration,
    /// `o365_wodle` beside `office365`: always, never, or (`None`, "auto") before Wazuh 5.
    pub annotate: Option<bool>,
    /// Whether arrays of name and value appear once more as objects.
    pub flatten: bool,
}

/// The pace of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsPerSecond {
    /// By acknowledgement where there is any, 100 a second elsewhere.
    Auto,
    /// As fast as the socket takes them.
    Unlimited,
    /// A fixed number of events a second.
    Fixed(u32),
}

/// Where the ledger is.
#[derive(Debug, Clone)]
pub struct State {
    /// The ledger's file.
    pub ledger: PathBuf,
}

/// The log file.
#[derive(Debug, Clone)]
pub struct Log {
    /// The file, or `None` for no log file.
    pub file: Option<PathBuf>,
    /// The least severe level that is written.
    pub level: log::LevelFilter,
    /// Text for people or JSON for programs.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object a line.
    Json,
}

/// How collection goes.
#[derive(Debug, Clone)]
pub struct Collect {
    /// How far behind the marker each listing starts.
    pub overlap: Duration,
    /// How often everything down to the floor is listed again; zero: never.
    pub resweep: Duration,
    /// A run ends itself in order by then.
    pub deadline: Duration,
    /// How much is asked for at a time over all tenants: twice as many blobs, at least one tenant's `concurrency`; of other
    /// requests a quarter more.
    pub tenants_in_parallel: usize,
    /// How long record ids are remembered.
    pub deduplicate_for: Duration,
    /// Whether matched values in DLP records leave as keyed hashes.
    pub redact_dlp: bool,
    /// After how long a stream's silence is told; zero: never.
    pub silent_after: Duration,
}

/// How Microsoft is reached.
#[derive(Debug, Clone)]
pub struct Http {
    /// The forward proxy's URL, without password.
    pub proxy: Option<Url>,
    /// The file with the proxy's password.
    pub proxy_password_file: Option<PathBuf>,
    /// Hosts that are reached without the proxy.
    pub no_proxy: Vec<String>,
    /// A PEM file with certification authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// How long an answer may take to begin, and how long its body may make no progress.
    pub request_timeout: Duration,
    /// How often a request is repeated after a passing fault.
    pub retries: u32,
}

/// Where figures for Prometheus go.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// The text file for `node_exporter`, if any.
    pub textfile: Option<PathBuf>,
}

/// One Entra tenant, with what `[collect]` says where the tenant says nothing.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The operator's name for it: `[a-z0-9-]{1,64}`.
    pub name: String,
    /// The directory (tenant) ID, a GUID in lower case.
    pub tenant_id: String,
    /// The application (client) ID, a GUID in lower case.
    pub client_id: String,
    /// How the application signs in.
    pub authentication: Authentication,
    /// Told by the customer; a health event comes before it.
    pub client_secret_expires: Option<NaiveDate>,
    /// Microsoft's cloud.
    pub cloud: Cloud,
    /// Overrides the cloud's login host: scheme, host and port, no trailing slash.
    pub login_url: Option<String>,
    /// Overrides the cloud's management host: scheme, host and port, no trailing slash.
    pub management_url: Option<String>,
    /// The content types to collect, each once.
    pub content_types: Vec<ContentType>,
    /// The collecting organisation's tenant GUID, sent with each request.
    pub publisher_identifier: String,
    /// Blobs, and listings, at a time.
    pub concurrency: usize,
    /// The budget of requests; 0: no limit.
    pub requests_per_minute: u32,
    /// How far back the first run of a stream goes.
    pub initial_lookback: Duration,
    /// A record passes if it matches any of these, or if there is none …
    pub include: Vec<Filter>,
    /// … and none of these.
    pub exclude: Vec<Filter>,
    /// Go into `o365_wodle.labels` of each event.
    pub labels: BTreeMap<String, String>,
    /// Whether `run` collects it.
    pub enabled: bool,
}

impl Tenant {
    /// Its content types, or those of them that are among `only` if that names any.
    pub(crate) fn content_types_among(&self, only: &[ContentType]) -> Vec<ContentType> {
        let wanted = |one: &ContentType| only.is_empty() || only.contains(one);
        self.content_types.iter().copied().filter(wanted).collect()
    }
}

/// How an application signs in to Entra ID.
#[derive(Debug, Clone)]
pub enum Authentication {
    /// With a client secret.
    Secret(Secret),
    /// With a certificate's key.
    Certificate {
        /// A PEM or PFX file.
        certificate_file: PathBuf,
        /// The key, where it is not in `certificate_file`.
        private_key_file: Option<PathBuf>,
        /// The password of the key or PFX file.
        password_file: Option<PathBuf>,
        /// Whether the assertion is signed with RS256 (and `x5t`) instead of PS256 (and `x5t#S256`).
        rs256: bool,
    },
    /// With another identity provider's token.
    FederatedToken(PathBuf),
}

/// Where a client secret comes from.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A file.
    File(PathBuf),
    /// The output of a command: an absolute path and its arguments.
    Command(Vec<String>),
    /// A systemd credential's name.
    Credential(String),
}

/// A filter on records: all conditions that are present must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Glob on `Operation`, regardless of case.
    pub operation: Option<String>,
    /// Glob on `Workload`, regardless of case.
    pub workload: Option<String>,
    /// Glob on `UserId`, regardless of case.
    pub user_id: Option<String>,
    /// Any of these numbers as `RecordType`.
    pub record_type: Option<Vec<i64>>,
}

/// One of Microsoft's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// The worldwide commercial cloud.
    Commercial,
    /// The US government community cloud.
    Gcc,
    /// GCC High.
    GccHigh,
    /// The US Department of Defense.
    Dod,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// All of them, each with its name in the configuration.
    pub const ALL: [(&str, Self); 5] = [
        ("commercial", Self::Commercial),
        ("gcc", Self::Gcc),
        ("gcc-high", Self::GccHigh),
        ("dod", Self::Dod),
        ("china", Self::China),
    ];

    /// The name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, cloud)| *cloud == self)
            .map_or("", |(name, _)| name)
    }
}

/// A content type of the Activity API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentType {
    /// `Audit.AzureActiveDirectory`
    AzureActiveDirectory,
    /// `Audit.Exchange`
    Exchange,
    /// `Audit.SharePoint`
    SharePoint,
    /// `Audit.General`
    General,
    /// `DLP.All`
    Dlp,
}

impl ContentType {
    /// All of them, in Microsoft's order.
    pub const ALL: [Self; 5] = [
        Self::AzureActiveDirectory,
        Self::Exchange,
        Self::SharePoint,
        Self::General,
        Self::Dlp,
    ];

    /// The name in requests, events and the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            Self::Exchange => "Audit.Exchange",
            Self::SharePoint => "Audit.SharePoint",
            Self::General => "Audit.General",
            Self::Dlp => "DLP.All",
        }
    }

    /// The content type of that name; case does not matter (some write `DLP.ALL`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|content_type| content_type.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
