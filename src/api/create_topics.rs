//! CreateTopics (19): creates topics. KIP-4, KIP-464 (defaults), KIP-516 (topic ids), KIP-525 (configs
//! in the answer).
//!
//! Checks come in the order of Kafka's controller, so that a topic with several faults is refused for
//! the same one. Topics that are good are created though others are not; what is wrong with the
//! request as a whole refuses all of them.

use std::collections::HashSet;
use std::rc::Rc;

use super::{Api, Call, Handled, assignment};
use crate::catalog::broker_config::BrokerConfigs;
use crate::catalog::keeper::{CHANGES_MAX, Change, ChangeError, Changed, changes_of};
use crate::catalog::topic_config::{self, Effective};
use crate::catalog::{Catalog, Topic, Values, name};
use crate::config::SeaweedMqPath;
use crate::gateway::Gateway;
use crate::wire::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, KEY,
    Request, Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "CreateTopics",
    versions: 2..=7,
    handle,
};

/// Of all topics of a request together; Kafka's controller has the same limit.
const PARTITIONS_MAX: i64 = 10_000;
/// For the number of partitions and the replication factor: what the broker takes by itself.
const DEFAULT: i32 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(|call| answer(call, request))
}

async fn answer(call: Rc<Call>, request: Request) -> Response {
    let topics = match create(&call.gateway, &request).await {
        Ok(topics) => topics,
        Err(failure) => {
            let refuse = |topic: &CreatableTopic| failure.clone().result(topic.name.clone());
            request.topics.iter().map(refuse).collect()
        }
    };
    Response {
        topics,
        ..Response::default()
    }
}

/// Why a topic is not created.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    code: ErrorCode,
    message: Option<String>,
}

impl Failure {
    fn new(code: ErrorCode, message: impl ToString) -> Self {
        Failure {
            code,
            message: Some(message.to_string()),
        }
    }

    fn result(self, name: StrBytes) -> CreatableTopicResult {
        CreatableTopicResult {
            name,
            error_code: self.code,
            error_message: self.message.map(StrBytes::from),
            configs: Some(Vec::new()),
            ..CreatableTopicResult::default()
        }
    }

    /// What is wrong with a name as the catalog sees it.
    fn of_change(name: &str, error: &ChangeError) -> Self {
        let message = match error {
            ChangeError::Exists => format!("Topic '{name}' already exists."),
            ChangeError::Collides(other) => {
                format!("Topic '{name}' collides with existing topic: {other}")
            }
            ChangeError::Unknown
            | ChangeError::NoIncrease(_)
            | ChangeError::Adopted
            | ChangeError::TooManyPartitions(_)
            | ChangeError::NotStored(_) => error.to_string(),
        };
        Failure::new(error.into(), message)
    }
}

/// Creates what is good. A failure is that of the whole request.
async fn create(
    gateway: &Gateway,
    request: &Request,
) -> Result<Vec<CreatableTopicResult>, Failure> {
    let names = Names::of(&request.topics);
    let catalog = gateway.catalog();
    let mut topics = check_all(gateway, &catalog, request, &names)?;
    if !request.validate_only {
        store(gateway, &mut topics).await;
    }
    let created = topics.into_iter().map(|(name, topic)| match topic {
        Ok(topic) => success(topic, catalog.broker()),
        Err(failure) => failure.result(name),
    });
    Ok(created.chain(names.refused()).collect())
}

/// The request's names by what becomes of them.
struct Names {
    /// Those that stand in the request once.
    single: HashSet<StrBytes>,
    /// Each once, in the request's order.
    duplicate: Vec<StrBytes>,
    cluster_metadata: bool,
}

impl Names {
    fn of(topics: &[CreatableTopic]) -> Self {
        let mut single = HashSet::new();
        let mut seen_twice = HashSet::new();
        let mut duplicate = Vec::new();
        for CreatableTopic { name, .. } in topics {
            if !single.insert(name.clone()) && seen_twice.insert(name.clone()) {
                duplicate.push(name.clone());
            }
        }
        single.retain(|name| !seen_twice.contains(name));
        let cluster_metadata = single.remove(name::CLUSTER_METADATA);
        Names {
            single,
            duplicate,
            cluster_metadata,
        }
    }

