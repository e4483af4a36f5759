//! `man`: the manual as man pages, one for the program and one a command.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::{Error, Result};

/// What the page of the program says beyond its command line.
const MORE: &str = r#".SH FILES
.TP
\fI/etc/o365\-wodle/config.toml\fR
The configuration. Beside it \fItenants.d/NAME.toml\fR for each tenant, and \fIsecrets/\fR.
.TP
\fI/var/lib/o365\-wodle/ledger.db\fR
The ledger: what was seen, sent and confirmed.
.TP
\fI/var/log/o365\-wodle/o365\-wodle.log\fR
The log of all runs.
.TP
\fI/usr/share/doc/o365\-wodle/README.md\fR
Every key of the configuration, and what is promised. Beside it \fItroubleshooting.md\fR: every message of Microsoft's and of
doctor, with its cure.
.SH ENVIRONMENT
.TP
\fBO365_WODLE_CONFIG\fR
The configuration, where \-\-config names none.
.TP
\fBHTTPS_PROXY\fR, \fBALL_PROXY\fR, \fBNO_PROXY\fR
The way to Microsoft, where \fIproxy\fR and \fIno_proxy\fR of [http] name none.
.TP
\fBSSL_CERT_FILE\fR, \fBSSL_CERT_DIR\fR
Certification authorities in the place of the system's.
.TP
\fBAZURE_FEDERATED_TOKEN_FILE\fR, \fBAZURE_CLIENT_ID\fR
A workload identity, for tenants that name no other credential.
.SH "SEE ALSO"
The Office 365 Management Activity API reference, at \fIhttps://learn.microsoft.com/en\-us/office/office\-365\-management\-api/\fR
"#;

/// Writes `o365-wodle.1` and `o365-wodle-COMMAND.1` into a folder that is there.
///
/// # Errors
/// [`Error::Usage`] if the folder cannot be written.
pub(crate) fn man(folder: &Path) -> Result<()> {
    let write = || {
        clap_mangen::generate_to(Cli::command(), folder)?;
        let page = folder.join("o365-wodle.1");
        OpenOptions::new()
            .append(true)
            .open(page)?
            .write_all(MORE.as_bytes())
    };
    write().map_err(|error| {
        Error::Usage(format!(
            "man pages cannot be written into {}: {error}; name a folder that exists and that you may write",
            folder.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        let main = std::fs::read_to_string(folder.path().join("o365-wodle.1")).unwrap();
        assert!(
            main.contains("configuration error"),
            "the exit codes are missing"
        );
        assert!(main.contains(".SH FILES\n"), "{main}");
        for command in Cli::command().get_subcommands() {
            let page = format!("o365-wodle-{}.1", command.get_name());
            assert!(folder.path().join(&page).is_file(), "{page}");
        }
    }

    #[test]
    fn a_missing_folder_is_wrong_use() {
        let folder = tempfile::tempdir().unwrap();
        let error = man(&folder.path().join("none")).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
    }
}
