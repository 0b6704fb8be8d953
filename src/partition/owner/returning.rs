//! Partitions that a start could not read because a part of what is stored of them could not be reached: they
//! are looked at again from time to time, and served when it can.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use shards::{BlockingError, log_limited};

use super::{Found, Inner, Partitions, Slot, now_ms};
use crate::partition::{Partition, State};
use crate::store::{Log, Recovered, seaweedmq};

/// Between two looks, at least.
const PAUSE: Duration = Duration::from_secs(3);
/// The pause is so many times as long as a look took, as there may be many partitions to be looked at.
const PAUSES_TO_LOOK: u32 = 10;

impl From<seaweedmq::Found<State>> for Found {
    fn from(found: seaweedmq::Found<State>) -> Self {
        let partitions = found.partitions.into_iter();
        Found {
            partitions: partitions.map(|p| p.map_log(Log::SeaweedMq)).collect(),
            unreadable: found.unreadable,
            away: found.away,
        }
    }
}

impl Partitions {
    /// Ends when all are served.
    pub(super) async fn returning_loop(self: &Rc<Self>) {
        let mut took = Duration::ZERO;
        while self.inner.borrow_mut().are_some_away() && !self.is_disowned() {
            shards::sleep(PAUSE.max(took * PAUSES_TO_LOOK)).await;
            let began = Instant::now();
            let away = self.inner.borrow().away.iter().copied().collect();
            let Some(look) = self.inner.borrow().store.look_again::<State>(away) else {
                return;
            };
            let found = self.shard.blocking(move || look().map(Found::from)).await;
            took = began.elapsed();
            self.inner.borrow_mut().take_returned(found);
        }
    }
}

impl Inner {
    /// Those of deleted topics are not.
    fn are_some_away(&mut self) -> bool {
        self.away.retain(|id| self.catalog.contains(*id));
        self.count_unserved();
        !self.away.is_empty()
    }

    pub(super) fn count_unserved(&self) {
        let count = |set: &FxHashSet<_>| set.len() as u64;
        let metrics = &self.metrics;
        metrics.unreadable_partitions.set(count(&self.unreadable));
        metrics.away_partitions.set(count(&self.away));
    }

    fn take_returned(&mut self, found: Result<io::Result<Found>, BlockingError>) {
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                log_limited!(warn, %error, "cannot look at partitions that could not be read; trying again");
                return;
            }
            Err(error) => {
                log_limited!(error, %error, "a look at partitions that could not be read ended in a panic; trying again");
                return;
            }
        };
        for id in found.unreadable {
            self.away.remove(&id);
            self.unreadable.insert(id);
        }
        for partition in found.partitions {
            self.serve_again(partition);
        }
    }

    /// Unless its topic was deleted meanwhile.
    fn serve_again(&mut self, recovered: Recovered<State>) {
        let id = recovered.id;
        if self.away.remove(&id) && self.catalog.contains(id) {
            tracing::info!(partition = %id, "the partition can be read again, and is served");
            // Who was there before had no clean end.
            let partition = Partition::recovered(recovered, false, now_ms());
            self.slots.insert(id, Slot::new(partition));
            self.take_configs(&[id]);
        }
    }
}
