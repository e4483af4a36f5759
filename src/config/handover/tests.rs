#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

const T: &str = "8a3c1b6e-1111-4000-8000-0123456789ab";
const C: &str = "0f0e0d0c-2222-4000-9000-ba9876543210";
const S: &str = "abC8Q~d.E_f-GhIjKlMnOpQrStUvWxYz01234567";

/// The text with T, C and S in place of their names in braces.
fn filled(text: &str) -> String {
    text.replace("{T}", T).replace("{C}", C).replace("{S}", S)
}

fn outcome(bytes: &[u8]) -> Result<(), Vec<String>> {
    let found = parse_hand_over(bytes)
        .map_err(|flaws| flaws.into_iter().map(|flaw| flaw.what).collect::<Vec<_>>())?;
    assert_eq!((&*found.tenant_id, &*found.client_id), (T, C));
    assert_eq!(found.client_secret.expose_secret(), S);
    Ok(())
}

#[test]
fn as_people_write_it() {
    let texts = [
        "Directory / Tenant ID: {T}\nApplication / Client ID: {C}\nClient secret (value): {S}\n",
        "Directory (tenant) ID: {T}\r\nApplication (client) ID: {C}\r\nClient secret: {S}\r\n",
        "SECRET VALUE = {S}\n\n\nclient id = {C}   \ntenant id = {T}",
        "Tenant ID\n{T}\n\nClient ID\n{C}\n\nClient Secret Value\n{S}\n",
        "{T}\n{C}\n{S}\n",
        "\u{feff}Tenant ID: “{T}”\nClient ID: ‘{C}’\nClient secret: “{S}”",
        "• Tenant ID: {T}\n• Client ID: {C}\n• Secret Value: {S}",
        "- Tenant ID - {T}\n- Client ID - {C}\n- Client Secret - {S}",
        "* **Tenant ID:** `{T}`\n* **Client ID:** `{C}`\n* **Client secret:** `{S}`",
        "1. Tenant ID: {T}\n2. Client ID: {C}\n3) Secret: {S}",
        "Hi team,\n\nplease find our values below.\n\nTenant ID: {T} (our main tenant)\nClient ID: {C}, app wazuh\nClient secret: {S} (expires 01/05/2027)\n\nBest regards: Jane\nhttps://contoso.example",
        "> Tenant ID: {T}\n> Client ID: {C}\n> Client secret: {S}\n",
        "<p><b>Tenant ID:</b>&nbsp;{T}</p><p><b>Client ID:</b>&nbsp;{C}</p><p>Client secret:&#160;{S}<br></p>",
        "<table><tr><td>Directory (tenant) ID</td><td>{T}</td></tr><tr><td>Application (client) ID</td><td>{C}</td></tr><tr><td>Secret &amp; Value</td></tr><tr><td>Value</td><td>{S}</td></tr></table>",
        "AZURE_TENANT_ID={T}\nexport AZURE_CLIENT_ID=\"{C}\"\nAZURE_CLIENT_SECRET='{S}'",
        "{\n  \"appId\": \"{C}\",\n  \"displayName\": \"wazuh\",\n  \"password\": \"{S}\",\n  \"tenant\": \"{T}\"\n}",
        "Display name: wazuh\nApplication (client) ID: {C}\nObject ID: 11111111-2222-4333-8444-555555555555\nDirectory (tenant) ID: {T}\nSecret ID: 99999999-2222-4333-8444-555555555555\nValue: {S}",
        "Tenant ID\t{T}\nClient ID\t{C}\nClient secret\t{S}",
        "Tenant ID {T}\nClient ID {C}\nClient secret value {S}",
        "| Tenant ID | {T} |\n| Client ID | {C} |\n| Client secret | {S} |",
        "{T}\n{C}\n{S}\nThanks, Jane\njane.doe@contoso.example",
        "Azure AD Tenant ID:{T}\nApp ID:{C}\nApp secret:{S}",
        "Tenant ID:\n  \"{T}\",\nClient ID:\n  \"{C}\",\nClient secret:\n  \"{S}\"",
        "{\"tenant id\": \"{T}\",\n \"client id\": \"{C}\",\n \"client secret\": \"{S}\"}",
        "[{\"client secret\": \"{S}\",\n \"tenant id\": \"{T}\",\n \"client id\": \"{C}\"}]",
        "tENANT id: {T}\ncLIENT id: {C}\ncLIENT sECRET: {S}",
        "DIRECTORYID={T}\nAppId={C}\nCLIENTSECRET={S}",
        "Tenant ID: {{T}}\nClient ID: {{C}}\nClient secret: {{S}},",
        "Tenant ID：{T}\nClient ID＝{C}\nClient secret (value)：{S}",
        "<p>Tenant ID: <kbd>{T}</kbd><br>Client ID: <mark>{C}</mark></p>Client secret: <kbd class=x>{S}</kbd>",
        "> > Tenant ID: {T}\n> >\n> > Client ID:\n> > {C}\n>>> > Client secret:\n> > {S}\n",
        "> > {T}\n> > {C}\n> > {S}\n",
        "Tenant ID (contoso.onmicrosoft.com): {T}\nClient ID (Wazuh)\n{C}\nClient Secret (24 months): {S}",
        "Tenant ID: {T}\nClient ID: {C}\nClient secret (value, not the secret ID): {S}",
        "Tenant ID: {T}\nClient ID: {C}\nClient secret (not expired): {S} (begins with abC8Q~)",
        "Tenant ID\t{T}\nClient ID\t{C}\nClient secret\twazuh-o365-mgmt-activity-reader-prod\t2028-11-30\t{S}",
        "Tenant ID\t{T}\nClient ID\t{C}\nClient secret\t99999999-2222-4333-8444-555555555555\t{S}",
        "Client secret (ID, not the value): 99999999-2222-4333-8444-555555555555\nTenant ID: {T}\nClient ID: {C}\nClient secret (value): {S}",
        "Tenant ID: {T}\nClient ID: {C}\nClient secret: {S}\n> Client secret was: {S}",
        "Tenant ID: {T}\nClient ID: {C}\nClient secret (expires: 01.05.2027): {S}",
        "Tenant ID: {T}\nClient ID: {C}\nClient secret (gültig bis 01.05.2027):\n{S}",
        "KeyId : 99999999-2222-4333-8444-555555555555\nSecretText : {S}\nTenantId : {T}\nAppId : {C}",
        "|Tenant ID|{T}||\n|Client ID|{C}||\n|---|---|---|\n|Client secret|{S}|11/30/2028|",
        "Tenant ID:\n-----\n{T}\nClient ID\n====\n{C}\nClient secret:\n```text\n{S}\n```",
        "{T}\n{C}\n{S}\n------------------------------\nTel.:+49-30-1234567890\nhttps://www.contoso.example/",
        "Tenant ID: {T}\nClient ID: {C}\nClient secret: {S}\nClient secret (expires): 01.05.2027",
        "Tenant ID: {T}\nClient ID: {C}\nClient secret (name): wazuh\nValue: {S}\nClient secret (24 months)\n\nRegards",
        "Tenant ID: {T}\nClient ID: {C} (object ID 99999999-2222-4333-8444-555555555555)\nSecret: {S}",
        "Tenant ID: {T}\nClient ID: {C}, object ID: 99999999-2222-4333-8444-555555555555\nSecret: {S}\nID cliente: 4711",
        "| Tenant ID | {T} |\n| Client ID | {C} |\n| Client secret | wazuh | 11/30/2028 | {S} |",
        "|Tenant ID|{T}|\n|Client ID|{C}|\n|Client secret|wazuh-collector-prod|2028-11-30T00:00:00Z|{S}|",
        "1. tENANT id\n{T}\n2. cLIENT id\n{C}\n3. cLIENT sECRET\n{S}",
        "1.\n{T}\n2.\n{C}\nhttps://portal.azure.com\n3.\n{S}",
        "Application (Wazuh)\n{T}\n{C}\n{S}",
    ];
    for text in texts {
        assert_eq!(outcome(filled(text).as_bytes()), Ok(()), "{text}");
    }
    let upper = filled("Tenant ID: {T}\nClient ID: {C}\n").to_uppercase();
    assert_eq!(outcome(format!("{upper}Secret: {S}").as_bytes()), Ok(()));
}

