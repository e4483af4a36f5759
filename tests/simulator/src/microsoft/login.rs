//! The token endpoints of Entra ID, v1 and v2: client credentials by secret, certificate or
//! federated token.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use chrono::TimeDelta;
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode};

use super::aadsts::error;
use super::call::Call;
use super::fault::Action;
use super::journal::Violation;
use super::reply::Reply;
use super::world::{TenantSpec, Token, World, is_guid};

const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The clocks of Entra and of a client may differ by so much.
const SKEW: TimeDelta = TimeDelta::minutes(5);
/// The management hosts of Microsoft's clouds.
const RESOURCES: [&str; 5] = [
    "https://manage.office.com",
    "https://manage-gcc.office.com",
    "https://manage.office365.us",
    "https://manage.protection.apps.mil",
    "https://manage.office365.cn",
];

/// A number of the error table and what was wrong.
type Refusal = (u32, &'static str);

impl World {
    /// The answer of the token endpoint.
    pub(super) fn token(&mut self, call: &Call, actions: &[Action]) -> Reply {
        match self.sign_in(call, actions) {
            Ok(reply) => reply,
            Err((code, detail)) => {
                let (status, body) = error(code, detail);
                Reply::json(status, body).coded(&format!("AADSTS{code}"))
            }
        }
    }

    fn sign_in(&mut self, call: &Call, actions: &[Action]) -> Result<Reply, Refusal> {
        if !is_guid(&call.tenant) && !call.tenant.contains('.') {
            return Err((900_023, "neither GUID nor domain"));
        }
        let tenant_id = self
            .resolve(&call.tenant)
            .ok_or((90_002, "unknown tenant"))?;
        match call.field("grant_type") {
            Some("client_credentials") => {}
            Some(_) => return Err((70_003, "grant_type")),
            None => return Err((900_144, "grant_type")),
        }
        let client_id = call.field("client_id").ok_or((900_144, "client_id"))?;
        let spec = self
            .tenants
            .get(&tenant_id)
            .map(|tenant| tenant.spec.clone())
            .ok_or((90_002, "unknown tenant"))?;
        if !spec.client_id.eq_ignore_ascii_case(client_id) {
            return Err((700_016, "unknown application"));
        }
        let resource = self.resource(call)?;
        match (call.field("client_secret"), call.field("client_assertion")) {
            (Some(secret), None) if secret == spec.secret => {
                if spec.secret_expires.is_some_and(|end| end <= self.now()) {
                    return Err((7_000_222, "expired secret"));
                }
            }
            (Some(_), None) => return Err((7_000_215, "wrong secret")),
            (None, Some(assertion)) => {
                if call.field("client_assertion_type") != Some(BEARER) {
                    return Err((900_144, "client_assertion_type"));
                }
                self.check_assertion(call, &spec, &tenant_id, assertion)?;
            }
            _ => return Err((7_000_216, "exactly one credential is needed")),
        }
        if spec.disabled {
            return Err((7_000_112, "disabled application"));
        }
        Ok(self.give_token(call, &spec, resource, actions))
    }

    /// What the token shall be for: v2 by scope, v1 by resource.
    fn resource(&self, call: &Call) -> Result<String, Refusal> {
        let resource = if call.v1 {
            call.field("resource").ok_or((900_144, "resource"))?
        } else {
            let scope = call.field("scope").ok_or((900_144, "scope"))?;
            if scope.trim().is_empty() {
                return Err((70_011, "empty scope"));
            }
            scope
                .strip_suffix("/.default")
                .ok_or((1_002_012, "scope without /.default"))?
        };
        let resource = resource.trim_end_matches('/');
        if resource != self.url && !RESOURCES.contains(&resource) {
            return Err((500_011, "unknown resource"));
        }
        Ok(resource.to_owned())
    }

    fn give_token(
        &mut self,
        call: &Call,
        spec: &TenantSpec,
        resource: String,
        actions: &[Action],
    ) -> Reply {
        let mut lifetime = TimeDelta::seconds(3599);
        let mut roles = spec.roles.clone();
        for action in actions {
            match action {
                Action::TokenLifetime(short) => {
                    lifetime = TimeDelta::from_std(*short).unwrap_or(lifetime);
                }
                Action::TokenWithoutRoles => roles.clear(),
                _ => {}
            }
        }
        let now = self.now();
        let expires = now + lifetime;
        let tenant = spec.tenant_id.to_ascii_lowercase();
        let (nbf, exp) = (now.timestamp() - 300, expires.timestamp());
        let claims = json!({
            "aud": resource, "iss": format!("https://sts.windows.net/{tenant}/"),
            "iat": nbf, "nbf": nbf, "exp": exp, "appid": spec.client_id, "appidacr": "1",
            "idtyp": "app", "roles": roles, "tid": tenant, "uti": self.fresh_guid(), "ver": "1.0",
        });
        let head = json!({"typ": "JWT", "alg": "RS256", "kid": "simulator"});
        let seal: Vec<u8> = (0..4)
            .flat_map(|_| self.fresh_guid().into_bytes())
            .collect();
        let part = |bytes: &[u8]| BASE64URL.encode(bytes);
        let text = format!(
            "{}.{}.{}",
            part(head.to_string().as_bytes()),
            part(claims.to_string().as_bytes()),
            part(&seal)
        );
        let seconds = lifetime.num_seconds();
        let body = if call.v1 {
            json!({
                "token_type": "Bearer", "expires_in": seconds.to_string(), "ext_expires_in": seconds.to_string(),
                "expires_on": exp.to_string(), "not_before": nbf.to_string(), "resource": resource, "access_token": text,
            })
        } else {
            json!({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": text})
        };
        let token = Token {
            tenant,
            resource,
            roles,
            expires,
        };
        self.tokens.insert(text, token);
        Reply::json(200, body.to_string())
    }

    /// A token that the provider issued, or a JWT signed by a registered certificate's key.
    fn check_assertion(
        &mut self,
        call: &Call,
        spec: &TenantSpec,
        tenant_id: &str,
        assertion: &str,
    ) -> Result<(), Refusal> {
        self.assertions.insert(assertion.to_owned());
        if spec.federated_tokens.iter().any(|known| known == assertion) {
            return Ok(());
        }
        let mut parts = assertion.split('.');
        let (Some(head), Some(claims), Some(seal), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err((70_021, "no JWT"));
        };
        let signed = format!("{head}.{claims}");
        let bytes = |part: &str| {
            BASE64URL
                .decode(part)
                .map_err(|_| (700_027, "no base64url"))
        };
        let value = |part: &str| {
            serde_json::from_slice::<Value>(&bytes(part)?).map_err(|_| (700_027, "no JSON"))
        };
        let (head, claims, seal) = (value(head)?, value(claims)?, bytes(seal)?);

        let thumbprint = |name: &str| head.get(name).and_then(Value::as_str);
        if thumbprint("x5t#S256").is_none() && thumbprint("x5t").is_none() {
            return Err((700_213, "no thumbprint and not a registered token"));
        }
        let algorithm: &dyn VerificationAlgorithm = match head.get("alg").and_then(Value::as_str) {
            Some("PS256") => &signature::RSA_PSS_2048_8192_SHA256,
            Some("RS256") => &signature::RSA_PKCS1_2048_8192_SHA256,
            _ => return Err((700_027, "algorithm")),
        };
        let registered = spec
            .certificates
            .iter()
            .filter_map(|bytes| certificate(bytes))
            .find(|known| {
                let print = |kind| {
                    BASE64URL.encode(digest::digest(kind, &known.to_der().unwrap_or_default()))
                };
                thumbprint("x5t#S256").is_none_or(|wanted| wanted == print(&digest::SHA256))
                    && thumbprint("x5t")
                        .is_none_or(|wanted| wanted == print(&digest::SHA1_FOR_LEGACY_USE_ONLY))
            });
        let registered = registered.ok_or((700_027, "certificate not registered"))?;
        let key = registered
            .tbs_certificate()
            .subject_public_key_info()
            .subject_public_key
            .raw_bytes();
        UnparsedPublicKey::new(algorithm, key)
            .verify(signed.as_bytes(), &seal)
            .map_err(|_| (700_027, "wrong signature"))?;

        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or("");
        let number = |name: &str| claims.get(name).and_then(Value::as_i64);
        let same = |name: &str| text(name).eq_ignore_ascii_case(&spec.client_id);
        if !same("iss") || !same("sub") {
            return Err((700_021, "iss and sub must be the client id"));
        }
        let names = [
            Some(tenant_id),
            spec.domain.as_deref(),
            Some(call.tenant.as_str()),
        ];
        let audience = |name: &str| {
            ["oauth2/v2.0/token", "oauth2/token", "v2.0"]
                .iter()
                .any(|end| text("aud").eq_ignore_ascii_case(&format!("{}/{name}/{end}", self.url)))
        };
        if !names.into_iter().flatten().any(audience) {
            return Err((700_023, "audience"));
        }
        let now = self.now();
        let from = number("nbf")
            .or(number("iat"))
            .ok_or((700_024, "neither nbf nor iat"))?;
        let until = number("exp").ok_or((700_024, "no exp"))?;
        if from > (now + SKEW).timestamp() || until < (now - SKEW).timestamp() || until <= from {
            return Err((700_024, "time range"));
        }
        let name = text("jti").to_owned();
        let fresh = self
            .tenants
            .get_mut(tenant_id)
            .is_some_and(|tenant| tenant.assertions.insert(name.clone()));
        if name.is_empty() || !fresh {
            // Entra documents no number for this; the client's fault is a violation in any case.
            self.journal.accuse(
                Violation::AssertionReplayed,
                call,
                "jti is missing or was used before",
            );
            return Err((700_027, "jti is missing or was used before"));
        }
        Ok(())
    }
}

fn certificate(bytes: &[u8]) -> Option<Certificate> {
    if bytes.starts_with(b"-----BEGIN") {
        Certificate::from_pem(bytes).ok()
    } else {
        Certificate::from_der(bytes).ok()
    }
}
