//! Logs lose their beginnings: records are deleted up to an offset that a client names, and the oldest
//! segments when they are not to be kept any longer.
//!
//! Where a log starts after a client's deletion is durable before anybody is told: the deletion waits
//! for a checkpoint that says it. What retention removes needs none: that the segments are gone says
//! where the log starts. Segments leave the log between two commits. Their files are renamed when no
//! start after a crash would need them, and removed after a delay, as reads may be on their way to them;
//! both in the order in which they left (see [`Removals`]).

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shards::{ReplyTo, timeout_at};

use super::{Inner, Partitions, WaitingFetch, now_ms};
use crate::gateway::Reply;
use crate::partition::messages::{Deletion, FetchId, PartitionError};
use crate::store::{AgePlan, Expired, PartitionId, Removal, Removals};

/// The first look at what need not be kept comes after this time, as in Kafka.
const RETENTION_BEGINS_AFTER: Duration = Duration::from_secs(30);
/// Partitions whose retention is looked at between two commits.
const AGED_AT_ONCE: usize = 64;

/// A client's deletion that waits for a checkpoint. Of each partition, where its log is to start.
pub(super) struct PendingDeletion {
    parts: Vec<(PartitionId, Result<i64, PartitionError>)>,
    reply: ReplyTo<Reply>,
}

/// What a turn of trimming leads to.
#[derive(Default)]
struct Trimmed {
    removals: Vec<DelayedRemoval>,
    ages: Vec<(PartitionId, AgePlan)>,
    woken: Vec<FetchId>,
}

pub(super) struct DelayedRemoval {
    pub id: PartitionId,
    pub removal: Removal,
    /// `file.delete.delay.ms`
    pub delay: Duration,
}

impl Partitions {
    /// Deletes records; answers with where the logs start when that is durable.
    pub fn delete_records(self: &Rc<Self>, mut asked: Vec<Deletion>, reply: ReplyTo<Reply>) {
        let is_brokers = |deletion: &Deletion| self.inner.borrow().is_brokers(deletion.id.topic);
        if !asked.iter().any(is_brokers) {
            return self.want_starts(&asked, reply);
        }
        let this = self.clone();
        self.shard.spawn(async move {
            for deletion in &mut asked {
                this.start_adopted(deletion).await;
            }
            this.want_starts(&asked, reply);
        });
    }

    fn want_starts(&self, asked: &[Deletion], reply: ReplyTo<Reply>) {
        let mut inner = self.inner.borrow_mut();
        let mut moves = false;
        let mut want = |deletion: &Deletion| {
            let start = inner.want_start(deletion);
            moves |= matches!(start, Ok((_, true)));
            (deletion.id, start.map(|(offset, _)| offset))
        };
        let parts = asked.iter().map(&mut want).collect();
        let deletion = PendingDeletion { parts, reply };
        if moves {
            inner.deletions.push(deletion);
            self.work.notify_waiters();
        } else {
            inner.answer_deletion(deletion, true);
        }
    }

    /// A checkpoint ended that deletions waited for.
    pub(super) fn end_deletions(self: &Rc<Self>, durable: bool) {
        let woken = self.inner.borrow_mut().end_deletions(durable);
        self.answer_fetches(woken);
    }

    /// Looks at what need not be kept, from time to time, a few partitions in each turn.
    pub(super) async fn retention_loop(self: &Rc<Self>) {
        let interval = self.limits.retention_check_interval;
        shards::sleep(interval.min(RETENTION_BEGINS_AFTER)).await;
        loop {
            let mut ids = self.inner.borrow().partitions_that_age();
            while !ids.is_empty() {
                let few = ids.len().saturating_sub(AGED_AT_ONCE);
                self.inner.borrow_mut().aging.extend(ids.drain(few..));
                self.work.notify_waiters();
                while !self.inner.borrow().aging.is_empty() {
                    shards::sleep(Duration::from_millis(1)).await;
                }
            }
            shards::sleep(interval).await;
        }
    }

