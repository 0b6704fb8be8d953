//! DeleteTopics (20): deletes topics by name or id. KIP-4, KIP-516.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use super::{Api, Call, Handled};
use crate::catalog::Catalog;
use crate::catalog::keeper::{Change, ChangeError, Changed};
use crate::gateway::Gateway;
use crate::wire::delete_topics::{DeletableTopicResult, DeleteTopicState, KEY, Request, Response};
use crate::wire::{ErrorCode, StrBytes, Uuid};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DeleteTopics",
    versions: 1..=6,
    handle,
};

const UNKNOWN_NAME: &str = "This server does not host this topic-partition.";
const UNKNOWN_ID: &str = "This server does not host this topic ID.";

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let asked = Asked::of(&request);
    if request.timeout_ms <= 0 && !asked.is_empty() {
        // Kafka's controller lets what is late already be.
        return call.answer(&timed_out(request));
    }
    call.later(|call| answer(call, asked))
}

fn timed_out(request: Request) -> Response {
    let refuse = |name, topic_id| DeletableTopicResult {
        name,
        topic_id,
        error_code: ErrorCode::REQUEST_TIMED_OUT,
        error_message: None,
    };
    let names = request
        .topic_names
        .into_iter()
        .map(|name| refuse(Some(name), Uuid::ZERO));
    let topics = request
        .topics
        .into_iter()
        .map(|topic| refuse(topic.name, topic.topic_id));
    Response {
        responses: names.chain(topics).collect(),
        ..Response::default()
    }
}

async fn answer(call: Rc<Call>, asked: Asked) -> Response {
    let (mut responses, found) = asked.find(&call.gateway.catalog());
    responses.extend(delete(&call.gateway, found).await);
    Response {
        responses,
        ..Response::default()
    }
}

fn refuse(
    name: Option<StrBytes>,
    topic_id: Uuid,
    error_code: ErrorCode,
    message: &'static str,
) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code,
        error_message: Some(message.into()),
    }
}

/// What a request asks to delete, each once.
#[derive(Default)]
struct Asked {
    names: Once<StrBytes>,
    ids: Once<Uuid>,
    refused: Vec<DeletableTopicResult>,
}

