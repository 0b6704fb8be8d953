//! Start: every partition is brought to the state that its segments, checkpoint and journal prove.
//!
//! After a clean stop the checkpoint says it all. Otherwise each partition's segments are scanned from
//! its checkpoint on, merged with what the journal holds of it: where the two differ the journal is
//! right (only it was synced before the acknowledgement), and what is torn at the end is cut off.
//!
//! With `flush = durable` all that is found is synced and checkpointed before anybody may read it, so
//! that nobody sees a record that a power loss could take back, and each run begins with an empty
//! journal. With `flush = os` a power loss may take back what anybody has seen: what is found is left
//! to the next checkpoint, and until then the earlier ones stay.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::Options;
use super::checkpoint::{self, Entry};
use super::fault::Faults;
use super::file::{self, open_or_make, read_at, replace_durably};
use super::index::ActiveIndex;
use super::journal::{self, Found};
use super::log::{Age, Log, LogPoint, sealed_size};
use super::segment::{self, Compacted, HEADER_LEN, Name, Scanner, SegmentError, SegmentHeader};
use crate::record::batch::BatchHeader;
use crate::store::{PartitionId, Recovered, Replay, Rolling};

/// What a start found and did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub clean: bool,
    pub partitions: usize,
    pub scanned_bytes: u64,
    pub journal_batches: usize,
    /// Batches that the journal had and the segments had not.
    pub restored_batches: usize,
    /// Bytes cut off behind the last good batch.
    pub truncated_bytes: u64,
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.partitions += other.partitions;
        self.scanned_bytes += other.scanned_bytes;
        self.restored_batches += other.restored_batches;
        self.truncated_bytes += other.truncated_bytes;
    }
}

/// What the shards go on from.
pub(super) struct Start<R> {
    pub partitions: Vec<Recovered<R, Log>>,
    pub report: Report,
    /// Of the checkpoint that recovery made, or left to the shards.
    pub generation: u64,
    /// What was found is not synced.
    pub behind: bool,
}

pub(super) struct Folders<'a> {
    pub topics: &'a Path,
    pub journal: &'a Path,
    pub checkpoint: &'a Path,
}

pub(super) fn partition_dir(topics: &Path, id: PartitionId) -> PathBuf {
    topics.join(id.topic.to_string()).join(id.index.to_string())
}

pub(super) fn recover<R: Replay>(
    folders: &Folders<'_>,
    partitions: &[PartitionId],
    clean: bool,
    options: &Options,
) -> io::Result<Start<R>> {
    let mut checkpoints = checkpoint::read_all::<R>(folders.checkpoint)?;
    let mut journal = journal::read_all(folders.journal)?;
    if clean {
        // All of it is in the checkpoint.
        journal.batches.clear();
    }
    let mut report = Report {
        clean,
        journal_batches: journal.batches.len(),
        ..Report::default()
    };
    let mut by_partition: HashMap<PartitionId, Vec<Found>> = HashMap::new();
    for found in journal.batches {
        by_partition.entry(found.id).or_default().push(found);
    }
    let entries = &checkpoints.entries;
    let known = partitions.iter().filter_map(|id| entries.get(id));
    let telling: HashSet<usize> = known.map(|entry| entry.file).collect();
    let work = partitions.iter().map(|id| Work {
        id: *id,
        entry: checkpoints.entries.remove(id),
        journal: by_partition.remove(id).unwrap_or_default(),
    });
    let queue = Mutex::new(work);
    let faults = Faults::of_this_thread();
    let run = || -> io::Result<Vec<(Recovered<R, Log>, Report)>> {
        faults.adopt();
        let mut done = Vec::new();
        loop {
            let next = shards::lock(&queue).next();
            let Some(work) = next else { return Ok(done) };
            done.push(work.run(folders.topics, clean, options.rolling)?);
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.shards.max(1))
            .map(|_| scope.spawn(run))
            .collect();
        let join = |w: std::thread::ScopedJoinHandle<'_, _>| {
            w.join()
                .unwrap_or_else(|_| Err(io::Error::other("a recovery thread panicked")))
        };
        workers.into_iter().map(join).collect()
    });
    let mut recovered = Vec::with_capacity(partitions.len());
    for result in results {
        for (partition, part) in result? {
            report.add(&part);
            recovered.push(partition);
        }
    }
    let generation = checkpoints.next_generation;
    let checkpoint_files = checkpoints.files.iter();
    // A journal that is left over from `flush = durable` must not outlive this start.
    let may_wait = !options.durable && journal.files.is_empty();
    let behind = may_wait && recovered.iter().any(|p| p.log.has_unsynced());
    if behind {
        for (_, silent) in checkpoint_files
            .enumerate()
            .filter(|(n, _)| !telling.contains(n))
        {
            file::remove(silent)?;
        }
    } else {
        make_durable(folders, generation, &mut recovered)?;
        for done_with in checkpoint_files.chain(&journal.files) {
            file::remove(done_with)?;
        }
    }
    Ok(Start {
        partitions: recovered,
        report,
        generation,
        behind,
    })
}

