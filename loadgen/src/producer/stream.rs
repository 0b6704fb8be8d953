//! A stream: what one producer sends to one partition, in order, and what of it is not acknowledged.

use std::collections::VecDeque;

use tidegate::record::batch::{HEADER_LEN, increment_sequence};

use super::forge::{Forge, Forged, Order, record_len};
use crate::options::Options;
use crate::payload::sizes::Sizes;
use crate::run::Run;

/// A message that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// When. None: as soon as it can be.
    pub time_ns: Option<u64>,
    /// Bytes of its value.
    pub size: u32,
    pub key: Option<u64>,
    /// Not a message of the warm-up.
    pub measured: bool,
}

/// When a batch is full, and how long one waits that is not.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    pub sizes: Sizes,
    pub batch_bytes: usize,
    pub linger_ns: u64,
}

impl Batching {
    /// As asked for.
    pub fn new(options: &Options) -> Self {
        Self {
            sizes: options.size,
            batch_bytes: options.batch_bytes,
            linger_ns: options.linger.as_nanos() as u64,
        }
    }
}

/// A batch that is not acknowledged.
#[derive(Debug)]
pub struct Pending {
    pub first: u64,
    pub count: usize,
    /// Messages that are measured, and the bytes of their values.
    pub measured: u64,
    pub measured_bytes: u64,
    /// When these were to be sent; nothing if they had no time of their own.
    pub times: Vec<u64>,
    pub forged: Forged,
    /// When it was made.
    pub made_ns: u64,
    /// Whether it has been sent, and no answer has come. Else it is to be sent again.
    pub in_flight: bool,
}

/// The next batch: the front of the messages that wait.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    count: usize,
    bytes: usize,
    full: bool,
    /// When the message that filled it is there.
    full_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    /// Its number in the run.
    pub id: u32,
    pub partition: i32,
    /// The broker that leads the partition.
    pub leader: i32,
    /// In order: an answer may be missing for the front, and have come for what is behind.
    pub pending: VecDeque<Pending>,
    batching: Batching,
    /// Messages without a batch, also such whose time has not come.
    waiting: VecDeque<Message>,
    next: Next,
    /// Messages that are in batches.
    handed: u64,
    /// What an idempotent producer numbers the next message with.
    sequence: i32,
}

impl Stream {
    /// A stream that has sent nothing.
    pub fn new(id: u32, partition: i32, leader: i32, batching: Batching) -> Self {
        Self {
            id,
            partition,
            leader,
            pending: VecDeque::new(),
            batching,
            waiting: VecDeque::new(),
            next: Next::default(),
            handed: 0,
            sequence: 0,
        }
    }

    /// One more message is to be sent, behind all others.
    pub fn push(&mut self, time_ns: Option<u64>, key: Option<u64>, measured: bool) {
        let number = self.handed + self.waiting.len() as u64;
        let message = Message {
            time_ns,
            size: self.batching.sizes.of(self.id, number) as u32,
            key,
            measured,
        };
        self.next.grow(&message, &self.batching);
        self.waiting.push_back(message);
    }

    /// Messages that were put into batches.
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// Whether all that came is sent and acknowledged.
    pub fn finished(&self) -> bool {
        self.pending.is_empty() && self.waiting.is_empty()
    }

    /// Whether there are messages for a full batch, also such whose time has not come.
    pub fn has_full(&self) -> bool {
        self.next.full
    }

    /// When the next batch has to be sent: at once, if it is a retry; when it is full, or has waited
    /// long enough. None when there is no next one.
    pub fn due_ns(&self) -> Option<u64> {
        if self.has_retry() {
            return Some(0);
        }
        let Some(first_ns) = self.waiting.front()?.time_ns else {
            return Some(0);
        };
        let lingered_ns = first_ns + self.batching.linger_ns;
        match self.next.full {
            true => Some(lingered_ns.min(self.next.full_ns)),
            false => Some(lingered_ns),
        }
    }

    /// Whether a batch has to be sent again.
    pub fn has_retry(&self) -> bool {
        self.pending.iter().any(|batch| !batch.in_flight)
    }

    /// The batch that has to be sent again before anything else is.
    pub fn retry(&mut self) -> Option<&mut Pending> {
        self.pending.iter_mut().find(|batch| !batch.in_flight)
    }

    /// The connection is gone: all that is not acknowledged has to be sent again.
    pub fn requeue(&mut self) {
        for batch in &mut self.pending {
            batch.in_flight = false;
        }
    }

    /// Makes a batch of the messages that can be handed over by now.
    pub fn next_batch(
        &mut self,
        forge: &mut Forge,
        run: &Run,
        now_ns: u64,
    ) -> Option<&mut Pending> {
        let come = |message: &&Message| message.time_ns.is_none_or(|time_ns| time_ns <= now_ns);
        let front = self.waiting.iter().take(self.next.count);
        let count = front.take_while(come).count();
        if count == 0 {
            return None;
        }
        let order = Order {
            stream: self.id,
            first: self.handed,
            now_ns,
            timestamp_ms: run.wall_ms(now_ns),
            sequence: self.sequence,
        };
        let (mut measured, mut measured_bytes, mut times) = (0, 0, Vec::new());
        let messages = self.waiting.drain(..count).inspect(|message| {
            if message.measured {
                measured += 1;
                measured_bytes += u64::from(message.size);
                times.extend(message.time_ns);
            }
        });
        let forged = forge.forge(&order, messages);
        self.handed += count as u64;
        self.sequence = increment_sequence(self.sequence, count as i32);
        self.plan();
        self.pending.push_back(Pending {
            first: order.first,
            count,
            measured,
            measured_bytes,
            times,
            forged,
            made_ns: now_ns,
            in_flight: false,
        });
        self.pending.back_mut()
    }

