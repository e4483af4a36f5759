//! What Wazuh is told of the collection itself.

use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, Utc};
use serde_json::Value;
use simulator::microsoft::{Action, Operation, Options, Plan, Rule, Subscription, Violation};

use crate::world::World;

const MINUTES: Duration = Duration::from_mins(6);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A world in which time passes from run to run, and what Wazuh was told in it.
struct Story {
    world: World,
    told: Vec<String>,
}

impl Story {
    fn new() -> Self {
        let mut story = Self {
            world: World::with_tenants(1, Options::default()),
            told: Vec::new(),
        };
        story.secret_expires(None);
        story
    }

    /// What was told, but for the clock of this machine, which stays where it is.
    fn told_of_microsoft(&self) -> Vec<&String> {
        let told = self.told.iter();
        told.filter(|told| !told.contains("clock_skew")).collect()
    }

    /// Time passes, perhaps something is issued, and a run is made; what it tells is noted.
    fn run(&mut self, day: &str, after: Duration, issues: bool) {
        // Microsoft's time is told to the second, and a run takes a moment.
        self.world.microsoft.advance(after + Duration::from_secs(2));
        if issues {
            self.world
                .issue_small(0, "Audit.Exchange", 1, TimeDelta::minutes(1));
        }
        self.world.run(&["run"]);
        for datagram in self.world.queue.drain() {
            let json = datagram.splitn(3, |byte| *byte == b':').nth(2).unwrap();
            let event: Value = serde_json::from_slice(json).unwrap();
            let (office, wodle) = (&event["office365"], &event["o365_wodle"]);
            let Some(health) = wodle["health"].as_str() else {
                self.world.oracle.received(&datagram);
                continue;
            };
            assert_eq!(office["actor"], "wazuh");
            assert_eq!(office["tenant_id"], self.world.id(0).as_str());
            assert!(
                office["RecordType"].is_null(),
                "official rule 91648 needs it so"
            );
            assert!(!office["response"].as_str().unwrap().is_empty());
            assert!(!wodle["hint"].as_str().unwrap().is_empty());
            assert!(wodle["since"].is_string());
            let stream = office["subscription_name"].as_str().unwrap_or("-");
            self.told
                .push(format!("{day}: {health} {stream} {}", wodle["count"]));
        }
    }

    fn may_read_dlp(&mut self, may: bool) {
        let id = self.world.id(0);
        let roles: &[&str] = if may {
            &["ActivityFeed.Read", "ActivityFeed.ReadDlp"]
        } else {
            &["ActivityFeed.Read"]
        };
        self.world.microsoft.change_tenant(&id, |spec| {
            spec.roles = roles.iter().map(|&role| role.to_owned()).collect();
        });
    }

    fn secret_expires(&mut self, days: Option<i64>) {
        let now = self.world.microsoft.now();
        let line = days.map(|days| {
            let end = (now + TimeDelta::days(days)).date_naive();
            format!("client_secret_expires = {end}")
        });
        let mut lines = vec!["content_types = [\"Audit.Exchange\", \"DLP.All\"]".to_owned()];
        lines.extend(line);
        let name = self.world.tenants[0].0.clone();
        self.world.tenant_settings.insert(name, lines);
    }
}

