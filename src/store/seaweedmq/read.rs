//! Reading what is not in memory any more: chunks from the volume servers, rebuilt into batches.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::{BoxFuture, Shared as SharedFuture, WeakShared};
use futures::stream::{self, StreamExt, TryStreamExt};
use shards::lock;

use super::codec::{self, Batches, Damaged};
use super::segment::{Chunk, Place, Segment, Table};
use super::{READS_AT_ONCE, Shared, failed, like};
use crate::bridge::{BridgeError, FileChunk};
use crate::store::PartitionId;

/// Tables of sealed segments that are kept.
const TABLES_MAX: usize = 256;
/// Reads under way that are kept in mind, those that were given up among them.
const READS_MAX: usize = 1024;
/// What is smaller than its chunk by this factor does not keep it in memory.
const SMALL_PART: usize = 2;

/// Where to read.
pub(super) enum Source {
    /// Its chunks are to be looked up.
    Sealed(Segment),
    Open(Arc<Table>),
}

impl Source {
    fn segment(&self) -> Segment {
        match self {
            Source::Sealed(segment) => *segment,
            Source::Open(table) => table.segment,
        }
    }
}

/// A read of whole batches.
pub struct ReadPlan {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PartitionId,
    pub(super) dir: Arc<str>,
    /// Where the offset is; behind it, where to go on if nothing is there at the offset or behind it.
    pub(super) sources: Vec<Source>,
    pub(super) offset: i64,
    pub(super) max_bytes: usize,
    /// See [`Log::is_outdated`](super::Log::is_outdated).
    pub swaps: u64,
}

impl ReadPlan {
    /// Whole batches from the one that holds the offset on: at least one, and then as many as fit.
    /// Blocking.
    pub fn run(self) -> io::Result<Vec<Bytes>> {
        for source in self.sources {
            let segment = source.segment();
            let found = with_table(&self.shared, &self.dir, source, |table| {
                read(&self.shared, table, self.offset, self.max_bytes)
            });
            let found = found.map_err(|error| described(error, self.id, segment))?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

fn described(error: io::Error, id: PartitionId, segment: Segment) -> io::Error {
    let name = segment.name();
    io::Error::new(
        error.kind(),
        format!("partition {id}, segment {name}: {error}"),
    )
}

/// Hands a segment's table to `read`. If a chunk is not there, it was merged with others or compacted
/// meanwhile: the entry is looked up anew then, once. What the filer has no entry of has no such chunks.
fn with_table<T>(
    shared: &Shared,
    dir: &str,
    source: Source,
    mut read: impl FnMut(&Table) -> io::Result<T>,
) -> io::Result<T> {
    let name = source.segment().name();
    let table = match source {
        Source::Open(table) => table,
        Source::Sealed(segment) => shared.tables.get_or_look_up(shared, dir, &segment)?,
    };
    match read(&table) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let table = shared.tables.look_up(shared, dir, &name)?;
            read(&table).map_err(lost)
        }
        result => result,
    }
}

/// A chunk that an entry lists and that no volume has is no chunk that was removed as it should.
fn lost(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let text = format!("a chunk that the segment lists is lost: {error}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        }
        _ => error,
    }
}

/// Nothing if the segment has nothing at the offset or behind it.
fn read(shared: &Shared, table: &Table, offset: i64, max_bytes: usize) -> io::Result<Vec<Bytes>> {
    let mut first = table.chunk_of(offset);
    loop {
        let (found, chunks) = read_from(shared, table, first, offset, max_bytes)?;
        first += chunks;
        // Compaction may have left nothing at the end of a chunk.
        if !found.is_empty() || first >= table.chunks.len() {
            return Ok(found);
        }
    }
}

/// Reads from a chunk on; gives also how many chunks were looked at.
fn read_from(
    shared: &Shared,
    table: &Table,
    first: usize,
    offset: i64,
    max_bytes: usize,
) -> io::Result<(Vec<Bytes>, usize)> {
    let (mut expected, mut files) = (0, 0);
    let needed = |chunk: &&Arc<Chunk>| {
        let before = expected;
        expected += chunk.size() as usize;
        files += usize::from(chunk.file().is_some());
        before == 0 || (before < max_bytes && files <= READS_AT_ONCE)
    };
    let wanted = table.chunks[first..].iter().take_while(needed);
    let wanted: Vec<_> = wanted.cloned().collect();
    let next = table.chunks.get(first + wanted.len());
    let chunks = match shared.chunks.get_all(shared, &wanted) {
        // One that is damaged keeps nobody from what comes before it.
        Err(_) if wanted.len() > 1 => shared.chunks.get_all(shared, &wanted[..1])?,
        chunks => chunks?,
    };
    if let Some(file) = next.and_then(|next| next.file()) {
        shared.chunks.prefetch(shared, file.clone());
    }
    Ok((take(&chunks, offset, max_bytes), chunks.len()))
}

/// Whole batches from the one that holds `offset` on. They are as in the chunks, and not copied unless they
/// would keep in memory what is much larger.
pub(super) fn take(chunks: &[Arc<Batches>], offset: i64, max_bytes: usize) -> Vec<Bytes> {
    let mut total = 0;
    let mut slices = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let places = chunk.places.iter().filter(|p| p.last_offset >= offset);
        let mut slice: Option<(usize, usize)> = None;
        let mut is_full = false;
        for place in places {
            is_full = total > 0 && total + place.len > max_bytes;
            if is_full {
                break;
            }
            total += place.len;
            let begin = slice.map_or(place.at, |(begin, _)| begin);
            slice = Some((begin, place.at + place.len));
        }
        slices.extend(slice.map(|(begin, end)| {
            match (end - begin) * SMALL_PART < chunk.bytes.len() {
                true => Bytes::copy_from_slice(&chunk.bytes[begin..end]),
                false => chunk.bytes.slice(begin..end),
            }
        }));
        if is_full {
            break;
        }
    }
    slices
}

