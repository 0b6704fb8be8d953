//! Bytes that Apache Kafka 4.3.1 wrote, for versions that the `kafka-protocol` crate does not have.

use std::fmt::Debug;

use super::super::{
    ErrorCode, Message, Uuid, init_producer_id, list_offsets, offset_commit, offset_fetch,
};
use super::{decode_all, encode_all, hex};

const TOPIC_ID: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

fn is_written_as<M: Message + Debug + PartialEq>(message: &M, version: i16, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(encode_all(message, version), bytes);
    assert_eq!(decode_all::<M>(bytes, version).as_ref(), Ok(message));
}

#[test]
fn list_offsets_v11() {
    use list_offsets::*;
    let request = Request {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: 1,
                current_leader_epoch: 2,
                timestamp: -6,
            }],
        }],
        timeout_ms: 30_000,
    };
    is_written_as(
        &request,
        11,
        "ffffffff01020274020000000100000002fffffffffffffffa00000000753000",
    );
    let response = Response {
        throttle_time_ms: 3,
        topics: vec![ListOffsetsTopicResponse {
            name: "t".into(),
            partitions: vec![ListOffsetsPartitionResponse {
                partition_index: 1,
                error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
                timestamp: 4,
                offset: 5,
                leader_epoch: 7,
            }],
        }],
    };
    is_written_as(
        &response,
        11,
        "00000003020274020000000100060000000000000004000000000000000500000007000000",
    );
}

#[test]
fn offset_commit_v10() {
    use offset_commit::*;
    let request = Request {
        group_id: "g".into(),
        generation_id_or_member_epoch: 2,
        member_id: "m".into(),
        group_instance_id: Some("i".into()),
        topics: vec![OffsetCommitRequestTopic {
            topic_id: TOPIC_ID,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 1,
                committed_offset: 99,
                committed_leader_epoch: 4,
                committed_metadata: None,
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    is_written_as(
        &request,
        10,
        "026700000002026d0269020102030405060708090a0b0c0d0e0f10\
         020000000100000000000000630000000400000000",
    );
    let response = Response {
        throttle_time_ms: 3,
        topics: vec![OffsetCommitResponseTopic {
            topic_id: TOPIC_ID,
            partitions: vec![OffsetCommitResponsePartition {
                partition_index: 1,
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
            }],
            ..Default::default()
        }],
    };
    is_written_as(
        &response,
        10,
        "00000003020102030405060708090a0b0c0d0e0f1002000000010064000000",
    );
}

#[test]
fn offset_fetch_v10() {
    use offset_fetch::*;
    let request = Request {
        groups: vec![
            OffsetFetchRequestGroup {
                group_id: "g".into(),
                member_id: Some("m".into()),
                member_epoch: 2,
                topics: Some(vec![OffsetFetchRequestTopics {
                    topic_id: TOPIC_ID,
                    partition_indexes: vec![1, 2],
                    ..Default::default()
                }]),
            },
            OffsetFetchRequestGroup {
                group_id: "h".into(),
                ..Default::default()
            },
        ],
        require_stable: true,
        ..Default::default()
    };
    is_written_as(
        &request,
        10,
        "030267026d00000002020102030405060708090a0b0c0d0e0f10\
         0300000001000000020000026800ffffffff00000100",
    );
    let response = Response {
        throttle_time_ms: 3,
        groups: vec![OffsetFetchResponseGroup {
            group_id: "g".into(),
            topics: vec![OffsetFetchResponseTopics {
                topic_id: TOPIC_ID,
                partitions: vec![OffsetFetchResponsePartitions {
                    partition_index: 1,
                    committed_offset: 99,
                    committed_leader_epoch: 4,
                    metadata: Some("x".into()),
                    error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                }],
                ..Default::default()
            }],
            error_code: ErrorCode::NOT_COORDINATOR,
        }],
        ..Default::default()
    };
    is_written_as(
        &response,
        10,
        "00000003020267020102030405060708090a0b0c0d0e0f10\
         020000000100000000000000630000000402780003000000100000",
    );
}

#[test]
fn init_producer_id_v6() {
    use init_producer_id::*;
    let request = Request {
        transactional_id: Some("x".into()),
        transaction_timeout_ms: 60_000,
        producer_id: 7,
        producer_epoch: 2,
        enable_2_pc: true,
        keep_prepared_txn: false,
    };
    is_written_as(&request, 6, "02780000ea6000000000000000070002010000");
    let response = Response {
        throttle_time_ms: 3,
        error_code: ErrorCode::PRODUCER_FENCED,
        producer_id: 7,
        producer_epoch: 2,
        ongoing_txn_producer_id: 8,
        ongoing_txn_producer_epoch: 1,
    };
    is_written_as(
        &response,
        6,
        "00000003005a000000000000000700020000000000000008000100",
    );
}
