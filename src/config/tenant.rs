//! From a tenant as it is written to one that can be collected.

use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use super::checked::{Inherited, Own, inherit};
use super::ownership::{self, Kind};
use super::raw;
use super::scope::Scope;
use super::secret_text::begins_as_azures;
use super::settings::{Authentication, Cloud, Filter, Secret, Tenant};

/// One tenant, unless it lacks what makes it one. With `secrets` its secret files are read.
pub(super) fn tenant(
    scope: &mut Scope<'_>,
    raw: raw::Tenant,
    from: &Inherited,
    secrets: bool,
) -> Option<Tenant> {
    let name = name(scope, raw.name.as_deref());
    let tenant_id = required_guid(scope, "tenant_id", raw.tenant_id.as_deref());
    let client_id = required_guid(scope, "client_id", raw.client_id.as_deref());
    let authentication = authentication(scope, &raw);
    if let Some(authentication) = authentication.as_ref().filter(|_| secrets) {
        look_at(scope, authentication);
    }
    let expires = raw.client_secret_expires.map(|date| date.to_string());
    let client_secret_expires = expires.and_then(|date| {
        let date = NaiveDate::parse_from_str(&date, "%Y-%m-%d").ok();
        if date.is_none() {
            scope.refuse(
                "client_secret_expires",
                "is no date",
                "write 2027-05-01, without quotes",
            );
        }
        date
    });
    let cloud = scope.choice("cloud", raw.cloud, Cloud::Commercial, &Cloud::ALL);
    let login_url = scope.server("login_url", raw.login_url.as_deref());
    let management_url = scope.server("management_url", raw.management_url.as_deref());
    let own = Own {
        content_types: raw.content_types,
        publisher_identifier: raw.publisher_identifier,
        concurrency: raw.concurrency,
        requests_per_minute: raw.requests_per_minute,
        initial_lookback: raw.initial_lookback,
    };
    let own = inherit(scope, own, from);
    if raw.labels.len() > 16 {
        scope.refuse("labels", "has more than 16 labels", "remove some");
    }
    for (label, text) in &raw.labels {
        if label.is_empty() || label.len() > 256 || text.len() > 256 {
            scope.refuse(
                "labels",
                "has a label that is empty or longer than 256 bytes",
                "shorten it",
            );
        }
    }
    if !are_fields(raw.labels.keys()) {
        scope.refuse(
            "labels",
            "has a name that the indexer refuses, or two that Wazuh takes for one",
            "write names without blank parts between dots, that differ in more than upper and lower case, and none that is \
             the beginning of another up to a dot",
        );
    }
    let include = filters(scope, "include", raw.include);
    let exclude = filters(scope, "exclude", raw.exclude);
    let tenant_id = tenant_id?;
    Some(Tenant {
        name: name?,
        client_id: client_id?,
        authentication: authentication?,
        client_secret_expires,
        cloud,
        login_url,
        management_url,
        content_types: own.content_types,
        publisher_identifier: own
            .publisher_identifier
            .unwrap_or_else(|| tenant_id.clone()),
        tenant_id,
        concurrency: own.concurrency,
        requests_per_minute: own.requests_per_minute,
        initial_lookback: own.initial_lookback,
        include,
        exclude,
        labels: raw.labels,
        enabled: raw.enabled.unwrap_or(true),
    })
}

/// Whether these labels become a field each: the indexer refuses a document with a field that has no name, and Wazuh keeps the
/// first of those that differ in case only, or that would have to stand inside another.
fn are_fields<'a>(labels: impl Iterator<Item = &'a String>) -> bool {
    let has_names = |label: &String| label.split('.').all(|part| !part.trim().is_empty());
    // With a dot behind, one that others would stand inside begins the next of them.
    let path = |label: &String| label.to_ascii_lowercase() + ".";
    let labels: Vec<&String> = labels.filter(|label| !label.is_empty()).collect();
    let mut paths: Vec<String> = labels.iter().copied().map(path).collect();
    paths.sort_unstable();
    let are_apart = |pair: &[String]| !matches!(pair, [one, next] if next.starts_with(one));
    labels.into_iter().all(has_names) && paths.windows(2).all(are_apart)
}

