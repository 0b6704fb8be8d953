//! Idempotent producers: what each wrote last, so that a retry is not stored twice and a gap is seen.
//!
//! KIP-98 and Apache Kafka's `ProducerStateManager` decide. Sequence numbers are per producer and
//! partition, 32 bits wide, and go on from 0 after 2^31 - 1.

use std::collections::VecDeque;

use bytes::Buf;
use rustc_hash::FxHashMap;

use crate::record::batch::BatchHeader;

/// Batches remembered of each producer: clients keep at most five requests in flight.
const REMEMBERED: usize = 5;
/// The time of the last write is not known: the producer was restored from the log.
const UNKNOWN_TIME: i64 = -1;

/// Of what a producer wrote nobody knows where.
pub const NO_OFFSET: i64 = -1;

/// Producers of one partition by their id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    entries: FxHashMap<i64, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Oldest first; at least one: those that are not committed, and [`REMEMBERED`] that are.
    batches: VecDeque<Written>,
    last_write_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    epoch: i16,
    base_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
    /// Milliseconds since the epoch.
    appended_ms: i64,
}

/// What a batch is to its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// The next one: to be stored.
    Next,
    /// Stored before, at these offsets.
    Duplicate {
        base_offset: i64,
        last_offset: i64,
        appended_ms: i64,
    },
}

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    #[error("the producer's epoch {got} is older than {current}")]
    StaleEpoch { got: i16, current: i16 },
    #[error("sequence {got} does not follow {last}")]
    OutOfOrder { got: i32, last: i32 },
}

/// A producer that is known, as it wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    /// Milliseconds since the epoch.
    pub last_write_ms: i64,
}

