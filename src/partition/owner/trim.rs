//! Logs lose their beginnings: records are deleted up to an offset that a client names.
//!
//! Where a log starts is durable before anybody is told: a deletion waits for a checkpoint that says it.
//! Only then readers stop at the new start, and segments that lie before it are let go of, between two
//! commits. Their files are renamed when no start after a crash would need them, and removed after a
//! delay, as reads may be on their way to them.

use std::rc::Rc;
use std::time::Duration;

use shards::ReplyTo;

use super::{Inner, Partitions, WaitingFetch};
use crate::gateway::Reply;
use crate::partition::messages::{DeleteBefore, Deletion, PartitionError};
use crate::store::PartitionId;
use crate::store::local::Removal;

/// Kafka's `log.segment.delete.delay.ms`.
const REMOVAL_DELAY: Duration = Duration::from_secs(60);

/// A client's deletion that waits for a checkpoint. Of each partition, where its log is to start.
pub(super) struct PendingDeletion {
    parts: Vec<(PartitionId, Result<i64, PartitionError>)>,
    reply: ReplyTo<Reply>,
}

impl Partitions {
    /// Deletes records; answers with where the logs start when that is durable.
    pub fn delete_records(&self, asked: &[Deletion], reply: ReplyTo<Reply>) {
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

    /// Lets go of segments before the starts of logs that have moved. No commit may be under way.
    pub(super) fn trim(&self) {
        let mut inner = self.inner.borrow_mut();
        assert!(!inner.committing, "a commit under way counts segments");
        let mut removals = Vec::new();
        for id in std::mem::take(&mut inner.trims) {
            if let Some(slot) = inner.slots.get_mut(&id) {
                slot.partition.drop_segments();
                let log = slot.partition.log_mut();
                removals.extend(log.plan_removal());
                inner.checkpoint.due |= log.has_dropped();
            }
        }
        drop(inner);
        self.remove(removals);
    }

    /// A checkpoint is on the disk: what only the one before needed can go.
    pub(super) fn remove_unneeded(&self) {
        let plan = |slot: &mut super::Slot| {
            let log = slot.partition.log_mut();
            log.checkpointed();
            log.plan_removal()
        };
        let mut inner = self.inner.borrow_mut();
        let removals = inner.slots.values_mut().filter_map(plan).collect();
        drop(inner);
        self.remove(removals);
    }

    fn remove(&self, removals: Vec<Removal>) {
        if removals.is_empty() {
            return;
        }
        let shard = self.shard.clone();
        self.shard.spawn(async move {
            let retire = move || {
                removals.iter().for_each(Removal::retire);
                removals
            };
            let Ok(removals) = shard.blocking(retire).await else {
                return;
            };
            shards::sleep(REMOVAL_DELAY).await;
            // If the process ends before, the next start removes them.
            let _ = shard
                .blocking(move || removals.iter().for_each(Removal::remove))
                .await;
        });
    }
}

impl Inner {
    /// The offset that the log is to start at, and whether that is yet to come.
    fn want_start(&mut self, deletion: &Deletion) -> Result<(i64, bool), PartitionError> {
        if self.broken {
            return Err(PartitionError::Storage);
        }
        let partition = &mut self.slot(deletion.id)?.partition;
        let offset = match deletion.before {
            DeleteBefore::Offset(offset) => offset,
            DeleteBefore::HighWatermark => partition.bounds().high_watermark,
        };
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
                false => Err(PartitionError::Storage),
            }
        };
        let starts = deletion.parts.into_iter().map(outcome).collect();
        deletion.reply.send(Reply::LowWatermarks(starts));
    }
}
