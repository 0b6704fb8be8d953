//! Compaction of one log: of the records with the same key only the last one is left.
//!
//! A run reads the segments that no run has read before and notes the last offset of each key, as far
//! as its memory goes. Then it reads the log from its beginning up to there and writes what is left into
//! new segments, small ones together. Each takes the place of those it was made of by one rename (see
//! [`super::segment`]), once it is synced: a process that ends at any time leaves the old ones or the
//! new one. Offsets stay, and so the log has holes.
//!
//! Only segments that a checkpoint has left behind take part: they are sealed, synced, and no start
//! scans them. What a run decides about records is [`crate::record::compact`]'s; which logs are worth
//! a run, and when, is said here as Kafka's `LogCleanerManager` says it.
//!
//! A [`Compaction`] is plain work in steps, to be made off the shard. The shard hears of each new
//! segment and takes it over between two commits.

use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use siphasher::sip128::SipHasher24;

use super::file;
use super::index::ActiveIndex;
use super::journal::random_salt;
use super::log::{AgePlan, Expected, Log, Removal, Segment};
use super::segment::{self, Compacted, Damage, HEADER_LEN, Name, Scanner, SegmentHeader};
use crate::record::batch::{self, Batch, BatchHeader};
use crate::record::compact::{Compact, Left, emptied, is_kept_whole};
use crate::record::{RecordError, records};
use crate::store::PartitionId;

/// Read and written in one step.
const STEP_BYTES: u64 = 4 << 20;
/// Written at once.
const WRITE_BYTES: usize = 1 << 20;
/// A stored batch was checked against a limit when it came; this only bounds damage.
const INFLATED_BYTES_MAX: usize = 1 << 30;
/// What a key takes in memory: its hash and its offset, and a byte of the table's own.
const KEY_BYTES: usize = 25;

/// When a log is compacted, and how: what the topic and the broker say.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub now_ms: i64,
    /// `min.cleanable.dirty.ratio`: so much of the log must be new.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: younger records are left alone.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: older ones wait no longer, whatever the ratio.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `segment.bytes`: small segments become one up to this size.
    pub segment_bytes: u64,
    /// For the offsets of keys (`log.cleaner.dedupe.buffer.size`).
    pub memory_bytes: usize,
}