#[test]
fn names_beside_the_ids_are_remarks() {
    for names in [
        "Tenant: Contoso Ltd",
        "Client: Contoso Ltd\nApplication: Wazuh",
        "Application\nWazuh",
        "Directory = contoso.example",
        "App: wazuh\nTenant:\n  Contoso Ltd",
    ] {
        for values in [
            "Tenant ID: {T}\nClient ID: {C}\nClient secret: {S}",
            "Tenant GUID: {T}\nApplication identifier: {C}\nClient secret: {S}",
        ] {
            for text in [format!("{names}\n{values}"), format!("{values}\n{names}")] {
                assert_eq!(outcome(filled(&text).as_bytes()), Ok(()), "{text}");
            }
        }
    }
    let text = filled("Tenant: {T}\nApplication\n{C}\nClient secret: {S}");
    assert_eq!(outcome(text.as_bytes()), Ok(()));
}

#[test]
fn labels_of_the_portal_in_other_languages() {
    for [client, tenant, secret] in [
        [
            "Anwendungs-ID (Client)",
            "Verzeichnis-ID (Mandant)",
            "Geheimer Clientschlüssel",
        ],
        ["Anwendungs-ID (Client)", "Verzeichnis-ID (Mandant)", "Wert"],
        [
            "ID d'application (client)",
            "ID de l'annuaire (locataire)",
            "Valeur",
        ],
        [
            "ID d’application (client)",
            "ID de re\u{301}pertoire (locataire)",
            "Clé secrète client",
        ],
        [
            "Id. de aplicación (cliente)",
            "Id. de directorio (inquilino)",
            "Valor",
        ],
        [
            "ID do aplicativo (cliente)",
            "ID do diretório (locatário)",
            "Segredo do cliente",
        ],
        [
            "ID applicazione (client)",
            "ID della directory (tenant)",
            "Valore",
        ],
        ["Toepassings-id (client)", "Map-id (tenant)", "Waarde"],
        [
            "アプリケーション (クライアント) ID",
            "ディレクトリ (テナント) ID",
            "値",
        ],
    ] {
        for between in [": ", "\n", ":\n  ", "："] {
            let text =
                format!("{client}{between}{{C}}\n{tenant}{between}{{T}}\n{secret}{between}{{S}}\n");
            assert_eq!(outcome(filled(&text).as_bytes()), Ok(()), "{text}");
            let [client, tenant, secret] = [client, tenant, secret].map(str::to_uppercase);
            let text =
                format!("{client}{between}{{C}}\n{tenant}{between}{{T}}\n{secret}{between}{{S}}\n");
            assert_eq!(outcome(filled(&text).as_bytes()), Ok(()), "{text}");
        }
    }
}

