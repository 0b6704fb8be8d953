//! Fetch (1): reads record batches, and waits for them. KIP-74 (byte limits), KIP-227 (sessions), KIP-320
//! (leader epochs), KIP-516 (topic ids), KIP-595 (diverging epochs), KIP-951 (who leads now).
//!
//! A fetch takes its partitions from the request or from its session ([`crate::fetch_session`]), asks
//! their owners ([`read`]), and tells what is new. It starts when the answers before it on its connection
//! are on their way, so that a client that does not read holds no more than one answer in memory.

use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use self::read::Outcome;
use super::{Api, Call, Handled};
use crate::catalog::Catalog;
use crate::fetch_session::{
    self, Asked, FINAL_EPOCH, Forgotten, Found, INITIAL_EPOCH, Listed, NO_SESSION, Resume, Resumed,
    Told, Want,
};
use crate::gateway::Gateway;
use crate::partition::messages::PartitionError;
use crate::store::PartitionId;
use crate::wire::fetch::{
    EpochEndOffset, FetchPartition, FetchTopic, FetchableTopicResponse, ForgottenTopic, KEY,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData, Request, Response,
};
use crate::wire::{ErrorCode, Records};

mod read;

pub const API: Api = Api {
    key: KEY,
    name: "Fetch",
    versions: 4..=18,
    handle,
};

const TOPIC_ID_VERSION_MIN: i16 = 13;
const CURRENT_LEADER_VERSION_MIN: i16 = 16;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

fn handle(mut call: Call) -> Handled {
    let arrived = Instant::now();
    let request: Request = call.decode()?;
    call.later(move |call| async move {
        let deadline = arrived + Duration::from_millis(request.max_wait_ms.max(0) as u64);
        // What it is answered with stays in memory until the client has taken it.
        call.gateway.answer_memory().room().await;
        let fetch = Fetch {
            gateway: call.gateway.clone(),
            version: call.version(),
        };
        fetch.answer(request, deadline).await
    })
}

/// What all parts of answering one request need.
struct Fetch {
    gateway: Rc<Gateway>,
    version: i16,
}

/// The session of a request.
enum Session {
    None,
    /// To be opened.
    New,
    Old {
        id: i32,
        epoch: i32,
    },
}

impl Fetch {
    fn by_id(&self) -> bool {
        self.version >= TOPIC_ID_VERSION_MIN
    }

