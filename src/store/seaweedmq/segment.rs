//! A segment: one file of a partition, made of chunks, as the filer's entry tells it.
//!
//! SeaweedMQ's own attributes say which offsets it has (`offset_min`, `offset_max`, `buffer_start`,
//! 8 bytes big-endian). What it has no attribute for is in one of Tidegate's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shards::lock;

use super::layout::time_name;
use crate::bridge::{Entry, FileChunk, FuseAttributes};

pub(super) const OFFSET_MIN: &str = "offset_min";
pub(super) const OFFSET_MAX: &str = "offset_max";
const BUFFER_START: &str = "buffer_start";
const TIDEGATE: &str = "tidegate";
const VERSION: u8 = 1;
/// Of a compacted one: it also says up to where.
const VERSION_COMPACTED: u8 = 2;

/// What is known of a segment without its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its name, as seconds since the epoch: about when it was begun; ascending in a partition.
    pub name_s: i64,
    pub base_offset: i64,
    /// Behind its last record.
    pub next_offset: i64,
    /// Of its record batches as clients see them.
    pub bytes: u64,
    /// Of all records; -1 if they have none.
    pub max_timestamp: i64,
    /// When it was last written, in ms since the epoch.
    pub written_ms: i64,
    /// It was compacted: its offsets have holes, and of what is before this one only the last record of
    /// each key is left.
    pub clean_offset: Option<i64>,
}

impl Segment {
    pub fn name(&self) -> String {
        time_name(self.name_s)
    }
}

/// A chunk of a segment: whole batches that were committed, or merged, together.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    pub base_offset: i64,
    pub max_timestamp: i64,
    pub at: Place,
}

/// Where a chunk is.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    File(FileChunk),
    /// In the journal, and these are its bytes.
    Journal(Bytes),
}

impl Chunk {
    pub fn size(&self) -> u64 {
        match &self.at {
            Place::File(file) => file.size,
            Place::Journal(bytes) => bytes.len() as u64,
        }
    }

    pub fn file(&self) -> Option<&FileChunk> {
        match &self.at {
            Place::File(file) => Some(file),
            Place::Journal(_) => None,
        }
    }
}

/// What a commit adds to a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Of the segment.
    pub name_s: i64,
    pub next_offset: i64,
    /// Of its record batches as clients see them.
    pub bytes: u64,
    pub written_ms: i64,
    /// Largest timestamp of the first batch.
    pub first_timestamp: i64,
    /// Time of the append, in ns since the epoch.
    pub last_ns: i64,
    pub chunk: Chunk,
}

/// A segment with its chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub segment: Segment,
    /// Largest timestamp of the first batch.
    pub first_timestamp: i64,
    /// Time of the last append, in ns since the epoch.
    pub last_ns: i64,
    pub chunks: Vec<Arc<Chunk>>,
}

impl Table {
    /// One that has nothing yet.
    pub fn begun(name_s: i64, base_offset: i64) -> Self {
        Table {
            segment: Segment {
                name_s,
                base_offset,
                next_offset: base_offset,
                bytes: 0,
                max_timestamp: -1,
                written_ms: 0,
                clean_offset: None,
            },
            first_timestamp: -1,
            last_ns: 0,
            chunks: Vec::new(),
        }
    }

    pub fn push(&mut self, piece: Piece) {
        let Piece { chunk, .. } = piece;
        if self.chunks.is_empty() {
            self.first_timestamp = piece.first_timestamp;
        }
        let segment = &mut self.segment;
        segment.next_offset = piece.next_offset;
        segment.bytes += piece.bytes;
        segment.max_timestamp = segment.max_timestamp.max(chunk.max_timestamp);
        segment.written_ms = piece.written_ms;
        self.last_ns = self.last_ns.max(piece.last_ns);
        self.chunks.push(Arc::new(chunk));
    }

    /// All of it but the chunks.
    pub fn clone_without_chunks(&self) -> Self {
        Table {
            chunks: Vec::new(),
            ..*self
        }
    }

    /// The chunk that has `offset`, or would have it. (In a compacted segment, that or a later one has what
    /// comes at or behind it.)
    pub fn chunk_of(&self, offset: i64) -> usize {
        let begun = self.chunks.partition_point(|c| c.base_offset <= offset);
        begun.saturating_sub(1)
    }

