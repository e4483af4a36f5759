//! A listing: the contents of one window, page by page, as they stream in.

use std::collections::HashSet;
use std::mem;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use reqwest::Url;
use serde::Deserialize;

use super::activity::{Activity, Call};
use super::body::Body;
use super::fault::{Class, Fault, Operation};
use crate::array::{Damage, Element, Splitter};
use crate::config::ContentType;

/// How many contents are handed out at once, at most.
const CHUNK: usize = 500;
/// The longest element of a listing; real ones have some 500 bytes.
const MAX_ELEMENT: usize = 64 * 1024;
/// The most pages and contents of a window: far beyond what a tenant makes in a day.
const MAX_PAGES: usize = if cfg!(test) { 50 } else { 10_000 };
const MAX_CONTENTS: u64 = if cfg!(test) { 2_000 } else { 5_000_000 };
/// How often a window is listed again from its start within one run.
const MAX_RESTARTS: u32 = 2;

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Microsoft's opaque content id.
    pub id: String,
    /// Where the blob is; checked only when it is fetched.
    pub uri: String,
    /// When the blob became available, UTC.
    pub created: DateTime<Utc>,
    /// Until when it can be fetched, UTC; 7 days after `created` where Microsoft does not say.
    pub expires: DateTime<Utc>,
}

/// A window being listed. See [`Activity::list`].
///
/// A page that broke off is read again, a window whose links fail is listed again from its start:
/// a content may be handed out more than once.
#[derive(Debug)]
pub struct Listing<'a> {
    activity: &'a Activity,
    content_type: ContentType,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    at: At,
    open: Option<Page>,
    /// The links of this pass that were followed.
    followed: HashSet<String>,
    restarts: u32,
    /// How often the current page broke off.
    broken: u32,
    found: Vec<Content>,
    contents: u64,
    bad: u64,
}

#[derive(Debug, Clone)]
enum At {
    First,
    Link(Url),
    End,
}

#[derive(Debug)]
struct Page {
    body: Body,
    splitter: Splitter,
}

impl<'a> Listing<'a> {
    pub(super) fn new(
        activity: &'a Activity,
        content_type: ContentType,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Self {
        Self {
            activity,
            content_type,
            start,
            end,
            at: At::First,
            open: None,
            followed: HashSet::new(),
            restarts: 0,
            broken: 0,
            found: Vec::new(),
            contents: 0,
            bad: 0,
        }
    }

    /// What to say of elements that are no contents and were left out, if there were any: the
    /// window is not complete then, though all of it was read.
    #[must_use]
    pub fn incomplete(&self) -> Option<Fault> {
        (self.bad > 0).then(|| {
            Fault::new(
                Class::Failed,
                format!(
                    "{} entries of the listing from {} cannot be read",
                    self.bad,
                    self.start.format("%F %T UTC")
                ),
                "nothing to do: they are listed again; if it stays, report it with this message",
                "",
            )
        })
    }

    /// The next contents, 1 to 500; `None` when the whole window was listed.
    ///
    /// # Errors
    /// See [`Class`]; the window is not complete then. [`Class::StartSubscription`] is the caller's
    /// to answer; [`Class::RestartWindow`] was tried here already.
    pub async fn next(&mut self) -> Result<Option<Vec<Content>>, Fault> {
        loop {
            if self.found.len() >= CHUNK {
                let rest = self.found.split_off(CHUNK);
                return Ok(Some(mem::replace(&mut self.found, rest)));
            }
            if self.open.is_none() {
                if !self.found.is_empty() {
                    return Ok(Some(mem::take(&mut self.found)));
                }
                if matches!(self.at, At::End) {
                    return Ok(None);
                }
            }
            if let Err(fault) = self.advance().await {
                self.open = None;
                self.recover(fault).await?;
            }
        }
    }

    /// Opens the next page, or takes the next bytes of the open one.
    async fn advance(&mut self) -> Result<(), Fault> {
        let Some(page) = &mut self.open else {
            self.open = self.request().await?;
            return Ok(());
        };
        let before = self.found.len();
        let (found, bad) = (&mut self.found, &mut self.bad);
        let mut sink = |element: Element<'_>| match element {
            Element::Value(bytes) => match content(bytes) {
                Some(content) => found.push(content),
                None => *bad += 1,
            },
            Element::TooLong { .. } => *bad += 1,
        };
        match page.body.chunk().await? {
            Some(chunk) => {
                let damage = page.splitter.push(&chunk, &mut sink).err();
                self.contents += (self.found.len() - before) as u64;
                match damage {
                    Some(damage) => Err(damaged(&page.body, &damage)),
                    None if self.contents > MAX_CONTENTS => Err(endless(&page.body, "contents")),
                    None => Ok(()),
                }
            }
            None => self.turn(),
        }
    }

