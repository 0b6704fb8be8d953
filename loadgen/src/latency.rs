//! Latencies as HDR histograms: recorded by each thread for itself, and merged before any percentile
//! is taken. Percentiles are never averaged.

mod encoded;

use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::timeline::{Recorder, Track};

pub use encoded::DecodeError;

/// What is longer counts as this: one hour.
pub const MAX_NS: u64 = 3_600 * 1_000_000_000;
/// Three digits: an error of a thousandth at most.
const DIGITS: u8 = 3;

/// The percentiles of a report.
pub const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// A histogram of times, in nanoseconds.
#[derive(Debug)]
pub struct Latency {
    all: Histogram<u64>,
    /// Where what was recorded lately goes as well.
    recorder: Option<Recorder>,
}

/// A point of the distribution's curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// From 0 to 1.
    pub quantile: f64,
    /// What this share of the times does not exceed.
    pub ns: u64,
    /// Times that do not exceed it.
    pub count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// An empty one.
    #[allow(clippy::missing_panics_doc)] // The bounds are constants that are right.
    pub fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1, MAX_NS, DIGITS);
        Self {
            all: bounds.expect("constant bounds that a histogram can have"),
            recorder: None,
        }
    }

    /// An empty one, of which a track has what was recorded when. The track has all of it when this
    /// one is dropped.
    pub fn tracked(track: Arc<Track>) -> Self {
        Self {
            recorder: Some(Recorder::new(track)),
            ..Self::new()
        }
    }

    /// Says when in the run that is what will be recorded next: its track has to know.
    #[inline]
    pub fn at(&mut self, now_ns: u64) {
        if let Some(recorder) = &mut self.recorder {
            recorder.at(now_ns);
        }
    }

    /// Records one time.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Records what lasted from then until now.
    #[inline]
    pub fn since(&mut self, then_ns: u64, now_ns: u64) {
        self.at(now_ns);
        self.record(now_ns.saturating_sub(then_ns));
    }

    /// Records the same time for many messages.
    #[inline]
    pub fn record_many(&mut self, ns: u64, messages: u64) {
        self.all.saturating_record_n(ns, messages);
        if let Some(recorder) = &mut self.recorder {
            recorder.record(ns, messages);
        }
    }

    /// Adds what another thread recorded.
    #[allow(clippy::missing_panics_doc)] // All histograms have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        let added = self.all.add(&other.all);
        added.expect("histograms of the same bounds");
    }

    /// Times that were recorded.
    pub fn count(&self) -> u64 {
        self.all.len()
    }

    /// What `percent` of the times do not exceed, in nanoseconds; 0 when there are none.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        self.all.value_at_percentile(percent)
    }

    /// The longest, in nanoseconds; 0 when there are none.
    pub fn max_ns(&self) -> u64 {
        self.all.max()
    }

    /// The mean, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.all.mean()
    }

    /// The standard deviation, in nanoseconds.
    pub fn deviation_ns(&self) -> f64 {
        self.all.stdev()
    }

    /// The distribution's curve, up to the longest: with `ticks` points each time that the distance to
    /// 1 halves.
    pub fn quantiles(&self, ticks: u32) -> impl Iterator<Item = Quantile> + '_ {
        let mut count = 0;
        self.all.iter_quantiles(ticks).map(move |step| {
            count += step.count_since_last_iteration();
            Quantile {
                quantile: step.quantile_iterated_to(),
                ns: step.value_iterated_to(),
                count,
            }
        })
    }

    /// Powers of two that the histogram tells apart, and steps in each: what its text format says of it.
    pub fn buckets(&self) -> (u32, u32) {
        let steps = 2 * 10_u32.pow(u32::from(DIGITS));
        (u32::from(self.all.buckets()), steps.next_power_of_two())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::new();
        times.into_iter().for_each(|ns| latency.record(ns));
        latency
    }

    fn near(actual: u64, expected: u64) -> bool {
        actual.abs_diff(expected) <= expected / 500
    }

    #[test]
    fn merged_histograms_are_the_histogram_of_all() {
        let (fast, slow) = (of(1..=9_900), of((1..=100).map(|n| n * 1_000_000)));
        let mut merged = Latency::new();
        merged.merge(&fast);
        merged.merge(&slow);
        let all = of((1..=9_900).chain((1..=100).map(|n| n * 1_000_000)));
        assert_eq!(merged.count(), 10_000);
        for percent in PERCENTILES {
            assert_eq!(
                merged.percentile_ns(percent),
                all.percentile_ns(percent),
                "{percent}"
            );
        }
        assert!(near(merged.percentile_ns(99.0), 9_900));
        // The 90th or the 91st of the slow ones: 99.9 is no binary number.
        assert!((90_000_000..91_200_000).contains(&merged.percentile_ns(99.9)));
        assert!(near(merged.max_ns(), 100_000_000));
    }

    #[test]
    fn what_is_out_of_bounds_counts_as_the_bound() {
        let latency = of([0, u64::MAX]);
        assert_eq!(latency.count(), 2);
        assert!(near(latency.max_ns(), MAX_NS));
    }

    #[test]
    fn a_time_for_many_messages_counts_for_each() {
        let mut latency = of([5]);
        latency.record_many(1_000, 999);
        assert_eq!(latency.count(), 1_000);
        assert!(near(latency.percentile_ns(50.0), 1_000));
    }
}
