//! The sparse index beside a segment: offset and time to position.
//!
//! ```text
//! <base offset, 20 digits>.index
//!   0..8  "TIDEINDX"   8..12 format version (u32)   12..16 zero
//!   16..  entries of 16 bytes: offset less the segment's base (u32), position (u32),
//!         largest timestamp of all batches before that position (i64)
//! ```
//! An entry stands for the batch that begins at its position; a sealed segment's last entry stands for
//! its end, so that its largest timestamp is known without reading it. The index is rebuilt from the
//! segment when it is missing, so it is never a reason to refuse one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use shards::log_limited;

use super::file::{self, be_u32, be_u64, read_full_at};
use super::segment::{self, Name, Scanner};

const HEADER_LEN: usize = 16;
const ENTRY_LEN: usize = 16;
const MAGIC: &[u8; 8] = b"TIDEINDX";
const VERSION: u32 = 1;
/// A batch gets an entry when this many bytes came after the one before (Kafka's `index.interval.bytes`).
pub(super) const INTERVAL_BYTES: u64 = 4096;
/// Entries held in memory before they are worth a write.
pub(super) const PENDING_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub relative_offset: u32,
    pub position: u32,
    pub max_timestamp: i64,
}

/// The index of the segment being written: what is in the file, and what is not there yet.
#[derive(Debug, Clone)]
pub(super) struct ActiveIndex {
    pub flushed: u32,
    pub pending: Vec<IndexEntry>,
    last_position: u64,
}

impl ActiveIndex {
    pub fn new() -> Self {
        ActiveIndex {
            flushed: 0,
            pending: Vec::new(),
            last_position: 0,
        }
    }

    /// An index whose first `flushed` entries are in the file; the next entry comes an interval after `position`.
    pub fn resumed(flushed: u32, position: u64) -> Self {
        ActiveIndex {
            flushed,
            pending: Vec::new(),
            last_position: position,
        }
    }

    /// Notes that a batch begins at `position`; all before it are no younger than `max_timestamp`.
    pub fn note(&mut self, relative_offset: u32, position: u64, max_timestamp: i64) {
        if position - self.last_position < INTERVAL_BYTES {
            return;
        }
        self.last_position = position;
        self.pending.push(IndexEntry {
            relative_offset,
            position: position as u32,
            max_timestamp,
        });
    }

    /// Takes what is to be written now, and where.
    pub fn take_pending(&mut self) -> Option<IndexWrite> {
        if self.pending.is_empty() {
            return None;
        }
        let write = IndexWrite {
            first: self.flushed,
            entries: std::mem::take(&mut self.pending),
            sealing: false,
        };
        self.flushed += write.entries.len() as u32;
        Some(write)
    }

    /// Takes what is to be written when the segment ends at `position`.
    pub fn seal(&mut self, relative_offset: u32, position: u64, max_timestamp: i64) -> IndexWrite {
        self.pending.push(IndexEntry {
            relative_offset,
            position: position as u32,
            max_timestamp,
        });
        let first = self.flushed;
        self.flushed += self.pending.len() as u32;
        IndexWrite {
            first,
            entries: std::mem::take(&mut self.pending),
            sealing: true,
        }
    }

    /// Forgets what was noted from `position` on; `flushed` entries are in the file.
    pub fn roll_back(&mut self, flushed: u32, position: u64) {
        self.flushed = flushed;
        self.pending.retain(|e| u64::from(e.position) < position);
        self.last_position = self.last_position.min(position);
    }
}

/// Entries to be written from number `first` on.
#[derive(Debug)]
pub(super) struct IndexWrite {
    first: u32,
    entries: Vec<IndexEntry>,
    /// What lies behind the last entry is left over from before a crash, and goes.
    sealing: bool,
}

impl IndexWrite {
    pub fn run(&self, path: &Path) -> io::Result<()> {
        let file = file::open_or_make(path)?;
        if self.first == 0 {
            let mut header = [0; HEADER_LEN];
            header[..8].copy_from_slice(MAGIC);
            header[8..12].copy_from_slice(&VERSION.to_be_bytes());
            file::write_all_at(&file, &header, 0)?;
        }
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_LEN);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.relative_offset.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
            bytes.extend_from_slice(&entry.max_timestamp.to_be_bytes());
        }
        file::write_all_at(&file, &bytes, entry_at(self.first))?;
        if self.sealing {
            let end = entry_at(self.first + self.entries.len() as u32);
            file::set_len(&file, end)?;
        }
        Ok(())
    }
}

fn entry_at(number: u32) -> u64 {
    HEADER_LEN as u64 + u64::from(number) * ENTRY_LEN as u64
}

/// A segment's index as a reader off the shard sees it.
pub(super) struct IndexReader {
    file: Option<File>,
    flushed: u32,
    pending: Vec<IndexEntry>,
}

