//! Partitions whose log SeaweedMQ's brokers keep: what idempotent producers have sent is known again after
//! a start, if the topic has it kept (`seaweedmq.producer.ids`).
//!
//! The first batch of such a producer waits until a broker has written all that it may have of a gateway
//! that was there before. Then the end of the files says which records there are ([`Sequences`]): a batch
//! that is stored is answered so, and of one that is stored in part the rest is sent.

use std::rc::Rc;
use std::time::Duration;

use super::publish::FLUSHED_WITHIN;
use super::{Inner, Partitions, now_ms};
use crate::partition::messages::{Durability, PartitionError};
use crate::partition::producers::{NO_OFFSET, Producers, Sequence, SequenceError};
use crate::partition::published::{Waiter, tell};
use crate::partition::sequences::Sequences;
use crate::record::{Batch, BatchHeader};
use crate::store::PartitionId;

/// Of the end of a partition's files, what is looked at. What a gateway has that is not in the files is
/// less (`max.uncommitted.bytes`), unless it inflates.
const LOOKED_AT_BYTES: u64 = 64 << 20;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A batch, and who waits for it.
pub(super) struct Held {
    pub batch: Batch,
    pub durability: Durability,
    pub waiter: Waiter,
}

/// What a batch is.
pub(super) enum Verdict {
    /// To be sent, but for the records that are at these offsets. Empty: all of it.
    New(Vec<Option<i64>>),
    /// It came before, and is at this position.
    Sent { position: i64, appended_ms: i64 },
    /// An earlier gateway sent it, and its first record is at this offset.
    Stored(i64),
}

/// What a partition's producers had sent before this gateway began.
#[derive(Default)]
pub(super) struct Resumed {
    state: State,
    sequences: Sequences,
    /// Batches that wait until it is known.
    held: Vec<Held>,
    bytes: usize,
}

#[derive(Default, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    /// A task finds it out.
    Sought,
    Known,
}

impl Resumed {
    pub fn is_known(&self) -> bool {
        self.state == State::Known
    }

    /// Has a batch wait. Gives its bytes.
    pub fn hold(&mut self, held: Held) -> usize {
        let bytes = held.batch.size_in_bytes();
        self.bytes += bytes;
        self.held.push(held);
        bytes
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn fail(&mut self, error: PartitionError) {
        self.bytes = 0;
        self.held
            .drain(..)
            .for_each(|held| tell(held.waiter, Err(error)));
    }

    pub fn judge(
        &self,
        producers: &Producers,
        batch: &BatchHeader,
    ) -> Result<Verdict, SequenceError> {
        if !batch.has_producer_id() {
            return Ok(Verdict::New(Vec::new()));
        }
        let sequence = match producers.check(batch) {
            Ok(Sequence::Duplicate {
                base_offset: position,
                appended_ms,
                ..
            }) if position != NO_OFFSET => {
                return Ok(Verdict::Sent {
                    position,
                    appended_ms,
                });
            }
            Err(error @ SequenceError::StaleEpoch { .. }) => return Err(error),
            sequence => sequence,
        };
        // What was sent before needs not follow what is known to be last.
        let Some(offsets) = self.sequences.offsets(batch) else {
            return sequence.map(|_| Verdict::New(Vec::new()));
        };
        Ok(match offsets.first() {
            Some(Some(first)) if offsets.iter().all(Option::is_some) => Verdict::Stored(*first),
            _ => Verdict::New(offsets),
        })
    }
}

impl Partitions {
    /// If batches wait for it.
    pub(super) fn begin_resuming(self: &Rc<Self>, id: PartitionId) {
        let begin = self.publishing(id, |publishing| {
            let resumed = &mut publishing.resumed;
            let begin = resumed.state == State::Unknown && !resumed.held.is_empty();
            if begin {
                resumed.state = State::Sought;
            }
            begin
        });
        if begin == Some(true) {
            let this = self.clone();
            self.shard.spawn(async move { this.resume(id).await });
        }
    }

    async fn resume(self: Rc<Self>, id: PartitionId) {
        shards::sleep(FLUSHED_WITHIN.saturating_sub(self.started.elapsed())).await;
        let sequences = loop {
            if let Some(sequences) = self.sequences(id).await {
                break sequences;
            }
            if self.publishing(id, |_| ()).is_none() || self.is_disowned() {
                return;
            }
            shards::sleep(TRY_AGAIN_AFTER).await;
        };
        self.inner.borrow_mut().resume(id, sequences);
        self.begin_publishing(id);
        // There may be room for others.
        self.settled(id, |_| ());
    }

    /// What the files say. `None` if they cannot be read now.
    async fn sequences(self: &Rc<Self>, id: PartitionId) -> Option<Sequences> {
        if !self.look(id).await {
            return None;
        }
        let scan = {
            let inner = self.inner.borrow();
            let log = inner.slots.get(&id)?.partition.log().adopted()?;
            log.plan_scan(log.tail_offset(LOOKED_AT_BYTES))
        };
        let note = |sequences: &mut Sequences, record: &crate::record::Record, origin| {
            if let Some(origin) = origin {
                sequences.note(origin, record.offset);
            }
        };
        self.run_scan(id, scan, note).await
    }
}

impl Inner {
    /// Takes over what is known now, and the batches that waited for it, in their order.
    fn resume(&mut self, id: PartitionId, sequences: Sequences) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Some(publishing) = &mut slot.publishing else {
            return;
        };
        let now = now_ms();
        for (producer, epoch, last) in sequences.last() {
            let producers = slot.partition.producers_mut();
            producers.resume(producer, epoch, last, now);
        }
        let resumed = &mut publishing.resumed;
        (resumed.sequences, resumed.state) = (sequences, State::Known);
        let held = std::mem::take(&mut resumed.held);
        self.published_bytes -= std::mem::take(&mut resumed.bytes);
        for held in held {
            self.take(id, held, now);
        }
    }
}