    /// The filer's entry. All chunks have to be files.
    pub fn entry(&self) -> Entry {
        let mut offset = 0;
        let place = |file: &FileChunk| {
            let placed = FileChunk {
                offset,
                ..file.clone()
            };
            offset += file.size as i64;
            placed
        };
        let files = self.chunks.iter().filter_map(|chunk| chunk.file());
        let chunks: Vec<_> = files.map(place).collect();
        assert_eq!(
            chunks.len(),
            self.chunks.len(),
            "a chunk is in the journal only"
        );
        let number = |n: i64| Bytes::copy_from_slice(&n.to_be_bytes());
        let extended = HashMap::from([
            (OFFSET_MIN.to_owned(), number(self.segment.base_offset)),
            (OFFSET_MAX.to_owned(), number(self.segment.next_offset - 1)),
            (BUFFER_START.to_owned(), number(self.segment.base_offset)),
            (TIDEGATE.to_owned(), self.own_attribute()),
        ]);
        Entry {
            name: self.segment.name(),
            chunks,
            attributes: Some(FuseAttributes {
                file_size: offset as u64,
                mtime: self.segment.written_ms.div_euclid(1000),
                crtime: self.segment.name_s,
                file_mode: super::FILE_MODE,
                ..FuseAttributes::default()
            }),
            extended,
            ..Entry::default()
        }
    }

    fn own_attribute(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(57 + 16 * self.chunks.len());
        match self.segment.clean_offset {
            None => out.put_u8(VERSION),
            Some(clean_offset) => {
                out.put_u8(VERSION_COMPACTED);
                out.put_i64(clean_offset);
            }
        }
        out.put_i64(self.segment.name_s);
        out.put_u64(self.segment.bytes);
        out.put_i64(self.segment.max_timestamp);
        out.put_i64(self.segment.written_ms);
        out.put_i64(self.first_timestamp);
        out.put_i64(self.last_ns);
        for chunk in &self.chunks {
            out.put_i64(chunk.base_offset);
            out.put_i64(chunk.max_timestamp);
        }
        out.freeze()
    }

    /// Whether the entry was made by [`Table::entry`], so that it is damaged if it cannot be read.
    pub fn is_own(entry: &Entry) -> bool {
        entry.extended.contains_key(TIDEGATE)
    }

    /// Reads what [`Table::entry`] made. `None` if it is no segment of Tidegate's.
    pub fn read(entry: &Entry) -> Option<Self> {
        let number = |name| entry.extended.get(name)?.clone().try_get_i64().ok();
        let base_offset = number(OFFSET_MIN)?;
        let next_offset = number(OFFSET_MAX)?.checked_add(1)?;
        let mut own = entry.extended.get(TIDEGATE)?.clone();
        let clean_offset = match own.try_get_u8().ok()? {
            VERSION => None,
            VERSION_COMPACTED => Some(own.try_get_i64().ok()?),
            _ => return None,
        };
        let segment = Segment {
            base_offset,
            next_offset,
            name_s: own.try_get_i64().ok()?,
            bytes: own.try_get_u64().ok()?,
            max_timestamp: own.try_get_i64().ok()?,
            written_ms: own.try_get_i64().ok()?,
            clean_offset,
        };
        let first_timestamp = own.try_get_i64().ok()?;
        let last_ns = own.try_get_i64().ok()?;
        // The filer may keep them in another order.
        let mut files: Vec<_> = entry.chunks.iter().collect();
        files.sort_by_key(|chunk| chunk.offset);
        let chunk = |file: &FileChunk| {
            Some(Arc::new(Chunk {
                base_offset: own.try_get_i64().ok()?,
                max_timestamp: own.try_get_i64().ok()?,
                at: Place::File(file.clone()),
            }))
        };
        let chunks = files.into_iter().map(chunk).collect::<Option<Vec<_>>>()?;
        let has_offsets = match (chunks.first(), chunks.last()) {
            (Some(first), Some(last)) => {
                first.base_offset == base_offset && last.base_offset < next_offset
            }
            // Compaction has left nothing.
            _ => clean_offset.is_some(),
        };
        let is_whole = segment.name() == entry.name
            && !own.has_remaining()
            && has_offsets
            && chunks.is_sorted_by(|a, b| a.base_offset < b.base_offset);
        is_whole.then_some(Table {
            segment,
            first_timestamp,
            last_ns,
            chunks,
        })
    }
}

