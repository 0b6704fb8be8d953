//! DeleteRecords from the outside, over real sockets: deleted records stay deleted, and offsets go on.

use std::path::Path;

use crate::common::{Client, Gateway, batch, fetch_request};
use crate::data_folder;
use tidegate::wire::ErrorCode;

pub fn start(data: &Path) -> Gateway {
    Gateway::start(data, &["--shards", "2"])
}

/// Writes batches of one record of 100 kB.
pub fn fill(client: &mut Client, topic: &str, batches: usize) {
    let value = vec![b'x'; 100_000];
    for _ in 0..batches {
        let answer = client.produce(topic, 0, batch(&[&value], None));
        assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
    }
}

#[test]
fn what_cannot_be_deleted_is_refused_as_in_kafka() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    fill(&mut client, "t", 5);
    assert_eq!(client.delete_records("t", 1, -1), (ErrorCode::NONE, 0));
    assert_eq!(client.delete_records("t", 0, 3), (ErrorCode::NONE, 3));
    assert_eq!(client.delete_records("t", 0, 1), (ErrorCode::NONE, 3));
    for offset in [6, -2, i64::MAX, i64::MIN] {
        let refused = client.delete_records("t", 0, offset);
        assert_eq!(refused, (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    }
    for (topic, partition) in [("t", 2), ("t", -1), ("nope", 0)] {
        let refused = client.delete_records(topic, partition, 0);
        assert_eq!(refused, (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1));
    }
    assert_eq!(client.earliest("t", 0), 3);
}

#[test]
fn a_fetch_that_waits_below_the_new_start_is_told() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    fill(&mut client, "t", 2);
    let mut waiting = gateway.connect();
    let request = fetch_request("t", &[(0, 1)], 30_000, 50 << 20);
    let correlation_id = waiting
        .send(tidegate::wire::fetch::KEY, 11, &request)
        .expect("sent");
    client.delete_records("t", 0, 2);
    let response: tidegate::wire::fetch::Response = waiting
        .receive(tidegate::wire::fetch::KEY, 11, correlation_id)
        .expect("an answer long before its time");
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::OFFSET_OUT_OF_RANGE);
}
