//! The Office 365 Management Activity API, as its reference describes it.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::json;

use super::call::{Call, Operation};
use super::fault::Action;
use super::reply::Reply;
use super::world::{Blob, Subscription, Token, World, is_guid, known};

const MESSAGE_401: &str = r#"{"Message":"Authorization has been denied for this request."}"#;
/// An error in the API's shape.
pub(super) fn error_body(code: &str, message: &str) -> String {
    json!({"error": {"code": code, "message": message}}).to_string()
}

pub(super) fn refuse(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, error_body(code, message)).coded(code)
}

/// A refusal on its way out of a check.
pub(super) type Refused = Box<Reply>;

pub(super) fn refused(status: u16, code: &str, message: &str) -> Refused {
    Box::new(refuse(status, code, message))
}

pub(super) fn unauthorized() -> Reply {
    Reply::json(401, MESSAGE_401)
}

pub(super) fn audit_log_off(tenant: &str) -> Reply {
    let code = format!(
        "Microsoft.Office.Compliance.Audit.DataServiceException: Tenant {tenant} does not exist.\r\n   \
         at Microsoft.Office.Compliance.Audit.API.AzureManager.<GetSubscriptionTableClientForTenantAsync>d__52.MoveNext()"
    );
    refuse(400, &code, &format!("Tenant {tenant} does not exist."))
}

pub(super) fn start_refused(wait: TimeDelta) -> Reply {
    let seconds = wait.num_seconds().max(0);
    let message = format!(
        "Too many frequent subscription start requests. Please retry again after {}m {}s",
        seconds / 60,
        seconds % 60
    );
    refuse(403, "429", &message)
}

impl World {
    /// The answer to a call of the Activity API.
    pub(super) fn activity(&mut self, call: &Call) -> Reply {
        let token = match self.authorize(call) {
            Ok(token) => token,
            Err(reply) => return *reply,
        };
        if call.operation == Operation::Start {
            self.judge_start(call);
        }
        if let Err(reply) = self.check_tenant(call, &token) {
            return *reply;
        }
        let content_type = match content_type(call, &token) {
            Ok(content_type) => content_type,
            Err(reply) => return *reply,
        };
        match call.operation {
            Operation::SubscriptionsList => self.subscriptions(&call.tenant),
            Operation::Start => self.start(&call.tenant, content_type),
            Operation::Stop => self.stop(&call.tenant, content_type),
            Operation::Content => self.listing(call, content_type),
            Operation::NextPage => self.next_page(call),
            Operation::Blob => self.blob(call),
            Operation::Token | Operation::Unknown => {
                Reply::html(404, "<html><body>404</body></html>")
            }
        }
    }

    fn authorize(&self, call: &Call) -> Result<Token, Refused> {
        let token = call.token.as_ref().and_then(|token| self.tokens.get(token));
        let ours = |token: &&Token| {
            token.resource == self.url || token.resource == "https://manage.office.com"
        };
        let token = token
            .filter(ours)
            .filter(|token| token.expires > self.now())
            .ok_or_else(|| Box::new(unauthorized()))?;
        if !token.roles.iter().any(|role| role == "ActivityFeed.Read") {
            return Err(refused(
                401,
                "AF10001",
                "The permission set () sent in the request did not include the expected permission ActivityFeed.Read.",
            ));
        }
        Ok(token.clone())
    }

    fn check_tenant(&self, call: &Call, token: &Token) -> Result<(), Refused> {
        let tenant = &call.tenant;
        if !is_guid(tenant) {
            return Err(refused(
                400,
                "AF20013",
                &format!("The tenant ID passed in the URL ({tenant}) is not a valid GUID."),
            ));
        }
        if *tenant != token.tenant {
            return Err(refused(
                403,
                "AF20010",
                &format!(
                    "The tenant ID passed in the URL ({tenant}) does not match the tenant ID passed in the access token ({}).",
                    token.tenant
                ),
            ));
        }
        match self.tenants.get(tenant) {
            None => Err(refused(
                400,
                "AF20011",
                &format!(
                    "Specified tenant ID ({tenant}) does not exist in the system or has been deleted."
                ),
            )),
            Some(known) if !known.spec.audit_log => Err(audit_log_off(tenant).into()),
            Some(_) => Ok(()),
        }
    }

    fn subscriptions(&self, tenant: &str) -> Reply {
        let streams = self.tenants.get(tenant).map(|tenant| &tenant.streams);
        let list: Vec<_> = streams
            .into_iter()
            .flatten()
            .filter_map(|(content_type, stream)| {
                let status = match stream.state? {
                    Subscription::Enabled => "enabled",
                    Subscription::Disabled => "disabled",
                };
                Some(json!({"contentType": content_type, "status": status, "webhook": null}))
            })
            .collect();
        Reply::json(200, json!(list).to_string())
    }

