//! The records of a stored batch.
//!
//! What compaction leaves is read as well: offsets with holes, fewer records than the offset range
//! has room for, none at all.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::batch::{Batch, BatchHeader, TimestampType};
use super::compress::{Compression, decompress};
use super::error::RecordError;
use super::varint::Cursor;
use super::walk::{RawRecord, next_record};

/// One record. Its parts share the memory of the batch, or of what the batch inflated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// In ms; -1 if the producer gave none.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A record header. Keys are UTF-8 by the protocol, but no broker checks that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// The records of `batch`, which may inflate to `max_inflated_bytes` at most. The CRC is not checked.
///
/// # Errors
/// [`RecordError::UnknownCompression`], [`RecordError::Inflate`]; the iterator yields
/// [`RecordError::Malformed`], [`RecordError::TooFewRecords`] and [`RecordError::TooManyRecords`]
/// where they show.
pub fn records(batch: &Batch, max_inflated_bytes: usize) -> Result<Records, RecordError> {
    let payload = match batch.attributes().compression()? {
        Compression::None => batch.payload(),
        codec => decompress(codec, batch.records(), max_inflated_bytes)?,
    };
    Ok(Records {
        header: *batch.header(),
        payload,
        found: 0,
        ended: false,
    })
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    /// What is not yet read.
    payload: Bytes,
    found: i32,
    ended: bool,
}

impl Records {
    fn read(&mut self) -> Result<Option<Record>, RecordError> {
        let count = self.header.record_count();
        if self.found >= count {
            return match self.payload.is_empty() {
                true => Ok(None),
                false => Err(RecordError::TooManyRecords { count }),
            };
        }
        if self.payload.is_empty() {
            let found = self.found;
            return Err(RecordError::TooFewRecords { count, found });
        }
        let mut cursor = Cursor::new(&self.payload);
        let record = next_record(&mut cursor)
            .and_then(|raw| self.record(raw))
            .map_err(|fault| RecordError::Malformed {
                index: self.found,
                fault,
            })?;
        let read = self.payload.len() - cursor.rest.len();
        self.payload = self.payload.slice(read..);
        self.found += 1;
        Ok(Some(record))
    }

