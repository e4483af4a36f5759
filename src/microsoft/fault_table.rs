//! The codes of Entra ID (AADSTS) and the Activity API (AF) that we know: what each means, in the
//! operator's words, and the cure. Data only; [`super::fault`] applies it.

use super::fault::Class;

/// A code that we know.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) code: &'static str,
    pub(super) class: Class,
    pub(super) sentence: &'static str,
    pub(super) cure: &'static str,
    /// Seconds to stay away, where the answer does not tell.
    pub(super) wait: Option<u64>,
}

const fn row(code: &'static str, class: Class, sentence: &'static str, cure: &'static str) -> Row {
    Row {
        code,
        class,
        sentence,
        cure,
        wait: None,
    }
}

/// The row of a code.
pub(super) fn find(code: &str) -> Option<&'static Row> {
    let same = |row: &&Row| row.code.eq_ignore_ascii_case(code);
    ENTRA.iter().chain(ACTIVITY).find(same)
}

/// What to do about a code, if we know it.
#[must_use]
pub fn cure_of(code: &str) -> Option<&'static str> {
    find(code).map(|row| row.cure)
}

/// The way in Azure to a permission of the application.
macro_rules! grant {
    ($permission:literal) => {
        concat!(
            "in Azure: App registrations > the app > API permissions > Add a permission > Office 365 Management APIs > \
             Application permissions (not Delegated) > ",
            $permission,
            ", then Grant admin consent, and wait some minutes"
        )
    };
}

/// How the application gets the permission that all content types but DLP.All need.
pub const GRANT_READ: &str = grant!("ActivityFeed.Read");
/// How it gets the one that DLP.All needs.
pub const GRANT_READ_DLP: &str = concat!(
    "to collect DLP.All, ",
    grant!("ActivityFeed.ReadDlp"),
    "; otherwise take DLP.All out of content_types"
);

const WAIT: &str = "nothing to do: it passes, and the next run tries again";
const REPORT: &str = "update o365-wodle; if it stays, report it with this message";
const IDS: &str = "compare tenant_id, client_id and cloud with Azure: App registrations > the app > Overview; tenant and client id may be swapped";
const FEDERATED: &str = "compare issuer, subject and audience with Azure: App registrations > the app > Certificates & secrets > Federated credentials";
const UNKNOWN_API: &str = "set the tenant's cloud to the one that the organisation is in; if it is, an administrator of the organisation makes the API known: az ad sp create --id c5393580-f805-4401-95e8-94b7a6ef2fc2";
const CLOUD: &str = "set the tenant's cloud to the one that the organisation is in: commercial, gcc, gcc-high, dod or china";
/// How a tenant gets an audit log.
pub const SWITCH_AUDIT_LOG_ON: &str = "check tenant_id; then switch the audit log on in Exchange Online PowerShell: Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true; it takes effect within about an hour";
const WINDOW: &str =
    "the next run lists the window again by Microsoft's clock; check this machine's clock";
const EXPIRED: &str = "nothing to do: it is counted as lost; have runs come more often than that contents expire, which takes 7 days";
const LOST: &str = "nothing to do: runs try it again as long as Microsoft keeps contents, 7 days, then it is counted as lost";
const LIMITED: &str = "if it happens often, lower requests_per_minute or concurrency; another collector may share the tenant's quota";

/// The API's throttle, whichever of its spellings it came in.
pub(super) const THROTTLED: Row = row(
    "AF429",
    Class::Throttled,
    "Microsoft wants fewer requests for this tenant",
    LIMITED,
);

/// Starts closer than 15 minutes, which come as code 429 in a 403.
pub(super) static START_TOO_SOON: Row = Row {
    wait: Some(900),
    ..row(
        "429",
        Class::StartTooSoon,
        "Microsoft starts a subscription at most once in 15 minutes",
        "nothing to do: a later run starts it",
    )
};

/// "Tenant … does not exist", said to a token of that very tenant.
pub(super) static AUDIT_LOG_OFF: Row = row(
    "",
    Class::AuditLogOff,
    "Microsoft finds no audit log for this tenant; unified audit logging is almost certainly switched off",
    SWITCH_AUDIT_LOG_ON,
);

