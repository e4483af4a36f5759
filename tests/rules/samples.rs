//! Events, and the rule that each of them is to end at.

use serde_json::{Value, json};

pub(super) fn event(record: &Value, about: &Value) -> Value {
    json!({ "integration": "office365", "office365": record, "o365_wodle": about })
}

fn pair(name: &str, value: &str) -> Value {
    json!({ "Name": name, "Value": value })
}

fn exchange(operation: &str, parameters: &[(&str, &str)]) -> Value {
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(name, value)| pair(name, value))
        .collect();
    json!({ "RecordType": 1, "Operation": operation, "UserId": "a@contoso.example", "Parameters": parameters })
}

fn entra(operation: &str, properties: &[(&str, &str)]) -> Value {
    let properties: Vec<_> = properties
        .iter()
        .map(|(name, new)| json!({ "Name": name, "NewValue": new, "OldValue": "" }))
        .collect();
    json!({ "RecordType": 8, "Operation": operation, "UserId": "a@contoso.example", "ModifiedProperties": properties })
}

fn sign_in(operation: &str, user: &str, agent: &str) -> Value {
    json!({
        "RecordType": 15, "Operation": operation, "UserId": user, "ClientIP": "203.0.113.7",
        "ExtendedProperties": [pair("ResultStatusDetail", "Success"), pair("UserAgent", agent)],
    })
}

fn file(operation: &str) -> Value {
    json!({ "RecordType": 6, "Operation": operation, "UserId": "a@contoso.example" })
}

fn dlp(operation: &str, severity: &str) -> Value {
    let rules = json!([{ "RuleName": "Cards", "Severity": severity }]);
    json!({ "RecordType": 11, "Operation": operation, "UserId": "a", "PolicyDetails": [{ "PolicyId": "p", "Rules": rules }] })
}

