//! Signing in: credentials, and tokens that are refused or end.

use super::{PATIENCE, ROLES, activity, api, fetched, http, listed};
use crate::microsoft::cloud::tests::{TENANT, tenant};
use crate::microsoft::fake::{Fake, Request, reply, token};
use crate::microsoft::{Activity, Class, Clock, Credential};

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let fake = api(|_, request, _| {
        let first = jsonwebtoken_number(request) == 0;
        if first {
            reply(401, &[], "")
        } else {
            reply(200, &[], "[]")
        }
    })
    .await;
    let activity = activity(&fake);
    assert!(listed(&activity).await.unwrap().is_empty());
    assert!(listed(&activity).await.unwrap().is_empty());
    assert_eq!((fake.seen().len(), fake.calls().len()), (5, 3));

    let fake = api(|_, _, _| reply(401, &[], "")).await;
    let fault = listed(&self::activity(&fake)).await.unwrap_err();
    assert_eq!(
        (fault.class, fault.status),
        (Class::RefuseTenant, Some(401))
    );
    assert_eq!((fake.seen().len(), fake.calls().len()), (4, 2));
}

/// The number of the token that a request carries.
fn jsonwebtoken_number(request: &Request) -> u64 {
    let token = request
        .head
        .split("Bearer ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let claims: serde_json::Value = jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap();
    claims["n"].as_u64().unwrap()
}

#[tokio::test]
async fn many_refused_at_once_ask_for_one_new_token() {
    let fake = api(|_, request, _| {
        if jsonwebtoken_number(request) == 0 {
            reply(401, &[], "")
        } else {
            reply(200, &[], "[]")
        }
    })
    .await;
    let activity = activity(&fake);
    let (a, b, c) = tokio::join!(
        activity.subscriptions(),
        listed(&activity),
        fetched(&activity, &fake.base)
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(fake.seen().len() - fake.calls().len(), 2);
}

#[tokio::test]
async fn a_token_about_to_end_is_replaced_before() {
    for (expires, sign_ins) in [
        ("\"299\"", 2),
        ("\"3599\"", 1),
        ("299.0", 2),
        ("3599", 1),
        ("-1e300", 2),
    ] {
        let fake = Fake::start(move |_, request, _| {
            if request.is_sign_in() {
                return reply(200, &[], format!(r#"{{"token_type":"bearer","expires_in":{expires},"access_token":"opaque"}}"#));
            }
            reply(200, &[], "[]")
        })
        .await;
        let activity = activity(&fake);
        assert_eq!(activity.sign_in().await.unwrap().roles, None);
        assert!(activity.subscriptions().await.unwrap().is_empty());
        assert_eq!(fake.seen().len() - 1, sign_ins, "{expires}");
    }
}

#[tokio::test]
async fn a_refused_secret_is_not_repeated_nor_shown() {
    let fake = Fake::start(|_, request, _| {
        let (_, secret) = request.body.split_once("client_secret=").unwrap();
        reply(401, &[], serde_json::json!({"error": "invalid_client", "error_codes": [7_000_215],
            "error_description": format!("AADSTS7000215: Invalid client secret {secret} s+e&c%r=t"), "trace_id": "t-1"}).to_string())
    })
    .await;
    let activity = activity(&fake);
    let fault = activity.subscriptions().await.unwrap_err();
    assert_eq!(
        (fault.class, fault.code.as_deref()),
        (Class::RefuseTenant, Some("AADSTS7000215"))
    );
    assert_eq!(fake.seen().len(), 1);
    for shown in [
        fault.to_string(),
        format!("{fault:?}"),
        format!("{activity:?}"),
    ] {
        assert!(
            !shown.contains("c%r") && !shown.contains("c%25r"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn one_refused_sign_in_answers_all() {
    let fake = Fake::start(|_, _, _| {
        reply(
            401,
            &[],
            r#"{"error":"invalid_client","error_codes":[7000222]}"#,
        )
    })
    .await;
    let activity = activity(&fake);
    let (a, b, c) = tokio::join!(
        activity.subscriptions(),
        listed(&activity),
        fetched(&activity, &fake.base)
    );
    let codes = [a.unwrap_err(), b.unwrap_err(), c.unwrap_err()].map(|fault| fault.code);
    assert!(
        codes
            .iter()
            .all(|code| code.as_deref() == Some("AADSTS7000222"))
    );
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn an_assertion_refused_for_its_time_is_signed_again_by_the_servers_clock() {
    let fake = Fake::start(|_, _, n| match n {
        0 => reply(
            401,
            &["date: Sun, 06 Nov 1994 08:49:37 GMT"],
            r#"{"error":"invalid_client","error_codes":[700024]}"#,
        ),
        _ => token(n, ROLES),
    })
    .await;
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let (certificate, key) = (read("certificate.pem"), read("key.pem"));
    let credential = Credential::certificate(&certificate, Some(&key), None, false).unwrap();
    assert!(credential.not_after().is_some());
    let activity = Activity::new(
        &http(PATIENCE),
        &tenant(Some(&fake.base)).into(),
        credential,
        Clock::default(),
    )
    .unwrap();
    activity.sign_in().await.unwrap();
    let seen = fake.seen();
    let form: std::collections::HashMap<_, _> =
        url::form_urlencoded::parse(seen[1].body.as_bytes())
            .into_owned()
            .collect();
    assert_eq!(
        form["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    assert!(!form.contains_key("client_secret"));
    let claims: serde_json::Value =
        jsonwebtoken::dangerous::insecure_decode_claims(&form["client_assertion"]).unwrap();
    assert_eq!(
        claims["aud"],
        format!("{}/{TENANT}/oauth2/v2.0/token", fake.base)
    );
    assert!(claims["nbf"].as_i64().unwrap() - 784_111_777 < 60);
}

#[tokio::test]
async fn a_federated_token_is_read_anew() {
    let fake = Fake::start(|_, _, n| {
        reply(
            200,
            &[],
            format!(r#"{{"access_token":"opaque{n}","expires_in":10}}"#),
        )
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let activity = Activity::new(
        &http(PATIENCE),
        &tenant(Some(&fake.base)).into(),
        Credential::federated(path.clone()),
        Clock::default(),
    )
    .unwrap();
    let missing = activity.sign_in().await.unwrap_err();
    assert_eq!(missing.class, Class::RefuseTenant);
    assert!(
        missing.to_string().contains("federated_token_file"),
        "{missing}"
    );
    for text in ["first.a.b\n", "second.c.d"] {
        std::fs::write(&path, text).unwrap();
        activity.sign_in().await.unwrap();
        let body = fake.seen().pop().unwrap().body;
        assert!(
            body.ends_with(&format!("&client_assertion={}", text.trim())),
            "{body}"
        );
    }
}

#[test]
fn credentials_are_read_as_configured() {
    use crate::config::Authentication;
    use std::os::unix::fs::PermissionsExt;

    let fixtures =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates");
    let folder = tempfile::tempdir().unwrap();
    let private = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let pfx = private(
        "app.pfx",
        &std::fs::read(fixtures.join("legacy.pfx")).unwrap(),
    );
    let configured = |password: &str| Authentication::Certificate {
        certificate_file: pfx.clone(),
        private_key_file: None,
        password_file: Some(private("password", password.as_bytes())),
        rs256: true,
    };
    assert!(
        Credential::read(&configured("fixture-pa%%word\n"))
            .unwrap()
            .not_after()
            .is_some()
    );
    let flaw = Credential::read(&configured("wrong")).unwrap_err();
    assert!(
        flaw.what.contains("app.pfx: ") && !flaw.to_string().contains("wrong"),
        "{flaw}"
    );
    std::fs::set_permissions(&pfx, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        Credential::read(&configured("fixture-pa%%word")).is_err(),
        "readable by all"
    );
}
