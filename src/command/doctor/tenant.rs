//! From the tenant's credential to one of its blobs.

use std::time::Duration;

use chrono::{TimeDelta, Utc};

use super::finding::{Chain, Outcome};
use super::microsoft::{Candidate, Past};
use super::probes::{self, Probe, Said};
use super::token;
use crate::config::{ContentType, Tenant};
use crate::microsoft::{Activity, Class, Clock, Content, Credential, Fault, Http, Subscription};

/// How long before its end a secret or certificate is mentioned.
const SOON: TimeDelta = TimeDelta::days(30);
/// How much of a blob is read.
const ENOUGH: usize = 64 * 1024;
/// How long a blob may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// What needs the hosts, in order.
const AT_MICROSOFT: &[&Probe] = &[
    &probes::SIGN_IN,
    &probes::TOKEN,
    &probes::PERMISSIONS,
    &probes::SUBSCRIPTIONS,
    &probes::LISTING,
    &probes::AUDIT_LOG,
    &probes::BLOB,
];

/// What became of signing in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) enum SignIn {
    Done,
    /// Entra ID says no: what it said, with the cure.
    Refused(String),
    /// It could not be asked, for now.
    Unknown(String),
    /// There is nothing to sign in with: the credential cannot be read.
    Impossible,
}

impl SignIn {
    /// What it needs does not hold, as was found before.
    fn untried() -> Self {
        Self::Unknown("it could not sign in; see above".to_owned())
    }
}

/// Every link from the credential to a blob. `clock` is that of its hosts, if they can be reached.
pub(super) async fn probe(
    http: &Http,
    candidate: Candidate,
    clock: Option<Clock>,
) -> (Chain, SignIn) {
    let tenant = &candidate.tenant;
    let mut chain = Chain::of_tenant(&tenant.name);
    let credential = match candidate.credential {
        Some(credential) => Ok(credential),
        None => own_credential(&mut chain, tenant).await,
    };
    let sign_in = match (credential, clock) {
        (Ok(credential), Some(clock)) => match Activity::new(http, tenant, credential, clock) {
            Ok(activity) => ask(&mut chain, &activity, tenant, &candidate.past).await,
            Err(error) => {
                chain.link(&probes::SIGN_IN, Outcome::failed(&error.to_string()));
                SignIn::Unknown(error.to_string())
            }
        },
        (Ok(_), None) => {
            chain.break_off();
            SignIn::untried()
        }
        (Err(sign_in), _) => sign_in,
    };
    chain.skip_what_is_left(AT_MICROSOFT);
    (chain, sign_in)
}

/// As it is stored, or why nobody can sign in with it.
async fn own_credential(chain: &mut Chain, tenant: &Tenant) -> Result<Credential, SignIn> {
    let credential = match Credential::read_aside(&tenant.authentication).await {
        Ok(credential) => credential,
        Err(flaw) => {
            chain.link(&probes::CREDENTIAL, Outcome::Failed(flaw.into()));
            return Err(SignIn::Impossible);
        }
    };
    let told = tenant
        .client_secret_expires
        .map(|day| ("client secret", day));
    let read = credential
        .not_after()
        .map(|end| ("certificate", end.date_naive()));
    let today = Utc::now().date_naive();
    let outcome = match read.or(told) {
        // A certificate's end is a fact; a secret's was told, and Entra ID knows better.
        Some((what @ "certificate", day)) if day < today => {
            Outcome::Failed(probes::EXPIRED.with(&[("what", &what), ("day", &day)]))
        }
        Some((what, day)) if day < today => {
            Outcome::Note(probes::EXPIRED.with(&[("what", &what), ("day", &day)]))
        }
        Some((what, day)) if day - today <= SOON => {
            Outcome::Note(probes::EXPIRES_SOON.with(&[("what", &what), ("day", &day)]))
        }
        Some((what, day)) => Outcome::Ok(format!("readable; the {what} expires on {day}")),
        None => Outcome::Ok("readable".to_owned()),
    };
    chain.link(&probes::CREDENTIAL, outcome);
    chain
        .holds()
        .then_some(credential)
        .ok_or_else(SignIn::untried)
}

/// A fault, its cure apart.
fn failed(fault: &Fault) -> Outcome {
    let mut bare = fault.clone();
    bare.cure = "";
    Outcome::Failed(Said {
        seen: bare.to_string(),
        cure: fault.cure.to_owned(),
    })
}

/// Signs in and walks from the token to a blob.
async fn ask(chain: &mut Chain, activity: &Activity, tenant: &Tenant, past: &Past) -> SignIn {
    let facts = match activity.sign_in().await {
        Ok(facts) => facts,
        Err(fault) => {
            chain.link(&probes::SIGN_IN, failed(&fault));
            return match fault.class {
                Class::RefuseTenant | Class::AuditLogOff => SignIn::Refused(fault.to_string()),
                _ => SignIn::Unknown(fault.to_string()),
            };
        }
    };
    let application = format!("as the application {}", tenant.client_id);
    chain.link(&probes::SIGN_IN, Outcome::Ok(application));
    token::judge(chain, tenant, &facts);
    if chain.holds() {
        subscriptions(chain, activity, tenant, past).await;
    }
    if chain.holds()
        && let Some((content_type, content)) =
            list(chain, activity, tenant, past.lacks_audit_log).await
    {
        chain.link(&probes::BLOB, read(activity, content_type, &content).await);
    }
    SignIn::Done
}

