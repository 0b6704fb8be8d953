//! Metadata (3): the broker, topics and their partitions. KIP-204 (creating topics on the way),
//! KIP-320 (leader epochs), KIP-430 (authorized operations), KIP-516 (topic ids).
//!
//! There is one broker, which leads every partition, or one for each shard, which leads what the shard
//! owns. Leader epochs are the partitions' owners' to
//! know: each shard is asked once for all of its partitions.

use std::collections::HashSet;
use std::rc::Rc;

use shards::log_limited;

use super::{Api, Call, Handled, operations, owners};
use crate::catalog::keeper::{CHANGES_MAX, Change, changes_of};
use crate::catalog::{Topic, name, topic_config};
use crate::gateway::{Broker, Gateway};
use crate::store::PartitionId;
use crate::wire::metadata::{
    KEY, MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes, Uuid};

pub(super) const API: Api = Api {
    key: KEY,
    name: "Metadata",
    versions: 0..=13,
    handle,
};

const LEADER_EPOCH_VERSION_MIN: i16 = 7;
/// KIP-516: from here on topics may be asked for by id.
const TOPIC_ID_VERSION_MIN: i16 = 12;
/// KIP-1102: from here on clients may be told to begin again with their bootstrap servers.
const REBOOTSTRAP_VERSION_MIN: i16 = 13;

fn handle(mut call: Call) -> Handled {
    let mut request: Request = call.decode()?;
    match Asked::of(call.version(), request.topics.take()) {
        Ok(asked) => call.later(|call| answer(call, request, asked)),
        Err(refusal) => call.answer(&refusal),
    }
}

/// Which topics a client asks for. Each is named once.
enum Asked {
    All,
    Names(Vec<StrBytes>),
    Ids(Vec<Uuid>),
}

impl Asked {
    fn of(version: i16, topics: Option<Vec<MetadataRequestTopic>>) -> Result<Self, Response> {
        let Some(topics) = topics else {
            return Ok(Asked::All);
        };
        if version == 0 && topics.is_empty() {
            return Ok(Asked::All);
        }
        let by_id = |t: &MetadataRequestTopic| !t.topic_id.is_zero();
        let too_early = |t: &MetadataRequestTopic| t.name.is_none() || by_id(t);
        if version < TOPIC_ID_VERSION_MIN && topics.iter().any(too_early) {
            return Err(refuse(topics, ErrorCode::INVALID_REQUEST));
        }
        // One id is enough for names to be overlooked.
        if topics.iter().any(by_id) {
            let ids = topics.iter().filter(|t| by_id(t)).map(|t| t.topic_id);
            return Ok(Asked::Ids(distinct(ids)));
        }
        match topics
            .iter()
            .map(|t| t.name.clone())
            .collect::<Option<Vec<_>>>()
        {
            Some(names) => Ok(Asked::Names(distinct(names))),
            // Neither a name nor an id. Kafka does not expect it either.
            None => Err(refuse(topics, ErrorCode::UNKNOWN_SERVER_ERROR)),
        }
    }
}

fn distinct<T: Clone + Eq + std::hash::Hash>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    all.into_iter()
        .filter(|one| seen.insert(one.clone()))
        .collect()
}

fn refuse(topics: Vec<MetadataRequestTopic>, error_code: ErrorCode) -> Response {
    let topics = topics.into_iter().map(|topic| MetadataResponseTopic {
        error_code,
        name: Some(topic.name.unwrap_or_default()),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    });
    Response {
        topics: topics.collect(),
        error_code,
        ..Response::default()
    }
}

