//! OffsetFetch (9): reads a group's stored offsets. KIP-320 (leader epochs), KIP-447 (stable offsets),
//! KIP-709 (many groups), KIP-848 (topic ids).
//!
//! There are no transactions, so every stored offset is a stable one.

use std::rc::Rc;

use super::groups::ask_each;
use super::{Api, Call, Handled};
use crate::catalog::Catalog;
use crate::group::messages::{FoundOffsets, GroupReply, GroupRequest, TopicOffsets};
use crate::group::offsets::Committed;
use crate::wire::offset_fetch::{
    KEY, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes, Uuid};

pub(super) const API: Api = Api {
    key: KEY,
    name: "OffsetFetch",
    versions: 1..=10,
    handle,
};

/// From here on there is an error of the whole.
const ERROR_VERSION_MIN: i16 = 2;
/// KIP-709: from here on there may be several groups.
const GROUPS_VERSION_MIN: i16 = 8;
/// KIP-848: from here on topics are named by id.
const TOPIC_ID_VERSION_MIN: i16 = 10;
const NO_OFFSET: i64 = -1;
const NO_EPOCH: i32 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let version = call.version();
    let groups = groups_of(version, request);
    call.later(move |call| async move {
        let answers = answer(&call, &groups).await;
        match version {
            GROUPS_VERSION_MIN.. => Response {
                groups: answers,
                ..Response::default()
            },
            _ => single(version, &groups, answers),
        }
    })
}

/// Old requests are of one group.
fn groups_of(version: i16, request: Request) -> Vec<OffsetFetchRequestGroup> {
    if version >= GROUPS_VERSION_MIN {
        return request.groups;
    }
    let topics = request.topics.map(|topics| {
        let topic =
            |topic: crate::wire::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..OffsetFetchRequestTopics::default()
            };
        topics.into_iter().map(topic).collect()
    });
    vec![OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    }]
}

async fn answer(
    call: &Rc<Call>,
    groups: &[OffsetFetchRequestGroup],
) -> Vec<OffsetFetchResponseGroup> {
    let catalog = call.gateway.catalog();
    let by_id = call.version() >= TOPIC_ID_VERSION_MIN;
    let request = |group: &OffsetFetchRequestGroup| GroupRequest::Offsets {
        group: group.group_id.clone(),
        member_id: group.member_id.clone(),
        member_epoch: group.member_epoch,
        topics: group.topics.as_ref().map(|topics| {
            let known = topics.iter().filter_map(|t| named(&catalog, by_id, t));
            known.collect()
        }),
    };
    let replies = ask_each(&call.gateway, groups.iter().map(request)).await;
    let conclude = |(group, reply): (&OffsetFetchRequestGroup, _)| {
        let found = match reply {
            Ok(GroupReply::Offsets(found)) => found,
            Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => respond(&catalog, by_id, group, found),
            Err(error_code) => OffsetFetchResponseGroup {
                group_id: group.group_id.clone(),
                error_code,
                ..OffsetFetchResponseGroup::default()
            },
        }
    };
    groups.iter().zip(replies).map(conclude).collect()
}

/// A topic as the group knows it; `None` if its id is nobody's.
fn named(catalog: &Catalog, by_id: bool, asked: &OffsetFetchRequestTopics) -> Option<TopicOffsets> {
    let (topic, topic_id) = match by_id {
        true => (catalog.by_id(&asked.topic_id)?.name.clone(), asked.topic_id),
        false => {
            let known = catalog.by_name(&asked.name);
            (asked.name.clone(), known.map_or(Uuid::ZERO, |t| t.id))
        }
    };
    Some(TopicOffsets {
        topic,
        topic_id,
        partitions: asked.partition_indexes.clone(),
    })
}

