//! A partition on the shard that owns it: offsets, producers, leader epochs, and the tail in memory.
//!
//! Pure and synchronous: no I/O, and time comes as an argument. The life of a batch: [`Partition::append`]
//! gives it offsets; [`Partition::plan_append`] hands all that wait to the store; when the store has
//! them, [`Partition::committed`] moves the high watermark, and only then anybody may read them.
//! [`Partition::roll_back`] takes back all that is not committed.

use bytes::{Buf, Bytes};

use self::epochs::LeaderEpochs;
use self::messages::EpochEnd;
use self::producers::{ActiveProducer, Producers, Sequence, SequenceError};
use self::tail::Tail;
use crate::record::batch::{Batch, BatchHeader};
use crate::store::compact::Rules;
use crate::store::seaweedmq::adopted::Looked;
use crate::store::{
    AppendPlan, Compaction, Log, PartitionId, ReadPlan, Recovered, Removal, Replay, SeekGoal,
    SeekPlan, Store, Stored, StoredBatch, Swap,
};

pub mod epochs;
mod gather;
pub mod messages;
pub mod owner;
pub mod producers;
mod published;
mod read;
mod sequences;
mod tail;

/// What survives a restart beside the batches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub epochs: LeaderEpochs,
    pub producers: Producers,
    /// The largest timestamp of what is committed, and the base offset of the batch that has it.
    pub max_timestamp: Option<(i64, i64)>,
}

impl State {
    fn note_timestamp(&mut self, timestamp: i64, offset: i64) {
        if self.max_timestamp.is_none_or(|(max, _)| timestamp > max) {
            self.max_timestamp = Some((timestamp, offset));
        }
    }
}

impl Replay for State {
    fn encode(&self, out: &mut Vec<u8>) {
        let (timestamp, offset) = self.max_timestamp.unwrap_or((-1, -1));
        out.extend_from_slice(&timestamp.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        self.epochs.encode(out);
        self.producers.encode(out);
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let timestamp = bytes.try_get_i64().ok()?;
        let offset = bytes.try_get_i64().ok()?;
        Some(State {
            max_timestamp: (offset >= 0).then_some((timestamp, offset)),
            epochs: LeaderEpochs::decode(&mut bytes)?,
            producers: Producers::decode(&mut bytes)?,
        })
    }

    fn roll_back(&mut self, offset: i64) {
        self.producers.roll_back(offset);
        self.epochs.truncate(offset);
    }

    fn replay(&mut self, batch: &BatchHeader) {
        self.epochs
            .assign(batch.partition_leader_epoch(), batch.base_offset());
        self.note_timestamp(batch.max_timestamp(), batch.base_offset());
        self.producers.replay(batch);
    }
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// When it was appended first, if this is a retry. Milliseconds since the epoch.
    pub first_appended_ms: Option<i64>,
    /// It holds only as long as the partition is not rolled back.
    incarnation: u32,
}

/// The offset is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

/// Where reading may go: what the answer to a fetch says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub log_start_offset: i64,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
}

/// What a read at some offset finds.
pub enum Read {
    /// Nothing to be had yet: the offset is the high watermark, or that of a record to be committed.
    AtEnd,
    /// From memory.
    Batches(Vec<Bytes>),
    /// To be read off the shard.
    Cold(ReadPlan),
    /// The offset is not in the log.
    OutOfRange,
}

pub struct Partition {
    log: Log,
    log_start_offset: i64,
    /// Where the log is to start once a checkpoint says so.
    wanted_start: Option<i64>,
    /// All below is committed: durable as the store promises, and visible.
    high_watermark: i64,
    next_offset: i64,
    leader_epoch: i32,
    state: State,
    tail: Tail,
    /// Somebody reads, so what is committed goes to the tail.
    is_read: bool,
    /// Somebody has read since [`Partition::rest`] was called last.
    was_read: bool,
    /// Appended, and not yet taken by a commit.
    waiting: Vec<StoredBatch>,
    /// Of all batches appended and not yet committed.
    uncommitted_bytes: usize,
    incarnation: u32,
}

