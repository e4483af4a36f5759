//! The operations against a scripted server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::cloud::tests::{TENANT, tenant};
use super::fake::{self, Fake, Reply, Request, content, reply, token};
use super::{Activity, Class, Clock, Credential, Fault, Http, Listing, Retry};
use crate::config::{self, ContentType};

const ROLES: &[&str] = &["ActivityFeed.Read", "ActivityFeed.ReadDlp"];

fn http() -> Http {
    Http::new(&config::Http {
        request_timeout: Duration::from_millis(300),
        ..plain()
    })
    .unwrap()
    .with_retry(Retry {
        attempts: 3,
        first: Duration::from_millis(4),
        max: Duration::from_secs(2),
    })
}

fn activity(fake: &Fake) -> Activity {
    let secret = Credential::secret("s+e&c%r=t ~é".to_owned().into());
    Activity::new(&http(), &tenant(Some(&fake.base)), secret, Clock::default()).unwrap()
}

/// A server that signs in and answers all else by `script`, which gets the number of the call.
async fn api(mut script: impl FnMut(&str, &Request, usize) -> Reply + Send + 'static) -> Fake {
    let mut calls = 0;
    Fake::start(move |base, request, n| {
        if request.is_sign_in() {
            return token(n, ROLES);
        }
        calls += 1;
        script(base, request, calls - 1)
    })
    .await
}

fn window() -> (DateTime<Utc>, DateTime<Utc>) {
    let end = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
    (end - TimeDelta::hours(24), end)
}

async fn all(listing: &mut Listing<'_>) -> Result<Vec<String>, Fault> {
    let mut ids = Vec::new();
    while let Some(contents) = listing.next().await? {
        assert!(!contents.is_empty() && contents.len() <= 500);
        ids.extend(contents.into_iter().map(|content| content.id));
    }
    Ok(ids)
}

