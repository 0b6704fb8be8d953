//! The value types that Kafka's messages are made of and that Rust has no ready type for.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::{FromStr, Utf8Error};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

/// A floating-point number. It is equal to itself also when it is none (NaN).
#[derive(Clone, Copy, Default)]
pub struct Double(pub f64);

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An immutable UTF-8 string that shares its bytes with the frame it came from.
///
/// A clone copies no text, but it keeps the whole frame alive: what is stored for longer than a
/// request takes should be [`detached`](StrBytes::detached) first.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StrBytes(ByteString);

impl StrBytes {
    /// A string over text that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// The text as a string slice.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A copy with memory of its own, which keeps no frame alive.
    pub fn detached(&self) -> Self {
        Self::from(self.as_str().to_owned())
    }
}

impl Deref for StrBytes {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

// `ByteString` hashes and compares as `str` does, which `Borrow` asks for.
impl Borrow<str> for StrBytes {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for StrBytes {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<&'static str> for StrBytes {
    fn from(text: &'static str) -> Self {
        Self::from_static(text)
    }
}

impl From<String> for StrBytes {
    fn from(text: String) -> Self {
        Self(ByteString::from(text))
    }
}

impl TryFrom<Bytes> for StrBytes {
    type Error = Utf8Error;

    #[inline]
    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        ByteString::try_from(bytes).map(Self)
    }
}

impl PartialEq<str> for StrBytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for StrBytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for StrBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for StrBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// A topic id or directory id: 16 bytes, printed as Kafka prints them (URL-safe base64 without
/// padding, 22 characters). KIP-516.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The id that stands for "none".
    pub const ZERO: Self = Self([0; 16]);

    /// A new random id (RFC 9562, version 4). Its text does not begin with a dash, so that command
    /// lines take it for a value.
    pub fn random() -> Result<Self, getrandom::Error> {
        loop {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes)?;
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let id = Self(bytes);
            if !id.to_string().starts_with('-') {
                return Ok(id);
            }
        }
    }

    /// Characters of the printed form: 128 bits in groups of 6.
    const PRINTED_LEN: usize = 22;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    /// Whether this is the id that stands for "none".
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let bits = u128::from_be_bytes(self.0);
        for i in 0..Self::PRINTED_LEN {
            // The last group has two bits of the id only, followed by four zeros.
            let group = match 122_usize.checked_sub(6 * i) {
                Some(shift) => bits >> shift,
                None => bits << 4,
            };
            f.write_char(char::from(Self::ALPHABET[(group & 63) as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a [`Uuid`]'s printed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a 22 character URL-safe base64 id")]
pub struct ParseUuidError;

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        if text.len() != Self::PRINTED_LEN {
            return Err(ParseUuidError);
        }
        let mut bits = 0_u128;
        for (i, &c) in text.as_bytes().iter().enumerate() {
            let value = Self::ALPHABET
                .iter()
                .position(|&a| a == c)
                .ok_or(ParseUuidError)? as u128;
            bits = if i + 1 < Self::PRINTED_LEN {
                bits << 6 | value
            } else if value & 0xf == 0 {
                bits << 2 | value >> 4
            } else {
                return Err(ParseUuidError);
            };
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

/// Record batches as opaque bytes: a rope of pieces that are sent one after the other.
///
/// Decoding gives one piece, a slice of the frame. A response may be put together from many pieces
/// without copying them.
#[derive(Clone)]
pub struct Records(Rope);

// One piece is the common case, and it must not cost a Vec.
#[derive(Clone)]
enum Rope {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Records {
    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte in any piece.
    pub fn is_empty(&self) -> bool {
        self.pieces().iter().all(Bytes::is_empty)
    }

    /// The pieces, in order.
    #[inline]
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Rope::One(piece) => std::slice::from_ref(piece),
            Rope::Many(pieces) => pieces,
        }
    }

    /// All bytes as one piece; copies only if there is more than one.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Rope::One(piece) => piece,
            Rope::Many(mut pieces) if pieces.len() == 1 => pieces.swap_remove(0),
            Rope::Many(pieces) => {
                let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                pieces.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self(Rope::One(Bytes::new()))
    }
}

impl From<Bytes> for Records {
    #[inline]
    fn from(piece: Bytes) -> Self {
        Self(Rope::One(piece))
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self(Rope::Many(pieces))
    }
}

/// Two ropes are equal when their bytes are, however they are cut.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .pieces()
                .iter()
                .flatten()
                .eq(other.pieces().iter().flatten())
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Records({} bytes in {} pieces)",
            self.len(),
            self.pieces().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_print_as_kafka_prints_them() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        let mut one = [0; 16];
        one[15] = 1;
        assert_eq!(Uuid(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
        let id = Uuid(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "MDEyMzQ1Njc4OWFiY2RlZg");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn text_that_is_no_uuid_is_refused() {
        for text in [
            "",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAA=",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }

    #[test]
    fn records_compare_by_content_and_join() {
        let one = Records::from(Bytes::from_static(b"abc"));
        let many = Records::from(vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")]);
        assert_eq!(one, many);
        assert_ne!(one, Records::default());
        assert_eq!(many.into_bytes(), "abc");
        assert!(Records::from(vec![]).is_empty());
    }

    #[test]
    fn a_detached_string_has_memory_of_its_own() {
        let text = StrBytes::try_from(Bytes::from(vec![b'x'; 10])).unwrap();
        assert_ne!(text.as_ptr(), text.detached().as_ptr());
        assert_eq!(text, text.detached());
    }
}
