//! What Entra ID and the Activity API refuse.

use std::os::unix::fs::PermissionsExt;

use super::*;
use base64::Engine;
use simulator::microsoft::{CONTENT_TYPES, RetryAfter};

const GRANT: &str = "in Azure: App registrations > the app > API permissions > Add a permission > Office 365 Management APIs > Application permissions (not Delegated) > ActivityFeed.Read, then Grant admin consent, and wait some minutes";
const NEW_SECRET: &str = "make a new one in Azure: App registrations > the app > Certificates & secrets > New client secret; then `o365-wodle tenant rotate NAME --from FILE`";
const IDS: &str = "compare tenant_id, client_id and cloud with Azure: App registrations > the app > Overview; tenant and client id may be swapped";
const AUDIT: &str = "check tenant_id; then switch the audit log on in Exchange Online PowerShell: Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true; it takes effect within about an hour";

fn fault(world: &World, operation: Operation, action: Action) {
    let rule = Rule::on(operation, action);
    world.microsoft.faults(Plan::default().rule(rule));
}

/// A world's name, how it is broken, and what is said of it.
type Broken = (&'static str, fn(&mut World), Expected);

#[test]
fn sign_in() {
    const WORLDS: [Broken; 6] = [
        (
            "wrong cloud",
            |world| fault(world, Operation::Token, Action::aadsts(900_382)),
            failed(
                "sign-in",
                "the app belongs to another of Microsoft's clouds (AADSTS900382, *",
                "set the tenant's cloud to the one that the organisation is in: commercial, gcc, gcc-high, dod or china",
            ),
        ),
        (
            "wrong secret",
            |world| world.tenants[0].1.secret = "not.the~secret".to_owned(),
            failed(
                "sign-in",
                "the client secret is wrong (AADSTS7000215, trace id *",
                "hand over the secret's Value, not its Secret ID; Azure shows it only once: App registrations > the app > Certificates & secrets > New client secret",
            ),
        ),
        (
            "expired secret",
            |world| {
                let yesterday = world.microsoft.now() - TimeDelta::days(1);
                world.microsoft.change_tenant(&world.id(0), |spec| {
                    spec.secret_expires = Some(yesterday);
                });
            },
            failed(
                "sign-in",
                "the client secret has expired (AADSTS7000222, *",
                NEW_SECRET,
            ),
        ),
        (
            "secret ID",
            |world| world.tenants[0].1.secret = "11111111-2222-3333-4444-555555555555".to_owned(),
            Expected {
                code: 78,
                ..failed(
                    "credential",
                    "*/secrets/tenant-1 holds a GUID: that is the secret's ID in place of its value",
                    "put nothing but the secret's value there, as Azure showed it once when it was made",
                )
            },
        ),
        (
            "swapped ids",
            |world| {
                let spec = &mut world.tenants[0].1;
                std::mem::swap(&mut spec.tenant_id, &mut spec.client_id);
            },
            failed(
                "sign-in",
                "the tenant is unknown in this cloud (AADSTS90002, *",
                IDS,
            ),
        ),
        (
            "app missing",
            |world| {
                world.tenants[0].1.client_id = "99999999-2222-4000-9000-ba9876543210".to_owned();
            },
            failed(
                "sign-in",
                "the app is not in this tenant (AADSTS700016, *",
                IDS,
            ),
        ),
    ];
    walk(WORLDS);
}

/// One tenant's credential says nothing of the others.
#[test]
fn a_credential_that_cannot_be_read_is_that_tenants_alone() {
    let world = World::with_tenants(2, Options::default());
    for tenant in 0..2 {
        world.microsoft.subscribe_all(&world.id(tenant));
    }
    ossec_conf(&world, BLOCK);
    world.configure();
    let secret = world.folder.path().join("secrets/tenant-1");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let doctor = |arguments: &[&str]| {
        let arguments = [&["doctor", "--json"], arguments].concat();
        world.run_as_it_stands(&arguments)
    };
    let expected = failed(
        "credential",
        "*/secrets/tenant-1 is readable by others (mode 0644)",
        "chmod 0600 *",
    );
    judge("both", &doctor(&[]), &expected);
    assert_eq!(doctor(&["--tenant", "tenant-2"]).status.code(), Some(0));
    let alone = doctor(&["--tenant", "tenant-1"]);
    judge(
        "alone",
        &alone,
        &Expected {
            code: 78,
            ..expected
        },
    );
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(
        said.contains("no tenant's credential can be used"),
        "{said}"
    );
}

#[test]
fn permissions() {
    const WORLDS: [Broken; 2] = [
        (
            "no consent",
            |world| fault(world, Operation::Token, Action::TokenWithoutRoles),
            failed(
                "permissions",
                "the application lacks the permission ActivityFeed.Read",
                GRANT,
            ),
        ),
        (
            "delegated only",
            |world| {
                let body = format!(
                    r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{}"}}"#,
                    token(r#"{"scp":"ActivityFeed.Read","roles":[]}"#)
                );
                let answer = Action::Status { status: 200, body };
                fault(world, Operation::Token, answer);
            },
            failed(
                "permissions",
                "the application lacks the permission ActivityFeed.Read; it has delegated permissions, which do not count here",
                GRANT,
            ),
        ),
    ];
    walk(WORLDS);
}

/// Delegated permissions stand in `scp`.
fn token(claims: &str) -> String {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.x", part(r#"{"alg":"none"}"#), part(claims))
}

#[test]
fn a_permission_for_one_content_type_is_no_failure() {
    let (world, _manager) = world_with_manager();
    world.microsoft.change_tenant(&world.id(0), |spec| {
        spec.roles.retain(|role| role != "ActivityFeed.ReadDlp");
    });
    judge(
        "no ReadDlp",
        &world.run(&["doctor", "--json"]),
        &Expected {
            code: 0,
            result: "note",
            probe: "permissions",
            seen: "the application lacks the permission ActivityFeed.ReadDlp, so DLP.All is left out",
            cure: "to collect DLP.All, in Azure: App registrations > the app > API permissions > Add a permission > Office 365 Management APIs > Application permissions (not Delegated) > ActivityFeed.ReadDlp, then Grant admin consent, and wait some minutes; otherwise take DLP.All out of content_types",
        },
    );
}

/// Microsoft refuses a start where the audit log is off, and says nothing of it before.
#[test]
fn why_runs_could_not_start_a_subscription_is_said() {
    let (world, _manager) = world_with_manager();
    let id = world.id(0);
    world.microsoft.set_subscription(&id, "Audit.General", None);
    let refused = Rule::on(Operation::Start, Action::af(400, "AF20023", "Disabled."));
    world.microsoft.faults(Plan::default().rule(refused));
    assert_eq!(
        world.run(&["run"]).status.code(),
        Some(3),
        "{}",
        world.log()
    );
    judge(
        "start refused",
        &world.run_as_it_stands(&["doctor", "--json"]),
        &Expected {
            code: 0,
            result: "note",
            probe: "subscriptions",
            seen: "the Activity API answers: 4 of 5 subscriptions run; of Audit.General a run found last: the subscription was disabled by an administrator of the tenant or the service (AF20023, *",
            cure: "nothing to do: it is started again; if it comes back, ask the tenant's administrator; if that is done, let a run start it, or start it: `o365-wodle subscriptions start`",
        },
    );
}

#[test]
fn nothing_is_said_of_an_audit_log_before_a_subscription_runs() {
    let (world, _manager) = world_with_manager();
    for content_type in CONTENT_TYPES {
        let id = world.id(0);
        world.microsoft.set_subscription(&id, content_type, None);
    }
    let output = world.run(&["doctor", "--json"]);
    judge(
        "no subscription",
        &output,
        &Expected {
            code: 0,
            result: "note",
            probe: "listing",
            seen: "no content type can be listed before its subscription runs, so it is not known yet whether Microsoft has an audit log for the tenant",
            cure: "let a run start the subscriptions, or start them: `o365-wodle subscriptions start`; where there is no audit log, they say so",
        },
    );
    let is_said = results(&output).contains(&("audit log".to_owned(), "ok".to_owned()));
    assert!(!is_said, "{:#?}", findings(&output));
    // Unless a run has heard it.
    fault(&world, Operation::Start, Action::AuditLogOff);
    assert_eq!(world.run(&["run"]).status.code(), Some(77));
    judge(
        "refused",
        &world.run_as_it_stands(&["doctor", "--json"]),
        &Expected {
            code: 0,
            result: "note",
            probe: "audit log",
            seen: "Microsoft had none for this tenant when a run looked last; whether that has changed shows when the next one starts a subscription",
            cure: "check tenant_id; then switch the audit log on in Exchange Online PowerShell: Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true; it takes effect within about an hour",
        },
    );
    let again = world.run_as_it_stands(&["run"]);
    assert_eq!(again.status.code(), Some(77), "{}", world.log());
    world.run_as_it_stands(&["doctor"]);
    // Microsoft allows a start every 15 minutes: until then that answer is what there is to say of the others, and those that
    // were started by hand are collected.
    let (id, started) = (world.id(0), CONTENT_TYPES[0]);
    let on = Some(simulator::microsoft::Subscription::Enabled);
    world.microsoft.set_subscription(&id, started, on);
    world.microsoft.faults(Plan::default());
    let again = world.run_as_it_stands(&["run"]);
    assert_eq!(again.status.code(), Some(3), "{}", world.log());
    assert!(!world.log().contains("AF20022"), "{}", world.log());
    let listed = |world: &World| {
        let status = world.status();
        let listed = status.iter().filter(|stream| !stream["marker"].is_null());
        listed.count()
    };
    assert_eq!(listed(&world), 1);
    world.microsoft.advance(std::time::Duration::from_mins(16));
    assert_eq!(world.run_as_it_stands(&["run"]).status.code(), Some(0));
    assert_eq!(listed(&world), CONTENT_TYPES.len());
}

#[test]
fn the_activity_api() {
    const WORLDS: [Broken; 3] = [
        (
            "audit log off",
            |world| fault(world, Operation::SubscriptionsList, Action::AuditLogOff),
            failed(
                "audit log",
                "Microsoft finds no audit log for this tenant; unified audit logging is almost certainly switched off *",
                AUDIT,
            ),
        ),
        (
            "audit log off, seen late",
            |world| fault(world, Operation::Content, Action::AuditLogOff),
            failed(
                "audit log",
                "Microsoft finds no audit log for this tenant; unified audit logging is almost certainly switched off *",
                AUDIT,
            ),
        ),
        (
            "throttled",
            |world| {
                let throttle = Action::Throttle {
                    status: 429,
                    retry_after: RetryAfter::Seconds(60),
                    tenant_wide: None,
                };
                fault(world, Operation::SubscriptionsList, throttle);
            },
            failed(
                "subscriptions",
                "Microsoft wants fewer requests for this tenant *",
                "if it happens often, lower requests_per_minute or concurrency; another collector may share the tenant's quota",
            ),
        ),
    ];
    walk(WORLDS);
}

fn walk(worlds: impl IntoIterator<Item = Broken>) {
    for (name, breaks, expected) in worlds {
        let mut world = world(Options::default());
        breaks(&mut world);
        judge(name, &world.run(&["doctor", "--json"]), &expected);
    }
}
