//! From what is written to what the program works with: defaults, ranges and shapes of all but the
//! tenants.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use toml::Value;

use super::authority::authorities;
use super::load::Looks;
use super::ownership::Kind;
use super::raw;
use super::scope::{DAY, Scope};
use super::settings::{
    Collect, ContentType, EventsPerSecond, Http, Log, LogFormat, Metrics, Settings, State, Wazuh,
};

/// What a socket's address has room for.
const LONGEST_SOCKET: usize = 107;

const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_hours(7 * 24);
const MONTH: Duration = Duration::from_hours(30 * 24);

/// What `[collect]` says for the tenants that say nothing.
pub(super) struct Inherited {
    pub(super) content_types: Vec<ContentType>,
    pub(super) publisher_identifier: Option<String>,
    pub(super) concurrency: usize,
    pub(super) requests_per_minute: u32,
    pub(super) initial_lookback: Duration,
}

/// Everything but the tenants.
///
pub(super) fn settings(
    scope: &mut Scope<'_>,
    raw: raw::Settings,
    looks: Looks,
) -> (Settings, Inherited) {
    let (collect, inherited) = collect(&mut scope.at("collect"), raw.collect);
    let settings = Settings {
        wazuh: wazuh(&mut scope.at("wazuh"), raw.wazuh),
        state: State {
            ledger: scope
                .at("state")
                .written("ledger", raw.state.ledger, looks)
                .unwrap_or_else(|| "/var/lib/o365-wodle/ledger.db".into()),
        },
        log: log(&mut scope.at("log"), raw.log, looks),
        collect,
        http: http(&mut scope.at("http"), raw.http, looks >= Looks::Aside),
        metrics: Metrics {
            textfile: scope
                .at("metrics")
                .written("textfile", raw.metrics.textfile, looks),
        },
        tenants: Vec::new(),
    };
    (settings, inherited)
}

fn wazuh(scope: &mut Scope<'_>, raw: raw::Wazuh) -> Wazuh {
    let home = scope
        .path("home", raw.home)
        .unwrap_or_else(|| "/var/ossec".into());
    let location = raw.location.unwrap_or_else(|| "office365".to_owned());
    let breaks_header = |c: char| c == ':' || c == '|' || c.is_control();
    if location.is_empty()
        || location.len() > 256
        || location.starts_with('[')
        || location.contains(breaks_header)
    {
        scope.refuse(
            "location",
            "would break the header of each event",
            "write 1 to 256 bytes without : and | that do not start with [, such as \"office365\"",
        );
    }
    let events_per_second = match raw.events_per_second {
        None => EventsPerSecond::Auto,
        Some(Value::String(word)) if word == "auto" => EventsPerSecond::Auto,
        Some(Value::Integer(0)) => EventsPerSecond::Unlimited,
        Some(Value::Integer(number)) => {
            let range = 0..=1_000_000;
            EventsPerSecond::Fixed(scope.number("events_per_second", Some(number), 100, range))
        }
        Some(_) => {
            let what = "is neither a whole number nor \"auto\"";
            scope.refuse(
                "events_per_second",
                what,
                "write a number, 0 for no pacing, or \"auto\"",
            );
            EventsPerSecond::Auto
        }
    };
    let annotate = match raw.annotate {
        None => None,
        Some(Value::String(word)) if word == "auto" => None,
        Some(Value::Boolean(always)) => Some(always),
        Some(_) => {
            scope.refuse(
                "annotate",
                "is not a word that is known here",
                "write true, false, \"auto\"",
            );
            None
        }
    };
    Wazuh {
        home,
        queue: socket(scope, raw.queue),
        location,
        events_per_second,
        acknowledge: scope.choice(
            "acknowledge",
            raw.acknowledge,
            true,
            &[("auto", true), ("off", false)],
        ),
        send_timeout: scope.duration(
            "send_timeout",
            raw.send_timeout,
            Duration::from_mins(1),
            SECOND..=Duration::from_hours(1),
        ),
        annotate,
        flatten: raw.flatten.unwrap_or(false),
    }
}

/// The path of a socket, which the system bounds.
fn socket(scope: &mut Scope<'_>, value: Option<String>) -> Option<PathBuf> {
    let path = scope.path("queue", value)?;
    if path.as_os_str().len() > LONGEST_SOCKET {
        scope.refuse(
            "queue",
            format!("is longer than the {LONGEST_SOCKET} bytes that a socket's path may have"),
            "name a shorter link to its folder",
        );
        return None;
    }
    Some(path)
}

fn log(scope: &mut Scope<'_>, raw: raw::Log, looks: Looks) -> Log {
    use log::LevelFilter::{Debug, Error, Info, Trace, Warn};

    let file = match raw.file.as_deref() {
        Some("") => None,
        None => Some("/var/log/o365-wodle/o365-wodle.log".into()),
        Some(_) => scope.written("file", raw.file, looks),
    };
    let levels = [
        ("info", Info),
        ("error", Error),
        ("warn", Warn),
        ("debug", Debug),
        ("trace", Trace),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        file,
        level: scope.choice("level", raw.level, Info, &levels),
        format: scope.choice("format", raw.format, LogFormat::Text, &formats),
    }
}

