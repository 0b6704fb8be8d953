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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::record::Compression;
    use crate::record::read::Header;

    const NOW: i64 = 1_700_000_000_000;
    const DAY_MS: i64 = 24 * 3_600_000;

    fn judge(clean_before: i64) -> Compact {
        Compact {
            now_ms: NOW,
            delete_retention_ms: DAY_MS,
            clean_before,
            inflated_bytes_max: 1 << 20,
        }
    }

    /// Offsets 100 to 104: a value, a tombstone, a value with headers, one without a key, a value.
    fn batch(builder: Builder) -> Batch {
        let mut builder = builder.base_offset(100).leader_epoch(7);
        builder.append(NOW - 50, Some(b"a"), Some(b"1"), &[]);
        builder.append(NOW - 40, Some(b"b"), None, &[]);
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"v")), (b"h", None)];
        builder.append(NOW - 30, Some(b"c"), Some(b"3"), headers);
        builder.append(NOW - 10, None, Some(b"4"), &[]);
        builder.append(NOW - 20, Some(b"a"), Some(b"5"), &[]);
        Batch::parse(&builder.build()).unwrap()
    }

    /// What is left when these are the last offsets of keys.
    fn left(judge: &Compact, batch: &Batch, last: &[(&str, i64)]) -> Left {
        let last: HashMap<_, _> = last.iter().map(|(k, o)| (k.as_bytes(), *o)).collect();
        judge.run(batch, |key| last.get(key).copied()).unwrap()
    }

    fn some(left: Left) -> Batch {
        match left {
            Left::Some(bytes) => Batch::parse(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn all(batch: &Batch) -> Vec<Record> {
        records(batch, 1 << 20)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    fn offsets(batch: &Batch) -> Vec<i64> {
        all(batch).iter().map(|record| record.offset).collect()
    }

    #[test]
    fn what_is_left_is_as_it_was_but_for_the_delete_horizon() {
        for codec in Compression::ALL {
            let builder = Builder::new().compression(codec, None).producer(9, 2, 40);
            let before = batch(builder);
            let rest = some(left(&judge(200), &before, &[("a", 104), ("c", 102)]));
            assert!(rest.crc_ok());
            assert_eq!(offsets(&rest), [101, 102, 104]);
            let kept: Vec<_> = [1, 2, 4].map(|n| all(&before)[n].clone()).into();
            assert_eq!(all(&rest), kept);
            assert_eq!(
                kept[1].headers[1],
                Header {
                    key: "h".into(),
                    value: None
                }
            );
            assert_eq!(rest.attributes().compression(), Ok(codec));
            assert_eq!(rest.delete_horizon_ms(), Some(NOW + DAY_MS));
            assert_eq!(rest.max_timestamp(), NOW - 20);
            let fields = |b: &Batch| (b.base_offset(), b.last_offset(), b.partition_leader_epoch());
            assert_eq!(fields(&rest), fields(&before));
            let producer = |b: &Batch| (b.producer_id(), b.producer_epoch(), b.last_sequence());
            assert_eq!(producer(&rest), (9, 2, 44));
            assert_eq!(producer(&rest), producer(&before));
        }
    }

    #[test]
    fn a_tombstone_waits_from_the_time_that_it_is_met_first() {
        let met = some(left(&judge(200), &batch(Builder::new()), &[]));
        let at = |now_ms| Compact {
            now_ms,
            ..judge(200)
        };
        // Nothing else goes: it is not written anew.
        assert_eq!(left(&at(NOW + DAY_MS - 1), &met, &[]), Left::All);
        let later = some(left(&at(NOW + 1), &met, &[("c", 900)]));
        assert_eq!(later.delete_horizon_ms(), Some(NOW + DAY_MS));
        let gone = some(left(&at(NOW + DAY_MS), &met, &[]));
        assert_eq!(offsets(&gone), [100, 102, 104]);
        // One that has something behind it does not wait.
        let newer = some(left(&judge(200), &batch(Builder::new()), &[("b", 300)]));
        assert_eq!(newer.delete_horizon_ms(), None);
    }

    #[test]
    fn what_is_behind_the_known_part_stays_whatever_it_is() {
        let last = [("a", 104), ("b", 300), ("c", 300)];
        let rest = some(left(&judge(102), &batch(Builder::new()), &last));
        assert_eq!(offsets(&rest), [102, 103, 104]);
        assert_eq!(left(&judge(100), &batch(Builder::new()), &last), Left::All);
    }

    #[test]
    fn nothing_left_is_a_batch_without_records_if_it_stays() {
        let last = [("a", 300), ("b", 300), ("c", 300)];
        let builder = Builder::new().compression(Compression::Zstd, None);
        let before = batch(builder.producer(9, 2, i32::MAX - 1));
        assert_eq!(left(&judge(200), &before, &last), Left::Nothing);
        let empty = Batch::parse(&emptied(&before)).unwrap();
        assert!(empty.crc_ok() && all(&empty).is_empty());
        assert_eq!((empty.base_offset(), empty.last_offset()), (100, 104));
        assert_eq!((empty.producer_id(), empty.last_sequence()), (9, 2));
        assert_eq!(empty.max_timestamp(), before.max_timestamp());
        assert_eq!(empty.attributes().compression(), Ok(Compression::None));
        assert_eq!(left(&judge(200), &empty, &last), Left::Nothing);
    }

    #[test]
    fn log_append_time_stays_the_time_of_the_batch() {
        let before = batch(Builder::new().log_append_time(NOW - 5));
        let rest = some(left(&judge(200), &before, &[("a", 104)]));
        let times: Vec<_> = all(&rest).iter().map(|r| r.timestamp).collect();
        assert_eq!((times, rest.max_timestamp()), (vec![NOW - 5; 3], NOW - 5));
    }

    #[test]
    fn transactions_are_left_alone() {
        let last = [("a", 300), ("b", 300), ("c", 300)];
        for builder in [Builder::new().transactional(), Builder::new().control()] {
            assert_eq!(left(&judge(200), &batch(builder), &last), Left::All);
        }
    }
}
