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

#[path = "mark_tests.rs"]
mod marks;

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
        is_counted: true,
    }
}

fn mark(at: u64) -> Mark {
    Mark {
        reader: Some(ReaderId::new(Some(7), None)),
        dropped: Some(3),
        decoded: None,
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
    assert!(!look.is_counted);
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

#[test]
fn what_is_not_decoded_is_not_on_its_way() {
    let (_dir, home, config) = home_with_manager();
    let mut manager = Manager::new(&home, &config);
    let with = |at, left, dropped| {
        let mut look = Look {
            dropped,
            ..look(at)
        };
        look.others.left = left;
        look
    };
    manager.learn(with(500, 400, 3));
    manager.sent(100);
    let decoded = manager.decoded_then();
    assert_eq!(decoded, Some(500));
    let mut mark = Mark {
        decoded,
        ..mark(1_000)
    };
    for (at, left, passes) in [
        (1_020, 499, false),
        (90_000, 499, false),
        (90_020, 500, true),
    ] {
        let verdict = judge(&mut mark, Some(0), &with(at, left, 3));
        assert_eq!(verdict, Verdict::Pending);
        assert_eq!(mark.stage != Stage::Sent, passes, "{at}");
    }
    // What was dropped never will be.
    manager.learn(with(90_040, 480, 23));
    manager.sent(10);
    assert_eq!(manager.decoded_then(), Some(490));
}

/// Each loss that follows another without a confirmation is waited for longer.
#[test]
fn losses_in_a_row_slow_down() {
    let (_dir, home, config) = home_with_manager();
    let mut manager = Manager::new(&home, &config);
    for wait in [0, 1, 2, 4, 8, 16, 30] {
        manager.look = Some(look(1));
        manager.ask_at = u64::MAX;
        let mut mark = Mark {
            dropped: Some(2),
            ..mark(0)
        };
        let before = monotonic_millis();
        let lost = manager.assess(&mut mark, Some(0));
        assert_eq!(lost, Some(Verdict::Lost));
        let until = manager.settling.take().unwrap();
        assert!((before..=monotonic_millis()).contains(&(until - 1_000 * wait)));
    }
}

/// The reader that was seen is gone with its socket, and whoever comes next need not answer soon.
#[test]
fn nothing_that_was_seen_is_of_the_reader_of_another_socket() {
    let (_dir, home, config) = home_with_manager();
    let mut manager = Manager::new(&home, &config);
    manager.learn(look(500));
    manager.sent(3);
    manager.connected_to_another();
    manager.sent(4);
    // The socket of an analysisd that starts.
    std::fs::write(home.statistics_socket(), "").unwrap();
    assert_eq!(manager.baseline(), (None, None));
    assert_eq!((manager.decoded_then(), manager.save(None)), (None, None));
}

#[test]
fn an_earlier_runs_look_serves_only_where_it_can_be_gone_on_from() {
    let (_dir, home, config) = home_with_manager();
    let mut manager = Manager::new(&home, &config);
    manager.since(r#"["started=7",3,"elsewhere",null]"#, None);
    assert_eq!(manager.baseline.1, None, "another counter");
    manager.learn(look(500));
    let _reader = std::os::unix::net::UnixDatagram::bind(home.queue()).unwrap();
    let socket = SocketId::at(home.queue());
    let saved = manager.save(socket.as_ref()).unwrap();
    let mut next = Manager::new(&home, &config);
    next.since(&saved, None);
    assert_eq!(next.baseline.1, None, "another reader");
    next.since(&saved, socket.as_ref());
    assert_eq!(next.baseline.1, Some(3));
    // There is no socket, and none will come.
    next.created = 0;
    assert_eq!(next.baseline(), (None, None));
}
