//! Fetch sessions (KIP-227), and what a fetch says of leaders and epochs.

use crate::common::{Client, Gateway, batch, fetch_request};
use crate::data_folder;
use tidegate::wire::{ErrorCode, Uuid, fetch};

const BY_NAME: i16 = 12;
pub const BY_ID: i16 = 18;

fn in_session(mut request: fetch::Request, id: i32, epoch: i32) -> fetch::Request {
    request.session_id = id;
    request.session_epoch = epoch;
    request
}

/// Nothing new is asked.
fn next(id: i32, epoch: i32) -> fetch::Request {
    let mut request = in_session(fetch_request("", &[], 0, 1), id, epoch);
    request.topics.clear();
    request
}

pub fn by_id(mut request: fetch::Request, topic_id: Uuid) -> fetch::Request {
    request.topics[0].topic_id = topic_id;
    request
}

pub fn call(client: &mut Client, version: i16, request: &fetch::Request) -> fetch::Response {
    client
        .call(fetch::KEY, version, request)
        .expect("an answer")
}

/// Partition and error of all that is told, in its order.
fn told(response: &fetch::Response) -> Vec<(i32, ErrorCode)> {
    let partitions = response.responses.iter().flat_map(|t| &t.partitions);
    partitions
        .map(|p| (p.partition_index, p.error_code))
        .collect()
}

fn partitions(response: &fetch::Response) -> Vec<i32> {
    told(response)
        .into_iter()
        .map(|(partition, _)| partition)
        .collect()
}

#[test]
fn a_session_is_found_from_every_connection_and_tells_what_is_new() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "2"]);
    let mut client = gateway.connect();
    client.create_topic("t", 4);
    let all = [(0, 0), (1, 0), (2, 0), (3, 0), (9, 0)];
    let open = in_session(fetch_request("t", &all, 0, 1), 0, 0);
    let opened = call(&mut client, BY_NAME, &open);
    assert_eq!(partitions(&opened), [0, 1, 2, 3, 9]);
    let id = opened.session_id;
    assert_ne!(id, 0);
    // Some of these connections are another shard's.
    for epoch in 1..9 {
        let mut other = gateway.connect();
        let quiet = call(&mut other, BY_NAME, &next(id, epoch));
        assert_eq!((quiet.error_code, quiet.session_id), (ErrorCode::NONE, id));
        let unknown = (9, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(told(&quiet), [unknown], "errors are told every time");
    }
    for partition in [1, 0] {
        client
            .produce("t", partition, batch(&[b"x"], None))
            .expect("an answer");
    }
    let mut other = gateway.connect();
    assert_eq!(
        partitions(&call(&mut other, BY_NAME, &next(id, 9))),
        [0, 1, 9]
    );
    // Read on from where it is; what gave records comes last from now on.
    for partition in [0, 1, 2, 3] {
        client
            .produce("t", partition, batch(&[b"y"], None))
            .expect("an answer");
    }
    let mut go_on = in_session(fetch_request("t", &[(0, 1)], 0, 1), id, 10);
    go_on.forgotten_topics_data.push(fetch::ForgottenTopic {
        topic: "t".into(),
        partitions: vec![9, 1],
        ..Default::default()
    });
    assert_eq!(partitions(&call(&mut client, BY_NAME, &go_on)), [2, 3, 0]);
}

#[test]
fn a_fetch_out_of_step_with_its_session_is_refused() {
    let data = data_folder();
    let options = [
        "--shards",
        "1",
        "--max-incremental-fetch-session-cache-slots",
        "2",
    ];
    let gateway = Gateway::start(data.path(), &options);
    let mut client = gateway.connect();
    let topic_id = client.create_topic("t", 1);
    let request = || fetch_request("t", &[(0, 0)], 0, 1);
    let open = in_session(request(), 0, 0);
    let id = call(&mut client, BY_NAME, &open).session_id;
    let identified = call(&mut client, BY_ID, &by_id(open.clone(), topic_id)).session_id;
    assert_eq!(
        call(&mut client, BY_NAME, &open).session_id,
        0,
        "there is no room"
    );
    let mut error = |version, request| call(&mut client, version, &request).error_code;
    for unknown in [0, -1, id ^ 1, i32::MAX, i32::MIN] {
        assert_eq!(
            error(BY_NAME, next(unknown, 1)),
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
        );
    }
    assert_eq!(
        error(BY_NAME, next(id, 2)),
        ErrorCode::INVALID_FETCH_SESSION_EPOCH
    );
    assert_eq!(
        error(BY_ID, next(id, 1)),
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    );
    assert_eq!(
        error(BY_NAME, next(identified, 1)),
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    );
    assert_eq!(error(BY_NAME, next(id, 1)), ErrorCode::NONE);
    assert_eq!(
        error(BY_NAME, in_session(request(), id, -1)),
        ErrorCode::NONE
    );
    assert_eq!(
        error(BY_NAME, next(id, 2)),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
}

#[test]
fn a_topic_that_took_anothers_name_is_not_taken_for_it() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    let topic_id = client.create_topic("t", 1);
    let request = fetch_request("t", &[(0, 0)], 0, 1);
    let named = call(&mut client, BY_NAME, &in_session(request.clone(), 0, 0)).session_id;
    let open = in_session(by_id(request, topic_id), 0, 0);
    let identified = call(&mut client, BY_ID, &open).session_id;
    client.delete_topic("t");
    let gone = [(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)];
    assert_eq!(told(&call(&mut client, BY_NAME, &next(named, 1))), gone);
    assert_eq!(told(&call(&mut client, BY_ID, &next(identified, 1))), gone);
    assert_eq!(
        told(&call(&mut client, BY_ID, &open)),
        [(0, ErrorCode::UNKNOWN_TOPIC_ID)]
    );
    client.create_topic("t", 1);
    let there = told(&call(&mut client, BY_NAME, &next(named, 2)));
    assert_eq!(there, [(0, ErrorCode::NONE)]);
    let other = told(&call(&mut client, BY_ID, &next(identified, 2)));
    assert_eq!(other, [(0, ErrorCode::INCONSISTENT_TOPIC_ID)]);
}

#[test]
fn a_partition_that_is_named_twice_is_answered_once() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    client
        .produce("t", 0, batch(&[b"a", b"b"], None))
        .expect("an answer");
    let mut request = fetch_request("t", &[(0, 99), (1, 0), (0, 0)], 0, 1);
    let again = request.topics[0].clone();
    request.topics.push(again);
    let response = call(&mut client, BY_NAME, &request);
    assert_eq!(
        told(&response),
        [(0, ErrorCode::NONE), (1, ErrorCode::NONE)]
    );
}
