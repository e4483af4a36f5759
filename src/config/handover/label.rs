//! The labels of values, in the words of people and of Azure's portal in some languages.

use super::{Field, SECRET_LENGTH, first_guid};

/// The words that tell an ID's label from a name's.
const ID: [&str; 3] = ["id", "guid", "identifier"];
/// Words beside the others that say nothing.
const FILLERS: [&str; 28] = [
    "the",
    "your",
    "our",
    "my",
    "a",
    "azure",
    "ad",
    "entra",
    "aad",
    "microsoft",
    "ms",
    "office",
    "365",
    "o365",
    "m365",
    "id",
    "guid",
    "identifier",
    "export",
    "registration",
    "de",
    "d",
    "l",
    "la",
    "da",
    "do",
    "del",
    "della",
];
// English, German, French, Spanish, Portuguese, Italian, Dutch, Japanese; without accents
const TENANT: [&str; 15] = [
    "tenant",
    "directory",
    "verzeichnis",
    "mandant",
    "mandanten",
    "annuaire",
    "repertoire",
    "locataire",
    "directorio",
    "inquilino",
    "diretorio",
    "locatario",
    "map",
    "ディレクトリ",
    "テナント",
];
const CLIENT: [&str; 13] = [
    "client",
    "application",
    "app",
    "anwendung",
    "anwendungs",
    "aplicacion",
    "cliente",
    "aplicativo",
    "applicazione",
    "toepassing",
    "toepassings",
    "アプリケーション",
    "クライアント",
];
const SECRET: [&str; 16] = [
    "secret",
    "secrete",
    "clientschlussel",
    "password",
    "kennwort",
    "passwort",
    "geheimer",
    "geheime",
    "geheimnis",
    "clientgeheimnis",
    "secreto",
    "segredo",
    "segreto",
    "geheim",
    "clientgeheim",
    "シークレット",
];
const VALUE: [&str; 7] = ["value", "wert", "valeur", "valor", "valore", "waarde", "値"];
const KEY: [&str; 5] = ["key", "text", "schlussel", "cle", "clave"];

/// What makes an ID that a remark names one that is not meant: English, German, French, Spanish, Portuguese, Italian, Dutch.
const NOT: [&str; 7] = ["not", "nicht", "pas", "no", "nao", "non", "niet"];
/// A longer text is no label.
const LONGEST: usize = 300;

/// What a label announces, if these words are one, with or without a remark after them: after a name it may be the name.
pub(super) fn label(text: &str) -> Option<Field> {
    if text.len() > LONGEST {
        return None;
    }
    known(text).or_else(|| {
        let before = without_remark(text)?;
        known(before).filter(|field| *field == Field::Secret || is_of_id(before))
    })
}

/// Whether a label is one only without the remark after it: what follows may belong to the remark.
pub(super) fn has_remark(label: &str) -> bool {
    known(label).is_none()
}

/// The words before a parenthesis at the end: `Client secret (24 months)`. One that tells of an ID, or may
/// hold the value, is no remark.
fn without_remark(text: &str) -> Option<&str> {
    let text = text.trim_end_matches(|c: char| !c.is_alphanumeric() && !matches!(c, ')' | '）'));
    let (label, remark) = text.strip_suffix([')', '）'])?.rsplit_once(['(', '（'])?;
    let is_domain = |word: &str| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        word.contains('.') && word.chars().all(is_plain)
    };
    let is_value = |word: &str| {
        first_guid(word).is_some() || (word.len() >= SECRET_LENGTH && !is_domain(word))
    };
    // `(value, not the secret ID)`
    let remark_words = words(remark);
    let mut meant = remark_words
        .iter()
        .map(String::as_str)
        .take_while(|word| !NOT.contains(word));
    let tells = meant.any(|word| ID.contains(&word)) || remark.split_whitespace().any(is_value);
    (!tells).then_some(label)
}

fn known(text: &str) -> Option<Field> {
    if text.len() > 80 {
        return None;
    }
    // Somebody's caps lock was on.
    of_words(text).or_else(|| of_words(&text.to_lowercase()))
}

fn of_words(text: &str) -> Option<Field> {
    // Where nothing stands between them, words cannot be told apart.
    let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    match letters.to_lowercase().as_str() {
        "tenantid" | "directoryid" | "directorytenantid" => return Some(Field::TenantId),
        "clientid" | "applicationid" | "appid" | "applicationclientid" => {
            return Some(Field::ClientId);
        }
        "clientsecret" | "clientsecretvalue" | "secretvalue" => return Some(Field::Secret),
        _ => {}
    }
    let words = words(text);
    let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
    let only = |also: &[&[&str]]| {
        words.iter().all(|word| {
            let word = &word.as_str();
            FILLERS.contains(word) || also.iter().any(|also| also.contains(word))
        })
    };
    if has(&SECRET) && only(&[&CLIENT, &SECRET, &VALUE, &KEY]) {
        let id_alone = has(&ID) && !has(&VALUE);
        return Some(if id_alone {
            Field::SecretId
        } else {
            Field::Secret
        });
    }
    if let [word] = words.as_slice()
        && VALUE.contains(&word.as_str())
    {
        return Some(Field::Secret);
    }
    if has(&TENANT) && only(&[&TENANT]) {
        return Some(Field::TenantId);
    }
    (has(&CLIENT) && only(&[&CLIENT])).then_some(Field::ClientId)
}

/// Whether a label tells an ID, not a name.
pub(super) fn is_of_id(label: &str) -> bool {
    words(label).iter().any(|word| ID.contains(&word.as_str()))
}

/// The words of a label in lower case: `tenantId`, `AZURE_TENANT_ID` and `Directory (tenant) ID` alike.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in text.chars().filter_map(without_accent) {
        if !c.is_alphanumeric() || (after_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    // numbering such as "1." or "2)"
    let mut numbered = words.into_iter().filter(|word| !word.is_empty()).peekable();
    numbered.next_if(|word| word.len() < 3 && word.bytes().all(|byte| byte.is_ascii_digit()));
    numbered.collect()
}

/// The letter of a Latin one, composed or followed by its accent.
fn without_accent(c: char) -> Option<char> {
    let plain = match c.to_lowercase().next()? {
        '\u{300}'..='\u{36f}' => return None,
        'à'..='ä' => 'a',
        'è'..='ë' => 'e',
        'ì'..='ï' => 'i',
        'ò'..='ö' => 'o',
        'ù'..='ü' => 'u',
        'ç' => 'c',
        _ => return Some(c),
    };
    Some(if c.is_uppercase() {
        plain.to_ascii_uppercase()
    } else {
        plain
    })
}
