//! Whatever clients send, it costs what is bounded, others are served, and the memory comes back.

mod common;

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use common::{Client, Gateway, batch, data_folder, fetch_request, produce_request, records_of};
use tidegate::record::{Batch, Builder};
use tidegate::wire::frame::{RequestHeader, encode_request};
use tidegate::wire::{
    ErrorCode, Records, api_versions, create_partitions, create_topics, metadata, produce,
};

const MIB: usize = 1 << 20;

fn large_value() -> Vec<u8> {
    (0..900_000_u32).map(|n| (n % 251) as u8).collect()
}

/// Produces and fetches, on a connection of its own.
fn assert_serves(gateway: &Gateway, topic: &str) {
    let mut client = gateway.connect();
    let produced = client
        .produce(topic, 0, batch(&[b"served"], None))
        .expect("an answer");
    assert_eq!(produced.error_code, ErrorCode::NONE);
    let request = fetch_request(topic, &[(0, produced.base_offset)], 1000, 1);
    let response = client.fetch(&request).expect("an answer");
    let records = records_of(&response.responses[0].partitions[0]);
    assert_eq!(&records.last().expect("a record").1[..], b"served");
}

#[test]
fn null_records_are_answered() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    for version in [3, 8, 9, 12] {
        let mut request = produce_request("t", vec![(0, Bytes::new())], -1);
        request.topic_data[0].partition_data[0].records = None;
        let response: produce::Response = client
            .call(produce::KEY, version, &request)
            .expect("an answer");
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::INVALID_RECORD);
    }
    assert_serves(&gateway, "t");
}

#[test]
fn of_a_partition_that_is_named_twice_the_last_batch_is_taken_and_one_answer_given() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    client.create_topic("u", 1);
    let of = |topic, values: &[(i32, &[u8])]| {
        let batches = values.iter().map(|(p, value)| (*p, batch(&[value], None)));
        produce_request(topic, batches.collect(), -1).topic_data
    };
    let request = produce::Request {
        topic_data: [
            of("t", &[(0, b"first"), (1, b"one"), (0, b"second")]),
            of("u", &[(0, b"u")]),
            of("t", &[(0, b"last"), (7, b"none"), (7, b"none")]),
        ]
        .concat(),
        ..produce_request("t", Vec::new(), -1)
    };
    let response: produce::Response = client.call(produce::KEY, 9, &request).expect("an answer");
    let answers = response.responses.iter().flat_map(|topic| {
        let partitions = topic.partition_responses.iter();
        partitions.map(|p| (&*topic.name, p.index, p.error_code, p.base_offset))
    });
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let expected = [
        ("t", 0, ErrorCode::NONE, 0),
        ("t", 1, ErrorCode::NONE, 0),
        ("t", 7, unknown, -1),
        ("u", 0, ErrorCode::NONE, 0),
    ];
    assert_eq!(answers.collect::<Vec<_>>(), expected);
    let stored = client.drain("t", 0).into_iter().map(|(_, value)| value);
    assert_eq!(stored.collect::<Vec<_>>(), [&b"last"[..]]);
}