#[tokio::test]
async fn the_happy_path() {
    let fake = api(|base, request, _| {
        if request.target.contains("/subscriptions/list") {
            return reply(200, &[], r#"[{"contentType":"Audit.General","status":"enabled"},{"contentType":"DLP.All","status":"disabled"},{"contentType":"New.Type"},7]"#);
        }
        if request.target.contains("/subscriptions/start") {
            return reply(200, &[], r#"{"contentType":"DLP.All","status":"enabled","webhook":null}"#);
        }
        if request.target.contains("nextpage=2") {
            return reply(200, &[], serde_json::json!([content(base, "c"), {"contentId": 3}]).to_string());
        }
        if request.target.contains("/subscriptions/content") {
            let next = format!("NEXTPAGEURI: {base}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?contenttype=Audit.General&nextpage=2$na0022");
            return reply(200, &[&next, "date: Sun, 06 Nov 1994 08:49:37 GMT"], serde_json::json!([content(base, "a"), content(base, "b")]).to_string());
        }
        reply(200, &[], r#"[{"Id":"1"}]"#)
    })
    .await;
    let activity = activity(&fake);

    let facts = activity.sign_in().await.unwrap();
    assert_eq!(facts.roles.unwrap(), ROLES);
    assert_eq!(facts.tid.as_deref(), Some(TENANT));
    assert_eq!(facts.aud.as_deref(), Some("https://manage.office.com"));

    let subscriptions = activity.subscriptions().await.unwrap();
    let subscriptions: Vec<_> = subscriptions
        .iter()
        .map(|s| (s.content_type.as_str(), s.enabled))
        .collect();
    assert_eq!(
        subscriptions,
        [
            ("Audit.General", true),
            ("DLP.All", false),
            ("New.Type", true)
        ]
    );
    activity.start(ContentType::Dlp).await.unwrap();

    let (start, end) = window();
    let mut listing = activity.list(ContentType::General, start, end);
    assert_eq!(all(&mut listing).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(listing.bad(), 1);
    assert_eq!(
        activity.clock().now().format("%F").to_string(),
        "1994-11-06"
    );

    let uri = content(&fake.base, "a$b")["contentUri"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut blob = activity.fetch(ContentType::General, &uri).await.unwrap();
    assert_eq!(blob.chunk().await.unwrap().unwrap(), r#"[{"Id":"1"}]"#);
    assert_eq!(blob.chunk().await.unwrap(), None);

    let seen = fake.seen();
    assert_eq!(seen.len(), 6, "one sign-in for all");
    assert_eq!(activity.requests().ok, 6);
    let form: Vec<_> = url::form_urlencoded::parse(seen[0].body.as_bytes())
        .into_owned()
        .collect();
    let value = |key: &str| form.iter().find(|(k, _)| k == key).unwrap().1.as_str();
    assert_eq!(value("client_secret"), "s+e&c%r=t ~é");
    assert_eq!(value("grant_type"), "client_credentials");
    assert_eq!(value("client_id"), "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");
    assert_eq!(value("scope"), format!("{}/.default", fake.base));
    assert_eq!(
        (seen[2].method.as_str(), seen[3].method.as_str()),
        ("POST", "GET")
    );
    assert!(seen[2].head.to_lowercase().contains("content-length: 0"));
    assert!(
        seen[3].target.contains(&format!(
            "?contentType=Audit.General&startTime={}&endTime={}&PublisherIdentifier={TENANT}",
            start.format("%FT%H%%3A%M%%3A%S"),
            end.format("%FT%H%%3A%M%%3A%S")
        )),
        "{}",
        seen[3].target
    );
    assert!(
        seen[4]
            .target
            .contains("nextpage=2$na0022&PublisherIdentifier=")
    );
    assert!(seen[5].target.contains("/audit/a$b?PublisherIdentifier="));
    for request in &seen[1..] {
        let head = request.head.to_lowercase();
        assert!(head.contains("authorization: bearer ey"), "{head}");
        assert!(
            head.contains("user-agent: o365-wodle/") && head.contains("accept-encoding: gzip"),
            "{head}"
        );
    }
}

/// The fault that a listing of the last day ends with, or its ids.
async fn listed(activity: &Activity) -> Result<Vec<String>, Fault> {
    let (start, end) = window();
    all(&mut activity.list(ContentType::General, start, end)).await
}

fn uri(base: &str) -> String {
    content(base, "1")["contentUri"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A whole blob.
async fn fetched(activity: &Activity, base: &str) -> Result<Vec<u8>, Fault> {
    let mut blob = activity.fetch(ContentType::General, &uri(base)).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = blob.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn fault(code: &str) -> String {
    serde_json::json!({"error": {"code": code, "message": "x"}}).to_string()
}

#[tokio::test]
async fn passing_faults_are_repeated_and_counted() {
    let fake = api(|_, _, n| match n {
        0 => reply(500, &[], fault("AF50000")),
        1 => reply(200, &[], "<html>a hotel</html>"),
        2 => Reply::Bytes(Vec::new()),
        _ => reply(200, &[], "[{}]"),
    })
    .await;
    let activity = activity(&fake);
    assert_eq!(fetched(&activity, &fake.base).await.unwrap(), b"[{}]");
    let requests = activity.requests();
    assert_eq!(
        (requests.ok, requests.failed, requests.unanswered),
        (3, 1, 1)
    );
}

#[tokio::test]
async fn a_lasting_fault_ends_after_the_policy() {
    let fake = api(|_, _, _| reply(503, &["retry-after: 0"], "")).await;
    let activity = activity(&fake);
    let fault = listed(&activity).await.unwrap_err();
    assert_eq!((fault.class, fault.status), (Class::Retry, Some(503)));
    assert_eq!(fake.calls().len(), 4);
}

#[tokio::test]
async fn a_long_throttle_is_handed_back_and_keeps_the_gate_closed() {
    let fake = api(|_, _, _| reply(403, &["retry-after: 600"], fault("AF429"))).await;
    let activity = activity(&fake);
    for _ in 0..2 {
        let fault = listed(&activity).await.unwrap_err();
        assert_eq!(fault.class, Class::Throttled);
        assert!(fault.retry_after.unwrap() > Duration::from_secs(590));
    }
    assert_eq!(
        fake.calls().len(),
        1,
        "a request left through a closed gate"
    );
    assert_eq!(activity.requests().throttled, 1);
}

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
async fn a_transfer_that_ends_early_is_a_fault() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let records = format!("[{}{{}}]", "{\"a\":1},".repeat(5000));
    gzip.write_all(records.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let chunked = |body: &[u8], end: &str| {
        let mut bytes = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(end.as_bytes());
        bytes
    };
    let half = &gzip[..gzip.len() / 2];
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n[{}".to_vec();
    let cases = [
        ("whole", Reply::Bytes(chunked(&gzip, "\r\n0\r\n\r\n"))),
        ("by length", Reply::Bytes(head.clone())),
        ("in a chunk", Reply::Bytes(chunked(half, ""))),
        ("between chunks", Reply::Bytes(chunked(half, "\r\n"))),
        ("gzip alone", Reply::Bytes(chunked(half, "\r\n0\r\n\r\n"))),
        (
            "gzip without its checksum",
            Reply::Bytes(chunked(&gzip[..gzip.len() - 4], "\r\n0\r\n\r\n")),
        ),
        ("last chunk", Reply::Bytes(chunked(&gzip, "\r\n"))),
        ("stall", Reply::Stall(head.clone())),
        ("drip", Reply::Drip(head)),
    ];
    for (name, case) in cases {
        let mut case = Some(case);
        let fake = api(move |_, _, _| case.take().unwrap()).await;
        match (name, fetched(&activity(&fake), &fake.base).await) {
            ("whole", Ok(bytes)) => assert_eq!(bytes, records.as_bytes()),
            (_, Err(fault)) => assert_eq!(
                (fault.class, fault.status),
                (Class::Retry, None),
                "{name}: {fault}"
            ),
            (_, Ok(bytes)) => panic!("{name}: taken for whole with {} bytes", bytes.len()),
        }
    }
}

#[tokio::test]
async fn a_listing_gets_over_what_passes() {
    let fake = api(|base, request, n| {
        let page = |ids: &[&str]| {
            ids.iter()
                .map(|id| content(base, id))
                .collect::<serde_json::Value>()
                .to_string()
        };
        let next = |link: &str| {
            format!(
                "NextPageUri: {base}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?{link}"
            )
        };
        let whole = page(&["a", "b"]);
        match n {
            // Breaks off, then comes whole.
            0 => Reply::Bytes(
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
                    whole.len(),
                    &whole[..300]
                )
                .into_bytes(),
            ),
            1 => reply(200, &[&next("nextpage=2")], &whole),
            // An empty page goes on; its link is refused: the window again.
            2 => reply(200, &[&next("nextpage=3")], "[]"),
            3 => reply(400, &[], fault("AF20031")),
            // This time the pages go in a circle: the window again.
            4 => reply(200, &[&next("nextpage=4")], page(&["a"])),
            5 => reply(200, &[&next("nextpage=4")], page(&["b"])),
            6 => reply(200, &[&next("nextpage=5")], page(&["a"])),
            7 => reply(200, &[], "null"),
            _ => panic!("{}", request.target),
        }
    })
    .await;
    let mut ids = listed(&activity(&fake)).await.unwrap();
    ids.sort();
    ids.dedup();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(fake.calls().len(), 8);
}

#[tokio::test]
async fn a_listing_never_ends_well_on_a_bad_link() {
    let foreign = Fake::start(|_, _, _| reply(200, &[], "[]")).await;
    let stranger = foreign.base.clone();
    for case in 0..4 {
        let stranger = stranger.clone();
        let fake = api(move |base, _, n| {
            let link = match case {
                0 => format!("{stranger}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?nextpage=1"),
                1 => format!("{base}/api/v1.0/99999999-2222-3333-4444-555555555555/activity/feed/subscriptions/content"),
                2 => format!("{base}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?nextpage={}", n % 3),
                _ => "http://[".to_owned(),
            };
            reply(200, &[&format!("NextPageUri: {link}")], serde_json::json!([content(base, "a")]).to_string())
        })
        .await;
        let fault = listed(&activity(&fake)).await.unwrap_err();
        assert_eq!(fault.class, Class::RestartWindow, "{case}: {fault}");
    }
    assert!(foreign.seen().is_empty());
}

#[tokio::test]
async fn a_bad_element_is_counted_and_a_damaged_page_is_no_end() {
    let fake = api(|base, _, n| {
        let good = content(base, "a");
        if n > 0 {
            return reply(200, &[], "[{},}");
        }
        reply(200, &[], format!(
            r#"[null, 7, "x", {{}}, {good}, {{"contentId":"b","contentUri":"u","contentCreated":"never"}}, {{"contentId":"","contentUri":"u","contentCreated":"2026-11-20T10:00:00"}}, {{"contentId":"d","contentUri":"u","contentCreated":"2026-11-20T10:00:00","contentExpiration":7}}]"#
        ))
    })
    .await;
    let activity = activity(&fake);
    let (start, end) = window();
    let mut listing = activity.list(ContentType::General, start, end);
    let contents = listing.next().await.unwrap().unwrap();
    assert_eq!(listing.next().await.unwrap(), None);
    assert_eq!(listing.bad(), 6);
    assert_eq!(contents.len(), 2);
    assert_eq!(
        contents[0].created.to_rfc3339(),
        "2026-11-20T10:00:00.123+00:00"
    );
    assert_eq!(
        contents[1].expires.to_rfc3339(),
        "2026-11-27T10:00:00+00:00"
    );

    let fault = listed(&activity).await.unwrap_err();
    assert_eq!(fault.class, Class::Retry);
}

#[tokio::test]
async fn many_contents_come_in_chunks() {
    let fake = api(|base, _, _| {
        let list: Vec<_> = (0..1201).map(|n| content(base, &n.to_string())).collect();
        reply(200, &[], serde_json::Value::from(list).to_string())
    })
    .await;
    let ids = listed(&activity(&fake)).await.unwrap();
    assert_eq!(ids.len(), 1201);
    assert_eq!((ids[0].as_str(), ids[1200].as_str()), ("0", "1200"));
}

#[tokio::test]
async fn a_window_is_cut_to_what_microsoft_keeps_by_its_own_clock() {
    // Each answer's date is a day later; the first attempt is refused.
    let fake = api(|_, _, n| match n {
        0 => reply(200, &["date: Sun, 08 Nov 2026 12:00:00 GMT"], "[]"),
        1 => reply(
            400,
            &["date: Mon, 09 Nov 2026 12:00:00 GMT"],
            fault("AF20055"),
        ),
        _ => reply(200, &["date: Mon, 09 Nov 2026 12:00:00 GMT"], "[]"),
    })
    .await;
    let activity = activity(&fake);
    activity.subscriptions().await.unwrap();
    let day: DateTime<Utc> = "2026-11-02T00:00:00Z".parse().unwrap();
    let list = async |start| {
        let mut listing = activity.list(ContentType::General, start, start + TimeDelta::days(1));
        all(&mut listing).await.unwrap()
    };
    assert!(list(day).await.is_empty());
    assert!(list(day - TimeDelta::days(2)).await.is_empty());
    let asked: Vec<_> = fake
        .calls()
        .iter()
        .filter_map(|call| Some(call.target.split_once("startTime=")?.1[..23].to_owned()))
        .collect();
    // Out of reach: not asked at all.
    assert_eq!(
        asked,
        ["2026-11-02T00%3A00%3A00", "2026-11-02T12%3A05%3A01"]
    );
}

#[tokio::test]
async fn no_token_goes_astray() {
    let foreign = Fake::start(|_, _, _| reply(200, &[], "[]")).await;
    let elsewhere = format!("location: {}/", foreign.base);
    let fake = api(move |_, _, _| reply(302, &[&elsewhere], "")).await;
    let activity = activity(&fake);
    let fault = fetched(&activity, &foreign.base).await.unwrap_err();
    assert_eq!((fault.class, fault.status), (Class::ForeignAddress, None));
    assert!(
        fake.seen().is_empty(),
        "asked although the address is foreign"
    );
    let fault = fetched(&activity, &fake.base).await.unwrap_err();
    assert_eq!((fault.class, fault.status), (Class::Failed, Some(302)));
    assert!(!fault.to_string().contains('?'), "{fault}");
    assert!(foreign.seen().is_empty());
}

#[tokio::test]
async fn starting_what_runs_is_a_success_and_too_soon_closes_no_gate() {
    let fake = api(|_, _, n| match n {
        0 => reply(400, &[], fault("AF20024")),
        1 => reply(403, &[], r#"{"error":{"code":"429","message":"Too many frequent subscription start requests. Please retry again after 14m 56s"}}"#),
        _ => reply(200, &[], "[]"),
    })
    .await;
    let activity = activity(&fake);
    activity.start(ContentType::Dlp).await.unwrap();
    let fault = activity.start(ContentType::Dlp).await.unwrap_err();
    assert_eq!(
        (fault.class, fault.retry_after.unwrap().as_secs()),
        (Class::StartTooSoon, 896)
    );
    activity.subscriptions().await.unwrap();
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
        &http(),
        &tenant(Some(&fake.base)),
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
        &http(),
        &tenant(Some(&fake.base)),
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

/// One operation of a client made by these settings.
async fn through(settings: &config::Http, base: &str) -> Result<(), Fault> {
    let http = Http::new(settings).unwrap();
    let secret = Credential::secret("x".to_owned().into());
    let activity = Activity::new(&http, &tenant(Some(base)), secret, Clock::default()).unwrap();
    activity.subscriptions().await.map(drop)
}

fn plain() -> config::Http {
    config::Http {
        proxy: None,
        proxy_password_file: None,
        no_proxy: Vec::new(),
        ca_file: None,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        retries: 0,
    }
}

#[tokio::test]
async fn tls_is_verified_with_the_extra_authority_and_through_a_proxy() {
    let (fake, pem) = Fake::start_tls(|_, request, n| {
        if request.is_sign_in() {
            token(n, ROLES)
        } else {
            reply(200, &[], "[]")
        }
    })
    .await;
    let untrusted = through(&plain(), &fake.base).await.unwrap_err();
    assert_eq!(untrusted.class, Class::Failed, "{untrusted}");
    assert!(
        untrusted.to_string().contains("http.ca_file"),
        "{untrusted}"
    );
    assert!(fake.seen().is_empty());

    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let mut settings = config::Http {
        ca_file: Some(ca_file.clone()),
        ..plain()
    };
    through(&settings, &fake.base).await.unwrap();

    let (proxy, asked) = fake::connect_proxy().await;
    let password = folder.path().join("password");
    std::fs::write(&password, "p:w\n").unwrap();
    settings.proxy = Some(format!("http://user@{proxy}"));
    settings.proxy_password_file = Some(password);
    through(&settings, &fake.base).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty());
    for head in asked {
        let head = head.to_lowercase();
        // user:p:w
        assert!(
            head.contains(&"proxy-authorization: Basic dXNlcjpwOnc=".to_lowercase()),
            "{head}"
        );
        assert!(!head.contains("bearer"), "{head}");
    }
    assert_eq!(fake.seen().len(), 4);
    assert!(
        fake.seen()
            .iter()
            .all(|request| !request.head.to_lowercase().contains("proxy-"))
    );

    for (content, says) in [
        ("no pem", "no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "ca",
        ),
    ] {
        std::fs::write(&ca_file, content).unwrap();
        let error = Http::new(&settings).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
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
async fn a_start_is_never_repeated() {
    let fake = api(|_, _, _| reply(503, &[], "")).await;
    let fault = activity(&fake).start(ContentType::Dlp).await.unwrap_err();
    assert_eq!(fault.class, Class::Retry);
    assert_eq!(fake.calls().len(), 1);
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

#[tokio::test]
async fn a_proxy_gets_its_password_and_no_proxy_is_honoured() {
    let proxy = Fake::start(|_, request, n| {
        if request.is_sign_in() {
            token(n, ROLES)
        } else {
            reply(200, &[], "[]")
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "p%41:@/ss\r\n").unwrap();
    let mut settings = config::Http {
        proxy: Some(proxy.base.replace("//", "//us%40er@")),
        proxy_password_file: Some(password),
        ..plain()
    };
    // Nobody listens there: only the proxy can answer.
    through(&settings, "http://127.0.0.1:1").await.unwrap();
    for request in proxy.seen() {
        assert!(
            request.target.starts_with("http://127.0.0.1:1/"),
            "{}",
            request.target
        );
        // us@er:p%41:@/ss
        assert!(
            request
                .head
                .contains("proxy-authorization: Basic dXNAZXI6cCU0MTpAL3Nz"),
            "{}",
            request.head
        );
    }
    assert_eq!(proxy.seen().len(), 2);
    settings.no_proxy = vec!["127.0.0.1".to_owned()];
    let fault = through(&settings, "http://127.0.0.1:1").await.unwrap_err();
    assert_eq!((fault.class, fault.status), (Class::Retry, None));
    assert_eq!(proxy.seen().len(), 2);
    assert!(!format!("{:?}", Http::new(&settings).unwrap()).contains("ss"));
}
