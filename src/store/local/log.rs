//! One partition's segments as its shard sees them: what is where, and plans for I/O.
//!
//! A [`Log`] never touches the disk. It makes plans ([`AppendPlan`], [`ReadPlan`], [`SeekPlan`],
//! [`SyncPlan`]) that run off the shard, and is told how an append ended. One append is under way
//! at a time.

use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxBuildHasher;
use shards::log_limited;

use super::file::{self, read_at, write_all_vectored_at};
use super::index::{ActiveIndex, IndexReader, IndexWrite, PENDING_MAX};
use super::segment::{self, Compacted, Damage, HEADER_LEN, Name, Scanner, SegmentHeader};
use crate::record::batch::{self, BatchHeader};
use crate::store::{
    CheckpointError, PartitionId, Retention, Rolling, SeekGoal, StoredBatch, crc_matches,
};

/// Read beyond what was asked for, so that the way from an index entry to the batch wanted costs no second read.
const READ_SLACK: usize = 8 << 10;
/// An index names positions in 32 bits.
const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;

#[derive(Debug)]
pub struct Log {
    id: PartitionId,
    dir: PathBuf,
    rolling: Rolling,
    /// Ascending; all but the last are sealed.
    segments: Vec<Segment>,
    index: ActiveIndex,
    /// The last segment, while it is kept open.
    file: Option<Arc<File>>,
    next_offset: i64,
    /// Of the last segment.
    max_timestamp: i64,
    age: Age,
    /// A failed write may have left bytes behind the committed end of the last segment.
    torn: bool,
    /// Segments that a failed append began: their files go before anything else is written, or they
    /// would be taken for a part of the log one day.
    stale: Vec<i64>,
    /// Segments from this one on have bytes that no checkpoint has synced.
    unsynced_from: Option<i64>,
    /// A file was made whose name no checkpoint has synced.
    unsynced_names: bool,
    /// Segments that are no part of the log any more and whose files are still there, ascending.
    dropped: Vec<Name>,
    /// A start after a crash needs segments from this one on, as the last checkpoint stands there.
    needed_from: i64,
    /// The same, once the checkpoint that is being made is on the disk.
    needed_next: i64,
    /// See [`super::compact`].
    pub(super) compaction: CompactionState,
}

/// What compaction makes of a log, beside its segments.
#[derive(Debug, Default)]
pub(super) struct CompactionState {
    /// Segments are being compacted: all of them stay.
    pub running: bool,
    /// Of the youngest compacted segment, also of one that was made for nothing.
    pub generation: u64,
    /// How often compacted segments took the place of others.
    pub swaps: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub base_offset: i64,
    pub compacted: Option<Compacted>,
    /// Where the next batch goes, counting appends that are under way.
    end: u64,
    /// Bytes that may be read.
    pub committed: u64,
    /// Of all records, if that is known. The last segment's is the log's.
    max_timestamp: Option<i64>,
}

impl Segment {
    pub fn name(&self) -> Name {
        Name {
            base_offset: self.base_offset,
            compacted: self.compacted,
        }
    }

    /// One that is sealed, of so many bytes.
    pub fn sealed(name: Name, bytes: u64, max_timestamp: Option<i64>) -> Self {
        Segment {
            base_offset: name.base_offset,
            compacted: name.compacted,
            end: bytes,
            committed: bytes,
            max_timestamp,
        }
    }

    /// Then it is the last one. The next batch goes to it: there is no other of its name.
    fn is_empty(&self) -> bool {
        self.end == HEADER_LEN as u64 && self.compacted.is_none()
    }

    fn begun_at(base_offset: i64) -> Self {
        Segment {
            base_offset,
            compacted: None,
            end: HEADER_LEN as u64,
            committed: HEADER_LEN as u64,
            max_timestamp: None,
        }
    }
}

/// By what the last segment's age is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    /// Largest timestamp of the first batch; negative if it has none.
    pub first_timestamp: i64,
    /// When it was begun; of one that a start found, when it was written last. Milliseconds since the
    /// epoch.
    pub begun_ms: i64,
}

impl Age {
    /// Of a segment that is not there yet.
    pub(super) const UNKNOWN: Age = Age {
        first_timestamp: -1,
        begun_ms: 0,
    };

    /// Of the segment where a log stands, as its file tells. Blocking.
    pub(super) fn read(dir: &Path, at: &LogPoint) -> io::Result<Self> {
        if at.position == 0 {
            return Ok(Self::UNKNOWN);
        }
        let file = file::open(&segment::log_path(dir, at.segment_base))?;
        let first = read_at(&file, HEADER_LEN as u64, batch::HEADER_LEN)?;
        Ok(Age {
            first_timestamp: BatchHeader::parse(&first).map_or(-1, |h| h.max_timestamp()),
            begun_ms: file::written_ms(&file)?,
        })
    }
}

