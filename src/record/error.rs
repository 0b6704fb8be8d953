//! What can be wrong with a record batch, and which Kafka error that is.

use std::fmt;

use thiserror::Error;

use super::compress::InflateError;

/// The Kafka error that a [`RecordError`] stands for. Names follow the protocol's error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// CORRUPT_MESSAGE (2): the bytes are not what the producer sent. Producers retry.
    CorruptMessage,
    /// MESSAGE_TOO_LARGE (10): the batch, or what it inflates to, is over a limit. Producers split it.
    MessageTooLarge,
    /// INVALID_TIMESTAMP (32): a timestamp is out of the topic's range.
    InvalidTimestamp,
    /// UNSUPPORTED_COMPRESSION_TYPE (76): the codec id is none that Kafka has.
    UnsupportedCompressionType,
    /// INVALID_RECORD (87): the batch breaks a rule that retrying cannot mend.
    InvalidRecord,
}

/// What is wrong with a batch, or with some of its records.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes end before the batch does.
    #[error("record batch needs {needed} bytes, {available} are there")]
    Incomplete { needed: usize, available: usize },

    /// The length field is smaller than a batch header.
    #[error("record batch length {0} is below the smallest possible one")]
    LengthTooSmall(i32),

    /// More bytes follow where exactly one batch was expected.
    #[error("{0} bytes follow the record batch")]
    MoreThanOneBatch(usize),

    /// A message set of format v0 or v1, which Kafka 4 no longer takes (KIP-724).
    #[error("message format v{0} is not supported, only v2")]
    LegacyMagic(i8),

    /// A magic byte that no message format has.
    #[error("invalid magic {0}")]
    InvalidMagic(i8),

    /// The checksum does not match the bytes.
    #[error(
        "record batch is corrupt (stored crc = {stored:#010x}, computed crc = {computed:#010x})"
    )]
    CrcMismatch { stored: u32, computed: u32 },

    /// A codec id that Kafka does not have.
    #[error("unknown compression type id {0}")]
    UnknownCompression(u8),

    /// The batch is over the topic's `max.message.bytes`.
    #[error("record batch of {size} bytes is over the maximum of {limit}")]
    BatchTooLarge { size: usize, limit: usize },

    /// A producer assigned an offset. It must leave that to the broker.
    #[error("base offset of a produced batch should be 0, but is {0}")]
    BaseOffset(i64),

    /// The header says that there are no records, or fewer than none.
    #[error("invalid record count {0}")]
    RecordCount(i32),

    /// The header's offset range is not that of its record count.
    #[error("last offset delta {last_offset_delta} does not fit a count of {record_count} records")]
    OffsetRange {
        last_offset_delta: i32,
        record_count: i32,
    },

    /// Only brokers write control batches.
    #[error("clients are not allowed to write control records")]
    ControlBatch,

    /// An idempotent producer numbers its records from 0 on and has an epoch (KIP-98).
    #[error(
        "invalid sequence number {base_sequence} or epoch {producer_epoch} in a batch with producer id {producer_id}"
    )]
    ProducerState {
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
    },

    /// A transactional batch belongs to a producer (KIP-98).
    #[error("transactional batch without producer id")]
    TransactionWithoutProducer,

    /// Only brokers set the time of the append.
    #[error("producer should not set timestamp type to LogAppendTime")]
    LogAppendTimeFromClient,

    /// The payload cannot be inflated.
    #[error(transparent)]
    Inflate(#[from] InflateError),

    /// A record's bytes make no sense.
    #[error("record {index} is malformed: {fault}")]
    Malformed { index: i32, fault: Malformed },

    /// Bytes follow the last record that the header counts.
    #[error("bytes remain after {count} records")]
    TooManyRecords { count: i32 },

    /// The payload ends before the last record that the header counts.
    #[error("payload ends after {found} of {count} records")]
    TooFewRecords { count: i32, found: i32 },

    /// Records that the topic does not take. All of the batch is refused with them.
    #[error("{0}")]
    Rejected(RejectedRecords),
}

