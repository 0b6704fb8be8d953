//! A record batch as bytes: its header, its checksum, and the few fields a broker may change.
//!
//! ```text
//! base offset i64 | length i32 | leader epoch i32 | magic i8 | crc u32 |        not in the CRC
//! attributes i16 | last offset delta i32 | base timestamp i64 | max timestamp i64 |
//! producer id i64 | producer epoch i16 | base sequence i32 | record count i32 | records
//! ```
//!
//! Nothing here looks at the records.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::{Buf, Bytes, BytesMut};

use super::compress::Compression;
use super::error::RecordError;

/// Bytes before the part that the length field counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes of a batch header, up to the first record.
pub const HEADER_LEN: usize = 61;
/// The first bytes of a batch that a broker assigns: base offset, length, partition leader epoch.
/// They lie outside the CRC.
pub const HEAD_LEN: usize = 16;
/// The only message format there is.
pub const MAGIC_V2: i8 = 2;

/// The producer is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// The epoch that goes with [`NO_PRODUCER_ID`].
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The base sequence that goes with [`NO_PRODUCER_ID`].
pub const NO_SEQUENCE: i32 = -1;
/// What producers send as the leader epoch.
pub const NO_LEADER_EPOCH: i32 = -1;
/// The timestamp of a record that has none, and of a batch without records.
pub const NO_TIMESTAMP: i64 = -1;

/// Positions of the header's fields, in bytes from the start of the batch.
pub mod position {
    pub const BASE_OFFSET: usize = 0;
    pub const BATCH_LENGTH: usize = 8;
    pub const PARTITION_LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
    pub const RECORDS: usize = 61;
}

/// Batches of format v0 and v1 can be this short; a length below is no batch of any format.
const MIN_LEGACY_BATCH_LENGTH: i32 = 14;
const MIN_BATCH_LENGTH: i32 = (HEADER_LEN - LOG_OVERHEAD) as i32;

/// Who sets the timestamps of a batch's records (KIP-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Each record carries the time the producer gave it.
    #[default]
    CreateTime,
    /// All records carry the time of the append, kept in the batch's max timestamp.
    LogAppendTime,
}

