//! Microsoft's clouds: which hosts belong to a tenant, and which addresses its token may go to.

use reqwest::Url;

use crate::config::{Cloud, Tenant, is_loopback};
use crate::{Error, Result, teeth};

impl Cloud {
    /// The host that signs in, without a trailing slash.
    #[must_use]
    pub fn login_url(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://login.microsoftonline.com",
            Self::GccHigh | Self::Dod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    /// The host of the Activity API, which is the token's resource too, without a trailing slash.
    #[must_use]
    pub fn management_url(self) -> &'static str {
        match self {
            Self::Commercial => "https://manage.office.com",
            Self::Gcc => "https://manage-gcc.office.com",
            Self::GccHigh => "https://manage.office365.us",
            Self::Dod => "https://manage.protection.apps.mil",
            Self::China => "https://manage.office365.cn",
        }
    }
}

impl Tenant {
    /// Where it signs in: its own `login_url`, or that of its cloud.
    #[must_use]
    pub fn login_host(&self) -> &str {
        let own = self.login_url.as_deref();
        own.unwrap_or(self.cloud.login_url())
    }

    /// Where its contents are listed: its own `management_url`, or that of its cloud.
    #[must_use]
    pub fn management_host(&self) -> &str {
        let own = self.management_url.as_deref();
        own.unwrap_or(self.cloud.management_url())
    }
}

/// A tenant's own addresses.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// Where tokens come from.
    pub(super) token: Url,
    /// The scope that a token is asked for.
    pub(super) scope: String,
    feed: Url,
    tenant_id: String,
    publisher: String,
}

impl Addresses {
    pub(super) fn of(tenant: &Tenant) -> Result<Self> {
        let (login, management) = (tenant.login_host(), tenant.management_host());
        let parse = |key: &str, base: &str, path: &str| {
            let url = Url::parse(&format!("{base}/{}{path}", tenant.tenant_id)).ok();
            url.filter(is_private).ok_or_else(|| {
                Error::Configuration(format!(
                    "tenant {}: {key} = {base:?} is not usable; write https://HOST (plain http only for a loopback address)",
                    tenant.name
                ))
            })
        };
        Ok(Self {
            token: parse("login_url", login, "/oauth2/v2.0/token")?,
            scope: format!("{management}/.default"),
            feed: parse(
                "management_url",
                &format!("{management}/api/v1.0"),
                "/activity/feed/",
            )?,
            tenant_id: tenant.tenant_id.clone(),
            publisher: tenant.publisher_identifier.clone(),
        })
    }

    /// The address of an operation below `…/activity/feed/`.
    pub(super) fn operation(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.feed.clone();
        url.set_path(&format!("{}{path}", self.feed.path()));
        url.query_pairs_mut().extend_pairs(query);
        self.with_publisher(url)
    }

