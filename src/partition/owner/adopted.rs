//! Partitions whose log SeaweedMQ's brokers keep: what these have written is looked for when the filer tells
//! that files changed, and from time to time.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use rustc_hash::FxHashSet;
use shards::local::Notified;
use shards::{BlockingError, log_limited, timeout, timeout_at};

use super::{Inner, Partitions, WaitingFetch, now_ms};
use crate::catalog::Topic;
use crate::partition::messages::{DeleteBefore, Deletion};
use crate::store::PartitionId;
use crate::store::seaweedmq::adopted::{Look, Looked, StartPlan, Touched, Watch, WatchPlan};

/// Between two rounds of looks at all of them, should the filer not tell of a change.
const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(30);
/// What failed is tried again after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks at a time.
const LOOKS_AT_ONCE: usize = 8;

/// Partitions that are to be looked at.
struct Due {
    ids: FxHashSet<PartitionId>,
    /// When all of them are.
    all_at: Instant,
}

impl Partitions {
    pub(super) async fn adopted_loop(self: &Rc<Self>) {
        let mut watch = None;
        let mut due = Due {
            ids: FxHashSet::default(),
            all_at: Instant::now(),
        };
        loop {
            let mut catalog_taken = pin!(self.catalog_taken.notified());
            let own = self.own_adopted();
            let Some(plan) = self.inner.borrow().plan_watch(&own) else {
                watch = None;
                catalog_taken.await;
                continue;
            };
            if !watch.as_ref().is_some_and(|watch| plan.is_of(watch)) {
                if watch.is_none() {
                    // Nobody told of changes.
                    due.all_at = Instant::now();
                }
                watch = self.begin_watch(plan).await;
            }
            due.ids.retain(|id| own.contains(id));
            due.ids.extend(self.inner.borrow().not_looked_at(&own));
            let taken = catalog_taken.as_mut();
            match self.follow(&own, watch.as_mut(), &mut due, taken).await {
                Followed::CatalogTaken => {}
                Followed::Ended => {
                    watch = None;
                    let _ = timeout(PAUSE, catalog_taken).await;
                }
            }
        }
    }

    fn own_adopted(&self) -> FxHashSet<PartitionId> {
        let (shard, shards) = (self.shard.index(), self.shard.count());
        self.inner.borrow_mut().adopted(shard, shards)
    }

    async fn begin_watch(&self, plan: WatchPlan) -> Option<Watch> {
        match plan.begin(now_ms()).await {
            Ok(watch) => Some(watch),
            Err(error) => {
                log_limited!(warn, %error, "no filer tells when SeaweedMQ's brokers write to their topics; looking every second until one does");
                None
            }
        }
    }

    /// Looks at what changes, and at everything when that is due. Without a watch, once.
    async fn follow(
        self: &Rc<Self>,
        own: &FxHashSet<PartitionId>,
        mut watch: Option<&mut Watch>,
        due: &mut Due,
        mut catalog_taken: Pin<&mut Notified>,
    ) -> Followed {
        loop {
            if due.all_at <= Instant::now() {
                due.ids.extend(own);
                due.all_at = Instant::now() + LOOK_AT_ALL_EVERY;
            }
            self.look_at_due(&mut due.ids).await;
            let Some(watch) = watch.as_mut() else {
                return Followed::Ended;
            };
            let until = match due.ids.is_empty() {
                true => due.all_at,
                false => due.all_at.min(Instant::now() + PAUSE),
            };
            let touched = pin!(watch.next());
            match timeout_at(until, select(touched, catalog_taken.as_mut())).await {
                Ok(Either::Left((Some(touched), _))) => self.note_touched(touched, &mut due.ids),
                Ok(Either::Left((None, _))) => return Followed::Ended,
                Ok(Either::Right(_)) => return Followed::CatalogTaken,
                Err(_) => {}
            }
        }
    }

    /// Those that could not be looked at stay.
    async fn look_at_due(self: &Rc<Self>, due: &mut FxHashSet<PartitionId>) {
        let ids: Vec<_> = due.iter().copied().collect();
        for some in ids.chunks(LOOKS_AT_ONCE) {
            let looks = some.iter().map(async |id| (*id, self.look(*id).await));
            for (id, is_done) in futures::future::join_all(looks).await {
                if is_done {
                    due.remove(&id);
                }
            }
        }
    }

    fn note_touched(&self, touched: Touched, due: &mut FxHashSet<PartitionId>) {
        let mut inner = self.inner.borrow_mut();
        for id in &touched.shortened {
            let slot = inner.slots.get_mut(id);
            let log = slot.and_then(|slot| slot.partition.log_mut().adopted_mut());
            if let Some(log) = log {
                log.note_removal();
            }
        }
        due.extend(touched.written);
        due.extend(touched.shortened);
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
        self.trim_adopted(id).await;
        true
    }

