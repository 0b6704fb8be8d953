//! DescribeProducers (61): the producers that partitions remember. KIP-664.

use std::collections::HashSet;
use std::rc::Rc;

use super::error::NOT_HERE;
use super::{Api, Call, Handled, limits, owners};
use crate::catalog::{Topic, name};
use crate::gateway::{Reply, Request as ShardRequest};
use crate::partition::producers::ActiveProducer;
use crate::store::PartitionId;
use crate::wire::describe_producers::{
    KEY, PartitionResponse, ProducerState, Request, Response, TopicRequest, TopicResponse,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeProducers",
    versions: 0..=0,
    handle,
};

/// Nothing is known of a coordinator: the producer has no transactions.
const NO_COORDINATOR_EPOCH: i32 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let counts = request.topics.iter().map(|t| t.partition_indexes.len());
    if let Some(refusal) = limits::too_many_partitions(&API, counts, &call.gateway.catalog()) {
        return Ok(refusal);
    }
    call.later(|call| answer(call, request))
}

async fn answer(call: Rc<Call>, request: Request) -> Response {
    let gateway = &call.gateway;
    let catalog = gateway.catalog();
    // A partition may have many producers; they are told once, however often it is named.
    let mut seen = HashSet::new();
    let mut located = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let topic = catalog.by_name(&asked.name);
        let of_topic = locate(topic.map(|t| &**t), asked);
        let first = |(_, place): &(i32, Place)| place.as_ref().map_or(true, |id| seen.insert(*id));
        located.push(of_topic.into_iter().filter(first).collect::<Vec<_>>());
    }
    let ids = located.iter().flatten();
    let ids = ids.filter_map(|(_, place)| place.as_ref().ok().copied());
    let active = |reply| match reply {
        Reply::ActiveProducers(active) => Some(active),
        _ => None,
    };
    let request_of = ShardRequest::ActiveProducers;
    let found = owners::ask(gateway, ids, |id| *id, request_of, active).await;
    let mut found = found.into_iter();
    let mut respond = |(index, place): (i32, Place)| match place {
        Ok(_) => described(index, found.next().flatten()),
        Err(failure) => failed(index, failure),
    };
    let topics = request.topics.into_iter().zip(located);
    let topics = topics.map(|(asked, located)| TopicResponse {
        name: asked.name,
        partitions: located.into_iter().map(&mut respond).collect(),
    });
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

/// A partition, or why there is none.
type Place = Result<PartitionId, (ErrorCode, Option<StrBytes>)>;

fn locate(topic: Option<&Topic>, asked: &TopicRequest) -> Vec<(i32, Place)> {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let failure = match name::check(&asked.name) {
        Err(error) => {
            let text = limits::text(error.to_string());
            (ErrorCode::INVALID_TOPIC_EXCEPTION, Some(text))
        }
        Ok(()) if topic.is_some() => (unknown, None),
        Ok(()) => (unknown, Some(NOT_HERE.into())),
    };
    let place = |index: &i32| {
        let id = topic.and_then(|topic| topic.partition(*index));
        (*index, id.ok_or_else(|| failure.clone()))
    };
    asked.partition_indexes.iter().map(place).collect()
}

fn described(partition_index: i32, found: Option<Vec<ActiveProducer>>) -> PartitionResponse {
    let Some(active) = found else {
        // An owner that does not answer is to be asked again.
        return failed(partition_index, (ErrorCode::KAFKA_STORAGE_ERROR, None));
    };
    let state = |producer: ActiveProducer| ProducerState {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_write_ms,
        coordinator_epoch: NO_COORDINATOR_EPOCH,
        ..ProducerState::default()
    };
    PartitionResponse {
        partition_index,
        active_producers: active.into_iter().map(state).collect(),
        ..PartitionResponse::default()
    }
}

fn failed(
    partition_index: i32,
    (error_code, error_message): (ErrorCode, Option<StrBytes>),
) -> PartitionResponse {
    PartitionResponse {
        partition_index,
        error_code,
        error_message,
        ..PartitionResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::topic_config::TopicConfig;

    fn located(name: &'static str, partition_indexes: &[i32]) -> Vec<(i32, i16, Option<String>)> {
        let topic = Topic::new(&"t".into(), 2, TopicConfig::default()).expect("an id");
        let asked = TopicRequest {
            name: name.into(),
            partition_indexes: partition_indexes.to_vec(),
        };
        let located = locate((name == "t").then_some(&topic), &asked).into_iter();
        let said = located.map(|(index, place)| match place {
            Ok(id) => {
                assert_eq!(topic.partition(index), Some(id));
                (index, 0, None)
            }
            Err((code, text)) => (index, code.0, text.map(|text| text.to_string())),
        });
        said.collect()
    }

    #[test]
    fn partitions_that_there_are_not_are_told_in_kafkas_words() {
        let known = located("t", &[1, 2, -1]);
        assert_eq!(known, [(1, 0, None), (2, 3, None), (-1, 3, None)]);
        let unknown = located("nope", &[0]);
        assert_eq!(unknown, [(0, 3, Some(NOT_HERE.to_owned()))]);
        let empty = "Topic name is invalid: the empty string is not allowed";
        assert_eq!(located("", &[0]), [(0, 17, Some(empty.to_owned()))]);
    }
}
