//! FindCoordinator (10): which broker coordinates a group or a transaction. KIP-98 (transactions),
//! KIP-699 (many keys at once).
//!
//! Nothing is coordinated yet: each key is answered with COORDINATOR_NOT_AVAILABLE, as by a Kafka
//! broker whose internal topics are not there yet, and clients ask again.

use super::error::MALFORMED;
use super::{Api, Call, Handled};
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
    call.answer(&respond(call.version(), request))
}

fn respond(version: i16, request: Request) -> Response {
    let error_code = match request.key_type {
        GROUP | TRANSACTION => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        _ => ErrorCode::INVALID_REQUEST,
    };
    if version < KEYS_VERSION_MIN {
        return Response {
            error_code,
            error_message: Some(message(error_code).unwrap_or(error_code.message()).into()),
            node_id: NO_BROKER,
            port: NO_BROKER,
            ..Response::default()
        };
    }
    let coordinator = |key: StrBytes| Coordinator {
        key,
        node_id: NO_BROKER,
        port: NO_BROKER,
        error_code,
        error_message: Some(message(error_code).unwrap_or_default().into()),
        ..Coordinator::default()
    };
    let keys = request.coordinator_keys.into_iter();
    Response {
        coordinators: keys.map(coordinator).collect(),
        ..Response::default()
    }
}

fn message(error_code: ErrorCode) -> Option<&'static str> {
    (error_code == ErrorCode::INVALID_REQUEST).then_some(MALFORMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key_type: i8) -> Request {
        Request {
            key: "a".into(),
            key_type,
            coordinator_keys: vec!["a".into(), "".into()],
        }
    }

    #[test]
    fn every_key_has_an_answer_of_its_own() {
        let response = respond(6, request(GROUP));
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
        let response = respond(3, request(TRANSACTION));
        assert_eq!(response.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        assert_eq!((response.node_id, response.port), (-1, -1));
        assert!(response.coordinators.is_empty());
    }

    #[test]
    fn what_is_neither_group_nor_transaction_is_refused() {
        for key_type in [-1, 2, 9] {
            let response = respond(6, request(key_type));
            let first = &response.coordinators[0];
            assert_eq!(first.error_code, ErrorCode::INVALID_REQUEST);
            assert_eq!(first.error_message.as_deref(), Some(MALFORMED));
        }
    }
}
