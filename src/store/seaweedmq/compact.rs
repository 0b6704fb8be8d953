//! Compaction of a log in SeaweedFS: how [`crate::store::compact`] reads segments and makes new ones.
//!
//! Sealed segments are read chunk by chunk. Of what is left of them new chunks are made, or it stays in
//! the chunks that it is in; then the entry of the first of them is put anew, in one transaction of the
//! shard's fence. It stands for the offsets of all of them. The filer removes the chunks that the entry
//! does not list any more. The entries of the others go some time later, as those that are beyond
//! retention do; a start that finds them there sees that they lie within a compacted one.
//!
//! So segments change without a checkpoint. One that listed them would be wrong after a crash: a log is
//! compacted when its last one lists none, and the next start asks the filer for all of them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use rustc_hash::FxHashMap;

use super::codec::{self, Clock};
use super::fence::{Fence, FenceError};
use super::log::{Log, SEGMENT_BYTES_MAX};
use super::merge::{SMALL_BYTES, bytes_of};
use super::read::key;
use super::recovery::is_damage;
use super::segment::{Chunk, Place, Segment, Table};
use super::{CHUNK_BYTES, READS_AT_ONCE, Shared, failed, refused};
use crate::bridge::{Mutation, path};
use crate::record::RecordError;
use crate::record::batch::Batch;
use crate::record::compact::Left;
use crate::store::compact::{self, CompactionError, Files, Rules, Run};
use crate::store::{BATCH_HEAD_LEN, StoredBatch};

/// Read in one step.
const STEP_BYTES: u64 = 4 << 20;

pub type Compaction = Run<Folder>;
type Source = compact::Source<Segment>;

/// A segment that takes the place of others. The filer has it already.
pub struct Swap {
    pub(super) replaced: Vec<Segment>,
    pub(super) by: Segment,
}

impl Swap {
    /// Where the offsets end that the new segment stands for.
    pub fn end_offset(&self) -> i64 {
        self.by.next_offset
    }
}

/// See [`crate::store::Store::begin_compaction`].
pub(super) fn begin(
    shared: &Arc<Shared>,
    fence: &Arc<Fence>,
    log: &mut Log,
    start: i64,
    stable: i64,
    rules: Rules,
    last_offsets: FxHashMap<i64, i64>,
) -> Option<Compaction> {
    let folder = Folder {
        dir: log.dir().clone(),
        shared: shared.clone(),
        fence: fence.clone(),
        segment_bytes: rules.segment_bytes.min(SEGMENT_BYTES_MAX),
    };
    let sources = log.want_compaction(stable);
    let run = Run::begin(log.id(), folder, sources, start, rules, last_offsets)?;
    log.begin_compaction();
    Some(run)
}

/// The folder of a partition, to a run.
pub struct Folder {
    dir: Arc<str>,
    shared: Arc<Shared>,
    fence: Arc<Fence>,
    segment_bytes: u64,
}

/// What cannot be read, or stored.
fn explained(segment: &Segment, error: io::Error) -> CompactionError {
    let name = segment.name();
    match is_damage(&error) {
        true => CompactionError::Damaged(format!("segment {name}: {error}")),
        false => CompactionError::Io(error),
    }
}

fn damaged(segment: &Segment, what: &str) -> CompactionError {
    CompactionError::Damaged(format!("segment {}: {what}", segment.name()))
}

impl Files for Folder {
    type Name = Segment;
    type Reader = Reader;
    type Draft = Draft;
    type Swap = Swap;

    fn newest_ms(&self, source: &Source) -> io::Result<i64> {
        Ok(match source.name.max_timestamp {
            ..0 => source.name.written_ms,
            newest => newest,
        })
    }

    fn first_ms(&self, source: &Source) -> io::Result<i64> {
        let (shared, segment) = (&self.shared, &source.name);
        let table = shared.tables.get_or_look_up(shared, &self.dir, segment)?;
        Ok(table.first_timestamp)
    }

