//! Wazuh's installed tree, as far as a program beside it looks at it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The tree of a manager, without anything running in it.
///
/// # Errors
/// A folder or file cannot be written.
pub fn manager(home: &Path, version: &str) -> io::Result<()> {
    install(
        home,
        version,
        &["wazuh-analysisd", "wazuh-modulesd", "wazuh-remoted"],
    )?;
    fs::create_dir_all(home.join("logs/alerts"))?;
    configure(
        home,
        "  <global>\n    <jsonout_output>yes</jsonout_output>\n  </global>\n",
    )
}

/// The tree of an agent, without anything running in it.
///
/// # Errors
/// A folder or file cannot be written.
pub fn agent(home: &Path, version: &str) -> io::Result<()> {
    install(home, version, &["wazuh-agentd", "wazuh-modulesd"])?;
    configure(
        home,
        "  <client>\n    <server>\n      <address>192.0.2.1</address>\n    </server>\n  </client>\n",
    )
}

fn install(home: &Path, version: &str, programs: &[&str]) -> io::Result<()> {
    for folder in ["bin", "etc", "logs", "queue/sockets", "var/run"] {
        fs::create_dir_all(home.join(folder))?;
    }
    for program in programs {
        let path = home.join("bin").join(program);
        fs::write(&path, "#!/bin/sh\n")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750))?;
    }
    fs::write(
        home.join("VERSION.json"),
        format!("{{\n    \"version\": \"{version}\",\n    \"stage\": \"rc1\"\n}}\n"),
    )
}

fn configure(home: &Path, inside: &str) -> io::Result<()> {
    fs::write(
        home.join("etc/ossec.conf"),
        format!("<ossec_config>\n{inside}</ossec_config>\n"),
    )
}
