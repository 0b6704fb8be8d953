//! Makes batches cheaply: in memory that is used again, in front of it a header that is patched.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate::record::batch::{LOG_OVERHEAD, position};
use tidegate::record::compress::compress;
use tidegate::record::{Attributes, Builder, Compression};

use super::stream::Message;
use crate::options::Options;
use crate::payload::keys::{KEY_LEN, text};
use crate::payload::{Filler, HEAD_LEN, Head};

/// Batches whose memory is kept.
const MAX_SPARE: usize = 64;

/// What a batch is to be.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub stream: u32,
    /// Number of the first message.
    pub first: u64,
    /// When messages without a time of their own were handed over.
    pub now_ns: u64,
    /// The batch's timestamp.
    pub timestamp_ms: i64,
    /// What an idempotent producer numbers the first record with.
    pub sequence: i32,
}

/// A batch as it is sent.
#[derive(Debug)]
pub struct Forged(Bytes);

impl Forged {
    /// The batch.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// What all producers of a run have behind their messages' fields: enough for a batch, so that none
/// repeats itself.
pub fn filler(options: &Options) -> Arc<[u8]> {
    let len = options.batch_bytes.max(options.size.most());
    Filler::new(options.entropy).take(len).into()
}

/// Makes the batches of one producer.
#[derive(Debug)]
pub struct Forge {
    run: u64,
    compression: Compression,
    level: Option<i32>,
    filler: Arc<[u8]>,
    header: Bytes,
    spare: Vec<BytesMut>,
}

impl Forge {
    /// `producer`: id and epoch, for an idempotent one.
    pub fn new(
        run: u64,
        options: &Options,
        filler: &Arc<[u8]>,
        producer: Option<(i64, i16)>,
    ) -> Self {
        let mut builder = Builder::new();
        if let Some((id, epoch)) = producer {
            builder = builder.producer(id, epoch, 0);
        }
        Self {
            run,
            compression: options.compression,
            level: options.compression_level,
            filler: Arc::clone(filler),
            header: builder.build(),
            spare: Vec::new(),
        }
    }

    /// Makes a batch of messages that follow each other.
    pub fn forge(&mut self, order: &Order, messages: impl Iterator<Item = Message>) -> Forged {
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.clear();
        batch.extend_from_slice(&self.header);
        let (mut count, mut filled) = (0, 0);
        for message in messages {
            let size = message.size as usize;
            let filler = &self.filler[filled..filled + size - HEAD_LEN];
            let head = Head {
                run: self.run,
                stream: order.stream,
                number: order.first + count as u64,
                time_ns: message.time_ns.unwrap_or(order.now_ns),
                measured: message.measured,
            };
            put_record(&mut batch, count, message.key, &head, filler);
            filled += filler.len();
            count += 1;
        }
        if self.compression != Compression::None {
            let records = compress(self.compression, self.level, &batch[position::RECORDS..]);
            batch.truncate(position::RECORDS);
            batch.extend_from_slice(&records);
        }
        let attributes = Attributes::default().with_compression(self.compression);
        put(&mut batch, position::ATTRIBUTES, attributes.0.to_be_bytes());
        finish(&mut batch, order, count);
        Forged(batch.freeze())
    }