fn name(scope: &mut Scope<'_>, name: Option<&str>) -> Option<String> {
    let cure = "write 1 to 64 of a-z, 0-9 and -";
    let Some(name) = name else {
        scope.refuse("name", "is missing", cure);
        return None;
    };
    if !is_tenant_name(name) {
        scope.refuse("name", "is no name of a tenant", cure);
        return None;
    }
    Some(name.to_owned())
}

/// Whether a tenant can have this name: `[a-z0-9-]{1,64}`.
#[must_use]
pub fn is_tenant_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn required_guid(scope: &mut Scope<'_>, key: &str, value: Option<&str>) -> Option<String> {
    if value.is_none() {
        scope.refuse(
            key,
            "is missing",
            "copy it from the app registration's overview page in Azure",
        );
    }
    scope.guid(key, value)
}

/// The token file that a workload identity (Azure's SDKs, Kubernetes) names in the environment, unless it is said to be
/// another application's.
fn from_environment(raw: &raw::Tenant) -> Option<PathBuf> {
    let client = std::env::var("AZURE_CLIENT_ID").ok();
    let is_ours = match (&client, &raw.client_id) {
        (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
        _ => true,
    };
    let file = std::env::var_os("AZURE_FEDERATED_TOKEN_FILE").filter(|file| !file.is_empty())?;
    is_ours.then(|| file.into())
}

/// The keys of which a tenant has one.
const WAYS: &str = "client_secret_file, client_secret_command, client_secret_credential, \
                    certificate_file, federated_token_file";

/// Those that are set.
fn ways(raw: &raw::Tenant) -> Vec<&'static str> {
    [
        ("client_secret_file", raw.client_secret_file.is_some()),
        ("client_secret_command", raw.client_secret_command.is_some()),
        (
            "client_secret_credential",
            raw.client_secret_credential.is_some(),
        ),
        ("certificate_file", raw.certificate_file.is_some()),
        ("federated_token_file", raw.federated_token_file.is_some()),
    ]
    .into_iter()
    .filter_map(|(way, is_set)| is_set.then_some(way))
    .collect()
}

/// What belongs to a certificate makes no sense without one.
fn refuse_without_certificate(scope: &mut Scope<'_>, raw: &raw::Tenant) {
    for (key, is_set) in [
        ("private_key_file", raw.private_key_file.is_some()),
        (
            "certificate_password_file",
            raw.certificate_password_file.is_some(),
        ),
        ("assertion_algorithm", raw.assertion_algorithm.is_some()),
    ] {
        if is_set && raw.certificate_file.is_none() {
            scope.refuse(
                key,
                "is set, but certificate_file is not",
                "set both, or remove the line",
            );
        }
    }
}

fn command(scope: &mut Scope<'_>, command: &[String]) -> Option<Secret> {
    let is_absolute = |program: &String| program.starts_with('/');
    if command.first().is_some_and(is_absolute) {
        return Some(Secret::Command(command.to_vec()));
    }
    scope.refuse(
        "client_secret_command",
        "does not start with an absolute path",
        "write [\"/path/of/program\", \"argument\", …]; there is no shell and no search path",
    );
    None
}

fn credential(scope: &mut Scope<'_>, name: &str) -> Option<Secret> {
    if begins_as_azures(name) {
        refuse_secret(scope, "client_secret_credential");
        return None;
    }
    if !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".." {
        return Some(Secret::Credential(name.to_owned()));
    }
    scope.refuse(
        "client_secret_credential",
        "is no name of a credential",
        "write the name that stands in LoadCredential= of the service",
    );
    None
}

/// Whether it is rather a secret than the name of something: what is said of a name is seen by many.
fn is_like_a_secret(value: &str) -> bool {
    let has = |is: fn(&u8) -> bool| value.bytes().any(|byte| is(&byte));
    let is_mixed =
        has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    value.len() >= 16 && !value.contains('/') && (is_mixed || value.contains('~'))
}

fn refuse_secret(scope: &mut Scope<'_>, key: &str) {
    scope.refuse(
        key,
        "looks like the secret itself, which never stands in the configuration",
        "move it into a file of mode 0600 and name that with client_secret_file",
    );
}