    fn open(&self, source: &Source) -> Result<Reader, CompactionError> {
        let segment = &source.name;
        let table = self.look_up(segment);
        let table = table.map_err(|error| explained(segment, error))?;
        if table.segment != *segment {
            let text =
                "the filer has another segment than is known; a restart looks at all of them";
            return Err(damaged(segment, text));
        }
        Ok(Reader {
            next_offset: segment.base_offset,
            next_chunk: 0,
            read: Vec::new(),
            table,
        })
    }

    fn read(&self, reader: &mut Reader) -> Result<Vec<Batch>, CompactionError> {
        let segment = reader.table.segment;
        let mut bytes = 0;
        let fits = |chunk: &&Arc<Chunk>| {
            let fits = bytes < STEP_BYTES;
            bytes += chunk.size();
            fits
        };
        let chunks = reader.table.chunks[reader.next_chunk..].iter();
        let chunks: Vec<_> = chunks.take_while(fits).cloned().collect();
        reader.next_chunk += chunks.len();
        let read = self.read_chunks(&chunks);
        let read = read.map_err(|error| explained(&segment, error))?;
        reader.read.clear();
        let mut batches = Vec::new();
        for (chunk, bytes) in chunks.into_iter().zip(read) {
            let decoded = codec::decode(&bytes);
            let decoded = decoded.map_err(|error| damaged(&segment, &error.to_string()))?;
            for place in &decoded.places {
                let batch = decoded.bytes.slice(place.at..place.at + place.len);
                let batch = Batch::parse(&batch);
                batches.push(batch.map_err(|error| damaged(&segment, &error.to_string()))?);
            }
            let times = decoded.places.iter().map(|place| place.ts_ns).collect();
            reader.read.push((chunk, times));
        }
        if !reader.takes(&batches) {
            return Err(damaged(
                &segment,
                "offsets do not go on from batch to batch",
            ));
        }
        Ok(batches)
    }

    fn begin(&self, first: &Source) -> io::Result<Draft> {
        Ok(Draft::begin(&first.name))
    }

    fn has_room(&self, draft: &Draft, source: &Source) -> bool {
        draft.bytes == 0 || draft.bytes + source.bytes <= self.segment_bytes
    }

    fn size(&self, draft: &Draft) -> u64 {
        draft.bytes
    }

    fn put(
        &self,
        draft: &mut Draft,
        from: &Reader,
        left: &[(Batch, Left)],
    ) -> Result<u64, CompactionError> {
        let written = draft.written;
        let mut left = left;
        for (chunk, times) in &from.read {
            let of_chunk = left.split_off(..times.len()).unwrap_or_default();
            if draft.may_keep(&from.table.segment, chunk, of_chunk) {
                self.flush(draft)?;
                draft.keep(chunk, of_chunk, times);
                continue;
            }
            for ((batch, left), ts_ns) in of_chunk.iter().zip(times) {
                let taken = draft.take(batch, left, *ts_ns);
                taken.map_err(|error| damaged(&from.table.segment, &error.to_string()))?;
                if draft.pending.len() >= CHUNK_BYTES {
                    self.flush(draft)?;
                }
            }
        }
        draft.last_ns = draft.last_ns.max(from.table.last_ns);
        Ok(draft.written - written)
    }

    fn finish(
        &self,
        mut draft: Draft,
        sources: &[Source],
        clean_offset: i64,
    ) -> Result<(Swap, u64), CompactionError> {
        let written = draft.written;
        if let Err(error) = self.flush(&mut draft) {
            self.discard(draft);
            return Err(error.into());
        }
        let replaced: Vec<_> = sources.iter().map(|source| source.name).collect();
        let made = std::mem::take(&mut draft.made);
        let written = draft.written - written;
        let table = draft.table(replaced.last(), clean_offset);
        self.store(&table, made)?;
        let by = table.segment;
        self.shared.tables.keep(&self.dir, Arc::new(table));
        Ok((Swap { replaced, by }, written))
    }

    fn discard(&self, draft: Draft) {
        self.shared.discard(draft.made);
    }
}

impl Folder {
    fn look_up(&self, segment: &Segment) -> io::Result<Arc<Table>> {
        let name = segment.name();
        self.shared.tables.look_up(&self.shared, &self.dir, &name)
    }

