//! Groups of the consumer protocol (KIP-848) over the wire, across restarts.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::common::{Client, Gateway};
use crate::data_folder;
use tidegate::wire::consumer_group_describe as describe;
use tidegate::wire::consumer_group_heartbeat as heartbeat;
use tidegate::wire::{
    ErrorCode, StrBytes, Uuid, api_versions, delete_groups, describe_groups,
    incremental_alter_configs as alter, list_config_resources, list_groups, offset_commit,
    offset_delete, offset_fetch,
};

/// Partitions are shared out at once.
const OPTIONS: [&str; 4] = [
    "--shards",
    "2",
    "--group-consumer-assignment-interval-ms",
    "0",
];

type Parts = BTreeSet<(Uuid, i32)>;

/// A member, as Java's consumer is one.
struct Member {
    client: Client,
    group: StrBytes,
    id: StrBytes,
    instance_id: Option<StrBytes>,
    names: Vec<StrBytes>,
    regex: Option<StrBytes>,
    assignor: Option<StrBytes>,
    epoch: i32,
    owned: Parts,
}

impl Member {
    fn new(address: SocketAddr, group: &str, id: &str) -> Member {
        let mut client = Client::connect(address).expect("it takes connections");
        client.coordinator(group);
        Member {
            client,
            group: group.to_owned().into(),
            id: id.to_owned().into(),
            instance_id: None,
            names: Vec::new(),
            regex: None,
            assignor: None,
            epoch: 0,
            owned: Parts::new(),
        }
    }

    fn of(address: SocketAddr, group: &str, id: &str, topic: &str) -> Member {
        Member {
            names: vec![topic.to_owned().into()],
            ..Member::new(address, group, id)
        }
    }

    fn send(&mut self, request: &heartbeat::Request) -> heartbeat::Response {
        self.client
            .ask_coordinator(heartbeat::KEY, 1, request, |a: &heartbeat::Response| {
                a.error_code
            })
    }

    /// All that it has to say, as after an error.
    fn full(&self) -> heartbeat::Request {
        heartbeat::Request {
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(self.names.clone()),
            subscribed_topic_regex: self.regex.clone(),
            server_assignor: self.assignor.clone(),
            topic_partitions: Some(said(&self.owned)),
            ..self.short()
        }
    }

    /// Nothing has changed.
    fn short(&self) -> heartbeat::Request {
        heartbeat::Request {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance_id.clone(),
            ..heartbeat::Request::default()
        }
    }

    fn join(&mut self) -> heartbeat::Response {
        self.epoch = 0;
        self.owned.clear();
        let response = self.send(&self.full());
        self.take(&response);
        response
    }

    fn take(&mut self, response: &heartbeat::Response) {
        assert_eq!(
            (response.error_code, &response.error_message),
            (ErrorCode::NONE, &None)
        );
        self.epoch = response.member_epoch;
        if let Some(assignment) = &response.assignment {
            let topics = &assignment.topic_partitions;
            let of = |t: &heartbeat::TopicPartitions| {
                let topic = t.topic_id;
                t.partitions.clone().into_iter().map(move |p| (topic, p))
            };
            self.owned = topics.iter().flat_map(of).collect();
        }
    }

    /// Heartbeats until it is told nothing new: what it is told to have it has at once.
    fn follow(&mut self) {
        loop {
            let (epoch, owned) = (self.epoch, self.owned.clone());
            let request = heartbeat::Request {
                topic_partitions: Some(said(&self.owned)),
                ..self.short()
            };
            let response = self.send(&request);
            self.take(&response);
            if (self.epoch, &self.owned) == (epoch, &owned) {
                return;
            }
        }
    }

    fn leave(&mut self, epoch: i32) -> heartbeat::Response {
        let request = heartbeat::Request {
            member_epoch: epoch,
            ..self.short()
        };
        self.send(&request)
    }

