//! The table, row by row, and what is decided without it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::activity::{unanswered, unanswered_within};
use super::super::fault_table::{ACTIVITY, ENTRA};
use super::super::token::{no_token, unsigned, unusable};
use super::*;
use chrono::TimeZone;

fn answer(operation: Operation, status: u16, body: &str) -> Fault {
    judged(operation, None, None, status, body)
}

fn judged(
    operation: Operation,
    content_type: Option<ContentType>,
    roles: Option<&[&str]>,
    status: u16,
    body: &str,
) -> Fault {
    let roles: Option<Vec<String>> =
        roles.map(|roles| roles.iter().map(|&role| role.to_owned()).collect());
    Fault::judge(&Answer {
        operation,
        content_type,
        status,
        body: body.as_bytes(),
        retry_after: None,
        roles: roles.as_deref(),
        url: "https://manage.office.com/x".to_owned(),
    })
}

fn activity(code: &str) -> String {
    serde_json::json!({"error": {"code": code, "message": "Something."}}).to_string()
}

fn entra(code: &str) -> String {
    serde_json::json!({
        "error": "invalid_client", "error_description": format!("{code}: the secret is hunter2\r\nTrace ID: t-1"),
        "error_codes": [code.trim_start_matches("AADSTS").parse::<u64>().unwrap()],
        "trace_id": "t-1", "correlation_id": "c-1",
    })
    .to_string()
}

const READ: &str = "in Azure: App registrations > the app > API permissions > Add a permission > Office 365 Management APIs > Application permissions (not Delegated) > ActivityFeed.Read, then Grant admin consent, and wait some minutes";
const READ_DLP: &str = "to collect DLP.All, in Azure: App registrations > the app > API permissions > Add a permission > Office 365 Management APIs > Application permissions (not Delegated) > ActivityFeed.ReadDlp, then Grant admin consent, and wait some minutes; otherwise take DLP.All out of content_types";

#[test]
#[rustfmt::skip]
fn entra_row_by_row() {
    use Class::{RefuseTenant, Retry, Throttled};
    const NO_PROOF: &str = "give the tenant a client secret, a certificate or a federated token file";
    const IDS: &str = "compare tenant_id, client_id and cloud with Azure: App registrations > the app > Overview; tenant and client id may be swapped";
    const UNKNOWN_API: &str = "set the tenant's cloud to the one that the organisation is in; if it is, an administrator of the organisation makes the API known: az ad sp create --id c5393580-f805-4401-95e8-94b7a6ef2fc2";
    const CLOUD: &str = "set the tenant's cloud to the one that the organisation is in: commercial, gcc, gcc-high, dod or china";
    const FEDERATED: &str = "compare issuer, subject and audience with Azure: App registrations > the app > Certificates & secrets > Federated credentials";
    const SCOPE: &str = "check management_url: the scope is made of it";
    const WAIT: &str = "nothing to do: it passes, and the next run tries again";
    let rows = [
        ("AADSTS7000215", RefuseTenant, "the client secret is wrong", "hand over the secret's Value, not its Secret ID; Azure shows it only once: App registrations > the app > Certificates & secrets > New client secret"),
        ("AADSTS7000222", RefuseTenant, "the client secret has expired", "make a new one in Azure: App registrations > the app > Certificates & secrets > New client secret; then `o365-wodle tenant rotate NAME --from FILE`"),
        ("AADSTS7000216", RefuseTenant, "the request held no secret and no assertion", NO_PROOF),
        ("AADSTS7000218", RefuseTenant, "the request held no secret and no assertion", NO_PROOF),
        ("AADSTS700016", RefuseTenant, "the app is not in this tenant", IDS),
        ("AADSTS90002", RefuseTenant, "the tenant is unknown in this cloud", IDS),
        ("AADSTS900023", RefuseTenant, "the tenant id is malformed", IDS),
        ("AADSTS900382", RefuseTenant, "the app belongs to another of Microsoft's clouds", CLOUD),
        ("AADSTS7000112", RefuseTenant, "the app is disabled in this tenant", "enable it in Azure: Enterprise applications > the app > Properties > Enabled for users to sign in"),
        ("AADSTS700027", RefuseTenant, "Entra ID does not know the certificate, or its signature is wrong", "upload the certificate (public part) in Azure: App registrations > the app > Certificates & secrets > Certificates; check that the key belongs to it"),
        ("AADSTS700024", RefuseTenant, "the signed assertion is outside its time window", "set this machine's clock (time synchronisation)"),
        ("AADSTS700023", RefuseTenant, "the signed assertion is for another audience", CLOUD),
        ("AADSTS700021", RefuseTenant, "the signed assertion names another issuer", IDS),
        ("AADSTS70021", RefuseTenant, "no federated credential of the app fits the token", FEDERATED),
        ("AADSTS700211", RefuseTenant, "no federated credential of the app has the token's issuer", FEDERATED),
        ("AADSTS700212", RefuseTenant, "no federated credential of the app has the token's audience", FEDERATED),
        ("AADSTS700213", RefuseTenant, "no federated credential of the app has the token's subject", FEDERATED),
        ("AADSTS500011", RefuseTenant, "the tenant does not know the Office 365 Management APIs", UNKNOWN_API),
        ("AADSTS70011", RefuseTenant, "the scope is wrong", SCOPE),
        ("AADSTS1002012", RefuseTenant, "the scope is wrong", SCOPE),
        ("AADSTS501051", RefuseTenant, "the app has no permission for the Office 365 Management APIs", READ),
        ("AADSTS53003", RefuseTenant, "Conditional Access blocks the app", "ask the Entra administrator to leave this workload identity out of the policy or to allow this host's address: Protection > Conditional Access > Sign-in logs > Service principal sign-ins"),
        ("AADSTS530003", RefuseTenant, "Conditional Access demands a managed device", "ask the Entra administrator to leave this workload identity out of the policy: Protection > Conditional Access > Policies"),
        ("AADSTS50196", Throttled, "Entra ID takes the sign-ins for a loop", "sign in less often: run at most every few minutes, and look for another program with the same app"),
        ("AADSTS90033", Retry, "Entra ID has a passing fault", WAIT),
        ("AADSTS90006", Retry, "Entra ID has a passing fault", WAIT),
    ];
    assert_eq!(rows.map(|row| row.0).as_slice(), ENTRA.iter().map(|row| row.code).collect::<Vec<_>>());
    for (code, class, sentence, cure) in rows {
        let fault = answer(Operation::SignIn, 401, &entra(code));
        assert_eq!((fault.class, &*fault.message, fault.cure), (class, sentence, cure), "{code}");
        assert_eq!(fault.code.as_deref(), Some(code));
        assert_eq!((fault.trace_id.as_deref(), fault.correlation_id.as_deref()), (Some("t-1"), Some("c-1")));
        assert!(!fault.to_string().contains("hunter2"));
    }
    let fault = answer(Operation::SignIn, 400, &entra("AADSTS50196"));
    assert_eq!(fault.retry_after, Some(Duration::from_mins(5)));
}

