//! Compacted topics on any store, seen from the outside over real sockets: the last record of each key
//! stays, at its offset, whatever ends the process and when.
//!
//! `COMPACTION_ROUNDS` says how often the process is killed while it compacts (6 by default).

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::record::{Builder, Compression, records, split_first};
use tidegate::wire::{ErrorCode, Uuid};
use tidegate::wire::{incremental_alter_configs, offset_fetch, offset_for_leader_epoch};

use super::prometheus::Scrape;
use super::{Client, Gateway, batch, fetch_request, now_ms};

const PATIENCE: Duration = Duration::from_secs(60);
/// Checkpoints and compaction as soon as there is something to do.
const EAGERLY: [&str; 4] = [
    "--checkpoint-interval-ms",
    "20",
    "--log-cleaner-backoff-ms",
    "10",
];
/// The smallest segment that may be asked for; and compaction as soon as there is something to do.
pub const EAGER: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0"),
    ("file.delete.delay.ms", "0"),
];

/// A topic by its name and its id.
pub type Topic<'a> = (&'a str, Uuid);

/// Where logs are compacted.
pub trait Site {
    /// Has the gateway's log.
    fn data(&self) -> &Path;
    fn gateway(&self, options: &[&str]) -> Gateway;
    /// Base offsets of the segments of partition 0 and whether they are compacted.
    fn segments(&self, topic: Topic) -> BTreeMap<i64, bool>;
    /// Spoils a segment of partition 0. No gateway runs.
    fn damage(&self, topic: Topic, base_offset: i64);
    /// Looks at what compaction has left, by other means than the gateway's.
    fn inspect(&self, topic: Topic);
}

fn start(site: &impl Site, options: &[&str]) -> Gateway {
    let all = [&["--shards", "2"], &EAGERLY[..], options].concat();
    site.gateway(&all)
}

pub fn wait_for(site: &impl Site, what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        let log = || Gateway::log(site.data());
        assert!(began.elapsed() < PATIENCE, "not so: {what}\n{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    key: Bytes,
    value: Option<Bytes>,
    timestamp: i64,
}

fn keyed(key: &str, value: Option<&[u8]>, timestamp: i64) -> Keyed {
    Keyed {
        key: key.to_owned().into(),
        value: value.map(Bytes::copy_from_slice),
        timestamp,
    }
}

fn batch_of(records: &[Keyed], codec: Compression) -> Bytes {
    let mut builder = Builder::new().compression(codec, None);
    for record in records {
        let key = Some(&record.key[..]);
        builder.append(record.timestamp, key, record.value.as_deref(), &[]);
    }
    builder.build()
}

/// Appends records as one batch; gives the offset of the first.
fn put(client: &mut Client, topic: &str, records: &[Keyed], codec: Compression) -> i64 {
    let answer = client.produce(topic, 0, batch_of(records, codec));
    let answer = answer.expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.base_offset
}

/// Appends a record as a batch of its own.
pub fn put_one(client: &mut Client, topic: &str, key: &str, value_len: usize) {
    let record = keyed(key, Some(&noise(0, value_len)), now_ms());
    put(client, topic, &[record], Compression::None);
}

/// The records of the batches that one fetch gives, and where to go on.
fn fetch_from(client: &mut Client, topic: &str, offset: i64) -> (Vec<(i64, Keyed)>, i64) {
    fetch_some(client, topic, offset, i32::MAX)
}

/// The same; of more than one batch no more than fit.
fn fetch_some(
    client: &mut Client,
    topic: &str,
    offset: i64,
    max_bytes: i32,
) -> (Vec<(i64, Keyed)>, i64) {
    let mut request = fetch_request(topic, &[(0, offset)], 100, 1);
    let partition = &mut request.topics[0].partitions[0];
    partition.partition_max_bytes = partition.partition_max_bytes.min(max_bytes);
    let response = client.fetch(&request);
    let response = response.expect("an answer");
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::NONE);
    let mut bytes = data.records.clone().unwrap_or_default().into_bytes();
    let (mut next, mut all) = (offset, Vec::new());
    while let Some(batch) = split_first(&mut bytes).expect("whole batches") {
        assert!(batch.crc_ok());
        assert!(batch.last_offset() >= next, "batches are in order");
        next = batch.last_offset() + 1;
        for record in records(&batch, 1 << 30).expect("records") {
            let record = record.expect("a record");
            let read = Keyed {
                key: record.key.expect("a key"),
                value: record.value,
                timestamp: record.timestamp,
            };
            all.push((record.offset, read));
        }
    }
    (all, next)
}

