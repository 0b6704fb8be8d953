//! What shards ask of the owner of partitions, and what it answers.

use std::sync::Arc;

use bytes::Bytes;

use super::Bounds;
use super::producers::SequenceError;
use crate::record::batch::Batch;
use crate::store::PartitionId;

/// Batches to be appended, of one produce request to one shard.
pub struct Produce {
    pub durability: Durability,
    pub batches: Vec<(PartitionId, Batch)>,
}

/// When a produce request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// acks=0: at once.
    None,
    /// acks=1: when the kernel has it.
    Written,
    /// acks=all: when the store has committed it.
    Committed,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    pub base_offset: i64,
    pub log_start_offset: i64,
    /// When it was appended first, if it is a producer's retry. Milliseconds since the epoch.
    pub first_appended_ms: Option<i64>,
}

/// Why a partition did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    #[error("the partition does not exist")]
    Unknown,
    #[error("the disk did not take or give the data")]
    Storage,
    #[error("what is stored is damaged")]
    Corrupt,
    #[error("the offset is not in the log")]
    OutOfRange,
    #[error("the leader epoch is older than the current one")]
    FencedLeaderEpoch,
    #[error("the leader epoch is newer than the current one")]
    UnknownLeaderEpoch,
    #[error("who asks is no replica of the partition")]
    NotReplica,
    #[error("another gateway owns the partition now")]
    NotOwner,
    #[error("SeaweedMQ's brokers keep the partition's log; here that cannot be done")]
    ReadOnly,
    #[error("no broker of SeaweedMQ takes records of the partition now")]
    NoBroker,
    #[error("it is not known yet what others have written to the partition")]
    NotKnown,
    #[error(transparent)]
    Sequence(#[from] SequenceError),
}

/// Names a fetch that waits, so that it can be ended. Unique in the process.
pub type FetchId = u64;

pub struct Fetch {
    /// Shared with who asks, who may have to ask twice.
    pub parts: Arc<Vec<FetchPart>>,
    /// Of the whole answer; one batch may exceed it.
    pub max_bytes: usize,
    /// Wait for that much, until there is an error to tell or the fetch is ended by its id.
    pub min_bytes: usize,
    pub wait: Option<FetchId>,
}

#[derive(Debug, Clone, Copy)]
pub struct FetchPart {
    pub id: PartitionId,
    pub offset: i64,
    pub max_bytes: usize,
    /// -1: not checked (KIP-320).
    pub leader_epoch: i32,
    /// The epoch of the record before `offset`, as the reader knows it. -1: not checked (KIP-595).
    pub last_fetched_epoch: i32,
    /// A broker asks that would be a replica. There are none.
    pub from_follower: bool,
}

/// One partition's part of the answer to a fetch, in the order of the parts.
pub struct Fetched {
    pub error: Option<PartitionError>,
    pub bounds: Option<Bounds>,
    pub batches: Vec<Bytes>,
    /// Where the reader's log and this one part: it has to go back there.
    pub diverging: Option<EpochEnd>,
    /// The current one. -1: not known.
    pub leader_epoch: i32,
}

impl Fetched {
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    Latest,
    MaxTimestamp,
    /// An end of what is in tiered storage. There is none here, so it is never found.
    Tiered,
    AtOrAfter(i64),
}

#[derive(Debug, Clone, Copy)]
pub struct OffsetQuery {
    pub id: PartitionId,
    pub spec: OffsetSpec,
    pub leader_epoch: i32,
}

/// Deletes records before an offset.
#[derive(Debug, Clone, Copy)]
pub struct Deletion {
    pub id: PartitionId,
    pub before: DeleteBefore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteBefore {
    Offset(i64),
    HighWatermark,
}

impl DeleteBefore {
    /// Where that is in a partition with this high watermark.
    pub fn offset(self, high_watermark: i64) -> i64 {
        match self {
            DeleteBefore::Offset(offset) => offset,
            DeleteBefore::HighWatermark => high_watermark,
        }
    }
}

/// Where does a leader epoch end?
#[derive(Debug, Clone, Copy)]
pub struct EpochQuery {
    pub id: PartitionId,
    pub current_leader_epoch: i32,
    pub leader_epoch: i32,
}

/// The end of a leader epoch: the offset at which the next one begins, or the high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch asked for, or the last one before it that has records.
    pub leader_epoch: i32,
    pub end_offset: i64,
}

impl EpochEnd {
    /// No such epoch; -1 says so, as in the protocol.
    pub const NONE: Self = Self {
        leader_epoch: -1,
        end_offset: -1,
    };
}

/// See [`FoundOffset::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

impl FoundOffset {
    /// There is no such record; -1 says so, as in the protocol.
    pub const NONE: Self = Self {
        offset: -1,
        timestamp: -1,
        leader_epoch: -1,
    };
}
