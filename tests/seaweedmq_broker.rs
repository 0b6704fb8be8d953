//! Topics whose logs SeaweedMQ's brokers keep (`seaweedmq.path=broker`), and those that others made: written
//! through brokers, read from what these have written.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::weed::{Part, Weed, wait, wait_for};
use common::{Client, Gateway, batch, data_folder, fetch_request, now_ms, produce_request};
use tidegate::record::{Builder, Header, Record, records, split_first};
use tidegate::wire::{ErrorCode, produce};

const BROKER: [(&str, &str); 1] = [("seaweedmq.path", "broker")];
/// In ms, of the brokers of these tests.
const FLUSH_INTERVAL: i64 = 1000;

fn weed() -> Weed {
    let interval = format!("-logFlushInterval={}", FLUSH_INTERVAL / 1000);
    Weed::start_so(data_folder(), &Part::ALL, vec![(Part::Broker, interval)])
}

fn gateway(weed: &Weed, data: &tempfile::TempDir, before: Option<&Gateway>) -> Gateway {
    let master = weed.master();
    let options = [
        "--store",
        "seaweedmq",
        "--seaweedfs-masters",
        &master,
        "--shards",
        "2",
    ];
    match before {
        Some(before) => Gateway::start_at(before.address, data.path(), &options),
        None => Gateway::start(data.path(), &options),
    }
}

/// All records of a partition, as they come.
fn read(client: &mut Client, topic: &str, partition: i32) -> Vec<Record> {
    let end = client.latest(topic, partition);
    let (mut next, mut all) = (client.earliest(topic, partition), Vec::new());
    while next < end {
        let answer = client
            .fetch(&fetch_request(topic, &[(partition, next)], 1000, 1))
            .expect("an answer");
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE);
        let mut bytes = data.records.clone().unwrap_or_default().into_bytes();
        while let Some(batch) = split_first(&mut bytes).expect("whole batches") {
            assert!(batch.crc_ok());
            let of_batch = records(&batch, 1 << 30).expect("records");
            all.extend(of_batch.map(|record| record.expect("a record")));
        }
        let last = all.last().expect("a fetch below the end gives records");
        next = last.offset + 1;
    }
    all
}

#[test]
fn records_come_back_with_headers_nulls_and_times_when_the_broker_has_written_them() {
    let weed = weed();
    let data = data_folder();
    let mut gateway = gateway(&weed, &data, None);
    let mut client = gateway.connect();
    client.create_topic_with("t", 2, &BROKER);
    assert!(Gateway::log(data.path()).contains("seaweedmq.path=broker was made"));
    let now = now_ms();
    let record = |timestamp,
                  key: Option<&[u8]>,
                  value: Option<&[u8]>,
                  headers: &[(&[u8], Option<&[u8]>)]| {
        let header = |(key, value): &(&[u8], Option<&[u8]>)| Header {
            key: Bytes::copy_from_slice(key),
            value: value.map(Bytes::copy_from_slice),
        };
        Record {
            offset: 0,
            timestamp,
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: headers.iter().map(header).collect(),
        }
    };
    let mut sent = vec![
        record(now, Some(b"k"), Some(b"plain"), &[]),
        record(now, None, Some(b"v"), &[]),
        record(now, Some(b""), Some(b""), &[]),
        record(now, Some(b"k"), None, &[]),
        record(
            now,
            None,
            None,
            &[(b"h", Some(b"x")), (b"h", None), (b"", Some(b""))],
        ),
        record(now - 86_400_000, Some(b"old"), Some(b"v"), &[]),
        record(now + 60_000, Some(b"to come"), Some(b"v"), &[]),
        record(now, Some(b"after"), Some(b"\x0a\x03abc"), &[(b"h", None)]),
    ];
    let mut builder = Builder::new().compression(tidegate::record::Compression::Gzip, None);
    for (offset, record) in sent.iter_mut().enumerate() {
        record.offset = offset as i64;
        let headers = record
            .headers
            .iter()
            .map(|h| (&h.key[..], h.value.as_deref()));
        builder.append(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers.collect::<Vec<_>>(),
        );
    }
    let answer = client.produce("t", 1, builder.build()).expect("an answer");
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (ErrorCode::NONE, 0)
    );
    // What is acknowledged is written, and may be read.
    assert_eq!(client.latest("t", 1), sent.len() as i64);
    assert_eq!(read(&mut client, "t", 1), sent);
    // More, with acks=1, becomes visible when it is written.
    let request = produce_request(
        "t",
        vec![(1, batch(&[b"x"], None)), (0, batch(&[b"y"], None))],
        1,
    );
    let began = Instant::now();
    let answer: produce::Response = client.call(produce::KEY, 9, &request).expect("an answer");
    assert!(began.elapsed() < Duration::from_millis(FLUSH_INTERVAL as u64 / 2));
    let offsets = answer.responses[0]
        .partition_responses
        .iter()
        .map(|p| (p.error_code, p.base_offset));
    assert_eq!(
        offsets.collect::<Vec<_>>(),
        [(ErrorCode::NONE, 8), (ErrorCode::NONE, 0)]
    );
    let fetch = fetch_request("t", &[(1, 8)], 30_000, 1);
    let answer = client.fetch(&fetch).expect("an answer");
    assert_eq!(
        common::records_of(&answer.responses[0].partitions[0]),
        [(8, Bytes::from("x"))]
    );
    // All of it is there after a restart.
    gateway.kill();
    let gateway = self::gateway(&weed, &data, Some(&gateway));
    let mut client = gateway.connect();
    wait_for("both are known", || {
        client.latest("t", 0) == 1 && client.latest("t", 1) == 9
    });
    assert_eq!(read(&mut client, "t", 1)[..8], sent);
    let refused = client.delete_records("t", 1, 2);
    assert_eq!(refused.0, ErrorCode::POLICY_VIOLATION);
}
