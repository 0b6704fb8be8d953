//! What may happen to topics in SeaweedFS: every process of a real one and the gateway end or stand still
//! under load, volumes are full, files are cut, and two gateways own the same topics.
//!
//! After each: what was acknowledged is there once and in order, nothing of an idempotent producer is
//! there twice, and it goes on by itself.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::load::{Load, PARTITIONS, TOPIC};
use common::weed::{Part, Weed, get, list, wait, wait_for};
use common::{Client, Gateway, Given, batch, data_folder, fetch_request, produce_request};
use tidegate::bridge::{Bridge, Entry, Removal};
use tidegate::wire::{ErrorCode, fetch, metadata, produce};

/// A SeaweedFS, and a folder for gateways' logs.
struct Place {
    weed: Weed,
    data: tempfile::TempDir,
}

impl Place {
    fn start(extra: &[(Part, &str)]) -> Self {
        Self::start_parts(&Part::ALL, extra)
    }

    fn start_parts(parts: &[Part], extra: &[(Part, &str)]) -> Self {
        let extra = extra.iter().map(|(part, text)| (*part, (*text).to_owned()));
        Place {
            weed: Weed::start_so(data_folder(), parts, extra.collect()),
            data: data_folder(),
        }
    }

    /// A gateway, again where one was if it is given.
    fn gateway(&self, before: Option<&Gateway>, options: &[&str]) -> Gateway {
        let all = [&["--admin", "127.0.0.1:0"], options].concat();
        let at = before.map(|before| before.address);
        self.weed.gateway(self.data.path(), at, &all)
    }

    /// The program, of which nobody waits until it serves.
    fn program(&self, options: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        program
            .args(["--store", "seaweedmq", "--seaweedfs-masters"])
            .args([&self.weed.master(), "--listen", "127.0.0.1:0"])
            .args(["--admin", "off"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        program
    }

    /// What a gateway says that does not start.
    fn refused(&self, options: &[&str]) -> String {
        let ended = self.program(options).output().expect("it runs");
        assert!(!ended.status.success());
        String::from_utf8_lossy(&ended.stderr).into_owned()
    }

    /// What the gateway that was started last says of its readiness.
    fn readyz(&self) -> String {
        readyz(&self.admin())
    }

    fn admin(&self) -> String {
        Gateway::admin(self.data.path()).to_string()
    }

    fn wait_ready(&self) {
        wait_for("it is ready", || self.readyz().contains(" 200 OK"));
    }
}

fn readyz(admin: &str) -> String {
    get(admin, "/readyz")
}

/// More is acknowledged than there was.
fn wait_progress(load: &Load, after: &str) {
    let before = load.acked();
    wait_for(&format!("records are stored after {after}"), || {
        load.acked() >= before + 50
    });
}

#[test]
fn every_process_may_end_under_load_whichever_way() {
    // It stays for ten seconds otherwise.
    let mut place = Place::start(&[(Part::Volume, "-preStopSeconds=0")]);
    let options = ["--shards", "2", "--checkpoint-interval-ms", "100"];
    let mut gateway = place.gateway(None, &options);
    gateway.connect().create_topic(TOPIC, PARTITIONS);
    let mut load = Load::new(gateway.address);
    load.store_may_fail = true;
    let seen = std::thread::scope(|scope| {
        let consumers = load.start(scope);
        wait_progress(&load, "the start");
        for part in [Part::Filer, Part::Volume, Part::Master, Part::Broker] {
            for killed in [true, false] {
                match killed {
                    true => place.weed.kill(part),
                    false => place.weed.stop(part),
                }
                if part == Part::Filer {
                    wait_for("it says that the filer is gone", || {
                        let told = place.readyz();
                        told.contains(" 503 ") && told.contains("no filer of SeaweedFS answers")
                    });
                }
                place.weed.start_part(part);
                wait_progress(&load, &format!("{part:?} (killed: {killed})"));
                place.wait_ready();
            }
        }
        for killed in [true, false] {
            match killed {
                true => gateway.kill(),
                false => assert_eq!(gateway.stop(), Some(0)),
            }
            gateway = place.gateway(Some(&gateway), &options);
            wait_progress(&load, &format!("the gateway (killed: {killed})"));
            place.wait_ready();
        }
        load.stop(consumers)
    });
    load.check(&mut gateway.connect(), &seen);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn while_the_filer_stands_still_memory_stays_bounded_and_later_all_goes_on() {
    let place = Place::start(&[]);
    let options = [
        "--shards",
        "1",
        "--max-uncommitted-bytes",
        "4MiB",
        "--request-memory",
        "32MiB",
    ];
    let mut gateway = place.gateway(None, &options);
    gateway.connect().create_topic(TOPIC, PARTITIONS);
    gateway.connect().create_topic("flood", 1);
    let mut load = Load::new(gateway.address);
    load.store_may_fail = true;
    let seen = std::thread::scope(|scope| {
        let consumers = load.start(scope);
        wait_progress(&load, "the start");
        let before = gateway.resident_bytes();
        place.weed.pause(Part::Filer);
        let sent: usize = flood(&gateway);
        assert!(sent > 20 << 20, "only {sent} bytes were sent: no flood");
        let grown = gateway.peak_bytes() - before;
        assert!(grown < 160 << 20, "{grown} bytes more for {sent} sent");
        place.weed.resume(Part::Filer);
        wait_progress(&load, "the filer stood still");
        place.wait_ready();
        load.stop(consumers)
    });
    load.check(&mut gateway.connect(), &seen);
    assert_eq!(gateway.stop(), Some(0));
}

/// Sends as much as the gateway takes from many clients that wait for no answer; how many bytes it was.
fn flood(gateway: &Gateway) -> usize {
    const CLIENTS: usize = 64;
    let value = vec![b'x'; 900_000];
    let request = produce_request("flood", vec![(0, batch(&[&value], None))], -1);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| gateway.connect()).collect();
    let mut sent = 0;
    std::thread::scope(|scope| {
        let send = |client: &mut Client| {
            let timeout = Some(Duration::from_secs(2));
            client.stream.set_write_timeout(timeout).expect("a timeout");
            let began = Instant::now();
            let mut times = 0;
            while began.elapsed() < Duration::from_secs(4)
                && client.send(produce::KEY, 9, &request).is_ok()
            {
                times += 1;
            }
            times * value.len()
        };
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || send(client)))
            .collect();
        for thread in threads {
            sent += thread.join().expect("no panic");
        }
    });
    sent
}

