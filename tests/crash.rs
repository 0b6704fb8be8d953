//! `kill -9` under load, again and again on one data folder, against an oracle.
//!
//! `CRASH_ROUNDS` says how many times (10 by default).

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Client, Gateway, batch, data_folder, fetch_request, records_of};
use tidegate::wire::ErrorCode;

const TOPIC: &str = "crash";
const PARTITIONS: i32 = 4;
const RECORDS_A_BATCH: i32 = 3;

/// What a producer was told: partition, offset, value.
type Acked = Vec<(i32, i64, Bytes)>;

struct Load {
    address: SocketAddr,
    stop: AtomicBool,
    acked: Mutex<Acked>,
}

impl Load {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Client {
        loop {
            match Client::connect(self.address) {
                Ok(client) => return client,
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
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

    /// Reads one partition as it grows; what it saw must still be there in the end.
    fn consume(&self, partition: i32) -> Vec<(i64, Bytes)> {
        let mut client = self.connect();
        let (mut next, mut seen) = (0, Vec::new());
        while !self.stopped() {
            match client.fetch(&fetch_request(TOPIC, &[(partition, next)], 100, 1)) {
                Ok(response) => {
                    let data = &response.responses[0].partitions[0];
                    assert_eq!(
                        data.error_code,
                        ErrorCode::NONE,
                        "at {next} of partition {partition}"
                    );
                    for (offset, value) in records_of(data) {
                        assert!(
                            offset <= next,
                            "partition {partition} has a gap before {offset}"
                        );
                        if offset == next {
                            seen.push((offset, value));
                            next += 1;
                        }
                    }
                }
                Err(_) => client = self.connect(),
            }
        }
        seen
    }
}

fn crash_rounds(flush: &str, shards: &[&str]) {
    let rounds = std::env::var("CRASH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10);
    let data = data_folder();
    let options = |round: usize| {
        let shards = shards[round % shards.len()];
        // Often enough that a kill meets checkpoints, too.
        [
            "--flush",
            flush,
            "--shards",
            shards,
            "--checkpoint-interval-ms",
            "20",
        ]
    };
    let mut gateway = Gateway::start(data.path(), &options(0));
    gateway.connect().create_topic(TOPIC, PARTITIONS);
    let load = Load {
        address: gateway.address,
        stop: AtomicBool::new(false),
        acked: Mutex::default(),
    };
    let seen = std::thread::scope(|scope| {
        for producer in 0..PARTITIONS * 2 {
            let load = &load;
            scope.spawn(move || {
                load.produce_idempotently(&format!("i{producer}"), producer % PARTITIONS)
            });
        }
        scope.spawn(|| load.produce_plainly("p0", 0));
        let consumers: Vec<_> = (0..PARTITIONS)
            .map(|p| {
                (
                    p,
                    scope.spawn({
                        let load = &load;
                        move || load.consume(p)
                    }),
                )
            })
            .collect();
        for round in 1..=rounds {
            std::thread::sleep(Duration::from_millis(30 + (round as u64 * 37) % 170));
            gateway.kill();
            gateway = Gateway::start_at(gateway.address, data.path(), &options(round));
        }
        std::thread::sleep(Duration::from_millis(200));
        load.stop.store(true, Ordering::Relaxed);
        consumers
            .into_iter()
            .map(|(p, c)| (p, c.join().expect("the consumer found no fault")))
            .collect::<HashMap<_, _>>()
    });
    check(
        &mut gateway.connect(),
        &load.acked.into_inner().unwrap(),
        &seen,
    );
    assert_eq!(gateway.stop(), Some(0));
    // The end of a process takes nothing from the page cache: there is never a batch to be restored.
    let log = Gateway::log(data.path());
    let restored = log.split("restored_batches=").skip(1);
    assert!(restored.clone().count() > 0, "starts say what they did");
    for rest in restored {
        assert!(
            rest.starts_with("0 "),
            "the segments lacked what the journal had:\n{log}"
        );
    }
}

fn check(client: &mut Client, acked: &Acked, seen: &HashMap<i32, Vec<(i64, Bytes)>>) {
    assert!(acked.len() > 100, "the load was too small to show anything");
    let mut found = HashMap::new();
    for partition in 0..PARTITIONS {
        let records = client.drain(TOPIC, partition);
        for (n, (offset, value)) in records.iter().enumerate() {
            assert_eq!(*offset, n as i64, "offsets are gapless");
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
        assert_eq!(
            found.get(value),
            Some(&(*partition, *offset)),
            "{value:?} was acknowledged"
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

#[test]
fn nothing_acknowledged_is_lost_or_repeated_by_kill_9_with_durable_flush() {
    crash_rounds("durable", &["2", "1", "3"]);
}

#[test]
fn nothing_acknowledged_is_lost_or_repeated_by_kill_9_with_os_flush() {
    crash_rounds("os", &["2", "1"]);
}
