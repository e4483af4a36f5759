//! stub
use super::Home;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
pub struct Acknowledgement;
#[derive(Clone, PartialEq, Debug)]
pub struct ReaderId(String);
impl std::fmt::Display for ReaderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
#[derive(Default, Serialize, Deserialize)]
pub struct Mark;
pub enum Verdict {
    Pending,
    Confirmed(Assurance),
    Lost,
}
pub enum Assurance {
    Accepted,
}
impl Assurance {
    pub fn as_str(&self) -> &'static str {
        "accepted"
    }
}
pub struct Allowance {
    pub events: usize,
    pub look_again: Duration,
}
impl Acknowledgement {
    pub fn new(_: &Home, _: &crate::config::Wazuh) -> Self {
        Self
    }
    pub fn reader(&mut self) -> Option<ReaderId> {
        None
    }
    pub fn allowance(&mut self, _: Instant) -> Allowance {
        Allowance {
            events: 1000,
            look_again: Duration::ZERO,
        }
    }
    pub fn sent(&mut self, _: usize) {}
    pub fn mark(&mut self, _: Option<&ReaderId>) -> Mark {
        Mark
    }
    pub fn assess(&mut self, _: &mut Mark, u: Option<u32>) -> Verdict {
        if u == Some(0) {
            Verdict::Confirmed(Assurance::Accepted)
        } else {
            Verdict::Pending
        }
    }
}
pub struct Window;
impl Window {
    pub fn from_saved(_: Option<&str>) -> Self {
        Self
    }
    pub fn limit(&self) -> usize {
        50000
    }
    pub fn confirmed(&mut self, _: usize) {}
    pub fn lost(&mut self) {}
    pub fn save(&self) -> String {
        String::new()
    }
}