    fn read_chunks(&self, chunks: &[Arc<Chunk>]) -> io::Result<Vec<Bytes>> {
        let read = stream::iter(chunks.to_vec())
            .map(|chunk| async move { bytes_of(&self.shared, &chunk).await })
            .buffered(READS_AT_ONCE)
            .try_collect();
        block_on(read).map_err(failed)
    }

    /// Makes a chunk of what waits for more.
    fn flush(&self, draft: &mut Draft) -> io::Result<()> {
        let Some(pending) = draft.take_pending() else {
            return Ok(());
        };
        let path = path(&self.dir, &draft.segment.name());
        let file = block_on(self.shared.upload(vec![pending.bytes.into()], &path));
        let file = file.map_err(failed)?;
        draft.written += file.size;
        let chunk = Arc::new(Chunk {
            base_offset: pending.base_offset,
            max_timestamp: pending.max_timestamp,
            at: Place::File(file),
        });
        draft.made.push(chunk.clone());
        draft.chunks.push(chunk);
        Ok(())
    }

    /// Puts the entry. `made` are chunks that no other entry lists.
    fn store(&self, table: &Table, made: Vec<Arc<Chunk>>) -> Result<(), CompactionError> {
        let put = Mutation::Put {
            directory: self.dir.to_string(),
            entry: table.entry(),
        };
        match self.fence.transact(vec![put]) {
            Ok(()) => Ok(()),
            Err(FenceError::Fenced) => {
                self.shared.discard(made);
                Err(refused(FenceError::Fenced).into())
            }
            // It may have been done by half: whether the entry is there the filer knows. If it cannot be
            // asked, the chunks stay.
            Err(error) => match self.look_up(&table.segment) {
                Ok(found) if is_same(&found, table) => Ok(()),
                _ => Err(refused(error).into()),
            },
        }
    }
}

/// Whether two tables list the same chunks of the same segment.
fn is_same(one: &Table, other: &Table) -> bool {
    let keys = |table: &Table| -> Vec<_> {
        let files = table.chunks.iter().filter_map(|chunk| chunk.file());
        files.map(key).collect()
    };
    one.segment == other.segment && keys(one) == keys(other)
}

/// Reads a segment chunk by chunk.
pub struct Reader {
    table: Arc<Table>,
    next_chunk: usize,
    /// No batch that comes has a smaller one.
    next_offset: i64,
    /// The chunks read last, with the times of their batches' appends.
    read: Vec<(Arc<Chunk>, Vec<i64>)>,
}

impl Reader {
    /// Whether batches may come next. Nothing at all is the end of the segment.
    fn takes(&mut self, batches: &[Batch]) -> bool {
        let ends = batches.is_empty() && self.read.is_empty();
        let in_order = batches.iter().all(|batch| {
            let next = self.next_offset;
            self.next_offset = batch.last_offset() + 1;
            batch.base_offset() >= next && self.next_offset > batch.base_offset()
        });
        let has_all = self.read.iter().all(|(_, times)| !times.is_empty());
        ends || (in_order && has_all && self.next_offset <= self.table.segment.next_offset)
    }
}

/// A segment that is being made, under the name of another one that it takes the place of.
pub struct Draft {
    segment: Segment,
    /// Of its record batches as clients see them.
    bytes: u64,
    max_timestamp: i64,
    first_timestamp: i64,
    last_ns: i64,
    /// What is to be in the next chunk.
    pending: Vec<u8>,
    pending_offset: i64,
    pending_timestamp: i64,
    clock: Clock,
    chunks: Vec<Arc<Chunk>>,
    /// Those that were made for it.
    made: Vec<Arc<Chunk>>,
    /// Bytes of those.
    written: u64,
}

/// A chunk before it is stored.
struct Pending {
    bytes: Vec<u8>,
    base_offset: i64,
    max_timestamp: i64,
}

impl Draft {
    fn begin(segment: &Segment) -> Self {
        Draft {
            segment: *segment,
            bytes: 0,
            max_timestamp: -1,
            first_timestamp: -1,
            last_ns: 0,
            pending: Vec::new(),
            pending_offset: 0,
            pending_timestamp: -1,
            clock: Clock::default(),
            chunks: Vec::new(),
            made: Vec::new(),
            written: 0,
        }
    }