impl RecordError {
    /// The Kafka error this stands for. Apache Kafka answers UNKNOWN_SERVER_ERROR where a payload
    /// does not inflate or the codec is unknown; that is the client's doing and said so here.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::LengthTooSmall(_) | Self::InvalidMagic(_) | Self::CrcMismatch { .. } => {
                ErrorKind::CorruptMessage
            }
            Self::UnknownCompression(_) => ErrorKind::UnsupportedCompressionType,
            Self::BatchTooLarge { .. } | Self::Inflate(InflateError::TooLarge { .. }) => {
                ErrorKind::MessageTooLarge
            }
            Self::LogAppendTimeFromClient => ErrorKind::InvalidTimestamp,
            Self::Rejected(rejected) => rejected.kind(),
            Self::Incomplete { .. }
            | Self::MoreThanOneBatch(_)
            | Self::LegacyMagic(_)
            | Self::BaseOffset(_)
            | Self::RecordCount(_)
            | Self::OffsetRange { .. }
            | Self::ControlBatch
            | Self::ProducerState { .. }
            | Self::TransactionWithoutProducer
            | Self::Inflate(InflateError::Corrupt { .. })
            | Self::Malformed { .. }
            | Self::TooManyRecords { .. }
            | Self::TooFewRecords { .. } => ErrorKind::InvalidRecord,
        }
    }

    /// The records at fault, for `record_errors` of Produce v8 and later (KIP-467). Empty if the
    /// batch as a whole is.
    pub fn record_errors(&self) -> &[RejectedRecord] {
        match self {
            Self::Rejected(rejected) => &rejected.records,
            _ => &[],
        }
    }
}

/// How a record's bytes make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("it ends early")]
    Truncated,
    #[error("bytes follow its last header")]
    Surplus,
    #[error("a number takes too many bytes")]
    Varint,
    #[error("invalid length {0}")]
    Length(i32),
    #[error("invalid number of headers {0}")]
    HeaderCount(i32),
    #[error("a header has no key")]
    NullHeaderKey,
}

/// A record that the topic does not take. Its `Display` is the `batch_index_error_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The record's place in its batch, from 0.
    pub batch_index: i32,
    pub reason: Rejection,
}

impl fmt::Display for RejectedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

/// Why a topic does not take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    #[error("Compacted topic cannot accept message without key")]
    MissingKey,
    /// All in ms.
    #[error(
        "Timestamp {timestamp} is out of range. The timestamp should be within [{earliest}, {latest}]"
    )]
    Timestamp {
        timestamp: i64,
        earliest: i64,
        latest: i64,
    },
    #[error("Offset delta is {found}, but should be {expected}")]
    OffsetDelta { found: i32, expected: i32 },
}

/// Rejected records of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RejectedRecords {
    /// The first of them.
    records: Vec<RejectedRecord>,
    /// All of them, also those that are not listed.
    total: usize,
    any_timestamp: bool,
}

impl RejectedRecords {
    /// No more than these are listed: a batch may hold a million.
    pub const MAX_LISTED: usize = 1_000;

    pub(super) fn push(&mut self, batch_index: i32, reason: Rejection) {
        if self.records.len() < Self::MAX_LISTED {
            self.records.push(RejectedRecord {
                batch_index,
                reason,
            });
        }
        self.total += 1;
        self.any_timestamp |= matches!(reason, Rejection::Timestamp { .. });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn kind(&self) -> ErrorKind {
        match self.any_timestamp {
            true => ErrorKind::InvalidTimestamp,
            false => ErrorKind::InvalidRecord,
        }
    }
}

impl fmt::Display for RejectedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any_timestamp {
            return f.write_str("One or more records have been rejected due to invalid timestamp");
        }
        let shown = self.records.len().min(3);
        write!(
            f,
            "One or more records have been rejected due to {} record errors in total; the first {shown}:",
            self.total
        )?;
        for record in &self.records[..shown] {
            write!(f, " [record {}: {record}]", record.batch_index)?;
        }
        Ok(())
    }
}