/// A batch's attribute bits. Kafka uses the low seven and does not look at the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;
    const KNOWN: i16 = 0x7F;

    /// The codec of the records.
    ///
    /// # Errors
    /// [`RecordError::UnknownCompression`] for an id that Kafka does not have.
    pub fn compression(self) -> Result<Compression, RecordError> {
        let id = (self.0 & Self::CODEC) as u8;
        Compression::from_id(id).ok_or(RecordError::UnknownCompression(id))
    }

    /// Who set the records' timestamps.
    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Self::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the records belong to a transaction (KIP-98).
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the records are markers that brokers write, not a producer's (KIP-98).
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which tombstones may be removed (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// Only the bits that Kafka uses.
    fn known(self) -> Self {
        Self(self.0 & Self::KNOWN)
    }

    /// The same with another compression.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !Self::CODEC | i16::from(compression.id()))
    }

    /// The same with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with_bit(
            Self::LOG_APPEND_TIME,
            timestamp_type == TimestampType::LogAppendTime,
        )
    }

    /// The same with another transactional bit.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with_bit(Self::TRANSACTIONAL, on)
    }

    /// The same with another control bit.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with_bit(Self::CONTROL, on)
    }

    /// The same with another delete horizon bit.
    #[must_use]
    pub fn with_delete_horizon(self, on: bool) -> Self {
        self.with_bit(Self::DELETE_HORIZON, on)
    }

    fn with_bit(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The header of one batch, copied out of it. Its magic is 2 and its length is that of a whole header
/// at least; nothing else is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    raw: [u8; HEADER_LEN],
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may end anywhere after it.
    ///
    /// # Errors
    /// [`RecordError::Incomplete`] below [`HEADER_LEN`] bytes; [`RecordError::LengthTooSmall`],
    /// [`RecordError::LegacyMagic`], [`RecordError::InvalidMagic`] if this is no v2 batch.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        batch_size(bytes)?;
        let Some(&raw) = bytes.first_chunk() else {
            return Err(RecordError::Incomplete {
                needed: HEADER_LEN,
                available: bytes.len(),
            });
        };
        let header = Self { raw };
        if header.batch_length() < MIN_BATCH_LENGTH {
            return Err(RecordError::LengthTooSmall(header.batch_length()));
        }
        Ok(header)
    }

    /// The header's bytes as they were read.
    pub fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.raw
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.raw[at..at + N]);
        field
    }

    /// Offset of the first record the batch had when it was produced.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.field(position::BASE_OFFSET))
    }

    /// Bytes after the length field.
    pub fn batch_length(&self) -> i32 {
        i32::from_be_bytes(self.field(position::BATCH_LENGTH))
    }

    /// Bytes of the whole batch, header included.
    pub fn size_in_bytes(&self) -> usize {
        self.batch_length() as usize + LOG_OVERHEAD
    }

    /// Epoch of the leader that appended the batch (KIP-101); [`NO_LEADER_EPOCH`] before.
    pub fn partition_leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.field(position::PARTITION_LEADER_EPOCH))
    }

    /// The message format: always [`MAGIC_V2`].
    pub fn magic(&self) -> i8 {
        i8::from_be_bytes(self.field(position::MAGIC))
    }

    /// The stored CRC-32C.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(position::CRC))
    }

    /// Codec, timestamp type and flags.
    pub fn attributes(&self) -> Attributes {
        Attributes(i16::from_be_bytes(self.field(position::ATTRIBUTES)))
    }

    /// Last offset less base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(position::LAST_OFFSET_DELTA))
    }

    /// Offset of the last record the batch had when it was produced; compaction keeps it.
    pub fn last_offset(&self) -> i64 {
        self.base_offset()
            .wrapping_add(i64::from(self.last_offset_delta()))
    }

    /// What records' timestamp deltas count from, in ms. With a delete horizon it is that horizon.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(position::BASE_TIMESTAMP))
    }

    /// When tombstones and markers of this batch may go, in ms (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes()
            .has_delete_horizon()
            .then(|| self.base_timestamp())
    }

    /// The largest timestamp of the records, or the time of the append, in ms.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(position::MAX_TIMESTAMP))
    }

    /// The idempotent producer, or [`NO_PRODUCER_ID`] (KIP-98).
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.field(position::PRODUCER_ID))
    }

    /// Whether an idempotent producer wrote this (KIP-98).
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > NO_PRODUCER_ID
    }

    /// The producer's epoch: an older one is fenced.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.field(position::PRODUCER_EPOCH))
    }

    /// The producer's number of the first record, or [`NO_SEQUENCE`].
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(position::BASE_SEQUENCE))
    }

    /// Sequence of the last record. Sequences go from `i32::MAX` on to 0.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            NO_SEQUENCE => NO_SEQUENCE,
            base => increment_sequence(base, self.last_offset_delta()),
        }
    }

    /// Records that are in the batch, as the header says.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.field(position::RECORD_COUNT))
    }

    /// The first [`HEAD_LEN`] bytes as they are once an offset and an epoch are assigned. Followed by
    /// [`Batch::after_head`] they are the batch: neither field is in the CRC.
    pub fn patched_head(&self, base_offset: i64, leader_epoch: i32) -> [u8; HEAD_LEN] {
        let mut head = self.field(0);
        put_head(&mut head, base_offset, leader_epoch);
        head
    }
}