/// What need not be kept any more.
pub enum Expired {
    Nothing,
    /// All before this offset.
    Before(i64),
    /// It depends on the age of a segment, to be looked up on the disk.
    Unknown(AgePlan),
}

/// Where a log stands, as a checkpoint keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogPoint {
    pub next_offset: i64,
    pub segment_base: i64,
    /// End of the last segment; 0: there is no segment yet.
    pub position: u64,
    pub index_entries: u32,
    pub segment_max_timestamp: i64,
}

impl LogPoint {
    pub fn empty(next_offset: i64) -> Self {
        LogPoint {
            next_offset,
            segment_base: next_offset,
            position: 0,
            index_entries: 0,
            segment_max_timestamp: i64::MIN,
        }
    }
}

impl Log {
    /// `sealed`: name and size of the segments before the one that `at` names.
    /// `unsynced_from`: the first segment that may not be on the disk whole.
    pub(super) fn resume(
        id: PartitionId,
        dir: PathBuf,
        rolling: Rolling,
        sealed: &[(Name, u64)],
        at: LogPoint,
        age: Age,
        unsynced_from: Option<i64>,
    ) -> Self {
        let active = (at.position > 0).then_some((Name::plain(at.segment_base), at.position));
        let segments = sealed.iter().copied().chain(active);
        let generations = sealed.iter().map(|(name, _)| name.generation());
        Log {
            id,
            dir,
            rolling,
            compaction: CompactionState {
                generation: generations.max().unwrap_or(0),
                ..CompactionState::default()
            },
            segments: segments
                .map(|(name, end)| Segment::sealed(name, end, None))
                .collect(),
            index: ActiveIndex::resumed(at.index_entries, at.position),
            file: None,
            next_offset: at.next_offset,
            max_timestamp: at.segment_max_timestamp,
            age,
            // What a crash left behind the end was not good; the next write removes it.
            torn: true,
            stale: Vec::new(),
            unsynced_from,
            unsynced_names: unsynced_from.is_some(),
            dropped: Vec::new(),
            needed_from: unsynced_from.unwrap_or(at.segment_base),
            needed_next: at.segment_base,
        }
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Segments that end at or before this offset are sealed and synced, and no start scans them.
    pub(super) fn checkpointed_before(&self) -> i64 {
        self.needed_from
    }

    /// Puts one sealed segment in the place of others.
    pub(super) fn replace(&mut self, old: std::ops::Range<usize>, new: Segment) {
        self.segments.splice(old, [new]);
    }

    pub fn set_rolling(&mut self, rolling: Rolling) {
        self.rolling = rolling;
    }

    /// Offset of the next batch to be written.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes that may be read, of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.committed).sum()
    }

    pub fn has_open_file(&self) -> bool {
        self.file.is_some()
    }

    pub fn close_file(&mut self) {
        self.file = None;
    }

    /// Where the log stands, for a checkpoint.
    pub(super) fn plan_checkpoint(&mut self) -> LogPoint {
        let point = self.point();
        self.needed_next = point.segment_base;
        point
    }

    /// The checkpoint planned last is on the disk.
    pub fn checkpointed(&mut self) {
        self.needed_from = self.needed_next;
    }

    pub(super) fn point(&self) -> LogPoint {
        match self.segments.last() {
            None => LogPoint::empty(self.next_offset),
            Some(last) => LogPoint {
                next_offset: self.next_offset,
                segment_base: last.base_offset,
                position: last.committed,
                index_entries: self.index.flushed,
                segment_max_timestamp: self.max_timestamp,
            },
        }
    }

    /// Plans to write `batches`, whose offsets go on from where the log ends. Segments are rolled by
    /// size and by age.
    pub fn plan_append(&mut self, batches: Vec<StoredBatch>, now_ms: i64) -> AppendPlan {
        let before = Before {
            point: self.point(),
            segments: self.segments.len(),
            age: self.age,
            file: self.file.clone(),
        };
        let mut writes: Vec<SegmentWrite> = Vec::with_capacity(1);
        for (number, batch) in batches.iter().enumerate() {
            let rolled = self.roll_if_due(batch, &mut writes, now_ms);
            if rolled || writes.is_empty() {
                writes.push(self.begin_write(number));
            }
            let Some(active) = self.segments.last_mut() else {
                unreachable!("begin_write made a segment")
            };
            if active.is_empty() {
                self.age = Age {
                    first_timestamp: batch.max_timestamp,
                    begun_ms: now_ms,
                };
            }
            let relative = (batch.base_offset - active.base_offset) as u32;
            self.index.note(relative, active.end, self.max_timestamp);
            active.end += batch.size() as u64;
            self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
            self.next_offset = batch.last_offset + 1;
            if let Some(write) = writes.last_mut() {
                write.batches.end = number + 1;
            }
        }
        if self.index.pending.len() >= PENDING_MAX
            && let Some(write) = writes.last_mut()
        {
            write.index = self.index.take_pending();
        }
        AppendPlan {
            id: self.id,
            dir: self.dir.clone(),
            batches,
            writes,
            stale: self.stale.clone(),
            before,
        }
    }

