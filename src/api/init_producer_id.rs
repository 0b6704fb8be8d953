//! InitProducerId (22): gives an idempotent producer its id. KIP-98, KIP-360 (a producer may name the
//! id that it had). Transactions are not served.

use super::{Api, Call, Handled};
use crate::gateway::Gateway;
use crate::wire::ErrorCode;
use crate::wire::init_producer_id::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "InitProducerId",
    versions: 0..=5,
    handle,
};

const NONE: i64 = -1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    match check(&request) {
        Ok(()) => call.later(|call| async move { new_producer(&call.gateway).await }),
        Err(error) => call.answer(&refuse(error)),
    }
}

fn check(request: &Request) -> Result<(), ErrorCode> {
    let (id, epoch) = (request.producer_id, i64::from(request.producer_epoch));
    if (id == NONE) != (epoch == NONE) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    match request.transactional_id.as_deref() {
        // The id that a producer had is of no use without a transactional id: it gets a new one.
        None => Ok(()),
        Some("") => Err(ErrorCode::INVALID_REQUEST),
        // Clients end on this code at once and name the transactional id. UNSUPPORTED_VERSION and most
        // others librdkafka takes for passing troubles and tries again until its time is over.
        Some(_) => Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    }
}

async fn new_producer(gateway: &Gateway) -> Response {
    match gateway.new_producer_id().await {
        Some(producer_id) => Response {
            producer_id,
            producer_epoch: 0,
            ..Response::default()
        },
        // As Kafka says it when it has no ids at hand: clients try again.
        None => refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
    }
}

fn refuse(error_code: ErrorCode) -> Response {
    Response {
        error_code,
        producer_epoch: -1,
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_epochs_come_together_or_not_at_all() {
        let checked = |producer_id, producer_epoch, id: Option<&'static str>| {
            let transactional_id = id.map(Into::into);
            check(&Request {
                producer_id,
                producer_epoch,
                transactional_id,
                ..Request::default()
            })
        };
        assert_eq!(checked(-1, -1, None), Ok(()));
        assert_eq!(checked(12, 3, None), Ok(()));
        for (id, epoch) in [(-1, 3), (5, -1)] {
            for transactional_id in [None, Some("t")] {
                assert_eq!(
                    checked(id, epoch, transactional_id),
                    Err(ErrorCode::INVALID_REQUEST)
                );
            }
        }
        assert_eq!(checked(-1, -1, Some("")), Err(ErrorCode::INVALID_REQUEST));
        let refused = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        assert_eq!(checked(-1, -1, Some("t")), Err(refused));
    }
}
