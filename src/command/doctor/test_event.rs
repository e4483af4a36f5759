//! One marked event, from our socket until Wazuh has acknowledged it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::finding::Outcome;
use super::probes;
use crate::collect::event;
use crate::config::{Settings, Tenant};
use crate::wazuh::{Acknowledgement, Assurance, Home, Queue, QueueFault, Verdict};

/// How long a queue that is full may stay so, and how long Wazuh may take: an agent writes its state every 5 s.
const PATIENCE: Duration = Duration::from_secs(5);
const TO_ACKNOWLEDGE: Duration = Duration::from_secs(15);
/// How often it is asked.
const PERIOD: Duration = Duration::from_millis(50);

/// Sends it, and waits.
pub(super) fn send(
    queue: &Queue,
    home: &Home,
    settings: &Settings,
    tenants: &[Arc<Tenant>],
) -> Outcome {
    let Some(tenant) = tenants.first() else {
        return Outcome::Note(probes::NOBODY_TO_TEST.with(&[]));
    };
    let test = event::Health {
        tenant_id: &tenant.tenant_id,
        subscription: None,
        response: "a test event of o365-wodle doctor --send-test",
        health: "test",
        since: None,
        count: None,
        hint: Some("nothing to do"),
        tenant: &tenant.name,
        labels: &tenant.labels,
    };
    let mut datagram = Vec::new();
    event::health(&settings.wazuh.location, &test, &mut datagram);
    let mut acknowledgement = Acknowledgement::new(home, &settings.wazuh);
    // Looks at Wazuh before the event is there; what is marked begins here.
    let _allowance = acknowledgement.allowance(Instant::now());
    let _before = acknowledgement.mark();
    match taken(queue, &datagram) {
        Ok(true) => {}
        Ok(false) => {
            let seconds = PATIENCE.as_secs();
            return Outcome::Failed(probes::NOT_READ.with(&[("seconds", &seconds)]));
        }
        Err(fault) => return Outcome::failed_sentence(&fault.to_string()),
    }
    acknowledgement.sent(1);
    judge(acknowledged(queue, &mut acknowledgement))
}

/// Whether the event was taken in time.
fn taken(queue: &Queue, datagram: &[u8]) -> Result<bool, QueueFault> {
    let since = Instant::now();
    while queue.send(&[datagram])? == 0 {
        if since.elapsed() > PATIENCE {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What Wazuh says of what was sent, when it says something, or when time is up.
fn acknowledged(queue: &Queue, acknowledgement: &mut Acknowledgement) -> (Verdict, Option<u32>) {
    let mut mark = acknowledgement.mark();
    let since = Instant::now();
    loop {
        let unread = queue.unread().ok();
        let verdict = acknowledgement.assess(&mut mark, unread);
        if verdict != Verdict::Pending || since.elapsed() > TO_ACKNOWLEDGE {
            return (verdict, unread);
        }
        // Nobody tells when it is so far.
        std::thread::sleep(PERIOD);
    }
}

fn judge((verdict, unread): (Verdict, Option<u32>)) -> Outcome {
    const LOOK: &str = "look for o365_wodle.health \"test\" (rule 91648) in Wazuh";
    let seconds = TO_ACKNOWLEDGE.as_secs();
    match verdict {
        Verdict::Confirmed(assurance) => {
            let how = match assurance {
                Assurance::Confirmed => "the manager has processed it",
                Assurance::Forwarded => "the agent has passed it on while connected",
                Assurance::Accepted => "it was read, and nobody here tells more",
            };
            Outcome::Ok(format!("{}: {how}; {LOOK}", assurance.as_str()))
        }
        Verdict::Lost => Outcome::Failed(probes::TEST_LOST.with(&[])),
        Verdict::Pending if unread.is_some_and(|unread| unread > 0) => {
            Outcome::Failed(probes::NOT_READ.with(&[("seconds", &seconds)]))
        }
        Verdict::Pending => {
            Outcome::Failed(probes::NOT_ACKNOWLEDGED.with(&[("seconds", &seconds)]))
        }
    }
}
