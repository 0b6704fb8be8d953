//! What holds of logs that the gateway writes itself, and not of those that SeaweedMQ's brokers keep: offsets
//! without gaps, sizes that are known, leader epochs, and what producers sent, also after a restart.

use crate::common::{Client, Gateway, batch, fetch_request, records_of};
use crate::data_folder;
use bytes::Bytes;
use tidegate::wire::{ErrorCode, describe_producers, fetch, list_offsets, offset_for_leader_epoch};

use super::delete_records::{fill, start};
use super::fetch_sessions::{BY_ID, by_id, call};
use super::gateway::FETCH;

fn values(n: usize, size: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("{i:0size$}").into_bytes()).collect()
}

fn batch_of(values: &[Vec<u8>], producer: Option<(i64, i16, i32)>) -> Bytes {
    batch(
        &values.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        producer,
    )
}

#[test]
fn what_was_produced_is_fetched_and_survives_a_clean_restart_with_other_shards() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 3);
    let sent = values(10, 8);
    for partition in 0..3 {
        let answer = client
            .produce("t", partition, batch_of(&sent, None))
            .unwrap();
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, 0)
        );
    }
    assert_eq!(gateway.stop(), Some(0));
    let gateway = Gateway::start(data.path(), &["--shards", "3"]);
    let mut client = gateway.connect();
    for partition in 0..3 {
        let found: Vec<_> = client
            .drain("t", partition)
            .into_iter()
            .map(|(_, v)| v.to_vec())
            .collect();
        assert_eq!(found, sent);
        assert_eq!(
            client
                .produce("t", partition, batch_of(&sent, None))
                .unwrap()
                .base_offset,
            10
        );
    }
    assert!(!Gateway::log(data.path()).contains("did not stop cleanly"));
}

#[test]
fn a_long_poll_waits_for_its_minimum_of_bytes() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let batch = batch(&[&[7; 400]], None);
    let min_bytes = batch.len() as i32 * 3;
    let poll = client
        .send(FETCH, 11, &fetch_request("t", &[(0, 0)], 20_000, min_bytes))
        .unwrap();
    let mut producer = gateway.connect();
    for _ in 0..3 {
        producer.produce("t", 0, batch.clone()).unwrap();
    }
    let response: fetch::Response = client.receive(FETCH, 11, poll).unwrap();
    assert_eq!(records_of(&response.responses[0].partitions[0]).len(), 3);
}

#[test]
fn a_fetch_in_the_middle_of_a_batch_gives_the_whole_batch_from_memory_and_from_disk() {
    let data = data_folder();
    // Little memory for the tail, so that old batches are read from segments; small segments.
    let options = [
        "--shards",
        "1",
        "--tail-memory",
        "1MiB",
        "--log-segment-bytes",
        "1MiB",
    ];
    let mut gateway = Gateway::start(data.path(), &options);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let sent = values(10, 10_000);
    for n in 0..40 {
        let answer = client.produce("t", 0, batch_of(&sent, None)).unwrap();
        assert_eq!(answer.base_offset, n * 10);
    }
    let check = |client: &mut Client| {
        for offset in [0, 5, 9, 10, 123, 255, 391, 399] {
            let response = client
                .fetch(&fetch_request("t", &[(0, offset)], 0, 1))
                .unwrap();
            let found = records_of(&response.responses[0].partitions[0]);
            assert_eq!(
                found[0].0,
                offset / 10 * 10,
                "from the batch that holds {offset}"
            );
        }
        let all = client.drain("t", 0);
        assert_eq!(all.len(), 400);
        assert!(
            all.iter()
                .enumerate()
                .all(|(n, (offset, value))| *offset == n as i64 && *value == sent[n % 10])
        );
    };
    check(&mut client);
    gateway.kill();
    let gateway = Gateway::start(data.path(), &options);
    check(&mut gateway.connect());
}