#[test]
#[rustfmt::skip]
fn activity_row_by_row() {
    use Class::{AlreadyEnabled, AuditLogOff, OurBug, RefuseTenant, RestartWindow, Retry, SkipBlob, StartSubscription, Throttled, TypeUnavailable};
    const REPORT: &str = "update o365-wodle; if it stays, report it with this message";
    const IDS: &str = "compare tenant_id, client_id and cloud with Azure: App registrations > the app > Overview; tenant and client id may be swapped";
    const WINDOW: &str = "the next run lists the window again by Microsoft's clock; check this machine's clock";
    const EXPIRED: &str = "nothing to do: it is counted as lost; have runs come more often than that contents expire, which takes 7 days";
    const LOST: &str = "nothing to do: runs try it again as long as Microsoft keeps contents, 7 days, then it is counted as lost";
    const LIMITED: &str = "if it happens often, lower requests_per_minute or concurrency; another collector may share the tenant's quota";
    const WAIT: &str = "nothing to do: it passes, and the next run tries again";
    let rows = [
        ("AF10001", 403, RefuseTenant, "the app lacks the permission ActivityFeed.Read", READ),
        ("AF20001", 400, OurBug, "Microsoft misses a parameter", REPORT),
        ("AF20002", 400, OurBug, "Microsoft finds a parameter of the wrong type", REPORT),
        ("AF20003", 400, OurBug, "Microsoft finds a webhook's expiry in the past", REPORT),
        ("AF20010", 403, RefuseTenant, "the token belongs to another tenant than the one asked for", IDS),
        ("AF20011", 400, AuditLogOff, "the Activity API does not know the tenant", "check tenant_id; then switch the audit log on in Exchange Online PowerShell: Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true; it takes effect within about an hour"),
        ("AF20012", 400, RefuseTenant, "the Activity API finds the tenant misconfigured", "check tenant_id and cloud; if both are right, ask Microsoft's support"),
        ("AF20013", 400, RefuseTenant, "the tenant id is no GUID", IDS),
        ("AF20020", 400, TypeUnavailable, "this cloud does not know the content type", "take it out of content_types"),
        ("AF20021", 400, OurBug, "Microsoft could not validate a webhook", REPORT),
        ("AF20022", 400, StartSubscription, "there is no subscription for the content type", "nothing to do: it is started"),
        ("AF20023", 400, StartSubscription, "the subscription was disabled by an administrator of the tenant or the service", "nothing to do: it is started again; if it comes back, ask the tenant's administrator"),
        ("AF20024", 400, AlreadyEnabled, "the subscription is enabled already", ""),
        ("AF20030", 400, RestartWindow, "Microsoft refuses the start and end of the window", WINDOW),
        ("AF20055", 400, RestartWindow, "Microsoft refuses the start and end of the window", WINDOW),
        ("AF20031", 400, RestartWindow, "Microsoft does not accept its own link to the next page", "nothing to do: the window is listed again"),
        ("AF20050", 404, SkipBlob, "Microsoft does not have this content any more", LOST),
        ("AF20051", 400, SkipBlob, "this content has expired", EXPIRED),
        ("AF20052", 400, SkipBlob, "Microsoft does not accept the id of its own content", "if it happens often, the tenant's cloud is wrong: commercial and gcc answer for each other"),
        ("AF20053", 400, OurBug, "Microsoft misses Accept-Language", REPORT),
        ("AF20054", 400, OurBug, "Microsoft does not know the language of Accept-Language", REPORT),
        ("AF429", 403, Throttled, "Microsoft wants fewer requests for this tenant", LIMITED),
        ("429", 403, Throttled, "Microsoft wants fewer requests for this tenant", LIMITED),
        ("AF50000", 500, Retry, "Microsoft's server has an internal fault", WAIT),
        ("AF50005", 500, Retry, "Microsoft's server has an internal fault", WAIT),
        ("AF50006", 500, Retry, "Microsoft's server has an internal fault", WAIT),
    ];
    assert_eq!(rows.map(|row| row.0).as_slice(), ACTIVITY.iter().map(|row| row.code).collect::<Vec<_>>());
    for (code, status, class, sentence, cure) in rows {
        // The code decides, whatever the status is: also with 200.
        for status in [status, 200, 418] {
            let fault = answer(Operation::Fetch, status, &activity(code));
            assert_eq!((fault.class, &*fault.message, fault.cure), (class, sentence, cure), "{code}");
            assert_eq!((fault.code.as_deref(), fault.status), (Some(code), Some(status)));
        }
    }
}