async fn answer(call: Rc<Call>, request: Request, asked: Asked) -> Response {
    let gateway = &call.gateway;
    if gateway.partitions().is_disowned() && call.version() >= REBOOTSTRAP_VERSION_MIN {
        // KIP-1102: another gateway has them, which this one does not know.
        return Response {
            error_code: ErrorCode::REBOOTSTRAP_REQUIRED,
            ..Response::default()
        };
    }
    if let Asked::Names(names) = &asked
        && request.allow_auto_topic_creation
        && gateway.config().auto_create_topics_enable
    {
        create_missing(gateway, names).await;
    }
    let mut topics = describe(gateway, &request, asked);
    if call.version() >= LEADER_EPOCH_VERSION_MIN {
        fill_leader_epochs(gateway, &mut topics).await;
    }
    let facts = gateway.facts();
    let broker = |broker: &Broker| MetadataResponseBroker {
        node_id: broker.id,
        host: broker.address.host.clone().into(),
        port: broker.address.port.into(),
        rack: None,
    };
    Response {
        brokers: facts.brokers.iter().map(broker).collect(),
        cluster_id: Some(facts.cluster_id.clone().into()),
        controller_id: facts.controller_id(),
        topics,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::NOT_ASKED,
        },
        ..Response::default()
    }
}

/// Creates topics that a client names and nobody has. Kafka answers first and creates then; this way
/// the client need not come again. What cannot be created is unknown in the answer, as with Kafka.
async fn create_missing(gateway: &Gateway, names: &[StrBytes]) {
    let catalog = gateway.catalog();
    let config = gateway.config();
    // A broker's own topics are made by it when it needs them, with as many partitions as it needs.
    let create = |name: &&StrBytes| {
        name::check(name).is_ok()
            && !name::is_internal(name)
            && ***name != *name::CLUSTER_METADATA
            && catalog.check_free(name).is_ok()
    };
    let make = |name| {
        let topic = Topic::new(name, config.num_partitions, catalog.broker().defaults());
        topic.map(|mut topic| {
            let configs = &mut topic.configs;
            topic_config::choose_path(config.seaweedmq_path, configs, &mut topic.config);
            topic
        })
    };
    let Ok(topics) = names
        .iter()
        .filter(create)
        .map(make)
        .collect::<Result<Vec<_>, _>>()
    else {
        log_limited!(
            error,
            "cannot create topics: the system has no random numbers for their ids"
        );
        return;
    };
    if topics.is_empty() || topics.iter().map(changes_of).sum::<usize>() > CHANGES_MAX {
        return;
    }
    // Whatever became of it is in the catalog.
    if let Err(error) = gateway.change_catalog(Change::CreateTopics(topics)).await {
        log_limited!(warn, %error, "cannot create topics that a client named; it is told that they are unknown: look for what the log says of the catalog");
    }
}

/// The topics asked for, but for leader epochs. Unknown ids stand before what is known and unknown
/// names behind it, as with Kafka.
fn describe(gateway: &Gateway, request: &Request, asked: Asked) -> Vec<MetadataResponseTopic> {
    let catalog = gateway.catalog();
    let operations = match request.include_topic_authorized_operations {
        true => operations::TOPIC,
        false => operations::NOT_ASKED,
    };
    let known = |topic: &Topic| MetadataResponseTopic {
        topic_authorized_operations: operations,
        ..known_topic(topic, gateway)
    };
    match asked {
        Asked::All => catalog.topics().map(|topic| known(topic)).collect(),
        Asked::Ids(ids) => {
            let (found, missing): (Vec<_>, Vec<_>) =
                ids.iter().partition(|id| catalog.by_id(id).is_some());
            let found = found
                .into_iter()
                .filter_map(|id| catalog.by_id(&id))
                .map(|topic| known(topic));
            missing.into_iter().map(unknown_id).chain(found).collect()
        }
        Asked::Names(names) => {
            let (found, missing): (Vec<_>, Vec<_>) = names
                .into_iter()
                .partition(|name| catalog.by_name(name).is_some());
            let found = found
                .iter()
                .filter_map(|name| catalog.by_name(name))
                .map(|topic| known(topic));
            let missing = missing.into_iter().map(|name| MetadataResponseTopic {
                topic_authorized_operations: operations,
                ..unknown_name(name)
            });
            found.chain(missing).collect()
        }
    }
}

