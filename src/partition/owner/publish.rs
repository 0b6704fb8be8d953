//! Partitions whose log SeaweedMQ's brokers keep: what is produced to them goes to a broker.
//!
//! A partition that has something to be sent has a task, with one stream to the broker that leads it. What
//! the broker does with it is found in the partition's files (see [`Published`]): acks=1 is answered when
//! the broker has it in memory, acks=all when the files have it. When the stream ends, the records that the
//! files do not have are sent again, to whichever broker leads the partition then. Consumers get what is in
//! the files, so nothing that they have seen goes away.

use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{Either, select};
use shards::local::{Notify, Receiver, oneshot};
use shards::{ReplyTo, log_limited, turn};

use super::resume::{Held, Resumed, Verdict};
use super::{Inner, Partitions, now_ms};
use crate::bridge::{BridgeError, MessagePlace, Publisher};
use crate::gateway::Reply;
use crate::partition::messages::{Durability, PartitionError, Produce, Produced};
use crate::partition::published::{Published, Seen, tell};
use crate::record::{Batch, Compression, Record, RecordError, records};
use crate::store::seaweedmq::adopted::Scan;
use crate::store::seaweedmq::broker::Outlet;
use crate::store::seaweedmq::broker::envelope::{self, Clock, Origin};
use crate::store::{PartitionId, Store};
use crate::wire::Uuid;

/// Bytes and records that a broker has not acknowledged yet; more waits.
const FLYING_BYTES_MAX: usize = 8 << 20;
const FLYING_MAX: usize = 50_000;
/// What a batch inflates to was checked when it came.
const INFLATED_BYTES_MAX: usize = i32::MAX as usize;
/// Of what a shard may hold, the part that one partition may: others are to go on when its broker does not.
const PARTITION_SHARE: usize = 4;
/// A broker that acknowledges nothing for so long is asked whether it is there.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);
/// A stream without records is closed after this time, so that the broker can let go of the partition.
const IDLE: Duration = Duration::from_secs(60);
/// Before a stream is opened anew: at first, and when that has failed often.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(4);
/// For a broker that is to close a stream.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// While no stream can be opened for longer than this, producers are told to try again.
const UNAVAILABLE_AFTER: Duration = Duration::from_secs(5);
/// For so long a broker that lost the stream may still write what it has: its interval, 5 s, and a bit.
pub(super) const FLUSHED_WITHIN: Duration = Duration::from_secs(7);
/// For the flushes that a gateway waits for when it stops.
const STOP_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a partition has for brokers.
pub(super) struct Publishing {
    pub(super) published: Published,
    pub(super) resumed: Resumed,
    wake: Notify,
    /// A task sends what there is.
    is_running: bool,
    /// Since when there is no stream, though there is something to be sent.
    down_since: Option<Instant>,
    /// Something looks for the records in the files; and is to do so again.
    is_settling: bool,
    settle_again: bool,
}

impl Default for Publishing {
    fn default() -> Self {
        Publishing {
            published: Published::default(),
            resumed: Resumed::default(),
            wake: Notify::new(),
            is_running: false,
            down_since: None,
            is_settling: false,
            settle_again: false,
        }
    }
}

impl Publishing {
    /// Sends nothing any more, and tells who waits. Gives the bytes that were held.
    pub(super) fn give_up(&mut self, error: PartitionError) -> usize {
        let bytes = self.bytes();
        self.published.fail(error);
        self.resumed.fail(error);
        self.wake.notify_waiters();
        bytes
    }

    /// Bytes that are held.
    fn bytes(&self) -> usize {
        self.published.bytes() + self.resumed.bytes()
    }

    fn is_unavailable(&self) -> bool {
        let down = self.down_since.map(|since| since.elapsed());
        down.is_some_and(|down| down > UNAVAILABLE_AFTER)
    }
}

/// A batch that was taken in: when it came first, if it is a retry, and who tells its offset.
struct Taken {
    first_appended_ms: Option<i64>,
    offset: Receiver<Result<i64, PartitionError>>,
}

