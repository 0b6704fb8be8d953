//! The records of a payload, one after another: from a slice that holds a record whole, or from pieces
//! that cut records anywhere.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint |
//! key length varint, key | value length varint, value |
//! header count varint, { key length varint, key, value length varint, value }
//! ```

use super::error::{Malformed, RecordError};
use super::varint::{Cursor, Partial, ShortNumbers, zigzag32};

/// A record whose parts are still bytes of the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    pub(super) head: RecordHead,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) header_count: usize,
    headers: Cursor<'a>,
}

/// What a broker looks at in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Reads the record at the front of `cursor`, up to its headers, and goes past it.
#[inline(always)]
pub(super) fn next_record<'a>(cursor: &mut Cursor<'a>) -> Result<RawRecord<'a>, Malformed> {
    let length = body_length(cursor.varint()?)?;
    let mut body = Cursor::new(cursor.take(length)?);
    // Kafka has no record attributes in v2 and reads past the byte.
    body.u8()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let key = body.nullable_bytes()?;
    let value = body.nullable_bytes()?;
    let header_count = header_count(body.varint()?, body.rest.len())?;
    Ok(RawRecord {
        head: RecordHead {
            timestamp_delta,
            offset_delta,
            has_key: key.is_some(),
        },
        key,
        value,
        header_count,
        headers: body,
    })
}

/// A header's key and value.
pub(super) type RawHeader<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a> RawRecord<'a> {
    /// The headers as they stand behind their count.
    pub(super) fn headers_bytes(&self) -> &'a [u8] {
        self.headers.rest
    }

    /// Gives each header to `each`, and checks that the record ends with the last.
    #[inline(always)]
    pub(super) fn headers(mut self, mut each: impl FnMut(RawHeader<'a>)) -> Result<(), Malformed> {
        for _ in 0..self.header_count {
            let key = self
                .headers
                .nullable_bytes()?
                .ok_or(Malformed::NullHeaderKey)?;
            each((key, self.headers.nullable_bytes()?));
        }
        match self.headers.rest.len() {
            0 => Ok(()),
            _ => Err(Malformed::Surplus),
        }
    }
}

fn body_length(length: i32) -> Result<usize, Malformed> {
    usize::try_from(length).map_err(|_| Malformed::Length(length))
}

/// A header takes two bytes at least, so no honest count is larger than what remains.
fn header_count(count: i32, remaining: usize) -> Result<usize, Malformed> {
    usize::try_from(count)
        .ok()
        .filter(|&count| count <= remaining)
        .ok_or(Malformed::HeaderCount(count))
}

/// The head of the record at the front of `bytes`, checked to its end, and what follows it.
#[inline(always)]
fn whole_head(bytes: &[u8]) -> Result<(RecordHead, &[u8]), Malformed> {
    if let Some(found) = common_head(bytes) {
        return Ok(found);
    }
    let mut cursor = Cursor::new(bytes);
    let record = next_record(&mut cursor)?;
    record.headers(|_| {})?;
    Ok((record.head, cursor.rest))
}

/// As [`whole_head`] for what most records are: short numbers and no headers, with more bytes behind.
/// `None` says nothing about the record. Takes two thirds of the time: 9 ns instead of 13.
#[inline(always)]
fn common_head(bytes: &[u8]) -> Option<(RecordHead, &[u8])> {
    let mut front = ShortNumbers::new(bytes)?;
    let end = length(front.number()?)?;
    let end = front.at() + end;
    front.skip_byte();
    let timestamp_delta = i64::from(zigzag32(front.number()?));
    let offset_delta = zigzag32(front.number()?);
    let key = front.number()?;
    let has_key = key != NULL_LENGTH;
    let value_at = front.at() + if has_key { length(key)? } else { 0 };
    let mut rest = Cursor::new(bytes.get(value_at..end)?);
    rest.nullable_bytes().ok()?;
    if rest.rest != [0] {
        return None;
    }
    let head = RecordHead {
        timestamp_delta,
        offset_delta,
        has_key,
    };
    Some((head, &bytes[end..]))
}