#[test]
fn order_tells_the_ids_only_where_no_words_do() {
    for text in [
        "Azonosító\n{C}\nBérlő\n{T}\nTitok\n{S}",
        "Azonosító: {C}\nBérlő: {T}\nTitok: {S}",
    ] {
        let said = ["the labels are not understood".to_owned()];
        assert_eq!(
            outcome(filled(text).as_bytes()).unwrap_err(),
            said,
            "{text}"
        );
        let flaws = parse_new_secret(filled(text).as_bytes()).unwrap_err();
        assert_eq!(flaws.len(), 1, "{text}");
    }
    let greeted = filled("Hello,\n\n{T}\n{C}\n{S}\n\nRegards");
    assert_eq!(outcome(greeted.as_bytes()), Ok(()));
}

#[test]
fn one_guid_cannot_be_both_ids() {
    let text = filled("Tenant ID: {T}\nClient ID: {T}\nSecret: {S}");
    assert_eq!(
        outcome(text.as_bytes()),
        Err(vec![
            "the tenant ID and the client ID are the same".to_owned()
        ])
    );
}

#[test]
fn dots_are_a_cut_only_at_an_end() {
    let found = |secret: &str| parse_new_secret(format!("Secret: {secret}").as_bytes());
    let whole = "abC8Q~d...f-GhIjKlMnOpQrStUvWxYz01234567";
    let new = found(whole).unwrap();
    assert_eq!(new.client_secret.expose_secret(), whole);
    for cut in [
        "abC8Q~d.E_f-GhIj...",
        "\"abC8Q~d.E_f-GhIj…\",",
        "…GhIjKlMnOpQrStUvWxYz",
    ] {
        let flaws = found(cut).unwrap_err();
        let what: Vec<_> = flaws.into_iter().map(|flaw| flaw.what).collect();
        assert_eq!(what, ["the client secret is hidden or cut off"], "{cut}");
    }
    // As Windows-1252 and as HTML have them.
    for cut in [
        &b"Secret: abC8Q~d.E_f-GhIj\x85"[..],
        b"<p>Secret: abC8Q~d.E_f-GhIj&hellip;</p>",
    ] {
        let flaws = parse_new_secret(cut).unwrap_err();
        let what: Vec<_> = flaws.into_iter().map(|flaw| flaw.what).collect();
        assert_eq!(what, ["the client secret is hidden or cut off"]);
    }
}

