//! Makes batches cheaply: one is built with all records it can have, and then patched. Its front is a
//! batch of fewer records, as the records' positions and deltas do not depend on how many follow.

use bytes::{Bytes, BytesMut};
use tidegate::record::batch::{LOG_OVERHEAD, position};
use tidegate::record::compress::compress;
use tidegate::record::{Attributes, Builder, Compression};

use crate::payload::{Filler, Head};

/// Batches that are kept to be patched again.
const MAX_SPARE: usize = 64;

/// What messages a batch is to have.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub stream: u32,
    /// Number of the first message, and how many there are.
    pub first: u64,
    pub count: usize,
    /// Messages from this number on are measured.
    pub measured_from: u64,
    /// The batch's timestamp.
    pub timestamp_ms: i64,
    /// What an idempotent producer numbers the first record with.
    pub sequence: i32,
}

/// A batch as it is sent, and the memory that it is the front of.
#[derive(Debug)]
pub struct Forged {
    bytes: Bytes,
    whole: Option<Bytes>,
}

impl Forged {
    /// The batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Makes the batches of one producer.
#[derive(Debug)]
pub struct Forge {
    run: u64,
    size: usize,
    compression: Compression,
    template: Bytes,
    /// Where each record ends, and where its value starts.
    ends: Vec<usize>,
    values: Vec<usize>,
    spare: Vec<BytesMut>,
}

impl Forge {
    /// `producer`: id and epoch, for an idempotent one. A batch has at least one record, even when
    /// that is larger than `batch_bytes`.
    pub fn new(
        run: u64,
        size: usize,
        batch_bytes: usize,
        compression: Compression,
        producer: Option<(i64, i16)>,
    ) -> Self {
        let mut builder = Builder::new();
        if let Some((id, epoch)) = producer {
            builder = builder.producer(id, epoch, 0);
        }
        let mut filler = Filler::new();
        let (mut ends, mut values) = (Vec::new(), Vec::new());
        // A record is as long as the one before, or a byte longer where its delta is.
        let next_end = |ends: &[usize]| match ends {
            [] => 0,
            [end] => 2 * end - position::RECORDS + 1,
            [.., before, end] => 2 * end - before + 1,
        };
        while next_end(&ends) <= batch_bytes {
            builder.append(0, None, Some(&filler.message(size)), &[]);
            let end = position::RECORDS + builder.records_len();
            ends.push(end);
            // Behind the value there is only the count of headers, which is 0.
            values.push(end - 1 - size);
        }
        Self {
            run,
            size,
            compression,
            template: builder.build(),
            ends,
            values,
            spare: Vec::new(),
        }
    }

    /// Messages of a full batch.
    pub fn capacity(&self) -> usize {
        self.ends.len()
    }

    /// Makes a batch. `time_ns` says when a message was to be sent.
    ///
    /// # Panics
    /// If it is to have no message, or more than fit.
    pub fn forge(&mut self, order: &Order, time_ns: impl Fn(u64) -> u64) -> Forged {
        let spare = self.spare.pop();
        let mut batch = spare.unwrap_or_else(|| BytesMut::from(&self.template[..]));
        for (number, value) in (order.first..).zip(&self.values[..order.count]) {
            let head = Head {
                run: self.run,
                stream: order.stream,
                number,
                time_ns: time_ns(number),
                measured: number >= order.measured_from,
            };
            head.put(&mut batch[*value..*value + self.size]);
        }
        let end = self.ends[order.count - 1];
        if self.compression == Compression::None {
            finish(&mut batch[..end], order);
            let whole = batch.freeze();
            return Forged {
                bytes: whole.slice(..end),
                whole: Some(whole),
            };
        }
        let records = compress(self.compression, None, &batch[position::RECORDS..end]);
        let mut compressed = BytesMut::with_capacity(position::RECORDS + records.len());
        compressed.extend_from_slice(&batch[..position::RECORDS]);
        compressed.extend_from_slice(&records);
        put(
            &mut compressed,
            position::ATTRIBUTES,
            Attributes::default()
                .with_compression(self.compression)
                .0
                .to_be_bytes(),
        );
        finish(&mut compressed, order);
        self.keep(batch);
        Forged {
            bytes: compressed.freeze(),
            whole: None,
        }
    }

    /// Takes back a batch that is not needed any more.
    pub fn reclaim(&mut self, forged: Forged) {
        drop(forged.bytes);
        // Something may still hold it, such as a connection that is behind.
        if let Some(Ok(batch)) = forged.whole.map(Bytes::try_into_mut) {
            self.keep(batch);
        }
    }