    /// The answers for those that are refused for their names' sake.
    fn refused(self) -> impl Iterator<Item = CreatableTopicResult> {
        let duplicate = Failure::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.");
        let duplicates = self
            .duplicate
            .into_iter()
            .map(move |name| duplicate.clone().result(name));
        let cluster_metadata = self.cluster_metadata.then(|| {
            let name = name::CLUSTER_METADATA;
            let message = format!("Creation of internal topic {name} is prohibited.");
            Failure::new(ErrorCode::INVALID_REQUEST, message).result(name.into())
        });
        duplicates.chain(cluster_metadata)
    }
}

type Checked = (StrBytes, Result<Topic, Failure>);

/// Checks all topics that stand in the request once.
fn check_all(
    gateway: &Gateway,
    catalog: &Catalog,
    request: &Request,
    names: &Names,
) -> Result<Vec<Checked>, Failure> {
    let config = gateway.config();
    let rules = Rules {
        catalog,
        num_partitions: config.num_partitions,
        seaweedmq_path: config.seaweedmq_path,
        is_broker: &|id| gateway.facts().is_broker(id),
    };
    let topics = || {
        request
            .topics
            .iter()
            .filter(|topic| names.single.contains(&topic.name))
    };
    if names.single.is_empty() {
        return Ok(Vec::new());
    }
    if request.timeout_ms <= 0 {
        // Kafka's controller lets what is late already be.
        return Err(Failure {
            code: ErrorCode::REQUEST_TIMED_OUT,
            message: None,
        });
    }
    if topics()
        .map(|topic| rules.partitions_asked(topic))
        .sum::<i64>()
        > PARTITIONS_MAX
    {
        let message = "Excessively large number of partitions per request.";
        return Err(Failure::new(ErrorCode::POLICY_VIOLATION, message));
    }
    let checked: Vec<_> = topics()
        .map(|topic| (topic.name.clone(), rules.check(topic)))
        .collect();
    if checked
        .iter()
        .flat_map(|(_, topic)| topic)
        .map(changes_of)
        .sum::<usize>()
        > CHANGES_MAX
    {
        let message = "Unable to perform excessively large batch operation.";
        return Err(Failure::new(ErrorCode::POLICY_VIOLATION, message));
    }
    Ok(checked)
}

/// What topics are checked against.
struct Rules<'a> {
    catalog: &'a Catalog,
    num_partitions: i32,
    seaweedmq_path: SeaweedMqPath,
    is_broker: &'a dyn Fn(i32) -> bool,
}

impl Rules<'_> {
    /// Partitions that a topic asks for, be the number right or not.
    fn partitions_asked(&self, topic: &CreatableTopic) -> i64 {
        match (topic.assignments.len(), topic.num_partitions) {
            (0, DEFAULT) => self.num_partitions.into(),
            (0, partitions) => i64::from(partitions).max(0),
            (assigned, _) => assigned as i64,
        }
    }

    fn check(&self, topic: &CreatableTopic) -> Result<Topic, Failure> {
        name::check(&topic.name)
            .map_err(|e| Failure::new(ErrorCode::INVALID_TOPIC_EXCEPTION, e))?;
        self.catalog
            .check_free(&topic.name)
            .map_err(|e| Failure::of_change(&topic.name, &e))?;
        let given = topic
            .configs
            .iter()
            .map(|config| (&*config.name, config.value.as_deref()));
        let defaults = self.catalog.broker().defaults();
        let (mut configs, mut config) = topic_config::check(defaults, given)
            .map_err(|e| Failure::new(ErrorCode::INVALID_CONFIG, e))?;
        topic_config::choose_path(self.seaweedmq_path, &mut configs, &mut config);
        let partitions = match topic.assignments.is_empty() {
            true => self.check_numbers(topic)?,
            false => self.check_assignments(topic)?,
        };
        let made = Topic::new(&topic.name, partitions, config)
            .map_err(|e| Failure::new(ErrorCode::UNKNOWN_SERVER_ERROR, e))?;
        Ok(Topic { configs, ..made })
    }

    fn check_numbers(&self, topic: &CreatableTopic) -> Result<i32, Failure> {
        let factor = i32::from(topic.replication_factor);
        if factor == 0 || factor < DEFAULT {
            let message =
                "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Failure::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        let partitions = match topic.num_partitions {
            DEFAULT => self.num_partitions,
            partitions @ 1.. => partitions,
            _ => {
                let message = "Number of partitions was set to an invalid non-positive value.";
                return Err(Failure::new(ErrorCode::INVALID_PARTITIONS, message));
            }
        };
        if factor > 1 {
            let message = format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor \
                 of {factor} cannot be reached because only 1 broker(s) are registered or some \
                 brokers have all their log directories cordoned."
            );
            return Err(Failure::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        Ok(partitions)
    }

    /// A client's own assignment of replicas: it can only say this broker, for each partition.
    fn check_assignments(&self, topic: &CreatableTopic) -> Result<i32, Failure> {
        let specified = "A manual partition assignment was specified, but";
        if i32::from(topic.replication_factor) != DEFAULT {
            let message = format!("{specified} replication factor was not set to -1.");
            return Err(Failure::new(ErrorCode::INVALID_REQUEST, message));
        }
        if topic.num_partitions != DEFAULT {
            let message = format!("{specified} numPartitions was not set to -1.");
            return Err(Failure::new(ErrorCode::INVALID_REQUEST, message));
        }
        let refuse = |message: String| Failure::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
        let mut partitions = HashSet::new();
        for CreatableReplicaAssignment {
            partition_index,
            broker_ids,
        } in &topic.assignments
        {
            if !partitions.insert(*partition_index) {
                let found = "Found multiple manual partition assignments for partition";
                return Err(refuse(format!("{found} {partition_index}")));
            }
            assignment::check(broker_ids, self.is_broker).map_err(refuse)?;
        }
        // At most PARTITIONS_MAX by now.
        let count = partitions.len() as i32;
        if !(0..count).all(|index| partitions.contains(&index)) {
            let message = "partitions should be a consecutive 0-based integer sequence";
            return Err(refuse(message.to_owned()));
        }
        Ok(count)
    }
}

