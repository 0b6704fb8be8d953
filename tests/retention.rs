//! Logs lose their beginnings, seen from the outside over real sockets: deleted records stay deleted,
//! offsets go on, and the files go.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Client, Gateway, batch, data_folder, fetch_request};
use tidegate::wire::{ErrorCode, Uuid};

const PATIENCE: Duration = Duration::from_secs(30);
/// The smallest segment that may be asked for.
const SEGMENT: (&str, &str) = ("segment.bytes", "1048576");

fn start(data: &Path) -> Gateway {
    Gateway::start(data, &["--shards", "2"])
}

/// Writes batches of one record of 100 kB.
fn fill(client: &mut Client, topic: &str, batches: usize) {
    let value = vec![b'x'; 100_000];
    for _ in 0..batches {
        let answer = client.produce(topic, 0, batch(&[&value], None));
        assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
    }
}

/// The files of partition 0 with this ending.
fn files(data: &Path, topic: Uuid, ending: &str) -> Vec<PathBuf> {
    let dir = data.join("data/topics").join(topic.to_string()).join("0");
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = files.map(|entry| entry.path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    paths.sort();
    paths
}

fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The error of a fetch, and where it says that the log starts.
fn fetch_at(client: &mut Client, topic: &str, offset: i64) -> (ErrorCode, i64) {
    let response = client.fetch(&fetch_request(topic, &[(0, offset)], 0, 0));
    let response = response.expect("an answer");
    let data = &response.responses[0].partitions[0];
    (data.error_code, data.log_start_offset)
}

#[test]
fn deleted_records_stay_deleted_after_a_kill_and_their_files_go() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    let id = client.create_topic_with("t", 1, &[SEGMENT]);
    fill(&mut client, "t", 35);
    assert_eq!(files(data.path(), id, ".log").len(), 4);
    assert_eq!(client.delete_records("t", 0, 25), (ErrorCode::NONE, 25));
    assert_eq!(client.earliest("t", 0), 25);
    assert_eq!(
        fetch_at(&mut client, "t", 24).0,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    assert_eq!(fetch_at(&mut client, "t", 25), (ErrorCode::NONE, 25));
    let answer = client.produce("t", 0, batch(&[b"on"], None));
    assert_eq!(answer.expect("an answer").log_start_offset, 25);
    wait_for("the first two segments are renamed", || {
        files(data.path(), id, ".log").len() == 2
    });
    assert_eq!(files(data.path(), id, ".log.deleted").len(), 2);
    gateway.kill();

    let gateway = start(data.path());
    let mut client = gateway.connect();
    assert_eq!(files(data.path(), id, ".deleted").len(), 0);
    assert_eq!(client.earliest("t", 0), 25);
    let left: Vec<_> = client.drain("t", 0).into_iter().map(|(o, _)| o).collect();
    assert!(left.into_iter().eq(25..36));
}

/// A batch of one record of 100 kB from this time.
fn batch_at(timestamp: i64) -> bytes::Bytes {
    let mut builder = tidegate::record::Builder::new();
    builder.append(timestamp, None, Some(&[b'x'; 100_000]), &[]);
    builder.build()
}

const AT_ONCE: [&str; 6] = [
    "--shards",
    "2",
    "--log-retention-check-interval-ms",
    "20",
    "--checkpoint-interval-ms",
    "50",
];

#[test]
fn old_segments_go_by_their_records_times_also_the_last_and_after_a_restart() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    let no_delay = ("file.delete.delay.ms", "0");
    let id = client.create_topic_with("t", 1, &[SEGMENT, no_delay]);
    let now = common::now_ms();
    let hour = 3_600_000;
    // Two segments that are eight days old, one of the last hour, and one of this moment.
    for (batches, age) in [(12, 8 * 24 * hour), (10, hour), (3, 0)] {
        for _ in 0..batches {
            let answer = client.produce("t", 0, batch_at(now - age));
            assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
        }
    }
    let segments = files(data.path(), id, ".log").len();
    assert_eq!(segments, 4);
    gateway.kill();

    let mut gateway = Gateway::start(data.path(), &AT_ONCE);
    let mut client = gateway.connect();
    wait_for("the old segments are gone", || {
        client.earliest("t", 0) == 12
    });
    wait_for("its files, too", || {
        files(data.path(), id, ".log").len() == 2 && files(data.path(), id, ".deleted").is_empty()
    });
    assert_eq!(
        fetch_at(&mut client, "t", 11).0,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    gateway.stop();
    let mut gateway = Gateway::start(
        data.path(),
        &[&AT_ONCE[..], &["--log-retention-ms", "1"]].concat(),
    );
    let mut client = gateway.connect();
    wait_for("all are gone", || client.earliest("t", 0) == 25);
    wait_for("the files, too", || {
        files(data.path(), id, ".log").is_empty()
    });
    gateway.kill();

    let gateway = Gateway::start(data.path(), &AT_ONCE);
    let mut client = gateway.connect();
    assert_eq!((client.earliest("t", 0), client.latest("t", 0)), (25, 25));
    let answer = client.produce("t", 0, batch_at(now));
    assert_eq!(answer.expect("an answer").base_offset, 25);
}

#[test]
fn a_log_that_is_too_large_loses_its_oldest_segments_when_it_is_asked_to() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &AT_ONCE);
    let mut client = gateway.connect();
    let limit = ("retention.bytes", "2500000");
    for (topic, policy) in [("kept", "compact"), ("all", ""), ("t", "compact,delete")] {
        let configs = [SEGMENT, limit, ("cleanup.policy", policy)];
        client.create_topic_with(topic, 1, &configs);
        let mut builder = tidegate::record::Builder::new();
        builder.append(common::now_ms(), Some(b"key"), Some(&[b'x'; 100_000]), &[]);
        let batch = builder.build();
        for _ in 0..45 {
            let answer = client.produce(topic, 0, batch.clone()).expect("an answer");
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
    }
    // Whole segments of ten batches: 4.5 MB less two of them is still more than is to be kept.
    wait_for("the log is small", || client.earliest("t", 0) == 20);
    assert_eq!(client.earliest("kept", 0), 0);
    assert_eq!(client.earliest("all", 0), 0);
    let refused = (ErrorCode::POLICY_VIOLATION, -1);
    assert_eq!(client.delete_records("kept", 0, 1), refused);
    assert_eq!(client.delete_records("all", 0, 1), (ErrorCode::NONE, 1));
    let answer = client.produce("kept", 0, batch(&[b"no key"], None));
    assert_eq!(
        answer.expect("an answer").error_code,
        ErrorCode::INVALID_RECORD
    );
}

#[test]
fn a_segment_ends_when_it_is_old_by_the_time_of_its_records() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    let id = client.create_topic_with("t", 1, &[("segment.ms", "1000")]);
    let now = common::now_ms();
    let rolls_at = |gateway: &Gateway, after: i64| {
        let answer = gateway.connect().produce("t", 0, batch_at(now + after));
        assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
        files(data.path(), id, ".log").len()
    };
    assert_eq!([0, 500, 1000].map(|ms| rolls_at(&gateway, ms)), [1; 3]);
    assert_eq!(rolls_at(&gateway, 1001), 2);
    assert_eq!(rolls_at(&gateway, 2001), 2);
    gateway.kill();
    gateway = start(data.path());
    assert_eq!(rolls_at(&gateway, 2001), 2, "a restart is no roll");
    assert_eq!(rolls_at(&gateway, 2002), 3);
}
