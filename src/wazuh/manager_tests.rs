#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::acknowledge::Acknowledgement;
use super::*;

const HANDS: u64 = 16;

fn look(at: u64) -> Look {
    let passage = Passage {
        size: 16_384,
        occupancy: 0,
        left: 0,
    };
    Look {
        asked: at,
        answered: at,
        reader: ReaderId::new(Some(7), None),
        dropped: 3,
        others: passage,
        processed: passage,
        alerts: passage,
        credits: None,
    }
}

fn mark(at: u64) -> Mark {
    Mark {
        reader: Some(ReaderId::new(Some(7), None)),
        dropped: Some(3),
        taken: at,
        stage: Stage::Sent,
        socket: None,
    }
}

/// The mark goes through the ledger's text before each look, as between two runs.
fn judge(mark: &mut Mark, unread: Option<u32>, look: &Look) -> Verdict {
    *mark = serde_json::from_str(&serde_json::to_string(mark).unwrap()).unwrap();
    assess(mark, unread, look, look.answered, HANDS)
}

const DONE: Verdict = Verdict::Confirmed(Assurance::Confirmed);

#[test]
fn empty_queues_confirm_after_the_flush_and_not_before() {
    let mut mark = mark(1_000);
    for at in [1_000, 1_020, 1_040, 1_060, 1_080, 2_259] {
        assert_eq!(
            judge(&mut mark, Some(0), &look(at)),
            Verdict::Pending,
            "{at}"
        );
    }
    assert_eq!(judge(&mut mark, Some(0), &look(2_260)), DONE);
}

#[test]
fn unread_datagrams_are_waited_for() {
    let mut mark = mark(0);
    for at in (0..60_000).step_by(20) {
        assert_eq!(judge(&mut mark, Some(768), &look(at)), Verdict::Pending);
    }
    assert_eq!(mark.stage, Stage::Sent);
}

#[test]
fn a_look_from_before_the_datagrams_were_read_shows_nothing() {
    let mut mark = mark(0);
    let old = look(100);
    assert_eq!(
        assess(&mut mark, Some(0), &old, 115, HANDS),
        Verdict::Pending
    );
    let read = mark.stage;
    // The same look again, later.
    assert_eq!(
        assess(&mut mark, Some(0), &old, 119, HANDS),
        Verdict::Pending
    );
    assert_eq!(mark.stage, read);
}

#[test]
fn each_queue_must_let_out_what_it_held_and_what_was_in_hands() {
    for step in [Step::Others, Step::Processed, Step::Alerts] {
        let with = |at: u64, left: u64| {
            let mut look = look(at);
            let queue = match step {
                Step::Others => &mut look.others,
                Step::Processed => &mut look.processed,
                _ => &mut look.alerts,
            };
            queue.occupancy = 100;
            queue.left = 5_000 + left;
            look
        };
        let mut mark = mark(0);
        let mut at = 0;
        while !matches!(mark.stage, Stage::Waiting { .. }) {
            at += 20;
            assert_eq!(judge(&mut mark, Some(0), &with(at, 0)), Verdict::Pending);
        }
        for left in [0, 100, 100 + HANDS - 1] {
            at += 60_000;
            assert_eq!(judge(&mut mark, Some(0), &with(at, left)), Verdict::Pending);
            assert!(
                matches!(mark.stage, Stage::Waiting { .. }),
                "{step:?} {left}"
            );
        }
        at += 20;
        let last = with(at, 100 + HANDS);
        assert_eq!(judge(&mut mark, Some(0), &last), Verdict::Pending);
        assert_eq!(mark.stage, Stage::Passed { step, at });
    }
}

#[test]
fn restarts_and_drops_lose_the_batch_at_any_stage() {
    let stages = [
        Stage::Sent,
        Stage::Passed {
            step: Step::Socket,
            at: 0,
        },
        Stage::Waiting {
            step: Step::Processed,
            goal: 0,
        },
        Stage::Passed {
            step: Step::Alerts,
            at: 0,
        },
    ];
    for stage in stages {
        let mut restarted = look(90_000);
        restarted.reader = ReaderId::new(Some(8), None);
        let mut dropped = look(90_000);
        dropped.dropped += 1;
        for look in [restarted, dropped] {
            let mut mark = Mark { stage, ..mark(0) };
            assert_eq!(judge(&mut mark, None, &look), Verdict::Lost, "{stage:?}");
        }
    }
}

