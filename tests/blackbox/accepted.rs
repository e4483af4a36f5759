//! Delivery to a Wazuh that tells nothing: what a reader that lives has taken counts.

use std::time::Duration;

use simulator::microsoft::Options;

use super::acknowledge::{issue, status};
use crate::world::World;

/// A world whose Wazuh tells nothing, with records on their way to a reader that reads none.
fn with_a_sleeping_reader(records: usize) -> World {
    let mut world = World::with_tenants(1, Options::default());
    world.set("wazuh", "send_timeout", "\"1s\"");
    issue(&mut world, 1, records);
    world.queue.pause();
    world
}

/// More than a kernel keeps for a reader, so that the run ends with some unread and the others unsent.
const MORE_THAN_WAIT: usize = 400;

/// The reader dies, and what it had not read comes to the next.
fn another_reader_takes_over(world: &mut World) {
    world.queue.close();
    world.queue.rebind().unwrap();
    world.run_expecting(0, &[]);
    assert_eq!(status(world)["unconfirmed"], 0, "{}", world.log());
    world.assert_clean();
}

#[test]
fn what_a_reader_never_read_comes_again_when_it_has_died() {
    let mut world = with_a_sleeping_reader(MORE_THAN_WAIT);
    world.run_expecting(75, &[]);
    // It lives and reads nothing: nothing is known, however often somebody looks.
    world.run_expecting(75, &[]);
    assert_ne!(status(&world)["unconfirmed"], 0, "{}", world.log());
    another_reader_takes_over(&mut world);
}

/// As many as the kernel keeps for it, so that there is room all the time.
#[test]
fn what_a_reader_never_read_of_an_earlier_run_comes_again_when_it_has_died() {
    let mut world = with_a_sleeping_reader(5);
    for _ in 0..3 {
        world.run_expecting(0, &[]);
        assert_eq!(status(&world)["unconfirmed"], 5, "{}", world.log());
    }
    another_reader_takes_over(&mut world);
}

#[test]
fn what_is_read_between_two_runs_does_not_come_again() {
    let mut world = with_a_sleeping_reader(5);
    world.run_expecting(0, &[]);
    world.queue.resume();
    assert!(world.queue.wait_for(5, Duration::from_secs(10)));
    world.run_expecting(0, &[]);
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    another_reader_takes_over(&mut world);
}

#[test]
fn what_a_reader_that_dies_within_a_run_never_read_comes_again() {
    let mut world = with_a_sleeping_reader(5);
    let mut run = world.start(&["run"]);
    while status(&world)["unconfirmed"] != 5 {
        assert!(run.try_wait().unwrap().is_none(), "{}", world.log());
    }
    world.queue.close();
    world.queue.rebind().unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", world.log());
    // Where the run did not see the new reader any more.
    world.run_expecting(0, &[]);
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    world.assert_clean();
}

/// The kernel keeps the order, so what is sent later and was read shows that all before was.
#[test]
fn what_is_read_after_its_run_does_not_come_again() {
    let mut world = with_a_sleeping_reader(MORE_THAN_WAIT);
    world.run_expecting(75, &[]);
    // However many there are, they keep nobody from sending what shows that they were read.
    rusqlite::Connection::open(world.ledger())
        .unwrap()
        .execute("UPDATE batch SET events = 60000 WHERE confirmed = 0", [])
        .unwrap();
    world.queue.resume();
    world.run_expecting(0, &[]);
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    another_reader_takes_over(&mut world);
}

/// It is known before the process is gone, so a later death of the reader costs nothing.
#[test]
fn what_is_read_is_accepted_within_the_run() {
    let mut world = World::with_tenants(1, Options::default());
    issue(&mut world, 2, 100);
    world.run_expecting(0, &[]);
    assert_eq!(status(&world)["unconfirmed"], 0, "{}", world.log());
    assert_eq!(status(&world)["assurance"], "accepted");
    another_reader_takes_over(&mut world);
}

/// What an agent cannot forward it drops, once its buffer is full.
#[test]
fn an_agent_that_is_offline_is_waited_for_though_nobody_confirms() {
    let mut world = World::with_tenants(1, Options::default());
    world.set("wazuh", "acknowledge", "\"off\"");
    world.set("wazuh", "send_timeout", "\"1s\"");
    issue(&mut world, 1, 5);
    let offline = world.home().join("queue/sockets/.wait");
    std::fs::write(&offline, "").unwrap();
    world.run_expecting(75, &[]);
    assert_eq!(world.queue.count(), 0, "{}", world.log());
    std::fs::remove_file(offline).unwrap();
    world.run_expecting(0, &[]);
    world.assert_clean();
}
