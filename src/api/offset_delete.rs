//! OffsetDelete (47): deletes a group's stored offsets. KIP-496.

use super::groups::{ask, check_id};
use super::{Api, Call, Handled};
use crate::group::messages::{GroupReply, GroupRequest};
use crate::group::offsets::TopicPartition;
use crate::wire::ErrorCode;
use crate::wire::offset_delete::{
    KEY, OffsetDeleteRequestTopic, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    Request, Response,
};

pub(super) const API: Api = Api {
    key: KEY,
    name: "OffsetDelete",
    versions: 0..=0,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    if let Err(error) = check_id(&request.group_id) {
        return call.answer(&refuse(error));
    }
    let catalog = call.gateway.catalog();
    let exists = |of: &TopicPartition| {
        let topic = catalog.by_name(&of.topic);
        topic.is_some_and(|topic| topic.partition(of.partition).is_some())
    };
    let (known, unknown): (Vec<_>, Vec<_>) = partitions(&request.topics).partition(exists);
    let asked = ask(
        &call.gateway,
        GroupRequest::Forget {
            group: request.group_id,
            offsets: known.clone(),
        },
    );
    call.later(|_| async move {
        let results = match asked.await {
            Ok(GroupReply::Forget(Ok(results))) => results,
            Ok(GroupReply::Forget(Err(error))) | Err(error) => return refuse(error),
            Ok(_) => return refuse(ErrorCode::UNKNOWN_SERVER_ERROR),
        };
        let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let unknown = unknown.into_iter().map(|of| (of, missing));
        Response {
            topics: topics(unknown.chain(known.into_iter().zip(results))),
            ..Response::default()
        }
    })
}

fn refuse(error_code: ErrorCode) -> Response {
    Response {
        error_code,
        ..Response::default()
    }
}

fn partitions(topics: &[OffsetDeleteRequestTopic]) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|topic| {
        let of = |partition| TopicPartition {
            topic: topic.name.clone(),
            partition,
        };
        topic.partitions.iter().map(move |p| of(p.partition_index))
    })
}

fn topics(
    results: impl Iterator<Item = (TopicPartition, ErrorCode)>,
) -> Vec<OffsetDeleteResponseTopic> {
    let mut topics: Vec<OffsetDeleteResponseTopic> = Vec::new();
    for (of, error_code) in results {
        let partition = OffsetDeleteResponsePartition {
            partition_index: of.partition,
            error_code,
        };
        match topics.last_mut().filter(|topic| topic.name == of.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetDeleteResponseTopic {
                name: of.topic,
                partitions: vec![partition],
            }),
        }
    }
    topics
}