    async fn answer(&self, mut request: Request, deadline: Instant) -> Response {
        if !(READ_UNCOMMITTED..=READ_COMMITTED).contains(&request.isolation_level) {
            // Kafka does not expect it either.
            return self.refuse_all(request, ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        let (session, listed) = match self.begin(&mut request).await {
            Ok(begun) => begun,
            Err(error_code) => return failed(error_code, NO_SESSION),
        };
        let outcomes = read::read(self, &request, &listed.asked, deadline).await;
        self.conclude(&request, session, listed, outcomes).await
    }

    /// The request's session, and the partitions to be read.
    async fn begin(&self, request: &mut Request) -> Result<(Session, Listed), ErrorCode> {
        let asked = asked(
            &self.gateway.catalog(),
            self.by_id(),
            std::mem::take(&mut request.topics),
        );
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != NO_SESSION {
                self.gateway
                    .session(id, fetch_session::Call::Close(id))
                    .await;
            }
            let session = match epoch {
                FINAL_EPOCH => Session::None,
                _ => Session::New,
            };
            return Ok((session, listed(asked)));
        }
        let resume = Resume {
            id,
            epoch,
            by_id: self.by_id(),
            asked,
            forgotten: forgotten(std::mem::take(&mut request.forgotten_topics_data)),
        };
        let resume = fetch_session::Call::Resume(resume);
        match self.gateway.session(id, resume).await {
            Some(fetch_session::Outcome::Resumed(Ok(Resumed::Session(listed)))) => {
                Ok((Session::Old { id, epoch }, listed))
            }
            Some(fetch_session::Outcome::Resumed(Ok(Resumed::Closed(asked)))) => {
                Ok((Session::None, listed(asked)))
            }
            Some(fetch_session::Outcome::Resumed(Err(error))) => Err(error.into()),
            _ => Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        }
    }

    /// What of the outcomes the client is told. They come in the order in which they are told.
    async fn conclude(
        &self,
        request: &Request,
        session: Session,
        listed: Listed,
        outcomes: Vec<Outcome>,
    ) -> Response {
        let (session_id, tell) = match session {
            Session::None => (NO_SESSION, None),
            Session::New => (self.open(&listed.asked, &outcomes), None),
            Session::Old { id, epoch } => {
                let found = outcomes.iter().map(|o| found(&listed.places, o)).collect();
                let settle = fetch_session::Call::Settle { id, epoch, found };
                match self.gateway.session(id, settle).await {
                    Some(fetch_session::Outcome::Settled(Ok(tell))) => (id, Some(tell)),
                    _ => return failed(ErrorCode::INVALID_FETCH_SESSION_EPOCH, id),
                }
            }
        };
        let mut response = Response {
            session_id,
            ..Response::default()
        };
        let is_told = |at: usize| tell.as_ref().is_none_or(|tell| tell.get(at) == Some(&true));
        for (at, outcome) in outcomes.into_iter().enumerate() {
            if is_told(at) {
                let asked = &listed.asked[outcome.item];
                if !is_from_follower(request) {
                    self.note_leader(&outcome, &mut response);
                }
                let data = self.data(asked, outcome, request.isolation_level);
                push(&mut response.responses, asked, data);
            }
        }
        response
    }

    /// Opens a session; gives its id, or that of none if there is no room for it.
    fn open(&self, asked: &[Asked], outcomes: &[Outcome]) -> i32 {
        let told = outcomes.iter().map(|o| (asked[o.item].clone(), told(o)));
        self.gateway
            .fetch_sessions()
            .borrow_mut()
            .open(self.by_id(), told, Instant::now(), || getrandom::u32().ok())
    }

    fn data(&self, asked: &Asked, outcome: Outcome, isolation_level: i8) -> PartitionData {
        let current_leader = self.current_leader(&outcome).unwrap_or_default();
        let data = PartitionData {
            partition_index: asked.partition,
            high_watermark: -1,
            current_leader,
            ..PartitionData::default()
        };
        let fetched = match outcome.result {
            Ok(fetched) => fetched,
            Err(error_code) => {
                return PartitionData {
                    error_code,
                    aborted_transactions: Some(Vec::new()),
                    ..data
                };
            }
        };
        if let Some(error) = fetched.error {
            return PartitionData {
                error_code: error.into(),
                ..data
            };
        }
        let diverging = fetched.diverging.map(|end| EpochEndOffset {
            epoch: end.leader_epoch,
            end_offset: end.end_offset,
        });
        let is_read = isolation_level == READ_COMMITTED && diverging.is_none();
        let mut data = PartitionData {
            diverging_epoch: diverging.unwrap_or_default(),
            aborted_transactions: is_read.then(Vec::new),
            records: Some(Records::from(fetched.batches)),
            ..data
        };
        if let Some(bounds) = fetched.bounds {
            data.high_watermark = bounds.high_watermark;
            data.last_stable_offset = bounds.last_stable_offset;
            data.log_start_offset = bounds.log_start_offset;
        }
        data
    }

    /// KIP-951: who leads a partition, for those who were wrong about it.
    fn current_leader(&self, outcome: &Outcome) -> Option<LeaderIdAndEpoch> {
        let fetched = outcome.result.as_ref().ok()?;
        let wrong = matches!(
            fetched.error?,
            PartitionError::NotReplica | PartitionError::FencedLeaderEpoch
        );
        (wrong && self.version >= CURRENT_LEADER_VERSION_MIN).then_some(LeaderIdAndEpoch {
            leader_id: self.gateway.leader(outcome.id?),
            leader_epoch: fetched.leader_epoch,
        })
    }

    /// Where the leader is that a client is told of.
    fn note_leader(&self, outcome: &Outcome, response: &mut Response) {
        let Some(leader) = self.current_leader(outcome) else {
            return;
        };
        let known = &mut response.node_endpoints;
        let brokers = &self.gateway.facts().brokers;
        if let Some(broker) = brokers.iter().find(|b| b.id == leader.leader_id)
            && known.iter().all(|k| k.node_id != broker.id)
        {
            known.push(NodeEndpoint {
                node_id: broker.id,
                host: broker.address.host.clone().into(),
                port: broker.address.port.into(),
                rack: None,
            });
        }
    }

    fn refuse_all(&self, request: Request, error_code: ErrorCode) -> Response {
        let mut response = failed(error_code, request.session_id);
        if self.by_id() {
            return response;
        }
        let refuse = |p: FetchPartition| PartitionData {
            partition_index: p.partition,
            error_code,
            high_watermark: -1,
            aborted_transactions: Some(Vec::new()),
            ..PartitionData::default()
        };
        let topic = |topic: FetchTopic| FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: topic.partitions.into_iter().map(refuse).collect(),
        };
        response.responses = request.topics.into_iter().map(topic).collect();
        response
    }
}

