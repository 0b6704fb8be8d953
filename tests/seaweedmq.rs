//! Topics in SeaweedFS: a gateway with `--store seaweedmq` before a real one.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::load::{Load, PARTITIONS, TOPIC};
use common::weed::{Part, Weed};
use common::{Gateway, batch, data_folder, fetch_request};
use tidegate::wire::ErrorCode;

/// Longer than anything here may take; a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

/// A SeaweedFS, and a folder for gateways' logs.
struct Place {
    weed: Weed,
    data: tempfile::TempDir,
}

impl Place {
    fn start() -> Self {
        Place {
            weed: Weed::start(),
            data: data_folder(),
        }
    }

    /// What the gateways said, if a test fails.
    fn tell_log(&self) {
        if std::thread::panicking() {
            println!("{}", Gateway::log(self.data.path()));
        }
    }

    fn gateway(&self, options: &[&str]) -> Gateway {
        self.with_options(options, |all| Gateway::start(self.data.path(), all))
    }

    fn gateway_at(&self, address: SocketAddr, options: &[&str]) -> Gateway {
        self.with_options(options, |all| {
            Gateway::start_at(address, self.data.path(), all)
        })
    }

    fn with_options(&self, options: &[&str], start: impl Fn(&[&str]) -> Gateway) -> Gateway {
        let master = self.weed.master();
        let own = ["--store", "seaweedmq", "--seaweedfs-masters", &master];
        start(&[&own, options].concat())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tell_log();
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
fn nothing_acknowledged_is_lost_or_repeated_when_seaweedfs_is_killed_under_load() {
    let mut place = Place::start();
    let mut gateway = place.gateway(&["--shards", "2"]);
    gateway.connect().create_topic(TOPIC, PARTITIONS);
    let mut load = Load::new(gateway.address);
    load.store_may_fail = true;
    let seen = std::thread::scope(|scope| {
        let consumers = load.start(scope);
        for round in 0..rounds() {
            let part = [Part::Filer, Part::Volume, Part::Filer, Part::Master][round % 4];
            std::thread::sleep(Duration::from_millis(300));
            place.weed.kill(part);
            std::thread::sleep(Duration::from_millis(100));
            place.weed.start_part(part);
            // It goes on without being told.
            let before = load.acked();
            let began = Instant::now();
            while load.acked() < before + 100 {
                assert!(
                    began.elapsed() < PATIENCE,
                    "nothing is stored after the {part:?} came back"
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
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
