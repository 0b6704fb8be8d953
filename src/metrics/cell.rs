//! Numbers that one thread writes and others read. No lock and no locked instruction: a reader may see
//! one number a moment older than another.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A count or a state. Only one thread may change it.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    pub fn sub(&self, n: u64) {
        self.set(self.get().wrapping_sub(n));
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A count to which several threads add.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a histogram's buckets: `FIRST * 2^STEP^n`, for `BOUNDS` of them. Behind the last
/// one lies a bucket without a bound.
pub trait Scale {
    const FIRST: u64;
    /// log2 of the ratio of two bounds.
    const STEP: u32;
    const BOUNDS: usize;
    /// How many of what is counted make one of what is shown.
    const PER_UNIT: u64;

    fn bound(n: usize) -> u64 {
        Self::FIRST << (n as u32 * Self::STEP)
    }

    /// The number of the bucket of `value`.
    fn bucket(value: u64) -> usize {
        match value.saturating_sub(1) / Self::FIRST {
            0 => 0,
            times => ((times.ilog2() / Self::STEP) as usize + 1).min(Self::BOUNDS),
        }
    }
}

/// Times from 50 us to 52 s; counted in microseconds, shown in seconds.
#[derive(Debug, Clone, Copy)]
pub enum Latency {}

impl Scale for Latency {
    const FIRST: u64 = 50;
    const STEP: u32 = 1;
    const BOUNDS: usize = 21;
    const PER_UNIT: u64 = 1_000_000;
}

/// How many at once: 1 to 65,536.
#[derive(Debug, Clone, Copy)]
pub enum Amount {}

impl Scale for Amount {
    const FIRST: u64 = 1;
    const STEP: u32 = 2;
    const BOUNDS: usize = 9;
    const PER_UNIT: u64 = 1;
}

/// Sizes from 1 KiB to 256 MiB.
#[derive(Debug, Clone, Copy)]
pub enum Size {}

impl Scale for Size {
    const FIRST: u64 = 1 << 10;
    const STEP: u32 = 2;
    const BOUNDS: usize = 10;
    const PER_UNIT: u64 = 1;
}

/// Of the scale with the most bounds, and one without a bound.
const BUCKETS_MAX: usize = Latency::BOUNDS + 1;

/// How values are spread over the buckets of a scale. Only one thread may change it.
#[derive(Debug)]
pub struct Histogram<S> {
    buckets: [Number; BUCKETS_MAX],
    sum: Number,
    scale: PhantomData<S>,
}

impl<S> Default for Histogram<S> {
    fn default() -> Self {
        Histogram {
            buckets: Default::default(),
            sum: Number::default(),
            scale: PhantomData,
        }
    }
}

impl<S: Scale> Histogram<S> {
    pub fn note(&self, value: u64) {
        self.buckets[S::bucket(value)].add(1);
        self.sum.add(value);
    }
}

impl Histogram<Latency> {
    pub fn note_time(&self, took: Duration) {
        self.note(took.as_micros() as u64);
    }
}

/// Histograms of all shards, read and summed.
#[derive(Debug)]
pub struct Spread<S> {
    buckets: [u64; BUCKETS_MAX],
    sum: u64,
    scale: PhantomData<S>,
}

impl<S: Scale> Spread<S> {
    pub fn of<'a>(histograms: impl Iterator<Item = &'a Histogram<S>>) -> Self
    where
        S: 'a,
    {
        let mut spread = Spread {
            buckets: [0; BUCKETS_MAX],
            sum: 0,
            scale: PhantomData,
        };
        for histogram in histograms {
            for (sum, bucket) in spread.buckets.iter_mut().zip(&histogram.buckets) {
                *sum += bucket.get();
            }
            spread.sum += histogram.sum.get();
        }
        spread
    }

    /// Each bound as it is shown, with how many values do not exceed it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        (0..S::BOUNDS).map(move |n| {
            below += self.buckets[n];
            (S::bound(n) as f64 / S::PER_UNIT as f64, below)
        })
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn sum(&self) -> f64 {
        self.sum as f64 / S::PER_UNIT as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds_hold<S: Scale>() {
        for n in 0..S::BOUNDS {
            assert_eq!(S::bucket(S::bound(n)), n, "a bound is in its own bucket");
            assert_eq!(S::bucket(S::bound(n) + 1), n + 1);
        }
        assert_eq!(S::bucket(0), 0);
        assert_eq!(S::bucket(u64::MAX), S::BOUNDS);
        assert!(S::BOUNDS < BUCKETS_MAX);
    }

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        bounds_hold::<Latency>();
        bounds_hold::<Amount>();
        bounds_hold::<Size>();
        assert!(Latency::bound(Latency::BOUNDS - 1) > 30_000_000, "30 s");
    }

    #[test]
    fn what_shards_counted_is_summed() {
        let (one, other) = (Histogram::<Latency>::default(), Histogram::default());
        one.note_time(Duration::from_micros(50));
        other.note_time(Duration::from_micros(101));
        other.note_time(Duration::from_secs(3600));
        let spread = Spread::of([&one, &other].into_iter());
        assert_eq!((spread.count(), spread.sum()), (3, 3600.000151));
        let cumulative: Vec<_> = spread.cumulative().map(|(_, n)| n).collect();
        assert_eq!(cumulative[..4], [1, 1, 2, 2]);
        assert_eq!(cumulative.last(), Some(&2));
    }
}