#[test]
fn what_is_no_secret_is_not_taken_for_one() {
    for (secret, said) in [
        ("{S}<wbr", "has a quote, bracket"),
        ("{S}\\n", "has a backslash"),
        ("{S}|2027", "has a backslash or a bar"),
        ("{S}\u{1b}", "control characters"),
        (
            "https://onetimesecret.com/secret/a1",
            "is a link or an address",
        ),
        ("<jane.doe@contoso.example>", "is a link or an address"),
        ("<your-secret-here>", "is a remark"),
        ("TBD", "is a remark"),
        ("siehe-Anhang", "is a remark"),
    ] {
        for label in ["Client secret: ", "Client secret\n----\n"] {
            let text = format!("Tenant ID: {{T}}\nClient ID: {{C}}\n{label}{secret}\n");
            let said_of_it = outcome(filled(&text).as_bytes()).unwrap_err().concat();
            let begins = said_of_it.starts_with("the client secret ");
            assert!(begins && said_of_it.contains(said), "{text}: {said_of_it}");
        }
    }
}

#[test]
fn what_is_no_plain_text_is_named() {
    for (bytes, what) in [
        (
            &br"{\rtf1\ansi Tenant ID: a\par}"[..],
            "RTF (formatted text)",
        ),
        (b"PK\x03\x04word/", "a Word document or a zip archive"),
        (b"%PDF-1.7", "a PDF"),
    ] {
        let said = [format!("the text is {what}")];
        assert_eq!(outcome(bytes).unwrap_err(), said);
        let flaws = parse_new_secret(bytes).unwrap_err();
        assert_eq!(flaws.len(), 1);
    }
}

