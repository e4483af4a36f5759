//! An answer before it travels.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hyper::Response;

use super::apply::http_date;
use super::body::{self, Body, End, Transfer};

/// An answer, and what shall happen to it on its way.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// The body's gzip form, where it was made before.
    pub(super) gzip: Option<Bytes>,
    /// The body is gzip and nothing else.
    pub(super) only_gzip: bool,
    pub(super) middle: Option<usize>,
    pub(super) end: End,
    pub(super) chunked: bool,
    pub(super) drip: Option<(usize, Duration)>,
    pub(super) never: Option<Never>,
    pub(super) skew: i64,
    /// AADSTS or AF code, for the journal.
    pub(super) code: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Never {
    Reset,
    Stall,
}

impl Reply {
    pub(super) fn new(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type", kind.to_owned())],
            body: Body::from(body),
            gzip: None,
            only_gzip: false,
            middle: None,
            end: End::Whole,
            chunked: false,
            drip: None,
            never: None,
            skew: 0,
            code: None,
        }
    }

    pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json; charset=utf-8", body)
    }

    pub(super) fn html(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, "text/html; charset=utf-8", body)
    }

    pub(super) fn never(why: Never) -> Self {
        Self {
            never: Some(why),
            ..Self::json(0, "")
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn coded(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// The answer as it goes out, `gzip` if the client takes it.
    pub(super) fn travel(self, now: DateTime<Utc>, gzip: bool) -> Response<Transfer> {
        let date = http_date(now + TimeDelta::seconds(self.skew));
        let mut response = Response::builder().status(self.status).header("date", date);
        for (name, value) in &self.headers {
            response = response.header(*name, value);
        }
        let mut body = self.body;
        let mut packed = self.only_gzip;
        if let Some(whole) = body
            .whole()
            .filter(|whole| gzip && !packed && !whole.is_empty())
        {
            body = self.gzip.unwrap_or_else(|| body::gzip(whole)).into();
            packed = true;
        }
        if packed {
            response = response.header("content-encoding", "gzip");
        }
        let transfer = Transfer::new(body, self.end, self.chunked, self.drip);
        // Only a plan can name a status or header that HTTP does not know.
        response.body(transfer).unwrap_or_else(|error| {
            let text = format!("simulator: {error}");
            Response::new(Transfer::new(Body::from(text), End::Whole, false, None))
        })
    }
}