    /// Seals the last segment when the batch would not fit, or comes too late; true if it did.
    fn roll_if_due(
        &mut self,
        batch: &StoredBatch,
        writes: &mut Vec<SegmentWrite>,
        now_ms: i64,
    ) -> bool {
        let Some(last) = self.segments.last().copied() else {
            return false;
        };
        let relative = batch.last_offset - last.base_offset;
        let segment_bytes = self.rolling.segment_bytes.min(SEGMENT_BYTES_MAX);
        let full = last.end + batch.size() as u64 > segment_bytes || relative > i64::from(u32::MAX);
        let old = self.waited_ms(batch, now_ms) > self.lifetime_ms(last.base_offset);
        if !(full || old) || last.is_empty() {
            return false;
        }
        if writes.is_empty() {
            writes.push(self.begin_write(0));
        }
        let relative = (self.next_offset - last.base_offset) as u32;
        let seal = self.index.seal(relative, last.end, self.max_timestamp);
        if let Some(write) = writes.last_mut() {
            write.index = Some(seal);
        }
        if let Some(sealed) = self.segments.last_mut() {
            sealed.max_timestamp = Some(self.max_timestamp);
        }
        self.begin_anew();
        self.segments.push(Segment::begun_at(batch.base_offset));
        true
    }

    /// The next segment has nothing yet.
    fn begin_anew(&mut self) {
        self.index = ActiveIndex::new();
        self.max_timestamp = i64::MIN;
        self.file = None;
        self.torn = false;
    }

    /// How long the last segment had to wait for the batch, by the clock of its records if they have one.
    fn waited_ms(&self, batch: &StoredBatch, now_ms: i64) -> i64 {
        match self.age.first_timestamp {
            0.. => batch.max_timestamp.saturating_sub(self.age.first_timestamp),
            _ => now_ms.saturating_sub(self.age.begun_ms),
        }
    }

    /// For how long batches may go to the segment at `base_offset`. The jitter is the same after a restart.
    fn lifetime_ms(&self, base_offset: i64) -> i64 {
        let Rolling {
            segment_ms,
            segment_jitter_ms,
            ..
        } = self.rolling;
        match segment_jitter_ms.min(segment_ms) {
            jitter @ 1.. => {
                let drawn = FxBuildHasher.hash_one((self.id, base_offset)) >> 1;
                segment_ms - drawn as i64 % jitter
            }
            _ => segment_ms,
        }
    }

    /// A write of batches from number `first` on, at the end of the last segment.
    fn begin_write(&mut self, first: usize) -> SegmentWrite {
        if self.segments.is_empty() {
            self.begin_anew();
            self.segments.push(Segment::begun_at(self.next_offset));
        }
        let Some(active) = self.segments.last() else {
            unreachable!("pushed above")
        };
        SegmentWrite {
            base_offset: active.base_offset,
            position: active.end,
            file: self.file.clone(),
            truncate: self.torn,
            batches: first..first,
            index: None,
        }
    }

    /// The append is in the kernel's hands (and durable, if that was asked for): it may be read.
    pub fn appended(&mut self, plan: &AppendPlan, file: Arc<File>) {
        for segment in &mut self.segments[plan.before.segments.saturating_sub(1)..] {
            segment.committed = segment.end;
        }
        self.file = Some(file);
        self.torn = false;
        let first = plan.writes.first().map(|w| w.base_offset);
        self.unsynced_from = self.unsynced_from.or(first);
        self.unsynced_names |=
            !plan.stale.is_empty() || plan.writes.iter().any(SegmentWrite::is_fresh);
        self.stale.clear();
    }

    /// The append failed: the log ends where it ended before.
    pub fn roll_back(&mut self, plan: &AppendPlan) {
        let before = &plan.before;
        if self.segments.len() > before.segments {
            let begun = self.segments.drain(before.segments..);
            self.stale.extend(begun.map(|s| s.base_offset));
            self.index = ActiveIndex::resumed(before.point.index_entries, before.point.position);
        } else {
            self.index
                .roll_back(before.point.index_entries, before.point.position);
        }
        if let Some(last) = self.segments.last_mut() {
            last.end = last.committed;
        }
        self.file = before.file.clone();
        self.next_offset = before.point.next_offset;
        self.max_timestamp = before.point.segment_max_timestamp;
        self.age = before.age;
        self.torn = true;
    }

