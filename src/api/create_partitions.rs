//! CreatePartitions (37): gives topics more partitions. KIP-195.

use std::collections::HashSet;

use super::{Api, Call, Handled, assignment};
use crate::catalog::Catalog;
use crate::catalog::keeper::{CHANGES_MAX, Change, ChangeError, Changed};
use crate::gateway::Gateway;
use crate::wire::create_partitions::{
    CreatePartitionsTopic, CreatePartitionsTopicResult, KEY, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes, Uuid};

pub(super) const API: Api = Api {
    key: KEY,
    name: "CreatePartitions",
    versions: 0..=3,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(async move |call| Response {
        results: create(&call.gateway, &request).await,
        ..Response::default()
    })
}

/// Why a topic does not get its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    code: ErrorCode,
    message: Option<String>,
}

impl Failure {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: Some(message.into()),
        }
    }

    fn silent(code: ErrorCode) -> Self {
        Failure {
            code,
            message: None,
        }
    }

    fn of_change(topic: &CreatePartitionsTopic, error: &ChangeError) -> Self {
        let (name, count) = (&topic.name, topic.count);
        let message = match error {
            ChangeError::NoIncrease(has) if *has == count => {
                format!("Topic already has {has} partition(s).")
            }
            ChangeError::NoIncrease(has) => format!(
                "The topic {name} currently has {has} partition(s); {count} would not be an increase."
            ),
            ChangeError::Unknown => return Self::silent(error.into()),
            ChangeError::Exists
            | ChangeError::Collides(_)
            | ChangeError::Adopted
            | ChangeError::TooManyPartitions(_)
            | ChangeError::NotStored(_) => error.to_string(),
        };
        Self::new(error.into(), message)
    }

    fn result(self, name: StrBytes) -> CreatePartitionsTopicResult {
        CreatePartitionsTopicResult {
            name,
            error_code: self.code,
            error_message: self.message.map(StrBytes::from),
        }
    }
}

/// Names that stand in the request more than once are refused, each once and first.
async fn create(gateway: &Gateway, request: &Request) -> Vec<CreatePartitionsTopicResult> {
    let (single, twice) = split(&request.topics);
    let duplicate = Failure::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.");
    let refused = twice
        .into_iter()
        .map(|name| duplicate.clone().result(name.clone()));
    let rules = Rules {
        catalog: &gateway.catalog(),
        is_broker: &|id| gateway.facts().is_broker(id),
        timeout_ms: request.timeout_ms,
    };
    let mut checked = rules.check_all(&single);
    if !request.validate_only {
        store(gateway, &single, &mut checked).await;
    }
    let result = |(topic, checked): (&CreatePartitionsTopic, Checked)| match checked {
        Ok(_) => CreatePartitionsTopicResult {
            name: topic.name.clone(),
            ..CreatePartitionsTopicResult::default()
        },
        Err(failure) => failure.result(topic.name.clone()),
    };
    refused
        .chain(single.into_iter().zip(checked).map(result))
        .collect()
}

/// Topics that are named once, and names that are there more often.
fn split(topics: &[CreatePartitionsTopic]) -> (Vec<&CreatePartitionsTopic>, Vec<&StrBytes>) {
    let (mut seen, mut seen_twice) = (HashSet::new(), HashSet::new());
    let mut twice = Vec::new();
    for CreatePartitionsTopic { name, .. } in topics {
        if !seen.insert(name) && seen_twice.insert(name) {
            twice.push(name);
        }
    }
    let single = topics.iter().filter(|t| !seen_twice.contains(&t.name));
    (single.collect(), twice)
}

/// The topic that gets partitions.
type Checked = Result<Uuid, Failure>;

/// What topics are checked against.
struct Rules<'a> {
    catalog: &'a Catalog,
    is_broker: &'a dyn Fn(i32) -> bool,
    timeout_ms: i32,
}

impl Rules<'_> {
    fn check_all(&self, topics: &[&CreatePartitionsTopic]) -> Vec<Checked> {
        if self.timeout_ms <= 0 {
            // Kafka's controller lets what is late already be.
            let late = Failure::silent(ErrorCode::REQUEST_TIMED_OUT);
            return vec![Err(late); topics.len()];
        }
        let mut more = 0;
        let mut check = |topic: &&CreatePartitionsTopic| {
            let (id, additional) = self.check(topic)?;
            more += additional;
            Ok(id)
        };
        let checked: Vec<_> = topics.iter().map(&mut check).collect();
        if more <= CHANGES_MAX {
            return checked;
        }
        // Kafka's controller does not expect so many, and says no more than that.
        let too_many = Failure::silent(ErrorCode::UNKNOWN_SERVER_ERROR);
        let refuse = |checked: Checked| checked.and(Err(too_many.clone()));
        checked.into_iter().map(refuse).collect()
    }

    /// The topic, and how many partitions it gets.
    fn check(&self, topic: &CreatePartitionsTopic) -> Result<(Uuid, usize), Failure> {
        let of_change = |error| Failure::of_change(topic, &error);
        let found = self.catalog.by_name(&topic.name);
        let found = found.ok_or_else(|| of_change(ChangeError::Unknown))?;
        self.catalog
            .check_increase(&found.id, topic.count)
            .map_err(of_change)?;
        let additional = (topic.count - found.partitions) as usize;
        if let Some(assignments) = &topic.assignments {
            let refuse = |text: String| Failure::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text);
            if assignments.len() != additional {
                return Err(refuse(format!(
                    "Attempted to add {additional} additional partition(s), but only {} \
                     assignment(s) were specified.",
                    assignments.len()
                )));
            }
            for assigned in assignments {
                assignment::check(&assigned.broker_ids, self.is_broker).map_err(refuse)?;
            }
        }
        Ok((found.id, additional))
    }
}

