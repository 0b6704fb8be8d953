//! Records of one partition on their way through a broker of SeaweedMQ into its files.
//!
//! Pure and synchronous. A batch stays here until all of its records were seen in the files: a broker that
//! ends loses what it acknowledged from memory, and then the records that are not in the files are
//! published again, in their order. So a broker's end fails no batch, and none is stored twice. Positions
//! count the records of a partition since this gateway began; offsets are the broker's to give, which may
//! serve other writers too.

use std::collections::VecDeque;

use shards::local::Sender;

use super::messages::{Durability, PartitionError};
use crate::record::Batch;

/// Settled batches whose offsets are remembered, for producers that try again.
const REMEMBERED: usize = 1024;
/// What a record takes here beside its bytes.
const RECORD_BYTES: usize = size_of::<Record>();

/// Who waits for a batch: told where its first record is.
pub type Waiter = Sender<Result<i64, PartitionError>>;

/// Who asked may be gone.
pub fn tell(waiter: Waiter, result: Result<i64, PartitionError>) {
    let _ = waiter.send(result);
}

/// A record that was seen in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub fingerprint: u64,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    fingerprint: u64,
    state: RecordState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordState {
    /// To be sent.
    Waiting,
    /// Given to a stream.
    Sent,
    /// In a broker's memory, at this offset.
    Acked(i64),
    /// In the files, at this offset.
    Stored(i64),
}

