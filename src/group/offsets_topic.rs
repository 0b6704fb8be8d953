//! `__consumer_offsets` itself, which the first who needs it makes.

use super::OFFSETS_TOPIC;
use crate::catalog::keeper::{Change, ChangeError, Changed};
use crate::catalog::topic_config::TopicConfig;
use crate::catalog::{Topic, Values};
use crate::gateway::Gateway;

/// Kafka's: offsets.topic.segment.bytes.
const SEGMENT_BYTES: &str = "104857600";

/// False if the topic is not there and cannot be made now.
pub async fn make(gateway: &Gateway) -> bool {
    if gateway.catalog().by_name(OFFSETS_TOPIC).is_some() {
        return true;
    }
    let Some(topic) = topic(gateway) else {
        tracing::error!(
            "cannot create {OFFSETS_TOPIC}: the system has no random numbers for its id"
        );
        return false;
    };
    let changed = gateway.change_catalog(Change::CreateTopics(vec![topic]));
    match changed.await {
        Ok(Changed::Topics(created)) => created
            .first()
            // Somebody else may have been faster.
            .is_some_and(|created| matches!(created, Ok(()) | Err(ChangeError::Exists))),
        _ => false,
    }
}

fn topic(gateway: &Gateway) -> Option<Topic> {
    let defaults = gateway.catalog().broker().defaults();
    let partitions = gateway.config().offsets_topic_num_partitions;
    let mut topic = Topic::new(&OFFSETS_TOPIC.into(), partitions, defaults).ok()?;
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", SEGMENT_BYTES),
    ];
    let configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    topic.configs = Values::from(configs);
    topic.config = TopicConfig::of(&topic.name, &topic.configs, defaults);
    Some(topic)
}
