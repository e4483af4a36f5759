//! How a manager behaves.

use std::time::Duration;

/// How a manager behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// events a second that it can process for long; `None`: as many as come
    pub rate: Option<f64>,
    /// size of the input queue, which drops
    pub others: usize,
    /// size of the queue between decoders and rules
    pub processed: usize,
    /// size of the queue before the writer
    pub alerts: usize,
    /// threads a stage; each holds one event in its hand and is overtaken by at most as many
    pub workers: usize,
    /// `<limits><eps>`
    pub eps: Option<EpsLimit>,
    /// bytes of alerts that are written before the second is over. The real file has 4,096 of
    /// them; the default, without limit, loses all of the last second at a kill, not its tail only
    pub file_buffer: usize,
    /// what other senders do
    pub background: Background,
    /// whether there is a statistics socket (from 4.4 on)
    pub statistics: bool,
    /// how long it takes to answer there: a host without power
    pub answers_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate: Some(15_000.0),
            others: 16_384,
            processed: 16_384,
            alerts: 16_384,
            workers: 2,
            eps: None,
            file_buffer: usize::MAX,
            background: Background::default(),
            statistics: true,
            answers_after: Duration::ZERO,
        }
    }
}

/// `<limits><eps>`: so many events in any `timeframe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpsLimit {
    /// events a second
    pub maximum: u32,
    /// seconds over which they are counted
    pub timeframe: u32,
}

/// Events a second of other senders. They count everywhere but leave no line in the alerts file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Background {
    /// with location `office365`, say from agents
    pub office365: f64,
    /// other log events, through the same queues
    pub other: f64,
    /// file integrity events: an input queue of their own, then `processed` and `alerts`
    pub fim: f64,
    /// inventory events: a queue of their own, and no further
    pub inventory: f64,
}
