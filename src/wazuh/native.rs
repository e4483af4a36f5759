//! Wazuh's built-in module `<office365>`: whom it collects beside us.

use std::collections::BTreeSet;
use std::fs;

use roxmltree::Node;

use super::{Home, ossec_conf};

/// Where the module may be configured, below Wazuh's home.
const FILES: [&str; 2] = ["etc/ossec.conf", "etc/shared/agent.conf"];

/// The GUIDs, in lower case, of the tenants that the built-in module collects on this host.
///
/// A file that is not there, or that we may not read or cannot, tells nothing: Wazuh's
/// configuration is not ours to judge.
#[must_use]
pub fn collected(home: &Home) -> BTreeSet<String> {
    FILES
        .iter()
        .filter_map(|file| fs::read_to_string(home.path().join(file)).ok())
        .flat_map(|text| tenants(&text))
        .collect()
}

/// The tenants of all enabled blocks.
fn tenants(text: &str) -> BTreeSet<String> {
    let found = ossec_conf::read(text, |all| {
        all.descendants()
            .filter(|node| node.has_tag_name("office365") && is_enabled(*node))
            .flat_map(|block| block.descendants())
            .filter(|node| node.has_tag_name("tenant_id"))
            .filter_map(|node| Some(node.text()?.trim().to_ascii_lowercase()))
            .collect()
    });
    found.unwrap_or_default()
}

/// A block that says nothing of it is enabled.
fn is_enabled(block: Node<'_, '_>) -> bool {
    let said = block.children().rfind(|node| node.has_tag_name("enabled"));
    said.and_then(|said| said.text())
        .is_none_or(|said| said.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_of_enabled_blocks_are_found_in_any_root() {
        let text = "<?xml version=\"1.0\"?>\n<ossec_config><office365><enabled>yes</enabled>
            <api_auth><tenant_id> ABCDEF00-0000-4000-8000-000000000001 </tenant_id></api_auth>
            <api_auth><tenant_id>two</tenant_id></api_auth></office365></ossec_config>
            <!-- <office365><api_auth><tenant_id>no</tenant_id></api_auth></office365> -->
            <ossec_config><office365><enabled>no</enabled>
            <api_auth><tenant_id>off</tenant_id></api_auth></office365>
            <office365><api_auth><tenant_id>default</tenant_id></api_auth></office365></ossec_config>";
        let expected = ["abcdef00-0000-4000-8000-000000000001", "default", "two"];
        assert_eq!(tenants(text), expected.map(str::to_owned).into());
        assert!(tenants("<ossec_config><office365>").is_empty(), "no XML");
    }
}