/// -1, as it is written.
const NULL_LENGTH: u32 = 1;

/// A length from its zigzag form, unless it is negative.
#[inline(always)]
fn length(raw: u32) -> Option<usize> {
    (raw & 1 == 0).then_some((raw >> 1) as usize)
}

/// Takes a payload in pieces and gives the head of each record to a visitor. Needs no memory beyond
/// itself, however long a record is.
#[derive(Debug)]
pub(super) struct Walker {
    /// Records that the batch's header promises.
    expected: i32,
    /// Records seen whole.
    seen: i32,
    /// The record that the last piece ended in.
    open: Option<OpenRecord>,
}

/// A record of which some bytes are still to come.
#[derive(Clone, Copy, Debug)]
struct OpenRecord {
    field: Field,
    varint: Partial,
    /// Bytes of the body that are not yet read.
    body_left: usize,
    /// Bytes of a key or value that are not yet skipped.
    skip: usize,
    headers_left: usize,
    head: RecordHead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Length,
    Attributes,
    TimestampDelta,
    OffsetDelta,
    KeyLength,
    ValueLength,
    HeaderCount,
    HeaderKeyLength,
    HeaderValueLength,
}

impl Walker {
    pub(super) fn new(expected: i32) -> Self {
        Self {
            expected,
            seen: 0,
            open: None,
        }
    }

    /// Goes through the next piece. `visit` gets each record's index and head.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], [`RecordError::TooManyRecords`].
    pub(super) fn feed(
        &mut self,
        piece: &[u8],
        mut visit: impl FnMut(i32, RecordHead),
    ) -> Result<(), RecordError> {
        let mut cursor = Cursor::new(piece);
        while !cursor.rest.is_empty() {
            if self.seen == self.expected {
                return Err(RecordError::TooManyRecords {
                    count: self.expected,
                });
            }
            let whole = match self.open {
                None => whole_head(cursor.rest),
                Some(_) => Err(Malformed::Truncated),
            };
            let head = match whole {
                Ok((head, rest)) => {
                    cursor.rest = rest;
                    head
                }
                // The record may only be cut off here. If it is broken, that is found out as well.
                Err(Malformed::Truncated) => {
                    let mut at = cursor;
                    let head = self.go_on(&mut at).map_err(|fault| self.fault(fault))?;
                    cursor = at;
                    match head {
                        Some(head) => head,
                        None => return Ok(()),
                    }
                }
                Err(fault) => return Err(self.fault(fault)),
            };
            visit(self.seen, head);
            self.seen += 1;
        }
        Ok(())
    }

    fn fault(&self, fault: Malformed) -> RecordError {
        RecordError::Malformed {
            index: self.seen,
            fault,
        }
    }

    /// Checks that the payload ended after the last record.
    ///
    /// # Errors
    /// [`RecordError::TooFewRecords`].
    pub(super) fn finish(&self) -> Result<(), RecordError> {
        if self.seen < self.expected {
            return Err(RecordError::TooFewRecords {
                count: self.expected,
                found: self.seen,
            });
        }
        Ok(())
    }

    /// Reads on in a record that no piece holds whole.
    #[cold]
    fn go_on(&mut self, cursor: &mut Cursor) -> Result<Option<RecordHead>, Malformed> {
        let mut record = self.open.take().unwrap_or_default();
        while !cursor.rest.is_empty() {
            if let Some(head) = record.read(cursor)? {
                return Ok(Some(head));
            }
        }
        self.open = Some(record);
        Ok(None)
    }
}

impl Default for OpenRecord {
    fn default() -> Self {
        Self {
            field: Field::Length,
            varint: Partial::default(),
            body_left: 0,
            skip: 0,
            headers_left: 0,
            head: RecordHead::default(),
        }
    }
}

