use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// ConsumerGroupDescribe (69): state and members of groups of the KIP-848 protocol.
    /// v1: type of a member (KIP-1099).
    api 69, versions 0..=1, flexible 0..;

    request {
        group_ids: Vec<StrBytes>,
        include_authorized_operations: bool,
    }

    response {
        throttle_time_ms: i32,
        groups: Vec<DescribedGroup>,
    }

    struct DescribedGroup {
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        group_id: StrBytes,
        group_state: StrBytes,
        group_epoch: i32,
        assignment_epoch: i32,
        assignor_name: StrBytes,
        members: Vec<Member>,
        /// A bit field (KIP-430); `i32::MIN` when it was not asked for.
        authorized_operations: i32 = i32::MIN,
    }

    struct Member {
        member_id: StrBytes,
        instance_id: Option<StrBytes>,
        rack_id: Option<StrBytes>,
        member_epoch: i32,
        client_id: StrBytes,
        client_host: StrBytes,
        subscribed_topic_names: Vec<StrBytes>,
        subscribed_topic_regex: Option<StrBytes>,
        assignment: Assignment,
        target_assignment: Assignment,
        /// -1: unknown; 0: classic; 1: consumer.
        member_type: i8 [1..] = -1,
    }

    struct Assignment {
        topic_partitions: Vec<TopicPartitions>,
    }

    struct TopicPartitions {
        topic_id: Uuid,
        topic_name: StrBytes,
        partitions: Vec<i32>,
    }
}