    /// Finds the next batch among what is left.
    fn plan(&mut self) {
        self.next = Next::default();
        for message in &self.waiting {
            self.next.grow(message, &self.batching);
            if self.next.full {
                break;
            }
        }
    }

    /// Takes the batch that begins with this message off the pending ones.
    pub fn take(&mut self, first: u64) -> Option<Pending> {
        let at = self.pending.iter().position(|batch| batch.first == first)?;
        self.pending.remove(at)
    }
}

impl Next {
    /// The next message comes: into this batch, or this batch is full. One has a message at least,
    /// however large that is.
    fn grow(&mut self, message: &Message, batching: &Batching) {
        if self.full {
            return;
        }
        let bytes = self.bytes + record_len(self.count, message);
        let fits = HEADER_LEN + bytes <= batching.batch_bytes;
        if fits || self.count == 0 {
            self.bytes = bytes;
            self.count += 1;
        }
        let least = Message {
            size: batching.sizes.least() as u32,
            ..*message
        };
        let room_for_more =
            HEADER_LEN + self.bytes + record_len(self.count, &least) <= batching.batch_bytes;
        if !fits || !room_for_more {
            self.full = true;
            self.full_ns = message.time_ns.unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::forge;

    /// Batches of 8 messages of 100 bytes: 61 bytes of the header, and 107 for each.
    fn options(size: Sizes) -> Options {
        Options {
            size,
            batch_bytes: 1_000,
            linger: std::time::Duration::from_millis(5),
            ..Options::default()
        }
    }

    fn stream(size: Sizes, times_ns: impl IntoIterator<Item = Option<u64>>) -> (Stream, Forge) {
        let options = options(size);
        let mut stream = Stream::new(0, 0, 1, Batching::new(&options));
        for time_ns in times_ns {
            stream.push(time_ns, None, true);
        }
        (
            stream,
            Forge::new(1, &options, &forge::filler(&options), None),
        )
    }

    fn at_rate(rate: u64) -> impl Iterator<Item = Option<u64>> {
        (0..20).map(move |number| Some(number * 1_000_000_000 / rate))
    }

    const FIXED: Sizes = Sizes::Fixed(100);

    #[test]
    fn a_batch_is_due_when_it_is_full_or_has_lingered() {
        let (fast, _) = stream(FIXED, at_rate(10_000));
        assert_eq!(fast.due_ns(), Some(700_000), "its last message's time");
        let (slow, _) = stream(FIXED, at_rate(1_000));
        assert_eq!(
            slow.due_ns(),
            Some(5_000_000),
            "the first's, and the linger"
        );
        let (few, _) = stream(FIXED, at_rate(10_000).take(7));
        assert_eq!(few.due_ns(), Some(5_000_000), "not full");
        assert!(!few.has_full());
        let (free, _) = stream(FIXED, [None; 20]);
        assert_eq!(free.due_ns(), Some(0));
    }

    #[test]
    fn messages_are_not_sent_before_their_time() {
        let (mut stream, mut forge) = stream(FIXED, at_rate(1_000));
        let run = Run::new(1);
        let sent = [0, 0, 3_500_000, 100_000_000, 100_000_000, 100_000_000].map(|now_ns| {
            let Some(batch) = stream.next_batch(&mut forge, &run, now_ns) else {
                return (0, None);
            };
            let (first, count, last) = (batch.first, batch.count, batch.times.last().copied());
            stream.take(first);
            (count, last)
        });
        let ms = |ms: u64| Some(ms * 1_000_000);
        assert_eq!(
            sent,
            [
                (1, ms(0)),
                (0, None),
                (3, ms(3)),
                (8, ms(11)),
                (8, ms(19)),
                (0, None)
            ]
        );
        assert!(stream.finished());
        assert_eq!(stream.due_ns(), None);
    }

    #[test]
    fn batches_of_all_sizes_are_filled_and_not_above_their_limit() {
        for sizes in [Sizes::Range(32, 400), Sizes::Mix] {
            let (mut stream, mut forge) = stream(sizes, [None; 500]);
            let run = Run::new(1);
            let mut count = 0;
            while let Some(batch) = stream.next_batch(&mut forge, &run, 0) {
                let bytes = batch.forged.bytes().len();
                assert!(
                    bytes <= 1_000 || batch.count == 1,
                    "{} in {bytes}",
                    batch.count
                );
                count += batch.count;
                let (first, last) = (batch.first, count == 500);
                let next = u64::from(stream.batching.sizes.of(0, count as u64) as u32);
                assert!(
                    last || bytes as u64 + next > 990,
                    "{bytes}, and {next} to come"
                );
                stream.take(first);
            }
            assert_eq!(count, 500);
        }
    }

    #[test]
    fn a_message_larger_than_a_batch_is_a_batch() {
        let (mut stream, mut forge) = stream(Sizes::Fixed(2_000), [None; 2]);
        let batch = stream.next_batch(&mut forge, &Run::new(1), 0).unwrap();
        assert_eq!((batch.count, batch.measured_bytes), (1, 2_000));
    }
}
