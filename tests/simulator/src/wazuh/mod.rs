//! A fake Wazuh: manager or agent.