#[test]
fn as_editors_save_it() {
    let text = filled("Tenant ID: “{T}”\r\nClient ID: {C}\r\nClient secret: {S}\r\n");
    let units = || text.encode_utf16();
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    for encoded in [
        [&[0xff, 0xfe], &*little].concat(),
        [&[0xfe, 0xff], &*big].concat(),
        little,
        big,
        [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
        text.replace('\n', "").into_bytes(),
        text.chars()
            .map(|c| match c {
                '“' => 0x93,
                '”' => 0x94,
                c => u8::try_from(c).unwrap(),
            })
            .collect(),
    ] {
        assert_eq!(outcome(&encoded), Ok(()), "{encoded:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let table: [(&str, &[&str]); 20] = [
        (
            "Tenant ID\nClient ID\nClient secret\n{T}\n{C}\n{S}",
            &["the client secret's label alone has a value, and that is a GUID"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nClient secret ({S})\nRegards",
            &[
                "the client secret has a quote, bracket, comma or letter in it that no secret of Azure has",
            ],
        ),
        (
            "",
            &[
                "the tenant ID is missing",
                "the client ID is missing",
                "the client secret is missing",
            ],
        ),
        ("Client ID: {C}\nSecret: {S}", &["the tenant ID is missing"]),
        (
            "Tenant ID: {T}\nClient ID:\nSecret: {S}",
            &["the client ID is missing"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nClient secret:\n",
            &["the client secret is missing"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nClient secret (sent by SMS)\nThanks, Jane",
            &["the client secret is missing"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nTenant ID: {T}\nClient secret: {S}",
            &["the tenant ID is there 2 times"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nSecret: {S}\nSecret: {S}x",
            &["the client secret is there 2 times"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nClient secret: 99999999-2222-4333-8444-555555555555",
            &["the client secret is a GUID: the secret's ID was pasted in place of its value"],
        ),
        (
            "{T}\n{C}\n99999999-2222-4333-8444-555555555555",
            &["the client secret is a GUID: the secret's ID was pasted in place of its value"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nSecret ID: 99999999-2222-4333-8444-555555555555",
            &["the client secret is missing: only the secret's ID is there"],
        ),
        (
            "Tenant ID: old {C}, new {T}\nClient ID: {C} ({C})\nSecret: {S}",
            &["the tenant ID has two GUIDs beside its label"],
        ),
        (
            "Tenant ID: contoso.example\nClient ID: {C}\nSecret: {S}",
            &["the tenant ID is no GUID"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nSecret: see the other mail",
            &["the client secret is a remark in place of a value"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nSecret: abC****************",
            &["the client secret is hidden or cut off"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nSecret: {99999999-2222-4333-8444-555555555555}",
            &["the client secret is a GUID: the secret's ID was pasted in place of its value"],
        ),
        (
            "{T}\n{C}\n\"{99999999-2222-4333-8444-555555555555}\",",
            &["the client secret is a GUID: the secret's ID was pasted in place of its value"],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\n{\"secret\":\"{S}\",\"expires\":\"2027\"}",
            &[
                "the client secret has a quote, bracket, comma or letter in it that no secret of Azure has",
            ],
        ),
        (
            "Tenant ID: {T}\nClient ID: {C}\nClient secret (value){S}",
            &[
                "the client secret has a quote, bracket, comma or letter in it that no secret of Azure has",
            ],
        ),
    ];
    for (text, said) in table {
        assert_eq!(
            outcome(filled(text).as_bytes()).unwrap_err(),
            said,
            "{text}"
        );
    }
    assert_eq!(
        outcome(&vec![b'x'; 70_000]).unwrap_err(),
        ["the text is longer than 65536 bytes"]
    );
}

/// Which one counts stands in words, of more languages than are known here.
#[test]
fn of_several_secrets_none_is_chosen() {
    const ANOTHER: &str = "xyz7Q~old0old0old0old0old0old0old0old0ol";
    for secrets in [
        "Client secret (old): {O}\nNew client secret: {S}",
        "Client secret (new, replaces the old one): {S}\n\n> Client secret: {O}",
        "Client secret (old, do not use): {O}\nNew value: {S}",
        "Client secret: {O} -> {S}",
        "Client secret: {O}. The new one is {S}.",
        "Client secret:\nbisher: {O}\nneu: {S}",
        "| Client secret | {O} (old) | {S} (new) |",
        "Current secret: {O}\nClient secret: {S}",
        // another's form
        "Client secret: wazuh-o365-mgmt-activity-reader-prod / {S}",
        "Client secret: wazuh-o365-mgmt-activity-reader-prod, {S}",
    ] {
        let text = filled(&format!("Tenant ID: {{T}}\nClient ID: {{C}}\n{secrets}"));
        let said = outcome(text.replace("{O}", ANOTHER).as_bytes()).unwrap_err();
        let is_named =
            |said: &[String]| matches!(said, [one] if one.starts_with("the client secret "));
        assert!(is_named(&said), "{text}: {said:?}");
    }
}

/// A line of parentheses took time by the square of its length.
#[test]
fn a_long_line_is_no_label() {
    let since = std::time::Instant::now();
    assert!(parse_hand_over("(old a):a):".repeat(5_000).as_bytes()).is_err());
    assert!(since.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn a_new_secret_needs_no_ids() {
    let found = |text: &str| {
        parse_new_secret(filled(text).as_bytes())
            .map(|new| {
                assert_eq!(new.client_secret.expose_secret(), S);
                (new.tenant_id, new.client_id)
            })
            .map_err(|flaws| flaws.into_iter().map(|flaw| flaw.what).collect::<Vec<_>>())
    };
    let (tenant, client) = (Some(T.to_owned()), Some(C.to_owned()));
    assert_eq!(found("{S}\r\n"), Ok((None, None)));
    assert_eq!(found("Client secret:\n  {S}"), Ok((None, None)));
    assert_eq!(
        found("Tenant ID: {T}\nClient ID: {C}\nSecret Value: {S}"),
        Ok((tenant.clone(), client))
    );
    assert_eq!(found("tenant id = {T}\nsecret = {S}"), Ok((tenant, None)));
    for (text, wrong) in [
        (
            "{C}",
            "the client secret is a GUID: the secret's ID was pasted in place of its value",
        ),
        (
            "Secret: {T}",
            "the client secret is a GUID: the secret's ID was pasted in place of its value",
        ),
        ("Tenant ID: {T}", "the client secret is missing"),
        (
            "Tenant ID: {T}\nDescription\tExpires\tValue\tSecret ID\nwazuh\t5/1/2027\t{S}\t{C}",
            "the client secret stands in the text, but not after its label",
        ),
        ("Tenant ID: none\nSecret: {S}", "the tenant ID is no GUID"),
        ("", "the client secret is missing"),
    ] {
        assert_eq!(found(text), Err(vec![wrong.to_owned()]), "{text}");
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        parse_hand_over(&bytes).ok();
    }

    #[test]
    fn never_panics_on_almost_a_text(text in "([<&;:=>#x|{} \n\t–]|Tenant ID|secret|value|nbsp|br){0,40}") {
        parse_hand_over(text.as_bytes()).ok();
    }
}
