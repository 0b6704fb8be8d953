//! What a consumer has read: how much, how late, and whether it is what was sent.

use std::collections::HashMap;

use bytes::Bytes;
use tidegate::record::{Batch, Record, RecordError, records};

use crate::latency::Latency;
use crate::payload::Head;
use crate::payload::keys::{KEY_LEN, partition_of};
use crate::payload::sizes::Sizes;
use crate::sequence::{Faults, Stream};
use crate::window::Window;

/// Far above what a batch of any broker's default limits inflates to.
const MAX_INFLATED_BYTES: usize = 1 << 30;
/// Runs and streams that are told apart in a topic that was there before.
const MAX_STREAMS: usize = 1 << 20;

/// Whose messages are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// This run's, which has to be there from its first message on, each as it was sent.
    Run(Expected),
    /// Those of all runs, as far as they are there.
    All,
}

/// How a run's messages were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub run: u64,
    pub sizes: Sizes,
    /// With keys, which lead to one of so many partitions.
    pub keyed: bool,
    pub partitions: usize,
}

impl Expected {
    /// What this message is not, in words.
    #[inline]
    fn fault(&self, partition: i32, head: &Head, record: &Record) -> Option<&'static str> {
        let size = record.value.as_ref().map_or(0, Bytes::len);
        let right_key = match (&record.key, self.keyed) {
            (None, keyed) => !keyed,
            (Some(key), true) => {
                key.len() == KEY_LEN
                    && partition_of(key, self.partitions) == partition.max(0) as usize
            }
            (Some(_), false) => false,
        };
        match size == self.sizes.of(head.stream, head.number) {
            false => Some("has another size"),
            true if !right_key => Some("has another key"),
            true => None,
        }
    }
}

/// A stream as it was read.
#[derive(Debug)]
struct Read {
    run: u64,
    id: u32,
    partition: i32,
    stream: Stream,
}

/// See the module.
#[derive(Debug)]
pub struct Tally {
    interest: Interest,
    /// All records, and the bytes of their values.
    pub messages: u64,
    pub bytes: u64,
    /// Records that were not looked at.
    pub others: u64,
    /// When the last one was here.
    pub last_ns: u64,
    /// From the time a message was to be sent until it was here.
    pub latency: Latency,
    /// Bytes of the values of messages that are measured.
    pub measured_bytes: u64,
    /// From when the first measured message was to be sent until the last one was here.
    pub window: Window,
    reads: Vec<Read>,
    index: HashMap<(u64, u32), usize>,
    /// The stream of the message before: that of this one as well, as a rule.
    last: usize,
}

/// What came of a run's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub faults: Faults,
    /// The first fault of a stream, in words.
    pub example: Option<String>,
}

impl Tally {
    /// Nothing read yet; `latency` is what end to end latencies are recorded in.
    pub fn new(interest: Interest, latency: Latency) -> Self {
        Self {
            interest,
            messages: 0,
            bytes: 0,
            others: 0,
            last_ns: 0,
            latency,
            measured_bytes: 0,
            window: Window::default(),
            reads: Vec::new(),
            index: HashMap::new(),
            last: 0,
        }
    }

    /// Reads a batch from the record at `from_offset` on, which was here at `now_ns`. The messages of
    /// interest.
    ///
    /// # Errors
    /// If the batch cannot be read.
    pub fn read(
        &mut self,
        partition: i32,
        batch: &Batch,
        from_offset: i64,
        now_ns: u64,
    ) -> Result<u64, RecordError> {
        if batch.attributes().is_control() {
            return Ok(0);
        }
        let mut of_interest = 0;
        self.last_ns = now_ns;
        for record in records(batch, MAX_INFLATED_BYTES)? {
            let record = record?;
            // A batch is sent whole, even when its middle was asked for.
            if record.offset >= from_offset {
                of_interest += u64::from(self.message(partition, &record, now_ns));
            }
        }
        Ok(of_interest)
    }