fn collect(scope: &mut Scope<'_>, raw: raw::Collect) -> (Collect, Inherited) {
    let defaults = Inherited {
        content_types: ContentType::ALL.to_vec(),
        publisher_identifier: None,
        concurrency: 8,
        requests_per_minute: 1000,
        initial_lookback: DAY,
    };
    let own = Own {
        content_types: raw.content_types,
        publisher_identifier: raw.publisher_identifier,
        concurrency: raw.concurrency,
        requests_per_minute: raw.requests_per_minute,
        initial_lookback: raw.initial_lookback,
    };
    let inherited = inherit(scope, own, &defaults);
    let never = Duration::ZERO;
    let six_hours = Duration::from_hours(6);
    let four_minutes = Duration::from_mins(4);
    let collect = Collect {
        overlap: scope.duration("overlap", raw.overlap, six_hours, never..=WEEK),
        resweep: scope.duration("resweep", raw.resweep, DAY, never..=WEEK),
        deadline: scope.duration("deadline", raw.deadline, four_minutes, SECOND..=DAY),
        tenants_in_parallel: scope.number(
            "tenants_in_parallel",
            raw.tenants_in_parallel,
            16,
            1..=1024,
        ),
        deduplicate_for: scope.duration(
            "deduplicate_for",
            raw.deduplicate_for,
            8 * DAY,
            DAY..=MONTH,
        ),
        redact_dlp: raw.redact_dlp.unwrap_or(false),
        silent_after: scope.duration("silent_after", raw.silent_after, DAY, never..=MONTH),
    };
    (collect, inherited)
}

/// The keys that stand in `[collect]` and in tenants alike.
pub(super) struct Own {
    pub(super) content_types: Option<Vec<String>>,
    pub(super) publisher_identifier: Option<String>,
    pub(super) concurrency: Option<i64>,
    pub(super) requests_per_minute: Option<i64>,
    pub(super) initial_lookback: Option<String>,
}

/// What is said here, and the rest from there.
pub(super) fn inherit(scope: &mut Scope<'_>, own: Own, from: &Inherited) -> Inherited {
    Inherited {
        content_types: scope.content_types(own.content_types.as_deref(), &from.content_types),
        publisher_identifier: scope
            .guid("publisher_identifier", own.publisher_identifier.as_deref())
            .or_else(|| from.publisher_identifier.clone()),
        concurrency: scope.number("concurrency", own.concurrency, from.concurrency, 1..=64),
        requests_per_minute: scope.number(
            "requests_per_minute",
            own.requests_per_minute,
            from.requests_per_minute,
            0..=1_000_000,
        ),
        initial_lookback: scope.duration(
            "initial_lookback",
            own.initial_lookback,
            from.initial_lookback,
            Duration::ZERO..=WEEK,
        ),
    }
}

/// The URL of a proxy that we can go through.
pub(crate) fn proxy_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_known = matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
    // A backslash, which some write before a user, is taken for a slash.
    (url.has_host() && is_known && is_bare && !text.contains('\\')).then_some(url)
}

/// Whether it names hosts as the client understands them: all, a name and those below it, an address, a subnet.
fn is_host(text: &str) -> bool {
    let text = text.trim();
    if let Some((address, length)) = text.split_once('/') {
        let longest = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
        return is_number && length.parse().is_ok_and(|length: u8| length <= longest);
    }
    let is_name = |text: &str| {
        text.contains(|c: char| c.is_ascii_alphabetic())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    text == "*" || is_name(text) || text.parse::<IpAddr>().is_ok()
}

fn http(scope: &mut Scope<'_>, raw: raw::Http, looks: bool) -> Http {
    let proxy = raw.proxy.and_then(|proxy| match proxy_url(&proxy) {
        Some(url) if url.password().is_some() => {
            let cure = "take it out, put it into a file of mode 0600 and name that with proxy_password_file";
            scope.refuse("proxy", "holds a password", cure);
            None
        }
        Some(url) => Some(url),
        None => {
            scope.refuse("proxy", "is not the URL of a proxy", "write \"http://user@proxy:3128\"");
            None
        }
    });
    let proxy_password_file = scope.path("proxy_password_file", raw.proxy_password_file);
    if proxy_password_file.is_some() && proxy.is_none() {
        scope.refuse(
            "proxy_password_file",
            "is set, but proxy is not",
            "set both, or remove the line",
        );
    }
    let no_proxy = raw.no_proxy.unwrap_or_default();
    for (index, host) in no_proxy.iter().enumerate() {
        let mut hosts = host
            .split(',')
            .filter(|host| !host.trim().is_empty())
            .peekable();
        if hosts.peek().is_none() || !hosts.all(is_host) {
            scope.refuse(
                &format!("no_proxy[{index}]"),
                format!("is {host:?}, which does not name a host"),
                "write a name (and all below it is meant as well), an address or a subnet: \"corp.example\", \"10.0.0.0/8\"",
            );
        }
    }
    let ca_file = scope.path("ca_file", raw.ca_file);
    if looks {
        scope.look_at(
            "proxy_password_file",
            proxy_password_file.as_deref(),
            Kind::Secret,
        );
        if let Some(Err(flaw)) = ca_file.as_deref().map(authorities) {
            scope.note("ca_file", flaw);
        }
    }
    let (ten_seconds, two_minutes) = (Duration::from_secs(10), Duration::from_mins(2));
    let (ten_minutes, hour) = (Duration::from_mins(10), Duration::from_hours(1));
    Http {
        proxy,
        proxy_password_file,
        no_proxy,
        ca_file,
        connect_timeout: scope.duration(
            "connect_timeout",
            raw.connect_timeout,
            ten_seconds,
            SECOND..=ten_minutes,
        ),
        request_timeout: scope.duration(
            "request_timeout",
            raw.request_timeout,
            two_minutes,
            SECOND..=hour,
        ),
        retries: scope.number("retries", raw.retries, 5, 0..=20),
    }
}