#[test]
fn a_retry_is_not_stored_twice_also_after_kill_9() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let id = client.new_producer_id().unwrap();
    let first = batch(&[b"a", b"b"], Some((id, 0, 0)));
    let second = batch(&[b"c"], Some((id, 0, 2)));
    assert_eq!(
        client.produce("t", 0, first.clone()).unwrap().base_offset,
        0
    );
    assert_eq!(
        client.produce("t", 0, second.clone()).unwrap().base_offset,
        2
    );
    assert_eq!(
        client.produce("t", 0, first.clone()).unwrap().base_offset,
        0
    );
    gateway.kill();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    for (batch, offset) in [(&first, 0), (&second, 2)] {
        let answer = client.produce("t", 0, batch.clone()).unwrap();
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, offset)
        );
    }
    let gap = client
        .produce("t", 0, batch(&[b"e"], Some((id, 0, 4))))
        .unwrap();
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.drain("t", 0).len(), 3);
    assert!(
        client.new_producer_id().unwrap() > id,
        "a producer id is never given again"
    );
}

#[test]
fn a_leader_epoch_ends_where_the_next_one_begins() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    client.produce("t", 0, batch(&[b"x", b"y"], None)).unwrap();
    gateway.kill();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    let mut ask = |partition, current_leader_epoch, leader_epoch| {
        let of = offset_for_leader_epoch::OffsetForLeaderPartition {
            partition,
            current_leader_epoch,
            leader_epoch,
        };
        let topic = offset_for_leader_epoch::OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![of],
        };
        let request = offset_for_leader_epoch::Request {
            replica_id: -1,
            topics: vec![topic],
        };
        let response: offset_for_leader_epoch::Response = client
            .call(offset_for_leader_epoch::KEY, 4, &request)
            .expect("an answer");
        let end = &response.topics[0].partitions[0];
        (end.error_code, end.leader_epoch, end.end_offset)
    };
    let none = ErrorCode::NONE;
    assert_eq!(ask(0, -1, 0), (none, 0, 2), "it ended with the kill");
    assert_eq!(
        ask(0, -1, 1),
        (none, 1, 2),
        "the current one, without records"
    );
    assert_eq!(ask(0, 1, -2), (none, -2, 0), "before the first");
    assert_eq!(ask(0, -1, -1), (none, -1, -1));
    assert_eq!(ask(0, -1, 7), (none, -1, -1), "not begun yet");
    assert_eq!(ask(1, -1, 0), (none, 0, 0), "nothing was written");
    assert_eq!(ask(0, 0, 0), (ErrorCode::FENCED_LEADER_EPOCH, -1, -1));
    assert_eq!(ask(0, 9, 0), (ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1));
    assert_eq!(
        ask(9, -1, 0),
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
    );
}

#[test]
fn the_earliest_offset_has_the_leader_epoch_of_its_record() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    client.produce("t", 0, batch(&[b"x"], None)).unwrap();
    gateway.kill();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.produce("t", 0, batch(&[b"y"], None)).unwrap();
    let mut epochs = |timestamp| -> Vec<i32> {
        let query = |partition_index| list_offsets::ListOffsetsPartition {
            partition_index,
            current_leader_epoch: -1,
            timestamp,
        };
        let topic = list_offsets::ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![query(0), query(1)],
        };
        let request = list_offsets::Request {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let response: list_offsets::Response = client
            .call(list_offsets::KEY, 6, &request)
            .expect("an answer");
        let partitions = response.topics[0].partitions.iter();
        partitions.map(|p| p.leader_epoch).collect()
    };
    let (earliest, latest) = (epochs(-2), epochs(-1));
    assert_eq!((earliest[0], latest[0]), (0, 1));
    assert_eq!(earliest[1], latest[1], "an empty partition has one epoch");
}

#[test]
fn producers_are_told_as_they_wrote_last() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    let id = client.new_producer_id().expect("an id");
    for sequence in [0, 2] {
        let batch = batch(&[b"a", b"b"], Some((id, 0, sequence)));
        let produced = client.produce("t", 1, batch).expect("an answer");
        assert_eq!(produced.error_code, ErrorCode::NONE);
    }
    let told = |client: &mut Client| {
        let topic = describe_producers::TopicRequest {
            name: "t".into(),
            partition_indexes: vec![0, 1, 2, 1],
        };
        let request = describe_producers::Request {
            topics: vec![topic],
        };
        let response: describe_producers::Response = client
            .call(describe_producers::KEY, 0, &request)
            .expect("an answer");
        let partitions = response.topics[0].partitions.iter();
        let told = partitions.map(|p| {
            let active = p.active_producers.iter();
            let active = active.map(|a| (a.producer_id, a.producer_epoch, a.last_sequence));
            (
                p.partition_index,
                p.error_code.0,
                active.collect::<Vec<_>>(),
            )
        });
        told.collect::<Vec<_>>()
    };
    let expected = [(0, 0, vec![]), (1, 0, vec![(id, 0, 3)]), (2, 3, vec![])];
    assert_eq!(told(&mut client), expected);
    gateway.kill();

    let gateway = start(data.path());
    assert_eq!(told(&mut gateway.connect()), expected);
}

