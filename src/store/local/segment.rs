//! Segment files: a header, then record batches as they go over the wire, one after the other.
//!
//! ```text
//! <base offset, 20 digits>.log
//!   0..8    "TIDESEGM"      8..12  format version (u32)   12..28  topic id
//!   28..32  partition (i32) 32..40 base offset (i64)      40..60  zero
//!   60..64  CRC-32C of bytes 0..60
//!   64..    record batches (magic 2)
//! ```
//! Integers are big-endian, as in Kafka's batches.
//!
//! In a segment as it was written, offsets go on from batch to batch. Once compacted (see
//! [`super::compact`]) they have holes, and the name says so:
//! ```text
//! <base offset, 20 digits>.<end offset>.<clean offset>.<generation>.log
//! ```
//! It stands for all segments that begin at or after its base, before its end, and are of an older
//! generation (those as they were written are of generation 0). So one rename puts it in their place:
//! whatever of them is still there is left over. What a name stands for never changes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, be_u32, be_u64, read_full_at};
use crate::record::batch::{self, BatchHeader};
use crate::store::{PartitionId, crc_matches};
use crate::wire::Uuid;

pub const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"TIDESEGM";
const VERSION: u32 = 1;
/// Bytes read in one call while scanning.
const SCAN_CHUNK: usize = 1 << 20;
/// A batch that claims more is damage: no produce request may carry that much.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 30;
/// Extension of files that are no part of the log any more and are removed after a while, as readers
/// may still be on their way to them.
const RETIRED: &str = "deleted";
/// Extension of files that compaction has not finished.
const DRAFT: &str = "cleaned";

/// What a segment file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub id: PartitionId,
    pub base_offset: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("not a segment file, or its header is damaged")]
    NotASegment,
    #[error("segment format version {0} is newer than this program understands")]
    Version(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_be_bytes());
        out[12..28].copy_from_slice(&self.id.topic.0);
        out[28..32].copy_from_slice(&self.id.index.to_be_bytes());
        out[32..40].copy_from_slice(&self.base_offset.to_be_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, SegmentError> {
        if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != be_u32(bytes, 60) {
            return Err(SegmentError::NotASegment);
        }
        if be_u32(bytes, 8) != VERSION {
            return Err(SegmentError::Version(be_u32(bytes, 8)));
        }
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[12..28]);
        Ok(SegmentHeader {
            id: PartitionId {
                topic: Uuid(topic),
                index: be_u32(bytes, 28) as i32,
            },
            base_offset: be_u64(bytes, 32) as i64,
        })
    }

    pub fn read(file: &File) -> Result<Self, SegmentError> {
        let mut bytes = [0; HEADER_LEN];
        if read_full_at(file, &mut bytes, 0)? < HEADER_LEN {
            return Err(SegmentError::NotASegment);
        }
        Self::decode(&bytes)
    }
}

pub(super) fn log_path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.log"))
}

pub(super) fn index_path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.index"))
}

/// A segment, as its files are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub base_offset: i64,
    pub compacted: Option<Compacted>,
}

/// What the name of a compacted segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Compacted {
    /// Where the offsets end that it stands for.
    pub end_offset: i64,
    /// Of records with the same key before this offset, only the last one is left.
    pub clean_offset: i64,
    pub generation: u64,
}

impl Name {
    /// Of a segment as it was written.
    pub(super) fn plain(base_offset: i64) -> Self {
        Name {
            base_offset,
            compacted: None,
        }
    }

    /// The segment whose log is in this file, if it is one's.
    pub fn of(log: &Path) -> Option<Self> {
        let stem = log.file_name()?.to_str()?.strip_suffix(".log")?;
        let mut parts = stem.split('.');
        let base_offset = parts.next()?.parse().ok()?;
        let compacted = match parts.next() {
            None => None,
            Some(end) => Some(Compacted {
                end_offset: end.parse().ok()?,
                clean_offset: parts.next()?.parse().ok()?,
                generation: parts.next()?.parse().ok()?,
            }),
        };
        parts.next().is_none().then_some(Name {
            base_offset,
            compacted,
        })
    }

    fn stem(&self) -> String {
        let base = self.base_offset;
        match self.compacted {
            None => format!("{base:020}"),
            Some(Compacted {
                end_offset,
                clean_offset,
                generation,
            }) => format!("{base:020}.{end_offset}.{clean_offset}.{generation}"),
        }
    }

    pub(super) fn log_path(&self, dir: &Path) -> PathBuf {
        dir.join(self.stem() + ".log")
    }

    pub(super) fn index_path(&self, dir: &Path) -> PathBuf {
        dir.join(self.stem() + ".index")
    }

    /// A segment's files. The log comes first: without it, its index is nothing.
    fn paths(&self, dir: &Path) -> [PathBuf; 2] {
        [self.log_path(dir), self.index_path(dir)]
    }

    /// 0 if it is as it was written.
    pub(super) fn generation(&self) -> u64 {
        self.compacted.map_or(0, |compacted| compacted.generation)
    }

    /// True if `other` is left over from before this one was made.
    fn replaces(&self, other: &Name) -> bool {
        self.compacted.is_some_and(|compacted| {
            let within = self.base_offset..compacted.end_offset;
            compacted.generation > other.generation() && within.contains(&other.base_offset)
        })
    }