impl fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchHeader")
            .field("base_offset", &self.base_offset())
            .field("batch_length", &self.batch_length())
            .field("partition_leader_epoch", &self.partition_leader_epoch())
            .field("crc", &format_args!("{:#010x}", self.crc()))
            .field("attributes", &self.attributes())
            .field("last_offset_delta", &self.last_offset_delta())
            .field("base_timestamp", &self.base_timestamp())
            .field("max_timestamp", &self.max_timestamp())
            .field("producer_id", &self.producer_id())
            .field("producer_epoch", &self.producer_epoch())
            .field("base_sequence", &self.base_sequence())
            .field("record_count", &self.record_count())
            .finish_non_exhaustive()
    }
}

/// `sequence + increment` as Kafka counts: after `i32::MAX` comes 0.
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    if sum > i64::from(i32::MAX) {
        (sum - i64::from(i32::MAX) - 1) as i32
    } else {
        sum as i32
    }
}

/// Exactly one batch, as a view over shared bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

/// All header fields can be read from the batch.
impl Deref for Batch {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

impl Batch {
    /// Takes `bytes` as one batch. The CRC is not checked.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`]; [`RecordError::Incomplete`] and [`RecordError::MoreThanOneBatch`] if
    /// the bytes are not exactly one batch.
    pub fn parse(bytes: &Bytes) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(bytes)?;
        let (needed, available) = (header.size_in_bytes(), bytes.len());
        if available < needed {
            return Err(RecordError::Incomplete { needed, available });
        }
        if available > needed {
            return Err(RecordError::MoreThanOneBatch(available - needed));
        }
        Ok(Self {
            bytes: bytes.clone(),
            header,
        })
    }

    /// The one batch of a produce request's partition. Kafka takes exactly one since Produce v3 and
    /// ignores a fragment of another behind it.
    ///
    /// # Errors
    /// As [`Batch::parse`].
    pub fn only_one(records: &Bytes) -> Result<Self, RecordError> {
        let mut batches = batches(records.clone());
        let first = batches.next().unwrap_or(Err(RecordError::Incomplete {
            needed: HEADER_LEN,
            available: records.len(),
        }))?;
        match batches.next() {
            None => Ok(first),
            Some(Ok(second)) => Err(RecordError::MoreThanOneBatch(second.size_in_bytes())),
            Some(Err(error)) => Err(error),
        }
    }

    /// The header, which can be copied and kept when the batch goes.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records, compressed as the attributes say.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(position::RECORDS..)
    }

    /// As [`Batch::payload`], without sharing.
    pub fn records(&self) -> &[u8] {
        &self.bytes[position::RECORDS..]
    }

    /// All but the head: see [`BatchHeader::patched_head`].
    pub fn after_head(&self) -> Bytes {
        self.bytes.slice(HEAD_LEN..)
    }

    /// The bytes that the CRC covers.
    pub fn checked_bytes(&self) -> &[u8] {
        &self.bytes[position::ATTRIBUTES..]
    }

    /// CRC-32C of the bytes as they are.
    pub fn compute_crc(&self) -> u32 {
        crc32c::crc32c(self.checked_bytes())
    }

    /// Whether the stored CRC is that of the bytes.
    pub fn crc_ok(&self) -> bool {
        self.compute_crc() == self.crc()
    }

    /// A copy with another timestamp type and max timestamp, and the CRC that belongs to them.
    /// Kafka does this to batches whose max timestamp is not that of their records, and for
    /// LogAppendTime. The base timestamp stays: records' deltas count from it. Attribute bits that no
    /// one knows go.
    pub fn restamped(&self, timestamp_type: TimestampType, max_timestamp: i64) -> BytesMut {
        let attributes = self
            .attributes()
            .known()
            .with_timestamp_type(timestamp_type);
        self.rewritten(attributes, max_timestamp, self.records())
    }

    /// A copy with other attributes, max timestamp and payload, and the length and CRC that belong to
    /// them. With its header, the payload must be shorter than 2 GiB.
    pub fn rewritten(
        &self,
        attributes: Attributes,
        max_timestamp: i64,
        payload: &[u8],
    ) -> BytesMut {
        let mut copy = BytesMut::with_capacity(HEADER_LEN + payload.len());
        copy.extend_from_slice(self.header.as_bytes());
        copy.extend_from_slice(payload);
        let length = (copy.len() - LOG_OVERHEAD) as i32;
        put(&mut copy, position::BATCH_LENGTH, length.to_be_bytes());
        put(&mut copy, position::ATTRIBUTES, attributes.0.to_be_bytes());
        put(
            &mut copy,
            position::MAX_TIMESTAMP,
            max_timestamp.to_be_bytes(),
        );
        let crc = crc32c::crc32c(&copy[position::ATTRIBUTES..]);
        put(&mut copy, position::CRC, crc.to_be_bytes());
        copy
    }

    /// A copy whose records all carry the time of the append, in ms.
    pub fn with_log_append_time(&self, now_ms: i64) -> BytesMut {
        self.restamped(TimestampType::LogAppendTime, now_ms)
    }
}

