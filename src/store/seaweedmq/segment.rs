//! A segment: one file of a partition, made of chunks, as the filer's entry tells it.
//!
//! SeaweedMQ's own attributes say which offsets it has (`offset_min`, `offset_max`, `buffer_start`,
//! 8 bytes big-endian). What it has no attribute for is in one of Tidegate's.

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::layout::time_name;
use crate::bridge::{Entry, FileChunk, FuseAttributes};

pub(super) const OFFSET_MIN: &str = "offset_min";
pub(super) const OFFSET_MAX: &str = "offset_max";
const BUFFER_START: &str = "buffer_start";
const TIDEGATE: &str = "tidegate";
const VERSION: u8 = 1;

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
    pub file: FileChunk,
}

/// A segment with its chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub segment: Segment,
    /// Largest timestamp of the first batch.
    pub first_timestamp: i64,
    /// Time of the last append, in ns since the epoch.
    pub last_ns: i64,
    pub chunks: Vec<Chunk>,
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
            },
            first_timestamp: -1,
            last_ns: 0,
            chunks: Vec::new(),
        }
    }

    /// The chunk that has `offset`, or would have it.
    pub fn chunk_of(&self, offset: i64) -> usize {
        let begun = self.chunks.partition_point(|c| c.base_offset <= offset);
        begun.saturating_sub(1)
    }

    /// The filer's entry.
    pub fn entry(&self) -> Entry {
        let mut offset = 0;
        let place = |chunk: &Chunk| {
            let placed = FileChunk {
                offset,
                ..chunk.file.clone()
            };
            offset += chunk.file.size as i64;
            placed
        };
        let chunks = self.chunks.iter().map(place).collect();
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
        let mut out = BytesMut::with_capacity(49 + 16 * self.chunks.len());
        out.put_u8(VERSION);
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
        if own.try_get_u8() != Ok(VERSION) {
            return None;
        }
        let segment = Segment {
            base_offset,
            next_offset,
            name_s: own.try_get_i64().ok()?,
            bytes: own.try_get_u64().ok()?,
            max_timestamp: own.try_get_i64().ok()?,
            written_ms: own.try_get_i64().ok()?,
        };
        let first_timestamp = own.try_get_i64().ok()?;
        let last_ns = own.try_get_i64().ok()?;
        // The filer may keep them in another order.
        let mut files: Vec<_> = entry.chunks.iter().collect();
        files.sort_by_key(|chunk| chunk.offset);
        let chunk = |file: &FileChunk| {
            Some(Chunk {
                base_offset: own.try_get_i64().ok()?,
                max_timestamp: own.try_get_i64().ok()?,
                file: file.clone(),
            })
        };
        let chunks = files.into_iter().map(chunk).collect::<Option<Vec<_>>>()?;
        let is_whole = segment.name() == entry.name
            && !own.has_remaining()
            && chunks.first()?.base_offset == base_offset
            && chunks.is_sorted_by(|a, b| a.base_offset < b.base_offset)
            && chunks.last()?.base_offset < next_offset;
        is_whole.then_some(Table {
            segment,
            first_timestamp,
            last_ns,
            chunks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let chunk = |base_offset: i64, size: u64| Chunk {
            base_offset,
            max_timestamp: base_offset * 10,
            file: FileChunk {
                file_id: format!("3,{base_offset:x}"),
                size,
                ..FileChunk::default()
            },
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
        let offsets: Vec<_> = read.chunks.iter().map(|c| c.file.offset).collect();
        assert_eq!(offsets, [0, 100, 107]);
        read.chunks.iter_mut().for_each(|c| c.file.offset = 0);
        assert_eq!(read, table());
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
}
