//! DescribeQuorum (55): who votes in KRaft, and how far each is. KIP-595, KIP-836 (times), KIP-853
//! (endpoints).
//!
//! There is no quorum: one process keeps the catalog. It is told as a quorum of one, whose log is the
//! catalog's and is always caught up.

use super::error::NOT_HERE;
use super::{Api, Call, Handled, limits};
use crate::catalog::name::CLUSTER_METADATA;
use crate::gateway::{Facts, Gateway};
use crate::partition::owner::now_ms;
use crate::wire::ErrorCode;
use crate::wire::describe_quorum::{
    KEY, Listener, Node, PartitionData, ReplicaState, Request, Response, TopicData, TopicRequest,
};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeQuorum",
    versions: 0..=2,
    handle,
};

/// The one leader was elected once.
const LEADER_EPOCH: i32 = 1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let gateway: &Gateway = &call.gateway;
    let catalog = gateway.catalog();
    let counts = request.topics.iter().map(|topic| topic.partitions.len());
    if let Some(refusal) = limits::too_many_partitions(&API, counts, &catalog) {
        return Ok(refusal);
    }
    call.answer(&match asks_for_metadata(&request) {
        true => describe(gateway.facts(), catalog.changes(), now_ms()),
        false => refuse(&request),
    })
}

/// Only one partition can be asked for, and alone.
fn asks_for_metadata(request: &Request) -> bool {
    let [topic] = &request.topics[..] else {
        return false;
    };
    let is_first = matches!(&topic.partitions[..], [p] if p.partition_index == 0);
    &*topic.topic_name == CLUSTER_METADATA && is_first
}

fn describe(facts: &Facts, log_end_offset: i64, now_ms: i64) -> Response {
    let leader_id = facts.controller_id();
    let voter = ReplicaState {
        replica_id: leader_id,
        log_end_offset,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..ReplicaState::default()
    };
    let partition = PartitionData {
        error_message: Some("".into()),
        leader_id,
        leader_epoch: LEADER_EPOCH,
        high_watermark: log_end_offset,
        current_voters: vec![voter],
        ..PartitionData::default()
    };
    let controller = facts.brokers.iter().filter(|broker| broker.id == leader_id);
    let node = controller.map(|broker| Node {
        node_id: broker.id,
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: broker.address.host.clone().into(),
            port: broker.address.port,
        }],
    });
    Response {
        error_message: Some("".into()),
        topics: vec![TopicData {
            topic_name: CLUSTER_METADATA.into(),
            partitions: vec![partition],
        }],
        nodes: node.collect(),
        ..Response::default()
    }
}

fn refuse(request: &Request) -> Response {
    let topic = |topic: &TopicRequest| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionData {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                error_message: Some(NOT_HERE.into()),
                ..PartitionData::default()
            })
            .collect(),
    };
    Response {
        error_message: Some("".into()),
        topics: request.topics.iter().map(topic).collect(),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::describe_quorum::PartitionRequest;

    fn request(topics: &[(&'static str, &[i32])]) -> Request {
        let topic = |(name, partitions): &(&'static str, &[i32])| TopicRequest {
            topic_name: (*name).into(),
            partitions: partitions
                .iter()
                .map(|index| PartitionRequest {
                    partition_index: *index,
                })
                .collect(),
        };
        Request {
            topics: topics.iter().map(topic).collect(),
        }
    }

    #[test]
    fn only_the_metadata_log_is_told_and_only_alone() {
        assert!(asks_for_metadata(&request(&[(CLUSTER_METADATA, &[0])])));
        for other in [
            &[][..],
            &[("t", &[0][..])],
            &[(CLUSTER_METADATA, &[1][..])],
            &[(CLUSTER_METADATA, &[0, 0][..])],
            &[(CLUSTER_METADATA, &[0][..]), ("t", &[0])],
        ] {
            let other = request(other);
            assert!(!asks_for_metadata(&other));
            let told = refuse(&other);
            assert_eq!(
                (told.error_code.0, told.topics.len()),
                (0, other.topics.len())
            );
            let partitions = told.topics.iter().flat_map(|topic| &topic.partitions);
            let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            assert!(partitions.map(|p| p.error_code).all(|code| code == unknown));
        }
    }
}
