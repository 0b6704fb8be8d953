//! What is asked of SeaweedMQ's brokers: the topics (`weed/pb/mq_broker.proto`). A broker that does
//! not lead passes it on.

use std::rc::Rc;
use std::time::Duration;

use prost::Message;

use super::call::{Kind, ask, method, unary};
use super::client::Client;
use super::peers::Peer;
use super::proto::messaging_pb::*;
use super::proto::schema_pb::Topic;
use super::thread::Bridge;
use super::{BridgeError, Role, TopicConfiguration, TopicSpec};

const CONFIGURE_TOPIC: &str = "/messaging_pb.SeaweedMessaging/ConfigureTopic";
const LIST_TOPICS: &str = "/messaging_pb.SeaweedMessaging/ListTopics";
const LOOKUP_TOPIC_BROKERS: &str = "/messaging_pb.SeaweedMessaging/LookupTopicBrokers";
const GET_TOPIC_CONFIGURATION: &str = "/messaging_pb.SeaweedMessaging/GetTopicConfiguration";
/// Slots of a topic's ring: there are no more partitions than these.
const RING_SIZE: i32 = 2520;

impl Bridge {
    /// Makes a topic, or changes it. Another number of partitions makes the old data unreachable.
    ///
    /// # Errors
    /// [`BridgeError::Refused`] for what would harm a broker: a name that is no part of a path, or
    /// other than 1 to 2520 partitions.
    pub async fn configure_topic(
        &self,
        namespace: &str,
        name: &str,
        spec: TopicSpec,
    ) -> Result<TopicConfiguration, BridgeError> {
        if !(1..=RING_SIZE).contains(&spec.partition_count) {
            return Err(refused(format!("{} partitions", spec.partition_count)));
        }
        let request = ConfigureTopicRequest {
            topic: Some(topic(namespace, name)?),
            partition_count: spec.partition_count,
            retention: spec.retention.map(retention),
            message_record_type: spec.record_type,
            key_columns: spec.key_columns,
            schema_format: spec.schema_format,
        };
        let answer = self
            .ask_broker(Kind::Change, CONFIGURE_TOPIC, request)
            .await;
        let answer: ConfigureTopicResponse = answer?;
        Ok(TopicConfiguration {
            partitions: in_order(answer.broker_partition_assignments),
            retention: answer.retention.and_then(kept),
            record_type: answer.message_record_type,
            key_columns: answer.key_columns,
        })
    }

    /// Namespace and name of all topics. Brokers tell of no more than 1000 in a namespace, and of
    /// deleted ones for a while.
    pub async fn topics(&self) -> Result<Vec<(String, String)>, BridgeError> {
        let answer = self
            .ask_broker(Kind::Read, LIST_TOPICS, ListTopicsRequest {})
            .await;
        let answer: ListTopicsResponse = answer?;
        Ok(answer
            .topics
            .into_iter()
            .map(|t| (t.namespace, t.name))
            .collect())
    }

    /// What a topic is made of, if there is one.
    pub async fn topic_configuration(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<TopicConfiguration>, BridgeError> {
        let request = GetTopicConfigurationRequest {
            topic: Some(topic(namespace, name)?),
        };
        let answer = self
            .ask_broker(Kind::Read, GET_TOPIC_CONFIGURATION, request)
            .await;
        let answer: Option<GetTopicConfigurationResponse> = found(answer)?;
        Ok(answer.map(|answer| TopicConfiguration {
            partitions: in_order(answer.broker_partition_assignments),
            retention: answer.retention.and_then(kept),
            record_type: answer.message_record_type,
            key_columns: answer.key_columns,
        }))
    }

    /// A topic's partitions and the brokers that lead them, if there is such a topic.
    pub async fn topic_brokers(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Vec<BrokerPartitionAssignment>>, BridgeError> {
        let request = LookupTopicBrokersRequest {
            topic: Some(topic(namespace, name)?),
        };
        let answer = self
            .ask_broker(Kind::Read, LOOKUP_TOPIC_BROKERS, request)
            .await;
        let answer: Option<LookupTopicBrokersResponse> = found(answer)?;
        Ok(answer.map(|answer| in_order(answer.broker_partition_assignments)))
    }

    async fn ask_broker<Q, A>(
        &self,
        kind: Kind,
        rpc: &'static str,
        request: Q,
    ) -> Result<A, BridgeError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.run(
            method(rpc),
            request.encoded_len(),
            async move |client: Rc<Client>, time| {
                let once = async |peer: &Peer| {
                    unary(peer.channel(), Role::Broker, rpc, request.clone()).await
                };
                ask(&client.brokers, kind, time, once).await
            },
        )
        .await
    }
}

fn refused(reason: String) -> BridgeError {
    BridgeError::Refused {
        role: Role::Broker,
        reason,
    }
}

/// Brokers make paths of it and check nothing.
pub(super) fn topic(namespace: &str, name: &str) -> Result<Topic, BridgeError> {
    let good = |part: &str| {
        (1..=255).contains(&part.len())
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
    };
    match good(namespace) && good(name) {
        true => Ok(Topic {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        false => Err(refused(format!("topic name {namespace:.50?}/{name:.50?}"))),
    }
}

fn retention(time: Duration) -> TopicRetention {
    TopicRetention {
        retention_seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        enabled: true,
    }
}

fn kept(retention: TopicRetention) -> Option<Duration> {
    let seconds = u64::try_from(retention.retention_seconds).ok()?;
    retention.enabled.then(|| Duration::from_secs(seconds))
}

fn found<T>(answer: Result<T, BridgeError>) -> Result<Option<T>, BridgeError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(BridgeError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Their ranges of the ring are in the order of the partitions.
fn in_order(mut partitions: Vec<BrokerPartitionAssignment>) -> Vec<BrokerPartitionAssignment> {
    let start = |a: &BrokerPartitionAssignment| a.partition.as_ref().map_or(0, |p| p.range_start);
    partitions.sort_by_key(start);
    partitions
}
