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

    microsoft.advance(Duration::from_secs(15 * 60));
    assert_eq!(
        client
            .post("subscriptions/start?contentType=Audit.General")
            .status,
        200
    );
    microsoft.advance(Duration::from_secs(15 * 60));
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
    let after = (microsoft.now() - TimeDelta::hours(4))
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
