//! Primitives: how Kafka writes numbers, strings, arrays and tagged fields.
//!
//! [`Reader`] believes nothing: every length is checked against the bytes that remain, nothing is
//! reserved by a count that a peer named, and the memory that decoded arrays take has a budget.
//! [`Writer`] copies small values into one buffer and keeps references to large record batches.
//!
//! Messages come in two encodings. Flexible versions (KIP-482) write lengths as varints and end
//! each structure with a section of tagged fields; classic ones use fixed-width lengths.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};

use super::ErrorCode;
use super::types::{Double, Records, StrBytes, Uuid};

/// A message that can be read and written in each of its versions.
pub trait Message: Sized {
    /// Reads the message. Does not look for bytes behind it: see [`Reader::finish`].
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message. Fields that `version` does not have are left out.
    fn encode(&self, w: &mut Writer, version: i16);
}

/// Why bytes are not the message they should be, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {} at byte {}", .0.field, .0.fault, .0.offset)]
pub struct DecodeError(Box<Detail>);

// Boxed, so that the results of the primitives stay small on the way without errors.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Detail {
    fault: Fault,
    field: &'static str,
    offset: usize,
}

/// What is wrong with the bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{needed} bytes needed, {left} left")]
    TooShort { needed: usize, left: usize },
    #[error("length {0} is negative")]
    NegativeLength(i32),
    #[error("null where a value is required")]
    Null,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("varint longer than 32 bits")]
    VarintTooLong,
    #[error("array of {count} elements in {left} bytes")]
    ArrayTooLong { count: usize, left: usize },
    #[error("arrays take more than {budget} bytes of memory")]
    OverBudget { budget: usize },
    #[error("tagged field {tag} leaves {left} of its bytes unread")]
    TagSize { tag: u32, left: usize },
    #[error("{0} bytes behind the end")]
    Trailing(usize),
    #[error("version {0} is not supported")]
    Version(i16),
}

impl DecodeError {
    #[cold]
    fn new(fault: Fault, offset: usize) -> Self {
        Self(Box::new(Detail {
            fault,
            field: "message",
            offset,
        }))
    }

    /// Names the field that was being read; the innermost name stays.
    #[cold]
    pub(super) fn within(mut self, field: &'static str) -> Self {
        if self.0.field == "message" {
            // The path of the module up to here is the same for all.
            self.0.field = field.split_once("wire::").map_or(field, |(_, rest)| rest);
        }
        self
    }

    /// What is wrong.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// The field that was being read, as `module::Struct.field`.
    pub fn field(&self) -> &'static str {
        self.0.field
    }

    /// Bytes read of the frame, from behind its length prefix, when the fault was found.
    pub fn offset(&self) -> usize {
        self.0.offset
    }
}

/// A message's version, and what it means for the encoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) number: i16,
    pub(super) flexible: bool,
}

impl Version {
    #[inline]
    pub(super) fn new(number: i16, first_flexible: i16) -> Self {
        Self {
            number,
            flexible: number >= first_flexible,
        }
    }

    pub(super) fn checked(
        r: &Reader,
        number: i16,
        valid: RangeInclusive<i16>,
        first_flexible: i16,
    ) -> Result<Self, DecodeError> {
        if valid.contains(&number) {
            Ok(Self::new(number, first_flexible))
        } else {
            Err(r.error(Fault::Version(number)))
        }
    }
}

/// Reads a frame from front to back. Strings and bytes come out as slices of the frame.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    // Where reading has to stop: the frame's end, or that of the tagged field being read.
    end: usize,
    budget: usize,
    budget_left: usize,
}

impl Reader {
    /// Memory in bytes that the arrays of one message may take when nothing else is said. Some
    /// hundred thousand partitions fit; a frame of tiny elements cannot grow to many times its size.
    pub const DEFAULT_BUDGET: usize = 64 << 20;

    /// Elements that an array reserves room for before it has read them.
    const INITIAL_ELEMENTS: usize = 16;

    /// Reads `frame`, which is without its length prefix.
    pub fn new(frame: Bytes) -> Self {
        Self::with_budget(frame, Self::DEFAULT_BUDGET)
    }

