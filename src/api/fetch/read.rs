//! Asking the owners of partitions for records, and waiting for them.
//!
//! One message goes to each shard that owns some of the partitions. A fetch of one shard waits there.
//! A fetch of several asks all of them first, and if that is not enough waits on all of them until one
//! has more.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use shards::{Call as ShardCall, sleep_until};

use super::{Fetch, is_from_follower, locate};
use crate::fetch_session::Asked;
use crate::gateway::{Gateway, Reply, Request as ShardRequest};
use crate::partition::messages::{self, FetchId, FetchPart, Fetched};
use crate::store::PartitionId;
use crate::wire::ErrorCode;
use crate::wire::fetch::Request;

/// What came of one partition.
pub(super) struct Outcome {
    /// Which of those asked for it is.
    pub(super) item: usize,
    /// `None`: it was not found.
    pub(super) id: Option<PartitionId>,
    pub(super) result: Result<Fetched, ErrorCode>,
}

/// Reads partitions. Those that were not found stand behind the others, unknown topic ids first, as in
/// Kafka.
pub(super) async fn read(
    fetch: &Fetch,
    request: &Request,
    asked: &[Asked],
    deadline: Instant,
) -> Vec<Outcome> {
    let (plan, refused) = Plan::new(fetch, request, asked);
    let mut outcomes = plan.run(&fetch.gateway, deadline).await;
    outcomes.extend(refused);
    outcomes
}

/// What is asked of which shard.
struct Plan {
    shards: Vec<Part>,
    max_bytes: usize,
    min_bytes: usize,
    /// Something is wrong that the client should learn at once.
    failed: bool,
}

/// What is asked of one shard.
struct Part {
    owner: usize,
    parts: Arc<Vec<FetchPart>>,
    /// Which of those asked for each part is.
    items: Vec<usize>,
}

impl Plan {
    fn new(fetch: &Fetch, request: &Request, asked: &[Asked]) -> (Self, Vec<Outcome>) {
        let gateway = &fetch.gateway;
        let catalog = gateway.catalog();
        let bytes = |asked: i32| usize::try_from(asked).unwrap_or(0);
        let max_bytes = bytes(request.max_bytes).min(gateway.config().fetch_max_bytes);
        let from_follower = is_from_follower(request);
        let mut plan = Plan {
            shards: Vec::new(),
            max_bytes,
            min_bytes: bytes(request.min_bytes).min(max_bytes),
            failed: false,
        };
        let mut refused = Vec::new();
        for (item, asked) in asked.iter().enumerate() {
            match locate(&catalog, fetch.by_id(), asked) {
                Ok(id) => plan.ask(
                    gateway.owner(id),
                    item,
                    FetchPart {
                        id,
                        offset: asked.want.offset,
                        max_bytes: bytes(asked.want.max_bytes).min(max_bytes),
                        leader_epoch: asked.want.leader_epoch,
                        last_fetched_epoch: asked.want.last_fetched_epoch,
                        from_follower,
                    },
                ),
                Err(error) => {
                    // As in Kafka, what nobody has heard of keeps nobody from waiting for the rest.
                    plan.failed |= !is_unknown(error);
                    refused.push(Outcome {
                        item,
                        id: None,
                        result: Err(error),
                    });
                }
            }
        }
        refused.sort_by_key(|o| !matches!(o.result, Err(ErrorCode::UNKNOWN_TOPIC_ID)));
        (plan, refused)
    }

    fn ask(&mut self, owner: usize, item: usize, part: FetchPart) {
        match self.shards.iter_mut().find(|s| s.owner == owner) {
            Some(shard) => {
                // Nobody else has it yet.
                Arc::make_mut(&mut shard.parts).push(part);
                shard.items.push(item);
            }
            None => self.shards.push(Part {
                owner,
                parts: Arc::new(vec![part]),
                items: vec![item],
            }),
        }
    }

    /// In the order in which they were asked for.
    async fn run(self, gateway: &Rc<Gateway>, deadline: Instant) -> Vec<Outcome> {
        let waits = !self.failed && self.min_bytes > 0 && deadline > Instant::now();
        let fetched = match self.shards.len() {
            0 => return Vec::new(),
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
        let count = self.shards.iter().map(|s| s.items.len()).sum();
        let mut outcomes = Vec::with_capacity(count);
        for (shard, fetched) in self.shards.iter().zip(fetched) {
            let mut fetched = fetched.into_iter();
            for (item, part) in shard.items.iter().zip(shard.parts.iter()) {
                outcomes.push(Outcome {
                    item: *item,
                    id: Some(part.id),
                    // A shard that did not answer is to be asked again.
                    result: fetched.next().ok_or(ErrorCode::KAFKA_STORAGE_ERROR),
                });
            }
        }
        outcomes.sort_unstable_by_key(|outcome| outcome.item);
        outcomes
    }

    fn is_enough(&self, fetched: &[Vec<Fetched>]) -> bool {
        let parts = || fetched.iter().flatten();
        parts().any(|f| f.error.is_some() || f.diverging.is_some())
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
        let fetch = messages::Fetch {
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
}

fn is_unknown(error: ErrorCode) -> bool {
    error == ErrorCode::UNKNOWN_TOPIC_ID || error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
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
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reply.is_none() {
            match Pin::new(&mut self.call).poll(cx) {
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
