//! One partition's segments as its shard sees them: what is where, and plans for I/O.
//!
//! A [`Log`] never waits. An append does not change it before it is known how it ended; one is under
//! way at a time. What was committed is in [`Open`] segments until the filer has it as segments.

use std::ops::Range;
use std::sync::Arc;

use super::checkpoint;
use super::codec::Clock;
use super::compact::Swap;
use super::read::{ReadPlan, SeekPlan, Source};
use super::segment::{Open, Segment, Table};
use super::{Shared, now_s};
use crate::store::compact::{self, dirty_ratio};
use crate::store::{PartitionId, Replay, Retention, Rolling, SeekGoal, StoredBatch};

/// A segment is not larger, however large the topic wants it: the list of its chunks is written anew
/// whenever it has grown.
pub(super) const SEGMENT_BYTES_MAX: u64 = 128 << 20;
const SEGMENT_CHUNKS_MAX: usize = 512;

pub struct Log {
    id: PartitionId,
    shared: Arc<Shared>,
    /// The partition's folder.
    dir: Arc<str>,
    rolling: Rolling,
    /// Ascending. The filer has them.
    sealed: Vec<Segment>,
    /// Those behind.
    open: Arc<Open>,
    next_offset: i64,
    clock: Clock,
    /// The name given last; none is given twice.
    last_name_s: i64,
    /// Segments that are no part of the log any more and are still there.
    dropped: Vec<i64>,
    /// As many of `dropped` no start needs.
    free: usize,
    /// The same, once the checkpoint that is being made is durable.
    free_next: usize,
    /// What the last durable checkpoint says, and the one that is being made.
    checkpointed: Mark,
    checkpointing: Mark,
    /// Segments are compacted, or are to be: checkpoints do not list them.
    compacts: bool,
    /// A run is under way: all segments stay.
    compacting: bool,
    /// How often compacted segments took the place of others.
    swaps: u64,
}

/// By what it is told that a checkpoint would say something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    log_start_offset: i64,
    next_offset: i64,
    first_segment: i64,
    /// It lists segments.
    lists: bool,
}

impl Mark {
    const NONE: Self = Mark {
        log_start_offset: -1,
        next_offset: -1,
        first_segment: -1,
        lists: false,
    };
}

/// What a start found of a partition.
pub(super) struct Standing {
    pub sealed: Vec<Segment>,
    pub active: Option<Table>,
    pub next_offset: i64,
    /// Segments that only a checkpoint before the last one had.
    pub dropped: Vec<i64>,
    /// A checkpoint says all of this, with this start of the log.
    pub checkpointed_start: Option<i64>,
    /// The checkpoint lists segments.
    pub listed: bool,
}

