//! Batches for the benchmarks.

#![allow(dead_code)]

use std::time::Duration;

use bytes::Bytes;
use criterion::Criterion;
use tidegate::record::{Builder, Compression};

/// Times of records, in ms since the epoch.
pub const NOW_MS: i64 = 1_700_000_000_000;

/// What producers send: records of a batch, and bytes of each value.
pub const SHAPES: [(&str, usize, usize); 4] = [
    ("1x100", 1, 100),
    ("1x1k", 1, 1024),
    ("64x1k", 64, 1024),
    ("1000x100", 1000, 100),
];

/// A batch of values of which a fifth is noise, so that codecs make about a quarter of it.
pub fn batch(records: usize, value_bytes: usize, codec: Compression) -> Bytes {
    let mut builder = Builder::new().compression(codec, None);
    let mut noise = 88_172_645_463_325_252_u64;
    for n in 0..records {
        let mut value = vec![b'x'; value_bytes];
        for byte in &mut value[..value_bytes / 5] {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            *byte = noise as u8;
        }
        builder.append(NOW_MS + n as i64, None, Some(&value), &[]);
    }
    builder.build()
}

/// Short: there are many.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}
