#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::naive_bytecount,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::wazuh::EpsLimit;

const OURS: &[u8] = br#"1:office365:{"integration":"office365","office365":{"RecordType":2}}"#;

/// A pipeline in a time of its own.
struct World {
    pipeline: Pipeline,
    now: Instant,
    lines: usize,
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            pipeline: Pipeline::new(settings, 1, now),
            now,
            lines: 0,
        }
    }

    fn step(&mut self) {
        self.now += TICK;
        if let Some(lines) = self.pipeline.step(self.now) {
            self.lines += lines.iter().filter(|&&b| b == b'\n').count();
        }
    }

    fn send(&mut self, count: usize, per_second: f64) {
        let mut due = 0.0;
        let mut sent = 0;
        while sent < count {
            due += per_second * TICK.as_secs_f64();
            while due >= 1.0 && sent < count {
                due -= 1.0;
                sent += 1;
                self.pipeline.offer(Event::of(OURS).unwrap());
            }
            self.step();
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn statistics(&mut self) -> Value {
        self.pipeline.statistics(self.now, 0)
    }

    fn usage(&mut self, queue: &str) -> f64 {
        self.statistics()["metrics"]["queues"][queue]["usage"]
            .as_f64()
            .unwrap()
    }

    fn decoded(&mut self, module: &str) -> u64 {
        let events = &self.statistics()["metrics"]["events"];
        events["received_breakdown"]["decoded_breakdown"]["modules_breakdown"][module]
            .as_u64()
            .unwrap()
    }
}

/// The manager of the contract's figures.
fn measured() -> Settings {
    Settings {
        rate: Some(17_000.0),
        ..Settings::default()
    }
}

#[test]
fn a_burst_of_5_000_is_in_the_queues_at_once_and_through_a_moment_later() {
    let mut world = World::new(measured());
    world.send(5_000, 34_000.0);
    assert!(world.usage("alerts") > 0.1, "{}", world.usage("alerts"));
    assert!(!world.pipeline.is_idle());
    world.run(Duration::from_millis(250));
    assert!(world.pipeline.is_idle());
    let data = world.statistics();
    let events = &data["metrics"]["events"];
    assert_eq!(
        (
            events["processed"].as_u64(),
            events["written_breakdown"]["alerts"].as_u64()
        ),
        (Some(5_000), Some(5_000))
    );
    assert_eq!(world.pipeline.dropped(), 0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.lines, 5_000);
}

#[test]
fn a_burst_of_100_000_overruns_the_input_queue_and_the_counters_say_so() {
    let mut world = World::new(measured());
    world.send(100_000, 140_000.0);
    let dropped = world.pipeline.dropped();
    // 38,930 were seen
    assert!((30_000..48_000).contains(&dropped), "{dropped}");
    let begin = world.now;
    while !world.pipeline.is_idle() {
        world.step();
    }
    // 3.6 s were seen
    assert!(
        (2.2..4.0).contains(&(world.now - begin).as_secs_f64()),
        "{:?}",
        world.now - begin
    );
    assert_eq!(world.decoded("office365") + dropped, 100_000);
    assert_eq!(world.pipeline.received(), 100_000);
    world.run(Duration::from_secs(1));
    assert_eq!(world.lines as u64, 100_000 - dropped);
}

#[test]
fn an_eps_limit_leaves_the_queue_full_and_drops_the_rest() {
    let settings = Settings {
        eps: Some(EpsLimit {
            maximum: 100,
            timeframe: 10,
        }),
        ..measured()
    };
    let mut world = World::new(settings);
    world.send(20_000, 28_000.0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.usage("others"), 1.0);
    // about 2,600 were seen: 20,000 - 16,384 - the 1,000 credits of the timeframe
    assert!(
        (2_600..2_640).contains(&world.pipeline.dropped()),
        "{}",
        world.pipeline.dropped()
    );
    assert_eq!(world.statistics()["metrics"]["eps"]["available_credits"], 0);
    let before = world.decoded("office365");
    world.run(Duration::from_secs(100));
    let rate = (world.decoded("office365") - before) / 100;
    assert!((90..=110).contains(&rate), "{rate}");
}

#[test]
fn a_sender_that_keeps_below_half_loses_nothing_at_full_speed() {
    let mut world = World::new(measured());
    let begin = world.now;
    let mut sent = 0;
    while sent < 200_000 {
        if ["others", "processed", "alerts"]
            .iter()
            .all(|queue| world.usage(queue) < 0.5)
        {
            (0..2_000).for_each(|_| world.pipeline.offer(Event::of(OURS).unwrap()));
            sent += 2_000;
        }
        world.step();
    }
    let rate = 200_000.0 / (world.now - begin).as_secs_f64();
    assert!(rate > 0.9 * 17_000.0, "{rate}");
    assert_eq!(world.pipeline.dropped(), 0);
}

#[test]
fn the_alerts_queue_makes_the_others_wait_and_drops_nothing() {
    let mut world = World::new(Settings {
        alerts: 100,
        ..measured()
    });
    world.send(10_000, 30_000.0);
    assert_eq!(world.usage("alerts"), 1.0);
    while !world.pipeline.is_idle() {
        world.step();
    }
    assert_eq!(
        (world.pipeline.dropped(), world.decoded("office365")),
        (0, 10_000)
    );
}

#[test]
fn fim_and_inventory_count_as_received_and_do_not_pass_the_input_queue_of_ours() {
    let background = Background {
        fim: 5_000.0,
        inventory: 1_000.0,
        ..Background::default()
    };
    let mut world = World::new(Settings {
        background,
        ..measured()
    });
    world.pipeline.offer(Event::of(b"8:syscheck:{}").unwrap());
    world.run(Duration::from_secs(2));
    assert!((11_900..12_100).contains(&world.pipeline.received()));
    assert_eq!(world.usage("others"), 0.0);
    assert!(world.decoded("syscheck") > 9_900 && world.decoded("syscollector") > 1_900);
    assert_eq!(world.decoded("office365"), 0);
    let through = world.statistics()["metrics"]["events"]["processed"]
        .as_u64()
        .unwrap();
    assert!(
        (9_900..10_100).contains(&through),
        "inventory goes no further: {through}"
    );
    assert_eq!(world.lines, 0);
}

/// The rule of confirmation on queues that are never empty: outflow since the snapshot at least
/// the occupancy then plus 4. True to the model only with the counters of what passes `others`.
fn left_the_input_queue(dice: u64, counted: &[&str]) -> bool {
    let background = Background {
        office365: 2_000.0,
        other: 6_000.0,
        fim: 6_000.0,
        inventory: 2_000.0,
    };
    let mut world = World::new(Settings {
        background,
        rate: Some(5_000.0),
        ..Settings::default()
    });
    world.pipeline.dice = dice;
    world.run(Duration::from_millis(500 + dice % 100));
    let outflow = |world: &mut World| {
        let data = world.statistics();
        let decoded = &data["metrics"]["events"]["received_breakdown"]["decoded_breakdown"]["modules_breakdown"];
        counted
            .iter()
            .map(|path| decoded.pointer(path).unwrap().as_u64().unwrap())
            .sum::<u64>()
    };
    world.pipeline.offer(Event::of(OURS).unwrap());
    let occupancy = whole(world.usage("others") * 16_384.0) as u64;
    let begin = outflow(&mut world);
    while outflow(&mut world) - begin < occupancy + 4 {
        world.step();
    }
    let others = &world.pipeline.others;
    others
        .queue
        .iter()
        .chain(&others.hands)
        .all(|event| event.line.is_none())
}

#[test]
fn the_contracts_rule_of_confirmation_is_never_early_here() {
    let right = ["/office365", "/logcollector_breakdown/others"];
    assert!((0..300).all(|dice| left_the_input_queue(dice, &right)));
    let wrong = ["/office365", "/logcollector_breakdown/others", "/syscheck"];
    assert!(
        (0..300).any(|dice| !left_the_input_queue(dice, &wrong)),
        "FIM must be able to mislead"
    );
}

#[test]
fn only_what_wazuh_decodes_and_a_rule_fires_on_becomes_an_alert() {
    let alert = |datagram: &[u8]| Event::of(datagram).is_some_and(|event| event.alert);
    assert!(alert(OURS));
    assert!(
        alert(&[OURS, b"\0"].concat()),
        "the C library sends a NUL at the end"
    );
    assert!(alert(
        br#"1:office365:{"integration":"office365","office365":{"actor":"wazuh"}}"#
    ));
    assert!(!alert(OURS.strip_suffix(b"}").unwrap()));
    assert!(!alert(
        br#"1:office365:{"integration":"office365","office365":{"Id":"no type"}}"#
    ));
    assert!(!alert(
        br#"1:office365:{"integration":"office365","office365":{"RecordType":2,"x":"\ud800"}}"#
    ));
    assert!(!alert(
        br#"1:github:{"integration":"github","office365":{"RecordType":2}}"#
    ));
    assert!(Event::of(b"1:x").is_none());
}