/// Why a stream is over.
enum Ended {
    /// Nothing is to be sent, or nobody is there to send it for.
    Done,
    Lost(String),
}

impl From<BridgeError> for Ended {
    fn from(error: BridgeError) -> Self {
        Ended::Lost(error.to_string())
    }
}

/// A stream, where it leads, and the times of its messages.
struct Opened {
    publisher: Publisher,
    place: MessagePlace,
    clock: Clock,
}

/// The messages of a batch.
struct Messages {
    /// Fingerprints, and bytes.
    records: Vec<(u64, usize)>,
    all: Vec<Record>,
}

impl Messages {
    fn of(batch: &Batch) -> Result<Self, RecordError> {
        let all: Vec<_> = records(batch, INFLATED_BYTES_MAX)?.collect::<Result<_, _>>()?;
        let record = |record: &Record| {
            let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
            let bytes = len(&record.key) + len(&record.value);
            (envelope::fingerprint(record), bytes)
        };
        let records = all.iter().map(record).collect();
        Ok(Messages { records, all })
    }
}

impl Partitions {
    /// Publishes batches; answers when the durability asked for is reached.
    pub fn publish(self: &Rc<Self>, request: Produce, reply: ReplyTo<Reply>) {
        let mut inner = self.inner.borrow_mut();
        let is_full = inner.published_bytes > self.limits.uncommitted_bytes;
        if is_full || !inner.unpublished.is_empty() {
            inner.unpublished.push_back((request, reply));
            return;
        }
        drop(inner);
        self.take_in(request, reply);
    }

    fn take_in(self: &Rc<Self>, request: Produce, reply: ReplyTo<Reply>) {
        let now = now_ms();
        let bytes_max = self.limits.uncommitted_bytes / PARTITION_SHARE;
        let mut inner = self.inner.borrow_mut();
        let mut parts = Vec::with_capacity(request.batches.len());
        for (id, batch) in request.batches {
            let taken = inner.take_in(id, batch, request.durability, now, bytes_max);
            parts.push((id, taken));
        }
        drop(inner);
        for (id, taken) in &parts {
            if taken.is_ok() {
                self.begin_resuming(*id);
                self.begin_publishing(*id);
            }
        }
        let this = self.clone();
        self.shard.spawn(async move {
            let mut outcomes = Vec::with_capacity(parts.len());
            for (id, taken) in parts {
                outcomes.push(this.outcome(id, taken).await);
            }
            reply.send(Reply::Produce(outcomes));
        });
    }

    async fn outcome(
        &self,
        id: PartitionId,
        taken: Result<Taken, PartitionError>,
    ) -> Result<Produced, PartitionError> {
        let taken = taken?;
        // The partition may be gone meanwhile.
        let base_offset = taken.offset.await.unwrap_or(Err(PartitionError::Unknown))?;
        let inner = self.inner.borrow();
        let slot = inner.slots.get(&id).ok_or(PartitionError::Unknown)?;
        Ok(Produced {
            base_offset,
            log_start_offset: slot.partition.bounds().log_start_offset,
            first_appended_ms: taken.first_appended_ms,
        })
    }

    pub(super) fn begin_publishing(self: &Rc<Self>, id: PartitionId) {
        let begin = self.publishing(id, |publishing| {
            publishing.wake.notify_waiters();
            let has_some = !publishing.published.is_empty();
            has_some && !std::mem::replace(&mut publishing.is_running, true)
        });
        if begin == Some(true) {
            let this = self.clone();
            self.shard.spawn(async move { this.publish_loop(id).await });
        }
    }

    pub(super) fn publishing<T>(
        &self,
        id: PartitionId,
        with: impl FnOnce(&mut Publishing) -> T,
    ) -> Option<T> {
        let mut inner = self.inner.borrow_mut();
        let slot = inner.slots.get_mut(&id)?;
        slot.publishing.as_deref_mut().map(with)
    }