/// A partition's segments that the filer does not have wholly, and the last one, which takes appends.
/// The shard reads them, a commit adds to them, and who stores them says so.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<Vec<OpenTable>>);

#[derive(Debug)]
struct OpenTable {
    table: Arc<Table>,
    /// The filer has it as it is here.
    stored: bool,
}

impl Open {
    /// With the last segment, as the filer has it.
    pub fn new(active: Option<Table>) -> Self {
        let stored = |table| OpenTable {
            table: Arc::new(table),
            stored: true,
        };
        Open(Mutex::new(active.map(stored).into_iter().collect()))
    }

    fn locked(&self) -> MutexGuard<'_, Vec<OpenTable>> {
        lock(&self.0)
    }

    pub fn segments(&self) -> Vec<Segment> {
        self.locked().iter().map(|o| o.table.segment).collect()
    }

    /// The last one.
    pub fn active(&self) -> Option<Arc<Table>> {
        self.locked().last().map(|open| open.table.clone())
    }

    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.locked().iter().map(|o| o.table.clone()).collect()
    }

    /// The first one that ends behind `offset`; the last one if none does.
    pub fn at(&self, offset: i64) -> Option<Arc<Table>> {
        let open = self.locked();
        let at = open.partition_point(|o| o.table.segment.next_offset <= offset);
        let open = open.get(at).or(open.last())?;
        Some(open.table.clone())
    }

    /// A piece was committed.
    pub fn push(&self, piece: Piece) {
        let mut open = self.locked();
        let is_last = |last: &OpenTable| last.table.segment.name_s == piece.name_s;
        if !open.last().is_some_and(is_last) {
            let begun = Table::begun(piece.name_s, piece.chunk.base_offset);
            open.push(OpenTable {
                table: Arc::new(begun),
                stored: false,
            });
        }
        if let Some(last) = open.last_mut() {
            Arc::make_mut(&mut last.table).push(piece);
            last.stored = false;
        }
    }

    /// Those that the filer has not as they are.
    pub fn unstored(&self) -> Vec<Arc<Table>> {
        let open = self.locked();
        let unstored = open.iter().filter(|open| !open.stored);
        unstored.map(|open| open.table.clone()).collect()
    }

    /// The filer has `table` now. More may have been added to the segment meanwhile, or it may be gone.
    pub fn note_stored(&self, mut table: Table) {
        let mut open = self.locked();
        let name_s = table.segment.name_s;
        let Some(open) = open.iter_mut().find(|o| o.table.segment.name_s == name_s) else {
            return;
        };
        let now = &open.table;
        let begins = |chunk: &Arc<Chunk>| chunk.base_offset < table.segment.next_offset;
        let added = &now.chunks[now.chunks.partition_point(begins)..];
        open.stored = added.is_empty();
        table.chunks.extend_from_slice(added);
        open.table = Arc::new(Table {
            chunks: table.chunks,
            ..Table::clone_without_chunks(now)
        });
    }

    /// Takes out the first ones, as long as the filer has them and there is one behind.
    pub fn take_sealed(&self) -> Vec<Segment> {
        let mut open = self.locked();
        let count = open.iter().take_while(|open| open.stored).count();
        let count = count.min(open.len().saturating_sub(1));
        open.drain(..count).map(|o| o.table.segment).collect()
    }

    /// Takes out those that end at or before `offset`, but for the last one; gives their names.
    pub fn drop_before(&self, offset: i64) -> Vec<i64> {
        let mut open = self.locked();
        let ended = open.partition_point(|o| o.table.segment.next_offset <= offset);
        let ended = ended.min(open.len().saturating_sub(1));
        open.drain(..ended)
            .map(|o| o.table.segment.name_s)
            .collect()
    }

    /// Takes out all; gives their names.
    pub fn clear(&self) -> Vec<i64> {
        let mut open = self.locked();
        open.drain(..).map(|o| o.table.segment.name_s).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let chunk = |base_offset: i64, size: u64| {
            Arc::new(Chunk {
                base_offset,
                max_timestamp: base_offset * 10,
                at: Place::File(FileChunk {
                    file_id: format!("3,{base_offset:x}"),
                    size,
                    ..FileChunk::default()
                }),
            })
        };
        let mut table = Table::begun(1_709_210_096, 5);
        table.segment.next_offset = 40;
        table.segment.bytes = 77;
        table.segment.max_timestamp = 300;
        table.chunks = vec![chunk(5, 100), chunk(9, 7), chunk(30, 50)];
        table
    }

    #[test]
    fn it_is_read_as_it_was_written_in_whatever_order_the_filer_has_the_chunks() {
        let mut entry = table().entry();
        assert_eq!(entry.name, "2024-02-29-12-34-56");
        assert_eq!(entry.attributes.as_ref().unwrap().file_size, 157);
        entry.chunks.reverse();
        let mut read = Table::read(&entry).unwrap();
        let mut offsets = Vec::new();
        for chunk in &mut read.chunks {
            let Place::File(file) = &mut Arc::make_mut(chunk).at else {
                panic!("it is in a file")
            };
            offsets.push(std::mem::take(&mut file.offset));
        }
        assert_eq!(offsets, [0, 100, 107]);
        assert_eq!(read, table());
    }

    #[test]
    fn a_compacted_one_says_up_to_where_and_may_have_nothing_left() {
        let mut compacted = table();
        compacted.segment.clean_offset = Some(20);
        assert_eq!(
            Table::read(&compacted.entry()).unwrap().segment,
            compacted.segment
        );
        compacted.chunks.clear();
        assert_eq!(Table::read(&compacted.entry()), Some(compacted.clone()));
        compacted.segment.clean_offset = None;
        assert_eq!(Table::read(&compacted.entry()), None);
    }

    #[test]
    fn what_others_wrote_or_cut_is_none() {
        let whole = table().entry();
        let cut = |change: fn(&mut Entry)| {
            let mut entry = whole.clone();
            change(&mut entry);
            Table::read(&entry)
        };
        assert_eq!(cut(|e| drop(e.chunks.pop())), None);
        assert_eq!(cut(|e| drop(e.extended.remove(TIDEGATE))), None);
        assert_eq!(cut(|e| drop(e.extended.remove(OFFSET_MIN))), None);
        assert_eq!(cut(|e| e.name.push('0')), None);
    }

    #[test]
    fn an_offset_is_in_the_chunk_that_begins_before_it() {
        let at = |offset| table().chunk_of(offset);
        assert_eq!([5, 8, 9, 29, 30, 39].map(at), [0, 0, 1, 1, 2, 2]);
    }

    fn piece(name_s: i64, base_offset: i64) -> Piece {
        Piece {
            name_s,
            next_offset: base_offset + 10,
            bytes: 100,
            written_ms: base_offset,
            first_timestamp: base_offset,
            last_ns: base_offset,
            chunk: Chunk {
                base_offset,
                max_timestamp: base_offset,
                at: Place::Journal(Bytes::from_static(b"entries")),
            },
        }
    }

    #[test]
    fn what_was_added_while_a_segment_was_stored_stays() {
        let open = Open::new(None);
        for base_offset in [0, 10] {
            open.push(piece(1, base_offset));
        }
        let mut stored = Table::clone(&open.unstored()[0]);
        open.push(piece(1, 20));
        open.push(piece(2, 30));
        let file = Chunk {
            base_offset: 0,
            max_timestamp: 10,
            at: Place::File(FileChunk::default()),
        };
        stored.chunks = vec![Arc::new(file)];
        open.note_stored(stored);
        let first = &open.tables()[0];
        let bases: Vec<_> = first.chunks.iter().map(|c| c.base_offset).collect();
        assert_eq!(bases, [0, 20]);
        assert_eq!((first.segment.next_offset, first.segment.bytes), (30, 300));
        assert!(first.chunks[0].file().is_some());
        assert_eq!(open.unstored().len(), 2);
        assert_eq!(open.take_sealed(), []);
        open.note_stored(Table::clone(first));
        assert_eq!(open.take_sealed().len(), 1);
        // The last one stays though it is stored.
        open.note_stored(Table::clone(&open.tables()[0]));
        assert_eq!((open.unstored().len(), open.take_sealed().len()), (0, 0));
        assert_eq!(open.segments().len(), 1);
    }

    #[test]
    fn a_segment_that_was_dropped_while_it_was_stored_does_not_come_back() {
        let open = Open::new(None);
        open.push(piece(1, 0));
        open.push(piece(2, 10));
        let first = Table::clone(&open.unstored()[0]);
        assert_eq!(open.drop_before(100), [1]);
        open.note_stored(first);
        assert_eq!(open.segments().len(), 1);
        assert_eq!(open.clear(), [2]);
        assert!(open.active().is_none());
    }
}
