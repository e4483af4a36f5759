//! Listings: windows, pages, and the contents in them.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use super::activity::{Refused, disabled, refuse, refused};
use super::call::Call;
use super::fault::{Action, Duplicate};
use super::reply::Reply;
use super::world::{Blob, Item, Page, Subscription, World, known};

/// `[start, end)` on contentCreated.
type Window = (DateTime<Utc>, DateTime<Utc>);

const WINDOW: &str = "Start time and end time must both be specified (or both omitted) and must be \
    less than or equal to 24 hours apart, with the start time prior to end time and start time no \
    more than 7 days in the past.";

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
    /// The window of a listing: both ends or none, at most 24 hours, begun at most 7 days ago.
    fn window(&self, call: &Call) -> Result<Window, Refused> {
        let now = self.now();
        let (start, end) = match (call.param("startTime"), call.param("endTime")) {
            (None, None) => return Ok((now - TimeDelta::hours(24), now)),
            (Some(start), Some(end)) => (start, end),
            _ => return Err(refused(400, "AF20030", WINDOW)),
        };
        let parsed = |name: &str, text: &str| {
            let message = format!("Invalid parameter type: {name}. Expected type: DateTime.");
            time(text).ok_or_else(|| refused(400, "AF20002", &message))
        };
        let (start, end) = (parsed("startTime", start)?, parsed("endTime", end)?);
        if end - start > TimeDelta::hours(24) {
            return Err(refused(400, "AF20030", WINDOW));
        }
        if start >= end || now - start > TimeDelta::days(7) {
            return Err(refused(400, "AF20055", WINDOW));
        }
        Ok((start, end))
    }

    pub(super) fn listing(&mut self, call: &Call, content_type: &'static str) -> Reply {
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
            Err(reply) => return *reply,
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
        self.page(content_type, (start, end), page)
    }

    fn item(&self, tenant: &str, content: &Blob) -> Item {
        let id = content.id.clone();
        Item {
            uri: format!("{}/api/v1.0/{tenant}/activity/feed/audit/{id}", self.url),
            id,
            created: content.created,
            expires: content.expires,
        }
    }

    pub(super) fn next_page(&mut self, call: &Call) -> Reply {
        let window = match self.window(call) {
            Ok(window) => window,
            Err(reply) => return *reply,
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

    fn page(&mut self, content_type: &str, window: Window, page: Page) -> Reply {
        let size = self.page_size;
        let stamp = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let entries = page.items.iter().skip(page.offset).take(size).map(|item| {
            format!(
                r#"{{"contentUri":"{}","contentId":"{}","contentType":"{content_type}","contentCreated":"{}","contentExpiration":"{}"}}"#,
                item.uri,
                item.id,
                stamp(item.created),
                stamp(item.expires)
            )
        });
        let entries: Vec<_> = entries.collect();
        let middle = entries
            .first()
            .filter(|_| entries.len() > 1)
            .map(|first| first.len() + 1);
        let body = format!("[{}]", entries.join(","));
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
        (start, end): Window,
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