    /// Whether it was of interest.
    fn message(&mut self, partition: i32, record: &Record, now_ns: u64) -> bool {
        let value = record.value.as_deref().unwrap_or_default();
        self.messages += 1;
        self.bytes += value.len() as u64;
        let Some(head) = Head::get(value) else {
            self.others += 1;
            return false;
        };
        match self.interest {
            Interest::Run(expected) if head.run == expected.run => {
                self.check(partition, &head, expected.fault(partition, &head, record));
                if head.measured {
                    self.measure(&head, value.len(), now_ns);
                }
                true
            }
            Interest::Run(_) => {
                self.others += 1;
                false
            }
            Interest::All => {
                self.check(partition, &head, None);
                true
            }
        }
    }

    #[inline]
    fn check(&mut self, partition: i32, head: &Head, fault: Option<&'static str>) {
        let same = self.reads.get(self.last);
        if !same.is_some_and(|read| read.run == head.run && read.id == head.stream) {
            self.last = self.index_of(partition, head);
        }
        let Some(read) = self.reads.get_mut(self.last) else {
            return;
        };
        if let Some(fault) = fault {
            read.stream
                .corrupt(format!("message {} {fault}", head.number));
        }
        if read.partition == partition {
            read.stream.read(head.number);
        } else {
            read.stream.corrupt(format!(
                "message {} of partition {} is in partition {partition}",
                head.number, read.partition
            ));
        }
    }

    fn index_of(&mut self, partition: i32, head: &Head) -> usize {
        let known = self.index.get(&(head.run, head.stream));
        if let Some(index) = known {
            return *index;
        }
        if self.reads.len() < MAX_STREAMS {
            self.index.insert((head.run, head.stream), self.reads.len());
            self.reads.push(Read {
                run: head.run,
                id: head.stream,
                partition,
                stream: match self.interest {
                    Interest::Run(_) => Stream::new(),
                    Interest::All => Stream::starting_at(head.number),
                },
            });
        }
        self.reads.len() - 1
    }

    #[inline]
    fn measure(&mut self, head: &Head, size: usize, now_ns: u64) {
        self.measured_bytes += size as u64;
        self.latency.at(now_ns);
        self.latency.record(now_ns.saturating_sub(head.time_ns));
        self.window.include(head.time_ns, now_ns);
    }
}