/// Assigns offset and epoch to the batch at the front of `batch`, in place. The CRC stays right.
///
/// # Errors
/// [`RecordError::Incomplete`] below [`HEAD_LEN`] bytes.
pub fn patch(batch: &mut [u8], base_offset: i64, leader_epoch: i32) -> Result<(), RecordError> {
    let available = batch.len();
    let Some(head) = batch.first_chunk_mut() else {
        return Err(RecordError::Incomplete {
            needed: HEAD_LEN,
            available,
        });
    };
    put_head(head, base_offset, leader_epoch);
    Ok(())
}

fn put_head(head: &mut [u8; HEAD_LEN], base_offset: i64, leader_epoch: i32) {
    put(head, position::BASE_OFFSET, base_offset.to_be_bytes());
    put(
        head,
        position::PARTITION_LEADER_EPOCH,
        leader_epoch.to_be_bytes(),
    );
}

fn put<const N: usize>(into: &mut [u8], at: usize, field: [u8; N]) {
    into[at..at + N].copy_from_slice(&field);
}

/// Size of the batch that starts `bytes`, or `None` if its length field is not all there. For readers
/// that must know how much to fetch.
///
/// # Errors
/// [`RecordError::LengthTooSmall`] for a length that no batch has; [`RecordError::LegacyMagic`] and
/// [`RecordError::InvalidMagic`] if the magic is there already and is not 2.
pub fn batch_size(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    const LENGTH: Range<usize> = position::BATCH_LENGTH..LOG_OVERHEAD;
    let Some(mut field) = bytes.get(LENGTH) else {
        return Ok(None);
    };
    let length = field.get_i32();
    if length < MIN_LEGACY_BATCH_LENGTH {
        return Err(RecordError::LengthTooSmall(length));
    }
    match bytes.get(position::MAGIC).map(|&magic| magic as i8) {
        None | Some(MAGIC_V2) => Ok(Some(length as usize + LOG_OVERHEAD)),
        Some(magic @ 0..=1) => Err(RecordError::LegacyMagic(magic)),
        Some(magic) => Err(RecordError::InvalidMagic(magic)),
    }
}

/// Takes the first batch off `records`. `None` if what is left is not a whole batch: a fetch may end
/// in the middle of one.
///
/// # Errors
/// As [`BatchHeader::parse`], once the bytes it needs are there.
pub fn split_first(records: &mut Bytes) -> Result<Option<Batch>, RecordError> {
    match batch_size(records)? {
        Some(size) if size <= records.len() => {
            let header = BatchHeader::parse(records)?;
            let bytes = records.split_to(size);
            Ok(Some(Batch { bytes, header }))
        }
        _ => Ok(None),
    }
}

/// The batches of a record set, in order. Ends after the last whole one; see [`Batches::rest`].
pub fn batches(records: Bytes) -> Batches {
    Batches {
        rest: records,
        failed: false,
    }
}

/// See [`batches`]. After an error there is nothing more: the next batch cannot be found.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    failed: bool,
}