    /// What need not be kept any more: the oldest segments beyond the limits, also the last one.
    /// No append may be under way.
    pub fn expired(&self, keep: Retention, now_ms: i64) -> Expired {
        let size: u64 = self.segments.iter().map(|s| s.end).sum();
        let limit = u64::try_from(keep.bytes).ok();
        let mut surplus = limit.and_then(|limit| size.checked_sub(limit));
        let mut expired = Expired::Nothing;
        for (at, segment) in self.segments.iter().enumerate() {
            if segment.is_empty() {
                break;
            }
            surplus = surplus.and_then(|bytes| bytes.checked_sub(segment.end));
            if surplus.is_none() {
                match self.age_of(at) {
                    _ if keep.ms < 0 => break,
                    Some(max) if now_ms.saturating_sub(max) > keep.ms => {}
                    Some(_) => break,
                    None if matches!(expired, Expired::Nothing) => {
                        return Expired::Unknown(self.plan_age(segment.name()));
                    }
                    None => break,
                }
            }
            let next = self.segments.get(at + 1).map(|next| next.base_offset);
            expired = Expired::Before(next.unwrap_or(self.next_offset));
        }
        expired
    }

    /// The largest timestamp of a segment, if it is known. One that is written to without any is young.
    fn age_of(&self, at: usize) -> Option<i64> {
        match at + 1 == self.segments.len() {
            true if self.max_timestamp < 0 => Some(i64::MAX),
            true => Some(self.max_timestamp),
            false => self.segments[at].max_timestamp.filter(|max| *max >= 0),
        }
    }

    fn plan_age(&self, segment: Name) -> AgePlan {
        AgePlan {
            dir: self.dir.clone(),
            segment,
        }
    }

    /// Notes what [`AgePlan::run`] found.
    pub fn note_age(&mut self, base_offset: i64, max_timestamp: i64) {
        let found = self
            .segments
            .binary_search_by_key(&base_offset, |s| s.base_offset);
        if let Ok(at) = found {
            self.segments[at].max_timestamp = Some(max_timestamp);
        }
    }

    /// Lets go of what expired before `offset`: if that is all, the next batch begins a new segment.
    /// No append may be under way. Gives the number of segments.
    pub fn drop_expired(&mut self, offset: i64) -> usize {
        let before = self.segments.len();
        self.drop_before(offset);
        let is_empty = self.segments.last().is_none_or(Segment::is_empty);
        if offset >= self.next_offset && !is_empty && !self.compaction.running {
            self.dropped
                .extend(self.segments.drain(..).map(|s| s.name()));
            self.begin_anew();
        }
        before - self.segments.len()
    }

    /// Lets go of segments that end at or before `offset`, but for the last one. No append may be under
    /// way. While segments are being compacted they all stay.
    pub fn drop_before(&mut self, offset: i64) {
        if self.compaction.running {
            return;
        }
        let ended = |pair: &&[Segment]| pair[1].base_offset <= offset;
        let count = self.segments.windows(2).take_while(ended).count();
        let gone = self.segments.drain(..count);
        self.dropped.extend(gone.map(|s| s.name()));
    }

    /// Plans to remove the files of segments that were let go of, as far as no start needs them.
    pub fn plan_removal(&mut self) -> Option<Removal> {
        let needed = |name: &Name| name.base_offset < self.needed_from;
        let free = self.dropped.partition_point(needed);
        let segments: Vec<_> = self.dropped.drain(..free).collect();
        (!segments.is_empty()).then(|| self.removal(segments))
    }

    pub(super) fn removal(&self, segments: Vec<Name>) -> Removal {
        Removal {
            dir: self.dir.clone(),
            segments,
        }
    }

    /// True while files of segments that were let go of wait for a checkpoint.
    pub fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Plans to read whole batches from the one that holds `offset` on: at least one, and no more than
    /// fit into `max_bytes` after it. `None` if no segment has that offset.
    pub fn plan_read(&self, offset: i64, max_bytes: usize) -> Option<ReadPlan> {
        let at = self
            .segments
            .partition_point(|s| s.base_offset <= offset)
            .checked_sub(1)?;
        // Behind a hole, what is wanted is in a later segment; one as it was written has no holes.
        let holes = self.segments[at..]
            .iter()
            .take_while(|s| s.compacted.is_some());
        let behind = (at + 1..self.segments.len()).take(holes.count());
        Some(ReadPlan {
            source: self.source(at),
            behind: behind.map(|at| self.source(at)).collect(),
            offset,
            max_bytes,
            swaps: self.compaction.swaps,
        })
    }

    /// True if compacted segments took the place of others since `plan` was made: the files that it
    /// knows may be gone.
    pub fn is_outdated(&self, swaps: u64) -> bool {
        self.compaction.swaps != swaps
    }

    /// True if `offset` lies in a segment that is compacted.
    pub fn is_compacted_at(&self, offset: i64) -> bool {
        let at = self.segments.partition_point(|s| s.base_offset <= offset);
        at.checked_sub(1)
            .is_some_and(|at| self.segments[at].compacted.is_some())
    }

    /// Plans to find a batch by time among those that end at or after `from`.
    pub fn plan_seek(&self, goal: SeekGoal, from: i64) -> SeekPlan {
        SeekPlan {
            sources: (0..self.segments.len()).map(|at| self.source(at)).collect(),
            active_max_timestamp: self.max_timestamp,
            goal,
            from,
        }
    }

