//! Compaction of a log on the disk: how [`crate::store::compact`] reads segments and makes new ones.
//!
//! A new segment takes the place of those it was made of by one rename (see [`super::segment`]), once it
//! is synced.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::file;
use super::index::ActiveIndex;
use super::log::{AgePlan, Expected, Log, Removal, Segment};
use super::segment::{self, Compacted, Damage, HEADER_LEN, Name, Scanner, SegmentHeader};
use crate::record::RecordError;
use crate::record::batch::{self, Batch, BatchHeader};
use crate::record::compact::Left;
use crate::store::PartitionId;
use crate::store::compact::{self, CompactionError, Files, Rules, Run, dirty_ratio};

/// Read in one step.
const STEP_BYTES: u64 = 4 << 20;
/// Written at once.
const WRITE_BYTES: usize = 1 << 20;

pub type Compaction = Run<Folder>;
type Source = compact::Source<Name>;

/// What is wrong with a batch, or with the file that it is in.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Batch(#[from] Damage),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the batch's offsets do not go on from those before it")]
    Offset,
    #[error(transparent)]
    Io(#[from] io::Error),
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
        dirty_ratio(self.compactable(stable), start)
    }

    /// The segments that a run may touch.
    fn compactable(&self, stable: i64) -> impl Iterator<Item = Source> + Clone {
        let end = self.checkpointed_before().min(stable);
        let source = |pair: &[Segment]| Source {
            name: pair[0].name(),
            base_offset: pair[0].base_offset,
            end_offset: pair[1].base_offset,
            bytes: pair[0].committed,
            clean_offset: pair[0].compacted.map(|compacted| compacted.clean_offset),
        };
        let sources = self.segments().windows(2).map(source);
        sources.take_while(move |source| source.end_offset <= end)
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
        let folder = Folder {
            id: self.id(),
            dir: self.dir().to_owned(),
            generation: self.compaction.generation + 1,
            segment_bytes: rules.segment_bytes,
        };
        let sources = self.compactable(stable).collect();
        let run = Run::begin(self.id(), folder, sources, start, rules, last_offsets)?;
        self.compaction.running = true;
        self.compaction.generation += 1;
        Some(run)
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

// ---- what a run reads and makes

/// The folder of a partition, to a run.
pub struct Folder {
    id: PartitionId,
    dir: PathBuf,
    generation: u64,
    segment_bytes: u64,
}

impl Files for Folder {
    type Name = Name;
    type Reader = Reader;
    type Draft = Draft;
    type Swap = Swap;

    fn newest_ms(&self, source: &Source) -> io::Result<i64> {
        let age = AgePlan {
            dir: self.dir.clone(),
            segment: source.name,
        };
        age.run()
    }

    fn first_ms(&self, source: &Source) -> io::Result<i64> {
        let file = file::open(&source.name.log_path(&self.dir))?;
        let first = file::read_at(&file, HEADER_LEN as u64, batch::HEADER_LEN)?;
        Ok(BatchHeader::parse(&first).map_or(0, |header| header.max_timestamp()))
    }

    fn open(&self, source: &Source) -> Result<Reader, CompactionError> {
        Ok(Reader {
            file: file::open(&source.name.log_path(&self.dir))?,
            segment: source.name,
            next: Expected::of(&source.name, source.name.base_offset),
            position: HEADER_LEN as u64,
            end: source.bytes,
        })
    }

    fn read(&self, reader: &mut Reader) -> Result<Vec<Batch>, CompactionError> {
        reader.read(STEP_BYTES)
    }

    fn begin(&self, first: &Source) -> io::Result<Draft> {
        Draft::begin(&self.dir, self.id, first.base_offset)
    }

    fn has_room(&self, draft: &Draft, source: &Source) -> bool {
        draft.position + source.bytes <= self.segment_bytes
            && source.end_offset - draft.base_offset <= i64::from(u32::MAX)
    }

    fn size(&self, draft: &Draft) -> u64 {
        draft.position
    }

    fn put(
        &self,
        draft: &mut Draft,
        _: &Reader,
        left: &[(Batch, Left)],
    ) -> Result<u64, CompactionError> {
        for (batch, left) in left {
            match left {
                Left::All => draft.put(batch, batch.bytes())?,
                Left::Some(rest) => {
                    let header = BatchHeader::parse(rest).map_err(io::Error::other)?;
                    draft.put(&header, rest)?;
                }
                Left::Nothing => {}
            }
        }
        draft.write()?;
        Ok(draft.sync()?)
    }

    fn finish(
        &self,
        draft: Draft,
        sources: &[Source],
        clean_offset: i64,
    ) -> Result<(Swap, u64), CompactionError> {
        let replaced: Vec<_> = sources.iter().map(|source| source.name).collect();
        let by = Name {
            base_offset: draft.base_offset,
            compacted: Some(Compacted {
                end_offset: sources.last().map_or(draft.base_offset, |s| s.end_offset),
                clean_offset,
                generation: self.generation,
            }),
        };
        let written = sources.last().map(|last| last.name.log_path(&self.dir));
        let written_ms = written.map(|path| file::written_ms(&file::open(&path)?));
        let (bytes, max_timestamp) = (draft.position, draft.max_timestamp);
        draft.finish(by, written_ms.transpose()?)?;
        let swap = Swap {
            replaced,
            by,
            bytes,
            max_timestamp,
        };
        // All was written before, but for the index.
        Ok((swap, 0))
    }

    fn discard(&self, draft: Draft) {
        draft.discard();
    }
}

/// Reads a segment batch by batch.
pub struct Reader {
    file: File,
    segment: Name,
    next: Expected,
    position: u64,
    end: u64,
}

impl Reader {
    /// Batches, until so many bytes are read.
    fn read(&mut self, budget: u64) -> Result<Vec<Batch>, CompactionError> {
        let mut batches = Vec::new();
        match self.read_into(&mut batches, budget) {
            Ok(()) => Ok(batches),
            Err(Fault::Io(error)) => Err(error.into()),
            Err(fault) => {
                let (segment, position) = (self.segment.base_offset, self.position);
                let text = format!("segment {segment}, byte {position}: {fault}");
                Err(CompactionError::Damaged(text))
            }
        }
    }

    fn read_into(&mut self, batches: &mut Vec<Batch>, budget: u64) -> Result<(), Fault> {
        let stop_at = self.end.min(self.position + budget);
        let mut scanner = Scanner::new(&self.file, self.position);
        while self.position < stop_at {
            let scanned = match scanner.next_batch()? {
                Some(scanned) => scanned?,
                None => return Err(Damage::Torn.into()),
            };
            if !self.next.take(&scanned.header) {
                return Err(Fault::Offset);
            }
            batches.push(Batch::parse(&Bytes::copy_from_slice(scanned.bytes))?);
            self.position += scanned.bytes.len() as u64;
        }
        Ok(())
    }
}

/// A segment that is being made, and has no name yet.
pub struct Draft {
    base_offset: i64,
    dir: PathBuf,
    file: File,
    /// Its end, with what is still to be written.
    position: u64,
    to_write: Vec<u8>,
    unsynced: u64,
    index: ActiveIndex,
    max_timestamp: i64,
}

impl Draft {
    fn begin(dir: &Path, id: PartitionId, base_offset: i64) -> io::Result<Self> {
        let [log, index] = segment::draft_paths(dir, base_offset);
        // What an earlier run has left.
        file::remove_if_there(&index)?;
        Ok(Draft {
            base_offset,
            dir: dir.to_owned(),
            file: file::make(&log)?,
            position: HEADER_LEN as u64,
            to_write: SegmentHeader { id, base_offset }.encode().to_vec(),
            unsynced: 0,
            index: ActiveIndex::new(),
            max_timestamp: i64::MIN,
        })
    }

    fn put(&mut self, header: &BatchHeader, batch: &[u8]) -> io::Result<()> {
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

#[cfg(test)]
mod tests;
