//! Where the block goes in a text of `ossec.conf`. No I/O here.
//!
//! `ossec.conf` is no XML document but a row of them: Wazuh reads any number of `<ossec_config>`
//! roots one after the other. The text is parsed only to find the place and to see that nothing
//! broke; what is in it stays as it is, byte for byte.

use std::ops::Range;

use roxmltree::{Document, Node};

use super::BLOCK;
use crate::wazuh::ossec_conf::{BEFORE, child, is_ours, line_of, why, wrapped};

/// What became of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    /// The whole new text, and the line at which the block begins.
    Done { text: String, line: usize },
    /// A block that starts this program stands at that line already.
    Present { line: usize, is_disabled: bool },
    /// Nothing that a program should change: why.
    Refused(String),
}

/// Inserts the block once, at the end of the last `<ossec_config>` that is there.
pub(super) fn insert_block(text: &str) -> Insertion {
    let shape = match Shape::of(text) {
        Ok(shape) => shape,
        Err(fault) => {
            return Insertion::Refused(format!("it does not read as XML ({})", why(&fault)));
        }
    };
    if let Some((at, is_disabled)) = shape.present {
        let line = line_of(text, at);
        return Insertion::Present { line, is_disabled };
    }
    let Some(root) = &shape.root else {
        return Insertion::Refused("there is no <ossec_config> in it".to_owned());
    };
    let inserted = inserted(text, root).and_then(|text| {
        let shape = Shape::of(&text).ok()?;
        let line = line_of(&text, shape.present?.0);
        Some(Insertion::Done { text, line })
    });
    inserted
        .unwrap_or_else(|| Insertion::Refused("the place for the block is not clear".to_owned()))
}

/// Offsets of what matters in a text.
struct Shape {
    /// A wodle that is ours, and whether it is disabled.
    present: Option<(usize, bool)>,
    root: Option<Root>,
}

struct Root {
    range: Range<usize>,
    last_child: Option<usize>,
}

impl Shape {
    fn of(text: &str) -> Result<Self, roxmltree::Error> {
        let wrapped = wrapped(text);
        let document = Document::parse(&wrapped)?;
        let start = |node: Node<'_, '_>| node.range().start - BEFORE.len();
        let roots = document
            .root_element()
            .children()
            .filter(|node| node.has_tag_name("ossec_config"))
            .map(|node| Root {
                range: start(node)..node.range().end - BEFORE.len(),
                last_child: node.last_element_child().map(start),
            });
        // of those without an end tag the last only if there is no other
        let root = roots.max_by_key(|root| (!is_empty(text, root), root.range.start));
        let present = document
            .descendants()
            .find(|node| is_ours(*node))
            .map(|node| {
                (
                    start(node),
                    child(node, "disabled").as_deref() == Some("yes"),
                )
            });
        Ok(Self { present, root })
    }
}

fn is_empty(text: &str, root: &Root) -> bool {
    text.get(root.range.clone())
        .is_some_and(|source| source.ends_with("/>"))
}

/// The text with the block in that root, indented like what stands around it.
fn inserted(text: &str, root: &Root) -> Option<String> {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let source = text.get(root.range.clone())?;
    let own_line = indentation(text, root.range.start);
    if is_empty(text, root) {
        let outer = own_line.unwrap_or_default();
        let (before, after) = (text.get(..root.range.end - 2)?, text.get(root.range.end..)?);
        let block = block(&format!("{outer}  "), "  ", end);
        return Some(format!(
            "{}>{end}{block}{outer}</ossec_config>{after}",
            before.trim_end()
        ));
    }
    let close = root.range.start + source.rfind("</")?;
    let close_line = indentation(text, close);
    let outer = close_line.or(own_line).unwrap_or_default();
    let inner = root.last_child.and_then(|at| indentation(text, at));
    let unit = inner
        .and_then(|inner| inner.strip_prefix(outer))
        .filter(|unit| !unit.is_empty())
        .unwrap_or("  ");
    let inner = inner.map_or_else(|| format!("{outer}{unit}"), str::to_owned);
    let block = block(&inner, unit, end);
    let (at, before, after) = match close_line {
        Some(line) => (close - line.len(), "", ""),
        None => (close, end, outer),
    };
    let (head, tail) = text.split_at_checked(at)?;
    Some(format!("{head}{before}{block}{after}{tail}"))
}

fn block(inner: &str, unit: &str, end: &str) -> String {
    let mut block = String::new();
    for line in BLOCK.lines() {
        let bare = line.trim_start();
        let depth = (line.len() - bare.len()) / 2;
        block.extend([inner, &unit.repeat(depth), bare, end]);
    }
    block
}

/// The white space before an offset, if nothing else stands before it on its line.
fn indentation(text: &str, at: usize) -> Option<&str> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    line.chars()
        .all(|c| matches!(c, ' ' | '\t'))
        .then_some(line)
}

#[cfg(test)]
mod tests;