    /// Sends what there is, until nothing comes any more.
    async fn publish_loop(self: Rc<Self>, id: PartitionId) {
        let mut pause = REOPEN_PAUSE;
        loop {
            let outlet = self.inner.borrow().outlet(id);
            let ended = match outlet {
                Some(outlet) => self.stream(id, &outlet).await,
                None => Ended::Done,
            };
            let done = self.publishing(id, |publishing| {
                // What came while the stream was being closed wants another.
                let is_done = matches!(ended, Ended::Done) && publishing.published.is_empty();
                publishing.is_running = !is_done;
                is_done
            });
            if done.unwrap_or(true) || self.is_disowned() {
                return;
            }
            if let Ended::Lost(why) = ended {
                let was_down = self.publishing(id, |publishing| {
                    let was_down = publishing.down_since.is_some();
                    publishing.down_since.get_or_insert_with(Instant::now);
                    was_down
                });
                pause = match was_down {
                    Some(true) => (pause * 2).min(REOPEN_PAUSE_MAX),
                    _ => REOPEN_PAUSE,
                };
                log_limited!(warn, partition = %id, why, "the stream to the broker of a partition has ended; another is opened, and what the broker may have lost is sent again");
            }
            shards::sleep(pause).await;
        }
    }

    /// One stream, from its beginning to its end.
    async fn stream(self: &Rc<Self>, id: PartitionId, outlet: &Outlet) -> Ended {
        match self.open(id, outlet).await {
            Ok(opened) => self.run(id, outlet, opened).await,
            Err(ended) => ended,
        }
    }

    /// Opens a stream when it is known what became of what the last one had.
    async fn open(self: &Rc<Self>, id: PartitionId, outlet: &Outlet) -> Result<Opened, Ended> {
        let lost = |what: &str| Ended::Lost(what.to_owned());
        let is_unclear = self.publishing(id, |p| p.published.is_unclear());
        if is_unclear == Some(true) {
            shards::sleep(FLUSHED_WITHIN).await;
        }
        let unknown = "it is not known what the partition's files have";
        if !self.look(id).await {
            return Err(lost(unknown));
        }
        if is_unclear == Some(true) && !self.resolve(id).await {
            return Err(lost("the partition's files cannot be read"));
        }
        let end = self.end_of(id).ok_or(Ended::Done)?;
        let given = self.publishing(id, |p| p.published.given());
        let (publisher, place) = outlet.open(end.max(given.unwrap_or(0))).await?;
        // Another's stream may just have been the last to end before.
        if !self.look(id).await {
            return Err(lost(unknown));
        }
        let clock = Clock::from(self.last_file_ns(id).ok_or(Ended::Done)?);
        self.publishing(id, |publishing| {
            publishing.published.opened(end);
            publishing.down_since = None;
        });
        Ok(Opened {
            publisher,
            place,
            clock,
        })
    }

    fn last_file_ns(&self, id: PartitionId) -> Option<i64> {
        let inner = self.inner.borrow();
        let log = inner.slots.get(&id)?.partition.log().adopted()?;
        Some(log.last_file_ns())
    }

    /// Where the files end.
    fn end_of(&self, id: PartitionId) -> Option<i64> {
        let inner = self.inner.borrow();
        let slot = inner.slots.get(&id)?;
        Some(slot.partition.bounds().high_watermark)
    }