    /// Lets go of segments that are no part of their logs any more. No commit may be under way.
    pub(super) fn trim(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        if inner.trims.is_empty() && inner.aging.is_empty() {
            return;
        }
        let Trimmed {
            removals,
            ages,
            woken,
        } = inner.trim(now_ms());
        let woken = inner.take_satisfied(woken);
        drop(inner);
        self.answer_fetches(woken);
        self.remove(removals);
        self.look_up(ages);
    }

    /// Asks the disk how old segments are, and looks at their partitions again.
    fn look_up(self: &Rc<Self>, ages: Vec<(PartitionId, AgePlan)>) {
        if ages.is_empty() {
            return;
        }
        let this = self.clone();
        self.shard.spawn(async move {
            let run = move || {
                let age = |(id, plan): (PartitionId, AgePlan)| (id, plan.base_offset(), plan.run());
                ages.into_iter().map(age).collect::<Vec<_>>()
            };
            let Ok(found) = this.shard.blocking(run).await else {
                return;
            };
            let mut inner = this.inner.borrow_mut();
            for (id, segment, age) in found {
                let Some(slot) = inner.slots.get_mut(&id) else {
                    continue;
                };
                match age {
                    Ok(age) => {
                        slot.partition.log_mut().note_age(segment, age);
                        inner.aging.push(id);
                    }
                    Err(error) => {
                        tracing::error!(partition = %id, segment, %error, "cannot tell how old a segment is; it is kept")
                    }
                }
            }
            this.work.notify_waiters();
        });
    }

    /// A checkpoint is on the disk: what only the one before needed can go.
    pub(super) fn remove_unneeded(&self) {
        let mut guard = self.inner.borrow_mut();
        let inner = &mut *guard;
        let mut removals = Vec::new();
        for (id, slot) in &mut inner.slots {
            let log = slot.partition.log_mut();
            log.checkpointed();
            if let Some(removal) = log.plan_removal() {
                let delay = super::removal_delay(&inner.catalog, *id);
                let id = *id;
                removals.push(DelayedRemoval { id, removal, delay });
            }
        }
        drop(guard);
        self.remove(removals);
    }

    pub(super) fn remove(&self, removals: Vec<DelayedRemoval>) {
        if removals.is_empty() {
            return;
        }
        self.inner.borrow_mut().removals.extend(removals);
        self.let_go.notify_waiters();
    }

    /// Removes what logs let go of. What is left when the process ends, the next start removes.
    pub(super) async fn removal_loop(self: &Rc<Self>) {
        let removals = Arc::new(Mutex::new(Removals::default()));
        loop {
            let let_go = self.let_go.notified();
            self.hand_over(&mut shards::lock(&removals));
            let run = {
                let removals = removals.clone();
                move || shards::lock(&removals).run(Instant::now())
            };
            let again = match self.shard.blocking(run).await {
                Ok(again) => again,
                Err(_) => Some(Instant::now() + Removals::AGAIN_AFTER),
            };
            match again {
                Some(again) => drop(timeout_at(again, let_go).await),
                None => let_go.await,
            }
        }
    }

    fn hand_over(&self, removals: &mut Removals) {
        let now = Instant::now();
        for one in self.inner.borrow_mut().removals.drain(..) {
            removals.push(one.id, one.removal, now + one.delay);
        }
    }
}

impl Inner {
    /// The offset that the log is to start at, and whether that is yet to come.
    fn want_start(&mut self, deletion: &Deletion) -> Result<(i64, bool), PartitionError> {
        if self.broken {
            return Err(self.not_stored());
        }
        let partition = &mut self.slot(deletion.id)?.partition;
        let bounds = partition.bounds();
        let offset = deletion.before.offset(bounds.high_watermark);
        if let Some(log) = partition.log().adopted() {
            // It starts there already, if it could be made to.
            return if !log.may_start_later() {
                Err(PartitionError::ReadOnly)
            } else if !(0..=bounds.high_watermark).contains(&offset) {
                Err(PartitionError::OutOfRange)
            } else if offset > bounds.log_start_offset {
                Err(PartitionError::Storage)
            } else {
                Ok((offset, false))
            };
        }
        let moves = partition.want_start(offset);
        let moves = moves.map_err(|_| PartitionError::OutOfRange)?;
        Ok((offset, moves))
    }