/// A search by time.
pub struct SeekPlan {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PartitionId,
    pub(super) dir: Arc<str>,
    pub(super) sources: Vec<Source>,
    pub(super) timestamp: i64,
    pub(super) from: i64,
}

impl SeekPlan {
    /// Hands batches whose largest timestamp is at least the one looked for to `accept`, together with
    /// that time, until it finds something. Segments that are removed meanwhile have nothing. Blocking.
    pub fn run<T>(
        self,
        mut accept: impl FnMut(Bytes, i64) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let (timestamp, from) = (self.timestamp, self.from);
        for source in self.sources {
            let segment = source.segment();
            if segment.next_offset <= from || segment.max_timestamp < timestamp {
                continue;
            }
            let found = with_table(&self.shared, &self.dir, source, |table| {
                seek(&self.shared, table, timestamp, from, &mut accept)
            });
            match found {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(described(error, self.id, segment)),
            }
        }
        Ok(None)
    }
}

fn seek<T>(
    shared: &Shared,
    table: &Table,
    timestamp: i64,
    from: i64,
    accept: &mut impl FnMut(Bytes, i64) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    for chunk in table.chunks.iter().filter(|c| c.max_timestamp >= timestamp) {
        let batches = shared.chunks.get_all(shared, std::slice::from_ref(chunk))?;
        for batches in batches {
            let found = search(&batches, timestamp, from, accept)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// Offers the batches that may have what is looked for, in order, until one is accepted.
pub(super) fn search<T>(
    batches: &Batches,
    timestamp: i64,
    from: i64,
    accept: &mut impl FnMut(Bytes, i64) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    let places = batches.places.iter();
    for place in places.filter(|p| p.max_timestamp >= timestamp && p.last_offset >= from) {
        let batch = batches.bytes.slice(place.at..place.at + place.len);
        if let Some(found) = accept(batch, timestamp)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What was used last, up to a weight in all.
struct Recent<V> {
    entries: HashMap<String, (V, usize, u64)>,
    weight: usize,
    weight_max: usize,
    uses: u64,
}

impl<V: Clone> Recent<V> {
    fn new(weight_max: usize) -> Self {
        Recent {
            entries: HashMap::new(),
            weight: 0,
            weight_max,
            uses: 0,
        }
    }

    fn get(&mut self, key: &str) -> Option<V> {
        self.uses += 1;
        let (value, _, used) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(value.clone())
    }

    fn put(&mut self, key: String, value: V, weight: usize) {
        self.uses += 1;
        if let Some((_, before, _)) = self.entries.insert(key, (value, weight, self.uses)) {
            self.weight -= before;
        }
        self.weight += weight;
        while self.weight > self.weight_max && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, (_, _, used))| *used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some((_, weight, _)) = self.entries.remove(&oldest) {
                self.weight -= weight;
            }
        }
    }
}

/// What names a chunk: filers give its id in one form or in both.
pub(super) fn key(file: &FileChunk) -> String {
    match &file.fid {
        Some(id) if file.file_id.is_empty() => {
            format!("{},{:x}{:08x}", id.volume_id, id.file_key, id.cookie)
        }
        _ => file.file_id.clone(),
    }
}

/// Chunks that were read lately, as batches.
pub(super) struct ChunkCache {
    recent: Mutex<Recent<Arc<Batches>>>,
    /// Reads under way: all who want a chunk wait for one of it.
    reads: Mutex<HashMap<String, WeakShared<ChunkRead>>>,
}

type ChunkRead = BoxFuture<'static, Result<Arc<Batches>, Arc<io::Error>>>;

/// How batches are rebuilt from a chunk.
type Decode = fn(&[u8]) -> Result<Batches, Damaged>;

/// A chunk that is wanted.
enum Wanted {
    Here(Arc<Batches>),
    Read(SharedFuture<ChunkRead>),
}

impl Wanted {
    async fn get(self) -> io::Result<Arc<Batches>> {
        match self {
            Wanted::Here(batches) => Ok(batches),
            Wanted::Read(read) => read.await.map_err(|error| like(&error)),
        }
    }
}

impl ChunkCache {
    pub fn new(bytes_max: usize) -> Self {
        ChunkCache {
            recent: Mutex::new(Recent::new(bytes_max)),
            reads: Mutex::default(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Recent<Arc<Batches>>> {
        lock(&self.recent)
    }

    /// The chunk, or the read that brings it.
    fn want(&self, shared: &Shared, file: &FileChunk, decode: Decode) -> io::Result<Wanted> {
        let key = key(file);
        let mut reads = lock(&self.reads);
        let known = self.locked().get(&key);
        if let Some(known) = known {
            shared.metrics.chunk_hits.add(1);
            return Ok(Wanted::Here(known));
        }
        if let Some(read) = reads.get(&key).and_then(WeakShared::upgrade) {
            shared.metrics.chunk_hits.add(1);
            return Ok(Wanted::Read(read));
        }
        shared.metrics.chunk_misses.add(1);
        let shared = shared.this.upgrade().ok_or(BridgeError::Stopped);
        let read = read_chunk(shared.map_err(failed)?, file.clone(), decode);
        let read = read.boxed().shared();
        if reads.len() >= READS_MAX {
            reads.retain(|_, read| read.upgrade().is_some());
        }
        reads.extend(read.downgrade().map(|read| (key, read)));
        Ok(Wanted::Read(read))
    }

    /// The batches of chunks, in their order. Blocking.
    fn get_all(&self, shared: &Shared, chunks: &[Arc<Chunk>]) -> io::Result<Vec<Arc<Batches>>> {
        let get = |chunk: Arc<Chunk>| async move {
            match &chunk.at {
                Place::File(file) => self.want(shared, file, codec::decode)?.get().await,
                Place::Journal(bytes) => {
                    shared.metrics.chunk_hits.add(1);
                    named("in the journal", codec::decode(bytes)).map(Arc::new)
                }
            }
        };
        let all = stream::iter(chunks.to_vec()).map(get);
        block_on(all.buffered(READS_AT_ONCE).try_collect())
    }

    /// The batches of a chunk that somebody else may have written. Blocking.
    pub fn foreign(&self, shared: &Shared, file: &FileChunk) -> io::Result<Arc<Batches>> {
        block_on(self.want(shared, file, codec::decode_foreign)?.get())
    }

    fn keep(&self, file_id: String, decoded: Result<Batches, Damaged>) -> io::Result<Arc<Batches>> {
        let batches = Arc::new(named(&file_id, decoded)?);
        let weight = batches.weight();
        self.locked().put(file_id, batches.clone(), weight);
        Ok(batches)
    }

    /// Reads a chunk in the background, if it is not here.
    fn prefetch(&self, shared: &Shared, file: FileChunk) {
        if self.locked().get(&key(&file)).is_some() {
            return;
        }
        if let Some(shared) = shared.this.upgrade() {
            let background = shared.clone();
            // If it cannot be read, who needs it is told.
            background.background.run(move || {
                if let Ok(wanted) = shared.chunks.want(&shared, &file, codec::decode) {
                    let _ = block_on(wanted.get());
                }
            });
        }
    }
}

/// Reads a chunk for all that want it.
async fn read_chunk(
    shared: Arc<Shared>,
    file: FileChunk,
    decode: Decode,
) -> Result<Arc<Batches>, Arc<io::Error>> {
    let key = key(&file);
    let read = shared.read(&file).await.map_err(failed);
    let kept = read.and_then(|bytes| shared.chunks.keep(key.clone(), decode(&bytes)));
    let cached = shared.chunks.locked().weight;
    shared.metrics.chunk_cache_bytes.set(cached as u64);
    lock(&shared.chunks.reads).remove(&key);
    kept.map_err(Arc::new)
}

/// Says which chunk is damaged.
fn named(chunk: &str, decoded: Result<Batches, Damaged>) -> io::Result<Batches> {
    decoded.map_err(|damaged| {
        let text = format!("chunk {chunk}, {damaged}");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// Tables of sealed segments that were looked up lately.
pub(super) struct Tables(Mutex<Recent<Arc<Table>>>);

impl Default for Tables {
    fn default() -> Self {
        Tables(Mutex::new(Recent::new(TABLES_MAX)))
    }
}

impl Tables {
    fn locked(&self) -> MutexGuard<'_, Recent<Arc<Table>>> {
        lock(&self.0)
    }

    /// One that is not as the segment is known to be is from before it was compacted.
    fn get(&self, dir: &str, segment: &Segment) -> Option<Arc<Table>> {
        let name = segment.name();
        let kept = self.locked().get(&format!("{dir}/{name}"));
        kept.filter(|table| table.segment == *segment)
    }

    pub fn get_or_look_up(
        &self,
        shared: &Shared,
        dir: &str,
        segment: &Segment,
    ) -> io::Result<Arc<Table>> {
        match self.get(dir, segment) {
            Some(table) => Ok(table),
            None => self.look_up(shared, dir, &segment.name()),
        }
    }

    pub fn look_up(&self, shared: &Shared, dir: &str, name: &str) -> io::Result<Arc<Table>> {
        let entry = block_on(shared.bridge.lookup(dir, name)).map_err(failed)?;
        let entry = entry.ok_or(io::ErrorKind::NotFound)?;
        let table = Table::read(&entry).ok_or_else(|| {
            let text = "the segment's entry in the filer is damaged, or another program's";
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        let table = Arc::new(table);
        self.keep(dir, table.clone());
        Ok(table)
    }

    /// The filer has this one.
    pub fn keep(&self, dir: &str, table: Arc<Table>) {
        let name = table.segment.name();
        self.locked().put(format!("{dir}/{name}"), table, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::seaweedmq::codec::Place;

    fn batches(base: i64, lens: &[usize]) -> Arc<Batches> {
        let mut at = 0;
        let place = |(n, len): (usize, &usize)| {
            let place = Place {
                base_offset: base + 10 * n as i64,
                last_offset: base + 10 * n as i64 + 9,
                max_timestamp: 0,
                ts_ns: 0,
                at,
                len: *len,
            };
            at += len;
            place
        };
        let places = lens.iter().enumerate().map(place).collect();
        let bytes = vec![base as u8; lens.iter().sum()].into();
        Arc::new(Batches {
            bytes,
            places,
            ..Batches::default()
        })
    }

    #[test]
    fn a_read_gives_at_least_one_batch_and_then_what_fits_across_chunks() {
        let chunks = [batches(0, &[100, 50]), batches(20, &[30, 30])];
        let len = |offset, max| take(&chunks, offset, max).concat().len();
        assert_eq!(len(0, 1), 100);
        assert_eq!(len(5, 149), 100);
        assert_eq!(len(5, 150), 150);
        assert_eq!(len(10, 80), 80);
        assert_eq!(len(19, 1000), 110);
        assert_eq!(len(39, 1000), 30);
        assert_eq!(len(40, 1000), 0);
    }

    #[test]
    fn a_table_from_before_its_segment_was_compacted_is_not_used() {
        let tables = Tables::default();
        let before = Arc::new(Table::begun(1_700_000_000, 5));
        tables.keep("/a", before.clone());
        assert_eq!(tables.get("/a", &before.segment), Some(before.clone()));
        assert_eq!(tables.get("/b", &before.segment), None);
        let mut compacted = Table::clone(&before);
        compacted.segment.clean_offset = Some(9);
        assert_eq!(tables.get("/a", &compacted.segment), None);
        tables.keep("/a", Arc::new(compacted.clone()));
        let found = tables.get("/a", &compacted.segment);
        assert_eq!(found.as_deref(), Some(&compacted));
    }

    #[test]
    fn a_small_part_of_a_chunk_does_not_keep_it_in_memory() {
        let chunks = [batches(0, &[100, 10])];
        let is_part = |taken: &[Bytes]| {
            let chunk = chunks[0].bytes.as_ptr_range();
            chunk.contains(&taken[0].as_ptr())
        };
        assert!(is_part(&take(&chunks, 0, 1)));
        assert!(!is_part(&take(&chunks, 10, 1)));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut recent = Recent::new(10);
        for key in ["a", "b", "c"] {
            recent.put(key.to_owned(), key, 3);
        }
        recent.get("a");
        recent.put("d".to_owned(), "d", 4);
        assert_eq!(recent.get("b"), None);
        assert_eq!((recent.get("a"), recent.get("d")), (Some("a"), Some("d")));
        recent.put("e".to_owned(), "e", 100);
        assert_eq!((recent.entries.len(), recent.weight), (1, 100));
    }
}