#[test]
fn ten_days() {
    let mut story = Story::new();
    // It begins in the morning, whenever it is played: a day is a day of the calendar here.
    let tomorrow = Utc::now().date_naive() + Days::new(1);
    let morning = tomorrow.and_hms_opt(6, 0, 0).unwrap().and_utc();
    story.world.microsoft.set_clock(morning);
    // Records that were lost with the ledger come again.
    story.world.microsoft.allow(Violation::StartTooSoon);
    story.secret_expires(Some(8));
    story.run("0", Duration::ZERO, true);
    // The machine's clock stays where it is.
    story.run("1", DAY, true);
    story.run("1", MINUTES, false);
    story.run("1", MINUTES, false);
    story.run("2", DAY, true);

    // The secret ends before it was said to, and is renewed.
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222));
    story.world.microsoft.faults(Plan::default().rule(refused));
    story.run("2", MINUTES, false);
    story.run("2", MINUTES, false);
    story.world.microsoft.faults(Plan::default());
    story.secret_expires(None);
    story.run("2", MINUTES, false);

    // A permission is taken away, and given back.
    story.may_read_dlp(false);
    story.run("3", DAY, true);
    story.run("3", MINUTES, false);
    story.may_read_dlp(true);
    story.run("3", 7 * HOUR, false);

    // Nothing comes any more, then something does.
    story.run("4", DAY, false);
    story.run("4", MINUTES, false);
    story.run("4", 2 * MINUTES, false);
    story.run("5", DAY, true);

    // A content expires before it is fetched.
    let expired = Rule::any(Action::ContentExpired);
    story.world.microsoft.faults(Plan::default().rule(expired));
    story.run("6", DAY, true);
    story.world.microsoft.faults(Plan::default());
    story.run("6", MINUTES, false);

    // Nobody runs it for long.
    story.run("16", 10 * DAY, true);
    story.run("16", MINUTES, false);

    // A power cut leaves a broken ledger.
    std::fs::write(story.world.ledger(), "no database").unwrap();
    story.run("16", MINUTES, false);
    story.run("16", MINUTES, false);

    let expected = [
        "0: secret_expiring - 1",
        "1: clock_skew - 2",
        "1: secret_expiring - 2",
        "2: clock_skew - 5",
        "2: auth_failed - 1",
        "2: recovered - 2",
        "2: recovered - 7",
        "3: clock_skew - 9",
        "3: permission_missing DLP.All 1",
        "3: recovered DLP.All 1",
        "4: clock_skew - 12",
        "4: silent Audit.Exchange 3",
        "5: clock_skew - 15",
        "5: recovered Audit.Exchange 3",
        "6: clock_skew - 16",
        "6: content_lost Audit.Exchange 1",
        "16: gap Audit.Exchange 1",
        "16: gap DLP.All 1",
        "16: clock_skew - 18",
        "16: ledger_recovered - 1",
    ];
    assert_eq!(story.told, expected);
}

#[test]
fn what_could_not_be_subscribed_to_has_no_gap() {
    let mut story = Story::new();
    story.world.set("http", "retries", "0");
    story.may_read_dlp(false);
    story.run("0", Duration::ZERO, true);
    story.run("0", 7 * HOUR, true);

    // The permission comes, and the listing works only later.
    story.may_read_dlp(true);
    let busy = Rule::on(Operation::Content, Action::af(500, "AF50000", "busy"));
    let busy = busy.content_type("DLP.All");
    story.world.microsoft.faults(Plan::default().rule(busy));
    story.run("9", 9 * DAY, true);
    story.world.microsoft.faults(Plan::default());
    story.run("9", MINUTES, false);
    assert_eq!(
        story.told_of_microsoft(),
        [
            "0: permission_missing DLP.All 1",
            "9: gap Audit.Exchange 1",
            "9: recovered DLP.All 2"
        ],
        "{}",
        story.world.log()
    );
}

/// The marker has passed it when the next run looks.
#[test]
fn a_gap_is_told_though_the_run_that_found_it_could_tell_nothing() {
    let mut story = Story::new();
    story.world.set("wazuh", "send_timeout", "\"1s\"");
    story.run("0", Duration::ZERO, true);
    story.world.microsoft.advance(9 * DAY);
    story.world.queue.pause();
    // More than the kernel keeps for a reader that sleeps.
    story
        .world
        .issue_small(0, "Audit.Exchange", 2_000, TimeDelta::minutes(1));
    story.world.run_expecting(75, &[]);
    story.world.queue.resume();
    story.run("10", MINUTES, false);
    story.run("10", MINUTES, false);
    let gaps = story.told.iter().filter(|told| told.contains("gap"));
    assert_eq!(
        gaps.collect::<Vec<_>>(),
        ["10: gap Audit.Exchange 1", "10: gap DLP.All 1"],
        "{}",
        story.world.log()
    );
}

/// Nobody waits for what the app may not read, until it may.
#[test]
fn a_permission_that_is_withdrawn_makes_no_gap_until_it_is_given_back() {
    let mut story = Story::new();
    story.run("0", Duration::ZERO, true);
    story.may_read_dlp(false);
    for day in 1..10 {
        story.run(&day.to_string(), DAY, true);
    }
    let status = story.world.run_as_it_stands(&["status"]);
    assert_eq!(status.status.code(), Some(0));
    story.may_read_dlp(true);
    story.run("10", DAY, true);
    assert_eq!(
        story.told_of_microsoft(),
        [
            "1: permission_missing DLP.All 1",
            "10: gap DLP.All 1",
            "10: recovered DLP.All 9"
        ],
        "{}",
        story.world.log()
    );
}

