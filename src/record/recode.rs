//! Writes a batch anew with another codec, as Kafka's `LogValidator` does for topics that set
//! `compression.type`. Records keep their bytes: offset deltas, timestamps, keys, values and headers
//! stay what they are, as do all of the batch's fields but those that say how it is compressed.

use super::batch::{Attributes, Batch, HEADER_LEN};
use super::compress::{Compression, compress, decompress};
use super::error::RecordError;
use super::validate::{Rules, Validated};

/// How batches are to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub codec: Compression,
    /// See [`compress`].
    pub level: Option<i32>,
}

/// Compressors hold no more than this, in bytes.
const COMPRESSOR_BYTES: usize = 2 << 20;
/// But for high levels of zstd, which hold this many times what they compress, up to a limit.
const HIGH_ZSTD_FACTOR: usize = 20;
const HIGH_ZSTD_BYTES: usize = 36 << 20;
/// The first level of zstd whose tables grow.
const HIGH_ZSTD_LEVEL: i32 = 5;

impl Target {
    /// Nanoseconds that a byte takes to be compressed, as measured with JSON of which a quarter is
    /// left, in pieces that take some 200 µs.
    fn ns_per_byte(self) -> usize {
        let level = self.level.unwrap_or_default();
        match self.codec {
            Compression::None => 0,
            Compression::Snappy => 3,
            Compression::Lz4 => match level {
                1..=2 => 4,
                3..=4 => 12,
                5..=8 => 24,
                9 => 2,
                _ => 80,
            },
            Compression::Gzip => match level {
                1 => 4,
                2..=3 => 8,
                4..=5 => 10,
                -1 | 6 => 15,
                7 => 24,
                _ => 60,
            },
            Compression::Zstd => match level {
                ..=4 => 5,
                5..=6 => 12,
                7..=9 => 40,
                10..=12 => 80,
                _ => 200,
            },
        }
    }

    /// What compressing so many bytes takes in memory, but for the bytes themselves.
    fn compressor_bytes(self, bytes: usize) -> usize {
        match (self.codec, self.level) {
            (Compression::Zstd, Some(HIGH_ZSTD_LEVEL..)) => {
                bytes.saturating_mul(HIGH_ZSTD_FACTOR).min(HIGH_ZSTD_BYTES)
            }
            _ => COMPRESSOR_BYTES.min(bytes),
        }
    }
}

/// Inflating takes no longer, in nanoseconds for each byte that comes out.
const INFLATE_NS_PER_BYTE: usize = 2;

/// A batch that was found good and is to be written anew.
#[derive(Debug)]
pub struct Recode {
    batch: Batch,
    attributes: Attributes,
    target: Target,
    max_timestamp: i64,
    inflated_bytes: usize,
    max_batch_bytes: usize,
}

impl Recode {
    /// `rules` are those that `batch` was validated by, in full.
    ///
    /// # Errors
    /// [`RecordError::BatchTooLarge`] if that is known already.
    pub fn new(
        batch: Batch,
        validated: &Validated,
        rules: &Rules,
        target: Target,
    ) -> Result<Self, RecordError> {
        let recode = Self {
            attributes: Attributes::default()
                .with_compression(target.codec)
                .with_timestamp_type(rules.timestamp_type)
                .with_transactional(batch.attributes().is_transactional())
                .with_control(batch.attributes().is_control()),
            target,
            max_timestamp: validated.max_timestamp,
            inflated_bytes: validated.inflated_bytes,
            max_batch_bytes: rules.max_batch_bytes,
            batch,
        };
        if target.codec == Compression::None {
            recode.check_size(validated.inflated_bytes)?;
        }
        Ok(recode)
    }

    /// Kafka holds a batch against `max.message.bytes` once more when it was written anew.
    fn check_size(&self, payload_bytes: usize) -> Result<(), RecordError> {
        let (size, limit) = (HEADER_LEN + payload_bytes, self.max_batch_bytes);
        match size > limit {
            true => Err(RecordError::BatchTooLarge { size, limit }),
            false => Ok(()),
        }
    }

    /// About how long [`Recode::run`] takes, in nanoseconds.
    pub fn cost_ns(&self) -> usize {
        let inflate = match self.batch.attributes().compression() {
            Ok(Compression::None) => 0,
            _ => INFLATE_NS_PER_BYTE,
        };
        self.inflated_bytes
            .saturating_mul(inflate + self.target.ns_per_byte())
    }

