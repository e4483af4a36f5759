//! Carries out a plan's actions: in place of an answer, or on one.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::activity::{audit_log_off, disabled, error_body, refuse, start_refused, unauthorized};
use super::body::{Body, End, Part, gzip_bomb};
use super::call::{Call, Operation};
use super::fault::{Action, INJECTED, RetryAfter};
use super::listing::time;
use super::reply::{Never, Reply};
use super::world::{Page, World, known};

/// A refusal of everything that a tenant asks, for a time.
#[derive(Debug, Clone)]
pub(super) struct Throttled {
    until: DateTime<Utc>,
    status: u16,
    retry_after: RetryAfter,
}

impl World {
    /// The answer to a call, with whatever the plan does to it.
    pub(super) fn answer(&mut self, call: &Call) -> Reply {
        if let Some(throttled) = self.throttled.get(&call.tenant).cloned()
            && call.is_activity()
            && throttled.until > self.now()
        {
            let left = u32::try_from((throttled.until - self.now()).num_seconds() + 1).unwrap_or(1);
            let retry_after = match throttled.retry_after {
                RetryAfter::None => RetryAfter::None,
                RetryAfter::Seconds(_) => RetryAfter::Seconds(left),
                RetryAfter::Date(_) => RetryAfter::Date(left),
            };
            return self.throttle(call, call.tenant.clone(), throttled.status, retry_after);
        }
        let actions = self.plan.strike(call);
        for action in &actions {
            if let Some(reply) = self.instead(action, call) {
                // What a gateway turned away never reached the subscription service.
                let arrived = (200..500).contains(&reply.status)
                    && ![401, 408, 429].contains(&reply.status)
                    && reply.code.as_deref() != Some("AF429");
                if call.operation == Operation::Start && arrived {
                    self.judge_start(call);
                }
                return actions.iter().fold(reply, |reply, action| match action {
                    Action::ClockSkew(seconds) => Reply {
                        skew: *seconds,
                        ..reply
                    },
                    _ => reply,
                });
            }
        }
        let reply = match call.operation {
            Operation::Token => self.token(call, &actions),
            _ => self.activity(call),
        };
        actions
            .iter()
            .fold(reply, |reply, action| self.distort(action, call, reply))
    }

