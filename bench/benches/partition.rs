//! A partition on its shard: batches get their offsets and are committed, and are read from the tail.

mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::catalog::topic_config::TopicConfig;
use tidegate::partition::{Partition, Read, State};
use tidegate::record::{Batch, Compression};
use tidegate::store::local::{DataDir, Options};
use tidegate::store::{PartitionId, Store};
use tidegate::wire::Uuid;

/// Batches that one commit takes, as they come together while the one before is under way.
const GROUP: usize = 16;
/// What is written to one partition before another one takes its place.
const WRITTEN_MAX: u64 = 256 << 20;
const TAIL_BYTES: usize = 16 << 20;
const READ_BYTES: usize = 1 << 20;

/// One partition in a data folder of its own, which goes with it.
struct Bench {
    folder: PathBuf,
    _data: DataDir,
    store: Store,
    partition: Partition,
}

impl Bench {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-partition");
        let _ = std::fs::remove_dir_all(&folder);
        let data = DataDir::open(&folder, None).expect("a data folder");
        let options = Options {
            shards: 1,
            durable: false,
            rolling: TopicConfig::default().rolling(),
        };
        let recovered = data.recover::<State>(&[], &options);
        let (_, mut stores, _) = recovered.expect("an empty store");
        let id = PartitionId {
            topic: Uuid([7; 16]),
            index: 0,
        };
        let store = Store::Local(stores.remove(0));
        let mut partition = Partition::new(store.new_log(id));
        // Or what is committed would not be kept in memory.
        partition.note_reader();
        Bench {
            folder,
            _data: data,
            store,
            partition,
        }
    }

    /// One group of batches, from their offsets to the page cache, and into sight.
    fn commit(&mut self, batch: &Batch) {
        for _ in 0..GROUP {
            let appended = self.partition.append(batch, common::NOW_MS);
            black_box(appended.expect("no producer, no sequence"));
        }
        let plan = self.partition.plan_append(common::NOW_MS);
        let mut commit = self.store.plan_commit(vec![plan]);
        commit.write();
        for (plan, stored) in self.store.committed(commit) {
            self.partition
                .committed(&plan, stored.expect("it is written"));
        }
        while self.partition.tail_bytes() > TAIL_BYTES {
            self.partition.evict_oldest();
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Offsets only: what a shard does before the store writes.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for (shape, records, value_bytes) in common::SHAPES {
        let batch = common::batch(records, value_bytes, Compression::None);
        let batch = Batch::only_one(&batch).expect("a batch");
        group.throughput(Throughput::Bytes(batch.bytes().len() as u64));
        let mut bench = Bench::new();
        group.bench_function(shape, |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    let now = left.min(GROUP as u64);
                    let began = Instant::now();
                    for _ in 0..now {
                        let appended = bench.partition.append(black_box(&batch), common::NOW_MS);
                        black_box(appended.expect("no producer, no sequence"));
                    }
                    took += began.elapsed();
                    // Taken back: nothing is to be written.
                    let plan = bench.partition.plan_append(common::NOW_MS);
                    bench.partition.roll_back(&plan);
                    left -= now;
                }
                took
            })
        });
    }
    group.finish();
}

/// A group of batches into the page cache.
fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit-16");
    for (shape, records, value_bytes) in common::SHAPES {
        let batch = common::batch(records, value_bytes, Compression::None);
        let batch = Batch::only_one(&batch).expect("a batch");
        let bytes = (batch.bytes().len() * GROUP) as u64;
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(shape, |b| {
            b.iter_custom(|times| {
                let (mut bench, mut took) = (Bench::new(), Duration::ZERO);
                for _ in 0..times {
                    if bench.partition.size_bytes() > WRITTEN_MAX {
                        drop(bench);
                        bench = Bench::new();
                    }
                    let began = Instant::now();
                    bench.commit(black_box(&batch));
                    took += began.elapsed();
                }
                took
            })
        });
    }
    group.finish();
}

/// 1 MiB from the tail, as a rope.
fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("tail-read");
    for (shape, records, value_bytes) in common::SHAPES {
        let batch = common::batch(records, value_bytes, Compression::None);
        let batch = Batch::only_one(&batch).expect("a batch");
        let mut bench = Bench::new();
        let commits = 2 * READ_BYTES / (batch.bytes().len() * GROUP) + 1;
        for _ in 0..commits {
            bench.commit(&batch);
        }
        let read = || match bench.partition.read(black_box(0), READ_BYTES) {
            Read::Batches(pieces) => pieces,
            _ => panic!("the tail does not hold it"),
        };
        let bytes = read().iter().map(bytes::Bytes::len).sum::<usize>();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(shape), |b| b.iter(read));
    }
    group.finish();
}

criterion_group! {
    name = partition;
    config = common::criterion();
    targets = append, commit, read
}
criterion_main!(partition);
