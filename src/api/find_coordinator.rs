//! FindCoordinator (10): which broker coordinates a group or a transaction. KIP-98 (transactions),
//! KIP-699 (many keys at once).
//!
//! The first who asks for a group makes the topic that groups are kept in. Transactions are not
//! coordinated yet: they are answered with COORDINATOR_NOT_AVAILABLE, as by a Kafka broker whose internal
//! topics are not there yet, and clients ask again.

use super::error::MALFORMED;
use super::{Api, Call, Handled};
use crate::gateway::Gateway;
use crate::group::offsets_topic;
use crate::wire::find_coordinator::{Coordinator, KEY, Request, Response};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "FindCoordinator",
    versions: 0..=6,
    handle,
};

/// KIP-699: from here on a request has many keys.
const KEYS_VERSION_MIN: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const NO_BROKER: i32 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let version = call.version();
    match request.key_type {
        GROUP => call.later(move |call| async move {
            if !offsets_topic::make(&call.gateway).await {
                return respond(version, request, |_| unavailable());
            }
            respond(version, request, |group| find(&call.gateway, group))
        }),
        TRANSACTION => call.answer(&respond(version, request, |_| unavailable())),
        _ => call.answer(&respond(version, request, |_| Coordinator {
            error_message: Some(MALFORMED.into()),
            ..refused(ErrorCode::INVALID_REQUEST)
        })),
    }
}

fn refused(error_code: ErrorCode) -> Coordinator {
    Coordinator {
        node_id: NO_BROKER,
        port: NO_BROKER,
        error_code,
        error_message: Some(StrBytes::default()),
        ..Coordinator::default()
    }
}

fn unavailable() -> Coordinator {
    refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
}

fn find(gateway: &Gateway, group: &StrBytes) -> Coordinator {
    let brokers = &gateway.facts().brokers;
    let leader = gateway.group_partition(group).map(|id| gateway.leader(id));
    match brokers.iter().find(|broker| Some(broker.id) == leader) {
        Some(broker) => Coordinator {
            node_id: broker.id,
            host: broker.address.host.clone().into(),
            port: broker.address.port.into(),
            error_message: Some(StrBytes::default()),
            ..Coordinator::default()
        },
        None => unavailable(),
    }
}

fn respond(version: i16, request: Request, find: impl Fn(&StrBytes) -> Coordinator) -> Response {
    if version < KEYS_VERSION_MIN {
        let found = find(&request.key);
        let message = found.error_message.filter(|message| !message.is_empty());
        return Response {
            error_code: found.error_code,
            error_message: match found.error_code {
                ErrorCode::NONE => Some("NONE".into()),
                error => Some(message.unwrap_or(error.message().into())),
            },
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Response::default()
        };
    }
    let coordinator = |key: StrBytes| Coordinator {
        key: key.clone(),
        ..find(&key)
    };
    let keys = request.coordinator_keys.into_iter();
    Response {
        coordinators: keys.map(coordinator).collect(),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            key: "a".into(),
            coordinator_keys: vec!["a".into(), "".into()],
            ..Request::default()
        }
    }

    #[test]
    fn every_key_has_an_answer_of_its_own() {
        let response = respond(6, request(), |_| unavailable());
        let answers = response.coordinators.iter();
        let answers: Vec<_> = answers
            .map(|c| (&*c.key, c.node_id, &*c.host, c.port, c.error_code))
            .collect();
        let code = ErrorCode::COORDINATOR_NOT_AVAILABLE;
        assert_eq!(answers, [("a", -1, "", -1, code), ("", -1, "", -1, code)]);
        assert_eq!(response.coordinators[0].error_message, Some("".into()));
    }

    #[test]
    fn before_version_4_there_is_one_answer() {
        let response = respond(3, request(), |_| unavailable());
        assert_eq!(response.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        assert_eq!((response.node_id, response.port), (-1, -1));
        assert!(response.coordinators.is_empty());
    }
}
