//! Every fault that a plan can order, seen by a client without guile.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;

use std::io::ErrorKind;
use std::time::Duration;

use chrono::TimeDelta;
use client::{Answer, Client};
use serde_json::Value;
use simulator::microsoft::{
    Action, Duplicate, Foreign, INJECTED, Microsoft, Operation, Options, Plan, Records, RetryAfter,
    Rule, Violation,
};

const TYPE: &str = "Audit.Exchange";

/// A tenant with five blobs of four records, two contents a page.
fn world() -> Microsoft {
    Microsoft::start(Options {
        page_size: 2,
        ..Options::default()
    })
    .unwrap()
}

fn filled(microsoft: &Microsoft) -> (Client<'_>, Vec<String>) {
    let client = Client::new(microsoft, 1);
    let ids = (0..5).map(|n| {
        let created = microsoft.now() - TimeDelta::minutes(50 - n * 7);
        let records = Records::new(n.cast_unsigned()).take(4);
        microsoft.issue(&client.tenant.tenant_id, TYPE, records, created)
    });
    let ids = ids.collect();
    (client, ids)
}

fn plan(operation: Operation, action: Action) -> Plan {
    Plan::new(1).rule(Rule::on(operation, action).attempts(1))
}

fn on_contents(action: Action) -> Plan {
    Plan::new(1).rule(Rule::any(action))
}

/// An answer to the first attempt at a blob; the second one must be good.
fn faulty_blob(action: &Action) -> Answer {
    let microsoft = world();
    let (client, ids) = filled(&microsoft);
    let path = format!("audit/{}", ids[0]);
    let good = client.get(&path);
    assert!(good.whole && good.status == 200);
    microsoft.faults(plan(Operation::Blob, action.clone()));
    let answer = client.get(&path);
    assert_eq!(microsoft.struck(), [1], "{action:?}");
    let again = client.get(&path);
    assert_eq!((again.status, again.whole), (200, true), "{action:?}");
    assert_eq!(again.body, good.body, "{action:?}");
    answer
}