    fn start(&mut self, tenant: &str, content_type: &str) -> Reply {
        let now = self.now();
        let Some(stream) = self.stream(tenant, content_type) else {
            return unauthorized();
        };
        if stream.state == Some(Subscription::Enabled) {
            return refuse(
                400,
                "AF20024",
                "The subscription is already enabled. No property change.",
            );
        }
        if let Some(last) = stream.last_start {
            let wait = last + TimeDelta::minutes(15) - now;
            if wait > TimeDelta::zero() {
                return start_refused(wait);
            }
        }
        stream.last_start = Some(now);
        stream.state = Some(Subscription::Enabled);
        Reply::json(
            200,
            json!({"contentType": content_type, "status": "enabled", "webhook": null}).to_string(),
        )
    }

    fn stop(&mut self, tenant: &str, content_type: &str) -> Reply {
        match self.stream(tenant, content_type) {
            Some(stream) if stream.state.is_some() => {
                stream.state = Some(Subscription::Disabled);
                Reply::json(200, "")
            }
            _ => refuse(
                400,
                "AF20022",
                "No subscription found for the specified content type.",
            ),
        }
    }

    /// The content that an id stands for, and which half of it (`None` = all).
    pub(super) fn find(&self, tenant: &str, id: &str) -> Option<(Arc<Blob>, Option<usize>)> {
        let (whole, half) = match id.rsplit_once("$cut") {
            Some((whole, cut)) => (whole, Some(usize::from(cut.ends_with('1')))),
            None => (id, None),
        };
        let content = self.tenants.get(tenant)?.contents.get(whole)?;
        Some((Arc::clone(content), half))
    }

    fn blob(&mut self, call: &Call) -> Reply {
        let id = &call.content_id;
        if !id.contains('$') {
            return refuse(
                400,
                "AF20052",
                &format!("Content ID {id} in the URL is invalid."),
            );
        }
        let missing = || {
            refuse(
                404,
                "AF20050",
                &format!("The specified content ({id}) does not exist."),
            )
        };
        let Some((content, half)) = self.find(&call.tenant, id) else {
            return missing();
        };
        let actions = self
            .plan
            .on_content(&call.tenant, content.content_type, &content.id);
        if actions.contains(&Action::ContentVanished) {
            return missing();
        }
        if content.expires <= self.now() || actions.contains(&Action::ContentExpired) {
            return refuse(
                400,
                "AF20051",
                &format!(
                    "Content requested with the key {id} has already expired. Content older than 7 days cannot be retrieved."
                ),
            );
        }
        let mut reply = Reply::json(200, "");
        if let Some((half, whole)) = half.zip(content.body.whole()) {
            reply.body = cut(whole, content.middle, half).into();
        } else {
            reply.body = content.body.clone();
            reply.gzip.clone_from(&content.gzip);
            reply.middle = content.middle;
        }
        reply
    }
}

pub(super) fn disabled() -> Reply {
    refuse(
        400,
        "AF20023",
        "The subscription was disabled by a tenant administrator or a service administrator.",
    )
}

/// The call's content type, where it needs one.
fn content_type(call: &Call, token: &Token) -> Result<&'static str, Refused> {
    if matches!(
        call.operation,
        Operation::SubscriptionsList | Operation::Blob | Operation::Unknown
    ) {
        return Ok("");
    }
    if call.length_missing && call.method == "POST" {
        return Err(Reply::html(411, "<h2>Length Required</h2>").into());
    }
    let Some(asked) = call.content_type.as_deref() else {
        return Err(refused(400, "AF20001", "Missing parameter: contentType."));
    };
    let content_type = known(asked).ok_or_else(|| {
        refused(
            400,
            "AF20020",
            &format!("The specified content type is not valid: {asked}."),
        )
    })?;
    if content_type == "DLP.All"
        && !token
            .roles
            .iter()
            .any(|role| role == "ActivityFeed.ReadDlp")
    {
        return Err(refused(
            403,
            "AF10001",
            "The permission set (ActivityFeed.Read) sent in the request did not include the expected permission ActivityFeed.ReadDlp.",
        ));
    }
    Ok(content_type)
}

/// One half of an array; all of it is the first half if it has no middle.
fn cut(whole: &[u8], middle: Option<usize>, half: usize) -> Vec<u8> {
    let parts = middle.and_then(|at| Some((whole.get(..at)?, whole.get(at + 1..)?)));
    match (parts, half) {
        (Some((first, _)), 0) => [first, b"]"].concat(),
        (Some((_, second)), _) => [b"[", second].concat(),
        (None, 0) => whole.to_vec(),
        (None, _) => b"[]".to_vec(),
    }
}
