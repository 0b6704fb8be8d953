//! What tools ask of a cluster, over real sockets: partitions page by page, producers,
//! and what a node without replicas and quorum has to say of them.

use std::path::Path;

use crate::common::Gateway;
use crate::data_folder;
use tidegate::wire::{
    ErrorCode, alter_partition_reassignments, api_versions, create_acls, delete_acls,
    describe_acls, describe_client_quotas, describe_quorum, describe_topic_partitions,
    describe_user_scram_credentials, elect_leaders, list_config_resources,
    list_partition_reassignments, unregister_broker, update_features,
};

fn start(data: &Path) -> Gateway {
    Gateway::start(data, &["--shards", "2"])
}

/// The answer to a request in its newest version.
macro_rules! ask {
    ($client:expr, $api:ident, $request:expr) => {{
        let version = *$api::VERSIONS.end();
        let answer = $client.call::<$api::Request, $api::Response>($api::KEY, version, &$request);
        answer.expect("an answer")
    }};
}

#[test]
fn topics_are_described_page_by_page() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("b", 3);
    client.create_topic("a", 2);
    let mut cursor = None;
    let mut told = Vec::new();
    loop {
        let request = describe_topic_partitions::Request {
            response_partition_limit: 2,
            cursor,
            ..Default::default()
        };
        let page = ask!(client, describe_topic_partitions, request);
        for topic in page.topics {
            let name = topic.name.expect("a name").to_string();
            for partition in topic.partitions {
                assert_eq!((partition.leader_id, partition.leader_epoch), (1, 0));
                assert_eq!(partition.replica_nodes, [1]);
                told.push((name.clone(), partition.partition_index));
            }
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let of = |name: &'static str, partitions| (0..partitions).map(move |p| (name.to_owned(), p));
    let expected: Vec<_> = of("a", 2).chain(of("b", 3)).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_request_for_more_partitions_than_there_are_ends_its_connection() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    let topic = elect_leaders::TopicPartitions {
        topic: "x".repeat(30_000).into(),
        partitions: vec![0; 10_001],
    };
    let request = elect_leaders::Request {
        topic_partitions: Some(vec![topic]),
        ..Default::default()
    };
    let sent = client.send(elect_leaders::KEY, 2, &request);
    let id = sent.expect("the gateway takes it");
    let answer = client.receive::<elect_leaders::Response>(elect_leaders::KEY, 2, id);
    answer.expect_err("no answer");
    assert_eq!(gateway.connect().create_topic("t", 1).0.len(), 16);
}

#[test]
fn there_is_nothing_to_elect_and_nothing_to_reassign() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let topic = elect_leaders::TopicPartitions {
        topic: "t".into(),
        partitions: vec![0],
    };
    let request = elect_leaders::Request {
        topic_partitions: Some(vec![topic]),
        ..Default::default()
    };
    let response = ask!(client, elect_leaders, request);
    let result = &response.replica_election_results[0].partition_result[0];
    assert_eq!(result.error_code, ErrorCode::ELECTION_NOT_NEEDED);

    let mut reassign = |replicas: Option<&[i32]>| {
        let partition = alter_partition_reassignments::ReassignablePartition {
            partition_index: 0,
            replicas: replicas.map(<[i32]>::to_vec),
        };
        let request = alter_partition_reassignments::Request {
            topics: vec![alter_partition_reassignments::ReassignableTopic {
                name: "t".into(),
                partitions: vec![partition],
            }],
            ..Default::default()
        };
        let response = ask!(client, alter_partition_reassignments, request);
        response.responses[0].partitions[0].error_code
    };
    assert_eq!(reassign(Some(&[1])), ErrorCode::NONE);
    let wrong = reassign(Some(&[9]));
    assert_eq!(wrong, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(reassign(None), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
    let request = list_partition_reassignments::Request::default();
    let under_way = ask!(client, list_partition_reassignments, request);
    assert_eq!(under_way, list_partition_reassignments::Response::default());
}

#[test]
fn the_cluster_is_a_quorum_of_one_whose_features_stay() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let mut log_end = || {
        let topic = describe_quorum::TopicRequest {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![describe_quorum::PartitionRequest::default()],
        };
        let request = describe_quorum::Request {
            topics: vec![topic],
        };
        let response = ask!(client, describe_quorum, request);
        let port = response.nodes[0].listeners[0].port;
        assert_eq!(port, gateway.address.port());
        let partition = &response.topics[0].partitions[0];
        let [voter] = &partition.current_voters[..] else {
            panic!("one voter: {partition:?}")
        };
        assert_eq!((partition.leader_id, voter.replica_id), (1, 1));
        assert_eq!(partition.high_watermark, voter.log_end_offset);
        voter.log_end_offset
    };
    let before = log_end();
    gateway.connect().create_topic("u", 1);
    assert!(log_end() > before);

    let mut client = gateway.connect();
    let feature = update_features::FeatureUpdateKey {
        feature: "metadata.version".into(),
        max_version_level: 30,
        ..Default::default()
    };
    let request = update_features::Request {
        feature_updates: vec![feature],
        ..Default::default()
    };
    let response = ask!(client, update_features, request);
    assert_eq!(response.error_code, ErrorCode::INVALID_UPDATE_VERSION);
    let request = unregister_broker::Request { broker_id: 9 };
    let response = ask!(client, unregister_broker, request);
    assert_eq!(response.error_code, ErrorCode::BROKER_ID_NOT_REGISTERED);
    let request = list_config_resources::Request::default();
    let response = ask!(client, list_config_resources, request);
    let listed = response.config_resources.iter();
    let listed = listed.map(|r| (r.resource_type, &*r.resource_name));
    assert!(listed.eq([(8, "1"), (4, "1"), (2, "t"), (2, "u")]));
}

#[test]
fn there_are_no_acls_no_quotas_and_no_credentials() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    let disabled = ErrorCode::SECURITY_DISABLED;
    let response = ask!(client, describe_acls, describe_acls::Request::default());
    assert_eq!(response.error_code, disabled);
    let request = create_acls::Request {
        creations: vec![create_acls::AclCreation::default(); 2],
    };
    let response = ask!(client, create_acls, request);
    let codes = response.results.iter().map(|r| r.error_code);
    assert!(codes.eq([disabled; 2]));
    let request = delete_acls::Request {
        filters: vec![delete_acls::DeleteAclsFilter::default()],
    };
    let response = ask!(client, delete_acls, request);
    assert_eq!(response.filter_results[0].error_code, disabled);
    let request = describe_client_quotas::Request::default();
    let response = ask!(client, describe_client_quotas, request);
    assert_eq!(response.entries, Some(vec![]));
    let request = describe_user_scram_credentials::Request::default();
    let response = ask!(client, describe_user_scram_credentials, request);
    assert!(response.error_code.is_ok() && response.results.is_empty());
}

#[test]
fn groups_of_the_consumer_protocol_are_the_one_feature() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    let request = api_versions::Request {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let response = ask!(client, api_versions, request);
    let [supported] = &response.supported_features[..] else {
        panic!("one feature: {:?}", response.supported_features)
    };
    let [finalized] = &response.finalized_features[..] else {
        panic!("one feature: {:?}", response.finalized_features)
    };
    assert_eq!(&*supported.name, "group.version");
    // Clients of before version 4 take a feature from 0 on for an error.
    assert_eq!((supported.min_version, supported.max_version), (1, 1));
    assert_eq!(&*finalized.name, "group.version");
    assert_eq!(
        (finalized.min_version_level, finalized.max_version_level),
        (1, 1)
    );
}