    async fn run(self: &Rc<Self>, id: PartitionId, outlet: &Outlet, opened: Opened) -> Ended {
        let Opened {
            mut publisher,
            place,
            mut clock,
        } = opened;
        // The first record is alone until its offset is seen to be good.
        let mut is_proven = false;
        let mut heard = Instant::now();
        let mut busy = Instant::now();
        loop {
            let Some(woken) = self.publishing(id, |p| p.wake.notified()) else {
                return Ended::Done;
            };
            let max = if is_proven { FLYING_MAX } else { 1 };
            let was_flying = self.publishing(id, |p| p.published.is_flying());
            if is_proven || was_flying == Some(false) {
                self.send(id, &publisher, &mut clock, max).await;
            }
            if was_flying == Some(false) {
                heard = Instant::now();
            }
            let timer = shards::sleep(LOOK_EVERY);
            let acks = match select(publisher.acks.next(), select(woken, pin!(timer))).await {
                Either::Left((acks, _)) => Some(acks),
                Either::Right(_) => None,
            };
            if let Some(acks) = acks {
                (heard, is_proven) = (Instant::now(), true);
                if let Err(why) = self.take_acks(id, acks).await {
                    return Ended::Lost(why);
                }
            }
            let state = self.publishing(id, |p| (p.published.is_empty(), p.published.is_flying()));
            let Some((is_empty, is_flying)) = state else {
                return Ended::Done;
            };
            if !is_empty {
                busy = Instant::now();
            }
            if self.is_disowned() {
                return Ended::Done;
            }
            if is_flying && heard.elapsed() > ACKNOWLEDGE_WITHIN {
                // One whose storage is full just waits, and has what it acknowledged.
                if !outlet.is_at(&place).await {
                    return Ended::Lost("the broker acknowledges nothing".to_owned());
                }
                log_limited!(warn, partition = %id, "the broker of a partition answers and acknowledges no record: has SeaweedFS room for its files?");
                heard = Instant::now();
            }
            let is_stopping = self.shard.is_stopping() && !is_flying;
            if is_stopping || (is_empty && busy.elapsed() > IDLE) {
                self.close(id, publisher).await;
                return Ended::Done;
            }
        }
    }

    /// Takes over what a stream acknowledges, or says why it is over.
    async fn take_acks(
        self: &Rc<Self>,
        id: PartitionId,
        acks: Option<Result<Vec<i64>, String>>,
    ) -> Result<(), String> {
        let offsets = acks.unwrap_or_else(|| Err("the broker has closed it".to_owned()))?;
        match self.acked(id, &offsets).await {
            true => Ok(()),
            false => Err(format!(
                "the broker gives offset {} though the partition's files have it: it counts anew",
                offsets.iter().min().copied().unwrap_or(-1)
            )),
        }
    }

    /// Ends a stream, upon which the broker writes what it has, unless it has others.
    async fn close(self: &Rc<Self>, id: PartitionId, mut publisher: Publisher) {
        drop(publisher.messages);
        let ends = async { while publisher.acks.next().await.is_some() {} };
        let _ = shards::timeout(CLOSED_WITHIN, ends).await;
        self.look(id).await;
    }

    /// Gives the stream as much as may be on its way.
    async fn send(
        self: &Rc<Self>,
        id: PartitionId,
        publisher: &Publisher,
        clock: &mut Clock,
        max: usize,
    ) {
        loop {
            let next = self.publishing(id, |publishing| {
                let has_room = publishing.published.flying_bytes() < FLYING_BYTES_MAX;
                let next = publishing.published.next_unsent();
                next.filter(|_| has_room)
            });
            let Some(Some((position, batch))) = next else {
                return;
            };
            let header = *batch.header();
            let messages = match header.attributes().compression() {
                Ok(Compression::None) => Messages::of(&batch),
                _ => match self.shard.blocking(move || Messages::of(&batch)).await {
                    Ok(messages) => messages,
                    Err(_) => return,
                },
            };
            let Ok(messages) = messages else {
                self.settled(id, |p| p.refuse(position, PartitionError::Corrupt));
                continue;
            };
            let sent = self.publishing(id, |publishing| {
                publishing.published.send(position, &messages.records, max)
            });
            let Some(sent) = sent else {
                return;
            };
            let now_ns = now_ms() * 1_000_000;
            let keeps_ids = self.inner.borrow().keeps_producer_ids(id);
            for index in sent {
                let origin = Origin::of(&header, index).filter(|_| keeps_ids);
                let message = envelope::message(&messages.all[index], origin, now_ns, clock);
                // If the stream is over, its acknowledgements say why.
                if publisher.messages.unbounded_send(message.into()).is_err() {
                    return;
                }
            }
            if max == 1 {
                return;
            }
            turn().await;
        }
    }

