//! What compaction leaves of a batch, as Kafka's `LogCleaner` and `MemoryRecords.filterTo` decide it.
//!
//! Offsets, timestamps, keys, values, headers, the codec and the producer's sequences stay what they
//! are. A batch that keeps a tombstone says from then on when that may go: the delete horizon, which
//! takes the place of the base timestamp (KIP-534).

use bytes::Bytes;

use super::batch::{Batch, TimestampType};
use super::builder::Builder;
use super::error::RecordError;
use super::read::{Record, records};

/// By what records are judged.
#[derive(Clone, Copy, Debug)]
pub struct Compact {
    pub now_ms: i64,
    /// For how long a tombstone stays from the time that it is first met (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Records from this offset on are kept whatever they are: what comes after them is not known.
    pub clean_before: i64,
    /// What a batch may inflate to.
    pub inflated_bytes_max: usize,
}

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it, as it was.
    All,
    /// Some of its records, or all of them in another form. At least one.
    Some(Bytes),
    Nothing,
}

impl Compact {
    /// Keeps those records of `batch` that no later one with the same key takes the place of.
    /// `last_offset` gives the offset of the last record that has a key, if it is known.
    ///
    /// Batches of transactions and their marks are kept as they are: whether their records count is
    /// not theirs to say.
    ///
    /// # Errors
    /// Those of [`records`]: the batch cannot be read.
    pub fn run(
        &self,
        batch: &Batch,
        last_offset: impl Fn(&[u8]) -> Option<i64>,
    ) -> Result<Left, RecordError> {
        if is_kept_whole(batch) || batch.base_offset() >= self.clean_before {
            return Ok(Left::All);
        }
        let horizon = batch.delete_horizon_ms();
        let tombstones_stay = horizon.is_none_or(|horizon| self.now_ms < horizon);
        let is_kept = |record: &Record| {
            if record.offset >= self.clean_before {
                return true;
            }
            // Kafka takes none without a key to a compacted topic, and drops those of the time before.
            let Some(key) = &record.key else {
                return false;
            };
            last_offset(key).is_none_or(|last| record.offset >= last)
                && (record.value.is_some() || tombstones_stay)
        };
        let mut kept = Vec::new();
        let (mut all, mut has_tombstone) = (true, false);
        for record in records(batch, self.inflated_bytes_max)? {
            let record = record?;
            if is_kept(&record) {
                has_tombstone |= record.value.is_none();
                kept.push(record);
            } else {
                all = false;
            }
        }
        let begins_to_wait = has_tombstone && horizon.is_none();
        Ok(match kept.is_empty() {
            true => Left::Nothing,
            false if all && !begins_to_wait => Left::All,
            false => {
                let begun = || self.now_ms.saturating_add(self.delete_retention_ms);
                let horizon = horizon.or_else(|| begins_to_wait.then(begun));
                Left::Some(rebuilt(batch, &kept, horizon)?)
            }
        })
    }
}

/// Whether compaction does not look into the batch, and does not count its records as the last of
/// their keys.
pub fn is_kept_whole(batch: &Batch) -> bool {
    let attributes = batch.attributes();
    attributes.is_control() || attributes.is_transactional()
}

/// The batch without records: it still tells its producer's last sequence, and its offsets.
pub fn emptied(batch: &Batch) -> Bytes {
    builder(batch).max_timestamp(batch.max_timestamp()).build()
}

fn rebuilt(batch: &Batch, kept: &[Record], horizon: Option<i64>) -> Result<Bytes, RecordError> {
    let mut builder = builder(batch).compression(batch.attributes().compression()?, None);
    if let Some(horizon) = horizon {
        builder = builder.delete_horizon(horizon);
    }
    for record in kept {
        let headers = record.headers.iter();
        let headers: Vec<_> = headers.map(|h| (&h.key[..], h.value.as_deref())).collect();
        builder.append_at(
            (record.offset - batch.base_offset()) as i32,
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    Ok(builder.build())
}

/// For a batch with the same place in the log and the same producer.
fn builder(batch: &Batch) -> Builder {
    let mut builder = Builder::new()
        .base_offset(batch.base_offset())
        .last_offset_delta(batch.last_offset_delta())
        .leader_epoch(batch.partition_leader_epoch())
        .producer(
            batch.producer_id(),
            batch.producer_epoch(),
            batch.base_sequence(),
        );
    if batch.attributes().timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.log_append_time(batch.max_timestamp());
    }
    builder
}
