//! DescribeTopicPartitions (75): partitions of topics, sorted by name and page by page. KIP-966.

use std::collections::BTreeSet;

use super::{Api, Call, Handled, operations, owners};
use crate::catalog::{Catalog, Topic, name};
use crate::gateway::Gateway;
use crate::store::PartitionId;
use crate::wire::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, KEY,
    Request, Response,
};
use crate::wire::{ErrorCode, StrBytes, Uuid};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeTopicPartitions",
    versions: 0..=0,
    handle,
};

/// Kafka's default of `max.request.partition.size.limit`: partitions of one answer.
const PARTITIONS_MAX: i32 = 2000;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let catalog = call.gateway.catalog();
    let (mut topics, next_cursor) = match page(&catalog, &request) {
        Ok(page) => page,
        Err(error) => return call.answer(&refuse(request, error)),
    };
    call.later(async move |call| {
        fill_leaders(&call.gateway, &mut topics).await;
        Response {
            topics,
            next_cursor,
            ..Response::default()
        }
    })
}

fn refuse(request: Request, error_code: ErrorCode) -> Response {
    let topics = request.topics.into_iter();
    let topic = |name| DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    Response {
        topics: topics.map(|asked| topic(asked.name)).collect(),
        ..Response::default()
    }
}

type Page = (Vec<DescribeTopicPartitionsResponseTopic>, Option<Cursor>);

/// One page, but for leaders.
fn page(catalog: &Catalog, request: &Request) -> Result<Page, ErrorCode> {
    let names = names(catalog, request)?;
    let limit = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut room = limit;
    let mut topics = Vec::new();
    for name in names {
        let next = |partition_index| {
            Some(Cursor {
                topic_name: name.clone(),
                partition_index,
            })
        };
        if room == 0 {
            return Ok((topics, next(0)));
        }
        let Some(topic) = catalog.by_name(name) else {
            topics.push(unknown(name));
            continue;
        };
        let cursor = request.cursor.as_ref().filter(|c| c.topic_name == *name);
        let first = cursor.map_or(0, |cursor| cursor.partition_index);
        let end = topic.partitions.min(first.saturating_add(room));
        topics.push(known(topic, first..end));
        room -= (end - first).max(0);
        if end < topic.partitions {
            return Ok((topics, next(end)));
        }
    }
    Ok((topics, None))
}

/// The topics that the cursor leaves, in their order.
fn names<'a>(
    catalog: &'a Catalog,
    request: &'a Request,
) -> Result<BTreeSet<&'a StrBytes>, ErrorCode> {
    let all = request.topics.is_empty();
    let mut names: BTreeSet<_> = match all {
        true => catalog.topics().map(|topic| &topic.name).collect(),
        false => request.topics.iter().map(|topic| &topic.name).collect(),
    };
    if let Some(Cursor {
        topic_name,
        partition_index,
    }) = &request.cursor
    {
        if *partition_index < 0 || !(all || names.contains(topic_name)) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        names = names.split_off(topic_name);
    }
    match names.contains(&StrBytes::default()) {
        true => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        false => Ok(names),
    }
}

