//! The way to Microsoft: addresses, TLS, proxies.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{PATIENCE, ROLES, activity, api, fetched, plain};
use crate::config;
use crate::microsoft::cloud::tests::tenant;
use crate::microsoft::fake::{self, Fake, reply, token};
use crate::microsoft::{Activity, Class, Clock, Credential, Fault, Http};

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

/// A file that nobody else may read.
fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// One operation of a client made by these settings.
async fn through(settings: &config::Http, base: &str) -> Result<(), Fault> {
    let http = Http::new(settings).unwrap();
    let secret = Credential::secret("x".to_owned().into());
    let activity =
        Activity::new(&http, &tenant(Some(base)).into(), secret, Clock::default()).unwrap();
    activity.subscriptions().await.map(drop)
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_said_to_be_that() {
    let addresses = tenant(Some("https://login.invalid")).into();
    let secret = Credential::secret("x".to_owned().into());
    let activity =
        Activity::new(&super::http(PATIENCE), &addresses, secret, Clock::default()).unwrap();
    let fault = activity.subscriptions().await.unwrap_err();
    let said = fault.to_string();
    assert!(
        said.starts_with("a host's name cannot be resolved: dns error: ")
            && fault.class == Class::Retry
            && fault.cure.contains("/etc/resolv.conf"),
        "{said}"
    );
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
    private(&ca_file, &pem);
    let mut settings = config::Http {
        ca_file: Some(ca_file.clone()),
        ..plain()
    };
    through(&settings, &fake.base).await.unwrap();

    let (proxy, asked) = fake::connect_proxy().await;
    let password = folder.path().join("password");
    private(&password, "p:w\n");
    settings.proxy = Some(format!("http://user@{proxy}").parse().unwrap());
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

#[test]
fn others_may_neither_read_the_proxys_password_nor_write_the_authorities() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let refused = |mode, settings: &config::Http| {
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        Http::new(settings).unwrap_err().to_string()
    };
    let with_password = config::Http {
        proxy: Some("http://user@127.0.0.1:1".parse().unwrap()),
        proxy_password_file: Some(file.clone()),
        ..plain()
    };
    let said = refused(0o644, &with_password);
    assert!(said.contains("readable by others"), "{said}");
    let with_authorities = config::Http {
        ca_file: Some(file.clone()),
        ..plain()
    };
    let said = refused(0o666, &with_authorities);
    assert!(said.contains("writable by others"), "{said}");
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
    private(&password, "p%41:@/ss\r\n");
    let mut settings = config::Http {
        proxy: Some(proxy.base.replace("//", "//us%40er@").parse().unwrap()),
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

#[test]
fn a_host_is_reached_without_the_proxy_by_the_rule_of_the_requests() {
    let settings = config::Http {
        proxy: Some("http://user@proxy:3128".parse().unwrap()),
        no_proxy: [
            "Manage.Office.com",
            " .example",
            "127.0.0.0/8",
            "fd00::/8",
            "::1",
            "10.1.2.3",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..plain()
    };
    let http = Http::new(&settings).unwrap();
    for (url, direct) in [
        ("https://manage.office.com", true),
        ("https://MANAGE.office.com:8443", true),
        ("https://login.contoso.example", true),
        ("http://127.8.9.10:80/x", true),
        ("https://[fd12::7]:8443", true),
        ("http://[::1]", true),
        ("http://10.1.2.3", true),
        ("https://login.microsoftonline.com", false),
        ("https://notmanage.office.com", false),
        ("http://128.0.0.1", false),
        ("https://[fe80::7]", false),
        ("http://10.1.2.4", false),
    ] {
        let proxy = http.proxy_for(url);
        let expected = (!direct).then_some("http://proxy:3128/");
        assert_eq!(proxy.as_deref(), expected, "{url}");
    }
    let everything = config::Http {
        no_proxy: vec!["*".to_owned()],
        ..settings
    };
    let http = Http::new(&everything).unwrap();
    assert_eq!(http.proxy_for("https://login.microsoftonline.com"), None);
}
