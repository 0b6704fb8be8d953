//! Compaction of one log: of the records with the same key only the last one is left.
//!
//! A run reads the segments that no run has read before and notes the last offset of each key, as far
//! as its memory goes. Then it reads the log from its beginning up to there and writes what is left into
//! new segments, small ones together. Each takes the place of those it was made of at one moment: a
//! process that ends at any time leaves the old ones or the new one. Offsets stay, and so the log has
//! holes.
//!
//! What a run decides about records is [`crate::record::compact`]'s; which logs are worth a run, and
//! when, is said here as Kafka's `LogCleanerManager` says it. How segments are read and made is the
//! store's ([`Files`]). Only segments that a checkpoint has left behind take part: they are sealed, and
//! no start needs their batches.
//!
//! A [`Run`] is plain work in steps, to be made off the shard. The shard hears of each new segment and
//! takes it over between two commits.

use std::collections::hash_map::Entry;
use std::io;

use rustc_hash::FxHashMap;
use siphasher::sip128::SipHasher24;

use super::{PartitionId, random_salt};
use crate::record::batch::Batch;
use crate::record::compact::{Compact, Left, emptied, is_kept_whole};
use crate::record::{RecordError, records};

/// A stored batch was checked against a limit when it came; this only bounds damage.
const INFLATED_BYTES_MAX: usize = 1 << 30;
/// What a key takes in memory: its hash and its offset, and a byte of the table's own.
pub(crate) const KEY_BYTES: usize = 25;

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
    /// Reading it again will not help. Says what, and where.
    #[error("{0}")]
    Damaged(String),
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
pub enum Step<S> {
    /// There is more to do.
    More,
    /// A new segment is there, to be taken over by the log.
    Swap(S),
    /// The run is at its end.
    Done(Report),
    /// No record is old enough, or not enough of them.
    NotDue,
}

impl<S> Step<S> {
    pub fn map<T>(self, map: impl FnOnce(S) -> T) -> Step<T> {
        match self {
            Step::More => Step::More,
            Step::Swap(swap) => Step::Swap(map(swap)),
            Step::Done(report) => Step::Done(report),
            Step::NotDue => Step::NotDue,
        }
    }
}

/// A segment that may be compacted. `N` is what its store names it by.
#[derive(Debug, Clone, Copy)]
pub struct Source<N> {
    pub name: N,
    pub base_offset: i64,
    pub end_offset: i64,
    pub bytes: u64,
    /// Records before it were compacted, if any was.
    pub clean_offset: Option<i64>,
}

/// Reads segments of a log, and makes new ones. Everything blocks.
pub trait Files: Send + 'static {
    type Name: Copy + Send;
    /// Is somewhere in a segment.
    type Reader: Send;
    /// A segment that is being made: no part of the log yet.
    type Draft: Send;
    /// What the log is to know of a segment that takes the place of others.
    type Swap: Send;

    /// The largest timestamp of a segment's records; without any, when it was written last.
    fn newest_ms(&self, source: &Source<Self::Name>) -> io::Result<i64>;
    /// The largest timestamp of a segment's first batch; 0 or less if there is none.
    fn first_ms(&self, source: &Source<Self::Name>) -> io::Result<i64>;

    fn open(&self, source: &Source<Self::Name>) -> Result<Self::Reader, CompactionError>;
    /// The next batches of a segment, some MiB. None at its end.
    fn read(&self, reader: &mut Self::Reader) -> Result<Vec<Batch>, CompactionError>;

    /// Begins a segment that has the name of `first`'s offset.
    fn begin(&self, first: &Source<Self::Name>) -> io::Result<Self::Draft>;
    /// Whether a draft may take all that `source` has, too.
    fn has_room(&self, draft: &Self::Draft, source: &Source<Self::Name>) -> bool;
    /// Bytes of a draft.
    fn size(&self, draft: &Self::Draft) -> u64;
    /// Takes in what is left of the batches that were read last. Gives the bytes written.
    fn put(
        &self,
        draft: &mut Self::Draft,
        from: &Self::Reader,
        left: &[(Batch, Left)],
    ) -> Result<u64, CompactionError>;
    /// Makes a draft durable, in the place of `sources`: what is before `clean_offset` is compacted. Gives
    /// also the bytes written.
    fn finish(
        &self,
        draft: Self::Draft,
        sources: &[Source<Self::Name>],
        clean_offset: i64,
    ) -> Result<(Self::Swap, u64), CompactionError>;
    /// Removes a draft. What cannot be removed now goes later.
    fn discard(&self, draft: Self::Draft);
}

