//! The fake Microsoft 365 against Microsoft's documents, without a fault.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use client::key::Key;
use client::{Client, connect_tls, exchange};
use serde_json::{Value, json};
use simulator::microsoft::{
    Body, ListenerCertificate, Microsoft, Operation, Options, Records, Subscription, TenantSpec,
    Violation,
};

fn start() -> Microsoft {
    Microsoft::start(Options::default()).unwrap()
}

fn small_pages() -> Microsoft {
    Microsoft::start(Options {
        page_size: 3,
        ..Options::default()
    })
    .unwrap()
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
fn subscriptions_are_listed_started_and_stopped() {
    let microsoft = start();
    let client = Client::new(&microsoft, 1);
    let id = &client.tenant.tenant_id;
    microsoft.set_subscription(id, "Audit.General", None);
    microsoft.set_subscription(id, "DLP.All", Some(Subscription::Disabled));
    let list = client.get("subscriptions/list").json();
    assert_eq!(list.as_array().unwrap().len(), 4);
    assert!(
        list.as_array()
            .unwrap()
            .contains(&json!({"contentType": "DLP.All", "status": "disabled", "webhook": null}))
    );

    assert_eq!(client.list("Audit.General").code(), "AF20022");
    assert_eq!(client.list("DLP.All").code(), "AF20023");
    let started = client.post("subscriptions/start?contentType=Audit.General");
    assert_eq!(
        (started.status, started.json()["status"].clone()),
        (200, json!("enabled"))
    );
    assert_eq!(client.list("Audit.General").status, 200);

    assert_eq!(
        client
            .post("subscriptions/stop?contentType=Audit.General")
            .status,
        200
    );
    let again = client.post("subscriptions/start?contentType=Audit.General");
    assert_eq!((again.status, again.code()), (403, "429".to_owned()));
    let message = again.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with(
            "Too many frequent subscription start requests. Please retry again after 14m 5"
        ),
        "{message}"
    );
    assert_eq!(
        microsoft.violation_kinds(),
        [Violation::StartTooSoon].into()
    );

    microsoft.advance(Duration::from_mins(15));
    assert_eq!(
        client
            .post("subscriptions/start?contentType=Audit.General")
            .status,
        200
    );
    microsoft.advance(Duration::from_mins(15));
    let enabled = client.post("subscriptions/start?contentType=Audit.General");
    assert_eq!(
        (enabled.status, enabled.code()),
        (400, "AF20024".to_owned())
    );
    assert_eq!(
        microsoft.violation_kinds(),
        [Violation::StartTooSoon, Violation::AlreadyEnabled].into()
    );
    assert_eq!(microsoft.violations().len(), 2);
}

