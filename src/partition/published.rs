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
fn tell(waiter: Waiter, result: Result<i64, PartitionError>) {
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
    /// Empty until it was sent first.
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
    /// Behind the last offset that a broker gave.
    given: i64,
    /// Where the files ended when the stream was opened: offsets that are given lie behind.
    floor: i64,
    bytes: usize,
}

impl Published {
    /// Takes a batch in; gives the position of its first record.
    pub fn push(&mut self, batch: Batch) -> i64 {
        let position = self.next_position;
        let count = batch.header().record_count().max(0) as usize;
        let outgoing = Outgoing {
            batch,
            position,
            records: Vec::new(),
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
        (position < outgoing.position + outgoing.count as i64).then_some(index)
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
        self.records().any(|record| is_out(record.state))
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.queue.iter().flat_map(|outgoing| &outgoing.records)
    }

    /// Where in the files the first of the records may be that were sent and not yet seen there.
    pub fn unseen_from(&self) -> i64 {
        let acked = self.records().filter_map(|record| match record.state {
            RecordState::Acked(offset) => Some(offset),
            _ => None,
        });
        acked.min().unwrap_or(self.given.max(self.floor))
    }

    /// Whether files that go up to `end` have records that were not seen there yet.
    pub fn may_be_seen(&self, end: i64) -> bool {
        self.records()
            .any(|record| matches!(record.state, RecordState::Acked(offset) if offset < end))
    }

    /// A stream was opened, when the files ended at `end`.
    pub fn opened(&mut self, end: i64) {
        self.floor = end;
    }

    /// The first batch with records to be sent.
    pub fn to_send(&self) -> Option<(i64, Batch)> {
        let has_waiting = |o: &&Outgoing| {
            let waits = |r: &Record| r.state == RecordState::Waiting;
            o.records.is_empty() || o.records.iter().any(waits)
        };
        let outgoing = self.queue.iter().find(has_waiting)?;
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
            record.state = RecordState::Sent;
            let bytes = records.get(index).map_or(0, |(_, bytes)| *bytes);
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
            if is_good && position + 1 == outgoing.position + outgoing.count as i64 {
                outgoing.tell_written();
            }
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
        for outgoing in &mut self.queue {
            for record in &mut outgoing.records {
                record.state = state(record);
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