/// Values in the order they came, those apart that came more than once.
struct Once<T> {
    times: HashMap<T, usize>,
    order: Vec<T>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once {
            times: HashMap::new(),
            order: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Once<T> {
    fn add(&mut self, value: &T) {
        let times = self.times.entry(value.clone()).or_default();
        *times += 1;
        if *times == 1 {
            self.order.push(value.clone());
        }
    }

    fn none_single(&self) -> bool {
        self.times.values().all(|times| *times > 1)
    }

    /// Those that came once, and the others.
    fn split(self) -> (Vec<T>, Vec<T>) {
        self.order
            .into_iter()
            .partition(|value| self.times[value] == 1)
    }
}

impl Asked {
    fn of(request: &Request) -> Self {
        let mut asked = Asked::default();
        request
            .topic_names
            .iter()
            .for_each(|name| asked.names.add(name));
        let invalid = ErrorCode::INVALID_REQUEST;
        for DeleteTopicState { name, topic_id } in &request.topics {
            match (name, topic_id.is_zero()) {
                (Some(name), true) => asked.names.add(name),
                (None, false) => asked.ids.add(topic_id),
                (Some(_), false) => {
                    let message = "You may not specify both topic name and topic id.";
                    asked
                        .refused
                        .push(refuse(name.clone(), *topic_id, invalid, message));
                }
                (None, true) => {
                    let message = "Neither topic name nor id were specified.";
                    asked
                        .refused
                        .push(refuse(None, Uuid::ZERO, invalid, message));
                }
            }
        }
        asked
    }

    /// True if there is nothing to look for.
    fn is_empty(&self) -> bool {
        self.names.none_single() && self.ids.none_single()
    }

    /// What is refused, and the topics to delete.
    fn find(self, catalog: &Catalog) -> (Vec<DeletableTopicResult>, Vec<Found>) {
        let mut refused = self.refused;
        let invalid = ErrorCode::INVALID_REQUEST;
        let (names, twice) = self.names.split();
        refused.extend(
            twice
                .into_iter()
                .map(|name| refuse(Some(name), Uuid::ZERO, invalid, "Duplicate topic name.")),
        );
        let (ids, twice) = self.ids.split();
        let mut taken: HashSet<Uuid> = twice.iter().copied().collect();
        refused.extend(
            twice
                .into_iter()
                .map(|id| refuse(None, id, invalid, "Duplicate topic id.")),
        );

        let mut found = Vec::new();
        for id in ids {
            match catalog.by_id(&id) {
                Some(topic) => found.push(Found {
                    name: topic.name.clone(),
                    id,
                    by_name: false,
                }),
                None => refused.push(refuse(None, id, ErrorCode::UNKNOWN_TOPIC_ID, UNKNOWN_ID)),
            }
        }
        taken.extend(found.iter().map(|topic| topic.id));
        let mut named_too = HashSet::new();
        for name in names {
            match catalog.by_name(&name) {
                Some(topic) if taken.contains(&topic.id) => {
                    named_too.insert(topic.id);
                    let message =
                        "The provided topic name maps to an ID that was already supplied.";
                    refused.push(refuse(Some(name), topic.id, invalid, message));
                }
                Some(topic) => found.push(Found {
                    name,
                    id: topic.id,
                    by_name: true,
                }),
                None => {
                    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                    refused.push(refuse(Some(name), Uuid::ZERO, unknown, UNKNOWN_NAME));
                }
            }
        }
        found.retain(|topic| !named_too.contains(&topic.id));
        (refused, found)
    }
}

/// A topic to delete.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    name: StrBytes,
    id: Uuid,
    by_name: bool,
}

async fn delete(gateway: &Gateway, topics: Vec<Found>) -> Vec<DeletableTopicResult> {
    if topics.is_empty() {
        return Vec::new();
    }
    let ids = topics.iter().map(|topic| topic.id).collect();
    let changed = gateway.change_catalog(Change::DeleteTopics(ids)).await;
    let mut outcomes = match changed {
        Ok(Changed::Topics(outcomes)) => outcomes.into_iter(),
        _ => Vec::new().into_iter(),
    };
    topics
        .into_iter()
        .map(|topic| topic.result(outcomes.next()))
        .collect()
}

impl Found {
    fn result(self, outcome: Option<Result<(), ChangeError>>) -> DeletableTopicResult {
        let (error_code, error_message) = match outcome {
            Some(Ok(())) => (ErrorCode::NONE, None),
            // Somebody else was faster.
            Some(Err(ChangeError::Unknown)) if self.by_name => (
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(UNKNOWN_NAME.into()),
            ),
            Some(Err(ChangeError::Unknown)) => {
                (ErrorCode::UNKNOWN_TOPIC_ID, Some(UNKNOWN_ID.into()))
            }
            Some(Err(error)) => (ErrorCode::from(&error), Some(error.to_string().into())),
            // Shard 0 did not answer: the topic may be there or not.
            None => (ErrorCode::REQUEST_TIMED_OUT, None),
        };
        DeletableTopicResult {
            name: Some(self.name),
            topic_id: self.id,
            error_code,
            error_message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Topic;
    use crate::catalog::topic_config::TopicConfig;

    const OTHER: Uuid = Uuid([7; 16]);

    fn catalog() -> (Catalog, Uuid) {
        let topic = Topic::new(&"t".into(), 1, TopicConfig::default()).expect("random");
        let id = topic.id;
        (Catalog::from_iter([topic]), id)
    }

    fn find(topics: &[(Option<&'static str>, Uuid)]) -> (Vec<(ErrorCode, String)>, usize) {
        let (catalog, id) = catalog();
        // OTHER is nobody's; any other id stands for the topic's.
        let real = |given: Uuid| {
            if given.is_zero() || given == OTHER {
                given
            } else {
                id
            }
        };
        let state = |(name, topic_id): &(Option<&'static str>, Uuid)| DeleteTopicState {
            name: name.map(Into::into),
            topic_id: real(*topic_id),
        };
        let request = Request {
            topics: topics.iter().map(state).collect(),
            ..Request::default()
        };
        let (refused, found) = Asked::of(&request).find(&catalog);
        let said = |r: DeletableTopicResult| {
            (
                r.error_code,
                r.error_message.unwrap_or_default().to_string(),
            )
        };
        (refused.into_iter().map(said).collect(), found.len())
    }

    const ID: Uuid = Uuid([1; 16]);
    const NO_ID: Uuid = Uuid::ZERO;

    #[test]
    fn topics_are_found_by_name_and_by_id() {
        assert_eq!(find(&[(Some("t"), NO_ID)]), (vec![], 1));
        assert_eq!(find(&[(None, ID)]), (vec![], 1));
        let unknown_name = (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            UNKNOWN_NAME.to_owned(),
        );
        let unknown_id = (ErrorCode::UNKNOWN_TOPIC_ID, UNKNOWN_ID.to_owned());
        let unknown = [(Some("nope"), NO_ID), (None, OTHER), (Some("t"), NO_ID)];
        assert_eq!(find(&unknown), (vec![unknown_id, unknown_name], 1));
    }

    #[test]
    fn what_is_named_ambiguously_is_refused_and_not_deleted() {
        let duplicate_name = "Duplicate topic name.";
        let already = "The provided topic name maps to an ID that was already supplied.";
        for (topics, message) in [
            (
                &[(Some("t"), ID)][..],
                "You may not specify both topic name and topic id.",
            ),
            (
                &[(None, NO_ID)],
                "Neither topic name nor id were specified.",
            ),
            (
                &[(Some("t"), NO_ID), (Some("t"), NO_ID), (Some("t"), NO_ID)],
                duplicate_name,
            ),
            (&[(None, ID), (None, ID)], "Duplicate topic id."),
            (&[(Some("t"), NO_ID), (None, ID)], already),
            (&[(None, ID), (Some("t"), NO_ID)], already),
        ] {
            let refused = vec![(ErrorCode::INVALID_REQUEST, message.to_owned())];
            assert_eq!(find(topics), (refused, 0), "{topics:?}");
        }
    }

    #[test]
    fn old_versions_name_topics_only() {
        let request = Request {
            topic_names: vec!["t".into(), "t".into()],
            ..Request::default()
        };
        assert!(Asked::of(&request).is_empty());
        let request = Request {
            topic_names: vec!["t".into(), "u".into()],
            ..Request::default()
        };
        let (refused, found) = Asked::of(&request).find(&catalog().0);
        assert_eq!((refused.len(), found.len()), (1, 1));
    }
}
