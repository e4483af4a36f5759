//! What the operator wrote, and the checked [`Settings`] that the rest of the program works with.

mod settings;

pub use settings::{
    Authentication, Cloud, Collect, ContentType, EventsPerSecond, Filter, Http, Log, LogFormat,
    Metrics, Secret, Settings, State, Tenant, Wazuh,
};