    fn commit_at(&mut self, epoch: i32, topic: &str, partition: i32, version: i16) -> ErrorCode {
        let partition = offset_commit::OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: 7,
            ..Default::default()
        };
        let request = offset_commit::Request {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: epoch,
            member_id: self.id.clone(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: topic.to_owned().into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let error = |a: &offset_commit::Response| a.topics[0].partitions[0].error_code;
        error(
            &self
                .client
                .ask_coordinator(offset_commit::KEY, version, &request, error),
        )
    }

    fn commit(&mut self, topic: &str, partition: i32) -> ErrorCode {
        self.commit_at(self.epoch, topic, partition, 9)
    }

    fn fetched_as(&mut self, id: Option<StrBytes>, epoch: i32, topic: &str) -> (ErrorCode, i64) {
        let topic = offset_fetch::OffsetFetchRequestTopics {
            name: topic.to_owned().into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let request = offset_fetch::Request {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: self.group.clone(),
                member_id: id,
                member_epoch: epoch,
                topics: Some(vec![topic]),
            }],
            ..Default::default()
        };
        let error = |a: &offset_fetch::Response| a.groups[0].error_code;
        let response = self
            .client
            .ask_coordinator(offset_fetch::KEY, 9, &request, error);
        let group = &response.groups[0];
        let topics = group.topics.iter().flat_map(|t| &t.partitions);
        let offset = topics.map(|p| p.committed_offset).next();
        (group.error_code, offset.unwrap_or(-2))
    }

    fn described(&mut self) -> describe::DescribedGroup {
        let request = describe::Request {
            group_ids: vec![self.group.clone()],
            ..Default::default()
        };
        let error = |a: &describe::Response| a.groups[0].error_code;
        let response = self
            .client
            .ask_coordinator(describe::KEY, 1, &request, error);
        response.groups[0].clone()
    }

    fn state(&mut self) -> String {
        self.described().group_state.to_string()
    }

    fn delete(&mut self) -> ErrorCode {
        let request = delete_groups::Request {
            groups_names: vec![self.group.clone()],
        };
        let error = |a: &delete_groups::Response| a.results[0].error_code;
        error(
            &self
                .client
                .ask_coordinator(delete_groups::KEY, 2, &request, error),
        )
    }
}

fn said(owned: &Parts) -> Vec<heartbeat::TopicPartitions> {
    let topics: BTreeSet<Uuid> = owned.iter().map(|(topic, _)| *topic).collect();
    let of = |topic_id: Uuid| heartbeat::TopicPartitions {
        topic_id,
        partitions: owned
            .iter()
            .filter(|(t, _)| *t == topic_id)
            .map(|(_, p)| *p)
            .collect(),
    };
    topics.into_iter().map(of).collect()
}

fn all(topic: Uuid, partitions: i32) -> Parts {
    (0..partitions).map(|p| (topic, p)).collect()
}

/// All go on until nothing changes for anybody.
fn settle(members: &mut [&mut Member]) {
    loop {
        let before: Vec<_> = members.iter().map(|m| (m.epoch, m.owned.clone())).collect();
        members.iter_mut().for_each(|m| m.follow());
        let after = members.iter().map(|m| (m.epoch, m.owned.clone()));
        if after.eq(before) {
            return;
        }
    }
}

#[test]
fn members_share_partitions_and_nobody_has_what_another_has_not_given_up() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let topic = gateway.connect().create_topic("t", 6);
    let mut a = Member::of(gateway.address, "g", "a", "t");
    let joined = a.join();
    assert_eq!((a.epoch, &a.owned), (2, &all(topic, 6)));
    assert_eq!(joined.heartbeat_interval_ms, 5000);
    assert_eq!(a.send(&a.short()).assignment, None, "nothing has changed");

    let mut b = Member::of(gateway.address, "g", "b", "t");
    b.join();
    assert_eq!(
        (b.epoch, b.owned.len()),
        (3, 0),
        "all are still the first one's"
    );
    assert_eq!(a.state(), "Reconciling");
    let told = a.send(&a.short());
    assert_eq!(told.member_epoch, 2);
    let own = a.owned.clone();
    a.take(&told);
    assert_eq!(a.owned.len(), 3);
    b.follow();
    assert_eq!(b.owned.len(), 0, "they are not given up yet");
    let still = heartbeat::Request {
        topic_partitions: Some(said(&own)),
        ..a.short()
    };
    assert_eq!(a.send(&still).member_epoch, 2);
    settle(&mut [&mut a, &mut b]);
    assert_eq!((a.epoch, b.epoch, b.owned.len()), (3, 3, 3));
    assert_eq!(&a.owned | &b.owned, all(topic, 6));
    assert_eq!(b.state(), "Stable");

    a.leave(-1);
    settle(&mut [&mut b]);
    assert_eq!((b.epoch, &b.owned), (4, &all(topic, 6)));
}