/// All records of partition 0, by offset.
pub fn read(client: &mut Client, topic: &str) -> BTreeMap<i64, Keyed> {
    let end = client.latest(topic, 0);
    let (mut next, mut all) = (client.earliest(topic, 0), BTreeMap::new());
    let mut last_news = Instant::now();
    while next < end {
        // A fetch that meets a compacted segment taking its place may give nothing.
        let (records, after) = fetch_from(client, topic, next);
        all.extend(records);
        if after > next {
            last_news = Instant::now();
        }
        assert!(
            last_news.elapsed() < PATIENCE,
            "nothing behind offset {next}"
        );
        next = after;
    }
    all
}

/// The last record of each key, by offset.
pub fn last_of_each(all: &BTreeMap<i64, Keyed>) -> BTreeMap<i64, Keyed> {
    let last: HashMap<_, _> = all.iter().map(|(o, r)| (r.key.clone(), *o)).collect();
    let of_last = |offset: i64| (offset, all[&offset].clone());
    last.into_values().map(of_last).collect()
}

/// Waits until all but the segment that is written to are one compacted one.
pub fn wait_compacted(site: &impl Site, topic: Topic) {
    wait_for(site, "all is compacted", || {
        let segments = site.segments(topic);
        segments.len() <= 3 && segments.values().filter(|compacted| !**compacted).count() == 1
    });
}

