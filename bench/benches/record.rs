//! What is done to a producer's batch before it may be stored: its CRC, its records, its codec.

mod common;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::record::compress::compress;
use tidegate::record::validate::Mode;
use tidegate::record::{Batch, Compression, Rules, Scratch, validate};

const MODES: [(&str, Mode); 2] = [("full", Mode::Full), ("header", Mode::Header)];

fn rules(mode: Mode) -> Rules {
    Rules {
        mode,
        ..Rules::default()
    }
}

fn validating(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    let mut scratch = Scratch::default();
    for (shape, records, value_bytes) in common::SHAPES {
        let batch = common::batch(records, value_bytes, Compression::None);
        let batch = Batch::only_one(&batch).expect("a batch");
        group.throughput(Throughput::Bytes(batch.bytes().len() as u64));
        for (name, mode) in MODES {
            let rules = rules(mode);
            group.bench_function(BenchmarkId::new(name, shape), |b| {
                b.iter(|| validate(black_box(&batch), &rules, common::NOW_MS, &mut scratch))
            });
        }
    }
    group.finish();
}

/// Of batches of 64 x 1 KiB, by the bytes that they inflate to.
fn validating_compressed(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate-compressed");
    let mut scratch = Scratch::default();
    for codec in codecs() {
        let batch = common::batch(64, 1024, codec);
        let batch = Batch::only_one(&batch).expect("a batch");
        let rules = rules(Mode::Full);
        let valid = validate(&batch, &rules, common::NOW_MS, &mut scratch).expect("a valid batch");
        group.throughput(Throughput::Bytes(valid.inflated_bytes as u64));
        group.bench_function(codec.name(), |b| {
            b.iter(|| validate(black_box(&batch), &rules, common::NOW_MS, &mut scratch))
        });
    }
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for size in [128, 1 << 10, 64 << 10, 1 << 20] {
        let bytes = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| crc32c::crc32c(black_box(&bytes)))
        });
    }
    group.finish();
}

fn codecs() -> impl Iterator<Item = Compression> {
    let all = Compression::ALL.into_iter();
    all.filter(|codec| *codec != Compression::None)
}

/// Of the records of 64 x 1 KiB, by their bytes when they are not compressed.
fn compressing(c: &mut Criterion) {
    let batch = common::batch(64, 1024, Compression::None);
    let payload = Batch::only_one(&batch).expect("a batch").payload();
    let mut scratch = Scratch::default();
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    for codec in codecs() {
        group.bench_function(BenchmarkId::new("deflate", codec.name()), |b| {
            b.iter(|| compress(codec, None, black_box(&payload)))
        });
        let compressed = compress(codec, None, &payload);
        group.bench_function(BenchmarkId::new("inflate", codec.name()), |b| {
            b.iter(|| inflate(codec, black_box(&compressed), payload.len(), &mut scratch))
        });
    }
    group.finish();
}

/// Piece by piece through a window, as batches are validated.
fn inflate(codec: Compression, input: &Bytes, limit: usize, scratch: &mut Scratch) -> usize {
    let mut inflater = scratch.inflater(codec, limit).expect("a codec");
    while inflater
        .next_piece(input, usize::MAX)
        .expect("a sound payload")
        .is_some()
    {}
    let produced = inflater.produced();
    scratch.recycle(inflater);
    produced
}

criterion_group! {
    name = record;
    config = common::criterion();
    targets = validating, validating_compressed, checksums, compressing
}
criterion_main!(record);
