//! Producers and consumers that go on whatever happens to the gateway, and what they saw, as an oracle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use bytes::Bytes;
use tidegate::wire::ErrorCode;

use super::{Client, batch, fetch_request, records_of};

pub const TOPIC: &str = "crash";
pub const PARTITIONS: i32 = 4;
const RECORDS_A_BATCH: i32 = 3;

/// What a producer was told: partition, offset, value.
type Acked = Vec<(i32, i64, Bytes)>;

pub struct Load {
    address: Mutex<SocketAddr>,
    stop: AtomicBool,
    acked: Mutex<Acked>,
    /// What is stored may be out of reach for a while, so that clients have to try again.
    pub store_may_fail: bool,
    /// Offsets that were given may have no records, also within a batch.
    pub has_gaps: bool,
}

impl Load {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Client {
        loop {
            let address = *self.address.lock().unwrap();
            match Client::connect(address) {
                Ok(client) => return client,
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn connect_again(&self) -> Client {
        pause();
        self.connect()
    }

    /// An idempotent producer with one partition: a batch is sent until it is acknowledged.
    fn produce_idempotently(&self, name: &str, partition: i32) {
        let mut client = self.connect();
        let id = loop {
            match client.new_producer_id() {
                Ok(id) => break id,
                Err(_) => client = self.connect(),
            }
        };
        let mut sequence = 0;
        while !self.stopped() {
            let values: Vec<_> = (0..RECORDS_A_BATCH)
                .map(|n| format!("{name} {}", sequence + n))
                .collect();
            let bytes: Vec<_> = values.iter().map(|v| v.as_bytes()).collect();
            let batch = batch(&bytes, Some((id, 0, sequence)));
            let base = loop {
                match client.produce(TOPIC, partition, batch.clone()) {
                    Ok(answer) if answer.error_code == ErrorCode::NONE => break answer.base_offset,
                    Ok(answer) if self.may_fail(answer.error_code) => pause(),
                    Ok(answer) if moved(answer.error_code) => client = self.connect_again(),
                    Ok(answer) => panic!("{name} at {sequence}: {:?}", answer.error_code),
                    Err(_) => client = self.connect(),
                }
            };
            let mut acked = self.acked.lock().unwrap();
            acked.extend(
                values
                    .into_iter()
                    .zip(base..)
                    .map(|(v, offset)| (partition, offset, v.into())),
            );
            drop(acked);
            sequence += RECORDS_A_BATCH;
        }
    }

    /// A plain producer: what is not acknowledged is given up.
    fn produce_plainly(&self, name: &str, partition: i32) {
        let mut client = self.connect();
        let mut number = 0;
        while !self.stopped() {
            number += 1;
            let value = format!("{name} {number}");
            match client.produce(TOPIC, partition, batch(&[value.as_bytes()], None)) {
                Ok(answer) if self.may_fail(answer.error_code) => pause(),
                Ok(answer) if moved(answer.error_code) => client = self.connect_again(),
                Ok(answer) => {
                    assert_eq!(answer.error_code, ErrorCode::NONE);
                    self.acked
                        .lock()
                        .unwrap()
                        .push((partition, answer.base_offset, value.into()));
                }
                Err(_) => client = self.connect(),
            }
        }
    }

    /// A producer with acks=1 that sends nothing twice. Gives what was acknowledged.
    pub fn produce_unsafely(&self, name: &str, partition: i32) -> Vec<Bytes> {
        let mut client = self.connect();
        let mut acked = Vec::new();
        for number in 0.. {
            if self.stopped() {
                break;
            }
            let value = Bytes::from(format!("{name} {number}"));
            match client.produce_with(TOPIC, partition, batch(&[&value], None), 1) {
                Ok(answer) if answer.error_code == ErrorCode::NONE => acked.push(value),
                Ok(answer) if moved(answer.error_code) => client = self.connect_again(),
                Ok(answer) => panic!("{name} at {number}: {:?}", answer.error_code),
                Err(_) => client = self.connect(),
            }
        }
        acked
    }

    /// Reads one partition as it grows; what it saw must still be there in the end.
    fn consume(&self, partition: i32) -> Vec<(i64, Bytes)> {
        let mut client = self.connect();
        let (mut next, mut seen) = (0, Vec::new());
        while !self.stopped() {
            match client.fetch(&fetch_request(TOPIC, &[(partition, next)], 100, 1)) {
                Ok(response) => {
                    let data = &response.responses[0].partitions[0];
                    if self.may_fail(data.error_code) {
                        pause();
                        continue;
                    }
                    if moved(data.error_code) {
                        client = self.connect_again();
                        continue;
                    }
                    assert_eq!(
                        data.error_code,
                        ErrorCode::NONE,
                        "at {next} of partition {partition}"
                    );
                    for (offset, value) in records_of(data) {
                        assert!(
                            offset <= next || self.has_gaps,
                            "partition {partition} has a gap before {offset}"
                        );
                        if offset >= next {
                            seen.push((offset, value));
                            next = offset + 1;
                        }
                    }
                }
                Err(_) => client = self.connect(),
            }
        }
        seen
    }
}

/// Another gateway has the partition.
fn moved(error: ErrorCode) -> bool {
    error == ErrorCode::NOT_LEADER_OR_FOLLOWER
}

fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// What consumers saw of each partition.
pub type Seen = HashMap<i32, Records>;
type Records = Vec<(i64, Bytes)>;

/// The consumers of a load that runs.
pub struct Consumers<'scope>(Vec<(i32, ScopedJoinHandle<'scope, Records>)>);

impl Load {
    pub fn new(address: SocketAddr) -> Self {
        Load {
            address: Mutex::new(address),
            stop: AtomicBool::new(false),
            acked: Mutex::default(),
            store_may_fail: false,
            has_gaps: false,
        }
    }

