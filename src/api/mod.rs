//! The Kafka APIs, one file for each, and the registry of all.
//!
//! A handler gets a [`Call`] and gives an [`Answer`]. What must happen in the order of the requests of
//! a connection (appending what a producer sent) happens before the handler returns, or in
//! [`Answer::First`]; what may take long comes in [`Answer::Later`]. ApiVersions is computed from
//! [`REGISTRY`].

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::gateway::Gateway;
use crate::wire::ErrorCode;
use crate::wire::codec::{DecodeError, Message, Reader};
use crate::wire::frame::{RequestHeader, encode_answer};

mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod assignment;
mod config_resource;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod error;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod limits;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
mod owners;
mod produce;
mod recode;
mod sync_group;
mod unregister_broker;
mod update_features;

/// Every API that is served, by key.
pub const REGISTRY: &[Api] = &[
    produce::API,
    fetch::API,
    list_offsets::API,
    metadata::API,
    offset_commit::API,
    offset_fetch::API,
    find_coordinator::API,
    join_group::API,
    heartbeat::API,
    leave_group::API,
    sync_group::API,
    describe_groups::API,
    list_groups::API,
    api_versions::API,
    create_topics::API,
    delete_topics::API,
    delete_records::API,
    init_producer_id::API,
    offset_for_leader_epoch::API,
    describe_acls::API,
    create_acls::API,
    delete_acls::API,
    describe_configs::API,
    alter_configs::API,
    alter_replica_log_dirs::API,
    describe_log_dirs::API,
    create_partitions::API,
    delete_groups::API,
    elect_leaders::API,
    incremental_alter_configs::API,
    alter_partition_reassignments::API,
    list_partition_reassignments::API,
    offset_delete::API,
    describe_client_quotas::API,
    describe_user_scram_credentials::API,
    describe_quorum::API,
    update_features::API,
    describe_cluster::API,
    describe_producers::API,
    unregister_broker::API,
    consumer_group_heartbeat::API,
    consumer_group_describe::API,
    list_config_resources::API,
    describe_topic_partitions::API,
];

/// One API: what it is called, which versions of it are served, and by what.
pub struct Api {
    pub key: i16,
    pub name: &'static str,
    pub versions: RangeInclusive<i16>,
    handle: fn(Call) -> Handled,
}

pub type Handled = Result<Answer, DecodeError>;

/// What a request is answered with.
pub enum Answer {
    /// This frame.
    Frame(Vec<Bytes>),
    /// Nothing: produce with acks=0.
    Silence,
    /// Nothing, and the connection ends. The text says why.
    Close(String),
    /// A frame that is there later, or none; requests after this one are taken up meanwhile. It makes
    /// progress only when all answers before it are on their way.
    Later(Pin<Box<dyn Future<Output = Vec<Bytes>>>>),
    /// Requests after this one have to wait until this is done.
    First(Pin<Box<dyn Future<Output = Answer>>>),
}

/// What is known of the client that asks.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub peer: SocketAddr,
}

/// One request.
pub struct Call {
    pub gateway: Rc<Gateway>,
    pub client: Client,
    pub header: RequestHeader,
    /// The API's place in the registry.
    api: usize,
    body: Reader,
}

impl Call {
    pub fn version(&self) -> i16 {
        self.header.api_version
    }

    /// The request's body.
    fn decode<M: Message>(&mut self) -> Result<M, DecodeError> {
        // Bytes behind the body are let be, as Apache Kafka does.
        M::decode(&mut self.body, self.header.api_version)
    }

    /// The frame of a response to this request.
    fn frame<M: Message>(&self, response: &M) -> Vec<Bytes> {
        let (frame, errors) = encode_answer(
            self.header.api_key,
            self.header.api_version,
            self.header.correlation_id,
            response,
        );
        for (code, times) in errors {
            self.gateway.metrics().apis[self.api].note_error(code, times);
        }
        frame
    }

    fn answer<M: Message>(&self, response: &M) -> Handled {
        Ok(Answer::Frame(self.frame(response)))
    }

    /// Answers with what `respond` gives in the end.
    fn later<M: Message, F: Future<Output = M> + 'static>(
        self,
        respond: impl FnOnce(Rc<Self>) -> F,
    ) -> Handled {
        let call = Rc::new(self);
        let response = respond(call.clone());
        Ok(Answer::Later(Box::pin(async move {
            call.frame(&response.await)
        })))
    }
}

/// Why a request has no answer: the connection ends.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("malformed request header: {0}")]
    Header(DecodeError),
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    #[error("version {version} of {api} is not served")]
    UnsupportedVersion { api: &'static str, version: i16 },
    #[error("malformed {api} request (version {version}): {error}")]
    Body {
        api: &'static str,
        version: i16,
        error: DecodeError,
    },
}

/// A request that was taken up.
pub struct Taken {
    /// The API's place in the registry.
    pub api: usize,
    pub answer: Answer,
}

/// Takes one request: a frame without its length.
pub fn dispatch(gateway: &Rc<Gateway>, client: Client, frame: Bytes) -> Result<Taken, Refusal> {
    let mut body = Reader::new(frame);
    let header = RequestHeader::decode(&mut body).map_err(Refusal::Header)?;
    let place = REGISTRY
        .iter()
        .position(|a| a.key == header.api_key)
        .ok_or(Refusal::UnknownApi(header.api_key))?;
    let api = &REGISTRY[place];
    let metrics = &gateway.metrics().apis[place];
    metrics.requests.add(1);
    let version = header.api_version;
    let taken = |answer| Taken { api: place, answer };
    if !api.versions.contains(&version) {
        // KIP-511: the one API that tells which versions there are must not fail on its own.
        return match api.key {
            crate::wire::api_versions::KEY => {
                metrics.note_error(ErrorCode::UNSUPPORTED_VERSION, 1);
                let frame = api_versions::unsupported(header.correlation_id);
                Ok(taken(Answer::Frame(frame)))
            }
            _ => Err(Refusal::UnsupportedVersion {
                api: api.name,
                version,
            }),
        };
    }
    let call = Call {
        gateway: gateway.clone(),
        client,
        header,
        api: place,
        body,
    };
    (api.handle)(call)
        .map(taken)
        .map_err(|error| Refusal::Body {
            api: api.name,
            version,
            error,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_in_order_and_has_no_api_twice() {
        assert!(REGISTRY.is_sorted_by(|a, b| a.key < b.key));
    }
}
