//! Each operation: what it asks, what passes, what lasts, what breaks off.

use std::time::Duration;

use super::{PATIENCE, ROLES, activity, all, api, fault, fetched, impatient, listed, window};
use crate::config::ContentType;
use crate::microsoft::Class;
use crate::microsoft::cloud::tests::TENANT;
use crate::microsoft::fake::{Reply, content, reply};

#[tokio::test]
async fn each_operation_asks_as_microsoft_documents_it() {
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
        [("Audit.General", true), ("DLP.All", false),]
    );
    activity.start(ContentType::Dlp).await.unwrap();

    let (start, end) = window();
    let mut listing = activity.list(ContentType::General, start, end);
    assert_eq!(all(&mut listing).await.unwrap(), ["a", "b", "c"]);
    let said = listing.incomplete().unwrap().to_string();
    assert!(said.starts_with("1 entries of the listing "), "{said}");
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
        let patience = match name {
            "stall" | "drip" => Duration::from_millis(300),
            _ => PATIENCE,
        };
        match (name, fetched(&impatient(&fake, patience), &fake.base).await) {
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
async fn only_200_is_a_whole_answer() {
    for status in [202, 203, 204, 206] {
        for body in ["[]", "[{}]", "null"] {
            let fake = api(move |_, _, _| reply(status, &[], body)).await;
            let fault = fetched(&activity(&fake), &fake.base).await.unwrap_err();
            assert_eq!(fault.class, Class::Retry, "{fault}");
            assert_eq!(fault.status, Some(status), "{fault}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_longer_than_1_gib_is_not_begun() {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n[{{}}",
        (1_u64 << 30) + 1
    );
    let mut answer = Some(Reply::Stall(head.into_bytes()));
    let fake = api(move |_, _, _| answer.take().unwrap()).await;
    let fault = fetched(&activity(&fake), &fake.base).await.unwrap_err();
    assert_eq!(fault.class, Class::Failed, "{fault}");
    assert!(fault.to_string().contains("larger than 1 GiB"), "{fault}");
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
async fn a_start_is_never_repeated() {
    let fake = api(|_, _, _| reply(503, &[], "")).await;
    let fault = activity(&fake).start(ContentType::Dlp).await.unwrap_err();
    assert_eq!(fault.class, Class::Retry);
    assert_eq!(fake.calls().len(), 1);
}