/// A batch that is not settled.
#[derive(Debug)]
struct Outgoing {
    batch: Batch,
    /// Of its first record.
    position: i64,
    /// Empty until some were sent or stored.
    records: Vec<Record>,
    count: usize,
    /// Who waits for a broker to have it.
    written: Vec<Waiter>,
    /// Who waits for the files to have it.
    committed: Vec<Waiter>,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        self.batch.size_in_bytes() + self.count * RECORD_BYTES
    }

    /// Behind the position of its last record.
    fn end(&self) -> i64 {
        self.position + self.count as i64
    }

    fn has_unsent(&self) -> bool {
        let mut records = self.records.iter();
        self.records.is_empty() || records.any(|r| r.state == RecordState::Waiting)
    }

    fn is(&self, what: impl Fn(RecordState) -> bool) -> bool {
        !self.records.is_empty() && self.records.iter().all(|r| what(r.state))
    }

    fn base_offset(&self) -> Option<i64> {
        match self.records.first()?.state {
            RecordState::Acked(offset) | RecordState::Stored(offset) => Some(offset),
            _ => None,
        }
    }

    fn fail(self, error: PartitionError) {
        let waiters = self.written.into_iter().chain(self.committed);
        waiters.for_each(|waiter| tell(waiter, Err(error)));
    }

    fn tell_written(&mut self) {
        let is_written = |s| matches!(s, RecordState::Acked(_) | RecordState::Stored(_));
        if let Some(offset) = self.base_offset()
            && self.is(is_written)
        {
            self.written
                .drain(..)
                .for_each(|waiter| tell(waiter, Ok(offset)));
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Published {
    queue: VecDeque<Outgoing>,
    next_position: i64,
    /// Position and size of the records that a stream has and did not acknowledge, in the order that they
    /// were sent.
    flying: VecDeque<(i64, usize)>,
    flying_bytes: usize,
    /// First positions and offsets of batches that are settled.
    settled: VecDeque<(i64, i64)>,
    /// No record before this position is to be sent.
    unsent_from: i64,
    /// The lowest offset of a record that is acknowledged and was not seen in the files.
    acked_from: Option<i64>,
    /// Behind the last offset that a broker gave.
    given: i64,
    /// Where the files ended when the stream was opened: offsets that are given lie behind.
    floor: i64,
    bytes: usize,
}

impl Published {
    /// Takes a batch in, of which the files may have some records already, at these offsets; gives the
    /// position of its first record.
    pub fn push(&mut self, batch: Batch, stored: &[Option<i64>]) -> i64 {
        let record = |offset: &Option<i64>| Record {
            fingerprint: 0,
            state: offset.map_or(RecordState::Waiting, RecordState::Stored),
        };
        let records = stored.iter().map(record).collect();
        let position = self.next_position;
        let count = batch.header().record_count().max(0) as usize;
        let outgoing = Outgoing {
            batch,
            position,
            records,
            count,
            written: Vec::new(),
            committed: Vec::new(),
        };
        self.next_position += count as i64;
        self.bytes += outgoing.bytes();
        self.queue.push_back(outgoing);
        position
    }

    /// Has somebody told when the batch at a position is as durable as that.
    pub fn wait(&mut self, position: i64, durability: Durability, waiter: Waiter) {
        let Some(index) = self.index_of(position) else {
            let settled = self.settled.iter().find(|(at, _)| *at == position);
            // One that is not remembered is stored all the same; it is not known where.
            let offset = settled.map_or(-1, |(_, offset)| *offset);
            return tell(waiter, Ok(offset));
        };
        let outgoing = &mut self.queue[index];
        match durability {
            Durability::Committed => outgoing.committed.push(waiter),
            Durability::Written => outgoing.written.push(waiter),
            Durability::None => tell(waiter, Ok(-1)),
        }
        outgoing.tell_written();
    }

    fn index_of(&self, position: i64) -> Option<usize> {
        let index = self.queue.partition_point(|o| o.position <= position);
        let index = index.checked_sub(1)?;
        let outgoing = &self.queue[index];
        (position < outgoing.end()).then_some(index)
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Behind the last offset that a broker is known to have given.
    pub fn given(&self) -> i64 {
        self.given
    }

    /// Bytes that a broker has not acknowledged yet.
    pub fn flying_bytes(&self) -> usize {
        self.flying_bytes
    }

    /// Whether something was sent that is not acknowledged.
    pub fn is_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Whether there are records of which it is not known what became of them.
    pub fn is_unclear(&self) -> bool {
        let is_out = |s| matches!(s, RecordState::Sent | RecordState::Acked(_));
        let mut records = self.queue.iter().flat_map(|outgoing| &outgoing.records);
        records.any(|record| is_out(record.state))
    }

    /// Where in the files the first of the records may be that were sent and not yet seen there.
    pub fn unseen_from(&self) -> i64 {
        self.acked_from.unwrap_or(self.given.max(self.floor))
    }

    /// Whether files that go up to `end` have records that were not seen there yet.
    pub fn may_be_seen(&self, end: i64) -> bool {
        self.acked_from.is_some_and(|from| from < end)
    }

    /// A stream was opened, when the files ended at `end`.
    pub fn opened(&mut self, end: i64) {
        self.floor = end;
    }

    /// The first batch with records to be sent, and its position.
    pub fn next_unsent(&mut self) -> Option<(i64, Batch)> {
        let from = self.unsent_from;
        let first = self.queue.partition_point(|o| o.end() <= from);
        let mut later = self.queue.range(first..);
        let outgoing = later.find(|outgoing| outgoing.has_unsent())?;
        self.unsent_from = outgoing.position;
        Some((outgoing.position, outgoing.batch.clone()))
    }

    /// Notes that the records of the batch at a position are sent now, as far as they have to be and up to
    /// `max`. `records` are all of the batch: fingerprints, and bytes of messages. Gives those that are to
    /// be sent.
    pub fn send(&mut self, position: i64, records: &[(u64, usize)], max: usize) -> Vec<usize> {
        let Some(index) = self.index_of(position) else {
            return Vec::new();
        };
        let outgoing = &mut self.queue[index];
        if outgoing.records.is_empty() {
            let record = |(fingerprint, _): &(u64, usize)| Record {
                fingerprint: *fingerprint,
                state: RecordState::Waiting,
            };
            outgoing.records = records.iter().map(record).collect();
        }
        let waiting = outgoing.records.iter_mut().enumerate();
        let waiting = waiting.filter(|(_, r)| r.state == RecordState::Waiting);
        let mut sent = Vec::new();
        for (index, record) in waiting.take(max) {
            let (fingerprint, bytes) = records.get(index).copied().unwrap_or_default();
            (record.fingerprint, record.state) = (fingerprint, RecordState::Sent);
            self.flying.push_back((position + index as i64, bytes));
            self.flying_bytes += bytes;
            sent.push(index);
        }
        sent
    }

    /// The stream has acknowledged what was sent first, with these offsets. False if one lies where the
    /// files have other records: nobody would ever read it there.
    pub fn acked(&mut self, offsets: &[i64]) -> bool {
        let mut is_good = true;
        for offset in offsets {
            let Some((position, bytes)) = self.flying.pop_front() else {
                return false;
            };
            self.flying_bytes -= bytes;
            self.given = self.given.max(offset.saturating_add(1));
            is_good &= *offset >= self.floor;
            let Some(index) = self.index_of(position) else {
                continue;
            };
            let outgoing = &mut self.queue[index];
            let record = (position - outgoing.position) as usize;
            if let Some(record) = outgoing.records.get_mut(record) {
                record.state = RecordState::Acked(*offset);
            }
            if is_good && position + 1 == outgoing.end() {
                outgoing.tell_written();
            }
            let from = self.acked_from.map_or(*offset, |from| from.min(*offset));
            self.acked_from = Some(from);
        }
        is_good
    }

    /// The files have these records from [`Published::unseen_from`] on up to `end`. What was acknowledged
    /// there and is not among them is to be sent again: with other writers, a broker may store a record
    /// behind ones that have higher offsets.
    pub fn seen(&mut self, seen: &[Seen], end: i64) {
        self.mark(|record| match record.state {
            RecordState::Acked(offset) if offset < end => {
                let at = seen.binary_search_by_key(&offset, |s| s.offset);
                let is_there = at.is_ok_and(|at| seen[at].fingerprint == record.fingerprint);
                match is_there {
                    true => RecordState::Stored(offset),
                    false => RecordState::Waiting,
                }
            }
            state => state,
        });
    }

    /// The stream has ended, and its broker writes nothing any more: the files have these records from
    /// [`Published::unseen_from`] on, and all that is not among them is to be sent again.
    pub fn resolve(&mut self, seen: &[Seen]) {
        self.flying.clear();
        self.flying_bytes = 0;
        let mut next = 0;
        self.mark(|record| {
            let found = match record.state {
                RecordState::Acked(offset) => seen
                    .binary_search_by_key(&offset, |s| s.offset)
                    .ok()
                    .filter(|at| seen[*at].fingerprint == record.fingerprint),
                // Its acknowledgement was lost.
                RecordState::Sent => seen[next..]
                    .iter()
                    .position(|s| s.fingerprint == record.fingerprint)
                    .map(|at| next + at),
                state => return state,
            };
            match found {
                Some(at) => {
                    next = next.max(at + 1);
                    RecordState::Stored(seen[at].offset)
                }
                None => RecordState::Waiting,
            }
        });
    }

    /// Gives records new states; those at the front that are all stored leave.
    fn mark(&mut self, mut state: impl FnMut(&Record) -> RecordState) {
        (self.unsent_from, self.acked_from) = (0, None);
        for outgoing in &mut self.queue {
            for record in &mut outgoing.records {
                record.state = state(record);
                if let RecordState::Acked(offset) = record.state {
                    let from = self.acked_from.map_or(offset, |from| from.min(offset));
                    self.acked_from = Some(from);
                }
            }
        }
        let is_stored = |s| matches!(s, RecordState::Stored(_));
        while let Some(mut outgoing) = self.queue.pop_front_if(|o| o.is(is_stored)) {
            self.bytes -= outgoing.bytes();
            let offset = outgoing.base_offset().unwrap_or(-1);
            outgoing.written.append(&mut outgoing.committed);
            outgoing.tell_written();
            self.settled.push_back((outgoing.position, offset));
            if self.settled.len() > REMEMBERED {
                self.settled.pop_front();
            }
        }
    }

    /// The batch at a position cannot be sent.
    pub fn refuse(&mut self, position: i64, error: PartitionError) {
        let index = self.index_of(position);
        if let Some(outgoing) = index.and_then(|index| self.queue.remove(index)) {
            self.bytes -= outgoing.bytes();
            outgoing.fail(error);
        }
    }

    /// Nothing will be sent any more: whoever waits is told so.
    pub fn fail(&mut self, error: PartitionError) {
        self.flying.clear();
        self.flying_bytes = 0;
        self.bytes = 0;
        self.queue
            .drain(..)
            .for_each(|outgoing| outgoing.fail(error));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use shards::local::{Receiver, oneshot};

    use super::*;
    use crate::record::Builder;

    fn batch(records: usize) -> Batch {
        let mut builder = Builder::new();
        (0..records).for_each(|_| builder.append(0, None, Some(b"v"), &[]));
        Batch::parse(&builder.build()).unwrap()
    }

    fn told(receiver: &mut Told) -> Option<Result<i64, PartitionError>> {
        let waker = futures::task::noop_waker();
        let mut cx = std::task::Context::from_waker(&waker);
        match std::pin::Pin::new(receiver).poll(&mut cx) {
            std::task::Poll::Ready(told) => Some(told.unwrap_or(Err(PartitionError::Unknown))),
            std::task::Poll::Pending => None,
        }
    }

    /// A broker that numbers records, and writes them to files now and then.
    #[derive(Default)]
    struct Broker {
        next: i64,
        /// Offset and fingerprint.
        memory: Vec<Seen>,
        files: Vec<Seen>,
    }

    impl Broker {
        fn take(&mut self, fingerprint: u64) -> i64 {
            let offset = self.next;
            self.next += 1;
            self.memory.push(Seen {
                offset,
                fingerprint,
            });
            offset
        }

        fn flush(&mut self) {
            self.files.append(&mut self.memory);
        }

        fn end(&self) -> i64 {
            self.files.last().map_or(0, |last| last.offset + 1)
        }

        fn from(&self, offset: i64) -> Vec<Seen> {
            let files = self.files.iter().filter(|seen| seen.offset >= offset);
            files.copied().collect()
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize, bool),
        /// At most so many records.
        Send(usize),
        /// Of what the broker has, it acknowledges so much.
        Ack(usize),
        Other,
        Flush,
        /// What the files have is noted.
        Look,
        /// The broker ends without having written its memory; or having done so.
        Lose(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![
                4 => (1..5_usize, any::<bool>()).prop_map(|(n, all)| Step::Push(n, all)),
                4 => (1..8_usize).prop_map(Step::Send),
                4 => (1..8_usize).prop_map(Step::Ack),
                1 => Just(Step::Other),
                2 => Just(Step::Flush),
                2 => Just(Step::Look),
                1 => any::<bool>().prop_map(Step::Lose),
            ],
            1..120,
        )
    }

    type Told = Receiver<Result<i64, PartitionError>>;

    /// The whole as the owner of a partition drives it.
    #[derive(Default)]
    struct World {
        published: Published,
        broker: Broker,
        /// Offsets that the broker gave and did not tell.
        unsaid: Vec<i64>,
        /// Of each batch: position, records, whether it is for the files, and who waits.
        batches: Vec<(i64, usize, bool, Told)>,
        answers: HashMap<i64, i64>,
    }

    impl World {
        fn send(&mut self, max: usize) {
            let Some((position, batch)) = self.published.next_unsent() else {
                return;
            };
            let count = batch.header().record_count();
            // Positions tell records apart.
            let records: Vec<_> = (0..count)
                .map(|n| ((position + i64::from(n)) as u64, 1))
                .collect();
            for index in self.published.send(position, &records, max) {
                let offset = self.broker.take(records[index].0);
                self.unsaid.push(offset);
            }
        }

        fn ack(&mut self, count: usize) {
            let count = count.min(self.unsaid.len());
            let offsets: Vec<_> = self.unsaid.drain(..count).collect();
            assert!(self.published.acked(&offsets));
        }

        fn look(&mut self) {
            let end = self.broker.end();
            if self.published.may_be_seen(end) {
                let seen = self.broker.from(self.published.unseen_from());
                self.published.seen(&seen, end);
            }
        }

        fn lose(&mut self, is_written: bool) {
            match is_written {
                true => self.broker.flush(),
                false => self.broker.memory.clear(),
            }
            self.unsaid.clear();
            let seen = self.broker.from(self.published.unseen_from());
            self.published.resolve(&seen);
            self.broker.next = self.broker.end().max(self.published.given());
            self.published.opened(self.broker.end());
        }

        fn hear(&mut self) {
            for (position, _, is_all, receiver) in &mut self.batches {
                if !self.answers.contains_key(position)
                    && let Some(told) = told(receiver)
                {
                    let offset = told.expect("nothing fails");
                    let at = self.broker.files.iter().find(|seen| seen.offset == offset);
                    if *is_all {
                        let first = at.map(|seen| seen.fingerprint as i64);
                        assert_eq!(first, Some(*position), "it is in the files when it is told");
                    }
                    self.answers.insert(*position, offset);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_brokers_lose_each_record_is_in_the_files_once_and_in_order(steps in steps()) {
            let mut world = World::default();
            for step in steps {
                match step {
                    Step::Push(count, is_all) => {
                        let position = world.published.push(batch(count), &[]);
                        let durability = if is_all { Durability::Committed } else { Durability::Written };
                        let (to, receiver) = oneshot();
                        world.published.wait(position, durability, to);
                        world.batches.push((position, count, is_all, receiver));
                    }
                    Step::Send(max) => world.send(max),
                    Step::Ack(count) => world.ack(count),
                    Step::Other => drop(world.broker.take(u64::MAX)),
                    Step::Flush => world.broker.flush(),
                    Step::Look => world.look(),
                    Step::Lose(is_written) => world.lose(is_written),
                }
                world.hear();
            }
            // All goes well in the end.
            while world.published.next_unsent().is_some() {
                world.send(100);
            }
            world.ack(usize::MAX);
            world.broker.flush();
            world.look();
            world.hear();
            prop_assert!(world.published.is_empty());
            prop_assert_eq!((world.published.bytes(), world.published.flying_bytes()), (0, 0));
            let count: usize = world.batches.iter().map(|(_, count, ..)| count).sum();
            let own = world.broker.files.iter().filter(|seen| seen.fingerprint != u64::MAX);
            let own: Vec<_> = own.map(|seen| seen.fingerprint).collect();
            prop_assert_eq!(own, Vec::from_iter(0..count as u64));
            prop_assert_eq!(world.answers.len(), world.batches.len());
        }
    }

    #[test]
    fn a_record_that_readers_do_not_get_is_sent_again_and_others_are_not() {
        let mut published = Published::default();
        let position = published.push(batch(3), &[]);
        let records = [(7, 1), (8, 1), (9, 1)];
        assert_eq!(published.send(position, &records, 10), [0, 1, 2]);
        assert!(published.acked(&[5, 6, 8]));
        // Another's record at 7 was written before that at 6.
        let seen = |offset, fingerprint| Seen {
            offset,
            fingerprint,
        };
        published.seen(&[seen(5, 7), seen(7, 0), seen(8, 9)], 9);
        assert_eq!(published.next_unsent().map(|(at, _)| at), Some(position));
        assert_eq!(published.send(position, &records, 10), [1]);
        assert!(published.acked(&[9]));
        assert_eq!(published.unseen_from(), 9);
        published.seen(&[seen(9, 8)], 10);
        assert!(published.is_empty());
    }

    #[test]
    fn of_a_batch_that_is_stored_in_part_the_rest_is_sent() {
        let mut published = Published::default();
        let position = published.push(batch(3), &[Some(4), None, Some(7)]);
        let (to, mut receiver) = oneshot();
        published.wait(position, Durability::Committed, to);
        assert_eq!(published.next_unsent().map(|(at, _)| at), Some(position));
        assert_eq!(published.send(position, &[(1, 1), (2, 1), (3, 1)], 10), [1]);
        assert!(published.acked(&[9]));
        assert_eq!(told(&mut receiver), None);
        let seen = Seen {
            offset: 9,
            fingerprint: 2,
        };
        published.seen(&[seen], 10);
        assert_eq!(told(&mut receiver), Some(Ok(4)));
        assert!(published.is_empty());
    }

    #[test]
    fn who_asks_again_is_told_the_same() {
        let mut published = Published::default();
        let ask = |published: &mut Published, position| {
            let (to, mut receiver) = oneshot();
            published.wait(position, Durability::Committed, to);
            move || told(&mut receiver)
        };
        let positions = [published.push(batch(2), &[]), published.push(batch(1), &[])];
        let mut first = ask(&mut published, positions[0]);
        published.send(positions[0], &[(1, 1), (2, 1)], 10);
        assert!(published.acked(&[10, 11]));
        let mut again = ask(&mut published, positions[0]);
        assert_eq!((first(), again()), (None, None));
        let seen = |offset, fingerprint| Seen {
            offset,
            fingerprint,
        };
        published.seen(&[seen(10, 1), seen(11, 2)], 12);
        assert_eq!((first(), again()), (Some(Ok(10)), Some(Ok(10))));
        assert_eq!(ask(&mut published, positions[0])(), Some(Ok(10)));
        let mut last = ask(&mut published, positions[1]);
        published.fail(PartitionError::NotOwner);
        assert_eq!(last(), Some(Err(PartitionError::NotOwner)));
        assert_eq!(published.bytes(), 0);
    }

    #[test]
    fn offsets_that_the_files_have_already_are_noticed() {
        let mut published = Published::default();
        published.opened(5);
        let position = published.push(batch(1), &[]);
        published.send(position, &[(1, 1)], 1);
        assert!(!published.acked(&[4]));
        assert!(published.is_unclear());
        let others: BTreeMap<i64, u64> = (0..5).map(|n| (n, 100)).collect();
        let seen = |(offset, fingerprint)| Seen {
            offset,
            fingerprint,
        };
        published.resolve(&others.into_iter().map(seen).collect::<Vec<_>>());
        assert!(!published.is_unclear());
        assert_eq!(published.next_unsent().map(|(at, _)| at), Some(position));
    }
}