impl Partition {
    /// A partition that never had a record.
    pub fn new(log: Log) -> Self {
        Partition {
            log,
            log_start_offset: 0,
            wanted_start: None,
            high_watermark: 0,
            next_offset: 0,
            leader_epoch: 0,
            state: State::default(),
            tail: Tail::default(),
            is_read: false,
            was_read: false,
            waiting: Vec::new(),
            uncommitted_bytes: 0,
            incarnation: 0,
        }
    }

    /// A partition after a start. After an unclean one a new leader epoch begins: what was not
    /// acknowledged may be gone, and consumers that saw the old epoch can find out (KIP-320).
    pub fn recovered(from: Recovered<State>, clean: bool, now_ms: i64) -> Self {
        let next_offset = from.log.next_offset();
        let mut state = from.state;
        state.producers.started(now_ms);
        state.epochs.truncate_front(from.log_start_offset);
        let last_epoch = state.epochs.latest();
        let leader_epoch = last_epoch.map_or(0, |last| if clean { last } else { last + 1 });
        Partition {
            log: from.log,
            log_start_offset: from.log_start_offset,
            wanted_start: None,
            high_watermark: next_offset,
            next_offset,
            leader_epoch,
            state,
            tail: Tail::default(),
            is_read: false,
            was_read: false,
            waiting: Vec::new(),
            uncommitted_bytes: 0,
            incarnation: 0,
        }
    }

    pub fn id(&self) -> PartitionId {
        self.log.id()
    }

    pub fn bounds(&self) -> Bounds {
        Bounds {
            log_start_offset: self.log_start_offset,
            high_watermark: self.high_watermark,
            last_stable_offset: self.high_watermark,
        }
    }

