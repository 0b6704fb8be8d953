//! Whether a produced batch may be stored, as Apache Kafka 4.3's broker decides it (`UnifiedLog` and
//! `LogValidator`).
//!
//! Stricter than Kafka in what no client does and some consumer would choke on:
//! - offset deltas must be 0, 1, 2, ... Kafka stores others as they are in a batch that is not
//!   compressed, and fails with an internal error in one that is;
//! - lengths below -1 are refused, Kafka takes them for null;
//! - records of compressed batches must be exactly as long as they say, as in others;
//! - no bytes may follow the last gzip member, LZ4 frame or Snappy chunk, and an LZ4 content checksum
//!   must be right;
//! - LogAppendTime is always refused, Kafka clears it on CreateTime topics if the time is in range;
//! - a transactional batch needs a producer id, and a producer id an epoch.

use std::task::Poll;

use super::batch::{Batch, BatchHeader, NO_TIMESTAMP, TimestampType};
use super::compress::{Inflater, Scratch};
use super::error::{RecordError, RejectedRecords, Rejection};
use super::walk::{RecordHead, Walker};

/// How much [`Validator::step`] should do before it gives the core back, in bytes of
/// [`Inflater::work_done`]. Takes 0.1 to 0.4 ms by codec, and 1.3 ms of hostile gzip.
pub const STEP_BYTES: usize = 128 << 10;
/// The CRC takes 0.2 ms for as many.
const CRC_BYTES_PER_STEP: usize = 4 << 20;

/// How much of a batch is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Header and CRC. Trusts producers with the records.
    Header,
    /// Each record, inflated if need be, as Kafka does it.
    #[default]
    Full,
}

/// What a topic takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub mode: Mode,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` has `compact`: records need keys.
    pub compacted: bool,
    /// `max.message.bytes`: of the batch as it is sent.
    pub max_batch_bytes: usize,
    /// Bytes that a batch's records may inflate to.
    pub max_inflated_bytes: usize,
}

/// Kafka's defaults, and 128 MiB inflated.
impl Default for Rules {
    fn default() -> Self {
        Self {
            mode: Mode::Full,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compacted: false,
            max_batch_bytes: 1_048_588,
            max_inflated_bytes: 128 << 20,
        }
    }
}

/// What is known of a batch that may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    pub record_count: i32,
    /// Of the records, or the time of the append; -1 if no record has one. In ms.
    pub max_timestamp: i64,
    /// Where the (first) record with the max timestamp is, counted from the base offset. The last one
    /// for LogAppendTime and [`Mode::Header`].
    pub offset_delta_of_max_timestamp: i32,
    /// Bytes of the records when they are not compressed; in [`Mode::Header`], as they are sent.
    pub inflated_bytes: usize,
    /// If set, the batch must be stored as [`Batch::restamped`] with this type and the max timestamp:
    /// the topic has LogAppendTime, or the producer's max timestamp was wrong.
    pub restamp: Option<TimestampType>,
}

/// Decides on `batch` at once. See [`Validator`] for batches that may take long.
///
/// # Errors
/// The first thing found wrong; or [`RecordError::Rejected`] with all records that the topic does not
/// take.
pub fn validate(
    batch: &Batch,
    rules: &Rules,
    now_ms: i64,
    scratch: &mut Scratch,
) -> Result<Validated, RecordError> {
    let mut validator = Validator::new(batch.clone(), *rules, now_ms)?;
    loop {
        if let Poll::Ready(result) = validator.step(scratch, usize::MAX) {
            return result;
        }
    }
}

/// Decides on a batch in steps.
pub struct Validator {
    batch: Batch,
    rules: Rules,
    now_ms: i64,
    phase: Phase,
    walker: Walker,
    tally: Tally,
}

enum Phase {
    /// The CRC of the first `at` of the bytes that it covers.
    Crc { at: usize, crc: u32 },
    /// Records that are not compressed, seen up to `at`.
    Plain { at: usize },
    /// Records that come out of the inflater.
    Inflate(Box<Inflater>),
    /// The result was given.
    Ended,
}

