//! Signing in to the fake Microsoft 365, and its certificates.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;

use chrono::Utc;
use client::key::Key;
use client::{Client, connect_tls};
use serde_json::{Value, json};
use simulator::microsoft::{ListenerCertificate, Microsoft, Options, TenantSpec, Violation};

fn start() -> Microsoft {
    Microsoft::start(Options::default()).unwrap()
}

#[test]
fn a_token_by_secret_v1_and_v2_by_guid_and_domain() {
    let microsoft = start();
    let client = Client::new(&microsoft, 1);
    let v2 = client.sign_in().json();
    assert_eq!(v2["expires_in"], json!(3599));
    let v1 = client.post_form(
        "/tenant1.example/oauth2/token",
        &[
            ("grant_type", "client_credentials"),
            ("client_id", &client.tenant.client_id),
            ("client_secret", &client.tenant.secret),
            ("resource", "https://manage.office.com"),
        ],
    );
    assert_eq!(v1.status, 200);
    assert_eq!(v1.json()["expires_in"], json!("3599"));
    assert_eq!(v1.json()["resource"], json!("https://manage.office.com"));

    let token = v2["access_token"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], json!(microsoft.url()));
    assert_eq!(claims["tid"], json!(client.tenant.tenant_id));
    assert_eq!(claims["appid"], json!(client.tenant.client_id));
    assert_eq!(
        claims["roles"],
        json!(["ActivityFeed.Read", "ActivityFeed.ReadDlp"])
    );
}

#[test]
fn token_errors_carry_their_numbers() {
    let microsoft = start();
    let client = Client::new(&microsoft, 1);
    let TenantSpec {
        tenant_id,
        client_id,
        secret,
        ..
    } = client.tenant.clone();
    let scope = "https://manage.office.com/.default";
    let cases: [(u32, u16, &str, &str, &str, &str); 7] = [
        (7_000_215, 401, &tenant_id, &client_id, "wrong", scope),
        (700_016, 400, &tenant_id, &tenant_id, &secret, scope),
        (90_002, 400, &client_id, &client_id, &secret, scope),
        (900_023, 400, "contoso", &client_id, &secret, scope),
        (
            1_002_012,
            400,
            &tenant_id,
            &client_id,
            &secret,
            "https://manage.office.com",
        ),
        (70_011, 400, &tenant_id, &client_id, &secret, " "),
        (
            500_011,
            400,
            &tenant_id,
            &client_id,
            &secret,
            "https://elsewhere.example/.default",
        ),
    ];
    for (code, status, tenant, id, secret, scope) in cases {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
            ("scope", scope),
        ];
        let answer = client.post_form(&format!("/{tenant}/oauth2/v2.0/token"), &fields);
        assert_eq!((answer.status, answer.code()), (status, code.to_string()));
        let body = answer.json();
        assert!(
            body["error_description"]
                .as_str()
                .unwrap()
                .starts_with(&format!("AADSTS{code}: "))
        );
        assert!(body["trace_id"].is_string() && body["correlation_id"].is_string());
    }
    assert_eq!(client.sign_in_with(&[]).code(), "7000216");
    microsoft.change_tenant(&tenant_id, |spec| spec.secret_expires = Some(Utc::now()));
    assert_eq!(client.sign_in().code(), "7000222");
    microsoft.change_tenant(&tenant_id, |spec| spec.secret_expires = None);
    microsoft.change_tenant(&tenant_id, |spec| spec.disabled = true);
    assert_eq!(client.sign_in().code(), "7000112");
}

