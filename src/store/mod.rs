//! The durable log behind a partition.
//!
//! What lives here: what a log is made of ([`PartitionId`], [`StoredBatch`]), the state that must
//! survive with it ([`Replay`]), how it is compacted ([`compact`]), and the stores that keep it. [`local`]
//! keeps segment files on this machine's disk. What must not live here: offsets being assigned, producers
//! being checked, waiters being woken; those are [`crate::partition`]'s.
//!
//! A store makes plans on the shard, without I/O; what they do takes long and runs off the shard. The
//! rest of the gateway knows a [`Store`] and its [`Log`]s only, not which one it is.

use std::io::{self, IoSlice};

use bytes::Bytes;

use crate::record::batch::{BatchHeader, position};
use crate::wire::Uuid;

pub use self::any::{
    AgePlan, AppendPlan, Checkpoint, Commit, Compaction, Expired, Log, ReadPlan, Removal, SeekPlan,
    Store, Stored, Swap,
};
pub use self::removals::Removals;

mod any;
pub mod compact;
pub mod local;
mod removals;
pub mod seaweedmq;

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

/// A number that nobody can guess.
fn random_salt() -> u64 {
    let mut bytes = [0; 8];
    // Without the kernel's randomness the time still tells two uses of a file apart.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        bytes = now.map_or(0, |d| d.as_nanos() as u64).to_be_bytes();
    }
    u64::from_be_bytes(bytes)
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

/// A partition as it stands after a start.
pub struct Recovered<R, L = Log> {
    pub id: PartitionId,
    pub log: L,
    pub log_start_offset: i64,
    pub state: R,
}

impl<R, L> Recovered<R, L> {
    pub fn map_log<M>(self, map: impl FnOnce(L) -> M) -> Recovered<R, M> {
        Recovered {
            id: self.id,
            log: map(self.log),
            log_start_offset: self.log_start_offset,
            state: self.state,
        }
    }
}

/// When the next batch begins a new segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rolling {
    /// It would not fit into this size.
    pub segment_bytes: u64,
    /// It is younger than the first batch by more than this.
    pub segment_ms: i64,
    /// Less a part of this, so that not all partitions roll at the same time.
    pub segment_jitter_ms: i64,
}

/// What of a log is kept. A limit that is negative is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub bytes: i64,
    pub ms: i64,
}

/// What is looked for by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekGoal {
    /// The first record at or after this time.
    AtOrAfter(i64),
    /// The record with the largest timestamp.
    Largest,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The kernel may have dropped what it could not write and forget about it: another sync proves nothing.
    #[error("cannot sync segments: {0}")]
    Sync(io::Error),
    /// To be tried again.
    #[error("cannot make a checkpoint: {0}")]
    Failed(io::Error),
}

/// Somebody else owns the partitions now; nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another gateway has taken the store over")]
pub struct NotOwner;

impl NotOwner {
    /// Whether an error is this one.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// What the store had confirmed is gone from it; nothing can be stored before a start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rewound(pub String);

impl Rewound {
    /// Whether an error is this one.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}
