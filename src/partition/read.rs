//! Reading for a fetch and looking offsets up: decided on the shard, done off it where it takes the disk.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use shards::log_limited;

use super::Partition;
use super::messages::{EpochEnd, FetchPart, Fetched, FoundOffset, PartitionError};
use crate::record::batch::Batch;
use crate::record::{RecordError, records};
use crate::store::{PartitionId, ReadPlan, SeekGoal, SeekPlan};

/// A stored batch was checked against a limit when it came; this only bounds damage.
const SEEK_INFLATED_BYTES_MAX: usize = 1 << 30;

pub(super) const WHAT_TO_DO: &str = "check the disk, and see what `tidegate dump` shows of the file; in SeaweedFS, check the volume (volume.fsck and fs.verify of weed shell)";

/// What clients are told: whether trying again may help.
fn unreadable(error: &io::Error) -> PartitionError {
    match error.kind() {
        io::ErrorKind::InvalidData => PartitionError::Corrupt,
        _ => PartitionError::Storage,
    }
}

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
    /// What was read from the disk.
    pub read: Option<ColdRead>,
}

pub(super) struct Cold {
    pub plan: ReadPlan,
    pub id: PartitionId,
    pub offset: i64,
    pub max_bytes: usize,
    /// A batch larger than `max_bytes` may be given.
    pub oversize: bool,
}

/// A read from the disk that was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColdRead {
    pub id: PartitionId,
    pub offset: i64,
    /// The file is not there. Whether it was removed as it should, the owner knows.
    pub missing: bool,
    /// See [`Log::is_outdated`](crate::store::Log::is_outdated).
    pub swaps: u64,
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
            read: None,
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
            read: None,
        }
    }

    pub(super) fn bytes_expected(&self) -> usize {
        self.cold
            .as_ref()
            .map_or_else(|| self.fetched.bytes(), |cold| cold.max_bytes.max(1))
    }

    /// Reads what is on the disk. Blocking.
    pub(super) fn run(mut self) -> Self {
        let Some(cold) = self.cold.take() else {
            return self;
        };
        let mut missing = false;
        let swaps = cold.plan.swaps();
        match cold.plan.run() {
            Ok(batches) => {
                let bytes: usize = batches.iter().map(Bytes::len).sum();
                if cold.oversize || bytes <= cold.max_bytes {
                    self.fetched.batches = batches;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing = true,
            Err(error) => {
                log_limited!(error, partition = %cold.id, %error, "cannot read records from a segment; {WHAT_TO_DO}");
                self.fetched.error = Some(unreadable(&error));
            }
        }
        self.read = Some(ColdRead {
            id: cold.id,
            offset: cold.offset,
            missing,
            swaps,
        });
        self
    }
}

pub(super) enum Lookup {
    Found(FoundOffset),
    Seek(Seek),
}

/// A search by time, and the offsets among which a record counts.
pub(super) struct Seek {
    plan: SeekPlan,
    within: Range<i64>,
}

impl Lookup {
    pub(super) fn seek(partition: &Partition, goal: SeekGoal) -> Self {
        let bounds = partition.bounds();
        let from = match goal {
            SeekGoal::AtOrAfter(_) => bounds.log_start_offset,
            SeekGoal::Largest => 0,
        };
        let within = from..bounds.high_watermark;
        match partition.plan_seek(goal) {
            Some(plan) => Lookup::Seek(Seek { plan, within }),
            None => Lookup::Found(FoundOffset::NONE),
        }
    }

    /// Looks into the segments if need be. Blocking then.
    pub(super) fn run(self) -> Result<FoundOffset, PartitionError> {
        let Seek { plan, within } = match self {
            Lookup::Found(found) => return Ok(found),
            Lookup::Seek(seek) => seek,
        };
        let first = |batch, timestamp| {
            first_at_or_after(&batch, timestamp, &within)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        };
        let found = plan.run(first).map_err(|error| {
            log_limited!(error, %error, "cannot search a segment by time; {WHAT_TO_DO}");
            unreadable(&error)
        })?;
        Ok(found.unwrap_or(FoundOffset::NONE))
    }
}

/// The first record of a batch at or after a time.
fn first_at_or_after(
    batch: &Bytes,
    timestamp: i64,
    within: &Range<i64>,
) -> Result<Option<FoundOffset>, RecordError> {
    let batch = Batch::parse(batch)?;
    for record in records(&batch, SEEK_INFLATED_BYTES_MAX)? {
        let record = record?;
        if record.timestamp >= timestamp && within.contains(&record.offset) {
            return Ok(Some(FoundOffset {
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch: batch.header().partition_leader_epoch(),
            }));
        }
    }
    Ok(None)
}