/// Single events, and the rule at which each has to end.
#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn samples() -> Vec<(u32, Value, Value)> {
    let none = json!({});
    let late = json!({ "backlog": true });
    let mut samples = vec![
        (
            118_650,
            sign_in("UserLoginFailed", "a", "Mozilla/5.0"),
            late.clone(),
        ),
        (
            118_651,
            sign_in("UserLoginFailed", "a", "Mozilla/5.0"),
            none.clone(),
        ),
        (
            91_545,
            sign_in("UserLoggedIn", "a", "Mozilla/5.0"),
            none.clone(),
        ),
        (
            91_545,
            sign_in("UserLoggedIn", "a", "see BAV2ROPC"),
            none.clone(),
        ),
        (
            118_654,
            sign_in("UserLoggedIn", "a", "BAV2ROPC"),
            none.clone(),
        ),
        (
            118_651,
            sign_in("UserLoginFailed", "a", "BAV2ROPC"),
            none.clone(),
        ),
        (
            118_660,
            exchange(
                "New-InboxRule",
                &[("Name", "."), ("ForwardTo", "x@evil.example")],
            ),
            none.clone(),
        ),
        (
            118_660,
            exchange(
                "Set-InboxRule",
                &[("RedirectTo", "x"), ("DeleteMessage", "True")],
            ),
            none.clone(),
        ),
        (
            118_661,
            exchange("New-InboxRule", &[("DeleteMessage", "True")]),
            none.clone(),
        ),
        (
            118_661,
            exchange("New-InboxRule", &[("MoveToFolder", "RSS Subscriptions")]),
            none.clone(),
        ),
        (
            91_533,
            exchange(
                "New-InboxRule",
                &[("DeleteMessage", "False"), ("Flag", "True")],
            ),
            none.clone(),
        ),
        (
            91_533,
            exchange(
                "New-InboxRule",
                &[("Name", "ForwardTo"), ("MoveToFolder", "Invoices")],
            ),
            none.clone(),
        ),
        (
            91_533,
            exchange("Remove-InboxRule", &[("ForwardTo", "x")]),
            none.clone(),
        ),
        (
            118_662,
            exchange(
                "Set-Mailbox",
                &[("ForwardingSmtpAddress", "smtp:x@evil.example")],
            ),
            none.clone(),
        ),
        (
            118_662,
            exchange("Set-Mailbox", &[("ForwardingAddress", "x")]),
            none.clone(),
        ),
        (
            91_533,
            exchange("Set-Mailbox", &[("ForwardingSmtpAddress", "")]),
            none.clone(),
        ),
        (
            91_533,
            exchange("Set-Mailbox", &[("DeliverToMailboxAndForward", "True")]),
            none.clone(),
        ),
        (
            118_663,
            exchange("Add-RecipientPermission", &[("AccessRights", "SendAs")]),
            none.clone(),
        ),
        (
            118_663,
            exchange("Add-MailboxFolderPermission", &[("AccessRights", "Owner")]),
            none.clone(),
        ),
        (
            91_705,
            exchange("Add-MailboxPermission", &[("AccessRights", "FullAccess")]),
            none.clone(),
        ),
        (
            91_533,
            exchange("Remove-RecipientPermission", &[]),
            none.clone(),
        ),
        (118_670, file("FileDeleted"), late.clone()),
        (118_671, file("FileRecycled"), none.clone()),
        (91_537, file("FileDeletedPreview"), none.clone()),
        (118_673, file("FileSyncDownloadedFull"), late.clone()),
        (118_674, file("FileSyncDownloadedFull"), none.clone()),
        (91_702, file("FileDownloaded"), none.clone()),
        (91_537, file("FileSyncUploadedFull"), none.clone()),
        (
            118_680,
            entra(
                "Consent to application.",
                &[("ConsentContext.IsAdminConsent", "False")],
            ),
            none.clone(),
        ),
        (
            118_681,
            entra(
                "Consent to application.",
                &[("ConsentContext.IsAdminConsent", "True")],
            ),
            none.clone(),
        ),
        (
            91_539,
            entra(
                "Remove OAuth2PermissionGrant.",
                &[("ConsentContext.IsAdminConsent", "True")],
            ),
            none.clone(),
        ),
        (
            118_682,
            entra("Add service principal credentials.", &[]),
            none.clone(),
        ),
        (
            118_682,
            entra(
                "Update application – Certificates and secrets management ",
                &[],
            ),
            none.clone(),
        ),
        (91_539, entra("Update application.", &[]), none.clone()),
        (
            118_683,
            entra(
                "Add member to role.",
                &[("Role.DisplayName", "\"Global Administrator\"")],
            ),
            none.clone(),
        ),
        (
            118_683,
            entra(
                "Add eligible member to role.",
                &[("Role.DisplayName", "Security Administrator")],
            ),
            none.clone(),
        ),
        (
            91_711,
            entra(
                "Add member to role.",
                &[("Role.DisplayName", "\"Directory Readers\"")],
            ),
            none.clone(),
        ),
        (
            118_684,
            entra("Remove member from role.", &[]),
            none.clone(),
        ),
        (
            91_539,
            entra("Remove member from group.", &[]),
            none.clone(),
        ),
        (
            118_685,
            entra("Disable Strong Authentication.", &[]),
            none.clone(),
        ),
        (
            118_685,
            entra("User deleted security info", &[]),
            none.clone(),
        ),
        (
            91_539,
            entra("User started security info registration", &[]),
            none.clone(),
        ),
        (
            118_686,
            entra("Update user.", &[("StrongAuthenticationMethod", "[]")]),
            none.clone(),
        ),
        (
            91_710,
            entra(
                "Update user.",
                &[("DisplayName", "StrongAuthenticationMethod")],
            ),
            none.clone(),
        ),
        (118_690, dlp("DlpRuleMatch", "High"), none.clone()),
        (118_690, dlp("DLPRuleMatch", "High"), none.clone()),
        (91_542, dlp("DlpRuleMatch", "Low"), none.clone()),
        (91_542, dlp("DlpRuleUndo", "High"), none.clone()),
        (
            118_691,
            exchange(
                "Set-AdminAuditLogConfig",
                &[("UnifiedAuditLogIngestionEnabled", "False")],
            ),
            none.clone(),
        ),
        (
            91_533,
            exchange(
                "Set-AdminAuditLogConfig",
                &[("UnifiedAuditLogIngestionEnabled", "True")],
            ),
            none.clone(),
        ),
        (
            118_692,
            exchange(
                "Set-MailboxAuditBypassAssociation",
                &[("AuditBypassEnabled", "True")],
            ),
            none.clone(),
        ),
        (
            91_533,
            exchange(
                "Set-MailboxAuditBypassAssociation",
                &[("AuditBypassEnabled", "False")],
            ),
            none.clone(),
        ),
        (
            118_700,
            json!({ "RecordType": 261, "Operation": "X" }),
            json!({ "reshaped": ["big_number"] }),
        ),
        (
            91_532,
            json!({ "RecordType": 261, "Operation": "X" }),
            none.clone(),
        ),
        (
            91_545,
            sign_in("UserLoggedIn", "a", "x"),
            json!({ "reshaped": ["long_string"] }),
        ),
        (
            118_701,
            json!({ "RecordType": 0, "Operation": "X" }),
            json!({ "reshaped": ["no_record_type"] }),
        ),
        (
            91_700,
            json!({ "RecordType": 0, "Operation": "FileMalwareDetected" }),
            json!({ "reshaped": ["no_record_type"] }),
        ),
        (
            91_531,
            json!({ "Operation": "X" }),
            json!({ "reshaped": ["oversize"] }),
        ),
    ];
    let about_one = json!({
        "actor": "wazuh", "tenant_id": "t", "subscription_name": "DLP.All", "response": "r"
    });
    samples.push((
        118_716,
        about_one,
        json!({ "health": "permission_missing", "tenant": "contoso" }),
    ));
    for (id, states) in [
        (118_710, &["content_lost", "gap"][..]),
        (
            118_711,
            &["auth_failed", "permission_missing", "audit_log_off"],
        ),
        (
            118_712,
            &[
                "subscription_failed",
                "fetch_failed",
                "content_damaged",
                "silent",
                "ledger_recovered",
            ],
        ),
        (118_713, &["secret_expiring", "certificate_expiring"]),
        (118_714, &["throttled", "clock_skew"]),
        (118_715, &["recovered"]),
        (91_648, &["test", "gaps"]),
    ] {
        for state in states {
            let about = json!({ "actor": "wazuh", "tenant_id": "t", "response": "r" });
            samples.push((id, about, json!({ "health": state, "tenant": "contoso" })));
            // The same text in a record of somebody's is no event about the collection.
            let record = json!({ "RecordType": 261, "Operation": state });
            samples.push((91_532, record, none.clone()));
        }
    }
    samples
}

/// Events in a row: the seconds between them, the event by its number, and what the last two end at.
pub(super) type Row = (u32, u32, usize, u64, fn(usize) -> Value, bool);

/// Rules that count.
pub(super) fn rows() -> [Row; 10] {
    let failed: fn(usize) -> Value = |_| sign_in("UserLoginFailed", "a", "x");
    let spray: fn(usize) -> Value =
        |number| sign_in("UserLoginFailed", &format!("user-{number}"), "x");
    let deleted: fn(usize) -> Value = |_| file("FileDeleted");
    let synced: fn(usize) -> Value = |_| file("FileSyncDownloadedFull");
    [
        (118_651, 118_652, 10, 20, failed, false),
        (118_651, 118_651, 10, 40, failed, false),
        (118_650, 118_650, 10, 1, failed, true),
        (118_651, 118_653, 10, 1, spray, false),
        (118_650, 118_650, 10, 1, spray, true),
        (118_671, 118_672, 100, 1, deleted, false),
        (118_671, 118_671, 100, 4, deleted, false),
        (118_670, 118_670, 100, 1, deleted, true),
        (118_674, 118_675, 200, 1, synced, false),
        (118_673, 118_673, 200, 1, synced, true),
    ]
}