/// The part of a log that waits for compaction, from 0 to 1, of what could be compacted at all: `sources`,
/// in order. `None` if nothing waits. `start`: where the log starts.
pub fn dirty_ratio<N>(sources: impl Iterator<Item = Source<N>> + Clone, start: i64) -> Option<f64> {
    let from = dirty_from(sources.clone(), start);
    let (mut dirty, mut all) = (0, 0);
    for source in sources {
        all += source.bytes;
        if source.end_offset > from {
            dirty += source.bytes;
        }
    }
    (dirty > 0).then(|| dirty as f64 / all as f64)
}

/// Where the records begin that no run has compacted.
fn dirty_from<N>(sources: impl Iterator<Item = Source<N>>, start: i64) -> i64 {
    let clean = sources.map_while(|source| source.clean_offset);
    clean.last().unwrap_or(i64::MIN).max(start)
}

/// A run over one log. See the module.
pub struct Run<F: Files> {
    id: PartitionId,
    files: F,
    rules: Rules,
    last_offsets: FxHashMap<i64, i64>,
    /// In order. Those at the end that are too young leave.
    sources: Vec<Source<F::Name>>,
    dirty_from: i64,
    /// Where what is compacted ends, if memory lasts.
    upper: i64,
    keys: KeyMap,
    stage: Stage<F>,
    report: Report,
}

enum Stage<F: Files> {
    /// Is it time?
    Weigh,
    /// Noting keys, from a place in source `at` on.
    Index {
        at: usize,
        reader: Option<F::Reader>,
    },
    /// Writing what is left of source `at`.
    Filter {
        at: usize,
        reader: Option<F::Reader>,
        out: Option<Out<F::Draft>>,
    },
    Ended,
}

/// A segment that is being made.
struct Out<D> {
    /// The first source whose records are in it.
    from: usize,
    draft: D,
    /// Something in it is not as it was.
    changed: bool,
}

