//! Wazuh's built-in module `<office365>`: whom it collects beside us.

use std::collections::BTreeSet;

use super::{Home, ossec_conf};

/// Where the module may be configured, below Wazuh's home.
const FILES: [&str; 2] = ["etc/ossec.conf", "etc/shared/agent.conf"];

/// The GUIDs, in lower case, of the tenants that the built-in module collects on this host.
///
/// A file that is not there, or that we may not read or cannot, tells nothing: Wazuh's
/// configuration is not ours to judge.
#[must_use]
pub fn collected(home: &Home) -> BTreeSet<String> {
    let texts = FILES
        .iter()
        .filter_map(|file| ossec_conf::text(&home.path().join(file)).ok());
    tenants(texts)
}

/// The tenants of all blocks, which configure one module: the last `<enabled>` holds for all of them.
fn tenants(texts: impl IntoIterator<Item = impl AsRef<str>>) -> BTreeSet<String> {
    let (mut tenants, mut is_enabled) = (BTreeSet::new(), true);
    for text in texts {
        // What is no XML tells nothing.
        let _read = ossec_conf::read(text.as_ref(), |all| {
            let blocks = all
                .descendants()
                .filter(|node| node.has_tag_name("office365"));
            for block in blocks {
                let said = block.children().rfind(|node| node.has_tag_name("enabled"));
                if let Some(said) = said.and_then(|said| said.text()) {
                    is_enabled = said.trim() == "yes";
                }
                let ids = block
                    .descendants()
                    .filter(|node| node.has_tag_name("tenant_id"))
                    .filter_map(|node| Some(node.text()?.trim().to_ascii_lowercase()));
                tenants.extend(ids);
            }
        });
    }
    if is_enabled { tenants } else { BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_found_in_any_root_unless_the_module_is_off() {
        let text = "<?xml version=\"1.0\"?>\n<ossec_config><office365><enabled>yes</enabled>
            <api_auth><tenant_id> ABCDEF00-0000-4000-8000-000000000001 </tenant_id></api_auth>
            <api_auth><tenant_id>two</tenant_id></api_auth></office365></ossec_config>
            <!-- <office365><api_auth><tenant_id>no</tenant_id></api_auth></office365> -->
            <ossec_config><office365><enabled>no</enabled>
            <api_auth><tenant_id>three</tenant_id></api_auth></office365>
            <office365><api_auth><tenant_id>four</tenant_id></api_auth></office365></ossec_config>";
        let on = "<agent_config><office365><enabled>yes</enabled></office365></agent_config>";
        let of = |texts: &[&str]| tenants(texts.iter().map(|text| (*text).to_owned()));
        assert!(of(&[text]).is_empty(), "the last one says no");
        let expected = [
            "abcdef00-0000-4000-8000-000000000001",
            "four",
            "three",
            "two",
        ];
        assert_eq!(of(&[text, on]), expected.map(str::to_owned).into());
        assert!(of(&["<ossec_config><office365>"]).is_empty(), "no XML");
    }
}
