//! Records and batches for tests.

use bytes::Bytes;
use proptest::prelude::*;

use super::batch::{Batch, position};
use super::builder::Builder;
use super::read::{Header, Record};

/// Some bytes, or null.
fn nullable(longest: usize) -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..longest).prop_map(Bytes::from))
}

fn header() -> impl Strategy<Value = Header> {
    ("[a-z]{0,9}", nullable(20)).prop_map(|(key, value)| Header {
        key: Bytes::from(key),
        value,
    })
}

/// A record of any shape, with a timestamp near `now`. Its offset is 0.
pub(crate) fn record(now: i64) -> impl Strategy<Value = Record> {
    (
        now - 100_000..now + 100_000,
        nullable(80),
        prop_oneof![9 => nullable(200), 1 => nullable(30_000)],
        prop::collection::vec(header(), 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Record {
            offset: 0,
            timestamp,
            key,
            value,
            headers,
        })
}

pub(crate) fn append(builder: &mut Builder, offset_delta: i32, record: &Record) {
    let headers: Vec<(&[u8], Option<&[u8]>)> = record
        .headers
        .iter()
        .map(|header| (&header.key[..], header.value.as_deref()))
        .collect();
    builder.append_at(
        offset_delta,
        record.timestamp,
        record.key.as_deref(),
        record.value.as_deref(),
        &headers,
    );
}

/// The records at offsets 0, 1, 2, ...
pub(crate) fn build(mut builder: Builder, records: &[Record]) -> Batch {
    for (delta, record) in records.iter().enumerate() {
        append(&mut builder, delta as i32, record);
    }
    Batch::parse(&builder.build()).expect("a batch")
}

/// `batch` with `bytes` put at `at`, and the CRC that belongs to it.
pub(crate) fn altered(batch: &Batch, at: usize, bytes: &[u8]) -> Batch {
    let mut copy = batch.bytes().to_vec();
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&copy[position::ATTRIBUTES..]);
    copy[position::CRC..position::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Batch::parse(&copy.into()).expect("a batch")
}

/// `batch` with other records, as they are, and the length and CRC that belong to them.
pub(crate) fn with_payload(batch: &Batch, payload: &[u8]) -> Batch {
    let mut copy = batch.bytes()[..position::RECORDS].to_vec();
    copy.extend_from_slice(payload);
    let length = (copy.len() - super::batch::LOG_OVERHEAD) as i32;
    copy[position::BATCH_LENGTH..position::PARTITION_LEADER_EPOCH]
        .copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&copy[position::ATTRIBUTES..]);
    copy[position::CRC..position::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Batch::parse(&copy.into()).expect("a batch")
}
