//! Sample messages for tests, made from bytes that a property test supplies (and shrinks).

use bytes::Bytes;

use super::encode_all;
use crate::wire::codec::{Field, Message, Version, Writer};
use crate::wire::{Double, ErrorCode, Records, StrBytes, Uuid};

/// Bytes that decide what a sample looks like. When they are used up, all else is small: zero, null
/// or empty. So fewer bytes are a smaller sample.
pub(in crate::wire) struct Source<'a>(pub(in crate::wire) &'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// Lengths with many small ones, and some that take a varint of two bytes.
    fn len(&mut self) -> usize {
        match self.byte() {
            long @ 250.. => usize::from(long),
            short => usize::from(short % 8),
        }
    }
}

/// A value of any content that has an encoding in a version.
pub(in crate::wire) trait Sample: Field {
    fn sample(s: &mut Source<'_>, v: Version) -> Self;
}

/// A message that `version` can say, and its encoding.
pub(in crate::wire) fn message<M: Message + Sample>(entropy: &[u8], v: Version) -> (M, Bytes) {
    let message = M::sample(&mut Source(entropy), v);
    let bytes = encode_all(&message, v.number);
    (message, bytes)
}

macro_rules! integer_samples {
    ($($ty:ident),*) => {$(
        impl Sample for $ty {
            fn sample(s: &mut Source<'_>, _: Version) -> Self {
                match s.byte() {
                    small @ 0..100 => Self::try_from(small).unwrap_or_default() - 1,
                    100..110 => Self::MIN,
                    110..120 => Self::MAX,
                    _ => Self::from_be_bytes(s.bytes()),
                }
            }
        }
    )*};
}

integer_samples!(i8, i16, i32, i64);

impl Sample for u16 {
    fn sample(s: &mut Source<'_>, _: Version) -> Self {
        Self::from_be_bytes(s.bytes())
    }
}

impl Sample for Double {
    fn sample(s: &mut Source<'_>, v: Version) -> Self {
        Self(i32::sample(s, v).into())
    }
}

impl Sample for bool {
    fn sample(s: &mut Source<'_>, _: Version) -> Self {
        s.byte() & 1 == 1
    }
}

impl Sample for ErrorCode {
    fn sample(s: &mut Source<'_>, v: Version) -> Self {
        Self(i16::sample(s, v))
    }
}

impl Sample for Uuid {
    fn sample(s: &mut Source<'_>, _: Version) -> Self {
        Self(s.bytes())
    }
}

impl Sample for StrBytes {
    fn sample(s: &mut Source<'_>, _: Version) -> Self {
        const CHARACTERS: [char; 8] = ['a', 'b', 'Z', '0', '.', '-', 'é', '語'];
        let len = s.len();
        let characters = (0..len).map(|_| CHARACTERS[usize::from(s.byte() % 8)]);
        Self::from(characters.collect::<String>())
    }
}

impl Sample for Bytes {
    fn sample(s: &mut Source<'_>, _: Version) -> Self {
        let len = s.len();
        (0..len).map(|_| s.byte()).collect()
    }
}

impl Sample for Records {
    fn sample(s: &mut Source<'_>, v: Version) -> Self {
        let pieces = s.byte() % 4;
        let piece = |s: &mut Source<'_>| match s.byte() {
            // Around the size from which a piece is referenced.
            seed @ 128.. => Bytes::from(vec![
                seed;
                Writer::MIN_SHARED_BYTES - 129 + usize::from(seed)
            ]),
            _ => Bytes::sample(s, v),
        };
        Self::from((0..pieces).map(|_| piece(s)).collect::<Vec<_>>())
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(s: &mut Source<'_>, v: Version) -> Self {
        let len = s.byte() % 4;
        (0..len).map(|_| T::sample(s, v)).collect()
    }
}

impl<T: Sample> Sample for Option<T>
where
    Option<T>: Field,
{
    fn sample(s: &mut Source<'_>, v: Version) -> Self {
        (s.byte() & 1 == 1).then(|| T::sample(s, v))
    }
}