    fn may_fail(&self, error: ErrorCode) -> bool {
        // The latter as long as it is not known what brokers have written.
        let passing = [
            ErrorCode::KAFKA_STORAGE_ERROR,
            ErrorCode::OFFSET_NOT_AVAILABLE,
        ];
        self.store_may_fail && passing.contains(&error)
    }

    /// Idempotent producers, a plain one, and a consumer of each partition.
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Consumers<'scope> {
        for producer in 0..PARTITIONS * 2 {
            scope.spawn(move || {
                self.produce_idempotently(&format!("i{producer}"), producer % PARTITIONS)
            });
        }
        scope.spawn(|| self.produce_plainly("p0", 0));
        let consumer = |p| (p, scope.spawn(move || self.consume(p)));
        Consumers((0..PARTITIONS).map(consumer).collect())
    }

    pub fn stop(&self, consumers: Consumers<'_>) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let end = |(p, consumer): (i32, ScopedJoinHandle<'_, _>)| {
            (p, consumer.join().expect("the consumer found no fault"))
        };
        consumers.0.into_iter().map(end).collect()
    }

    /// Clients that lose their gateway, or are told that it is none any more, go to this one.
    pub fn go_to(&self, address: SocketAddr) {
        *self.address.lock().unwrap() = address;
    }

    /// How much was acknowledged so far.
    pub fn acked(&self) -> usize {
        self.acked.lock().unwrap().len()
    }

    /// Checks all that was acknowledged and seen against what the topic has.
    pub fn check(self, client: &mut Client, seen: &Seen) {
        check(
            client,
            &self.acked.into_inner().unwrap(),
            seen,
            self.has_gaps,
        );
    }
}

fn check(client: &mut Client, acked: &Acked, seen: &Seen, has_gaps: bool) {
    assert!(acked.len() > 100, "the load was too small to show anything");
    let mut found = HashMap::new();
    for partition in 0..PARTITIONS {
        let records = client.drain(TOPIC, partition);
        for (n, (offset, value)) in records.iter().enumerate() {
            assert!(has_gaps || *offset == n as i64, "offsets are gapless");
            let before = found.insert(value.clone(), (partition, *offset));
            assert_eq!(before, None, "{value:?} is there twice");
        }
        let seen = &seen[&partition];
        assert_eq!(
            &records[..seen.len()],
            &seen[..],
            "what a consumer saw is still there"
        );
    }
    for (partition, offset, value) in acked {
        let is_there = |at: &(i32, i64)| at.0 == *partition && (has_gaps || at.1 == *offset);
        assert!(
            found.get(value).is_some_and(is_there),
            "{value:?} was acknowledged: {:?}",
            found.get(value)
        );
    }
    let idempotent: Vec<_> = found.iter().filter(|(v, _)| v.starts_with(b"i")).collect();
    for producer in 0..PARTITIONS * 2 {
        let prefix = format!("i{producer} ");
        let mut of_producer: Vec<_> = idempotent
            .iter()
            .filter(|(v, _)| v.starts_with(prefix.as_bytes()))
            .collect();
        of_producer.sort_by_key(|(_, (_, offset))| *offset);
        for (n, (value, _)) in of_producer.iter().enumerate() {
            assert_eq!(
                &value[..],
                format!("{prefix}{n}").as_bytes(),
                "in the order of its sequence"
            );
        }
    }
}