    /// As [`Reader::new`], where decoded arrays may take `budget` bytes of memory. (A `Vec` may
    /// hold up to twice of what its elements need while it grows.)
    pub fn with_budget(frame: Bytes, budget: usize) -> Self {
        let end = frame.len();
        Self {
            frame,
            at: 0,
            end,
            budget,
            budget_left: budget,
        }
    }

    /// Bytes that have not been read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Ends reading; bytes that are left are an error.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(Fault::Trailing(left))),
        }
    }

    #[cold]
    fn error(&self, fault: Fault) -> DecodeError {
        DecodeError::new(fault, self.at)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self
            .frame
            .get(self.at..self.end)
            .and_then(|rest| rest.first_chunk::<N>())
        {
            Some(chunk) => {
                let chunk = *chunk;
                self.at += N;
                Ok(chunk)
            }
            None => Err(self.error(Fault::TooShort {
                needed: N,
                left: self.remaining(),
            })),
        }
    }

    #[inline]
    fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let left = self.remaining();
        if len > left {
            return Err(self.error(Fault::TooShort { needed: len, left }));
        }
        let start = self.at;
        self.at += len;
        Ok(self.frame.slice(start..self.at))
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    /// A big-endian 16-bit integer.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    /// A big-endian 32-bit integer.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A big-endian 64-bit integer.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// An unsigned 32-bit varint: seven bits a byte, the lowest first, at most five bytes.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        match self.array()? {
            [byte @ ..0x80] => Ok(byte.into()),
            [byte] => self.long_uvarint(u32::from(byte & 0x7f)),
        }
    }

    /// A varint of two bytes or more, of which the first said `value`.
    fn long_uvarint(&mut self, mut value: u32) -> Result<u32, DecodeError> {
        for shift in [7, 14, 21, 28] {
            let [byte] = self.array()?;
            // The fifth byte has room for four bits, and none for saying that more follow.
            if shift == 28 && byte > 0xf {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error(Fault::VarintTooLong))
    }

    /// A string of the classic encoding, in any version: the client id of a header is one.
    pub(super) fn nullable_classic_string(&mut self) -> Result<Option<StrBytes>, DecodeError> {
        let len = self.i16()?;
        let len = self.length(len.into())?;
        self.string(len)
    }

    #[inline]
    fn string(&mut self, len: Option<usize>) -> Result<Option<StrBytes>, DecodeError> {
        let Some(len) = len else { return Ok(None) };
        match StrBytes::try_from(self.slice(len)?) {
            Ok(string) => Ok(Some(string)),
            Err(_) => Err(self.error(Fault::NotUtf8)),
        }
    }

    #[inline]
    fn length(&self, len: i32) -> Result<Option<usize>, DecodeError> {
        match len {
            -1 => Ok(None),
            _ => match usize::try_from(len) {
                Ok(len) => Ok(Some(len)),
                Err(_) => Err(self.error(Fault::NegativeLength(len))),
            },
        }
    }

    // Compact lengths are one more than the length; 0 is null.
    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize))
    }

    #[inline]
    fn string_length(&mut self, v: Version) -> Result<Option<usize>, DecodeError> {
        if v.flexible {
            return self.compact_length();
        }
        let len = self.i16()?;
        self.length(len.into())
    }

    #[inline]
    fn long_length(&mut self, v: Version) -> Result<Option<usize>, DecodeError> {
        if v.flexible {
            return self.compact_length();
        }
        let len = self.i32()?;
        self.length(len)
    }

    #[inline]
    fn nullable_bytes(&mut self, v: Version) -> Result<Option<Bytes>, DecodeError> {
        match self.long_length(v)? {
            Some(len) => self.slice(len).map(Some),
            None => Ok(None),
        }
    }

    fn nullable_array<T: Field>(&mut self, v: Version) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.long_length(v)? else {
            return Ok(None);
        };
        let left = self.remaining();
        // No element is shorter than a byte.
        if count > left {
            return Err(self.error(Fault::ArrayTooLong { count, left }));
        }
        self.budget_left = count
            .checked_mul(size_of::<T>())
            .and_then(|size| self.budget_left.checked_sub(size))
            .ok_or_else(|| {
                self.error(Fault::OverBudget {
                    budget: self.budget,
                })
            })?;
        let mut elements = Vec::with_capacity(count.min(Self::INITIAL_ELEMENTS));
        for _ in 0..count {
            elements.push(T::read(self, v)?);
        }
        Ok(Some(elements))
    }

    /// Reads the tagged fields at a structure's end (KIP-482). `known` reads a field by its tag and
    /// says true, or leaves it and says false; then it is skipped.
    #[inline]
    pub(super) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            let (tag, outer_end) = self.enter_tag()?;
            if !known(self, tag)? {
                self.at = self.end;
            }
            self.leave_tag(tag, outer_end)?;
        }
        Ok(())
    }

    /// Confines reading to the next tagged field. Gives its tag, and where reading ended before.
    fn enter_tag(&mut self) -> Result<(u32, usize), DecodeError> {
        let tag = self.uvarint()?;
        let size = self.uvarint()? as usize;
        let left = self.remaining();
        if size > left {
            return Err(self.error(Fault::TooShort { needed: size, left }));
        }
        let outer_end = std::mem::replace(&mut self.end, self.at + size);
        Ok((tag, outer_end))
    }

    fn leave_tag(&mut self, tag: u32, outer_end: usize) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => {
                self.end = outer_end;
                Ok(())
            }
            left => Err(self.error(Fault::TagSize { tag, left })),
        }
    }
}