/// Why a run did not come to its end. The log is as it was, or as the segments made so far leave it.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// Reading it again will not help.
    #[error("segment {segment}, byte {position}: {fault}")]
    Damaged {
        segment: i64,
        position: u64,
        fault: Fault,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is wrong with a batch, or with the file that it is in.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Batch(#[from] Damage),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the batch's offsets do not go on from those before it")]
    Offset,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub segments_before: usize,
    pub segments_after: usize,
    /// Of the segments that were compacted.
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub keys: usize,
}

/// What a step came to.
pub enum Step {
    /// There is more to do.
    More,
    /// A new segment is there, to be taken over by [`Log::swap`].
    Swap(Swap),
    /// The run is at its end.
    Done(Report),
    /// No record is old enough, or not enough of them.
    NotDue,
}

/// A segment that takes the place of others.
pub struct Swap {
    replaced: Vec<Name>,
    by: Name,
    bytes: u64,
    max_timestamp: i64,
}

impl Swap {
    /// Where the offsets end that the new segment stands for.
    pub fn end_offset(&self) -> i64 {
        self.by
            .compacted
            .map_or(self.by.base_offset, |compacted| compacted.end_offset)
    }
}

// ---- the log's part

impl Log {
    /// The part of the log that waits for compaction, from 0 to 1, of what could be compacted at all.
    /// `None` if nothing waits. `start`: where the log starts. `stable`: records from there on may be
    /// taken back.
    pub fn dirty_ratio(&self, start: i64, stable: i64) -> Option<f64> {
        let (dirty_from, sealed) = self.compactable(start, stable);
        let size = |segments: &[Segment]| segments.iter().map(|s| s.committed).sum::<u64>();
        let dirty = size(&sealed[first_at(sealed, dirty_from)..]);
        (dirty > 0).then(|| dirty as f64 / size(sealed) as f64)
    }

    /// Where the records begin that no run has compacted, and the segments that one may touch.
    fn compactable(&self, start: i64, stable: i64) -> (i64, &[Segment]) {
        let end = self.checkpointed_before().min(stable);
        let ends = self.segments().windows(2).map(|pair| pair[1].base_offset);
        let sealed = &self.segments()[..ends.take_while(|e| *e <= end).count()];
        let clean = sealed.iter().map_while(|s| s.compacted);
        let dirty_from = clean.map(|c| c.clean_offset).last().unwrap_or(i64::MIN);
        (dirty_from.max(start), sealed)
    }

    /// Begins a run, which ends with [`Log::end_compaction`]. `last_offsets` says for each idempotent
    /// producer where its last batch ends. `None` if nothing waits.
    pub fn begin_compaction(
        &mut self,
        start: i64,
        stable: i64,
        rules: Rules,
        last_offsets: FxHashMap<i64, i64>,
    ) -> Option<Compaction> {
        let (dirty_from, sealed) = self.compactable(start, stable);
        let after = self.segments().get(sealed.len())?;
        let ends = sealed.iter().skip(1).chain([after]).map(|s| s.base_offset);
        let source = |(segment, end_offset): (&Segment, i64)| Source {
            name: segment.name(),
            bytes: segment.committed,
            end_offset,
        };
        let sources: Vec<_> = sealed.iter().zip(ends).map(source).collect();
        if sources
            .last()
            .is_none_or(|last| last.end_offset <= dirty_from)
        {
            return None;
        }
        self.compaction.running = true;
        self.compaction.generation += 1;
        Some(Compaction {
            id: self.id(),
            dir: self.dir().to_owned(),
            generation: self.compaction.generation,
            rules,
            last_offsets,
            sources,
            dirty_from,
            upper: 0,
            keys: KeyMap::new(rules.memory_bytes),
            stage: Stage::Weigh,
            report: Report::default(),
        })
    }

    /// Puts a new segment in the place of those it was made of. No append may be under way. Gives the
    /// old files, to be removed; `None` if they are no part of the log any more.
    pub fn swap(&mut self, swap: &Swap) -> Option<Removal> {
        let first = swap.replaced.first()?;
        let names = self.segments().iter().map(Segment::name);
        let at = names.clone().position(|name| name == *first)?;
        let found = names.skip(at).take(swap.replaced.len());
        if !found.eq(swap.replaced.iter().copied()) {
            return None;
        }
        let max_timestamp = (swap.max_timestamp >= 0).then_some(swap.max_timestamp);
        let new = Segment::sealed(swap.by, swap.bytes, max_timestamp);
        self.replace(at..at + swap.replaced.len(), new);
        self.compaction.swaps += 1;
        Some(self.removal(swap.replaced.clone()))
    }

    /// The run is over.
    pub fn end_compaction(&mut self) {
        self.compaction.running = false;
    }

    pub fn is_being_compacted(&self) -> bool {
        self.compaction.running
    }
}

/// The first segment that has offsets from `offset` on, of segments that follow each other.
fn first_at(segments: &[Segment], offset: i64) -> usize {
    let ended = |pair: &&[Segment]| pair[1].base_offset <= offset;
    let last_ended = segments.last().is_some_and(|last| {
        last.compacted
            .is_some_and(|compacted| compacted.end_offset <= offset)
    });
    segments.windows(2).take_while(ended).count() + usize::from(last_ended)
}

// ---- a run

/// A run over one log. See the module.
pub struct Compaction {
    id: PartitionId,
    dir: PathBuf,
    generation: u64,
    rules: Rules,
    last_offsets: FxHashMap<i64, i64>,
    /// In order. Those at the end that are too young leave.
    sources: Vec<Source>,
    dirty_from: i64,
    /// Where what is compacted ends, if memory lasts.
    upper: i64,
    keys: KeyMap,
    stage: Stage,
    report: Report,
}

/// A segment to be compacted.
#[derive(Debug, Clone, Copy)]
struct Source {
    name: Name,
    bytes: u64,
    end_offset: i64,
}

enum Stage {
    /// Is it time?
    Weigh,
    /// Noting keys, from a place in source `at` on.
    Index {
        at: usize,
        reader: Option<Reader>,
    },
    /// Writing what is left of source `at`.
    Filter {
        at: usize,
        reader: Option<Reader>,
        out: Option<Draft>,
    },
    Ended,
}

impl Compaction {
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Goes on for a while. Blocking. After an error, and after the end, there is nothing more.
    pub fn step(&mut self) -> Result<Step, CompactionError> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Weigh => self.weigh(),
            Stage::Index { at, reader } => self.index(at, reader),
            Stage::Filter { at, reader, out } => self.filter(at, reader, out),
            Stage::Ended => Ok(Step::Done(self.report)),
        }
    }

    /// Bytes read and written so far.
    pub fn bytes_moved(&self) -> u64 {
        self.report.bytes_read + self.report.bytes_written
    }

    /// Kafka: a segment with a record younger than the lag waits, and so do those behind it; a log with
    /// a record older than the largest lag does not wait for others.
    fn weigh(&mut self) -> Result<Step, CompactionError> {
        let first = self.first_dirty();
        let overdue = self.is_overdue(first)?;
        if self.rules.min_lag_ms > 0 {
            let young = self.rules.now_ms.saturating_sub(self.rules.min_lag_ms);
            for at in first..self.sources.len() {
                let age = AgePlan {
                    dir: self.dir.clone(),
                    segment: self.sources[at].name,
                };
                if age.run()? > young {
                    self.sources.truncate(at);
                    break;
                }
            }
        }
        let size = |sources: &[Source]| sources.iter().map(|s| s.bytes).sum::<u64>();
        let dirty = size(&self.sources[first.min(self.sources.len())..]);
        let ratio = dirty as f64 / size(&self.sources).max(1) as f64;
        let due = dirty > 0 && (overdue || ratio > self.rules.min_dirty_ratio);
        let Some(last) = self.sources.last().filter(|_| due) else {
            return Ok(Step::NotDue);
        };
        self.upper = last.end_offset;
        self.stage = Stage::Index {
            at: first,
            reader: None,
        };
        Ok(Step::More)
    }

    fn first_dirty(&self) -> usize {
        let clean = |source: &Source| source.end_offset <= self.dirty_from;
        self.sources.partition_point(clean)
    }

    /// True if a record has waited for longer than it may.
    fn is_overdue(&self, first_dirty: usize) -> Result<bool, CompactionError> {
        if self.rules.max_lag_ms == i64::MAX {
            return Ok(false);
        }
        let latest = self.rules.now_ms.saturating_sub(self.rules.max_lag_ms);
        for source in &self.sources[first_dirty..] {
            let file = file::open(&source.name.log_path(&self.dir))?;
            let first = file::read_at(&file, HEADER_LEN as u64, batch::HEADER_LEN)?;
            let timestamp = BatchHeader::parse(&first).map_or(0, |h| h.max_timestamp());
            if timestamp > 0 && timestamp < latest {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn index(&mut self, at: usize, reader: Option<Reader>) -> Result<Step, CompactionError> {
        let Some(source) = self.sources.get(at).copied() else {
            return Ok(self.begin_filter(self.upper));
        };
        let mut reader = reader.map_or_else(|| self.open(&source), Ok)?;
        let (keys, from) = (&mut self.keys, self.dirty_from);
        let mut full_at = None;
        let more = reader.read(STEP_BYTES, |batch| {
            if !is_kept_whole(&batch) && batch.last_offset() >= from {
                full_at = keys.note_batch(&batch, from)?;
            }
            Ok(full_at.is_none())
        });
        self.report.bytes_read += reader.take_bytes();
        let more = more.map_err(|error| reader.explain(error))?;
        if let Some(offset) = full_at {
            return Ok(self.begin_filter(offset));
        }
        self.stage = match more {
            true => Stage::Index {
                at,
                reader: Some(reader),
            },
            false => Stage::Index {
                at: at + 1,
                reader: None,
            },
        };
        Ok(Step::More)
    }

    /// Keys are known up to `clean`. Sources behind it stay as they are.
    fn begin_filter(&mut self, clean: i64) -> Step {
        self.upper = clean;
        let needed = self
            .sources
            .partition_point(|source| source.name.base_offset < clean);
        self.sources.truncate(needed);
        self.report.keys = self.keys.len();
        self.report.segments_before = needed;
        self.report.bytes_before = self.sources.iter().map(|s| s.bytes).sum();
        self.stage = Stage::Filter {
            at: 0,
            reader: None,
            out: None,
        };
        Step::More
    }

    fn filter(
        &mut self,
        at: usize,
        reader: Option<Reader>,
        out: Option<Draft>,
    ) -> Result<Step, CompactionError> {
        let Some(source) = self.sources.get(at).copied() else {
            return match out {
                Some(out) => self.finish(at, out),
                None => Ok(Step::Done(self.report)),
            };
        };
        let mut out = out;
        let is_full = |out: &mut Draft| reader.is_none() && !self.has_room(out, &source);
        if let Some(full) = out.take_if(is_full) {
            return self.finish(at, full);
        }
        let mut out = match out {
            Some(out) => out,
            None => Draft::begin(&self.dir, self.id, at, source.name.base_offset)?,
        };
        let done = self.filter_some(&source, reader, &mut out);
        match done {
            Ok(reader) => {
                self.stage = Stage::Filter {
                    at: at + usize::from(reader.is_none()),
                    reader,
                    out: Some(out),
                };
                Ok(Step::More)
            }
            Err(error) => {
                out.discard();
                Err(error)
            }
        }
    }

    /// Whether a segment that is being made may take all of `source`, too.
    fn has_room(&self, out: &Draft, source: &Source) -> bool {
        out.position + source.bytes <= self.rules.segment_bytes
            && source.end_offset - out.base_offset <= i64::from(u32::MAX)
    }

    /// Gives the reader back if there is more to read.
    fn filter_some(
        &mut self,
        source: &Source,
        reader: Option<Reader>,
        out: &mut Draft,
    ) -> Result<Option<Reader>, CompactionError> {
        let mut reader = reader.map_or_else(|| self.open(source), Ok)?;
        let judge = Compact {
            now_ms: self.rules.now_ms,
            delete_retention_ms: self.rules.delete_retention_ms,
            clean_before: self.upper,
            inflated_bytes_max: INFLATED_BYTES_MAX,
        };
        let (keys, upper, last_offsets) = (&self.keys, self.upper, &self.last_offsets);
        let more = reader.read(STEP_BYTES, |batch| {
            let left = judge.run(&batch, |key| keys.get(key))?;
            match left {
                Left::All => out.put(batch.bytes())?,
                Left::Some(rest) => {
                    out.changed = true;
                    out.put(&rest)?;
                }
                Left::Nothing => {
                    // KIP-98: the producer's last sequence is told by its last batch. The end of what is
                    // compacted stays as well, as in Kafka.
                    let is_last_of_producer = batch.has_producer_id()
                        && last_offsets.get(&batch.producer_id()) == Some(&batch.last_offset());
                    let stays = is_last_of_producer || batch.last_offset() + 1 == upper;
                    out.changed |= !stays || batch.record_count() > 0;
                    if stays {
                        out.put(&emptied(&batch))?;
                    }
                }
            }
            Ok(true)
        });
        self.report.bytes_read += reader.take_bytes();
        let more = more.map_err(|error| reader.explain(error))?;
        out.write()?;
        self.report.bytes_written += out.sync()?;
        Ok(more.then_some(reader))
    }

    /// Puts the new segment in the place of sources `out.from..to`.
    fn finish(&mut self, to: usize, out: Draft) -> Result<Step, CompactionError> {
        let sources = &self.sources[out.from..to];
        let replaced: Vec<_> = sources.iter().map(|source| source.name).collect();
        let end_offset = sources.last().map_or(out.base_offset, |s| s.end_offset);
        self.stage = Stage::Filter {
            at: to,
            reader: None,
            out: None,
        };
        self.report.segments_after += 1;
        self.report.bytes_after += out.position;
        let clean_offset = self.upper.min(end_offset);
        if let [
            Name {
                compacted: Some(old),
                ..
            },
        ] = replaced[..]
            && old.clean_offset == clean_offset
            && !out.changed
        {
            // It is what it was.
            out.discard();
            return Ok(Step::More);
        }
        let by = Name {
            base_offset: out.base_offset,
            compacted: Some(Compacted {
                end_offset,
                clean_offset,
                generation: self.generation,
            }),
        };
        let written = sources.last().map(|last| last.name.log_path(&self.dir));
        let written_ms = written.map(|path| file::written_ms(&file::open(&path)?));
        let (bytes, max_timestamp) = (out.position, out.max_timestamp);
        out.finish(by, written_ms.transpose()?)?;
        Ok(Step::Swap(Swap {
            replaced,
            by,
            bytes,
            max_timestamp,
        }))
    }

    fn open(&self, source: &Source) -> Result<Reader, CompactionError> {
        Reader::open(&self.dir, source)
    }

    /// Ends a run before its end. Blocking.
    pub fn discard(self) {
        if let Stage::Filter { out: Some(out), .. } = self.stage {
            out.discard();
        }
    }
}

/// Reads a source batch by batch.
struct Reader {
    file: File,
    segment: Name,
    next: Expected,
    position: u64,
    end: u64,
    /// Read since it was asked for last.
    bytes: u64,
}

impl Reader {
    fn open(dir: &Path, source: &Source) -> Result<Self, CompactionError> {
        Ok(Reader {
            file: file::open(&source.name.log_path(dir))?,
            segment: source.name,
            next: Expected::of(&source.name, source.name.base_offset),
            position: HEADER_LEN as u64,
            end: source.bytes,
            bytes: 0,
        })
    }

    /// Gives batches to `take` until so many bytes are read, or it says that it is enough. False at the
    /// end of the segment.
    fn read(
        &mut self,
        budget: u64,
        mut take: impl FnMut(Batch) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        let stop_at = self.position + budget;
        let mut scanner = Scanner::new(&self.file, self.position);
        while self.position < self.end.min(stop_at) {
            let scanned = match scanner.next_batch()? {
                Some(scanned) => scanned?,
                None => return Err(Damage::Torn.into()),
            };
            if !self.next.take(&scanned.header) {
                return Err(Fault::Offset);
            }
            let batch = Batch::parse(&Bytes::copy_from_slice(scanned.bytes))?;
            let size = scanned.bytes.len() as u64;
            let goes_on = take(batch)?;
            self.position += size;
            self.bytes += size;
            if !goes_on {
                return Ok(true);
            }
        }
        Ok(self.position < self.end)
    }

    fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }

    fn explain(&self, fault: Fault) -> CompactionError {
        match fault {
            Fault::Io(error) => error.into(),
            fault => CompactionError::Damaged {
                segment: self.segment.base_offset,
                position: self.position,
                fault,
            },
        }
    }
}

// ---- what is made

/// A segment that is being made, and has no name yet.
struct Draft {
    /// The first source whose records are in it.
    from: usize,
    base_offset: i64,
    dir: PathBuf,
    file: File,
    /// Its end, with what is still to be written.
    position: u64,
    to_write: Vec<u8>,
    unsynced: u64,
    index: ActiveIndex,
    max_timestamp: i64,
    /// Something in it is not as it was.
    changed: bool,
}

impl Draft {
    fn begin(dir: &Path, id: PartitionId, from: usize, base_offset: i64) -> io::Result<Self> {
        let [log, index] = segment::draft_paths(dir, base_offset);
        // What an earlier run has left.
        file::remove_if_there(&index)?;
        Ok(Draft {
            from,
            base_offset,
            dir: dir.to_owned(),
            file: file::make(&log)?,
            position: HEADER_LEN as u64,
            to_write: SegmentHeader { id, base_offset }.encode().to_vec(),
            unsynced: 0,
            index: ActiveIndex::new(),
            max_timestamp: i64::MIN,
            changed: false,
        })
    }

    fn put(&mut self, batch: &[u8]) -> Result<(), Fault> {
        let header = BatchHeader::parse(batch)?;
        let relative = (header.base_offset() - self.base_offset) as u32;
        self.index.note(relative, self.position, self.max_timestamp);
        if header.record_count() > 0 {
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp());
        }
        self.position += batch.len() as u64;
        self.to_write.extend_from_slice(batch);
        if self.to_write.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let len = self.to_write.len() as u64;
        file::write_all_at(&self.file, &self.to_write, self.position - len)?;
        self.to_write.clear();
        self.unsynced += len;
        Ok(())
    }

    /// Makes what was written durable: a little each time, so that no one else has to wait for much.
    /// Gives the bytes.
    fn sync(&mut self) -> io::Result<u64> {
        file::sync(&self.file)?;
        Ok(std::mem::take(&mut self.unsynced))
    }

    /// Gives it its name. `written_ms`: when the last of its records was written.
    fn finish(mut self, by: Name, written_ms: Option<i64>) -> io::Result<()> {
        let done = self.try_to_finish(by, written_ms);
        if done.is_err() {
            self.discard();
        }
        done
    }

    fn try_to_finish(&mut self, by: Name, written_ms: Option<i64>) -> io::Result<()> {
        let [log, index] = segment::draft_paths(&self.dir, self.base_offset);
        let end = by.compacted.map_or(self.base_offset, |c| c.end_offset);
        let relative = (end - self.base_offset) as u32;
        let seal = self.index.seal(relative, self.position, self.max_timestamp);
        seal.run(&index)?;
        file::sync(&file::open(&index)?)?;
        self.write()?;
        if let Some(written_ms) = written_ms {
            file::set_written(&self.file, written_ms)?;
        }
        self.sync()?;
        // The log first: without its index it is whole.
        file::rename(&log, &by.log_path(&self.dir))?;
        file::rename(&index, &by.index_path(&self.dir))?;
        file::sync_dir(&self.dir)
    }

    /// What cannot be removed now goes at the next run, or the next start.
    fn discard(self) {
        for path in segment::draft_paths(&self.dir, self.base_offset) {
            let _ = file::remove_if_there(&path);
        }
    }
}

