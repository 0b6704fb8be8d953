use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// ConsumerGroupHeartbeat (68): joins, keeps alive, leaves and reassigns in one call (KIP-848).
    /// v1: subscription by regular expression; members make up their id (KIP-1082).
    api 68, versions 0..=1, flexible 0..;

    request {
        group_id: StrBytes,
        member_id: StrBytes,
        /// 0: join; -1: leave; -2: a static member leaves for a while.
        member_epoch: i32,
        instance_id: Option<StrBytes>,
        rack_id: Option<StrBytes>,
        /// -1 when it did not change.
        rebalance_timeout_ms: i32 = -1,
        /// Null when they did not change.
        subscribed_topic_names: Option<Vec<StrBytes>>,
        subscribed_topic_regex: Option<StrBytes> [1..],
        server_assignor: Option<StrBytes>,
        /// What the member owns; null when it did not change.
        topic_partitions: Option<Vec<TopicPartitions>>,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        member_id: Option<StrBytes>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        /// Null when it did not change.
        assignment: Option<Assignment>,
    }

    struct TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    struct Assignment {
        topic_partitions: Vec<TopicPartitions>,
    }
}