    /// Offset that the first segment begins at, if there is one.
    pub fn first_offset(&self) -> Option<i64> {
        self.segments.first().map(|s| s.base_offset)
    }

    fn source(&self, at: usize) -> Source {
        let segment = self.segments[at];
        let active = at + 1 == self.segments.len();
        let path = segment::index_path(&self.dir, segment.base_offset);
        Source {
            id: self.id,
            dir: self.dir.clone(),
            segment: segment.name(),
            end: segment.committed,
            file: if active { self.file.clone() } else { None },
            index: active.then(|| Box::new(IndexReader::active(path, &self.index)) as OpenIndex),
        }
    }

    /// True if there are bytes that no checkpoint has synced.
    pub(super) fn has_unsynced(&self) -> bool {
        self.unsynced_from.is_some()
    }

    /// Plans to make everything appended so far durable.
    pub(super) fn plan_sync(&mut self) -> Option<SyncPlan> {
        let from = self.unsynced_from.take()?;
        let bases = self
            .segments
            .iter()
            .map(|s| s.base_offset)
            .filter(|b| *b >= from);
        Some(SyncPlan {
            dir: self.dir.clone(),
            segments: bases.collect(),
            names: std::mem::take(&mut self.unsynced_names),
        })
    }
}

struct Before {
    point: LogPoint,
    segments: usize,
    age: Age,
    file: Option<Arc<File>>,
}

/// Batches to be written to one partition's segments.
pub struct AppendPlan {
    id: PartitionId,
    dir: PathBuf,
    batches: Vec<StoredBatch>,
    writes: Vec<SegmentWrite>,
    stale: Vec<i64>,
    before: Before,
}

struct SegmentWrite {
    base_offset: i64,
    position: u64,
    file: Option<Arc<File>>,
    /// Remove first what a failed write left from `position` on.
    truncate: bool,
    batches: std::ops::Range<usize>,
    index: Option<IndexWrite>,
}

impl SegmentWrite {
    /// The segment's first bytes are among those written.
    fn is_fresh(&self) -> bool {
        self.position == HEADER_LEN as u64
    }
}

impl AppendPlan {
    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn batches(&self) -> &[StoredBatch] {
        &self.batches
    }

    /// True if it only goes on in a file that is open.
    pub(super) fn is_plain(&self) -> bool {
        let plain = |w: &SegmentWrite| {
            w.file.is_some() && !w.is_fresh() && !w.truncate && w.index.is_none()
        };
        self.stale.is_empty() && self.writes.iter().all(plain)
    }

    /// Writes to the page cache; gives the last segment's file to keep open. Blocking.
    pub fn run(&self) -> io::Result<Arc<File>> {
        for base in &self.stale {
            segment::remove(&self.dir, *base)?;
        }
        let mut last = None;
        for write in &self.writes {
            last = Some(self.run_one(write)?);
        }
        last.ok_or_else(|| io::Error::other("an append without batches"))
    }

    fn run_one(&self, write: &SegmentWrite) -> io::Result<Arc<File>> {
        let fresh = write.is_fresh();
        let file = match &write.file {
            Some(file) => file.clone(),
            None => Arc::new(self.open(write.base_offset, fresh)?),
        };
        if write.truncate && !fresh {
            file::set_len(&file, write.position)?;
        }
        let header = SegmentHeader {
            id: self.id,
            base_offset: write.base_offset,
        }
        .encode();
        let batches = &self.batches[write.batches.clone()];
        let mut slices = Vec::with_capacity(1 + 2 * batches.len());
        if fresh {
            slices.push(IoSlice::new(&header));
        }
        slices.extend(batches.iter().flat_map(StoredBatch::io_slices));
        let position = if fresh { 0 } else { write.position };
        write_all_vectored_at(&file, &mut slices, position)?;
        if let Some(index) = &write.index {
            index.run(&segment::index_path(&self.dir, write.base_offset))?;
        }
        Ok(file)
    }

    fn open(&self, base_offset: i64, fresh: bool) -> io::Result<File> {
        let path = segment::log_path(&self.dir, base_offset);
        if !fresh {
            return file::open_to_write(&path);
        }
        file::make_dir(&self.dir)?;
        file::make(&path)
    }
}

type OpenIndex = Box<dyn FnOnce() -> io::Result<IndexReader> + Send>;

/// One segment to read from.
struct Source {
    id: PartitionId,
    dir: PathBuf,
    segment: Name,
    end: u64,
    file: Option<Arc<File>>,
    /// Of the segment being written; a sealed one's index is in its file.
    index: Option<OpenIndex>,
}

impl Source {
    fn open(&mut self) -> io::Result<(Arc<File>, IndexReader)> {
        let file = match self.file.take() {
            Some(file) => file,
            None => Arc::new(file::open(&self.segment.log_path(&self.dir))?),
        };
        let index = match self.index.take() {
            Some(open) => open()?,
            None => IndexReader::sealed(&self.dir, self.segment)?,
        };
        Ok((file, index))
    }
}

