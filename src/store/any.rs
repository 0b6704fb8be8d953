//! A store of any kind. Which one it is was chosen at start; a plan is of the kind of its log or store.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::compact::{CompactionError, Rules, Step};
use super::{
    CheckpointError, PartitionId, Replay, Retention, Rolling, SeekGoal, StoredBatch, Uuid,
};
use super::{local, seaweedmq};

/// Does the same with both kinds.
macro_rules! either {
    ($any:ident, $of:expr, $one:ident => $what:expr $(, $more:pat => $else:expr)?) => {
        match $of {
            $any::Local($one) => $what,
            $any::SeaweedMq($one) => $what,
            $($more => $else,)?
        }
    };
}

/// One shard's part of a store. Makes plans; what they do runs off the shard.
#[allow(clippy::large_enum_variant)] // There is one for each shard.
pub enum Store {
    Local(local::LocalStore),
    SeaweedMq(seaweedmq::ShardStore),
}

impl Store {
    /// The log of a partition that never had a record.
    pub fn new_log(&self, id: PartitionId) -> Log {
        match self {
            Store::Local(store) => Log::Local(store.new_log(id)),
            Store::SeaweedMq(store) => match store.adopted_log(id) {
                Some(log) => Log::Adopted(log),
                None => Log::SeaweedMq(store.new_log(id)),
            },
        }
    }

    /// Finds out whether what is stored still is this gateway's. `None`: nobody else can take it.
    /// Blocking; the error is [`NotOwner`](super::NotOwner) if it is not, and others if that cannot be
    /// told now.
    pub fn check_ownership(&self) -> Option<Box<dyn FnOnce() -> io::Result<()> + Send>> {
        match self {
            Store::Local(_) => None,
            Store::SeaweedMq(store) => Some(Box::new(store.check_ownership())),
        }
    }

    /// Looks anew at partitions whose volumes were away. Blocking. `None`: this store has none.
    pub fn look_again<R: Replay>(
        &self,
        partitions: Vec<PartitionId>,
    ) -> Option<impl FnOnce() -> io::Result<seaweedmq::Found<R>> + Send + use<R>> {
        match self {
            Store::Local(_) => None,
            Store::SeaweedMq(store) => Some(store.look_again(partitions)),
        }
    }

    /// Removes all that is stored of a topic. Blocking.
    pub fn remove_topic(&self, topic: Uuid) -> Box<dyn FnOnce() -> io::Result<()> + Send> {
        either!(Store, self, store => Box::new(store.remove_topic(topic)))
    }

    /// Whether a commit costs so much, whatever its size, that it is to wait for more to be committed with it.
    pub fn gathers(&self) -> bool {
        match self {
            Store::Local(_) => false,
            Store::SeaweedMq(_) => true,
        }
    }

    /// Plans one commit. Commits are made one after the other.
    pub fn plan_commit(&mut self, appends: Vec<AppendPlan>) -> Commit {
        match self {
            Store::Local(store) => {
                let local = |plan| match plan {
                    AppendPlan::Local(plan) => plan,
                    AppendPlan::SeaweedMq(_) => other_kind(),
                };
                Commit::Local(store.plan_commit(appends.into_iter().map(local).collect()))
            }
            Store::SeaweedMq(store) => {
                let own = |plan| match plan {
                    AppendPlan::SeaweedMq(plan) => plan,
                    AppendPlan::Local(_) => other_kind(),
                };
                Commit::SeaweedMq(store.plan_commit(appends.into_iter().map(own).collect()))
            }
        }
    }

    /// Notes how a commit ended; gives for each append what its log is to know, or why it failed.
    pub fn committed(&mut self, commit: Commit) -> Vec<(AppendPlan, io::Result<Stored>)> {
        match (self, commit) {
            (Store::Local(store), Commit::Local(commit)) => {
                let any = |(plan, written): (_, io::Result<_>)| {
                    (AppendPlan::Local(plan), written.map(Stored::Local))
                };
                store.committed(commit).into_iter().map(any).collect()
            }
            (Store::SeaweedMq(_), Commit::SeaweedMq(commit)) => {
                let any = |(plan, written): (_, io::Result<()>)| {
                    let stored = written.map(|()| Stored::SeaweedMq);
                    (AppendPlan::SeaweedMq(plan), stored)
                };
                commit.ended().map(any).collect()
            }
            _ => other_kind(),
        }
    }