    /// Takes acknowledgements over. False if the broker gives offsets that are taken.
    async fn acked(self: &Rc<Self>, id: PartitionId, offsets: &[i64]) -> bool {
        let Some(end) = self.end_of(id) else {
            return true;
        };
        let taken = self.publishing(id, |publishing| {
            let is_good = publishing.published.acked(offsets);
            (is_good, publishing.published.may_be_seen(end))
        });
        let (is_good, is_late) = taken.unwrap_or((true, false));
        if is_late {
            self.settle(id).await;
        }
        is_good
    }

    /// Looks for what was acknowledged in the files, after these were found to have more.
    pub(super) async fn settle(self: &Rc<Self>, id: PartitionId) {
        let begin = |publishing: &mut Publishing| {
            publishing.settle_again = true;
            !std::mem::replace(&mut publishing.is_settling, true)
        };
        if self.publishing(id, begin) != Some(true) {
            return;
        }
        let again = |publishing: &mut Publishing| {
            publishing.is_settling = publishing.settle_again;
            std::mem::take(&mut publishing.settle_again)
        };
        while self.publishing(id, again) == Some(true) {
            let end = self.end_of(id).unwrap_or(0);
            if self.publishing(id, |p| p.published.may_be_seen(end)) != Some(true) {
                continue;
            }
            match self.scan(id).await {
                Some(seen) => self.settled(id, |published| published.seen(&seen, end)),
                // The next look brings another.
                None => shards::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Finds out what became of all that was sent. False if that cannot be told now.
    async fn resolve(self: &Rc<Self>, id: PartitionId) -> bool {
        let Some(seen) = self.scan(id).await else {
            return false;
        };
        self.settled(id, |published| published.resolve(&seen));
        true
    }

    /// The records of the files from the first that may be one of those that were sent.
    async fn scan(self: &Rc<Self>, id: PartitionId) -> Option<Vec<Seen>> {
        let scan = {
            let inner = self.inner.borrow();
            let slot = inner.slots.get(&id)?;
            let from = slot.publishing.as_ref()?.published.unseen_from();
            slot.partition.log().adopted()?.plan_scan(from)
        };
        let note = |seen: &mut Vec<Seen>, record: &Record, _| {
            seen.push(Seen {
                offset: record.offset,
                fingerprint: envelope::fingerprint(record),
            });
        };
        self.run_scan(id, scan, note).await
    }

    /// `None` if the files cannot be read.
    pub(super) async fn run_scan<T: Default + Send + 'static>(
        &self,
        id: PartitionId,
        scan: Scan,
        note: impl Fn(&mut T, &Record, Option<Origin>) + Send + 'static,
    ) -> Option<T> {
        let run = move || {
            let mut found = T::default();
            scan.run(|record, origin| note(&mut found, record, origin))?;
            Ok::<_, std::io::Error>(found)
        };
        match self.shard.blocking(run).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                log_limited!(warn, partition = %id, %error, "cannot read what a broker has written to a partition; trying again");
                None
            }
            Err(error) => {
                log_limited!(error, partition = %id, %error, "reading what a broker has written ended in a panic; trying again");
                None
            }
        }
    }

    /// Has the files' records noted, upon which others may come in.
    pub(super) fn settled(self: &Rc<Self>, id: PartitionId, note: impl FnOnce(&mut Published)) {
        let mut inner = self.inner.borrow_mut();
        let inner_now = &mut *inner;
        let slot = inner_now.slots.get_mut(&id);
        let Some(publishing) = slot.and_then(|slot| slot.publishing.as_mut()) else {
            return;
        };
        let before = publishing.published.bytes();
        note(&mut publishing.published);
        inner_now.published_bytes -= before - publishing.published.bytes();
        publishing.wake.notify_waiters();
        drop(inner);
        loop {
            let mut inner = self.inner.borrow_mut();
            if inner.published_bytes > self.limits.uncommitted_bytes {
                return;
            }
            let Some((request, reply)) = inner.unpublished.pop_front() else {
                return;
            };
            drop(inner);
            self.take_in(request, reply);
        }
    }