#[test]
fn assertions_are_verified() {
    let microsoft = start();
    let client = Client::new(&microsoft, 1);
    let (registered, other) = (Key::new(), Key::new());
    let id = client.tenant.tenant_id.clone();
    microsoft.change_tenant(&id, |spec| {
        spec.certificates.push(registered.certificate.clone());
        spec.federated_tokens.push("foreign.token.value".into());
    });
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let send = |assertion: &str| {
        client.sign_in_with(&[
            ("client_assertion_type", bearer),
            ("client_assertion", assertion),
        ])
    };
    let now = Utc::now().timestamp();
    let audience = format!("{}/{id}/oauth2/v2.0/token", microsoft.url());
    let app = client.tenant.client_id.clone();
    let claims = |name: &str| json!({"aud": audience, "iss": app, "sub": app, "jti": name, "nbf": now, "iat": now, "exp": now + 600});
    let with = |name: &str, key: &str, value: Value| {
        let mut claims = claims(name);
        claims[key] = value;
        claims
    };
    let ps256 = registered.head("PS256");
    assert_eq!(send(&registered.sign(&ps256, &claims("1"))).status, 200);
    assert_eq!(
        send(&registered.sign(&registered.head("RS256"), &claims("2"))).status,
        200
    );
    assert_eq!(send("foreign.token.value").status, 200);

    let mut padded = ps256.clone();
    padded["x5t#S256"] = json!(format!("{}=", padded["x5t#S256"].as_str().unwrap()));
    let cases = [
        (
            "an unregistered certificate",
            other.sign(&other.head("PS256"), &claims("3")),
            "700027",
        ),
        ("another key", other.sign(&ps256, &claims("4")), "700027"),
        (
            "a padded thumbprint",
            registered.sign(&padded, &claims("5")),
            "700027",
        ),
        (
            "no thumbprint",
            registered.sign(&json!({"alg": "PS256"}), &claims("6")),
            "700213",
        ),
        (
            "another audience",
            registered.sign(&ps256, &with("7", "aud", json!("https://elsewhere"))),
            "700023",
        ),
        (
            "another issuer",
            registered.sign(&ps256, &with("8", "iss", json!(id))),
            "700021",
        ),
        (
            "expired",
            registered.sign(&ps256, &with("9", "exp", json!(now - 600))),
            "700024",
        ),
        (
            "not yet valid",
            registered.sign(&ps256, &with("10", "nbf", json!(now + 500))),
            "700024",
        ),
        (
            "used before",
            registered.sign(&ps256, &claims("1")),
            "700027",
        ),
        (
            "an unknown federated token",
            "foreign.token.other".to_owned(),
            "700027",
        ),
        ("no JWT", "token".to_owned(), "70021"),
    ];
    for (what, assertion, code) in cases {
        assert_eq!(send(&assertion).code(), code, "{what}");
    }
    assert_eq!(
        microsoft.violation_kinds(),
        [Violation::AssertionReplayed].into()
    );
    drop(microsoft.violations());
}

#[test]
fn over_tls_with_http_2_and_its_own_authority() {
    let microsoft = Microsoft::start(Options {
        tls: true,
        ..Options::default()
    })
    .unwrap();
    assert!(microsoft.url().starts_with("https://localhost:"));
    let client = Client::new(&microsoft, 1);
    assert_eq!(client.get("subscriptions/list").status, 200);
    for alpn in [&b"h2"[..], b"http/1.1"] {
        assert_eq!(handshake(&microsoft, alpn).unwrap().as_deref(), Some(alpn));
    }
}

#[test]
fn certificates_that_no_client_may_accept() {
    use ListenerCertificate::{Expired, SelfSigned, UnknownAuthority, WrongHost};
    let cases = [
        (Expired, "Expired"),
        (WrongHost, "NotValidForName"),
        (SelfSigned, "UnknownIssuer"),
        (UnknownAuthority, "UnknownIssuer"),
    ];
    for (certificate, reason) in cases {
        let microsoft = Microsoft::start(Options {
            tls: true,
            certificate,
            ..Options::default()
        })
        .unwrap();
        let error = handshake(&microsoft, b"h2").unwrap_err();
        assert!(error.contains(reason), "{certificate:?}: {error}");
    }
}

/// The protocol that a handshake agrees on.
fn handshake(microsoft: &Microsoft, alpn: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut connection = connect_tls(microsoft.ca_pem(), &[alpn], "localhost");
    let address = microsoft
        .url()
        .split_once("localhost")
        .unwrap()
        .1
        .to_owned();
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1{address}")).unwrap();
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| format!("{:?}", error.get_ref()))?;
    }
    Ok(connection.alpn_protocol().map(<[u8]>::to_vec))
}