/// The last offset of each key, by a hash of it: 128 bits, of a secret key, so that nobody can make two
/// keys that are taken for one.
struct KeyMap {
    hasher: SipHasher24,
    offsets: FxHashMap<[u64; 2], i64>,
    keys_max: usize,
}

impl KeyMap {
    fn new(memory_bytes: usize) -> Self {
        // While the table grows to twice its size, both are there.
        let buckets = (memory_bytes / (KEY_BYTES * 3 / 2)).max(2);
        let buckets = 1 << buckets.ilog2();
        KeyMap {
            hasher: SipHasher24::new_with_keys(random_salt(), random_salt()),
            offsets: FxHashMap::default(),
            // As full as it gets before it grows.
            keys_max: (buckets - buckets / 8).max(1),
        }
    }

    fn len(&self) -> usize {
        self.offsets.len()
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let hash = self.hasher.hash(key);
        [hash.h1, hash.h2]
    }

    fn get(&self, key: &[u8]) -> Option<i64> {
        self.offsets.get(&self.hash(key)).copied()
    }

    /// Notes the records of a batch from offset `from` on. Gives the offset of the first one that there
    /// is no room for.
    fn note_batch(&mut self, batch: &Batch, from: i64) -> Result<Option<i64>, RecordError> {
        for record in records(batch, INFLATED_BYTES_MAX)? {
            let record = record?;
            let Some(key) = record.key.filter(|_| record.offset >= from) else {
                continue;
            };
            let is_full = self.offsets.len() >= self.keys_max;
            match self.offsets.entry(self.hash(&key)) {
                Entry::Occupied(mut last) => {
                    last.insert(record.offset.max(*last.get()));
                }
                Entry::Vacant(_) if is_full => return Ok(Some(record.offset)),
                Entry::Vacant(new) => {
                    new.insert(record.offset);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