#[test]
fn members_go_on_after_a_kill_without_a_rebalance() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &OPTIONS);
    gateway.connect().create_topic("t", 4);
    let mut members = Vec::new();
    for n in 0..6 {
        let group = format!("g{}", n / 2);
        let mut member = Member::of(gateway.address, &group, &format!("m{n}"), "t");
        member.instance_id = (n % 2 == 0).then(|| "i".into());
        member.join();
        members.push(member);
    }
    for pair in members.chunks_mut(2) {
        let [a, b] = pair else { unreachable!() };
        settle(&mut [a, b]);
        assert_eq!(a.commit("t", 0), ErrorCode::NONE);
    }
    for shards in ["2", "3"] {
        gateway.kill();
        gateway = Gateway::start(data.path(), &["--shards", shards]);
        for member in &mut members {
            member.client = gateway.connect();
            let (epoch, owned) = (member.epoch, member.owned.clone());
            let response = member.send(&member.full());
            member.take(&response);
            assert_eq!((member.epoch, &member.owned), (epoch, &owned));
            let id = Some(member.id.clone());
            assert_eq!(member.fetched_as(id, epoch, "t"), (ErrorCode::NONE, 7));
            let described = member.described();
            assert_eq!(&*described.group_state, "Stable");
            assert_eq!(described.members.len(), 2);
        }
    }
}

#[test]
fn who_is_not_what_it_says_is_fenced() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    gateway.connect().create_topic("t", 2);
    let mut a = Member::of(gateway.address, "g", "a", "t");
    let unknown = a.send(&heartbeat::Request {
        member_epoch: 3,
        ..a.short()
    });
    assert_eq!(unknown.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    a.join();
    let mut told = |change: &dyn Fn(heartbeat::Request) -> heartbeat::Request| {
        let response = a.send(&change(a.full()));
        (
            response.error_code,
            response.error_message.unwrap_or_default().to_string(),
        )
    };
    let (error, message) = told(&|r| heartbeat::Request {
        member_epoch: 9,
        ..r
    });
    assert_eq!(error, ErrorCode::FENCED_MEMBER_EPOCH);
    assert!(message.contains("greater member epoch (9)"), "{message}");
    let (error, _) = told(&|r| heartbeat::Request {
        member_id: "b".into(),
        ..r
    });
    assert_eq!(error, ErrorCode::UNKNOWN_MEMBER_ID);
    let (error, message) = told(&|r| heartbeat::Request {
        server_assignor: Some("best".into()),
        ..r
    });
    assert_eq!(error, ErrorCode::UNSUPPORTED_ASSIGNOR);
    assert_eq!(
        message,
        "ServerAssignor best is not supported. Supported assignors: uniform, range."
    );
    let (error, _) = told(&|r| heartbeat::Request {
        subscribed_topic_regex: Some("(".into()),
        ..r
    });
    assert_eq!(error, ErrorCode::INVALID_REGULAR_EXPRESSION);
    for (change, message) in [
        (
            heartbeat::Request {
                member_epoch: -3,
                ..a.full()
            },
            "MemberEpoch is invalid.",
        ),
        (
            heartbeat::Request {
                member_epoch: 0,
                rebalance_timeout_ms: -1,
                topic_partitions: Some(Vec::new()),
                ..a.full()
            },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            heartbeat::Request {
                member_epoch: 0,
                topic_partitions: None,
                ..a.full()
            },
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            heartbeat::Request {
                member_epoch: -2,
                ..a.short()
            },
            "InstanceId can't be null.",
        ),
        (
            heartbeat::Request {
                member_id: " ".into(),
                ..a.short()
            },
            "MemberId can't be empty.",
        ),
    ] {
        let response = a.send(&change);
        assert_eq!(response.error_code, ErrorCode::INVALID_REQUEST);
        assert_eq!(response.error_message.as_deref(), Some(message));
    }
    a.follow();
}

