//! Where a producer's messages come from: which one is next, when, to which partition, with which key.

use crate::payload::keys::{Draw, partition_of, text};
use crate::schedule::Schedule;

/// A producer's part of the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmup {
    /// So many messages.
    Messages(u64),
    /// All messages that are drawn before this time.
    Until(u64),
}

/// A message, and the stream that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Index among the producer's streams.
    pub stream: usize,
    pub time_ns: Option<u64>,
    pub key: Option<u64>,
    pub measured: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Source {
    schedule: Schedule,
    warmup: Warmup,
    /// Messages that follow the warm-up.
    measured: u64,
    /// Messages so far.
    drawn: u64,
    /// With keys, there is a stream for each of so many partitions.
    keys: Option<(Draw, usize)>,
}

impl Source {
    /// Nothing drawn yet. `keys`: how they are drawn, and how many partitions there are.
    pub fn new(
        schedule: Schedule,
        warmup: Warmup,
        measured: u64,
        keys: Option<(Draw, usize)>,
    ) -> Self {
        Self {
            schedule,
            warmup,
            measured,
            drawn: 0,
            keys,
        }
    }

    /// Whether messages have times of their own.
    pub fn has_schedule(&self) -> bool {
        self.schedule.intended_ns(0).is_some()
    }

    /// Whether all messages were drawn.
    pub fn is_empty(&self) -> bool {
        match self.warmup {
            Warmup::Messages(messages) => self.drawn >= messages + self.measured,
            Warmup::Until(_) => false,
        }
    }

    /// When the next message is to be sent, if there is one that has a time.
    pub fn next_ns(&self) -> Option<u64> {
        let time_ns = self.schedule.intended_ns(self.drawn);
        time_ns.filter(|_| !self.is_empty())
    }

    /// The next message, if there is one.
    pub fn draw(&mut self, now_ns: u64) -> Option<Drawn> {
        if let Warmup::Until(end_ns) = self.warmup
            && now_ns >= end_ns
        {
            self.warmup = Warmup::Messages(self.drawn);
        }
        if self.is_empty() {
            return None;
        }
        let number = self.drawn;
        self.drawn += 1;
        let key = self.keys.as_mut().map(|(keys, partitions)| {
            let key = keys.next(self.schedule.index(number));
            (key, partition_of(&text(key), *partitions))
        });
        Some(Drawn {
            stream: key.map_or_else(|| self.schedule.place(number), |(_, partition)| partition),
            time_ns: self.schedule.intended_ns(number),
            key: key.map(|(key, _)| key),
            measured: matches!(self.warmup, Warmup::Messages(messages) if number >= messages),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::keys::Keys;

    fn drawn(source: &mut Source, times_ns: &[u64]) -> Vec<Option<bool>> {
        let draw = |now_ns: &u64| source.draw(*now_ns).map(|drawn| drawn.measured);
        times_ns.iter().map(draw).collect()
    }

    #[test]
    fn a_warm_up_comes_on_top_and_is_not_measured() {
        let schedule = Schedule::new(None, 0..2, 2);
        let mut by_count = Source::new(schedule.clone(), Warmup::Messages(1), 2, None);
        let (no, yes) = (Some(false), Some(true));
        assert_eq!(drawn(&mut by_count, &[0; 5]), [no, yes, yes, None, None]);
        assert!(by_count.is_empty());
        let mut by_time = Source::new(schedule, Warmup::Until(50), 2, None);
        assert!(!by_time.is_empty());
        let times = [0, 49, 50, 51, 52];
        assert_eq!(drawn(&mut by_time, &times), [no, no, yes, yes, None]);
    }

    #[test]
    fn messages_without_keys_go_to_the_streams_in_turns() {
        let schedule = Schedule::new(Some(1_000_000_000), 1..3, 4);
        let mut source = Source::new(schedule, Warmup::Messages(0), 4, None);
        let mut next = || source.draw(0).map(|drawn| (drawn.stream, drawn.time_ns));
        let drawn = [next(), next(), next(), next(), next()];
        let times = [(0, Some(1)), (1, Some(2)), (0, Some(5)), (1, Some(6))];
        assert_eq!(drawn[..4], times.map(Some));
        assert_eq!(drawn[4], None);
    }

    #[test]
    fn a_key_leads_to_its_partition() {
        let keys = Draw::new(Keys::Sequential(1_000), 0).map(|draw| (draw, 7));
        let schedule = Schedule::new(None, 1..2, 2);
        let mut source = Source::new(schedule, Warmup::Messages(0), 100, keys);
        let mut seen = [false; 7];
        for number in 0..100 {
            let drawn = source.draw(0).unwrap();
            assert_eq!(drawn.key, Some(2 * number + 1), "every second of the run");
            assert_eq!(drawn.stream, partition_of(&text(2 * number + 1), 7));
            seen[drawn.stream] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
