//! OffsetCommit (8): stores a group's offsets. KIP-211 (retention), KIP-320 (leader epochs), KIP-345
//! (static members), KIP-848 (topic ids).

use super::groups::{ask, done};
use super::{Api, Call, Handled};
use crate::catalog::{Catalog, Topic};
use crate::group::messages::{Commit, GroupRequest};
use crate::group::offsets::{Committed, TopicPartition};
use crate::partition::owner::now_ms;
use crate::wire::offset_commit::{
    KEY, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "OffsetCommit",
    versions: 2..=10,
    handle,
};

/// KIP-848: from here on topics are named by id.
const TOPIC_ID_VERSION_MIN: i16 = 10;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let mut work = Work::new(&call, request.retention_time_ms);
    let topics: Vec<_> = request.topics.iter().map(|t| work.take(t)).collect();
    let response = Response {
        topics,
        ..Response::default()
    };
    if !work.asks {
        return call.answer(&response);
    }
    let asked = ask(
        &call.gateway,
        GroupRequest::Commit(Commit {
            group: request.group_id,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
            version: call.version(),
            offsets: work.offsets,
        }),
    );
    call.later(|_| async move { conclude(response, done(asked.await)) })
}

/// What is wrong with the group goes before what is wrong with an offset, but for topics that do not
/// exist: these never get as far as to the group.
fn conclude(mut response: Response, error: ErrorCode) -> Response {
    if !error.is_ok() {
        let partitions = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
        for partition in partitions {
            if !is_unknown(partition.error_code) {
                partition.error_code = error;
            }
        }
    }
    response
}

fn is_unknown(error: ErrorCode) -> bool {
    error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION || error == ErrorCode::UNKNOWN_TOPIC_ID
}

/// Sorts out what goes to the group.
struct Work {
    catalog: std::sync::Arc<Catalog>,
    version: i16,
    metadata_max: usize,
    now_ms: i64,
    expires_ms: Option<i64>,
    offsets: Vec<(TopicPartition, Committed)>,
    /// Some partition exists, so the group is asked.
    asks: bool,
}

impl Work {
    fn new(call: &Call, retention_ms: i64) -> Self {
        let now_ms = now_ms();
        Work {
            catalog: call.gateway.catalog(),
            version: call.version(),
            metadata_max: call.gateway.config().offset_metadata_max_bytes,
            now_ms,
            expires_ms: (retention_ms >= 0).then(|| now_ms.saturating_add(retention_ms)),
            offsets: Vec::new(),
            asks: false,
        }
    }

    fn take(&mut self, asked: &OffsetCommitRequestTopic) -> OffsetCommitResponseTopic {
        let catalog = self.catalog.clone();
        let found = match self.version >= TOPIC_ID_VERSION_MIN {
            true => catalog
                .by_id(&asked.topic_id)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
            false => catalog
                .by_name(&asked.name)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let mut result = |of: &OffsetCommitRequestPartition| match &found {
            Ok(topic) => self.take_one(topic, of),
            Err(error) => *error,
        };
        let mut respond = |of: &OffsetCommitRequestPartition| OffsetCommitResponsePartition {
            partition_index: of.partition_index,
            error_code: result(of),
        };
        OffsetCommitResponseTopic {
            name: asked.name.clone(),
            topic_id: asked.topic_id,
            partitions: asked.partitions.iter().map(&mut respond).collect(),
        }
    }

    fn take_one(&mut self, topic: &Topic, of: &OffsetCommitRequestPartition) -> ErrorCode {
        if topic.partition(of.partition_index).is_none() {
            return ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        }
        self.asks = true;
        let metadata = of.committed_metadata.clone().unwrap_or_default();
        if is_longer(&metadata, self.metadata_max) {
            return ErrorCode::OFFSET_METADATA_TOO_LARGE;
        }
        // The catalog's name, which is there anyway, and not the frame's.
        let of_partition = TopicPartition {
            topic: topic.name.clone(),
            partition: of.partition_index,
        };
        let committed = Committed {
            offset: of.committed_offset,
            leader_epoch: of.committed_leader_epoch,
            metadata: metadata.detached(),
            committed_ms: self.now_ms,
            expires_ms: self.expires_ms,
            topic_id: topic.id,
        };
        self.offsets.push((of_partition, committed));
        ErrorCode::NONE
    }
}

/// Kafka counts UTF-16 units.
fn is_longer(text: &StrBytes, max: usize) -> bool {
    text.len() > max && text.encode_utf16().count() > max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_error_covers_all_but_unknown_topics() {
        let partition = |error_code| OffsetCommitResponsePartition {
            error_code,
            ..Default::default()
        };
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let response = Response {
            topics: vec![OffsetCommitResponseTopic {
                partitions: vec![
                    partition(ErrorCode::NONE),
                    partition(unknown),
                    partition(ErrorCode::OFFSET_METADATA_TOO_LARGE),
                ],
                ..Default::default()
            }],
            ..Response::default()
        };
        let errors = |response: Response| -> Vec<_> {
            let partitions = response.topics.into_iter().flat_map(|t| t.partitions);
            partitions.map(|p| p.error_code).collect()
        };
        let illegal = ErrorCode::ILLEGAL_GENERATION;
        assert_eq!(
            errors(conclude(response.clone(), illegal)),
            [illegal, unknown, illegal]
        );
        assert_eq!(
            errors(conclude(response, ErrorCode::NONE))[2],
            ErrorCode::OFFSET_METADATA_TOO_LARGE
        );
    }

    #[test]
    fn metadata_is_measured_in_utf16_units() {
        let text = StrBytes::from("żółć".to_owned());
        assert!(!is_longer(&text, 4));
        assert!(is_longer(&text, 3));
    }
}
