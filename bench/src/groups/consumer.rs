//! One member of a group of the consumer protocol (KIP-848), as the protocol sees it.

use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tidegate::wire::consumer_group_heartbeat::{self as heartbeat, TopicPartitions};
use tidegate::wire::{StrBytes, Uuid};

use super::member::{RETRY, is_early};
use super::turnover::{HEARTBEAT_INTERVAL, Order, Seat, Synced};
use crate::client::{Client, ok};

pub const TOPIC: &str = "turnover";
/// As many for each of three members as for each of two.
pub const PARTITIONS: usize = 6;
const VERSION: i16 = *heartbeat::VERSIONS.end();
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

struct Member {
    client: Client,
    group: StrBytes,
    id: StrBytes,
    epoch: i32,
    owned: Vec<TopicPartitions>,
}

/// Follows what it is told until it is told to go.
pub fn live(seat: Seat) -> io::Result<()> {
    let mut member = Member {
        client: Client::connect(seat.address)?,
        group: seat.group.clone().into(),
        id: Uuid::random().map_err(io::Error::other)?.to_string().into(),
        epoch: JOIN,
        owned: Vec::new(),
    };
    let mut tells_share = true;
    loop {
        let told = member.heartbeat(tells_share)?;
        tells_share = told == Told::Share;
        if told != Told::Nothing {
            let synced = Synced {
                number: seat.number,
                generation: member.epoch,
                partitions: member.owned.iter().map(|t| t.partitions.len()).sum(),
                at: Instant::now(),
            };
            seat.synced.send(synced).map_err(io::Error::other)?;
        }
        let pause = match tells_share {
            // Others may wait for what it gave up.
            true => Duration::ZERO,
            false => HEARTBEAT_INTERVAL,
        };
        match seat.orders.recv_timeout(pause) {
            Ok(Order::Leave) => return member.leave(),
            Ok(Order::Crash) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[derive(PartialEq, Eq)]
enum Told {
    Nothing,
    /// Of another epoch.
    Epoch,
    /// Of another share, and maybe another epoch.
    Share,
}

impl Member {
    fn heartbeat(&mut self, tells_share: bool) -> io::Result<Told> {
        let mut request = self.request(self.epoch);
        if self.epoch == JOIN {
            request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
            request.subscribed_topic_names = Some(vec![StrBytes::from(TOPIC)]);
        }
        if tells_share {
            request.topic_partitions = Some(self.owned.clone());
        }
        let answer = loop {
            let answer: heartbeat::Response =
                self.client.call(heartbeat::KEY, VERSION, &request)?;
            match answer.error_code {
                code if is_early(code) => std::thread::sleep(RETRY),
                code => break ok(code, "ConsumerGroupHeartbeat").map(|()| answer)?,
            }
        };
        let epoch_before = std::mem::replace(&mut self.epoch, answer.member_epoch);
        match answer.assignment {
            Some(assignment) => {
                self.owned = assignment.topic_partitions;
                Ok(Told::Share)
            }
            None if self.epoch != epoch_before => Ok(Told::Epoch),
            None => Ok(Told::Nothing),
        }
    }

    fn leave(&mut self) -> io::Result<()> {
        let request = self.request(LEAVE);
        let answer: heartbeat::Response = self.client.call(heartbeat::KEY, VERSION, &request)?;
        ok(answer.error_code, "ConsumerGroupHeartbeat")
    }

    fn request(&self, member_epoch: i32) -> heartbeat::Request {
        heartbeat::Request {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch,
            ..Default::default()
        }
    }
}