/// Judges what consumers have read together. `sent`: the messages of each stream of this run; for all
/// other streams the end is unknown.
pub fn judge(tallies: Vec<Tally>, sent: &[(u32, u64)]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut sent: HashMap<u32, u64> = sent.iter().copied().collect();
    let mut conclude = |stream: Stream, id: u32, sent: Option<u64>| {
        let (faults, example) = stream.finish(sent);
        verdict.faults.add(faults);
        if verdict.example.is_none() {
            verdict.example = example.map(|example| format!("stream {id}: {example}"));
        }
    };
    let mut seen = HashMap::new();
    for read in tallies.into_iter().flat_map(|tally| tally.reads) {
        // Two consumers that read one stream: it is in two partitions.
        let mut stream = read.stream;
        if let Some(partition) = seen.insert((read.run, read.id), read.partition) {
            stream.corrupt(format!(
                "is in the partitions {partition} and {}",
                read.partition
            ));
        }
        conclude(stream, read.id, sent.remove(&read.id));
    }
    for (id, messages) in sent {
        conclude(Stream::new(), id, Some(messages));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use tidegate::record::Builder;

    use super::*;
    use crate::payload::HEAD_LEN;

    const EXPECTED: Expected = Expected {
        run: 7,
        sizes: Sizes::Fixed(HEAD_LEN),
        keyed: false,
        partitions: 2,
    };
    const RUN: Interest = Interest::Run(EXPECTED);

    fn batch(run: u64, stream: u32, numbers: &[u64]) -> Batch {
        batch_with(None, run, stream, numbers)
    }

    fn batch_with(key: Option<&[u8]>, run: u64, stream: u32, numbers: &[u64]) -> Batch {
        let mut builder = Builder::new().base_offset(100);
        for number in numbers {
            let mut value = [0; HEAD_LEN];
            let head = Head {
                run,
                stream,
                number: *number,
                time_ns: 1_000,
                measured: true,
            };
            head.put(&mut value);
            builder.append(0, key, Some(&value), &[]);
        }
        Batch::parse(&builder.build()).unwrap()
    }

    #[test]
    fn only_this_runs_messages_count() {
        let mut tally = Tally::new(RUN, Latency::new());
        assert_eq!(tally.read(0, &batch(7, 0, &[0, 1]), 100, 5_000), Ok(2));
        assert_eq!(tally.read(0, &batch(8, 0, &[9]), 100, 5_000), Ok(0));
        assert_eq!((tally.messages, tally.others), (3, 1));
        assert_eq!(tally.latency.count(), 2);
        assert_eq!(tally.window, Window::new(1_000, 5_000));
        assert_eq!(judge(vec![tally], &[(0, 2)]), Verdict::default());
    }

    #[test]
    fn what_is_before_the_offset_asked_for_was_read_before() {
        let mut tally = Tally::new(RUN, Latency::new());
        assert_eq!(tally.read(0, &batch(7, 0, &[0, 1, 2]), 100, 0), Ok(3));
        assert_eq!(tally.read(0, &batch(7, 0, &[1, 2, 3]), 102, 0), Ok(1));
        assert_eq!(judge(vec![tally], &[(0, 4)]), Verdict::default());
    }

    #[test]
    fn streams_of_which_nothing_came_are_lost() {
        let verdict = judge(vec![Tally::new(RUN, Latency::new())], &[(3, 50)]);
        assert_eq!(verdict.faults.lost, 50);
        assert!(verdict.example.unwrap().contains("stream 3"));
    }

    #[test]
    fn a_message_in_another_partition_is_a_fault() {
        let mut one = Tally::new(RUN, Latency::new());
        one.read(0, &batch(7, 0, &[0]), 100, 0).unwrap();
        one.read(1, &batch(7, 0, &[1]), 100, 0).unwrap();
        assert_eq!(judge(vec![one], &[(0, 1)]).faults.corrupt, 1);
        let mut first = Tally::new(RUN, Latency::new());
        first.read(0, &batch(7, 0, &[0, 1]), 100, 0).unwrap();
        let mut second = Tally::new(RUN, Latency::new());
        second.read(1, &batch(7, 0, &[0]), 100, 0).unwrap();
        assert_eq!(judge(vec![first, second], &[(0, 2)]).faults.corrupt, 1);
    }

    #[test]
    fn a_message_of_another_size_or_with_another_key_is_a_fault() {
        let key = crate::payload::keys::text(5);
        let home = partition_of(&key, 2) as i32;
        let corrupt = |expected, partition, batch: Batch| {
            let mut tally = Tally::new(Interest::Run(expected), Latency::new());
            tally.read(partition, &batch, 100, 0).unwrap();
            judge(vec![tally], &[(0, 1)]).faults.corrupt
        };
        let keyed = Expected {
            keyed: true,
            ..EXPECTED
        };
        let larger = Expected {
            sizes: Sizes::Fixed(50),
            ..EXPECTED
        };
        assert_eq!(corrupt(EXPECTED, 0, batch(7, 0, &[0])), 0);
        assert_eq!(corrupt(larger, 0, batch(7, 0, &[0])), 1);
        assert_eq!(corrupt(keyed, home, batch_with(Some(&key), 7, 0, &[0])), 0);
        assert_eq!(
            corrupt(keyed, 1 - home, batch_with(Some(&key), 7, 0, &[0])),
            1
        );
        assert_eq!(corrupt(keyed, home, batch(7, 0, &[0])), 1, "none");
        assert_eq!(
            corrupt(EXPECTED, home, batch_with(Some(&key), 7, 0, &[0])),
            1,
            "one too many"
        );
    }

    #[test]
    fn a_topic_that_was_there_is_judged_by_what_it_has() {
        let mut tally = Tally::new(Interest::All, Latency::new());
        tally.read(0, &batch(1, 0, &[40, 41, 42]), 100, 0).unwrap();
        tally.read(0, &batch(2, 0, &[0, 2]), 100, 0).unwrap();
        let verdict = judge(vec![tally], &[]);
        assert_eq!(verdict.faults.lost, 1, "of run 2, and none of run 1");
    }
}