    /// Whether a chunk may stay as it is: all of it is left, it is none of another entry, which takes its
    /// chunks along when it goes, and it is not wanted to make a small one larger.
    fn may_keep(&self, of: &Segment, chunk: &Chunk, left: &[(Batch, Left)]) -> bool {
        let is_small = |bytes: u64| bytes < SMALL_BYTES;
        let waits = !self.pending.is_empty() && is_small(self.pending.len() as u64);
        of.name_s == self.segment.name_s
            && left.iter().all(|(_, left)| *left == Left::All)
            && !is_small(chunk.size())
            && !waits
    }

    /// Takes a chunk over as it is. Nothing may be pending.
    fn keep(&mut self, chunk: &Arc<Chunk>, batches: &[(Batch, Left)], times: &[i64]) {
        for (batch, _) in batches {
            self.count(batch);
        }
        self.clock.last_ns = times.last().copied().unwrap_or(0).max(self.clock.last_ns);
        self.chunks.push(chunk.clone());
    }

    /// Takes in what is left of a batch whose first record was appended at a time.
    fn take(&mut self, batch: &Batch, left: &Left, ts_ns: i64) -> Result<(), RecordError> {
        let rest;
        let batch = match left {
            Left::All => batch,
            Left::Some(bytes) => {
                rest = Batch::parse(bytes)?;
                &rest
            }
            Left::Nothing => return Ok(()),
        };
        if self.pending.is_empty() {
            self.pending_offset = batch.base_offset();
        }
        let timestamp = self.count(batch);
        self.pending_timestamp = self.pending_timestamp.max(timestamp);
        let mut head = [0; BATCH_HEAD_LEN];
        head.copy_from_slice(&batch.bytes()[..BATCH_HEAD_LEN]);
        let stored = StoredBatch {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
            head,
            body: batch.after_head(),
        };
        // Records keep the times of their appends, or earlier ones where some before them are gone.
        codec::encode(&stored, ts_ns, &mut self.clock, &mut self.pending);
        Ok(())
    }

    /// Counts a batch; gives the largest timestamp of its records, -1 if it has none.
    fn count(&mut self, batch: &Batch) -> i64 {
        let timestamp = match batch.record_count() {
            0 => -1,
            _ => batch.max_timestamp(),
        };
        if self.bytes == 0 {
            self.first_timestamp = timestamp;
        }
        self.bytes += batch.bytes().len() as u64;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        timestamp
    }

    fn take_pending(&mut self) -> Option<Pending> {
        let pending = Pending {
            bytes: std::mem::take(&mut self.pending),
            base_offset: self.pending_offset,
            max_timestamp: std::mem::replace(&mut self.pending_timestamp, -1),
        };
        (!pending.bytes.is_empty()).then_some(pending)
    }

