//! What producers measured, each for itself and then together.

use crate::latency::Latency;
use crate::usage::Usage;
use crate::window::Window;

/// The figures of one producer, or of all.
#[derive(Debug, Default)]
pub struct Figures {
    /// From the time a message was to be sent until its acknowledgement.
    pub ack: Latency,
    /// From when a message's request was sent until its acknowledgement: the broker's part of it.
    pub service: Latency,
    /// From the time a batch was to be sent, and could be, until it was: the client's own delay.
    pub lag: Latency,
    /// Messages that were measured and acknowledged, and the bytes of their values.
    pub measured: u64,
    pub measured_bytes: u64,
    /// From when the first of them was to be sent until the last of them was acknowledged.
    pub window: Window,
    pub requests: u64,
    pub batches: u64,
    pub retries: u64,
    /// Messages of each stream in all.
    pub sent: Vec<(u32, u64)>,
    /// The most that any thread had of each.
    pub usage: Usage,
}

impl Figures {
    /// The figures of all producers of a run.
    pub fn merged(all: Vec<Self>) -> Self {
        let mut merged = Self::default();
        for figures in all {
            merged.ack.merge(&figures.ack);
            merged.service.merge(&figures.service);
            merged.lag.merge(&figures.lag);
            merged.measured += figures.measured;
            merged.measured_bytes += figures.measured_bytes;
            merged.window.merge(figures.window);
            merged.requests += figures.requests;
            merged.batches += figures.batches;
            merged.retries += figures.retries;
            merged.sent.extend(figures.sent);
            merged.usage = merged.usage.most(figures.usage);
        }
        merged
    }

    /// Messages that were sent, of the warm-up as well.
    pub fn total_sent(&self) -> u64 {
        self.sent.iter().map(|(_, messages)| messages).sum()
    }
}
