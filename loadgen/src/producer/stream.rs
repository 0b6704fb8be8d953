//! A stream: what one producer sends to one partition, in order, and what of it is not acknowledged.

use std::collections::VecDeque;

use tidegate::record::batch::increment_sequence;

use super::forge::{Forge, Forged, Order};
use crate::run::Run;
use crate::schedule::Schedule;

/// What a stream has to send.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub schedule: Schedule,
    /// Messages of the warm-up.
    pub warmup: WarmupShare,
    /// Messages that follow it.
    pub measured: u64,
    pub linger_ns: u64,
}

/// A stream's part of the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmupShare {
    Messages(u64),
    /// All messages that are handed over before this time.
    Until(u64),
}

/// A batch that is not acknowledged.
#[derive(Debug)]
pub struct Pending {
    pub first: u64,
    pub count: usize,
    /// Messages at its end that are measured: those before are of the warm-up.
    pub measured: u64,
    pub forged: Forged,
    /// When it was made.
    pub made_ns: u64,
    /// Whether it has been sent, and no answer has come. Else it is to be sent again.
    pub in_flight: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    /// Its number in the run.
    pub id: u32,
    pub partition: i32,
    /// The broker that leads the partition.
    pub leader: i32,
    /// In order: an answer may be missing for the front, and have come for what is behind.
    pub pending: VecDeque<Pending>,
    task: Task,
    /// Number of the next message.
    next: u64,
    /// What an idempotent producer numbers it with.
    sequence: i32,
    /// Number of the first message that is measured; unknown while a warm-up by time goes on.
    measured_from: Option<u64>,
}

impl Stream {
    /// A stream that has sent nothing.
    pub fn new(id: u32, partition: i32, leader: i32, task: Task) -> Self {
        Self {
            id,
            partition,
            leader,
            pending: VecDeque::new(),
            task,
            next: 0,
            sequence: 0,
            measured_from: match task.warmup {
                WarmupShare::Messages(messages) => Some(messages),
                WarmupShare::Until(_) => None,
            },
        }
    }

    /// Messages in all; `u64::MAX` while that is unknown.
    fn total(&self) -> u64 {
        let measured = self.task.measured;
        self.measured_from.map_or(u64::MAX, |from| from + measured)
    }

    /// Messages that were handed over.
    pub fn handed(&self) -> u64 {
        self.next
    }

    /// Whether all was sent and acknowledged.
    pub fn finished(&self) -> bool {
        self.pending.is_empty() && self.next >= self.total()
    }

    /// When the next batch has to be sent: at once, if it is a retry; when it is full, or has waited
    /// long enough. None when there is no next one.
    pub fn due_ns(&self, capacity: usize) -> Option<u64> {
        if self.has_retry() {
            return Some(0);
        }
        let total = self.total();
        if self.next >= total {
            return None;
        }
        let schedule = &self.task.schedule;
        let stream = self.id as usize;
        let last = (self.next + capacity as u64).min(total) - 1;
        let Some(first_ns) = schedule.intended_ns(stream, self.next) else {
            return Some(0);
        };
        let full_ns = schedule.intended_ns(stream, last).unwrap_or(first_ns);
        Some(full_ns.min(first_ns + self.task.linger_ns))
    }

    /// Messages that can be handed over by now, as many as fit into a batch.
    fn available(&self, now_ns: u64, capacity: usize) -> usize {
        let left = (self.total() - self.next).min(capacity as u64) as usize;
        let stream = self.id as usize;
        let come = |number| match self.task.schedule.intended_ns(stream, number) {
            Some(intended_ns) => intended_ns <= now_ns,
            None => true,
        };
        (self.next..)
            .take(left)
            .take_while(|number| come(*number))
            .count()
    }

    /// Whether a batch has to be sent again.
    pub fn has_retry(&self) -> bool {
        self.pending.iter().any(|batch| !batch.in_flight)
    }

    /// The batch that has to be sent again before anything else is.
    pub fn retry(&mut self) -> Option<&mut Pending> {
        self.pending.iter_mut().find(|batch| !batch.in_flight)
    }

    /// The connection is gone: all that is not acknowledged has to be sent again.
    pub fn requeue(&mut self) {
        for batch in &mut self.pending {
            batch.in_flight = false;
        }
    }

