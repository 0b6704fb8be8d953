//! The codecs of record batches, each inflated in bounded steps.
//!
//! A decoder here is a resumable machine: it reads a payload that is wholly in memory and writes into
//! whatever room it is given, so that a small payload that inflates to gigabytes costs neither memory
//! nor a core for longer than one step. [`Inflater`] runs one over a small window; [`decompress`] runs
//! one into a buffer of its own.

mod gzip;
mod inflater;
mod level;
mod lz;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

use bytes::Bytes;
use thiserror::Error;

pub use inflater::{Inflater, Scratch};
pub use level::{LevelRange, Levels};

/// Input that a decoder looks at before it comes back even if little output came of it, in bytes:
/// empty blocks and members cost time, too.
const INPUT_PER_CALL: usize = 32 << 10;

/// A codec, by its id in a batch's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// All of them, by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The id in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec with this id, if there is one.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The name in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Why a payload could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InflateError {
    /// The bytes are not what the codec writes.
    #[error("{} payload is corrupt: {reason}", .codec.name())]
    Corrupt {
        codec: Compression,
        reason: &'static str,
    },
    /// The payload inflates to more than is allowed, in bytes.
    #[error("payload inflates to more than {limit} bytes")]
    TooLarge { limit: usize },
}

/// Compresses `bytes` as Kafka's own writers do. `level` is one of [`Compression::levels`]; `None` is
/// their default, and one out of their range the nearest.
///
/// # Panics
/// If there is no memory for it.
pub fn compress(codec: Compression, level: Option<i32>, bytes: &[u8]) -> Bytes {
    let default = codec.levels().map_or(0, |levels| levels.default);
    let level = level.unwrap_or(default);
    match codec {
        Compression::None => Bytes::copy_from_slice(bytes),
        Compression::Gzip => gzip::compress(level, bytes).into(),
        Compression::Snappy => snappy::compress(bytes).into(),
        Compression::Lz4 => lz4::compress(level, bytes).into(),
        Compression::Zstd => zstd::compress(level, bytes).into(),
    }
}

/// Inflates a whole payload of at most `limit` bytes, in one go. Memory is taken as output is
/// produced. LZ4 frames of dependent blocks are read as well, which Kafka does not.
///
/// # Errors
/// [`InflateError`]: the payload is corrupt, or larger than `limit`.
pub fn decompress(codec: Compression, input: &[u8], limit: usize) -> Result<Bytes, InflateError> {
    if codec == Compression::None {
        return match input.len() {
            length if length > limit => Err(InflateError::TooLarge { limit }),
            _ => Ok(Bytes::copy_from_slice(input)),
        };
    }
    inflater::inflate_all(codec, input, limit).map(Bytes::from)
}
