//! What Microsoft says about a tenant right now, in findings for the operator.

use std::fmt;

use crate::config::{ContentType, Tenant};
use crate::microsoft::{Activity, Clock, Credential, Fault, Http, Subscription, TokenFacts};

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// Worth knowing; collection works.
    Note,
    Bad,
}

/// One link of the chain to Microsoft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) text: String,
}

impl Finding {
    fn new(verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            verdict,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Note => "note",
            Verdict::Bad => "WRONG",
        };
        write!(f, "{word:5}  {}", self.text)
    }
}

/// Signs in, looks into the token, asks for the subscriptions.
pub(super) async fn probe(
    http: &Http,
    tenant: &Tenant,
    credential: Credential,
) -> crate::Result<Vec<Finding>> {
    let activity = Activity::new(http, tenant, credential, Clock::default())?;
    match activity.sign_in().await {
        Ok(facts) => Ok(signed_in(&activity, tenant, &facts).await),
        Err(fault) => Ok(vec![not_signed_in(&fault)]),
    }
}

/// What is found after a sign-in that gave this token.
pub(super) async fn signed_in(
    activity: &Activity,
    tenant: &Tenant,
    facts: &TokenFacts,
) -> Vec<Finding> {
    let mut findings = judge(tenant, facts);
    // Without any role the API's refusal would only say the same once more.
    if findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Bad)
    {
        findings.push(match activity.subscriptions().await {
            Ok(subscriptions) => answered(tenant, &subscriptions),
            Err(fault) => Finding::new(Verdict::Bad, format!("subscriptions: {fault}")),
        });
    }
    findings
}

fn not_signed_in(fault: &Fault) -> Finding {
    Finding::new(Verdict::Bad, format!("sign-in: {fault}"))
}

const READ: &str = "ActivityFeed.Read";
const READ_DLP: &str = "ActivityFeed.ReadDlp";
const CLICK: &str = "App registrations > the app > API permissions > Add a permission > Office 365 \
                     Management APIs > Application permissions (not Delegated)";

/// What the token tells.
fn judge(tenant: &Tenant, facts: &TokenFacts) -> Vec<Finding> {
    let mut findings = vec![Finding::new(
        Verdict::Good,
        format!("signed in as the application {}", tenant.client_id),
    )];
    let mut say = |verdict, text: String| findings.push(Finding::new(verdict, text));
    if let Some(tid) = &facts.tid
        && !tid.eq_ignore_ascii_case(&tenant.tenant_id)
    {
        let asked = &tenant.tenant_id;
        say(
            Verdict::Bad,
            format!("the token is for tenant {tid}, not for {asked}; check the tenant ID"),
        );
    }
    let host = tenant
        .management_url
        .as_deref()
        .unwrap_or(tenant.cloud.management_url());
    if let Some(aud) = &facts.aud
        && aud.starts_with("http")
        && aud.trim_end_matches('/') != host.trim_end_matches('/')
    {
        say(
            Verdict::Note,
            format!("the token is for {aud}, not for {host}; check the tenant's cloud"),
        );
    }
    let Some(roles) = &facts.roles else {
        say(
            Verdict::Note,
            "the token cannot be read, so its permissions are not known here".to_owned(),
        );
        return findings;
    };
    let has = |role: &str| roles.iter().any(|held| held == role);
    let wants = |dlp| {
        let mut types = tenant.content_types.iter();
        types.any(|one| (*one == ContentType::Dlp) == dlp)
    };
    if wants(false) && !has(READ) {
        let scope = match &facts.scp {
            Some(_) => "; it has delegated permissions, which do not count here",
            None => "",
        };
        say(
            Verdict::Bad,
            format!(
                "the application lacks the permission {READ}{scope}; in Azure: {CLICK} > {READ}, then \
                 Grant admin consent, and wait some minutes"
            ),
        );
    }
    if wants(true) && !has(READ_DLP) {
        say(
            Verdict::Note,
            format!(
                "the application lacks the permission {READ_DLP}, so DLP.All is left out; to have it, \
                 in Azure: {CLICK} > {READ_DLP}, then Grant admin consent"
            ),
        );
    }
    let held: Vec<_> = [READ, READ_DLP]
        .into_iter()
        .filter(|role| has(role))
        .collect();
    if !held.is_empty() {
        say(Verdict::Good, format!("permissions: {}", held.join(", ")));
    }
    findings
}