impl Batches {
    /// The bytes not yet taken; after the end, those of an incomplete batch.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = split_first(&mut self.rest).transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::builder::Builder;
    use crate::record::testing::altered;

    fn batch(records: usize) -> Bytes {
        let mut builder = Builder::new()
            .base_offset(1_000)
            .leader_epoch(7)
            .producer(42, 3, i32::MAX - 1)
            .transactional();
        for at in 0..records {
            builder.append(5_000 + at as i64, None, Some(b"value"), &[]);
        }
        builder.build()
    }

    #[test]
    fn header_fields_are_where_the_format_has_them() {
        let bytes = batch(3);
        let batch = Batch::parse(&bytes).unwrap();
        assert_eq!(batch.base_offset(), 1_000);
        assert_eq!(batch.size_in_bytes(), bytes.len());
        assert_eq!(batch.batch_length() as usize, bytes.len() - 12);
        assert_eq!(batch.partition_leader_epoch(), 7);
        assert_eq!(batch.magic(), 2);
        assert_eq!(batch.attributes().0, 0x10);
        assert_eq!(batch.last_offset_delta(), 2);
        assert_eq!(batch.last_offset(), 1_002);
        assert_eq!(batch.base_timestamp(), 5_000);
        assert_eq!(batch.max_timestamp(), 5_002);
        assert_eq!((batch.producer_id(), batch.producer_epoch()), (42, 3));
        assert_eq!(batch.base_sequence(), i32::MAX - 1);
        assert_eq!(batch.last_sequence(), 0);
        assert_eq!(batch.record_count(), 3);
        assert!(batch.crc_ok());
        assert_eq!(
            BatchHeader::parse(&bytes[..HEADER_LEN]).unwrap(),
            *batch.header()
        );
    }

    #[test]
    fn sequences_go_on_from_zero() {
        assert_eq!(increment_sequence(0, 5), 5);
        assert_eq!(increment_sequence(i32::MAX, 0), i32::MAX);
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(increment_sequence(i32::MAX - 5, 10), 4);
        let idle = Builder::new().build();
        assert_eq!(
            BatchHeader::parse(&idle).unwrap().last_sequence(),
            NO_SEQUENCE
        );
    }

    #[test]
    fn attribute_bits_do_not_touch_each_other() {
        for bits in 0..128_i16 {
            let codec = Compression::from_id((bits & 7) as u8);
            let attributes = Attributes(bits);
            assert_eq!(attributes.compression().ok(), codec);
            let again = Attributes::default()
                .with_compression(codec.unwrap_or_default())
                .with_timestamp_type(attributes.timestamp_type())
                .with_transactional(attributes.is_transactional())
                .with_control(attributes.is_control())
                .with_delete_horizon(attributes.has_delete_horizon());
            let known = if codec.is_some() { bits } else { bits & !7 };
            assert_eq!(again.0, known);
        }
    }

    #[test]
    fn head_and_rest_make_up_the_patched_batch() {
        let bytes = batch(2);
        let batch = Batch::parse(&bytes).unwrap();
        let head = batch.patched_head(77, 8);
        let joined = Bytes::from([&head[..], &batch.after_head()[..]].concat());
        let mut in_place = bytes.to_vec();
        patch(&mut in_place, 77, 8).unwrap();
        assert_eq!(joined, in_place);
        let patched = Batch::parse(&joined).unwrap();
        assert!(patched.crc_ok());
        assert_eq!(
            (patched.base_offset(), patched.partition_leader_epoch()),
            (77, 8)
        );
        assert_eq!(patched.crc(), batch.crc());
        assert!(patch(&mut [0; 15], 0, 0).is_err());
    }