#[test]
fn contents_are_listed_in_half_open_windows_over_pages_and_fetched_as_issued() {
    let microsoft = small_pages();
    let client = Client::new(&microsoft, 1);
    let id = client.tenant.tenant_id.clone();
    let mut issued = Vec::new();
    for n in 0..8 {
        let records: Vec<_> = Records::new(n).take(5).collect();
        let created = microsoft.now() - TimeDelta::hours(9 - i64::try_from(n).unwrap());
        issued.push((
            microsoft.issue(&id, "Audit.SharePoint", records.clone(), created),
            records,
        ));
    }
    let first = client.list("Audit.SharePoint");
    let link = first.header("NextPageUri").unwrap();
    let query = link.split_once('?').unwrap().1;
    let names: Vec<_> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap().0)
        .collect();
    assert_eq!(names, ["contenttype", "starttime", "endtime", "nextpage"]);
    assert!(query.contains("$na0022"), "{query}");
    let start = query
        .split("starttime=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    assert_eq!(start.len(), "2020-02-19T10:46:42.0000000".len());

    let entries = client.walk("Audit.SharePoint");
    let ids: Vec<_> = entries
        .iter()
        .map(|entry| entry["contentId"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        issued.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>()
    );
    for (entry, (_, records)) in entries.iter().zip(&issued) {
        let answer = client.follow(entry["contentUri"].as_str().unwrap());
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        let text: Vec<_> = records
            .iter()
            .map(|record| std::str::from_utf8(record).unwrap())
            .collect();
        assert_eq!(
            String::from_utf8(answer.body).unwrap(),
            format!("[{}]", text.join(","))
        );
    }

    // A link that was kept too long, and one that nobody gave out.
    let day = |days: i64| {
        (microsoft.now() - TimeDelta::days(days))
            .format("%Y-%m-%d")
            .to_string()
    };
    let token = link.split("nextpage=").nth(1).unwrap();
    let kept = format!(
        "subscriptions/content?contenttype=Audit.SharePoint&starttime={}&endtime={}&nextpage={token}",
        day(9),
        day(8)
    );
    assert_eq!(client.get(&kept).code(), "AF20055");
    assert_eq!(
        microsoft.violation_kinds(),
        [Violation::WindowTooOld].into()
    );
    assert_eq!(microsoft.violations().len(), 1);
    let made_up = link.replace("$na0022", "$na0099");
    assert_eq!(client.follow(&made_up).code(), "AF20031");

    // start inclusive, end exclusive
    let edge = entries[3]["contentCreated"]
        .as_str()
        .unwrap()
        .trim_end_matches('Z')
        .to_owned();
    let before = (microsoft.now() - TimeDelta::hours(20))
        .format("%Y-%m-%dT%H:%M:%S")
        .to_string();
    let count = |from: &str, to: &str| {
        let rest = format!(
            "subscriptions/content?contentType=Audit.SharePoint&startTime={from}&endTime={to}"
        );
        client.get(&rest).json().as_array().unwrap().len()
    };
    assert_eq!(count(&before, &edge), 3);
    let after = (microsoft.now() - TimeDelta::minutes(270))
        .format("%Y-%m-%dT%H:%M:%S")
        .to_string();
    assert_eq!(count(&edge, &after), 2);
}

#[test]
fn windows_are_checked() {
    let microsoft = start();
    // Noon, so that days by their dates alone lie where the cases want them.
    microsoft.set_clock("2026-03-14T12:00:00Z".parse().unwrap());
    let client = Client::new(&microsoft, 1);
    let cases = [
        ("", 200, "", Some(Violation::OneEnd)),
        (
            "&startTime=2026-03-14T10:00",
            400,
            "AF20030",
            Some(Violation::OneEnd),
        ),
        (
            "&endTime=2026-03-14T10:00",
            400,
            "AF20030",
            Some(Violation::OneEnd),
        ),
        (
            "&startTime=2026-03-13T10:00&endTime=2026-03-14T10:01",
            400,
            "AF20030",
            Some(Violation::WindowTooLong),
        ),
        (
            "&startTime=2026-03-14T11:00&endTime=2026-03-14T10:00",
            400,
            "AF20055",
            None,
        ),
        (
            "&startTime=2026-03-14T10:00&endTime=2026-03-14T10:00",
            400,
            "AF20055",
            None,
        ),
        (
            "&startTime=2026-03-07T11:55&endTime=2026-03-07T13:00",
            400,
            "AF20055",
            Some(Violation::WindowTooOld),
        ),
        (
            "&startTime=2026-03-14T10:00:00%2B00:00&endTime=2026-03-14T11:00:00%2B00:00",
            400,
            "AF20002",
            None,
        ),
        (
            "&startTime=2026-03-14T10:00:00Z&endTime=2026-03-14T11:00:00.1234567Z",
            200,
            "",
            None,
        ),
        (
            "&starttime=2026-03-14T10:00&endtime=2026-03-14T11:00",
            200,
            "",
            None,
        ),
        ("&startTime=2026-03-14&endTime=2026-03-15", 200, "", None),
        (
            "&startTime=2026-03-07T12:05:00&endTime=2026-03-08",
            200,
            "",
            None,
        ),
    ];
    for (query, status, code, violation) in cases {
        let answer = client.get(&format!(
            "subscriptions/content?contentType=Audit.Exchange{query}"
        ));
        let got = if answer.status == 200 {
            String::new()
        } else {
            answer.code()
        };
        assert_eq!((answer.status, got.as_str()), (status, code), "{query}");
        assert_eq!(
            microsoft.violation_kinds(),
            violation.into_iter().collect(),
            "{query}"
        );
        assert_eq!(
            answer.header("date").unwrap().split(' ').nth(3),
            Some("2026")
        );
        assert!(
            answer
                .header("date")
                .unwrap()
                .starts_with("Sat, 14 Mar 2026 12:0")
        );
        assert_eq!(
            microsoft.violations().len(),
            usize::from(violation.is_some())
        );
    }
}

#[test]
fn what_the_api_refuses() {
    let microsoft = start();
    let mut client = Client::new(&microsoft, 1);
    let id = client.tenant.tenant_id.clone();
    let list = "subscriptions/content?contentType=Audit.Exchange";
    assert_eq!(
        client
            .get("subscriptions/content?contentType=Audit.Nothing")
            .code(),
        "AF20020"
    );
    assert_eq!(
        client.get("subscriptions/content?startTime=x").code(),
        "AF20001"
    );
    let start = format!(
        "{}/api/v1.0/{id}/activity/feed/subscriptions/start?contentType=DLP.All&PublisherIdentifier={id}",
        microsoft.url()
    );
    let bearer = format!("Bearer {}", client.token);
    let bare = exchange("", "POST", &start, &[("Authorization", &bearer)], "");
    assert_eq!(bare.status, 411);
    let gone = client.get("audit/20260314$nothing$na0022");
    assert_eq!((gone.status, gone.code()), (404, "AF20050".to_owned()));
    assert_eq!(client.get("audit/nothing").code(), "AF20052");
    let blob = microsoft.issue(&id, "Audit.Exchange", vec![b"{}".to_vec()], microsoft.now());
    assert_eq!(client.get(&format!("audit/{blob}")).body, b"[{}]");
    assert_eq!(
        client
            .get(&format!("audit/{}", blob.replace('$', "%24")))
            .body,
        b"[{}]"
    );
    microsoft.set_clock(microsoft.now() + TimeDelta::days(7));
    client.renew();
    assert_eq!(client.get(&format!("audit/{blob}")).code(), "AF20051");

    microsoft.advance(Duration::from_hours(1));
    let stale = client.get("subscriptions/list");
    assert_eq!(stale.status, 401);
    assert_eq!(
        stale.body,
        br#"{"Message":"Authorization has been denied for this request."}"#
    );
    microsoft.change_tenant(&id, |spec| spec.roles = vec!["ActivityFeed.Read".into()]);
    client.renew();
    assert_eq!(client.list("DLP.All").code(), "AF10001");
    assert_eq!(client.list("Audit.Exchange").status, 200);
    microsoft.change_tenant(&id, |spec| spec.roles.clear());
    client.renew();
    let without = client.get(list);
    assert_eq!(
        (without.status, without.code()),
        (401, "AF10001".to_owned())
    );
    microsoft.change_tenant(&id, |spec| {
        spec.roles = vec!["ActivityFeed.Read".into()];
        spec.audit_log = false;
    });
    client.renew();
    let off = client.get("subscriptions/list").json();
    assert_eq!(
        off["error"]["message"],
        json!(format!("Tenant {id} does not exist."))
    );
    drop(microsoft.violations());
}

#[test]
fn each_violation_is_seen() {
    let microsoft = start();
    let client = Client::new(&microsoft, 1);
    let other = Client::new(&microsoft, 2);
    let (id, app) = (
        client.tenant.tenant_id.clone(),
        client.tenant.client_id.clone(),
    );
    let feed = |tenant: &str| format!("{}/api/v1.0/{tenant}/activity/feed", microsoft.url());
    let publisher = format!("PublisherIdentifier={id}");
    let blob = microsoft.issue(&id, "Audit.Exchange", vec![b"{}".to_vec()], microsoft.now());

    let mine = feed(&id);
    let cases = [
        (
            Violation::NoPublisher,
            "GET",
            format!("{mine}/subscriptions/list"),
        ),
        (
            Violation::NoPublisher,
            "GET",
            format!("{mine}/audit/{blob}"),
        ),
        (
            Violation::NoPublisher,
            "GET",
            format!("{mine}/audit/{blob}?PublisherIdentifier=me"),
        ),
        (
            Violation::ForeignToken,
            "GET",
            format!(
                "{}/subscriptions/list?{publisher}",
                feed(&other.tenant.tenant_id)
            ),
        ),
        (
            Violation::ClientIdAsTenant,
            "GET",
            format!("{}/subscriptions/list?{publisher}", feed(&app)),
        ),
        (
            Violation::TokenInQuery,
            "GET",
            format!("{mine}/subscriptions/list?{publisher}&access_token=x"),
        ),
        (
            Violation::AlreadyEnabled,
            "POST",
            format!("{mine}/subscriptions/start?contentType=DLP.All&{publisher}"),
        ),
        (
            Violation::StartTooSoon,
            "POST",
            format!("{mine}/subscriptions/start?contentType=DLP.All&{publisher}"),
        ),
    ];
    for (kind, method, url) in cases {
        let answer = client.fetch(method, &url);
        let code = if answer.status == 200 {
            String::new()
        } else {
            answer.code()
        };
        match kind {
            Violation::ForeignToken | Violation::ClientIdAsTenant => assert_eq!(code, "AF20010"),
            Violation::AlreadyEnabled | Violation::StartTooSoon => assert_eq!(code, "AF20024"),
            _ => assert_eq!(answer.status, 200),
        }
        assert!(
            microsoft.violation_kinds().contains(&kind),
            "{kind:?} was not seen"
        );
        drop(microsoft.violations());
    }
    // Windows and throttling have tests of their own. A clean call is not held against anyone.
    assert_eq!(client.get("subscriptions/list").status, 200);
    assert_eq!(client.list("Audit.Exchange").status, 200);
    assert_eq!(client.follow(&format!("{mine}/audit/{blob}")).status, 200);
    assert!(microsoft.violations().is_empty());
}

#[test]
fn violations_that_nobody_asked_for_fail_a_test() {
    let bad = |allowed: bool| {
        let microsoft = start();
        if allowed {
            microsoft.allow(Violation::NoPublisher);
        }
        let client = Client::new(&microsoft, 1);
        let id = &client.tenant.tenant_id;
        client.fetch(
            "GET",
            &format!(
                "{}/api/v1.0/{id}/activity/feed/subscriptions/list",
                microsoft.url()
            ),
        );
    };
    bad(true);
    assert!(std::panic::catch_unwind(|| bad(false)).is_err());
}

#[test]
fn requests_are_written_down_without_their_tokens() {
    let microsoft = start();
    let client = Client::new(&microsoft, 1);
    let blob = microsoft.issue(
        &client.tenant.tenant_id,
        "Audit.General",
        vec![b"{}".to_vec()],
        microsoft.now(),
    );
    client.list("Audit.General");
    client.get(&format!("audit/{blob}"));
    assert!(microsoft.wait_for(Duration::from_secs(5), |requests| requests.len() == 3));
    let requests = microsoft.requests();
    let operations: Vec<_> = requests
        .iter()
        .map(|request| (request.operation, request.status))
        .collect();
    assert_eq!(
        operations,
        [
            (Operation::Token, 200),
            (Operation::Content, 200),
            (Operation::Blob, 200)
        ]
    );
    assert_eq!(requests[2].content_type.as_deref(), Some("Audit.General"));
    assert_eq!(requests[2].content_id.as_deref(), Some(blob.as_str()));
    assert!(requests[0].token.is_none() && requests[1].token.is_some());
    assert!(!format!("{requests:?}").contains(&client.token));
    assert!(!microsoft.wait_for(Duration::from_millis(1), |requests| requests.len() > 3));
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
fn a_body_may_be_anything_and_is_made_as_it_goes() {
    let microsoft = start();
    let client = Client::new(&microsoft, 1);
    let id = &client.tenant.tenant_id;
    let lazy = Body::array(3, |n| format!(r#"{{"Id":"{n}"}}"#).into_bytes());
    let lazy = microsoft.issue_raw(id, "Audit.General", lazy, microsoft.now());
    assert_eq!(
        client.get(&format!("audit/{lazy}")).body,
        br#"[{"Id":"0"},{"Id":"1"},{"Id":"2"}]"#
    );
    let null = microsoft.issue_raw(id, "Audit.General", &b"null"[..], microsoft.now());
    assert_eq!(client.get(&format!("audit/{null}")).body, b"null");
}

#[test]
fn records_have_unique_ids_and_the_sizes_of_the_world() {
    let records: Vec<_> = Records::new(5).take(5_000).collect();
    let mut ids = HashSet::new();
    for record in &records {
        let value: Value = serde_json::from_slice(record).unwrap();
        assert!(ids.insert(value["Id"].as_str().unwrap().to_owned()));
        assert!(value["RecordType"].is_u64() && value["CreationTime"].is_string());
    }
    let sizes: Vec<_> = records.iter().map(Vec::len).collect();
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(
        (380..600).contains(least) && (100_000..265_000).contains(most),
        "{least} {most}"
    );
    assert!(
        records == Records::new(5).take(5_000).collect::<Vec<_>>(),
        "a seed gives the same series"
    );
    assert!((1_400..1_600).contains(&Records::new(6).sized(1_500).len()));

    let lines = Records::lines(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data")).unwrap();
    assert_eq!(lines.len(), 94);
    assert!(
        lines.iter().any(|line| line == b"null"),
        "as they stand there"
    );
}