/// Syncs all that was found, and makes a checkpoint of it.
fn make_durable<R: Replay>(
    folders: &Folders<'_>,
    generation: u64,
    partitions: &mut [Recovered<R, Log>],
) -> io::Result<()> {
    let unsynced = partitions.iter_mut().filter_map(|p| p.log.plan_sync());
    let unsynced: Vec<_> = unsynced.collect();
    super::log::sync_all(&unsynced, folders.topics).map_err(io::Error::other)?;
    let mut writer = checkpoint::Writer::new();
    for partition in &mut *partitions {
        writer.add(
            partition.id,
            partition.log_start_offset,
            partition.log.plan_checkpoint(),
            &partition.state,
        );
    }
    let path = checkpoint::path(folders.checkpoint, generation, 0);
    replace_durably(&path, &writer.finish())?;
    partitions.iter_mut().for_each(|p| p.log.checkpointed());
    Ok(())
}

struct Work<R> {
    id: PartitionId,
    entry: Option<Entry<R>>,
    journal: Vec<Found>,
}

impl<R: Replay> Work<R> {
    fn run(
        self,
        topics: &Path,
        clean: bool,
        rolling: Rolling,
    ) -> io::Result<(Recovered<R, Log>, Report)> {
        let dir = partition_dir(topics, self.id);
        let segments = segment::list(&dir)?;
        let bases: Vec<i64> = segments.iter().map(|name| name.base_offset).collect();
        let mut entry = self.entry.unwrap_or_else(|| {
            // Without a checkpoint the log begins with the first that is known of it.
            let journaled = self.journal.first().map(|found| found.base_offset);
            let first = bases.iter().copied().chain(journaled).min().unwrap_or(0);
            Entry {
                id: self.id,
                log_start_offset: first,
                point: LogPoint::empty(first),
                state: R::default(),
                generation: 0,
                file: 0,
            }
        });
        entry.state.roll_back(entry.point.next_offset);
        let log_start_offset = settle_start(&mut entry, &bases);
        let mut rebuild = Rebuild {
            id: self.id,
            dir,
            point: entry.point,
            sealed: Vec::new(),
            index: ActiveIndex::resumed(entry.point.index_entries, entry.point.position),
            state: entry.state,
            report: Report {
                partitions: 1,
                ..Report::default()
            },
        };
        let last = entry.point.segment_base;
        for name in segments.iter().filter(|name| name.base_offset < last) {
            let size = sealed_size(&rebuild.dir, name)?;
            rebuild.sealed.push((*name, size));
        }
        let mut later = segments;
        later.retain(|name| name.base_offset >= last);
        if clean {
            // What a failed append began, and no later one removed.
            rebuild.remove_later(later.into_iter().filter(|name| name.base_offset > last))?;
        } else {
            rebuild.run(later, without_refused(self.journal))?;
        }
        rebuild.remove_before(log_start_offset)?;
        if rebuild.point.position == 0 && !rebuild.sealed.is_empty() {
            // A log with segments has one that is written to, and a sealed one is not.
            rebuild.open_last()?;
        }
        let unsynced_from = (rebuild.point != entry.point).then_some(entry.point.segment_base);
        let age = Age::read(&rebuild.dir, &rebuild.point)?;
        let log = Log::resume(
            self.id,
            rebuild.dir,
            rolling,
            &rebuild.sealed,
            rebuild.point,
            age,
            unsynced_from,
        );
        let recovered = Recovered {
            id: self.id,
            log,
            log_start_offset,
            state: rebuild.state,
        };
        Ok((recovered, rebuild.report))
    }
}

/// Where the log starts: as the checkpoint says, or behind what was removed since. `bases` are the
/// segments that are there; the checkpoint's point moves to where they can be gone on with. What came
/// after the checkpoint says nothing: a power loss may have taken any of it.
fn settle_start<R>(entry: &mut Entry<R>, bases: &[i64]) -> i64 {
    let point = &mut entry.point;
    if point.position > 0 && !bases.contains(&point.segment_base) {
        if entry.log_start_offset < point.next_offset {
            tracing::error!(partition = %entry.id, segment = point.segment_base, offset = point.next_offset,
                "the last segment of the log is missing, and its records with it; going on behind them");
        }
        *point = LogPoint::empty(point.next_offset);
    }
    let known = |base: &&i64| **base < point.next_offset;
    let first = bases.iter().find(known).copied();
    entry
        .log_start_offset
        .max(first.unwrap_or(point.next_offset))
}