    /// Producers whose batches are remembered.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.state.producers.active().collect()
    }

    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The leader epoch of the record at `offset`, or of the next one to come. -1: not known.
    pub fn epoch_at(&self, offset: i64) -> i32 {
        match offset < self.next_offset {
            true => self.state.epochs.epoch_at(offset).unwrap_or(-1),
            false => self.leader_epoch,
        }
    }

    /// Where `epoch` ends. Kafka's rules, but for what is not committed yet: that may be taken back.
    pub fn epoch_end(&self, epoch: i32) -> EpochEnd {
        if epoch == EpochEnd::NONE.leader_epoch {
            return EpochEnd::NONE;
        }
        if epoch == self.leader_epoch {
            return EpochEnd {
                leader_epoch: epoch,
                end_offset: self.high_watermark,
            };
        }
        // The current epoch begins with the next record, if it has none yet.
        let current = (self.leader_epoch, self.next_offset);
        let (before, next) = self.state.epochs.around(epoch);
        let next = next.or_else(|| (self.leader_epoch > epoch).then_some(current));
        next.map_or(EpochEnd::NONE, |(_, begins)| EpochEnd {
            leader_epoch: before.unwrap_or(epoch),
            end_offset: begins.clamp(self.log_start_offset, self.high_watermark),
        })
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Of a partition that brokers write: by the positions of its records.
    fn producers_mut(&mut self) -> &mut Producers {
        &mut self.state.producers
    }

    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Bytes of the segments, as far as they are committed.
    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// What a checkpoint keeps.
    pub fn checkpoint_parts(&mut self) -> (&mut Log, i64, &State) {
        let start = self.wanted_start.unwrap_or(0).max(self.log_start_offset);
        (&mut self.log, start, &self.state)
    }

    /// Asks for the log to start at `offset`. False if it starts there, or behind it, already.
    pub fn want_start(&mut self, offset: i64) -> Result<bool, OutOfRange> {
        if !(0..=self.high_watermark).contains(&offset) {
            return Err(OutOfRange);
        }
        let moves = offset > self.log_start_offset;
        if moves {
            self.wanted_start = self.wanted_start.max(Some(offset));
        }
        Ok(moves)
    }

    /// The checkpoint that was to say where the log starts is made, or failed.
    pub fn settle_start(&mut self, offset: i64, durable: bool) {
        if durable {
            self.move_start(offset);
        }
        self.wanted_start.take_if(|wanted| *wanted <= offset);
    }

    fn move_start(&mut self, offset: i64) {
        self.log_start_offset = self.log_start_offset.max(offset);
        self.state.epochs.truncate_front(self.log_start_offset);
    }

    /// Lets go of segments that lie before the log's start. No commit may be under way.
    pub fn drop_segments(&mut self) {
        self.log.drop_before(self.log_start_offset);
    }

    /// Lets go of the oldest segments up to `offset`, where the log starts then. No commit may be under
    /// way. Gives the number of segments.
    pub fn expire(&mut self, offset: i64) -> usize {
        self.move_start(offset);
        self.log.drop_expired(offset)
    }

    /// How much of the log waits for compaction: see [`Log::dirty_ratio`].
    pub fn dirty_ratio(&self) -> Option<f64> {
        let stable = self.bounds().last_stable_offset;
        self.log.dirty_ratio(self.log_start_offset, stable)
    }

    /// Begins to compact the log: see [`Store::begin_compaction`].
    pub fn begin_compaction(&mut self, store: &Store, rules: Rules) -> Option<Compaction> {
        let stable = self.bounds().last_stable_offset;
        let last_offsets = self.state.producers.last_offsets(self.high_watermark);
        let start = self.log_start_offset;
        store.begin_compaction(&mut self.log, start, stable, rules, last_offsets)
    }

    /// Takes over a compacted segment; what memory holds of the same records goes, or those who read
    /// them there would see what is gone. No commit may be under way. Gives the old files, and number
    /// and bytes of the batches that left the tail.
    pub fn take_compacted(&mut self, swap: &Swap) -> (Option<Removal>, (usize, usize)) {
        match self.log.swap(swap) {
            Some(old) => (Some(old), self.tail.drop_before(swap.end_offset())),
            None => (None, (0, 0)),
        }
    }

    /// Gives a validated batch its offsets. A producer's retry gets those it had.
    pub fn append(&mut self, batch: &Batch, now_ms: i64) -> Result<Appended, SequenceError> {
        let header = batch.header();
        if header.has_producer_id() {
            match self.state.producers.check(header)? {
                Sequence::Next => {}
                Sequence::Duplicate {
                    base_offset,
                    last_offset,
                    appended_ms,
                } => {
                    return Ok(self.appended(base_offset, last_offset, Some(appended_ms)));
                }
            }
            self.state
                .producers
                .note(header, self.next_offset, self.high_watermark, now_ms);
        }
        let base_offset = self.next_offset;
        let last_offset = base_offset + i64::from(header.last_offset_delta());
        let stored = StoredBatch {
            base_offset,
            last_offset,
            max_timestamp: header.max_timestamp(),
            head: header.patched_head(base_offset, self.leader_epoch),
            body: batch.after_head(),
        };
        self.state.epochs.assign(self.leader_epoch, base_offset);
        self.next_offset = last_offset + 1;
        self.uncommitted_bytes += stored.size();
        self.waiting.push(stored);
        Ok(self.appended(base_offset, last_offset, None))
    }

    fn appended(
        &self,
        base_offset: i64,
        last_offset: i64,
        first_appended_ms: Option<i64>,
    ) -> Appended {
        Appended {
            base_offset,
            last_offset,
            first_appended_ms,
            incarnation: self.incarnation,
        }
    }

    /// True when batches wait for a commit.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes all that waits into a plan for the store.
    pub fn plan_append(&mut self, now_ms: i64) -> AppendPlan {
        self.log
            .plan_append(std::mem::take(&mut self.waiting), now_ms)
    }

    /// The store has what was planned: it may be read from now on. Gives the bytes that were kept in
    /// memory.
    pub fn committed(&mut self, plan: &AppendPlan, stored: Stored) -> usize {
        self.log.appended(plan, stored);
        let before = self.tail.bytes();
        for batch in plan.batches() {
            self.state
                .note_timestamp(batch.max_timestamp, batch.base_offset);
            self.high_watermark = batch.last_offset + 1;
            self.uncommitted_bytes -= batch.size();
            if self.is_read {
                self.tail.keep(batch);
            }
        }
        self.tail.bytes() - before
    }

    /// The store failed: all that is not committed is gone, and gives its offsets back.
    pub fn roll_back(&mut self, plan: &AppendPlan) {
        self.log.roll_back(plan);
        self.waiting.clear();
        self.uncommitted_bytes = 0;
        self.next_offset = self.high_watermark;
        self.incarnation += 1;
        self.state.roll_back(self.high_watermark);
    }

    /// Bytes appended and not yet committed.
    pub fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    /// True if what was appended is committed now. False once it was rolled back, and before.
    pub fn is_committed(&self, appended: &Appended) -> bool {
        appended.incarnation == self.incarnation && appended.last_offset < self.high_watermark
    }

    /// Bytes that a read at `offset` would give now, counted up to `enough`; data on disk counts as enough.
    pub fn available(&self, offset: i64, enough: usize) -> usize {
        if offset >= self.high_watermark || offset < self.log_start_offset {
            0
        } else if self.tail.holds(offset) {
            self.tail.available(offset, enough)
        } else {
            enough
        }
    }

    /// Whether a fetch may begin at `offset`: at a record, or at the end. Records that are not committed
    /// count: a producer with acks=1 knows their offsets.
    pub fn may_begin_at(&self, offset: i64) -> bool {
        (self.log_start_offset..=self.next_offset).contains(&offset)
    }

    /// Whole batches from the one that holds `offset` on: at least one, then as many as fit.
    pub fn read(&self, offset: i64, max_bytes: usize) -> Read {
        if !self.may_begin_at(offset) {
            Read::OutOfRange
        } else if offset >= self.high_watermark {
            Read::AtEnd
        } else if self.tail.holds(offset) {
            Read::Batches(self.tail.read(offset, max_bytes))
        } else {
            // What is committed and not in the tail is in a segment.
            self.log
                .plan_read(offset, max_bytes)
                .map_or(Read::OutOfRange, Read::Cold)
        }
    }

    /// Takes over what others were found to have written. True if there is something new.
    pub fn looked(&mut self, looked: Looked) -> bool {
        let Some(log) = self.log.adopted_mut() else {
            return false;
        };
        let is_news = log.looked(looked);
        self.next_offset = log.next_offset();
        self.high_watermark = self.next_offset;
        self.log_start_offset = log.log_start_offset();
        is_news
    }

    /// The log of one that brokers write starts at `offset` from now on.
    pub fn started(&mut self, offset: i64) {
        if let Some(log) = self.log.adopted_mut() {
            log.started(offset);
            self.log_start_offset = self.log_start_offset.max(offset);
        }
    }

    /// A search by time, for the goal that a lookup has. `None` if nothing can be found.
    pub fn plan_seek(&self, goal: SeekGoal) -> Option<SeekPlan> {
        if self.log.adopted().is_some() {
            return Some(self.log.plan_seek(goal, self.log_start_offset));
        }
        let (max, offset) = self.state.max_timestamp?;
        let first = self.log.first_offset()?;
        match goal {
            SeekGoal::AtOrAfter(timestamp) => {
                (max >= timestamp).then(|| self.log.plan_seek(goal, self.log_start_offset))
            }
            // Records before the log's start count as long as their segment is there, as in Kafka. One
            // in a compacted segment may be gone.
            SeekGoal::Largest if offset >= first && !self.log.is_compacted_at(offset) => {
                Some(self.log.plan_seek(SeekGoal::AtOrAfter(max), offset))
            }
            SeekGoal::Largest => Some(self.log.plan_seek(goal, first)),
        }
    }

    /// Somebody reads: what is committed from now on is kept in memory.
    pub fn note_reader(&mut self) {
        self.is_read = true;
        self.was_read = true;
    }

    /// Time has passed. If nobody has read meanwhile, memory is given back.
    pub fn rest(&mut self) {
        self.is_read = std::mem::take(&mut self.was_read);
        if !self.is_read {
            self.tail = Tail::default();
        }
    }

    /// Makes room in memory: drops the oldest batch of the tail. Gives its bytes.
    pub fn evict_oldest(&mut self) -> Option<usize> {
        self.tail.evict_oldest()
    }

    pub fn tail_bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// Forgets producers that were silent for too long.
    pub fn expire_producers(&mut self, now_ms: i64, expiration_ms: i64) {
        if !self.state.producers.is_empty() {
            self.state.producers.expire(now_ms, expiration_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::topic_config::TopicConfig;
    use crate::record::Builder;
    use crate::store::local::{DataDir, Options};
    use crate::wire::Uuid;
    use proptest::prelude::*;
    use std::sync::Arc;

    const NOW: i64 = 1_700_000_000_000;

    fn batch(producer: Option<(i64, i32)>, records: usize) -> Batch {
        let mut builder = Builder::new();
        if let Some((id, sequence)) = producer {
            builder = builder.producer(id, 0, sequence);
        }
        for n in 0..records {
            builder.append(NOW + n as i64, None, Some(b"value"), &[]);
        }
        Batch::parse(&builder.build()).unwrap()
    }

    /// A partition whose plans are never run: what the store answers is up to the test.
    fn partition(folder: &std::path::Path) -> Partition {
        let data = DataDir::open(folder, Some("cluster")).unwrap();
        let options = Options {
            shards: 1,
            durable: false,
            rolling: TopicConfig::default().rolling(),
        };
        let (_, mut stores, _) = data.recover::<State>(&[], &options).unwrap();
        let id = PartitionId {
            topic: Uuid([1; 16]),
            index: 0,
        };
        Partition::new(Store::Local(stores.remove(0)).new_log(id))
    }

    fn stored() -> Stored {
        Stored::Local(Arc::new(tempfile::tempfile().unwrap()))
    }

    #[test]
    fn nothing_is_visible_before_it_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let mut partition = partition(folder.path());
        partition.note_reader();
        let first = partition.append(&batch(None, 3), NOW).unwrap();
        assert!(matches!(partition.read(0, 1000), Read::AtEnd));
        // A producer with acks=1 knows of them.
        assert!(matches!(partition.read(3, 1000), Read::AtEnd));
        assert!(matches!(partition.read(4, 1000), Read::OutOfRange));
        let plan = partition.plan_append(NOW);
        let second = partition.append(&batch(None, 2), NOW).unwrap();
        partition.committed(&plan, stored());
        assert!(partition.is_committed(&first) && !partition.is_committed(&second));
        assert_eq!(partition.bounds().high_watermark, 3);
        assert!(matches!(partition.read(2, 1000), Read::Batches(_)));
        assert!(matches!(partition.read(3, 1000), Read::AtEnd));
    }

    #[test]
    fn only_those_who_are_read_take_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut partition = partition(folder.path());
        let commit = |partition: &mut Partition| {
            partition.append(&batch(None, 3), NOW).unwrap();
            let plan = partition.plan_append(NOW);
            let kept = partition.committed(&plan, stored());
            assert_eq!(partition.uncommitted_bytes(), 0);
            kept
        };
        assert_eq!(commit(&mut partition), 0);
        assert!(matches!(partition.read(0, 1000), Read::Cold(_)));
        partition.note_reader();
        assert!(commit(&mut partition) > 0);
        assert!(matches!(partition.read(3, 1000), Read::Batches(_)));
        partition.rest();
        assert!(partition.tail_bytes() > 0, "it was read since");
        partition.rest();
        assert_eq!(partition.tail_bytes(), 0);
        assert!(matches!(partition.read(3, 1000), Read::Cold(_)));
        assert_eq!(commit(&mut partition), 0);
    }

    #[test]
    fn what_a_failed_commit_took_back_is_never_taken_for_what_came_after() {
        let folder = tempfile::tempdir().unwrap();
        let mut partition = partition(folder.path());
        let failed = partition.append(&batch(None, 3), NOW).unwrap();
        let plan = partition.plan_append(NOW);
        let behind = partition.append(&batch(None, 1), NOW).unwrap();
        partition.roll_back(&plan);
        assert!(!partition.has_waiting());
        let again = partition.append(&batch(None, 9), NOW).unwrap();
        assert_eq!(again.base_offset, failed.base_offset);
        let plan = partition.plan_append(NOW);
        partition.committed(&plan, stored());
        assert!(partition.is_committed(&again));
        assert!(!partition.is_committed(&failed) && !partition.is_committed(&behind));
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Of one of two producers; sometimes what was sent before is sent again.
        Append {
            producer: usize,
            records: usize,
            again: bool,
        },
        Commit,
        Fail,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let append = (0..2_usize, 1..4_usize, prop::bool::weighted(0.2)).prop_map(
            |(producer, records, again)| Step::Append {
                producer,
                records,
                again,
            },
        );
        prop::collection::vec(
            prop_oneof![6 => append, 3 => Just(Step::Commit), 1 => Just(Step::Fail)],
            1..80,
        )
    }

    proptest! {
        /// Producers that retry what was refused, in order, as clients do: offsets stay gapless,
        /// and each batch is committed once.
        #[test]
        fn retries_after_failed_commits_are_neither_lost_nor_doubled(steps in steps()) {
            let folder = tempfile::tempdir().unwrap();
            let mut partition = partition(folder.path());
            // Of each producer: batches acknowledged or on their way, as (sequence, records).
            let mut sent: [Vec<(i32, usize)>; 2] = Default::default();
            let mut acked = [0_usize; 2];
            let mut log: Vec<(usize, i32)> = Vec::new();
            let mut flying: Vec<(usize, i32, Appended)> = Vec::new();
            for step in steps {
                match step {
                    Step::Append { producer, records, again } => {
                        let last = sent[producer].last().copied().filter(|_| again);
                        let next = sent[producer].last().map_or(0, |(s, n)| s + *n as i32);
                        let (sequence, records) = last.unwrap_or((next, records));
                        let appended = partition.append(&batch(Some((producer as i64, sequence)), records), NOW).unwrap();
                        if last.is_none() {
                            sent[producer].push((sequence, records));
                            flying.push((producer, sequence, appended));
                        } else if let Some((.., first)) = flying.iter().rev().find(|(p, s, _)| (*p, *s) == (producer, sequence)) {
                            prop_assert_eq!(appended.base_offset, first.base_offset);
                        }
                    }
                    Step::Commit if partition.has_waiting() => {
                        let plan = partition.plan_append(NOW);
                        partition.committed(&plan, stored());
                        for (producer, sequence, appended) in flying.drain(..) {
                            prop_assert!(partition.is_committed(&appended));
                            acked[producer] += 1;
                            log.push((producer, sequence));
                        }
                    }
                    Step::Fail if partition.has_waiting() => {
                        let plan = partition.plan_append(NOW);
                        partition.roll_back(&plan);
                        flying.clear();
                        // Refused: the producers will send them again, from the first one on.
                        for (sent, acked) in sent.iter_mut().zip(&acked) {
                            sent.truncate(*acked);
                        }
                    }
                    Step::Commit | Step::Fail => {}
                }
            }
            for producer in 0..2 {
                let of_producer = log.iter().filter(|(p, _)| *p == producer).map(|(_, s)| *s);
                let expected = sent[producer][..acked[producer]].iter().map(|(s, _)| *s);
                prop_assert!(of_producer.eq(expected));
            }
        }
    }
}
