//! The errors of the token endpoint.

use chrono::Utc;
use serde_json::json;

use super::random::Random;

/// Number, HTTP status, OAuth error, Microsoft's text.
const ERRORS: &[(u32, u16, &str, &str)] = &[
    (
        7_000_215,
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to the app.",
    ),
    (
        7_000_222,
        401,
        "invalid_client",
        "The provided client secret keys for the app are expired.",
    ),
    (
        7_000_216,
        401,
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
    ),
    (
        7_000_218,
        401,
        "invalid_client",
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    (
        7_000_112,
        401,
        "unauthorized_client",
        "Application is disabled.",
    ),
    (
        700_016,
        400,
        "unauthorized_client",
        "Application was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.",
    ),
    (
        90_002,
        400,
        "invalid_request",
        "Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.",
    ),
    (
        900_023,
        400,
        "invalid_request",
        "Specified tenant identifier is neither a valid DNS name, nor a valid external domain.",
    ),
    (
        900_382,
        400,
        "invalid_request",
        "Confidential Client is not supported in Cross Cloud request.",
    ),
    (
        900_144,
        400,
        "invalid_request",
        "The request body must contain a required parameter.",
    ),
    (
        70_003,
        400,
        "unsupported_grant_type",
        "The app requested an unsupported grant type.",
    ),
    (
        70_011,
        400,
        "invalid_scope",
        "The provided value for the input parameter 'scope' is not valid.",
    ),
    (
        1_002_012,
        400,
        "invalid_scope",
        "The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
    ),
    (
        500_011,
        400,
        "invalid_resource",
        "The resource principal was not found in the tenant.",
    ),
    (
        501_051,
        400,
        "invalid_grant",
        "Application is not assigned to a role for the application.",
    ),
    (
        700_027,
        401,
        "invalid_client",
        "Client assertion failed signature validation.",
    ),
    (
        700_024,
        401,
        "invalid_client",
        "Client assertion is not within its valid time range.",
    ),
    (
        700_023,
        401,
        "invalid_client",
        "Client assertion audience claim does not match Realm issuer.",
    ),
    (
        700_021,
        401,
        "invalid_client",
        "Client assertion application identifier doesn't match 'client_id' parameter.",
    ),
    (
        70_021,
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion.",
    ),
    (
        700_211,
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion.",
    ),
    (
        700_212,
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion.",
    ),
    (
        700_213,
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion.",
    ),
    (
        53_003,
        400,
        "interaction_required",
        "Access has been blocked by Conditional Access policies.",
    ),
    (
        530_003,
        400,
        "interaction_required",
        "Access has been blocked by Conditional Access policies.",
    ),
    (
        50_196,
        400,
        "invalid_grant",
        "The server terminated an operation because it encountered a client request loop.",
    ),
    (
        90_033,
        503,
        "temporarily_unavailable",
        "A transient error has occurred. Please try again.",
    ),
    (
        90_006,
        500,
        "server_error",
        "External server retryable error.",
    ),
];

/// Status and body of an AADSTS error.
pub(super) fn error(code: u32, detail: &str) -> (u16, String) {
    let row = ERRORS.iter().find(|row| row.0 == code);
    let unknown = (code, 400, "invalid_request", "An error occurred.");
    let (_, status, error, text) = *row.unwrap_or(&unknown);
    let now = Utc::now();
    let mut random = Random::new(u64::from(now.timestamp_subsec_nanos()) << 24 ^ u64::from(code));
    let (trace, correlation) = (random.guid(), random.guid());
    let stamp = now.format("%Y-%m-%d %H:%M:%SZ").to_string();
    let body = json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {text} ({detail}) Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"),
        "error_codes": [code],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    (status, body.to_string())
}