/// Bytes that nothing compresses, the same for the same number.
fn noise(number: i64, len: usize) -> Vec<u8> {
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// Writes values of 10 kB for 40 keys, in batches, until so many bytes are written. Gives all records.
pub fn fill(client: &mut Client, topic: &str, mb: usize, from: i64) -> BTreeMap<i64, Keyed> {
    let mut all = BTreeMap::new();
    for number in 0..mb * 20 {
        let record = |n: i64| {
            let number = number as i64 * 5 + n;
            let key = format!("key {}", number % 40);
            keyed(&key, Some(&noise(number, 10_000)), from + number)
        };
        let records: Vec<_> = (0..5).map(record).collect();
        let codec = match number % 2 {
            0 => Compression::None,
            _ => Compression::Lz4,
        };
        let base = put(client, topic, &records, codec);
        all.extend((base..).zip(records));
    }
    all
}

pub fn who_reads_finds_the_last_record_of_each_key_at_its_offset(site: &impl Site) {
    let mut gateway = start(site, &[]);
    let mut client = gateway.connect();
    let id = client.create_topic_with("t", 1, &EAGER);
    let keyless = client.produce("t", 0, batch(&[b"no key"], None));
    assert_eq!(
        keyless.expect("an answer").error_code,
        ErrorCode::INVALID_RECORD
    );
    let began = now_ms() - 1_000_000;
    let written = fill(&mut client, "t", 8, began);
    wait_compacted(site, ("t", id));
    let last = last_of_each(&written);
    let check = |client: &mut Client| {
        let left = read(client, "t");
        assert!(left.len() < written.len() / 2, "{} are left", left.len());
        assert!(left.iter().all(|(o, record)| written[o] == *record));
        assert_eq!(last_of_each(&left), last);
        assert_eq!(client.earliest("t", 0), 0);
        // In a hole, what is behind it.
        for offset in (0..written.len() as i64).step_by(37) {
            let at_or_after = left.range(offset..).next().map(|(o, _)| *o);
            let (found, _) = fetch_from(client, "t", offset);
            let found = found.iter().find(|(o, _)| *o >= offset);
            assert_eq!(found.map(|(o, _)| *o), at_or_after);
            // Timestamps go up with offsets.
            let by_time = client.offset_at("t", 0, began + offset);
            assert_eq!(Some(by_time), at_or_after);
        }
        assert_eq!(client.offset_at("t", 0, -3), written.len() as i64 - 1);
    };
    check(&mut client);
    site.inspect(("t", id));
    assert_eq!(gateway.stop(), Some(0));
    let mut gateway = start(site, &[]);
    check(&mut gateway.connect());
    gateway.kill();
    let gateway = start(site, &[]);
    let mut client = gateway.connect();
    check(&mut client);

    // The log goes on, and is compacted again.
    let end = client.latest("t", 0);
    assert_eq!(end, written.len() as i64);
    assert_eq!(epoch_end(&mut client, "t", 0), (0, end));
    let more = fill(&mut client, "t", 4, now_ms());
    wait_compacted(site, ("t", id));
    let left = read(&mut client, "t");
    assert!(left.len() < 300, "{} are left", left.len());
    assert_eq!(last_of_each(&left), last_of_each(&more));
    assert_eq!(epoch_end(&mut client, "t", 0), (0, end));
}

/// The leader epoch that is found, and where it ends.
fn epoch_end(client: &mut Client, topic: &str, leader_epoch: i32) -> (i32, i64) {
    let partition = offset_for_leader_epoch::OffsetForLeaderPartition {
        leader_epoch,
        ..Default::default()
    };
    let request = offset_for_leader_epoch::Request {
        topics: vec![offset_for_leader_epoch::OffsetForLeaderTopic {
            topic: topic.to_owned().into(),
            partitions: vec![partition],
        }],
        ..Default::default()
    };
    let response: offset_for_leader_epoch::Response = client
        .call(offset_for_leader_epoch::KEY, 4, &request)
        .expect("an answer");
    let found = &response.topics[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::NONE);
    (found.leader_epoch, found.end_offset)
}

pub fn behind_a_hole_at_the_end_of_a_chunk_or_segment_the_next_one_is_read(site: &impl Site) {
    let gateway = start(site, &[]);
    let mut client = gateway.connect();
    client.create_topic_with("t", 1, &EAGER);
    let mut written = BTreeMap::new();
    // Of the ten batches of each segment three have a key that comes again, the last one among them. None
    // of the last segment has one, which is not compacted.
    for number in 0..45 {
        let key = match number % 10 {
            2 | 8 | 9 if number < 40 => format!("again {}", number % 10),
            _ => format!("once {number}"),
        };
        let record = keyed(&key, Some(&noise(number, 100_000)), now_ms());
        let records = [record.clone()];
        let base = put(&mut client, "t", &records, Compression::None);
        written.insert(base, record);
    }
    let expected = last_of_each(&written);
    wait_for(site, "the last ones are left", || {
        read(&mut client, "t") == expected
    });
    for offset in 0..45 {
        let (found, _) = fetch_some(&mut client, "t", offset, 1);
        let found: Vec<_> = found.iter().map(|(offset, _)| *offset).collect();
        let behind = expected.range(offset..).next();
        assert_eq!(
            found,
            behind.map(|(o, _)| *o).into_iter().collect::<Vec<_>>()
        );
    }
}

/// Deletes half of the keys between two others' values.
fn delete_half(client: &mut Client, topic: &str) -> BTreeMap<i64, Keyed> {
    let mut written = fill(client, topic, 2, now_ms());
    let tombstones: Vec<_> = (0..20)
        .map(|key| keyed(&format!("key {key}"), None, now_ms()))
        .collect();
    let base = put(client, topic, &tombstones, Compression::None);
    written.extend((base..).zip(tombstones));
    // So that the tombstones leave the last segment.
    let others = |n: i64| {
        let key = format!("other {}", n % 10);
        keyed(&key, Some(&[b'y'; 50_000]), now_ms())
    };
    for n in 0..45 {
        let record = others(n);
        let base = put(
            client,
            topic,
            std::slice::from_ref(&record),
            Compression::None,
        );
        written.insert(base, record);
    }
    written
}

pub fn tombstones_go_in_time_and_what_they_deleted_at_once(site: &impl Site) {
    let gateway = start(site, &[]);
    let mut client = gateway.connect();
    let late = [&EAGER[..], &[("delete.retention.ms", "3600000")]].concat();
    let soon = [&EAGER[..], &[("delete.retention.ms", "0")]].concat();
    let ids = [("late", late), ("soon", soon)]
        .map(|(topic, configs)| (topic, client.create_topic_with(topic, 1, &configs)));
    for (topic, id) in ids {
        let written = delete_half(&mut client, topic);
        wait_compacted(site, (topic, id));
        let left = read(&mut client, topic);
        let of_deleted = |record: &&Keyed| (0..20).any(|n| record.key == format!("key {n}"));
        assert!(left.values().filter(of_deleted).all(|r| r.value.is_none()));
        if topic == "late" {
            assert_eq!(last_of_each(&left), last_of_each(&written));
            assert_eq!(left.values().filter(of_deleted).count(), 20);
        }
    }
    // The next run finds that they have waited long enough.
    wait_for(site, "tombstones are gone", || {
        for n in 0..25 {
            let record = keyed(&format!("last {n}"), Some(&[b'z'; 50_000]), now_ms());
            put(&mut client, "soon", &[record], Compression::None);
        }
        read(&mut client, "soon")
            .values()
            .all(|r| r.value.is_some())
    });
    let left = read(&mut client, "soon");
    let values = left.values().filter(|r| r.key.starts_with(b"key "));
    assert_eq!(values.count(), 20, "those that were not deleted");
    let tombstones = read(&mut client, "late");
    let tombstones = tombstones.values().filter(|r| r.value.is_none());
    assert_eq!(tombstones.count(), 20, "an hour is not over");
}

pub fn a_kill_while_logs_are_compacted_loses_no_keys_last_record(site: &impl Site) {
    let rounds = std::env::var("COMPACTION_ROUNDS");
    let rounds = rounds.ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut gateway = start(site, &[]);
    let mut client = gateway.connect();
    client.create_topic_with("t", 1, &EAGER);
    let mut acked: HashMap<Bytes, (i64, Keyed)> = HashMap::new();
    let mut number = 0;
    for round in 0..rounds {
        // Some time in the middle of it, another in each round.
        for _ in 0..60 + round * 17 {
            let records: Vec<_> = (0..3)
                .map(|_| {
                    number += 1;
                    let value = noise(number, 7_000);
                    keyed(&format!("key {}", number * 7 % 300), Some(&value), now_ms())
                })
                .collect();
            let base = put(&mut client, "t", &records, Compression::Snappy);
            for (offset, record) in (base..).zip(records) {
                acked.insert(record.key.clone(), (offset, record));
            }
        }
        gateway.kill();
        // Slow enough in every other round for the kill to come in the middle of a segment.
        let slow = ["--log-cleaner-io-max-bytes-per-second", "8MiB"];
        gateway = start(site, if round % 2 == 0 { &slow } else { &[] });
        client = gateway.connect();
        let left = read(&mut client, "t");
        for (offset, record) in acked.values() {
            assert_eq!(left.get(offset), Some(record), "round {round}");
        }
        assert_eq!(last_of_each(&left).len(), acked.len());
    }
    let log = Gateway::log(site.data());
    assert!(log.contains("compacted a log"), "{log}");
    assert!(!log.contains("cannot compact"), "{log}");
}

pub fn what_compaction_replaced_does_not_come_back_after_a_kill(site: &impl Site) {
    let mut gateway = start(site, &[]);
    let mut client = gateway.connect();
    let mut configs = EAGER.to_vec();
    configs[3].1 = "3600000";
    assert_eq!(configs[3].0, "file.delete.delay.ms");
    client.create_topic_with("t", 1, &configs);
    let written = fill(&mut client, "t", 4, now_ms());
    wait_for(site, "few records are left", || {
        read(&mut client, "t").len() < 200
    });
    gateway.kill();
    let gateway = start(site, &["--log-cleaner-enable", "false"]);
    let left = read(&mut gateway.connect(), "t");
    assert!(left.len() < 200, "{} are left", left.len());
    assert!(left.iter().all(|(o, record)| written[o] == *record));
    assert_eq!(last_of_each(&left), last_of_each(&written));
}

pub fn a_topic_with_both_policies_is_compacted_and_loses_its_beginning(site: &impl Site) {
    let gateway = start(site, &["--log-retention-check-interval-ms", "20"]);
    let mut client = gateway.connect();
    let mut configs = EAGER.to_vec();
    configs[0].1 = "compact,delete";
    configs.push(("retention.bytes", "3000000"));
    let id = client.create_topic_with("t", 1, &configs);
    let began = now_ms();
    let written = fill(&mut client, "t", 4, began);
    wait_compacted(site, ("t", id));
    let left = read(&mut client, "t");
    assert!(left.len() < written.len() / 2, "{} are left", left.len());
    assert_eq!(last_of_each(&left), last_of_each(&written));
    assert_eq!(client.earliest("t", 0), 0, "it is small enough by now");
    // Of keys that nothing takes the place of, there are too many.
    for n in 0..100 {
        let record = keyed(&format!("own {n}"), Some(&[b'o'; 50_000]), now_ms());
        put(&mut client, "t", &[record], Compression::None);
    }
    wait_for(site, "the beginning is gone", || {
        client.earliest("t", 0) > written.len() as i64
    });
    wait_compacted(site, ("t", id));
    let left = read(&mut client, "t");
    assert!(left.values().all(|record| record.key.starts_with(b"own ")));
    assert!(left.len() > 35, "{} are left", left.len());
}

pub fn a_log_that_cannot_be_compacted_stays_as_it_is_and_others_do_not_wait_for_it(
    site: &impl Site,
) {
    let options = [&["--shards", "1"], &EAGERLY[..]].concat();
    let mut gateway = site.gateway(&[&options[..], &["--log-cleaner-enable", "false"]].concat());
    let mut client = gateway.connect();
    let bad = ("bad", client.create_topic_with("bad", 1, &EAGER));
    let good = ("good", client.create_topic_with("good", 1, &EAGER));
    let written = fill(&mut client, "bad", 4, now_ms());
    let last = last_of_each(&fill(&mut client, "good", 3, now_ms()));
    let mut plain = BTreeMap::new();
    wait_for(site, "all of it is in segments", || {
        plain = site.segments(bad);
        plain.len() > 3
    });
    assert!(plain.values().all(|compacted| !compacted));
    assert_eq!(gateway.stop(), Some(0));
    let second = *plain.keys().nth(1).expect("a second segment");
    site.damage(bad, second);

    let admin = ["--admin", "127.0.0.1:0"];
    let gateway = site.gateway(&[&options[..], &admin].concat());
    let mut client = gateway.connect();
    wait_compacted(site, good);
    assert_eq!(last_of_each(&read(&mut client, "good")), last);
    let at = Gateway::admin(site.data());
    let mut scraped = scrape(at);
    wait_for(site, "one is compacted, one is not", || {
        scraped = scrape(at);
        let of = |name| scraped.sum(name);
        of("tidegate_uncleanable_partitions") == 1.0 && of("tidegate_compactions_total") > 0.0
    });
    assert_eq!(scraped.sum("tidegate_compaction_failures_total"), 1.0);
    assert!(scraped.sum("tidegate_compaction_read_bytes_total") > 3e6);
    assert!(scraped.sum("tidegate_compaction_written_bytes_total") > 4e5);
    // What can be read of it is what was there.
    assert_eq!(site.segments(bad), plain);
    let (found, _) = fetch_from(&mut client, "bad", 0);
    assert!(found.iter().all(|(o, record)| written[o] == *record));
    let log = Gateway::log(site.data());
    assert_eq!(log.matches("cannot compact a log").count(), 1, "{log}");
}

/// What `/metrics` says.
fn scrape(admin: SocketAddr) -> Scrape {
    let mut stream = TcpStream::connect(admin).expect("the admin pages");
    let request = b"GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    Scrape::parse(body)
}

fn alter_topic(client: &mut Client, topic: &str, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| incremental_alter_configs::AlterableConfig {
        name: (*name).to_owned().into(),
        config_operation: 0,
        value: Some((*value).to_owned().into()),
    };
    let request = incremental_alter_configs::Request {
        resources: vec![incremental_alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: topic.to_owned().into(),
            configs: configs.iter().map(config).collect(),
        }],
        validate_only: false,
    };
    let response: incremental_alter_configs::Response = client
        .call(incremental_alter_configs::KEY, 1, &request)
        .expect("an answer");
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
}

