//! Reading requests and writing their answers: Produce and Fetch, with one partition and with many.

mod common;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::record::Compression;
use tidegate::wire::frame::{RequestHeader, encode_request, encode_response};
use tidegate::wire::{Message, Reader, Records, Uuid, fetch, produce};

/// Partitions in one message.
const PARTITIONS: [i32; 3] = [1, 16, 256];
const PRODUCE_VERSION: i16 = 11;
const FETCH_VERSION: i16 = 17;

fn frame<M: Message>(key: i16, version: i16, message: &M) -> Bytes {
    let header = RequestHeader {
        api_key: key,
        api_version: version,
        correlation_id: 7,
        client_id: Some("bench".into()),
    };
    // Without the length in front.
    Bytes::from(encode_request(&header, message).concat()).slice(4..)
}

fn decode<M: Message>(frame: &Bytes) -> M {
    let mut reader = Reader::new(frame.clone());
    let header = RequestHeader::decode(&mut reader).expect("a header");
    M::decode(&mut reader, header.api_version).expect("a request")
}

fn produce_request(partitions: i32, batch: &Bytes) -> produce::Request {
    let partition = |index| produce::PartitionProduceData {
        index,
        records: Some(Records::from(batch.clone())),
    };
    produce::Request {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce::TopicProduceData {
            name: "bench".into(),
            partition_data: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn produce_response(partitions: i32) -> produce::Response {
    let partition = |index| produce::PartitionProduceResponse {
        index,
        base_offset: 1 << 40,
        log_start_offset: 0,
        ..Default::default()
    };
    produce::Response {
        responses: vec![produce::TopicProduceResponse {
            name: "bench".into(),
            partition_responses: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch_request(partitions: i32) -> fetch::Request {
    let partition = |partition| fetch::FetchPartition {
        partition,
        fetch_offset: 1 << 40,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    fetch::Request {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![fetch::FetchTopic {
            topic_id: Uuid([7; 16]),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// As much as an answer of 1 MiB may hold, in batches of 64 x 1 KiB.
fn fetch_response(partitions: i32) -> fetch::Response {
    let batch = common::batch(64, 1024, Compression::None);
    let each = ((1 << 20) / batch.len() as i32 / partitions).max(1);
    let pieces = || vec![batch.clone(); each as usize];
    let partition = |partition_index| fetch::PartitionData {
        partition_index,
        high_watermark: 1 << 40,
        records: Some(Records::from(pieces())),
        ..Default::default()
    };
    fetch::Response {
        responses: vec![fetch::FetchableTopicResponse {
            topic_id: Uuid([7; 16]),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn requests(c: &mut Criterion) {
    let small = common::batch(1, 100, Compression::None);
    let mut group = c.benchmark_group("decode");
    for partitions in PARTITIONS {
        let request = produce_request(partitions, &small);
        let produce = frame(produce::KEY, PRODUCE_VERSION, &request);
        group.throughput(Throughput::Bytes(produce.len() as u64));
        group.bench_function(BenchmarkId::new("produce", partitions), |b| {
            b.iter(|| decode::<produce::Request>(black_box(&produce)))
        });
        let fetch = frame(fetch::KEY, FETCH_VERSION, &fetch_request(partitions));
        group.throughput(Throughput::Bytes(fetch.len() as u64));
        group.bench_function(BenchmarkId::new("fetch", partitions), |b| {
            b.iter(|| decode::<fetch::Request>(black_box(&fetch)))
        });
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let size =
        |pieces: &[Bytes]| Throughput::Bytes(pieces.iter().map(Bytes::len).sum::<usize>() as u64);
    let mut group = c.benchmark_group("encode");
    for partitions in PARTITIONS {
        let produce = produce_response(partitions);
        let encode = || encode_response(produce::KEY, PRODUCE_VERSION, 7, black_box(&produce));
        group.throughput(size(&encode()));
        group.bench_function(BenchmarkId::new("produce", partitions), |b| b.iter(encode));
        let fetch = fetch_response(partitions);
        let encode = || encode_response(fetch::KEY, FETCH_VERSION, 7, black_box(&fetch));
        group.throughput(size(&encode()));
        group.bench_function(BenchmarkId::new("fetch", partitions), |b| b.iter(encode));
    }
    group.finish();
}

criterion_group! {
    name = wire;
    config = common::criterion();
    targets = requests, answers
}
criterion_main!(wire);