    fn keep(&mut self, batch: BytesMut) {
        if self.spare.len() < MAX_SPARE && batch.len() == self.template.len() {
            self.spare.push(batch);
        }
    }
}

/// Sets the header's fields that differ from batch to batch, and the checksum at last.
fn finish(batch: &mut [u8], order: &Order) {
    let count = order.count as i32;
    let length = (batch.len() - LOG_OVERHEAD) as i32;
    put(batch, position::BATCH_LENGTH, length.to_be_bytes());
    put(
        batch,
        position::LAST_OFFSET_DELTA,
        (count - 1).to_be_bytes(),
    );
    put(
        batch,
        position::BASE_TIMESTAMP,
        order.timestamp_ms.to_be_bytes(),
    );
    put(
        batch,
        position::MAX_TIMESTAMP,
        order.timestamp_ms.to_be_bytes(),
    );
    put(batch, position::BASE_SEQUENCE, order.sequence.to_be_bytes());
    put(batch, position::RECORD_COUNT, count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[position::ATTRIBUTES..]);
    put(batch, position::CRC, crc.to_be_bytes());
}

fn put<const N: usize>(into: &mut [u8], at: usize, field: [u8; N]) {
    into[at..at + N].copy_from_slice(&field);
}

#[cfg(test)]
mod tests {
    use tidegate::record::{Batch, Rules, Scratch, records, validate};

    use super::*;
    use crate::payload::HEAD_LEN;

    const SIZE: usize = 100;
    const NOW: i64 = 1_700_000_000_000;

    fn order(first: u64, count: usize) -> Order {
        Order {
            stream: 3,
            first,
            count,
            measured_from: 11,
            timestamp_ms: NOW,
            sequence: first as i32,
        }
    }

    fn heads(forged: &Forged) -> Vec<Head> {
        let batch = Batch::parse(forged.bytes()).unwrap();
        assert!(batch.crc_ok());
        let values = records(&batch, 1 << 20).unwrap().map(|record| {
            let record = record.unwrap();
            assert_eq!(record.timestamp, NOW);
            record.value.unwrap()
        });
        values
            .map(|value| {
                assert_eq!(value.len(), SIZE);
                assert!(value[HEAD_LEN..].iter().all(u8::is_ascii_uppercase));
                Head::get(&value).unwrap()
            })
            .collect()
    }

    fn expected(order: &Order) -> Vec<Head> {
        (order.first..)
            .take(order.count)
            .map(|number| Head {
                run: 9,
                stream: 3,
                number,
                time_ns: 10 * number,
                measured: number >= 11,
            })
            .collect()
    }

    #[test]
    fn batches_of_any_number_of_messages_are_what_a_broker_takes() {
        for codec in Compression::ALL {
            let mut forge = Forge::new(9, SIZE, 1_000, codec, Some((5, 1)));
            assert_eq!(forge.capacity(), 8, "61 of the header, and 107 for each");
            for (first, count) in [(0, 8), (8, 1), (9, 5), (14, 8)] {
                let order = order(first, count);
                let forged = forge.forge(&order, |number| 10 * number);
                assert_eq!(heads(&forged), expected(&order), "{codec:?}");
                let batch = Batch::parse(forged.bytes()).unwrap();
                assert_eq!((batch.producer_id(), batch.producer_epoch()), (5, 1));
                assert_eq!(batch.base_sequence(), order.sequence);
                validate(&batch, &Rules::default(), NOW, &mut Scratch::default()).unwrap();
                forge.reclaim(forged);
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut forge = Forge::new(9, SIZE, 1_000, Compression::None, None);
        let first = forge.forge(&order(0, 3), |_| 0);
        let memory = first.bytes().as_ptr();
        forge.reclaim(first);
        let second = forge.forge(&order(3, 8), |number| 10 * number);
        assert_eq!(second.bytes().as_ptr(), memory);
        assert_eq!(heads(&second), expected(&order(3, 8)));
    }

    #[test]
    fn what_is_still_held_is_not_written_over() {
        let mut forge = Forge::new(9, SIZE, 1_000, Compression::None, None);
        let first = forge.forge(&order(0, 3), |number| 10 * number);
        let held = first.bytes().clone();
        let copy = held.to_vec();
        forge.reclaim(first);
        let _second = forge.forge(&order(3, 8), |_| 7);
        assert_eq!(held, copy);
    }

    #[test]
    fn a_message_larger_than_a_batch_is_a_batch() {
        let forge = Forge::new(9, SIZE, 1, Compression::None, None);
        assert_eq!(forge.capacity(), 1);
    }
}