/// A batch of one record with a value of so many zeros, compressed to next to nothing.
fn bomb(zeros: usize) -> Bytes {
    let mut head = vec![0];
    for field in [0, 0, -2_i64] {
        // Timestamp and offset delta, no key; each is small.
        head.push(((field << 1) ^ (field >> 63)) as u8);
    }
    let varint = |mut n: u64| {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    head.pop();
    head.push(1);
    head.extend(varint(2 * zeros as u64));
    let mut payload = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    let length = head.len() + zeros + 1;
    payload
        .write_all(&varint(2 * length as u64))
        .expect("in memory");
    payload.write_all(&head).expect("in memory");
    let chunk = vec![0; MIB];
    for _ in 0..zeros / MIB {
        payload.write_all(&chunk).expect("in memory");
    }
    payload.write_all(&[0]).expect("in memory");
    let payload = payload.finish().expect("in memory");
    let mut builder = Builder::new();
    builder.append(1_700_000_000_000, None, Some(b""), &[]);
    let mut raw = builder.build()[..61].to_vec();
    raw[22] = 4; // zstd
    raw.extend_from_slice(&payload);
    let length = (raw.len() - 12) as i32;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    raw.into()
}

#[test]
fn batches_that_inflate_without_end_are_refused_while_others_are_served() {
    let data = data_folder();
    let gateway = Gateway::start(
        data.path(),
        &["--shards", "1", "--max-inflated-bytes", "32MiB"],
    );
    gateway.connect().create_topic("t", 1);
    let small = bomb(4 * MIB);
    assert!(Batch::parse(&small).is_ok_and(|b| b.crc_ok()));
    let stored = gateway.connect().produce("t", 0, small).expect("an answer");
    assert_eq!(
        stored.error_code,
        ErrorCode::NONE,
        "it is a good batch but for its size"
    );
    let bomb = bomb(2048 * MIB);
    assert!(bomb.len() < 256 << 10, "{} bytes", bomb.len());
    let before = gateway.resident_bytes();
    let mut attackers: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    let request = produce_request("t", vec![(0, bomb)], -1);
    let sent: Vec<_> = attackers
        .iter_mut()
        .map(|a| a.send(produce::KEY, 9, &request).expect("it is sent"))
        .collect();
    assert_serves(&gateway, "t");
    for (attacker, id) in attackers.iter_mut().zip(sent) {
        let response: produce::Response = attacker.receive(produce::KEY, 9, id).expect("an answer");
        let partition = &response.responses[0].partition_responses[0];
        assert_ne!(partition.error_code, ErrorCode::NONE);
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 24 * MIB, "{grown} bytes");
}

#[test]
fn fetches_of_many_partitions_cost_what_they_are_worth() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    client
        .produce("t", 0, batch(&[&large_value()], None))
        .expect("an answer");
    let many: Vec<_> = (0..100_000).map(|p| (p, 0)).collect();
    let same = vec![(0, 0); 100_000];
    let mut largest = 0;
    for round in 0..8 {
        let response = client
            .fetch(&fetch_request("t", &many, 0, 1))
            .expect("an answer");
        let partitions = &response.responses[0].partitions;
        assert_eq!(partitions.len(), many.len());
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert!(partitions[1..].iter().all(|p| p.error_code == unknown));
        let response = client
            .fetch(&fetch_request("t", &same, 0, 1))
            .expect("an answer");
        assert_eq!(response.responses[0].partitions.len(), 1);
        // Their sessions take no more than all sessions may.
        let mut open = fetch_request("t", &many, 0, 1);
        open.session_epoch = 0;
        client.fetch(&open).expect("an answer");
        let resident = gateway.resident_bytes();
        if round > 3 {
            assert!(
                resident < largest + 8 * MIB,
                "{resident} bytes after {largest}"
            );
        }
        largest = largest.max(resident);
    }
    assert_serves(&gateway, "t");
}

/// Sends the same request until the connection takes no more.
fn flood(gateway: &Gateway, frame: &[u8]) -> (Client, usize) {
    let mut client = gateway.connect();
    let patience = Duration::from_millis(300);
    client
        .stream
        .set_write_timeout(Some(patience))
        .expect("a timeout");
    let mut sent = 0;
    while sent < 64 * MIB && client.stream.write_all(frame).is_ok() {
        sent += frame.len();
    }
    (client, sent)
}

fn frame_of(key: i16, version: i16, request: &impl tidegate::wire::Message) -> Vec<u8> {
    let header = RequestHeader {
        api_key: key,
        api_version: version,
        correlation_id: 1,
        client_id: Some("test".into()),
    };
    encode_request(&header, request).concat()
}

#[test]
fn clients_that_ask_and_never_listen_take_little_memory() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    gateway.connect().create_topic("t", 1);
    let request = api_versions::Request {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let frame = frame_of(api_versions::KEY, 3, &request).repeat(1000);
    let before = gateway.resident_bytes();
    let floods: Vec<_> = (0..4).map(|_| flood(&gateway, &frame)).collect();
    assert!(
        floods.iter().all(|(_, sent)| *sent < 64 * MIB),
        "all are slowed"
    );
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes");
    assert_serves(&gateway, "t");
}