impl Source {
    fn damaged(&self, damage: Damage, offset: i64, position: u64) -> io::Error {
        let damaged = DamagedBatch {
            id: self.id,
            segment: self.segment.base_offset,
            position,
            offset,
            damage,
        };
        io::Error::new(io::ErrorKind::InvalidData, damaged)
    }

    /// As [`ReadPlan::run`]. `None`: in this segment there is nothing at or behind `offset`.
    fn read(&mut self, offset: i64, max_bytes: usize) -> io::Result<Option<Bytes>> {
        let (file, index) = self.open()?;
        let base = self.segment.base_offset;
        let relative = (offset - base).clamp(0, i64::from(u32::MAX)) as u32;
        let (relative, mut position) = index.place_of_offset(relative)?;
        let mut next = Expected::of(&self.segment, base + i64::from(relative));
        let mut want = max_bytes + READ_SLACK;
        while position < self.end {
            let chunk = read_chunk(&file, position, want, self.end)?;
            let skipped = skip_before(&chunk, offset, &mut next);
            position += skipped as u64;
            match whole_batches(&chunk[skipped..], max_bytes, next) {
                Walk::Batches(bytes) => {
                    return Ok(Some(chunk.slice(skipped..skipped + bytes)));
                }
                // Where one begins is where the segment ends.
                Walk::Short(_) if position == self.end => {}
                Walk::Short(bytes) if position + bytes as u64 > self.end => {
                    return Err(self.damaged(Damage::Torn, next.offset, position));
                }
                Walk::Short(bytes) => want = bytes.max(want),
                Walk::Damaged(damage) => {
                    return Err(self.damaged(damage, next.offset, position));
                }
            }
        }
        match self.segment.compacted {
            Some(_) => Ok(None),
            None => Err(self.damaged(Damage::Missing, offset, position)),
        }
    }
}

/// What offset the next batch of a segment is to have. It lies outside of the batch's CRC.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    /// This one; or in a compacted segment, this one or a later one.
    pub offset: i64,
    /// Where the offsets end, in a compacted segment.
    end: Option<i64>,
}

impl Expected {
    pub fn of(segment: &Name, offset: i64) -> Self {
        Expected {
            offset,
            end: segment.compacted.map(|compacted| compacted.end_offset),
        }
    }

    /// Whether the batch may come next. Then what comes after it is expected.
    pub fn take(&mut self, batch: &BatchHeader) -> bool {
        let (base, last) = (batch.base_offset(), batch.last_offset());
        let fits = match self.end {
            None => base == self.offset,
            Some(end) => base >= self.offset && (base..end).contains(&last),
        };
        if fits {
            self.offset = last + 1;
        }
        fits
    }
}

/// A read of whole batches.
pub struct ReadPlan {
    source: Source,
    /// Where to go on if the segment has nothing at the offset or behind it.
    behind: Vec<Source>,
    offset: i64,
    max_bytes: usize,
    /// See [`Log::is_outdated`].
    pub swaps: u64,
}

impl ReadPlan {
    /// Whole batches with their CRCs checked and their offsets one after the other. Blocking.
    ///
    /// A damaged batch ends the answer before it; when it is the first one, the read fails. What lies
    /// behind it can be read.
    pub fn run(mut self) -> io::Result<Bytes> {
        for source in std::iter::once(&mut self.source).chain(&mut self.behind) {
            if let Some(bytes) = source.read(self.offset, self.max_bytes)? {
                return Ok(bytes);
            }
        }
        Err(self
            .source
            .damaged(Damage::Missing, self.offset, self.source.end))
    }
}

/// Reads up to `want` bytes; never beyond `end`, which is where committed data ends.
fn read_chunk(file: &File, position: u64, want: usize, end: u64) -> io::Result<Bytes> {
    let want = want.min(usize::try_from(end - position).unwrap_or(usize::MAX));
    file::read_exactly_at(file, position, want).map(Bytes::from)
}

/// How many bytes of whole batches come before the one that holds `offset`, or the first one behind it.
/// `next` goes on with them. Neither are their CRCs checked nor is what they hold given to anybody.
fn skip_before(chunk: &[u8], offset: i64, next: &mut Expected) -> usize {
    let mut bytes = 0;
    while let Ok(header) = BatchHeader::parse(&chunk[bytes..]) {
        let end = bytes + header.size_in_bytes();
        if header.last_offset() >= offset || end > chunk.len() || !next.take(&header) {
            break;
        }
        bytes = end;
    }
    bytes
}

enum Walk {
    /// This many bytes are whole, good batches.
    Batches(usize),
    /// The first batch needs this many bytes.
    Short(usize),
    /// The first batch is not good.
    Damaged(Damage),
}