#[test]
fn offsets_are_for_members_with_their_epochs() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    client.create_topic("u", 1);
    let mut a = Member::of(gateway.address, "g", "a", "t");
    a.join();
    assert_eq!(a.commit("t", 0), ErrorCode::NONE);
    assert_eq!(a.commit_at(9, "t", 0, 9), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(a.commit_at(-1, "t", 0, 9), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(a.commit_at(2, "t", 0, 8), ErrorCode::UNSUPPORTED_VERSION);
    let mut b = Member::of(gateway.address, "g", "b", "t");
    assert_eq!(b.commit_at(2, "t", 0, 9), ErrorCode::UNKNOWN_MEMBER_ID);
    b.join();
    settle(&mut [&mut a, &mut b]);
    let kept = a.owned.first().expect("one").1;
    assert_eq!(a.epoch, 3);
    assert_eq!(
        a.commit_at(2, "t", kept, 9),
        ErrorCode::NONE,
        "it had it at epoch 2"
    );
    assert_eq!(
        a.commit_at(2, "t", 1 - kept, 9),
        ErrorCode::STALE_MEMBER_EPOCH
    );
    assert_eq!(
        b.commit_at(2, "t", 1 - kept, 9),
        ErrorCode::STALE_MEMBER_EPOCH
    );
    assert_eq!(
        b.commit("t", kept),
        ErrorCode::NONE,
        "as with Kafka: the epoch is right"
    );

    let id = |id: &'static str| Some(StrBytes::from_static(id));
    assert_eq!(a.fetched_as(id("a"), 3, "t"), (ErrorCode::NONE, 7));
    assert_eq!(a.fetched_as(None, -1, "t"), (ErrorCode::NONE, 7));
    assert_eq!(
        a.fetched_as(id("a"), 2, "t").0,
        ErrorCode::STALE_MEMBER_EPOCH
    );
    assert_eq!(
        a.fetched_as(id("x"), 3, "t").0,
        ErrorCode::UNKNOWN_MEMBER_ID
    );

    assert_eq!(a.commit("u", 0), ErrorCode::NONE);
    let topic = |name: &'static str| offset_delete::OffsetDeleteRequestTopic {
        name: name.into(),
        partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    let request = offset_delete::Request {
        group_id: "g".into(),
        topics: vec![topic("t"), topic("u")],
    };
    let deleted: offset_delete::Response = client
        .call(offset_delete::KEY, 0, &request)
        .expect("an answer");
    let of = |name: &str| {
        let topic = deleted.topics.iter().find(|t| t.name == *name);
        topic.map(|t| t.partitions[0].error_code)
    };
    assert_eq!(of("t"), Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(of("u"), Some(ErrorCode::NONE));

    assert_eq!(a.delete(), ErrorCode::NON_EMPTY_GROUP);
    a.leave(-1);
    b.leave(-1);
    assert_eq!(a.state(), "Empty");
    assert_eq!(a.delete(), ErrorCode::NONE);
    assert_eq!(a.described().error_code, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    gateway.connect().create_topic("t", 4);
    let named = |id: &str| {
        let mut member = Member::of(gateway.address, "g", id, "t");
        member.instance_id = Some("i".into());
        member
    };
    let mut a = named("a");
    let mut b = Member::of(gateway.address, "g", "b", "t");
    a.join();
    b.join();
    settle(&mut [&mut a, &mut b]);
    let mut other = named("c");
    assert_eq!(
        other.send(&other.full()).error_code,
        ErrorCode::UNRELEASED_INSTANCE_ID
    );
    let left = a.leave(-2);
    assert_eq!((left.error_code, left.member_epoch), (ErrorCode::NONE, -2));
    let before = b.epoch;
    settle(&mut [&mut b]);
    assert_eq!(
        (b.epoch, b.owned.len()),
        (before, 2),
        "what is its own stays so"
    );
    other.join();
    assert_eq!((other.epoch, &other.owned), (before, &a.owned));
    assert_eq!(a.send(&a.full()).error_code, ErrorCode::FENCED_INSTANCE_ID);
    let gone = other.leave(-1);
    assert_eq!((gone.error_code, gone.member_epoch), (ErrorCode::NONE, -1));
    settle(&mut [&mut b]);
    assert_eq!(b.owned.len(), 4);
}

#[test]
fn topics_that_come_grow_and_go_are_shared_out_anew() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let mut client = gateway.connect();
    let first = client.create_topic("orders-1", 2);
    let mut by_name = Member::of(gateway.address, "g", "a", "later");
    by_name.join();
    assert_eq!((by_name.epoch, by_name.owned.len()), (2, 0));
    let mut by_regex = Member::new(gateway.address, "g", "b");
    by_regex.regex = Some("orders-.*".into());
    by_regex.join();
    settle(&mut [&mut by_name, &mut by_regex]);
    assert_eq!(by_regex.owned, all(first, 2));

    let later = client.create_topic("later", 1);
    let second = client.create_topic("orders-2", 1);
    client.create_topic("other-orders-3", 1);
    settle(&mut [&mut by_name, &mut by_regex]);
    assert_eq!(by_name.owned, all(later, 1));
    assert_eq!(by_regex.owned, &all(first, 2) | &all(second, 1));

    client.grow_topic("later", 3);
    client.delete_topic("orders-1");
    settle(&mut [&mut by_name, &mut by_regex]);
    assert_eq!(by_name.owned, all(later, 3));
    assert_eq!(by_regex.owned, all(second, 1));
}

/// The type of a group among those that have configs.
const GROUP: i8 = 32;

fn set_config(client: &mut Client, group: &'static str, name: &'static str, value: &'static str) {
    let config = alter::AlterableConfig {
        name: name.into(),
        config_operation: 0,
        value: Some(value.into()),
    };
    let resource = alter::AlterConfigsResource {
        resource_type: GROUP,
        resource_name: group.into(),
        configs: vec![config],
    };
    let request = alter::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let response: alter::Response = client.call(alter::KEY, 1, &request).expect("an answer");
    assert_eq!(
        response.responses[0].error_code,
        ErrorCode::NONE,
        "{response:?}"
    );
}

#[test]
fn a_groups_configs_reach_its_members_and_survive_a_kill() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &OPTIONS);
    gateway.connect().create_topic("t", 1);
    let mut member = Member::of(gateway.address, "g", "a", "t");
    let mut other = Member::of(gateway.address, "other", "b", "t");
    let (joined, others) = (member.join(), other.join());
    assert_eq!(joined.heartbeat_interval_ms, 5000);
    set_config(
        &mut gateway.connect(),
        "g",
        "consumer.heartbeat.interval.ms",
        "6000",
    );
    for _ in 0..2 {
        let told = member.send(&member.full());
        assert_eq!(
            (told.error_code, told.heartbeat_interval_ms),
            (ErrorCode::NONE, 6000)
        );
        let told = other.send(&other.full());
        assert_eq!(told.heartbeat_interval_ms, others.heartbeat_interval_ms);
        gateway.kill();
        gateway = Gateway::start(data.path(), &OPTIONS);
        (member.client, other.client) = (gateway.connect(), gateway.connect());
    }
    let request = list_config_resources::Request {
        resource_types: vec![GROUP],
    };
    let listed: list_config_resources::Response = gateway
        .connect()
        .call(list_config_resources::KEY, 1, &request)
        .expect("an answer");
    let listed = listed.config_resources.iter();
    let listed: Vec<_> = listed
        .map(|r| (r.resource_type, &*r.resource_name))
        .collect();
    assert_eq!(listed, [(GROUP, "g")]);
}

