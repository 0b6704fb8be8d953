//! Reading for a fetch and looking offsets up: decided on the shard, done off it where it takes the disk.

use bytes::Bytes;

use super::messages::{EpochEnd, FetchPart, Fetched, FoundOffset, PartitionError};
use super::{Bounds, Partition};
use crate::record::batch::Batch;
use crate::record::{RecordError, records};
use crate::store::local::{ReadPlan, SeekPlan};

/// A stored batch was checked against a limit when it came; this only bounds damage.
const SEEK_INFLATED_BYTES_MAX: usize = 1 << 30;

/// KIP-320: a client that knows another leader epoch is told so.
pub(super) fn check_epoch(partition: &Partition, epoch: i32) -> Result<(), PartitionError> {
    match epoch {
        ..0 => Ok(()),
        e if e < partition.leader_epoch() => Err(PartitionError::FencedLeaderEpoch),
        e if e > partition.leader_epoch() => Err(PartitionError::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// What a fetch has to be told before it may read, if anything: an error, or where the reader's log
/// parts from this one (KIP-595).
pub(super) fn check_fetch(
    partition: &Partition,
    part: &FetchPart,
) -> Result<Option<EpochEnd>, PartitionError> {
    check_epoch(partition, part.leader_epoch)?;
    if part.from_follower {
        // As Kafka: one that knows the epoch may become a replica yet, one that does not is told to look.
        return Err(match part.leader_epoch {
            ..0 => PartitionError::NotReplica,
            _ => PartitionError::UnknownLeaderEpoch,
        });
    }
    if part.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = partition.epoch_end(part.last_fetched_epoch);
    if end == EpochEnd::NONE || part.offset < partition.bounds().log_start_offset {
        return Err(PartitionError::OutOfRange);
    }
    let diverges = end.leader_epoch < part.last_fetched_epoch || end.end_offset < part.offset;
    Ok(diverges.then_some(end))
}

/// One partition's answer, of which a part may still have to be read from the disk.
pub(super) struct Part {
    pub fetched: Fetched,
    pub cold: Option<Cold>,
}

pub(super) struct Cold {
    pub plan: ReadPlan,
    pub max_bytes: usize,
    /// A batch larger than `max_bytes` may be given.
    pub oversize: bool,
}

impl Part {
    pub(super) fn of(partition: &Partition, batches: Vec<Bytes>) -> Self {
        Part {
            fetched: Fetched {
                error: None,
                bounds: Some(partition.bounds()),
                batches,
                diverging: None,
                leader_epoch: partition.leader_epoch(),
            },
            cold: None,
        }
    }

    pub(super) fn failed(error: PartitionError, leader_epoch: i32) -> Self {
        Part {
            fetched: Fetched {
                error: Some(error),
                bounds: None,
                batches: Vec::new(),
                diverging: None,
                leader_epoch,
            },
            cold: None,
        }
    }

    pub(super) fn bytes_expected(&self) -> usize {
        self.cold
            .as_ref()
            .map_or_else(|| self.fetched.bytes(), |cold| cold.max_bytes.max(1))
    }

    /// Reads what is on the disk. Blocking.
    pub(super) fn run(self) -> Fetched {
        let mut fetched = self.fetched;
        let Some(cold) = self.cold else {
            return fetched;
        };
        match cold.plan.run() {
            Ok(bytes) if cold.oversize || bytes.len() <= cold.max_bytes => {
                fetched.batches = vec![bytes]
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "cannot read records from a segment");
                fetched.error = Some(PartitionError::Storage);
            }
        }
        fetched
    }
}

pub(super) enum Lookup {
    Found(FoundOffset),
    Seek {
        plan: SeekPlan,
        timestamp: i64,
        bounds: Bounds,
    },
}

impl Lookup {
    /// Looks into the segments if need be. Blocking then.
    pub(super) fn run(self) -> Result<FoundOffset, PartitionError> {
        let (plan, timestamp, bounds) = match self {
            Lookup::Found(found) => return Ok(found),
            Lookup::Seek {
                plan,
                timestamp,
                bounds,
            } => (plan, timestamp, bounds),
        };
        let batch = plan.run().map_err(|error| {
            tracing::error!(%error, "cannot search a segment by time");
            PartitionError::Storage
        })?;
        let Some(batch) = batch else {
            return Ok(FoundOffset::NONE);
        };
        let batch = Batch::parse(&batch).map_err(|_| PartitionError::Storage)?;
        let found = first_at_or_after(&batch, timestamp).map_err(|error| {
            tracing::error!(%error, "cannot read a batch found by time");
            PartitionError::Storage
        })?;
        Ok(match found {
            Some((offset, timestamp)) if offset < bounds.high_watermark => FoundOffset {
                offset,
                timestamp,
                leader_epoch: batch.header().partition_leader_epoch(),
            },
            _ => FoundOffset::NONE,
        })
    }
}

/// The first record of a batch at or after a time: its offset and its timestamp.
fn first_at_or_after(batch: &Batch, timestamp: i64) -> Result<Option<(i64, i64)>, RecordError> {
    for record in records(batch, SEEK_INFLATED_BYTES_MAX)? {
        let record = record?;
        if record.timestamp >= timestamp {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}