/// The token endpoint's codes.
#[rustfmt::skip]
pub(super) static ENTRA: &[Row] = &[
    row("AADSTS7000215", Class::RefuseTenant, "the client secret is wrong", "hand over the secret's Value, not its Secret ID; Azure shows it only once: App registrations > the app > Certificates & secrets > New client secret"),
    row("AADSTS7000222", Class::RefuseTenant, "the client secret has expired", "make a new one in Azure: App registrations > the app > Certificates & secrets > New client secret; then `o365-wodle tenant rotate NAME --from FILE`"),
    row("AADSTS7000216", Class::RefuseTenant, "the request held no secret and no assertion", "give the tenant a client secret, a certificate or a federated token file"),
    row("AADSTS7000218", Class::RefuseTenant, "the request held no secret and no assertion", "give the tenant a client secret, a certificate or a federated token file"),
    row("AADSTS700016", Class::RefuseTenant, "the app is not in this tenant", IDS),
    row("AADSTS90002", Class::RefuseTenant, "the tenant is unknown in this cloud", IDS),
    row("AADSTS900023", Class::RefuseTenant, "the tenant id is malformed", IDS),
    row("AADSTS900382", Class::RefuseTenant, "the app belongs to another of Microsoft's clouds", CLOUD),
    row("AADSTS7000112", Class::RefuseTenant, "the app is disabled in this tenant", "enable it in Azure: Enterprise applications > the app > Properties > Enabled for users to sign in"),
    row("AADSTS700027", Class::RefuseTenant, "Entra ID does not know the certificate, or its signature is wrong", "upload the certificate (public part) in Azure: App registrations > the app > Certificates & secrets > Certificates; check that the key belongs to it"),
    row("AADSTS700024", Class::RefuseTenant, "the signed assertion is outside its time window", "set this machine's clock (time synchronisation)"),
    row("AADSTS700023", Class::RefuseTenant, "the signed assertion is for another audience", CLOUD),
    row("AADSTS700021", Class::RefuseTenant, "the signed assertion names another issuer", IDS),
    row("AADSTS70021", Class::RefuseTenant, "no federated credential of the app fits the token", FEDERATED),
    row("AADSTS700211", Class::RefuseTenant, "no federated credential of the app has the token's issuer", FEDERATED),
    row("AADSTS700212", Class::RefuseTenant, "no federated credential of the app has the token's audience", FEDERATED),
    row("AADSTS700213", Class::RefuseTenant, "no federated credential of the app has the token's subject", FEDERATED),
    row("AADSTS500011", Class::RefuseTenant, "the tenant does not know the Office 365 Management APIs", UNKNOWN_API),
    row("AADSTS70011", Class::RefuseTenant, "the scope is wrong", "check management_url: the scope is made of it"),
    row("AADSTS1002012", Class::RefuseTenant, "the scope is wrong", "check management_url: the scope is made of it"),
    row("AADSTS501051", Class::RefuseTenant, "the app has no permission for the Office 365 Management APIs", GRANT_READ),
    row("AADSTS53003", Class::RefuseTenant, "Conditional Access blocks the app", "ask the Entra administrator to leave this workload identity out of the policy or to allow this host's address: Protection > Conditional Access > Sign-in logs > Service principal sign-ins"),
    row("AADSTS530003", Class::RefuseTenant, "Conditional Access demands a managed device", "ask the Entra administrator to leave this workload identity out of the policy: Protection > Conditional Access > Policies"),
    Row { wait: Some(300), ..row("AADSTS50196", Class::Throttled, "Entra ID takes the sign-ins for a loop", "sign in less often: run at most every few minutes, and look for another program with the same app") },
    row("AADSTS90033", Class::Retry, "Entra ID has a passing fault", WAIT),
    row("AADSTS90006", Class::Retry, "Entra ID has a passing fault", WAIT),
];

/// The Activity API's codes.
#[rustfmt::skip]
pub(super) static ACTIVITY: &[Row] = &[
    row("AF10001", Class::RefuseTenant, "the app lacks the permission ActivityFeed.Read", GRANT_READ),
    row("AF20001", Class::OurBug, "Microsoft misses a parameter", REPORT),
    row("AF20002", Class::OurBug, "Microsoft finds a parameter of the wrong type", REPORT),
    row("AF20003", Class::OurBug, "Microsoft finds a webhook's expiry in the past", REPORT),
    row("AF20010", Class::RefuseTenant, "the token belongs to another tenant than the one asked for", IDS),
    row("AF20011", Class::AuditLogOff, "the Activity API does not know the tenant", SWITCH_AUDIT_LOG_ON),
    row("AF20012", Class::RefuseTenant, "the Activity API finds the tenant misconfigured", "check tenant_id and cloud; if both are right, ask Microsoft's support"),
    row("AF20013", Class::RefuseTenant, "the tenant id is no GUID", IDS),
    row("AF20020", Class::TypeUnavailable, "this cloud does not know the content type", "take it out of content_types"),
    row("AF20021", Class::OurBug, "Microsoft could not validate a webhook", REPORT),
    row("AF20022", Class::StartSubscription, "there is no subscription for the content type", "nothing to do: it is started"),
    row("AF20023", Class::StartSubscription, "the subscription was disabled by an administrator of the tenant or the service", "nothing to do: it is started again; if it comes back, ask the tenant's administrator"),
    row("AF20024", Class::AlreadyEnabled, "the subscription is enabled already", ""),
    row("AF20030", Class::RestartWindow, "Microsoft refuses the start and end of the window", WINDOW),
    row("AF20055", Class::RestartWindow, "Microsoft refuses the start and end of the window", WINDOW),
    row("AF20031", Class::RestartWindow, "Microsoft does not accept its own link to the next page", "nothing to do: the window is listed again"),
    row("AF20050", Class::SkipBlob, "Microsoft does not have this content any more", LOST),
    row("AF20051", Class::SkipBlob, "this content has expired", EXPIRED),
    row("AF20052", Class::SkipBlob, "Microsoft does not accept the id of its own content", "if it happens often, the tenant's cloud is wrong: commercial and gcc answer for each other"),
    row("AF20053", Class::OurBug, "Microsoft misses Accept-Language", REPORT),
    row("AF20054", Class::OurBug, "Microsoft does not know the language of Accept-Language", REPORT),
    THROTTLED,
    row("429", Class::Throttled, "Microsoft wants fewer requests for this tenant", LIMITED),
    row("AF50000", Class::Retry, "Microsoft's server has an internal fault", WAIT),
    row("AF50005", Class::Retry, "Microsoft's server has an internal fault", WAIT),
    row("AF50006", Class::Retry, "Microsoft's server has an internal fault", WAIT),
];
