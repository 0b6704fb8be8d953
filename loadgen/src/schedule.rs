//! When each message is to be sent: fixed before the first one is.
//!
//! Messages are dealt out in turns: of each round of `of` messages a producer has those of some places
//! that follow each other. So each producer knows its part by arithmetic, and no thread waits for
//! another one.

use std::ops::Range;

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Far above any run, and small enough that the arithmetic below does not overflow.
pub const MAX_MESSAGES: u64 = 10_000_000_000;

/// A producer's messages, counted from 0, and their times in nanoseconds from the run's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Messages a second of all producers; none: as fast as they are taken.
    rate: Option<u64>,
    /// Places of the round that are this producer's.
    first: u64,
    width: u64,
    /// Messages of a round.
    of: u64,
}

impl Schedule {
    /// `rate` is in messages a second, of all producers together; `places` of `of` are this one's.
    ///
    /// # Panics
    /// Without places, or with a rate of 0.
    pub fn new(rate: Option<u64>, places: Range<usize>, of: usize) -> Self {
        assert!(!places.is_empty() && places.end <= of && rate != Some(0));
        Self {
            rate,
            first: places.start as u64,
            width: places.len() as u64,
            of: of as u64,
        }
    }

    /// Which place among its own a message has.
    #[inline]
    pub fn place(&self, number: u64) -> usize {
        (number % self.width) as usize
    }

    /// Which message of the run this one is.
    #[inline]
    pub fn index(&self, number: u64) -> u64 {
        number / self.width * self.of + self.first + number % self.width
    }

    /// When a message is to be sent. None: there is no schedule, and it is sent as soon as it can be.
    #[inline]
    pub fn intended_ns(&self, number: u64) -> Option<u64> {
        self.rate.map(|rate| self.index(number) * SECOND_NS / rate)
    }

    /// How many of the run's first `messages` are this producer's.
    pub fn share(&self, messages: u64) -> u64 {
        let rest = (messages % self.of).saturating_sub(self.first);
        messages / self.of * self.width + rest.min(self.width)
    }

    /// Messages of all producers that are due in this time.
    pub fn messages_in(&self, ns: u64) -> Option<u64> {
        let messages = u128::from(self.rate?) * u128::from(ns) / u128::from(SECOND_NS);
        Some(messages.try_into().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a round of 7, three producers have 2, 4 and 1.
    fn producers(rate: Option<u64>) -> [Schedule; 3] {
        [0..2, 2..6, 6..7].map(|places| Schedule::new(rate, places, 7))
    }

    #[test]
    fn the_producers_together_send_each_message_once_and_at_its_time() {
        let rate = 3_000;
        for messages in 990..1_000 {
            let times = |schedule: Schedule| {
                let times = (0..schedule.share(messages)).map(move |n| schedule.intended_ns(n));
                times.collect::<Vec<_>>()
            };
            let mut all: Vec<_> = producers(Some(rate)).into_iter().flat_map(times).collect();
            all.sort_unstable();
            let expected: Vec<_> = (0..messages).map(|i| Some(i * SECOND_NS / rate)).collect();
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn the_times_of_a_producer_ascend_and_do_not_drift() {
        let [_, schedule, _] = producers(Some(999_999));
        let times: Vec<_> = (0..5_000).map(|n| schedule.intended_ns(n)).collect();
        assert!(times.is_sorted());
        let last = schedule.intended_ns(MAX_MESSAGES / 7 * 4).unwrap();
        let index = MAX_MESSAGES / 7 * 7 + 2;
        let exact = u128::from(index) * u128::from(SECOND_NS) / 999_999;
        assert_eq!(u128::from(last), exact);
    }

    #[test]
    fn its_messages_go_to_its_places_in_turns() {
        let [_, schedule, _] = producers(None);
        let places: Vec<_> = (0..6).map(|n| schedule.place(n)).collect();
        assert_eq!(places, [0, 1, 2, 3, 0, 1]);
        let indices: Vec<_> = (0..6).map(|n| schedule.index(n)).collect();
        assert_eq!(indices, [2, 3, 4, 5, 9, 10]);
    }

    #[test]
    fn without_a_rate_there_are_no_times() {
        let [schedule, _, last] = producers(None);
        assert_eq!(schedule.intended_ns(5), None);
        assert_eq!(schedule.messages_in(SECOND_NS), None);
        assert_eq!([schedule.share(8), last.share(8)], [3, 1]);
    }

    #[test]
    fn a_time_of_warm_up_is_a_number_of_messages() {
        let schedule = Schedule::new(Some(10), 0..1, 1);
        assert_eq!(schedule.messages_in(2 * SECOND_NS), Some(20));
    }
}