    /// Asks for the page at hand.
    async fn request(&mut self) -> Result<Option<Page>, Fault> {
        let call = Call {
            operation: Operation::List,
            content_type: Some(self.content_type),
        };
        let url = match &self.at {
            At::End => return Ok(None),
            At::Link(url) => url.clone(),
            At::First => {
                let Some(url) = self.first_url() else {
                    self.at = At::End;
                    return Ok(None);
                };
                url
            }
        };
        let body = self.activity.array(call, &url).await?;
        Ok(Some(Page {
            body,
            splitter: Splitter::new(MAX_ELEMENT),
        }))
    }

    /// The window as it can be asked for right now; `None` if it is empty or wholly out of reach.
    fn first_url(&self) -> Option<Url> {
        let reach = self.activity.clock.reach();
        // Cut to whole seconds upwards, so that the start is within reach.
        let start = if self.start < reach {
            reach + TimeDelta::seconds(1)
        } else {
            self.start
        };
        let written = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%S").to_string();
        (start < self.end).then(|| {
            self.activity.addresses.operation(
                "subscriptions/content",
                &[
                    ("contentType", self.content_type.as_str()),
                    ("startTime", &written(start)),
                    ("endTime", &written(self.end)),
                ],
            )
        })
    }

    /// Closes a page that was read to its end, and finds the link to the next.
    fn turn(&mut self) -> Result<(), Fault> {
        let Some(mut page) = self.open.take() else {
            return Ok(());
        };
        page.splitter
            .finish()
            .map_err(|damage| damaged(&page.body, &damage))?;
        self.broken = 0;
        // Header names are compared regardless of case; documents spell this one in two ways.
        let headers = page.body.response().headers();
        let mut links = ["NextPageUri", "NextPageUrl"]
            .into_iter()
            .filter_map(|name| headers.get(name));
        let Some(link) = links.find(|link| !link.is_empty()) else {
            self.at = At::End;
            return Ok(());
        };
        let restart = |why: String| Fault {
            class: Class::RestartWindow,
            ..page.body.bad(format!(
                "the listing's link to its next page is unusable: {why}"
            ))
        };
        let link = link
            .to_str()
            .map_err(|_| restart("it is no text".to_owned()))?;
        let url = self.activity.addresses.handed_out(link).map_err(restart)?;
        if !self.followed.insert(url.to_string()) {
            return Err(restart("it was followed already".to_owned()));
        }
        if self.followed.len() > MAX_PAGES {
            return Err(endless(&page.body, "pages"));
        }
        self.at = At::Link(url);
        Ok(())
    }

    /// Prepares for what can still be done after a fault: the page once more, or the window.
    async fn recover(&mut self, fault: Fault) -> Result<(), Fault> {
        let on_link = matches!(self.at, At::Link(_));
        let fault = match self.activity.budget.pause(&mut self.broken, fault).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        // A link may fail where the window does not; a fault of the tenant is one everywhere.
        let worth_it = match fault.class {
            Class::RestartWindow => true,
            Class::Failed | Class::SkipBlob | Class::OurBug => on_link,
            _ => false,
        };
        if !worth_it || self.restarts >= MAX_RESTARTS {
            return Err(fault);
        }
        log::debug!("the window is listed again from its start: {fault}");
        self.restarts += 1;
        self.at = At::First;
        self.followed.clear();
        self.broken = 0;
        self.bad = 0;
        self.contents = 0;
        Ok(())
    }
}

fn damaged(body: &Body, damage: &Damage) -> Fault {
    body.bad(format!("a page of the listing is damaged: {damage}"))
}

fn endless(body: &Body, what: &str) -> Fault {
    Fault {
        class: Class::OurBug,
        ..body.bad(format!("the listing has more {what} than a day can have"))
    }
}

/// An element of a listing, if it is a content that can be fetched.
pub(super) fn content(element: &[u8]) -> Option<Content> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "contentId")]
        id: String,
        #[serde(rename = "contentUri")]
        uri: String,
        #[serde(rename = "contentCreated")]
        created: String,
        #[serde(rename = "contentExpiration")]
        expires: Option<serde_json::Value>,
    }
    let raw: Raw = serde_json::from_slice(element).ok()?;
    let created = time(&raw.created)?;
    let expires = raw
        .expires
        .and_then(|expires| time(expires.as_str()?))
        .unwrap_or(created + TimeDelta::days(7));
    (!raw.id.is_empty() && !raw.uri.is_empty()).then_some(Content {
        id: raw.id,
        uri: raw.uri,
        created,
        expires,
    })
}

/// A time of the API: RFC 3339, or the same without a zone, which is UTC.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc(),
        Err(_) => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
            .ok()?
            .and_utc(),
    };
    // Years that only a fault can mean would overflow what is computed from them.
    (2000..3000)
        .contains(&chrono::Datelike::year(&time))
        .then_some(time)
}