#[test]
fn groups_of_both_kinds_are_listed_and_described_as_what_they_are() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let mut client = gateway.connect();
    let topic = client.create_topic("t", 2);
    let mut a = Member::of(gateway.address, "new", "a", "t");
    a.assignor = Some("range".into());
    a.join();
    let described = a.described();
    assert_eq!((described.group_epoch, described.assignment_epoch), (2, 2));
    assert_eq!(&*described.assignor_name, "range");
    let one = &described.members[0];
    assert_eq!(
        (&*one.member_id, one.member_epoch, one.member_type),
        ("a", 2, 1)
    );
    assert_eq!(&*one.client_id, "test");
    assert_eq!(one.assignment, one.target_assignment);
    let expected = describe::TopicPartitions {
        topic_id: topic,
        topic_name: "t".into(),
        partitions: vec![0, 1],
    };
    assert_eq!(one.assignment.topic_partitions, [expected]);

    let mut outside = Member::new(gateway.address, "old", "");
    assert_eq!(outside.commit_at(-1, "t", 0, 9), ErrorCode::NONE);
    let told = outside.described();
    assert_eq!(told.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(
        told.error_message.as_deref(),
        Some("Group old is not a consumer group.")
    );
    let request = describe_groups::Request {
        groups: vec!["new".into()],
        ..Default::default()
    };
    let told: describe_groups::Response = client
        .call(describe_groups::KEY, 6, &request)
        .expect("an answer");
    assert_eq!(told.groups[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(
        told.groups[0].error_message.as_deref(),
        Some("Group new is not a classic group.")
    );
    let mut listed = |types: &[&'static str], states: &[&'static str]| -> Vec<_> {
        let words = |words: &[&'static str]| words.iter().map(|w| (*w).into()).collect();
        let request = list_groups::Request {
            types_filter: words(types),
            states_filter: words(states),
        };
        let response: list_groups::Response = client
            .call(list_groups::KEY, 5, &request)
            .expect("an answer");
        let groups = response.groups.into_iter();
        let mut groups: Vec<_> = groups
            .map(|g| {
                format!(
                    "{} {} {} {}",
                    g.group_id, g.group_type, g.protocol_type, g.group_state
                )
            })
            .collect();
        groups.sort_unstable();
        groups
    };
    let (new, old) = ("new consumer consumer Stable", "old classic  Empty");
    assert_eq!(listed(&[], &[]), [new, old]);
    assert_eq!(listed(&["Consumer"], &[]), [new]);
    assert_eq!(listed(&["classic"], &[]), [old]);
    assert_eq!(listed(&[], &["stable"]), [new]);
}

#[test]
fn a_group_without_members_becomes_what_the_next_member_speaks() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &OPTIONS);
    gateway.connect().create_topic("t", 1);
    let mut outside = Member::new(gateway.address, "g", "");
    assert_eq!(outside.commit_at(-1, "t", 0, 9), ErrorCode::NONE);
    let mut a = Member::of(gateway.address, "g", "a", "t");
    a.join();
    assert_eq!(a.epoch, 2);
    let id = Some(a.id.clone());
    assert_eq!(a.fetched_as(id, 2, "t"), (ErrorCode::NONE, 7));
    a.leave(-1);
    gateway.kill();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    a.client = gateway.connect();
    assert_eq!(a.state(), "Empty");
    assert_eq!(a.described().group_epoch, 3);
    assert_eq!(a.fetched_as(None, -1, "t"), (ErrorCode::NONE, 7));
}

#[test]
fn the_feature_is_told() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &OPTIONS);
    let request = api_versions::Request {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let told: api_versions::Response = gateway
        .connect()
        .call(api_versions::KEY, 4, &request)
        .expect("an answer");
    let feature = &told.finalized_features[0];
    assert_eq!(
        (&*feature.name, feature.max_version_level),
        ("group.version", 1)
    );
    let served = |key| {
        told.api_keys
            .iter()
            .find(|a| a.api_key == key)
            .map(|a| a.max_version)
    };
    assert_eq!(
        (served(heartbeat::KEY), served(describe::KEY)),
        (Some(1), Some(1))
    );
}