    /// Makes a batch of the messages that can be handed over by now.
    pub fn next_batch(
        &mut self,
        forge: &mut Forge,
        run: &Run,
        now_ns: u64,
    ) -> Option<&mut Pending> {
        self.end_warmup(now_ns);
        let count = self.available(now_ns, forge.capacity());
        if count == 0 {
            return None;
        }
        let measured_from = self.measured_from.unwrap_or(u64::MAX);
        let order = Order {
            stream: self.id,
            first: self.next,
            count,
            measured_from,
            timestamp_ms: run.wall_ms(now_ns),
            sequence: self.sequence,
        };
        let (schedule, stream) = (self.task.schedule, self.id as usize);
        let time_ns = |number| schedule.intended_ns(stream, number).unwrap_or(now_ns);
        let forged = forge.forge(&order, time_ns);
        self.next += count as u64;
        self.sequence = increment_sequence(self.sequence, count as i32);
        self.pending.push_back(Pending {
            first: order.first,
            count,
            measured: self.next - measured_from.clamp(order.first, self.next),
            forged,
            made_ns: now_ns,
            in_flight: false,
        });
        self.pending.back_mut()
    }

    fn end_warmup(&mut self, now_ns: u64) {
        if let (None, WarmupShare::Until(end_ns)) = (self.measured_from, self.task.warmup)
            && now_ns >= end_ns
        {
            self.measured_from = Some(self.next);
        }
    }

    /// Takes the batch that begins with this message off the pending ones.
    pub fn take(&mut self, first: u64) -> Option<Pending> {
        let at = self.pending.iter().position(|batch| batch.first == first)?;
        self.pending.remove(at)
    }

    /// When the messages of a batch that are measured were to be sent.
    pub fn measured_times(&self, batch: &Pending) -> impl Iterator<Item = u64> + use<> {
        let (schedule, stream, made_ns) = (self.task.schedule, self.id as usize, batch.made_ns);
        let end = batch.first + batch.count as u64;
        (end - batch.measured..end)
            .map(move |number| schedule.intended_ns(stream, number).unwrap_or(made_ns))
    }

    /// Whether messages have times of their own.
    pub fn has_schedule(&self) -> bool {
        self.task.schedule.intended_ns(0, 0).is_some()
    }
}

#[cfg(test)]
mod tests {
    use tidegate::record::Compression;

    use super::*;

    /// Batches of 8 messages.
    fn forge() -> Forge {
        Forge::new(1, 100, 1_000, Compression::None, None)
    }

    fn stream(rate: Option<u64>, warmup: WarmupShare) -> Stream {
        let task = Task {
            schedule: Schedule::new(rate, 1),
            warmup,
            measured: 20,
            linger_ns: 5_000_000,
        };
        Stream::new(0, 0, 1, task)
    }

    fn counts(stream: &mut Stream, times_ns: &[u64]) -> Vec<(usize, usize)> {
        let (mut forge, run) = (forge(), Run::new(1));
        let mut next = |now_ns| {
            let (first, count) = match stream.next_batch(&mut forge, &run, now_ns) {
                Some(batch) => (batch.first, batch.count),
                None => return (0, 0),
            };
            let batch = stream.take(first).unwrap();
            (count, stream.measured_times(&batch).count())
        };
        times_ns.iter().map(|now_ns| next(*now_ns)).collect()
    }

    #[test]
    fn a_batch_is_due_when_it_is_full_or_has_lingered() {
        let fast = stream(Some(10_000), WarmupShare::Messages(0));
        assert_eq!(fast.due_ns(8), Some(700_000), "its last message's time");
        let slow = stream(Some(1_000), WarmupShare::Messages(0));
        assert_eq!(
            slow.due_ns(8),
            Some(5_000_000),
            "the first's, and the linger"
        );
        let free = stream(None, WarmupShare::Messages(0));
        assert_eq!(free.due_ns(8), Some(0));
    }

    #[test]
    fn messages_are_not_sent_before_their_time() {
        let mut stream = stream(Some(1_000), WarmupShare::Messages(0));
        let sent = counts(
            &mut stream,
            &[0, 0, 3_500_000, 100_000_000, 100_000_000, 100_000_000],
        );
        assert_eq!(sent, [(1, 1), (0, 0), (3, 3), (8, 8), (8, 8), (0, 0)]);
        assert!(stream.finished());
        assert_eq!(stream.due_ns(8), None);
    }

    #[test]
    fn a_warm_up_comes_on_top_and_is_not_measured() {
        let mut by_count = stream(None, WarmupShare::Messages(10));
        assert_eq!(
            counts(&mut by_count, &[0; 5]),
            [(8, 0), (8, 6), (8, 8), (6, 6), (0, 0)]
        );
        let mut by_time = stream(None, WarmupShare::Until(50));
        let sent = counts(&mut by_time, &[0, 49, 50, 51, 52, 53]);
        assert_eq!(sent, [(8, 0), (8, 0), (8, 8), (8, 8), (4, 4), (0, 0)]);
    }
}
