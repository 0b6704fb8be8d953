//! `--routing per-core`: each shard is a broker to clients, and all of them answer for all partitions.

mod common;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use common::{Client, Gateway, batch, data_folder};
use tidegate::wire::{
    ErrorCode, describe_cluster, describe_configs, describe_log_dirs, find_coordinator,
    incremental_alter_configs, list_groups, metadata, offset_commit,
};

const OPTIONS: [&str; 4] = ["--shards", "2", "--routing", "per-core"];

/// An address behind whose port two more are free.
fn free_ports() -> SocketAddr {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    for _ in 0..100 {
        let first = bind(0).and_then(|l| l.local_addr()).expect("a free port");
        let behind = (1..=2).map(|n| first.port().checked_add(n).map(bind));
        if behind.into_iter().all(|bound| matches!(bound, Some(Ok(_)))) {
            return first;
        }
    }
    panic!("no three free ports in a row");
}

fn metadata_of(client: &mut Client, topic: &str) -> metadata::Response {
    let topic = metadata::MetadataRequestTopic {
        name: Some(topic.to_owned().into()),
        ..Default::default()
    };
    let request = metadata::Request {
        topics: Some(vec![topic]),
        ..Default::default()
    };
    client.call(metadata::KEY, 9, &request).expect("an answer")
}

/// The address of each broker.
fn brokers(response: &metadata::Response) -> BTreeMap<i32, SocketAddr> {
    let address = |b: &metadata::MetadataResponseBroker| {
        let address = format!("{}:{}", b.host, b.port);
        (b.node_id, address.parse().expect("an address"))
    };
    response.brokers.iter().map(address).collect()
}

