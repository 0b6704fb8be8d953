//! Consumer groups over the wire, across restarts.

use std::io;
use std::net::SocketAddr;

use crate::common::{Client, Gateway, batch};
use crate::data_folder;
use bytes::Bytes;
use tidegate::wire::StrBytes;
use tidegate::wire::{
    ErrorCode, delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups,
    metadata, offset_commit, offset_delete, offset_fetch, sync_group,
};

const OPTIONS: [&str; 4] = ["--shards", "2", "--group-initial-rebalance-delay-ms", "0"];

/// A client of one group, connected to its coordinator.
struct Member {
    client: Client,
    group: StrBytes,
    member_id: StrBytes,
    generation: i32,
}

impl Member {
    fn new(address: SocketAddr, group: &str) -> Member {
        let mut client = Client::connect(address).expect("it takes connections");
        client.coordinator(group);
        Member {
            client,
            group: group.to_owned().into(),
            member_id: StrBytes::default(),
            generation: -1,
        }
    }

    fn join_once(&mut self, version: i16) -> join_group::Response {
        let protocol = join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        };
        let request = join_group::Request {
            group_id: self.group.clone(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id: self.member_id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        self.client.ask_coordinator(
            join_group::KEY,
            version,
            &request,
            |a: &join_group::Response| a.error_code,
        )
    }

    fn join(&mut self) -> join_group::Response {
        let mut response = self.join_once(9);
        if response.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            self.member_id = response.member_id;
            response = self.join_once(9);
        }
        assert_eq!(response.error_code, ErrorCode::NONE);
        self.member_id = response.member_id.clone();
        self.generation = response.generation_id;
        response
    }

    fn sync(&mut self, assignment: &'static [u8]) -> sync_group::Response {
        let request = sync_group::Request {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: vec![sync_group::SyncGroupRequestAssignment {
                member_id: self.member_id.clone(),
                assignment: Bytes::from_static(assignment),
            }],
            ..Default::default()
        };
        self.client
            .ask_coordinator(sync_group::KEY, 5, &request, |a: &sync_group::Response| {
                a.error_code
            })
    }

    fn heartbeat(&mut self) -> ErrorCode {
        let request = heartbeat::Request {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            ..Default::default()
        };
        let response: heartbeat::Response = self
            .client
            .call(heartbeat::KEY, 4, &request)
            .expect("an answer");
        response.error_code
    }

