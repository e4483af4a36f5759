//! A fake Microsoft 365 ([`microsoft`]), a fake Wazuh ([`wazuh`]) and an [`oracle`] that judges
//! whether what the one issued arrived at the other. It follows the documents of both, not what
//! the collector happens to do.

pub mod microsoft;
pub mod oracle;
pub mod wazuh;
pub mod world;
