//! Whether a text can be a client secret. No I/O here.

use std::ops::RangeInclusive;

use super::problem::Flaw;
use super::scope::parse_guid;

/// A longer text is no secret.
pub(super) const MAX_LENGTH: usize = 4096;
/// Azure's secrets of today: three characters, a digit, `Q~`, and the rest. Those of the first years are shorter.
const AZURE: RangeInclusive<usize> = 37..=40;
/// What Azure made before had 32 characters or more.
const SHORTEST: usize = 32;

pub(super) const NEW_SECRET: &str =
    "copy the column Value in Azure, which is shown only once; make a new secret if it is gone";
pub(super) const REMARK: &str = "is a remark in place of a value";

/// Why nobody signs in with that, and the cure; `what` goes on after the name of what holds it. What
/// is unusual only (an old secret, a password that somebody chose) is let pass.
pub(crate) fn unusable(secret: &str) -> Option<Flaw> {
    let alone = "write the value alone, and nothing else";
    let (what, cure) = if secret.is_empty() {
        ("is empty", NEW_SECRET)
    } else if secret.len() > MAX_LENGTH {
        ("is longer than 4096 bytes", NEW_SECRET)
    } else if is_broken(secret) {
        ("has more than one line, or control characters", alone)
    } else if secret.contains(is_invisible) {
        ("has characters that cannot be seen", alone)
    } else if parse_guid(secret).is_some() {
        (
            "is a GUID: the secret's ID was pasted in place of its value",
            NEW_SECRET,
        )
    } else if is_hidden(secret) {
        ("is hidden or cut off", NEW_SECRET)
    } else if is_quoted(secret) {
        ("stands in quotes", alone)
    } else if is_elsewhere(secret) {
        (
            "is a link or an address in place of a value",
            "write the value itself; make a new secret if it is gone",
        )
    } else if is_placeholder(secret) {
        (REMARK, NEW_SECRET)
    } else {
        return None;
    };
    Some(Flaw::new(what, cure))
}

/// What makes it doubtful that this is a whole secret, if anything does; as in [`unusable`].
pub(crate) fn doubtful(secret: &str) -> Option<String> {
    let length = secret.chars().count();
    let is_short = length < SHORTEST || (is_azure(secret) && length < *AZURE.end());
    if let Some(what) = mistaken_azure(secret) {
        Some(what)
    } else if is_short {
        Some(format!(
            "has {length} characters where Azure's have {}",
            AZURE.end()
        ))
    } else if secret.contains(';') {
        Some("has a semicolon in it".to_owned())
    } else {
        are_words(secret).then(|| "has nothing but words in it".to_owned())
    }
}

/// Whether a line ends in it, or a terminal would be told something.
pub(super) fn is_broken(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || c == '\u{2028}')
}

/// Marks that people paste without seeing them.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'
            | '\u{2066}'..='\u{2069}'
            | '\u{ad}'
    )
}

/// Whether that is what Azure shows of a secret later, or a part of one.
pub(super) fn is_hidden(text: &str) -> bool {
    ["***", "•••"].iter().any(|mask| text.contains(mask))
        || ["...", "…"].iter().any(|cut| text.ends_with(cut))
        || text.starts_with('…')
}

fn is_quoted(text: &str) -> bool {
    let is_quote = |c: char| {
        matches!(
            c,
            '"' | '\'' | '`' | '“' | '”' | '„' | '‘' | '’' | '«' | '»'
        )
    };
    text.starts_with(is_quote) && text.ends_with(is_quote)
}

/// Whether it only says where the secret is: a link, or a mail address.
pub(super) fn is_elsewhere(text: &str) -> bool {
    let is_link = text.split_once("://").is_some_and(|(scheme, _)| {
        let letters = scheme.chars().rev();
        letters.take_while(char::is_ascii_alphabetic).count() > 2
    });
    let is_in = |text: &str, also: &str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || also.contains(c))
    };
    // a password may have both signs as well, but hardly words around them
    let is_address = text.split_once('@').is_some_and(|(who, host)| {
        let (names, last) = host.rsplit_once('.').unwrap_or_default();
        is_in(who, "._+-:")
            && is_in(names, ".-")
            && are_words(last)
            && last.len() > 1
            && names.split('.').all(is_word)
    });
    is_link || is_address
}

/// Whether words stand there for a value that is still to come: `TBD`, `n/a`, `your-secret-here`, `siehe-Anhang`.
pub(super) fn is_placeholder(text: &str) -> bool {
    const ALONE: [&str; 8] = [
        "tbd", "tba", "n/a", "na", "none", "todo", "pending", "folgt",
    ];
    const BEGIN: [&str; 5] = ["see", "siehe", "voir", "paste", "insert"];
    let text = text.to_lowercase();
    let mut words = text.split(|c: char| !c.is_alphabetic());
    let begins = words
        .clone()
        .next()
        .is_some_and(|word| BEGIN.contains(&word));
    let is_addressed = words.any(|word| word == "your");
    ALONE.contains(&&*text) || are_words(&text) && (begins || is_addressed)
}

fn are_words(text: &str) -> bool {
    text.split(['-', '_', '/', '.', '?', '!'])
        .all(|word| word.chars().all(char::is_alphabetic) && is_word(word))
}

/// Whether all its letters are of one case, the first apart.
fn is_word(text: &str) -> bool {
    let mut rest = text.chars();
    rest.next();
    text.to_uppercase() == text || !rest.as_str().contains(char::is_uppercase)
}