#[test]
fn the_next_run_goes_on_where_this_one_stopped() {
    // Stopped at once after sending; the reader must have lived on for a second.
    let mut mark = mark(1_000);
    assert_eq!(judge(&mut mark, None, &look(1_999)), Verdict::Pending);
    assert_eq!(mark.stage, Stage::Sent);
    for at in [2_000, 2_020, 2_040, 2_060, 3_259] {
        assert_eq!(judge(&mut mark, None, &look(at)), Verdict::Pending, "{at}");
    }
    assert_eq!(judge(&mut mark, None, &look(3_260)), DONE);
}

#[test]
fn a_clock_that_begins_anew_confirms_nothing_early() {
    let mut mark = mark(50_000);
    mark.stage = Stage::Passed {
        step: Step::Alerts,
        at: 50_000,
    };
    // Unreachable while readers are told apart, but time is the last safeguard.
    assert_eq!(judge(&mut mark, None, &look(10)), Verdict::Pending);
    assert_eq!(judge(&mut mark, None, &look(1_209)), Verdict::Pending);
    assert_eq!(judge(&mut mark, None, &look(1_210)), DONE);
}

/// A manager at work, a millisecond at a time: our events (true) among those of others.
struct Model {
    random: u64,
    now: u64,
    others: VecDeque<bool>,
    processed: VecDeque<bool>,
    alerts: VecDeque<bool>,
    hands: [VecDeque<bool>; 2],
    left: [u64; 3],
    received: u64,
    ours_out: u64,
    last_out: u64,
    rate: u64,
}

impl Model {
    fn chance(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % (most + 1)
    }

    /// Others send at `load` percent of its rate, so that at 100 no queue is ever empty for long.
    fn millisecond(&mut self, load: u64) {
        self.now += 1;
        self.received += 40; // file integrity events that never see these queues
        let arriving = self.chance(2 * self.rate * load / 100);
        self.others.extend((0..arriving).map(|_| false));
        // Workers hold events while they work: popped and counted, not yet pushed.
        for (queue, stage) in [(1, 0), (2, 1)] {
            let done: Vec<_> = self.hands[stage].drain(..).collect();
            if queue == 1 {
                self.processed.extend(done);
            } else {
                self.alerts.extend(done);
            }
        }
        for _ in 0..self.chance(2 * self.rate) {
            if let Some(event) = self.alerts.pop_front() {
                self.left[2] += 1;
                if event {
                    self.ours_out += 1;
                    self.last_out = self.now;
                }
            }
        }
        for _ in 0..self.chance(2 * self.rate).min(8) {
            if let Some(event) = self.processed.pop_front() {
                self.left[1] += 1;
                self.hands[1].push_back(event);
            }
        }
        for _ in 0..self.chance(2 * self.rate).min(8) {
            if let Some(event) = self.others.pop_front() {
                self.left[0] += 1;
                self.hands[0].push_back(event);
            }
        }
    }

    fn look(&self) -> Look {
        let mut look = look(self.now);
        for (passage, queue, left) in [
            (&mut look.others, &self.others, self.left[0]),
            (&mut look.processed, &self.processed, self.left[1]),
            (&mut look.alerts, &self.alerts, self.left[2]),
        ] {
            passage.occupancy = queue.len() as u64;
            passage.left = left;
        }
        look
    }
}

#[test]
fn on_a_busy_manager_confirmation_comes_and_never_early() {
    for seed in 1..=20_u64 {
        for load in [0, 60, 95, 105] {
            let mut model = Model {
                random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
                now: 0,
                others: VecDeque::new(),
                processed: VecDeque::new(),
                alerts: VecDeque::new(),
                hands: [VecDeque::new(), VecDeque::new()],
                left: [0; 3],
                received: 0,
                ours_out: 0,
                last_out: 0,
                rate: 3,
            };
            for _ in 0..2_000 {
                model.millisecond(load);
            }
            let ours = 6_000;
            for _ in 0..ours {
                let events = model.chance(2);
                model.others.push_back(true);
                model.others.extend((0..events).map(|_| false));
            }
            let mut mark = mark(model.now);
            let mut looks = 0;
            let verdict = loop {
                for _ in 0..20 {
                    model.millisecond(load);
                }
                looks += 1;
                assert!(looks < 3_000, "seed {seed}, load {load}: never confirmed");
                match judge(&mut mark, Some(0), &model.look()) {
                    Verdict::Pending => {}
                    verdict => break verdict,
                }
            };
            assert_eq!(verdict, DONE);
            assert_eq!(model.ours_out, ours, "seed {seed}, load {load}: early");
            assert!(
                model.now >= model.last_out + 1_000,
                "seed {seed}, load {load}: not flushed yet"
            );
        }
    }
}

