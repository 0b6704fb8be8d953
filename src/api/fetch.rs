//! Fetch (1): reads record batches, and waits for them. KIP-74 (byte limits), KIP-320 (leader epochs),
//! KIP-516 (topic ids). Fetch sessions (KIP-227) are not kept: each fetch names all its partitions, as
//! a broker whose session cache is full asks of its clients.
//!
//! One message goes to each shard that owns some of the partitions. A fetch of one shard waits there.
//! A fetch of several asks all of them first, and if that is not enough waits on all of them until one
//! has more. A fetch starts when the answers before it on its connection are on their way, so that a
//! client that does not read holds no more than one answer in memory.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use shards::{Call as ShardCall, sleep_until};

use super::{Api, Call, Handled};
use crate::catalog::Catalog;
use crate::gateway::{Gateway, Reply, Request as ShardRequest};
use crate::partition::messages::{Fetch, FetchId, FetchPart, Fetched};
use crate::store::PartitionId;
use crate::wire::fetch::{
    FetchPartition, FetchTopic, FetchableTopicResponse, KEY, PartitionData, Request, Response,
};
use crate::wire::{ErrorCode, Records};

pub const API: Api = Api {
    key: KEY,
    name: "Fetch",
    versions: 4..=18,
    handle,
};

const TOPIC_ID_VERSION_MIN: i16 = 13;
const READ_COMMITTED: i8 = 1;
/// KIP-227: a fetch without a session, and one that would open a session.
const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

fn handle(mut call: Call) -> Handled {
    let arrived = Instant::now();
    let request: Request = call.decode()?;
    if let Some(error_code) = session_error(&request) {
        return call.answer(&Response {
            error_code,
            ..Response::default()
        });
    }
    call.later(move |call| async move {
        let deadline = arrived + Duration::from_millis(request.max_wait_ms.max(0) as u64);
        // What it is answered with stays in memory until the client has taken it.
        call.gateway.answer_memory().room().await;
        let plan = Plan::new(&call.gateway, call.version(), request);
        plan.run(&call.gateway, deadline).await
    })
}

/// KIP-227: no session is ever open, so none can be gone on with.
fn session_error(request: &Request) -> Option<ErrorCode> {
    match (request.session_id, request.session_epoch) {
        (_, INITIAL_EPOCH | FINAL_EPOCH) => None,
        (0, _) => Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        _ => Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
    }
}

/// What is asked of which shard, and the answer as far as it is known.
struct Plan {
    response: Response,
    shards: Vec<Part>,
    max_bytes: usize,
    min_bytes: usize,
    /// Something is wrong that the client should learn at once.
    failed: bool,
}

/// What is asked of one shard.
struct Part {
    owner: usize,
    parts: Vec<FetchPart>,
    /// Where the answers stand in the response.
    places: Vec<(usize, usize)>,
}

