//! One shard's journal in the filer: what commits leave behind, until it is in segments.
//!
//! To list a segment's chunks anew with each commit costs the more the longer the list is, and an upload
//! for each partition that has a record is many uploads. So a commit writes one small entry, with the
//! small chunks of all partitions in it and the file ids of the large ones, under the shard's fence:
//!
//! ```text
//! /topics/kafka/.tidegate/journal/<shard>/<slot>     slot: the record's number modulo SLOTS
//!
//! "TIDEJRN1"  number (8)  first number that is still needed (8)  number of pieces (4)  pieces
//! CRC-32C of all before (4)
//! piece: topic (16)  partition (4)  segment (8)  base offset (8)  next offset (8)  bytes (8)
//!        largest timestamp (8)  written (8)  first timestamp (8)  time of the append (8)
//!        0: in a file, 1: here (1)  length (4)  the file's FileChunk, or the chunk itself
//! ```
//! What is larger than [`INLINE_BYTES`] the entry has in chunks of its own; so is all if volumes are to
//! keep it safer than the filer's store does.
//!
//! Now and then, in the background, segments take over what the journal has of them ([`merge`]); their
//! slots are used again then. Others see records no sooner, at most [`STORE_AFTER`] later: as late as
//! those that a broker of SeaweedMQ has in memory. A start does the same with all journals before
//! anything else, and removes them; it reads no chunk for it, which may be away. What belongs to a partition that is damaged is kept in a journal of
//! its own (`kept-<epoch>`) until a later start finds it mended.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use prost::Message;
use shards::lock;

use super::fence::{Fence, FenceError};
use super::layout::{ROOT, time_name};
use super::merge::{Joined, join, join_new};
use super::recovery::is_damage;
use super::segment::{Chunk, Open, Piece, Place, Table};
use super::{
    AWAY, CHUNK_BYTES, PARTITIONS_AT_ONCE, Patience, Shared, UPLOADS_AT_ONCE, attributes, content,
    failed, list_all, refused,
};
use crate::bridge::{BridgeError, Entry, FileChunk, Mutation, path};
use crate::store::PartitionId;
use crate::wire::Uuid;

const MAGIC: &[u8; 8] = b"TIDEJRN1";
/// Records that a journal has at most.
const SLOTS: u64 = 4096;
/// A chunk of this size or more is not written to the journal first.
pub(super) const DIRECT_BYTES: usize = 64 << 10;
/// A record up to this is in its entry, in bytes.
const INLINE_BYTES: usize = 16 << 10;
/// Segments are stored when the journal has so much: records, bytes of chunks, and for so long.
const STORE_RECORDS: u64 = SLOTS / 2;
const STORE_BYTES: usize = 4 << 20;
const STORE_AFTER: Duration = Duration::from_secs(5);
/// A commit waits for them to be stored when it has so many bytes.
const BYTES_MAX: usize = 16 << 20;
/// Between two attempts.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Entries of one transaction: commits wait for it.
const ENTRIES_AT_ONCE: usize = 8;
const TABLES_AT_ONCE: usize = 8;

fn folder() -> String {
    format!("{ROOT}/journal")
}

/// What a commit adds to one partition.
pub(super) struct Addition {
    pub id: PartitionId,
    pub dir: Arc<str>,
    pub open: Arc<Open>,
    pub piece: Piece,
}

pub(super) struct Journal {
    shared: Arc<Shared>,
    fence: Arc<Fence>,
    directory: String,
    state: Mutex<State>,
    /// There may be something to be stored, or the end is near.
    wake: Condvar,
    /// Held while segments are stored.
    storing: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Number of the next record.
    next: u64,
    /// All records before it are in segments.
    needed: u64,
    /// Of chunks that are in the journal only.
    bytes: usize,
    /// When the first of what is not in segments came.
    since: Option<Instant>,
    /// Partitions with what is not in segments.
    dirty: HashMap<PartitionId, (Arc<str>, Arc<Open>)>,
    stopped: bool,
}

impl State {
    /// How long it is until segments are to be stored. `None`: nothing is there to be stored.
    fn due_in(&self) -> Option<Duration> {
        let since = self.since?;
        let full = self.next - self.needed >= STORE_RECORDS || self.bytes >= STORE_BYTES;
        Some(match full {
            true => Duration::ZERO,
            false => STORE_AFTER.saturating_sub(since.elapsed()),
        })
    }
}