    /// Takes back a batch that is not needed any more.
    pub fn reclaim(&mut self, forged: Forged) {
        // Something may still hold it, such as a connection that is behind.
        if self.spare.len() < MAX_SPARE
            && let Ok(batch) = forged.0.try_into_mut()
        {
            self.spare.push(batch);
        }
    }
}

/// Bytes of a record with this place in its batch.
pub fn record_len(place: usize, message: &Message) -> usize {
    let body = body_len(place, message.key, message.size as usize);
    varint_len(body) + body
}

/// Without its length: attributes, timestamp delta, offset delta, key, value, count of headers.
fn body_len(place: usize, key: Option<u64>, size: usize) -> usize {
    let key_len = if key.is_some() { KEY_LEN } else { 0 };
    2 + varint_len(place) + 1 + key_len + varint_len(size) + size + 1
}

fn put_record(out: &mut BytesMut, place: usize, key: Option<u64>, head: &Head, filler: &[u8]) {
    let size = HEAD_LEN + filler.len();
    put_varint(out, body_len(place, key, size));
    out.put_bytes(0, 2);
    put_varint(out, place);
    match key {
        Some(key) => {
            put_varint(out, KEY_LEN);
            out.put_slice(&text(key));
        }
        // The zigzag of -1: there is no key.
        None => out.put_u8(1),
    }
    put_varint(out, size);
    let mut fields = [0; HEAD_LEN];
    head.put(&mut fields);
    out.put_slice(&fields);
    out.put_slice(filler);
    out.put_u8(0);
}

/// A number that is not negative, as the record format has it: zigzag, seven bits a byte.
fn put_varint(out: &mut BytesMut, number: usize) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn varint_len(number: usize) -> usize {
    let bits = usize::BITS - (number << 1 | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Sets the header's fields that differ from batch to batch, and the checksum at last.
fn finish(batch: &mut [u8], order: &Order, count: usize) {
    let count = count as i32;
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
    use tidegate::record::{Batch, Record, Rules, Scratch, records, validate};

    use super::*;
    use crate::payload::sizes::Sizes;

    const NOW: i64 = 1_700_000_000_000;

    fn forge(compression: Compression, level: Option<i32>) -> Forge {
        let options = Options {
            batch_bytes: 1 << 20,
            compression,
            compression_level: level,
            ..Options::default()
        };
        Forge::new(9, &options, &filler(&options), Some((5, 1)))
    }

    fn order(first: u64) -> Order {
        Order {
            stream: 3,
            first,
            now_ns: 77,
            timestamp_ms: NOW,
            sequence: first as i32,
        }
    }

    fn message(number: u64, size: usize, key: Option<u64>) -> Message {
        Message {
            time_ns: (number != 12).then_some(10 * number),
            size: size as u32,
            key,
            measured: number >= 11,
        }
    }

    fn read(forged: &Forged) -> Vec<Record> {
        let batch = Batch::parse(forged.bytes()).unwrap();
        assert!(batch.crc_ok());
        validate(&batch, &Rules::default(), NOW, &mut Scratch::default()).unwrap();
        let records = records(&batch, 1 << 24).unwrap();
        records.map(Result::unwrap).collect()
    }

    #[test]
    fn batches_of_any_messages_are_what_a_broker_takes() {
        let sizes = |number| Sizes::Mix.of(3, number);
        let key = |number| (number % 3 > 0).then_some(number + 1_000);
        for (codec, level) in Compression::ALL
            .map(|codec| (codec, None))
            .into_iter()
            .chain([(Compression::Zstd, Some(1)), (Compression::Gzip, Some(9))])
        {
            let mut forge = forge(codec, level);
            for (first, count) in [(0, 8), (8, 1), (9, 5), (14, 200)] {
                let order = order(first);
                let numbers = first..first + count;
                let messages = numbers.clone().map(|n| message(n, sizes(n), key(n)));
                let forged = forge.forge(&order, messages);
                let batch = Batch::parse(forged.bytes()).unwrap();
                assert_eq!((batch.producer_id(), batch.producer_epoch()), (5, 1));
                assert_eq!(batch.base_sequence(), order.sequence);
                let records = read(&forged);
                assert_eq!(records.len() as u64, count, "{codec:?}");
                for (number, record) in numbers.zip(records) {
                    let value = record.value.unwrap();
                    assert_eq!(value.len(), sizes(number));
                    assert!(value[HEAD_LEN..].iter().all(u8::is_ascii_uppercase));
                    assert_eq!(
                        record.key.as_deref(),
                        key(number).map(text).as_ref().map(|k| &k[..])
                    );
                    assert_eq!(record.timestamp, NOW);
                    let head = Head {
                        run: 9,
                        stream: 3,
                        number,
                        time_ns: if number == 12 { 77 } else { 10 * number },
                        measured: number >= 11,
                    };
                    assert_eq!(Head::get(&value), Some(head));
                }
                forge.reclaim(forged);
            }
        }
    }

    #[test]
    fn a_record_is_as_long_as_it_was_said_to_be() {
        let mut forge = forge(Compression::None, None);
        for key in [None, Some(5)] {
            for count in [1, 64, 65, 130] {
                let messages: Vec<Message> = (0..count)
                    .map(|number| message(number, 32 + 70 * number as usize, key))
                    .collect();
                let records = messages.iter().enumerate();
                let said: usize = records
                    .map(|(place, message)| record_len(place, message))
                    .sum();
                let forged = forge.forge(&order(0), messages.into_iter());
                assert_eq!(forged.bytes().len(), position::RECORDS + said);
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut forge = forge(Compression::None, None);
        let eight = || (3..11).map(|number| message(number, 100, None));
        let first = forge.forge(&order(0), eight());
        let memory = first.bytes().as_ptr();
        forge.reclaim(first);
        let second = forge.forge(&order(3), eight());
        assert_eq!(second.bytes().as_ptr(), memory);
        assert_eq!(read(&second).len(), 8);
    }

    #[test]
    fn what_is_still_held_is_not_written_over() {
        let mut forge = forge(Compression::None, None);
        let first = forge.forge(&order(0), [message(0, 100, None)].into_iter());
        let held = first.bytes().clone();
        let copy = held.to_vec();
        forge.reclaim(first);
        let _second = forge.forge(&order(3), [message(3, 100, Some(1))].into_iter());
        assert_eq!(held, copy);
    }
}