#[test]
fn answers_in_place_of_the_right_one() {
    type Expected = (u16, &'static str);
    let cases: [(Action, Expected); 13] = [
        (
            Action::af(500, "AF50000", "An internal error occurred."),
            (
                500,
                r#"{"error":{"code":"AF50000","message":"An internal error occurred."}}"#,
            ),
        ),
        (
            Action::Status {
                status: 503,
                body: "<html>busy</html>".into(),
            },
            (503, "<html>busy</html>"),
        ),
        (
            Action::Status {
                status: 200,
                body: "null".into(),
            },
            (200, "null"),
        ),
        (Action::Html200, (200, "<!DOCTYPE html>")),
        (Action::Empty200, (200, "")),
        (
            Action::ErrorObject200,
            (200, r#"{"error":{"code":"AF50000""#),
        ),
        (
            Action::Message401,
            (
                401,
                r#"{"Message":"Authorization has been denied for this request."}"#,
            ),
        ),
        (Action::WrongJson, (200, "[{")),
        (
            Action::AuditLogOff,
            (
                400,
                r#"{"error":{"code":"Microsoft.Office.Compliance.Audit.DataServiceException: Tenant "#,
            ),
        ),
        (
            Action::SubscriptionDisabled,
            (400, r#"{"error":{"code":"AF20023""#),
        ),
        (
            Action::StartRefused,
            (
                403,
                r#"{"error":{"code":"429","message":"Too many frequent subscription start requests. Please retry again after 14m 56s""#,
            ),
        ),
        (
            Action::Redirect("http://elsewhere.example/".into()),
            (302, ""),
        ),
        (
            Action::Throttle {
                status: 403,
                retry_after: RetryAfter::None,
                tenant_wide: None,
            },
            (
                403,
                r#"{"error":{"code":"AF429","message":"Too many requests. Method=GetBlob, PublisherId="#,
            ),
        ),
    ];
    for (action, (status, body)) in cases {
        let answer = faulty_blob(&action);
        assert_eq!(answer.status, status, "{action:?}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(
            text.starts_with(body) && text.is_empty() == body.is_empty(),
            "{action:?}: {text}"
        );
    }
    assert!(serde_json::from_slice::<Value>(&faulty_blob(&Action::WrongJson).body).is_err());
}

#[test]
fn connections_that_break() {
    let reset = faulty_blob(&Action::Reset);
    assert_eq!(
        (reset.status, reset.error),
        (0, Some(ErrorKind::ConnectionReset))
    );
    let silent = faulty_blob(&Action::StallBeforeHeaders);
    assert_eq!(
        (silent.status, silent.error),
        (0, Some(ErrorKind::WouldBlock))
    );
    let stalled = faulty_blob(&Action::StallMidBody);
    assert_eq!(
        (stalled.status, stalled.error, stalled.whole),
        (200, Some(ErrorKind::WouldBlock), false)
    );
    assert!(!stalled.body.is_empty());
    for (action, chunked) in [
        (Action::TruncateLength(60), false),
        (Action::TruncateChunked(60), true),
    ] {
        let cut = faulty_blob(&action);
        assert_eq!(
            (
                cut.status,
                cut.whole,
                cut.header("transfer-encoding").is_some()
            ),
            (200, false, chunked)
        );
        assert!(!cut.body.is_empty());
    }
    let cut = faulty_blob(&Action::CutJson(60));
    assert!(cut.whole && cut.body.starts_with(b"[{") && !cut.body.ends_with(b"]"));
    let drip = faulty_blob(&Action::Drip(1_000, Duration::from_millis(1)));
    assert!(drip.whole && drip.body.ends_with(b"]"));
}

#[test]
fn arrays_with_something_in_them() {
    let injected = |answer: &Answer| -> Value {
        let elements = answer.json();
        let elements = elements.as_array().unwrap().clone();
        assert_eq!(elements.len(), 5);
        elements
            .iter()
            .find(|element| element["Id"] == INJECTED)
            .cloned()
            .unwrap_or(Value::Null)
    };
    let bad = faulty_blob(&Action::BadElement);
    assert!(serde_json::from_slice::<Value>(&bad.body).is_err());
    let text = String::from_utf8_lossy(&bad.body).into_owned();
    let (before, after) = text.split_once("tru e").unwrap();
    assert_eq!(
        (
            before.matches("\"UserId\"").count(),
            after.matches("\"UserId\"").count()
        ),
        (3, 2)
    );

    assert_eq!(faulty_blob(&Action::NullElement).json()[2], Value::Null);
    let odd = faulty_blob(&Action::NonObjectElement).json();
    assert!(odd[2] == 42 && odd[3] == "text" && odd[4][1] == 2);
    assert!(String::from_utf8(faulty_blob(&Action::InvalidUtf8).body).is_err());
    let lone = String::from_utf8(faulty_blob(&Action::LoneSurrogate).body).unwrap();
    assert!(lone.contains(r"\ud83d of"));
    let deep = faulty_blob(&Action::Depth(100));
    assert!(injected(&deep)["ObjectId"][0][0][0].is_array());
    let huge = injected(&faulty_blob(&Action::HugeString(200_000)));
    assert_eq!(huge["ObjectId"].as_str().unwrap().len(), 200_000);

    let bomb = faulty_blob(&Action::GzipBomb(64));
    assert_eq!(bomb.header("content-encoding"), Some("gzip"));
    assert!(bomb.body.len() == 2 + (64 << 20) && bomb.json().as_array().unwrap().is_empty());
    let endless = faulty_blob(&Action::EndlessBody);
    assert!(!endless.whole && endless.body.len() > 4 << 20 && endless.body.starts_with(b"[    "));

    // An empty array takes elements as well.
    let microsoft = world();
    let client = Client::new(&microsoft, 1);
    let empty = microsoft.issue(&client.tenant.tenant_id, TYPE, [b""; 0], microsoft.now());
    microsoft.faults(plan(Operation::Blob, Action::NullElement));
    assert_eq!(client.get(&format!("audit/{empty}")).body, b"[null]");
}

#[test]
fn throttling_of_one_request_and_of_a_tenant() {
    let microsoft = world();
    let (client, ids) = filled(&microsoft);
    let (first, second) = (format!("audit/{}", ids[0]), format!("audit/{}", ids[1]));
    let throttle = |retry_after, tenant_wide| {
        plan(
            Operation::Blob,
            Action::Throttle {
                status: 429,
                retry_after,
                tenant_wide,
            },
        )
    };
    microsoft.faults(throttle(RetryAfter::Date(30), None));
    let answer = client.get(&first);
    assert_eq!((answer.status, answer.code()), (429, "AF429".to_owned()));
    assert!(answer.header("retry-after").unwrap().ends_with(" GMT"));
    // At once: it may have been on its way. Later: it was told.
    assert_eq!(client.get(&first).status, 200);
    assert!(microsoft.violations().is_empty());
    microsoft.advance(Duration::from_secs(20));
    assert_eq!(client.get(&second).status, 429);
    assert!(
        microsoft.violations().is_empty(),
        "only the refused request has to wait"
    );
    client.get(&first);
    assert_eq!(
        microsoft.violation_kinds(),
        [Violation::WhileThrottled].into()
    );
    drop(microsoft.violations());

    microsoft.faults(throttle(
        RetryAfter::Seconds(60),
        Some(Duration::from_mins(1)),
    ));
    assert_eq!(
        client
            .get(&format!("audit/{}", ids[2]))
            .header("retry-after"),
        Some("60")
    );
    assert_eq!(client.list(TYPE).status, 429);
    microsoft.advance(Duration::from_secs(20));
    assert_eq!(client.list(TYPE).header("retry-after"), Some("40"));
    assert_eq!(
        microsoft.violation_kinds(),
        [Violation::WhileThrottled].into()
    );
    drop(microsoft.violations());
    let other = Client::new(&microsoft, 2);
    assert_eq!(
        other.list(TYPE).status,
        200,
        "another tenant is not concerned"
    );
    assert_eq!(client.sign_in().status, 200, "nor is the login");
    microsoft.advance(Duration::from_secs(45));
    assert_eq!(client.list(TYPE).status, 200);
    assert!(microsoft.violations().is_empty());
}

#[test]
fn tokens_that_end_early_or_lack_roles_and_a_clock_that_is_off() {
    let microsoft = world();
    let (mut client, _) = filled(&microsoft);
    microsoft.faults(plan(
        Operation::Token,
        Action::TokenLifetime(Duration::from_secs(30)),
    ));
    client.renew();
    assert_eq!(client.list(TYPE).status, 200);
    microsoft.advance(Duration::from_secs(31));
    assert_eq!(client.list(TYPE).status, 401);
    client.renew();
    assert_eq!(client.list(TYPE).status, 200);

    microsoft.faults(plan(Operation::Token, Action::TokenWithoutRoles));
    client.renew();
    assert_eq!(client.list(TYPE).code(), "AF10001");
    microsoft.faults(plan(Operation::Token, Action::aadsts(7_000_222)));
    let expired = client.sign_in();
    assert_eq!(
        (expired.status, expired.code()),
        (401, "7000222".to_owned())
    );
    assert_eq!(
        microsoft.requests().last().unwrap().code.as_deref(),
        Some("AADSTS7000222")
    );
    client.renew();

    microsoft.faults(plan(Operation::Content, Action::ClockSkew(-7200)));
    let date = |answer: &Answer| {
        chrono::DateTime::parse_from_rfc2822(answer.header("date").unwrap()).unwrap()
    };
    let off = date(&client.list(TYPE));
    let apart = date(&client.list(TYPE)) - off;
    assert!((7199..7203).contains(&apart.num_seconds()), "{apart}");
}

#[test]
fn pages_that_lead_astray() {
    let foreign = Foreign::start().unwrap();
    let microsoft = world();
    let (client, ids) = filled(&microsoft);
    let first = client.list(TYPE);

    microsoft.faults(plan(
        Operation::Content,
        Action::ForeignNextPage(foreign.url().into()),
    ));
    assert!(
        client
            .list(TYPE)
            .header("nextpageuri")
            .unwrap()
            .starts_with(foreign.url())
    );
    assert!(foreign.requests().is_empty() && foreign.connections() == 0);

    microsoft.faults(plan(Operation::Content, Action::BadNextPage));
    let link = client.list(TYPE).header("nextpageuri").unwrap().to_owned();
    assert_eq!(client.follow(&link).code(), "AF20031");

    microsoft.faults(plan(Operation::Content, Action::RepeatedPage));
    let entries = client.walk(TYPE);
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| entry["contentId"].as_str().unwrap())
        .collect();
    assert_eq!(seen, [0, 1, 0, 1, 2, 3, 4].map(|n: usize| ids[n].as_str()));

    for operation in [None, Some(Operation::NextPage)] {
        let rule = operation.map_or_else(
            || Rule::any(Action::PageLoop),
            |on| Rule::on(on, Action::PageLoop),
        );
        microsoft.faults(Plan::new(1).rule(rule));
        let mut answer = client.list(TYPE);
        if operation.is_some() {
            answer = client.follow(answer.header("nextpageuri").unwrap());
        }
        for _ in 0..10 {
            let next = client.follow(answer.header("nextpageuri").unwrap());
            assert_eq!((next.status, &next.body), (200, &answer.body));
            answer = next;
        }
    }
    microsoft.faults(Plan::default());
    assert_eq!(client.list(TYPE).body, first.body);
    assert_eq!(client.walk(TYPE).len(), 5);
}

#[test]
fn contents_that_are_not_what_they_seem() {
    let foreign = Foreign::start().unwrap();
    let microsoft = world();
    let (client, ids) = filled(&microsoft);
    let listed = || {
        let entries = client.walk(TYPE).into_iter();
        entries
            .map(|entry| entry["contentId"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    microsoft.faults(on_contents(Action::LateContent(3)));
    assert_eq!(
        [
            listed().len(),
            listed().len(),
            listed().len(),
            listed().len()
        ],
        [0, 0, 5, 5]
    );

    microsoft.faults(on_contents(Action::DuplicateContents(Duplicate::OnPage)));
    assert_eq!(
        listed(),
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4].map(|n: usize| ids[n].clone())
    );
    microsoft.faults(on_contents(Action::DuplicateContents(
        Duplicate::AcrossPages,
    )));
    assert_eq!(
        listed(),
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 4].map(|n: usize| ids[n].clone())
    );
    microsoft.faults(on_contents(Action::DuplicateContents(Duplicate::InWindows)));
    let ago = |hours| {
        (microsoft.now() - TimeDelta::hours(hours))
            .format("%Y-%m-%dT%H:%M:%S")
            .to_string()
    };
    let early = format!(
        "subscriptions/content?contentType={TYPE}&startTime={}&endTime={}",
        ago(50),
        ago(40)
    );
    assert_eq!(client.get(&early).json().as_array().unwrap().len(), 2);

    microsoft.faults(on_contents(Action::PartialBlobs));
    let entries = client.walk(TYPE);
    assert_eq!(entries.len(), 10);
    let mut records = Vec::new();
    for entry in &entries {
        let id = entry["contentId"].as_str().unwrap();
        assert!(!ids.iter().any(|known| known == id));
        let half = client.follow(entry["contentUri"].as_str().unwrap()).json();
        records.extend(
            half.as_array()
                .unwrap()
                .iter()
                .map(|record| record["Id"].clone()),
        );
    }
    let whole = |id: &String| {
        client
            .get(&format!("audit/{id}"))
            .json()
            .as_array()
            .unwrap()
            .clone()
    };
    let all: Vec<_> = ids
        .iter()
        .flat_map(whole)
        .map(|record| record["Id"].clone())
        .collect();
    assert_eq!(records, all);

    microsoft.faults(on_contents(Action::EqualContentCreated));
    let created = |entry: &Value| entry["contentCreated"].as_str().unwrap()[13..].to_owned();
    assert!(
        client
            .walk(TYPE)
            .iter()
            .all(|entry| created(entry) == ":00:00.000Z")
    );

    microsoft.faults(on_contents(Action::ForeignContentUri(foreign.url().into())));
    assert!(client.walk(TYPE).iter().all(|entry| {
        entry["contentUri"]
            .as_str()
            .unwrap()
            .starts_with(foreign.url())
    }));
    for (action, status, code) in [
        (Action::ContentVanished, 404, "AF20050"),
        (Action::ContentExpired, 400, "AF20051"),
    ] {
        microsoft.faults(on_contents(action));
        let answer = client.get(&format!("audit/{}", listed()[0]));
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
    }
}

#[test]
fn rules_strike_what_they_name() {
    let microsoft = world();
    let (client, ids) = filled(&microsoft);
    let fetch = || {
        ids.iter()
            .map(|id| client.get(&format!("audit/{id}")).status)
            .collect::<Vec<_>>()
    };
    let rule = || Rule::on(Operation::Blob, Action::af(500, "AF50000", "x"));
    let id = client.tenant.tenant_id.to_uppercase();
    let with = |rule| Plan::new(3).rule(rule);

    microsoft.faults(with(rule().nth(2)));
    assert_eq!(
        [fetch(), fetch()].concat(),
        [200, 500, 200, 200, 200, 200, 200, 200, 200, 200]
    );
    microsoft.faults(with(rule().times(2).tenant(&id).content_type(TYPE)));
    assert_eq!(fetch(), [500, 500, 200, 200, 200]);
    microsoft.faults(with(rule().from(4)));
    assert_eq!(fetch(), [200, 200, 200, 500, 500]);
    microsoft.faults(with(rule().attempts(2)));
    assert_eq!(
        [fetch(), fetch(), fetch()].concat(),
        [[500; 5], [500; 5], [200; 5]].concat()
    );
    microsoft.faults(with(rule().content_type("DLP.All")));
    assert_eq!(fetch(), [200; 5]);
    microsoft.faults(with(rule().tenant(&client.tenant.client_id)));
    assert_eq!((fetch(), microsoft.struck()), (vec![200; 5], vec![0]));

    // A share strikes the same requests each time, and about as many as it says.
    microsoft.faults(with(rule().share(0.4)));
    assert_eq!(fetch(), fetch());
    let hits = |seed| {
        microsoft.faults(Plan::new(seed).rule(rule().share(0.4)));
        fetch().iter().filter(|status| **status == 500).count()
    };
    let sum: usize = (0..200).map(hits).sum();
    assert!((300..500).contains(&sum), "{sum} of 1000");
}

/// Status and length of each path over one HTTP/2 connection; `None` = it broke off.
fn over_http_2(microsoft: &Microsoft, token: &str, paths: &[String]) -> Vec<Option<(u16, usize)>> {
    let authority = microsoft.url().trim_start_matches("http://").to_owned();
    let talk = async {
        let stream = tokio::net::TcpStream::connect(&authority).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let opened = hyper::client::conn::http2::handshake(executor, io).await;
        let (mut sender, connection) = opened.unwrap();
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for path in paths {
            let request = hyper::Request::get(format!("http://{authority}{path}"))
                .header("authorization", format!("Bearer {token}"))
                .body(http_body_util::Empty::<bytes::Bytes>::new());
            answers.push(match sender.send_request(request.unwrap()).await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = http_body_util::BodyExt::collect(response.into_body()).await;
                    body.ok().map(|body| (status, body.to_bytes().len()))
                }
                Err(_) => None,
            });
        }
        answers
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(talk)
}

#[test]
fn the_same_over_http_2() {
    let microsoft = world();
    let (client, ids) = filled(&microsoft);
    let id = &client.tenant.tenant_id;
    let blob = format!(
        "/api/v1.0/{id}/activity/feed/audit/{}?PublisherIdentifier={id}",
        ids[0]
    );
    let good = Some((200, client.get(&format!("audit/{}", ids[0])).body.len()));
    let twice = [blob.clone(), blob];
    let ask = || over_http_2(&microsoft, &client.token, &twice);
    for action in [Action::TruncateLength(50), Action::TruncateChunked(50)] {
        microsoft.faults(plan(Operation::Blob, action));
        assert_eq!(ask(), [None, good]);
    }
    microsoft.faults(plan(Operation::Blob, Action::Message401));
    assert_eq!(ask(), [Some((401, 61)), good]);
    microsoft.faults(plan(Operation::Blob, Action::Reset));
    assert_eq!(ask(), [None, None], "the connection is gone");
    assert_eq!(ask(), [good, good]);
}