/// Stores segments in the background until it is dropped.
pub(super) struct Storing(pub Arc<Journal>);

impl Storing {
    pub fn start(journal: Journal) -> io::Result<Self> {
        let journal = Arc::new(journal);
        let work = journal.clone();
        std::thread::Builder::new()
            .name("seaweedmq".to_owned())
            .spawn(move || work.store_when_due())?;
        Ok(Storing(journal))
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        self.0.locked().stopped = true;
        self.0.wake.notify_all();
    }
}

impl Journal {
    /// An empty one.
    pub fn new(shared: Arc<Shared>, fence: Arc<Fence>, shard: usize) -> Self {
        Journal {
            shared,
            fence,
            directory: format!("{}/{shard}", folder()),
            state: Mutex::default(),
            wake: Condvar::new(),
            storing: Mutex::new(()),
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Commits additions, all or none. One commit is under way at a time. Blocking.
    pub fn append(&self, additions: Vec<Addition>) -> Result<(), FenceError> {
        let (number, needed) = self.room()?;
        let pieces: Vec<_> = additions.iter().map(|a| (a.id, &a.piece)).collect();
        let record = encode(number, needed, &pieces);
        let name = format!("{:04}", number % SLOTS);
        let entry = block_on(entry(&self.shared, &self.directory, name, record))?;
        let directory = self.directory.clone();
        // One that failed may be there all the same: the next takes its number and its place.
        self.fence
            .transact(vec![Mutation::Put { directory, entry }])?;
        let mut state = self.locked();
        state.next += 1;
        let begins = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        for Addition {
            id,
            dir,
            open,
            piece,
        } in additions
        {
            if let Place::Journal(bytes) = &piece.chunk.at {
                state.bytes += bytes.len();
            }
            open.push(piece);
            state.dirty.entry(id).or_insert((dir, open));
        }
        if begins || state.due_in() == Some(Duration::ZERO) {
            self.wake.notify_all();
        }
        Ok(())
    }

    /// Number of the next record, and of the first that is needed.
    fn room(&self) -> Result<(u64, u64), FenceError> {
        loop {
            let state = self.locked();
            if state.next - state.needed < SLOTS && state.bytes < BYTES_MAX {
                return Ok((state.next, state.needed));
            }
            drop(state);
            self.store()?;
        }
    }

    /// Brings all that was committed into segments. Blocking.
    pub fn store(&self) -> Result<(), FenceError> {
        let _alone = lock(&self.storing);
        let mut state = self.locked();
        let dirty = std::mem::take(&mut state.dirty);
        let bytes = std::mem::take(&mut state.bytes);
        let since = state.since.take();
        let next = state.next;
        drop(state);
        let done = self.store_all(&dirty);
        let mut state = self.locked();
        match done {
            Ok(()) => state.needed = next,
            Err(_) => {
                state.bytes += bytes;
                state.since = since;
                for (id, place) in dirty {
                    state.dirty.entry(id).or_insert(place);
                }
            }
        }
        done
    }

    fn store_all(
        &self,
        dirty: &HashMap<PartitionId, (Arc<str>, Arc<Open>)>,
    ) -> Result<(), FenceError> {
        // Nothing is stored of a topic while it is removed, or after.
        let _kept = self.shared.keep_topics();
        let is_there = |topic: &Uuid| self.shared.topics().contains_key(topic);
        let there = dirty.iter().filter(|(id, _)| is_there(&id.topic));
        let tables = there.flat_map(|(_, (dir, open))| {
            let tables = open.unstored().into_iter();
            tables.map(move |table| (dir.clone(), open.clone(), table))
        });
        let tables: Vec<_> = tables.collect();
        let mut done = Ok(());
        for some in tables.chunks(ENTRIES_AT_ONCE) {
            let joined = block_on(
                stream::iter(some.to_vec())
                    .map(|(dir, open, table)| async move {
                        let path = path(&dir, &table.segment.name());
                        Ok((dir, open, join(&self.shared, &path, &table).await?))
                    })
                    .buffered(TABLES_AT_ONCE)
                    .collect::<Vec<Result<_, BridgeError>>>(),
            );
            let failure = joined
                .iter()
                .find_map(|joined| joined.as_ref().err().cloned());
            let joined: Vec<(_, _, Joined)> = joined.into_iter().flatten().collect();
            let puts = joined
                .iter()
                .map(|(dir, _, joined)| put(dir, &joined.table));
            if let Err(error) = self.fence.transact(puts.collect()) {
                if matches!(error, FenceError::Fenced) {
                    let made = joined.iter().flat_map(|(.., joined)| &joined.made);
                    self.shared.discard(made.cloned().collect());
                }
                return Err(error);
            }
            for (_, open, joined) in joined {
                let metrics = &self.shared.metrics;
                metrics.merges.add(joined.made.len() as u64);
                metrics
                    .merged_bytes
                    .add(joined.made.iter().map(|chunk| chunk.size()).sum());
                open.note_stored(joined.table);
            }
            if let Some(failure) = failure {
                done = Err(failure.into());
            }
        }
        done
    }

    fn store_when_due(&self) {
        let mut state = self.locked();
        while !state.stopped {
            let wait = state.due_in();
            state = match wait {
                Some(Duration::ZERO) => {
                    drop(state);
                    let failed = match self.store() {
                        Ok(()) => false,
                        // A commit finds it out, and says so.
                        Err(FenceError::Fenced) => return,
                        Err(error) => {
                            shards::log_limited!(warn, journal = self.directory, %error, "cannot store segments, what was committed stays in the journal; trying again");
                            true
                        }
                    };
                    let state = self.locked();
                    match failed && !state.stopped {
                        true => self.wait(state, RETRY_AFTER),
                        false => state,
                    }
                }
                Some(wait) => self.wait(state, wait),
                None => self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        match self.wake.wait_timeout(state, time) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}

/// The entry of a record.
async fn entry(
    shared: &Shared,
    directory: &str,
    name: String,
    record: Vec<u8>,
) -> Result<Entry, BridgeError> {
    let attributes = Some(attributes(record.len() as u64));
    let (mut content, mut chunks) = (Bytes::from(record), Vec::new());
    if shared.is_safer_in_volumes || content.len() > INLINE_BYTES {
        let path = &path(directory, &name);
        let starts = (0..content.len()).step_by(CHUNK_BYTES);
        let parts = starts.map(|at| content.slice(at..content.len().min(at + CHUNK_BYTES)));
        let mut uploads = stream::iter(parts)
            .map(|part| async move { shared.upload(vec![part], path).await })
            .buffered(UPLOADS_AT_ONCE);
        let mut offset = 0;
        while let Some(chunk) = uploads.try_next().await? {
            let size = chunk.size as i64;
            chunks.push(FileChunk { offset, ..chunk });
            offset += size;
        }
        drop(uploads);
        content = Bytes::new();
    }
    Ok(Entry {
        name,
        content,
        chunks,
        attributes,
        ..Entry::default()
    })
}

fn put(dir: &str, table: &Table) -> Mutation {
    Mutation::Put {
        directory: dir.to_owned(),
        entry: table.entry(),
    }
}

fn encode(number: u64, needed: u64, pieces: &[(PartitionId, &Piece)]) -> Vec<u8> {
    let chunks = pieces.iter().map(|(_, piece)| &piece.chunk);
    let data = chunks.filter_map(|chunk| match &chunk.at {
        Place::Journal(bytes) => Some(bytes.len()),
        Place::File(_) => None,
    });
    let mut out = Vec::with_capacity(32 + data.sum::<usize>() + pieces.len() * 192);
    out.extend_from_slice(MAGIC);
    out.put_u64(number);
    out.put_u64(needed);
    out.put_u32(pieces.len() as u32);
    for (id, piece) in pieces {
        out.extend_from_slice(&id.topic.0);
        out.put_i32(id.index);
        out.put_i64(piece.name_s);
        out.put_i64(piece.chunk.base_offset);
        out.put_i64(piece.next_offset);
        out.put_u64(piece.bytes);
        out.put_i64(piece.chunk.max_timestamp);
        out.put_i64(piece.written_ms);
        out.put_i64(piece.first_timestamp);
        out.put_i64(piece.last_ns);
        match &piece.chunk.at {
            Place::File(file) => {
                let file = file.encode_to_vec();
                out.put_u8(0);
                out.put_u32(file.len() as u32);
                out.extend_from_slice(&file);
            }
            Place::Journal(bytes) => {
                out.put_u8(1);
                out.put_u32(bytes.len() as u32);
                out.extend_from_slice(bytes);
            }
        }
    }
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out
}

/// What a start finds in a slot.
#[derive(Debug, PartialEq)]
struct Record {
    number: u64,
    needed: u64,
    pieces: Vec<(PartitionId, Piece)>,
}

/// `None` if the bytes are none.
fn decode(bytes: &Bytes) -> Option<Record> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body).to_be_bytes() != *crc {
        return None;
    }
    let mut rest = bytes.slice(..body.len());
    if rest.try_get_u64() != Ok(u64::from_be_bytes(*MAGIC)) {
        return None;
    }
    let number = rest.try_get_u64().ok()?;
    let needed = rest.try_get_u64().ok()?;
    let count = rest.try_get_u32().ok()?;
    let pieces = (0..count).map(|_| take_piece(&mut rest));
    let pieces = pieces.collect::<Option<Vec<_>>>()?;
    rest.is_empty().then_some(Record {
        number,
        needed,
        pieces,
    })
}

fn take_piece(rest: &mut Bytes) -> Option<(PartitionId, Piece)> {
    let mut topic = [0; 16];
    rest.try_copy_to_slice(&mut topic).ok()?;
    let id = PartitionId {
        topic: Uuid(topic),
        index: rest.try_get_i32().ok()?,
    };
    let name_s = rest.try_get_i64().ok()?;
    let base_offset = rest.try_get_i64().ok()?;
    let next_offset = rest.try_get_i64().ok()?;
    let bytes = rest.try_get_u64().ok()?;
    let max_timestamp = rest.try_get_i64().ok()?;
    let written_ms = rest.try_get_i64().ok()?;
    let first_timestamp = rest.try_get_i64().ok()?;
    let last_ns = rest.try_get_i64().ok()?;
    let kind = rest.try_get_u8().ok()?;
    let len = rest.try_get_u32().ok()? as usize;
    let data = (len <= rest.len()).then(|| rest.split_to(len))?;
    let at = match kind {
        0 => Place::File(FileChunk::decode(data).ok()?),
        1 => Place::Journal(data),
        _ => return None,
    };
    let piece = Piece {
        name_s,
        next_offset,
        bytes,
        written_ms,
        first_timestamp,
        last_ns,
        chunk: Chunk {
            base_offset,
            max_timestamp,
            at,
        },
    };
    (base_offset < next_offset).then_some((id, piece))
}

/// Brings what the journals of all shards have into segments, and removes the journals. Nobody may write
/// to them any more: their fences have been taken. Gives the partitions with which that cannot be done
/// because they are damaged. Blocking.
pub(super) fn recover(
    shared: &Arc<Shared>,
    fence: &Fence,
    partitions: &[PartitionId],
    patience: &Patience,
) -> io::Result<HashSet<PartitionId>> {
    let journals = block_on(list_all(&shared.bridge, &folder(), "")).map_err(failed)?;
    if journals.is_empty() {
        return Ok(HashSet::new());
    }
    let began = Instant::now();
    let pieces = patience.with(|| block_on(read_pieces(shared, &journals, partitions)))?;
    let count = pieces.len();
    let Absorbed { tables, kept } = absorb_all(shared, pieces, patience)?;
    let puts: Vec<_> = tables
        .iter()
        .map(|(dir, joined)| put(dir, &joined.table))
        .chain(block_on(keep(shared, fence.epoch(), &kept)).map_err(failed)?)
        .collect();
    for some in puts.chunks(ENTRIES_AT_ONCE) {
        fence.transact(some.to_vec()).map_err(refused)?;
    }
    let remove = |journal: &Entry| Mutation::Delete {
        directory: folder(),
        name: journal.name.clone(),
        data: true,
        recursive: true,
    };
    for some in journals.chunks(ENTRIES_AT_ONCE) {
        let removals = some.iter().map(remove).collect();
        fence.transact(removals).map_err(refused)?;
    }
    tracing::info!(
        partitions = count,
        kept = kept.len(),
        took_ms = began.elapsed().as_millis() as u64,
        "brought the journal's records into segments"
    );
    Ok(kept.into_iter().map(|(id, _)| id).collect())
}

/// What became of what journals have.
#[derive(Default)]
struct Absorbed {
    /// Segments with it, by their folders.
    tables: Vec<(Arc<str>, Joined)>,
    /// What cannot be brought into segments.
    kept: Vec<(PartitionId, Vec<Piece>)>,
}

/// Adds to segments what journals have of partitions. Blocking.
fn absorb_all(
    shared: &Shared,
    pieces: HashMap<PartitionId, Vec<Piece>>,
    patience: &Patience,
) -> io::Result<Absorbed> {
    let began = Instant::now();
    let mut done = Absorbed::default();
    let mut left: Vec<_> = pieces.into_iter().collect();
    loop {
        let absorbed = stream::iter(left)
            .map(|(id, pieces)| async move {
                let absorbed = absorb(shared, id, &pieces).await;
                (id, pieces, absorbed)
            })
            .buffer_unordered(PARTITIONS_AT_ONCE);
        let mut again = Vec::new();
        let mut away = None;
        for (id, pieces, absorbed) in block_on(absorbed.collect::<Vec<_>>()) {
            match absorbed {
                Ok(joined) => done.tables.extend(joined),
                Err(error) if error.kind() == AWAY => {
                    again.push((id, pieces));
                    away = Some(error);
                }
                Err(error) if is_damage(&error) => {
                    tracing::error!(partition = %id, %error, "what was committed last cannot be brought into the partition's segments, and is kept; the partition is not served, the others are; restore what is lost, then restart");
                    done.kept.push((id, pieces));
                }
                Err(error) => return Err(error),
            }
        }
        left = again;
        match away {
            None => return Ok(done),
            Some(error) if !patience.pause(began, &error) => return Err(error),
            Some(_) => {}
        }
    }
}

/// What journals have of partitions, in order. The rest is of topics that were deleted.
async fn read_pieces(
    shared: &Shared,
    journals: &[Entry],
    partitions: &[PartitionId],
) -> io::Result<HashMap<PartitionId, Vec<Piece>>> {
    let mut pieces: HashMap<PartitionId, Vec<Piece>> = HashMap::new();
    let wanted: HashSet<_> = partitions.iter().collect();
    for journal in journals {
        for record in read_journal(shared, &journal.name).await? {
            let wanted = record
                .pieces
                .into_iter()
                .filter(|(id, _)| wanted.contains(id));
            wanted.for_each(|(id, piece)| pieces.entry(id).or_default().push(piece));
        }
    }
    for pieces in pieces.values_mut() {
        // The process may have ended when some was kept and the journals were still there.
        pieces.sort_by_key(|piece| piece.chunk.base_offset);
        pieces.dedup_by_key(|piece| piece.chunk.base_offset);
    }
    Ok(pieces)
}

/// A journal of what could not be brought into segments.
async fn keep(
    shared: &Shared,
    epoch: u64,
    kept: &[(PartitionId, Vec<Piece>)],
) -> Result<Vec<Mutation>, BridgeError> {
    let directory = format!("{}/kept-{epoch}", folder());
    let mut puts = Vec::with_capacity(kept.len());
    for (number, (id, pieces)) in kept.iter().enumerate() {
        let pieces: Vec<_> = pieces.iter().map(|piece| (*id, piece)).collect();
        let record = encode(number as u64, 0, &pieces);
        let entry = entry(shared, &directory, number.to_string(), record).await?;
        let directory = directory.clone();
        puts.push(Mutation::Put { directory, entry });
    }
    Ok(puts)
}

/// The records of a journal that are needed.
async fn read_journal(shared: &Shared, shard: &str) -> io::Result<Vec<Record>> {
    let directory = path(&folder(), shard);
    let entries = list_all(&shared.bridge, &directory, "").await;
    let mut records: Vec<Record> = stream::iter(entries.map_err(failed)?)
        .map(|entry| read_record(shared, &directory, entry))
        .buffered(UPLOADS_AT_ONCE)
        .try_collect()
        .await?;
    records.sort_unstable_by_key(|record| record.number);
    let needed = records.last().map_or(0, |last| last.needed);
    records.retain(|record| record.number >= needed);
    let numbers = records.iter().map(|record| record.number);
    match numbers.eq(needed..needed + records.len() as u64) {
        true => Ok(records),
        false => {
            let text = format!(
                "a record is missing in {directory}: restore it, or remove {directory} from the filer to go on without what was committed there last"
            );
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

async fn read_record(shared: &Shared, directory: &str, entry: Entry) -> io::Result<Record> {
    // Of which partitions it is only the record itself says.
    let unreadable = |kind, why: String| {
        let text = format!(
            "the journal's record {directory}/{} {why}: start the volume server that has it, or restore it, or remove {directory} from the filer to go on without what was committed there last",
            entry.name
        );
        io::Error::new(kind, text)
    };
    let bytes = content(&shared.bridge, &entry).await.map_err(|error| {
        let error = failed(error);
        unreadable(error.kind(), format!("cannot be read ({error})"))
    })?;
    decode(&bytes).ok_or_else(|| unreadable(io::ErrorKind::InvalidData, "is damaged".to_owned()))
}

/// The segments of a partition with what the journal has more than they. The process may have ended when
/// some were stored. One that is gone, by retention or compaction, may be made again: the checkpoint, or a
/// segment that it lies within, tells so.
async fn absorb(
    shared: &Shared,
    id: PartitionId,
    pieces: &[Piece],
) -> io::Result<Vec<(Arc<str>, Joined)>> {
    let invalid = |text: String| {
        let text = format!("partition {id}: {text}");
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let dir = shared.known_dir(id)?;
    let mut tables: Vec<(Table, bool)> = Vec::new();
    for piece in pieces {
        let is_of = |(table, _): &(Table, bool)| table.segment.name_s == piece.name_s;
        if !tables.last().is_some_and(is_of) {
            let name = time_name(piece.name_s);
            let found = shared.bridge.lookup(&dir, &name).await.map_err(failed)?;
            let table = match found {
                Some(entry) => Table::read(&entry)
                    .ok_or_else(|| invalid(format!("segment {name} is not Tidegate's")))?,
                None => Table::begun(piece.name_s, piece.chunk.base_offset),
            };
            tables.push((table, false));
        }
        if let Some((table, grows)) = tables.last_mut() {
            let next_offset = table.segment.next_offset;
            if piece.next_offset <= next_offset {
                continue;
            }
            if piece.chunk.base_offset != next_offset {
                let (name, found) = (table.segment.name(), piece.chunk.base_offset);
                return Err(invalid(format!(
                    "segment {name} ends at offset {next_offset}, and the journal goes on at {found}"
                )));
            }
            table.push(piece.clone());
            *grows = true;
        }
    }
    let mut joined = Vec::with_capacity(tables.len());
    for (table, _) in tables.into_iter().filter(|(_, grows)| *grows) {
        let path = path(&dir, &table.segment.name());
        let table = join_new(shared, &path, &table).await.map_err(failed)?;
        joined.push((dir.clone(), table));
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addition(index: i32, base_offset: i64, at: Place) -> Addition {
        let topic = Uuid([7; 16]);
        Addition {
            id: PartitionId { topic, index },
            dir: "/topics/kafka/t".into(),
            open: Arc::default(),
            piece: Piece {
                name_s: 1_700_000_000,
                next_offset: base_offset + 3,
                bytes: 99,
                written_ms: 5,
                first_timestamp: -1,
                last_ns: 12,
                chunk: Chunk {
                    base_offset,
                    max_timestamp: 8,
                    at,
                },
            },
        }
    }

    #[test]
    fn a_record_survives_its_encoding_and_no_cut_or_changed_byte_does() {
        let file = FileChunk {
            file_id: "3,01637037d6".to_owned(),
            size: 70_000,
            e_tag: "cbf43926".to_owned(),
            ..FileChunk::default()
        };
        let additions = [
            addition(0, 10, Place::Journal(Bytes::from_static(b"entries"))),
            addition(2, 0, Place::File(file)),
        ];
        let pieces = additions.each_ref().map(|a| (a.id, &a.piece));
        let bytes = Bytes::from(encode(5000, 4990, &pieces));
        let found = decode(&bytes).unwrap();
        assert_eq!((found.number, found.needed), (5000, 4990));
        let pieces = additions.map(|addition| (addition.id, addition.piece));
        assert_eq!(found.pieces, pieces);
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes.slice(..at)), None);
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_eq!(decode(&changed.into()), None);
        }
    }

    #[test]
    fn segments_are_stored_when_there_is_much_or_for_long() {
        let mut state = State::default();
        assert_eq!(state.due_in(), None);
        state.since = Some(Instant::now());
        state.next = 1;
        assert!(state.due_in().unwrap() > Duration::ZERO);
        state.bytes = STORE_BYTES;
        assert_eq!(state.due_in(), Some(Duration::ZERO));
        (state.bytes, state.next) = (0, STORE_RECORDS);
        assert_eq!(state.due_in(), Some(Duration::ZERO));
    }
}