#[test]
fn room_keeps_every_queue_below_half() {
    let empty = look(0);
    assert_eq!(empty.room(0, 1), 4_096);
    assert_eq!(empty.room(4_000, 1), 96);
    assert_eq!(empty.room(9_000, 1), 0);
    assert_eq!(empty.room(0, 4), 1_024);
    let with = |change: fn(&mut Look)| {
        let mut look = look(0);
        change(&mut look);
        look.room(0, 1)
    };
    assert_eq!(with(|look| look.others.occupancy = 8_192), 0);
    assert_eq!(with(|look| look.others.occupancy = 16_384), 0);
    // Filled by others, ours still get through.
    assert_eq!(with(|look| look.others.occupancy = 6_592), 200);
    assert_eq!(with(|look| look.processed.occupancy = 8_192), 0);
    assert_eq!(with(|look| look.alerts.occupancy = 8_100), 92);
    assert_eq!(with(|look| look.credits = Some(500)), 756);
    assert_eq!(
        with(|look| {
            look.credits = Some(0);
            look.others.occupancy = 256;
        }),
        0
    );
}

fn statistics(uptime: u64, office365: u64, dropped: u64) -> serde_json::Value {
    json!({
        "uptime": uptime,
        "metrics": {
            "events": {
                "received": 1_000_000,
                "processed": 900,
                "received_breakdown": {
                    "decoded_breakdown": {
                        "agent": 1,
                        "dbsync": 1_000,
                        "integrations_breakdown": {"virustotal": 2},
                        "modules_breakdown": {
                            "office365": office365,
                            "logcollector_breakdown": {"eventchannel": 5_000, "others": 4},
                            "syscheck": 700_000,
                            "rootcheck": 8_000,
                        },
                    },
                    "dropped_breakdown": {
                        "agent": 5,
                        "modules_breakdown": {"office365": dropped, "syscheck": 400},
                    },
                },
                "written_breakdown": {"alerts": 800, "archives": 0},
            },
            "queues": {
                "others": {"size": 16_384, "usage": 0.25},
                "processed": {"size": 16_384, "usage": 0.000_061_035_156_25},
                "alerts": {"size": 16_384, "usage": 0},
            },
        },
    })
}