impl Producers {
    /// All that are known, in no particular order.
    pub fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.entries.iter().filter_map(|(id, entry)| {
            let last = entry.batches.back()?;
            Some(ActiveProducer {
                id: *id,
                epoch: last.epoch,
                last_sequence: last.last_sequence,
                last_write_ms: last.appended_ms,
            })
        })
    }

    /// Where the last batch of each ends, of those before `committed`.
    pub fn last_offsets(&self, committed: i64) -> FxHashMap<i64, i64> {
        let last = |(id, entry): (&i64, &Entry)| {
            let ends = entry.batches.iter().rev().map(|w| w.last_offset);
            let mut ends = ends.filter(|last| *last < committed);
            ends.next().map(|last| (*id, last))
        };
        self.entries.iter().filter_map(last).collect()
    }

    /// Judges a batch of an idempotent producer.
    pub fn check(&self, batch: &BatchHeader) -> Result<Sequence, SequenceError> {
        // A producer that is not known may begin anywhere: its state may have expired.
        let Some(entry) = self.entries.get(&batch.producer_id()) else {
            return Ok(Sequence::Next);
        };
        let Some(last) = entry.batches.back() else {
            return Ok(Sequence::Next);
        };
        if batch.producer_epoch() < last.epoch {
            return Err(SequenceError::StaleEpoch {
                got: batch.producer_epoch(),
                current: last.epoch,
            });
        }
        if batch.producer_epoch() > last.epoch {
            return match batch.base_sequence() {
                0 => Ok(Sequence::Next),
                got => Err(SequenceError::OutOfOrder { got, last: -1 }),
            };
        }
        if let Some(same) = entry
            .batches
            .iter()
            .rev()
            .take(REMEMBERED)
            .find(|w| w.is_repeated_by(batch))
        {
            let Written {
                base_offset,
                last_offset,
                appended_ms,
                ..
            } = *same;
            return Ok(Sequence::Duplicate {
                base_offset,
                last_offset,
                appended_ms,
            });
        }
        if batch.base_sequence() == next_sequence(last.last_sequence) {
            Ok(Sequence::Next)
        } else {
            Err(SequenceError::OutOfOrder {
                got: batch.base_sequence(),
                last: last.last_sequence,
            })
        }
    }

    /// Notes a batch that was given `base_offset`. What lies below `committed` will not be rolled back.
    pub fn note(&mut self, batch: &BatchHeader, base_offset: i64, committed: i64, now_ms: i64) {
        let written = Written {
            epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            last_sequence: batch.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(batch.last_offset_delta()),
            appended_ms: if now_ms == UNKNOWN_TIME {
                batch.max_timestamp()
            } else {
                now_ms
            },
        };
        let entry = self
            .entries
            .entry(batch.producer_id())
            .or_insert_with(|| Entry {
                batches: VecDeque::with_capacity(REMEMBERED + 1),
                last_write_ms: now_ms,
            });
        entry.last_write_ms = now_ms;
        entry.batches.push_back(written);
        // A roll back must leave what is remembered of a producer whole.
        while entry
            .batches
            .get(REMEMBERED)
            .is_some_and(|sixth| sixth.last_offset < committed)
        {
            entry.batches.pop_front();
        }
    }

    /// Forgets what was written at or after `offset`.
    pub fn roll_back(&mut self, offset: i64) {
        self.entries.retain(|_, entry| {
            while entry
                .batches
                .back()
                .is_some_and(|w| w.last_offset >= offset)
            {
                entry.batches.pop_back();
            }
            !entry.batches.is_empty()
        });
    }

    /// Notes what a producer that is not known wrote last; it is not known where.
    pub fn resume(&mut self, id: i64, epoch: i16, last_sequence: i32, now_ms: i64) {
        let written = Written {
            epoch,
            base_sequence: last_sequence,
            last_sequence,
            base_offset: NO_OFFSET,
            last_offset: NO_OFFSET,
            appended_ms: now_ms,
        };
        self.entries.entry(id).or_insert_with(|| Entry {
            batches: VecDeque::from([written]),
            last_write_ms: now_ms,
        });
    }

    /// One batch of the log, at start.
    pub fn replay(&mut self, batch: &BatchHeader) {
        if batch.has_producer_id() {
            self.note(batch, batch.base_offset(), i64::MAX, UNKNOWN_TIME);
        }
    }

    /// Producers restored from the log wrote at the latest now.
    pub fn started(&mut self, now_ms: i64) {
        for entry in self
            .entries
            .values_mut()
            .filter(|e| e.last_write_ms == UNKNOWN_TIME)
        {
            entry.last_write_ms = now_ms;
        }
    }

    /// Forgets producers that have not written for `expiration_ms` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.entries
            .retain(|_, entry| now_ms - entry.last_write_ms < expiration_ms);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        for (id, entry) in &self.entries {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&entry.last_write_ms.to_be_bytes());
            out.extend_from_slice(&(entry.batches.len() as u32).to_be_bytes());
            for w in &entry.batches {
                out.extend_from_slice(&w.epoch.to_be_bytes());
                out.extend_from_slice(&w.base_sequence.to_be_bytes());
                out.extend_from_slice(&w.last_sequence.to_be_bytes());
                out.extend_from_slice(&w.base_offset.to_be_bytes());
                out.extend_from_slice(&w.last_offset.to_be_bytes());
                out.extend_from_slice(&w.appended_ms.to_be_bytes());
            }
        }
    }

    pub(super) fn decode(from: &mut &[u8]) -> Option<Self> {
        let count = from.try_get_u32().ok()?;
        let mut entries = FxHashMap::default();
        for _ in 0..count {
            let id = from.try_get_i64().ok()?;
            let last_write_ms = from.try_get_i64().ok()?;
            let batches = from.try_get_u32().ok()?;
            let batches = (0..batches)
                .map(|_| Written::decode(from))
                .collect::<Option<VecDeque<_>>>()?;
            if batches.is_empty() {
                return None;
            }
            entries.insert(
                id,
                Entry {
                    batches,
                    last_write_ms,
                },
            );
        }
        Some(Producers { entries })
    }
}

impl Written {
    fn is_repeated_by(&self, batch: &BatchHeader) -> bool {
        self.epoch == batch.producer_epoch()
            && self.base_sequence == batch.base_sequence()
            && self.last_sequence == batch.last_sequence()
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Written {
            epoch: from.try_get_i16().ok()?,
            base_sequence: from.try_get_i32().ok()?,
            last_sequence: from.try_get_i32().ok()?,
            base_offset: from.try_get_i64().ok()?,
            last_offset: from.try_get_i64().ok()?,
            appended_ms: from.try_get_i64().ok()?,
        })
    }
}

fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Builder;

    const NOW: i64 = 1_700_000_000_000;

    fn batch(id: i64, epoch: i16, sequence: i32, records: usize) -> BatchHeader {
        let mut builder = Builder::new().producer(id, epoch, sequence);
        for _ in 0..records {
            builder.append(NOW, None, None, &[]);
        }
        BatchHeader::parse(&builder.build()).unwrap()
    }

    /// Stores a batch as a log would; gives the next offset.
    fn store(producers: &mut Producers, batch: &BatchHeader, offset: i64) -> i64 {
        assert_eq!(producers.check(batch), Ok(Sequence::Next));
        producers.note(batch, offset, offset, NOW);
        offset + i64::from(batch.record_count())
    }

    #[test]
    fn a_retry_of_one_of_the_last_five_batches_gets_its_first_offset() {
        let mut producers = Producers::default();
        let batches: Vec<_> = (0..6).map(|n| batch(1, 0, n * 2, 2)).collect();
        let mut offset = 100;
        for batch in &batches {
            offset = store(&mut producers, batch, offset);
        }
        for (n, batch) in batches.iter().enumerate().skip(1) {
            let base_offset = 100 + 2 * n as i64;
            let expected = Sequence::Duplicate {
                base_offset,
                last_offset: base_offset + 1,
                appended_ms: NOW,
            };
            assert_eq!(producers.check(batch), Ok(expected));
        }
        assert_eq!(
            producers.check(&batches[0]),
            Err(SequenceError::OutOfOrder { got: 0, last: 11 })
        );
    }

    #[test]
    fn a_gap_and_a_batch_that_overlaps_an_old_one_are_out_of_order() {
        let mut producers = Producers::default();
        store(&mut producers, &batch(1, 0, 0, 3), 0);
        for (sequence, records) in [(4, 1), (0, 2), (1, 3), (2, 1)] {
            let got = producers.check(&batch(1, 0, sequence, records));
            assert_eq!(
                got,
                Err(SequenceError::OutOfOrder {
                    got: sequence,
                    last: 2
                })
            );
        }
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        store(&mut producers, &batch(1, 0, 0, 1), 0);
        assert!(producers.check(&batch(1, 1, 1, 1)).is_err());
        store(&mut producers, &batch(1, 1, 0, 1), 1);
        assert_eq!(
            producers.check(&batch(1, 0, 1, 1)),
            Err(SequenceError::StaleEpoch { got: 0, current: 1 })
        );
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        let mut producers = Producers::default();
        store(&mut producers, &batch(7, 3, 1234, 1), 0);
        assert_eq!(producers.check(&batch(7, 3, 1235, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn sequences_go_on_from_zero_after_the_largest_also_inside_a_batch() {
        let mut producers = Producers::default();
        let offset = store(&mut producers, &batch(1, 0, i32::MAX, 1), 0);
        store(&mut producers, &batch(1, 0, 0, 1), offset);
        let offset = store(&mut producers, &batch(2, 0, i32::MAX - 1, 3), 0);
        store(&mut producers, &batch(2, 0, 1, 1), offset);
    }

    #[test]
    fn a_roll_back_forgets_what_was_not_stored_and_nothing_else() {
        let mut producers = Producers::default();
        let mut offset = 0;
        for n in 0..5 {
            offset = store(&mut producers, &batch(1, 0, n, 1), offset);
        }
        let committed = producers.clone();
        for n in 5..12 {
            let next = batch(1, 0, n, 1);
            assert_eq!(producers.check(&next), Ok(Sequence::Next));
            producers.note(&next, i64::from(n), 5, NOW);
        }
        producers.note(&batch(2, 0, 0, 1), 12, 5, NOW);
        producers.roll_back(5);
        assert_eq!(producers, committed);
    }

    #[test]
    fn active_producers_are_told_as_they_wrote_last() {
        let mut producers = Producers::default();
        store(&mut producers, &batch(1, 0, 0, 3), 0);
        store(&mut producers, &batch(1, 2, 0, 5), 3);
        let last = ActiveProducer {
            id: 1,
            epoch: 2,
            last_sequence: 4,
            last_write_ms: NOW,
        };
        assert!(producers.active().eq([last]));
        producers.roll_back(3);
        let epochs = producers.active().map(|p| (p.epoch, p.last_sequence));
        assert!(epochs.eq([(0, 2)]));
    }

    #[test]
    fn silent_producers_are_forgotten_in_time() {
        let mut producers = Producers::default();
        producers.replay(&batch(1, 0, 0, 1));
        producers.started(NOW);
        producers.expire(NOW + 999, 1000);
        assert!(
            !producers.is_empty(),
            "a producer from the log counts from the start"
        );
        producers.expire(NOW + 1000, 1000);
        assert!(producers.is_empty());
    }

    #[test]
    fn it_survives_its_encoding() {
        let mut producers = Producers::default();
        for id in 0..3 {
            store(&mut producers, &batch(id, 1, 0, 2), id);
        }
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert_eq!(Producers::decode(&mut bytes.as_slice()), Some(producers));
        assert_eq!(Producers::decode(&mut &bytes[..bytes.len() - 1]), None);
    }
}
