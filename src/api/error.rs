//! What goes wrong below, as Kafka's error codes: the one place that maps them.

use crate::catalog::alter::AlterError;
use crate::catalog::group_config::GroupConfigError;
use crate::catalog::keeper::{ChangeError, NotStored};
use crate::fetch_session::SessionError;
use crate::group::AppendError;
use crate::partition::messages::PartitionError;
use crate::partition::producers::SequenceError;
use crate::record::ErrorKind;
use crate::wire::ErrorCode;

/// What Kafka says of a request that asks for something that does not exist.
pub(super) const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or \
     the message was sent to an incompatible broker. See the broker logs for more details.";

/// What Kafka says of a partition that it does not have.
pub(super) const NOT_HERE: &str = "This server does not host this topic-partition.";

/// What Kafka says of ACLs when nothing would go by them.
pub(super) const NO_AUTHORIZER: &str = "No Authorizer is configured.";

impl From<PartitionError> for ErrorCode {
    fn from(error: PartitionError) -> Self {
        match error {
            PartitionError::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            PartitionError::Storage => ErrorCode::KAFKA_STORAGE_ERROR,
            PartitionError::Corrupt => ErrorCode::CORRUPT_MESSAGE,
            PartitionError::OutOfRange => ErrorCode::OFFSET_OUT_OF_RANGE,
            PartitionError::FencedLeaderEpoch => ErrorCode::FENCED_LEADER_EPOCH,
            PartitionError::UnknownLeaderEpoch => ErrorCode::UNKNOWN_LEADER_EPOCH,
            PartitionError::NotReplica | PartitionError::NotOwner | PartitionError::NoBroker => {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            }
            PartitionError::ReadOnly => ErrorCode::POLICY_VIOLATION,
            PartitionError::NotKnown => ErrorCode::OFFSET_NOT_AVAILABLE,
            PartitionError::Sequence(SequenceError::StaleEpoch { .. }) => {
                ErrorCode::INVALID_PRODUCER_EPOCH
            }
            PartitionError::Sequence(SequenceError::OutOfOrder { .. }) => {
                ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            }
        }
    }
}

impl From<SessionError> for ErrorCode {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Unknown => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            SessionError::WrongEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            SessionError::OtherTopicNaming => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        }
    }
}

impl From<AppendError> for ErrorCode {
    fn from(error: AppendError) -> Self {
        match error {
            // Clients look for the coordinator and try again.
            AppendError::NotStored => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            AppendError::TooLarge => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}

impl From<ErrorKind> for ErrorCode {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::CorruptMessage => ErrorCode::CORRUPT_MESSAGE,
            ErrorKind::MessageTooLarge => ErrorCode::MESSAGE_TOO_LARGE,
            ErrorKind::InvalidTimestamp => ErrorCode::INVALID_TIMESTAMP,
            ErrorKind::UnsupportedCompressionType => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            ErrorKind::InvalidRecord => ErrorCode::INVALID_RECORD,
        }
    }
}

impl From<NotStored> for ErrorCode {
    fn from(why: NotStored) -> Self {
        match why {
            NotStored::Failed => ErrorCode::KAFKA_STORAGE_ERROR,
            NotStored::NotOwner => ErrorCode::NOT_CONTROLLER,
        }
    }
}

impl From<&ChangeError> for ErrorCode {
    fn from(error: &ChangeError) -> Self {
        match error {
            ChangeError::Exists => ErrorCode::TOPIC_ALREADY_EXISTS,
            ChangeError::Collides(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            ChangeError::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ChangeError::NoIncrease(_) => ErrorCode::INVALID_PARTITIONS,
            ChangeError::Adopted | ChangeError::TooManyPartitions(_) => ErrorCode::POLICY_VIOLATION,
            ChangeError::NotStored(why) => (*why).into(),
        }
    }
}

impl From<&AlterError> for ErrorCode {
    fn from(error: &AlterError) -> Self {
        match error {
            AlterError::TopicName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            AlterError::UnknownTopic(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            AlterError::NotAList { .. }
            | AlterError::BrokerNotAList { .. }
            | AlterError::UnknownBrokerConfig(_)
            | AlterError::Topic(_) => ErrorCode::INVALID_CONFIG,
            AlterError::DefaultTopic | AlterError::NotDynamic(_) | AlterError::Broker(_) => {
                ErrorCode::INVALID_REQUEST
            }
            AlterError::Group(GroupConfigError::NoName | GroupConfigError::LongName) => {
                ErrorCode::INVALID_REQUEST
            }
            AlterError::Group(GroupConfigError::TooMany) => ErrorCode::POLICY_VIOLATION,
            AlterError::Group(_) => ErrorCode::INVALID_CONFIG,
            AlterError::NotStored(why) => (*why).into(),
        }
    }
}