/// Puts partitions into the catalog; topics that have changed meanwhile fail.
async fn store(gateway: &Gateway, topics: &[&CreatePartitionsTopic], checked: &mut [Checked]) {
    let both = topics.iter().zip(&*checked);
    let good = both.filter_map(|(topic, checked)| Some((*checked.as_ref().ok()?, topic.count)));
    let good: Vec<_> = good.collect();
    if good.is_empty() {
        return;
    }
    let changed = gateway.change_catalog(Change::CreatePartitions(good)).await;
    let mut outcomes = match changed {
        Ok(Changed::Topics(outcomes)) => outcomes.into_iter(),
        _ => Vec::new().into_iter(),
    };
    for (topic, checked) in topics.iter().zip(checked).filter(|(_, c)| c.is_ok()) {
        match outcomes.next() {
            Some(Ok(())) => {}
            Some(Err(error)) => *checked = Err(Failure::of_change(topic, &error)),
            // Shard 0 did not answer: the partitions may be there or not.
            None => *checked = Err(Failure::silent(ErrorCode::REQUEST_TIMED_OUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Topic;
    use crate::catalog::topic_config::TopicConfig;
    use crate::wire::create_partitions::CreatePartitionsAssignment;

    fn asked(
        name: &'static str,
        count: i32,
        assignments: Option<&[&[i32]]>,
    ) -> CreatePartitionsTopic {
        let assignment = |broker_ids: &&[i32]| CreatePartitionsAssignment {
            broker_ids: broker_ids.to_vec(),
        };
        CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: assignments.map(|all| all.iter().map(assignment).collect()),
        }
    }

    /// On broker 1, with a topic `t` of 3 partitions and a topic `u` of 1.
    fn check(topics: &[CreatePartitionsTopic], timeout_ms: i32) -> Vec<(ErrorCode, String)> {
        let topic = |name: &'static str, partitions| {
            Topic::new(&name.into(), partitions, TopicConfig::default()).expect("an id")
        };
        let rules = Rules {
            catalog: &Catalog::from_iter([topic("t", 3), topic("u", 1)]),
            is_broker: &|id| id == 1,
            timeout_ms,
        };
        let said = |checked: Checked| match checked {
            Ok(_) => (ErrorCode::NONE, String::new()),
            Err(failure) => (failure.code, failure.message.unwrap_or_default()),
        };
        let topics: Vec<_> = topics.iter().collect();
        rules.check_all(&topics).into_iter().map(said).collect()
    }

    #[test]
    fn wrong_counts_are_refused_in_kafkas_words() {
        let fewer = |count: i32| {
            format!("The topic t currently has 3 partition(s); {count} would not be an increase.")
        };
        for (name, count, code, text) in [
            ("t", 4, ErrorCode::NONE, String::new()),
            (
                "t",
                3,
                ErrorCode::INVALID_PARTITIONS,
                "Topic already has 3 partition(s).".to_owned(),
            ),
            ("t", 2, ErrorCode::INVALID_PARTITIONS, fewer(2)),
            (
                "t",
                i32::MIN,
                ErrorCode::INVALID_PARTITIONS,
                fewer(i32::MIN),
            ),
            (
                "nope",
                4,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                String::new(),
            ),
        ] {
            assert_eq!(check(&[asked(name, count, None)], 1), [(code, text)]);
        }
    }

    #[test]
    fn assignments_are_checked_after_counts() {
        let includes = |what: &str| format!("The manual partition assignment includes {what}");
        let only = |assigned| {
            format!(
                "Attempted to add 2 additional partition(s), but only {assigned} assignment(s) were specified."
            )
        };
        for (assignments, text) in [
            (&[][..], only(0)),
            (&[&[1][..], &[1], &[1]], only(3)),
            (
                &[&[1], &[9]],
                includes("broker 9, but no such broker is registered."),
            ),
            (&[&[], &[1]], includes("an empty replica list.")),
            (&[&[1], &[1, 1]], includes("the broker 1 more than once.")),
        ] {
            let refused = (ErrorCode::INVALID_REPLICA_ASSIGNMENT, text);
            assert_eq!(check(&[asked("t", 5, Some(assignments))], 1), [refused]);
        }
        let good = check(&[asked("t", 5, Some(&[&[1], &[1]]))], 1);
        assert_eq!(good[0].0, ErrorCode::NONE);
        let fewer = check(&[asked("t", 1, Some(&[&[9]]))], 1);
        assert_eq!(fewer[0].0, ErrorCode::INVALID_PARTITIONS);
    }

    #[test]
    fn a_request_has_a_limit_of_partitions_and_of_time() {
        let max = CHANGES_MAX as i32;
        let unknown = asked("nope", 2, None);
        let ask = |count| {
            [
                asked("t", count, None),
                unknown.clone(),
                asked("u", 2, None),
            ]
        };
        let codes = |checked: Vec<(ErrorCode, String)>| checked.into_iter().map(|(code, _)| code.0);
        assert!(codes(check(&ask(max + 2), 1)).eq([0, 3, 0]));
        assert!(codes(check(&ask(max + 3), 1)).eq([-1, 3, -1]));
        assert!(codes(check(&ask(i32::MAX), 1)).eq([-1, 3, -1]));
        for late in [0, -1] {
            assert!(codes(check(&ask(5), late)).eq([7, 7, 7]));
        }
    }

    #[test]
    fn names_given_twice_are_told_apart() {
        let topics = ["a", "b", "a", "c", "a"].map(|name| asked(name, 2, None));
        let (single, twice) = split(&topics);
        assert!(single.iter().map(|topic| &*topic.name).eq(["b", "c"]));
        assert_eq!(twice, ["a"]);
    }
}
