//! Topics whose logs SeaweedMQ's brokers keep: those that others made, through brokers or SeaweedMQ's own
//! Kafka gateway, and those that are to be so (`seaweedmq.path=broker`). They are read where they lie; what
//! is produced to them goes to the brokers (see [`super::broker`]).
//!
//! A topic is a folder with a `topic.conf`, and below it a folder for each generation, with one for each
//! partition. Partitions are those of the newest generation, by the start of their ranges. When a topic
//! gets another number of partitions, SeaweedMQ begins a generation and reads nothing of those before; here
//! their partitions follow behind the newest ones, the newer generation first. A partition whose range is
//! the same in several generations is one log, as SeaweedMQ goes on with its offsets. A topic with a new
//! generation is another topic to clients, with an id of its own: its partitions are others.
//!
//! A partition's files are named by the time of their first entry. Brokers write the range of offsets to a
//! file's attributes, but not if it begins at offset 0 (`weed/mq/broker/broker_write.go`); there, the
//! entries are looked at. And a record that does not fit into a full window is counted in that window's
//! range, though it is the first of the next, in whose range it is not
//! (`weed/util/log_buffer/log_buffer.go`): so a file's first entry is looked at too, and all of the last
//! file. If offsets come twice, as after a crash of a broker, the first that has one is it: see [`Log`].

mod watch;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Buf;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

pub use self::watch::{Touched, Watch, WatchPlan};
use super::broker::envelope::Origin;
use super::codec::{self, Batches};
use super::layout::{RING_SIZE, TOPICS, seconds_of, time_name};
use super::read::{search, take};
use super::segment::{OFFSET_MAX, OFFSET_MIN};
use super::{Shared, failed, in_order, inline_file, list_all};
use crate::bridge::{Bridge, BridgeError, Entry, FileChunk, Removal};
use crate::record::read::Record;
use crate::record::{Batch, RecordError, records};
use crate::store::{PartitionId, SeekGoal};

pub(super) const CONF: &str = "topic.conf";
const CONF_BYTES_MAX: usize = 4 << 20;
/// Of a batch that Tidegate wrote, before it left the topic to brokers.
const INFLATED_BYTES_MAX: usize = 256 << 20;
/// Beside the files of a partition, if records were deleted: the offset that its log starts at, 8 bytes.
/// SeaweedMQ skips names that end so.
const LOG_START: &str = "tidegate-log-start.offset";
/// Generations of one topic.
const GENERATIONS_MAX: usize = 100;
/// Of a chunk, to find its first entry.
const PEEK_BYTES: u64 = 4 << 10;
/// So many looks at what is new, and one at everything.
const LOOKS: u32 = 60;

/// Where the partitions of such a topic are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Of the newest generation, in ns since the epoch.
    pub generation_ns: i64,
    /// Of each partition its folders, by time, below the topic's.
    pub partitions: Vec<Vec<String>>,
}

/// What `topic.conf` says: ConfigureTopicResponse of `mq_broker.proto` as JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conf {
    #[serde(default)]
    broker_partition_assignments: Vec<Assignment>,
}

#[derive(Debug, Deserialize)]
struct Assignment {
    #[serde(default)]
    partition: Range,
}

/// What is at its default is left out.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Range {
    range_start: i32,
    range_stop: i32,
    /// A text, as numbers of 64 bits are in such JSON.
    unix_time_ns: String,
}

/// The newest generation of a topic: its time, and the ranges of its partitions. `None` if the file is not
/// what a broker writes.
pub(super) fn read_conf(conf: &Entry) -> Option<(i64, Vec<(i32, i32)>)> {
    if conf.content.len() > CONF_BYTES_MAX {
        return None;
    }
    let conf: Conf = serde_json::from_slice(&conf.content).ok()?;
    let ranges = conf.broker_partition_assignments.into_iter();
    let mut ranges: Vec<_> = ranges.map(|a| a.partition).collect();
    ranges.sort_by_key(|range| range.range_start);
    let generation_ns = ranges.first()?.unix_time_ns.parse().ok()?;
    let are_good = ranges.len() <= RING_SIZE as usize
        && generation_ns >= 0
        && ranges
            .iter()
            .all(|r| 0 <= r.range_start && r.range_start < r.range_stop && r.range_stop < 100_000)
        && ranges.is_sorted_by(|a, b| a.range_stop <= b.range_start);
    let ranges = ranges.iter().map(|r| (r.range_start, r.range_stop));
    are_good.then(|| (generation_ns, ranges.collect()))
}

