//! Zigzag varints of the record format, and a cursor that reads them from a slice.
//!
//! As Kafka reads them: an `i32` takes five bytes at most and an `i64` ten, encodings longer than
//! needed are taken, and bits beyond the type's width are dropped.

use bytes::BufMut;

use super::error::Malformed;

const MAX_VARINT_LEN: usize = 5;
const MAX_VARLONG_LEN: usize = 10;

/// Appends `value`.
pub(super) fn put_varint(out: &mut impl BufMut, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends `value`.
pub(super) fn put_varlong(out: &mut impl BufMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Bytes that `value` takes.
pub(super) fn varlong_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn zigzag32(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

fn zigzag64(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// A varint that arrives byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Partial {
    raw: u64,
    bytes: usize,
}

impl Partial {
    fn push(&mut self, byte: u8, max_len: usize) -> Result<Option<u64>, Malformed> {
        self.raw |= u64::from(byte & 0x7F) << (7 * self.bytes);
        self.bytes += 1;
        if byte < 0x80 {
            let raw = self.raw;
            *self = Self::default();
            return Ok(Some(raw));
        }
        if self.bytes == max_len {
            return Err(Malformed::Varint);
        }
        Ok(None)
    }

    /// Adds the next byte; the number once it is whole.
    pub(super) fn push_varint(&mut self, byte: u8) -> Result<Option<i32>, Malformed> {
        let raw = self.push(byte, MAX_VARINT_LEN)?;
        Ok(raw.map(|raw| zigzag32(raw as u32)))
    }

    /// Adds the next byte; the number once it is whole.
    pub(super) fn push_varlong(&mut self, byte: u8) -> Result<Option<i64>, Malformed> {
        Ok(self.push(byte, MAX_VARLONG_LEN)?.map(zigzag64))
    }
}

/// A number of up to `max_len` bytes, before zigzag, and what follows it.
#[inline(never)]
fn long_number(bytes: &[u8], max_len: usize) -> Result<(u64, &[u8]), Malformed> {
    let mut raw = 0;
    for (at, &byte) in bytes.iter().take(max_len).enumerate() {
        raw |= u64::from(byte & 0x7F) << (7 * at);
        if byte < 0x80 {
            return Ok((raw, &bytes[at + 1..]));
        }
    }
    match bytes.len() < max_len {
        true => Err(Malformed::Truncated),
        false => Err(Malformed::Varint),
    }
}

/// Numbers of one to three bytes at the front of a slice, four at most. Reads a window of fixed size,
/// which spares the check of each byte's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortNumbers<'a> {
    window: &'a [u8; WINDOW],
    at: usize,
}

/// A power of two above what four numbers and a byte may take, so that a mask can bound the place.
const WINDOW: usize = 16;

impl<'a> ShortNumbers<'a> {
    /// `None` if fewer bytes are left than the window has.
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let window = bytes.first_chunk()?;
        Some(Self { window, at: 0 })
    }

    /// Bytes read so far.
    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline(always)]
    pub(super) fn skip_byte(&mut self) {
        self.at += 1;
    }

    /// The next number before zigzag, or `None` if it is longer.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Option<u32> {
        let mut number = 0;
        for shift in [0, 7, 14] {
            let byte = u32::from(self.window[self.at % WINDOW]);
            self.at += 1;
            number |= (byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// Reads the fields of a record from the bytes that remain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline(always)]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    // The slow ways take and give slices, not the cursor: its address would keep it out of registers.

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<i32, Malformed> {
        match self.rest {
            [a @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(zigzag32(u32::from(*a)))
            }
            [a, b @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(zigzag32(u32::from(*a & 0x7F) | u32::from(*b) << 7))
            }
            bytes => {
                let (raw, rest) = long_number(bytes, MAX_VARINT_LEN)?;
                self.rest = rest;
                Ok(zigzag32(raw as u32))
            }
        }
    }

    #[inline(always)]
    pub(super) fn varlong(&mut self) -> Result<i64, Malformed> {
        match self.rest {
            [a @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(zigzag64(u64::from(*a)))
            }
            [a, b @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(zigzag64(u64::from(*a & 0x7F) | u64::from(*b) << 7))
            }
            bytes => {
                let (raw, rest) = long_number(bytes, MAX_VARLONG_LEN)?;
                self.rest = rest;
                Ok(zigzag64(raw))
            }
        }
    }

    /// The next `length` bytes.
    #[inline(always)]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind their length; a length of -1 is null.
    #[inline(always)]
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed::Length(length))?;
                self.take(length).map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn longer_encodings_than_needed_are_taken_and_too_long_ones_are_not() {
        let varint = |bytes: &[u8]| Cursor::new(bytes).varint();
        assert_eq!(varint(&[0x82, 0x80, 0x80, 0x80, 0x00]), Ok(1));
        // Bits beyond 32 are dropped.
        assert_eq!(varint(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), Ok(i32::MIN));
        assert_eq!(varint(&[0x80; 6]), Err(Malformed::Varint));
        assert_eq!(varint(&[0x80, 0x80]), Err(Malformed::Truncated));
        let varlong = |bytes: &[u8]| Cursor::new(bytes).varlong();
        let mut nine = vec![0xFF; 9];
        nine.push(0x7F);
        assert_eq!(varlong(&nine), Ok(i64::MIN));
        assert_eq!(varlong(&[0x80; 11]), Err(Malformed::Varint));
        assert_eq!(varlong(&[]), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(long in any::<i64>(), shift in 0..64_u32) {
            let long = long >> shift;
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, long);
            prop_assert_eq!(bytes.len(), varlong_len(long));
            prop_assert_eq!(Cursor::new(&bytes).varlong(), Ok(long));
            let int = long as i32;
            bytes.clear();
            put_varint(&mut bytes, int);
            prop_assert_eq!(bytes.len(), varlong_len(i64::from(int)));
            prop_assert_eq!(Cursor::new(&bytes).varint(), Ok(int));
        }

        #[test]
        fn whole_and_byte_by_byte_agree(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut partial = Partial::default();
            let mut pushed = Err(Malformed::Truncated);
            for &byte in &bytes {
                match partial.push_varint(byte) {
                    Ok(None) => continue,
                    Ok(Some(number)) => pushed = Ok(number),
                    Err(fault) => pushed = Err(fault),
                }
                break;
            }
            prop_assert_eq!(Cursor::new(&bytes).varint(), pushed);
        }
    }
}
