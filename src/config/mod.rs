//! What the operator wrote, and the checked [`Settings`] that the rest of the program works with.

mod authority;
mod checked;
mod handover;
mod load;
pub mod ownership;
mod problem;
mod raw;
mod scope;
mod secret;
mod secret_text;
mod settings;
mod tenant;
#[cfg(test)]
mod tests;

pub use authority::authorities;
pub(crate) use checked::proxy_url;
pub use handover::{HandOver, NewSecret, parse_hand_over, parse_new_secret};
pub use problem::{Flaw, Problem};
pub(crate) use scope::is_loopback;
pub use scope::{parse_duration, parse_guid};
pub(crate) use secret::stop_commands;
pub(crate) use secret_text::{doubtful, is_invisible, unusable};
pub use settings::{
    Authentication, Cloud, Collect, ContentType, EventsPerSecond, Filter, Http, Log, LogFormat,
    Metrics, Secret, Settings, State, Tenant, Wazuh,
};
pub use tenant::is_tenant_name;