    /// Files of the shard's journal, if it has one.
    pub fn journal_files(&self) -> usize {
        match self {
            Store::Local(store) => store.journal_files(),
            Store::SeaweedMq(_) => 0,
        }
    }

    /// Whether a checkpoint is due when so many bytes were committed since the last one.
    pub fn wants_checkpoint(&self, bytes: u64) -> bool {
        match self {
            Store::Local(store) => store.wants_checkpoint(bytes),
            Store::SeaweedMq(_) => false,
        }
    }

    /// Plans a checkpoint of these partitions (all of the shard). No commit may be under way.
    pub fn plan_checkpoint<'a, R: Replay>(
        &mut self,
        partitions: impl Iterator<Item = (&'a mut Log, i64, &'a R)>,
    ) -> Checkpoint {
        match self {
            Store::Local(store) => {
                let local = |(log, start, state): (&'a mut Log, i64, &'a R)| match log {
                    Log::Local(log) => (log, start, state),
                    Log::SeaweedMq(_) | Log::Adopted(_) => other_kind(),
                };
                Checkpoint::Local(store.plan_checkpoint(partitions.map(local)))
            }
            Store::SeaweedMq(store) => {
                let own = |(log, start, state): (&'a mut Log, i64, &'a R)| match log {
                    Log::SeaweedMq(log) => Some((log, start, state)),
                    Log::Adopted(_) => None,
                    Log::Local(_) => other_kind(),
                };
                Checkpoint::SeaweedMq(store.plan_checkpoint(partitions.filter_map(own)))
            }
        }
    }

    /// Begins to compact a log, which ends with [`Log::end_compaction`]. `start`: where the log starts.
    /// `stable`: records from there on may be taken back. `last_offsets` says for each idempotent producer
    /// where its last batch ends. `None` if nothing waits, or a checkpoint is to come first.
    pub fn begin_compaction(
        &self,
        log: &mut Log,
        start: i64,
        stable: i64,
        rules: Rules,
        last_offsets: FxHashMap<i64, i64>,
    ) -> Option<Compaction> {
        match (self, log) {
            (Store::Local(_), Log::Local(log)) => {
                let run = log.begin_compaction(start, stable, rules, last_offsets);
                run.map(Compaction::Local)
            }
            (Store::SeaweedMq(store), Log::SeaweedMq(log)) => {
                let run = store.begin_compaction(log, start, stable, rules, last_offsets);
                run.map(Compaction::SeaweedMq)
            }
            (_, Log::Adopted(_)) => None,
            _ => other_kind(),
        }
    }

    /// Notes that a checkpoint failed, and that the next one is to do its work.
    pub fn checkpoint_failed(&mut self, failed: Checkpoint) {
        // In the other store the logs know what no checkpoint has said yet.
        if let (Store::Local(store), Checkpoint::Local(failed)) = (self, failed) {
            store.checkpoint_failed(failed);
        }
    }

    /// Notes that a checkpoint is durable; gives what is to be tidied up now. Blocking.
    pub fn checkpointed(&mut self, done: &Checkpoint) -> Box<dyn FnOnce() + Send> {
        match (self, done) {
            (Store::Local(store), Checkpoint::Local(done)) => Box::new(store.checkpointed(done)),
            _ => Box::new(|| {}),
        }
    }
}

/// What cannot be: each shard's logs, and their plans, were made by its store.
fn other_kind() -> ! {
    unreachable!("a plan of another kind of store")
}

/// The log of one partition as its shard sees it.
pub enum Log {
    Local(local::Log),
    SeaweedMq(seaweedmq::Log),
    /// SeaweedMQ's brokers write it.
    Adopted(seaweedmq::adopted::Log),
}

