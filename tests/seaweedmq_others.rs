//! What others keep in SeaweedMQ: topics and offsets that SeaweedFS's own Kafka gateway made, served by a
//! gateway with `--store seaweedmq`.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::prometheus::Scrape;
use common::weed::{Part, Weed, get, wait, wait_for};
use common::{Client, Gateway, batch, data_folder, produce_request};
use tidegate::bridge::{Removal, TopicSpec};
use tidegate::wire::{ErrorCode, create_topics, offset_commit, offset_fetch, produce};

fn gateway(weed: &Weed, data: &tempfile::TempDir) -> Gateway {
    weed.gateway(data.path(), None, &["--shards", "2"])
}

/// SeaweedFS's gateway, which knows the protocol up to Kafka 2.0.
struct Other(Client);

impl Other {
    fn start(weed: &mut Weed) -> Other {
        let address = weed.start_kafka_gateway();
        Other(Client::connect(address).expect("a connection"))
    }

    fn create_topic(&mut self, name: &str, partitions: i32) {
        let request = create_topics::Request {
            topics: vec![create_topics::CreatableTopic {
                name: name.to_owned().into(),
                num_partitions: partitions,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        // It answers before its broker takes part in the cluster.
        wait_for("the topic is made", || {
            let answer: create_topics::Response = self
                .0
                .call(create_topics::KEY, 5, &request)
                .expect("an answer");
            answer.topics[0].error_code == ErrorCode::NONE
        });
    }

    fn produce(&mut self, topic: &str, partition: i32, values: &[&[u8]]) {
        let request = produce_request(topic, vec![(partition, batch(values, None))], -1);
        let answer: produce::Response = self.0.call(produce::KEY, 7, &request).expect("an answer");
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ErrorCode::NONE);
    }

    fn commit(&mut self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let request = offset_commit::Request {
            group_id: group.to_owned().into(),
            member_id: "m".into(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: topic.to_owned().into(),
                partitions: vec![offset_commit::OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    committed_metadata: Some(metadata.to_owned().into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer: offset_commit::Response = self
            .0
            .call(offset_commit::KEY, 2, &request)
            .expect("an answer");
        let code = answer.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::NONE);
    }
}

/// What a group has committed: topic, partition, offset and metadata.
fn committed(gateway: &Gateway, group: &str) -> Vec<(String, i32, i64, String)> {
    let mut client = gateway.connect();
    let request = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: group.to_owned().into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer: offset_fetch::Response = client
        .call(offset_fetch::KEY, 8, &request)
        .expect("an answer");
    let mut all = Vec::new();
    for topic in &answer.groups[0].topics {
        for p in &topic.partitions {
            let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
            let of = topic.name.to_string();
            all.push((of, p.partition_index, p.committed_offset, metadata));
        }
    }
    all.sort();
    all
}

fn values(client: &mut Client, topic: &str, partition: i32) -> Vec<(i64, String)> {
    let all = client.drain(topic, partition).into_iter();
    all.map(|(offset, value)| (offset, String::from_utf8_lossy(&value).into_owned()))
        .collect()
}

#[test]
fn what_seaweedfs_own_gateway_keeps_is_served_and_its_offsets_are_imported_once() {
    let mut weed = Weed::start();
    let mut other = Other::start(&mut weed);
    other.create_topic("theirs", 2);
    other.produce("theirs", 0, &[b"a"]);
    other.produce("theirs", 0, &[b"b"]);
    other.produce("theirs", 1, &[b"c"]);
    // The offset to be read next, as the client says it.
    other.commit("g", "theirs", 0, 1, "note");
    other.commit("g", "nowhere", 0, 5, "");
    let data = data_folder();
    let mut gateway = gateway(&weed, &data);
    let mut client = gateway.connect();
    assert_eq!(client.partitions("theirs"), 2);
    // Its broker writes after 5 s; what was there before is seen at once.
    wait_for("their records are there", || {
        client.latest("theirs", 0) == 2 && client.latest("theirs", 1) == 1
    });
    let of_zero = [(0, "a".to_owned()), (1, "b".to_owned())];
    assert_eq!(values(&mut client, "theirs", 0), of_zero);
    assert_eq!(values(&mut client, "theirs", 1), [(0, "c".to_owned())]);
    assert_eq!(client.earliest("theirs", 0), 0);
    assert_eq!(client.offset_at("theirs", 0, 1000), 0);
    // What comes later is seen too.
    other.produce("theirs", 0, &[b"d"]);
    wait_for("the later record is there", || {
        client.latest("theirs", 0) == 3
    });
    assert_eq!(values(&mut client, "theirs", 0)[2], (2, "d".to_owned()));
    // Nothing of theirs is removed.
    let refused = client.delete_records("theirs", 0, 1);
    assert_eq!(refused.0, ErrorCode::POLICY_VIOLATION);
    let expected = [("theirs".to_owned(), 0, 1, "note".to_owned())];
    wait_for("the offsets are imported", || {
        committed(&gateway, "g") == expected
    });
    let log = Gateway::log(data.path());
    assert!(
        log.contains("nowhere/0: there is no such partition"),
        "{log}"
    );

    // A commit of now is not overwritten, and nothing is imported twice.
    client.commit_offset("g", "theirs", 2, "mine".into());
    other.commit("g", "theirs", 0, 0, "old");
    other.commit("late", "theirs", 1, 1, "");
    let mine = [("theirs".to_owned(), 0, 2, "mine".to_owned())];
    gateway.kill();
    let gateway = self::gateway(&weed, &data);
    wait_for("the group is loaded", || committed(&gateway, "g") == mine);
    assert!(committed(&gateway, "late").is_empty());
    // Unless it is asked for.
    let import = |more: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["import-offsets", "--seaweedfs-masters", &weed.master()])
            .args(["--gateway", &gateway.address.to_string()])
            .args(more)
            .output()
            .expect("it runs");
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{words}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let told = import(&["--dry-run"]);
    assert!(told.contains("would be imported"), "{told}");
    assert!(told.contains("skipped: 2 is committed"), "{told}");
    assert!(committed(&gateway, "late").is_empty());
    let told = import(&[]);
    assert!(
        told.contains("1 offsets of 2 groups imported, 2 skipped, 0 refused"),
        "{told}"
    );
    assert_eq!(
        committed(&gateway, "late"),
        [("theirs".to_owned(), 1, 1, String::new())]
    );
    assert_eq!(committed(&gateway, "g"), mine);
}

#[test]
fn topics_that_others_make_grow_and_delete_are_followed_and_nothing_of_theirs_is_hidden() {
    let mut weed = Weed::start();
    let data = data_folder();
    let mut gateway = gateway(&weed, &data);
    let mut client = gateway.connect();
    let (_thread, bridge) = weed.bridge();
    let mut other = Other::start(&mut weed);
    other.create_topic("grows", 1);
    other.produce("grows", 0, &[b"before"]);
    wait_for("the topic is seen", || client.partitions("grows") == 1);
    wait_for("its record is seen", || client.latest("grows", 0) == 1);
    // SeaweedMQ hides what it has; here it follows behind.
    let spec = TopicSpec {
        partition_count: 2,
        ..TopicSpec::default()
    };
    wait(bridge.configure_topic("kafka", "grows", spec)).expect("it is made");
    wait_for("the new partitions are seen", || {
        client.partitions("grows") == 3
    });
    wait_for("the old record is there", || client.latest("grows", 2) == 1);
    assert_eq!(values(&mut client, "grows", 2), [(0, "before".to_owned())]);
    assert_eq!(client.latest("grows", 0), 0);
    // Deleted by others.
    weed.kill(Part::KafkaGateway);
    let removal = Removal {
        data: true,
        recursive: true,
    };
    wait(bridge.delete("/topics/kafka", "grows", removal)).expect("it is removed");
    wait_for("the topic is gone", || client.partitions("grows") == 0);
    // Deleted here, theirs too; made again it starts empty, in another folder.
    let mut other = Other::start(&mut weed);
    other.create_topic("again", 1);
    other.produce("again", 0, &[b"theirs"]);
    wait_for("it is seen", || client.partitions("again") == 1);
    wait_for("and its record", || client.latest("again", 0) == 1);
    weed.kill(Part::KafkaGateway);
    client.delete_topic("again");
    let folder = |name: &str| wait(bridge.lookup("/topics/kafka", name)).expect("an answer");
    wait_for("its folder is gone", || folder("again").is_none());
    client.create_topic("again", 1);
    assert_eq!(client.latest("again", 0), 0);
    let answer = client.produce("again", 0, batch(&[b"ours"], None));
    assert_eq!(answer.expect("an answer").base_offset, 0);
    gateway.kill();
    let gateway = self::gateway(&weed, &data);
    let mut client = gateway.connect();
    assert_eq!(values(&mut client, "again", 0), [(0, "ours".to_owned())]);
    assert_eq!(client.partitions("grows"), 0);
}

/// Folders that were listed, and changes of which a filer told.
fn counted(data: &Path) -> (f64, f64) {
    let answer = get(&Gateway::admin(data).to_string(), "/metrics");
    let (_, page) = answer.split_once("\r\n\r\n").expect("a page");
    let scrape = Scrape::parse(page);
    let labels = [("operation", "ListEntries"), ("result", "ok")];
    let lists = scrape.get("tidegate_seaweedfs_operations_total", &labels);
    let changes = scrape.sum("tidegate_seaweedfs_changes_total");
    (lists.expect("topics were listed"), changes)
}

#[test]
fn partitions_that_brokers_write_are_looked_at_when_they_change_and_hardly_while_they_are_idle() {
    const IDLE: i32 = 16;
    let mut weed = Weed::start();
    let mut other = Other::start(&mut weed);
    other.create_topic("busy", 1);
    other.create_topic("idle", IDLE);
    let data = data_folder();
    let options = ["--shards", "2", "--admin", "127.0.0.1:0"];
    let gateway = weed.gateway(data.path(), None, &options);
    let mut client = gateway.connect();
    assert_eq!(client.partitions("idle"), IDLE as usize);
    for partition in 0..IDLE {
        assert_eq!(client.latest("idle", partition), 0);
    }
    let (lists, changes) = counted(data.path());
    let began = Instant::now();
    for end in 1..=3 {
        other.produce("busy", 0, &[b"x"]);
        wait_for("the record is there", || client.latest("busy", 0) == end);
    }
    let (lists, changes) = {
        let (lists_now, changes_now) = counted(data.path());
        (lists_now - lists, changes_now - changes)
    };
    let seconds = began.elapsed().as_secs_f64();
    assert!(changes >= 3.0, "{changes} changes of 3");
    // One round of looks may fall into this, and topics are looked for.
    let most = f64::from(IDLE) * (1.0 + seconds / 2.0);
    assert!(lists < most, "{lists} listings in {seconds} s");
    // A filer that starts anew knows of nobody who listens.
    weed.kill(Part::Filer);
    weed.start_part(Part::Filer);
    wait_for("a record is there that was written later", || {
        other.produce("busy", 0, &[b"y"]);
        client.latest("busy", 0) > 3
    });
}