/// Commits an offset, with as much beside it as there may be.
fn commit(client: &mut Client, group: &str, offset: i64) {
    client.commit_offset(group, "t", offset, "m".repeat(4000).into());
}

fn committed(client: &mut Client, group: &str) -> i64 {
    let topic = offset_fetch::OffsetFetchRequestTopics {
        name: "t".into(),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let request = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: group.to_owned().into(),
            topics: Some(vec![topic]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let error = |a: &offset_fetch::Response| a.groups[0].error_code;
    let response = client.ask_coordinator(offset_fetch::KEY, 8, &request, error);
    assert_eq!(error(&response), ErrorCode::NONE);
    response.groups[0].topics[0].partitions[0].committed_offset
}

pub fn many_commits_do_not_make_the_offsets_topic_grow_and_groups_are_as_they_were(
    site: &impl Site,
) {
    const GROUPS: i64 = 10;
    let options = ["--offsets-topic-num-partitions", "1"];
    let mut gateway = start(site, &options);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    client.coordinator("g0");
    let offsets = "__consumer_offsets";
    alter_topic(&mut client, offsets, &EAGER[1..]);
    for round in 1..=3 {
        let from = client.latest(offsets, 0);
        for n in 0..1000 {
            commit(&mut client, &format!("g{}", n % GROUPS), round * 10_000 + n);
        }
        assert_eq!(client.latest(offsets, 0), from + 1000);
        wait_for(site, "few commits are left", || {
            read(&mut client, offsets).len() < 400
        });
        match round {
            1 => assert_eq!(gateway.stop(), Some(0)),
            _ => gateway.kill(),
        }
        gateway = start(site, &options);
        client = gateway.connect();
        for group in 0..GROUPS {
            let last = round * 10_000 + 1000 - GROUPS + group;
            assert_eq!(committed(&mut client, &format!("g{group}")), last);
        }
    }
}
