//! Topics whose logs SeaweedMQ's brokers keep (`seaweedmq.path=broker`), and those that others made: written
//! through brokers, read from what these have written.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::load::{Load, PARTITIONS, TOPIC};
use common::weed::{Part, Weed, wait, wait_for};
use common::{Client, Gateway, batch, data_folder, fetch_request, now_ms, produce_request};
use futures::StreamExt;
use tidegate::bridge::{DataMessage, TopicSpec};
use tidegate::record::{Builder, Header, Record};
use tidegate::wire::{ErrorCode, produce};

const BROKER: [(&str, &str); 1] = [("seaweedmq.path", "broker")];
/// In ms, of the brokers of these tests.
const FLUSH_INTERVAL: i64 = 1000;

fn weed() -> Weed {
    let interval = format!("-logFlushInterval={}", FLUSH_INTERVAL / 1000);
    Weed::start_so(data_folder(), &Part::ALL, vec![(Part::Broker, interval)])
}

fn gateway(weed: &Weed, data: &tempfile::TempDir, before: Option<&Gateway>) -> Gateway {
    let at = before.map(|before| before.address);
    weed.gateway(data.path(), at, &["--shards", "2"])
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
    assert_eq!(client.records("t", 1), sent);
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
    assert_eq!(client.records("t", 1)[..8], sent);
}

#[test]
fn deleted_records_stay_deleted_and_their_files_go() {
    let weed = weed();
    let data = data_folder();
    let mut gateway = gateway(&weed, &data, None);
    let mut client = gateway.connect();
    client.create_topic_with("d", 1, &BROKER);
    // Each is written to a file of its own: files are named by seconds.
    for value in ["a", "b", "c"] {
        let two = batch(&[value.as_bytes(), value.as_bytes()], None);
        let answer = client.produce("d", 0, two).expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::NONE);
        std::thread::sleep(Duration::from_millis(1000));
    }
    let (_thread, bridge) = weed.bridge();
    wait_for("servers are known", || {
        wait(bridge.lookup("/topics/kafka", "d")).is_ok()
    });
    let folder = |path: &str| common::weed::list(&bridge, path).pop().expect("a folder");
    let generation = format!("/topics/kafka/d/{}", folder("/topics/kafka/d").name);
    let partition = format!("{generation}/{}", folder(&generation).name);
    let files = || {
        let all = common::weed::list(&bridge, &partition).into_iter();
        all.filter(|entry| !entry.chunks.is_empty()).count()
    };
    assert_eq!(files(), 3);
    assert_eq!(
        client.delete_records("d", 0, 7).0,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    assert_eq!(client.delete_records("d", 0, 3), (ErrorCode::NONE, 3));
    assert_eq!(client.delete_records("d", 0, 1), (ErrorCode::NONE, 3));
    assert_eq!(client.earliest("d", 0), 3);
    wait_for("the first file is gone", || files() == 2);
    let before = fetch_request("d", &[(0, 2)], 100, 1);
    let answer = client.fetch(&before).expect("an answer");
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::OFFSET_OUT_OF_RANGE);
    gateway.kill();
    let mut gateway = self::gateway(&weed, &data, Some(&gateway));
    let mut client = gateway.connect();
    wait_for("it is known", || client.latest("d", 0) == 6);
    assert_eq!(client.earliest("d", 0), 3);
    // All of it, which is what -1 asks for.
    assert_eq!(client.delete_records("d", 0, -1), (ErrorCode::NONE, 6));
    wait_for("files that are not written any more are gone", || {
        files() == 1
    });
    assert!(client.drain("d", 0).is_empty());
    let answer = client.produce("d", 0, batch(&[b"more"], None));
    let answer = answer.expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NONE);
    // The broker may have ended the first stream, as the one before was just ending.
    let offset = answer.base_offset;
    assert!(offset >= 6, "{offset}");
    assert_eq!(client.drain("d", 0), [(offset, Bytes::from("more"))]);
    assert_eq!(gateway.stop(), Some(0));
}

