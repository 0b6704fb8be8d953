//! Records whose parts stay bytes of their payload, to be taken apart and put together again.

use super::error::Malformed;
use super::varint::{Cursor, put_varint, put_varlong, varlong_len};
use super::walk::next_record;

/// A record between two forms of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// As they stand behind their count.
    pub headers: &'a [u8],
    pub header_count: i32,
}

/// A number from which on an encoding may have bits that decoding drops.
const LONG_NUMBER: usize = 1 << 26;

impl<'a> RawRecord<'a> {
    /// Takes the record at the front of `payload`. `None` if it is written in another way than
    /// [`RawRecord::put`] would, though it can be read.
    ///
    /// # Errors
    /// [`Malformed`], for all but what is wrong inside of the headers.
    pub fn take(payload: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let raw = next_record(&mut cursor)?;
        let taken = payload.len() - cursor.rest.len();
        let record = RawRecord {
            timestamp_delta: raw.head.timestamp_delta,
            offset_delta: raw.head.offset_delta,
            key: raw.key,
            value: raw.value,
            headers: raw.headers_bytes(),
            header_count: raw.header_count as i32,
        };
        let body = record.body_len();
        let attributes_at = varlong_len(body as i64);
        let canonical = taken == attributes_at + body
            && payload.get(attributes_at) == Some(&0)
            && taken < LONG_NUMBER
            && record.offset_delta.unsigned_abs() < LONG_NUMBER as u32
            && record.timestamp_delta.unsigned_abs() < 1 << 61;
        *payload = cursor.rest;
        Ok(canonical.then_some(record))
    }

    fn body_len(&self) -> usize {
        let nullable = |bytes: Option<&[u8]>| match bytes {
            None => 1,
            Some(bytes) => varlong_len(bytes.len() as i64) + bytes.len(),
        };
        1 + varlong_len(self.timestamp_delta)
            + varlong_len(i64::from(self.offset_delta))
            + nullable(self.key)
            + nullable(self.value)
            + varlong_len(i64::from(self.header_count))
            + self.headers.len()
    }

    /// Appends the record as it stands in a payload.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.body_len() as i32);
        out.push(0);
        put_varlong(out, self.timestamp_delta);
        put_varint(out, self.offset_delta);
        for part in [self.key, self.value] {
            match part {
                None => put_varint(out, -1),
                Some(bytes) => {
                    put_varint(out, bytes.len() as i32);
                    out.extend_from_slice(bytes);
                }
            }
        }
        put_varint(out, self.header_count);
        out.extend_from_slice(self.headers);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::builder::Builder;
    use crate::record::testing::{build, record};

    proptest! {
        #[test]
        fn what_is_taken_apart_is_put_together_again(records in prop::collection::vec(record(0), 1..9)) {
            let batch = build(Builder::new(), &records);
            let mut rest = batch.records();
            let mut again = Vec::new();
            while !rest.is_empty() {
                RawRecord::take(&mut rest).unwrap().unwrap().put(&mut again);
            }
            prop_assert_eq!(batch.records(), &again[..]);
        }
    }

    #[test]
    fn another_way_to_write_a_record_is_noticed() {
        // Length, attributes, timestamp, offset, key, value, headers.
        let plain = [12, 0, 0, 0, 1, 1, 0];
        let long_offset = [14, 0, 0, 0x80, 0, 1, 1, 0];
        let attributes = [12, 1, 0, 0, 1, 1, 0];
        assert!(RawRecord::take(&mut &plain[..]).unwrap().is_some());
        assert!(RawRecord::take(&mut &long_offset[..]).unwrap().is_none());
        assert!(RawRecord::take(&mut &attributes[..]).unwrap().is_none());
        assert!(RawRecord::take(&mut &plain[..4]).is_err());
    }
}