    /// Has a log of ours start where a deletion wants it, which says an offset from then on.
    pub(super) async fn start_adopted(self: &Rc<Self>, deletion: &mut Deletion) {
        let id = deletion.id;
        let plan = self.inner.borrow_mut().plan_start(deletion);
        let Some((offset, plan)) = plan else { return };
        match self.shard.blocking(move || plan.run()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                log_limited!(warn, partition = %id, %error, "cannot note where the log of a partition that brokers write starts: no records are deleted");
                return;
            }
            Err(error) => {
                log_limited!(error, partition = %id, %error, "noting where a log starts ended in a panic: no records are deleted");
                return;
            }
        }
        let woken = self.inner.borrow_mut().started(id, offset);
        self.answer_fetches(woken);
        self.trim_adopted(id).await;
    }

    /// Removes files that are wholly before the log's start.
    async fn trim_adopted(self: &Rc<Self>, id: PartitionId) {
        let plan = {
            let inner = self.inner.borrow();
            let slot = inner.slots.get(&id);
            slot.and_then(|slot| {
                // What may yet be looked for in the files stays.
                let publishing = slot.publishing.as_ref().map(|p| &p.published);
                let publishing = publishing.filter(|published| !published.is_empty());
                let end = publishing.map_or(i64::MAX, |published| published.unseen_from());
                slot.partition.log().adopted()?.plan_trim(end)
            })
        };
        let Some(plan) = plan else { return };
        match self.shard.blocking(move || plan.run()).await {
            Ok(Ok(end)) => {
                let mut inner = self.inner.borrow_mut();
                let slot = inner.slots.get_mut(&id);
                if let Some(log) = slot.and_then(|slot| slot.partition.log_mut().adopted_mut()) {
                    log.trimmed(end);
                }
            }
            Ok(Err(error)) => {
                log_limited!(warn, partition = %id, %error, "cannot remove files whose records are deleted; trying again");
            }
            Err(error) => {
                log_limited!(error, partition = %id, %error, "removing files ended in a panic; trying again");
            }
        }
    }

    fn is_looked_at(&self, id: PartitionId) -> bool {
        let inner = self.inner.borrow();
        inner.slots.get(&id).is_some_and(|slot| slot.is_looked_at)
    }
}

/// Why changes are not followed any more.
enum Followed {
    CatalogTaken,
    /// The watch ended, or there was none.
    Ended,
}

impl Inner {
    /// Those of this shard, each with a place of its own from now on.
    fn adopted(&mut self, shard: usize, shards: usize) -> FxHashSet<PartitionId> {
        let catalog = self.catalog.clone();
        let topics = catalog.topics().filter(|topic| topic.is_brokers());
        let all = topics.flat_map(|topic| (0..topic.partitions).filter_map(|i| topic.partition(i)));
        all.filter(|id| Topic::owner(*id, shards) == shard)
            .filter(|id| {
                let slot = self.slot_as_it_is(*id);
                slot.is_ok_and(|slot| slot.partition.log().adopted().is_some())
            })
            .collect()
    }

    fn plan_watch(&self, own: &FxHashSet<PartitionId>) -> Option<WatchPlan> {
        let slots = own.iter().filter_map(|id| self.slots.get(id));
        WatchPlan::of(slots.filter_map(|slot| slot.partition.log().adopted()))
    }

    fn not_looked_at(&self, own: &FxHashSet<PartitionId>) -> Vec<PartitionId> {
        let is_unknown = |id: &&PartitionId| {
            let slot = self.slots.get(id);
            let log = slot.and_then(|slot| slot.partition.log().adopted());
            log.is_some_and(|log| !log.is_known())
        };
        own.iter().filter(is_unknown).copied().collect()
    }

    /// `None` if there is nothing to be done, or it cannot be.
    fn plan_start(&mut self, deletion: &mut Deletion) -> Option<(i64, StartPlan)> {
        let partition = &self.slot(deletion.id).ok()?.partition;
        let bounds = partition.bounds();
        let offset = deletion.before.offset(bounds.high_watermark);
        let plan = partition.log().adopted()?.plan_start(offset)?;
        deletion.before = DeleteBefore::Offset(offset);
        let moves = (bounds.log_start_offset + 1..=bounds.high_watermark).contains(&offset);
        moves.then_some((offset, plan))
    }

    /// A log starts there now. Gives the fetches that wait before it.
    fn started(&mut self, id: PartitionId, offset: i64) -> Vec<WaitingFetch> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Vec::new();
        };
        slot.partition.started(offset);
        let watchers = slot.watchers.clone();
        self.take_satisfied(watchers)
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
