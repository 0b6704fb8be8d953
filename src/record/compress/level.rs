//! Levels of codecs, as Kafka numbers them (KIP-390).

use std::fmt;

use super::Compression;

/// The levels that a codec has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelRange {
    pub least: i32,
    pub most: i32,
    /// Gzip's lies outside of its range.
    pub default: i32,
}

impl LevelRange {
    pub fn has(&self, level: i32) -> bool {
        (self.least..=self.most).contains(&level) || level == self.default
    }
}

/// "1 to 9, or -1"
impl fmt::Display for LevelRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.least, self.most)?;
        match (self.least..=self.most).contains(&self.default) {
            true => Ok(()),
            false => write!(f, ", or {}", self.default),
        }
    }
}

impl Compression {
    /// Its levels, if it has any.
    pub const fn levels(self) -> Option<LevelRange> {
        let (least, most, default) = match self {
            Self::None | Self::Snappy => return None,
            Self::Gzip => (1, 9, -1),
            Self::Lz4 => (1, 17, 9),
            Self::Zstd => (-131_072, 22, 3),
        };
        Some(LevelRange {
            least,
            most,
            default,
        })
    }
}

/// One level for each codec that has levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    pub gzip: i32,
    pub lz4: i32,
    pub zstd: i32,
}

/// Kafka's defaults.
impl Default for Levels {
    fn default() -> Self {
        let default = |codec: Compression| codec.levels().map_or(0, |levels| levels.default);
        Self {
            gzip: default(Compression::Gzip),
            lz4: default(Compression::Lz4),
            zstd: default(Compression::Zstd),
        }
    }
}

impl Levels {
    /// The level for a codec, if it has levels.
    pub fn of(&self, codec: Compression) -> Option<i32> {
        match codec {
            Compression::None | Compression::Snappy => None,
            Compression::Gzip => Some(self.gzip),
            Compression::Lz4 => Some(self.lz4),
            Compression::Zstd => Some(self.zstd),
        }
    }
}