#[test]
#[rustfmt::skip]
fn without_a_known_code_status_and_shape_decide() {
    use Class::{AuditLogOff, Failed, NewToken, RefuseTenant, Retry, SkipBlob, StartTooSoon, Throttled};
    use Operation::{Fetch, List, SignIn, Start, Subscriptions};
    let off = r#"{"error":{"code":"Microsoft.Office.Compliance.Audit.DataServiceException: Tenant 1111 does not exist.\n at X","message":""}}"#;
    let soon = r#"{"error":{"code":"429","message":"Too many frequent subscription start requests. Please retry again after 14m 56s"}}"#;
    let denied = r#"{"Message":"Authorization has been denied for this request."}"#;
    for (operation, status, body, class) in [
        (List, 401, denied, NewToken),
        (List, 401, "", NewToken),
        (List, 403, denied, RefuseTenant),
        (List, 403, "<html>blocked</html>", Failed),
        (List, 407, "<html>blocked</html>", Failed),
        (List, 408, "", Retry),
        (List, 429, "", Throttled),
        (List, 500, "<html>", Retry),
        (List, 502, "", Retry),
        (List, 503, "Server Busy", Retry),
        (List, 504, "", Retry),
        (List, 400, r#"{"error":{"code":"","message":"Server Busy"}}"#, Retry),
        (List, 400, r#"{"error":{"code":"AF99999","message":"New"}}"#, Failed),
        (List, 200, "<html>welcome to the hotel</html>", Retry),
        (List, 200, "", Retry),
        (List, 200, r#"{"a":1}"#, Retry),
        (List, 302, "", Failed),
        (List, 404, "", Failed),
        (Fetch, 404, "", SkipBlob),
        (Fetch, 410, "{}", SkipBlob),
        (Fetch, 404, "<html>", Failed),
        (List, 500, off, AuditLogOff),
        (Subscriptions, 400, off, AuditLogOff),
        (Start, 400, "Tenant 2222 does not exist.", AuditLogOff),
        (SignIn, 400, off, Failed),
        (Start, 403, soon, StartTooSoon),
        (SignIn, 401, r#"{"error":"invalid_client"}"#, RefuseTenant),
        (SignIn, 400, r#"{"error":"invalid_client","error_codes":[424242]}"#, RefuseTenant),
        (SignIn, 400, r#"{"error":"temporarily_unavailable"}"#, Retry),
        (SignIn, 503, r#"{"error":"invalid_client","error_codes":[424242]}"#, Retry),
        (SignIn, 429, "", Throttled),
        (SignIn, 403, "<html>", Failed),
    ] {
        let fault = answer(operation, status, body);
        assert_eq!(fault.class, class, "{operation:?} {status} {body}: {fault}");
    }
    assert_eq!(answer(Start, 403, soon).retry_after, Some(Duration::from_secs(14 * 60 + 56)));
}

#[test]
fn an_unknown_code_is_shown_with_its_ids_and_without_its_text() {
    let fault = answer(Operation::SignIn, 400, &entra("AADSTS424242"));
    assert_eq!(
        fault.to_string(),
        "Entra ID refuses to sign the app in (AADSTS424242, trace id t-1, correlation id c-1, HTTP 400) at https://manage.office.com/x; look the code up at https://login.microsoftonline.com/error"
    );
    let fault = answer(Operation::List, 400, &activity("AF99999"));
    assert!(
        fault.to_string().starts_with(
            "Microsoft refuses the request: \"AF99999 Something.\" (AF99999, HTTP 400) at "
        ),
        "{fault}"
    );
    // Whoever reads it may have got it from `doctor`.
    let fault = answer(Operation::SignIn, 404, "");
    assert!(!fault.cure.contains("doctor"), "{fault}");
    // What would command a terminal does not.
    let words = r#"{"error":{"code":"AF99999","message":"a\u001b[2Jb\u009b\r\nc"}}"#;
    let said = answer(Operation::List, 400, words).to_string();
    assert!(said.contains("\"AF99999 a [2Jb   c\""), "{said:?}");
    // Nothing that looks like a token comes back out.
    let echo = r#"{"error":{"code":"AF99999","message":"bad token eyJhbGciOi"}}"#;
    assert!(
        !answer(Operation::List, 400, echo)
            .to_string()
            .contains("eyJ")
    );
}

#[test]
fn roles_tell_a_missing_permission() {
    use Class::{Failed, NewToken, RefuseTenant, TypeUnavailable};
    let both: &[&str] = &["ActivityFeed.Read", "ActivityFeed.ReadDlp"];
    let read: &[&str] = &["ActivityFeed.Read"];
    let dlp: &[&str] = &["ActivityFeed.ReadDlp"];
    for (content_type, roles, status, code, class, cure) in [
        // It counts in addition.
        (
            ContentType::Dlp,
            Some(dlp),
            403,
            "AF10001",
            RefuseTenant,
            READ,
        ),
        (
            ContentType::Dlp,
            Some(read),
            401,
            "",
            TypeUnavailable,
            READ_DLP,
        ),
        (
            ContentType::Dlp,
            Some(read),
            403,
            "AF10001",
            TypeUnavailable,
            READ_DLP,
        ),
        (
            ContentType::Dlp,
            Some(both),
            403,
            "AF10001",
            Failed,
            "the next run tries again",
        ),
        (
            ContentType::Dlp,
            None,
            403,
            "AF10001",
            TypeUnavailable,
            READ_DLP,
        ),
        (
            ContentType::Dlp,
            Some(both),
            401,
            "",
            NewToken,
            "the next run tries again",
        ),
        (ContentType::Dlp, None, 401, "", NewToken, READ_DLP),
        (ContentType::Dlp, Some(&[]), 401, "", RefuseTenant, READ),
        (ContentType::General, Some(&[]), 401, "", RefuseTenant, READ),
        (ContentType::General, Some(read), 401, "", NewToken, READ),
        (ContentType::General, None, 401, "", NewToken, READ),
        (
            ContentType::General,
            Some(read),
            403,
            "AF10001",
            RefuseTenant,
            READ,
        ),
    ] {
        let fault = judged(
            Operation::List,
            Some(content_type),
            roles,
            status,
            &activity(code),
        );
        assert_eq!(
            (fault.class, fault.cure),
            (class, cure),
            "{content_type} {roles:?} {status} {code}"
        );
        assert_eq!(
            &*fault.message == "the app lacks the permission ActivityFeed.ReadDlp",
            class == TypeUnavailable,
            "{fault}"
        );
    }
    // A wrong tenant is no missing permission.
    let fault = judged(
        Operation::List,
        Some(ContentType::Dlp),
        Some(read),
        403,
        &activity("AF20010"),
    );
    assert_eq!(fault.class, RefuseTenant);
}

#[test]
fn roles_tell_why_a_new_token_is_refused() {
    use Class::{Failed, RefuseTenant, TypeUnavailable};
    let both: &[&str] = &["ActivityFeed.Read", "ActivityFeed.ReadDlp"];
    let read: &[&str] = &["ActivityFeed.Read"];
    let again = |content_type, roles: Option<&[&str]>| {
        let roles = roles.map(|roles| roles.iter().map(ToString::to_string).collect::<Vec<_>>());
        answer(Operation::List, 401, "")
            .after_new_token(Some(content_type), roles.as_deref())
            .class
    };
    for (content_type, roles, class) in [
        (ContentType::Dlp, None, TypeUnavailable),
        (ContentType::Dlp, Some(read), TypeUnavailable),
        // The app has the permission: what is refused now may not be later.
        (ContentType::Dlp, Some(both), Failed),
        (ContentType::General, None, RefuseTenant),
        (ContentType::General, Some(both), RefuseTenant),
    ] {
        assert_eq!(
            again(content_type, roles),
            class,
            "{content_type} {roles:?}"
        );
    }
}

#[test]
fn retry_after_in_seconds_or_as_a_date() {
    let now = Utc.with_ymd_and_hms(1994, 11, 6, 8, 49, 7).unwrap();
    for (header, seconds) in [
        ("0", Some(0)),
        (" 120 ", Some(120)),
        ("18446744073709551615", Some(86_400)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
        ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
        ("Sun, 06 Nov 2094 08:49:37 GMT", Some(86_400)),
        ("-1", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(
            retry_after(header, now).map(|time| time.as_secs()),
            seconds,
            "{header}"
        );
    }
}

/// The table that faults are decided by, for `docs/troubleshooting.md`.
pub(crate) fn code_tables() -> String {
    use std::fmt::Write;
    let mut page = String::new();
    for (title, rows) in [
        ("Signing in (Entra ID)", ENTRA),
        ("The Activity API", ACTIVITY),
    ] {
        write!(
            page,
            "\n## {title}\n\n| code | what it means | what to do |\n| --- | --- | --- |\n"
        )
        .unwrap();
        for row in rows {
            writeln!(page, "| {} | {} | {} |", row.code, row.sentence, row.cure).unwrap();
        }
    }
    page.push_str(
        "\n## Without a code\n\n| answer | what it means | what to do |\n| --- | --- | --- |\n",
    );
    let mut row = |answer: &str, Fault { message, cure, .. }: &Fault| {
        writeln!(page, "| {answer} | {message} | {cure} |").unwrap();
    };
    let (sign_in, list) = (Operation::SignIn, Operation::List);
    let of_tenant = r#"{"error":{"message":"Tenant 1 does not exist."}}"#;
    for (shown, operation, status, body) in [
        ("Tenant … does not exist", list, 400, of_tenant),
        (
            "429 in a 403 to the start of a subscription",
            Operation::Start,
            403,
            r#"{"error":{"message":"subscription start requests"}}"#,
        ),
        ("500 and above, 408, 425", list, 500, ""),
        ("200 with something else", list, 200, "<html>"),
        ("a redirect", list, 302, ""),
        ("401, 403 or 407 with a page", list, 403, "<html>"),
        ("401", list, 401, ""),
        ("403", list, 403, ""),
        ("404 or 410 to a blob", Operation::Fetch, 404, ""),
        (
            "400, 401 or 403 to a sign-in, with a code that is not above",
            sign_in,
            400,
            r#"{"error":"invalid_request"}"#,
        ),
        ("any other", sign_in, 404, ""),
    ] {
        row(shown, &answer(operation, status, body));
    }
    row("200 to a sign-in without a token", &no_token(""));
    row("none", &unanswered_within("{seconds}", String::new()));
    for (is_of_connection, causes) in [
        (true, "{why}"),
        (false, "{why}"),
        (true, "dns error: {why}"),
        (true, "invalid peer certificate: {why}"),
        (true, "tunnel error: {why}"),
    ] {
        row("none", &unanswered(is_of_connection, causes, ""));
    }
    for fault in [unusable("{file}".as_ref(), &"{why}"), unsigned()] {
        row("none: a sign-in was not asked for", &fault);
    }
    page
}