/// Microsoft keeps nothing while a subscription is off: whoever stops it must not pass unseen.
#[test]
fn a_subscription_that_was_stopped_and_what_is_missing_of_it_are_told() {
    for (is_listed, by_hand) in [(false, false), (true, false), (false, true)] {
        let mut story = Story::new();
        story.run("0", Duration::ZERO, true);
        let begin = story.world.microsoft.now();
        let id = story.world.id(0);
        let off = Some(Subscription::Disabled);
        story
            .world
            .microsoft
            .set_subscription(&id, "Audit.Exchange", off);
        story.world.microsoft.advance(HOUR);
        let record = br#"{"Id":"of-which-nobody-hears","RecordType":1}"#;
        let now = story.world.microsoft.now();
        story
            .world
            .microsoft
            .issue(&id, "Audit.Exchange", [record], now);
        if by_hand {
            let output = story.world.run(&["subscriptions", "start"]);
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.contains("Exchange: started again; of what"), "{said}");
        }
        // Either a listing is refused, or the day's list of subscriptions shows it.
        story.run("1", if is_listed { DAY } else { HOUR }, false);
        let end = story.world.microsoft.now();
        story.run("2", HOUR, true);
        let told = story.told_of_microsoft();
        assert_eq!(told, ["1: gap Audit.Exchange 1"], "{}", story.world.log());
        let said = "the subscription was off, and Microsoft keeps nothing meanwhile: some of what became available from 20";
        assert!(story.world.log().contains(said), "{}", story.world.log());
        let status = story.world.run_as_it_stands(&["status", "--json"]);
        assert_eq!(status.status.code(), Some(3));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let streams = status["streams"].as_array().unwrap().iter();
        let gaps: Vec<_> = streams.filter(|stream| !stream["gap"].is_null()).collect();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0]["content_type"], "Audit.Exchange");
        let end = if by_hand { begin + HOUR } else { end };
        for (name, time) in [("since", begin), ("until", end)] {
            let told: DateTime<Utc> = gaps[0]["gap"][name].as_str().unwrap().parse().unwrap();
            assert!((told - time).abs() < TimeDelta::minutes(1), "{}", gaps[0]);
        }
        story.world.assert_clean();
    }
}

/// What is told in the end is all that is lost, and `status` shows it.
#[test]
fn a_gap_that_grows_is_told_again_until_it_has_its_end() {
    let mut story = Story::new();
    story.world.set("http", "retries", "0");
    story.run("0", Duration::ZERO, true);
    let begin = story.world.microsoft.now();
    let busy = Rule::on(Operation::Content, Action::af(500, "AF50000", "busy"));
    let busy = busy.content_type("Audit.Exchange");
    story.world.microsoft.faults(Plan::default().rule(busy));
    story.run("8", 8 * DAY, false);
    story.run("8", 2 * HOUR, false);
    story.run("9", DAY, false);
    story.world.microsoft.faults(Plan::default());
    story.run("10", 20 * HOUR, false);
    let end = story.world.microsoft.now() - Days::new(7);
    let at = |time: &Value| time.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let is_near =
        |time: &Value, other: DateTime<Utc>| (at(time) - other).abs() < TimeDelta::minutes(7);
    for day in ["10", "12"] {
        let status = story.world.run_as_it_stands(&["status", "--json"]);
        assert_eq!(status.status.code(), Some(3));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let streams = status["streams"].as_array().unwrap();
        let exchange = streams
            .iter()
            .find(|stream| stream["content_type"] == "Audit.Exchange");
        let (state, gap) = (&exchange.unwrap()["state"], &exchange.unwrap()["gap"]);
        assert_eq!(state, "lost", "{day}");
        assert!(is_near(&gap["since"], begin), "{day}: {gap}");
        assert!(is_near(&gap["until"], end), "{day}: {gap}");
        story.run("12", DAY, false);
    }
    let gaps = story
        .told
        .iter()
        .filter(|told| told.contains("gap Audit.Exchange"));
    assert_eq!(
        gaps.collect::<Vec<_>>(),
        [
            "8: gap Audit.Exchange 1",
            "9: gap Audit.Exchange 3",
            "10: gap Audit.Exchange 4"
        ],
        "{}",
        story.world.log()
    );
}

#[test]
fn events_about_the_collection_are_counted_as_sent() {
    let world = World::with_tenants(1, Options::default());
    let refused = Rule::on(Operation::Token, Action::aadsts(7_000_222));
    world.microsoft.faults(Plan::default().rule(refused));
    world.run_expecting(77, &[]);
    let log = world.log();
    assert!(
        log.contains(" 1 events sent, 1 accepted, 0 not yet"),
        "{log}"
    );
}
