//! What idempotent producers have in the files of a partition that brokers write, as a start finds it.
//!
//! Records say there which ones of their producers they are, if the topic keeps that
//! (`seaweedmq.producer.ids`). A gateway may have ended with a part of a batch published, so this goes by
//! single records, not by batches.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::record::batch::{BatchHeader, increment_sequence};
use crate::store::seaweedmq::broker::envelope::Origin;

/// Sequence numbers have 31 bits, and go on from 0.
const SEQUENCE_MAX: i64 = i32::MAX as i64;

/// Of each producer, where its records are.
#[derive(Debug, Default)]
pub struct Sequences {
    producers: FxHashMap<i64, Stored>,
}

/// The records of a producer's newest epoch.
#[derive(Debug, Default)]
struct Stored {
    epoch: i16,
    /// Sequence of the record that was written last.
    last: i32,
    /// By the sequence of the first: the offset of that, and how many follow one another in both.
    runs: BTreeMap<i32, (i64, i32)>,
}

impl Sequences {
    /// Takes in the record at an offset; they come in the order of these.
    pub fn note(&mut self, origin: Origin, offset: i64) {
        let stored = self.producers.entry(origin.producer_id).or_default();
        if origin.epoch < stored.epoch {
            return;
        }
        if origin.epoch > stored.epoch {
            *stored = Stored {
                epoch: origin.epoch,
                ..Stored::default()
            };
        }
        stored.last = origin.sequence;
        if stored.offset(origin.sequence).is_some() {
            return;
        }
        let before = stored.runs.range_mut(..origin.sequence).next_back();
        match before {
            Some((first, (base, count)))
                if first.checked_add(*count) == Some(origin.sequence)
                    && *base + i64::from(*count) == offset =>
            {
                *count += 1;
            }
            _ => drop(stored.runs.insert(origin.sequence, (offset, 1))),
        }
    }

    /// Id, epoch and last sequence number of each producer.
    pub fn last(&self) -> impl Iterator<Item = (i64, i16, i32)> {
        let all = self.producers.iter();
        all.map(|(id, stored)| (*id, stored.epoch, stored.last))
    }

    /// The offsets of a batch's records, as far as they are stored. `None` if none is.
    pub fn offsets(&self, batch: &BatchHeader) -> Option<Vec<Option<i64>>> {
        let stored = self.producers.get(&batch.producer_id())?;
        let first = batch.base_sequence();
        if stored.epoch != batch.producer_epoch() || stored.is_before(first) {
            return None;
        }
        let sequences = (0..batch.record_count()).map(|n| increment_sequence(first, n));
        let offsets: Vec<_> = sequences.map(|sequence| stored.offset(sequence)).collect();
        offsets.iter().any(Option::is_some).then_some(offsets)
    }
}

impl Stored {
    fn offset(&self, sequence: i32) -> Option<i64> {
        let (first, (base, count)) = self.runs.range(..=sequence).next_back()?;
        let behind = sequence - first;
        (behind < *count).then(|| base + i64::from(behind))
    }

    /// Whether all that is stored was written before this one: it is less than half the circle behind.
    fn is_before(&self, sequence: i32) -> bool {
        let behind = (i64::from(sequence) - i64::from(self.last)) & SEQUENCE_MAX;
        (1..=SEQUENCE_MAX / 2).contains(&behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Builder;

    fn batch(id: i64, epoch: i16, sequence: i32, records: usize) -> BatchHeader {
        let mut builder = Builder::new().producer(id, epoch, sequence);
        (0..records).for_each(|_| builder.append(0, None, None, &[]));
        BatchHeader::parse(&builder.build()).unwrap()
    }

    fn noted(all: &[(i64, i16, i32, i64)]) -> Sequences {
        let mut sequences = Sequences::default();
        for (producer_id, epoch, sequence, offset) in all.iter().copied() {
            let origin = Origin {
                producer_id,
                epoch,
                sequence,
            };
            sequences.note(origin, offset);
        }
        sequences
    }

    #[test]
    fn each_record_of_a_batch_is_where_it_was_noted_and_others_are_not_there() {
        let all = [(1, 0, 0, 10), (1, 0, 1, 11), (2, 0, 2, 12), (1, 0, 2, 13)];
        let sequences = noted(&all);
        let offsets =
            |id, epoch, sequence, records| sequences.offsets(&batch(id, epoch, sequence, records));
        assert_eq!(offsets(1, 0, 0, 2), Some(vec![Some(10), Some(11)]));
        assert_eq!(offsets(1, 0, 1, 3), Some(vec![Some(11), Some(13), None]));
        assert_eq!(offsets(2, 0, 2, 1), Some(vec![Some(12)]));
        for (id, epoch, sequence) in [(1, 0, 3), (1, 1, 0), (2, 0, 0), (3, 0, 0)] {
            assert_eq!(
                offsets(id, epoch, sequence, 2),
                None,
                "{id} {epoch} {sequence}"
            );
        }
    }

    #[test]
    fn a_new_epoch_takes_the_place_of_the_old_one() {
        let sequences = noted(&[(1, 0, 0, 0), (1, 1, 0, 1), (1, 0, 1, 2)]);
        assert_eq!(sequences.last().collect::<Vec<_>>(), [(1, 1, 0)]);
        assert_eq!(sequences.offsets(&batch(1, 1, 0, 1)), Some(vec![Some(1)]));
        assert_eq!(sequences.offsets(&batch(1, 0, 0, 1)), None);
    }

    #[test]
    fn sequences_go_on_from_zero_after_the_largest() {
        let max = i32::MAX;
        let sequences = noted(&[(1, 0, max - 1, 5), (1, 0, max, 6), (1, 0, 0, 7)]);
        let expected = vec![Some(5), Some(6), Some(7), None];
        assert_eq!(sequences.offsets(&batch(1, 0, max - 1, 4)), Some(expected));
        assert_eq!(sequences.offsets(&batch(1, 0, 1, 4)), None);
        assert_eq!(sequences.last().collect::<Vec<_>>(), [(1, 0, 0)]);
    }
}
