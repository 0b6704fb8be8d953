//! Topics that set `compression.type`, from the outside, over real sockets.

use crate::common::{Client, Gateway, fetch_request, produce_request, records_of};
use crate::{KEEPS_BATCHES, data_folder};
use bytes::Bytes;
use tidegate::record::{Batch, Builder, Compression, TimestampType, batches};
use tidegate::wire::{ErrorCode, incremental_alter_configs, produce};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn set(client: &mut Client, of: (i8, &str), name: &str, value: &str) {
    let config = incremental_alter_configs::AlterableConfig {
        name: name.to_owned().into(),
        config_operation: 0,
        value: Some(value.to_owned().into()),
    };
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: of.0,
        resource_name: of.1.to_owned().into(),
        configs: vec![config],
    };
    let request = incremental_alter_configs::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let response: incremental_alter_configs::Response = client
        .call(incremental_alter_configs::KEY, 1, &request)
        .expect("an answer");
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
}

/// Values that compress well: numbers among zeros.
fn values(first: usize, count: usize, size: usize) -> Vec<Bytes> {
    let value = |number| format!("{number:0size$}").into();
    (first..first + count).map(value).collect()
}

fn packed(codec: Compression, values: &[Bytes], producer: Option<(i64, i32)>) -> Bytes {
    let mut builder = Builder::new().compression(codec, None);
    if let Some((id, sequence)) = producer {
        builder = builder.producer(id, 0, sequence);
    }
    for value in values {
        builder.append(
            1_700_000_000_000,
            Some(b"key"),
            Some(value),
            &[(b"h", None)],
        );
    }
    builder.build()
}

/// The batches of a partition, as they are fetched. They must come to less than 1 MiB.
fn stored(client: &mut Client, topic: &str, partition: i32) -> Vec<Batch> {
    let request = fetch_request(topic, &[(partition, 0)], 1000, 1);
    let response = client.fetch(&request).expect("an answer");
    let data = &response.responses[0].partitions[0];
    assert!(!records_of(data).is_empty());
    let bytes = data.records.clone().unwrap_or_default().into_bytes();
    batches(bytes)
        .map(|batch| batch.expect("a batch"))
        .collect()
}

fn codec(batch: &Batch) -> Compression {
    batch.attributes().compression().expect("a codec")
}

const TYPES: [(&str, Compression); 5] = [
    ("uncompressed", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

#[test]
fn records_are_stored_with_the_topics_codec_and_come_back_as_they_were() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    for (name, wanted) in TYPES {
        client.create_topic_with(name, 2, &[("compression.type", name)]);
        for partition in 0..2 {
            let mut sent = Vec::new();
            for from in Compression::ALL {
                // One that is compressed where it arrives, and one that is handed over.
                for (count, size) in [(5, 20), (60, 1000)] {
                    let some = values(sent.len(), count, size);
                    let answer = client.produce(name, partition, packed(from, &some, None));
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.error_code, ErrorCode::NONE);
                    assert_eq!(answer.base_offset, sent.len() as i64);
                    sent.extend(some);
                }
            }
            let read: Vec<_> = client.drain(name, partition).into_iter().collect();
            assert!(read.iter().map(|(_, value)| value).eq(&sent), "{name}");
            assert!(
                read.iter()
                    .map(|(offset, _)| *offset)
                    .eq(0..sent.len() as i64)
            );
            let all = stored(&mut client, name, partition);
            assert!(all.iter().all(|batch| codec(batch) == wanted), "{name}");
        }
    }
    assert_eq!(gateway.stop(), Some(0));
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    for (name, _) in TYPES {
        assert_eq!(client.drain(name, 1).len(), 5 * 65);
    }
}

#[test]
fn a_batch_of_the_wanted_codec_keeps_its_bytes() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    let levels = [
        ("compression.type", "zstd"),
        ("compression.zstd.level", "19"),
    ];
    client.create_topic_with("t", 1, &levels);
    let mut builder = Builder::new().compression(Compression::Zstd, Some(-50));
    builder.append(1_700_000_000_000, None, Some(&[b'v'; 5000]), &[]);
    let sent = Batch::parse(&builder.build()).expect("a batch");
    client
        .produce("t", 0, sent.bytes().clone())
        .expect("an answer");
    let all = stored(&mut client, "t", 0);
    match KEEPS_BATCHES {
        true => assert_eq!(all[0].after_head(), sent.after_head()),
        false => assert_eq!(codec(&all[0]), Compression::Zstd),
    }
}