impl Log {
    pub fn id(&self) -> PartitionId {
        either!(Log, self, log => log.id(), Log::Adopted(log) => log.id())
    }

    pub fn set_rolling(&mut self, rolling: Rolling) {
        match self {
            Log::Local(log) => log.set_rolling(rolling),
            Log::SeaweedMq(log) => log.set_rolling(rolling),
            // Others write it.
            Log::Adopted(_) => {}
        }
    }

    /// Offset of the next batch to be written.
    pub fn next_offset(&self) -> i64 {
        either!(Log, self, log => log.next_offset(), Log::Adopted(log) => log.next_offset())
    }

    /// Offset that the first segment begins at, if there is one.
    pub fn first_offset(&self) -> Option<i64> {
        either!(Log, self, log => log.first_offset(), Log::Adopted(log) => log.first_offset())
    }

    /// Bytes of the segments, as far as they may be read.
    pub fn size_bytes(&self) -> u64 {
        either!(Log, self, log => log.size_bytes(), Log::Adopted(log) => log.size_bytes())
    }

    /// The log, if SeaweedMQ's brokers write it.
    pub fn adopted(&self) -> Option<&seaweedmq::adopted::Log> {
        match self {
            Log::Adopted(log) => Some(log),
            _ => None,
        }
    }

    pub fn adopted_mut(&mut self) -> Option<&mut seaweedmq::adopted::Log> {
        match self {
            Log::Adopted(log) => Some(log),
            _ => None,
        }
    }

    pub fn has_open_file(&self) -> bool {
        match self {
            Log::Local(log) => log.has_open_file(),
            Log::SeaweedMq(_) | Log::Adopted(_) => false,
        }
    }

    pub fn close_file(&mut self) {
        match self {
            Log::Local(log) => log.close_file(),
            Log::SeaweedMq(_) | Log::Adopted(_) => {}
        }
    }

    /// Plans to write `batches`, whose offsets go on from where the log ends.
    pub fn plan_append(&mut self, batches: Vec<StoredBatch>, now_ms: i64) -> AppendPlan {
        match self {
            Log::Local(log) => AppendPlan::Local(log.plan_append(batches, now_ms)),
            Log::SeaweedMq(log) => AppendPlan::SeaweedMq(log.plan_append(batches, now_ms)),
            Log::Adopted(_) => unreachable!("what brokers write takes no batches"),
        }
    }

    /// What was planned is stored as it was to be: it may be read.
    pub fn appended(&mut self, plan: &AppendPlan, stored: Stored) {
        match (self, plan, stored) {
            (Log::Local(log), AppendPlan::Local(plan), Stored::Local(file)) => {
                log.appended(plan, file);
            }
            (Log::SeaweedMq(log), AppendPlan::SeaweedMq(plan), Stored::SeaweedMq) => {
                log.appended(plan);
            }
            _ => other_kind(),
        }
    }

    /// The append failed: the log ends where it ended before.
    pub fn roll_back(&mut self, plan: &AppendPlan) {
        match (self, plan) {
            (Log::Local(log), AppendPlan::Local(plan)) => log.roll_back(plan),
            (Log::SeaweedMq(log), AppendPlan::SeaweedMq(plan)) => log.roll_back(plan),
            _ => other_kind(),
        }
    }

    /// The checkpoint planned last is durable.
    pub fn checkpointed(&mut self) {
        either!(Log, self, log => log.checkpointed(), Log::Adopted(_) => {})
    }

    /// What need not be kept any more: the oldest segments beyond the limits, also the last one.
    /// No append may be under way.
    pub fn expired(&self, keep: Retention, now_ms: i64) -> Expired {
        match self {
            Log::Local(log) => match log.expired(keep, now_ms) {
                local::Expired::Nothing => Expired::Nothing,
                local::Expired::Before(offset) => Expired::Before(offset),
                local::Expired::Unknown(plan) => Expired::Unknown(AgePlan::Local(plan)),
            },
            // What brokers wrote may be others' too: it is theirs to remove.
            Log::Adopted(_) => Expired::Nothing,
            Log::SeaweedMq(log) => {
                let before = log.expired(keep, now_ms);
                before.map_or(Expired::Nothing, Expired::Before)
            }
        }
    }