/// A secret of Azure's that something is missing of, or attached to.
fn mistaken_azure(secret: &str) -> Option<String> {
    if is_azure(secret) || !holds_azure(secret) {
        return None;
    }
    let length = secret.chars().count();
    Some(if AZURE.contains(&length) {
        "has a character in it that no secret of Azure has: something is attached to it".to_owned()
    } else {
        let usual = AZURE.end();
        format!(
            "has {length} characters where Azure's have {usual}: it was cut off, or something is attached to it"
        )
    })
}

pub(super) fn is_azure(secret: &str) -> bool {
    AZURE.contains(&secret.len()) && azure_in(secret, 0) == secret.len()
}

/// Whether it begins as each secret that Azure makes today.
pub(super) fn begins_as_azures(text: &str) -> bool {
    azure_in(text, 0) > 0
}

/// Whether it begins as a secret of Azure's, or has a whole one inside. (One from before may have these
/// three characters by chance, but not so many after them.)
fn holds_azure(secret: &str) -> bool {
    let inside = |at| azure_in(secret, at) >= *AZURE.start();
    begins_as_azures(secret) || (1..secret.len()).any(inside)
}

/// Whether it may stand in a secret that Azure makes.
pub(super) fn is_of_azure(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._~-".contains(c)
}

/// How many bytes from there on read as a secret of Azure's.
fn azure_in(secret: &str, at: usize) -> usize {
    let from = secret.as_bytes().get(at..).unwrap_or_default();
    let length = from
        .iter()
        .take_while(|byte| is_of_azure(char::from(**byte)))
        .count();
    match from {
        [_, _, _, b'0'..=b'9', b'Q', b'~', ..] if length > 5 => length,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: &str = "abC8Q~d.E_f-GhIjKlMnOpQrStUvWxYz01234567";

    fn what(secret: &str) -> Option<String> {
        unusable(secret).map(|flaw| flaw.what)
    }

    #[test]
    fn secrets_of_any_age_are_let_pass() {
        for secret in [
            S,
            "1aB8Q~d.E_f-GhIjKlMnOpQrStUvWxYz0123456",
            "a:JtA5vkXq/4aY.PRk@[1tbz3mq.Bp]Q",
            "pJ+kT3l7hD0fE9sQ2wZ8xC5vB1nM6aSdFgHjKlQwErT=",
            "1aB8&d.E<f-GhIjKlMn<&>OpQrStUvWxYz0123456",
            "s3cret~1.+/=&%5f",
            "thisSecretIsNotTheOneThatAzureKnows",
            "correct-horse-battery-staple",
            "P@ssw0rd.aB3",
            "Hunter2",
            "abc~D.e-f_G0123456789",
        ] {
            assert_eq!(what(secret), None, "{secret}");
        }
    }

    #[test]
    fn what_nobody_signs_in_with_is_refused() {
        for (secret, said) in [
            (String::new(), "is empty"),
            ("a1".repeat(2049), "is longer than 4096 bytes"),
            (format!("{S}\nx"), "has more than one line, or control"),
            (format!("{S}\u{1b}"), "has more than one line, or control"),
            (format!("{S}\u{200b}"), "has characters that cannot be seen"),
            (format!("\"{S}\""), "stands in quotes"),
            ("*".repeat(40), "is hidden or cut off"),
            ("https://onetimesecret.com/a/b1".into(), "is a link or an"),
            ("Jane.Doe@contoso1.example".into(), "is a link or an"),
            ("mailto:it@Contoso.com".into(), "is a link or an"),
            ("TBD".into(), REMARK),
            ("n/a".into(), REMARK),
            ("siehe-Anhang".into(), REMARK),
            ("paste-your-client-secret-here".into(), REMARK),
        ] {
            let refused = what(&secret).unwrap_or_else(|| "no".to_owned());
            assert!(refused.contains(said), "{secret}: {refused}");
        }
    }

    #[test]
    fn what_is_odd_is_told() {
        let attached = "where Azure's have 40: it was cut off, or something is attached to it";
        for (secret, said) in [
            (format!("Value:{S}"), attached),
            (format!("{S}\\n"), attached),
            (format!("{S}."), attached),
            (format!("{S};expires=2027-01-01"), attached),
            (S.replace("~d", "~\\~d"), attached),
            (S.replace("567", ""), "has 37 characters"),
            (S.replace("4567", ""), attached),
            (S.replace('7', "!"), "has a character in it that no secret"),
        ] {
            assert_eq!(what(&secret), None, "{secret}");
            let odd = doubtful(&secret).unwrap_or_default();
            assert!(odd.contains(said), "{secret}: {odd}");
        }
        for (secret, said) in [
            (S, None),
            (&S[..39], Some("has 39 characters where Azure's have 40")),
            ("Hunter2", Some("has 7 characters where Azure's have 40")),
            ("pJ+kT3l7hD0fE9sQ2wZ8xC5vB1nM6aSdFgHjKlQwErT=", None),
            (
                "pJ+kT3l7hD0fE9sQ2wZ8xC5vB1nM6aSd;expires",
                Some("has a semicolon in it"),
            ),
            (
                "correct-horse-battery-staple-and-more",
                Some("has nothing but words in it"),
            ),
        ] {
            assert_eq!(doubtful(secret).as_deref(), said, "{secret}");
        }
    }
}
