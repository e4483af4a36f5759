//! The text with which a customer hands over a tenant, as people write it. No I/O here.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::problem::Flaw;
use super::scope::parse_guid;
use super::secret_text::{
    NEW_SECRET, REMARK, begins_as_azures, is_azure, is_elsewhere, is_hidden, is_of_azure,
    is_placeholder, unusable,
};
use label::{has_remark, is_of_id, label};
use text::{decode, plain};

mod label;
mod text;

/// What the customer handed over.
#[derive(Debug)]
pub struct HandOver {
    /// The directory (tenant) ID, a GUID in lower case.
    pub tenant_id: String,
    /// The application (client) ID, a GUID in lower case.
    pub client_id: String,
    /// The client secret's value.
    pub client_secret: SecretString,
}

/// A new secret for a tenant that is known.
#[derive(Debug)]
pub struct NewSecret {
    /// The directory (tenant) ID, if the text has one, in lower case.
    pub tenant_id: Option<String>,
    /// The application (client) ID, if the text has one, in lower case.
    pub client_id: Option<String>,
    /// The client secret's value.
    pub client_secret: SecretString,
}

/// Longer texts are no hand-over.
const MAX_BYTES: usize = 64 * 1024;
/// A bare word of this length may be a secret; Microsoft's have about 40 characters.
const SECRET_LENGTH: usize = 16;

/// How files begin that are no plain text, and what they are.
const FORMATS: [(&[u8], &str); 4] = [
    (br"{\rtf", "RTF (formatted text)"),
    (b"PK\x03\x04", "a Word document or a zip archive"),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Word document or an Outlook message",
    ),
    (b"%PDF", "a PDF"),
];

const RESEND: &str = "ask for the three values once more: tenant ID, client ID, secret value";

/// What a line's label announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    TenantId,
    ClientId,
    Secret,
    /// Stands beside the value in Azure; nothing signs in with it.
    SecretId,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::TenantId => "the tenant ID",
            Self::ClientId => "the client ID",
            Self::Secret => "the client secret",
            Self::SecretId => "the secret ID",
        }
    }
}

/// What was found, in its order.
type Fields<'a> = Vec<(Field, &'a str)>;

/// The three values in a customer's text.
///
/// A value stands after its label (`label: value`, `label = value`, or on the next line); a text
/// without any label has the tenant ID, the client ID and the secret in this order, and no words between
/// the IDs. Other lines are remarks.
///
/// # Errors
/// Each value that is missing, repeated or wrong, by name; never with the text itself.
pub fn parse_hand_over(bytes: &[u8]) -> Result<HandOver, Vec<Flaw>> {
    let text = text_of(bytes)?;
    let (fields, is_labelled) = fields(&text)?;
    if let ([(Field::Secret, value)], true) = (fields.as_slice(), is_labelled)
        && first_guid(value).is_some()
    {
        return Err(vec![Flaw::new(
            "the client secret's label alone has a value, and that is a GUID",
            "write each value directly after its own label",
        )]);
    }
    let mut flaws = Vec::new();
    let tenant_id = guid(&fields, Field::TenantId, &mut flaws);
    let client_id = guid(&fields, Field::ClientId, &mut flaws);
    let client_secret = secret(&text, &fields, &mut flaws);
    if tenant_id.is_some() && tenant_id == client_id {
        let cure = "copy each from the app registration's overview page in Azure";
        flaws.push(Flaw::new(
            "the tenant ID and the client ID are the same",
            cure,
        ));
    }
    match (tenant_id, client_id, client_secret) {
        (Some(tenant_id), Some(client_id), Some(client_secret)) if flaws.is_empty() => {
            Ok(HandOver {
                tenant_id,
                client_id,
                client_secret,
            })
        }
        _ => Err(flaws),
    }
}

