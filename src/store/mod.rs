//! The durable log behind a partition.
//!
//! What lives here: what a log is made of ([`PartitionId`], [`StoredBatch`]), the state that must
//! survive with it ([`Replay`]), and the stores that keep it. [`local`] keeps segment files on this
//! machine's disk. What must not live here: offsets being assigned, producers being checked, waiters
//! being woken; those are [`crate::partition`]'s.

use std::io::IoSlice;

use bytes::Bytes;

use crate::record::batch::{BatchHeader, position};
use crate::wire::Uuid;

pub mod local;

/// A partition by its topic's id, so that a topic made again under an old name is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    pub topic: Uuid,
    pub index: i32,
}

impl std::fmt::Display for PartitionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// The first bytes of a batch that the broker fills in: base offset, length, leader epoch.
/// They lie outside the batch's CRC.
pub const BATCH_HEAD_LEN: usize = 16;

/// One record batch with its offsets assigned.
///
/// The bytes are `head` and then `body`: the body is a slice of what the producer sent, shared with
/// its frame, so the broker's part of the header is kept beside it and not patched into it.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    /// Milliseconds since the epoch.
    pub max_timestamp: i64,
    pub head: [u8; BATCH_HEAD_LEN],
    pub body: Bytes,
}

impl StoredBatch {
    /// Bytes on disk and on the wire.
    pub fn size(&self) -> usize {
        BATCH_HEAD_LEN + self.body.len()
    }

    pub fn records(&self) -> u64 {
        (self.last_offset - self.base_offset + 1) as u64
    }

    pub(crate) fn io_slices(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.head), IoSlice::new(&self.body)]
    }
}

/// Whether the bytes of one whole batch are those that its CRC was made of.
pub(crate) fn crc_matches(header: &BatchHeader, batch: &[u8]) -> bool {
    batch
        .get(position::ATTRIBUTES..)
        .is_some_and(|checked| crc32c::crc32c(checked) == header.crc())
}

/// What a partition remembers beside its batches (producers, leader epochs). A store saves it with a
/// checkpoint, and at start replays onto it the batches that came after.
pub trait Replay: Default + Send + 'static {
    /// Appends the whole state to `out`.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads what [`Replay::encode`] wrote; `None` if the bytes are not that.
    fn decode(bytes: &[u8]) -> Option<Self>;
    /// Forgets what belongs to records at or after `offset`: they were not committed when it was saved.
    fn roll_back(&mut self, offset: i64);
    /// One batch of the log, in offset order.
    fn replay(&mut self, batch: &BatchHeader);
}