#[test]
fn a_flood_without_acknowledgements_is_slowed_to_what_can_be_stored() {
    let data = data_folder();
    let options = [
        "--shards",
        "1",
        "--max-uncommitted-bytes",
        "2MiB",
        "--tail-memory",
        "1MiB",
    ];
    let gateway = Gateway::start(
        data.path(),
        &[&options[..], &["--request-memory", "8MiB"]].concat(),
    );
    gateway.connect().create_topic("t", 1);
    let value = large_value();
    let request = produce_request("t", vec![(0, batch(&[&value], None))], 0);
    let frame = frame_of(produce::KEY, 9, &request);
    let mut client = gateway.connect();
    let before = gateway.resident_bytes();
    let mut most = 0;
    for n in 0..150 {
        client.stream.write_all(&frame).expect("it is taken");
        if n % 10 == 0 {
            most = most.max(gateway.resident_bytes().saturating_sub(before));
        }
    }
    assert!(most < 48 * MIB, "{most} bytes");
    // Nothing of it is lost.
    while client.latest("t", 0) < 150 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn reads_from_the_disk_wait_for_memory() {
    let data = data_folder();
    let options = [
        "--shards",
        "1",
        "--tail-memory",
        "1MiB",
        "--answer-memory",
        "16MiB",
    ];
    let gateway = Gateway::start(data.path(), &options);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let value = large_value();
    for _ in 0..16 {
        client
            .produce("t", 0, batch(&[&value], None))
            .expect("an answer");
    }
    let mut request = fetch_request("t", &[(0, 0)], 0, 1);
    request.topics[0].partitions[0].partition_max_bytes = 10 * MIB as i32;
    let before = gateway.peak_bytes();
    let read = || {
        let response = gateway.connect().fetch(&request).expect("an answer");
        response.responses[0].partitions[0]
            .records
            .as_ref()
            .map_or(0, Records::len)
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..16).map(|_| scope.spawn(read)).collect();
        for reader in readers {
            assert!(reader.join().expect("it ends") > 8 * MIB);
        }
    });
    // All at once would be 160 MiB.
    let grown = gateway.peak_bytes() - before;
    assert!(grown < 64 * MIB, "{grown} bytes");
}

#[test]
fn there_are_no_more_partitions_than_configured() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--max-partitions", "10"]);
    let mut client = gateway.connect();
    client.create_topic("a", 6);
    let create = |client: &mut Client, topics: &[(&str, i32)]| {
        let topic = |(name, num_partitions): &(&str, i32)| create_topics::CreatableTopic {
            name: (*name).to_owned().into(),
            num_partitions: *num_partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = create_topics::Request {
            topics: topics.iter().map(topic).collect(),
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response: create_topics::Response = client
            .call(create_topics::KEY, 7, &request)
            .expect("an answer");
        let codes = response.topics.iter().map(|t| t.error_code);
        codes.collect::<Vec<_>>()
    };
    let too_many = ErrorCode::POLICY_VIOLATION;
    let created = create(&mut client, &[("b", 5), ("c", 3), ("d", 2)]);
    assert_eq!(created, [too_many, ErrorCode::NONE, too_many]);

    let more = create_partitions::CreatePartitionsTopic {
        name: "c".into(),
        count: 5,
        ..Default::default()
    };
    let request = create_partitions::Request {
        topics: vec![more],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response: create_partitions::Response = client
        .call(create_partitions::KEY, 3, &request)
        .expect("an answer");
    assert_eq!(response.results[0].error_code, too_many);

    // One is left, whichever of them takes it.
    let names = (0..1000).map(|n| metadata::MetadataRequestTopic {
        name: Some(format!("auto-{n}").into()),
        ..Default::default()
    });
    let request = metadata::Request {
        topics: Some(names.collect()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let response: metadata::Response = client.call(metadata::KEY, 9, &request).expect("an answer");
    let made = response.topics.iter().filter(|t| t.error_code.is_ok());
    assert_eq!(made.count(), 1);
    client.delete_topic("a");
    assert_eq!(create(&mut client, &[("b", 6)]), [ErrorCode::NONE]);
}

#[test]
fn connections_that_are_idle_after_a_burst_take_little_memory() {
    const CONNECTIONS: usize = 300;
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let frame = frame_of(api_versions::KEY, 0, &api_versions::Request::default());
    let burst = |client: &mut Client| {
        client
            .stream
            .write_all(&frame.repeat(3000))
            .expect("it is taken");
        for _ in 0..3000 {
            client.receive_frame().expect("an answer");
        }
    };
    burst(&mut gateway.connect());
    let before = gateway.resident_bytes();
    let mut idle: Vec<_> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
    idle.iter_mut().for_each(burst);
    let each = gateway.resident_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(each < 16 << 10, "{each} bytes");
}