/// The new secret in a customer's text: written as in a hand-over, but the two ids may be left out.
///
/// # Errors
/// As [`parse_hand_over`].
pub fn parse_new_secret(bytes: &[u8]) -> Result<NewSecret, Vec<Flaw>> {
    let text = text_of(bytes)?;
    let (mut fields, is_labelled) = fields(&text)?;
    // a GUID all alone is meant to be the secret, and refused as its ID
    if let ([(field, _)], false) = (fields.as_mut_slice(), is_labelled) {
        *field = Field::Secret;
    }
    let mut flaws = Vec::new();
    let mut optional = |field| {
        let is_there = fields.iter().any(|(other, _)| *other == field);
        is_there.then(|| guid(&fields, field, &mut flaws)).flatten()
    };
    let (tenant_id, client_id) = (optional(Field::TenantId), optional(Field::ClientId));
    match secret(&text, &fields, &mut flaws) {
        Some(client_secret) if flaws.is_empty() => Ok(NewSecret {
            tenant_id,
            client_id,
            client_secret,
        }),
        _ => Err(flaws),
    }
}

fn text_of(bytes: &[u8]) -> Result<Zeroizing<String>, Vec<Flaw>> {
    if bytes.len() > MAX_BYTES {
        let what = format!("the text is longer than {MAX_BYTES} bytes");
        return Err(vec![Flaw::new(what, "give the text with the three values")]);
    }
    if let Some((_, what)) = FORMATS.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        let cure = "send plain text: save it as .txt, or write it into a mail";
        return Err(vec![Flaw::new(format!("the text is {what}"), cure)]);
    }
    Ok(plain(&decode(bytes)))
}

/// What the text gives, and whether it has labels.
fn fields(text: &str) -> Result<(Fields<'_>, bool), Vec<Flaw>> {
    let lines: Vec<&str> = text
        .lines()
        .map(undecorated)
        .filter(|line| has_text(line))
        .collect();
    let fields = labelled(&lines);
    if fields.is_empty() {
        Ok((bare(&lines).map_err(|flaw| vec![flaw])?, false))
    } else {
        Ok((fields, true))
    }
}

/// Whether a line is more than a ruler, a fence or a blank.
fn has_text(line: &str) -> bool {
    let is_fence = line
        .strip_prefix("```")
        .is_some_and(|language| language.bytes().all(|byte| byte.is_ascii_lowercase()));
    !is_fence && (line.contains(char::is_alphanumeric) || is_hidden(line))
}

/// The only value of a field.
fn only<'a>(fields: &[(Field, &'a str)], field: Field, flaws: &mut Vec<Flaw>) -> Option<&'a str> {
    // A customer number is no ID beside one.
    let is_id = |(other, value): &&(Field, &str)| *other == field && first_guid(value).is_some();
    let is_any = field != Field::Secret && fields.iter().any(|one| is_id(&one));
    let mut values = fields
        .iter()
        .filter(|one| one.0 == field && (!is_any || is_id(one)));
    let Some((_, value)) = values.next() else {
        let flaw = if field == Field::Secret
            && fields.iter().any(|(field, _)| *field == Field::SecretId)
        {
            Flaw::new(
                "the client secret is missing: only the secret's ID is there",
                NEW_SECRET,
            )
        } else {
            Flaw::new(format!("{} is missing", field.name()), RESEND)
        };
        flaws.push(flaw);
        return None;
    };
    let more = values.count();
    if more > 0 {
        let what = format!("{} is there {} times", field.name(), more + 1);
        flaws.push(Flaw::new(what, "keep the right one in the text, once"));
        return None;
    }
    Some(value)
}

fn guid(fields: &[(Field, &str)], field: Field, flaws: &mut Vec<Flaw>) -> Option<String> {
    let value = only(fields, field, flaws)?;
    let mut guids = guids(value);
    let first = guids.next();
    // What comes after it is another's: `8a3c… (object ID 9999…)`.
    let begins = value.split_whitespace().next().map(unquoted);
    if first.is_some() && begins.and_then(parse_guid) == first {
        return first;
    }
    let (what, cure) = if first.is_none() {
        (
            "is no GUID",
            "copy it from the app registration's overview page in Azure",
        )
    } else if guids.any(|other| Some(other) != first) {
        (
            "has two GUIDs beside its label",
            "keep the right one in the text",
        )
    } else {
        return first;
    };
    flaws.push(Flaw::new(format!("{} {what}", field.name()), cure));
    None
}