/// A thread that publishes to partition 0 of a topic as any program of SeaweedMQ does, and gives the offsets
/// of its values in the end.
fn publish(
    weed: &Weed,
    topic: &str,
    values: Vec<String>,
) -> std::thread::JoinHandle<Vec<(i64, Bytes)>> {
    let (thread, bridge) = weed.bridge();
    let topic = topic.to_owned();
    std::thread::spawn(move || {
        let _thread = thread;
        let mut place = None;
        wait_for("a broker leads the partition", || {
            place = wait(bridge.message_place("kafka", &topic, 0)).ok();
            place.is_some()
        });
        let place = place.expect("a place");
        let mut publisher = wait(bridge.publish(&place, "other")).expect("a stream");
        let mut all = Vec::new();
        for some in values.chunks(100) {
            for value in some {
                let message = DataMessage {
                    key: Bytes::new(),
                    value: value.clone().into(),
                    ts_ns: 0,
                };
                let sent = publisher.messages.unbounded_send(message.into());
                sent.expect("the stream is open");
            }
            let mut offsets = Vec::new();
            while offsets.len() < some.len() {
                let acks = wait(publisher.acks.next()).expect("acknowledgements");
                offsets.extend(acks.expect("offsets"));
            }
            let values = some.iter().map(|value| Bytes::from(value.clone()));
            all.extend(offsets.into_iter().zip(values));
            std::thread::sleep(Duration::from_millis(10));
        }
        // So that it is written.
        drop(publisher.messages);
        while wait(publisher.acks.next()).is_some() {}
        all
    })
}

/// Each value once, and those of each writer in their order.
fn check_once_and_in_order(all: &[(i64, Bytes)], writers: &[Vec<Bytes>]) {
    for writer in writers {
        let of_writer: std::collections::HashSet<_> = writer.iter().collect();
        let found: Vec<_> = all
            .iter()
            .map(|(_, value)| value)
            .filter(|v| of_writer.contains(v))
            .collect();
        assert_eq!(found, Vec::from_iter(writer));
    }
    let count: usize = writers.iter().map(Vec::len).sum();
    assert_eq!(all.len(), count);
}

#[test]
fn others_may_write_at_the_same_time_also_topics_that_they_have_made() {
    let weed = weed();
    let data = data_folder();
    let gateway = gateway(&weed, &data, None);
    let mut client = gateway.connect();
    client.create_topic_with("ours", 1, &BROKER);
    let (_thread, bridge) = weed.bridge();
    let spec = TopicSpec {
        partition_count: 1,
        ..TopicSpec::default()
    };
    wait(bridge.configure_topic("kafka", "theirs", spec)).expect("it is made");
    wait_for("it is seen", || {
        let answer = client.produce("theirs", 0, batch(&[b"first"], None));
        answer.expect("an answer").error_code == ErrorCode::NONE
    });
    for (topic, first) in [("ours", None), ("theirs", Some(Bytes::from("first")))] {
        let values = (0..3000).map(|n| format!("other {n}")).collect();
        let other = publish(&weed, topic, values);
        let (mut own, mut told) = (Vec::from_iter(first), Vec::new());
        for n in 0..30 {
            let values: Vec<_> = (0..20)
                .map(|m| Bytes::from(format!("own {}", n * 20 + m)))
                .collect();
            let slices: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
            let acks = if n % 10 == 9 { -1 } else { 1 };
            let answer = client.produce_with(topic, 0, batch(&slices, None), acks);
            let answer = answer.expect("an answer");
            assert_eq!(answer.error_code, ErrorCode::NONE);
            told.push((answer.base_offset, values[0].clone()));
            own.extend(values);
        }
        let other = other.join().expect("it ends");
        let count = (own.len() + other.len()) as i64;
        wait_for("all is visible", || client.latest(topic, 0) >= count);
        let all = client.drain(topic, 0);
        let others = other.iter().map(|(_, value)| value.clone()).collect();
        check_once_and_in_order(&all, &[own, others]);
        for record in other.iter().chain(&told) {
            assert!(
                all.contains(record),
                "{record:?} is where its writer was told"
            );
        }
    }
}

