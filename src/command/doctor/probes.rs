//! The probes, in the order in which they are taken, and what each may find wrong, with the cure. `docs/troubleshooting.md`
//! is made of these tables.

use std::fmt::Display;

use crate::config::Flaw;
use crate::microsoft::{GRANT_READ, GRANT_READ_DLP, SWITCH_AUDIT_LOG_ON};

/// A link of the chain from the configuration to Wazuh.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for docs/troubleshooting.md"))]
    pub(super) looks_at: &'static str,
}

/// Something that a probe may find, and what to click or to type then. What is known only when it is found has a name in
/// braces.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) probe: &'static Probe,
    pub(super) seen: &'static str,
    pub(super) cure: &'static str,
}

/// What was found and its cure, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) seen: String,
    pub(super) cure: String,
}

impl From<Flaw> for Said {
    fn from(flaw: Flaw) -> Self {
        Self {
            seen: flaw.what,
            cure: flaw.cure,
        }
    }
}

impl Trouble {
    /// With the values of the names in its braces.
    pub(super) fn with(&self, values: &[(&str, &dyn Display)]) -> Said {
        Said {
            seen: fill(self.seen, values),
            cure: fill(self.cure, values),
        }
    }
}

/// A text whose `{name}` are replaced by their values; values are not looked into.
fn fill(text: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        debug_assert!(value.is_some(), "{name} of {text:?} has no value");
        if let Some((_, value)) = value {
            filled.push_str(&value.to_string());
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

macro_rules! probes {
    ($($probe:ident = $name:literal: $looks_at:literal;)*) => {
        $(pub(super) static $probe: Probe = Probe { name: $name, looks_at: $looks_at };)*
        /// All of them.
        #[cfg(test)]
        pub(super) static PROBES: &[&Probe] = &[$(&$probe),*];
    };
}

macro_rules! troubles {
    ($($trouble:ident of $probe:ident: $seen:literal => $cure:expr;)*) => {
        $(pub(super) static $trouble: Trouble = Trouble { probe: &$probe, seen: $seen, cure: $cure };)*
        /// All of them.
        #[cfg(test)]
        pub(super) static TROUBLES: &[&Trouble] = &[$(&$trouble),*];
    };
}

probes! {
    CONFIGURATION = "configuration": "every configuration file: syntax, keys, ids, the files that `[http]` names, owners and modes (what tenants sign in with has a probe of its own, below). What is wrong is said as `o365-wodle check` says it";
    LEDGER = "ledger": "the ledger: whether this user may write it, whether it is whole, and the room on its disk";
    LOG = "log": "the log file, which tells what scheduled runs did: whether this user may write it. Said only if not";
    METRICS = "metrics": "the file for Prometheus: whether this user may put it there. Said only if not";
    QUEUE = "queue": "Wazuh's queue socket: whether it is there, whether this user may write to it, whether somebody reads it, and whether Wazuh took what the last runs had for it";
    ACKNOWLEDGEMENT = "acknowledgement": "whether Wazuh tells what it has processed; on an agent, whether it is connected to its manager";
    TEST_EVENT = "test event": "with `--send-test`: one marked event, until Wazuh has acknowledged it";
    SCHEDULER = "scheduler": "the block in Wazuh's ossec.conf that starts collections: there once, enabled, starting a program that is there with this configuration, with a timeout above the deadline";
    BUILT_IN = "built-in module": "whether Wazuh's own <office365> module collects the same tenants";
    NAME = "name": "the name of Microsoft's login host and of its management host, or of the proxy on the way: whether it is resolved";
    CONNECTION = "connection": "the same host: whether something accepts a connection";
    PROXY = "proxy": "where there is a proxy: whether it lets requests through";
    TLS = "tls": "the same host: whether its certificate is trusted, and who issued it; another issuer than Microsoft's means that something on the way intercepts TLS";
    ANSWER = "answer": "the same host: whether it answers";
    CLOCK = "clock": "this machine's clock, against the time in Microsoft's answers";
    CREDENTIAL = "credential": "the tenant's secret, certificate or token file: whether it can be read, and when it expires";
    SIGN_IN = "sign-in": "whether Entra ID gives a token for it; see *Signing in* below for what it may say";
    TOKEN = "token": "whether the token is for this tenant (`tid`) and this cloud (`aud`)";
    PERMISSIONS = "permissions": "the token's `roles`";
    SUBSCRIPTIONS = "subscriptions": "which content types Microsoft gathers; see *The Activity API* below for what it may say";
    LISTING = "listing": "the first page of the last 24 hours of each content type; see *The Activity API* below";
    AUDIT_LOG = "audit log": "whether Microsoft has one for the tenant; see *Without a code* below";
    BLOB = "blob": "the beginning of one of the blobs listed; see *The Activity API* below";
    BACK_OFF = "back-off": "the times until which tenants are left alone: a tenant that is well need not be any longer";
}

const NEW_CREDENTIAL: &str = "make a new one and add it in Azure: App registrations > the app > Certificates & secrets; then replace the old one here: a secret with `o365-wodle tenant rotate NAME --from FILE`, a certificate in its certificate_file";
const ROOM: &str =
    "make room on the file system of {folder}; nothing is lost, runs go on from there";

troubles! {
    TENANTS_GONE of CONFIGURATION: "{file}: there are no tenants any more, and some were collected in the last 8 days"
        => "unless they were removed on purpose (then nothing: it is said for 8 days), look whether tenants.d, beside it, is what it was";
    NO_FOLDER of LEDGER: "{folder}: the ledger's folder does not exist"
        => "create it: install -d -m 750 {folder}";
    READ_ONLY of LEDGER: "{file}: the ledger cannot be written ({why})"
        => "mount its file system writable, and give file and folder to the user that runs o365-wodle";
    DAMAGED of LEDGER: "{file}: the ledger is damaged ({why})"
        => "nothing to do: the next run sets it aside and reads the last 7 days again; if it comes again, look at the disk";
    DISK_FULL of LEDGER: "{file}: the disk is full" => ROOM;
    LITTLE_ROOM of LEDGER: "{file}: {free} MB are left on its disk" => ROOM;

    QUEUE_FULL of QUEUE: "{queue}: it is full, and nobody takes anything out of it"
        => "look whether the agent is connected, or the manager starting or overloaded; nothing is lost, the next run goes on";
    WAS_HELD of QUEUE: "{queue}: there is room now, but runs found that Wazuh has taken nothing since {since} UTC: {why}"
        => "nothing, if the next run gets through; if it stays, look whether the agent is connected, or the manager overloaded";

    NO_LOG of LOG: "{file}: the log file cannot be written ({why}), so nobody sees what scheduled runs say"
        => "create its folder, or name another file in [log] of config.toml, not a link (\"\" for none)";

    NO_METRICS of METRICS: "{file}: the figures for Prometheus cannot be written ({why}), so that who watches them sees old ones"
        => "create its folder, or name another file in [metrics] of config.toml";

    ACKNOWLEDGE_OFF of ACKNOWLEDGEMENT: "switched off: an event counts as delivered when it is taken"
        => "set acknowledge = \"auto\" in [wazuh]";
    AGENT_OFFLINE of ACKNOWLEDGEMENT: "the agent is not connected to its manager, so nothing is sent to it"
        => "look into the agent's logs/ossec.log, and at the manager's address and port 1514";
    AGENT_SILENT of ACKNOWLEDGEMENT: "the agent does not tell its state"
        => "restart the agent; look for var/run/wazuh-agentd.state in its home";
    MANAGER_SILENT of ACKNOWLEDGEMENT: "the manager does not answer at {socket}: events are sent slowly, and stay unconfirmed until it does"
        => "look whether Wazuh is still starting, stopped or overloaded: /var/ossec/bin/wazuh-control status";
    NOBODY_TELLS of ACKNOWLEDGEMENT: "Wazuh does not tell here what it processed: events count as delivered when they are taken"
        => "on a manager from 4.4 on, look at {socket}";

    NOBODY_TO_TEST of TEST_EVENT: "there is no tenant to send one for"
        => "add one: o365-wodle tenant add NAME --from FILE";
    NOT_READ of TEST_EVENT: "Wazuh did not read it within {seconds} s"
        => "look whether Wazuh is still starting, or stopped: /var/ossec/bin/wazuh-control status";
    NOT_ACKNOWLEDGED of TEST_EVENT: "sent and read, but not acknowledged within {seconds} s"
        => "Wazuh may be busy: look for o365_wodle.health \"test\" there, and whether `o365-wodle status` goes on having unconfirmed events";
    TEST_LOST of TEST_EVENT: "sent, but Wazuh restarted or dropped events before it had processed it"
        => "try again; if it stays so, another source floods Wazuh, or its machine is too slow: look into its logs/ossec.log";

    CONF_UNREADABLE of SCHEDULER: "{file}: {why}"
        => "see that home in [wazuh] is Wazuh's folder, and run this as root; if systemd's timer starts collections, all is well";
    CONF_BROKEN of SCHEDULER: "{file} does not read as XML ({why})"
        => "mend it; Wazuh itself may refuse it: /var/ossec/bin/wazuh-control start says so";
    NO_BLOCK of SCHEDULER: "{file} has no block that starts collections"
        => "o365-wodle setup --write, then restart Wazuh (or switch on systemd's timer: systemctl enable --now o365-wodle.timer)";
    BLOCK_DISABLED of SCHEDULER: "{file}: the block is disabled"
        => "set <disabled>no</disabled> in it and restart Wazuh";
    TIMER_STOPPED of SCHEDULER: "systemd's timer is enabled, and does not run"
        => "systemctl start o365-wodle.timer";
    NO_PROGRAM of SCHEDULER: "{file}: the block starts {program}, which is no file"
        => "write the path that `command -v o365-wodle` says into the block's <command> and restart Wazuh";
    OTHER_CONFIGURATION of SCHEDULER: "{file}: the block's runs read {theirs}, and this is about {ours}"
        => "write --config {ours} into the block's <command> and restart Wazuh, or use --config {theirs} here";
    TIMEOUT_TOO_LOW of SCHEDULER: "{file}: Wazuh stops a run after {timeout} s, before its own deadline of {deadline} s"
        => "set <timeout> to {enough} or more in the block, or lower deadline in [collect]";
    TOO_MANY_BLOCKS of SCHEDULER: "{file} has {count} blocks that start collections" => "leave one of them";

    COLLECTED_TWICE of BUILT_IN: "Wazuh's <office365> module collects {tenants} as well, so their records come twice"
        => "take the tenants out of <office365> in {file} (or in the agent.conf of the agent's group) and restart Wazuh";

    NO_NAME of NAME: "{host}: the name cannot be resolved ({why})"
        => "check this host's name servers (/etc/resolv.conf), or set [http] proxy if only a proxy reaches the internet; check login_url and management_url";
    NO_CONNECTION of CONNECTION: "{host}: nothing accepts a connection ({why})"
        => "let this host reach it (firewall), or set [http] proxy";
    NO_PROXY_NAME of NAME: "{host}: the name of the proxy {proxy} cannot be resolved ({why})"
        => "check proxy of [http] (HTTPS_PROXY of the environment, where there is none) and this host's name servers (/etc/resolv.conf)";
    NO_PROXY_THERE of CONNECTION: "{host}: the proxy {proxy} does not accept a connection ({why})"
        => "look whether the proxy runs; check proxy of [http] (HTTPS_PROXY of the environment, where there is none)";
    PROXY_REFUSES of PROXY: "{host}: the proxy does not let the request through ({why})"
        => "check proxy and proxy_password_file of [http] (HTTPS_PROXY of the environment, where there is none), and ask whoever runs the proxy to allow the host";
    UNTRUSTED of TLS: "{host}: its certificate is not trusted: something in between may intercept TLS ({why})"
        => "if your organisation inspects TLS, put its authority's certificate into [http] ca_file, or exempt the host; otherwise install ca-certificates";
    NO_TLS of TLS: "{host}: what accepts the connection there gives up before TLS ({why})"
        => "ask whoever runs the network what stands between this host and Microsoft; check login_url and management_url";
    NO_ANSWER of ANSWER: "{host}: it does not answer ({why})"
        => "ask whoever runs the network what stands between this host and Microsoft";
    WRONG_CLOCK of CLOCK: "this machine's clock is {seconds} s {direction} Microsoft's"
        => "switch time synchronisation on: timedatectl set-ntp true";

    EXPIRED of CREDENTIAL: "the {what} expired on {day}" => NEW_CREDENTIAL;
    EXPIRES_SOON of CREDENTIAL: "the {what} expires on {day}" => NEW_CREDENTIAL;

    OTHER_TENANT of TOKEN: "the token is for tenant {tid}, not for {asked}" => "check the tenant ID";
    OTHER_CLOUD of TOKEN: "the token is for {aud}, not for {host}" => "check the tenant's cloud";
    TOKEN_UNREADABLE of TOKEN: "the token cannot be read, so its permissions are not known here"
        => "nothing to do: what the next probes say is what counts";
    NO_READ of PERMISSIONS: "the application lacks the permission ActivityFeed.Read" => GRANT_READ;
    ONLY_DELEGATED of PERMISSIONS: "the application lacks the permission ActivityFeed.Read; it has delegated permissions, which do not count here"
        => GRANT_READ;
    NO_READ_DLP of PERMISSIONS: "the application lacks the permission ActivityFeed.ReadDlp, so DLP.All is left out"
        => GRANT_READ_DLP;

    WAS_OFF of AUDIT_LOG: "Microsoft had none for this tenant when a run looked last; whether that has changed shows when the next one starts a subscription"
        => SWITCH_AUDIT_LOG_ON;
    NOT_STARTED of SUBSCRIPTIONS: "the Activity API answers: {running} of {all} subscriptions run; of {content_type} a run found last: {why}"
        => "{cure}; if that is done, let a run start it, or start it: `o365-wodle subscriptions start`";
    NOT_LISTED of LISTING: "no content type can be listed before its subscription runs, so it is not known yet whether Microsoft has an audit log for the tenant"
        => "let a run start the subscriptions, or start them: `o365-wodle subscriptions start`; where there is no audit log, they say so";

    SLOW_BLOB of BLOB: "{content_type}: a blob did not come within {seconds} s"
        => "look at what stands between this host and Microsoft: a proxy or firewall that scans downloads";

    BACK_OFF_STAYS of BACK_OFF: "times at which tenants are to be left alone stay as they are: {why}"
        => "mend that, or wait until no other run is at work, and run `o365-wodle doctor` again";
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
