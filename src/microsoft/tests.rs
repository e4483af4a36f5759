//! The operations against a scripted server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::cloud::tests::{TENANT, tenant};
use super::fake::{Fake, Reply, Request, content, reply, token};
use super::{Activity, Clock, Credential, Fault, Http, Listing, Retry};
use crate::config::{self, ContentType};

const ROLES: &[&str] = &["ActivityFeed.Read", "ActivityFeed.ReadDlp"];

fn http() -> Http {
    Http::new(&config::Http {
        proxy: None,
        proxy_password_file: None,
        no_proxy: Vec::new(),
        ca_file: None,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_millis(300),
        retries: 3,
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
