//! Any bytes from a peer: no panic, no more memory than they are worth, and few allocations for
//! those that are good.

use std::alloc::System;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tidegate::wire::codec::Fault;
use tidegate::wire::frame::{RequestHeader, encode_request};
use tidegate::wire::*;

#[path = "../fuzz/src/wire.rs"]
#[expect(unreachable_pub, reason = "public in the fuzz crate")]
mod properties;

use properties::{APIS, Check, RoundTrip};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// An empty string takes a byte on the wire and this much in memory; nothing has a worse ratio. A
/// growing `Vec` doubles.
const MEMORY_PER_BYTE: usize = 2 * size_of::<StrBytes>();
/// First reservations of nested arrays, and an error.
const MEMORY_FOR_ANY: usize = 16 << 10;

/// Counts what reading a message allocates.
struct Measure(Stats);

impl Check for Measure {
    fn message<M: Message + Debug + PartialEq>(&mut self, mut r: Reader, version: i16) {
        let region = Region::new(ALLOCATOR);
        let message = M::decode(&mut r, version);
        self.0 = region.change();
        drop(message);
    }
}

fn measure(read: impl FnOnce(&mut Measure)) -> Stats {
    let mut measure = Measure(Stats::default());
    read(&mut measure);
    measure.0
}

/// Bytes with long runs, as they make the longest arrays of the smallest elements.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        Just(0_u8),
        Just(1),
        Just(2),
        Just(0x7f),
        Just(0xff),
        any::<u8>()
    ];
    let run = prop_oneof![3 => 1..8_usize, 1 => 8..600_usize];
    let run = (byte, run).prop_map(|(byte, len)| vec![byte; len]);
    proptest::collection::vec(run, 0..24).prop_map(|runs| runs.concat())
}

/// The start of a request without a client id, up to its header's tagged fields if it has any.
fn request_of(key: i16, version: i16, body: &[u8]) -> Bytes {
    let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
    frame.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff]);
    if first_flexible_version(key).is_some_and(|first| version >= first) {
        frame.push(0);
    }
    frame.extend_from_slice(body);
    frame.into()
}

fn any_bytes_are_read_in_bounds() {
    let api = proptest::sample::select(APIS);
    let input = (api, any::<proptest::sample::Index>(), body());
    let run = TestRunner::new(ProptestConfig {
        cases: 20_000,
        ..Default::default()
    })
    .run(&input, |((key, newest), version, body)| {
        // Some versions that do not exist, too.
        let version = version.index(newest as usize + 3) as i16 - 1;
        let limit = MEMORY_PER_BYTE * body.len() + MEMORY_FOR_ANY;

        let request = request_of(key, version, &body);
        let taken = measure(|m| properties::request(request.clone(), m)).bytes_allocated;
        prop_assert!(taken <= limit, "request: {taken} bytes for {}", body.len());
        properties::request(request, &mut RoundTrip);

        let api = [key.to_be_bytes(), version.to_be_bytes()].concat();
        let response = Bytes::from([&api[..], &body].concat());
        let taken = measure(|m| properties::response(response.clone(), m)).bytes_allocated;
        prop_assert!(taken <= limit, "response: {taken} bytes for {}", body.len());
        properties::response(response, &mut RoundTrip);
        Ok(())
    });
    run.unwrap();
}

fn a_large_frame_of_small_elements_stays_in_budget() {
    let groups = Reader::DEFAULT_BUDGET / size_of::<StrBytes>() + 1;
    let mut body = (groups as u32).to_be_bytes().to_vec();
    body.resize(4 + 2 * groups, 0);
    let mut r = Reader::new(body.into());

    let region = Region::new(ALLOCATOR);
    let err = delete_groups::Request::decode(&mut r, 1).unwrap_err();
    assert!(matches!(err.fault(), Fault::OverBudget { .. }), "{err}");
    assert!(region.change().bytes_allocated < MEMORY_FOR_ANY);
}

fn a_produce_request_is_read_with_few_allocations() {
    let partitions = 0..4;
    let request = produce::Request {
        topic_data: vec![produce::TopicProduceData {
            name: "topic".into(),
            partition_data: partitions
                .map(|index| produce::PartitionProduceData {
                    index,
                    records: Some(Bytes::from(vec![7; 60_000]).into()),
                })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let header = RequestHeader {
        api_key: produce::KEY,
        api_version: 9,
        ..Default::default()
    };
    let frame = Records::from(encode_request(&header, &request)).into_bytes();
    let taken = measure(|m| properties::request(frame.slice(4..), m));
    // One for the topics, one for the partitions; the frame may have to become shared.
    assert!(taken.allocations <= 3, "{taken:?}");
    assert!(taken.bytes_allocated <= 1024, "{taken:?}");
}

/// Inputs that a fuzzer found, or that somebody would try first.
fn kept_inputs_are_read_in_bounds() {
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let inputs = |target: &str| {
        let files = fs::read_dir(regressions.join(target)).unwrap();
        let inputs = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        inputs.map(Bytes::from).collect::<Vec<_>>()
    };
    for input in inputs("wire_request") {
        let taken = measure(|m| properties::request(input.clone(), m)).bytes_allocated;
        assert!(taken <= MEMORY_FOR_ANY, "{taken} bytes for {input:?}");
        properties::request(input, &mut RoundTrip);
    }
    for input in inputs("wire_response") {
        let taken = measure(|m| properties::response(input.clone(), m)).bytes_allocated;
        assert!(taken <= MEMORY_FOR_ANY, "{taken} bytes for {input:?}");
        properties::response(input, &mut RoundTrip);
    }
}

/// One test, as the allocator counts for the whole process.
#[test]
fn hostile_bytes() {
    any_bytes_are_read_in_bounds();
    a_large_frame_of_small_elements_stays_in_budget();
    a_produce_request_is_read_with_few_allocations();
    kept_inputs_are_read_in_bounds();
}