    fn record(&self, raw: RawRecord) -> Result<Record, super::error::Malformed> {
        let share = |bytes: &[u8]| self.payload.slice_ref(bytes);
        let mut headers = Vec::with_capacity(raw.header_count);
        let (head, key, value) = (raw.head, raw.key, raw.value);
        raw.headers(|(key, value)| {
            headers.push(Header {
                key: share(key),
                value: value.map(share),
            });
        })?;
        Ok(Record {
            offset: self
                .header
                .base_offset()
                .wrapping_add(i64::from(head.offset_delta)),
            timestamp: match self.header.attributes().timestamp_type() {
                TimestampType::LogAppendTime => self.header.max_timestamp(),
                TimestampType::CreateTime => self
                    .header
                    .base_timestamp()
                    .wrapping_add(head.timestamp_delta),
            },
            key: key.map(share),
            value: value.map(share),
            headers,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl FusedIterator for Records {}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::StrBytes;
    use kafka_protocol::records as other;
    use proptest::prelude::*;

    use super::*;
    use crate::record::builder::Builder;
    use crate::record::testing::{append, build, record, with_payload};

    const LIMIT: usize = 4 << 20;
    const NOW: i64 = 1_700_000_000_000;

    fn read_all(batch: &Batch) -> Result<Vec<Record>, RecordError> {
        records(batch, LIMIT)?.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_built_is_read(mut wanted in prop::collection::vec(record(NOW), 0..12), base in 0..i64::MAX / 2) {
            for (delta, record) in wanted.iter_mut().enumerate() {
                record.offset = base + delta as i64;
            }
            for codec in Compression::ALL {
                let builder = Builder::new().base_offset(base).compression(codec, None);
                let batch = build(builder, &wanted);
                prop_assert!(batch.crc_ok());
                prop_assert_eq!(&read_all(&batch).unwrap(), &wanted);
            }
        }

        #[test]
        fn another_encoders_batches_are_read(mut wanted in prop::collection::vec(record(NOW), 1..12)) {
            for (delta, record) in wanted.iter_mut().enumerate() {
                record.offset = delta as i64;
                record.headers.dedup_by(|a, b| a.key == b.key);
                record.headers.truncate(1);
            }
            for (codec, theirs) in CODECS {
                let mut bytes = BytesMut::new();
                let options = other::RecordEncodeOptions { version: 2, compression: theirs };
                let records: Vec<_> = wanted.iter().map(to_other).collect();
                other::RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
                let batch = Batch::parse(&bytes.freeze()).unwrap();
                prop_assert!(batch.crc_ok());
                prop_assert_eq!(batch.attributes().compression().unwrap(), codec);
                prop_assert_eq!(&read_all(&batch).unwrap(), &wanted);
            }
        }

        #[test]
        fn another_decoder_reads_our_batches(mut wanted in prop::collection::vec(record(NOW), 1..12)) {
            for record in &mut wanted {
                record.headers.truncate(1);
            }
            for (codec, _) in CODECS {
                let builder = Builder::new()
                    .base_offset(500)
                    .leader_epoch(6)
                    .compression(codec, None)
                    .producer(9, 2, 100)
                    .transactional();
                let batch = build(builder, &wanted);
                let mut bytes = batch.bytes().clone();
                let read = other::RecordBatchDecoder::decode(&mut bytes).unwrap().records;
                prop_assert_eq!(read.len(), wanted.len());
                for (delta, (read, wanted)) in read.iter().zip(&wanted).enumerate() {
                    let mut expected = to_other(wanted);
                    expected.offset = 500 + delta as i64;
                    expected.sequence = 100 + delta as i32;
                    expected.partition_leader_epoch = 6;
                    expected.transactional = true;
                    (expected.producer_id, expected.producer_epoch) = (9, 2);
                    prop_assert_eq!(read, &expected);
                }
            }
        }

        #[test]
        fn damaged_records_never_panic(
            wanted in prop::collection::vec(record(NOW), 1..6),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            for codec in Compression::ALL {
                let batch = build(Builder::new().compression(codec, None), &wanted);
                let mut payload = batch.records().to_vec();
                for (at, byte) in &damage {
                    let at = at.index(payload.len());
                    payload[at] = *byte;
                }
                let _ = read_all(&with_payload(&batch, &payload));
            }
        }
    }

    const CODECS: [(Compression, other::Compression); 5] = [
        (Compression::None, other::Compression::None),
        (Compression::Gzip, other::Compression::Gzip),
        (Compression::Snappy, other::Compression::Snappy),
        (Compression::Lz4, other::Compression::Lz4),
        (Compression::Zstd, other::Compression::Zstd),
    ];

    fn to_other(record: &Record) -> other::Record {
        other::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: other::TimestampType::Creation,
            offset: record.offset,
            sequence: record.offset as i32,
            timestamp: record.timestamp,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: headers_of(record),
        }
    }

    fn headers_of<M: FromIterator<(StrBytes, Option<Bytes>)>>(record: &Record) -> M {
        let text = |key: &Bytes| StrBytes::try_from(key.clone()).unwrap();
        let headers = record.headers.iter();
        headers
            .map(|header| (text(&header.key), header.value.clone()))
            .collect()
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        let mut builder = Builder::new();
        builder.append(1, None, Some(b""), &[(b"h", None), (b"", Some(b""))]);
        builder.append(1, Some(b""), None, &[]);
        let batch = Batch::parse(&builder.build()).unwrap();
        let read = read_all(&batch).unwrap();
        assert_eq!(
            (&read[0].key, read[0].value.as_deref()),
            (&None, Some(&b""[..]))
        );
        assert_eq!(
            (read[1].key.as_deref(), &read[1].value),
            (Some(&b""[..]), &None)
        );
        assert_eq!(read[0].headers[0].value, None);
        assert_eq!(read[0].headers[1].value.as_deref(), Some(&b""[..]));
    }

    #[test]
    fn records_share_the_memory_of_an_uncompressed_batch() {
        let mut builder = Builder::new();
        builder.append(1, Some(b"key"), Some(b"value"), &[]);
        let batch = Batch::parse(&builder.build()).unwrap();
        let read = read_all(&batch).unwrap();
        let value = read[0].value.as_ref().unwrap();
        assert!(batch.bytes().as_ptr_range().contains(&value.as_ptr()));
    }

    #[test]
    fn what_compaction_leaves_is_read() {
        let mut builder = Builder::new()
            .base_offset(100)
            .delete_horizon(NOW + 5_000)
            .last_offset_delta(9)
            .compression(Compression::Zstd, None);
        let mut wanted = Vec::new();
        for (delta, timestamp) in [(2, NOW), (7, NOW - 3)] {
            let record = Record {
                offset: 100 + i64::from(delta),
                timestamp,
                key: Some(Bytes::from_static(b"k")),
                value: None,
                headers: Vec::new(),
            };
            append(&mut builder, delta, &record);
            wanted.push(record);
        }
        let batch = Batch::parse(&builder.build()).unwrap();
        assert_eq!(read_all(&batch).unwrap(), wanted);
        assert_eq!(batch.last_offset(), 109);
        assert_eq!(batch.delete_horizon_ms(), Some(NOW + 5_000));
        assert_eq!(batch.max_timestamp(), NOW);

        let emptied = Builder::new().base_offset(3).last_offset_delta(4).build();
        let emptied = Batch::parse(&emptied).unwrap();
        assert_eq!(emptied.base_timestamp(), -1);
        assert_eq!(read_all(&emptied).unwrap(), []);
    }

    #[test]
    fn log_append_time_is_every_records_time() {
        let mut builder = Builder::new();
        builder.append(NOW, None, None, &[]);
        builder.append(NOW - 7, None, None, &[]);
        let batch = Batch::parse(&builder.build()).unwrap();
        let stamped = Batch::parse(&batch.with_log_append_time(NOW + 1).freeze()).unwrap();
        let times = |batch| {
            read_all(batch)
                .unwrap()
                .iter()
                .map(|r| r.timestamp)
                .collect::<Vec<_>>()
        };
        assert_eq!(times(&batch), [NOW, NOW - 7]);
        assert_eq!(times(&stamped), [NOW + 1, NOW + 1]);
    }

    #[test]
    fn wrong_counts_are_errors_after_the_records() {
        let mut builder = Builder::new();
        builder.append(1, None, None, &[]);
        let batch = Batch::parse(&builder.build()).unwrap();
        let twice = batch.records().repeat(2);
        let mut read = records(&with_payload(&batch, &twice), LIMIT).unwrap();
        assert!(read.next().unwrap().is_ok());
        assert_eq!(
            read.next(),
            Some(Err(RecordError::TooManyRecords { count: 1 }))
        );
        assert_eq!(read.next(), None);
        let mut read = records(&with_payload(&batch, b""), LIMIT).unwrap();
        assert_eq!(
            read.next(),
            Some(Err(RecordError::TooFewRecords { count: 1, found: 0 }))
        );
    }
}
