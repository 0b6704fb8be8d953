//! UnregisterBroker (64): forgets a broker that is gone for good. KIP-500. All brokers that there are
//! run in this process: none is gone.

use super::{Api, Call, Handled};
use crate::wire::ErrorCode;
use crate::wire::unregister_broker::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "UnregisterBroker",
    versions: 0..=0,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let is_broker = call.gateway.facts().is_broker(request.broker_id);
    call.answer(&refuse(request.broker_id, is_broker))
}

fn refuse(broker_id: i32, is_broker: bool) -> Response {
    let (error_code, text) = match is_broker {
        true => (
            ErrorCode::INVALID_REQUEST,
            format!("Broker ID {broker_id} is running and cannot be unregistered"),
        ),
        false => (
            ErrorCode::BROKER_ID_NOT_REGISTERED,
            format!("Broker ID {broker_id} is not currently registered"),
        ),
    };
    Response {
        error_code,
        error_message: Some(text.into()),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_broker_is_forgotten() {
        let (running, unknown) = (refuse(1, true), refuse(9, false));
        assert_eq!((running.error_code.0, unknown.error_code.0), (42, 102));
        let text = "Broker ID 9 is not currently registered";
        assert_eq!(unknown.error_message.as_deref(), Some(text));
    }
}
