//! ListOffsets (2): finds a partition's offset by timestamp, or one of its ends. KIP-98 (isolation
//! levels), KIP-320 (leader epochs), KIP-734 (largest timestamp), KIP-405, KIP-1005 and KIP-1023
//! (tiered storage, of which there is none).

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::rc::Rc;

use super::{Api, Call, Handled, owners};
use crate::catalog::Topic;
use crate::gateway::{Gateway, Reply, Request as ShardRequest};
use crate::partition::messages::{FoundOffset, OffsetQuery, OffsetSpec, PartitionError};
use crate::wire::list_offsets::{
    KEY, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic,
    ListOffsetsTopicResponse, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "ListOffsets",
    versions: 1..=11,
    handle,
};

/// Read uncommitted and read committed. Without transactions both see the same.
const ISOLATION_LEVELS: RangeInclusive<i8> = 0..=1;
const NO_LEADER_EPOCH: i32 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    if !ISOLATION_LEVELS.contains(&request.isolation_level) {
        // Kafka does not expect it either.
        return call.answer(&refuse_all(request, ErrorCode::UNKNOWN_SERVER_ERROR));
    }
    call.later(|call| answer(call, request))
}

fn refuse_all(request: Request, error: ErrorCode) -> Response {
    let refuse = |p: ListOffsetsPartition| refused(p.partition_index, error);
    let topics = request
        .topics
        .into_iter()
        .map(|topic| ListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic.partitions.into_iter().map(refuse).collect(),
        });
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

/// Asks the owners, and answers each partition once.
async fn answer(call: Rc<Call>, request: Request) -> Response {
    let asked = merge(request.topics);
    let located = locate(&call.gateway, call.version(), &asked);
    let queries = located
        .iter()
        .flatten()
        .filter_map(|l| l.as_ref().ok())
        .copied();
    let mut found = find(&call.gateway, queries).await.into_iter();
    let mut conclude = |(asked, located): (Asked, Result<OffsetQuery, ErrorCode>)| {
        // An owner that does not answer is to be asked again.
        let mut next = || {
            found
                .next()
                .flatten()
                .unwrap_or(Err(PartitionError::Storage))
        };
        let outcome = located.and_then(|_| next().map_err(ErrorCode::from));
        respond(asked.partition.partition_index, outcome)
    };
    let topics = asked
        .into_iter()
        .zip(located)
        .map(|(topic, located)| ListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .zip(located)
                .map(&mut conclude)
                .collect(),
        });
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

/// What is asked of one topic.
struct AskedTopic {
    name: StrBytes,
    partitions: Vec<Asked>,
}

struct Asked {
    partition: ListOffsetsPartition,
    more_than_once: bool,
}

/// Puts together what a request asks of the same topic or partition in several places.
fn merge(topics: Vec<ListOffsetsTopic>) -> Vec<AskedTopic> {
    let mut merged: Vec<AskedTopic> = Vec::with_capacity(topics.len());
    let mut topic_places = HashMap::new();
    let mut places = HashMap::new();
    for ListOffsetsTopic { name, partitions } in
        topics.into_iter().filter(|t| !t.partitions.is_empty())
    {
        let at = *topic_places.entry(name.clone()).or_insert(merged.len());
        if at == merged.len() {
            merged.push(AskedTopic {
                name,
                partitions: Vec::with_capacity(partitions.len()),
            });
        }
        let all = &mut merged[at].partitions;
        for partition in partitions {
            let place = *places
                .entry((at, partition.partition_index))
                .or_insert(all.len());
            match all.get_mut(place) {
                Some(asked) => asked.more_than_once = true,
                None => all.push(Asked {
                    partition,
                    more_than_once: false,
                }),
            }
        }
    }
    merged
}

/// What to ask of the partitions' owners, or why nothing.
fn locate(
    gateway: &Gateway,
    version: i16,
    topics: &[AskedTopic],
) -> Vec<Vec<Result<OffsetQuery, ErrorCode>>> {
    let catalog = gateway.catalog();
    let queries = |topic: &AskedTopic| {
        let known = catalog.by_name(&topic.name);
        topic
            .partitions
            .iter()
            .map(|asked| query(known.map(|t| &**t), version, asked))
            .collect()
    };
    topics.iter().map(queries).collect()
}

