//! The gateway from the outside, over real sockets.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::common::{Gateway, batch, fetch_request, produce_request, records_of};
use crate::data_folder;
use bytes::Bytes;
use tidegate::wire::{ErrorCode, api_versions, describe_configs, fetch, list_offsets, produce};

const PRODUCE: i16 = produce::KEY;
pub const FETCH: i16 = fetch::KEY;

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 4);
    // A long poll, then many produce requests of all partitions, none waiting for an answer.
    let poll = client
        .send(FETCH, 11, &fetch_request("t", &[(0, 0)], 300, 1 << 20))
        .unwrap();
    let mut sent = Vec::new();
    for n in 0..40 {
        let request = produce_request("t", vec![(n % 4, batch(&[b"x"], None))], -1);
        sent.push((n, client.send(PRODUCE, 9, &request).unwrap()));
    }
    let began = Instant::now();
    client.receive::<fetch::Response>(FETCH, 11, poll).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    for (n, correlation_id) in sent {
        let response: produce::Response = client.receive(PRODUCE, 9, correlation_id).unwrap();
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, i64::from(n / 4))
        );
    }
}

#[test]
fn a_long_poll_ends_when_data_comes_and_when_its_time_is_over() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    let both = [(0, 0), (1, 0)];
    let began = Instant::now();
    let empty = client.fetch(&fetch_request("t", &both, 200, 1)).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(
        empty.responses[0]
            .partitions
            .iter()
            .all(|p| records_of(p).is_empty())
    );
    for partition in 0..2 {
        // The first one is at its end by then.
        let from = [(0, i64::from(partition)), (1, 0)];
        let poll = client
            .send(FETCH, 11, &fetch_request("t", &from, 20_000, 1))
            .unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let began = Instant::now();
        gateway
            .connect()
            .produce("t", partition, batch(&[b"x"], None))
            .unwrap();
        let response: fetch::Response = client.receive(FETCH, 11, poll).unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the poll did not wait for its time"
        );
        let data = &response.responses[0].partitions[partition as usize];
        assert_eq!(records_of(data).len(), 1);
    }
}

#[test]
fn a_batch_larger_than_the_fetch_asks_for_is_given_all_the_same() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    client
        .produce("t", 0, batch(&[&[1; 100_000]], None))
        .unwrap();
    let mut request = fetch_request("t", &[(0, 0)], 0, 1);
    request.max_bytes = 10;
    request.topics[0].partitions[0].partition_max_bytes = 10;
    let response = client.fetch(&request).unwrap();
    assert_eq!(records_of(&response.responses[0].partitions[0]).len(), 1);
}

#[test]
fn offsets_are_found_by_time() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    for n in 0..20_i64 {
        let mut builder = tidegate::record::Builder::new();
        for m in 0..5 {
            builder.append(1000 + n * 100 + m * 10, None, Some(&[0; 500]), &[]);
        }
        client.produce("t", 0, builder.build()).unwrap();
    }
    let mut find = |timestamp: i64| {
        let partition = list_offsets::ListOffsetsPartition {
            timestamp,
            current_leader_epoch: -1,
            ..Default::default()
        };
        let topic = list_offsets::ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![partition],
        };
        let request = list_offsets::Request {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let response: list_offsets::Response = client.call(list_offsets::KEY, 7, &request).unwrap();
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.error_code, ErrorCode::NONE);
        (found.offset, found.timestamp)
    };
    assert_eq!(find(0), (0, 1000));
    assert_eq!(find(1000 + 7 * 100 + 25), (38, 1000 + 7 * 100 + 30));
    assert_eq!(find(1000 + 7 * 100 + 41), (40, 1000 + 8 * 100));
    assert_eq!(find(1_000_000), (-1, -1));
    assert_eq!(find(-2).0, 0);
    assert_eq!(find(-1).0, 100);
    assert_eq!(find(-3), (99, 1000 + 19 * 100 + 40));
}

#[test]
fn a_bad_batch_is_refused_and_the_rest_of_the_request_goes_on() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 4);
    let good = batch(&[b"good"], None);
    let mut torn = good.to_vec();
    *torn.last_mut().unwrap() ^= 1;
    let batches = vec![
        (0, good.clone()),
        (1, torn.into()),
        (2, Bytes::new()),
        (3, good.clone()),
        (9, good.clone()),
    ];
    let response: produce::Response = client
        .call(PRODUCE, 9, &produce_request("t", batches, -1))
        .unwrap();
    let codes: Vec<_> = response.responses[0]
        .partition_responses
        .iter()
        .map(|p| p.error_code)
        .collect();
    let expected = [
        ErrorCode::NONE,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::NONE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ];
    assert_eq!(codes, expected);
    assert_eq!(client.drain("t", 0).len() + client.drain("t", 3).len(), 2);
    assert_eq!(client.latest("t", 1) + client.latest("t", 2), 0);
}