#[test]
fn others_see_records_at_once_with_their_values_in_front() {
    let weed = Weed::start();
    let data = data_folder();
    let gateway = gateway(&weed, &data, None);
    let mut client = gateway.connect();
    client.create_topic_with("tailed", 1, &BROKER);
    let mut builder = Builder::new();
    builder.append(now_ms(), Some(b"k"), Some(b"plain"), &[]);
    builder.append(now_ms(), None, Some(b"more"), &[(b"h", Some(b"x"))]);
    let answer = client.produce_with("tailed", 0, builder.build(), 1);
    let answer = answer.expect("an answer");
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (ErrorCode::NONE, 0)
    );
    // As a program of SeaweedMQ asks the broker.
    let (_thread, bridge) = weed.bridge();
    wait_for("servers are known", || {
        wait(bridge.message_place("kafka", "tailed", 0)).is_ok()
    });
    let place = wait(bridge.message_place("kafka", "tailed", 0)).expect("a place");
    let seen = wait(bridge.fetch_messages(&place, 0, 10))
        .expect("messages")
        .messages;
    assert_eq!(
        (&seen[0].key[..], &seen[0].value[..]),
        (&b"k"[..], &b"plain"[..])
    );
    assert!(seen[1].value.starts_with(b"more") && seen[1].value.len() > 4);
}