    /// Waits for what brokers have to be in the files, as far as that takes no longer than it should.
    pub(super) async fn end_publishing(self: &Rc<Self>) {
        let begun = Instant::now();
        let is_over = |inner: &Inner| inner.published_bytes == 0 || inner.disowned;
        while !is_over(&self.inner.borrow()) && begun.elapsed() < STOP_WITHIN {
            shards::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Inner {
    /// `None` if the partition is gone, or nobody can write to it.
    fn outlet(&self, id: PartitionId) -> Option<Outlet> {
        match &self.store {
            Store::SeaweedMq(store) if self.slots.contains_key(&id) => store.outlet(id),
            _ => None,
        }
    }

    /// Whether SeaweedMQ's brokers write the logs of a topic.
    pub(super) fn is_brokers(&self, topic: Uuid) -> bool {
        match &self.store {
            Store::SeaweedMq(store) => store.is_brokers(topic),
            Store::Local(_) => false,
        }
    }

    fn take_in(
        &mut self,
        id: PartitionId,
        batch: Batch,
        durability: Durability,
        now: i64,
        bytes_max: usize,
    ) -> Result<Taken, PartitionError> {
        self.slot_as_it_is(id)?;
        if self.outlet(id).is_none() {
            return Err(PartitionError::ReadOnly);
        }
        let keeps_ids = self.keeps_producer_ids(id);
        let slot = self.slots.get_mut(&id).ok_or(PartitionError::Unknown)?;
        let publishing = slot.publishing.get_or_insert_default();
        if publishing.is_unavailable() || publishing.bytes() > bytes_max {
            return Err(PartitionError::NoBroker);
        }
        let header = *batch.header();
        if header.record_count() < 1 {
            return Err(PartitionError::Corrupt);
        }
        let (waiter, offset) = oneshot();
        let held = Held {
            batch,
            durability,
            waiter,
        };
        let first_appended_ms = match header.has_producer_id() && keeps_ids {
            true if !publishing.resumed.is_known() => {
                self.published_bytes += publishing.resumed.hold(held);
                None
            }
            _ => self.take(id, held, now),
        };
        Ok(Taken {
            first_appended_ms,
            offset,
        })
    }

    /// Has a batch sent, or whoever waits told where it is or what is wrong with it. Gives when it came
    /// first, if it is a retry.
    pub(super) fn take(&mut self, id: PartitionId, held: Held, now: i64) -> Option<i64> {
        let slot = self.slots.get_mut(&id)?;
        let publishing = slot.publishing.as_mut()?;
        let Held {
            batch,
            durability,
            waiter,
        } = held;
        let header = *batch.header();
        let producers = slot.partition.producers_mut();
        let stored = match publishing.resumed.judge(producers, &header) {
            Ok(Verdict::New(stored)) => stored,
            Ok(Verdict::Sent {
                position,
                appended_ms,
            }) => {
                publishing.published.wait(position, durability, waiter);
                return Some(appended_ms);
            }
            Ok(Verdict::Stored(offset)) => {
                tell(waiter, Ok(offset));
                return None;
            }
            Err(error) => {
                tell(waiter, Err(error.into()));
                return None;
            }
        };
        let published = &mut publishing.published;
        let before = published.bytes();
        let (count, bytes) = (header.record_count() as u64, batch.size_in_bytes());
        let position = published.push(batch, &stored);
        published.wait(position, durability, waiter);
        self.published_bytes += published.bytes() - before;
        if header.has_producer_id() {
            // Nothing is taken back.
            producers.note(&header, position, i64::MAX, now);
        }
        slot.traffic.produced_records += count;
        slot.traffic.produced_bytes += bytes as u64;
        self.metrics.produced.records.add(count);
        self.metrics.produced.batches.add(1);
        self.metrics.produced.bytes.add(bytes as u64);
        None
    }

    /// Whether what idempotent producers send to a topic says so in the files.
    pub(super) fn keeps_producer_ids(&self, id: PartitionId) -> bool {
        let topic = self.catalog.by_id(&id.topic);
        topic.is_some_and(|topic| topic.config.seaweedmq_producer_ids)
    }
}

/// Requests held back until there is room again.
pub(super) type Unpublished = VecDeque<(Produce, ReplyTo<Reply>)>;