    /// The segment, in the place of those up to `last`.
    fn table(mut self, last: Option<&Segment>, clean_offset: i64) -> Table {
        let last = last.unwrap_or(&self.segment);
        let segment = Segment {
            next_offset: last.next_offset,
            bytes: self.bytes,
            max_timestamp: self.max_timestamp,
            written_ms: last.written_ms,
            clean_offset: Some(clean_offset),
            ..self.segment
        };
        // The hole before what is left is the first chunk's.
        if let Some(first) = self.chunks.first_mut() {
            Arc::make_mut(first).base_offset = segment.base_offset;
        }
        Table {
            segment,
            first_timestamp: self.first_timestamp,
            last_ns: self.last_ns,
            chunks: self.chunks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::FileChunk;
    use crate::record::{Builder, records};

    const FIRST: Segment = Segment {
        name_s: 1_700_000_000,
        base_offset: 5,
        next_offset: 20,
        bytes: 999,
        max_timestamp: 80,
        written_ms: 7,
        clean_offset: None,
    };

    fn batch(base_offset: i64, keys: &[&str]) -> Batch {
        let mut builder = Builder::new().base_offset(base_offset);
        for (n, key) in keys.iter().enumerate() {
            builder.append(
                base_offset + n as i64,
                Some(key.as_bytes()),
                Some(b"value"),
                &[],
            );
        }
        Batch::parse(&builder.build()).unwrap()
    }

    fn chunk(base_offset: i64, size: u64) -> Arc<Chunk> {
        Arc::new(Chunk {
            base_offset,
            max_timestamp: base_offset,
            at: Place::File(FileChunk {
                file_id: format!("3,{base_offset:x}"),
                size,
                ..FileChunk::default()
            }),
        })
    }

    #[test]
    fn a_chunk_stays_if_all_of_it_does_and_it_is_large_and_its_own_entrys() {
        let mut draft = Draft::begin(&FIRST);
        let all = [(batch(5, &["a", "b"]), Left::All)];
        let less = [(batch(5, &["a", "b"]), Left::Nothing)];
        let large = chunk(5, SMALL_BYTES);
        assert!(draft.may_keep(&FIRST, &large, &all));
        assert!(!draft.may_keep(&FIRST, &large, &less));
        assert!(!draft.may_keep(&FIRST, &chunk(5, SMALL_BYTES - 1), &all));
        // It would go with the entry that lists it.
        let other = Segment {
            name_s: FIRST.name_s + 1,
            ..FIRST
        };
        assert!(!draft.may_keep(&other, &large, &all));
        // What waits is small, and takes it in.
        draft.take(&all[0].0, &Left::All, 1).unwrap();
        assert!(!draft.may_keep(&FIRST, &large, &all));
        draft.pending.resize(SMALL_BYTES as usize, 0);
        assert!(draft.may_keep(&FIRST, &large, &all));
    }

    #[test]
    fn what_is_left_is_written_with_its_offsets_and_at_most_its_times() {
        let mut draft = Draft::begin(&FIRST);
        let (whole, part) = (batch(5, &["a"]), batch(8, &["b", "c"]));
        let mut builder = Builder::new().base_offset(8).last_offset_delta(1);
        builder.append_at(1, 9, Some(b"c"), Some(b"value"), &[]);
        draft.take(&whole, &Left::All, 1000).unwrap();
        let left = Left::Some(builder.build());
        draft.take(&part, &left, 2000).unwrap();
        draft
            .take(&batch(10, &["d"]), &Left::Nothing, 3000)
            .unwrap();
        let pending = draft.take_pending().unwrap();
        assert_eq!((pending.base_offset, pending.max_timestamp), (5, 9));
        assert!(draft.take_pending().is_none());
        let found = codec::decode(&pending.bytes).unwrap();
        let times: Vec<_> = found.places.iter().map(|place| place.ts_ns).collect();
        assert_eq!(times, [1000, 2000]);
        let offsets = crate::record::batch::batches(found.bytes).flat_map(|batch| {
            let batch = batch.unwrap();
            let records: Vec<_> = records(&batch, 1 << 20).unwrap().collect();
            records.into_iter().map(|record| record.unwrap().offset)
        });
        assert_eq!(offsets.collect::<Vec<_>>(), [5, 9]);
    }

    #[test]
    fn it_stands_for_all_offsets_of_those_it_takes_the_place_of() {
        let last = Segment {
            name_s: FIRST.name_s + 9,
            base_offset: 20,
            next_offset: 50,
            written_ms: 8,
            ..FIRST
        };
        let mut draft = Draft::begin(&FIRST);
        draft.keep(&chunk(8, 99), &[(batch(8, &["a"]), Left::All)], &[1]);
        draft.keep(&chunk(30, 99), &[(batch(30, &["b", "c"]), Left::All)], &[2]);
        let table = draft.table(Some(&last), 40);
        let expected = Segment {
            next_offset: 50,
            max_timestamp: 31,
            written_ms: 8,
            clean_offset: Some(40),
            bytes: table.segment.bytes,
            ..FIRST
        };
        assert_eq!(table.segment, expected);
        assert_eq!(table.first_timestamp, 8);
        let entry = table.entry();
        let found = Table::read(&entry).expect("it is whole");
        assert!(is_same(&found, &table));
        assert_eq!([5, 29, 30, 49].map(|at| found.chunk_of(at)), [0, 0, 1, 1]);
        let nothing = Draft::begin(&FIRST).table(Some(&last), 50);
        assert_eq!(Table::read(&nothing.entry()), Some(nothing));
    }
}