fn whole_batches(chunk: &[u8], max_bytes: usize, mut next: Expected) -> Walk {
    let mut bytes = 0;
    loop {
        match whole_batch(&chunk[bytes..], &mut next) {
            Walk::Batches(size) if bytes == 0 || bytes + size <= max_bytes => bytes += size,
            _ if bytes > 0 => return Walk::Batches(bytes),
            first => return first,
        }
    }
}

/// The batch that `bytes` begin with, if it is what is expected next.
fn whole_batch(bytes: &[u8], next: &mut Expected) -> Walk {
    if bytes.len() < batch::HEADER_LEN {
        return Walk::Short(batch::HEADER_LEN);
    }
    let header = BatchHeader::parse(bytes).ok();
    let Some(header) = header.filter(|header| next.take(header)) else {
        return Walk::Damaged(Damage::Header);
    };
    match header.size_in_bytes() {
        size if size > segment::BATCH_BYTES_MAX => Walk::Damaged(Damage::Header),
        size if size > bytes.len() => Walk::Short(size),
        size if crc_matches(&header, &bytes[..size]) => Walk::Batches(size),
        _ => Walk::Damaged(Damage::Crc),
    }
}

/// A batch that is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {id}, segment {segment}, byte {position}, offset {offset}: {damage}; what comes before and behind can be read"
)]
struct DamagedBatch {
    id: PartitionId,
    segment: i64,
    position: u64,
    offset: i64,
    damage: Damage,
}

/// A search by time.
pub struct SeekPlan {
    sources: Vec<Source>,
    /// Of the last segment.
    active_max_timestamp: i64,
    goal: SeekGoal,
    from: i64,
}

