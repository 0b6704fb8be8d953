//! What was measured when: each thread records for itself, and hands over what it has whenever a slot
//! of time is over. A slot has the histogram of all threads, so its percentiles are those of all.
//!
//! A track has a limited number of slots: before there are more, each two of them become one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

use crate::latency::MAX_NS;

/// The finest slot. Threads hand over what they have this often.
const SLOT_NS: u64 = 125_000_000;
/// At most this many slots: 75 s of the finest, 10 minutes of a second each.
const MAX_SLOTS: u64 = 600;
/// Two digits: a slot is for looking at, and threads have a short time to hand it over.
const DIGITS: u8 = 2;
/// The time that a live figure is about.
const LIVE_NS: u64 = 1_000_000_000;

type Slot = Histogram<u32>;

/// Names of tracks that are known to more than who records them.
pub const SCHEDULE_LAG: &str = "schedule lag";
pub const SERVICE: &str = "service";

/// The tracks of a run.
#[derive(Debug, Default)]
pub struct Timeline {
    tracks: Mutex<Vec<Arc<Track>>>,
    closed: AtomicBool,
}

/// What one thing measured over time, by all threads.
#[derive(Debug)]
pub struct Track {
    pub of: &'static str,
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    width_ns: u64,
    /// By the number of the slot. What is not there had nothing to record.
    slots: BTreeMap<u64, Slot>,
    first_ns: u64,
    last_ns: u64,
}

/// A span of time, and what was recorded in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub from_ns: u64,
    pub to_ns: u64,
    pub count: u64,
    /// None: nothing was recorded.
    pub times: Option<PointTimes>,
}

/// The times of a point, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointTimes {
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

impl Timeline {
    /// The track of this name; a new one, if there is none.
    pub fn track(&self, of: &'static str) -> Arc<Track> {
        let mut tracks = self.lock();
        if let Some(track) = tracks.iter().find(|track| track.of == of) {
            return Arc::clone(track);
        }
        let track = Arc::new(Track::new(of));
        if !self.closed.load(Ordering::Relaxed) {
            tracks.push(Arc::clone(&track));
        }
        track
    }