impl Plan {
    fn new(gateway: &Gateway, version: i16, request: Request) -> Self {
        let catalog = gateway.catalog();
        let limit = gateway.config().fetch_max_bytes;
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(limit);
        let mut plan = Plan {
            response: Response::default(),
            shards: Vec::new(),
            max_bytes,
            min_bytes: usize::try_from(request.min_bytes)
                .unwrap_or(0)
                .min(max_bytes),
            failed: false,
        };
        let from_follower = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
        let aborted = || (request.isolation_level == READ_COMMITTED).then(Vec::new);
        for topic in request.topics {
            let find = |partition: &FetchPartition| {
                if from_follower {
                    return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
                }
                find_partition(&catalog, version, &topic, partition.partition)
            };
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let mut answer = PartitionData {
                    partition_index: partition.partition,
                    high_watermark: -1,
                    aborted_transactions: aborted(),
                    ..PartitionData::default()
                };
                match find(partition) {
                    Ok(id) => plan.ask(
                        gateway,
                        id,
                        partition,
                        (plan.response.responses.len(), answers.len()),
                    ),
                    Err(error) => {
                        answer.error_code = error;
                        plan.failed = true;
                    }
                }
                answers.push(answer);
            }
            plan.response.responses.push(FetchableTopicResponse {
                topic: topic.topic,
                topic_id: topic.topic_id,
                partitions: answers,
            });
        }
        plan
    }

    fn ask(
        &mut self,
        gateway: &Gateway,
        id: PartitionId,
        of: &FetchPartition,
        place: (usize, usize),
    ) {
        let owner = gateway.owner(id);
        let part = FetchPart {
            id,
            offset: of.fetch_offset,
            max_bytes: usize::try_from(of.partition_max_bytes)
                .unwrap_or(0)
                .min(self.max_bytes),
            leader_epoch: of.current_leader_epoch,
        };
        match self.shards.iter_mut().find(|s| s.owner == owner) {
            Some(shard) => {
                shard.parts.push(part);
                shard.places.push(place);
            }
            None => self.shards.push(Part {
                owner,
                parts: vec![part],
                places: vec![place],
            }),
        }
    }

    async fn run(mut self, gateway: &Rc<Gateway>, deadline: Instant) -> Response {
        let waits = !self.failed && self.min_bytes > 0 && deadline > Instant::now();
        let fetched = match self.shards.len() {
            0 => Vec::new(),
            1 if waits => self.wait(gateway, deadline).await,
            _ => {
                let fetched = self.read(gateway).await;
                if waits && !self.is_enough(&fetched) {
                    drop(fetched);
                    self.wait(gateway, deadline).await
                } else {
                    fetched
                }
            }
        };
        let places: Vec<_> = self
            .shards
            .iter_mut()
            .map(|s| std::mem::take(&mut s.places))
            .collect();
        for (places, fetched) in places.into_iter().zip(fetched) {
            self.fill(places, fetched);
        }
        self.response
    }

    fn is_enough(&self, fetched: &[Vec<Fetched>]) -> bool {
        let parts = || fetched.iter().flatten();
        parts().any(|f| f.error.is_some())
            || parts().map(Fetched::bytes).sum::<usize>() >= self.min_bytes
    }

    /// What there is now, of each shard.
    async fn read(&self, gateway: &Rc<Gateway>) -> Vec<Vec<Fetched>> {
        let calls: Vec<_> = (0..self.shards.len())
            .map(|at| self.call(gateway, at, None))
            .collect();
        let mut fetched = Vec::with_capacity(calls.len());
        for call in calls {
            fetched.push(fetched_of(call.await));
        }
        fetched
    }

    /// Waits until a shard has enough or the time is over; then what all of them have.
    async fn wait(&self, gateway: &Rc<Gateway>, deadline: Instant) -> Vec<Vec<Fetched>> {
        let waiting = |at: usize| {
            let id = gateway.new_fetch_id();
            let call = self.call(gateway, at, Some(id));
            Waiting {
                gateway: gateway.clone(),
                owner: self.shards[at].owner,
                id,
                call,
                reply: None,
                ended: false,
            }
        };
        let mut waiting: Vec<_> = (0..self.shards.len()).map(waiting).collect();
        let mut timer = pin!(sleep_until(deadline));
        poll_fn(|cx| {
            let mut any = false;
            for shard in &mut waiting {
                any |= shard.poll(cx).is_ready();
            }
            if any {
                Poll::Ready(())
            } else {
                timer.as_mut().poll(cx)
            }
        })
        .await;
        for shard in &mut waiting {
            shard.end();
        }
        let mut fetched = Vec::with_capacity(waiting.len());
        for mut shard in waiting {
            poll_fn(|cx| shard.poll(cx)).await;
            fetched.push(shard.reply.take().unwrap_or_default());
        }
        fetched
    }

    fn call(&self, gateway: &Rc<Gateway>, at: usize, wait: Option<FetchId>) -> ShardCall<Reply> {
        let shard = &self.shards[at];
        let fetch = Fetch {
            parts: shard.parts.clone(),
            max_bytes: self.share_of(at),
            min_bytes: self.min_bytes,
            wait,
        };
        gateway
            .shard()
            .call(shard.owner, ShardRequest::Fetch(fetch))
    }

    /// A shard's share of the answer's bytes, by what its partitions may give.
    fn share_of(&self, at: usize) -> usize {
        let wanted = |shard: &Part| shard.parts.iter().map(|p| p.max_bytes as u64).sum::<u64>();
        let all: u64 = self.shards.iter().map(wanted).sum();
        let max_bytes = self.max_bytes as u64;
        if all <= max_bytes {
            return self.max_bytes;
        }
        (u128::from(max_bytes) * u128::from(wanted(&self.shards[at])) / u128::from(all)) as usize
    }

    fn fill(&mut self, places: Vec<(usize, usize)>, fetched: Vec<Fetched>) {
        let mut fetched = fetched.into_iter();
        for (topic, partition) in places {
            let answer = &mut self.response.responses[topic].partitions[partition];
            let Some(fetched) = fetched.next() else {
                // The shard did not answer: to be tried again.
                answer.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
                continue;
            };
            if let Some(error) = fetched.error {
                answer.error_code = error.into();
                continue;
            }
            if let Some(bounds) = fetched.bounds {
                answer.high_watermark = bounds.high_watermark;
                answer.last_stable_offset = bounds.last_stable_offset;
                answer.log_start_offset = bounds.log_start_offset;
            }
            answer.records = Some(Records::from(fetched.batches));
        }
    }
}

fn find_partition(
    catalog: &Catalog,
    version: i16,
    topic: &FetchTopic,
    partition: i32,
) -> Result<PartitionId, ErrorCode> {
    let found = if version >= TOPIC_ID_VERSION_MIN {
        catalog
            .by_id(&topic.topic_id)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        catalog
            .by_name(&topic.topic)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    };
    found?
        .partition(partition)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn fetched_of(reply: Result<Reply, shards::CallError>) -> Vec<Fetched> {
    match reply {
        Ok(Reply::Fetch(fetched)) => fetched,
        _ => Vec::new(),
    }
}

/// A fetch that waits on its owner. It is ended there when this is dropped, as when its client leaves.
struct Waiting {
    gateway: Rc<Gateway>,
    owner: usize,
    id: FetchId,
    call: ShardCall<Reply>,
    reply: Option<Vec<Fetched>>,
    ended: bool,
}

impl Waiting {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.reply.is_none() {
            match std::pin::Pin::new(&mut self.call).poll(cx) {
                Poll::Ready(reply) => self.reply = Some(fetched_of(reply)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    /// Asks the owner to answer with what there is.
    fn end(&mut self) {
        if self.reply.is_none() && !self.ended {
            self.ended = true;
            // Its answer says nothing; the fetch's own answer is what comes.
            drop(
                self.gateway
                    .shard()
                    .call(self.owner, ShardRequest::FinishFetch(self.id)),
            );
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}
