//! Offset commits at a fixed rate.

use std::io;
use std::time::{Duration, Instant};

use tidegate::wire::{ErrorCode, StrBytes, offset_commit};

use super::member::{await_coordinator, is_early};
use crate::client::{Client, Encoded, ok};
use crate::load::{LEAD, Outcome, Pace, at_once};
use crate::peer::Peer;
use crate::rows::settle;

/// Each commits one partition, on a connection of its own.
const GROUPS: usize = 100;
/// Of all groups in a second.
pub const RATE: u32 = 10_000;
const TIME: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(5);
const TOPIC: &str = "commits";
/// The newest that names topics.
const VERSION: i16 = 9;

/// The load, and what it cost the server in CPU seconds.
pub fn run(peer: &Peer) -> io::Result<(Outcome, f64)> {
    await_coordinator(peer.address)?;
    Client::connect(peer.address)?.create_topic(TOPIC, GROUPS as i32)?;
    settle(peer, TOPIC, GROUPS as i32)?;
    for group in 0..GROUPS {
        commit_first(peer, group)?;
    }
    load(peer, WARM_UP)?;
    let before = peer.cpu_seconds()?;
    let done = load(peer, TIME)?;
    Ok((done, peer.cpu_seconds()? - before))
}

fn load(peer: &Peer, time: Duration) -> io::Result<Outcome> {
    let began = Instant::now() + LEAD;
    at_once(GROUPS, |number| {
        let encode = |offset| Encoded::new(offset_commit::KEY, VERSION, &commit(number, offset));
        let mut requests: Vec<Encoded> = (0..100).map(encode).collect();
        let pace = Pace {
            number,
            connections: GROUPS,
            rate: RATE,
            time,
            began,
        };
        let api = (offset_commit::KEY, VERSION);
        pace.run(peer.address, api, &mut requests, |answer| {
            ok(code(&answer), "OffsetCommit").map(|()| (0, 0))
        })
    })
}

/// Waits until the group's coordinator is there.
fn commit_first(peer: &Peer, group: usize) -> io::Result<()> {
    let mut client = Client::connect(peer.address)?;
    loop {
        let request = commit(group, 0);
        match code(&client.call(offset_commit::KEY, VERSION, &request)?) {
            code if is_early(code) => std::thread::sleep(Duration::from_millis(20)),
            code => return ok(code, "OffsetCommit"),
        }
    }
}

/// As of one who assigned itself its partition: the group has no members.
fn commit(group: usize, offset: i64) -> offset_commit::Request {
    let partition = offset_commit::OffsetCommitRequestPartition {
        partition_index: group as i32,
        committed_offset: offset,
        committed_metadata: Some(StrBytes::from("")),
        ..Default::default()
    };
    offset_commit::Request {
        group_id: format!("commits-{group}").into(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: StrBytes::from(TOPIC),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn code(answer: &offset_commit::Response) -> ErrorCode {
    answer.topics[0].partitions[0].error_code
}
