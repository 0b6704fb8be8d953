//! What consumers measured, each for itself and then together.

use super::tally::{Tally, Verdict, judge};
use crate::latency::Latency;
use crate::usage::Usage;
use crate::window::Window;

/// The figures of one consumer.
#[derive(Debug)]
pub struct Figures {
    pub tally: Tally,
    /// From a fetch until its answer.
    pub fetch: Latency,
    pub fetches: u64,
    pub retries: u64,
    /// What was read before it was known where to end: while producers were at work.
    pub meanwhile: Meanwhile,
    pub usage: Usage,
}

/// Messages, and the bytes of their values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meanwhile {
    pub messages: u64,
    pub bytes: u64,
}

/// The figures of all consumers of a run.
#[derive(Debug, Default)]
pub struct Consumed {
    /// From the time a message was to be sent until it was here.
    pub latency: Latency,
    /// Bytes of the values of messages that are measured.
    pub measured_bytes: u64,
    /// From a fetch until its answer.
    pub fetch: Latency,
    pub messages: u64,
    pub bytes: u64,
    /// Messages that were not looked at.
    pub others: u64,
    /// From when the first measured message was to be sent until the last one was here.
    pub window: Window,
    /// When the last message was here.
    pub last_ns: u64,
    /// What was read while producers were at work.
    pub meanwhile: Meanwhile,
    pub fetches: u64,
    pub retries: u64,
    /// The most that any thread had of each.
    pub usage: Usage,
    pub verdict: Verdict,
}

impl Consumed {
    /// `sent`: the messages of each stream of this run, as far as they are known.
    pub fn new(all: Vec<Figures>, sent: &[(u32, u64)]) -> Self {
        let mut merged = Self::default();
        let mut tallies: Vec<Tally> = Vec::new();
        for figures in all {
            let tally = figures.tally;
            merged.latency.merge(&tally.latency);
            merged.measured_bytes += tally.measured_bytes;
            merged.meanwhile.messages += figures.meanwhile.messages;
            merged.meanwhile.bytes += figures.meanwhile.bytes;
            merged.fetch.merge(&figures.fetch);
            merged.messages += tally.messages;
            merged.bytes += tally.bytes;
            merged.others += tally.others;
            merged.window.merge(tally.window);
            merged.last_ns = merged.last_ns.max(tally.last_ns);
            merged.fetches += figures.fetches;
            merged.retries += figures.retries;
            merged.usage = merged.usage.most(figures.usage);
            tallies.push(tally);
        }
        merged.verdict = judge(tallies, sent);
        merged
    }
}