/// Of two entries for the same offsets the later was acknowledged and the earlier refused.
fn without_refused(mut journal: Vec<Found>) -> Vec<Found> {
    let mut from = i64::MAX;
    let mut kept = Vec::with_capacity(journal.len());
    while let Some(found) = journal.pop() {
        if found.last_offset < from {
            from = found.base_offset;
            kept.push(found);
        }
    }
    kept.reverse();
    kept
}

/// One partition's way from its checkpoint to its end.
struct Rebuild<R> {
    id: PartitionId,
    dir: PathBuf,
    point: LogPoint,
    sealed: Vec<(Name, u64)>,
    index: ActiveIndex,
    state: R,
    report: Report,
}

impl<R: Replay> Rebuild<R> {
    fn run(&mut self, segments: Vec<Name>, journal: Vec<Found>) -> io::Result<()> {
        let from = self.point.next_offset;
        let mut journal = journal
            .into_iter()
            .skip_while(|f| f.base_offset < from)
            .peekable();
        let mut segments = segments.into_iter().peekable();
        while let Some(name) = segments.next_if(|name| self.begins_segment(name.base_offset)) {
            let base = name.base_offset;
            self.seal_for(base)?;
            if let Some(compacted) = name.compacted {
                self.take_compacted(name, compacted)?;
                while journal
                    .next_if(|f| f.base_offset < compacted.end_offset)
                    .is_some()
                {}
                continue;
            }
            let path = segment::log_path(&self.dir, base);
            let file = file::open_to_write(&path)?;
            let whole = self.scan(&file, &mut journal)?;
            if !whole {
                self.cut(&file)?;
                if self.point.position == 0 {
                    // Without its header it would stand in the way of the segments to come.
                    self.open_last()?;
                }
                break;
            }
        }
        self.remove_later(segments)?;
        let mut open = None;
        for found in journal {
            self.restore(&found, &mut open)?;
        }
        if let Some(write) = self.index.take_pending() {
            write.run(&segment::index_path(&self.dir, self.point.segment_base))?;
        }
        self.point.index_entries = self.index.flushed;
        Ok(())
    }

    /// Takes a compacted segment in. Only without a checkpoint there is one to be looked at. It was whole
    /// before it had its name: nothing is cut off for what is damaged in it by now.
    fn take_compacted(&mut self, name: Name, compacted: Compacted) -> io::Result<()> {
        let file = file::open(&name.log_path(&self.dir))?;
        let mut scanner = Scanner::new(&file, HEADER_LEN as u64);
        loop {
            let position = scanner.position();
            match scanner.next_batch()? {
                None => break,
                Some(Ok(batch)) => {
                    self.report.scanned_bytes += batch.header.size_in_bytes() as u64;
                    self.state.replay(&batch.header);
                }
                Some(Err(damage)) => {
                    tracing::error!(partition = %self.id, segment = name.base_offset, position, %damage,
                        "a compacted segment is damaged; going on behind it");
                    break;
                }
            }
        }
        self.sealed.push((name, file::len(&file)?));
        self.point = LogPoint::empty(compacted.end_offset);
        self.index = ActiveIndex::new();
        Ok(())
    }

    /// A segment goes on where the log ends so far, or is the one the checkpoint stands in.
    fn begins_segment(&self, base: i64) -> bool {
        base == self.point.next_offset || base == self.point.segment_base
    }

    /// Moves on to the segment at `base`.
    fn seal_for(&mut self, base: i64) -> io::Result<()> {
        if self.point.position > 0 && base != self.point.segment_base {
            let relative = (self.point.next_offset - self.point.segment_base) as u32;
            let seal = self.index.seal(
                relative,
                self.point.position,
                self.point.segment_max_timestamp,
            );
            seal.run(&segment::index_path(&self.dir, self.point.segment_base))?;
            self.sealed
                .push((Name::plain(self.point.segment_base), self.point.position));
            self.point = LogPoint::empty(self.point.next_offset);
            self.index = ActiveIndex::new();
        }
        self.point.segment_base = base;
        Ok(())
    }