/// The one way to authenticate.
fn authentication(scope: &mut Scope<'_>, raw: &raw::Tenant) -> Option<Authentication> {
    match ways(raw).as_slice() {
        [] if let Some(token) = from_environment(raw) => {
            return Some(Authentication::FederatedToken(token));
        }
        [] => scope.refuse(
            "",
            "has no way to authenticate",
            format!("set one of {WAYS}"),
        ),
        [_] => {}
        several => {
            let several = several.join(", ");
            scope.refuse(
                "",
                format!("has more than one way to authenticate ({several})"),
                "keep one of them",
            );
        }
    }
    refuse_without_certificate(scope, raw);
    if let Some(words) = &raw.client_secret_command {
        return command(scope, words).map(Authentication::Secret);
    }
    if let Some(name) = &raw.client_secret_credential {
        return credential(scope, name).map(Authentication::Secret);
    }
    let mut path = |key, value: &Option<String>| scope.path(key, value.clone());
    if let Some(file) = path("client_secret_file", &raw.client_secret_file) {
        let value = raw.client_secret_file.as_deref();
        if value.is_some_and(is_like_a_secret) && !file.exists() {
            refuse_secret(scope, "client_secret_file");
            return None;
        }
        return Some(Authentication::Secret(Secret::File(file)));
    }
    if let Some(file) = path("federated_token_file", &raw.federated_token_file) {
        return Some(Authentication::FederatedToken(file));
    }
    let certificate_file = path("certificate_file", &raw.certificate_file)?;
    let private_key_file = path("private_key_file", &raw.private_key_file);
    let password_file = path("certificate_password_file", &raw.certificate_password_file);
    let algorithms = [("PS256", false), ("RS256", true)];
    Some(Authentication::Certificate {
        certificate_file,
        private_key_file,
        password_file,
        rs256: scope.choice(
            "assertion_algorithm",
            raw.assertion_algorithm.clone(),
            false,
            &algorithms,
        ),
    })
}

/// Looks at the files that an authentication names. A command is not run: `check` is offline.
fn look_at(scope: &mut Scope<'_>, authentication: &Authentication) {
    let mut open = |key, path, kind| scope.look_at(key, Some(path), kind);
    match authentication {
        Authentication::Secret(secret @ Secret::File(_)) => {
            if let Err(flaw) = secret.read() {
                scope.note("client_secret_file", flaw);
            }
        }
        Authentication::Secret(Secret::Command(command)) => {
            let program = command.first().map(Path::new);
            if let Some(Err(flaw)) = program.map(ownership::check_program) {
                scope.note("client_secret_command", flaw);
            }
        }
        // known to the service alone
        Authentication::Secret(Secret::Credential(_)) => {}
        Authentication::Certificate {
            certificate_file,
            private_key_file,
            password_file,
            rs256: _,
        } => {
            let kind = if private_key_file.is_some() {
                Kind::Configuration
            } else {
                Kind::Secret
            };
            open("certificate_file", certificate_file, kind);
            if let Some(path) = private_key_file {
                open("private_key_file", path, Kind::Secret);
            }
            if let Some(path) = password_file {
                open("certificate_password_file", path, Kind::Secret);
            }
        }
        // Kubernetes writes tokens that others on the node may read, and replaces them within the hour.
        Authentication::FederatedToken(path) => {
            open("federated_token_file", path, Kind::Configuration);
        }
    }
}

fn filters(scope: &mut Scope<'_>, key: &str, raw: Vec<raw::Filter>) -> Vec<Filter> {
    // What was wrong with a condition was taken out.
    let is_whole = !scope.is_flawed_inside(key);
    raw.into_iter()
        .map(|raw| {
            let raw::Filter {
                operation,
                workload,
                user_id,
                record_type,
            } = raw;
            let numbers = record_type.as_ref().map(Vec::len);
            let is_bare =
                numbers.is_none() && operation.is_none() && workload.is_none() && user_id.is_none();
            if numbers == Some(0) || is_bare && is_whole {
                let cure = "name operation, workload, user_id or record_type, or remove the table";
                scope.refuse(key, "has a table without a condition", cure);
            }
            Filter {
                operation,
                workload,
                user_id,
                record_type,
            }
        })
        .collect()
}