    /// Notes what [`AgePlan::run`] found.
    pub fn note_age(&mut self, base_offset: i64, max_timestamp: i64) {
        match self {
            Log::Local(log) => log.note_age(base_offset, max_timestamp),
            // It knows.
            Log::SeaweedMq(_) | Log::Adopted(_) => {}
        }
    }

    /// Lets go of what expired before `offset`: if that is all, the next batch begins a new segment.
    /// No append may be under way. Gives the number of segments.
    pub fn drop_expired(&mut self, offset: i64) -> usize {
        either!(Log, self, log => log.drop_expired(offset), Log::Adopted(_) => 0)
    }

    /// Lets go of segments that end at or before `offset`, but for the last one. No append may be under
    /// way.
    pub fn drop_before(&mut self, offset: i64) {
        either!(Log, self, log => log.drop_before(offset), Log::Adopted(_) => {})
    }

    /// Plans to remove what segments that were let go of take, as far as no start needs them.
    pub fn plan_removal(&mut self) -> Option<Removal> {
        match self {
            Log::Local(log) => log.plan_removal().map(Removal::Local),
            Log::SeaweedMq(log) => log.plan_removal().map(Removal::SeaweedMq),
            Log::Adopted(_) => None,
        }
    }

    /// True while segments that were let go of wait for a checkpoint to be removed.
    pub fn has_dropped(&self) -> bool {
        either!(Log, self, log => log.has_dropped(), Log::Adopted(_) => false)
    }

    /// Plans to read whole batches from the one that holds `offset` on: at least one, and no more than
    /// fit into `max_bytes` after it. `None` if no segment has that offset.
    pub fn plan_read(&self, offset: i64, max_bytes: usize) -> Option<ReadPlan> {
        match self {
            Log::Local(log) => log.plan_read(offset, max_bytes).map(ReadPlan::Local),
            Log::SeaweedMq(log) => {
                let plan = log.plan_read(offset, max_bytes);
                plan.map(ReadPlan::SeaweedMq)
            }
            Log::Adopted(log) => log.plan_read(offset, max_bytes).map(ReadPlan::Adopted),
        }
    }

    /// True if compacted segments took the place of others since a plan to read was made, whose `swaps` are
    /// given: the files that it knows may be gone.
    pub fn is_outdated(&self, swaps: u64) -> bool {
        match self {
            Log::Local(log) => log.is_outdated(swaps),
            Log::SeaweedMq(log) => log.is_outdated(swaps),
            Log::Adopted(_) => false,
        }
    }

    /// True if `offset` lies in a segment that is compacted.
    pub fn is_compacted_at(&self, offset: i64) -> bool {
        match self {
            Log::Local(log) => log.is_compacted_at(offset),
            Log::SeaweedMq(log) => log.is_compacted_at(offset),
            Log::Adopted(_) => false,
        }
    }

    /// The part of the log that waits for compaction, from 0 to 1, of what could be compacted at all.
    /// `None` if nothing waits. `start`: where the log starts. `stable`: records from there on may be
    /// taken back.
    pub fn dirty_ratio(&self, start: i64, stable: i64) -> Option<f64> {
        either!(Log, self, log => log.dirty_ratio(start, stable), Log::Adopted(_) => None)
    }

    /// Puts a new segment in the place of those it was made of. No append may be under way. Gives the
    /// old ones, to be removed; `None` if they are no part of the log any more.
    pub fn swap(&mut self, swap: &Swap) -> Option<Removal> {
        match (self, swap) {
            (Log::Local(log), Swap::Local(swap)) => log.swap(swap).map(Removal::Local),
            (Log::SeaweedMq(log), Swap::SeaweedMq(swap)) => log.swap(swap).map(Removal::SeaweedMq),
            _ => other_kind(),
        }
    }