fn query(topic: Option<&Topic>, version: i16, asked: &Asked) -> Result<OffsetQuery, ErrorCode> {
    if asked.more_than_once {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let of = &asked.partition;
    let spec = spec(of.timestamp, version).ok_or(ErrorCode::UNSUPPORTED_VERSION)?;
    let id = topic.and_then(|t| t.partition(of.partition_index));
    let id = id.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if of.current_leader_epoch < NO_LEADER_EPOCH {
        // Older than any epoch there can be.
        return Err(ErrorCode::FENCED_LEADER_EPOCH);
    }
    Ok(OffsetQuery {
        id,
        spec,
        leader_epoch: of.current_leader_epoch,
    })
}

/// What a timestamp asks for; `None` if it means nothing in this version.
fn spec(timestamp: i64, version: i16) -> Option<OffsetSpec> {
    match timestamp {
        0.. => Some(OffsetSpec::AtOrAfter(timestamp)),
        -1 => Some(OffsetSpec::Latest),
        -2 => Some(OffsetSpec::Earliest),
        -3 if version >= 7 => Some(OffsetSpec::MaxTimestamp),
        // All that is stored is local.
        -4 if version >= 8 => Some(OffsetSpec::Earliest),
        -5 if version >= 9 => Some(OffsetSpec::Tiered),
        -6 if version >= 11 => Some(OffsetSpec::Tiered),
        _ => None,
    }
}

async fn find(
    gateway: &Gateway,
    queries: impl Iterator<Item = OffsetQuery>,
) -> Vec<Option<Result<FoundOffset, PartitionError>>> {
    let found = |reply| match reply {
        Reply::Offsets(found) => Some(found),
        _ => None,
    };
    owners::ask(
        gateway,
        queries,
        |query| query.id,
        ShardRequest::ListOffsets,
        found,
    )
    .await
}

fn respond(
    partition_index: i32,
    outcome: Result<FoundOffset, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    match outcome {
        Ok(FoundOffset {
            offset,
            timestamp,
            leader_epoch,
        }) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: ErrorCode::NONE,
            timestamp,
            offset,
            leader_epoch,
        },
        Err(error) => refused(partition_index, error),
    }
}

fn refused(partition_index: i32, error_code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &'static str, partitions: &[i32]) -> ListOffsetsTopic {
        let partition = |index: &i32| ListOffsetsPartition {
            partition_index: *index,
            ..ListOffsetsPartition::default()
        };
        ListOffsetsTopic {
            name: name.into(),
            partitions: partitions.iter().map(partition).collect(),
        }
    }

    #[test]
    fn what_is_asked_of_a_topic_in_several_places_is_put_together() {
        let merged = merge(vec![
            topic("a", &[0, 1]),
            topic("none", &[]),
            topic("b", &[0, 0, 0]),
            topic("a", &[1, 2]),
        ]);
        let seen: Vec<_> = merged
            .iter()
            .flat_map(|t| t.partitions.iter().map(move |p| (&*t.name, p)))
            .map(|(name, asked)| (name, asked.partition.partition_index, asked.more_than_once))
            .collect();
        let expected = [
            ("a", 0, false),
            ("a", 1, true),
            ("a", 2, false),
            ("b", 0, true),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn special_timestamps_begin_with_their_versions() {
        for (timestamp, first_version) in [(-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            assert_eq!(spec(timestamp, first_version - 1), None, "{timestamp}");
            assert!(spec(timestamp, first_version).is_some(), "{timestamp}");
        }
        for timestamp in [-7, -100, i64::MIN] {
            assert_eq!(spec(timestamp, 11), None);
        }
        assert_eq!(spec(0, 1), Some(OffsetSpec::AtOrAfter(0)));
    }

    #[test]
    fn faults_are_told_in_kafkas_order() {
        let known = Topic::new(&"t".into(), 1, Default::default()).expect("random");
        let ask = |partition_index, current_leader_epoch, timestamp, more_than_once| {
            let partition = ListOffsetsPartition {
                partition_index,
                current_leader_epoch,
                timestamp,
            };
            query(
                Some(&known),
                7,
                &Asked {
                    partition,
                    more_than_once,
                },
            )
            .map(|q| q.leader_epoch)
        };
        assert_eq!(ask(9, -5, -100, true), Err(ErrorCode::INVALID_REQUEST));
        assert_eq!(ask(9, -5, -100, false), Err(ErrorCode::UNSUPPORTED_VERSION));
        assert_eq!(
            ask(9, -5, -1, false),
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        );
        assert_eq!(ask(0, -5, -1, false), Err(ErrorCode::FENCED_LEADER_EPOCH));
        assert_eq!(ask(0, -1, -1, false), Ok(-1));
        assert_eq!(ask(0, 4, -1, false), Ok(4));
    }
}