impl IndexReader {
    /// Of the segment being written.
    pub fn active(
        path: PathBuf,
        index: &ActiveIndex,
    ) -> impl FnOnce() -> io::Result<Self> + Send + use<> {
        let (flushed, pending) = (index.flushed, index.pending.clone());
        move || {
            let file = if flushed == 0 {
                None
            } else {
                Some(file::open(&path)?)
            };
            Ok(IndexReader {
                file,
                flushed,
                pending,
            })
        }
    }

    /// Of a sealed segment: rebuilt from the log if it is not there or not whole.
    pub fn sealed(dir: &Path, segment: Name) -> io::Result<Self> {
        let path = segment.index_path(dir);
        let file = match Self::open(&path) {
            Ok(file) => file,
            Err(_) => {
                rebuild(dir, segment)?;
                Self::open(&path)?
            }
        };
        let entries = (file::len(&file)? - HEADER_LEN as u64) / ENTRY_LEN as u64;
        Ok(IndexReader {
            file: Some(file),
            flushed: entries as u32,
            pending: Vec::new(),
        })
    }

    fn open(path: &Path) -> io::Result<File> {
        let file = file::open(path)?;
        let mut header = [0; HEADER_LEN];
        let whole = read_full_at(&file, &mut header, 0)? == HEADER_LEN;
        if !whole || &header[..8] != MAGIC || header[8..12] != VERSION.to_be_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not an index file",
            ));
        }
        Ok(file)
    }

    fn len(&self) -> u32 {
        self.flushed + self.pending.len() as u32
    }

    fn get(&self, number: u32) -> io::Result<IndexEntry> {
        if let Some(pending) = number.checked_sub(self.flushed) {
            return Ok(self.pending[pending as usize]);
        }
        let Some(file) = &self.file else {
            return Err(io::Error::other("index entry beyond the index"));
        };
        let mut bytes = [0; ENTRY_LEN];
        if read_full_at(file, &mut bytes, entry_at(number))? < ENTRY_LEN {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(IndexEntry {
            relative_offset: be_u32(&bytes, 0),
            position: be_u32(&bytes, 4),
            max_timestamp: be_u64(&bytes, 8) as i64,
        })
    }

    /// The last entry for which `at_or_before` holds; it must hold for a prefix of the entries.
    fn last_where(
        &self,
        at_or_before: impl Fn(&IndexEntry) -> bool,
    ) -> io::Result<Option<IndexEntry>> {
        let (mut low, mut high) = (0, self.len());
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.get(middle)?;
            if at_or_before(&entry) {
                found = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    /// Where to begin reading for the batch that holds an offset, at it or before it: the offset of
    /// the batch there, and its position.
    pub fn place_of_offset(&self, relative_offset: u32) -> io::Result<(u32, u64)> {
        let entry = self.last_where(|e| e.relative_offset <= relative_offset)?;
        let place = |e: IndexEntry| (e.relative_offset, u64::from(e.position));
        Ok(entry.map_or((0, segment::HEADER_LEN as u64), place))
    }

    /// Where to begin reading for the first batch with a record at or after `timestamp`.
    pub fn position_of_timestamp(&self, timestamp: i64) -> io::Result<u64> {
        let entry = self.last_where(|e| e.max_timestamp < timestamp)?;
        Ok(entry.map_or(segment::HEADER_LEN as u64, |e| u64::from(e.position)))
    }

    /// The largest timestamp of a sealed segment.
    pub fn max_timestamp(&self) -> io::Result<Option<i64>> {
        match self.len() {
            0 => Ok(None),
            n => Ok(Some(self.get(n - 1)?.max_timestamp)),
        }
    }
}

/// Writes a sealed segment's index anew from its batches.
fn rebuild(dir: &Path, segment: Name) -> io::Result<()> {
    let base_offset = segment.base_offset;
    log_limited!(warn, dir = %dir.display(), base_offset, "a segment's index was missing or damaged; rebuilding it from the log: check the disk if nobody removed it");
    let log = file::open(&segment.log_path(dir))?;
    let mut scanner = Scanner::new(&log, segment::HEADER_LEN as u64);
    let mut index = ActiveIndex::new();
    let (mut max_timestamp, mut end) = (i64::MIN, base_offset);
    while let Some(Ok(batch)) = scanner.next_batch()? {
        index.note(
            (batch.header.base_offset() - base_offset) as u32,
            batch.position,
            max_timestamp,
        );
        // Compaction may have left a batch without its records.
        if batch.header.record_count() > 0 {
            max_timestamp = max_timestamp.max(batch.header.max_timestamp());
        }
        end = batch.header.last_offset() + 1;
    }
    let path = segment.index_path(dir);
    let draft = path.with_extension("index.tmp");
    index
        .seal(
            (end - base_offset) as u32,
            scanner.position(),
            max_timestamp,
        )
        .run(&draft)?;
    file::rename(&draft, &path)
}