    /// Bytes that [`Recode::run`] takes at most while it runs, what it gives included.
    pub fn working_bytes(&self) -> usize {
        let compressor = self.target.compressor_bytes(self.inflated_bytes);
        self.inflated_bytes.saturating_mul(2) + compressor + self.result_bytes()
    }

    /// Bytes of the batch that [`Recode::run`] gives, at most.
    pub fn result_bytes(&self) -> usize {
        // No codec makes a payload larger by more than this.
        let longest = HEADER_LEN + 64 + self.inflated_bytes + self.inflated_bytes / 6;
        longest.min(self.max_batch_bytes)
    }

    /// Inflates the records, compresses them and puts them into a batch.
    ///
    /// # Errors
    /// [`RecordError::BatchTooLarge`].
    pub fn run(&self) -> Result<Batch, RecordError> {
        let records = match self.batch.attributes().compression()? {
            Compression::None => self.batch.payload(),
            codec => decompress(codec, self.batch.records(), self.inflated_bytes)?,
        };
        let payload = match self.target.codec {
            Compression::None => records,
            codec => compress(codec, self.target.level, &records),
        };
        self.check_size(payload.len())?;
        let batch = self
            .batch
            .rewritten(self.attributes, self.max_timestamp, &payload);
        Batch::parse(&batch.freeze())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::records as other;
    use proptest::prelude::*;

    use super::*;
    use crate::record::batch::{NO_LEADER_EPOCH, TimestampType, position};
    use crate::record::builder::Builder;
    use crate::record::compress::Scratch;
    use crate::record::error::ErrorKind;
    use crate::record::read::{Record, records};
    use crate::record::testing::{altered, build, record};
    use crate::record::validate::validate;

    const NOW: i64 = 1_700_000_000_000;
    const LIMIT: usize = 16 << 20;

    fn recode(batch: &Batch, rules: &Rules, target: Target) -> Result<Batch, RecordError> {
        let validated = validate(batch, rules, NOW, &mut Scratch::default())?;
        let recode = Recode::new(batch.clone(), &validated, rules, target)?;
        let recoded = recode.run()?;
        assert!(recoded.size_in_bytes() <= recode.result_bytes());
        assert!(recode.result_bytes() <= recode.working_bytes());
        Ok(recoded)
    }

    fn read(batch: &Batch) -> Vec<Record> {
        let read: Result<Vec<_>, _> = records(batch, LIMIT).expect("it inflates").collect();
        read.expect("records")
    }

    fn read_by_another(batch: &Batch) -> Vec<other::Record> {
        let mut bytes = batch.bytes().clone();
        let read = other::RecordBatchDecoder::decode(&mut bytes).expect("records");
        read.records
    }

    fn to(codec: Compression, level: Option<i32>) -> Target {
        Target { codec, level }
    }

    /// A level that the codec has, or none.
    fn level(codec: Compression, pick: u16) -> Option<i32> {
        let levels = codec.levels().filter(|_| !pick.is_multiple_of(5))?;
        let (least, most) = (levels.least.max(-7), levels.most);
        Some(least + i32::from(pick) % (most - least + 1))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn records_of_any_batch_are_the_same_with_any_codec(
            wanted in prop::collection::vec(record(NOW), 1..30),
            producer in prop::option::of((0..i64::MAX, 0..i16::MAX, 0..i32::MAX)),
            pick in any::<u16>(),
            stamped in any::<bool>(),
        ) {
            let mut rules = Rules { max_batch_bytes: LIMIT, ..Rules::default() };
            if stamped {
                rules.timestamp_type = TimestampType::LogAppendTime;
            }
            for from in Compression::ALL {
                let mut builder = Builder::new().compression(from, None);
                if let Some((id, epoch, sequence)) = producer {
                    builder = builder.producer(id, epoch, sequence).transactional();
                }
                let batch = build(builder, &wanted);
                let expected = match stamped {
                    true => Batch::parse(&batch.with_log_append_time(NOW).freeze()).unwrap(),
                    false => batch.clone(),
                };
                for codec in Compression::ALL {
                    let recoded = recode(&batch, &rules, to(codec, level(codec, pick))).unwrap();
                    prop_assert!(recoded.crc_ok());
                    prop_assert_eq!(
                        recoded.attributes(),
                        expected.attributes().with_compression(codec)
                    );
                    prop_assert_eq!(fixed(&recoded), fixed(&expected));
                    prop_assert_eq!(read(&recoded), read(&expected));
                    prop_assert_eq!(read_by_another(&recoded), read_by_another(&expected));
                    let again = validate(&recoded, &Rules { max_batch_bytes: LIMIT, ..Rules::default() }, NOW, &mut Scratch::default());
                    prop_assert_eq!(again.is_ok(), !stamped);
                }
            }
        }
    }

    /// All that no codec changes.
    fn fixed(batch: &Batch) -> impl PartialEq + std::fmt::Debug + use<> {
        (
            (batch.base_offset(), batch.partition_leader_epoch()),
            (batch.last_offset_delta(), batch.record_count()),
            (batch.base_timestamp(), batch.max_timestamp()),
            (batch.producer_id(), batch.producer_epoch()),
            batch.base_sequence(),
        )
    }

    fn three(codec: Compression) -> Batch {
        let mut builder = Builder::new().compression(codec, None);
        for _ in 0..3 {
            builder.append(NOW, Some(b"key"), Some(&[b'v'; 1000]), &[(b"h", None)]);
        }
        Batch::parse(&builder.build()).unwrap()
    }

    #[test]
    fn there_and_back_gives_the_same_bytes() {
        let plain = three(Compression::None);
        for codec in Compression::ALL {
            let there = recode(&plain, &Rules::default(), to(codec, None)).unwrap();
            let back = recode(&there, &Rules::default(), to(Compression::None, None)).unwrap();
            assert_eq!(back, plain);
        }
    }

    #[test]
    fn a_wrong_max_timestamp_and_unknown_bits_are_set_right() {
        let odd = altered(
            &three(Compression::Gzip),
            position::MAX_TIMESTAMP,
            &7_i64.to_be_bytes(),
        );
        let odd = altered(&odd, position::ATTRIBUTES, &[0x80, 0x41]);
        let recoded = recode(&odd, &Rules::default(), to(Compression::None, None)).unwrap();
        assert_eq!(recoded, three(Compression::None));
        assert_eq!(recoded.partition_leader_epoch(), NO_LEADER_EPOCH);
    }

    #[test]
    fn the_topics_limit_holds_for_what_is_written_as_for_what_is_sent() {
        let (plain, packed) = (three(Compression::None), three(Compression::Gzip));
        let rules = |max_batch_bytes| Rules {
            max_batch_bytes,
            ..Rules::default()
        };
        let too_large = |batch: &Batch, limit, codec| {
            let error = recode(batch, &rules(limit), to(codec, None)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
        };
        let size = plain.size_in_bytes();
        assert!(recode(&packed, &rules(size), to(Compression::None, None)).is_ok());
        too_large(&packed, size - 1, Compression::None);
        // Also if it would be small enough once it is written.
        too_large(&plain, size - 1, Compression::Gzip);
        // Snappy leaves more of it than gzip did.
        let snappy = recode(&plain, &rules(size), to(Compression::Snappy, None)).unwrap();
        too_large(&packed, snappy.size_in_bytes() - 1, Compression::Snappy);
    }

    #[test]
    fn levels_have_an_effect() {
        let mut builder = Builder::new();
        let words: Vec<u8> = (0..200_000_u32)
            .map(|at| b'a' + (at.wrapping_mul(2_654_435_761) >> 27) as u8 / (1 + at as u8 % 3))
            .collect();
        builder.append(NOW, None, Some(&words), &[]);
        let plain = Batch::parse(&builder.build()).unwrap();
        let size = |codec, level| {
            let recoded = recode(&plain, &Rules::default(), to(codec, level)).unwrap();
            recoded.size_in_bytes()
        };
        for (codec, low, high) in [
            (Compression::Gzip, 1, 9),
            // LZ4's default is the fast compressor.
            (Compression::Lz4, 9, 12),
            (Compression::Zstd, -100, 19),
        ] {
            assert!(
                size(codec, Some(low)) > size(codec, Some(high)),
                "{codec:?}"
            );
            let default = codec.levels().map(|levels| levels.default);
            assert_eq!(size(codec, None), size(codec, default), "{codec:?}");
        }
    }

    #[test]
    fn large_frames_of_high_levels_have_small_windows() {
        let content = Bytes::from([0_u8; 64].repeat(1 << 17));
        let frame = compress(Compression::Zstd, Some(22), &content);
        // RFC 8878: a descriptor without single segment bit, then the window's exponent over 10.
        assert_eq!(frame[4] & 0x20, 0);
        assert_eq!(frame[5] >> 3, 21 - 10);
        assert_eq!(decompress(Compression::Zstd, &frame, 8 << 20), Ok(content));
    }
}