    /// Reads batches as long as they are good, go on where the log ends, and agree with the journal.
    /// False if something else came before the end of the file.
    fn scan(
        &mut self,
        file: &File,
        journal: &mut std::iter::Peekable<impl Iterator<Item = Found>>,
    ) -> io::Result<bool> {
        if self.point.position == 0 {
            let header = match SegmentHeader::read(file) {
                // What cannot be read now is not damaged for that.
                Err(SegmentError::Io(error)) => return Err(error),
                header => header,
            };
            let ours =
                header.is_ok_and(|h| h.id == self.id && h.base_offset == self.point.segment_base);
            if !ours {
                return Ok(false);
            }
            self.point.position = HEADER_LEN as u64;
        }
        let mut scanner = Scanner::new(file, self.point.position);
        loop {
            let (header, position) = match scanner.next_batch()? {
                None => return Ok(true),
                Some(Err(_)) => return Ok(false),
                Some(Ok(batch)) => {
                    if batch.header.base_offset() != self.point.next_offset {
                        return Ok(false);
                    }
                    if let Some(found) =
                        journal.next_if(|f| f.base_offset == batch.header.base_offset())
                    {
                        let same = read_at(&found.file, found.position, found.len)?;
                        if same != batch.bytes {
                            self.cut(file)?;
                            let mut open = None;
                            self.restore(&found, &mut open)?;
                            return Ok(false);
                        }
                    }
                    (batch.header, batch.position)
                }
            };
            self.report.scanned_bytes += header.size_in_bytes() as u64;
            self.take(&header, position);
        }
    }

    /// Counts a batch at `position` in.
    fn take(&mut self, header: &BatchHeader, position: u64) {
        let relative = (header.base_offset() - self.point.segment_base) as u32;
        self.index
            .note(relative, position, self.point.segment_max_timestamp);
        self.point.position = position + header.size_in_bytes() as u64;
        self.point.next_offset = header.last_offset() + 1;
        self.point.segment_max_timestamp =
            self.point.segment_max_timestamp.max(header.max_timestamp());
        self.state.replay(header);
    }

    /// Writes a batch that the journal has and the segment has not.
    fn restore(&mut self, found: &Found, open: &mut Option<File>) -> io::Result<()> {
        if found.base_offset != self.point.next_offset {
            tracing::error!(partition = %self.id, expected = self.point.next_offset, found = found.base_offset,
                "the journal does not go on where the segments end; its later batches of this partition are left out");
            return Ok(());
        }
        let bytes = read_at(&found.file, found.position, found.len)?;
        let header = BatchHeader::parse(&bytes)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if open.is_none() {
            *open = Some(self.open_last()?);
        }
        let Some(file) = open.as_ref() else {
            return Ok(());
        };
        file::write_all_at(file, &bytes, self.point.position)?;
        let position = self.point.position;
        self.take(&header, position);
        self.report.restored_batches += 1;
        Ok(())
    }

    /// The last segment, made if there is none.
    fn open_last(&mut self) -> io::Result<File> {
        file::make_dir(&self.dir)?;
        let path = segment::log_path(&self.dir, self.point.segment_base);
        let file = open_or_make(&path)?;
        if self.point.position == 0 {
            let header = SegmentHeader {
                id: self.id,
                base_offset: self.point.segment_base,
            };
            file::set_len(&file, 0)?;
            file::write_all_at(&file, &header.encode(), 0)?;
            self.point.position = HEADER_LEN as u64;
        }
        Ok(file)
    }

    /// Removes what is not good behind the end.
    fn cut(&mut self, file: &File) -> io::Result<()> {
        let len = file::len(file)?;
        let end = self.point.position;
        if len > end {
            self.report.truncated_bytes += len - end;
            tracing::warn!(partition = %self.id, segment = self.point.segment_base, offset = self.point.next_offset,
                bytes = len - end, "cut off what was torn or never acknowledged at the end of the log");
            file::set_len(file, end)?;
        }
        Ok(())
    }

    /// Removes segments that end at or before `offset`: the log starts behind them.
    fn remove_before(&mut self, offset: i64) -> io::Result<()> {
        let bases = self.sealed.iter().map(|(name, _)| name.base_offset);
        let ends = bases.skip(1).chain([self.point.segment_base]);
        let gone = ends
            .take(self.sealed.len())
            .take_while(|end| *end <= offset)
            .count();
        for (name, _) in self.sealed.drain(..gone) {
            name.remove(&self.dir)?;
        }
        Ok(())
    }

    /// Removes segments that do not go on where the log ends: they came after what was cut.
    fn remove_later(&mut self, segments: impl Iterator<Item = Name>) -> io::Result<()> {
        for name in segments {
            self.report.truncated_bytes += sealed_size(&self.dir, &name)?;
            tracing::warn!(partition = %self.id, segment = name.base_offset, end = self.point.next_offset,
                "removed a segment behind the end of the log");
            name.remove(&self.dir)?;
        }
        Ok(())
    }
}