/// Puts good topics into the catalog; those that it does not take after all fail.
async fn store(gateway: &Gateway, topics: &mut [Checked]) {
    let good: Vec<_> = topics
        .iter()
        .filter_map(|(_, topic)| topic.as_ref().ok().cloned())
        .collect();
    if good.is_empty() {
        return;
    }
    let changed = gateway.change_catalog(Change::CreateTopics(good)).await;
    let mut outcomes = match changed {
        Ok(Changed::Topics(outcomes)) => outcomes.into_iter(),
        _ => Vec::new().into_iter(),
    };
    for (name, topic) in topics.iter_mut().filter(|(_, topic)| topic.is_ok()) {
        match outcomes.next() {
            Some(Ok(())) => {}
            Some(Err(error)) => *topic = Err(Failure::of_change(name, &error)),
            // Shard 0 did not answer: the topic may be there or not.
            None => {
                *topic = Err(Failure {
                    code: ErrorCode::REQUEST_TIMED_OUT,
                    message: None,
                })
            }
        }
    }
}

fn success(topic: Topic, broker: &BrokerConfigs) -> CreatableTopicResult {
    CreatableTopicResult {
        topic_id: topic.id,
        num_partitions: topic.partitions,
        replication_factor: 1,
        configs: Some(configs(&topic.configs, broker)),
        name: topic.name,
        ..CreatableTopicResult::default()
    }
}