impl Validator {
    /// Begins with the header.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn new(batch: Batch, rules: Rules, now_ms: i64) -> Result<Self, RecordError> {
        check_header(&batch, &rules)?;
        let walker = Walker::new(batch.record_count());
        Ok(Self {
            batch,
            rules,
            now_ms,
            phase: Phase::Crc { at: 0, crc: 0 },
            walker,
            tally: Tally::default(),
        })
    }

    /// Goes on for about `budget` bytes of work; [`STEP_BYTES`] is a good one. At most that many are
    /// inflated. Must not be called again after it was ready.
    pub fn step(
        &mut self,
        scratch: &mut Scratch,
        budget: usize,
    ) -> Poll<Result<Validated, RecordError>> {
        let result = loop {
            match self.advance(scratch, budget) {
                Ok(Progress::Next) => {}
                Ok(Progress::Pending) => return Poll::Pending,
                Ok(Progress::Done(inflated_bytes)) => break self.verdict(inflated_bytes),
                Err(error) => break Err(error),
            }
        };
        if let Phase::Inflate(inflater) = std::mem::replace(&mut self.phase, Phase::Ended) {
            scratch.recycle(*inflater);
        }
        Poll::Ready(result)
    }

    fn advance(&mut self, scratch: &mut Scratch, budget: usize) -> Result<Progress, RecordError> {
        match &self.phase {
            Phase::Crc { at, crc } => self.check_crc(*at, *crc, scratch),
            Phase::Plain { at } => self.walk_plain(*at, budget),
            Phase::Inflate(_) => self.inflate(budget),
            Phase::Ended => Ok(Progress::Pending),
        }
    }

    fn check_crc(
        &mut self,
        at: usize,
        crc: u32,
        scratch: &mut Scratch,
    ) -> Result<Progress, RecordError> {
        let bytes = self.batch.checked_bytes();
        let end = bytes.len().min(at + CRC_BYTES_PER_STEP);
        let crc = crc32c::crc32c_append(crc, &bytes[at..end]);
        if end < bytes.len() {
            self.phase = Phase::Crc { at: end, crc };
            return Ok(Progress::Pending);
        }
        if crc != self.batch.crc() {
            return Err(RecordError::CrcMismatch {
                stored: self.batch.crc(),
                computed: crc,
            });
        }
        if self.rules.mode == Mode::Header {
            return Ok(Progress::Done(self.batch.payload().len()));
        }
        let codec = self.batch.attributes().compression()?;
        self.phase = match scratch.inflater(codec, self.rules.max_inflated_bytes) {
            Some(inflater) => Phase::Inflate(Box::new(inflater)),
            None => Phase::Plain { at: 0 },
        };
        Ok(Progress::Next)
    }

    fn walk_plain(&mut self, at: usize, budget: usize) -> Result<Progress, RecordError> {
        let payload = self.batch.records();
        let end = payload.len().min(at.saturating_add(budget.max(1)));
        let piece = &payload[at..end];
        let check = Check::new(&self.batch, &self.rules, self.now_ms);
        let tally = &mut self.tally;
        self.walker
            .feed(piece, |index, head| check.see(tally, index, head))?;
        self.phase = Phase::Plain { at: end };
        match end == payload.len() {
            true => Ok(Progress::Done(end)),
            false => Ok(Progress::Pending),
        }
    }

    fn inflate(&mut self, budget: usize) -> Result<Progress, RecordError> {
        let Phase::Inflate(inflater) = &mut self.phase else {
            return Ok(Progress::Pending);
        };
        let check = Check::new(&self.batch, &self.rules, self.now_ms);
        let tally = &mut self.tally;
        let mut spent = 0;
        while spent < budget {
            let before = inflater.work_done();
            match inflater.next_piece(self.batch.records(), budget - spent)? {
                Some(piece) => self
                    .walker
                    .feed(piece, |index, head| check.see(tally, index, head))?,
                None => return Ok(Progress::Done(inflater.produced())),
            }
            spent += inflater.work_done() - before;
        }
        Ok(Progress::Pending)
    }

    fn verdict(&mut self, inflated_bytes: usize) -> Result<Validated, RecordError> {
        let last = self.batch.last_offset_delta();
        let (max_timestamp, at) = match (self.rules.timestamp_type, self.rules.mode) {
            (TimestampType::LogAppendTime, _) => (self.now_ms, last),
            (_, Mode::Header) => (self.batch.max_timestamp(), last),
            (_, Mode::Full) => (self.tally.max_timestamp, self.tally.index_of_max),
        };
        if self.rules.mode == Mode::Full {
            self.walker.finish()?;
            if !self.tally.rejected.is_empty() {
                let rejected = std::mem::take(&mut self.tally.rejected);
                return Err(RecordError::Rejected(rejected));
            }
        }
        let wanted = self.rules.timestamp_type;
        let as_sent = (
            self.batch.attributes().timestamp_type(),
            self.batch.max_timestamp(),
        );
        Ok(Validated {
            record_count: self.batch.record_count(),
            max_timestamp,
            offset_delta_of_max_timestamp: at,
            inflated_bytes,
            restamp: (as_sent != (wanted, max_timestamp)).then_some(wanted),
        })
    }
}

