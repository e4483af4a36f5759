//! Which records the operator wants.

use super::Record;
use super::node::{self, Members, Node};
use crate::config::Filter;

/// Whether a record passes: it matches any of `include`, or there is none, and none of `exclude`.
#[must_use]
pub fn passes(record: &Record<'_>, include: &[Filter], exclude: &[Filter]) -> bool {
    if include.is_empty() && exclude.is_empty() {
        return true;
    }
    // Only filters ask for these members: the pass over every record does not look for them.
    let members = node::read(record.bytes).unwrap_or_default();
    let any = |filters: &[Filter]| filters.iter().any(|filter| matches(&members, filter));
    (include.is_empty() || any(include)) && !any(exclude)
}

/// Whether a record meets all conditions of a filter; a field that it does not have meets none.
fn matches(members: &Members<'_>, filter: &Filter) -> bool {
    let first = |wanted: &str| {
        let found = members.iter().find(|(key, _)| key == wanted);
        found.map(|(_, value)| value)
    };
    let text = |pattern: &Option<String>, key| {
        pattern.as_ref().is_none_or(
            |pattern| matches!(first(key), Some(Node::Text(text)) if glob(pattern, text)),
        )
    };
    let number = || match first("RecordType")? {
        Node::Text(text) => text.parse::<i64>().ok(),
        // `15.0` is 15 to Wazuh too
        Node::Plain(token) => {
            let whole = token.trim_end_matches('0').strip_suffix('.');
            whole.unwrap_or(token).parse().ok()
        }
        Node::Array(_) | Node::Object(_) => None,
    };
    text(&filter.operation, "Operation")
        && text(&filter.workload, "Workload")
        && text(&filter.user_id, "UserId")
        && filter
            .record_type
            .as_ref()
            .is_none_or(|types| number().is_some_and(|number| types.contains(&number)))
}

/// Whether a pattern covers the whole text, regardless of case: `*` stands for any text, `?` for one character.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // behind the last star, and how much text it has not swallowed yet
    let mut retry = None;
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = here.clone();
                retry = Some((pattern.clone(), here));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted.to_lowercase().eq(found.to_lowercase()) => {}
            _ => {
                let Some((behind, mut swallowed)) = retry.take() else {
                    return false;
                };
                if swallowed.next().is_none() {
                    return false;
                }
                pattern = behind.clone();
                text = swallowed.clone();
                retry = Some((behind, swallowed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs_cover_the_whole_text_regardless_of_case() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("new-inboxrule", "New-InboxRule", true),
            ("new-*", "New-", true),
            ("*rule", "New-InboxRule2", false),
            ("*@contoso.com", "a@b@CONTOSO.com", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
            ("?*", "", false),
            ("?", "é", true),
            ("É*", "école", true),
            (
                "*a*a*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
            ("[a]", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