fn respond(
    catalog: &Catalog,
    by_id: bool,
    group: &OffsetFetchRequestGroup,
    found: Vec<FoundOffsets>,
) -> OffsetFetchResponseGroup {
    let topic_id = |name: &StrBytes| catalog.by_name(name).map_or(Uuid::ZERO, |t| t.id);
    let known = |found: FoundOffsets| OffsetFetchResponseTopics {
        topic_id: if by_id {
            topic_id(&found.topic)
        } else {
            Uuid::ZERO
        },
        partitions: found.partitions.into_iter().map(partition).collect(),
        name: found.topic,
    };
    let mut topics: Vec<_> = found.into_iter().map(known).collect();
    if by_id {
        // A topic that was deleted meanwhile has no id to be told.
        topics.retain(|topic| !topic.topic_id.is_zero());
        let asked = group.topics.iter().flatten();
        let unknown = asked.filter(|topic| catalog.by_id(&topic.topic_id).is_none());
        topics.extend(unknown.map(unknown_id));
    }
    OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        topics,
        ..OffsetFetchResponseGroup::default()
    }
}

fn unknown_id(asked: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let unknown = |index: &i32| OffsetFetchResponsePartitions {
        error_code: ErrorCode::UNKNOWN_TOPIC_ID,
        ..partition((*index, None))
    };
    OffsetFetchResponseTopics {
        topic_id: asked.topic_id,
        partitions: asked.partition_indexes.iter().map(unknown).collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

fn partition((index, committed): (i32, Option<Committed>)) -> OffsetFetchResponsePartitions {
    let of = committed.as_ref();
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: of.map_or(NO_OFFSET, |c| c.offset),
        committed_leader_epoch: of.map_or(NO_EPOCH, |c| c.leader_epoch),
        metadata: Some(committed.map(|c| c.metadata).unwrap_or_default()),
        ..OffsetFetchResponsePartitions::default()
    }
}

/// The answer to an old request.
fn single(
    version: i16,
    asked: &[OffsetFetchRequestGroup],
    answers: Vec<OffsetFetchResponseGroup>,
) -> Response {
    let Some(group) = answers.into_iter().next() else {
        return Response::default();
    };
    if !group.error_code.is_ok() && version < ERROR_VERSION_MIN {
        let topics = asked.iter().flat_map(|g| g.topics.iter().flatten());
        let refused = |topic: &OffsetFetchRequestTopics| OffsetFetchResponseTopics {
            name: topic.name.clone(),
            partitions: {
                let refused = |index: &i32| OffsetFetchResponsePartitions {
                    error_code: group.error_code,
                    ..partition((*index, None))
                };
                topic.partition_indexes.iter().map(refused).collect()
            },
            ..OffsetFetchResponseTopics::default()
        };
        return Response {
            topics: topics.map(refused).map(old_topic).collect(),
            ..Response::default()
        };
    }
    Response {
        topics: group.topics.into_iter().map(old_topic).collect(),
        error_code: group.error_code,
        ..Response::default()
    }
}

fn old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let old = |p: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: p.partition_index,
        committed_offset: p.committed_offset,
        committed_leader_epoch: p.committed_leader_epoch,
        metadata: p.metadata,
        error_code: p.error_code,
    };
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(old).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(version: i16) -> Response {
        let request = Request {
            group_id: "g".into(),
            topics: Some(vec![crate::wire::offset_fetch::OffsetFetchRequestTopic {
                name: "t".into(),
                partition_indexes: vec![3],
            }]),
            ..Request::default()
        };
        let answer = OffsetFetchResponseGroup {
            error_code: ErrorCode::NOT_COORDINATOR,
            ..OffsetFetchResponseGroup::default()
        };
        single(version, &groups_of(version, request), vec![answer])
    }

    #[test]
    fn version_1_has_no_error_but_those_of_partitions() {
        let response = failed(1);
        assert_eq!(response.error_code, ErrorCode::NONE);
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.partition_index, 3);
        assert_eq!(partition.error_code, ErrorCode::NOT_COORDINATOR);
        let response = failed(2);
        assert_eq!(response.error_code, ErrorCode::NOT_COORDINATOR);
        assert!(response.topics.is_empty());
    }
}
