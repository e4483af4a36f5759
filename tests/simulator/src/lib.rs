//! A fake Microsoft 365, a fake Wazuh and an oracle between them.