    #[test]
    fn log_append_time_changes_type_max_timestamp_and_crc_only() {
        let bytes = batch(2);
        let stamped = Batch::parse(&bytes)
            .unwrap()
            .with_log_append_time(9_999)
            .freeze();
        let batch = Batch::parse(&stamped).unwrap();
        assert!(batch.crc_ok());
        assert_eq!(
            batch.attributes().timestamp_type(),
            TimestampType::LogAppendTime
        );
        assert!(batch.attributes().is_transactional());
        assert_eq!(
            (batch.base_timestamp(), batch.max_timestamp()),
            (5_000, 9_999)
        );
        let back = batch.restamped(TimestampType::CreateTime, 5_001);
        assert_eq!(back, bytes);
        let unknown_bits = altered(&batch, position::ATTRIBUTES, &[0x80, 0x98]);
        assert!(unknown_bits.crc_ok());
        assert_eq!(
            unknown_bits.restamped(TimestampType::CreateTime, 5_001),
            bytes
        );
    }

    #[test]
    fn record_sets_are_split_up_to_the_last_whole_batch() {
        let (one, two) = (batch(1), batch(2));
        let set = [&one[..], &two[..], &one[..30]].concat();
        let mut all = batches(set.into());
        assert_eq!(all.next().unwrap().unwrap().bytes(), &one);
        assert_eq!(all.next().unwrap().unwrap().bytes(), &two);
        assert!(all.next().is_none());
        assert_eq!(all.rest(), &one[..30]);
    }

    #[test]
    fn a_produce_request_holds_one_batch_and_maybe_a_fragment() {
        let one = batch(1);
        let with_fragment = Bytes::from([&one[..], &one[..11]].concat());
        assert_eq!(Batch::only_one(&with_fragment).unwrap().bytes(), &one);
        let twice = Bytes::from([&one[..], &one[..]].concat());
        assert_eq!(
            Batch::only_one(&twice).unwrap_err(),
            RecordError::MoreThanOneBatch(one.len())
        );
        for short in [0, 11, 12, 30, one.len() - 1] {
            assert!(matches!(
                Batch::only_one(&one.slice(..short)),
                Err(RecordError::Incomplete { .. })
            ));
        }
        // As Kafka does: what is there of a fragment must look like a batch.
        let with_rubbish = Bytes::from([&one[..], &one[..16], &[9]].concat());
        assert_eq!(
            Batch::only_one(&with_rubbish).unwrap_err(),
            RecordError::InvalidMagic(9)
        );
        assert!(matches!(
            Batch::parse(&with_fragment),
            Err(RecordError::MoreThanOneBatch(11))
        ));
    }

    #[test]
    fn other_formats_and_wrong_lengths_are_refused() {
        let with = |at: usize, bytes: &[u8]| {
            let mut copy = batch(1).to_vec();
            copy[at..at + bytes.len()].copy_from_slice(bytes);
            Batch::parse(&copy.into()).unwrap_err()
        };
        assert_eq!(with(position::MAGIC, &[0]), RecordError::LegacyMagic(0));
        assert_eq!(with(position::MAGIC, &[1]), RecordError::LegacyMagic(1));
        assert_eq!(with(position::MAGIC, &[3]), RecordError::InvalidMagic(3));
        assert_eq!(
            with(position::MAGIC, &[0xFF]),
            RecordError::InvalidMagic(-1)
        );
        for length in [i32::MIN, -1, 0, 13, 48] {
            assert_eq!(
                with(position::BATCH_LENGTH, &length.to_be_bytes()),
                RecordError::LengthTooSmall(length)
            );
        }
        let huge = with(position::BATCH_LENGTH, &i32::MAX.to_be_bytes());
        assert!(matches!(huge, RecordError::Incomplete { .. }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_split_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let total = bytes.len();
            let mut all = batches(Bytes::from(bytes));
            let mut taken = 0;
            for batch in all.by_ref().flatten() {
                taken += batch.size_in_bytes();
                let _ = (batch.crc_ok(), batch.last_offset(), batch.last_sequence());
            }
            prop_assert_eq!(taken + all.rest().len(), total);
        }
    }
}
