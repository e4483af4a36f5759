//! What a token tells: for whom it is, and what the application may do.

use super::finding::{Chain, Outcome};
use super::probes::{self, Trouble};
use crate::config::{ContentType, Tenant};
use crate::microsoft::{READ, READ_DLP, TokenFacts};

/// Adds the links that a token decides.
pub(super) fn judge(chain: &mut Chain, tenant: &Tenant, facts: &TokenFacts) {
    chain.link(&probes::TOKEN, belongs(tenant, facts));
    if chain.holds()
        && let Some(roles) = &facts.roles
    {
        for outcome in permits(tenant, facts, roles) {
            chain.link(&probes::PERMISSIONS, outcome);
        }
    }
}

/// Whether the token is for the tenant and its cloud.
fn belongs(tenant: &Tenant, facts: &TokenFacts) -> Outcome {
    if let Some(tid) = &facts.tid
        && !tid.eq_ignore_ascii_case(&tenant.tenant_id)
    {
        let said = probes::OTHER_TENANT.with(&[("tid", tid), ("asked", &tenant.tenant_id)]);
        return Outcome::Failed(said);
    }
    let host = tenant.management_host();
    if let Some(aud) = &facts.aud
        && aud.starts_with("http")
        && aud.trim_end_matches('/') != host.trim_end_matches('/')
    {
        return Outcome::Note(probes::OTHER_CLOUD.with(&[("aud", aud), ("host", &host)]));
    }
    match &facts.roles {
        None => Outcome::Note(probes::TOKEN_UNREADABLE.with(&[])),
        Some(_) => Outcome::Ok(format!("for tenant {}", tenant.tenant_id)),
    }
}

/// Whether it permits what the tenant's content types need.
fn permits(tenant: &Tenant, facts: &TokenFacts, roles: &[String]) -> Vec<Outcome> {
    let has = |role: &str| roles.iter().any(|held| held == role);
    let wants = |dlp| {
        let mut types = tenant.content_types.iter();
        types.any(|one| (*one == ContentType::Dlp) == dlp)
    };
    let lack: &Trouble = match &facts.scp {
        Some(_) => &probes::ONLY_DELEGATED,
        None => &probes::NO_READ,
    };
    let mut outcomes = Vec::new();
    outcomes.extend((wants(false) && !has(READ)).then(|| Outcome::Failed(lack.with(&[]))));
    outcomes.extend(
        (wants(true) && !has(READ_DLP)).then(|| Outcome::Note(probes::NO_READ_DLP.with(&[]))),
    );
    let held: Vec<_> = [READ, READ_DLP]
        .into_iter()
        .filter(|role| has(role))
        .collect();
    outcomes.extend((!held.is_empty()).then(|| Outcome::Ok(held.join(", "))));
    outcomes
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use std::sync::Arc;

    use super::*;
    use crate::config::Settings;

    const TENANT: &str = "8a3c1b6e-1111-4000-8000-0123456789ab";

    /// A tenant with further keys.
    pub(in super::super) fn tenant(also: &str) -> Arc<Tenant> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let config = format!(
            "[[tenant]]\nname = 'contoso'\ntenant_id = '{TENANT}'\n\
             client_id = '0f0e0d0c-2222-4000-9000-ba9876543210'\nclient_secret_file = 's'\n{also}"
        );
        std::fs::write(&path, config).unwrap();
        Settings::load(&path).unwrap().tenants.remove(0)
    }

    /// Results, probes, and what is seen.
    fn says(tenant: &Tenant, facts: &TokenFacts) -> Vec<String> {
        let mut chain = Chain::of_tenant("contoso");
        judge(&mut chain, tenant, facts);
        let said = chain
            .into_findings()
            .into_iter()
            .map(|finding| format!("{:?} {}: {}", finding.verdict, finding.probe, finding.seen));
        said.collect()
    }

    fn facts(roles: &[&str]) -> TokenFacts {
        TokenFacts {
            roles: Some(roles.iter().map(|role| (*role).to_owned()).collect()),
            aud: Some("https://manage.office.com".to_owned()),
            tid: Some(TENANT.to_owned()),
            ..TokenFacts::default()
        }
    }

    const OURS: &str = "Ok token: for tenant 8a3c1b6e-1111-4000-8000-0123456789ab";
    const NO_DLP: &str = "Note permissions: the application lacks the permission ActivityFeed.ReadDlp, so DLP.All is left out";
    const NO_READ: &str =
        "Failed permissions: the application lacks the permission ActivityFeed.Read";

    #[test]
    fn each_content_type_needs_its_permission() {
        let all = tenant("");
        for (tenant, held, said) in [
            (
                &all,
                &[READ_DLP, READ, "ServiceHealth.Read"][..],
                &["Ok permissions: ActivityFeed.Read, ActivityFeed.ReadDlp"][..],
            ),
            (
                &all,
                &[READ],
                &[NO_DLP, "Ok permissions: ActivityFeed.Read"],
            ),
            (&all, &[], &[NO_READ, NO_DLP]),
            (
                &tenant("content_types = ['Audit.Exchange']"),
                &[READ],
                &["Ok permissions: ActivityFeed.Read"],
            ),
            (
                &tenant("content_types = ['DLP.ALL']"),
                &[READ_DLP],
                &["Ok permissions: ActivityFeed.ReadDlp"],
            ),
        ] {
            assert_eq!(says(tenant, &facts(held)), [&[OURS], said].concat());
        }
        let delegated = TokenFacts {
            scp: Some(READ.to_owned()),
            ..facts(&[])
        };
        assert_eq!(
            says(&all, &delegated)[1],
            format!("{NO_READ}; it has delegated permissions, which do not count here")
        );
    }

    #[test]
    fn a_token_for_somebody_else() {
        let other = TokenFacts {
            tid: Some("ffffffff-1111-4000-8000-0123456789ab".to_owned()),
            ..facts(&[READ, READ_DLP])
        };
        assert_eq!(
            says(&tenant(""), &other),
            [
                "Failed token: the token is for tenant ffffffff-1111-4000-8000-0123456789ab, not for 8a3c1b6e-1111-4000-8000-0123456789ab"
            ]
        );
        let cloud = TokenFacts {
            aud: Some("https://manage.office365.us/".to_owned()),
            ..facts(&[READ, READ_DLP])
        };
        assert_eq!(
            says(&tenant(""), &cloud)[0],
            "Note token: the token is for https://manage.office365.us/, not for https://manage.office.com"
        );
        assert_eq!(
            says(&tenant(""), &TokenFacts::default()),
            ["Note token: the token cannot be read, so its permissions are not known here"]
        );
    }
}