#[test]
fn a_change_of_the_type_or_level_counts_from_the_next_batch_on() {
    let data = data_folder();
    let gateway = Gateway::start(
        data.path(),
        &["--shards", "2", "--compression-type", "snappy"],
    );
    let mut client = gateway.connect();
    client.create_topic_with("t", 1, &[]);
    let some = values(0, 200, 100);
    let produce = |client: &mut Client| {
        let answer = client.produce("t", 0, packed(Compression::None, &some, None));
        assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
    };
    produce(&mut client);
    set(&mut client, (BROKER, "1"), "compression.type", "lz4");
    produce(&mut client);
    set(&mut client, (BROKER, ""), "compression.gzip.level", "1");
    set(&mut client, (TOPIC, "t"), "compression.type", "gzip");
    produce(&mut client);
    set(&mut client, (TOPIC, "t"), "compression.gzip.level", "9");
    produce(&mut client);
    set(&mut client, (TOPIC, "t"), "compression.type", "producer");
    produce(&mut client);
    let all = stored(&mut client, "t", 0);
    let codecs: Vec<_> = all.iter().map(codec).collect();
    let gzip = Compression::Gzip;
    let expected = [
        Compression::Snappy,
        Compression::Lz4,
        gzip,
        gzip,
        Compression::None,
    ];
    assert_eq!(codecs, expected);
    if KEEPS_BATCHES {
        assert!(all[2].size_in_bytes() > all[3].size_in_bytes());
    }
}

#[test]
fn a_retry_is_found_however_it_was_stored() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic_with("t", 1, &[("compression.type", "gzip")]);
    let id = client.new_producer_id().expect("an id");
    let large = packed(Compression::Lz4, &values(0, 100, 1000), Some((id, 0)));
    let small = packed(Compression::None, &values(100, 2, 10), Some((id, 100)));
    for (batch, offset) in [(&large, 0), (&small, 100), (&large, 0), (&small, 100)] {
        let answer = client.produce("t", 0, batch.clone()).expect("an answer");
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, offset)
        );
    }
    let gap = packed(Compression::None, &values(0, 1, 10), Some((id, 500)));
    let answer = client.produce("t", 0, gap).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    set(&mut client, (TOPIC, "t"), "compression.type", "zstd");
    let answer = client.produce("t", 0, small).expect("an answer");
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (ErrorCode::NONE, 100)
    );
    assert_eq!(client.drain("t", 0).len(), 102);
    let first = &stored(&mut client, "t", 0)[0];
    assert_eq!((first.producer_id(), first.base_sequence()), (id, 0));
}

#[test]
fn requests_of_a_connection_are_stored_in_their_order() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic_with("t", 1, &[("compression.type", "zstd")]);
    let mut sent = 0;
    let mut ids = Vec::new();
    for round in 0..30 {
        // Large ones are compressed elsewhere; those behind them are not to overtake.
        let (count, size) = if round % 3 == 0 { (200, 1000) } else { (2, 10) };
        let from = Compression::ALL[round % 5];
        let batch = packed(from, &values(sent, count, size), None);
        let request = produce_request("t", vec![(0, batch)], -1);
        ids.push((client.send(produce::KEY, 9, &request).expect("sent"), sent));
        sent += count;
    }
    for (id, offset) in ids {
        let response: produce::Response = client.receive(produce::KEY, 9, id).expect("an answer");
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, offset as i64)
        );
    }
    let read = client.drain("t", 0);
    let number = |value: &Bytes| {
        std::str::from_utf8(value)
            .expect("digits")
            .parse::<usize>()
            .expect("one")
    };
    assert!(read.iter().map(|(_, value)| number(value)).eq(0..sent));
}

