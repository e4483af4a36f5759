//! `setup`: what Wazuh needs to start collections.

use std::io::Write;

use crate::{Error, Result};

/// The block for `ossec.conf`.
///
/// Neither its tag nor its command holds the string `office365`, nor any tenant's id: tools that
/// look for the built-in module by that string must not find it here. The timeout is above our own
/// deadline, since Wazuh sends one SIGTERM then and waits for ever.
pub const BLOCK: &str = include_str!("../../integration/ossec.conf");

/// Prints the block.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn setup(out: &mut impl Write) -> Result<()> {
    out.write_all(BLOCK.as_bytes())
        .map_err(|error| Error::TryLater(format!("standard output: {error}")))
}