/// Builds one frame: a buffer for all that is small, and references to large record batches.
#[derive(Debug)]
pub struct Writer {
    buf: BytesMut,
    // Pieces that belong between two bytes of `buf`: before the byte at the position given.
    shared: Vec<(usize, Bytes)>,
    errors: ErrorCounts,
}

/// Error codes, and how often each was written.
pub type ErrorCounts = Vec<(ErrorCode, u64)>;

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Record pieces of this size in bytes or more are referenced; copying is cheaper below it than
    /// another entry in the list that goes to the kernel.
    pub const MIN_SHARED_BYTES: usize = 1024;

    const LENGTH_PREFIX_BYTES: usize = 4;
    /// Most responses fit; larger ones grow it.
    const INITIAL_BYTES: usize = 256;

    /// An empty frame.
    pub fn new() -> Self {
        let mut buf = BytesMut::with_capacity(Self::INITIAL_BYTES);
        buf.put_bytes(0, Self::LENGTH_PREFIX_BYTES);
        Self {
            buf,
            shared: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The error codes that were written so far, but for [`ErrorCode::NONE`].
    pub fn take_errors(&mut self) -> ErrorCounts {
        std::mem::take(&mut self.errors)
    }

    fn note_error(&mut self, code: ErrorCode) {
        match self.errors.iter_mut().find(|(noted, _)| *noted == code) {
            Some((_, times)) => *times += 1,
            None => self.errors.push((code, 1)),
        }
    }

    /// The frame, as pieces to be sent one after the other, with its length in front.
    ///
    /// # Panics
    ///
    /// When the frame is larger than its length prefix can say (2 GiB). Requests and responses are
    /// limited to far less before they are built.
    pub fn finish(mut self) -> Vec<Bytes> {
        let shared_len: usize = self.shared.iter().map(|(_, piece)| piece.len()).sum();
        let len = self.buf.len() - Self::LENGTH_PREFIX_BYTES + shared_len;
        assert!(
            len <= i32::MAX as usize,
            "a frame of {len} bytes has no length prefix"
        );
        self.buf[..Self::LENGTH_PREFIX_BYTES].copy_from_slice(&(len as i32).to_be_bytes());

        let mut buf = self.buf.freeze();
        let mut rope = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut cut = 0;
        for (at, piece) in self.shared {
            if at > cut {
                rope.push(buf.split_to(at - cut));
                cut = at;
            }
            rope.push(piece);
        }
        if !buf.is_empty() {
            rope.push(buf);
        }
        rope
    }

    /// What was written, without a length in front, as one piece. For messages inside of messages.
    pub(super) fn into_payload(self) -> Bytes {
        debug_assert!(self.shared.is_empty(), "a payload has no records");
        self.buf.freeze().slice(Self::LENGTH_PREFIX_BYTES..)
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    /// A big-endian 16-bit integer.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    /// A big-endian 32-bit integer.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    /// A big-endian 64-bit integer.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    /// An unsigned 32-bit varint.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(value as u8);
    }

    pub(super) fn nullable_classic_string(&mut self, value: Option<&StrBytes>) {
        match value {
            Some(string) => {
                let string = fitting(string);
                self.i16(string.len() as i16);
                self.buf.put_slice(string.as_bytes());
            }
            None => self.i16(-1),
        }
    }

    // Lengths of what is in memory and goes into a frame: `finish` asserts that a frame's length
    // fits 31 bits, so these casts lose nothing in a frame that is sent.
    #[inline]
    fn long_length(&mut self, len: usize, v: Version) {
        if v.flexible {
            self.uvarint(len as u32 + 1);
        } else {
            self.i32(len as i32);
        }
    }

    #[inline]
    fn null_long_length(&mut self, v: Version) {
        if v.flexible {
            self.uvarint(0);
        } else {
            self.i32(-1);
        }
    }

    fn records(&mut self, records: &Records) {
        for piece in records.pieces() {
            if piece.len() >= Self::MIN_SHARED_BYTES {
                self.shared.push((self.buf.len(), piece.clone()));
            } else {
                self.buf.put_slice(piece);
            }
        }
    }

    /// A tagged field: its tag, its size in bytes, its value.
    pub(super) fn tagged_field(&mut self, tag: u32, value: &impl Field, v: Version) {
        self.uvarint(tag);
        let start = self.buf.len();
        value.write(self, v);
        // The size is known only now, and as a varint it has no fixed width: write it behind the
        // value and turn the two around.
        let end = self.buf.len();
        self.uvarint((end - start) as u32);
        let size_width = self.buf.len() - end;
        self.buf[start..].rotate_right(size_width);
        debug_assert!(
            self.shared.last().is_none_or(|(at, _)| *at <= start),
            "records in a tag"
        );
    }
}

/// The longest front part of `string` that the classic encoding's 15 bits of length can say. A
/// longer one can come in through a flexible version, and be asked for in a classic one.
fn fitting(string: &str) -> &str {
    let mut len = string.len().min(i16::MAX as usize);
    while !string.is_char_boundary(len) {
        len -= 1;
    }
    &string[..len]
}

/// A value in a message: read and written in the encoding of a version.
pub(super) trait Field: Sized {
    fn read(r: &mut Reader, v: Version) -> Result<Self, DecodeError>;
    fn write(&self, w: &mut Writer, v: Version);
}

/// A value that has an encoding for null.
pub(super) trait Nullable: Field {
    fn read_nullable(r: &mut Reader, v: Version) -> Result<Option<Self>, DecodeError>;
    fn write_nullable(value: Option<&Self>, w: &mut Writer, v: Version);
}

impl<T: Nullable> Field for Option<T> {
    #[inline]
    fn read(r: &mut Reader, v: Version) -> Result<Self, DecodeError> {
        T::read_nullable(r, v)
    }

    #[inline]
    fn write(&self, w: &mut Writer, v: Version) {
        T::write_nullable(self.as_ref(), w, v);
    }
}

/// A value that may not be null, of a type that otherwise has an encoding for it.
#[inline]
fn required<T: Nullable>(r: &mut Reader, v: Version) -> Result<T, DecodeError> {
    T::read_nullable(r, v)?.ok_or_else(|| r.error(Fault::Null))
}

/// Whether a tagged field has to be written.
#[inline]
pub(super) fn differs<T: PartialEq>(value: &T, default: T) -> bool {
    *value != default
}

/// Writes a value where null cannot be said: empty comes closest.
pub(super) fn write_or_empty<T: Field + Default>(value: &Option<T>, w: &mut Writer, v: Version) {
    match value {
        Some(value) => value.write(w, v),
        None => T::default().write(w, v),
    }
}

macro_rules! integer_fields {
    ($($ty:ident),*) => {$(
        impl Field for $ty {
            #[inline]
            fn read(r: &mut Reader, _: Version) -> Result<Self, DecodeError> {
                r.$ty()
            }

            #[inline]
            fn write(&self, w: &mut Writer, _: Version) {
                w.$ty(*self);
            }
        }
    )*};
}

integer_fields!(i8, i16, i32, i64);

impl Field for bool {
    #[inline]
    fn read(r: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        Ok(r.i8()? != 0)
    }

    #[inline]
    fn write(&self, w: &mut Writer, _: Version) {
        w.i8((*self).into());
    }
}

impl Field for u16 {
    fn read(r: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        r.array().map(u16::from_be_bytes)
    }

    fn write(&self, w: &mut Writer, _: Version) {
        w.buf.put_u16(*self);
    }
}

impl Field for Double {
    fn read(r: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        r.array().map(f64::from_be_bytes).map(Double)
    }

    fn write(&self, w: &mut Writer, _: Version) {
        w.buf.put_f64(self.0);
    }
}

impl Field for ErrorCode {
    #[inline]
    fn read(r: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        r.i16().map(ErrorCode)
    }

    #[inline]
    fn write(&self, w: &mut Writer, _: Version) {
        if !self.is_ok() {
            w.note_error(*self);
        }
        w.i16(self.0);
    }
}

impl Field for Uuid {
    #[inline]
    fn read(r: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        r.array().map(Uuid)
    }

    #[inline]
    fn write(&self, w: &mut Writer, _: Version) {
        w.buf.put_slice(&self.0);
    }
}

/// `Field` for types that are nullable: a value is what is not null.
macro_rules! required_field {
    ($ty:ty $(, $t:ident)?) => {
        impl $(<$t: Field>)? Field for $ty {
            #[inline]
            fn read(r: &mut Reader, v: Version) -> Result<Self, DecodeError> {
                required(r, v)
            }

            #[inline]
            fn write(&self, w: &mut Writer, v: Version) {
                Self::write_nullable(Some(self), w, v);
            }
        }
    };
}

required_field!(StrBytes);
required_field!(Bytes);
required_field!(Records);
required_field!(Vec<T>, T);

impl Nullable for StrBytes {
    #[inline]
    fn read_nullable(r: &mut Reader, v: Version) -> Result<Option<Self>, DecodeError> {
        let len = r.string_length(v)?;
        r.string(len)
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, v: Version) {
        match value {
            _ if !v.flexible => w.nullable_classic_string(value),
            Some(string) => {
                w.long_length(string.len(), v);
                w.buf.put_slice(string.as_bytes());
            }
            None => w.null_long_length(v),
        }
    }
}

impl Nullable for Bytes {
    #[inline]
    fn read_nullable(r: &mut Reader, v: Version) -> Result<Option<Self>, DecodeError> {
        r.nullable_bytes(v)
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, v: Version) {
        match value {
            Some(bytes) => {
                w.long_length(bytes.len(), v);
                w.buf.put_slice(bytes);
            }
            None => w.null_long_length(v),
        }
    }
}

impl Nullable for Records {
    #[inline]
    fn read_nullable(r: &mut Reader, v: Version) -> Result<Option<Self>, DecodeError> {
        Ok(r.nullable_bytes(v)?.map(Self::from))
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, v: Version) {
        match value {
            Some(records) => {
                w.long_length(records.len(), v);
                w.records(records);
            }
            None => w.null_long_length(v),
        }
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn read_nullable(r: &mut Reader, v: Version) -> Result<Option<Self>, DecodeError> {
        r.nullable_array(v)
    }

    fn write_nullable(value: Option<&Self>, w: &mut Writer, v: Version) {
        match value {
            Some(elements) => {
                w.long_length(elements.len(), v);
                for element in elements {
                    element.write(w, v);
                }
            }
            None => w.null_long_length(v),
        }
    }
}