#[test]
fn batches_are_held_against_the_limit_before_and_after() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    let limit = ("max.message.bytes", "2000");
    for (name, from, expected) in [
        (
            "uncompressed",
            Compression::Gzip,
            ErrorCode::MESSAGE_TOO_LARGE,
        ),
        (
            "uncompressed",
            Compression::None,
            ErrorCode::MESSAGE_TOO_LARGE,
        ),
        ("gzip", Compression::None, ErrorCode::MESSAGE_TOO_LARGE),
        ("zstd", Compression::Gzip, ErrorCode::NONE),
    ] {
        let topic = format!("{name}-{}", from.name());
        client.create_topic_with(&topic, 1, &[("compression.type", name), limit]);
        let batch = packed(from, &values(0, 5, 1000), None);
        let answer = client.produce(&topic, 0, batch).expect("an answer");
        assert_eq!(answer.error_code, expected, "{topic}");
        let offset = if expected == ErrorCode::NONE { 0 } else { -1 };
        assert_eq!(answer.base_offset, offset);
    }
}

#[test]
fn times_of_the_append_go_with_another_codec() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    let append_time = ("message.timestamp.type", "LogAppendTime");
    client.create_topic_with("t", 1, &[("compression.type", "lz4"), append_time]);
    for from in Compression::ALL {
        let batch = packed(from, &values(0, 3, 10), None);
        let answer = client.produce("t", 0, batch).expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let last = stored(&mut client, "t", 0).pop().expect("a batch");
        assert_eq!(codec(&last), Compression::Lz4);
        let attributes = last.attributes();
        assert_eq!(attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(last.max_timestamp(), answer.log_append_time_ms);
        assert!(last.max_timestamp() > 1_700_000_000_000);
    }
}

#[test]
fn a_request_that_grows_beyond_the_memory_for_it_is_stored_in_parts() {
    let data = data_folder();
    let memory = ["--shards", "2", "--max-inflated-bytes", "1MiB"];
    let gateway = Gateway::start(data.path(), &memory);
    let mut client = gateway.connect();
    client.create_topic_with("t", 50, &[("compression.type", "uncompressed")]);
    // Some 10 KiB that become 48 MiB.
    let batch = packed(Compression::Zstd, &values(0, 20, 50_000), None);
    let parts = |batch: &Bytes| (0..50).map(|index| (index, batch.clone())).collect();
    for (acks, offset) in [(-1, 0), (1, 20)] {
        let request = produce_request("t", parts(&batch), acks);
        let response: produce::Response = client.call(produce::KEY, 9, &request).expect("answer");
        let answers = &response.responses[0].partition_responses;
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer.index, index as i32);
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (ErrorCode::NONE, offset)
            );
        }
    }
    client
        .send(produce::KEY, 9, &produce_request("t", parts(&batch), 0))
        .expect("sent");
    for partition in 0..50 {
        // There is no answer to wait for but that of what comes behind it.
        let next = packed(Compression::None, &values(0, 1, 10), None);
        let answer = client.produce("t", partition, next).expect("an answer");
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, 60)
        );
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_the_rest_of_the_request_stored() {
    let data = data_folder();
    let options = ["--shards", "1", "--record-validation", "header"];
    let gateway = Gateway::start(data.path(), &options);
    let mut client = gateway.connect();
    client.create_topic_with("t", 3, &[("compression.type", "gzip")]);
    let good = packed(Compression::Zstd, &values(0, 3, 10), None);
    let (header, _) = good.split_at(61);
    let mut bad = [header, &b"no frame"[..]].concat();
    let length = (bad.len() as i32 - 12).to_be_bytes();
    bad[8..12].copy_from_slice(&length);
    let crc = crc32c::crc32c(&bad[21..]).to_be_bytes();
    bad[17..21].copy_from_slice(&crc);
    let batches = vec![(0, good.clone()), (1, bad.into()), (2, good)];
    let request = produce_request("t", batches, -1);
    let response: produce::Response = client.call(produce::KEY, 9, &request).expect("an answer");
    let codes: Vec<_> = response.responses[0]
        .partition_responses
        .iter()
        .map(|answer| answer.error_code)
        .collect();
    let expected = [ErrorCode::NONE, ErrorCode::INVALID_RECORD, ErrorCode::NONE];
    assert_eq!(codes, expected);
    assert_eq!(client.latest("t", 1), 0);
    assert_eq!(client.drain("t", 2).len(), 3);
}
