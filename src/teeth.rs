//! Safeties that can be switched off, so that the campaign can show what each of them is for.
//!
//! Only a build with the feature `teeth`, which nothing that is shipped has, listens to the
//! environment: `O365_WODLE_TEETH=sync,forget`.

/// Whether a safety is switched off: always false in a build without the feature.
///
/// | safety | without it |
/// | --- | --- |
/// | `sync` | the ledger is never synchronised with the disk |
/// | `sync-commit` | only checkpoints are (`synchronous = NORMAL`) |
/// | `wal` | a rollback journal with `synchronous = EXTRA` in place of the write-ahead log |
/// | `order` | a record counts as handed over before it is |
/// | `forget` | what Wazuh lost counts as confirmed |
/// | `lock` | several runs work at once |
/// | `clock` | this machine's time counts, not Microsoft's |
/// | `known` | nothing is known as handed over already |
/// | `disk` | a full or failing disk counts as a damaged ledger |
/// | `aside` | a damaged ledger is replaced without a word |
/// | `marker` | a listing that failed counts as complete |
/// | `host` | the token goes wherever a server sends it |
/// | `limit` | bodies and records may be of any length |
/// | `shield` | memory may be dumped |
pub(crate) fn is_off(safety: &str) -> bool {
    cfg!(feature = "teeth")
        && std::env::var("O365_WODLE_TEETH")
            .is_ok_and(|off| off.split(',').any(|name| name == safety))
}
