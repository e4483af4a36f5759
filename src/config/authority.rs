//! Certification authorities besides the system's.

use std::path::Path;

use reqwest::{Certificate, Client};

use super::ownership::{self, Kind};
use super::problem::Flaw;

/// No bundle of authorities is longer, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// The file cannot be used (owner, mode, length), or holds no certificate, or one that is broken.
pub fn authorities(path: &Path) -> Result<Vec<Certificate>, Flaw> {
    let refuse = |what: &str| {
        Flaw::new(
            format!("{}: {what}", path.display()),
            "give a PEM file with the certification authority's certificate",
        )
    };
    let pem = ownership::read(path, Kind::Configuration, MAX_LENGTH)?;
    let broken = |_| refuse("a certificate in it is broken");
    let certificates = Certificate::from_pem_bundle(&pem).map_err(broken)?;
    if certificates.is_empty() {
        return Err(refuse("no certificate in it"));
    }
    // Only a client looks into them.
    let client = Client::builder().tls_certs_only(certificates.iter().cloned());
    client.build().map_err(broken)?;
    Ok(certificates)
}