fn answered(tenant: &Tenant, subscriptions: &[Subscription]) -> Finding {
    let is_running = |one: &ContentType| {
        subscriptions
            .iter()
            .any(|other| other.enabled && ContentType::parse(&other.content_type) == Some(*one))
    };
    let (all, running) = (
        tenant.content_types.len(),
        tenant
            .content_types
            .iter()
            .filter(|one| is_running(one))
            .count(),
    );
    let rest = if running < all {
        "; the next run starts the others, and Microsoft gathers from then on"
    } else {
        ""
    };
    Finding::new(
        Verdict::Good,
        format!("the Activity API answers: {running} of {all} subscriptions run{rest}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use crate::config::Settings;

    const TENANT: &str = "8a3c1b6e-1111-4000-8000-0123456789ab";

    fn tenant(also: &str) -> Tenant {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let config = format!(
            "[[tenant]]\nname = 'contoso'\ntenant_id = '{TENANT}'\n\
             client_id = '0f0e0d0c-2222-4000-9000-ba9876543210'\nclient_secret_file = 's'\n{also}"
        );
        std::fs::write(&path, config).unwrap();
        Settings::load(&path).unwrap().tenants.remove(0)
    }

    /// Verdicts and the beginnings of what is said.
    fn says(tenant: &Tenant, facts: &TokenFacts) -> Vec<String> {
        let findings = judge(tenant, facts);
        findings
            .iter()
            .map(|finding| finding.to_string().split(';').next().unwrap().to_owned())
            .collect()
    }

    fn facts(roles: &[&str]) -> TokenFacts {
        TokenFacts {
            roles: Some(roles.iter().map(|role| (*role).to_owned()).collect()),
            aud: Some("https://manage.office.com".to_owned()),
            tid: Some(TENANT.to_owned()),
            ..TokenFacts::default()
        }
    }

    const SIGNED_IN: &str =
        "ok     signed in as the application 0f0e0d0c-2222-4000-9000-ba9876543210";
    const NO_DLP: &str =
        "note   the application lacks the permission ActivityFeed.ReadDlp, so DLP.All is left out";

    #[test]
    fn permissions() {
        let all = tenant("");
        assert_eq!(
            says(&all, &facts(&[READ_DLP, READ, "ServiceHealth.Read"])),
            [
                SIGNED_IN,
                "ok     permissions: ActivityFeed.Read, ActivityFeed.ReadDlp"
            ]
        );
        assert_eq!(
            says(&all, &facts(&[READ])),
            [SIGNED_IN, NO_DLP, "ok     permissions: ActivityFeed.Read"]
        );
        assert_eq!(
            says(&all, &facts(&[])),
            [
                SIGNED_IN,
                "WRONG  the application lacks the permission ActivityFeed.Read",
                NO_DLP
            ]
        );
        // each content type needs its own
        let without_dlp = tenant("content_types = ['Audit.Exchange']");
        assert_eq!(
            says(&without_dlp, &facts(&[READ])),
            [SIGNED_IN, "ok     permissions: ActivityFeed.Read"]
        );
        let only_dlp = tenant("content_types = ['DLP.ALL']");
        assert_eq!(
            says(&only_dlp, &facts(&[READ_DLP])),
            [SIGNED_IN, "ok     permissions: ActivityFeed.ReadDlp"]
        );
        let delegated = TokenFacts {
            scp: Some("ActivityFeed.Read".to_owned()),
            ..facts(&[])
        };
        let cure = judge(&all, &delegated).remove(1).text;
        assert_eq!(
            cure,
            "the application lacks the permission ActivityFeed.Read; it has delegated permissions, \
             which do not count here; in Azure: App registrations > the app > API permissions > Add a \
             permission > Office 365 Management APIs > Application permissions (not Delegated) > \
             ActivityFeed.Read, then Grant admin consent, and wait some minutes"
        );
    }

    #[test]
    fn a_token_for_somebody_else() {
        let other = TokenFacts {
            tid: Some("ffffffff-1111-4000-8000-0123456789ab".to_owned()),
            aud: Some("https://manage.office365.us/".to_owned()),
            ..facts(&[READ, READ_DLP])
        };
        let said = says(&tenant(""), &other);
        assert!(
            said[1].starts_with("WRONG  the token is for tenant ffffffff-"),
            "{said:?}"
        );
        assert!(
            said[2].starts_with("note   the token is for https://manage.office365.us/, not for https://manage.office.com"),
            "{said:?}"
        );
        assert!(
            says(&tenant(""), &TokenFacts::default())[1]
                .starts_with("note   the token cannot be read")
        );
    }

    #[test]
    fn subscriptions() {
        let said = |running: &[(&str, bool)]| {
            let list: Vec<_> = running
                .iter()
                .map(|(name, enabled)| Subscription {
                    content_type: (*name).to_owned(),
                    enabled: *enabled,
                })
                .collect();
            answered(
                &tenant("content_types = ['Audit.Exchange', 'DLP.All']"),
                &list,
            )
            .text
        };
        assert_eq!(
            said(&[
                ("Audit.Exchange", false),
                ("DLP.All", true),
                ("Audit.New", true)
            ]),
            "the Activity API answers: 1 of 2 subscriptions run; the next run starts the others, and \
             Microsoft gathers from then on"
        );
        assert_eq!(
            said(&[("Audit.Exchange", true), ("DLP.All", true)]),
            "the Activity API answers: 2 of 2 subscriptions run"
        );
    }
}
