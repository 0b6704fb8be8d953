//! What may become of topics in SeaweedMQ: creations and deletions that are broken off, and what others set
//! or break of a topic.

mod common;

use std::time::Duration;

use common::places::Place;
use common::weed::{list, wait, wait_for};
use common::{Client, Gateway, Given, batch, now_ms};
use prost::Message;
use tidegate::bridge::{Entry, FuseAttributes, RecordType, TopicSpec};
use tidegate::wire::{
    ErrorCode, alter_configs, create_partitions, create_topics, delete_topics, metadata,
};

const TOPICS: &str = "/topics/kafka";
const MADE: &str = "/topics/kafka/.tidegate/made";

impl Place {
    fn gateway(&self) -> Gateway {
        self.weed
            .gateway(self.data.path(), None, &["--shards", "2"])
    }
}

fn put(client: &mut Client, topic: &str, partition: i32, value: &str) -> i64 {
    let answer = client.produce(topic, partition, batch(&[value.as_bytes()], None));
    let answer = answer.expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.base_offset
}

fn create(name: &str, num_partitions: i32) -> create_topics::Request {
    create_topics::Request {
        topics: vec![create_topics::CreatableTopic {
            name: name.to_owned().into(),
            num_partitions,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    }
}

fn grow(name: &str, count: i32) -> create_partitions::Request {
    create_partitions::Request {
        topics: vec![create_partitions::CreatePartitionsTopic {
            name: name.to_owned().into(),
            count,
            assignments: None,
        }],
        timeout_ms: 10_000,
        ..Default::default()
    }
}

fn delete(name: &str) -> delete_topics::Request {
    delete_topics::Request {
        topics: vec![delete_topics::DeleteTopicState {
            name: Some(name.to_owned().into()),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    }
}

/// Sends what may not be done before the gateway is killed, and starts another one.
fn break_off(
    place: &Place,
    gateway: &mut Gateway,
    given: &Given,
    send: impl FnOnce(&mut Client),
) -> Client {
    send(&mut gateway.connect());
    given.wait();
    gateway.kill();
    *gateway = place.gateway();
    gateway.connect()
}

#[test]
fn what_is_broken_off_leaves_a_topic_as_it_was_or_as_it_was_to_be() {
    let place = Place::start();
    let mut gateway = place.gateway();
    let (_thread, bridge) = place.weed.bridge();
    let [mut creating, mut growing, mut deleting] = std::array::from_fn(|_| Given::some_ms());
    for round in 0..24 {
        let mut client = break_off(&place, &mut gateway, &creating, |client| {
            let sent = client.send(create_topics::KEY, 5, &create("t", 2));
            sent.expect("it is sent");
        });
        let found = client.partitions("t");
        assert!([0, 2].contains(&found), "{found} partitions");
        creating.note(found == 2);
        if found == 0 {
            client.create_topic("t", 2);
        }
        for partition in 0..2 {
            assert_eq!(client.latest("t", partition), 0, "round {round}");
            assert_eq!(put(&mut client, "t", partition, &format!("{round}")), 0);
        }
        let mut client = break_off(&place, &mut gateway, &growing, |client| {
            let sent = client.send(create_partitions::KEY, 3, &grow("t", 3));
            sent.expect("it is sent");
        });
        let found = client.partitions("t");
        assert!([2, 3].contains(&found), "{found} partitions");
        growing.note(found == 3);
        if found == 2 {
            client.grow_topic("t", 3);
        }
        assert_eq!(put(&mut client, "t", 2, "new"), 0);
        let mut client = break_off(&place, &mut gateway, &deleting, |client| {
            let sent = client.send(delete_topics::KEY, 6, &delete("t"));
            sent.expect("it is sent");
        });
        let found = client.partitions("t");
        assert!([0, 3].contains(&found), "{found} partitions");
        deleting.note(found == 0);
        if found == 3 {
            let of_round = [(0, round.to_string().into())];
            assert_eq!(client.drain("t", 0), of_round);
            assert_eq!(client.drain("t", 1), of_round);
            assert_eq!(client.drain("t", 2).len(), 1);
            client.delete_topic("t");
        }
    }
    // Nothing is left that has records, nor is anything shown that nobody made.
    wait_for("the records are gone", || {
        let topics = list(&bridge, TOPICS).into_iter();
        let folders = topics.filter(|entry| !entry.name.starts_with(['.', '_']));
        let mut files =
            folders.flat_map(|entry| list(&bridge, &format!("{TOPICS}/{}", entry.name)));
        files.all(|file| file.name == "topic.conf")
    });
    let answer: metadata::Response = gateway
        .connect()
        .call(metadata::KEY, 9, &metadata::Request::default())
        .expect("an answer");
    assert!(answer.topics.is_empty(), "{:?}", answer.topics);
}

/// A schema with one field.
fn schema() -> RecordType {
    RecordType::decode(&b"\x0a\x03\x0a\x01a"[..]).expect("a record type")
}

#[test]
fn a_schema_that_others_set_stays_whatever_is_done_with_the_topic() {
    let place = Place::start();
    let mut gateway = place.gateway();
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    let (_thread, bridge) = place.weed.bridge();
    let spec = TopicSpec {
        partition_count: 2,
        retention: Some(Duration::from_secs(3600)),
        record_type: Some(schema()),
        key_columns: vec!["a".to_owned()],
        schema_format: "AVRO".to_owned(),
    };
    wait(bridge.configure_topic("kafka", "t", spec)).expect("it is set");
    let conf = || {
        let entry = wait(bridge.lookup(&format!("{TOPICS}/t"), "topic.conf"));
        entry.expect("an answer").expect("it is there").content
    };
    let before = conf();
    assert!(before.windows(4).any(|some| some == b"AVRO"));
    put(&mut client, "t", 0, "a");
    client.grow_topic("t", 4);
    let request = alter_configs::Request {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![alter_configs::AlterableConfig {
                name: "retention.ms".into(),
                value: Some("7200000".into()),
            }],
        }],
        ..Default::default()
    };
    let answer: alter_configs::Response = client
        .call(alter_configs::KEY, 2, &request)
        .expect("an answer");
    assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
    gateway.kill();
    let gateway = place.gateway();
    put(&mut gateway.connect(), "t", 3, "b");
    assert_eq!(conf(), before);
    let told = wait(bridge.topic_configuration("kafka", "t")).expect("an answer");
    let told = told.expect("it is there");
    assert_eq!(told.record_type, Some(schema()));
    assert_eq!(told.partitions.len(), 2);
}

fn conf(content: &str) -> Entry {
    Entry {
        name: "topic.conf".to_owned(),
        attributes: Some(FuseAttributes {
            file_size: content.len() as u64,
            file_mode: 0o644,
            ..FuseAttributes::default()
        }),
        content: content.to_owned().into(),
        ..Entry::default()
    }
}

#[test]
fn a_topic_without_partitions_is_no_topic_and_harms_nothing() {
    let place = Place::start();
    let mut gateway = place.gateway();
    let mut client = gateway.connect();
    client.create_topic("own", 1);
    put(&mut client, "own", 0, "a");
    let (_thread, bridge) = place.weed.bridge();
    let set = |topic: &str, content: &str| {
        let folder = format!("{TOPICS}/{topic}");
        wait(bridge.create(&folder, conf(content), false)).expect("it is made");
    };
    let spec = TopicSpec {
        partition_count: 2,
        ..TopicSpec::default()
    };
    wait(bridge.configure_topic("kafka", "theirs", spec)).expect("it is made");
    wait_for("it is seen", || client.partitions("theirs") == 2);
    let confs = [
        r#"{"brokerPartitionAssignments":[]}"#,
        r#"{"brokerPartitionAssignments":[],"partitionCount":0}"#,
        r#"{"brokerPartitionAssignments":[{"partition":{"ringSize":2520,"unixTimeNs":"1"}}]}"#,
        r#"{"brokerPartitionAssignments":[{"partition":{"rangeStart":-9,"rangeStop":-5,"unixTimeNs":"1"}}]}"#,
        "{",
        "",
    ];
    for (number, content) in confs.iter().enumerate() {
        set(&format!("none-{number}"), content);
    }
    // Of one that has partitions, and of Tidegate's own.
    set("theirs", confs[0]);
    set("own", confs[0]);
    wait_for("it is gone", || client.partitions("theirs") == 0);
    for _ in 0..2 {
        assert_eq!(client.drain("own", 0).len(), 1);
        for number in 0..confs.len() {
            assert_eq!(client.partitions(&format!("none-{number}")), 0);
        }
        gateway.kill();
        gateway = place.gateway();
        client = gateway.connect();
    }
    put(&mut client, "own", 0, "b");
    // The brokers are there, and a name that is taken is no obstacle.
    client.grow_topic("own", 2);
    put(&mut client, "own", 1, "c");
    client.create_topic("none-0", 3);
    assert_eq!(put(&mut client, "none-0", 2, "d"), 0);
    client.delete_topic("own");
    wait_for("its folder is gone", || {
        let own = wait(bridge.lookup(TOPICS, "own"));
        own.expect("an answer").is_none()
    });
}

#[test]
fn a_mark_of_a_creation_that_was_broken_off_hides_no_topic_that_others_make_later() {
    let place = Place::start();
    let (_thread, bridge) = place.weed.bridge();
    let mark = |name: &str, age_s: i64| {
        let entry = Entry {
            name: name.to_owned(),
            attributes: Some(FuseAttributes {
                mtime: now_ms() / 1000 - age_s,
                file_mode: 0o644,
                ..FuseAttributes::default()
            }),
            ..Entry::default()
        };
        wait(bridge.create(MADE, entry, false)).expect("it is set");
        let spec = TopicSpec {
            partition_count: 1,
            ..TopicSpec::default()
        };
        wait(bridge.configure_topic("kafka", name, spec)).expect("it is made");
    };
    mark("half", 0);
    mark("theirs", 3600);
    let gateway = place.gateway();
    let mut client = gateway.connect();
    assert_eq!(client.partitions("theirs"), 1);
    assert_eq!(client.partitions("half"), 0);
    // It is made as if nothing had been.
    client.create_topic("half", 2);
    assert_eq!(put(&mut client, "half", 1, "a"), 0);
}