    /// What comes now is not measured: tracks that are new are nobody's.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// All tracks, in the order in which they came.
    pub fn tracks(&self) -> Vec<Arc<Track>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Track>>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Track {
    fn new(of: &'static str) -> Self {
        Self {
            of,
            slots: Mutex::new(Slots {
                width_ns: SLOT_NS,
                slots: BTreeMap::new(),
                first_ns: u64::MAX,
                last_ns: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last second that all threads have handed over, at this time of the run.
    pub fn last_second(&self, now_ns: u64) -> Option<Point> {
        let slots = self.lock();
        // A thread hands a slot over with what it records next.
        let end = (now_ns / slots.width_ns).checked_sub(1)?;
        let from = end.saturating_sub((LIVE_NS / slots.width_ns).max(1));
        let mut second = slot();
        for (_, slot) in slots.slots.range(from..end) {
            add(&mut second, slot);
        }
        (from < end).then(|| point(from * slots.width_ns, end * slots.width_ns, &second))
    }

    /// All slots from the first record to the last one.
    pub fn points(&self) -> Vec<Point> {
        let slots = self.lock();
        let ends = (slots.slots.first_key_value(), slots.slots.last_key_value());
        let (Some((first, _)), Some((last, _))) = ends else {
            return Vec::new();
        };
        let width_ns = slots.width_ns;
        let mut spans: Vec<(u64, u64, Slot)> = Vec::new();
        for index in *first..=*last {
            let from_ns = (index * width_ns).max(slots.first_ns);
            let to_ns = ((index + 1) * width_ns).min(slots.last_ns);
            let mut all = slot();
            if let Some(slot) = slots.slots.get(&index) {
                add(&mut all, slot);
            }
            spans.push((from_ns, to_ns, all));
        }
        join_short_ends(&mut spans, width_ns);
        let points = spans.iter();
        points
            .map(|(from_ns, to_ns, slot)| point(*from_ns, *to_ns, slot))
            .collect()
    }
}

/// The first and the last slot are not whole. What is short of a half has no rate worth the name, and
/// goes to its neighbour.
fn join_short_ends(spans: &mut Vec<(u64, u64, Slot)>, width_ns: u64) {
    let short = |(from_ns, to_ns, _): &(u64, u64, Slot)| (to_ns - from_ns) * 2 < width_ns;
    if spans.len() > 1 && spans.last().is_some_and(short) {
        let (_, to_ns, slot) = spans.remove(spans.len() - 1);
        if let Some(before) = spans.last_mut() {
            before.1 = to_ns;
            add(&mut before.2, &slot);
        }
    }
    if spans.len() > 1 && spans.first().is_some_and(short) {
        let (from_ns, _, slot) = spans.remove(0);
        spans[0].0 = from_ns;
        add(&mut spans[0].2, &slot);
    }
}

impl Slots {
    fn add(&mut self, from_ns: u64, to_ns: u64, recorded: &Slot) {
        self.first_ns = self.first_ns.min(from_ns);
        self.last_ns = self.last_ns.max(to_ns);
        while to_ns / self.width_ns >= MAX_SLOTS {
            self.halve();
        }
        let index = from_ns / self.width_ns;
        add(self.slots.entry(index).or_insert_with(slot), recorded);
    }

    fn halve(&mut self) {
        self.width_ns *= 2;
        for (index, recorded) in std::mem::take(&mut self.slots) {
            add(self.slots.entry(index / 2).or_insert_with(slot), &recorded);
        }
    }
}

/// What one thread records for a track.
#[derive(Debug)]
pub struct Recorder {
    track: Arc<Track>,
    /// Of the slot that is being filled.
    first_ns: u64,
    last_ns: u64,
    slot: Slot,
}

impl Recorder {
    /// Nothing recorded yet.
    pub fn new(track: Arc<Track>) -> Self {
        Self {
            track,
            first_ns: 0,
            last_ns: 0,
            slot: slot(),
        }
    }

    /// The time of the run at which the next ones are recorded.
    #[inline]
    pub fn at(&mut self, now_ns: u64) {
        if now_ns / SLOT_NS != self.last_ns / SLOT_NS {
            self.hand_over();
        }
        if self.slot.is_empty() {
            self.first_ns = now_ns;
        }
        self.last_ns = now_ns;
    }

    /// Records the same time for many messages.
    #[inline]
    pub fn record(&mut self, ns: u64, messages: u64) {
        self.slot.saturating_record_n(ns, saturated(messages));
    }

    fn hand_over(&mut self) {
        if !self.slot.is_empty() {
            let mut slots = self.track.lock();
            slots.add(self.first_ns, self.last_ns, &self.slot);
            drop(slots);
            self.slot.reset();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.hand_over();
    }
}

fn saturated(messages: u64) -> u32 {
    messages.try_into().unwrap_or(u32::MAX)
}

fn slot() -> Slot {
    let bounds = Histogram::new_with_bounds(1, MAX_NS, DIGITS);
    bounds.expect("constant bounds that a histogram can have")
}

fn add(to: &mut Slot, slot: &Slot) {
    to.add(slot).expect("histograms of the same bounds");
}

fn point(from_ns: u64, to_ns: u64, slot: &Slot) -> Point {
    let percentile = |percent| slot.value_at_percentile(percent);
    Point {
        from_ns,
        to_ns,
        count: slot.len(),
        times: (!slot.is_empty()).then(|| PointTimes {
            p50_ns: percentile(50.0),
            p99_ns: percentile(99.0),
            max_ns: slot.max(),
        }),
    }
}

impl Point {
    /// What was recorded a second.
    pub fn per_second(&self) -> f64 {
        match self.to_ns.saturating_sub(self.from_ns) {
            0 => 0.0,
            ns => self.count as f64 * 1e9 / ns as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn recorded(of: impl IntoIterator<Item = (u64, u64)>) -> Arc<Track> {
        let track = Timeline::default().track("test");
        let mut recorder = Recorder::new(Arc::clone(&track));
        for (now_ns, ns) in of {
            recorder.at(now_ns);
            recorder.record(ns, 1);
        }
        drop(recorder);
        track
    }

    #[test]
    fn a_slot_has_the_percentiles_of_all_threads_together() {
        let track = Timeline::default().track("test");
        let mut threads: [Recorder; 2] = [0, 1].map(|_| Recorder::new(Arc::clone(&track)));
        // 98 fast ones of one thread, 2 slow ones of the other: none has the p99 of both.
        for (thread, ns, messages) in [(0, 1_000, 98), (1, 9_000_000, 2)] {
            threads[thread].at(MS);
            threads[thread].record(ns, messages);
        }
        drop(threads);
        let points = track.points();
        let times = points[0].times.unwrap();
        assert_eq!((points.len(), points[0].count), (1, 100));
        assert!(
            times.p50_ns < 1_100 && times.p99_ns > 8_900_000,
            "{times:?}"
        );
    }

    #[test]
    fn a_stall_is_a_slot_without_messages() {
        let track = recorded([(0, 5), (124 * MS, 5), (260 * MS, 5), (370 * MS, 5)]);
        let points = track.points();
        let counts: Vec<u64> = points.iter().map(|point| point.count).collect();
        assert_eq!(counts, [2, 0, 2]);
        assert_eq!(points[1].times, None);
        assert_eq!((points[1].from_ns, points[1].to_ns), (125 * MS, 250 * MS));
    }

    #[test]
    fn ends_that_are_short_belong_to_their_neighbours() {
        let track = recorded([(124 * MS, 5), (130 * MS, 5), (249 * MS, 5), (251 * MS, 5)]);
        let points = track.points();
        assert_eq!(points.len(), 1);
        assert_eq!((points[0].from_ns, points[0].to_ns), (124 * MS, 251 * MS));
        assert_eq!(points[0].count, 4);
    }

    #[test]
    fn a_long_run_has_wider_slots_and_loses_nothing() {
        let track = recorded((0..3_000).map(|n| (n * SLOT_NS, 7)));
        let points = track.points();
        assert!(points.len() as u64 <= MAX_SLOTS, "{}", points.len());
        assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 3_000);
        assert!(points.windows(2).all(|two| two[0].to_ns == two[1].from_ns));
    }

    #[test]
    fn the_last_second_is_one_that_is_over() {
        let track = recorded((0..40).map(|n| (n * SLOT_NS / 2, 1_000 * n)));
        let second = track.last_second(20 * SLOT_NS).unwrap();
        assert_eq!((second.from_ns, second.to_ns), (11 * SLOT_NS, 19 * SLOT_NS));
        assert_eq!(second.count, 16);
        assert!((second.per_second() - 16.0).abs() < 1e-9);
        assert_eq!(track.last_second(MS), None, "nothing is over yet");
    }
}
