//! `kill -9` under load, again and again on one data folder, against an oracle.
//!
//! `CRASH_ROUNDS` says how many times (10 by default).

mod common;

use std::time::Duration;

use common::load::{Load, PARTITIONS, TOPIC};
use common::{Gateway, data_folder};

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
    let load = Load::new(gateway.address);
    let seen = std::thread::scope(|scope| {
        let consumers = load.start(scope);
        for round in 1..=rounds {
            std::thread::sleep(Duration::from_millis(30 + (round as u64 * 37) % 170));
            gateway.kill();
            gateway = Gateway::start_at(gateway.address, data.path(), &options(round));
        }
        std::thread::sleep(Duration::from_millis(200));
        load.stop(consumers)
    });
    load.check(&mut gateway.connect(), &seen);
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

#[test]
fn nothing_acknowledged_is_lost_or_repeated_by_kill_9_with_durable_flush() {
    crash_rounds("durable", &["2", "1", "3"]);
}

#[test]
fn nothing_acknowledged_is_lost_or_repeated_by_kill_9_with_os_flush() {
    crash_rounds("os", &["2", "1"]);
}
