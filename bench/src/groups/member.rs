//! One member of a group, as the protocol sees it (classic protocol): a connection and what it is told.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate::wire::consumer_protocol::{self, Assignment, Subscription};
use tidegate::wire::{
    ErrorCode, Message, StrBytes, api_name, find_coordinator, heartbeat, join_group, leave_group,
    sync_group,
};

use crate::client::{Client, Encoded, ok};

/// The newest versions, which clients of today use.
const JOIN: i16 = *join_group::VERSIONS.end();
const SYNC: i16 = *sync_group::VERSIONS.end();
const HEARTBEAT: i16 = *heartbeat::VERSIONS.end();
const LEAVE: i16 = *leave_group::VERSIONS.end();
/// As Java's consumer has it.
const PROTOCOL: &str = "range";
/// Longer than any rebalance here takes.
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
/// Between questions to a coordinator that is not there yet, or not for this group.
pub const RETRY: Duration = Duration::from_millis(20);

/// Requests and answers are apart, so that one thread can drive many members of a group.
pub struct Member {
    client: Client,
    group: StrBytes,
    session_timeout: Duration,
    id: StrBytes,
    pub generation: i32,
    /// All members of the generation, if this one is to assign; else none.
    pub members: Vec<StrBytes>,
}

impl Member {
    pub fn connect(
        address: SocketAddr,
        group: &str,
        session_timeout: Duration,
    ) -> io::Result<Member> {
        let mut member = Member {
            client: Client::connect(address)?,
            group: group.to_owned().into(),
            session_timeout,
            id: StrBytes::from(""),
            generation: -1,
            members: Vec::new(),
        };
        member.get_id()?;
        Ok(member)
    }

    /// A new member id to join with. No rebalance begins by that.
    pub fn get_id(&mut self) -> io::Result<()> {
        self.id = StrBytes::from("");
        loop {
            self.send_join()?;
            let answer: join_group::Response = self.receive(join_group::KEY, JOIN)?;
            match answer.error_code {
                ErrorCode::MEMBER_ID_REQUIRED => {
                    self.id = answer.member_id;
                    return Ok(());
                }
                code if is_early(code) => std::thread::sleep(RETRY),
                code => return Err(io::Error::other(format!("first JoinGroup: {code:?}"))),
            }
        }
    }

    pub fn send_join(&mut self) -> io::Result<()> {
        let subscription = Subscription {
            topics: vec![StrBytes::from("groups")],
            ..Default::default()
        };
        let request = join_group::Request {
            group_id: self.group.clone(),
            session_timeout_ms: self.session_timeout.as_millis() as i32,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: self.id.clone(),
            protocol_type: StrBytes::from("consumer"),
            protocols: vec![join_group::JoinGroupRequestProtocol {
                name: StrBytes::from(PROTOCOL),
                metadata: consumer_protocol::encode(&subscription, 0),
            }],
            ..Default::default()
        };
        self.send(join_group::KEY, JOIN, &request)
    }

    /// Waits until the generation is complete.
    pub fn receive_join(&mut self) -> io::Result<()> {
        let answer: join_group::Response = self.receive(join_group::KEY, JOIN)?;
        ok(answer.error_code, "JoinGroup")?;
        self.generation = answer.generation_id;
        self.members = answer.members.into_iter().map(|m| m.member_id).collect();
        Ok(())
    }

    /// The leader hands in an assignment of one partition for each member.
    pub fn send_sync(&mut self) -> io::Result<()> {
        let assignment = |(n, member): (usize, &StrBytes)| {
            let partitions = consumer_protocol::TopicPartition {
                topic: StrBytes::from("groups"),
                partitions: vec![n as i32],
            };
            let assignment = Assignment {
                assigned_partitions: vec![partitions],
                ..Default::default()
            };
            sync_group::SyncGroupRequestAssignment {
                member_id: member.clone(),
                assignment: consumer_protocol::encode(&assignment, 0),
            }
        };
        let request = sync_group::Request {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(StrBytes::from("consumer")),
            protocol_name: Some(StrBytes::from(PROTOCOL)),
            assignments: self.members.iter().enumerate().map(assignment).collect(),
            ..Default::default()
        };
        self.send(sync_group::KEY, SYNC, &request)
    }

    /// Whether it has its assignment; if not, the next rebalance has begun.
    pub fn receive_sync(&mut self) -> io::Result<bool> {
        let answer: sync_group::Response = self.receive(sync_group::KEY, SYNC)?;
        is_stable(answer.error_code, "SyncGroup")
    }

    pub fn send_heartbeat(&mut self) -> io::Result<()> {
        let request = heartbeat::Request {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        self.send(heartbeat::KEY, HEARTBEAT, &request)
    }

    /// Whether the group is stable; if not, a rebalance has begun.
    pub fn receive_heartbeat(&mut self) -> io::Result<bool> {
        let answer: heartbeat::Response = self.receive(heartbeat::KEY, HEARTBEAT)?;
        is_stable(answer.error_code, "Heartbeat")
    }

    pub fn leave(&mut self) -> io::Result<()> {
        let identity = leave_group::MemberIdentity {
            member_id: self.id.clone(),
            ..Default::default()
        };
        let request = leave_group::Request {
            group_id: self.group.clone(),
            members: vec![identity],
            ..Default::default()
        };
        let answer: leave_group::Response = self.client.call(leave_group::KEY, LEAVE, &request)?;
        ok(answer.error_code, "LeaveGroup")
    }

    fn receive<M: Message>(&mut self, key: i16, version: i16) -> io::Result<M> {
        let name = api_name(key).unwrap_or_default();
        let group = &self.group;
        let answer = self.client.receive(key, version);
        answer.map_err(|e| io::Error::new(e.kind(), format!("{name} of {group}: {e}")))
    }

    fn send<M: Message>(&mut self, key: i16, version: i16, request: &M) -> io::Result<()> {
        self.client.send(&mut Encoded::new(key, version, request))
    }
}

fn is_stable(code: ErrorCode, what: &str) -> io::Result<bool> {
    match code {
        ErrorCode::REBALANCE_IN_PROGRESS => Ok(false),
        code => ok(code, what).map(|()| true),
    }
}

/// It will be well as soon as the coordinator has loaded what it stored.
pub fn is_early(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
    )
}

/// Waits until groups have a coordinator: Kafka makes its topic of offsets when it is first asked.
pub fn await_coordinator(address: SocketAddr) -> io::Result<()> {
    const VERSION: i16 = 3;
    let request = find_coordinator::Request {
        key: StrBytes::from("groups"),
        ..Default::default()
    };
    let mut client = Client::connect(address)?;
    loop {
        let answer: find_coordinator::Response =
            client.call(find_coordinator::KEY, VERSION, &request)?;
        match answer.error_code {
            code if is_early(code) => std::thread::sleep(RETRY),
            code => return ok(code, "FindCoordinator"),
        }
    }
}