#[test]
fn whatever_process_ends_under_load_nothing_acknowledged_is_lost_and_nothing_comes_twice() {
    let mut weed = weed();
    let data = data_folder();
    let mut gateway = gateway(&weed, &data, None);
    let mut client = gateway.connect();
    client.create_topic_with(TOPIC, PARTITIONS, &BROKER);
    // What the files have is known from then on.
    (0..PARTITIONS).for_each(|p| assert_eq!(client.latest(TOPIC, p), 0));
    let mut load = Load::new(gateway.address);
    (load.store_may_fail, load.has_gaps) = (true, true);
    let seen = std::thread::scope(|scope| {
        let consumers = load.start(scope);
        let progress = |after: &str| {
            let before = load.acked();
            wait_for(after, || load.acked() >= before + 50);
        };
        progress("records are stored");
        for (part, killed) in [
            (Part::Broker, true),
            (Part::Broker, false),
            (Part::Filer, true),
            (Part::Volume, true),
            (Part::Master, true),
        ] {
            match killed {
                true => weed.kill(part),
                false => weed.stop(part),
            }
            weed.start_part(part);
            progress(&format!(
                "records are stored after {part:?} (killed: {killed})"
            ));
        }
        load.stop(consumers)
    });
    load.check(&mut gateway.connect(), &seen);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn a_gateway_that_ends_under_load_loses_and_repeats_nothing_whether_its_broker_ends_too() {
    let mut weed = weed();
    let data = data_folder();
    let mut gateway = gateway(&weed, &data, None);
    let configs = [BROKER[0], ("seaweedmq.producer.ids", "true")];
    gateway
        .connect()
        .create_topic_with(TOPIC, PARTITIONS, &configs);
    let mut load = Load::new(gateway.address);
    (load.store_may_fail, load.has_gaps) = (true, true);
    let (seen, unsafely) = std::thread::scope(|scope| {
        let load = &load;
        let consumers = load.start(scope);
        let other = scope.spawn(|| load.produce_unsafely("w", 1));
        let progress = |after: &str| {
            let before = load.acked();
            wait_for(after, || load.acked() >= before + 50);
        };
        progress("records are stored");
        for (broker_too, is_killed) in [(false, true), (true, true), (false, true), (false, false)]
        {
            if broker_too {
                weed.kill(Part::Broker);
            }
            match is_killed {
                true => gateway.kill(),
                false => assert_eq!(gateway.stop(), Some(0)),
            }
            if broker_too {
                weed.start_part(Part::Broker);
            }
            gateway = self::gateway(&weed, &data, Some(&gateway));
            progress(&format!(
                "records are stored (broker too: {broker_too}, killed: {is_killed})"
            ));
        }
        let seen = load.stop(consumers);
        (seen, other.join().expect("it ends"))
    });
    let mut client = gateway.connect();
    load.check(&mut client, &seen);
    // What is left of those with acks=1 is in its order too.
    let stored = client.drain(TOPIC, 1).into_iter().map(|(_, value)| value);
    let stored: Vec<_> = stored.filter(|v| v.starts_with(b"w ")).collect();
    let number = |value: &Bytes| -> u64 { String::from_utf8_lossy(&value[2..]).parse().unwrap() };
    assert!(stored.is_sorted_by_key(number), "{stored:?}");
    let lost = unsafely
        .iter()
        .filter(|value| !stored.contains(value))
        .count();
    assert!(lost < unsafely.len() / 2, "{lost} of {}", unsafely.len());
    assert_eq!(gateway.stop(), Some(0));
}

/// A broker's window is full then: the record that does not fit is the first of the next file, though the
/// one before says that it has it.
#[test]
fn records_where_a_brokers_windows_end_are_there_once() {
    let weed = weed();
    let data = data_folder();
    let mut gateway = gateway(&weed, &data, None);
    let mut client = gateway.connect();
    client.create_topic_with("w", 1, &BROKER);
    let value = |n: usize| Bytes::from(format!("{n:08}{}", "x".repeat(4000)));
    let count = 8000;
    let mut pipelined = 0;
    for first in (0..count).step_by(200) {
        let values: Vec<_> = (first..first + 200).map(value).collect();
        let slices: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        let acks = if first + 200 == count { -1 } else { 1 };
        let request = produce_request("w", vec![(0, batch(&slices, None))], acks);
        client.send(produce::KEY, 9, &request).expect("it is sent");
        pipelined += 1;
    }
    for n in 0..pipelined {
        let id = client.last_id() - pipelined + 1 + n;
        let answer: produce::Response = client.receive(produce::KEY, 9, id).expect("an answer");
        let answer = &answer.responses[0].partition_responses[0];
        let expected = (ErrorCode::NONE, i64::from(n) * 200);
        assert_eq!((answer.error_code, answer.base_offset), expected);
    }
    let check = |client: &mut Client| {
        wait_for("all is known", || client.latest("w", 0) == count as i64);
        let all = client.drain("w", 0);
        assert_eq!(all.len(), count);
        for (n, (offset, found)) in all.into_iter().enumerate() {
            assert_eq!((offset, found), (n as i64, value(n)));
        }
    };
    check(&mut client);
    // Another gateway does not see files as they come, but all at once.
    gateway.kill();
    let gateway = self::gateway(&weed, &data, Some(&gateway));
    check(&mut gateway.connect());
}

#[test]
fn topics_grow_stop_and_go_as_others_do() {
    let weed = weed();
    let data = data_folder();
    let mut gateway = gateway(&weed, &data, None);
    let mut client = gateway.connect();
    client.create_topic_with("g", 1, &BROKER);
    client.create_topic_with("gone", 1, &BROKER);
    client.grow_topic("g", 3);
    let id = client.new_producer_id().expect("an id");
    let numbered = |sequence| batch(&[b"a", b"b"], Some((id, 0, sequence)));
    for partition in [0, 2] {
        let first = client
            .produce("g", partition, numbered(0))
            .expect("an answer");
        let again = client
            .produce("g", partition, numbered(0))
            .expect("an answer");
        for answer in [first, again] {
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (ErrorCode::NONE, 0)
            );
        }
        let late = client
            .produce("g", partition, numbered(9))
            .expect("an answer");
        assert_eq!(late.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(client.latest("g", partition), 2);
    }
    client.coordinator("group");
    client.commit_offset("group", "g", 1, "".into());
    // What is on its way when a topic goes is answered.
    let request = produce_request("gone", vec![(0, batch(&[b"x"], None))], -1);
    let sent = client.send(produce::KEY, 9, &request).expect("it is sent");
    gateway.connect().delete_topic("gone");
    let answer: produce::Response = client.receive(produce::KEY, 9, sent).expect("an answer");
    let code = answer.responses[0].partition_responses[0].error_code;
    assert!(
        [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION].contains(&code),
        "{code:?}"
    );
    client.create_topic("gone", 1);
    assert_eq!(client.latest("gone", 0), 0);
    let (_thread, bridge) = weed.bridge();
    let folder = || wait(bridge.lookup("/topics/kafka", "gone")).expect("an answer");
    wait_for("its folder is gone", || folder().is_none());
    // Nor is what a gateway that ends has told of lost.
    let answer = client.produce_with("g", 1, batch(&[b"last"], None), 1);
    assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
    assert_eq!(gateway.stop(), Some(0));
    let gateway = self::gateway(&weed, &data, Some(&gateway));
    let mut client = gateway.connect();
    assert_eq!(client.latest("g", 1), 1);
    assert_eq!(client.drain("g", 1), [(0, Bytes::from("last"))]);
    assert_eq!(client.drain("g", 2).len(), 2);
    // What brokers had of the topic that is gone did not bring it back.
    assert!(folder().is_none());
}
