//! The files of the local store: what is in its folder, and what happens when it cannot be used.

mod common;

use std::path::Path;

use common::{Client, Gateway, batch, data_folder};
use tidegate::wire::{ErrorCode, alter_replica_log_dirs, describe_log_dirs};

#[test]
fn a_deleted_topic_leaves_nothing_behind() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    client.produce("t", 0, batch(&[b"old"], None)).unwrap();
    client.delete_topic("t");
    client.create_topic("t", 2);
    client.produce("t", 0, batch(&[b"new"], None)).unwrap();
    gateway.kill();
    let _gateway = Gateway::start(data.path(), &[]);
    let folders = std::fs::read_dir(data.path().join("data/topics"));
    assert_eq!(folders.unwrap().count(), 1);
}

#[test]
fn what_cannot_be_stored_is_refused_until_it_can() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    let id = client.new_producer_id().unwrap();
    assert_eq!(
        client
            .produce("t", 0, batch(&[b"a"], None))
            .unwrap()
            .base_offset,
        0
    );
    // No new segment can be made; the one of partition 0 is open.
    let (topics, away) = (data.path().join("data/topics"), data.path().join("away"));
    std::fs::rename(&topics, &away).unwrap();
    std::fs::write(&topics, b"").unwrap();
    let first = batch(&[b"x", b"y"], Some((id, 0, 0)));
    for _ in 0..3 {
        let refused = client.produce("t", 1, first.clone()).unwrap();
        assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(client.latest("t", 1), 0);
    }
    let answer = client.produce("t", 0, batch(&[b"b"], None)).unwrap();
    assert_eq!(answer.base_offset, 1, "{}", Gateway::log(data.path()));
    std::fs::remove_file(&topics).unwrap();
    std::fs::rename(&away, &topics).unwrap();
    for _ in 0..2 {
        let stored = client.produce("t", 1, first.clone()).unwrap();
        assert_eq!(
            (stored.error_code, stored.base_offset),
            (ErrorCode::NONE, 0)
        );
    }
    gateway.kill();
    let gateway = Gateway::start(data.path(), &["--shards", "1"]);
    let mut client = gateway.connect();
    assert_eq!(
        (client.drain("t", 0).len(), client.drain("t", 1).len()),
        (2, 2)
    );
}

#[test]
fn a_segment_is_shown_with_what_is_wrong_in_it() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    let topic = client.create_topic("t", 1);
    for value in [b"first", b"other"] {
        client.produce("t", 0, batch(&[value], None)).unwrap();
    }
    assert_eq!(gateway.stop(), Some(0));
    let folder = data
        .path()
        .join("data/topics")
        .join(topic.to_string())
        .join("0");
    let segment = folder.join("00000000000000000000.log");
    let dump = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = command
            .env_clear()
            .arg("dump")
            .arg(&segment)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = dump();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("value \"first\"") && text.ends_with("2 batches, 2 records, 0 faults\n"),
        "{text}"
    );
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, text) = dump();
    assert_eq!(code, Some(1));
    assert!(
        text.contains("FAULT") && text.ends_with("1 batches, 1 records, 1 faults\n"),
        "{text}"
    );
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path().join("data"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"));
    drop(gateway);
}

/// Directory and sizes of a topic's partitions.
fn sizes(client: &mut Client, topics: Option<&[&str]>) -> (String, Vec<(String, i32, i64)>) {
    let topic = |name: &&str| describe_log_dirs::DescribableLogDirTopic {
        topic: (*name).to_owned().into(),
        partitions: vec![0, 1, 2],
    };
    let request = describe_log_dirs::Request {
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
    };
    let response: describe_log_dirs::Response = client
        .call(
            describe_log_dirs::KEY,
            *describe_log_dirs::VERSIONS.end(),
            &request,
        )
        .expect("an answer");
    let [dir] = &response.results[..] else {
        panic!("one data folder is one directory: {response:?}")
    };
    assert!(dir.usable_bytes > 0 && dir.usable_bytes <= dir.total_bytes);
    let sizes = dir.topics.iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic
            .partitions
            .iter()
            .map(move |p| (name.clone(), p.partition_index, p.partition_size))
    });
    (dir.log_dir.to_string(), sizes.collect())
}

#[test]
fn a_log_directory_tells_what_partitions_take_also_after_a_restart() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    let id = client.create_topic("t", 2);
    client.create_topic("u", 1);
    let produced = client.produce("t", 1, batch(&[&[b'x'; 1000]], None));
    assert_eq!(produced.expect("an answer").error_code, ErrorCode::NONE);
    let (dir, told) = sizes(&mut client, None);
    assert_eq!(Path::new(&dir), data.path().join("data"));
    let file = format!("topics/{id}/1/{:020}.log", 0);
    let len = std::fs::metadata(Path::new(&dir).join(file));
    let size = len.expect("a segment").len() as i64;
    let of = |name: &str, index, size| (name.to_owned(), index, size);
    let expected = [of("t", 0, 0), of("t", 1, size), of("u", 0, 0)];
    assert_eq!(told, expected);
    assert_eq!(sizes(&mut client, Some(&["t", "nope"])).1, expected[..2]);
    assert!(sizes(&mut client, Some(&[])).1.is_empty());
    gateway.kill();

    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    assert_eq!(sizes(&mut client, None), (dir.clone(), expected.to_vec()));
    let mut move_to = |path: &str| {
        let topic = alter_replica_log_dirs::AlterReplicaLogDirTopic {
            name: "t".into(),
            partitions: vec![1],
        };
        let request = alter_replica_log_dirs::Request {
            dirs: vec![alter_replica_log_dirs::AlterReplicaLogDir {
                path: path.to_owned().into(),
                topics: vec![topic],
            }],
        };
        let response: alter_replica_log_dirs::Response = client
            .call(
                alter_replica_log_dirs::KEY,
                *alter_replica_log_dirs::VERSIONS.end(),
                &request,
            )
            .expect("an answer");
        response.results[0].partitions[0].error_code
    };
    assert_eq!(move_to(&dir), ErrorCode::NONE);
    assert_eq!(move_to("/nope"), ErrorCode::LOG_DIR_NOT_FOUND);
}