impl OpenRecord {
    /// Reads one byte, or skips many. The head, once the record is whole.
    fn read(&mut self, cursor: &mut Cursor) -> Result<Option<RecordHead>, Malformed> {
        if self.skip > 0 {
            let part = self.skip.min(cursor.rest.len());
            cursor.take(part)?;
            self.skip -= part;
        } else if self.field == Field::Length {
            let Some(length) = self.varint.push_varint(cursor.u8()?)? else {
                return Ok(None);
            };
            self.body_left = body_length(length)?;
            self.field = Field::Attributes;
        } else {
            self.body_left -= 1;
            self.field(cursor.u8()?)?;
        }
        self.state()
    }

    /// The head if the record ends here, which it must exactly when its body does.
    fn state(&self) -> Result<Option<RecordHead>, Malformed> {
        let complete = self.field == Field::HeaderKeyLength && self.headers_left == 0;
        match (self.skip, complete, self.body_left) {
            (0, true, 0) => Ok(Some(self.head)),
            (0, true, _) => Err(Malformed::Surplus),
            (0, false, 0) => Err(Malformed::Truncated),
            _ => Ok(None),
        }
    }

    /// Takes one byte of a field, and goes to the next field after the last.
    fn field(&mut self, byte: u8) -> Result<(), Malformed> {
        match self.field {
            Field::Length | Field::Attributes => self.field = Field::TimestampDelta,
            Field::TimestampDelta => {
                if let Some(delta) = self.varint.push_varlong(byte)? {
                    self.head.timestamp_delta = delta;
                    self.field = Field::OffsetDelta;
                }
            }
            _ => {
                if let Some(number) = self.varint.push_varint(byte)? {
                    self.number(number)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the number of a field that is one.
    fn number(&mut self, number: i32) -> Result<(), Malformed> {
        self.field = match self.field {
            Field::OffsetDelta => {
                self.head.offset_delta = number;
                Field::KeyLength
            }
            Field::KeyLength => {
                self.head.has_key = self.skip_nullable(number)?;
                Field::ValueLength
            }
            Field::ValueLength => {
                self.skip_nullable(number)?;
                Field::HeaderCount
            }
            Field::HeaderCount => {
                self.headers_left = header_count(number, self.body_left)?;
                Field::HeaderKeyLength
            }
            Field::HeaderKeyLength => {
                if !self.skip_nullable(number)? {
                    return Err(Malformed::NullHeaderKey);
                }
                Field::HeaderValueLength
            }
            _ => {
                self.skip_nullable(number)?;
                self.headers_left -= 1;
                Field::HeaderKeyLength
            }
        };
        Ok(())
    }

    /// Will skip the bytes behind a length; whether they are not null.
    fn skip_nullable(&mut self, length: i32) -> Result<bool, Malformed> {
        if length == -1 {
            return Ok(false);
        }
        let length = body_length(length)?;
        self.body_left = self
            .body_left
            .checked_sub(length)
            .ok_or(Malformed::Truncated)?;
        self.skip = length;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::builder::Builder;
    use crate::record::testing::{build, record};

    /// Walks `payload` in pieces that end at `cuts`.
    fn walk(payload: &[u8], count: i32, cuts: &[usize]) -> Result<Vec<RecordHead>, RecordError> {
        let mut walker = Walker::new(count);
        let mut heads = Vec::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
        cuts.push(payload.len());
        cuts.sort_unstable();
        let mut from = 0;
        for to in cuts {
            walker.feed(&payload[from..to], |index, head| {
                assert_eq!(index as usize, heads.len());
                heads.push(head);
            })?;
            from = to;
        }
        walker.finish()?;
        Ok(heads)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_give_what_the_whole_gives(
            records in prop::collection::vec(record(1_000_000), 1..20),
            cuts in prop::collection::vec(any::<usize>(), 0..30),
            at in any::<prop::sample::Index>(),
            flip in any::<u8>(),
        ) {
            let batch = build(Builder::new(), &records);
            let mut payload = batch.records().to_vec();
            let count = batch.record_count();
            prop_assert_eq!(walk(&payload, count, &[]).unwrap().len(), records.len());
            let at = at.index(payload.len().min(100));
            payload[at] ^= flip;
            let every_byte: Vec<usize> = (0..payload.len().min(2_000)).collect();
            let whole = walk(&payload, count, &[]);
            for cuts in [&cuts, &every_byte] {
                let pieces = walk(&payload, count, cuts);
                match (&whole, &pieces) {
                    (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
                    (Err(_), Err(_)) => {}
                    _ => prop_assert!(false, "whole {whole:?}, in pieces {pieces:?}"),
                }
            }
        }

        #[test]
        fn arbitrary_bytes_give_the_same_in_any_pieces(
            payload in prop::collection::vec(prop_oneof![0..24_u8, any::<u8>()], 0..60),
            cuts in prop::collection::vec(any::<usize>(), 0..10),
            count in 1..6_i32,
        ) {
            let whole = walk(&payload, count, &[]);
            let pieces = walk(&payload, count, &cuts);
            let each_byte = walk(&payload, count, &(0..60).collect::<Vec<_>>());
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
            prop_assert_eq!(pieces.ok(), each_byte.ok());
        }
    }

    #[test]
    fn records_that_make_no_sense_are_named() {
        // Length, attributes, timestamp, offset, key length, value length, header count.
        let fault = |bytes: &[u8]| {
            let faults = [&[][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]].map(|cuts| {
                match walk(bytes, 1, cuts) {
                    Err(RecordError::Malformed { index: 0, fault }) => fault,
                    other => panic!("{other:?}"),
                }
            });
            assert_eq!(faults[0], faults[1]);
            faults[0]
        };
        assert_eq!(walk(&[12, 0, 0, 0, 1, 1, 0], 1, &[]).unwrap().len(), 1);
        assert_eq!(fault(&[14, 0, 0, 0, 1, 1, 0, 0]), Malformed::Surplus);
        assert_eq!(fault(&[10, 0, 0, 0, 1, 1]), Malformed::Truncated);
        assert_eq!(fault(&[0, 0, 0]), Malformed::Truncated);
        assert_eq!(fault(&[1, 0, 0]), Malformed::Length(-1));
        assert_eq!(fault(&[12, 0, 0, 0, 3, 1, 0]), Malformed::Length(-2));
        assert_eq!(fault(&[12, 0, 0, 0, 1, 3, 0]), Malformed::Length(-2));
        assert_eq!(fault(&[12, 0, 0, 0, 8, 1, 0]), Malformed::Truncated);
        assert_eq!(fault(&[12, 0, 0, 0, 1, 1, 1]), Malformed::HeaderCount(-1));
        assert_eq!(
            fault(&[16, 0, 0, 0, 1, 1, 6, 0, 1]),
            Malformed::HeaderCount(3)
        );
        assert_eq!(
            fault(&[16, 0, 0, 0, 1, 1, 2, 1, 1]),
            Malformed::NullHeaderKey
        );
        assert_eq!(fault(&[16, 0, 0, 0, 1, 1, 2, 0, 3]), Malformed::Length(-2));
        assert_eq!(
            fault(&[
                20, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80
            ]),
            Malformed::Truncated
        );
    }

    #[test]
    fn the_count_must_be_that_of_the_records() {
        let record = [12, 0, 0, 0, 1, 1, 0];
        let two = [record, record].concat();
        assert_eq!(
            walk(&two, 1, &[]),
            Err(RecordError::TooManyRecords { count: 1 })
        );
        assert_eq!(
            walk(&two, 3, &[]),
            Err(RecordError::TooFewRecords { count: 3, found: 2 })
        );
        assert_eq!(
            walk(&two[..13], 2, &[]),
            Err(RecordError::TooFewRecords { count: 2, found: 1 })
        );
    }
}
