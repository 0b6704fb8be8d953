//! DeleteRecords (21): deletes the records of partitions before an offset (KIP-107).

use std::collections::HashMap;
use std::rc::Rc;

use super::{Api, Call, Handled, owners};
use crate::catalog::{Catalog, name};
use crate::gateway::{Reply, Request as ShardRequest};
use crate::partition::messages::{DeleteBefore, Deletion, PartitionError};
use crate::wire::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsTopic, DeleteRecordsTopicResult, KEY, Request,
    Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DeleteRecords",
    versions: 0..=2,
    handle,
};

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;
const NO_LOW_WATERMARK: i64 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(|call| answer(call, request))
}

/// The timeout of the request is that of waiting for other replicas, of which there are none.
async fn answer(call: Rc<Call>, request: Request) -> Response {
    let topics = merge(request.topics);
    let catalog = call.gateway.catalog();
    let located: Vec<_> = topics
        .iter()
        .flat_map(|topic| {
            let locate =
                |(index, offset): &(i32, i64)| locate(&catalog, &topic.name, *index, *offset);
            topic.partitions.iter().map(locate)
        })
        .collect();
    let starts = |reply| match reply {
        Reply::LowWatermarks(starts) => Some(starts),
        _ => None,
    };
    let deletions = located.iter().filter_map(|l| l.as_ref().ok()).copied();
    let deleted = owners::ask(
        &call.gateway,
        deletions,
        |deletion| deletion.id,
        ShardRequest::DeleteRecords,
        starts,
    );
    let mut deleted = deleted.await.into_iter();
    let outcomes = located.into_iter().map(|located| {
        // An owner that does not answer is to be asked again.
        let next = located.map(|_| deleted.next().flatten());
        next.and_then(|found| Ok(found.unwrap_or(Err(PartitionError::Storage))?))
    });
    respond(topics, outcomes)
}

/// What is asked of one topic: partitions and offsets.
struct AskedTopic {
    name: StrBytes,
    partitions: Vec<(i32, i64)>,
}

/// Each partition once. Of one that is named twice the last offset counts.
fn merge(topics: Vec<DeleteRecordsTopic>) -> Vec<AskedTopic> {
    let mut merged: Vec<AskedTopic> = Vec::with_capacity(topics.len());
    let mut topic_places = HashMap::new();
    let mut places = HashMap::new();
    for topic in topics.into_iter().filter(|t| !t.partitions.is_empty()) {
        let at = *topic_places
            .entry(topic.name.clone())
            .or_insert(merged.len());
        if at == merged.len() {
            merged.push(AskedTopic {
                name: topic.name,
                partitions: Vec::with_capacity(topic.partitions.len()),
            });
        }
        let all = &mut merged[at].partitions;
        for partition in topic.partitions {
            let asked = (partition.partition_index, partition.offset);
            let place = *places.entry((at, asked.0)).or_insert(all.len());
            match all.get_mut(place) {
                Some(before) => *before = asked,
                None => all.push(asked),
            }
        }
    }
    merged
}

fn locate(
    catalog: &Catalog,
    topic: &StrBytes,
    index: i32,
    offset: i64,
) -> Result<Deletion, ErrorCode> {
    let topic = catalog
        .by_name(topic)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if name::is_internal(&topic.name) {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let id = topic.partition(index);
    let id = id.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let policy = topic.config.cleanup_policy;
    if policy.compacts() && !policy.deletes() {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let before = match offset {
        HIGH_WATERMARK => DeleteBefore::HighWatermark,
        offset => DeleteBefore::Offset(offset),
    };
    Ok(Deletion { id, before })
}

fn respond(
    topics: Vec<AskedTopic>,
    mut outcomes: impl Iterator<Item = Result<i64, ErrorCode>>,
) -> Response {
    let mut result = |(partition_index, _): (i32, i64)| {
        let outcome = outcomes
            .next()
            .unwrap_or(Err(ErrorCode::UNKNOWN_SERVER_ERROR));
        DeleteRecordsPartitionResult {
            partition_index,
            low_watermark: outcome.unwrap_or(NO_LOW_WATERMARK),
            error_code: outcome.err().unwrap_or(ErrorCode::NONE),
        }
    };
    let topics = topics.into_iter().map(|topic| DeleteRecordsTopicResult {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(&mut result).collect(),
    });
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::delete_records::DeleteRecordsPartition;

    #[test]
    fn of_a_partition_that_is_named_twice_the_last_offset_counts() {
        let topic = |name: &'static str, partitions: &[(i32, i64)]| DeleteRecordsTopic {
            name: name.into(),
            partitions: partitions
                .iter()
                .map(|(partition_index, offset)| DeleteRecordsPartition {
                    partition_index: *partition_index,
                    offset: *offset,
                })
                .collect(),
        };
        let merged = merge(vec![
            topic("a", &[(0, 7), (0, 4)]),
            topic("none", &[]),
            topic("b", &[(0, 1)]),
            topic("a", &[(1, 3), (0, 9)]),
        ]);
        let seen: Vec<_> = merged
            .iter()
            .map(|t| (&*t.name, &t.partitions[..]))
            .collect();
        assert_eq!(seen, [("a", &[(0, 9), (1, 3)][..]), ("b", &[(0, 1)][..])]);
    }
}