enum Progress {
    Pending,
    Next,
    /// All is seen; the bytes that the records take, inflated.
    Done(usize),
}

fn check_header(batch: &BatchHeader, rules: &Rules) -> Result<(), RecordError> {
    if batch.base_offset() != 0 {
        return Err(RecordError::BaseOffset(batch.base_offset()));
    }
    let size = batch.size_in_bytes();
    if size > rules.max_batch_bytes {
        return Err(RecordError::BatchTooLarge {
            size,
            limit: rules.max_batch_bytes,
        });
    }
    let (last_offset_delta, record_count) = (batch.last_offset_delta(), batch.record_count());
    if record_count <= 0 {
        return Err(RecordError::RecordCount(record_count));
    }
    if last_offset_delta != record_count - 1 {
        return Err(RecordError::OffsetRange {
            last_offset_delta,
            record_count,
        });
    }
    let attributes = batch.attributes();
    attributes.compression()?;
    if attributes.is_control() {
        return Err(RecordError::ControlBatch);
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(RecordError::LogAppendTimeFromClient);
    }
    check_producer(batch)
}

/// Batches without producer id may carry any epoch and sequence: some clients leave zeros there.
fn check_producer(batch: &BatchHeader) -> Result<(), RecordError> {
    if !batch.has_producer_id() {
        return match batch.attributes().is_transactional() {
            true => Err(RecordError::TransactionWithoutProducer),
            false => Ok(()),
        };
    }
    if batch.base_sequence() < 0 || batch.producer_epoch() < 0 {
        return Err(RecordError::ProducerState {
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
        });
    }
    Ok(())
}

/// What the records of a batch add up to.
#[derive(Debug)]
struct Tally {
    max_timestamp: i64,
    index_of_max: i32,
    rejected: RejectedRecords,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            max_timestamp: NO_TIMESTAMP,
            index_of_max: -1,
            rejected: RejectedRecords::default(),
        }
    }
}

/// What each record is held against.
struct Check {
    base_timestamp: i64,
    now_ms: i64,
    before_max_ms: i64,
    after_max_ms: i64,
    check_timestamps: bool,
    need_keys: bool,
}

impl Check {
    fn new(batch: &BatchHeader, rules: &Rules, now_ms: i64) -> Self {
        Self {
            base_timestamp: batch.base_timestamp(),
            now_ms,
            before_max_ms: rules.timestamp_before_max_ms,
            after_max_ms: rules.timestamp_after_max_ms,
            check_timestamps: rules.timestamp_type == TimestampType::CreateTime,
            need_keys: rules.compacted,
        }
    }

    #[inline]
    fn see(&self, tally: &mut Tally, index: i32, head: RecordHead) {
        // Wraps as Kafka's does, so that the same timestamps are refused.
        let timestamp = self.base_timestamp.wrapping_add(head.timestamp_delta);
        if timestamp > tally.max_timestamp {
            tally.max_timestamp = timestamp;
            tally.index_of_max = index;
        }
        if let Some(reason) = self.rejection(index, timestamp, head) {
            tally.rejected.push(index, reason);
        }
    }

