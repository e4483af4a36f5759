//! What we remember: the `SQLite` ledger.