#[test]
fn when_volumes_are_full_producers_are_refused_and_go_on_when_there_is_room() {
    let small = [
        (Part::Master, "-volumeSizeLimitMB=1"),
        (Part::Volume, "-max=8"),
    ];
    let mut place = Place::start(&small);
    let gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("full", 1);
    let mut acked: Vec<(i64, Bytes)> = Vec::new();
    let mut value = vec![0; 200_000];
    let mut produce = |client: &mut Client, acked: &mut Vec<(i64, Bytes)>| {
        getrandom::fill(&mut value).expect("random bytes");
        let answer = client.produce("full", 0, batch(&[&value], None));
        let answer = answer.expect("an answer");
        if answer.error_code == ErrorCode::NONE {
            acked.push((answer.base_offset, value.clone().into()));
        }
        answer.error_code
    };
    let mut refused = ErrorCode::NONE;
    wait_for("the volumes are full", || {
        refused = produce(&mut client, &mut acked);
        refused != ErrorCode::NONE
    });
    assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(acked.len() > 10, "{} were stored", acked.len());
    assert_eq!(client.drain("full", 0), acked);
    place.weed.kill(Part::Volume);
    place.weed.extra = vec![(Part::Master, "-volumeSizeLimitMB=1".to_owned())];
    place.weed.start_part(Part::Volume);
    wait_for("there is room", || {
        produce(&mut client, &mut acked) == ErrorCode::NONE
    });
    drop(gateway);
    let gateway = place.gateway(None, &["--shards", "1"]);
    assert_eq!(gateway.connect().drain("full", 0), acked);
}

/// The only segment of a partition: its folder and entry.
fn segment(bridge: &Bridge, topic: &str, partition: usize) -> (String, Entry) {
    find_segment(bridge, topic, partition).expect("a segment")
}