    /// Gives the fetches that wait below the new starts.
    fn end_deletions(&mut self, durable: bool) -> Vec<WaitingFetch> {
        let mut woken = Vec::new();
        for deletion in std::mem::take(&mut self.checkpoint.deletions) {
            for (id, start) in &deletion.parts {
                let (Some(slot), Ok(start)) = (self.slots.get_mut(id), start) else {
                    continue;
                };
                slot.partition.settle_start(*start, durable);
                woken.extend_from_slice(&slot.watchers);
                self.trims.push(*id);
            }
            self.answer_deletion(deletion, durable);
        }
        self.take_satisfied(woken)
    }

    /// Nothing can be made durable any more.
    pub(super) fn refuse_deletions(&mut self) {
        for deletion in std::mem::take(&mut self.deletions) {
            self.answer_deletion(deletion, false);
        }
    }

    /// Answers with where the logs start.
    fn answer_deletion(&self, deletion: PendingDeletion, durable: bool) {
        let outcome = |(id, start): (PartitionId, Result<i64, PartitionError>)| {
            start?;
            let slot = self.slots.get(&id).ok_or(PartitionError::Unknown)?;
            match durable {
                true => Ok(slot.partition.bounds().log_start_offset),
                false => Err(self.not_stored()),
            }
        };
        let starts = deletion.parts.into_iter().map(outcome).collect();
        deletion.reply.send(Reply::LowWatermarks(starts));
    }

    /// Those whose topics do not keep everything.
    fn partitions_that_age(&self) -> Vec<PartitionId> {
        let ages = |id: &&PartitionId| {
            let topic = self.catalog.by_id(&id.topic);
            topic.is_some_and(|topic| topic.config.retention().is_some())
        };
        self.slots.keys().filter(ages).copied().collect()
    }

    fn trim(&mut self, now_ms: i64) -> Trimmed {
        assert!(!self.committing, "a commit under way counts segments");
        let mut trimmed = Trimmed::default();
        let mut ids = std::mem::take(&mut self.trims);
        for id in std::mem::take(&mut self.aging) {
            self.expire(id, now_ms, &mut trimmed);
            ids.push(id);
        }
        for id in ids {
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            slot.partition.drop_segments();
            let log = slot.partition.log_mut();
            if let Some(removal) = log.plan_removal() {
                let delay = super::removal_delay(&self.catalog, id);
                trimmed.removals.push(DelayedRemoval { id, removal, delay });
            }
            // What the last checkpoint still needs, the next one lets go.
            self.checkpoint.due |= log.has_dropped();
        }
        trimmed
    }

    /// Takes away what need not be kept of one log.
    fn expire(&mut self, id: PartitionId, now_ms: i64, trimmed: &mut Trimmed) {
        let topic = self.catalog.by_id(&id.topic);
        let keep = topic.and_then(|topic| topic.config.retention());
        let (Some(keep), Some(slot)) = (keep, self.slots.get_mut(&id)) else {
            return;
        };
        if slot.partition.log().is_being_compacted() {
            return;
        }
        match slot.partition.log_mut().expired(keep, now_ms) {
            Expired::Nothing => {}
            Expired::Unknown(age) => trimmed.ages.push((id, age)),
            Expired::Before(offset) => {
                let segments = slot.partition.expire(offset);
                trimmed.woken.extend_from_slice(&slot.watchers);
                tracing::info!(partition = %id, segments, log_start_offset = offset, "removed segments that are beyond the topic's retention");
            }
        }
    }
}