fn range_name((start, stop): (i32, i32)) -> String {
    format!("{start:04}-{stop:04}")
}

/// The range that a folder is named by.
fn range_of(name: &str) -> Option<(i32, i32)> {
    let (start, stop) = name.split_once('-')?;
    let range = (start.parse().ok()?, stop.parse().ok()?);
    (range_name(range) == name && 0 <= range.0 && range.0 < range.1).then_some(range)
}

fn is_generation(name: &str) -> bool {
    name.strip_prefix('v').is_some_and(is_time_name)
}

/// Whether it is as [`time_name`] makes them.
fn is_time_name(name: &str) -> bool {
    name.len() == 19
        && name.bytes().enumerate().all(|(at, b)| match at {
            4 | 7 | 10 | 13 | 16 => b == b'-',
            _ => b.is_ascii_digit(),
        })
}

/// Looks at a folder of [`TOPICS`]. `None` if it is no topic.
pub(super) async fn look_at(bridge: &Bridge, folder: &str) -> Result<Option<Adopted>, BridgeError> {
    let path = format!("{TOPICS}/{folder}");
    let conf = bridge.lookup(&path, CONF).await?;
    let Some((generation_ns, ranges)) = conf.as_ref().and_then(read_conf) else {
        return Ok(None);
    };
    let newest = format!("v{}", time_name(generation_ns.div_euclid(1_000_000_000)));
    let mut older: Vec<String> = list_all(bridge, &path, "")
        .await?
        .into_iter()
        .filter(|entry| entry.is_directory && is_generation(&entry.name) && entry.name < newest)
        .map(|entry| entry.name)
        .collect();
    older.sort_unstable();
    let surplus = older.len().saturating_sub(GENERATIONS_MAX);
    let mut generations = Vec::new();
    for generation in older.split_off(surplus) {
        let folders = list_all(bridge, &format!("{path}/{generation}"), "").await?;
        let ranges = folders.iter().filter(|entry| entry.is_directory);
        let ranges = ranges.filter_map(|entry| range_of(&entry.name));
        generations.push((generation, ranges.collect::<Vec<_>>()));
    }
    generations.push((newest, ranges));
    Ok(Some(Adopted {
        generation_ns,
        partitions: partitions(&generations),
    }))
}

/// The folders of each partition. Generations are in the order of time, ranges in that of their starts.
fn partitions(generations: &[(String, Vec<(i32, i32)>)]) -> Vec<Vec<String>> {
    let mut places: BTreeMap<(i32, i32), usize> = BTreeMap::new();
    for range in generations.iter().rev().flat_map(|(_, ranges)| ranges) {
        let next = places.len();
        places.entry(*range).or_insert(next);
    }
    let mut partitions = vec![Vec::new(); places.len()];
    for (generation, ranges) in generations {
        for range in ranges {
            partitions[places[range]].push(format!("{generation}/{}", range_name(*range)));
        }
    }
    partitions
}

/// A file of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    dir: Arc<str>,
    name: String,
    bytes: u64,
    /// Of the first record that counts: it is not in a file before.
    base_offset: i64,
    next_offset: i64,
    /// The last record may be in the next file instead.
    is_end_unsure: bool,
}

/// A partition's files as its shard sees them. Their offsets ascend: of a file that has offsets which came
/// before, only the records behind these count.
pub struct Log {
    id: PartitionId,
    shared: Arc<Shared>,
    /// By time.
    dirs: Vec<Arc<str>>,
    files: Vec<File>,
    next_offset: i64,
    /// What is before was deleted.
    start: i64,
    /// Files that end before were removed.
    trimmed: i64,
    /// Since the last one at everything; `None`: it was not looked at yet.
    looks: Option<u32>,
}

