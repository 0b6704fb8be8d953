//! The error codes of the protocol, as of Kafka 4.3.

use std::fmt;

/// What a response says about success. Codes that have no name here are kept as they are.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ErrorCode(pub i16);

macro_rules! error_codes {
    ($($code:literal $name:ident $message:literal,)*) => {
        impl ErrorCode {
            $(
                #[doc = $message]
                pub const $name: Self = Self($code);
            )*

            /// The name in the protocol's spelling.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN_ERROR_CODE",
                }
            }

            /// A sentence for those who read a client's log.
            pub fn message(self) -> &'static str {
                match self.0 {
                    $($code => $message,)*
                    _ => "The error code is unknown.",
                }
            }

            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR "The server met an error that it did not expect.",
    0 NONE "No error.",
    1 OFFSET_OUT_OF_RANGE "The offset is not within the range that the server has.",
    2 CORRUPT_MESSAGE "The message fails its checksum, has a wrong size, lacks the key that a compacted topic needs, or is broken otherwise.",
    3 UNKNOWN_TOPIC_OR_PARTITION "The server does not host this topic or partition.",
    4 INVALID_FETCH_SIZE "The fetch size is invalid.",
    5 LEADER_NOT_AVAILABLE "The partition has no leader: an election is going on.",
    6 NOT_LEADER_OR_FOLLOWER "The broker is not the partition's leader, or, where a replica would do, not a replica of it.",
    7 REQUEST_TIMED_OUT "The request took too long.",
    8 BROKER_NOT_AVAILABLE "The broker is not available.",
    9 REPLICA_NOT_AVAILABLE "The replica of the partition is not available.",
    10 MESSAGE_TOO_LARGE "The message is larger than the server accepts.",
    11 STALE_CONTROLLER_EPOCH "The controller has moved to another broker.",
    12 OFFSET_METADATA_TOO_LARGE "The metadata of the committed offset is too large.",
    13 NETWORK_EXCEPTION "The connection ended before the response came.",
    14 COORDINATOR_LOAD_IN_PROGRESS "The coordinator is still loading.",
    15 COORDINATOR_NOT_AVAILABLE "The coordinator is not available.",
    16 NOT_COORDINATOR "This broker is not the coordinator.",
    17 INVALID_TOPIC_EXCEPTION "The topic is invalid for this operation.",
    18 RECORD_LIST_TOO_LARGE "The batch is larger than a segment of the log may be.",
    19 NOT_ENOUGH_REPLICAS "Refused: there are fewer in-sync replicas than required.",
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND "Appended, but to fewer in-sync replicas than required.",
    21 INVALID_REQUIRED_ACKS "The value of required acks is invalid.",
    22 ILLEGAL_GENERATION "The generation is not the group's.",
    23 INCONSISTENT_GROUP_PROTOCOL "The member's protocols fit none of the other members', or it named no protocol type or no protocol.",
    24 INVALID_GROUP_ID "The group id is invalid.",
    25 UNKNOWN_MEMBER_ID "The coordinator does not know this member.",
    26 INVALID_SESSION_TIMEOUT "The session timeout is outside of what the broker allows (group.min.session.timeout.ms to group.max.session.timeout.ms).",
    27 REBALANCE_IN_PROGRESS "The group is rebalancing: the member has to join again.",
    28 INVALID_COMMIT_OFFSET_SIZE "The size of the offsets to commit is invalid.",
    29 TOPIC_AUTHORIZATION_FAILED "Not authorized for the topic.",
    30 GROUP_AUTHORIZATION_FAILED "Not authorized for the group.",
    31 CLUSTER_AUTHORIZATION_FAILED "Not authorized for the cluster.",
    32 INVALID_TIMESTAMP "The message's timestamp is outside of what the topic accepts.",
    33 UNSUPPORTED_SASL_MECHANISM "The broker does not support this SASL mechanism.",
    34 ILLEGAL_SASL_STATE "The request does not fit the state of the SASL exchange.",
    35 UNSUPPORTED_VERSION "This version of the API is not supported.",
    36 TOPIC_ALREADY_EXISTS "A topic of this name exists already.",
    37 INVALID_PARTITIONS "The number of partitions is below 1.",
    38 INVALID_REPLICATION_FACTOR "The replication factor is below 1 or above the number of brokers.",
    39 INVALID_REPLICA_ASSIGNMENT "The replica assignment is invalid.",
    40 INVALID_CONFIG "The configuration is invalid.",
    41 NOT_CONTROLLER "This broker is not the cluster's controller.",
    42 INVALID_REQUEST "The request is malformed, or meant for a broker of another version. The broker's log says more.",
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT "The broker's message format cannot do this.",
    44 POLICY_VIOLATION "The request violates a policy.",
    45 OUT_OF_ORDER_SEQUENCE_NUMBER "The sequence number does not follow the last one.",
    46 DUPLICATE_SEQUENCE_NUMBER "The sequence number was used before.",
    47 INVALID_PRODUCER_EPOCH "The producer's epoch is an old one.",
    48 INVALID_TXN_STATE "The transaction is in no state for this operation.",
    49 INVALID_PRODUCER_ID_MAPPING "The producer id does not belong to the transactional id.",
    50 INVALID_TRANSACTION_TIMEOUT "The transaction timeout is above what the broker allows (transaction.max.timeout.ms).",
    51 CONCURRENT_TRANSACTIONS "Another operation on the same transaction is going on.",
    52 TRANSACTION_COORDINATOR_FENCED "The transaction coordinator has been replaced by another.",
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED "Not authorized for the transactional id.",
    54 SECURITY_DISABLED "Security features are off.",
    55 OPERATION_NOT_ATTEMPTED "Not tried, because another operation of the same request failed.",
    56 KAFKA_STORAGE_ERROR "The log cannot be reached on disk.",
    57 LOG_DIR_NOT_FOUND "The broker has no such log directory.",
    58 SASL_AUTHENTICATION_FAILED "SASL authentication failed.",
    59 UNKNOWN_PRODUCER_ID "The broker keeps no state of this producer, perhaps because its last records were deleted.",
    60 REASSIGNMENT_IN_PROGRESS "The partition is being reassigned.",
    61 DELEGATION_TOKEN_AUTH_DISABLED "Delegation tokens are off.",
    62 DELEGATION_TOKEN_NOT_FOUND "There is no such delegation token.",
    63 DELEGATION_TOKEN_OWNER_MISMATCH "The principal neither owns the delegation token nor may renew it.",
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED "Delegation tokens cannot be asked for on this kind of connection.",
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED "Not authorized for the delegation token.",
    66 DELEGATION_TOKEN_EXPIRED "The delegation token has expired.",
    67 INVALID_PRINCIPAL_TYPE "The type of the principal is not supported.",
    68 NON_EMPTY_GROUP "The group has members.",
    69 GROUP_ID_NOT_FOUND "There is no such group.",
    70 FETCH_SESSION_ID_NOT_FOUND "There is no such fetch session.",
    71 INVALID_FETCH_SESSION_EPOCH "The epoch of the fetch session is invalid.",
    72 LISTENER_NOT_FOUND "The leader has no listener like the one that was asked.",
    73 TOPIC_DELETION_DISABLED "Deleting topics is off.",
    74 FENCED_LEADER_EPOCH "The leader epoch is older than the broker's.",
    75 UNKNOWN_LEADER_EPOCH "The leader epoch is newer than the broker's.",
    76 UNSUPPORTED_COMPRESSION_TYPE "The client cannot read the partition's compression.",
    77 STALE_BROKER_EPOCH "The broker's epoch has changed.",
    78 OFFSET_NOT_AVAILABLE "The high watermark of a new leader has not caught up yet, so offsets could go backwards.",
    79 MEMBER_ID_REQUIRED "The member has to join again with the member id that it got.",
    80 PREFERRED_LEADER_NOT_AVAILABLE "The preferred leader was not available.",
    81 GROUP_MAX_SIZE_REACHED "The group is full.",
    82 FENCED_INSTANCE_ID "Another member with the same group instance id has taken its place.",
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE "No replica that may become leader is available.",
    84 ELECTION_NOT_NEEDED "The partition needs no election.",
    85 NO_REASSIGNMENT_IN_PROGRESS "The partition is not being reassigned.",
    86 GROUP_SUBSCRIBED_TO_TOPIC "The group is subscribed to the topic, so its offsets cannot be deleted.",
    87 INVALID_RECORD "The broker's validation refuses the record.",
    88 UNSTABLE_OFFSET_COMMIT "There are offsets of open transactions.",
    89 THROTTLING_QUOTA_EXCEEDED "The quota is used up.",
    90 PRODUCER_FENCED "A newer producer has the same transactional id.",
    91 RESOURCE_NOT_FOUND "There is no such resource.",
    92 DUPLICATE_RESOURCE "The request names a resource twice.",
    93 UNACCEPTABLE_CREDENTIAL "The credential does not meet the requirements.",
    94 INCONSISTENT_VOTER_SET "The sender or the receiver is not a voter.",
    95 INVALID_UPDATE_VERSION "The update's version is invalid.",
    96 FEATURE_UPDATE_FAILED "The server could not update its features.",
    97 PRINCIPAL_DESERIALIZATION_FAILURE "The principal of a forwarded request cannot be read: the brokers' security settings do not fit together.",
    98 SNAPSHOT_NOT_FOUND "There is no such snapshot.",
    99 POSITION_OUT_OF_RANGE "The position is not inside of the snapshot.",
    100 UNKNOWN_TOPIC_ID "The server does not host a topic with this id.",
    101 DUPLICATE_BROKER_REGISTRATION "The broker id is in use.",
    102 BROKER_ID_NOT_REGISTERED "The broker id is not registered.",
    103 INCONSISTENT_TOPIC_ID "The topic id is not that of the log.",
    104 INCONSISTENT_CLUSTER_ID "The cluster id is not the server's.",
    105 TRANSACTIONAL_ID_NOT_FOUND "There is no such transactional id.",
    106 FETCH_SESSION_TOPIC_ID_ERROR "The fetch session uses topic ids in some requests only.",
    107 INELIGIBLE_REPLICA "The new in-sync set has a replica that may not be in it.",
    108 NEW_LEADER_ELECTED "The partition was altered, and has another leader now.",
    109 OFFSET_MOVED_TO_TIERED_STORAGE "The offset is in tiered storage.",
    110 FENCED_MEMBER_EPOCH "The member's epoch is fenced: it has to give up its partitions and join again.",
    111 UNRELEASED_INSTANCE_ID "Another member still uses the instance id; it has to leave first.",
    112 UNSUPPORTED_ASSIGNOR "The group does not support this assignor or its version.",
    113 STALE_MEMBER_EPOCH "The member's epoch is stale: it gets the new one by a ConsumerGroupHeartbeat.",
    114 MISMATCHED_ENDPOINT_TYPE "The request went to an endpoint of the wrong type.",
    115 UNSUPPORTED_ENDPOINT_TYPE "This type of endpoint is not supported yet.",
    116 UNKNOWN_CONTROLLER_ID "There is no such controller.",
    117 UNKNOWN_SUBSCRIPTION_ID "The telemetry subscription is invalid or outdated.",
    118 TELEMETRY_TOO_LARGE "The telemetry is larger than the broker accepts.",
    119 INVALID_REGISTRATION "The controller takes the broker's registration for invalid.",
    120 TRANSACTION_ABORTABLE "The transaction has to be aborted; its id can be used on.",
    121 INVALID_RECORD_STATE "The record is in no state to be acknowledged.",
    122 SHARE_SESSION_NOT_FOUND "There is no such share session.",
    123 INVALID_SHARE_SESSION_EPOCH "The epoch of the share session is invalid.",
    124 FENCED_STATE_EPOCH "The state epoch is not that of the share group.",
    125 INVALID_VOTER_KEY "The voter key is not the receiver's.",
    126 DUPLICATE_VOTER "The voter is in the set already.",
    127 VOTER_NOT_FOUND "The voter is not in the set.",
    128 INVALID_REGULAR_EXPRESSION "The regular expression is invalid.",
    129 REBOOTSTRAP_REQUIRED "The client's metadata is stale: it has to bootstrap again.",
    130 STREAMS_INVALID_TOPOLOGY "The topology is invalid.",
    131 STREAMS_INVALID_TOPOLOGY_EPOCH "The topology's epoch is invalid.",
    132 STREAMS_TOPOLOGY_FENCED "The topology's epoch is outdated.",
    133 SHARE_SESSION_LIMIT_REACHED "There are as many share sessions as allowed.",
}

impl ErrorCode {
    /// Whether there is no error.
    #[inline]
    pub fn is_ok(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;

    /// The name of a variant, as the protocol spells it.
    fn protocol_name(error: &ResponseError) -> String {
        let mut name = String::new();
        for c in format!("{error:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        name
    }

    #[test]
    fn codes_have_the_names_that_others_know_them_by() {
        for error in ErrorCode::ALL {
            match ResponseError::try_from_code(error.0) {
                None => assert!(error.is_ok()),
                Some(ResponseError::Unknown(code)) => assert!(code > 132, "{error:?}"),
                Some(known) => assert_eq!(protocol_name(&known), error.name()),
            }
        }
        assert_eq!(ErrorCode::ALL.len(), 135, "-1 to 133");
    }

    #[test]
    fn an_unknown_code_is_kept() {
        assert_eq!(format!("{:?}", ErrorCode(777)), "UNKNOWN_ERROR_CODE(777)");
        assert!(!ErrorCode(777).is_ok());
    }
}
