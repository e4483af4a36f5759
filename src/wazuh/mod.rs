//! The outside world we write to: the queue socket of Wazuh and what Wazuh tells about it.