    /// The reply that takes the answer's place.
    fn instead(&mut self, action: &Action, call: &Call) -> Option<Reply> {
        Some(match action {
            Action::Status { status, body } => {
                let first = body.trim_start().chars().next();
                match first {
                    Some('{' | '[') => Reply {
                        code: code_of(body),
                        ..Reply::json(*status, body.clone())
                    },
                    _ => Reply::html(*status, body.clone()),
                }
            }
            Action::Throttle {
                status,
                retry_after,
                tenant_wide,
            } => {
                let mut key = call.key();
                if let Some(span) = tenant_wide.and_then(|span| TimeDelta::from_std(span).ok()) {
                    key.clone_from(&call.tenant);
                    let throttled = Throttled {
                        until: self.now() + span,
                        status: *status,
                        retry_after: *retry_after,
                    };
                    self.throttled.insert(key.clone(), throttled);
                }
                self.throttle(call, key, *status, *retry_after)
            }
            Action::Html200 => Reply::html(
                200,
                "<!DOCTYPE html><html><body>Service unavailable</body></html>",
            ),
            Action::Empty200 => Reply::json(200, ""),
            Action::ErrorObject200 => Reply::json(
                200,
                error_body("AF50000", "An internal error occurred. Retry the request."),
            ),
            Action::Message401 => unauthorized(),
            Action::WrongJson => Reply::json(200, r#"[{"contentId" "no colon",,}]"#),
            Action::AuditLogOff => audit_log_off(&call.tenant),
            Action::SubscriptionDisabled => disabled(),
            Action::StartRefused => start_refused(TimeDelta::seconds(14 * 60 + 56)),
            Action::Redirect(url) => Reply::html(302, "").with("location", url.clone()),
            Action::Reset => Reply::never(Never::Reset),
            Action::StallBeforeHeaders => Reply::never(Never::Stall),
            _ => return None,
        })
    }

    fn throttle(
        &mut self,
        call: &Call,
        key: String,
        status: u16,
        retry_after: RetryAfter,
    ) -> Reply {
        let method = match call.operation {
            Operation::Blob => "GetBlob",
            Operation::Content | Operation::NextPage => "GetContents",
            Operation::Start => "StartSubscription",
            _ => "ListSubscriptions",
        };
        let publisher = call
            .param("PublisherIdentifier")
            .unwrap_or("00000000-0000-0000-0000-000000000000");
        let message = format!("Too many requests. Method={method}, PublisherId={publisher}");
        let reply = refuse(status, "AF429", &message);
        let now = self.now();
        match retry_after {
            RetryAfter::None => reply,
            RetryAfter::Seconds(seconds) => {
                self.journal
                    .tell(key, now, now + TimeDelta::seconds(seconds.into()));
                reply.with("retry-after", seconds.to_string())
            }
            RetryAfter::Date(seconds) => {
                let until = now + TimeDelta::seconds(seconds.into());
                // A date has whole seconds, at both ends: one of them is lost in rounding.
                self.journal.tell(key, now, until - TimeDelta::seconds(1));
                reply.with("retry-after", http_date(until))
            }
        }
    }

    /// What becomes of an answer.
    fn distort(&mut self, action: &Action, call: &Call, mut reply: Reply) -> Reply {
        match action {
            Action::ClockSkew(seconds) => reply.skew = *seconds,
            Action::StallMidBody => reply.end = End::Stall(50),
            Action::TruncateLength(percent) => reply.end = End::Break(*percent),
            Action::TruncateChunked(percent) => {
                reply.end = End::Break(*percent);
                reply.chunked = true;
            }
            Action::Drip(bytes, every) => reply.drip = Some((*bytes, *every)),
            Action::CutJson(percent) => {
                let whole = reply.body.whole().cloned().unwrap_or_default();
                let keep = whole.len().saturating_mul(usize::from(*percent)) / 100;
                replace(&mut reply, Body::from(whole.slice(..keep.min(whole.len()))));
            }
            Action::ForeignNextPage(_)
            | Action::PageLoop
            | Action::RepeatedPage
            | Action::BadNextPage => {
                self.misdirect(action, call, &mut reply);
            }
            // Elements go into arrays, not into refusals.
            _ if reply.status != 200 => {}
            Action::GzipBomb(mebibytes) if call.accepts_gzip => {
                reply.only_gzip = true;
                replace(&mut reply, gzip_bomb(*mebibytes));
            }
            Action::ManyContents(count) => {
                let (url, tenant) = (self.url.clone(), call.tenant.clone());
                let content_type = call.content_type.clone().unwrap_or_default();
                let stamp = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
                let created = stamp(self.now() - TimeDelta::hours(1));
                let expires = stamp(self.now() + TimeDelta::days(6));
                let content = move |n| {
                    let id = format!("20260314092653000000000${n:07}$audit$gone");
                    json!({
                        "contentUri": format!("{url}/api/v1.0/{tenant}/activity/feed/audit/{id}"),
                        "contentId": id,
                        "contentType": content_type,
                        "contentCreated": created,
                        "contentExpiration": expires,
                    })
                    .to_string()
                    .into_bytes()
                };
                replace(&mut reply, Body::array(*count, content));
            }
            Action::EndlessBody => {
                let mut body = std::mem::take(&mut reply.body);
                body.never_end();
                replace(&mut reply, body);
            }
            _ => {
                for element in elements(action) {
                    let mut body = std::mem::take(&mut reply.body);
                    body.insert_element(reply.middle, element);
                    let middle = reply.middle;
                    replace(&mut reply, body);
                    reply.middle = middle;
                }
            }
        }
        reply
    }

    /// Spoils the link to the next page, or makes one.
    fn misdirect(&mut self, action: &Action, call: &Call, reply: &mut Reply) {
        if reply.status != 200 {
            return;
        }
        let link = reply
            .headers
            .iter()
            .position(|(name, _)| *name == "nextpageuri");
        let old = link.map(|at| reply.headers.remove(at).1);
        let genuine = |world: &mut Self, page| {
            let window = (
                call.param("startTime").and_then(time)?,
                call.param("endTime").and_then(time)?,
            );
            let content_type = known(call.content_type.as_deref()?)?;
            Some(world.page_link(&call.tenant, content_type, window, page))
        };
        let this = call
            .param("nextPage")
            .and_then(|token| self.pages.get(token))
            .cloned();
        let end = || Page {
            tenant: call.tenant.clone(),
            items: std::sync::Arc::default(),
            offset: 0,
            repeated: false,
        };
        let new = match action {
            Action::ForeignNextPage(url) => {
                let old = old.or_else(|| genuine(self, end()));
                old.map(|old| old.replacen(&self.url, url.trim_end_matches('/'), 1))
            }
            Action::BadNextPage => {
                let old = old.or_else(|| genuine(self, end()));
                old.map(|old| old.replace("$na0022", "$xx9999"))
            }
            // Only what lies behind a first page knows where it stands.
            Action::PageLoop => {
                let path = &call.path;
                let query: Vec<_> = call
                    .query
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                match this {
                    Some(_) => Some(format!("{}{path}?{}", self.url, query.join("&"))),
                    None => self
                        .same_page(call, old.as_deref())
                        .and_then(|page| genuine(self, page)),
                }
            }
            Action::RepeatedPage => match this.or_else(|| self.same_page(call, old.as_deref())) {
                Some(page) if !page.repeated => genuine(
                    self,
                    Page {
                        repeated: true,
                        ..page
                    },
                ),
                _ => old,
            },
            _ => old,
        };
        if let Some(link) = new {
            reply.headers.push(("nextpageuri", link));
        }
    }

    /// The first page of a listing as a page with a token, found by the link that leads on from it.
    fn same_page(&self, call: &Call, next: Option<&str>) -> Option<Page> {
        let token = next?.split("nextpage=").nth(1)?;
        let page = self
            .pages
            .get(token)
            .filter(|page| page.tenant == call.tenant)?;
        Some(Page {
            offset: page.offset.checked_sub(self.page_size)?,
            ..page.clone()
        })
    }
}

fn replace(reply: &mut Reply, body: Body) {
    reply.body = body;
    reply.gzip = None;
    reply.middle = None;
}

fn code_of(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    match value.get("error")? {
        serde_json::Value::Object(error) => Some(error.get("code")?.as_str()?.to_owned()),
        _ => Some(
            value
                .get("error_description")?
                .as_str()?
                .split(':')
                .next()?
                .to_owned(),
        ),
    }
}

/// What an action puts into an array.
fn elements(action: &Action) -> Vec<Vec<Part>> {
    let record = |value: &[u8]| {
        let head = json!({"CreationTime": "2026-03-14T09:26:53", "Id": INJECTED, "Operation": "Injected",
            "OrganizationId": INJECTED, "RecordType": 6, "Workload": "SharePoint", "UserId": "injected@fault.example"});
        let head = head.to_string();
        let head = head.strip_suffix('}').unwrap_or(&head);
        [head.as_bytes(), br#","ObjectId":"#, value, b"}"].concat()
    };
    let one = |bytes: Vec<u8>| vec![vec![Part::Bytes(bytes.into())]];
    match action {
        Action::BadElement => one(record(b"tru e")),
        Action::NullElement => one(b"null".to_vec()),
        Action::NonObjectElement => one(br#"42,"text",[1,2]"#.to_vec()),
        Action::InvalidUtf8 => one(record(b"\"caf\xe9 \xff\xfe\"")),
        Action::LoneSurrogate => one(record(br#""half \ud83d of a pair""#)),
        Action::Depth(levels) => one(record(&[vec![b'['; *levels], vec![b']'; *levels]].concat())),
        Action::HugeString(bytes) => {
            let frame = record(br#""@""#);
            let at = frame.iter().rposition(|byte| *byte == b'@').unwrap_or(0);
            let (head, tail) = frame.split_at(at);
            let rest = usize::try_from(bytes % 65_536).unwrap_or(0);
            vec![vec![
                Part::Bytes(Bytes::copy_from_slice(head)),
                Part::Repeat(Bytes::from(vec![b'A'; 65_536]), bytes / 65_536),
                Part::Bytes(vec![b'A'; rest].into()),
                Part::Bytes(Bytes::copy_from_slice(tail.get(1..).unwrap_or(b""))),
            ]]
        }
        _ => Vec::new(),
    }
}

/// A time as HTTP headers have it.
pub(super) fn http_date(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
