//! DescribeCluster (60): the cluster's id, brokers and controller. KIP-700, KIP-919 (endpoint types),
//! KIP-1073 (fenced brokers; there are none).

use super::{Api, Call, Handled, operations};
use crate::gateway::{Broker, Facts};
use crate::wire::ErrorCode;
use crate::wire::describe_cluster::{DescribeClusterBroker, KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeCluster",
    versions: 0..=2,
    handle,
};

/// KIP-919.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let response = match request.endpoint_type {
        BROKERS => describe(call.gateway.facts(), &request),
        CONTROLLERS => {
            let text = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            refuse(ErrorCode::MISMATCHED_ENDPOINT_TYPE, text.to_owned())
        }
        other => refuse(
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            format!("Unsupported endpoint type {other}"),
        ),
    };
    call.answer(&response)
}

fn describe(facts: &Facts, request: &Request) -> Response {
    let broker = |broker: &Broker| DescribeClusterBroker {
        broker_id: broker.id,
        host: broker.address.host.clone().into(),
        port: broker.address.port.into(),
        ..DescribeClusterBroker::default()
    };
    let operations = match request.include_cluster_authorized_operations {
        true => operations::CLUSTER,
        false => operations::NOT_ASKED,
    };
    Response {
        cluster_id: facts.cluster_id.clone().into(),
        controller_id: facts.controller_id(),
        brokers: facts.brokers.iter().map(broker).collect(),
        cluster_authorized_operations: operations,
        ..Response::default()
    }
}

fn refuse(error_code: ErrorCode, text: String) -> Response {
    Response {
        error_code,
        error_message: Some(text.into()),
        ..Response::default()
    }
}
