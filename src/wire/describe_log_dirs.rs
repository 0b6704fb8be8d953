use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DescribeLogDirs (35): log directories and what partitions take in them (KIP-113).
    /// v2: flexible (KIP-482). v3: an error of the whole. v4: size of the volume (KIP-827).
    /// v5: directories that get no more partitions (KIP-1066).
    api 35, versions 1..=5, flexible 2..;

    request {
        /// Null asks for all.
        topics: Option<Vec<DescribableLogDirTopic>>,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode [3..],
        results: Vec<DescribeLogDirsResult>,
    }

    struct DescribableLogDirTopic {
        topic: StrBytes,
        partitions: Vec<i32>,
    }

    struct DescribeLogDirsResult {
        error_code: ErrorCode,
        log_dir: StrBytes,
        topics: Vec<DescribeLogDirsTopic>,
        /// Of the volume; -1 when it is not known (KIP-827).
        total_bytes: i64 [4..] = -1,
        /// Of the volume; -1 when it is not known (KIP-827).
        usable_bytes: i64 [4..] = -1,
        is_cordoned: bool [5..],
    }

    struct DescribeLogDirsTopic {
        name: StrBytes,
        partitions: Vec<DescribeLogDirsPartition>,
    }

    struct DescribeLogDirsPartition {
        partition_index: i32,
        /// Bytes.
        partition_size: i64,
        /// Records that a copy which is being moved still lacks.
        offset_lag: i64,
        is_future_key: bool,
    }
}
