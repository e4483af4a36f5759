//! The configuration as it is written: every key there is, none of them checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Value;
use toml::value::Datetime;

/// `config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) wazuh: Wazuh,
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) collect: Collect,
    pub(super) http: Http,
    pub(super) metrics: Metrics,
    pub(super) tenant: Vec<Tenant>,
}

/// `[wazuh]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wazuh {
    pub(super) home: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) location: Option<String>,
    /// A number or `"auto"`.
    pub(super) events_per_second: Option<Value>,
    pub(super) acknowledge: Option<String>,
    pub(super) send_timeout: Option<String>,
    /// A boolean or `"auto"`.
    pub(super) annotate: Option<Value>,
    pub(super) flatten: Option<bool>,
}

/// `[state]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct State {
    pub(super) ledger: Option<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) file: Option<String>,
    pub(super) level: Option<String>,
    pub(super) format: Option<String>,
}

/// `[collect]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Collect {
    pub(super) content_types: Option<Vec<String>>,
    pub(super) initial_lookback: Option<String>,
    pub(super) overlap: Option<String>,
    pub(super) resweep: Option<String>,
    pub(super) deadline: Option<String>,
    pub(super) concurrency: Option<i64>,
    pub(super) tenants_in_parallel: Option<i64>,
    pub(super) requests_per_minute: Option<i64>,
    pub(super) deduplicate_for: Option<String>,
    pub(super) redact_dlp: Option<bool>,
    pub(super) silent_after: Option<String>,
    pub(super) publisher_identifier: Option<String>,
}

/// `[http]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) proxy: Option<String>,
    pub(super) proxy_password_file: Option<String>,
    pub(super) no_proxy: Option<Vec<String>>,
    pub(super) ca_file: Option<String>,
    pub(super) connect_timeout: Option<String>,
    pub(super) request_timeout: Option<String>,
    pub(super) retries: Option<i64>,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) textfile: Option<String>,
}

/// `[[tenant]]`, or the whole of `tenants.d/NAME.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(
    clippy::struct_field_names,
    reason = "the fields are the keys that the operator writes"
)]
pub(super) struct Tenant {
    pub(super) name: Option<String>,
    pub(super) tenant_id: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret_file: Option<String>,
    pub(super) client_secret_command: Option<Vec<String>>,
    pub(super) client_secret_credential: Option<String>,
    pub(super) certificate_file: Option<String>,
    pub(super) private_key_file: Option<String>,
    pub(super) certificate_password_file: Option<String>,
    pub(super) assertion_algorithm: Option<String>,
    pub(super) federated_token_file: Option<String>,
    pub(super) client_secret_expires: Option<Datetime>,
    pub(super) cloud: Option<String>,
    pub(super) login_url: Option<String>,
    pub(super) management_url: Option<String>,
    pub(super) content_types: Option<Vec<String>>,
    pub(super) publisher_identifier: Option<String>,
    pub(super) concurrency: Option<i64>,
    pub(super) requests_per_minute: Option<i64>,
    pub(super) initial_lookback: Option<String>,
    pub(super) include: Vec<Filter>,
    pub(super) exclude: Vec<Filter>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) enabled: Option<bool>,
}

/// An entry of `include` or `exclude`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    pub(super) operation: Option<String>,
    pub(super) workload: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) record_type: Option<Vec<i64>>,
}
