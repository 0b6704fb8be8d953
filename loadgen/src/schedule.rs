//! When each message is to be sent: fixed before the first one is.
//!
//! Messages go to the streams (a producer's share of a partition) in turns: message `i` of the run is
//! number `i / streams` of stream `i % streams`. So each stream knows its part by arithmetic, and no
//! thread waits for another one.

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Far above any run, and small enough that the arithmetic below does not overflow.
pub const MAX_MESSAGES: u64 = 10_000_000_000;

/// The times of a run's messages, in nanoseconds from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Messages a second; none: as fast as they are taken.
    rate: Option<u64>,
    streams: u64,
}

impl Schedule {
    /// `rate` is in messages a second, of all streams together.
    ///
    /// # Panics
    /// Without streams, or with a rate of 0.
    pub fn new(rate: Option<u64>, streams: usize) -> Self {
        assert!(streams > 0 && rate != Some(0));
        Self {
            rate,
            streams: streams as u64,
        }
    }

    /// When message `number` of `stream` is to be sent. None: there is no schedule, and it is sent as
    /// soon as it can be.
    #[inline]
    pub fn intended_ns(&self, stream: usize, number: u64) -> Option<u64> {
        let rate = self.rate?;
        let index = number * self.streams + stream as u64;
        Some(index * SECOND_NS / rate)
    }

    /// How many of the run's first `messages` are this stream's.
    pub fn share(&self, stream: usize, messages: u64) -> u64 {
        let rest = messages % self.streams;
        messages / self.streams + u64::from((stream as u64) < rest)
    }

    /// Messages that are due in this time.
    pub fn messages_in(&self, ns: u64) -> Option<u64> {
        let messages = u128::from(self.rate?) * u128::from(ns) / u128::from(SECOND_NS);
        Some(messages.try_into().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_together_send_each_message_once_and_at_its_time() {
        let (rate, streams, messages) = (3_000, 7, 1_000);
        let schedule = Schedule::new(Some(rate), streams);
        let mut times: Vec<u64> = (0..streams)
            .flat_map(|stream| {
                (0..schedule.share(stream, messages))
                    .map(move |number| schedule.intended_ns(stream, number).unwrap())
            })
            .collect();
        times.sort_unstable();
        let expected: Vec<u64> = (0..messages).map(|i| i * SECOND_NS / rate).collect();
        assert_eq!(times, expected);
    }

    #[test]
    fn the_times_of_a_stream_ascend_and_do_not_drift() {
        let schedule = Schedule::new(Some(999_999), 3);
        let times: Vec<u64> = (0..5_000)
            .map(|number| schedule.intended_ns(1, number).unwrap())
            .collect();
        assert!(times.is_sorted());
        let last = schedule.intended_ns(0, MAX_MESSAGES / 3 - 1).unwrap();
        let exact = u128::from(MAX_MESSAGES / 3 - 1) * 3 * u128::from(SECOND_NS) / 999_999;
        assert_eq!(u128::from(last), exact);
    }

    #[test]
    fn without_a_rate_there_are_no_times() {
        let schedule = Schedule::new(None, 2);
        assert_eq!(schedule.intended_ns(0, 5), None);
        assert_eq!(schedule.messages_in(SECOND_NS), None);
        assert_eq!([schedule.share(0, 5), schedule.share(1, 5)], [3, 2]);
    }

    #[test]
    fn a_time_of_warm_up_is_a_number_of_messages() {
        assert_eq!(
            Schedule::new(Some(10), 1).messages_in(2 * SECOND_NS),
            Some(20)
        );
    }
}
