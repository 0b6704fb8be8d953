//! ElectLeaders (43): makes replicas leaders of their partitions. KIP-183, KIP-460 (unclean elections).
//! Each partition has one replica, which leads it: there is never anything to elect.

use super::{Api, Call, Handled, limits};
use crate::catalog::Catalog;
use crate::wire::elect_leaders::{
    KEY, PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "ElectLeaders",
    versions: 0..=2,
    handle,
};

/// The replica that was assigned first, and any replica.
const ELECTION_TYPES: [i8; 2] = [0, 1];

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let catalog = call.gateway.catalog();
    let topics = request.topic_partitions.iter().flatten();
    let counts = topics.map(|topic| topic.partitions.len());
    if let Some(refusal) = limits::too_many_partitions(&API, counts, &catalog) {
        return Ok(refusal);
    }
    call.answer(&elect(&catalog, &request))
}

fn elect(catalog: &Catalog, request: &Request) -> Response {
    if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
        return Response::default();
    }
    if request.timeout_ms <= 0 {
        // Kafka's controller lets what is late already be.
        return refuse(request, ErrorCode::REQUEST_TIMED_OUT, None);
    }
    if !ELECTION_TYPES.contains(&request.election_type) {
        let text = format!("Unknown election type {}", request.election_type);
        return refuse(request, ErrorCode::INVALID_REQUEST, Some(text.into()));
    }
    let result = |topic: &TopicPartitions| ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: elect_in(catalog, topic),
    };
    // Asked for all, Kafka tells those that needed an election only.
    let nothing = |name: &StrBytes| ReplicaElectionResult {
        topic: name.clone(),
        ..ReplicaElectionResult::default()
    };
    Response {
        replica_election_results: match &request.topic_partitions {
            Some(topics) => topics.iter().map(result).collect(),
            None => catalog.topics().map(|topic| nothing(&topic.name)).collect(),
        },
        ..Response::default()
    }
}

fn elect_in(catalog: &Catalog, asked: &TopicPartitions) -> Vec<PartitionResult> {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let name = &asked.topic;
    let topic = catalog.by_name(name);
    let no_topic = limits::text(format!("No such topic as {name}"));
    let result = |index: &i32| match topic {
        None => result(*index, unknown, Some(no_topic.clone())),
        Some(topic) if topic.partition(*index).is_none() => {
            let text = format!("No such partition as {name}-{index}");
            result(*index, unknown, Some(text.into()))
        }
        Some(_) => {
            let text = "Leader election not needed for topic partition.";
            result(*index, ErrorCode::ELECTION_NOT_NEEDED, Some(text.into()))
        }
    };
    asked.partitions.iter().map(result).collect()
}

/// The same for all that was asked for.
fn refuse(request: &Request, error_code: ErrorCode, text: Option<StrBytes>) -> Response {
    let topics = request.topic_partitions.iter().flatten();
    let refused = topics.map(|topic| {
        let partitions = topic.partitions.iter();
        ReplicaElectionResult {
            topic: topic.topic.clone(),
            partition_result: partitions
                .map(|index| result(*index, error_code, text.clone()))
                .collect(),
        }
    });
    Response {
        error_code,
        replica_election_results: refused.collect(),
        ..Response::default()
    }
}

fn result(
    partition_id: i32,
    error_code: ErrorCode,
    error_message: Option<StrBytes>,
) -> PartitionResult {
    PartitionResult {
        partition_id,
        error_code,
        error_message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Topic;
    use crate::catalog::topic_config::TopicConfig;

    type Told = (String, i32, i16, String);

    /// With a topic `t` of 2 partitions. `None` asks for all.
    fn ask(election_type: i8, of: Option<&[(&'static str, &[i32])]>, timeout_ms: i32) -> Response {
        let topic = Topic::new(&"t".into(), 2, TopicConfig::default()).expect("an id");
        let partitions = |(topic, partitions): &(&'static str, &[i32])| TopicPartitions {
            topic: (*topic).into(),
            partitions: partitions.to_vec(),
        };
        let request = Request {
            election_type,
            topic_partitions: of.map(|of| of.iter().map(partitions).collect()),
            timeout_ms,
        };
        elect(&Catalog::from_iter([topic]), &request)
    }

    fn told(response: &Response) -> Vec<Told> {
        let results = response.replica_election_results.iter();
        let told = results.flat_map(|topic| {
            let name = topic.topic.to_string();
            topic.partition_result.iter().map(move |p| {
                let text = p.error_message.clone().unwrap_or_default();
                (
                    name.clone(),
                    p.partition_id,
                    p.error_code.0,
                    text.to_string(),
                )
            })
        });
        told.collect()
    }

    #[test]
    fn leaders_are_the_right_ones_already() {
        for election_type in ELECTION_TYPES {
            let response = ask(election_type, Some(&[("t", &[0, 9]), ("nope", &[0])]), 1);
            assert_eq!(response.error_code, ErrorCode::NONE);
            let of = |name: &str, index, code, text: &str| {
                (name.to_owned(), index, code, text.to_owned())
            };
            let expected = [
                of(
                    "t",
                    0,
                    84,
                    "Leader election not needed for topic partition.",
                ),
                of("t", 9, 3, "No such partition as t-9"),
                of("nope", 0, 3, "No such topic as nope"),
            ];
            assert_eq!(told(&response), expected);
            let all = ask(election_type, None, 1);
            assert_eq!(all.replica_election_results.len(), 1);
            assert!(told(&all).is_empty());
        }
    }

    #[test]
    fn what_is_late_or_of_no_type_is_refused_as_a_whole() {
        let late = ask(0, Some(&[("t", &[0])]), 0);
        assert_eq!(late.error_code, ErrorCode::REQUEST_TIMED_OUT);
        assert_eq!(told(&late), [("t".to_owned(), 0, 7, String::new())]);
        let wrong = ask(2, Some(&[("nope", &[5])]), 1);
        assert_eq!(wrong.error_code, ErrorCode::INVALID_REQUEST);
        let text = "Unknown election type 2".to_owned();
        assert_eq!(told(&wrong), [("nope".to_owned(), 5, 42, text)]);
        assert_eq!(ask(-1, None, 1).error_code, ErrorCode::INVALID_REQUEST);
        assert_eq!(ask(2, Some(&[]), 0), Response::default());
    }
}
