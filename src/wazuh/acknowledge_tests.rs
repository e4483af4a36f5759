#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::*;
use crate::config::EventsPerSecond;

const ACCEPTED: Verdict = Verdict::Confirmed(Assurance::Accepted);

fn silent(home: &Path) -> (Home, Acknowledgement) {
    let config = config::Wazuh {
        home: home.to_owned(),
        queue: Some(home.join("queue")),
        location: "office365".to_owned(),
        events_per_second: EventsPerSecond::Unlimited,
        acknowledge: false,
        send_timeout: Duration::from_mins(1),
        annotate: None,
        flatten: false,
    };
    let home = Home::find(&config).unwrap();
    let acknowledgement = Acknowledgement::new(&home, &config);
    (home, acknowledgement)
}

#[test]
fn where_nobody_tells_only_a_living_reader_has_read() {
    let dir = tempfile::tempdir().unwrap();
    let (home, mut nobody) = silent(dir.path());
    let reader = UnixDatagram::bind(home.queue()).unwrap();
    nobody.connected(&Queue::connect(home.queue()).unwrap());
    let mut mark = nobody.mark();
    let mut earlier = mark.clone();
    // As in the ledger.
    let text = serde_json::to_string(&mark).unwrap();
    assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark);

    assert_eq!(nobody.assess(&mut mark, Some(768)), Verdict::Pending);
    assert_eq!(nobody.assess(&mut mark, Some(0)), ACCEPTED);
    assert_eq!(nobody.assess(&mut earlier, None), ACCEPTED);

    drop(reader);
    assert_eq!(nobody.assess(&mut mark, Some(0)), Verdict::Pending);
    assert_eq!(nobody.assess(&mut earlier, None), Verdict::Pending);
    fs::remove_file(home.queue()).unwrap();
    assert_eq!(nobody.assess(&mut mark, Some(0)), Verdict::Pending);
    let _another = UnixDatagram::bind(home.queue()).unwrap();
    assert_eq!(nobody.assess(&mut mark, Some(0)), Verdict::Lost);
    assert_eq!(nobody.assess(&mut earlier, None), Verdict::Lost);
    nobody.connected(&Queue::connect(home.queue()).unwrap());
    assert_eq!(nobody.assess(&mut mark, None), Verdict::Lost);
}

#[test]
fn what_waits_of_an_earlier_connection_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (home, mut nobody) = silent(dir.path());
    let reader = UnixDatagram::bind(home.queue()).unwrap();
    let queue = Queue::connect(home.queue()).unwrap();
    nobody.connected(&queue);
    assert_eq!(queue.send(&[b"1", b"2", b"3"]).unwrap(), 3);
    let mut mark = nobody.mark();
    drop(queue);
    // However long ago that was, and whatever there is room for.
    mark.taken -= 2_000;
    for _ in 0..3 {
        assert_eq!(nobody.assess(&mut mark, None), Verdict::Pending);
        reader.recv(&mut [0; 8]).unwrap();
    }
    // The looks so far are older than this mark.
    mark.taken = monotonic_millis();
    assert_eq!(nobody.assess(&mut mark, None), ACCEPTED);
}

/// Wazuh's queue has many senders, and is seldom empty.
#[test]
fn what_was_sent_before_something_that_is_read_is_read_whatever_others_send() {
    let dir = tempfile::tempdir().unwrap();
    let (home, mut nobody) = silent(dir.path());
    let reader = UnixDatagram::bind(home.queue()).unwrap();
    nobody.connected(&Queue::connect(home.queue()).unwrap());
    let mut earlier = nobody.mark();
    nobody.connected(&Queue::connect(home.queue()).unwrap());
    let another = UnixDatagram::unbound().unwrap();
    another.send_to(b"another's", home.queue()).unwrap();
    // As of a batch whose records were all filtered.
    let mut mark = nobody.mark();
    assert_eq!(nobody.assess(&mut mark, Some(0)), ACCEPTED);
    assert_eq!(nobody.assess(&mut earlier, None), Verdict::Pending);
    nobody.sent(1);
    assert_eq!(nobody.assess(&mut mark, Some(0)), ACCEPTED);
    assert_eq!(nobody.assess(&mut earlier, None), ACCEPTED);
    drop(reader);
}

#[test]
fn where_the_kernel_does_not_tell_either_only_what_is_read_later_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (home, mut nobody) = silent(dir.path());
    let _reader = UnixDatagram::bind(home.queue()).unwrap();
    let queue = Queue::connect(home.queue()).unwrap();
    nobody.connected(&queue);
    let mut earlier = nobody.mark();
    // No other look is due.
    nobody.inbox = (u64::MAX - LOOK_EVERY, None);
    earlier.taken -= 60_000;
    assert_eq!(nobody.assess(&mut earlier, None), Verdict::Pending);
    nobody.sent(1);
    let mut mark = nobody.mark();
    assert_eq!(nobody.assess(&mut mark, Some(0)), ACCEPTED);
    assert_eq!(nobody.assess(&mut earlier, None), ACCEPTED);
}

#[test]
fn what_an_older_version_marked_is_judged_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let (_home, mut nobody) = silent(dir.path());
    let text = r#"{"reader":null,"dropped":null,"taken":7,"stage":"sent"}"#;
    let mut mark: Mark = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&mark).unwrap(), text);
    assert_eq!(nobody.assess(&mut mark, Some(768)), Verdict::Pending);
    assert_eq!(nobody.assess(&mut mark, Some(0)), ACCEPTED);
    assert_eq!(nobody.assess(&mut mark, None), ACCEPTED);
}

#[test]
fn readers_differ_only_in_what_is_known_of_both() {
    let process = |pid, start| Some(Process { pid, start });
    let id = ReaderId::new(Some(7), process(1, 2));
    for (other, same) in [
        (ReaderId::new(Some(7), process(1, 2)), true),
        (ReaderId::new(Some(7), None), true),
        (ReaderId::new(None, process(1, 2)), true),
        (ReaderId::default(), true),
        (ReaderId::new(Some(8), None), false),
        (ReaderId::new(None, process(1, 3)), false),
        (ReaderId::new(Some(7), process(9, 2)), false),
    ] {
        assert_eq!(id.same_as(&other), same, "{other:?}");
        assert_eq!(other.same_as(&id), same, "{other:?}");
    }
    let hidden = |text: &str| ReaderId(text.to_owned());
    assert!(id.same_as(&hidden("process=-1-2")) && hidden("process=-1-2").same_as(&id));
    assert!(!id.same_as(&hidden("process=-1-3")) && !id.same_as(&hidden("process=0-1-2")));
}

#[test]
fn what_a_gone_process_sent_is_read_when_its_reader_lives_on() {
    let mut mark = Mark {
        reader: None,
        dropped: None,
        decoded: None,
        taken: 5_000,
        stage: Stage::Sent,
        socket: None,
    };
    for (unread, now, answered, read) in [
        (Some(0), 5_000, None, true),
        (Some(2_304), 90_000, Some(90_000), false),
        (None, 5_999, Some(5_999), false),
        (None, 7_000, None, false),
        (None, 6_000, Some(6_000), true),
    ] {
        assert_eq!(mark.is_read(unread, now, answered), read, "{now}");
    }
    // After a reboot the clock begins anew, and so does the second.
    assert!(!mark.is_read(None, 300, Some(300)));
    assert!(mark.is_read(None, 1_300, Some(1_300)));
}