impl Log {
    /// Of one that is new it is known that there is nothing.
    pub(super) fn new(
        id: PartitionId,
        shared: Arc<Shared>,
        dirs: Vec<Arc<str>>,
        is_new: bool,
    ) -> Self {
        Log {
            id,
            shared,
            dirs,
            files: Vec::new(),
            next_offset: 0,
            looks: is_new.then_some(0),
            start: 0,
            trimmed: 0,
        }
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Whether it is known what there is.
    pub fn is_known(&self) -> bool {
        self.looks.is_some()
    }

    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub fn first_offset(&self) -> Option<i64> {
        self.files.first().map(|file| file.base_offset)
    }

    /// Where readers may begin.
    pub fn log_start_offset(&self) -> i64 {
        match self.start {
            0 => self.first_offset().unwrap_or(self.next_offset),
            // Behind it there may be a gap, which is no reason to move it.
            start => start.min(self.next_offset),
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// What the last file is named by, in ns since the epoch: later ones may not be named by less.
    pub fn last_file_ns(&self) -> i64 {
        let seconds = self.files.last().and_then(|file| seconds_of(&file.name));
        seconds.map_or(0, |seconds| seconds.saturating_mul(1_000_000_000))
    }

    /// Files are gone: the next look is at everything.
    pub fn note_removal(&mut self) {
        self.looks = self.looks.map(|_| LOOKS);
    }

    /// Plans a look at what others have written.
    pub fn plan_look(&self) -> Look {
        let is_at_all = self.looks.is_none_or(|looks| looks >= LOOKS);
        // The last file may have grown.
        let keep = match is_at_all {
            true => 0,
            false => self.files.len().saturating_sub(1),
        };
        Look {
            shared: self.shared.clone(),
            id: self.id,
            dirs: self.dirs.clone(),
            before: keep.checked_sub(1).map(|last| self.files[last].clone()),
            known: self.files[keep..].to_vec(),
            keep,
        }
    }

    /// Takes over what a look found. True if there is something new.
    pub fn looked(&mut self, looked: Looked) -> bool {
        let is_news = self.looks.is_none() || self.files[looked.keep..] != looked.files;
        self.looks = match looked.keep {
            0 => Some(0),
            _ => self.looks.map(|looks| looks + 1),
        };
        self.files.truncate(looked.keep);
        self.files.extend(looked.files);
        let end = self.files.last().map_or(0, |file| file.next_offset);
        self.start = self.start.max(looked.start);
        // What was told as the end stays the end though files are gone.
        self.next_offset = self.next_offset.max(end);
        is_news
    }

    /// Whether it is for us to say where the log starts, and not for others.
    pub fn may_start_later(&self) -> bool {
        self.shared.brokers().contains_key(&self.id.topic)
    }

    /// Plans to have the log start at an offset. `None` if it is for others to say.
    pub fn plan_start(&self, offset: i64) -> Option<StartPlan> {
        Some(StartPlan {
            shared: self.shared.clone(),
            dir: self.dirs.last().filter(|_| self.may_start_later())?.clone(),
            offset,
        })
    }

    /// The log starts there, as was planned.
    pub fn started(&mut self, offset: i64) {
        self.start = self.start.max(offset);
    }

    /// Plans to remove the files that are wholly before the log's start, and before `end`. The last one stays:
    /// a broker may still write to it. `None` if there is none.
    pub fn plan_trim(&self, end: i64) -> Option<Trim> {
        let end = end.min(self.start);
        let (_, files) = self.files.split_last()?;
        let goes = |file: &&File| (self.trimmed + 1..=end).contains(&file.next_offset);
        let files: Vec<_> = files.iter().filter(goes).cloned().collect();
        (!files.is_empty()).then(|| Trim {
            shared: self.shared.clone(),
            id: self.id,
            files,
        })
    }

    /// Files that end before `end` were removed: the next look finds that out.
    pub fn trimmed(&mut self, end: i64) {
        self.trimmed = self.trimmed.max(end);
        self.looks = self.looks.map(|_| LOOKS);
    }

    pub fn plan_read(&self, offset: i64, max_bytes: usize) -> Option<ReadPlan> {
        let at = self.files.partition_point(|f| f.next_offset <= offset);
        Some(ReadPlan {
            shared: self.shared.clone(),
            id: self.id,
            file: self.files.get(at)?.clone(),
            next: self.files.get(at + 1).cloned(),
            offset,
            max_bytes,
        })
    }

    /// Where the last files begin that have so many bytes together, or all files if they have less.
    pub fn tail_offset(&self, bytes: u64) -> i64 {
        let mut left = bytes;
        let mut newest = self.files.iter().rev();
        let first = newest.find(|file| {
            left = left.saturating_sub(file.bytes);
            left == 0
        });
        let first = first.or(self.files.first());
        first.map_or(0, |file| file.base_offset)
    }

    /// Plans to look at all records from an offset on up to the end.
    pub fn plan_scan(&self, from: i64) -> Scan {
        let first = self.files.partition_point(|f| f.next_offset <= from);
        Scan {
            shared: self.shared.clone(),
            id: self.id,
            files: self.files[first..].to_vec(),
            from,
        }
    }

    pub fn plan_seek(&self, goal: SeekGoal, from: i64) -> SeekPlan {
        let first = match goal {
            // Timestamps ascend, and a file's name says when it begins.
            SeekGoal::AtOrAfter(timestamp) => {
                let second = time_name(timestamp.div_euclid(1000));
                let begun = self.files.partition_point(|file| file.name < second);
                begun.saturating_sub(1)
            }
            SeekGoal::Largest => self.files.len().saturating_sub(1),
        };
        SeekPlan {
            shared: self.shared.clone(),
            id: self.id,
            files: self.files[first..].to_vec(),
            goal,
            from,
        }
    }
}

/// A look at a partition's files.
pub struct Look {
    shared: Arc<Shared>,
    id: PartitionId,
    dirs: Vec<Arc<str>>,
    /// The last file that is not looked at again.
    before: Option<File>,
    known: Vec<File>,
    keep: usize,
}

/// What a [`Look`] found behind the files that it keeps.
pub struct Looked {
    keep: usize,
    files: Vec<File>,
    /// What the log is to start at.
    start: i64,
}

impl Look {
    /// Blocking.
    pub fn run(self) -> io::Result<Looked> {
        let (mut files, mut start) = (Vec::<File>::new(), 0);
        let first = match &self.before {
            Some(before) => self.dirs.iter().position(|dir| *dir == before.dir),
            None => Some(0),
        };
        for dir in &self.dirs[first.unwrap_or(0)..] {
            let after = match &self.before {
                Some(before) if before.dir == *dir => before.name.clone(),
                _ => String::new(),
            };
            let entries = block_on(list_all(&self.shared.bridge, dir, &after)).map_err(failed)?;
            // It is behind all files.
            let kept = entries.iter().find(|entry| entry.name == LOG_START);
            start = start.max(kept.and_then(kept_start).unwrap_or(0));
            let is_file = |e: &&Entry| !e.is_directory && is_time_name(&e.name);
            let mut entries = entries.iter().filter(is_file).peekable();
            while let Some(entry) = entries.next() {
                let last = files.last().or(self.before.as_ref());
                let file = self.file(dir, entry, last, entries.peek().is_none())?;
                if let (Some(file), Some(last)) = (&file, files.last_mut()) {
                    last.end_before(file);
                }
                files.extend(file);
            }
        }
        Ok(Looked {
            keep: self.keep,
            files,
            start,
        })
    }

    /// `None` if it has nothing that was not there before.
    fn file(
        &self,
        dir: &Arc<str>,
        entry: &Entry,
        last: Option<&File>,
        is_last: bool,
    ) -> io::Result<Option<File>> {
        let bytes = entry.chunks.iter().map(|chunk| chunk.size).sum();
        let is_same = |f: &&File| f.dir == *dir && f.name == entry.name && f.bytes == bytes;
        if let Some(known) = self.known.iter().find(is_same) {
            return Ok(Some(known.clone()));
        }
        let is_whole = last.is_none() || is_last;
        let Some((base_offset, next_offset)) = self.offsets(entry, is_whole)? else {
            return Ok(None);
        };
        let end = last.map_or(0, |last| match last.is_end_unsure {
            true => last.next_offset.min(base_offset.max(last.next_offset - 1)),
            false => last.next_offset,
        });
        if base_offset < end {
            tracing::warn!(partition = %self.id, folder = %dir, file = entry.name, base_offset, end,
                "offsets come again, as after a crash of a broker: those that were there before stay");
        }
        Ok((next_offset > end).then(|| File {
            dir: dir.clone(),
            name: entry.name.clone(),
            bytes,
            base_offset: base_offset.max(end),
            next_offset,
            is_end_unsure: !is_whole,
        }))
    }

    /// The first offset of a file, and that behind its last. `None` if it is empty. What the attributes say
    /// is enough unless it is to be looked at as a whole; the last may then be in the next file.
    fn offsets(&self, entry: &Entry, is_whole: bool) -> io::Result<Option<(i64, i64)>> {
        let number = |name| entry.extended.get(name)?.clone().try_get_i64().ok();
        let (min, max) = (number(OFFSET_MIN), number(OFFSET_MAX));
        let chunks = in_order(entry);
        if let (false, Some(min), Some(next), Some(first)) = (
            is_whole,
            min,
            max.and_then(|max| max.checked_add(1)),
            chunks.first(),
        ) && (0..next).contains(&min)
        {
            return Ok(Some((min.min(self.first_offset(first)?), next)));
        }
        let mut all: Option<(i64, i64)> = None;
        for chunk in &chunks {
            let batches = self.shared.chunks.foreign(&self.shared, chunk)?;
            for place in &batches.places {
                let (base, end) = all.unwrap_or((place.base_offset, 0));
                let end = end.max(place.last_offset.saturating_add(1));
                all = Some((base.min(place.base_offset), end));
            }
        }
        Ok(all)
    }

    /// The offset of a chunk's first entry.
    fn first_offset(&self, chunk: &FileChunk) -> io::Result<i64> {
        let mut len = PEEK_BYTES;
        loop {
            let read = self.shared.read_front(chunk, len);
            match codec::peek(&block_on(read).map_err(failed)?) {
                codec::Peek::Offset(offset) => return Ok(offset),
                codec::Peek::More(needed) if needed > len && needed <= chunk.size => len = needed,
                _ => {
                    let text = format!("the first entry of chunk {} is damaged", chunk.file_id);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
    }
}

impl File {
    /// `next` follows: what it has is not the last of this one.
    fn end_before(&mut self, next: &File) {
        if self.is_end_unsure {
            self.next_offset = self.next_offset.min(next.base_offset);
            self.is_end_unsure = false;
        }
    }

    fn chunks(&self, shared: &Shared) -> io::Result<Vec<FileChunk>> {
        let entry = block_on(shared.bridge.lookup(&self.dir, &self.name)).map_err(failed)?;
        Ok(in_order(&entry.ok_or(io::ErrorKind::NotFound)?))
    }

    fn described(&self, id: PartitionId, error: io::Error) -> io::Error {
        let text = format!("partition {id}, {}/{}: {error}", self.dir, self.name);
        io::Error::new(error.kind(), text)
    }
}

/// Where the log starts by its [`LOG_START`].
fn kept_start(entry: &Entry) -> Option<i64> {
    entry.content.clone().try_get_i64().ok()
}

/// Notes where a log starts.
pub struct StartPlan {
    shared: Arc<Shared>,
    dir: Arc<str>,
    offset: i64,
}

impl StartPlan {
    /// Blocking.
    pub fn run(self) -> io::Result<()> {
        let bridge = &self.shared.bridge;
        let note = async {
            let entry = bridge.lookup(&self.dir, LOG_START).await?;
            let kept = entry.as_ref().and_then(kept_start);
            if kept.is_some_and(|kept| kept >= self.offset) {
                return Ok(());
            }
            let entry = inline_file(LOG_START, self.offset.to_be_bytes().to_vec());
            bridge.create(&self.dir, entry, false).await
        };
        block_on(note).map_err(failed)
    }
}

/// A removal of files that have nothing of the log any more.
pub struct Trim {
    shared: Arc<Shared>,
    id: PartitionId,
    files: Vec<File>,
}

impl Trim {
    /// Gives where the last of them ended. Blocking.
    pub fn run(self) -> io::Result<i64> {
        let removal = Removal {
            data: true,
            recursive: false,
        };
        for file in &self.files {
            let bridge = &self.shared.bridge;
            match block_on(bridge.delete(&file.dir, &file.name, removal)).map_err(failed) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file.described(self.id, error));
                }
                _ => {}
            }
        }
        tracing::info!(partition = %self.id, files = self.files.len(), "removed files of a broker whose records are deleted");
        Ok(self.files.last().map_or(0, |file| file.next_offset))
    }
}

/// A read of whole batches.
pub struct ReadPlan {
    shared: Arc<Shared>,
    id: PartitionId,
    file: File,
    /// To go on with, if the file has nothing behind the offset.
    next: Option<File>,
    offset: i64,
    max_bytes: usize,
}

impl ReadPlan {
    /// Whole batches from the one that holds the offset on: at least one, and then as many as fit.
    /// Blocking.
    pub fn run(self) -> io::Result<Vec<bytes::Bytes>> {
        let read = |file: &File| {
            let read = self.read(file);
            read.map_err(|error| file.described(self.id, error))
        };
        let found = read(&self.file)?;
        match &self.next {
            Some(next) if found.is_empty() => read(next),
            _ => Ok(found),
        }
    }

    fn read(&self, file: &File) -> io::Result<Vec<bytes::Bytes>> {
        let chunks = file.chunks(&self.shared)?;
        let offset = self.offset.max(file.base_offset);
        let foreign = |at: usize| self.shared.chunks.foreign(&self.shared, &chunks[at]);
        // The first chunk that ends behind the offset.
        let (mut low, mut high) = (0, chunks.len());
        while low < high {
            let middle = low.midpoint(high);
            let ends = last_offset(&*foreign(middle)?);
            match ends < offset {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let mut read = Vec::new();
        let mut bytes = 0;
        while low < chunks.len() && bytes < self.max_bytes.max(1) {
            let batches = foreign(low)?;
            bytes += batches.bytes.len();
            read.push(batches);
            low += 1;
        }
        Ok(take(&read, offset, self.max_bytes))
    }
}

fn last_offset(batches: &Batches) -> i64 {
    let last = batches.places.iter().map(|place| place.last_offset);
    last.max().unwrap_or(-1)
}

/// A look at records.
pub struct Scan {
    shared: Arc<Shared>,
    id: PartitionId,
    files: Vec<File>,
    from: i64,
}

impl Scan {
    /// The records that readers get, in the order of their offsets: none that lies behind a higher one.
    /// With each, which one of its producer it is, if it says so. Blocking.
    pub fn run(self, mut each: impl FnMut(&Record, Option<Origin>)) -> io::Result<()> {
        let mut next = self.from;
        for file in &self.files {
            next = next.max(file.base_offset);
            self.scan(file, &mut next, &mut each)
                .map_err(|error| file.described(self.id, error))?;
        }
        Ok(())
    }

    fn scan(
        &self,
        file: &File,
        next: &mut i64,
        each: &mut impl FnMut(&Record, Option<Origin>),
    ) -> io::Result<()> {
        for chunk in &file.chunks(&self.shared)? {
            let batches = self.shared.chunks.foreign(&self.shared, chunk)?;
            for place in &batches.places {
                if place.last_offset < *next {
                    continue;
                }
                let bytes = batches.bytes.slice(place.at..place.at + place.len);
                let batch = Batch::parse(&bytes).map_err(damaged)?;
                for record in records(&batch, INFLATED_BYTES_MAX).map_err(damaged)? {
                    let record = record.map_err(damaged)?;
                    if (*next..file.next_offset).contains(&record.offset) {
                        each(&record, batches.origin(record.offset));
                        *next = record.offset + 1;
                    }
                }
            }
        }
        Ok(())
    }
}

fn damaged(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A search by time.
pub struct SeekPlan {
    shared: Arc<Shared>,
    id: PartitionId,
    files: Vec<File>,
    goal: SeekGoal,
    from: i64,
}

impl SeekPlan {
    /// As [`super::SeekPlan::run`]. Blocking.
    pub fn run<T>(
        self,
        mut accept: impl FnMut(bytes::Bytes, i64) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        for file in &self.files {
            match self.seek(file, &mut accept) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(file.described(self.id, error)),
            }
        }
        Ok(None)
    }

    fn seek<T>(
        &self,
        file: &File,
        accept: &mut impl FnMut(bytes::Bytes, i64) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let mut chunks = file.chunks(&self.shared)?;
        if self.goal == SeekGoal::Largest {
            chunks.drain(..chunks.len().saturating_sub(1));
        }
        for chunk in &chunks {
            let batches = self.shared.chunks.foreign(&self.shared, chunk)?;
            let timestamp = match self.goal {
                SeekGoal::AtOrAfter(timestamp) => timestamp,
                SeekGoal::Largest => {
                    let all = batches.places.iter().map(|place| place.max_timestamp);
                    all.max().unwrap_or(i64::MAX)
                }
            };
            let from = self.from.max(file.base_offset);
            let found = search(&batches, timestamp, from, accept)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Option<(i64, Vec<(i32, i32)>)> {
        read_conf(&Entry {
            content: text.to_owned().into(),
            ..Entry::default()
        })
    }

    #[test]
    fn a_topics_file_says_its_generation_and_ranges_or_is_none() {
        let good = r#"{"brokerPartitionAssignments":[
            {"partition":{"ringSize":2520,"rangeStart":1260,"rangeStop":2520,"unixTimeNs":"5"},"leaderBroker":"x"},
            {"partition":{"ringSize":2520,"rangeStop":1260,"unixTimeNs":"5"}}],"retention":{}}"#;
        assert_eq!(conf(good), Some((5, vec![(0, 1260), (1260, 2520)])));
        for bad in [
            "",
            "{}",
            r#"{"brokerPartitionAssignments":[]}"#,
            r#"{"brokerPartitionAssignments":[{"partition":{"rangeStop":9,"unixTimeNs":"-1"}}]}"#,
            r#"{"brokerPartitionAssignments":[{"partition":{"rangeStart":9,"rangeStop":9,"unixTimeNs":"1"}}]}"#,
        ] {
            assert_eq!(conf(bad), None, "{bad}");
        }
    }

    #[test]
    fn partitions_of_older_generations_follow_unless_their_ranges_are_the_same() {
        let generation = |name: &str, ranges: &[(i32, i32)]| (name.to_owned(), ranges.to_vec());
        let found = partitions(&[
            generation("v1", &[(0, 2520)]),
            generation("v2", &[(0, 1260), (1260, 2520)]),
            generation("v3", &[(0, 2520)]),
        ]);
        let expected = [
            vec!["v1/0000-2520", "v3/0000-2520"],
            vec!["v2/0000-1260"],
            vec!["v2/1260-2520"],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn only_names_that_seaweedmq_gives_are_taken() {
        assert!(is_generation("v2024-02-29-12-34-56"));
        assert!(!is_generation("v2024-02-29-12-34-5x") && !is_generation("2024-02-29-12-34-56"));
        assert!(is_time_name("2024-02-29-12-34-56"));
        assert!(!is_time_name("2024-02-29-12-34-56.parquet"));
        assert_eq!(range_of("0000-2520"), Some((0, 2520)));
        for bad in ["0000", "0-2520", "2520-0000", "../..", "0000-2520x"] {
            assert_eq!(range_of(bad), None, "{bad}");
        }
    }
}
