//! Partitions whose log SeaweedMQ's brokers keep: what these have written is looked for from time to time,
//! and when it is known to be there.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use shards::{BlockingError, log_limited, timeout};

use super::{Inner, Partitions, WaitingFetch};
use crate::catalog::Topic;
use crate::store::PartitionId;
use crate::store::seaweedmq::adopted::{Look, Looked};

/// Between two rounds of looks at all of them. Brokers write what they have about every 5 s.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks at a time.
const LOOKS_AT_ONCE: usize = 8;

impl Partitions {
    pub(super) async fn adopted_loop(self: &Rc<Self>) {
        loop {
            let ids = self
                .inner
                .borrow_mut()
                .adopted(self.shard.index(), self.shard.count());
            for some in ids.chunks(LOOKS_AT_ONCE) {
                let looks: Vec<_> = some.iter().map(|id| self.look(*id)).collect();
                futures::future::join_all(looks).await;
            }
            // A topic that is new is looked at at once.
            let _ = timeout(PAUSE, self.catalog_taken.notified()).await;
        }
    }

    /// Looks at what the files of a partition have. False if that cannot be told, or nobody asks any more.
    pub(super) async fn look(self: &Rc<Self>, id: PartitionId) -> bool {
        // What an older look found must not take the place of what a later one did.
        while self.is_looked_at(id) {
            self.looked.notified().await;
        }
        let look = self.inner.borrow_mut().begin_look(id);
        let Some(look) = look else { return false };
        let looked = self.shard.blocking(move || look.run()).await;
        let woken = self.inner.borrow_mut().end_look(id, looked);
        self.looked.notify_waiters();
        let Some(woken) = woken else { return false };
        self.answer_fetches(woken);
        self.settle(id).await;
        true
    }

    fn is_looked_at(&self, id: PartitionId) -> bool {
        let inner = self.inner.borrow();
        inner.slots.get(&id).is_some_and(|slot| slot.is_looked_at)
    }
}

impl Inner {
    /// Those of this shard, each with a place of its own from now on.
    fn adopted(&mut self, shard: usize, shards: usize) -> Vec<PartitionId> {
        let catalog = self.catalog.clone();
        let topics = catalog.topics().filter(|topic| topic.is_brokers());
        let all = topics.flat_map(|topic| (0..topic.partitions).filter_map(|i| topic.partition(i)));
        let own: Vec<_> = all
            .filter(|id| Topic::owner(*id, shards) == shard)
            .collect();
        for id in &own {
            // It may say that it is not known yet.
            let _ = self.slot(*id);
        }
        own
    }

    fn begin_look(&mut self, id: PartitionId) -> Option<Look> {
        let slot = self.slots.get_mut(&id)?;
        let look = slot.partition.log().adopted()?.plan_look();
        slot.is_looked_at = true;
        Some(look)
    }

    /// Gives the fetches that have enough now. `None` if the look failed, or the partition is gone.
    fn end_look(
        &mut self,
        id: PartitionId,
        looked: Result<io::Result<Looked>, BlockingError>,
    ) -> Option<Vec<WaitingFetch>> {
        let slot = self.slots.get_mut(&id)?;
        slot.is_looked_at = false;
        match looked {
            Ok(Ok(looked)) => {
                let is_news = slot.partition.looked(looked);
                let watchers = slot.watchers.clone();
                Some(match is_news {
                    true => self.take_satisfied(watchers),
                    false => Vec::new(),
                })
            }
            Ok(Err(error)) => {
                log_limited!(warn, partition = %id, %error, "cannot look at what was written to a topic of SeaweedMQ's brokers; trying again");
                None
            }
            Err(error) => {
                log_limited!(error, partition = %id, %error, "a look at a topic of SeaweedMQ's brokers ended in a panic; trying again");
                None
            }
        }
    }
}
