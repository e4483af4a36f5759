//! How a mark moves on, look by look.

use super::*;

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

/// A worker that waits for a credit holds an event that is in no queue.
#[test]
fn a_queue_counts_as_empty_only_where_there_are_credits() {
    let mut mark = mark(1_000);
    let with = |at, credits| Look {
        credits: Some(credits),
        ..look(at)
    };
    for at in [1_000, 1_020, 1_040, 9_000] {
        assert_eq!(judge(&mut mark, Some(0), &with(at, 0)), Verdict::Pending);
    }
    assert!(matches!(mark.stage, Stage::Waiting { .. }));
    assert_eq!(judge(&mut mark, Some(0), &with(9_020, 1)), Verdict::Pending);
    assert!(matches!(mark.stage, Stage::Passed { at: 9_020, .. }));
}
