//! A histogram as text: HdrHistogram's V2 encoding, compressed, in base64. HdrHistogram's libraries in
//! all languages read it.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use super::{DIGITS, Latency, MAX_NS};

/// A compressed histogram begins with a cookie and a length, of four bytes each.
const ENVELOPE_BYTES: usize = 8;
/// Inflated: cookie, length, offset and digits, of four bytes; lowest, highest and ratio, of eight.
const HEAD_BYTES: usize = 40;
/// Far above what a histogram of these bounds inflates to: nine bytes for each of its counts.
const MAX_INFLATED_BYTES: u64 = 1 << 20;

/// A text that is no histogram of this program.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("is not base64")]
    Base64,
    #[error("cannot be inflated")]
    Deflate,
    #[error("is a histogram with other bounds")]
    Bounds,
    #[error("is not an HDR histogram")]
    Histogram,
}

impl Latency {
    /// The histogram as text.
    #[allow(clippy::missing_panics_doc)] // A buffer takes what is written, and its size fits.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.all, &mut bytes);
        written.expect("a histogram fits into memory");
        STANDARD.encode(bytes)
    }

    /// The histogram of a text.
    ///
    /// # Errors
    /// If it is none, or one that this program does not write.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let bytes = STANDARD.decode(text).map_err(|_| DecodeError::Base64)?;
        let deflated = bytes.get(ENVELOPE_BYTES..).ok_or(DecodeError::Histogram)?;
        let mut inflated = Vec::new();
        ZlibDecoder::new(deflated)
            .take(MAX_INFLATED_BYTES)
            .read_to_end(&mut inflated)
            .map_err(|_| DecodeError::Deflate)?;
        // The library allocates what the head says.
        check_head(&inflated)?;
        let all: Result<Histogram<u64>, _> = Deserializer::new().deserialize(&mut &inflated[..]);
        Ok(Self {
            all: all.map_err(|_| DecodeError::Histogram)?,
            recorder: None,
        })
    }
}

fn check_head(inflated: &[u8]) -> Result<(), DecodeError> {
    let head = inflated.get(..HEAD_BYTES).ok_or(DecodeError::Histogram)?;
    let int = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap_or_default());
    let long = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().unwrap_or_default());
    if int(4) as usize != inflated.len() - HEAD_BYTES {
        return Err(DecodeError::Histogram);
    }
    match (int(12), long(16), long(24)) == (u32::from(DIGITS), 1, MAX_NS) {
        true => Ok(()),
        false => Err(DecodeError::Bounds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::PERCENTILES;

    #[test]
    fn a_histogram_reads_back_as_it_was() {
        let mut written = Latency::new();
        (1..10_000_u64).for_each(|n| written.record(n * n));
        let read = Latency::decode(&written.encode()).unwrap();
        assert_eq!(read.count(), written.count());
        assert_eq!(read.max_ns(), written.max_ns());
        for percent in PERCENTILES {
            assert_eq!(
                read.percentile_ns(percent),
                written.percentile_ns(percent),
                "{percent}"
            );
        }
    }

    #[test]
    fn the_text_is_what_other_libraries_read() {
        // The cookie of V2 with deflate, as HdrHistogram's own logs show it.
        assert!(Latency::new().encode().starts_with("HISTFAAAA"));
    }

    #[test]
    fn what_is_no_histogram_is_refused_before_it_is_believed() {
        let refused = |text: &str| Latency::decode(text).expect_err(text);
        assert_eq!(refused("*"), DecodeError::Base64);
        assert_eq!(refused(""), DecodeError::Histogram);
        assert_eq!(refused("HISTFAAAAAAAAAAA"), DecodeError::Deflate);
        let mut wide: Histogram<u64> = Histogram::new_with_bounds(1, u64::MAX, 5).unwrap();
        wide.record(5).unwrap();
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&wide, &mut bytes)
            .unwrap();
        assert_eq!(refused(&STANDARD.encode(bytes)), DecodeError::Bounds);
    }
}