fn known_topic(topic: &Topic, gateway: &Gateway) -> MetadataResponseTopic {
    let partition = |index| {
        let leader_id = gateway.leader(PartitionId {
            topic: topic.id,
            index,
        });
        MetadataResponsePartition {
            partition_index: index,
            leader_id,
            replica_nodes: vec![leader_id],
            isr_nodes: vec![leader_id],
            ..MetadataResponsePartition::default()
        }
    };
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: name::is_internal(&topic.name),
        partitions: (0..topic.partitions).map(partition).collect(),
        ..MetadataResponseTopic::default()
    }
}

fn unknown_id(topic_id: Uuid) -> MetadataResponseTopic {
    let error_code = ErrorCode::UNKNOWN_TOPIC_ID;
    MetadataResponseTopic {
        error_code,
        topic_id,
        ..MetadataResponseTopic::default()
    }
}

fn unknown_name(name: StrBytes) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: match name::check(&name) {
            Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        },
        is_internal: name::is_internal(&name),
        name: Some(name),
        ..MetadataResponseTopic::default()
    }
}

async fn fill_leader_epochs(gateway: &Gateway, topics: &mut [MetadataResponseTopic]) {
    let partitions = topics.iter().flat_map(|topic| {
        let id = |index| PartitionId {
            topic: topic.topic_id,
            index,
        };
        topic.partitions.iter().map(move |p| id(p.partition_index))
    });
    let epochs = owners::leader_epochs(gateway, partitions).await;
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (partition, epoch) in partitions.zip(epochs) {
        partition.leader_epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid([7; 16]);

    fn topic(name: Option<&'static str>, topic_id: Uuid) -> MetadataRequestTopic {
        MetadataRequestTopic {
            name: name.map(Into::into),
            topic_id,
        }
    }

    fn error(version: i16, topics: Vec<MetadataRequestTopic>) -> Option<ErrorCode> {
        Asked::of(version, Some(topics))
            .err()
            .map(|response| response.error_code)
    }

    #[test]
    fn null_asks_for_all_topics_and_empty_for_none() {
        assert!(matches!(Asked::of(1, None), Ok(Asked::All)));
        assert!(
            matches!(Asked::of(0, Some(vec![])), Ok(Asked::All)),
            "version 0 has no null"
        );
        assert!(matches!(Asked::of(1, Some(vec![])), Ok(Asked::Names(names)) if names.is_empty()));
    }

    #[test]
    fn ids_go_before_names_and_nothing_is_answered_twice() {
        let named = || topic(Some("a"), Uuid::ZERO);
        let ids = Asked::of(
            12,
            Some(vec![named(), topic(None, ID), topic(Some("b"), ID)]),
        );
        assert!(matches!(ids, Ok(Asked::Ids(ids)) if ids == [ID]));
        let names = Asked::of(12, Some(vec![named(), named()]));
        assert!(matches!(names, Ok(Asked::Names(names)) if names == ["a"]));
    }

    #[test]
    fn ids_are_refused_before_their_version() {
        let refused = Some(ErrorCode::INVALID_REQUEST);
        assert_eq!(error(11, vec![topic(None, ID)]), refused);
        assert_eq!(error(10, vec![topic(Some("a"), ID)]), refused);
        assert_eq!(error(12, vec![topic(Some("a"), ID)]), None);
    }

    #[test]
    fn a_topic_without_name_and_id_spoils_the_request() {
        let nothing = topic(None, Uuid::ZERO);
        let topics = vec![topic(Some("a"), Uuid::ZERO), nothing];
        let refusal = Asked::of(13, Some(topics)).err().expect("refused");
        assert_eq!(refusal.error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
        let answered = refusal
            .topics
            .iter()
            .map(|t| (t.name.as_deref(), t.error_code));
        let code = ErrorCode::UNKNOWN_SERVER_ERROR;
        assert!(answered.eq([(Some("a"), code), (Some(""), code)]));
        assert_eq!((refusal.brokers.len(), refusal.controller_id), (0, -1));
    }
}