    /// An address that a server handed out, if the token may go there: the tenant's own feed on
    /// its own management host. `PublisherIdentifier` is added, all else stays as it is.
    ///
    /// # Errors
    /// What is wrong with the address, without its query.
    pub(super) fn handed_out(&self, address: &str) -> Result<Url, String> {
        let url = self
            .feed
            .join(address)
            .map_err(|error| format!("it is no URL ({error})"))?;
        let own = (
            self.feed.scheme(),
            self.feed.host(),
            self.feed.port_or_known_default(),
        );
        let is_own = own == (url.scheme(), url.host(), url.port_or_known_default());
        if !is_own && !teeth::is_off("host") {
            return Err(format!(
                "it leads to {}://{}, not to {}://{}",
                url.scheme(),
                authority(&url),
                self.feed.scheme(),
                authority(&self.feed)
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user name".to_owned());
        }
        // Answers spell the version v1 or v1.0, and the GUID in either case.
        let path: Vec<&str> = url.path().trim_start_matches('/').splitn(6, '/').collect();
        match path.as_slice() {
            ["api", "v1" | "v1.0", tenant, "activity", "feed", rest]
                if tenant.eq_ignore_ascii_case(&self.tenant_id) && !rest.is_empty() => {}
            _ => return Err(format!("its path is not below {}", self.feed.path())),
        }
        let mut url = url;
        url.set_fragment(None);
        Ok(self.with_publisher(url))
    }

    fn with_publisher(&self, mut url: Url) -> Url {
        if !url
            .query_pairs()
            .any(|(key, _)| key.eq_ignore_ascii_case("PublisherIdentifier"))
        {
            // By hand, so that what is there is not encoded anew.
            let query = match url.query() {
                Some(query) if !query.is_empty() => {
                    format!("{query}&PublisherIdentifier={}", self.publisher)
                }
                _ => format!("PublisherIdentifier={}", self.publisher),
            };
            url.set_query(Some(&query));
        }
        url
    }
}

/// Whether what is sent there cannot be read on the way: TLS, or no way at all.
fn is_private(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A URL as it may appear in a message: without query, fragment and user.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::{Authentication, Secret};
    use std::time::Duration;

    pub(in crate::microsoft) const TENANT: &str = "11111111-2222-3333-4444-555555555555";

    /// A tenant of the commercial cloud, or of the server at `base`.
    pub(in crate::microsoft) fn tenant(base: Option<&str>) -> Tenant {
        Tenant {
            name: "contoso".to_owned(),
            tenant_id: TENANT.to_owned(),
            client_id: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee".to_owned(),
            authentication: Authentication::Secret(Secret::File("secret".into())),
            client_secret_expires: None,
            cloud: Cloud::Commercial,
            login_url: base.map(str::to_owned),
            management_url: base.map(str::to_owned),
            content_types: crate::config::ContentType::ALL.to_vec(),
            publisher_identifier: TENANT.to_owned(),
            concurrency: 8,
            requests_per_minute: 0,
            initial_lookback: Duration::from_hours(24),
            include: Vec::new(),
            exclude: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            enabled: true,
        }
    }

    #[test]
    fn hosts_of_every_cloud() {
        for (cloud, login, management) in [
            (
                Cloud::Commercial,
                "https://login.microsoftonline.com",
                "https://manage.office.com",
            ),
            (
                Cloud::Gcc,
                "https://login.microsoftonline.com",
                "https://manage-gcc.office.com",
            ),
            (
                Cloud::GccHigh,
                "https://login.microsoftonline.us",
                "https://manage.office365.us",
            ),
            (
                Cloud::Dod,
                "https://login.microsoftonline.us",
                "https://manage.protection.apps.mil",
            ),
            (
                Cloud::China,
                "https://login.partner.microsoftonline.cn",
                "https://manage.office365.cn",
            ),
        ] {
            let addresses = Addresses::of(&Tenant {
                cloud,
                ..tenant(None)
            })
            .unwrap();
            assert!(
                addresses
                    .token
                    .as_str()
                    .starts_with(&format!("{login}/{TENANT}/"))
            );
            assert!(
                addresses
                    .feed
                    .as_str()
                    .starts_with(&format!("{management}/api/v1.0/{TENANT}/"))
            );
            assert_eq!(addresses.scope, format!("{management}/.default"));
        }
    }

    #[test]
    fn addresses_of_an_operation() {
        let addresses = Addresses::of(&tenant(None)).unwrap();
        assert_eq!(
            addresses.token.as_str(),
            "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token"
        );
        assert_eq!(addresses.scope, "https://manage.office.com/.default");
        assert_eq!(
            addresses
                .operation("subscriptions/start", &[("contentType", "DLP.All")])
                .as_str(),
            "https://manage.office.com/api/v1.0/11111111-2222-3333-4444-555555555555/activity/feed/subscriptions/start?contentType=DLP.All&PublisherIdentifier=11111111-2222-3333-4444-555555555555"
        );
    }

    #[test]
    fn a_plain_http_address_is_taken_for_loopback_only() {
        for base in [
            "http://127.0.0.1:1",
            "http://localhost:1",
            "http://[::1]:1",
            "https://manage.example",
        ] {
            assert!(Addresses::of(&tenant(Some(base))).is_ok(), "{base}");
        }
        for base in [
            "http://manage.office.com",
            "http://localhost.evil.example",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "",
        ] {
            assert!(Addresses::of(&tenant(Some(base))).is_err(), "{base}");
        }
    }

    #[test]
    fn an_own_address_keeps_its_spelling_and_gains_the_publisher() {
        let addresses = Addresses::of(&tenant(None)).unwrap();
        let feed = format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed");
        for (given, sent) in [
            (
                format!("{feed}/audit/492638008028$492638008028$f28ab78a$04"),
                format!(
                    "{feed}/audit/492638008028$492638008028$f28ab78a$04?PublisherIdentifier={TENANT}"
                ),
            ),
            (
                format!(
                    "{feed}/subscriptions/content?contenttype=Audit.General&starttime=2020-02-20T00:00:00.0000000Z&nextpage=2020$2020$na0022"
                ),
                format!(
                    "{feed}/subscriptions/content?contenttype=Audit.General&starttime=2020-02-20T00:00:00.0000000Z&nextpage=2020$2020$na0022&PublisherIdentifier={TENANT}"
                ),
            ),
            (
                format!("{feed}/audit/1?publisheridentifier=x"),
                format!("{feed}/audit/1?publisheridentifier=x"),
            ),
            (
                feed.replace("v1.0", "v1")
                    .replace("https", "HTTPS")
                    .replace("office.com", "office.com:443")
                    + "/audit/1?",
                feed.replace("v1.0", "v1") + &format!("/audit/1?PublisherIdentifier={TENANT}"),
            ),
        ] {
            assert_eq!(addresses.handed_out(&given).unwrap().as_str(), sent);
        }
    }

    #[test]
    fn a_foreign_address_is_refused() {
        let addresses = Addresses::of(&tenant(None)).unwrap();
        let path = format!("/api/v1.0/{TENANT}/activity/feed/audit/1");
        let other = "99999999-2222-3333-4444-555555555555";
        for given in [
            format!("https://evil.example{path}"),
            format!("https://manage.office.com@evil.example{path}"),
            format!("https://manage.office.com:443@evil.example{path}"),
            format!("https:\\\\manage.office.com@evil.example{path}"),
            format!("https://evil.example\\@manage.office.com{path}"),
            format!("https://user@manage.office.com{path}"),
            format!("https://manage.office.com.evil.example{path}"),
            format!("https://manage.office.com.{path}"),
            format!("https://manage.office.com:8443{path}"),
            format!("http://manage.office.com{path}"),
            format!("//evil.example{path}"),
            format!("https://manage.office.com/api/v1.0/{other}/activity/feed/audit/1"),
            format!("https://manage.office.com/api/v1.0/{TENANT}/../{other}/activity/feed/audit/1"),
            format!(
                "https://manage.office.com/api/v1.0/{TENANT}/activity/feed/../../../../elsewhere"
            ),
            format!(
                "https://manage.office.com/api/v1.0/{TENANT}/activity/feed/%2e%2e/%2e%2e/x/y/z"
            ),
            format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/"),
            "https://manage.office.com/".to_owned(),
            "file:///etc/passwd".to_owned(),
            "data:,x".to_owned(),
            "https://".to_owned(),
            String::new(),
        ] {
            assert!(addresses.handed_out(&given).is_err(), "{given}");
        }
    }
}
