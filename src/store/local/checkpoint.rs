//! Checkpoints: up to where each partition's segments are synced, and what it remembered there.
//!
//! ```text
//! checkpoint/<generation>-<shard>
//!   "TIDECKPT"  format version (u32)  number of partitions (u32)
//!   each: topic id (16), partition (4), log start offset (8), next offset (8), last segment (8),
//!         its end (8), its index entries (4), its largest timestamp (8), state length (4), state
//!   CRC-32C of all before (u32)
//! ```
//! A start writes one file with all partitions, of a new generation, and then removes the older ones;
//! the shards' own files, each replaced whole, are of the generation after that. (After a crash with
//! `flush = os` it writes none, and removes only those that say nothing any more.) A partition may
//! stand in several: the one that is further on holds, for none goes beyond what is synced. Of two that
//! are equally far the younger one holds: the start of the log may have moved.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Buf;

use super::file;
use super::log::LogPoint;
use crate::store::{PartitionId, Replay};
use crate::wire::Uuid;

const MAGIC: &[u8; 8] = b"TIDECKPT";
const VERSION: u32 = 1;
const ENTRY_FIXED_LEN: usize = 68;

/// One partition in a checkpoint.
#[derive(Debug)]
pub(super) struct Entry<R> {
    pub id: PartitionId,
    pub log_start_offset: i64,
    pub point: LogPoint,
    pub state: R,
    /// Of the file that it was in.
    pub generation: u64,
    /// That file, counted in [`Checkpoints::files`].
    pub file: usize,
}

/// Collects the partitions of a checkpoint.
pub(super) struct Writer {
    bytes: Vec<u8>,
    count: u32,
}

impl Writer {
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Writer { bytes, count: 0 }
    }

    pub fn add<R: Replay>(
        &mut self,
        id: PartitionId,
        log_start_offset: i64,
        point: LogPoint,
        state: &R,
    ) {
        let out = &mut self.bytes;
        out.extend_from_slice(&id.topic.0);
        out.extend_from_slice(&id.index.to_be_bytes());
        out.extend_from_slice(&log_start_offset.to_be_bytes());
        out.extend_from_slice(&point.next_offset.to_be_bytes());
        out.extend_from_slice(&point.segment_base.to_be_bytes());
        out.extend_from_slice(&point.position.to_be_bytes());
        out.extend_from_slice(&point.index_entries.to_be_bytes());
        out.extend_from_slice(&point.segment_max_timestamp.to_be_bytes());
        let len_at = out.len();
        out.extend_from_slice(&[0; 4]);
        state.encode(out);
        let len = (out.len() - len_at - 4) as u32;
        out[len_at..len_at + 4].copy_from_slice(&len.to_be_bytes());
        self.count += 1;
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[12..16].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_be_bytes());
        self.bytes
    }
}

/// All checkpoints in a folder, by partition, and the files they were in.
pub(super) struct Checkpoints<R> {
    pub entries: HashMap<PartitionId, Entry<R>>,
    pub files: Vec<PathBuf>,
    pub next_generation: u64,
}

pub(super) fn path(dir: &Path, generation: u64, shard: usize) -> PathBuf {
    dir.join(format!("{generation}-{shard}"))
}

pub(super) fn read_all<R: Replay>(dir: &Path) -> io::Result<Checkpoints<R>> {
    let mut all = Checkpoints {
        entries: HashMap::new(),
        files: Vec::new(),
        next_generation: 0,
    };
    for path in file::list(dir)? {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.split_once('-'));
        let Some((Ok(generation), Ok(_))) = name.map(|(g, s)| (g.parse::<u64>(), s.parse::<u64>()))
        else {
            continue;
        };
        all.next_generation = all.next_generation.max(generation + 1);
        let bytes = file::read(&path)?;
        let Some(entries) = decode::<R>(&bytes) else {
            let text = format!(
                "the checkpoint {} is damaged; move it away to have all segments scanned instead",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        let age = |e: &Entry<R>| (e.point.next_offset, e.generation);
        for entry in entries {
            let entry = Entry {
                generation,
                file: all.files.len(),
                ..entry
            };
            let known = all.entries.get(&entry.id);
            if known.is_none_or(|known| age(known) <= age(&entry)) {
                all.entries.insert(entry.id, entry);
            }
        }
        all.files.push(path);
    }
    Ok(all)
}

fn decode<R: Replay>(bytes: &[u8]) -> Option<Vec<Entry<R>>> {
    let body = bytes.len().checked_sub(4)?;
    let (mut body, crc) = bytes.split_at(body);
    if crc32c::crc32c(body).to_be_bytes() != crc || body.len() < 16 || &body[..8] != MAGIC {
        return None;
    }
    body.advance(8);
    if body.get_u32() != VERSION {
        return None;
    }
    let count = body.get_u32();
    (0..count).map(|_| decode_entry(&mut body)).collect()
}

fn decode_entry<R: Replay>(body: &mut &[u8]) -> Option<Entry<R>> {
    if body.len() < ENTRY_FIXED_LEN {
        return None;
    }
    let mut topic = [0; 16];
    body.copy_to_slice(&mut topic);
    let id = PartitionId {
        topic: Uuid(topic),
        index: body.get_i32(),
    };
    let log_start_offset = body.get_i64();
    let point = LogPoint {
        next_offset: body.get_i64(),
        segment_base: body.get_i64(),
        position: body.get_u64(),
        index_entries: body.get_u32(),
        segment_max_timestamp: body.get_i64(),
    };
    let len = body.get_u32() as usize;
    let state = R::decode(body.get(..len)?)?;
    body.advance(len);
    Some(Entry {
        id,
        log_start_offset,
        point,
        state,
        generation: 0,
        file: 0,
    })
}
