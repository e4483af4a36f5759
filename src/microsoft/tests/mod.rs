//! The operations against a scripted server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod listings;
mod operations;
mod signing_in;
mod the_way_there;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::budget::Retry;
use super::cloud::tests::tenant;
use super::fake::{Fake, Reply, Request, content, token};
use super::{Activity, Clock, Credential, Fault, Http, Listing};
use crate::config::{self, ContentType};

const ROLES: &[&str] = &["ActivityFeed.Read", "ActivityFeed.ReadDlp"];

/// A client that waits so long for an answer to begin or a body to go on.
fn http(patience: Duration) -> Http {
    let mut http = Http::new(&config::Http {
        request_timeout: patience,
        ..plain()
    })
    .unwrap();
    http.retry = Retry {
        attempts: 3,
        first: Duration::from_millis(4),
        max: Duration::from_secs(2),
    };
    http
}

/// Longer than a loaded machine takes for what a test does not wait for in vain.
const PATIENCE: Duration = Duration::from_mins(1);

fn activity(fake: &Fake) -> Activity {
    impatient(fake, PATIENCE)
}

fn impatient(fake: &Fake, patience: Duration) -> Activity {
    let secret = Credential::secret("s+e&c%r=t ~é".to_owned().into());
    let tenant = tenant(Some(&fake.base)).into();
    Activity::new(&http(patience), &tenant, secret, Clock::default()).unwrap()
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