#[test]
fn each_shard_is_a_broker_that_leads_what_it_owns() {
    let data = data_folder();
    let shared = free_ports();
    let mut gateway = Gateway::start_at(shared, data.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.create_topic("t", 4);
    let told = metadata_of(&mut client, "t");
    let at = |n| SocketAddr::new(shared.ip(), shared.port() + n);
    assert_eq!(brokers(&told), BTreeMap::from([(1, at(1)), (2, at(2))]));
    let leaders = |told: &metadata::Response| -> BTreeMap<i32, i32> {
        let partitions = told.topics[0].partitions.iter();
        partitions
            .map(|p| (p.partition_index, p.leader_id))
            .collect()
    };
    let led = leaders(&told);
    for broker in [1, 2] {
        assert_eq!(led.values().filter(|l| **l == broker).count(), 2, "{led:?}");
    }

    // Wherever a request arrives, the partition gets it.
    for address in [at(0), at(1), at(2)] {
        let mut client = Client::connect(address).expect("it takes connections");
        for partition in 0..4 {
            let produced = client
                .produce("t", partition, batch(&[b"x"], None))
                .expect("an answer");
            assert_eq!(produced.error_code, ErrorCode::NONE);
        }
    }
    let cluster: describe_cluster::Response = client
        .call(
            describe_cluster::KEY,
            1,
            &describe_cluster::Request::default(),
        )
        .expect("an answer");
    let ports: Vec<_> = cluster
        .brokers
        .iter()
        .map(|b| (b.broker_id, b.port))
        .collect();
    assert_eq!(ports, [(1, at(1).port().into()), (2, at(2).port().into())]);

    gateway.stop();
    let gateway = Gateway::start_at(shared, data.path(), &OPTIONS);
    let mut client = gateway.connect();
    let again = metadata_of(&mut client, "t");
    assert_eq!(brokers(&again), brokers(&told));
    assert_eq!(leaders(&again), led);
    for partition in 0..4 {
        assert_eq!(client.drain("t", partition).len(), 3);
    }
}

#[test]
fn each_broker_tells_the_log_directory_of_what_it_leads() {
    let data = data_folder();
    let shared = free_ports();
    let gateway = Gateway::start_at(shared, data.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.create_topic("t", 4);
    let told = metadata_of(&mut client, "t");
    let partitions = told.topics[0].partitions.iter();
    let led: BTreeMap<_, _> = partitions
        .map(|p| (p.partition_index, p.leader_id))
        .collect();
    let mut found = BTreeMap::new();
    for (broker, address) in brokers(&told) {
        let mut client = Client::connect(address).expect("it takes connections");
        let request = describe_log_dirs::Request { topics: None };
        let response: describe_log_dirs::Response = client
            .call(describe_log_dirs::KEY, 4, &request)
            .expect("an answer");
        let topics = response.results[0].topics.iter();
        for partition in topics.flat_map(|topic| &topic.partitions) {
            let before = found.insert(partition.partition_index, broker);
            assert_eq!(before, None, "a partition counts once");
        }
    }
    assert_eq!(found, led);
}

#[test]
fn brokers_of_one_process_share_their_configs() {
    const BROKER: i8 = 4;
    let data = data_folder();
    let gateway = Gateway::start_at(free_ports(), data.path(), &OPTIONS);
    let mut client = gateway.connect();
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: BROKER,
        resource_name: "2".into(),
        configs: vec![incremental_alter_configs::AlterableConfig {
            name: "message.max.bytes".into(),
            config_operation: 0,
            value: Some("5000".into()),
        }],
    };
    let request = incremental_alter_configs::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let response: incremental_alter_configs::Response = client
        .call(incremental_alter_configs::KEY, 1, &request)
        .expect("an answer");
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
    for (broker, code) in [("1", 0), ("2", 0), ("3", 42)] {
        let keys = ["message.max.bytes", "broker.id"];
        let request = describe_configs::Request {
            resources: vec![describe_configs::DescribeConfigsResource {
                resource_type: BROKER,
                resource_name: broker.into(),
                configuration_keys: Some(keys.map(Into::into).to_vec()),
            }],
            ..Default::default()
        };
        let response: describe_configs::Response = client
            .call(describe_configs::KEY, 4, &request)
            .expect("an answer");
        let result = &response.results[0];
        assert_eq!(result.error_code.0, code);
        let configs = result.configs.iter();
        let told: BTreeMap<_, _> = configs.map(|c| (&*c.name, c.value.as_deref())).collect();
        if code == 0 {
            let limit = ("message.max.bytes", Some("5000"));
            assert_eq!(told, BTreeMap::from([("broker.id", Some(broker)), limit]));
        }
    }
}

#[test]
fn the_shard_that_keeps_a_group_is_its_coordinator_and_lists_it() {
    let data = data_folder();
    let shared = free_ports();
    let gateway = Gateway::start_at(shared, data.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let groups: Vec<String> = (0..10).map(|n| format!("g{n}")).collect();
    let request = find_coordinator::Request {
        coordinator_keys: groups.iter().map(|g| g.clone().into()).collect(),
        ..Default::default()
    };
    let found: find_coordinator::Response = client
        .call(find_coordinator::KEY, 4, &request)
        .expect("an answer");
    // Wherever a request arrives, the coordinator gets it.
    for group in &groups {
        let partition = offset_commit::OffsetCommitRequestPartition {
            committed_offset: 1,
            ..Default::default()
        };
        let request = offset_commit::Request {
            group_id: group.clone().into(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: offset_commit::Response = client
            .call(offset_commit::KEY, 8, &request)
            .expect("an answer");
        let result = &response.topics[0].partitions[0];
        assert_eq!(result.error_code, ErrorCode::NONE);
    }
    let mut coordinated = 0;
    for broker in [1, 2] {
        let address = SocketAddr::new(shared.ip(), shared.port() + broker as u16);
        let mut client = Client::connect(address).expect("it takes connections");
        let listed: list_groups::Response = client
            .call(list_groups::KEY, 4, &list_groups::Request::default())
            .expect("an answer");
        let mut listed: Vec<_> = listed
            .groups
            .iter()
            .map(|g| g.group_id.to_string())
            .collect();
        listed.sort_unstable();
        let its = found.coordinators.iter().filter(|c| c.node_id == broker);
        let its: Vec<_> = its.map(|c| c.key.to_string()).collect();
        assert_eq!(listed, its);
        coordinated += its.len();
    }
    assert_eq!(coordinated, groups.len());
}
