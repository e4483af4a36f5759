//! Wazuh's `ossec.conf`: no XML document, but a row of `<ossec_config>` roots, read only.

use std::path::Path;

use roxmltree::{Document, Error, Node};

/// What stands before the text so that it is one document.
pub const BEFORE: &str = "<all>";

/// Looks at all roots at once; their parent is handed over.
///
/// # Errors
/// The text is no row of XML elements.
pub fn read<T>(text: &str, look: impl FnOnce(Node<'_, '_>) -> T) -> Result<T, Error> {
    let wrapped = wrapped(text);
    let document = Document::parse(&wrapped)?;
    Ok(look(document.root_element()))
}

/// The text as one document. An XML declaration is allowed at the very start only, where the wrapper is: blanks take
/// its place, so that offsets stay.
#[must_use]
pub fn wrapped(text: &str) -> String {
    let bare = text.trim_start_matches('\u{feff}');
    let declared = bare
        .strip_prefix("<?xml ")
        .and_then(|rest| rest.split_once("?>"));
    match declared {
        Some((_, rest)) => format!(
            "{BEFORE}{}{rest}</all>",
            " ".repeat(text.len() - rest.len())
        ),
        None => format!("{BEFORE}{text}</all>"),
    }
}

/// The number of the line on which an offset of the text lies.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The text of a node's first child of that name.
#[must_use]
pub fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.has_tag_name(name))?;
    child.text().map(str::trim)
}

/// Whether a node is a `<wodle name="command">` that starts this program.
#[must_use]
pub fn is_ours(node: Node<'_, '_>) -> bool {
    if !node.has_tag_name("wodle") || node.attribute("name") != Some("command") {
        return false;
    }
    let starts_it = child(node, "command").is_some_and(|command| {
        let words = command.split_whitespace();
        let mut words = words.map(|word| Path::new(word.trim_matches('"')));
        // Another program, such as setpriv, may turn into it.
        words
            .next()
            .is_some_and(|first| first.ends_with("o365-wodle"))
            || words.any(|word| word.ends_with("bin/o365-wodle"))
    });
    child(node, "tag") == Some("o365-wodle") || starts_it
}