impl<F: Files> Run<F> {
    /// Begins a run over `sources`, in order. `start`: where the log starts. `last_offsets` says for each
    /// idempotent producer where its last batch ends. `None` if nothing waits.
    pub fn begin(
        id: PartitionId,
        files: F,
        sources: Vec<Source<F::Name>>,
        start: i64,
        rules: Rules,
        last_offsets: FxHashMap<i64, i64>,
    ) -> Option<Self> {
        let dirty_from = dirty_from(sources.iter().copied(), start);
        let end = sources.last()?.end_offset;
        (end > dirty_from).then(|| Run {
            id,
            files,
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

    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Goes on for a while. Blocking. After an error, and after the end, there is nothing more.
    pub fn step(&mut self) -> Result<Step<F::Swap>, CompactionError> {
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
    fn weigh(&mut self) -> Result<Step<F::Swap>, CompactionError> {
        let first = self.first_dirty();
        let overdue = self.is_overdue(first)?;
        if self.rules.min_lag_ms > 0 {
            let young = self.rules.now_ms.saturating_sub(self.rules.min_lag_ms);
            for at in first..self.sources.len() {
                if self.files.newest_ms(&self.sources[at])? > young {
                    self.sources.truncate(at);
                    break;
                }
            }
        }
        let size = |sources: &[Source<_>]| sources.iter().map(|s| s.bytes).sum::<u64>();
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
        let clean = |source: &Source<_>| source.end_offset <= self.dirty_from;
        self.sources.partition_point(clean)
    }

    /// True if a record has waited for longer than it may.
    fn is_overdue(&self, first_dirty: usize) -> io::Result<bool> {
        if self.rules.max_lag_ms == i64::MAX {
            return Ok(false);
        }
        let latest = self.rules.now_ms.saturating_sub(self.rules.max_lag_ms);
        for source in &self.sources[first_dirty..] {
            let timestamp = self.files.first_ms(source)?;
            if timestamp > 0 && timestamp < latest {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next batches of a segment.
    fn read(&mut self, reader: &mut F::Reader) -> Result<Vec<Batch>, CompactionError> {
        let batches = self.files.read(reader)?;
        let bytes = batches.iter().map(|batch| batch.bytes().len() as u64);
        self.report.bytes_read += bytes.sum::<u64>();
        Ok(batches)
    }

    fn index(
        &mut self,
        at: usize,
        reader: Option<F::Reader>,
    ) -> Result<Step<F::Swap>, CompactionError> {
        let Some(source) = self.sources.get(at).copied() else {
            return Ok(self.begin_filter(self.upper));
        };
        let mut reader = reader.map_or_else(|| self.files.open(&source), Ok)?;
        let batches = self.read(&mut reader)?;
        for batch in &batches {
            if is_kept_whole(batch) || batch.last_offset() < self.dirty_from {
                continue;
            }
            let full = self.keys.note_batch(batch, self.dirty_from);
            if let Some(offset) = full.map_err(|error| damaged(&source, batch, error))? {
                return Ok(self.begin_filter(offset));
            }
        }
        self.stage = match batches.is_empty() {
            false => Stage::Index {
                at,
                reader: Some(reader),
            },
            true => Stage::Index {
                at: at + 1,
                reader: None,
            },
        };
        Ok(Step::More)
    }

    /// Keys are known up to `clean`. Sources behind it stay as they are.
    fn begin_filter(&mut self, clean: i64) -> Step<F::Swap> {
        self.upper = clean;
        let needed = self.sources.partition_point(|s| s.base_offset < clean);
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
        reader: Option<F::Reader>,
        out: Option<Out<F::Draft>>,
    ) -> Result<Step<F::Swap>, CompactionError> {
        let Some(source) = self.sources.get(at).copied() else {
            return match out {
                Some(out) => self.finish(at, out),
                None => Ok(Step::Done(self.report)),
            };
        };
        let mut out = out;
        let is_full =
            |out: &mut Out<F::Draft>| reader.is_none() && !self.files.has_room(&out.draft, &source);
        if let Some(full) = out.take_if(is_full) {
            return self.finish(at, full);
        }
        let mut out = match out {
            Some(out) => out,
            None => Out {
                from: at,
                draft: self.files.begin(&source)?,
                changed: false,
            },
        };
        match self.filter_some(&source, reader, &mut out) {
            Ok(reader) => {
                self.stage = Stage::Filter {
                    at: at + usize::from(reader.is_none()),
                    reader,
                    out: Some(out),
                };
                Ok(Step::More)
            }
            Err(error) => {
                self.files.discard(out.draft);
                Err(error)
            }
        }
    }

    /// Gives the reader back if there is more to read.
    fn filter_some(
        &mut self,
        source: &Source<F::Name>,
        reader: Option<F::Reader>,
        out: &mut Out<F::Draft>,
    ) -> Result<Option<F::Reader>, CompactionError> {
        let mut reader = reader.map_or_else(|| self.files.open(source), Ok)?;
        let batches = self.read(&mut reader)?;
        if batches.is_empty() {
            return Ok(None);
        }
        let mut left = Vec::with_capacity(batches.len());
        for batch in batches {
            let judged = self.judge(&batch);
            let judged = judged.map_err(|error| damaged(source, &batch, error))?;
            out.changed |= judged != Left::All;
            left.push((batch, judged));
        }
        self.report.bytes_written += self.files.put(&mut out.draft, &reader, &left)?;
        Ok(Some(reader))
    }

    /// What stays of a batch.
    fn judge(&self, batch: &Batch) -> Result<Left, RecordError> {
        let judge = Compact {
            now_ms: self.rules.now_ms,
            delete_retention_ms: self.rules.delete_retention_ms,
            clean_before: self.upper,
            inflated_bytes_max: INFLATED_BYTES_MAX,
        };
        let left = judge.run(batch, |key| self.keys.get(key))?;
        if left != Left::Nothing {
            return Ok(left);
        }
        // KIP-98: the producer's last sequence is told by its last batch. The end of what is compacted
        // stays as well, as in Kafka.
        let is_last_of_producer = batch.has_producer_id()
            && self.last_offsets.get(&batch.producer_id()) == Some(&batch.last_offset());
        let stays = is_last_of_producer || batch.last_offset() + 1 == self.upper;
        Ok(match stays {
            true if batch.record_count() == 0 => Left::All,
            true => Left::Some(emptied(batch)),
            false => Left::Nothing,
        })
    }

    /// Puts the new segment in the place of sources `out.from..to`.
    fn finish(&mut self, to: usize, out: Out<F::Draft>) -> Result<Step<F::Swap>, CompactionError> {
        let sources = &self.sources[out.from..to];
        let end_offset = sources.last().map_or(0, |source| source.end_offset);
        self.stage = Stage::Filter {
            at: to,
            reader: None,
            out: None,
        };
        self.report.segments_after += 1;
        self.report.bytes_after += self.files.size(&out.draft);
        let clean_offset = self.upper.min(end_offset);
        if let [one] = sources
            && one.clean_offset == Some(clean_offset)
            && !out.changed
        {
            // It is what it was.
            self.files.discard(out.draft);
            return Ok(Step::More);
        }
        let (swap, bytes) = self.files.finish(out.draft, sources, clean_offset)?;
        self.report.bytes_written += bytes;
        Ok(Step::Swap(swap))
    }

    /// Ends a run before its end. Blocking.
    pub fn discard(self) {
        if let Stage::Filter { out: Some(out), .. } = self.stage {
            self.files.discard(out.draft);
        }
    }
}

fn damaged<N>(source: &Source<N>, batch: &Batch, error: RecordError) -> CompactionError {
    let (segment, batch) = (source.base_offset, batch.base_offset());
    CompactionError::Damaged(format!("segment {segment}, batch {batch}: {error}"))
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