fn known(topic: &Topic, partitions: std::ops::Range<i32>) -> DescribeTopicPartitionsResponseTopic {
    let partition = |partition_index| DescribeTopicPartitionsResponsePartition {
        partition_index,
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..DescribeTopicPartitionsResponsePartition::default()
    };
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: name::is_internal(&topic.name),
        partitions: partitions.map(partition).collect(),
        topic_authorized_operations: operations::TOPIC,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn unknown(name: &StrBytes) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: match name::check(name) {
            Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        },
        name: Some(name.clone()),
        topic_id: Uuid::ZERO,
        is_internal: name::is_internal(name),
        topic_authorized_operations: operations::TOPIC,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

async fn fill_leaders(gateway: &Gateway, topics: &mut [DescribeTopicPartitionsResponseTopic]) {
    let ids = topics.iter().flat_map(|topic| {
        let id = |index| PartitionId {
            topic: topic.topic_id,
            index,
        };
        topic.partitions.iter().map(move |p| id(p.partition_index))
    });
    let ids: Vec<_> = ids.collect();
    let epochs = owners::leader_epochs(gateway, ids.iter().copied()).await;
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (partition, (id, epoch)) in partitions.zip(ids.into_iter().zip(epochs)) {
        partition.leader_id = gateway.leader(id);
        partition.leader_epoch = epoch;
        partition.replica_nodes = vec![partition.leader_id];
        partition.isr_nodes = vec![partition.leader_id];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::topic_config::TopicConfig;
    use crate::wire::describe_topic_partitions::TopicRequest;

    fn request(
        topics: &[&'static str],
        limit: i32,
        cursor: Option<(&'static str, i32)>,
    ) -> Request {
        let topic = |name: &&'static str| TopicRequest {
            name: (*name).into(),
        };
        Request {
            topics: topics.iter().map(topic).collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(name, partition_index)| Cursor {
                topic_name: name.into(),
                partition_index,
            }),
        }
    }

    /// What a page has: topics with error and partitions, and its cursor as `topic-partition`. There
    /// are topics `a` of 2 partitions, `t` of 4 and `z` of 1.
    fn ask(request: &Request) -> Result<(String, String), ErrorCode> {
        let topic = |(name, partitions): (&'static str, i32)| {
            Topic::new(&name.into(), partitions, TopicConfig::default()).expect("an id")
        };
        let catalog = Catalog::from_iter([("z", 1), ("a", 2), ("t", 4)].map(topic));
        let (topics, cursor) = page(&catalog, request)?;
        let said = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|p| p.partition_index);
            let partitions: Vec<_> = partitions.collect();
            let name = topic.name.as_deref().unwrap_or_default();
            format!("{name} {} {partitions:?}", topic.error_code.0)
        });
        let said: Vec<_> = said.collect();
        let cursor = cursor.map(|c| format!("{}-{}", c.topic_name, c.partition_index));
        Ok((said.join(", "), cursor.unwrap_or_default()))
    }

    fn page_of(topics: &str, cursor: &str) -> Result<(String, String), ErrorCode> {
        Ok((topics.to_owned(), cursor.to_owned()))
    }

    #[test]
    fn topics_come_once_sorted_and_with_their_errors() {
        let all = ask(&request(&[], 2000, None));
        assert_eq!(all, page_of("a 0 [0, 1], t 0 [0, 1, 2, 3], z 0 [0]", ""));
        let some = ask(&request(&["z", "nope", "b!d", "z"], 2000, None));
        assert_eq!(some, page_of("b!d 17 [], nope 3 [], z 0 [0]", ""));
    }

    #[test]
    fn a_page_ends_where_the_next_one_goes_on() {
        for (asked, cursor, topics, next) in [
            (&[][..], None, "a 0 [0, 1], t 0 [0]", "t-1"),
            (&[], Some(("t", 1)), "t 0 [1, 2, 3]", "z-0"),
            (&[], Some(("u", 7)), "z 0 [0]", ""),
            (&["t", "a"], Some(("t", 2)), "t 0 [2, 3]", ""),
            (&["t", "a"], Some(("t", 99)), "t 0 []", ""),
            (
                &["a", "b", "t"],
                Some(("b", 0)),
                "b 3 [], t 0 [0, 1, 2]",
                "t-3",
            ),
            (&["n", "o", "p"], None, "n 3 [], o 3 [], p 3 []", ""),
        ] {
            assert_eq!(ask(&request(asked, 3, cursor)), page_of(topics, next));
        }
        // What is unknown takes no room, but needs some.
        let full = ask(&request(&["a", "n"], 2, None));
        assert_eq!(full, page_of("a 0 [0, 1]", "n-0"));
        for limit in [i32::MIN, 0, 1] {
            assert_eq!(
                ask(&request(&["a"], limit, None)),
                page_of("a 0 [0]", "a-1")
            );
        }
    }

    #[test]
    fn wrong_cursors_and_no_name_spoil_the_request() {
        let wrong = Err(ErrorCode::INVALID_REQUEST);
        for (asked, cursor) in [
            (&["t"][..], ("u", 0)),
            (&["t"], ("a", 0)),
            (&["t"], ("t", -1)),
            (&[], ("t", -1)),
        ] {
            assert_eq!(ask(&request(asked, 3, Some(cursor))), wrong);
        }
        let unnamed = ask(&request(&["t", ""], 3, None));
        assert_eq!(unnamed, Err(ErrorCode::UNKNOWN_SERVER_ERROR));
        let told = refuse(request(&["t", "a"], 3, None), ErrorCode::INVALID_REQUEST);
        let told = told.topics.iter();
        let told = told.map(|t| {
            (
                t.name.as_deref(),
                t.error_code.0,
                t.topic_authorized_operations,
            )
        });
        assert!(told.eq([(Some("t"), 42, i32::MIN), (Some("a"), 42, i32::MIN)]));
    }
}
