//! Listings: pages, links, elements, the reach.

use chrono::{DateTime, TimeDelta, Utc};

use super::{activity, all, api, fault, listed, window};
use crate::config::ContentType;
use crate::microsoft::Class;
use crate::microsoft::cloud::tests::TENANT;
use crate::microsoft::fake::{Fake, Reply, content, reply};

#[tokio::test]
async fn a_listing_gets_over_what_passes() {
    let fake = api(|base, request, n| {
        let page = |ids: &[&str]| {
            ids.iter()
                .map(|id| content(base, id))
                .collect::<serde_json::Value>()
                .to_string()
        };
        let next = |link: &str| {
            format!(
                "NextPageUri: {base}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?{link}"
            )
        };
        let whole = page(&["a", "b"]);
        match n {
            // Breaks off, then comes whole.
            0 => Reply::Bytes(
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
                    whole.len(),
                    &whole[..300]
                )
                .into_bytes(),
            ),
            1 => reply(200, &[&next("nextpage=2")], &whole),
            // An empty page goes on; its link is refused: the window again.
            2 => reply(200, &[&next("nextpage=3")], "[]"),
            3 => reply(400, &[], fault("AF20031")),
            // This time the pages go in a circle: the window again.
            4 => reply(200, &[&next("nextpage=4")], page(&["a"])),
            5 => reply(200, &[&next("nextpage=4")], page(&["b"])),
            6 => reply(200, &[&next("nextpage=5")], page(&["a"])),
            // An empty link is none.
            7 => reply(200, &["NextPageUri: "], "null"),
            _ => panic!("{}", request.target),
        }
    })
    .await;
    let mut ids = listed(&activity(&fake)).await.unwrap();
    ids.sort();
    ids.dedup();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(fake.calls().len(), 8);
}

#[tokio::test]
async fn a_listing_never_ends_well_on_a_bad_link() {
    let foreign = Fake::start(|_, _, _| reply(200, &[], "[]")).await;
    let stranger = foreign.base.clone();
    for case in 0..4 {
        let stranger = stranger.clone();
        let fake = api(move |base, _, n| {
            let link = match case {
                0 => format!("{stranger}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?nextpage=1"),
                1 => format!("{base}/api/v1.0/99999999-2222-3333-4444-555555555555/activity/feed/subscriptions/content"),
                2 => format!("{base}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?nextpage={}", n % 3),
                _ => "http://[".to_owned(),
            };
            reply(200, &[&format!("NextPageUri: {link}")], serde_json::json!([content(base, "a")]).to_string())
        })
        .await;
        let fault = listed(&activity(&fake)).await.unwrap_err();
        assert_eq!(fault.class, Class::RestartWindow, "{case}: {fault}");
    }
    assert!(foreign.seen().is_empty());
}

/// Ever new links, and pages with ever more contents.
#[tokio::test]
async fn a_listing_is_given_up_where_it_has_no_end() {
    for (each, said) in [(0, "more pages than"), (100, "more contents than")] {
        let fake = api(move |base, _, n| {
            let page: Vec<_> = (0..each)
                .map(|at| content(base, &format!("{n}-{at}")))
                .collect();
            let next = format!(
                "{base}/api/v1.0/{TENANT}/activity/feed/subscriptions/content?nextpage={n}"
            );
            reply(
                200,
                &[&format!("NextPageUri: {next}")],
                serde_json::json!(page).to_string(),
            )
        })
        .await;
        let fault = listed(&activity(&fake)).await.unwrap_err();
        assert!(fault.to_string().contains(said), "{fault}");
    }
}

#[tokio::test]
async fn a_bad_element_is_counted_and_a_damaged_page_is_no_end() {
    let fake = api(|base, _, n| {
        let good = content(base, "a");
        if n > 0 {
            return reply(200, &[], "[{},}");
        }
        reply(200, &[], format!(
            r#"[null, 7, "x", {{}}, {good}, {{"contentId":"b","contentUri":"u","contentCreated":"never"}}, {{"contentId":"","contentUri":"u","contentCreated":"2026-11-20T10:00:00"}}, {{"contentId":"d","contentUri":"u","contentCreated":"2026-11-20T10:00:00","contentExpiration":7}}]"#
        ))
    })
    .await;
    let activity = activity(&fake);
    let (start, end) = window();
    let mut listing = activity.list(ContentType::General, start, end);
    let contents = listing.next().await.unwrap().unwrap();
    assert_eq!(listing.next().await.unwrap(), None);
    let said = listing.incomplete().unwrap().to_string();
    assert!(said.starts_with("6 entries of the listing "), "{said}");
    assert_eq!(contents.len(), 2);
    assert_eq!(
        contents[0].created.to_rfc3339(),
        "2026-11-20T10:00:00.123+00:00"
    );
    assert_eq!(
        contents[1].expires.to_rfc3339(),
        "2026-11-27T10:00:00+00:00"
    );

    let fault = listed(&activity).await.unwrap_err();
    assert_eq!(fault.class, Class::Retry);
}

#[tokio::test]
async fn many_contents_come_in_chunks() {
    let fake = api(|base, _, _| {
        let list: Vec<_> = (0..1201).map(|n| content(base, &n.to_string())).collect();
        reply(200, &[], serde_json::Value::from(list).to_string())
    })
    .await;
    let ids = listed(&activity(&fake)).await.unwrap();
    assert_eq!(ids.len(), 1201);
    assert_eq!((ids[0].as_str(), ids[1200].as_str()), ("0", "1200"));
}

#[tokio::test]
async fn a_window_is_cut_to_what_microsoft_keeps_by_its_own_clock() {
    // Each answer's date is a day later; the first attempt is refused.
    let fake = api(|_, _, n| match n {
        0 => reply(200, &["date: Sun, 08 Nov 2026 12:00:00 GMT"], "[]"),
        1 => reply(
            400,
            &["date: Mon, 09 Nov 2026 12:00:00 GMT"],
            fault("AF20055"),
        ),
        _ => reply(200, &["date: Mon, 09 Nov 2026 12:00:00 GMT"], "[]"),
    })
    .await;
    let activity = activity(&fake);
    activity.subscriptions().await.unwrap();
    let day: DateTime<Utc> = "2026-11-02T00:00:00Z".parse().unwrap();
    let list = async |start| {
        let mut listing = activity.list(ContentType::General, start, start + TimeDelta::days(1));
        all(&mut listing).await.unwrap()
    };
    assert!(list(day).await.is_empty());
    assert!(list(day - TimeDelta::days(2)).await.is_empty());
    let asked: Vec<_> = fake
        .calls()
        .iter()
        .filter_map(|call| Some(call.target.split_once("startTime=")?.1[..23].to_owned()))
        .collect();
    // Out of reach: not asked at all.
    assert_eq!(
        asked,
        ["2026-11-02T00%3A00%3A00", "2026-11-02T12%3A05%3A01"]
    );
}
