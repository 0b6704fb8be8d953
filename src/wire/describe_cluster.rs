use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DescribeCluster (60): the cluster's id, brokers and controller (KIP-700).
    /// v1: brokers or controllers (KIP-919). v2: fenced brokers (KIP-1073).
    api 60, versions 0..=2, flexible 0..;

    request {
        include_cluster_authorized_operations: bool,
        /// 1: brokers; 2: controllers (KIP-919).
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        /// 1: brokers; 2: controllers (KIP-919).
        endpoint_type: i8 [1..] = 1,
        cluster_id: StrBytes,
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker>,
        /// A bit field (KIP-430); `i32::MIN` when it was not asked for.
        cluster_authorized_operations: i32 = i32::MIN,
    }

    struct DescribeClusterBroker {
        broker_id: i32,
        host: StrBytes,
        port: i32,
        rack: Option<StrBytes>,
        is_fenced: bool [2..],
    }
}