    #[inline]
    fn rejection(&self, index: i32, timestamp: i64, head: RecordHead) -> Option<Rejection> {
        if head.offset_delta != index {
            return Some(Rejection::OffsetDelta {
                found: head.offset_delta,
                expected: index,
            });
        }
        if self.need_keys && !head.has_key {
            return Some(Rejection::MissingKey);
        }
        let age = self.now_ms.wrapping_sub(timestamp);
        let out_of_range = age > self.before_max_ms || age.wrapping_neg() > self.after_max_ms;
        (self.check_timestamps && timestamp != NO_TIMESTAMP && out_of_range).then(|| {
            Rejection::Timestamp {
                timestamp,
                earliest: self.now_ms.saturating_sub(self.before_max_ms),
                latest: self.now_ms.saturating_add(self.after_max_ms),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::batch::position;
    use crate::record::builder::Builder;
    use crate::record::compress::{Compression, InflateError, compress};
    use crate::record::error::{ErrorKind, Malformed};
    use crate::record::testing::{altered, build, record, with_payload};
    use crate::record::varint::put_varint;

    const NOW: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn check(batch: &Batch, rules: &Rules) -> Result<Validated, RecordError> {
        validate(batch, rules, NOW, &mut Scratch::default())
    }

    fn refused(batch: &Batch) -> RecordError {
        check(batch, &Rules::default()).expect_err("a batch that breaks a rule")
    }

    /// Three records: the second has the max timestamp.
    fn three(codec: Compression) -> Batch {
        let mut builder = Builder::new().compression(codec, None);
        for timestamp in [NOW, NOW + 9, NOW + 9] {
            builder.append(timestamp, Some(b"key"), Some(b"value"), &[(b"h", None)]);
        }
        Batch::parse(&builder.build()).unwrap()
    }

    fn with_timestamps(timestamps: &[i64]) -> Batch {
        let mut builder = Builder::new();
        for &timestamp in timestamps {
            builder.append(timestamp, None, None, &[]);
        }
        Batch::parse(&builder.build()).unwrap()
    }

    /// (index, kind) of what is rejected, and the batch's kind.
    fn rejections(error: &RecordError) -> (ErrorKind, Vec<i32>) {
        let indexes = error.record_errors().iter().map(|e| e.batch_index);
        (error.kind(), indexes.collect())
    }

    #[test]
    fn good_batches_are_taken_as_they_are() {
        for codec in Compression::ALL {
            let batch = three(codec);
            let expected = Validated {
                record_count: 3,
                max_timestamp: NOW + 9,
                offset_delta_of_max_timestamp: 1,
                inflated_bytes: three(Compression::None).records().len(),
                restamp: None,
            };
            assert_eq!(check(&batch, &Rules::default()), Ok(expected));
        }
    }

    #[test]
    fn a_wrong_max_timestamp_is_set_right() {
        for codec in Compression::ALL {
            for wrong in [-1, 0, NOW, NOW + HOUR * 99] {
                let batch = altered(&three(codec), position::MAX_TIMESTAMP, &wrong.to_be_bytes());
                let validated = check(&batch, &Rules::default()).unwrap();
                assert_eq!(validated.max_timestamp, NOW + 9);
                let stored = batch.restamped(validated.restamp.unwrap(), validated.max_timestamp);
                assert_eq!(stored, three(codec).bytes());
            }
        }
    }

    #[test]
    fn log_append_time_topics_stamp_what_they_take() {
        let rules = Rules {
            timestamp_type: TimestampType::LogAppendTime,
            ..Rules::default()
        };
        for mode in [Mode::Full, Mode::Header] {
            // Their own times do not count.
            let batch = with_timestamps(&[NOW + HOUR * 99, i64::MIN]);
            let validated = check(&batch, &Rules { mode, ..rules }).unwrap();
            assert_eq!(validated.max_timestamp, NOW);
            assert_eq!(validated.offset_delta_of_max_timestamp, 1);
            assert_eq!(validated.restamp, Some(TimestampType::LogAppendTime));
        }
        let flagged = altered(&three(Compression::None), position::ATTRIBUTES, &[0, 8]);
        assert_eq!(refused(&flagged).kind(), ErrorKind::InvalidTimestamp);
    }

    #[test]
    fn timestamps_are_held_against_the_topics_range() {
        let rules = Rules {
            timestamp_before_max_ms: 1_000,
            timestamp_after_max_ms: HOUR,
            ..Rules::default()
        };
        let good = with_timestamps(&[NOW - 1_000, NOW + HOUR, -1]);
        assert_eq!(check(&good, &rules).unwrap().max_timestamp, NOW + HOUR);
        let bad = with_timestamps(&[NOW - 1_001, NOW, NOW + HOUR + 1, 0, i64::MIN, i64::MAX]);
        let error = check(&bad, &rules).unwrap_err();
        assert_eq!(
            rejections(&error),
            (ErrorKind::InvalidTimestamp, vec![0, 2, 3, 4, 5])
        );
        assert!(
            error.record_errors()[0]
                .to_string()
                .starts_with("Timestamp ")
        );
        // By default only the future is refused; i64::MIN wraps into it, as in Kafka.
        let error = refused(&bad);
        assert_eq!(rejections(&error).1, [2, 4, 5]);
        let no_time = with_timestamps(&[-1, -1, -5]);
        let validated = check(&no_time, &Rules::default()).unwrap();
        assert_eq!(
            (
                validated.max_timestamp,
                validated.offset_delta_of_max_timestamp
            ),
            (-1, -1)
        );
    }

    #[test]
    fn compacted_topics_need_keys() {
        let rules = Rules {
            compacted: true,
            ..Rules::default()
        };
        for codec in Compression::ALL {
            assert!(check(&three(codec), &rules).is_ok());
            let mut builder = Builder::new().compression(codec, None);
            builder.append(NOW, Some(b""), None, &[]);
            builder.append(NOW, None, Some(b"value"), &[]);
            builder.append(NOW + HOUR * 2, None, Some(b"value"), &[]);
            let batch = Batch::parse(&builder.build()).unwrap();
            let error = check(&batch, &rules).unwrap_err();
            assert_eq!(rejections(&error), (ErrorKind::InvalidRecord, vec![1, 2]));
            assert!(error.to_string().contains("2 record errors"), "{error}");
            assert_eq!(rejections(&refused(&batch)).1, [2]);
        }
    }

    #[test]
    fn no_more_than_some_rejections_are_listed() {
        let batch = with_timestamps(&vec![NOW * 2; RejectedRecords::MAX_LISTED + 5]);
        assert_eq!(
            refused(&batch).record_errors().len(),
            RejectedRecords::MAX_LISTED
        );
    }

    #[test]
    fn offset_deltas_must_count_from_zero() {
        for codec in Compression::ALL {
            let mut builder = Builder::new().compression(codec, None).last_offset_delta(1);
            builder.append_at(0, NOW, None, None, &[]);
            builder.append_at(5, NOW, None, None, &[]);
            let batch = Batch::parse(&builder.build()).unwrap();
            assert_eq!(
                rejections(&refused(&batch)),
                (ErrorKind::InvalidRecord, vec![1])
            );
        }
    }

    #[test]
    fn headers_must_hold_what_a_client_may_write() {
        let good = three(Compression::None);
        let set = |at, bytes: &[u8]| refused(&altered(&good, at, bytes));
        assert_eq!(
            set(position::BASE_OFFSET, &5_i64.to_be_bytes()),
            RecordError::BaseOffset(5)
        );
        assert_eq!(
            set(position::ATTRIBUTES, &[0, 0x20]),
            RecordError::ControlBatch
        );
        assert_eq!(
            set(position::ATTRIBUTES, &[0, 0x10]),
            RecordError::TransactionWithoutProducer
        );
        for id in 5..8 {
            let error = set(position::ATTRIBUTES, &[0, id]);
            assert_eq!(error.kind(), ErrorKind::UnsupportedCompressionType);
        }
        for count in [0, -1, i32::MIN] {
            assert_eq!(
                set(position::RECORD_COUNT, &count.to_be_bytes()),
                RecordError::RecordCount(count)
            );
        }
        for delta in [-1, 0, 1, 3, i32::MAX, i32::MIN] {
            assert!(matches!(
                set(position::LAST_OFFSET_DELTA, &delta.to_be_bytes()),
                RecordError::OffsetRange { .. }
            ));
        }
        let rules = Rules {
            max_batch_bytes: good.size_in_bytes() - 1,
            ..Rules::default()
        };
        assert_eq!(
            check(&good, &rules).unwrap_err().kind(),
            ErrorKind::MessageTooLarge
        );
        // Bits that no one knows, and a leader epoch, say nothing.
        assert!(
            check(
                &altered(&good, position::ATTRIBUTES, &[0x41, 0x80]),
                &Rules::default()
            )
            .is_ok()
        );
        assert!(
            check(
                &altered(&good, position::PARTITION_LEADER_EPOCH, &[9; 4]),
                &Rules::default()
            )
            .is_ok()
        );
    }

    #[test]
    fn producer_ids_need_epoch_and_sequence_and_their_absence_nothing() {
        let with = |id: i64, epoch: i16, sequence: i32| {
            let mut builder = Builder::new().producer(id, epoch, sequence);
            builder.append(NOW, None, None, &[]);
            check(&Batch::parse(&builder.build()).unwrap(), &Rules::default())
        };
        for (id, epoch, sequence) in [
            (1, 0, 0),
            (0, i16::MAX, i32::MAX),
            (-1, 0, 0),
            (-1, -1, -1),
            (-2, 0, -5),
        ] {
            assert!(with(id, epoch, sequence).is_ok(), "{id} {epoch} {sequence}");
        }
        for (id, epoch, sequence) in [(1, 0, -1), (1, -1, 0), (0, -2, 5)] {
            let error = with(id, epoch, sequence).unwrap_err();
            assert!(matches!(error, RecordError::ProducerState { .. }));
            assert_eq!(error.kind(), ErrorKind::InvalidRecord);
        }
    }

    #[test]
    fn counts_must_be_those_of_the_records() {
        for codec in Compression::ALL {
            let claim = |count: i32| {
                let batch = altered(&three(codec), position::RECORD_COUNT, &count.to_be_bytes());
                let last = (count - 1).to_be_bytes();
                refused(&altered(&batch, position::LAST_OFFSET_DELTA, &last))
            };
            assert_eq!(claim(2), RecordError::TooManyRecords { count: 2 });
            assert_eq!(claim(4), RecordError::TooFewRecords { count: 4, found: 3 });
            assert!(matches!(
                claim(i32::MAX),
                RecordError::TooFewRecords { found: 3, .. }
            ));
        }
    }

    #[test]
    fn malformed_records_are_named_by_their_index() {
        for codec in Compression::ALL {
            let records = [
                12, 0, 0, 0, 1, 1, 0, 14, 0, 0, 2, 1, 1, 0, 0, 12, 0, 0, 4, 1, 1, 0,
            ];
            let batch = with_payload(&three(codec), &compress(codec, None, &records));
            let fault = Malformed::Surplus;
            assert_eq!(refused(&batch), RecordError::Malformed { index: 1, fault });
        }
    }

    #[test]
    fn header_mode_trusts_the_records() {
        let rules = Rules {
            mode: Mode::Header,
            ..Rules::default()
        };
        for codec in Compression::ALL {
            let batch = with_payload(&three(codec), b"anything");
            assert!(check(&batch, &Rules::default()).is_err());
            let validated = check(&batch, &rules).unwrap();
            assert_eq!(validated.max_timestamp, NOW + 9);
            assert_eq!(validated.restamp, None);
            let mut damaged = batch.bytes().to_vec();
            damaged[position::RECORDS] ^= 1;
            let damaged = Batch::parse(&damaged.into()).unwrap();
            assert_eq!(
                check(&damaged, &rules).unwrap_err().kind(),
                ErrorKind::CorruptMessage
            );
        }
    }

    #[test]
    fn payloads_that_do_not_inflate_are_the_clients_fault() {
        for codec in &Compression::ALL[1..] {
            let batch = with_payload(&three(*codec), b"\xFFnothing that a codec wrote");
            let error = refused(&batch);
            assert!(matches!(
                error,
                RecordError::Inflate(InflateError::Corrupt { .. })
            ));
            assert_eq!(error.kind(), ErrorKind::InvalidRecord);
        }
    }

    /// One record of a 2 GiB value of zeros, in 62 KB of zstd run-length blocks.
    fn bomb() -> Batch {
        // Length, attributes, timestamp, offset, null key, and the value's length.
        let mut record = Vec::new();
        put_varint(&mut record, i32::MAX);
        record.extend_from_slice(&[0, 0, 0, 1]);
        put_varint(&mut record, i32::MAX - 100);
        // Magic, no content size, a window of 128 KiB; blocks behind type and size.
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38];
        let stored = (record.len() as u32) << 3;
        frame.extend_from_slice(&stored.to_le_bytes()[..3]);
        frame.extend_from_slice(&record);
        frame.extend_from_slice(&[0x02, 0x00, 0x10, 0x00].repeat(15_500));
        let mut batch = Builder::new().compression(Compression::Zstd, None);
        batch.append(NOW, None, None, &[]);
        with_payload(&Batch::parse(&batch.build()).unwrap(), &frame)
    }

    #[test]
    fn a_bomb_ends_at_the_limit_in_bounded_steps() {
        let bomb = bomb();
        assert!(bomb.size_in_bytes() < 63_000);
        let rules = Rules::default();
        let mut scratch = Scratch::default();
        let mut validator = Validator::new(bomb, rules, NOW).unwrap();
        let mut steps = 1;
        let error = loop {
            match validator.step(&mut scratch, STEP_BYTES) {
                Poll::Pending => steps += 1,
                Poll::Ready(result) => break result.unwrap_err(),
            }
        };
        let limit = rules.max_inflated_bytes;
        assert_eq!(
            error,
            RecordError::Inflate(InflateError::TooLarge { limit })
        );
        assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
        assert!(steps >= limit / STEP_BYTES, "{steps} steps");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn steps_of_any_size_come_to_the_same(
            records in prop::collection::vec(record(NOW), 1..20),
            wild in any::<prop::sample::Index>(),
            flip in any::<u8>(),
            budget in 1..20_000_usize,
        ) {
            for codec in Compression::ALL {
                let plain = build(Builder::new(), &records);
                let mut payload = plain.records().to_vec();
                let at = wild.index(payload.len().min(200));
                payload[at] ^= flip;
                let batch = build(Builder::new().compression(codec, None), &records);
                let batch = with_payload(&batch, &compress(codec, None, &payload));
                let rules = Rules { compacted: flip % 2 == 0, ..Rules::default() };
                let at_once = check(&batch, &rules);
                let mut scratch = Scratch::default();
                let mut validator = Validator::new(batch, rules, NOW).unwrap();
                let in_steps = loop {
                    if let Poll::Ready(result) = validator.step(&mut scratch, budget) {
                        break result;
                    }
                };
                // A broken record may be found at another of its fields.
                match (&at_once, &in_steps) {
                    (
                        Err(RecordError::Malformed { index: a, .. }),
                        Err(RecordError::Malformed { index: b, .. }),
                    ) => prop_assert_eq!(a, b),
                    (
                        Err(RecordError::Malformed { .. }),
                        Err(RecordError::TooFewRecords { .. }),
                    ) => {}
                    _ => prop_assert_eq!(at_once, in_steps),
                }
            }
        }

        #[test]
        fn any_damaged_byte_is_found_or_outside_the_crc(
            records in prop::collection::vec(record(NOW), 1..4),
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
        ) {
            for codec in Compression::ALL {
                let batch = build(Builder::new().compression(codec, None), &records);
                let mut damaged = batch.bytes().to_vec();
                let at = at.index(damaged.len());
                damaged[at] ^= flip;
                let result = Batch::parse(&damaged.into())
                    .and_then(|batch| check(&batch, &Rules::default()));
                let harmless = (position::PARTITION_LEADER_EPOCH..position::MAGIC).contains(&at);
                prop_assert_eq!(result.is_ok(), harmless, "byte {}", at);
            }
        }

        #[test]
        fn damage_with_a_right_crc_never_panics(
            records in prop::collection::vec(record(NOW), 1..5),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let rules = Rules { max_inflated_bytes: 1 << 20, ..Rules::default() };
            for codec in Compression::ALL {
                let mut batch = build(Builder::new().compression(codec, None), &records);
                for (at, byte) in &damage {
                    let checked = batch.size_in_bytes() - position::ATTRIBUTES;
                    batch = altered(&batch, position::ATTRIBUTES + at.index(checked), &[*byte]);
                }
                if let Ok(validated) = check(&batch, &rules) {
                    // What is taken can be read, and is what was counted.
                    let read = crate::record::read::records(&batch, 1 << 20).unwrap();
                    let read: Result<Vec<_>, _> = read.collect();
                    prop_assert_eq!(read.unwrap().len(), validated.record_count as usize);
                }
            }
        }

        #[test]
        fn arbitrary_payloads_never_panic(payload in prop::collection::vec(any::<u8>(), 0..400)) {
            for codec in Compression::ALL {
                let _ = check(&with_payload(&three(codec), &payload), &Rules::default());
                let packed = compress(codec, None, &payload);
                let _ = check(&with_payload(&three(codec), &packed), &Rules::default());
            }
        }
    }
}