fn home_with_manager() -> (tempfile::TempDir, Home, config::Wazuh) {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["queue/sockets", "bin", "var/run"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    std::fs::write(dir.path().join("bin/wazuh-analysisd"), "").unwrap();
    let config = config::Wazuh {
        home: dir.path().to_owned(),
        queue: None,
        location: "office365".to_owned(),
        events_per_second: EventsPerSecond::Auto,
        acknowledge: true,
        send_timeout: Duration::from_mins(1),
        annotate: None,
        flatten: false,
    };
    let home = Home::find(&config).unwrap();
    (dir, home, config)
}

#[test]
fn only_what_passes_our_queue_counts() {
    let (_dir, home, _) = home_with_manager();
    let look = Look::read(&statistics(7, 10, 2), "office365", &home).unwrap();
    assert_eq!(look.others.left, 1 + 2 + 10 + 4);
    assert_eq!(look.others.occupancy, 4_096);
    assert_eq!(look.processed.occupancy, 1);
    assert_eq!(look.alerts.occupancy, 0);
    assert_eq!(look.dropped, 2);
    // A location without a counter: what any sender lost in that queue may be ours.
    let look = Look::read(&statistics(7, 10, 2), "mine", &home).unwrap();
    assert_eq!(look.dropped, 5 + 2);
    assert!(Look::read(&json!({"uptime": 7}), "office365", &home).is_none());
}

/// Answers each request with the statistics of the moment, or, if there are none, not at all.
fn serve(socket: &Path, statistics: &Arc<Mutex<Option<Value>>>) {
    let listener = UnixListener::bind(socket).unwrap();
    let statistics = Arc::clone(statistics);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_le_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            let Some(data) = statistics.lock().unwrap().clone() else {
                continue;
            };
            let answer = json!({"error": 0, "message": "ok", "data": data}).to_string();
            let length = u32::try_from(answer.len()).unwrap();
            stream.write_all(&length.to_le_bytes()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
}

/// Asks until the answer is no longer `Pending`, as the delivery thread does.
fn settle(acknowledgement: &mut Acknowledgement, mark: &mut Mark, unread: Option<u32>) -> Verdict {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let verdict = acknowledgement.assess(mark, unread);
        if verdict != Verdict::Pending || Instant::now() > end {
            return verdict;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_manager_on_a_real_socket_feeds_confirms_drops_and_restarts() {
    let (_dir, home, config) = home_with_manager();
    let world = Arc::new(Mutex::new(Some(statistics(7, 10, 2))));
    serve(&home.statistics_socket(), &world);
    let mut acknowledgement = Acknowledgement::new(&home, &config);

    // Its input queue is filled to a quarter by others: small steps.
    let allowed = acknowledgement.allowance(Instant::now());
    assert_eq!(allowed.events, 512);
    acknowledgement.sent(500);
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 12);
    let mut mark = acknowledgement.mark();
    assert_eq!(
        acknowledgement.assess(&mut mark, Some(768)),
        Verdict::Pending
    );
    // The queue moves on, with somebody else's events too.
    let onward = Arc::clone(&world);
    let mover = std::thread::spawn(move || {
        for step in 1..=100_u64 {
            std::thread::sleep(Duration::from_millis(15));
            let mut data = statistics(7, 10 + 100 * step, 2);
            data["metrics"]["events"]["processed"] = json!(900 + 100 * step);
            *onward.lock().unwrap() = Some(data);
        }
    });
    assert_eq!(settle(&mut acknowledgement, &mut mark, Some(0)), DONE);
    mover.join().unwrap();

    // It stops answering: unknown for now, so nothing is sent and nothing is lost.
    acknowledgement.allowance(Instant::now());
    acknowledgement.sent(5);
    let mut mark = acknowledgement.mark();
    *world.lock().unwrap() = None;
    std::thread::sleep(Duration::from_millis(2 * LOOK_EVERY));
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 0);
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), Verdict::Pending);

    // The same process again, but it dropped one of ours.
    *world.lock().unwrap() = Some(statistics(7, 10, 3));
    let mut dropped = mark.clone();
    assert_eq!(
        settle(&mut acknowledgement, &mut dropped, Some(0)),
        Verdict::Lost
    );
    // It settles before more is sent: a quarter full is not calm.
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 0);

    // Another process.
    *world.lock().unwrap() = Some(statistics(8, 0, 0));
    std::thread::sleep(Duration::from_millis(2 * LOOK_EVERY));
    assert_eq!(acknowledgement.assess(&mut mark, None), Verdict::Lost);
}

#[test]
fn a_manager_without_statistics_is_paced_and_what_it_read_counts() {
    let (_dir, home, config) = home_with_manager();
    let mut acknowledgement = Acknowledgement::new(&home, &config);
    assert_eq!(acknowledgement.allowance(Instant::now()).events, 0, "yet");
    std::thread::sleep(Duration::from_millis(GRACE + 50));
    let allowed = acknowledgement.allowance(Instant::now());
    assert!((1..=10).contains(&allowed.events), "{allowed:?}");
    acknowledgement.sent(1);
    let mut mark = acknowledgement.mark();
    assert_eq!(
        acknowledgement.assess(&mut mark, Some(768)),
        Verdict::Pending
    );
    let accepted = Verdict::Confirmed(Assurance::Accepted);
    assert_eq!(acknowledgement.assess(&mut mark, Some(0)), accepted);

    // What was sent to a manager that told is not called accepted by one that does not.
    let mut of_before = Mark {
        dropped: Some(3),
        ..mark.clone()
    };
    assert_eq!(
        acknowledgement.assess(&mut of_before, None),
        Verdict::Pending
    );
}

#[test]
fn switched_off_is_accepted_whatever_happens_to_the_reader() {
    let (_dir, home, mut config) = home_with_manager();
    config.acknowledge = false;
    config.events_per_second = EventsPerSecond::Unlimited;
    let world = Arc::new(Mutex::new(Some(statistics(8, 0, 9))));
    serve(&home.statistics_socket(), &world);
    let mut acknowledgement = Acknowledgement::new(&home, &config);
    assert_eq!(acknowledgement.allowance(Instant::now()).events, usize::MAX);
    let accepted = Verdict::Confirmed(Assurance::Accepted);
    // Marked while it was on, by a reader that is gone since.
    assert_eq!(acknowledgement.assess(&mut mark(0), None), accepted);
    assert_eq!(
        acknowledgement.assess(&mut mark(0), Some(9)),
        Verdict::Pending
    );
}
