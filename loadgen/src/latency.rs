//! Latencies as HDR histograms: recorded by each thread for itself, and merged before any percentile
//! is taken. Percentiles are never averaged.

use hdrhistogram::Histogram;

/// What is longer counts as this: one hour.
const MAX_NS: u64 = 3_600 * 1_000_000_000;
/// Three digits: an error of a thousandth at most.
const DIGITS: u8 = 3;

/// The percentiles of a report.
pub const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// A histogram of times, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

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
        Self(bounds.expect("constant bounds that a histogram can have"))
    }

    /// Records one time.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Records the same time for many messages.
    #[inline]
    pub fn record_many(&mut self, ns: u64, messages: u64) {
        self.0.saturating_record_n(ns, messages);
    }

    /// Adds what another thread recorded.
    #[allow(clippy::missing_panics_doc)] // All histograms have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("histograms of the same bounds");
    }

    /// Times that were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What `percent` of the times do not exceed, in nanoseconds; 0 when there are none.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// The longest, in nanoseconds; 0 when there are none.
    pub fn max_ns(&self) -> u64 {
        self.0.max()
    }

    /// The mean, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.0.mean()
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
        let mut merged = fast.clone();
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