/// KIP-525: the new topic's configs, whoever set them.
fn configs(values: &Values, broker: &BrokerConfigs) -> Vec<CreatableTopicConfigs> {
    let config = |Effective {
                      name,
                      value,
                      source,
                  }| CreatableTopicConfigs {
        name: name.into(),
        value: Some(value.into()),
        config_source: source as i8,
        ..CreatableTopicConfigs::default()
    };
    topic_config::effective(values, broker)
        .map(config)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: i32 = 1;

    fn check(topic: CreatableTopic) -> Result<i32, (ErrorCode, String)> {
        let rules = Rules {
            catalog: &Catalog::default(),
            num_partitions: 3,
            seaweedmq_path: SeaweedMqPath::Segments,
            is_broker: &|id| id == BROKER,
        };
        let checked = rules.check(&topic).map(|topic| topic.partitions);
        checked.map_err(|failure| (failure.code, failure.message.unwrap_or_default()))
    }

    fn topic(num_partitions: i32, replication_factor: i16) -> CreatableTopic {
        CreatableTopic {
            name: "t".into(),
            num_partitions,
            replication_factor,
            ..CreatableTopic::default()
        }
    }

    fn assigned(assignments: &[(i32, &[i32])]) -> CreatableTopic {
        let assignment =
            |(partition_index, broker_ids): &(i32, &[i32])| CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: broker_ids.to_vec(),
            };
        CreatableTopic {
            assignments: assignments.iter().map(assignment).collect(),
            ..topic(-1, -1)
        }
    }

    #[test]
    fn numbers_may_be_left_to_the_broker() {
        assert_eq!(check(topic(-1, -1)), Ok(3));
        assert_eq!(check(topic(7, 1)), Ok(7));
    }

    #[test]
    fn wrong_numbers_are_refused_in_kafkas_order() {
        let code = |partitions, factor| check(topic(partitions, factor)).map_err(|(code, _)| code);
        for factor in [0, -2] {
            assert_eq!(code(0, factor), Err(ErrorCode::INVALID_REPLICATION_FACTOR));
        }
        for partitions in [0, -2, i32::MIN] {
            assert_eq!(code(partitions, 3), Err(ErrorCode::INVALID_PARTITIONS));
        }
        let (code, message) = check(topic(1, 2)).expect_err("one broker");
        assert_eq!(code, ErrorCode::INVALID_REPLICATION_FACTOR);
        assert_eq!(
            message,
            "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached \
             because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
        );
    }

    #[test]
    fn assignments_count_the_partitions() {
        assert_eq!(check(assigned(&[(1, &[BROKER]), (0, &[BROKER])])), Ok(2));
    }

    #[test]
    fn wrong_assignments_are_refused_in_kafkas_words() {
        let includes = |what: &str| format!("The manual partition assignment includes {what}");
        let consecutive = "partitions should be a consecutive 0-based integer sequence";
        for (assignments, text) in [
            (
                &[(0, &[9][..])][..],
                includes("broker 9, but no such broker is registered."),
            ),
            (
                &[(0, &[-1])],
                includes("broker -1, but no such broker is registered."),
            ),
            (&[(0, &[1, 1])], includes("the broker 1 more than once.")),
            (
                &[(0, &[1, 0])],
                includes("broker 0, but no such broker is registered."),
            ),
            (&[(0, &[])], includes("an empty replica list.")),
            (&[(0, &[1]), (2, &[1])], consecutive.to_owned()),
            (&[(-1, &[1])], consecutive.to_owned()),
            (
                &[(0, &[1]), (0, &[9])],
                "Found multiple manual partition assignments for partition 0".to_owned(),
            ),
        ] {
            let refused = Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
            assert_eq!(check(assigned(assignments)), refused);
        }
        let both = |num_partitions, replication_factor| {
            let topic = assigned(&[(0, &[BROKER])]);
            let topic = CreatableTopic {
                num_partitions,
                replication_factor,
                ..topic
            };
            check(topic).expect_err("numbers and assignments").1
        };
        let specified = "A manual partition assignment was specified, but";
        assert_eq!(
            both(1, -1),
            format!("{specified} numPartitions was not set to -1.")
        );
        assert_eq!(
            both(-1, 1),
            format!("{specified} replication factor was not set to -1.")
        );
    }

    #[test]
    fn a_bad_config_is_said_before_bad_numbers() {
        let config = crate::wire::create_topics::CreatableTopicConfig {
            name: "segment.bytes".into(),
            value: Some("x".into()),
        };
        let topic = CreatableTopic {
            configs: vec![config],
            ..topic(0, 0)
        };
        assert_eq!(check(topic).expect_err("bad").0, ErrorCode::INVALID_CONFIG);
    }

    #[test]
    fn names_given_twice_are_refused_once_and_last() {
        let named = |name: &'static str| CreatableTopic {
            name: name.into(),
            ..topic(1, 1)
        };
        let all = ["d", "__cluster_metadata", "a", "d", "d", "b"].map(named);
        let names = Names::of(&all);
        assert_eq!(names.single, HashSet::from(["a".into(), "b".into()]));
        let refused: Vec<_> = names.refused().map(|r| (r.name, r.error_message)).collect();
        let prohibited = "Creation of internal topic __cluster_metadata is prohibited.";
        assert_eq!(
            refused,
            [
                ("d".into(), Some("Duplicate topic name.".into())),
                ("__cluster_metadata".into(), Some(prohibited.into())),
            ]
        );
    }
}
