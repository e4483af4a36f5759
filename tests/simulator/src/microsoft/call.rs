//! A request as the simulator understands it.

use bytes::Bytes;
use hyper::http::{HeaderMap, Method, Uri, Version, header};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A token, v1 or v2.
    Token,
    /// `subscriptions/list`.
    SubscriptionsList,
    /// `subscriptions/start`.
    Start,
    /// `subscriptions/stop`.
    Stop,
    /// The first page of a listing.
    Content,
    /// A further page of a listing.
    NextPage,
    /// A blob by its contentUri.
    Blob,
    /// Something that neither service offers.
    Unknown,
}

/// A request, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) form: Vec<(String, String)>,
    pub(super) operation: Operation,
    /// The path's tenant in lower case; empty if there is none.
    pub(super) tenant: String,
    /// By query; for blobs not known from the request.
    pub(super) content_type: Option<String>,
    /// What the path names behind `audit/`.
    pub(super) content_id: String,
    /// The bearer token.
    pub(super) token: Option<String>,
    pub(super) accepts_gzip: bool,
    /// v1 of the token endpoint.
    pub(super) v1: bool,
    /// A POST over HTTP/1 that does not say how long it is.
    pub(super) length_missing: bool,
}

impl Call {
    /// Whether it names a `startTime` that begins so.
    pub(super) fn starts(&self, time: &str) -> bool {
        let mut query = self.query.iter();
        query.any(|(key, value)| key.eq_ignore_ascii_case("startTime") && value.starts_with(time))
    }

    pub(super) fn new(
        method: Method,
        uri: &Uri,
        version: Version,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Self {
        let header = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("")
        };
        let pairs = |text: &[u8]| {
            form_urlencoded::parse(text)
                .into_owned()
                .collect::<Vec<_>>()
        };
        let path = uri.path().to_owned();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let is_form = header(header::CONTENT_TYPE).starts_with("application/x-www-form-urlencoded");
        let mut call = Self {
            query: pairs(uri.query().unwrap_or("").as_bytes()),
            form: if is_form { pairs(body) } else { Vec::new() },
            operation: Operation::Unknown,
            tenant: String::new(),
            content_type: None,
            content_id: String::new(),
            token: header(header::AUTHORIZATION)
                .strip_prefix("Bearer ")
                .map(str::to_owned),
            accepts_gzip: header(header::ACCEPT_ENCODING).contains("gzip"),
            v1: false,
            length_missing: version < Version::HTTP_2
                && !headers.contains_key(header::CONTENT_LENGTH)
                && !headers.contains_key(header::TRANSFER_ENCODING),
            path: path.clone(),
            method,
        };
        let (get, post) = (call.method == Method::GET, call.method == Method::POST);
        let (tenant, operation) = match segments.as_slice() {
            [tenant, "oauth2", "v2.0", "token"] if post => (*tenant, Operation::Token),
            [tenant, "oauth2", "token"] if post => {
                call.v1 = true;
                (*tenant, Operation::Token)
            }
            ["api", "v1.0", tenant, "activity", "feed", rest @ ..] => (
                *tenant,
                match rest {
                    ["subscriptions", "list"] if get => Operation::SubscriptionsList,
                    ["subscriptions", "start"] if post => Operation::Start,
                    ["subscriptions", "stop"] if post => Operation::Stop,
                    ["subscriptions", "content"] if get && call.param("nextPage").is_some() => {
                        Operation::NextPage
                    }
                    ["subscriptions", "content"] if get => Operation::Content,
                    ["audit", id] if get => {
                        call.content_id = (*id).replace("%24", "$");
                        Operation::Blob
                    }
                    _ => Operation::Unknown,
                },
            ),
            _ => ("", Operation::Unknown),
        };
        call.tenant = tenant.to_ascii_lowercase();
        call.operation = operation;
        call.content_type = call.param("contentType").map(str::to_owned);
        call
    }

    /// A query parameter; names compare without case, as ASP.NET does.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.query
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }

    /// A field of the form.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let named = |(key, _): &&(String, String)| key == name;
        self.form
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }

    /// What makes two requests attempts at the same thing. A listing goes by its start: its end
    /// is the present and so another one at each attempt.
    pub(super) fn key(&self) -> String {
        let what = match self.operation {
            Operation::Content => self.param("startTime").unwrap_or(""),
            Operation::NextPage => self.param("nextPage").unwrap_or(""),
            Operation::Blob => &self.content_id,
            _ => "",
        };
        let content_type = self.content_type.as_deref().unwrap_or("");
        format!("{:?} {} {content_type} {what}", self.operation, self.tenant)
    }

    /// Whether it is one of the Activity API.
    pub(super) fn is_activity(&self) -> bool {
        self.path.starts_with("/api/")
    }
}
