//! From a customer's text to a tenant that signs in, and the block in `ossec.conf`: the real binary
//! against a small Entra ID and Activity API of this folder's own.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod microsoft;
mod place;
mod setup;
mod tenants;