#[test]
fn acks_0_has_no_answer_and_is_stored() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    for n in 0..10 {
        client
            .send(
                PRODUCE,
                9,
                &produce_request("t", vec![(n % 2, batch(&[b"x"], None))], 0),
            )
            .unwrap();
    }
    let began = Instant::now();
    while client.latest("t", 0) + client.latest("t", 1) < 10 {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_begins_anew() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    let first = client.create_topic("t", 2);
    client.produce("t", 0, batch(&[b"old"], None)).unwrap();
    let poll = client
        .send(FETCH, 11, &fetch_request("t", &[(0, 1)], 20_000, 1))
        .unwrap();
    let mut admin = gateway.connect();
    admin.delete_topic("t");
    let polled: fetch::Response = client.receive(FETCH, 11, poll).unwrap();
    assert_eq!(
        polled.responses[0].partitions[0].error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let second = client.create_topic("t", 2);
    assert_ne!(first, second);
    assert_eq!(client.latest("t", 0), 0);
    assert_eq!(
        client
            .produce("t", 0, batch(&[b"new"], None))
            .unwrap()
            .base_offset,
        0
    );
    gateway.kill();
    let gateway = Gateway::start(data.path(), &[]);
    assert_eq!(
        gateway.connect().drain("t", 0),
        [(0, Bytes::from_static(b"new"))]
    );
}

#[test]
fn topics_come_and_go_while_others_are_written() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    gateway.connect().create_topic("busy", 2);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for producer in 0..4 {
            let (stop, mut client) = (&stop, gateway.connect());
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = client.produce("busy", producer % 2, batch(&[b"x"], None));
                    assert_eq!(answer.unwrap().error_code, ErrorCode::NONE);
                }
            });
        }
        let mut admin = gateway.connect();
        for n in 0..20 {
            let name = format!("t{n}");
            admin.create_topic(&name, 2);
            admin.produce(&name, 0, batch(&[b"x"], None)).unwrap();
            admin.delete_topic(&name);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_breaks_the_protocol_ends_that_connection_only() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut good = gateway.connect();
    good.create_topic("t", 1);
    let header = |key: i16, version: i16| {
        [
            &key.to_be_bytes()[..],
            &version.to_be_bytes(),
            &[0, 0, 0, 1, 0xff, 0xff],
        ]
        .concat()
    };
    let framed = |body: &[u8]| [&(body.len() as i32).to_be_bytes()[..], body].concat();
    let bad: Vec<Vec<u8>> = vec![
        0_i32.to_be_bytes().into(),
        (-1_i32).to_be_bytes().into(),
        i32::MAX.to_be_bytes().into(),
        framed(&[1, 2, 3]),
        framed(&header(999, 0)),
        framed(&header(3, 99)),
        framed(&[header(3, 1), i32::MAX.to_be_bytes().into()].concat()),
        b"GET / HTTP/1.1\r\n\r\n".into(),
    ];
    for bytes in bad {
        let mut client = gateway.connect();
        client.stream.write_all(&bytes).unwrap();
        assert!(
            matches!(client.stream.read(&mut [0; 1]), Ok(0) | Err(_)),
            "{bytes:?} is answered"
        );
    }
    assert_eq!(
        good.produce("t", 0, batch(&[b"x"], None))
            .unwrap()
            .error_code,
        ErrorCode::NONE
    );
    assert!(
        Gateway::log(data.path()).contains("127.0.0.1"),
        "the log names the peer"
    );
}

#[test]
fn an_answer_before_a_broken_frame_is_still_sent() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    let sent = client
        .send(api_versions::KEY, 0, &api_versions::Request::default())
        .unwrap();
    client.stream.write_all(&[0xff; 4]).unwrap();
    let response: api_versions::Response = client.receive(api_versions::KEY, 0, sent).unwrap();
    assert_eq!(response.error_code, ErrorCode::NONE);
    assert!(matches!(client.stream.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn a_signal_ends_it_in_order_while_clients_wait() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    let poll = client
        .send(FETCH, 11, &fetch_request("t", &[(0, 0), (1, 0)], 60_000, 1))
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    assert_eq!(gateway.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10));
    client
        .receive::<fetch::Response>(FETCH, 11, poll)
        .expect("the poll was answered");
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--max-connections", "3"]);
    // The probe that waited for the start may still count.
    std::thread::sleep(Duration::from_millis(100));
    let mut kept: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut kept {
        client.create_topic(
            &format!("t{}", client.stream.local_addr().unwrap().port()),
            1,
        );
    }
    let mut refused = gateway.connect();
    let _ = refused.send(api_versions::KEY, 0, &api_versions::Request::default());
    assert!(matches!(refused.stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    drop(kept);
    std::thread::sleep(Duration::from_millis(100));
    gateway.connect().create_topic("later", 1);
}

fn describe_configs_request(topic: &str, times: usize) -> describe_configs::Request {
    let resource = describe_configs::DescribeConfigsResource {
        resource_type: 2,
        resource_name: topic.to_owned().into(),
        configuration_keys: None,
    };
    describe_configs::Request {
        resources: vec![resource; times],
        ..Default::default()
    }
}

#[test]
fn configs_are_described_in_every_version() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--log-segment-bytes", "8MiB"]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    for version in describe_configs::VERSIONS {
        let request = describe_configs_request("t", 1);
        let response: describe_configs::Response = client
            .call(describe_configs::KEY, version, &request)
            .expect("an answer");
        let configs = &response.results[0].configs;
        let segment_bytes = configs.iter().find(|c| c.name == *"segment.bytes");
        let value = segment_bytes.map(|c| (c.value.as_deref(), c.config_source));
        assert_eq!(value, Some((Some("8388608"), 4)));
    }
}

#[test]
fn a_request_for_more_configs_than_there_can_be_ends_the_connection() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let mut describe = |times| -> std::io::Result<describe_configs::Response> {
        let request = describe_configs_request("t", times);
        client.call(describe_configs::KEY, 4, &request)
    };
    let most = 10_001;
    assert_eq!(describe(most).expect("an answer").results.len(), most);
    assert!(describe(most + 1).is_err());
    assert!(Gateway::log(data.path()).contains("10002 resources"));
}
