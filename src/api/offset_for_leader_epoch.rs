//! OffsetForLeaderEpoch (23): where a leader epoch ends in a partition's log. A consumer learns by it
//! whether what it has read is still there. KIP-101, KIP-279, KIP-320.

use std::rc::Rc;

use super::{Api, Call, Handled, owners};
use crate::catalog::Topic;
use crate::gateway::{Reply, Request as ShardRequest};
use crate::partition::messages::{EpochEnd, EpochQuery, PartitionError};
use crate::wire::offset_for_leader_epoch::{
    EpochEndOffset, KEY, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
};

pub(super) const API: Api = Api {
    key: KEY,
    name: "OffsetForLeaderEpoch",
    versions: 2..=4,
    handle,
};

const NO_LEADER_EPOCH: i32 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(|call| answer(call, request))
}

async fn answer(call: Rc<Call>, request: Request) -> Response {
    let catalog = call.gateway.catalog();
    let located: Vec<Vec<Result<EpochQuery, PartitionError>>> = request
        .topics
        .iter()
        .map(|asked| {
            let topic = catalog.by_name(&asked.topic);
            let query = |of: &_| query(topic.map(|t| &**t), of);
            asked.partitions.iter().map(query).collect()
        })
        .collect();
    let ends = |reply| match reply {
        Reply::EpochEnds(ends) => Some(ends),
        _ => None,
    };
    let queries = located.iter().flatten().flatten().copied();
    let found = owners::ask(
        &call.gateway,
        queries,
        |query| query.id,
        ShardRequest::EpochEnds,
        ends,
    );
    let mut found = found.await.into_iter();
    let mut conclude = |located: Result<EpochQuery, PartitionError>| {
        // An owner that does not answer is to be asked again.
        let mut next = || found.next().flatten();
        located.and_then(|_| next().unwrap_or(Err(PartitionError::Storage)))
    };
    let topics = request.topics.into_iter().zip(located);
    let topics = topics.map(|(asked, located)| {
        let partitions = asked.partitions.iter().zip(located);
        OffsetForLeaderTopicResult {
            topic: asked.topic.clone(),
            partitions: partitions
                .map(|(of, located)| respond(of.partition, conclude(located)))
                .collect(),
        }
    });
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

fn query(
    topic: Option<&Topic>,
    of: &OffsetForLeaderPartition,
) -> Result<EpochQuery, PartitionError> {
    let id = topic.and_then(|topic| topic.partition(of.partition));
    let id = id.ok_or(PartitionError::Unknown)?;
    if of.current_leader_epoch < NO_LEADER_EPOCH {
        // Older than any epoch there can be.
        return Err(PartitionError::FencedLeaderEpoch);
    }
    Ok(EpochQuery {
        id,
        current_leader_epoch: of.current_leader_epoch,
        leader_epoch: of.leader_epoch,
    })
}

fn respond(partition: i32, found: Result<EpochEnd, PartitionError>) -> EpochEndOffset {
    let default = EpochEndOffset {
        partition,
        ..EpochEndOffset::default()
    };
    match found {
        Ok(end) => EpochEndOffset {
            leader_epoch: end.leader_epoch,
            end_offset: end.end_offset,
            ..default
        },
        Err(error) => EpochEndOffset {
            error_code: error.into(),
            ..default
        },
    }
}
