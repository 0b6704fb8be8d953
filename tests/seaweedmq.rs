//! Topics in SeaweedFS: a gateway with `--store seaweedmq` before a real one.

mod common;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::load::{Load, PARTITIONS, TOPIC};
use common::places::Place;
use common::prometheus::Scrape;
use common::weed::{Part, Weed, get, list, wait, wait_for};
use common::{Client, Gateway, batch, fetch_request};
use tidegate::bridge::Entry;
use tidegate::record::{Builder, Compression, split_first};
use tidegate::wire::{ErrorCode, fetch, find_coordinator, offset_commit, offset_fetch};

impl Place {
    /// Folders of topics that begin so.
    fn folders(&self, prefix: &str) -> Vec<String> {
        let (_thread, bridge) = self.weed.bridge();
        let all = list(&bridge, "/topics/kafka").into_iter();
        let names = all.map(|entry| entry.name);
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// The segments of all partitions of a topic.
    fn segments(&self, folder: &str) -> Vec<Entry> {
        let (_thread, bridge) = self.weed.bridge();
        let mut found = Vec::new();
        let mut folders = vec![format!("/topics/kafka/{folder}")];
        while let Some(folder) = folders.pop() {
            for entry in list(&bridge, &folder) {
                match entry.is_directory {
                    true => folders.push(format!("{folder}/{}", entry.name)),
                    false if entry.name != "topic.conf" => found.push(entry),
                    false => {}
                }
            }
        }
        found
    }

    fn gateway(&self, options: &[&str]) -> Gateway {
        self.weed.gateway(self.data.path(), None, options)
    }

    fn gateway_at(&self, address: SocketAddr, options: &[&str]) -> Gateway {
        self.weed.gateway(self.data.path(), Some(address), options)
    }
}

#[test]
fn topics_are_made_written_read_and_survive_a_restart() {
    let place = Place::start();
    let mut gateway = place.gateway(&["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("greetings", 3);
    for round in 0..5_i64 {
        for partition in 0..3 {
            let value = format!("{partition} {round}");
            let answer = client
                .produce(
                    "greetings",
                    partition,
                    batch(&[value.as_bytes(), b""], None),
                )
                .expect("an answer");
            assert_eq!(answer.error_code, ErrorCode::NONE);
            assert_eq!(answer.base_offset, 2 * round);
        }
    }
    let before: Vec<_> = (0..3).map(|p| client.drain("greetings", p)).collect();
    assert_eq!(before[0].len(), 10);
    assert_eq!(
        gateway.stop(),
        Some(0),
        "{}",
        Gateway::log(place.data.path())
    );
    let gateway = place.gateway(&["--shards", "1"]);
    let mut client = gateway.connect();
    for (partition, before) in before.iter().enumerate() {
        assert_eq!(&client.drain("greetings", partition as i32), before);
        let answer = client.produce("greetings", partition as i32, batch(&[b"more"], None));
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (ErrorCode::NONE, 10)
        );
    }
}

/// How often each kind of disaster happens in a test.
fn rounds() -> usize {
    let given = std::env::var("SEAWEEDMQ_ROUNDS").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(5)
}

#[test]
fn nothing_acknowledged_is_lost_or_repeated_when_the_gateway_is_killed() {
    let place = Place::start();
    let options = ["--checkpoint-interval-ms", "50", "--shards"];
    let shards = ["2", "1", "3"];
    let options = |round: usize| [&options[..], &[shards[round % shards.len()]]].concat();
    let mut gateway = place.gateway(&options(0));
    gateway.connect().create_topic(TOPIC, PARTITIONS);
    let load = Load::new(gateway.address);
    let seen = std::thread::scope(|scope| {
        let consumers = load.start(scope);
        for round in 1..=rounds() {
            std::thread::sleep(Duration::from_millis(200 + (round as u64 * 137) % 500));
            gateway.kill();
            gateway = place.gateway_at(gateway.address, &options(round));
        }
        std::thread::sleep(Duration::from_millis(500));
        load.stop(consumers)
    });
    load.check(&mut gateway.connect(), &seen);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn whoever_starts_last_owns_the_topics_and_a_late_commit_of_the_other_is_refused() {
    let place = Place::start();
    let first = place.gateway(&["--shards", "2"]);
    first.connect().create_topic("owned", 1);
    let produce = |gateway: &Gateway, value: &str| {
        let mut client = gateway.connect();
        let answer = client.produce("owned", 0, batch(&[value.as_bytes()], None));
        answer.expect("an answer")
    };
    assert_eq!(produce(&first, "by the first").base_offset, 0);
    let second = place.gateway(&["--shards", "1"]);
    assert_eq!(produce(&second, "by the second").base_offset, 1);
    // The first does not know of it yet. Nothing of what it writes may stay.
    for _ in 0..3 {
        let late = produce(&first, "late");
        assert_eq!(late.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let fetched = first
        .connect()
        .fetch(&fetch_request("owned", &[(0, 0)], 0, 1));
    let fetched = &fetched.expect("an answer").responses[0].partitions[0];
    assert_eq!(fetched.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let late = first.connect().try_create_topic("late", 1, &[]);
    assert_eq!(late.error_code, ErrorCode::NOT_CONTROLLER);
    assert_eq!(produce(&second, "and again").base_offset, 2);
    let values = |gateway: &Gateway| {
        let all = gateway.connect().drain("owned", 0).into_iter();
        all.map(|(_, value)| value).collect::<Vec<_>>()
    };
    let expected = ["by the first", "by the second", "and again"];
    assert_eq!(values(&second), expected);
    drop((first, second));
    assert_eq!(values(&place.gateway(&[])), expected);
}

#[test]
fn small_commits_become_few_chunks_of_few_files_and_are_read_after_a_restart() {
    let place = Place::start();
    let mut gateway = place.gateway(&["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("small", 1);
    const BATCHES: i64 = 300;
    for number in 0..BATCHES {
        let value = format!("value {number}");
        let mut builder = Builder::new();
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"1")), (b"h", None)];
        builder.append(1000 + number, Some(b"k"), Some(value.as_bytes()), headers);
        builder.append(1000 + number, None, None, &[]);
        let answer = client.produce("small", 0, builder.build());
        let answer = answer.expect("an answer");
        assert_eq!(answer.base_offset, 2 * number);
    }
    let before = client.drain("small", 0);
    gateway.kill();
    // What the journal had more than the segments is in them now; the shard that has it is another.
    let gateway = place.gateway(&["--shards", "2"]);
    let segments = place.segments("small");
    assert_eq!(segments.len(), 1);
    let chunks = segments[0].chunks.len();
    assert!(chunks < 20, "{chunks} chunks");
    let mut client = gateway.connect();
    assert_eq!(client.drain("small", 0), before);
    assert_eq!(client.offset_at("small", 0, 1200), 400);
    assert_eq!(client.latest("small", 0), 2 * BATCHES);
    // From the middle of a batch in the middle of a chunk.
    let fetched = client.fetch(&fetch_request("small", &[(0, 301)], 0, 1));
    let fetched = fetched.expect("an answer");
    let records = fetched.responses[0].partitions[0].records.clone();
    let mut records = records.expect("records").into_bytes();
    let batch = split_first(&mut records).expect("whole batches");
    let batch = batch.expect("a batch");
    assert!(batch.crc_ok());
    let read: Result<Vec<_>, _> = tidegate::record::records(&batch, 1 << 20)
        .expect("records")
        .collect();
    let read = read.expect("records");
    assert_eq!((read[0].offset, read[0].timestamp), (300, 1150));
    assert_eq!(read[0].headers.len(), 2);
    assert_eq!(
        (&read[0].headers[1].key[..], &read[0].headers[1].value),
        (&b"h"[..], &None)
    );
    assert_eq!((&read[1].key, &read[1].value), (&None, &None));
}

/// A message of `weed/pb/mq_broker.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct FetchMessageRequest {
    #[prost(message, optional, tag = "1")]
    topic: Option<Topic>,
    #[prost(message, optional, tag = "2")]
    partition: Option<tidegate::bridge::Partition>,
    #[prost(int64, tag = "3")]
    start_offset: i64,
    #[prost(int32, tag = "5")]
    max_messages: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Topic {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FetchMessageResponse {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<DataMessage>,
    #[prost(int64, tag = "2")]
    high_water_mark: i64,
    #[prost(string, tag = "5")]
    error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DataMessage {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[test]
fn seaweedmqs_own_broker_reads_the_records() {
    let mut place = Place::start();
    let gateway = place.gateway(&["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("shared", 2);
    let sent: Vec<(Vec<u8>, Vec<u8>)> = (0..20_u8)
        .map(|n| (vec![b'k', n], format!("value {n}").into_bytes()))
        .collect();
    for (number, some) in sent.chunks(4).enumerate() {
        let codec = Compression::ALL[number % 5];
        let mut builder = Builder::new().compression(codec, None);
        for (key, value) in some {
            builder.append(1000, Some(key), Some(value), &[(b"h", Some(b"1"))]);
        }
        let answer = client.produce("shared", 1, builder.build());
        assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
    }
    // A broker looks at the files of a partition when it takes it over.
    place.weed.kill(Part::Broker);
    place.weed.start_part(Part::Broker);
    let (_thread, bridge) = place.weed.bridge();
    let partition = || {
        let found = wait(bridge.topic_brokers("kafka", "shared")).ok()??;
        let of_one = found.into_iter().nth(1)?;
        of_one
            .partition
            .filter(|_| !of_one.leader_broker.is_empty())
    };
    wait_for("the partition has a broker", || partition().is_some());
    let partition = partition();
    let request = FetchMessageRequest {
        topic: Some(Topic {
            namespace: "kafka".to_owned(),
            name: "shared".to_owned(),
        }),
        partition,
        start_offset: 0,
        max_messages: 100,
    };
    let ask = || ask_broker(&place.weed.address(Part::Broker), request.clone());
    wait_for("the broker serves the partition", || ask().error.is_empty());
    let response = ask();
    let read: Vec<_> = response
        .messages
        .into_iter()
        .map(|m| (m.key, m.value))
        .collect();
    assert_eq!(read, sent);
    assert_eq!(response.high_water_mark, 20);
}

fn ask_broker(address: &str, request: FetchMessageRequest) -> FetchMessageResponse {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let channel = channel.expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut client = tonic::client::Grpc::new(channel.connect().await.expect("a broker"));
        client.ready().await.expect("it is ready");
        let path = "/messaging_pb.SeaweedMessaging/FetchMessage"
            .parse()
            .expect("a path");
        let codec = tonic_prost::ProstCodec::default();
        let answer = client
            .unary(tonic::Request::new(request), path, codec)
            .await;
        answer.expect("an answer").into_inner()
    })
}

#[test]
fn a_topic_that_grows_keeps_what_it_has_and_a_deleted_one_leaves_nothing() {
    let place = Place::start();
    let gateway = place.gateway(&["--shards", "2"]);
    let mut client = gateway.connect();
    let fill = |client: &mut Client, partitions: std::ops::Range<i32>| {
        for partition in partitions {
            let value = format!("of {partition}");
            let answer = client.produce("grows", partition, batch(&[value.as_bytes()], None));
            assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
        }
    };
    client.create_topic("grows", 2);
    fill(&mut client, 0..2);
    client.grow_topic("grows", 5);
    fill(&mut client, 0..5);
    drop(gateway);
    let gateway = place.gateway(&["--shards", "2"]);
    let mut client = gateway.connect();
    let lens = |client: &mut Client, partitions: i32| {
        let len = |p| client.drain("grows", p).len();
        (0..partitions).map(len).collect::<Vec<_>>()
    };
    assert_eq!(lens(&mut client, 5), [2, 2, 1, 1, 1]);
    client.delete_topic("grows");
    wait_for("the folders are gone", || place.folders("grows").is_empty());
    // Under its old name it is another topic, also to SeaweedMQ.
    client.create_topic("grows", 1);
    fill(&mut client, 0..1);
    assert_eq!(lens(&mut client, 1), [1]);
    let folders = place.folders("grows");
    assert!(
        folders.len() == 1 && folders[0].starts_with("grows~"),
        "{folders:?}"
    );
    drop(gateway);
    let gateway = place.gateway(&["--shards", "2"]);
    assert_eq!(lens(&mut gateway.connect(), 1), [1]);
}

#[test]
fn what_need_not_be_kept_leaves_seaweedfs_and_stays_away_after_a_kill() {
    let place = Place::start();
    let options = [
        "--shards",
        "1",
        "--checkpoint-interval-ms",
        "100",
        "--log-segment-delete-delay-ms",
        "0",
        "--log-retention-check-interval-ms",
        "100",
    ];
    let mut gateway = place.gateway(&options);
    let mut client = gateway.connect();
    let segment = ("segment.bytes", "1048576");
    client.create_topic_with("asked", 1, &[segment]);
    client.create_topic_with("aged", 1, &[segment, ("retention.bytes", "2000000")]);
    let value = vec![b'x'; 100_000];
    for topic in ["asked", "aged"] {
        for _ in 0..45 {
            let answer = client.produce(topic, 0, batch(&[&value], None));
            assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
        }
    }
    wait_for("all segments are stored", || {
        place.segments("asked").len() == 5
    });
    assert_eq!(client.delete_records("asked", 0, 25), (ErrorCode::NONE, 25));
    wait_for("two segments of the first are gone", || {
        place.segments("asked").len() == 3
    });
    wait_for("two segments of the other are kept", || {
        place.segments("aged").len() <= 3
    });
    let start = client.earliest("aged", 0);
    assert!(start >= 20, "it begins at {start}");
    gateway.kill();
    let gateway = place.gateway(&options);
    let mut client = gateway.connect();
    assert_eq!(client.earliest("asked", 0), 25);
    assert!(client.earliest("aged", 0) >= start);
    for topic in ["asked", "aged"] {
        let answer = client.produce(topic, 0, batch(&[b"on"], None));
        assert_eq!(answer.expect("an answer").base_offset, 45);
    }
}

#[test]
fn groups_and_their_offsets_survive_a_kill() {
    let place = Place::start();
    let mut gateway = place.gateway(&["--shards", "2", "--offsets-topic-num-partitions", "4"]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    client
        .produce("t", 0, batch(&[b"a", b"b"], None))
        .expect("an answer");
    let commit = offset_commit::Request {
        group_id: "g".into(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![offset_commit::OffsetCommitRequestPartition {
                committed_offset: 2,
                committed_metadata: Some("m".into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wait_for("the group has a coordinator", || {
        let ask = find_coordinator::Request {
            coordinator_keys: vec!["g".into()],
            ..Default::default()
        };
        let answer: find_coordinator::Response = client
            .call(find_coordinator::KEY, 4, &ask)
            .expect("an answer");
        answer.coordinators[0].error_code == ErrorCode::NONE
    });
    wait_for("an offset is committed", || {
        let answer: offset_commit::Response = client
            .call(offset_commit::KEY, 9, &commit)
            .expect("an answer");
        answer.topics[0].partitions[0].error_code == ErrorCode::NONE
    });
    gateway.kill();
    let gateway = place.gateway(&["--shards", "1"]);
    let mut client = gateway.connect();
    let fetch = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: "g".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    wait_for("the group is there", || {
        let answer: offset_fetch::Response = client
            .call(offset_fetch::KEY, 8, &fetch)
            .expect("an answer");
        let topics = &answer.groups[0].topics;
        !topics.is_empty() && topics[0].partitions[0].committed_offset == 2
    });
}

/// Calls of fsync that a part makes meanwhile; `None` where nobody may look.
fn syncs_during(weed: &Weed, part: Part, work: impl FnOnce()) -> Option<usize> {
    let traced = tempfile::NamedTempFile::new().expect("a file");
    let pid = weed.pid(part);
    let mut tracer = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-p", pid, "-o"])
        .arg(traced.path())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    while status().contains("TracerPid:\t0\n") {
        if let Ok(Some(_)) = tracer.try_wait() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    work();
    // It lets go of the process and writes what it has.
    let id = tracer.id().to_string();
    let _ = Command::new("kill").args(["-INT", &id]).status();
    let _ = tracer.wait();
    let text = std::fs::read_to_string(traced.path()).expect("text");
    Some(text.lines().filter(|line| line.contains("sync(")).count())
}

#[test]
fn volumes_are_as_the_options_say_and_what_is_done_is_counted() {
    const COMMITS: usize = 60;
    let place = Place::start();
    let produce = |client: &mut Client, times: usize| {
        for _ in 0..times {
            let answer = client.produce("placed", 0, batch(&[b"x"], None));
            assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
        }
    };
    let own = ["--shards", "1", "--seaweedfs-collection", "tide"];
    let mut syncs = Vec::new();
    for fsync in [false, true] {
        let asked = if fsync { "true" } else { "false" };
        let asked = ["--seaweedfs-fsync", asked, "--admin", "127.0.0.1:0"];
        let gateway = place.gateway(&[&own[..], &asked].concat());
        let mut client = gateway.connect();
        if syncs.is_empty() {
            client.create_topic("placed", 1);
        }
        // Volumes are made with the first ones.
        produce(&mut client, 5);
        let count = syncs_during(&place.weed, Part::Volume, || produce(&mut client, COMMITS));
        syncs.push(count);
        let volumes = get(&place.weed.master(), "/vol/status");
        assert!(volumes.contains(r#""Collection":"tide""#), "{volumes}");
        let admin = Gateway::admin(place.data.path()).to_string();
        assert_counted(&get(&admin, "/metrics"), COMMITS, fsync);
    }
    match syncs[..] {
        [Some(without), Some(with)] => {
            assert!(without < COMMITS / 2, "{without} for {COMMITS} commits");
            assert!(with >= COMMITS, "{with} for {COMMITS} commits");
        }
        _ => skip("strace cannot be used here"),
    }
}

#[expect(clippy::print_stderr, reason = "a test says what it does not look at")]
fn skip(why: &str) {
    eprintln!("whether volumes are synced is not looked at: {why}");
}

/// Small commits go to volumes at once only if these sync them.
fn assert_counted(answer: &str, commits: usize, are_in_volumes: bool) {
    let (_, page) = answer.split_once("\r\n\r\n").expect("a page");
    let scrape = Scrape::parse(page);
    let done = |operation| {
        let labels = [("operation", operation), ("result", "ok")];
        let count = scrape.get("tidegate_seaweedfs_operations_total", &labels);
        count.unwrap_or_default()
    };
    assert!(done("ObjectTransaction") >= commits as f64, "{page}");
    let uploads = done("UploadChunk");
    assert_eq!(uploads >= commits as f64, are_in_volumes, "{page}");
    assert!(scrape.sum("tidegate_seaweedfs_epoch") >= 1.0);
    assert!(scrape.sum("tidegate_seaweedfs_sent_bytes_total") > commits as f64);
    assert!(scrape.sum("tidegate_last_commit_timestamp_seconds") > 1e9);
    assert_eq!(scrape.sum("tidegate_store_fenced"), 0.0);
    assert!(scrape.sum("tidegate_seaweedfs_peer_up") >= 3.0, "{page}");
}

#[test]
fn answers_that_clients_do_not_take_cost_no_more_than_one_for_each() {
    const CLIENTS: usize = 4;
    const RECORD: usize = 1_000_000;
    let place = Place::start();
    // What is not in the tail any more is read from volumes.
    let own = ["--shards", "1", "--tail-memory", "1MiB"];
    let gateway = place.gateway(&[&own[..], &["--admin", "127.0.0.1:0"]].concat());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    for _ in 0..20 {
        let answer = client.produce("t", 0, batch(&[&[3; RECORD]], None));
        assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
    }
    let before = gateway.resident_bytes();
    let mut request = fetch_request("t", &[(0, 0)], 0, 1);
    request.topics[0].partitions[0].partition_max_bytes = 20 << 20;
    let mut lazy: Vec<_> = (0..CLIENTS).map(|_| gateway.connect()).collect();
    for client in &mut lazy {
        for _ in 0..30 {
            client.send(fetch::KEY, 11, &request).expect("it is sent");
        }
    }
    let admin = Gateway::admin(place.data.path()).to_string();
    let metric = |name, labels: &[_]| {
        let answer = get(&admin, "/metrics");
        let (_, page) = answer.split_once("\r\n\r\n").expect("a page");
        Scrape::parse(page).get(name, labels).unwrap_or_default()
    };
    wait_for("each has an answer", || {
        let labels = [("shard", "0"), ("budget", "answer")];
        metric("tidegate_memory_bytes", &labels) > (CLIENTS * 15 * RECORD) as f64
    });
    // Chunks are read once for all, and not copied.
    let grown = gateway.peak_bytes().saturating_sub(before);
    assert!(grown < (4 * 20 + 16) << 20, "{grown} bytes");
    let read = metric(
        "tidegate_seaweedfs_chunk_reads_total",
        &[("source", "volume")],
    );
    assert!(read < 40.0, "{read} reads of about 20 chunks");
}