    fn leave(&mut self) {
        let request = leave_group::Request {
            group_id: self.group.clone(),
            members: vec![leave_group::MemberIdentity {
                member_id: self.member_id.clone(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: leave_group::Response = self
            .client
            .call(leave_group::KEY, 4, &request)
            .expect("an answer");
        assert_eq!(response.members[0].error_code, ErrorCode::NONE);
    }

    fn commit_request(&self, topic: &str, offset: i64) -> offset_commit::Request {
        let partition = offset_commit::OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: 3,
            committed_metadata: Some("m".into()),
        };
        offset_commit::Request {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.member_id.clone(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: topic.to_owned().into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn commit(&mut self, topic: &str, offset: i64) -> ErrorCode {
        let request = self.commit_request(topic, offset);
        let error = |a: &offset_commit::Response| a.topics[0].partitions[0].error_code;
        error(
            &self
                .client
                .ask_coordinator(offset_commit::KEY, 9, &request, error),
        )
    }

    /// Offset, leader epoch and metadata.
    fn committed(&mut self, topic: &str) -> (i64, i32, Option<StrBytes>) {
        let topic = offset_fetch::OffsetFetchRequestTopics {
            name: topic.to_owned().into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let request = offset_fetch::Request {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: self.group.clone(),
                topics: Some(vec![topic]),
                ..Default::default()
            }],
            ..Default::default()
        };
        let error = |a: &offset_fetch::Response| a.groups[0].error_code;
        let response = self
            .client
            .ask_coordinator(offset_fetch::KEY, 8, &request, error);
        let found = &response.groups[0].topics[0].partitions[0];
        assert_eq!(found.error_code, ErrorCode::NONE);
        (
            found.committed_offset,
            found.committed_leader_epoch,
            found.metadata.clone(),
        )
    }

    fn described(&mut self) -> describe_groups::DescribedGroup {
        let request = describe_groups::Request {
            groups: vec![self.group.clone()],
            ..Default::default()
        };
        let error = |a: &describe_groups::Response| a.groups[0].error_code;
        let response = self
            .client
            .ask_coordinator(describe_groups::KEY, 5, &request, error);
        response.groups[0].clone()
    }

    fn delete(&mut self) -> ErrorCode {
        let request = delete_groups::Request {
            groups_names: vec![self.group.clone()],
        };
        let response: delete_groups::Response = self
            .client
            .call(delete_groups::KEY, 2, &request)
            .expect("an answer");
        response.results[0].error_code
    }
}

const NOTHING: (i64, i32, Option<StrBytes>) = (-1, -1, Some(StrBytes::from_static("")));

#[test]
fn members_and_offsets_survive_a_kill_and_members_go_on_without_a_rebalance() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &OPTIONS);
    gateway.connect().create_topic("t", 1);
    let mut members: Vec<_> = (0..8)
        .map(|n| Member::new(gateway.address, &format!("g{n}")))
        .collect();
    for (n, member) in members.iter_mut().enumerate() {
        assert_eq!(member.join().generation_id, 1);
        assert_eq!(member.sync(b"assigned").assignment, "assigned");
        for offset in [1, 2, 40 + n as i64] {
            assert_eq!(member.commit("t", offset), ErrorCode::NONE);
        }
    }
    gateway.kill();
    // On another number of shards groups lie elsewhere.
    for shards in ["2", "3"] {
        let options = [
            "--shards",
            shards,
            "--group-initial-rebalance-delay-ms",
            "0",
        ];
        let mut gateway = Gateway::start(data.path(), &options);
        for (n, member) in members.iter_mut().enumerate() {
            member.client = gateway.connect();
            assert_eq!(
                member.committed("t"),
                (40 + n as i64, 3, Some(StrBytes::from_static("m")))
            );
            assert_eq!(member.heartbeat(), ErrorCode::NONE);
            let described = member.described();
            assert_eq!(&*described.group_state, "Stable");
            assert_eq!(described.members[0].member_assignment, "assigned");
            assert_eq!(described.members[0].client_id, "test");
            assert_eq!(member.sync(b"").assignment, "assigned");
            assert_eq!(member.commit("t", 40 + n as i64), ErrorCode::NONE);
        }
        gateway.stop();
    }
}

#[test]
fn what_was_deleted_does_not_come_back() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &OPTIONS);
    gateway.connect().create_topic("t", 1);
    let mut member = Member::new(gateway.address, "g");
    member.join();
    member.sync(b"a");
    assert_eq!(member.commit("t", 7), ErrorCode::NONE);
    assert_eq!(member.delete(), ErrorCode::NON_EMPTY_GROUP);
    member.leave();
    assert_eq!(member.heartbeat(), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(&*member.described().group_state, "Empty");

    // Commits that are on their way when the group is deleted are before it.
    let mut outsider = Member::new(gateway.address, "g");
    let request = outsider.commit_request("t", 9);
    let commits: Vec<_> = (0..5)
        .map(|_| outsider.client.send(offset_commit::KEY, 9, &request))
        .collect::<io::Result<_>>()
        .expect("sent");
    for id in commits {
        let _: offset_commit::Response = outsider
            .client
            .receive(offset_commit::KEY, 9, id)
            .expect("an answer");
    }
    assert_eq!(member.delete(), ErrorCode::NONE);
    assert_eq!(member.delete(), ErrorCode::GROUP_ID_NOT_FOUND);
    gateway.kill();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let mut member = Member::new(gateway.address, "g");
    assert_eq!(member.committed("t"), NOTHING);
    assert_eq!(&*member.described().group_state, "Dead");
}

#[test]
fn the_offsets_of_a_deleted_topic_are_not_those_of_a_new_one() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    client.create_topic("u", 1);
    let mut outsider = Member::new(gateway.address, "g");
    assert_eq!(outsider.commit("t", 7), ErrorCode::NONE);
    assert_eq!(outsider.commit("u", 8), ErrorCode::NONE);
    client.delete_topic("t");
    client.create_topic("t", 1);
    assert_eq!(outsider.committed("t"), NOTHING);
    gateway.kill();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let mut outsider = Member::new(gateway.address, "g");
    assert_eq!(outsider.committed("t"), NOTHING);
    assert_eq!(outsider.committed("u").0, 8);

    let topic = offset_delete::OffsetDeleteRequestTopic {
        name: "u".into(),
        partitions: [0, 5]
            .map(|partition_index| offset_delete::OffsetDeleteRequestPartition { partition_index })
            .into(),
    };
    let request = offset_delete::Request {
        group_id: "g".into(),
        topics: vec![topic],
    };
    let response: offset_delete::Response = outsider
        .client
        .call(offset_delete::KEY, 0, &request)
        .expect("an answer");
    let mut results: Vec<_> = response
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| (p.partition_index, p.error_code))
        .collect();
    results.sort_unstable();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(results, [(0, ErrorCode::NONE), (5, unknown)]);
    assert_eq!(outsider.committed("u"), NOTHING);
}

#[test]
fn a_stop_tells_who_waits_and_takes_no_time() {
    let data = data_folder();
    let options = [
        "--shards",
        "2",
        "--group-initial-rebalance-delay-ms",
        "600000",
    ];
    let mut gateway = Gateway::start(data.path(), &options);
    let mut member = Member::new(gateway.address, "g");
    let required = member.join_once(9);
    assert_eq!(required.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    member.member_id = required.member_id;
    let waiting = std::thread::spawn(move || member.join_once(9).error_code);
    let mut other = gateway.connect();
    let request = list_groups::Request {
        states_filter: vec!["PREPARINGrebalance".into()],
        ..Default::default()
    };
    while {
        let listed: list_groups::Response = other
            .call(list_groups::KEY, 4, &request)
            .expect("an answer");
        listed.groups.is_empty()
    } {}
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(
        waiting.join().expect("an answer"),
        ErrorCode::NOT_COORDINATOR
    );
}

#[test]
fn the_offsets_topic_is_internal_and_for_brokers_only() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.coordinator("g");
    let topic = metadata::MetadataRequestTopic {
        name: Some("__consumer_offsets".into()),
        ..Default::default()
    };
    let request = metadata::Request {
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let told: metadata::Response = client.call(metadata::KEY, 9, &request).expect("an answer");
    assert!(told.topics[0].is_internal);
    assert_eq!(told.topics[0].partitions.len(), 50);
    let produced = client
        .produce("__consumer_offsets", 0, batch(&[b"x"], None))
        .expect("an answer");
    assert_eq!(produced.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
}