    /// Removes the segment and its index. One that is not there is fine.
    pub(super) fn remove(&self, dir: &Path) -> io::Result<()> {
        let mut paths = self.paths(dir).into_iter();
        paths.try_for_each(|path| file::remove_if_there(&path))
    }

    /// Renames the segment and its index, so that no start takes them for a part of the log. One that
    /// is not there is fine.
    pub(super) fn retire(&self, dir: &Path) -> io::Result<()> {
        let mut paths = self.paths(dir).into_iter();
        paths.try_for_each(|path| file::rename_if_there(&path, &with_ending(&path, RETIRED)))
    }

    /// Removes the segment and its index once they were retired.
    pub(super) fn remove_retired(&self, dir: &Path) -> io::Result<()> {
        let mut paths = self.paths(dir).into_iter();
        paths.try_for_each(|path| file::remove_if_there(&with_ending(&path, RETIRED)))
    }
}

/// Files of a segment at `base_offset` that is being made: log and index.
pub(super) fn draft_paths(dir: &Path, base_offset: i64) -> [PathBuf; 2] {
    let paths = Name::plain(base_offset).paths(dir);
    paths.map(|path| with_ending(&path, DRAFT))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Removes a segment as it was written, and its index. One that is not there is fine.
pub(super) fn remove(dir: &Path, base_offset: i64) -> io::Result<()> {
    Name::plain(base_offset).remove(dir)
}

/// The segments in a partition's folder, in the order of their offsets; removes what is left over:
/// retired ones, unfinished ones, and those in whose place a compacted one is. A folder that is not
/// there has none.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Name>> {
    let mut files = match file::list(dir) {
        Ok(files) => files,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    // The oldest first, as what fails, and a power loss, may leave those behind.
    files.sort_unstable();
    let mut names: Vec<Name> = Vec::new();
    for path in files {
        if path.extension().is_some_and(|e| e == RETIRED || e == DRAFT) {
            file::remove_if_there(&path)?;
            continue;
        }
        names.extend(Name::of(&path));
    }
    names.sort_unstable();
    // The youngest is right about those before it.
    let mut compacted: Vec<_> = names
        .iter()
        .filter(|n| n.generation() > 0)
        .copied()
        .collect();
    compacted.sort_unstable_by_key(|name| std::cmp::Reverse(name.generation()));
    for young in compacted {
        if names.contains(&young) {
            for old in names.extract_if(.., |old| young.replaces(old)) {
                old.remove(dir)?;
            }
        }
    }
    Ok(names)
}

/// Why a scan stopped before the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the file ends in the middle of a batch")]
    Torn,
    #[error("what stands there is not a batch header")]
    Header,
    #[error("the batch's CRC does not match its bytes")]
    Crc,
    #[error("no batch of the segment has this offset")]
    Missing,
}

/// Reads a segment's batches in order, with their CRCs checked.
pub struct Scanner<'a> {
    file: &'a File,
    buf: Vec<u8>,
    /// Where `buf` begins in the file.
    buf_at: u64,
    /// Valid bytes in `buf`.
    filled: usize,
    position: u64,
}

/// A batch met by a [`Scanner`].
pub struct Scanned<'a> {
    pub position: u64,
    pub header: BatchHeader,
    pub bytes: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// `position` must be where a batch begins, [`HEADER_LEN`] for the first.
    pub fn new(file: &'a File, position: u64) -> Self {
        Scanner {
            file,
            buf: vec![0; SCAN_CHUNK],
            buf_at: position,
            filled: 0,
            position,
        }
    }

    /// Where the next batch would begin: the end of all that was good so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next batch, `None` at a clean end of the file.
    pub fn next_batch(&mut self) -> io::Result<Option<Result<Scanned<'_>, Damage>>> {
        let available = self.fill(batch::HEADER_LEN)?;
        if available == 0 {
            return Ok(None);
        }
        if available < batch::HEADER_LEN {
            return Ok(Some(Err(Damage::Torn)));
        }
        let at = (self.position - self.buf_at) as usize;
        let header = match BatchHeader::parse(&self.buf[at..at + batch::HEADER_LEN]) {
            Ok(header) if header.size_in_bytes() <= BATCH_BYTES_MAX => header,
            _ => return Ok(Some(Err(Damage::Header))),
        };
        let size = header.size_in_bytes();
        if self.fill(size)? < size {
            return Ok(Some(Err(Damage::Torn)));
        }
        let at = (self.position - self.buf_at) as usize;
        let bytes = &self.buf[at..at + size];
        if !crc_matches(&header, bytes) {
            return Ok(Some(Err(Damage::Crc)));
        }
        let position = self.position;
        self.position += size as u64;
        Ok(Some(Ok(Scanned {
            position,
            header,
            bytes,
        })))
    }

    /// Makes `want` bytes from the position on available, and says how many there are (fewer at the end).
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        let mut at = (self.position - self.buf_at) as usize;
        if self.filled - at < want {
            self.buf.copy_within(at..self.filled, 0);
            self.filled -= at;
            self.buf_at = self.position;
            at = 0;
            if self.buf.len() < want {
                self.buf.resize(want.next_multiple_of(SCAN_CHUNK), 0);
            }
            let free = &mut self.buf[self.filled..];
            self.filled += read_full_at(self.file, free, self.buf_at + self.filled as u64)?;
        }
        Ok((self.filled - at).min(want))
    }
}