impl Log {
    pub(super) fn new(
        id: PartitionId,
        shared: Arc<Shared>,
        dir: Arc<str>,
        rolling: Rolling,
        found: Standing,
    ) -> Self {
        let last_ns = found.active.as_ref().map_or(0, |table| table.last_ns);
        let names = found.sealed.iter().map(|s| s.name_s);
        let active = found.active.iter().map(|table| table.segment.name_s);
        // Nothing is known of what failed appends of a run before left, but that no clock was far ahead.
        let last_name_s = names.chain(active).chain(found.dropped.iter().copied());
        let mut log = Log {
            id,
            shared,
            dir,
            rolling,
            last_name_s: last_name_s.max().unwrap_or(0),
            compacts: found.sealed.iter().any(|s| s.clean_offset.is_some()),
            sealed: found.sealed,
            open: Arc::new(Open::new(found.active)),
            next_offset: found.next_offset,
            clock: Clock { last_ns },
            free: found.dropped.len(),
            free_next: found.dropped.len(),
            dropped: found.dropped,
            checkpointed: Mark::NONE,
            checkpointing: Mark::NONE,
            compacting: false,
            swaps: 0,
        };
        if let Some(start) = found.checkpointed_start {
            log.checkpointed = log.mark(start);
        }
        log.checkpointed.lists = found.listed;
        log
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The partition's folder.
    pub(super) fn dir(&self) -> &Arc<str> {
        &self.dir
    }

    pub fn set_rolling(&mut self, rolling: Rolling) {
        self.rolling = rolling;
    }

    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub fn first_offset(&self) -> Option<i64> {
        self.segments().next().map(|s| s.base_offset)
    }

    pub fn size_bytes(&self) -> u64 {
        self.segments().map(|s| s.bytes).sum()
    }

    fn segments(&self) -> impl Iterator<Item = Segment> {
        self.sealed.iter().copied().chain(self.open.segments())
    }

    fn take_sealed(&mut self) {
        self.sealed.extend(self.open.take_sealed());
    }

    /// Plans to write `batches`, whose offsets go on from where the log ends.
    pub fn plan_append(&mut self, batches: Vec<StoredBatch>, now_ms: i64) -> AppendPlan {
        self.take_sealed();
        let mut filling = self.open.active().map(|table| Filling::of(&table));
        let mut writes: Vec<Write> = Vec::with_capacity(1);
        for (number, batch) in batches.iter().enumerate() {
            let goes_on = filling.take_if(|f| !f.rolls(batch, &self.rolling, now_ms));
            let is_new = goes_on.is_none();
            let segment = goes_on.unwrap_or_else(|| Filling::begun(self.new_name(), batch));
            if writes.is_empty() || is_new {
                writes.push(Write {
                    name_s: segment.name_s,
                    batches: number..number,
                    first_timestamp: segment.first_timestamp,
                });
            }
            if let Some(write) = writes.last_mut() {
                write.batches.end = number + 1;
            }
            filling = Some(Filling {
                bytes: segment.bytes + batch.size() as u64,
                ..segment
            });
        }
        AppendPlan {
            id: self.id,
            dir: self.dir.clone(),
            open: self.open.clone(),
            batches,
            writes,
            clock: self.clock,
            now_ms,
        }
    }

    fn new_name(&mut self) -> i64 {
        self.last_name_s = now_s().max(self.last_name_s + 1);
        self.last_name_s
    }

    /// The append is committed.
    pub fn appended(&mut self, plan: &AppendPlan) {
        if let Some(last) = plan.batches.last() {
            self.next_offset = last.last_offset + 1;
        }
        if let Some(active) = self.open.active() {
            self.clock.last_ns = self.clock.last_ns.max(active.last_ns);
        }
        self.take_sealed();
    }

    /// The append failed: the log ends where it ended before.
    pub fn roll_back(&mut self, _: &AppendPlan) {}

    /// What need not be kept any more: all before this offset, if anything.
    pub fn expired(&self, keep: Retention, now_ms: i64) -> Option<i64> {
        let limit = u64::try_from(keep.bytes).ok();
        let mut surplus = limit.and_then(|limit| self.size_bytes().checked_sub(limit));
        let mut expired = None;
        for segment in self.segments() {
            surplus = surplus.and_then(|bytes| bytes.checked_sub(segment.bytes));
            let is_active = segment.next_offset == self.next_offset;
            let newest = match segment.max_timestamp {
                0.. => segment.max_timestamp,
                // One that is written to without any timestamp is young.
                _ if is_active => i64::MAX,
                _ => segment.written_ms,
            };
            let is_old = keep.ms >= 0 && now_ms.saturating_sub(newest) > keep.ms;
            if surplus.is_none() && !is_old {
                break;
            }
            expired = Some(segment.next_offset);
        }
        expired
    }

    /// Lets go of what expired before `offset`: if that is all, the next batch begins a new segment.
    pub fn drop_expired(&mut self, offset: i64) -> usize {
        let before = self.segments().count();
        self.drop_before(offset);
        if offset >= self.next_offset && !self.compacting {
            let sealed = self.sealed.drain(..).map(|s| s.name_s);
            self.dropped.extend(sealed.chain(self.open.clear()));
        }
        before - self.segments().count()
    }

    /// Lets go of segments that end at or before `offset`, but for the last one. While segments are being
    /// compacted they all stay.
    pub fn drop_before(&mut self, offset: i64) {
        if self.compacting {
            return;
        }
        self.take_sealed();
        let ended = self.sealed.partition_point(|s| s.next_offset <= offset);
        let gone = self.sealed.drain(..ended).map(|s| s.name_s);
        self.dropped
            .extend(gone.chain(self.open.drop_before(offset)));
    }

    /// Plans to remove segments that were let go of, as far as no start needs them.
    pub fn plan_removal(&mut self) -> Option<Removal> {
        let names: Vec<_> = self.dropped.drain(..self.free).collect();
        self.free_next -= self.free;
        self.free = 0;
        (!names.is_empty()).then(|| self.removal(names))
    }

    fn removal(&self, names: Vec<i64>) -> Removal {
        Removal {
            shared: self.shared.clone(),
            id: self.id,
            dir: self.dir.clone(),
            names,
        }
    }

    pub fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    fn mark(&self, log_start_offset: i64) -> Mark {
        Mark {
            log_start_offset,
            next_offset: self.next_offset,
            first_segment: self.segments().next().map_or(-1, |s| s.name_s),
            lists: !self.listed().is_empty(),
        }
    }

    /// The segments that a checkpoint lists.
    fn listed(&self) -> &[Segment] {
        match self.compacts {
            true => &[],
            false => &self.sealed,
        }
    }

    /// What a checkpoint is to say of the log, if that is news.
    pub(super) fn plan_checkpoint<R: Replay>(&mut self, start: i64, state: &R) -> Option<Vec<u8>> {
        self.take_sealed();
        self.checkpointing = self.mark(start);
        self.free_next = self.dropped.len();
        (self.checkpointing != self.checkpointed)
            .then(|| checkpoint::encode(start, self.next_offset, self.listed(), state))
    }

    /// The checkpoint planned last is durable.
    pub fn checkpointed(&mut self) {
        // It has stored them.
        self.take_sealed();
        self.checkpointed = self.checkpointing;
        self.free = self.free_next;
    }

    pub fn plan_read(&self, offset: i64, max_bytes: usize) -> Option<ReadPlan> {
        let sealed = &self.sealed[self.sealed_at(offset)..];
        // Behind a hole, what is wanted is in a later segment; one as it was written has no holes.
        let holes = sealed.iter().take_while(|s| s.clean_offset.is_some());
        let wanted = holes.count() + 1;
        let sources = sealed.iter().take(wanted).copied().map(Source::Sealed);
        let mut sources: Vec<_> = sources.collect();
        if sources.len() < wanted {
            sources.extend(self.open.at(offset).map(Source::Open));
        }
        (!sources.is_empty()).then(|| ReadPlan {
            shared: self.shared.clone(),
            id: self.id,
            dir: self.dir.clone(),
            sources,
            offset,
            max_bytes,
            swaps: self.swaps,
        })
    }

    /// The first sealed segment that ends behind `offset`.
    fn sealed_at(&self, offset: i64) -> usize {
        self.sealed.partition_point(|s| s.next_offset <= offset)
    }

    /// True if compacted segments took the place of others since a plan to read was made: the entries that
    /// it knows may be gone.
    pub fn is_outdated(&self, swaps: u64) -> bool {
        self.swaps != swaps
    }

    /// True if `offset` lies in a segment that is compacted.
    pub fn is_compacted_at(&self, offset: i64) -> bool {
        let sealed = self.sealed.get(self.sealed_at(offset));
        sealed.is_some_and(|s| s.clean_offset.is_some())
    }

    /// See [`crate::store::Log::dirty_ratio`].
    pub fn dirty_ratio(&self, start: i64, stable: i64) -> Option<f64> {
        dirty_ratio(self.compactable(stable), start)
    }

    /// The segments that may be compacted once a checkpoint allows it.
    fn compactable(&self, before: i64) -> impl Iterator<Item = compact::Source<Segment>> + Clone {
        let source = |segment: &Segment| compact::Source {
            name: *segment,
            base_offset: segment.base_offset,
            end_offset: segment.next_offset,
            bytes: segment.bytes,
            clean_offset: segment.clean_offset,
        };
        let sources = self.sealed.iter().map(source);
        sources.take_while(move |source| source.end_offset <= before)
    }

    /// Asks to have the log compacted; gives the segments that may be, if a checkpoint has left them
    /// behind and no checkpoint lists any.
    pub(super) fn want_compaction(&mut self, stable: i64) -> Vec<compact::Source<Segment>> {
        self.compacts = true;
        if self.checkpointed.lists || self.checkpointing.lists {
            return Vec::new();
        }
        let before = self.checkpointed.next_offset.min(stable);
        self.compactable(before).collect()
    }

    /// True if what waits for compaction also waits for a checkpoint.
    pub fn awaits_checkpoint(&self) -> bool {
        let sealed_end = self.sealed.last().map_or(-1, |s| s.next_offset);
        let is_behind = sealed_end > self.checkpointed.next_offset;
        self.compacts && (self.checkpointed.lists || self.checkpointing.lists || is_behind)
    }

    pub(super) fn begin_compaction(&mut self) {
        self.compacting = true;
    }

    /// The run is over.
    pub fn end_compaction(&mut self) {
        self.compacting = false;
    }

    pub fn is_being_compacted(&self) -> bool {
        self.compacting
    }

    /// See [`crate::store::Log::swap`].
    pub fn swap(&mut self, swap: &Swap) -> Option<Removal> {
        let first = swap.replaced.first()?;
        let at = self.sealed.iter().position(|s| s == first)?;
        let replaced = at..at + swap.replaced.len();
        if self.sealed.get(replaced.clone())? != swap.replaced {
            return None;
        }
        self.sealed.splice(replaced, [swap.by]);
        self.swaps += 1;
        // The first one's entry is the new one's now.
        let gone = swap.replaced[1..].iter().map(|s| s.name_s);
        Some(self.removal(gone.collect()))
    }

    pub fn plan_seek(&self, goal: SeekGoal, from: i64) -> SeekPlan {
        let sealed = self.sealed.iter().copied().map(Source::Sealed);
        let open = self.open.tables().into_iter().map(Source::Open);
        let timestamp = match goal {
            SeekGoal::AtOrAfter(timestamp) => timestamp,
            SeekGoal::Largest => {
                let largest = self.segments().map(|s| s.max_timestamp).max();
                largest.unwrap_or(i64::MAX)
            }
        };
        SeekPlan {
            shared: self.shared.clone(),
            id: self.id,
            dir: self.dir.clone(),
            sources: sealed.chain(open).collect(),
            timestamp,
            from,
        }
    }
}

/// How full the segment is that the next batch would go to.
#[derive(Clone, Copy)]
struct Filling {
    name_s: i64,
    bytes: u64,
    files: usize,
    first_timestamp: i64,
}

impl Filling {
    fn of(table: &Table) -> Self {
        Filling {
            name_s: table.segment.name_s,
            bytes: table.segment.bytes,
            // The others are joined to few when they are stored.
            files: table.chunks.iter().filter(|c| c.file().is_some()).count(),
            first_timestamp: table.first_timestamp,
        }
    }