fn is_from_follower(request: &Request) -> bool {
    request.replica_id >= 0 || request.replica_state.replica_id >= 0
}

fn failed(error_code: ErrorCode, session_id: i32) -> Response {
    Response {
        error_code,
        session_id,
        ..Response::default()
    }
}

/// What a request asks for, each partition once: what is said of it last counts.
fn asked(catalog: &Catalog, by_id: bool, topics: Vec<FetchTopic>) -> Vec<Asked> {
    let count = topics.iter().map(|t| t.partitions.len()).sum();
    let mut all: Vec<Asked> = Vec::with_capacity(count);
    let mut places = FxHashMap::default();
    for FetchTopic {
        topic,
        topic_id,
        partitions,
    } in topics
    {
        let known = match by_id {
            true => catalog.by_id(&topic_id),
            false => catalog.by_name(&topic),
        };
        // The catalog's name keeps no frame alive; a session may hold it for long.
        let name = known.map_or_else(|| topic.detached(), |known| known.name.clone());
        for partition in partitions {
            let asked = Asked {
                topic: name.clone(),
                topic_id,
                partition: partition.partition,
                want: want(&partition),
            };
            if count == 1 {
                return vec![asked];
            }
            match places.entry(asked.key()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(all.len());
                    all.push(asked);
                }
                Entry::Occupied(place) => all[*place.get()].want = asked.want,
            }
        }
    }
    all
}

fn want(partition: &FetchPartition) -> Want {
    Want {
        offset: partition.fetch_offset,
        max_bytes: partition.partition_max_bytes,
        leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
    }
}

fn listed(asked: Vec<Asked>) -> Listed {
    Listed {
        asked,
        places: Vec::new(),
    }
}

fn forgotten(topics: Vec<ForgottenTopic>) -> Vec<Forgotten> {
    let partitions = topics.into_iter().flat_map(|topic| {
        topic
            .partitions
            .into_iter()
            .map(move |partition| Forgotten {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partition,
            })
    });
    partitions.collect()
}

/// What the answer says of a partition's ends.
fn told(outcome: &Outcome) -> Told {
    let fetched = outcome.result.as_ref().ok();
    let bounds = fetched.filter(|f| f.error.is_none()).and_then(|f| f.bounds);
    Told {
        high_watermark: bounds.map_or(-1, |b| b.high_watermark),
        log_start_offset: bounds.map_or(-1, |b| b.log_start_offset),
    }
}

fn found(places: &[u64], outcome: &Outcome) -> Found {
    let fetched = outcome.result.as_ref().ok();
    Found {
        place: places[outcome.item],
        now: told(outcome),
        has_records: fetched.is_some_and(|f| f.bytes() > 0),
        failed: fetched.is_none_or(|f| f.error.is_some()),
        urgent: fetched.is_some_and(|f| f.diverging.is_some()),
    }
}

/// Puts a partition behind the others, to those of the same topic if they are the last.
fn push(topics: &mut Vec<FetchableTopicResponse>, asked: &Asked, data: PartitionData) {
    let same = |last: &FetchableTopicResponse| match asked.topic_id.is_zero() {
        true => last.topic == asked.topic,
        false => last.topic_id == asked.topic_id,
    };
    match topics.last_mut() {
        Some(last) if same(last) => last.partitions.push(data),
        _ => topics.push(FetchableTopicResponse {
            topic: asked.topic.clone(),
            topic_id: asked.topic_id,
            partitions: vec![data],
        }),
    }
}

/// The partition that is meant, as far as the catalog goes.
fn locate(catalog: &Catalog, by_id: bool, asked: &Asked) -> Result<PartitionId, ErrorCode> {
    if by_id && asked.topic.is_empty() {
        return Err(ErrorCode::UNKNOWN_TOPIC_ID);
    }
    let topic = catalog.by_name(&asked.topic);
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let id = topic.partition(asked.partition);
    let id = id.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if by_id && topic.id != asked.topic_id {
        // The session is older than the topic, which took another's name.
        return Err(ErrorCode::INCONSISTENT_TOPIC_ID);
    }
    if asked.want.max_bytes < 0 {
        // Kafka does not expect it either.
        return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    Ok(id)
}