    pub fn end_compaction(&mut self) {
        either!(Log, self, log => log.end_compaction(), Log::Adopted(_) => {})
    }

    pub fn is_being_compacted(&self) -> bool {
        either!(Log, self, log => log.is_being_compacted(), Log::Adopted(_) => false)
    }

    /// True if what waits for compaction also waits for a checkpoint.
    pub fn awaits_checkpoint(&self) -> bool {
        match self {
            Log::SeaweedMq(log) => log.awaits_checkpoint(),
            // There is one soon enough.
            Log::Local(_) | Log::Adopted(_) => false,
        }
    }

    /// Plans to find a batch by time among those that end at or after `from`.
    pub fn plan_seek(&self, goal: SeekGoal, from: i64) -> SeekPlan {
        match self {
            Log::Local(log) => SeekPlan::Local(log.plan_seek(goal, from)),
            Log::SeaweedMq(log) => SeekPlan::SeaweedMq(log.plan_seek(goal, from)),
            Log::Adopted(log) => SeekPlan::Adopted(log.plan_seek(goal, from)),
        }
    }
}

/// Batches to be written to one partition's log.
pub enum AppendPlan {
    Local(local::AppendPlan),
    SeaweedMq(seaweedmq::AppendPlan),
}

impl AppendPlan {
    pub fn id(&self) -> PartitionId {
        either!(AppendPlan, self, plan => plan.id())
    }

    pub fn batches(&self) -> &[StoredBatch] {
        either!(AppendPlan, self, plan => plan.batches())
    }
}

/// What an append that succeeded has for its log.
pub enum Stored {
    /// The last segment's file, to be kept open.
    Local(Arc<File>),
    /// The log has it already.
    SeaweedMq,
}

/// One group commit: appends of many partitions, made durable together.
pub enum Commit {
    Local(local::Commit),
    SeaweedMq(seaweedmq::Commit),
}

impl Commit {
    /// True if to write it takes less time than to have another thread do it, and nothing is to be made
    /// durable.
    pub fn is_quick(&self) -> bool {
        match self {
            Commit::Local(commit) => commit.is_quick(),
            Commit::SeaweedMq(_) => false,
        }
    }

    /// Takes all batches over, as far as a store promises it to those who do not wait for more. Blocking.
    pub fn write(&mut self) {
        match self {
            Commit::Local(commit) => commit.write(),
            // They are in memory, and that is what is promised.
            Commit::SeaweedMq(_) => {}
        }
    }

    /// Partitions whose batches were not taken over.
    pub fn failed_writes(&self) -> impl Iterator<Item = PartitionId> {
        let failed = match self {
            Commit::Local(commit) => Some(commit.failed_writes()),
            Commit::SeaweedMq(_) => None,
        };
        failed.into_iter().flatten()
    }

    /// Makes what was written durable, if the store is to do so. Blocking.
    pub fn sync(&mut self) {
        match self {
            Commit::Local(commit) => commit.sync(),
            Commit::SeaweedMq(commit) => commit.run(),
        }
    }

    /// How long making it durable took, if that was done.
    pub fn sync_took(&self) -> Option<Duration> {
        match self {
            Commit::Local(commit) => commit.sync_took(),
            Commit::SeaweedMq(commit) => commit.took(),
        }
    }

    /// Bytes that went to a journal.
    pub fn journaled_bytes(&self) -> u64 {
        match self {
            Commit::Local(commit) => commit.journaled_bytes(),
            Commit::SeaweedMq(_) => 0,
        }
    }
}

/// A checkpoint to be made.
pub enum Checkpoint {
    Local(local::Checkpoint),
    SeaweedMq(seaweedmq::Checkpoint),
}

impl Checkpoint {
    /// Blocking.
    pub fn run(&self) -> Result<(), CheckpointError> {
        either!(Checkpoint, self, checkpoint => checkpoint.run())
    }
}

/// A run of compaction: see [`super::compact::Run`].
#[allow(clippy::large_enum_variant)] // A shard has one at a time.
pub enum Compaction {
    Local(local::Compaction),
    SeaweedMq(seaweedmq::Compaction),
}

