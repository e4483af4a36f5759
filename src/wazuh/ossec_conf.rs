//! Wazuh's `ossec.conf`: no XML document, but a row of `<ossec_config>` roots, read only.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;

use roxmltree::{Document, Error, Node};
use zeroize::Zeroizing;

use super::file;

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

/// Why a text is no row of XML elements, without the element that is ours.
#[must_use]
pub fn why(error: &Error) -> String {
    match error {
        Error::UnexpectedCloseTag(expected, ended, at) if format!("<{expected}>") == BEFORE => {
            format!("</{ended}> at {at} ends nothing")
        }
        Error::UnexpectedCloseTag(begun, ended, _) if format!("<{ended}>") == BEFORE => {
            format!("<{begun}> has no end")
        }
        other => other.to_string(),
    }
}

/// The text of such a file to look at. Wazuh does not mind bytes that are no UTF-8, such as a name in a comment has in an old
/// encoding: something else stands in their place.
///
/// # Errors
/// It cannot be read.
pub fn text(path: &Path) -> io::Result<Zeroizing<String>> {
    text_of(file::open(path)?)
}

/// As [`text`], of what is open.
///
/// # Errors
/// It cannot be read.
pub fn text_of(opened: File) -> io::Result<Zeroizing<String>> {
    let bytes = file::read_opened(opened, file::LARGEST_CONF)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The text as one document. An XML declaration is allowed at the very start only, where the wrapper is: blanks take
/// its place, so that offsets stay. So it is with what Wazuh's reader takes and XML does not: anything in comments, and `&`,
/// which DEL stands for.
#[must_use]
pub fn wrapped(text: &str) -> String {
    let text = &tolerated(text);
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

/// What stands for a `&` that begins no entity.
const AMPERSAND: &str = "\u{7f}";

/// The text with what XML would not take replaced by as many bytes of what it does.
fn tolerated(text: &str) -> String {
    let mut taken = String::with_capacity(text.len());
    let mut rest = text;
    let last_end = text.rfind("-->");
    while let Some(at) = rest.find(['<', '&']) {
        let (before, found) = rest.split_at(at);
        taken += before;
        // Nobody searches all that is left again and again.
        let is_before_an_end = last_end.is_some_and(|end| taken.len() < end);
        let comment = found
            .strip_prefix("<!--")
            .filter(|_| is_before_an_end)
            .and_then(|inside| inside.split_once("-->"));
        rest = if let Some((inside, behind)) = comment {
            let blank = |byte| if byte == b'\n' { '\n' } else { ' ' };
            taken += "<!--";
            taken.extend(inside.bytes().map(blank));
            taken += "-->";
            behind
        } else {
            let is_bare = found.starts_with('&') && !is_entity(found);
            let (mark, behind) = found.split_at(1);
            taken += if is_bare { AMPERSAND } else { mark };
            behind
        };
    }
    taken + rest
}

/// Whether an entity that XML knows stands in front.
fn is_entity(text: &str) -> bool {
    const LONGEST: usize = "&#x10FFFF;".len();
    let start = text.bytes().take(LONGEST).position(|byte| byte == b';');
    let name = start.and_then(|end| text.get(1..end));
    name.is_some_and(|name| match name.strip_prefix('#') {
        None => matches!(name, "amp" | "lt" | "gt" | "quot" | "apos"),
        Some(code) => code
            .trim_start_matches('x')
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit()),
    })
}

/// A text of the document, with each `&` where it was.
#[must_use]
pub fn said(text: &str) -> Cow<'_, str> {
    if text.contains(AMPERSAND) {
        text.replace(AMPERSAND, "&").into()
    } else {
        text.into()
    }
}

/// The number of the line on which an offset of the text lies.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The text of a node's first child of that name.
#[must_use]
pub fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<Cow<'a, str>> {
    let child = node.children().find(|child| child.has_tag_name(name))?;
    child.text().map(|text| said(text.trim()))
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
    child(node, "tag").as_deref() == Some("o365-wodle") || starts_it
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_wazuh_takes_and_xml_does_not_is_read_in_its_place() {
        let text = "<?xml version=\"1.0\"?>\n<a><!-- -- & \n<b> --><b>x &lt; 1 2>&1 && y &#38; &nbsp; &#zz;</b>\n<c/></a><!--";
        let taken = tolerated(text);
        assert_eq!(taken.len(), text.len());
        let (text, _) = text.rsplit_once("<!--").unwrap();
        let (said, line) = read(text, |all| {
            let a = all.first_element_child().unwrap();
            let c = a.last_element_child().unwrap();
            let at = c.range().start - BEFORE.len();
            (child(a, "b").unwrap().into_owned(), line_of(text, at))
        })
        .unwrap();
        assert_eq!(said, "x < 1 2>&1 && y & &nbsp; &#zz;");
        assert_eq!(line, 4);
    }
}
