//! The Microsoft side against a Microsoft that follows the documents, over TLS and HTTP/2: it
//! verifies assertions and judges every request.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use o365_wodle::config::{self, Authentication, Cloud, ContentType, Secret};
use o365_wodle::microsoft::{Activity, Clock, Credential, Http};
use simulator::microsoft::{Microsoft, Options, Records, TenantSpec};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates");
    std::fs::read(folder.join(name)).unwrap()
}

fn tenant(spec: &TenantSpec, url: &str) -> config::Tenant {
    config::Tenant {
        name: "contoso".to_owned(),
        tenant_id: spec.tenant_id.clone(),
        client_id: spec.client_id.clone(),
        authentication: Authentication::Secret(Secret::File("unused".into())),
        client_secret_expires: None,
        cloud: Cloud::Commercial,
        login_url: Some(url.to_owned()),
        management_url: Some(url.to_owned()),
        content_types: ContentType::ALL.to_vec(),
        publisher_identifier: spec.tenant_id.clone(),
        concurrency: 8,
        requests_per_minute: 0,
        initial_lookback: Duration::from_hours(24),
        include: Vec::new(),
        exclude: Vec::new(),
        labels: BTreeMap::new(),
        enabled: true,
    }
}

/// Reads a day of `Audit.General`: every blob, in the listing's order.
async fn read(activity: &Activity, microsoft: &Microsoft) -> Vec<Vec<u8>> {
    let general = ContentType::General;
    if activity.subscriptions().await.unwrap().is_empty() {
        activity.start(general).await.unwrap();
    }
    let end = microsoft.now();
    let mut listing = activity.list(general, end - TimeDelta::hours(23), end);
    let mut blobs = Vec::new();
    while let Some(contents) = listing.next().await.unwrap() {
        for content in contents {
            let mut blob = activity.fetch(general, &content.uri).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(chunk) = blob.chunk().await.unwrap() {
                bytes.extend_from_slice(&chunk);
            }
            blobs.push(bytes);
        }
    }
    assert_eq!(listing.incomplete().map(|fault| fault.to_string()), None);
    blobs
}

#[tokio::test]
async fn every_way_to_sign_in_reads_every_blob() {
    let microsoft = Microsoft::start(Options {
        tls: true,
        page_size: 2,
        ..Options::default()
    })
    .unwrap();
    let spec = TenantSpec {
        certificates: vec![fixture("certificate.pem")],
        federated_tokens: vec!["head.claims.signature".to_owned()],
        ..TenantSpec::numbered(1)
    };
    microsoft.add_tenant(spec.clone());
    let issued: Vec<Vec<u8>> = (0..5)
        .map(|n| {
            let records: Vec<_> = Records::new(n).take(20).collect();
            let created = microsoft.now() - TimeDelta::hours(10 - i64::try_from(n).unwrap());
            microsoft.issue(&spec.tenant_id, "Audit.General", records.clone(), created);
            [b"[", records.join(&b","[..]).as_slice(), b"]"].concat()
        })
        .collect();

    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    microsoft.write_ca(&ca_file).unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "head.claims.signature\n").unwrap();
    let http = Http::new(&config::Http {
        proxy: None,
        proxy_password_file: None,
        no_proxy: Vec::new(),
        ca_file: Some(ca_file),
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(10),
        retries: 0,
    })
    .unwrap();
    let (pem, key, pfx) = (
        fixture("certificate.pem"),
        fixture("key.pem"),
        fixture("modern.pfx"),
    );
    for credential in [
        Credential::secret(spec.secret.clone().into()),
        Credential::certificate(&pem, Some(&key), None, false).unwrap(),
        Credential::certificate(&pfx, None, Some(b"fixture-pa%%word\n"), true).unwrap(),
        Credential::federated(token),
    ] {
        let activity = Activity::new(
            &http,
            &tenant(&spec, microsoft.url()).into(),
            credential,
            Clock::default(),
        )
        .unwrap();
        assert_eq!(
            activity.sign_in().await.unwrap().tid.as_deref(),
            Some(spec.tenant_id.as_str())
        );
        assert_eq!(read(&activity, &microsoft).await, issued);
        assert!(
            (activity.clock().now() - microsoft.now())
                .num_seconds()
                .abs()
                < 5
        );
    }
}
