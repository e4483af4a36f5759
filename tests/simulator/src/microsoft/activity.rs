//! The Office 365 Management Activity API, as its reference describes it.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use serde_json::json;

use super::call::{Call, Operation};
use super::fault::{Action, Duplicate};
use super::reply::Reply;
use super::world::{Content, Item, Page, Subscription, Token, World, is_guid, known};

const MESSAGE_401: &str = r#"{"Message":"Authorization has been denied for this request."}"#;
const WINDOW: &str = "Start time and end time must both be specified (or both omitted) and must be \
    less than or equal to 24 hours apart, with the start time prior to end time and start time no \
    more than 7 days in the past.";

/// An error in the API's shape.
pub(super) fn error_body(code: &str, message: &str) -> String {
    json!({"error": {"code": code, "message": message}}).to_string()
}

pub(super) fn refuse(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, error_body(code, message)).coded(code)
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

/// A time of a query: a date, or a date and time down to minutes, seconds or fractions; UTC.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let date = || {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .map(|date| date.and_time(NaiveTime::MIN))
    };
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(date)
        .map(|time| time.and_utc())
}

impl World {
    /// The answer to a call of the Activity API.
    pub(super) fn activity(&mut self, call: &Call) -> Reply {
        let token = match self.authorize(call) {
            Ok(token) => token,
            Err(reply) => return reply,
        };
        if call.operation == Operation::Start {
            self.judge_start(call);
        }
        if let Err(reply) = self.check_tenant(call, &token) {
            return reply;
        }
        let content_type = match self.content_type(call, &token) {
            Ok(content_type) => content_type,
            Err(reply) => return reply,
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

    fn authorize(&self, call: &Call) -> Result<Token, Reply> {
        let token = call.token.as_ref().and_then(|token| self.tokens.get(token));
        let ours = |token: &&Token| {
            token.resource == self.url || token.resource == "https://manage.office.com"
        };
        let token = token
            .filter(ours)
            .filter(|token| token.expires > self.now())
            .ok_or_else(unauthorized)?;
        if !token.roles.iter().any(|role| role == "ActivityFeed.Read") {
            return Err(refuse(
                401,
                "AF10001",
                "The permission set () sent in the request did not include the expected permission ActivityFeed.Read.",
            ));
        }
        Ok(token.clone())
    }

    fn check_tenant(&self, call: &Call, token: &Token) -> Result<(), Reply> {
        let tenant = &call.tenant;
        if !is_guid(tenant) {
            return Err(refuse(
                400,
                "AF20013",
                &format!("The tenant ID passed in the URL ({tenant}) is not a valid GUID."),
            ));
        }
        if *tenant != token.tenant {
            return Err(refuse(
                403,
                "AF20010",
                &format!(
                    "The tenant ID passed in the URL ({tenant}) does not match the tenant ID passed in the access token ({}).",
                    token.tenant
                ),
            ));
        }
        match self.tenants.get(tenant) {
            None => Err(refuse(
                400,
                "AF20011",
                &format!(
                    "Specified tenant ID ({tenant}) does not exist in the system or has been deleted."
                ),
            )),
            Some(known) if !known.spec.audit_log => Err(audit_log_off(tenant)),
            Some(_) => Ok(()),
        }
    }

    /// The call's content type, where it needs one.
    fn content_type(&self, call: &Call, token: &Token) -> Result<&'static str, Reply> {
        if matches!(
            call.operation,
            Operation::SubscriptionsList | Operation::Blob | Operation::Unknown
        ) {
            return Ok("");
        }
        if call.length_missing && call.method == "POST" {
            return Err(Reply::html(411, "<h2>Length Required</h2>"));
        }
        let Some(asked) = call.content_type.as_deref() else {
            return Err(refuse(400, "AF20001", "Missing parameter: contentType."));
        };
        let content_type = known(asked).ok_or_else(|| {
            refuse(
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
            return Err(refuse(
                403,
                "AF10001",
                "The permission set (ActivityFeed.Read) sent in the request did not include the expected permission ActivityFeed.ReadDlp.",
            ));
        }
        Ok(content_type)
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

    /// The window of a listing: both ends or none, at most 24 hours, begun at most 7 days ago.
    fn window(&self, call: &Call) -> Result<(DateTime<Utc>, DateTime<Utc>), Reply> {
        let now = self.now();
        let (start, end) = match (call.param("startTime"), call.param("endTime")) {
            (None, None) => return Ok((now - TimeDelta::hours(24), now)),
            (Some(start), Some(end)) => (start, end),
            _ => return Err(refuse(400, "AF20030", WINDOW)),
        };
        let parsed = |name: &str, text: &str| {
            let message = format!("Invalid parameter type: {name}. Expected type: DateTime.");
            time(text).ok_or_else(|| refuse(400, "AF20002", &message))
        };
        let (start, end) = (parsed("startTime", start)?, parsed("endTime", end)?);
        if end - start > TimeDelta::hours(24) {
            return Err(refuse(400, "AF20030", WINDOW));
        }
        if start >= end || now - start > TimeDelta::days(7) {
            return Err(refuse(400, "AF20055", WINDOW));
        }
        Ok((start, end))
    }

    fn listing(&mut self, call: &Call, content_type: &'static str) -> Reply {
        match self
            .stream(&call.tenant, content_type)
            .and_then(|stream| stream.state)
        {
            None => {
                return refuse(
                    400,
                    "AF20022",
                    "No subscription found for the specified content type.",
                );
            }
            Some(Subscription::Disabled) => return disabled(),
            Some(Subscription::Enabled) => {}
        }
        let (start, end) = match self.window(call) {
            Ok(window) => window,
            Err(reply) => return reply,
        };
        let items = if self.plan.touches_contents() {
            self.faulty_items(&call.tenant, content_type, start, end)
        } else {
            let contents = self.contents(&call.tenant, content_type, start, end);
            contents
                .iter()
                .map(|content| self.item(&call.tenant, content))
                .collect()
        };
        let page = Page {
            tenant: call.tenant.clone(),
            items: Arc::new(items),
            offset: 0,
            repeated: false,
        };
        let from = (start, end);
        self.page(content_type, from, page)
    }

    fn item(&self, tenant: &str, content: &Content) -> Item {
        let id = content.id.clone();
        Item {
            uri: format!("{}/api/v1.0/{tenant}/activity/feed/audit/{id}", self.url),
            id,
            created: content.created,
            expires: content.expires,
        }
    }

    fn next_page(&mut self, call: &Call) -> Reply {
        let window = match self.window(call) {
            Ok(window) => window,
            Err(reply) => return reply,
        };
        let page = call
            .param("nextPage")
            .and_then(|token| self.pages.get(token))
            .cloned();
        let content_type = call.content_type.as_deref().and_then(known);
        match (page.filter(|page| page.tenant == call.tenant), content_type) {
            (Some(page), Some(content_type)) => self.page(content_type, window, page),
            _ => refuse(400, "AF20031", "The nextPage parameter is invalid."),
        }
    }

    fn page(
        &mut self,
        content_type: &str,
        window: (DateTime<Utc>, DateTime<Utc>),
        page: Page,
    ) -> Reply {
        let size = self.page_size;
        let mut body = String::from("[");
        let mut middle = None;
        for (n, item) in page.items.iter().skip(page.offset).take(size).enumerate() {
            if n > 0 {
                middle = middle.or(Some(body.len()));
                body.push(',');
            }
            let Item {
                id,
                uri,
                created,
                expires,
            } = item;
            let stamp = |time: &DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            body.push_str(&format!(
                r#"{{"contentUri":"{uri}","contentId":"{id}","contentType":"{content_type}","contentCreated":"{}","contentExpiration":"{}"}}"#,
                stamp(created),
                stamp(expires)
            ));
        }
        body.push(']');
        let more = page.offset + size < page.items.len();
        let tenant = page.tenant.clone();
        let next = Page {
            offset: page.offset + size,
            repeated: false,
            ..page
        };
        let mut reply = Reply::json(200, body);
        reply.middle = middle;
        if more {
            let link = self.page_link(&tenant, content_type, window, next);
            reply = reply.with("nextpageuri", link);
        }
        reply
    }

    /// A link to a page in Microsoft's odd spelling: small letters, 7 decimals, a bare `$`.
    pub(super) fn page_link(
        &mut self,
        tenant: &str,
        content_type: &str,
        (start, end): (DateTime<Utc>, DateTime<Utc>),
        page: Page,
    ) -> String {
        let (stamp, number) = (self.now().format("%Y%m%d%H%M%S"), self.fresh());
        let token = format!(
            "{stamp}{number:09}${}000000000$na0022",
            start.format("%Y%m%d%H%M%S")
        );
        let link = format!(
            "{}/api/v1.0/{tenant}/activity/feed/subscriptions/content?contenttype={content_type}&starttime={}0&endtime={}0&nextpage={token}",
            self.url,
            start.format("%Y-%m-%dT%H:%M:%S%.6f"),
            end.format("%Y-%m-%dT%H:%M:%S%.6f"),
        );
        self.pages.insert(token, page);
        link
    }

    /// The content that an id stands for, and which half of it (`None` = all).
    pub(super) fn find(&self, tenant: &str, id: &str) -> Option<(Arc<Content>, Option<usize>)> {
        let (whole, half) = match id.rsplit_once("$cut") {
            Some((whole, cut)) => (whole, Some(usize::from(cut.ends_with('1')))),
            None => (id, None),
        };
        let content = self.tenants.get(tenant)?.by_id.get(whole)?;
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

    /// A listing as the plan's rules on contents want it.
    fn faulty_items(
        &mut self,
        tenant: &str,
        content_type: &'static str,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Vec<Item> {
        let (mut items, mut again) = (Vec::new(), Vec::new());
        let all = self.contents(
            tenant,
            content_type,
            DateTime::<Utc>::MIN_UTC,
            DateTime::<Utc>::MAX_UTC,
        );
        for content in all {
            let mut item = self.item(tenant, &content);
            let actions = self.plan.on_content(tenant, content_type, &content.id);
            if actions.contains(&Action::EqualContentCreated) {
                let into_hour = item.created.timestamp_millis().rem_euclid(3_600_000);
                item.created -= TimeDelta::milliseconds(into_hour);
            }
            let everywhere = Action::DuplicateContents(Duplicate::InWindows);
            let belongs = start <= item.created && item.created < end;
            if !belongs && !actions.contains(&everywhere) {
                continue;
            }
            let mut listings = 0;
            if let Some(known) = self.tenants.get_mut(tenant) {
                let count = known.listed.entry(content.id.clone()).or_default();
                *count += 1;
                listings = *count;
            }
            let mut copies = vec![item];
            let mut hidden = false;
            for action in actions {
                match action {
                    Action::LateContent(from) => hidden |= listings < from,
                    Action::ForeignContentUri(url) => {
                        for copy in &mut copies {
                            copy.uri = copy.uri.replacen(&self.url, url.trim_end_matches('/'), 1);
                        }
                    }
                    Action::PartialBlobs if start.time() != NaiveTime::MIN => {
                        copies = copies.iter().flat_map(|copy| halves(copy, start)).collect();
                    }
                    Action::DuplicateContents(Duplicate::OnPage) => copies.extend(copies.clone()),
                    Action::DuplicateContents(Duplicate::AcrossPages) if !hidden => {
                        again.extend(copies.iter().cloned());
                    }
                    _ => {}
                }
            }
            if !hidden {
                items.extend(copies);
            }
        }
        items.sort_by_key(|item| item.created);
        items.extend(again);
        items
    }
}

pub(super) fn disabled() -> Reply {
    refuse(
        400,
        "AF20023",
        "The subscription was disabled by a tenant administrator or a service administrator.",
    )
}

/// The same content as two, under names that hold for this start time only.
fn halves(item: &Item, start: DateTime<Utc>) -> [Item; 2] {
    ["0", "1"].map(|half| {
        let suffix = format!("$cut{}{half}", start.timestamp());
        Item {
            id: format!("{}{suffix}", item.id),
            uri: format!("{}{suffix}", item.uri),
            ..item.clone()
        }
    })
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