#[test]
fn a_log_whose_records_are_all_deleted_goes_on_where_it_ended() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    fill(&mut client, "t", 3);
    for round in 1..4_i64 {
        let end = client.latest("t", 0);
        assert_eq!(client.delete_records("t", 0, -1), (ErrorCode::NONE, end));
        match round {
            1 => gateway.kill(),
            _ => assert_eq!(gateway.stop(), Some(0)),
        }
        gateway = start(data.path());
        client = gateway.connect();
        assert_eq!((client.earliest("t", 0), client.latest("t", 0)), (end, end));
        let answer = client.produce("t", 0, batch(&[b"on"], None));
        let answer = answer.expect("an answer");
        assert_eq!((answer.base_offset, answer.log_start_offset), (end, end));
        assert_eq!(client.drain("t", 0), [(end, "on".into())]);
    }
}

#[test]
fn a_search_by_time_finds_no_deleted_record() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    // Offsets 0 to 3 in one batch, all of the same time.
    let values: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
    client
        .produce("t", 0, batch(&values, None))
        .expect("an answer");
    assert_eq!(client.offset_at("t", 0, 0), 0);
    client.delete_records("t", 0, 2);
    assert_eq!(client.offset_at("t", 0, 0), 2);
    client.delete_records("t", 0, 4);
    assert_eq!(client.offset_at("t", 0, 0), -1);
    // As Kafka: the largest timestamp is that of the segment.
    assert_eq!(client.offset_at("t", 0, -3), 0);
}

#[test]
fn readers_learn_of_a_new_leader_epoch_and_where_their_log_parts_from_this_one() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    let topic_id = client.create_topic("t", 1);
    client
        .produce("t", 0, batch(&[b"a", b"b"], None))
        .expect("an answer");
    gateway.kill();
    let gateway = Gateway::start_at(gateway.address, data.path(), &[]);
    let mut client = gateway.connect();
    let mut fetch = |offset, current_leader_epoch, last_fetched_epoch, replica_id| {
        // Whatever there is to be told is told at once.
        let mut request = by_id(
            fetch_request("t", &[(0, offset)], 60_000, 1 << 20),
            topic_id,
        );
        request.topics[0].partitions[0].current_leader_epoch = current_leader_epoch;
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
        request.replica_state.replica_id = replica_id;
        let response = call(&mut client, BY_ID, &request);
        let partition = response.responses[0].partitions[0].clone();
        (partition, response.node_endpoints)
    };
    let (fenced, endpoints) = fetch(0, 0, -1, -1);
    assert_eq!(fenced.error_code, ErrorCode::FENCED_LEADER_EPOCH);
    let leader = fenced.current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (1, 1));
    let ports: Vec<_> = endpoints.iter().map(|e| (e.node_id, e.port)).collect();
    assert_eq!(ports, [(1, gateway.address.port().into())]);
    assert_eq!(
        fetch(0, 2, -1, -1).0.error_code,
        ErrorCode::UNKNOWN_LEADER_EPOCH
    );

    let (diverging, _) = fetch(5, 1, 0, -1);
    let end = &diverging.diverging_epoch;
    assert_eq!(
        (diverging.error_code, end.epoch, end.end_offset),
        (ErrorCode::NONE, 0, 2)
    );
    assert_eq!(
        fetch(0, 1, 7, -1).0.error_code,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    assert_eq!(
        fetch(0, 1, -1, 7).0.error_code,
        ErrorCode::UNKNOWN_LEADER_EPOCH
    );
    assert_eq!(
        fetch(0, -1, -1, 7).0.error_code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
    );
}
