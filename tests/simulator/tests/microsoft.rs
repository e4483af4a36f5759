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

use chrono::TimeDelta;
use client::{Client, exchange};
use serde_json::{Value, json};
use simulator::microsoft::{Body, Microsoft, Operation, Options, Records, Subscription, Violation};

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
