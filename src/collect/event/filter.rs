//! Which records the operator wants.

use super::findings::Field;
use super::{Record, scalar, string};
use crate::config::Filter;

/// Whether a record passes: it matches any of `include`, or there is none, and none of `exclude`.
#[must_use]
pub fn passes(record: &Record<'_>, include: &[Filter], exclude: &[Filter]) -> bool {
    let any = |filters: &[Filter]| filters.iter().any(|filter| matches(record, filter));
    (include.is_empty() || any(include)) && !any(exclude)
}

/// Whether a record meets all conditions of a filter; a field that it does not have meets none.
fn matches(record: &Record<'_>, filter: &Filter) -> bool {
    let fields = &record.findings.fields;
    let text = |pattern: &Option<String>, field| {
        pattern.as_ref().is_none_or(|pattern| {
            string(fields.get(field)).is_some_and(|text| glob(pattern, &text))
        })
    };
    let number = || scalar(fields.get(Field::RecordType))?.parse::<i64>().ok();
    text(&filter.operation, Field::Operation)
        && text(&filter.workload, Field::Workload)
        && text(&filter.user_id, Field::UserId)
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