fn secret(text: &str, fields: &[(Field, &str)], flaws: &mut Vec<Flaw>) -> Option<SecretString> {
    let is_labelled = fields.iter().any(|(field, _)| *field == Field::Secret);
    // A table, as the portal shows it.
    if !is_labelled && secrets_of_azure(text).next().is_some() {
        flaws.push(Flaw::new(
            "the client secret stands in the text, but not after its label",
            "write it alone on a line of its own: Client secret: VALUE; and the two IDs in the same way",
        ));
        return None;
    }
    let value = only(fields, Field::Secret, flaws)?;
    secret_value(value)
        .and_then(|secret| unless_another(text, secret))
        .map_err(|flaw| {
            let what = format!("{} {}", Field::Secret.name(), flaw.what);
            flaws.push(Flaw { what, ..flaw });
        })
        .ok()
}

/// A secret, unless the text has another one: it may be the old one beside the new, in a mail below or behind words that are
/// not known here.
fn unless_another(text: &str, secret: SecretString) -> Result<SecretString, Flaw> {
    if secrets_of_azure(text).any(|word| !secret.expose_secret().contains(word)) {
        return Err(Flaw::new(
            "is not the only one in the text",
            "keep the right one in the text, once and alone on a line after its label",
        ));
    }
    Ok(secret)
}

/// Words of the form of Azure's secrets.
fn secrets_of_azure(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !is_of_azure(c));
    let forms = words.flat_map(|word| [word, word.trim_end_matches('.')]);
    forms.filter(|word| is_azure(word))
}

/// The first word of a value, if it can be a secret.
fn secret_value(value: &str) -> Result<SecretString, Flaw> {
    let alone = "write the value alone on a line after its label";
    let mut words = value.split_whitespace();
    let written = words.next().unwrap_or_default();
    let word = unquoted(written);
    let is_with_remark = words.next().is_some();
    let (what, cure) = if is_hidden(written) || is_hidden(word) {
        ("is hidden or cut off", NEW_SECRET)
    } else if word.is_empty() || (is_with_remark && word.len() < SECRET_LENGTH) {
        (REMARK, NEW_SECRET)
    } else if word.contains(['"', '{', '}', '(', ')', '<', '>', ',']) || !word.is_ascii() {
        (
            "has a quote, bracket, comma or letter in it that no secret of Azure has",
            alone,
        )
    } else if word.contains(['\\', '|']) {
        (
            "has a backslash or a bar in it that no secret of Azure has",
            alone,
        )
    } else if let Some(flaw) = unusable(word) {
        return Err(flaw);
    } else {
        return Ok(SecretString::from(word));
    };
    Err(Flaw::new(what, cure))
}

/// Values after labels, on the same or the next line.
fn labelled<'a>(lines: &[&'a str]) -> Fields<'a> {
    let mut fields = Vec::new();
    let mut announced = None;
    for line in lines {
        if let Some(field) = label(line) {
            announced = Some((field, line));
        } else if let Some((field, value)) = label_and_value(line) {
            announced = None;
            fields.push((field, value));
        } else if let Some((field, label)) = announced.take()
            && !is_remark(label, field, line)
        {
            fields.push((field, *line));
        }
    }
    fields
}

fn label_and_value(line: &str) -> Option<(Field, &str)> {
    let separators = line
        .char_indices()
        .filter(|(_, c)| matches!(c, ':' | '：' | '=' | '＝' | '\t' | '|' | '–' | '—' | '→'));
    for (at, separator) in separators {
        let (before, after) = (line.get(..at)?, line.get(at + separator.len_utf8()..)?);
        if let Some(field) = label(before) {
            let after = match (separator, field) {
                ('|', _) | ('\t', Field::Secret) => cell(after, separator, field),
                _ => after,
            };
            // "**label:** value"
            let after = after.strip_prefix("**").unwrap_or(after);
            let value = after.trim_start_matches(|c: char| {
                c.is_whitespace() || matches!(c, ':' | '：' | '=' | '＝' | '>')
            });
            let is_value = !value.is_empty() && !is_remark(before, field, value);
            return is_value.then_some((field, undecorated(value)));
        }
    }
    // nothing but a blank between the two: only for what is certainly a value
    let (before, value) = line.rsplit_once(char::is_whitespace)?;
    let field = label(before.trim_end_matches([' ', '-']))?;
    let certain = match field {
        Field::Secret => value.len() >= SECRET_LENGTH,
        _ => first_guid(value).is_some(),
    };
    certain.then_some((field, value))
}

