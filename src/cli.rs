//! The command line as it is written: raw arguments, not yet held against the configuration.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};

use crate::config::{Cloud, ContentType, is_tenant_name, parse_duration};

/// Collects Microsoft 365 audit records into Wazuh: nothing lost, nothing repeated.
#[derive(Debug, Parser)]
#[command(name = "o365-wodle", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[arg(
        long,
        help = "The configuration file; without, what the variable O365_WODLE_CONFIG names, else /etc/o365-wodle/config.toml",
        global = true,
        help_heading = EVERYWHERE,
        value_name = "PATH",
        default_value_os_t = default_config(),
        hide_default_value = true
    )]
    pub(crate) config: PathBuf,
    /// Say more on standard error (-v: what is done, -vv: in detail)
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing on standard error
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The heading of the options that all commands have.
const EVERYWHERE: &str = "Options of all commands";

/// The configuration that is read unless another one is named.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/o365-wodle/config.toml";

const EXIT_CODES: &str = "\
Exit codes:
   0  all went as asked (nothing new, no tenants yet, backlog left and events not yet confirmed too)
   1  unexpected failure: please report it
   2  wrong use of the command line
   3  some tenants or content types failed, the others succeeded; doctor, status, tenant add: something is not well;
      setup --write, import-native, tenant remove: not all could be done
  75  nothing could be done for now, the next run will
  77  every tenant was refused
  78  configuration error";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Collect what is new, once (the default)
    #[command(
        after_help = "Example: o365-wodle -v run --tenant contoso --content-type Audit.Exchange"
    )]
    Run(Run),
    /// Fetch a span again, at most 7 days back
    #[command(after_help = "Example: o365-wodle backfill --since 36h --tenant contoso")]
    Backfill(Backfill),
    /// Check every configuration file, offline
    #[command(after_help = "Example: o365-wodle --config ./config.toml check")]
    Check,
    /// Look at every link from the configuration to Wazuh, and say what to do
    #[command(after_help = "Example: o365-wodle doctor --tenant contoso")]
    Doctor(Doctor),
    /// Show what the ledger knows, per tenant and content type
    #[command(after_help = "Example: o365-wodle status --all")]
    Status(Status),
    /// List or start subscriptions by hand; a run does it by itself
    #[command(
        subcommand,
        after_help = "Example: o365-wodle subscriptions list --tenant contoso"
    )]
    Subscriptions(Subscriptions),
    /// Take a tenant in, list, remove, or give one a new secret
    #[command(
        subcommand,
        after_help = "Example: o365-wodle tenant add contoso --from contoso.txt"
    )]
    Tenant(Tenant),
    /// Take over the tenants of Wazuh's built-in office365 module where it stopped
    #[command(after_help = "Example: o365-wodle import-native")]
    ImportNative {
        /// The file with its blocks (default: etc/ossec.conf in Wazuh's home)
        #[arg(long, value_name = "PATH")]
        ossec_conf: Option<PathBuf>,
    },
    /// Print the block for Wazuh's ossec.conf that starts collections
    #[command(after_help = "Example: o365-wodle setup --write")]
    Setup {
        /// Insert it into ossec.conf, once, after a backup
        #[arg(long)]
        write: bool,
    },
    /// Print the completion script for a shell
    #[command(
        after_help = "Example: o365-wodle completions bash > /etc/bash_completion.d/o365-wodle"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    #[command(after_help = "Example: o365-wodle man /usr/local/share/man/man1")]
    Man {
        /// A folder that exists
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Store a tenant from the customer's text, then test it
    #[command(after_help = "Example: o365-wodle tenant add contoso --from contoso.txt")]
    Add(TenantAdd),
    /// Store a tenant from each text of a folder, then test them; a file's name without its ending becomes the tenant's
    #[command(after_help = "Example: o365-wodle tenant import ./customers")]
    Import {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// List all tenants
    #[command(after_help = "Example: o365-wodle tenant list --json")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a tenant and its secret
    #[command(after_help = "Example: o365-wodle tenant remove contoso")]
    Remove {
        /// The tenant
        name: String,
    },
    /// Test a new secret, then put it in the place of the old one
    #[command(after_help = "Example: o365-wodle tenant rotate contoso --from new-secret.txt")]
    Rotate {
        /// The tenant
        name: String,
        /// The text with the new secret; - is standard input
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subscriptions {
    /// Ask Microsoft which content types are subscribed
    #[command(after_help = "Example: o365-wodle subscriptions list")]
    List {
        /// Only this tenant (repeatable)
        #[arg(long = "tenant", value_name = "NAME")]
        tenants: Vec<String>,
    },
    /// Start the subscriptions that are missing
    #[command(after_help = "Example: o365-wodle subscriptions start --content-type DLP.All")]
    Start {
        /// Only this tenant (repeatable)
        #[arg(long = "tenant", value_name = "NAME")]
        tenants: Vec<String>,
        /// Only this content type (repeatable)
        #[arg(long = "content-type", value_name = "TYPE", value_parser = content_type)]
        content_types: Vec<ContentType>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TenantAdd {
    /// Your name for it: 1 to 64 of a-z, 0-9 and -
    #[arg(value_parser = tenant_name)]
    pub(crate) name: String,
    /// The customer's text; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Microsoft's cloud: commercial, gcc, gcc-high, dod or china
    #[arg(long, value_name = "CLOUD", default_value = "commercial", value_parser = cloud)]
    pub(crate) cloud: Cloud,
    /// Do not call Microsoft
    #[arg(long)]
    pub(crate) no_test: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Run {
    /// Only this tenant (repeatable)
    #[arg(long = "tenant", value_name = "NAME")]
    pub(crate) tenants: Vec<String>,
    /// Only this content type (repeatable)
    #[arg(long = "content-type", value_name = "TYPE", value_parser = content_type)]
    pub(crate) content_types: Vec<ContentType>,
    /// End in order by then, for instance 50s (default: [collect] deadline)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// Print the events instead of sending them; remember and start nothing
    #[arg(long = "dry-run")]
    pub(crate) is_dry: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backfill {
    /// From when on: a time such as 2026-03-14T00:00:00Z, or how long ago, such as 36h or 6d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Moment,
    /// Until when (default: now)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Moment>,
    /// Only this tenant (repeatable)
    #[arg(long = "tenant", value_name = "NAME")]
    pub(crate) tenants: Vec<String>,
    /// Only this content type (repeatable)
    #[arg(long = "content-type", value_name = "TYPE", value_parser = content_type)]
    pub(crate) content_types: Vec<ContentType>,
    /// Send records that were delivered once more
    #[arg(long)]
    pub(crate) resend: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only this tenant (repeatable)
    #[arg(long = "tenant", value_name = "NAME")]
    pub(crate) tenants: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Send one marked event to Wazuh
    #[arg(long)]
    pub(crate) send_test: bool,
}

/// A time as the operator writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    At(DateTime<Utc>),
    Ago(Duration),
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Disabled tenants too, and of more than 20 what is well
    #[arg(long)]
    pub(crate) all: bool,
}

/// The configuration where none is named; a variable that is empty counts as unset.
fn default_config() -> PathBuf {
    std::env::var_os("O365_WODLE_CONFIG")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| DEFAULT_CONFIG.into())
        .into()
}

fn content_type(name: &str) -> Result<ContentType, String> {
    ContentType::parse(name).ok_or_else(|| {
        let all: Vec<_> = ContentType::ALL.iter().map(|one| one.as_str()).collect();
        format!("no such content type; there are {}", all.join(", "))
    })
}

fn tenant_name(name: &str) -> Result<String, String> {
    is_tenant_name(name)
        .then(|| name.to_owned())
        .ok_or_else(|| "use 1 to 64 of a-z, 0-9 and -".to_owned())
}

fn cloud(name: &str) -> Result<Cloud, String> {
    let found = Cloud::ALL.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, cloud)| cloud).ok_or_else(|| {
        let all = Cloud::ALL.map(|(known, _)| known).join(", ");
        format!("no such cloud; there are {all}")
    })
}

pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.to_utc()));
    }
    parse_duration(text).map(Moment::Ago).ok_or_else(|| {
        "write a time such as 2026-03-14T00:00:00Z, or how long ago, such as 36h or 6d".to_owned()
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        Some(_) => Err("it is no time at all; write 1s or more".to_owned()),
        None => Err("write a number and a unit, for instance 90s, 5m, 6h or 2d".to_owned()),
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
