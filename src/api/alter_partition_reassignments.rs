//! AlterPartitionReassignments (45): moves replicas of partitions to other brokers. KIP-455, KIP-860
//! (whether their number may change). Each partition stays where it is: on the shard that owns it.

use super::{Api, Call, Handled, assignment, limits};
use crate::catalog::{Catalog, Topic};
use crate::gateway::Gateway;
use crate::store::PartitionId;
use crate::wire::alter_partition_reassignments::{
    KEY, ReassignablePartition, ReassignablePartitionResponse, ReassignableTopic,
    ReassignableTopicResponse, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "AlterPartitionReassignments",
    versions: 0..=1,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let gateway: &Gateway = &call.gateway;
    let catalog = gateway.catalog();
    let counts = request.topics.iter().map(|topic| topic.partitions.len());
    if let Some(refusal) = limits::too_many_partitions(&API, counts, &catalog) {
        return Ok(refusal);
    }
    let rules = Rules {
        catalog: &catalog,
        is_broker: &|id| gateway.facts().is_broker(id),
        leader: &|id| gateway.leader(id),
    };
    call.answer(&rules.alter(&request))
}

/// Why a partition is not reassigned.
type Refusal = (ErrorCode, Option<StrBytes>);

/// What reassignments are checked against.
struct Rules<'a> {
    catalog: &'a Catalog,
    is_broker: &'a dyn Fn(i32) -> bool,
    leader: &'a dyn Fn(PartitionId) -> i32,
}

impl Rules<'_> {
    fn alter(&self, request: &Request) -> Response {
        if request.topics.is_empty() {
            return Response {
                error_message: Some("".into()),
                ..Response::default()
            };
        }
        let late = request.timeout_ms <= 0;
        // Kafka's controller lets what is late already be.
        let error_code = match late {
            true => ErrorCode::REQUEST_TIMED_OUT,
            false => ErrorCode::NONE,
        };
        let check = |topic, partition| match late {
            true => Err((error_code, None)),
            false => self.check(topic, partition),
        };
        let responses = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            ReassignableTopicResponse {
                name: topic.name.clone(),
                partitions: partitions
                    .map(|partition| response(partition, check(topic, partition)))
                    .collect(),
            }
        });
        Response {
            allow_replication_factor_change: request.allow_replication_factor_change,
            error_code,
            responses: responses.collect(),
            ..Response::default()
        }
    }

    fn check(&self, of: &ReassignableTopic, asked: &ReassignablePartition) -> Result<(), Refusal> {
        let id = self.find(of, asked.partition_index)?;
        let refuse = |text: String| {
            let code = ErrorCode::INVALID_REPLICA_ASSIGNMENT;
            (code, Some(limits::text(text)))
        };
        let Some(replicas) = &asked.replicas else {
            return Err((ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, None));
        };
        assignment::check(replicas, self.is_broker).map_err(refuse)?;
        match (self.leader)(id) {
            leader if *replicas == [leader] => Ok(()),
            // With a broker for each shard there are others to name.
            leader => Err(refuse(format!(
                "The partition belongs to broker {leader} and cannot be moved."
            ))),
        }
    }

    fn find(&self, of: &ReassignableTopic, index: i32) -> Result<PartitionId, Refusal> {
        let unknown = |text: String| {
            let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            (code, Some(limits::text(text)))
        };
        let name = &of.name;
        let topic: &Topic = self
            .catalog
            .by_name(name)
            .ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
        topic
            .partition(index)
            .ok_or_else(|| unknown(format!("Unable to find partition {name}:{index}.")))
    }
}

fn response(
    of: &ReassignablePartition,
    checked: Result<(), Refusal>,
) -> ReassignablePartitionResponse {
    let (error_code, error_message) = checked.err().unwrap_or((ErrorCode::NONE, None));
    ReassignablePartitionResponse {
        partition_index: of.partition_index,
        error_code,
        error_message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::topic_config::TopicConfig;

    /// On brokers 1 and 2, of which 1 leads the topic `t` of 2 partitions.
    fn alter(
        name: &'static str,
        partitions: &[(i32, Option<&[i32]>)],
        timeout_ms: i32,
    ) -> (i16, Vec<(i16, String)>) {
        let topic = Topic::new(&"t".into(), 2, TopicConfig::default()).expect("an id");
        let rules = Rules {
            catalog: &Catalog::from_iter([topic]),
            is_broker: &|id| id == 1 || id == 2,
            leader: &|_| 1,
        };
        let partition =
            |(partition_index, replicas): &(i32, Option<&[i32]>)| ReassignablePartition {
                partition_index: *partition_index,
                replicas: replicas.map(<[i32]>::to_vec),
            };
        let topic = ReassignableTopic {
            name: name.into(),
            partitions: partitions.iter().map(partition).collect(),
        };
        let request = Request {
            timeout_ms,
            allow_replication_factor_change: false,
            topics: vec![topic],
        };
        let response = rules.alter(&request);
        assert!(!response.allow_replication_factor_change);
        assert_eq!(response.error_message, None);
        let told = response.responses[0].partitions.iter().map(|p| {
            let text = p.error_message.clone().unwrap_or_default();
            (p.error_code.0, text.to_string())
        });
        (response.error_code.0, told.collect())
    }

    #[test]
    fn a_partition_stays_where_it_is() {
        let includes = |what: &str| format!("The manual partition assignment includes {what}");
        let stays = "The partition belongs to broker 1 and cannot be moved.";
        for (replicas, code, text) in [
            (Some(&[1][..]), 0, String::new()),
            (None, 85, String::new()),
            (Some(&[]), 39, includes("an empty replica list.")),
            (
                Some(&[1, 9]),
                39,
                includes("broker 9, but no such broker is registered."),
            ),
            (Some(&[1, 1]), 39, includes("the broker 1 more than once.")),
            (Some(&[2]), 39, stays.to_owned()),
            (
                Some(&[1, 2]),
                39,
                includes("2 brokers, but each partition has one replica."),
            ),
        ] {
            assert_eq!(alter("t", &[(0, replicas)], 1), (0, vec![(code, text)]));
        }
    }

    #[test]
    fn partitions_that_there_are_not_are_told_in_kafkas_words() {
        let told = alter("t", &[(2, Some(&[9])), (-1, None)], 1).1;
        let t = |index| (3, format!("Unable to find partition t:{index}."));
        assert_eq!(told, [t(2), t(-1)]);
        let told = alter("nope", &[(0, None)], 1).1;
        assert_eq!(told, [(3, "Unable to find a topic named nope.".to_owned())]);
    }

    #[test]
    fn what_is_late_already_is_refused_as_a_whole() {
        let told = alter("nope", &[(0, Some(&[1]))], 0);
        assert_eq!(told, (7, vec![(7, String::new())]));
    }
}
