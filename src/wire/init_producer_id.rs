use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// InitProducerId (22): gives a producer its id and epoch (KIP-98).
    /// v2: flexible (KIP-482). v3: a producer may go on with its id (KIP-360). v4: PRODUCER_FENCED
    /// (KIP-588). v5: TRANSACTION_ABORTABLE (KIP-890). v6: two-phase commit (KIP-939).
    api 22, versions 0..=6, flexible 2..;

    request {
        transactional_id: Option<StrBytes>,
        transaction_timeout_ms: i32,
        /// KIP-360: the id to go on with, or -1 for a new one.
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
        enable_2_pc: bool [6..],
        keep_prepared_txn: bool [6..],
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        producer_id: i64 = -1,
        producer_epoch: i16,
        ongoing_txn_producer_id: i64 [6..] = -1,
        ongoing_txn_producer_epoch: i16 [6..] = -1,
    }
}