impl Compaction {
    pub fn id(&self) -> PartitionId {
        either!(Compaction, self, run => run.id())
    }

    /// Goes on for a while. Blocking. After an error, and after the end, there is nothing more.
    pub fn step(&mut self) -> Result<Step<Swap>, CompactionError> {
        match self {
            Compaction::Local(run) => run.step().map(|step| step.map(Swap::Local)),
            Compaction::SeaweedMq(run) => run.step().map(|step| step.map(Swap::SeaweedMq)),
        }
    }

    /// Bytes read and written so far.
    pub fn bytes_moved(&self) -> u64 {
        either!(Compaction, self, run => run.bytes_moved())
    }

    /// Ends a run before its end. Blocking.
    pub fn discard(self) {
        either!(Compaction, self, run => run.discard())
    }
}

/// A compacted segment that takes the place of others.
pub enum Swap {
    Local(local::Swap),
    SeaweedMq(seaweedmq::Swap),
}

impl Swap {
    /// Where the offsets end that the new segment stands for.
    pub fn end_offset(&self) -> i64 {
        either!(Swap, self, swap => swap.end_offset())
    }
}

/// What need not be kept any more.
pub enum Expired {
    Nothing,
    /// All before this offset.
    Before(i64),
    /// It depends on the age of a segment, to be looked up.
    Unknown(AgePlan),
}

/// A look at how old a segment is.
pub enum AgePlan {
    Local(local::AgePlan),
}

impl AgePlan {
    /// Of the segment.
    pub fn base_offset(&self) -> i64 {
        match self {
            AgePlan::Local(plan) => plan.base_offset(),
        }
    }

    /// The largest timestamp of its records; without any, when it was written last. Blocking.
    pub fn run(&self) -> io::Result<i64> {
        match self {
            AgePlan::Local(plan) => plan.run(),
        }
    }
}

/// Segments that are to go: marked at once, and removed when nobody reads them any more.
pub enum Removal {
    Local(local::Removal),
    SeaweedMq(seaweedmq::Removal),
}

impl Removal {
    /// True if all are marked. Blocking.
    pub fn retire(&self) -> bool {
        match self {
            Removal::Local(removal) => removal.retire(),
            // The checkpoint does not list them any more.
            Removal::SeaweedMq(_) => true,
        }
    }

    /// True if all are gone. Blocking.
    pub fn remove(&self) -> bool {
        either!(Removal, self, removal => removal.remove())
    }
}

/// A read of whole batches.
pub enum ReadPlan {
    Local(local::ReadPlan),
    SeaweedMq(seaweedmq::ReadPlan),
    Adopted(seaweedmq::adopted::ReadPlan),
}

impl ReadPlan {
    /// Whole batches with their CRCs checked and their offsets one after the other. Blocking.
    pub fn run(self) -> io::Result<Vec<Bytes>> {
        match self {
            ReadPlan::Local(plan) => plan.run().map(|bytes| vec![bytes]),
            ReadPlan::SeaweedMq(plan) => plan.run(),
            ReadPlan::Adopted(plan) => plan.run(),
        }
    }

    /// See [`Log::is_outdated`].
    pub fn swaps(&self) -> u64 {
        match self {
            ReadPlan::Local(plan) => plan.swaps,
            ReadPlan::SeaweedMq(plan) => plan.swaps,
            ReadPlan::Adopted(_) => 0,
        }
    }
}

/// A search by time.
pub enum SeekPlan {
    Local(local::SeekPlan),
    SeaweedMq(seaweedmq::SeekPlan),
    Adopted(seaweedmq::adopted::SeekPlan),
}

impl SeekPlan {
    /// Hands batches whose largest timestamp is at least the one looked for to `accept`, together with
    /// that time, until it finds something. Segments that are removed meanwhile have nothing. Blocking.
    pub fn run<T>(
        self,
        accept: impl FnMut(Bytes, i64) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        either!(SeekPlan, self, plan => plan.run(accept), SeekPlan::Adopted(plan) => plan.run(accept))
    }
}
