//! Answers to a producer's requests: what was acknowledged, and when.

use std::sync::atomic::Ordering;

use tidegate::wire::{ErrorCode, produce};

use super::Producer;
use super::lane::Lane;
use super::stream::Pending;
use crate::client::Error;

impl Producer {
    /// With acks=0, what is sent is done.
    pub(super) fn all_acked(&mut self, lane: &mut Lane) {
        let now_ns = self.run.now_ns();
        for (index, first) in lane.in_flight.drain(..).flat_map(|request| request.batches) {
            self.acked(index, first, now_ns);
        }
    }

    /// Takes the answers that are there.
    pub(super) fn receive(&mut self, lane: &mut Lane) -> Result<(), Error> {
        while let Some((request, response)) = lane.receive()? {
            let now_ns = self.run.now_ns();
            if lane.in_flight.len() + 1 == self.terms.max_in_flight {
                lane.room_since_ns = now_ns;
            }
            let partitions: Vec<&produce::PartitionProduceResponse> = response
                .responses
                .iter()
                .flat_map(|topic| &topic.partition_responses)
                .collect();
            if partitions.len() != request.batches.len() {
                let what = "an answer on other partitions".to_owned();
                return Err(lane.connection.unexpected(what));
            }
            for (at, (index, first)) in request.batches.into_iter().enumerate() {
                let partition = self.streams[index].partition;
                let is_of = |answer: &&produce::PartitionProduceResponse| answer.index == partition;
                // The order is that of the request, as a rule.
                let same = partitions.get(at).copied().filter(is_of);
                let Some(answer) = same.or_else(|| partitions.iter().copied().find(is_of)) else {
                    let what = "an answer on other partitions".to_owned();
                    return Err(lane.connection.unexpected(what));
                };
                self.answered(index, first, answer, now_ns)?;
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        index: usize,
        first: u64,
        answer: &produce::PartitionProduceResponse,
        now_ns: u64,
    ) -> Result<(), Error> {
        let code = answer.error_code;
        // The broker has it already: this was a retry.
        if code.is_ok() || code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            self.acked(index, first, now_ns);
            return Ok(());
        }
        let stream = &mut self.streams[index];
        let what = format!(
            "a batch for {}",
            self.topic.partition_name(stream.partition)
        );
        let error = Error::refused(what, code, answer.error_message.as_deref());
        // One before it failed: the broker waits for that one first.
        let follows = stream
            .pending
            .front()
            .is_some_and(|front| front.first < first);
        let waits = code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER && follows;
        if !waits && !error.is_retriable() {
            return Err(error);
        }
        if let Some(batch) = stream.pending.iter_mut().find(|batch| batch.first == first) {
            batch.in_flight = false;
        }
        self.stumble(error);
        Ok(())
    }

    fn acked(&mut self, index: usize, first: u64, now_ns: u64) {
        let stream = &mut self.streams[index];
        let Some(batch) = stream.take(first) else {
            return;
        };
        self.run
            .acked
            .fetch_add(batch.count as u64, Ordering::Relaxed);
        self.measure(index, &batch, now_ns);
        self.forge.reclaim(batch.forged);
    }

    fn measure(&mut self, index: usize, batch: &Pending, now_ns: u64) {
        let stream = &self.streams[index];
        let mut times = stream.measured_times(batch);
        let Some(first_ns) = times.next() else {
            return;
        };
        let figures = &mut self.figures;
        let mut measured = 1;
        if stream.has_schedule() {
            figures.ack.record(now_ns.saturating_sub(first_ns));
            for time_ns in times {
                figures.ack.record(now_ns.saturating_sub(time_ns));
                measured += 1;
            }
        } else {
            measured += times.count() as u64;
            figures
                .ack
                .record_many(now_ns.saturating_sub(first_ns), measured);
        }
        figures.measured += measured;
        figures.window.include(first_ns, now_ns);
    }
}