impl SeekPlan {
    /// Hands batches whose largest timestamp is at least the one looked for to `accept`, together with
    /// that time, until it finds something. Segments that are removed meanwhile have nothing. Blocking.
    pub fn run<T>(
        mut self,
        mut accept: impl FnMut(Bytes, i64) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let timestamp = match self.goal {
            SeekGoal::AtOrAfter(timestamp) => timestamp,
            SeekGoal::Largest => self.largest_timestamp()?,
        };
        let mut accept = |batch| accept(batch, timestamp);
        let last = self.sources.len().saturating_sub(1);
        for (number, source) in self.sources.iter_mut().enumerate() {
            let opened = source.open().map(Some).or_else(none_if_missing)?;
            let Some((file, index)) = opened else {
                continue;
            };
            let ended = |max: Option<i64>| max.is_none_or(|max| max < timestamp);
            if number < last && ended(index.max_timestamp()?) {
                continue;
            }
            let mut scanner = Scanner::new(&file, index.position_of_timestamp(timestamp)?);
            let mut next_offset = source.segment.base_offset;
            while scanner.position() < source.end {
                let position = scanner.position();
                match scanner.next_batch()? {
                    None => break,
                    Some(Err(damage)) => {
                        return Err(source.damaged(damage, next_offset, position));
                    }
                    Some(Ok(batch)) => {
                        next_offset = batch.header.last_offset() + 1;
                        let matches = batch.header.max_timestamp() >= timestamp
                            && batch.header.last_offset() >= self.from;
                        if matches && let Some(found) = accept(Bytes::copy_from_slice(batch.bytes))?
                        {
                            return Ok(Some(found));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Of all segments.
    fn largest_timestamp(&self) -> io::Result<i64> {
        let mut largest = self.active_max_timestamp;
        let sealed = self.sources.len().saturating_sub(1);
        for source in &self.sources[..sealed] {
            let index = IndexReader::sealed(&source.dir, source.segment);
            let index = index.map(Some).or_else(none_if_missing)?;
            let max = index.map(|index| index.max_timestamp()).transpose()?;
            largest = largest.max(max.flatten().unwrap_or(i64::MIN));
        }
        Ok(largest)
    }
}

fn none_if_missing<T>(error: io::Error) -> io::Result<Option<T>> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(error),
    }
}

/// A look at how old a segment is.
pub struct AgePlan {
    pub(super) dir: PathBuf,
    pub(super) segment: Name,
}

impl AgePlan {
    pub fn base_offset(&self) -> i64 {
        self.segment.base_offset
    }

    /// The largest timestamp of its records; without any, when its file was written last. Blocking.
    pub fn run(&self) -> io::Result<i64> {
        let index = IndexReader::sealed(&self.dir, self.segment)?;
        if let Some(max @ 0..) = index.max_timestamp()? {
            return Ok(max);
        }
        file::written_ms(&file::open(&self.segment.log_path(&self.dir))?)
    }
}

/// Segments whose files are to go: renamed at once, and removed when nobody reads them any more.
pub struct Removal {
    dir: PathBuf,
    segments: Vec<Name>,
}

impl Removal {
    /// True if all are renamed. Blocking.
    pub fn retire(&self) -> bool {
        // The oldest first: what is left after a crash has no gap.
        let retire = |name: &Name| name.retire(&self.dir);
        self.is_done(self.segments.iter().try_for_each(retire))
    }

    /// True if all are gone. Blocking.
    pub fn remove(&self) -> bool {
        let remove = |name: &Name| name.remove_retired(&self.dir);
        self.is_done(self.segments.iter().try_for_each(remove))
    }

    fn is_done(&self, done: io::Result<()>) -> bool {
        if let Err(error) = &done {
            log_limited!(warn, dir = %self.dir.display(), %error, "cannot remove old segments: they are tried again, and later ones of the partition wait; check the disk and who owns the files");
        }
        done.is_ok()
    }
}

/// Segments to be made durable.
pub(super) struct SyncPlan {
    dir: PathBuf,
    segments: Vec<i64>,
    names: bool,
}

impl SyncPlan {
    /// Syncs data, indexes and names. What is not there any more was deleted with its topic. Blocking.
    fn run(&self) -> Result<(), CheckpointError> {
        for base in &self.segments {
            sync_if_there(&segment::log_path(&self.dir, *base), file::sync_in_slices)?;
            sync_if_there(&segment::index_path(&self.dir, *base), file::sync)?;
        }
        if self.names {
            // The partition's folder, its topic's, and the one that holds the topics.
            for dir in self.dir.ancestors().take(3) {
                sync_if_there(dir, file::sync)?;
            }
        }
        Ok(())
    }
}

/// Syncs of more partitions than this are left to one sync of the whole file system, which costs about
/// the same however many they are.
const SYNCED_ONE_BY_ONE_MAX: usize = 32;

/// Makes all of `plans` durable; `root` is a folder on their file system. Blocking.
pub(super) fn sync_all(plans: &[SyncPlan], root: &Path) -> Result<(), CheckpointError> {
    if plans.len() > SYNCED_ONE_BY_ONE_MAX {
        let root = file::open(root).map_err(CheckpointError::Failed)?;
        return file::sync_file_system(&root).map_err(CheckpointError::Sync);
    }
    plans.iter().try_for_each(SyncPlan::run)
}

fn sync_if_there(
    path: &Path,
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    match file::open(path) {
        Ok(file) => sync(&file).map_err(CheckpointError::Sync),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(CheckpointError::Failed(e)),
    }
}

/// Size of a sealed segment's file.
pub(super) fn sealed_size(dir: &Path, segment: &Name) -> io::Result<u64> {
    file::len_of(&segment.log_path(dir))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::store::{self, Removals};

    #[test]
    fn a_removal_that_failed_is_made_before_later_ones_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let id = |index| PartitionId {
            topic: crate::wire::Uuid([7; 16]),
            index,
        };
        let path = |index: i32, base| segment::log_path(&dir.path().join(index.to_string()), base);
        let mut removals = Removals::default();
        let due = Instant::now();
        for (index, base) in [(0, 0), (0, 10), (1, 0)] {
            file::make_dir(path(index, base).parent().unwrap()).unwrap();
            std::fs::write(path(index, base), "a segment").unwrap();
            let removal = Removal {
                dir: dir.path().join(index.to_string()),
                segments: vec![Name::plain(base)],
            };
            removals.push(id(index), store::Removal::Local(removal), due);
        }
        let is_there = |index, base| path(index, base).exists();
        // Nothing can be renamed to this, and it cannot be removed as a file.
        let in_the_way = path(0, 0).with_extension("log.deleted");
        std::fs::create_dir(&in_the_way).unwrap();

        assert!(removals.run(due).is_some(), "it is tried again");
        assert!(is_there(0, 0) && is_there(0, 10) && !is_there(1, 0));

        std::fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(removals.run(due), None);
        let left = |index: i32| std::fs::read_dir(dir.path().join(index.to_string())).unwrap();
        assert_eq!((left(0).count(), left(1).count()), (0, 0));
    }

    #[test]
    fn a_segment_without_a_batch_is_not_let_go_of() {
        let rolling = Rolling {
            segment_bytes: 1000,
            segment_ms: i64::MAX,
            segment_jitter_ms: 0,
        };
        let id = PartitionId {
            topic: crate::wire::Uuid([7; 16]),
            index: 0,
        };
        let sealed = [(Name::plain(0), 500)];
        let empty = LogPoint {
            position: HEADER_LEN as u64,
            ..LogPoint::empty(10)
        };
        let mut log = Log::resume(
            id,
            PathBuf::new(),
            rolling,
            &sealed,
            empty,
            Age::UNKNOWN,
            None,
        );
        let nothing = Retention { bytes: 0, ms: -1 };
        let Expired::Before(10) = log.expired(nothing, 0) else {
            panic!("the sealed one expired")
        };
        assert_eq!(log.drop_expired(10), 1);
        assert_eq!(log.first_offset(), Some(10));
        assert!(matches!(log.expired(nothing, 0), Expired::Nothing));
    }
}
