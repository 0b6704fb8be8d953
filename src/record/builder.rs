//! Builds batches, as Kafka's `MemoryRecordsBuilder` does.

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{
    Attributes, HEADER_LEN, LOG_OVERHEAD, MAGIC_V2, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, position,
};
use super::compress::{Compression, compress};
use super::varint::{put_varint, put_varlong, varlong_len};

/// A batch being built. Options are set first, then records are appended, then [`Builder::build`]
/// gives the bytes. A batch has room for 2 GiB; it is the caller's to stay far below.
#[derive(Clone, Debug)]
pub struct Builder {
    base_offset: i64,
    leader_epoch: i32,
    attributes: Attributes,
    compression: Compression,
    level: Option<i32>,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    log_append_time: Option<i64>,
    delete_horizon: Option<i64>,
    last_offset_delta: Option<i32>,

    records: Vec<u8>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    record_count: i32,
    next_offset_delta: i32,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An uncompressed CreateTime batch from offset 0 on, of no idempotent producer.
    pub fn new() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: NO_LEADER_EPOCH,
            attributes: Attributes::default(),
            compression: Compression::None,
            level: None,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            log_append_time: None,
            delete_horizon: None,
            last_offset_delta: None,
            records: Vec::new(),
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
            record_count: 0,
            next_offset_delta: 0,
        }
    }

    /// The offset that records' deltas count from.
    #[must_use]
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// The partition leader epoch (KIP-101).
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// The codec, and its level: see [`compress`].
    #[must_use]
    pub fn compression(mut self, compression: Compression, level: Option<i32>) -> Self {
        self.compression = compression;
        self.level = level;
        self
    }

    /// The idempotent producer that numbers these records (KIP-98).
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// The records belong to a transaction (KIP-98).
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes = self.attributes.with_transactional(true);
        self
    }

    /// Records are control records: see KIP-98 on what their keys hold.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.attributes = self.attributes.with_control(true);
        self
    }

    /// All records carry this time, in ms, whatever they are appended with.
    #[must_use]
    pub fn log_append_time(mut self, now_ms: i64) -> Self {
        self.log_append_time = Some(now_ms);
        self
    }

    /// When tombstones of the batch may go, in ms (KIP-534). Timestamp deltas count from it, so it
    /// must be set before records are appended.
    #[must_use]
    pub fn delete_horizon(mut self, horizon_ms: i64) -> Self {
        self.delete_horizon = Some(horizon_ms);
        self
    }

    /// The offset range the batch had before compaction, if it is larger than what is appended.
    #[must_use]
    pub fn last_offset_delta(mut self, last_offset_delta: i32) -> Self {
        self.last_offset_delta = Some(last_offset_delta);
        self
    }

    /// The largest timestamp the batch had before compaction, if that of its records is not to count.
    #[must_use]
    pub fn max_timestamp(mut self, max_timestamp: i64) -> Self {
        self.max_timestamp = max_timestamp;
        self
    }

    /// Appends a record at the next offset. `timestamp` in ms.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        self.append_at(self.next_offset_delta, timestamp, key, value, headers);
    }

    /// Appends a record at `base offset + offset_delta`, for batches with holes. Deltas must ascend.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        debug_assert!(offset_delta >= self.next_offset_delta);
        let base = self
            .base_timestamp
            .get_or_insert(self.delete_horizon.unwrap_or(timestamp));
        let timestamp_delta = timestamp.wrapping_sub(*base);
        let out = &mut self.records;
        put_varint(
            out,
            body_len(offset_delta, timestamp_delta, key, value, headers),
        );
        out.put_u8(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, headers.len() as i32);
        for (key, value) in headers {
            put_nullable(out, Some(key));
            put_nullable(out, *value);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count += 1;
        self.next_offset_delta = offset_delta + 1;
    }

    /// Bytes of the records so far, not compressed.
    pub fn records_len(&self) -> usize {
        self.records.len()
    }

    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// The batch.
    pub fn build(self) -> Bytes {
        let compressed = match self.compression {
            Compression::None => None,
            codec => Some(compress(codec, self.level, &self.records)),
        };
        let payload = compressed.as_deref().unwrap_or(&self.records);
        let mut batch = BytesMut::with_capacity(HEADER_LEN + payload.len());
        self.put_header(&mut batch, payload.len());
        batch.put_slice(payload);
        let crc = crc32c::crc32c(&batch[position::ATTRIBUTES..]);
        batch[position::CRC..position::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        batch.freeze()
    }

    fn put_header(&self, out: &mut BytesMut, payload_len: usize) {
        let attributes = self
            .attributes
            .with_compression(self.compression)
            .with_delete_horizon(self.delete_horizon.is_some())
            .with_timestamp_type(match self.log_append_time {
                None => TimestampType::CreateTime,
                Some(_) => TimestampType::LogAppendTime,
            });
        let last_offset_delta = self
            .last_offset_delta
            .unwrap_or_else(|| (self.next_offset_delta - 1).max(0));
        let base_timestamp = self
            .base_timestamp
            .or(self.delete_horizon)
            .unwrap_or(NO_TIMESTAMP);
        out.put_i64(self.base_offset);
        out.put_i32((HEADER_LEN - LOG_OVERHEAD + payload_len) as i32);
        out.put_i32(self.leader_epoch);
        out.put_i8(MAGIC_V2);
        out.put_u32(0);
        out.put_i16(attributes.0);
        out.put_i32(last_offset_delta);
        out.put_i64(base_timestamp);
        out.put_i64(self.log_append_time.unwrap_or(self.max_timestamp));
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
    }
}

fn body_len(
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&[u8], Option<&[u8]>)],
) -> i32 {
    let headers_len: usize = headers
        .iter()
        .map(|(key, value)| nullable_len(Some(key)) + nullable_len(*value))
        .sum();
    let body = 1
        + varlong_len(timestamp_delta)
        + varlong_len(i64::from(offset_delta))
        + nullable_len(key)
        + nullable_len(value)
        + varlong_len(headers.len() as i64)
        + headers_len;
    body as i32
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varlong_len(bytes.len() as i64) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.put_slice(bytes);
        }
    }
}