/// The cell of a table's row that holds the value: of a secret's the first that may be one, else all of them.
fn cell(row: &str, separator: char, field: Field) -> &str {
    let mut cells = row
        .split(separator)
        .map(str::trim)
        .filter(|cell| !cell.is_empty());
    let first = cells.clone().next().unwrap_or_default();
    if field != Field::Secret || cells.clone().count() == 1 {
        return first;
    }
    if let Some(secret) = cells.clone().find(|cell| begins_as_azures(cell)) {
        return secret;
    }
    cells
        .find(|cell| may_be_secret(cell) && parse_guid(cell).is_none())
        .unwrap_or(row)
}

/// Whether it is no value: the name of what the label may also give the ID of (`Tenant: Contoso Ltd`), or what a remark in
/// the label announces (`Client secret (expires): 2027-05-01`).
fn is_remark(label: &str, field: Field, value: &str) -> bool {
    match field {
        Field::TenantId | Field::ClientId => !is_of_id(label) && first_guid(value).is_none(),
        Field::Secret => {
            let word = value.split_whitespace().next().unwrap_or_default();
            has_remark(label) && word.len() < SECRET_LENGTH
        }
        Field::SecretId => false,
    }
}

/// A text without labels: two GUIDs, and one word that may be a secret.
///
/// Which GUID is which tells their order only where nothing else does: what stands between them may be
/// a label in words that are not known here.
fn bare<'a>(lines: &[&'a str]) -> Result<Fields<'a>, Flaw> {
    let mut ids = [Field::TenantId, Field::ClientId, Field::Secret].into_iter();
    let mut fields = Vec::new();
    let (mut is_after_words, mut is_among_words) = (false, false);
    for line in lines {
        let word = unquoted(line);
        let is_guid = parse_guid(word).is_some();
        // Words before the first may greet.
        if is_guid && is_after_words && !fields.is_empty() {
            return Err(unknown_labels());
        }
        if is_guid {
            fields.push((ids.next().unwrap_or(Field::Secret), word));
        } else if may_be_secret(word) {
            fields.push((Field::Secret, word));
        } else if !line.contains("://") && line.contains(char::is_alphabetic) {
            is_among_words |= first_guid(line).is_some();
            is_after_words = true;
            continue;
        } else {
            continue;
        }
        is_after_words = false;
    }
    if is_among_words && fields.is_empty() {
        return Err(unknown_labels());
    }
    Ok(fields)
}

fn unknown_labels() -> Flaw {
    Flaw::new(
        "the labels are not understood",
        "write `Tenant ID:`, `Client ID:` and `Client secret:` before the values",
    )
}

/// Whether a bare word is none of those that end a mail.
fn may_be_secret(word: &str) -> bool {
    let number = word.rsplit(':').next().unwrap_or_default();
    let is_phone = number
        .chars()
        .all(|c| c.is_ascii_digit() || "+-/.()".contains(c));
    word.len() >= SECRET_LENGTH
        && !word.contains(char::is_whitespace)
        && !is_phone
        && !is_elsewhere(word)
        && !is_placeholder(word)
}

fn first_guid(value: &str) -> Option<String> {
    guids(value).next()
}

fn guids(value: &str) -> impl Iterator<Item = String> {
    value
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter_map(parse_guid)
}

/// A line without the bullets and quote marks of mails and lists before it.
fn undecorated(line: &str) -> &str {
    let line = line
        .trim()
        .trim_start_matches(|c: char| c == '>' || c.is_whitespace());
    // a dash is a bullet only with a blank after it: a value may begin with one
    let bullet = |c: char| {
        matches!(
            c,
            '-' | '*' | '+' | '•' | '·' | '▪' | '●' | '◦' | '–' | '—' | 'o'
        )
    };
    match line.strip_prefix(bullet) {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim(),
        Some(rest) if line.starts_with(['•', '·', '▪', '●', '◦']) => rest.trim(),
        _ => line,
    }
}

/// A value without the quotes, emphasis, and JSON's commas and braces around it.
fn unquoted(value: &str) -> &str {
    value.trim().trim_matches(|c: char| {
        matches!(
            c,
            '"' | '\''
                | ','
                | ';'
                | '{'
                | '}'
                | '`'
                | '“'
                | '”'
                | '„'
                | '‘'
                | '’'
                | '«'
                | '»'
                | '*'
                | '<'
                | '>'
                | '['
                | ']'
        )
    })
}

#[cfg(test)]
mod tests;