fn find_segment(bridge: &Bridge, topic: &str, partition: usize) -> Option<(String, Entry)> {
    let topic = format!("/topics/kafka/{topic}");
    let generation = list(bridge, &topic)
        .into_iter()
        .find(|entry| entry.is_directory)?;
    let generation = format!("{topic}/{}", generation.name);
    let partition = list(bridge, &generation).into_iter().nth(partition)?;
    let partition = format!("{generation}/{}", partition.name);
    let mut segments = list(bridge, &partition);
    assert!(segments.len() <= 1, "{segments:?}");
    Some((partition, segments.pop()?))
}

/// Error code and first offset of a fetch.
fn fetched(client: &mut Client, partition: i32, offset: i64) -> (ErrorCode, Option<i64>) {
    fetched_of(client, "cut", partition, offset)
}

fn fetched_of(
    client: &mut Client,
    topic: &str,
    partition: i32,
    offset: i64,
) -> (ErrorCode, Option<i64>) {
    let request = fetch_request(topic, &[(partition, offset)], 0, 1);
    let answer = client.fetch(&request).expect("an answer");
    let data = &answer.responses[0].partitions[0];
    let first = common::records_of(data).first().map(|(offset, _)| *offset);
    (data.error_code, first)
}

#[test]
fn a_partition_that_was_cut_is_told_and_harms_no_other() {
    let place = Place::start(&[]);
    let mut gateway = place.gateway(None, &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("cut", 3);
    let put = |client: &mut Client, partition, values: &[&[u8]]| {
        let answer = client.produce("cut", partition, batch(values, None));
        let answer = answer.expect("an answer");
        (answer.error_code, answer.base_offset)
    };
    let produce = |client: &mut Client, partition| put(client, partition, &[b"a", b"b"]);
    // Such that each is a chunk of its own.
    let large: [&[u8]; 2] = [&[b'a'; 40 << 10], &[b'b'; 40 << 10]];
    for round in 0..3 {
        for partition in 0..3 {
            let expected = (ErrorCode::NONE, 2 * round);
            assert_eq!(put(&mut client, partition, &large), expected);
        }
    }
    assert_eq!(gateway.stop(), Some(0));
    // It ends with records in the journal that are in no segment.
    let mut gateway = place.gateway(None, &["--shards", "2"]);
    let mut client = gateway.connect();
    for partition in 0..3 {
        assert_eq!(produce(&mut client, partition), (ErrorCode::NONE, 6));
    }
    gateway.kill();
    // One loses a chunk from its volume, another's entry is cut.
    let (_thread, bridge) = place.weed.bridge();
    let (_, lost) = segment(&bridge, "cut", 0);
    assert_eq!(lost.chunks.len(), 3);
    wait(bridge.discard(&lost.chunks[1])).expect("it is removed");
    let (folder, whole) = segment(&bridge, "cut", 1);
    let mut cut = whole.clone();
    // Without its chunks, so that the filer does not remove the one that is left out.
    let kept = cut.chunks.split_off(2);
    assert_eq!(kept.len(), 1);
    let value = cut.extended.remove("tidegate").expect("it is Tidegate's");
    cut.extended
        .insert("tidegate".to_owned(), value.slice(..value.len() - 1));
    cut.chunks.extend(kept);
    wait(bridge.create(&folder, cut, false)).expect("it is replaced");

    let mut gateway = place.gateway(None, &["--shards", "2"]);
    let mut client = gateway.connect();
    assert_eq!(fetched(&mut client, 0, 0), (ErrorCode::NONE, Some(0)));
    for offset in [2, 3] {
        let damaged = (ErrorCode::CORRUPT_MESSAGE, None);
        assert_eq!(fetched(&mut client, 0, offset), damaged);
    }
    assert_eq!(fetched(&mut client, 0, 4), (ErrorCode::NONE, Some(4)));
    assert_eq!(produce(&mut client, 0), (ErrorCode::NONE, 8));
    let offline = ErrorCode::KAFKA_STORAGE_ERROR;
    assert_eq!(fetched(&mut client, 1, 0), (offline, None));
    assert_eq!(produce(&mut client, 1).0, offline);
    assert_eq!(client.drain("cut", 2).len(), 8);
    assert_eq!(produce(&mut client, 2), (ErrorCode::NONE, 8));
    let log = Gateway::log(place.data.path());
    assert!(
        log.contains("is kept; the partition is not served"),
        "{log}"
    );
    assert!(
        log.contains("a chunk that the segment lists is lost"),
        "{log}"
    );
    let told = place.readyz();
    assert!(told.contains("partitions that cannot be read: 1"), "{told}");
    assert_eq!(gateway.stop(), Some(0));
    // One more start leaves it as it is.
    let mut gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    assert_eq!(produce(&mut client, 1).0, offline);
    assert_eq!(client.drain("cut", 2).len(), 10);
    assert_eq!(gateway.stop(), Some(0));
    // As an operator restores it.
    wait(bridge.create(&folder, whole, false)).expect("it is replaced");
    for last in [8, 10] {
        let mut gateway = place.gateway(None, &["--shards", "2"]);
        let mut client = gateway.connect();
        assert_eq!(client.drain("cut", 1).len(), last);
        let expected = (ErrorCode::NONE, last as i64);
        assert_eq!(produce(&mut client, 1), expected);
        assert_eq!(gateway.stop(), Some(0));
    }
}

/// Such that each batch is a chunk of its own.
const LARGE: &[u8] = &[b'x'; 80 << 10];

/// Stores a batch, as soon as it can be; gives its offset.
fn stored(client: &mut Client, topic: &str, partition: i32, value: &[u8]) -> i64 {
    let mut base_offset = -1;
    wait_for("it is stored", || {
        let answer = client.produce(topic, partition, batch(&[value], None));
        let answer = answer.expect("an answer");
        base_offset = answer.base_offset;
        answer.error_code == ErrorCode::NONE
    });
    base_offset
}

/// What belongs to "stays" and to the catalog is on one volume server then, and what belongs to "goes" on
/// the other.
fn on_two_servers(place: &mut Place, gateway: &Gateway) {
    let mut client = gateway.connect();
    client.create_topic("stays", 1);
    client.create_topic("goes", 2);
    assert_eq!(stored(&mut client, "stays", 0, LARGE), 0);
    client.coordinator("g");
    client.commit_offset("g", "stays", 1, "".into());
    let (_thread, bridge) = place.weed.bridge();
    wait_for("it is in a segment", || {
        find_segment(&bridge, "__consumer_offsets", 0).is_some()
    });
    place.weed.kill(Part::OtherVolume);
    place.weed.start_part(Part::Volume);
    assert_eq!(stored(&mut client, "goes", 0, LARGE), 0);
    place.weed.start_part(Part::OtherVolume);
}

const WITHOUT_ONE: [Part; 4] = [Part::Master, Part::OtherVolume, Part::Filer, Part::Broker];

#[test]
fn a_volume_that_is_away_at_the_start_costs_its_partitions_only_until_it_is_back() {
    let mut place = Place::start_parts(&WITHOUT_ONE, &[]);
    let mut gateway = place.gateway(None, &["--shards", "2"]);
    on_two_servers(&mut place, &gateway);
    // These are in the journal alone.
    let mut client = gateway.connect();
    assert_eq!(stored(&mut client, "goes", 0, b"small"), 1);
    assert_eq!(stored(&mut client, "goes", 1, b"small"), 0);
    assert_eq!(stored(&mut client, "stays", 0, b"small"), 1);
    gateway.kill();
    place.weed.kill(Part::Volume);

    let offline = ErrorCode::KAFKA_STORAGE_ERROR;
    // One more start finds it as the first did.
    for round in 0..2 {
        gateway = place.gateway(None, &["--shards", "2"]);
        let mut client = gateway.connect();
        assert_eq!(client.drain("stays", 0).len(), 2 + round);
        let next = 2 + round as i64;
        assert_eq!(stored(&mut client, "stays", 0, b"on"), next);
        assert_eq!(client.drain("goes", 1).len(), 1 + round);
        assert_eq!(stored(&mut client, "goes", 1, b"on"), next - 1);
        assert_eq!(fetched_of(&mut client, "goes", 0, 0), (offline, None));
        let refused = client.produce("goes", 0, batch(&[b"x"], None));
        assert_eq!(refused.expect("an answer").error_code, offline);
        client.commit_offset("g", "stays", next, "".into());
        let told = place.readyz();
        let waits = "partitions that wait for a volume server: 1";
        assert!(told.contains(" 200 OK") && told.contains(waits), "{told}");
        let log = Gateway::log(place.data.path());
        assert!(log.contains("partitions are not served"), "{log}");
        if round == 0 {
            gateway.kill();
        }
    }
    place.weed.start_part(Part::Volume);
    let mut client = gateway.connect();
    wait_for("it is served again", || {
        fetched_of(&mut client, "goes", 0, 0) == (ErrorCode::NONE, Some(0))
    });
    let values: Vec<_> = client.drain("goes", 0).into_iter().collect();
    assert_eq!(values, [(0, Bytes::from(LARGE)), (1, Bytes::from("small"))]);
    assert_eq!(stored(&mut client, "goes", 0, b"on"), 2);
    assert!(!place.readyz().contains("wait for a volume server"));
    assert_eq!(gateway.stop(), Some(0));
    let gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    assert_eq!(client.drain("goes", 0).len(), 3);
    assert_eq!(client.drain("goes", 1).len(), 3);
    assert_eq!(client.drain("stays", 0).len(), 4);
}

#[test]
fn a_volume_that_is_lost_for_good_can_be_given_up_without_a_restart() {
    let mut place = Place::start_parts(&WITHOUT_ONE, &[]);
    let mut gateway = place.gateway(None, &["--shards", "1"]);
    on_two_servers(&mut place, &gateway);
    gateway.kill();
    place.weed.lose(Part::Volume);
    place.weed.start_part(Part::Volume);
    let gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    let offline = ErrorCode::KAFKA_STORAGE_ERROR;
    assert_eq!(fetched_of(&mut client, "goes", 0, 0), (offline, None));
    let (_thread, bridge) = place.weed.bridge();
    let (folder, segment) = segment(&bridge, "goes", 0);
    let log = Gateway::log(place.data.path());
    let named = format!("segment {folder}/{}: ", segment.name);
    assert!(log.contains(&named), "{named} in {log}");
    let data = Removal {
        data: true,
        recursive: false,
    };
    wait(bridge.delete(&folder, &segment.name, data)).expect("it is removed");
    assert_eq!(stored(&mut client, "goes", 0, b"on"), 0);
    assert_eq!(client.drain("goes", 0).len(), 1);
    assert_eq!(client.drain("stays", 0).len(), 1);
}

#[test]
fn a_start_without_what_was_acknowledged_last_is_refused_and_says_why() {
    let mut place = Place::start_parts(&WITHOUT_ONE, &[]);
    let mut gateway = place.gateway(None, &["--shards", "1"]);
    on_two_servers(&mut place, &gateway);
    place.weed.kill(Part::OtherVolume);
    // Large enough for a volume, as a record of the journal, and too small for a chunk of its own.
    let mut client = gateway.connect();
    assert_eq!(stored(&mut client, "stays", 0, &LARGE[..40 << 10]), 1);
    gateway.kill();
    place.weed.kill(Part::Volume);
    let refused = place.refused(&["--shards", "1"]);
    assert!(refused.contains("the catalog"), "{refused}");
    place.weed.start_part(Part::OtherVolume);
    let refused = place.refused(&["--shards", "1"]);
    assert!(
        refused.contains("the journal's record /topics/kafka/.tidegate/journal/0/")
            && refused.contains("no server has volume"),
        "{refused}"
    );
    place.weed.start_part(Part::Volume);
    let gateway = place.gateway(None, &["--shards", "1"]);
    assert_eq!(gateway.connect().drain("stays", 0).len(), 2);
}

#[test]
fn a_volume_that_goes_away_later_is_told_to_who_reads_there_and_holds_nobody_up() {
    let mut place = Place::start_parts(&WITHOUT_ONE, &[]);
    let options = [
        "--shards",
        "1",
        "--checkpoint-interval-ms",
        "50",
        "--offsets-topic-num-partitions",
        "4",
    ];
    let mut gateway = place.gateway(None, &options);
    on_two_servers(&mut place, &gateway);
    let mut client = gateway.connect();
    // As many small chunks as are merged when there is one more.
    let (_thread, bridge) = place.weed.bridge();
    let chunks = || {
        let found = find_segment(&bridge, "goes", 0);
        found.map_or(0, |(_, entry)| entry.chunks.len())
    };
    place.weed.kill(Part::OtherVolume);
    for small in 1..=15 {
        assert_eq!(stored(&mut client, "goes", 0, b"small"), small);
        wait_for("it is in the segment", || chunks() == 1 + small as usize);
    }
    // Its offsets are in partition 1, those of "g" in partition 3.
    client.commit_offset("a", "stays", 1, "".into());
    assert_eq!(gateway.stop(), Some(0));
    place.weed.start_part(Part::OtherVolume);
    // Nothing of it is in memory, and the checkpoint says all that a start has to know.
    place.weed.kill(Part::Volume);
    let gateway = place.gateway(None, &options);
    let mut client = gateway.connect();
    client.commit_offset("g", "stays", 1, "".into());
    // Each would take seconds if it waited for the volume.
    for _ in 0..100 {
        let offline = (ErrorCode::KAFKA_STORAGE_ERROR, None);
        assert_eq!(fetched_of(&mut client, "goes", 0, 0), offline);
    }
    let both = |client: &mut Client| {
        let mut both = fetch_request("goes", &[(0, 0)], 0, 1);
        let other = fetch_request("stays", &[(0, 0)], 0, 1);
        both.topics.extend(other.topics);
        let answer = client.fetch(&both).expect("an answer");
        let codes = answer
            .responses
            .iter()
            .map(|topic| topic.partitions[0].error_code);
        codes.collect::<Vec<_>>()
    };
    let expected = [ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NONE];
    assert_eq!(both(&mut client), expected);
    // What cannot be merged is stored all the same.
    for more in 0..3 {
        assert_eq!(stored(&mut client, "goes", 0, b"more"), 16 + more);
        assert_eq!(stored(&mut client, "stays", 0, LARGE), 1 + more);
        wait_for("it is in the segment", || chunks() == 17 + more as usize);
    }
    place.weed.start_part(Part::Volume);
    wait_for("it is read", || {
        fetched_of(&mut client, "goes", 0, 0).0 == ErrorCode::NONE
    });
    assert_eq!(client.drain("goes", 0).len(), 19);
    client.commit_offset("a", "stays", 1, "".into());
}

#[test]
fn with_copies_of_volumes_nothing_acknowledged_is_on_one_server_alone() {
    const TWO: [Part; 5] = [
        Part::Master,
        Part::Volume,
        Part::OtherVolume,
        Part::Filer,
        Part::Broker,
    ];
    let asked = ["--seaweedfs-replication", "001"];
    let by_filer = [(Part::Filer, "-defaultReplicaPlacement=001")];
    let by_master = [(Part::Master, "-defaultReplication=001")];
    for (lost, options, extra) in [
        (Part::Volume, &asked[..], &[][..]),
        (Part::OtherVolume, &[][..], &by_filer),
        (Part::Volume, &[][..], &by_master),
    ] {
        let mut place = Place::start_parts(&TWO, extra);
        let options = [&["--shards", "1"], options].concat();
        let mut gateway = place.gateway(None, &options);
        let mut client = gateway.connect();
        client.create_topic("copied", 2);
        for (offset, value) in [LARGE, b"small"].into_iter().enumerate() {
            assert_eq!(stored(&mut client, "copied", 0, value), offset as i64);
        }
        assert_eq!(stored(&mut client, "copied", 1, b"small"), 0);
        let contents = |client: &mut Client| [0, 1].map(|p| client.drain("copied", p));
        let before = contents(&mut client);
        gateway.kill();
        let (_thread, bridge) = place.weed.bridge();
        let records = list(&bridge, "/topics/kafka/.tidegate/journal/0");
        let in_volumes = |record: &Entry| record.content.is_empty() && !record.chunks.is_empty();
        assert!(!records.is_empty() && records.iter().all(in_volumes));
        // Its disk is another one.
        place.weed.lose(lost);
        place.weed.start_part(lost);
        let gateway = place.gateway(None, &options);
        let mut client = gateway.connect();
        assert_eq!(contents(&mut client), before);
        assert_eq!(stored(&mut client, "copied", 1, b"on"), 1);
    }
}

#[test]
fn a_start_that_was_broken_off_when_segments_were_stored_is_made_again() {
    const JOURNAL: &str = "/topics/kafka/.tidegate/journal";
    let place = Place::start(&[]);
    let mut gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("cut", 2);
    for round in 0..5 {
        for partition in 0..2 {
            let answer = client.produce("cut", partition, batch(&[b"a", b"b"], None));
            assert_eq!(answer.expect("an answer").base_offset, 2 * round);
        }
    }
    gateway.kill();
    let (_thread, bridge) = place.weed.bridge();
    let folder = format!("{JOURNAL}/0");
    let records = list(&bridge, &folder);
    assert!(!records.is_empty());
    // It stores segments and removes the journal; with that back, it is as if it had not come so far.
    let mut gateway = place.gateway(None, &["--shards", "1"]);
    assert_eq!(gateway.connect().drain("cut", 0).len(), 10);
    gateway.kill();
    assert_eq!(list(&bridge, JOURNAL), []);
    for record in records {
        wait(bridge.create(&folder, record, false)).expect("it is there again");
    }
    let gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    for partition in 0..2 {
        assert_eq!(client.drain("cut", partition).len(), 10);
        let answer = client.produce("cut", partition, batch(&[b"c"], None));
        assert_eq!(answer.expect("an answer").base_offset, 10);
    }
}

#[test]
fn a_start_may_be_killed_at_any_moment_and_loses_and_repeats_nothing() {
    const JOURNAL: &str = "/topics/kafka/.tidegate/journal";
    const MANY: i32 = 60;
    const ROUNDS: i64 = 8;
    let place = Place::start(&[]);
    let (_thread, bridge) = place.weed.bridge();
    let mut given = Given::some_ms();
    let mut damaged: Option<(String, Entry)> = None;
    let mut gateway = place.gateway(None, &["--shards", "2"]);
    gateway.connect().create_topic("many", MANY);
    for round in 0..ROUNDS {
        let mut client = gateway.connect();
        // Partition 0 is not served any more once it is damaged.
        let first = i32::from(damaged.is_some());
        for number in [2 * round, 2 * round + 1] {
            let value = number.to_string();
            let batches = (first..MANY).map(|p| (p, batch(&[value.as_bytes()], None)));
            let request = produce_request("many", batches.collect(), -1);
            let answer: produce::Response =
                client.call(produce::KEY, 9, &request).expect("an answer");
            for part in &answer.responses[0].partition_responses {
                let told = (part.error_code, part.base_offset);
                assert_eq!(told, (ErrorCode::NONE, number));
            }
        }
        if round == 0 {
            // A segment to be damaged, and one more record in the journal.
            assert_eq!(gateway.stop(), Some(0));
            gateway = place.gateway(None, &["--shards", "2"]);
            assert_eq!(stored(&mut gateway.connect(), "many", 0, b"2"), 2);
        }
        gateway.kill();
        if damaged.is_none() {
            let (folder, whole) = segment(&bridge, "many", 0);
            let mut cut = whole.clone();
            let value = cut.extended["tidegate"].clone();
            let value = value.slice(..value.len() - 1);
            cut.extended.insert("tidegate".to_owned(), value);
            wait(bridge.create(&folder, cut, false)).expect("it is replaced");
            damaged = Some((folder, whole));
        }
        // It is made again, and killed again, until all of it was done.
        wait_for("a start has done its work", || {
            let mut start = place.program(&["--shards", "2"]);
            let mut started = start.stderr(Stdio::null()).spawn().expect("it starts");
            given.wait();
            started.kill().expect("it is killed");
            started.wait().expect("it ends");
            let journals = list(&bridge, JOURNAL);
            let done = journals.iter().all(|j| j.name.starts_with("kept-"));
            given.note(done);
            done
        });
        assert!(!list(&bridge, JOURNAL).is_empty(), "nothing is kept");
        gateway = place.gateway(None, &["--shards", "2"]);
    }
    assert_eq!(gateway.stop(), Some(0));
    let (folder, whole) = damaged.expect("it was damaged");
    wait(bridge.create(&folder, whole, false)).expect("it is restored");
    let gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    for partition in 0..MANY {
        let count = if partition == 0 { 3 } else { 2 * ROUNDS };
        let expected = (0..count).map(|n| (n, Bytes::from(n.to_string())));
        assert_eq!(
            client.drain("many", partition),
            expected.collect::<Vec<_>>()
        );
    }
    assert!(
        list(&bridge, JOURNAL)
            .iter()
            .all(|j| !j.name.starts_with("kept-"))
    );
}

#[test]
fn of_two_gateways_the_late_one_is_refused_and_notices_also_when_it_is_idle() {
    let place = Place::start(&[]);
    let first = place.gateway(None, &["--shards", "2"]);
    first.connect().create_topic(TOPIC, PARTITIONS);
    let load = Load::new(first.address);
    let mut second = None;
    let seen = std::thread::scope(|scope| {
        let consumers = load.start(scope);
        wait_progress(&load, "the start");
        // With commits on their way, for which it wakes to find that it owns nothing.
        first.pause();
        let other = place.gateway(None, &["--shards", "1"]);
        load.go_to(other.address);
        first.resume();
        wait_progress(&load, "another gateway took over");
        second = Some(other);
        load.stop(consumers)
    });
    let second = second.expect("it was started");
    load.check(&mut second.connect(), &seen);

    // Nobody writes to this one, and somebody waits for records.
    let admin = place.admin();
    assert!(readyz(&admin).contains(" 200 OK"), "{}", readyz(&admin));
    let mut client = second.connect();
    let end = client.latest(TOPIC, 0);
    let waiting = fetch_request(TOPIC, &[(0, end)], 25_000, 1);
    let id = client.send(fetch::KEY, 11, &waiting).expect("it is sent");
    let third = place.gateway(None, &["--shards", "1"]);
    let answer: fetch::Response = client.receive(fetch::KEY, 11, id).expect("an answer");
    let error = answer.responses[0].partitions[0].error_code;
    assert_eq!(error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let told = readyz(&admin);
    assert!(
        told.contains(" 503 ") && told.contains("another gateway"),
        "{told}"
    );
    let request = metadata::Request::default();
    let answer: metadata::Response = client.call(metadata::KEY, 13, &request).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::REBOOTSTRAP_REQUIRED);
    let produced = third.connect().produce(TOPIC, 0, batch(&[b"on"], None));
    assert_eq!(produced.expect("an answer").base_offset, end);
    drop((first, second));
}

#[test]
fn a_filer_that_forgot_what_it_had_confirmed_is_told_and_a_restart_goes_on() {
    let place = Place::start(&[]);
    let gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("rewound", 1);
    let produce = |client: &mut Client| {
        let answer = client.produce("rewound", 0, batch(&[b"x"], None));
        answer.expect("an answer").error_code
    };
    assert_eq!(produce(&mut client), ErrorCode::NONE);
    let owners = "/topics/kafka/.tidegate/owners";
    let (_thread, bridge) = place.weed.bridge();
    let before = wait(bridge.lookup(owners, "0")).expect("an answer");
    assert_eq!(produce(&mut client), ErrorCode::NONE);
    // As after a power loss, or from a backup.
    wait(bridge.create(owners, before.expect("it is there"), false)).expect("it is replaced");
    assert_eq!(produce(&mut client), ErrorCode::KAFKA_STORAGE_ERROR);
    let told = place.readyz();
    assert!(
        told.contains(" 503 ") && told.contains("the filer"),
        "{told}"
    );
    let log = Gateway::log(place.data.path());
    assert!(log.contains("the filer has lost changes"), "{log}");
    drop(gateway);
    let gateway = place.gateway(None, &["--shards", "1"]);
    let mut client = gateway.connect();
    assert_eq!(client.drain("rewound", 0).len(), 2);
    assert_eq!(produce(&mut client), ErrorCode::NONE);
}

#[test]
fn a_stop_does_not_wait_for_a_seaweedfs_that_is_gone() {
    for under_load in [false, true] {
        let mut place = Place::start(&[]);
        let mut gateway = place.gateway(None, &["--shards", "2"]);
        gateway.connect().create_topic(TOPIC, PARTITIONS);
        let mut client = gateway.connect();
        assert_eq!(stored(&mut client, TOPIC, 0, b"a"), 0);
        for part in Part::ALL {
            place.weed.kill(part);
        }
        if under_load {
            let request = produce_request(TOPIC, vec![(0, batch(&[b"lost"], None))], -1);
            client.send(produce::KEY, 9, &request).expect("it is sent");
            std::thread::sleep(Duration::from_millis(300));
        }
        assert_eq!(gateway.stop(), Some(0));
        let log = Gateway::log(place.data.path());
        assert!(log.contains("stopping without it"), "{log}");
        for part in Part::ALL {
            place.weed.start_part(part);
        }
        let gateway = place.gateway(None, &["--shards", "1"]);
        assert_eq!(gateway.connect().drain(TOPIC, 0), [(0, Bytes::from("a"))]);
    }
}