    fn begun(name_s: i64, first: &StoredBatch) -> Self {
        Filling {
            name_s,
            bytes: 0,
            files: 0,
            first_timestamp: first.max_timestamp,
        }
    }

    /// Whether the batch begins a new segment. Age is told by records' timestamps where they have them.
    fn rolls(&self, batch: &StoredBatch, rolling: &Rolling, now_ms: i64) -> bool {
        let waited_ms = match self.first_timestamp {
            0.. => batch.max_timestamp.saturating_sub(self.first_timestamp),
            _ => now_ms.saturating_sub(self.name_s * 1000),
        };
        let bytes_max = rolling.segment_bytes.min(SEGMENT_BYTES_MAX);
        self.bytes > 0
            && (self.bytes + batch.size() as u64 > bytes_max
                || self.files >= SEGMENT_CHUNKS_MAX
                || waited_ms > rolling.segment_ms)
    }
}

/// Batches to be written to one partition's segments.
pub struct AppendPlan {
    id: PartitionId,
    pub(super) dir: Arc<str>,
    pub(super) open: Arc<Open>,
    batches: Vec<StoredBatch>,
    pub(super) writes: Vec<Write>,
    pub(super) clock: Clock,
    pub(super) now_ms: i64,
}

/// Batches for one segment.
pub(super) struct Write {
    /// The segment's name.
    pub name_s: i64,
    pub batches: Range<usize>,
    /// Largest timestamp of the segment's first batch.
    pub first_timestamp: i64,
}

impl AppendPlan {
    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn batches(&self) -> &[StoredBatch] {
        &self.batches
    }
}

/// Segments that are to go.
pub struct Removal {
    shared: Arc<Shared>,
    id: PartitionId,
    dir: Arc<str>,
    names: Vec<i64>,
}

impl Removal {
    /// True if all are gone. Blocking. A start finds those that are not.
    pub fn remove(&self) -> bool {
        let removed = self.shared.remove_segments(&self.dir, &self.names);
        if let Err(error) = &removed {
            shards::log_limited!(warn, partition = %self.id, %error, "cannot remove old segments; trying again");
        }
        removed.is_ok()
    }
}
