//! Partitions of topics that others made in SeaweedMQ: what these write is looked for from time to time.

use std::rc::Rc;
use std::time::Duration;

use shards::log_limited;

use super::{Inner, Partitions, WaitingFetch};
use crate::catalog::Topic;
use crate::store::PartitionId;
use crate::store::seaweedmq::adopted::Looked;

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
            shards::sleep(PAUSE).await;
        }
    }

    async fn look(self: &Rc<Self>, id: PartitionId) {
        let look = {
            let inner = self.inner.borrow();
            let slot = inner.slots.get(&id);
            let log = slot.and_then(|slot| slot.partition.log().adopted());
            log.map(|log| log.plan_look())
        };
        let Some(look) = look else { return };
        match self.shard.blocking(move || look.run()).await {
            Ok(Ok(looked)) => {
                let woken = self.inner.borrow_mut().looked(id, looked);
                self.answer_fetches(woken);
            }
            Ok(Err(error)) => {
                log_limited!(warn, partition = %id, %error, "cannot look at what others have written to a topic of SeaweedMQ; trying again");
            }
            Err(error) => {
                log_limited!(error, partition = %id, %error, "a look at a topic of others ended in a panic; trying again");
            }
        }
    }
}

impl Inner {
    /// Those of this shard, each with a place of its own from now on.
    fn adopted(&mut self, shard: usize, shards: usize) -> Vec<PartitionId> {
        let catalog = self.catalog.clone();
        let topics = catalog.topics().filter(|topic| topic.adopted);
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

    fn looked(&mut self, id: PartitionId, looked: Looked) -> Vec<WaitingFetch> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Vec::new();
        };
        let is_news = slot.partition.looked(looked);
        let watchers = slot.watchers.clone();
        match is_news {
            true => self.take_satisfied(watchers),
            false => Vec::new(),
        }
    }
}