/// Where the audit log is off, that is what to say.
fn of(fault: &Fault, probe: &'static Probe) -> &'static Probe {
    if fault.class == Class::AuditLogOff {
        &probes::AUDIT_LOG
    } else {
        probe
    }
}

async fn subscriptions(chain: &mut Chain, activity: &Activity, tenant: &Tenant, past: &Past) {
    match activity.subscriptions().await {
        Ok(list) => chain.link(&probes::SUBSCRIPTIONS, count(tenant, &list, past)),
        Err(fault) => chain.link(of(&fault, &probes::SUBSCRIPTIONS), failed(&fault)),
    }
}

/// How many of the tenant's content types are subscribed, and what kept others from it.
fn count(tenant: &Tenant, subscriptions: &[Subscription], past: &Past) -> Outcome {
    let is_running = |one: &ContentType| {
        subscriptions
            .iter()
            .any(|other| other.enabled && other.content_type == *one)
    };
    let types = tenant.content_types.iter();
    let (running, all) = (
        types.filter(|one| is_running(one)).count(),
        tenant.content_types.len(),
    );
    let mut errors = past.errors.iter();
    // That there was no audit log is said by the probe of it.
    if let Some((content_type, error)) = errors.find(|(one, _)| !is_running(one))
        && !past.lacks_audit_log
    {
        let (why, cure) = error.split_once("; ").unwrap_or((error, ""));
        return Outcome::Note(probes::NOT_STARTED.with(&[
            ("running", &running),
            ("all", &all),
            ("content_type", content_type),
            ("why", &why),
            ("cure", &cure),
        ]));
    }
    let rest = if running < all {
        "; the next run starts the others, and Microsoft gathers from then on"
    } else {
        ""
    };
    Outcome::Ok(format!(
        "the Activity API answers: {running} of {all} subscriptions run{rest}"
    ))
}

/// Lists the last hours; one of the contents, if there is one.
async fn list(
    chain: &mut Chain,
    activity: &Activity,
    tenant: &Tenant,
    lacked_audit_log: bool,
) -> Option<(ContentType, Content)> {
    let now = activity.clock().now();
    let mut found: Option<(ContentType, Content)> = None;
    let (mut answered, mut count) = (false, 0);
    for &content_type in &tenant.content_types {
        let mut listing = activity.list(content_type, now - TimeDelta::hours(24), now);
        match listing.next().await {
            Ok(contents) => {
                let contents = contents.unwrap_or_default();
                answered = true;
                count += contents.len();
                found = found.or_else(|| Some((content_type, contents.into_iter().next()?)));
            }
            // Not started, or not permitted: said above, and no fault of the way.
            Err(fault)
                if matches!(
                    fault.class,
                    Class::StartSubscription | Class::TypeUnavailable
                ) => {}
            Err(fault) => {
                chain.link(of(&fault, &probes::LISTING), failed(&fault));
                return None;
            }
        }
    }
    if !answered {
        let (probe, trouble) = if lacked_audit_log {
            (&probes::AUDIT_LOG, &probes::WAS_OFF)
        } else {
            (&probes::LISTING, &probes::NOT_LISTED)
        };
        chain.link(probe, Outcome::Note(trouble.with(&[])));
        return None;
    }
    let seen = format!("contents on the first pages of the last 24 hours: {count}");
    chain.link(&probes::LISTING, Outcome::Ok(seen));
    let seen = "Microsoft has one for this tenant".to_owned();
    chain.link(&probes::AUDIT_LOG, Outcome::Ok(seen));
    if found.is_none() {
        let seen = "none there to read yet".to_owned();
        chain.link(&probes::BLOB, Outcome::Ok(seen));
    }
    found
}

/// Begins to read a blob.
async fn read(activity: &Activity, content_type: ContentType, content: &Content) -> Outcome {
    let read = async {
        let mut blob = activity.fetch(content_type, &content.uri).await?;
        let mut bytes = 0;
        while let Some(chunk) = blob.chunk().await? {
            bytes += chunk.len();
            if bytes >= ENOUGH {
                break;
            }
        }
        Ok::<_, Fault>(bytes)
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(bytes)) => Outcome::Ok(format!("{content_type}: {bytes} bytes read")),
        Ok(Err(fault)) if fault.class == Class::SkipBlob => {
            Outcome::Ok("the one that was tried is gone already".to_owned())
        }
        Ok(Err(fault)) => failed(&fault),
        Err(_) => Outcome::Failed(probes::SLOW_BLOB.with(&[
            ("content_type", &content_type),
            ("seconds", &PATIENCE.as_secs()),
        ])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_runs_is_counted() {
        let tenant =
            super::super::token::tests::tenant("content_types = ['Audit.Exchange', 'DLP.All']");
        let said = |running: &[(&str, bool)]| {
            let list: Vec<_> = running
                .iter()
                .map(|(name, enabled)| Subscription {
                    content_type: ContentType::parse(name).unwrap(),
                    enabled: *enabled,
                })
                .collect();
            match count(&tenant, &list, &Past::default()) {
                Outcome::Ok(said) => said,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(
            said(&[
                ("Audit.Exchange", false),
                ("DLP.All", true),
                ("Audit.General", true)
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
