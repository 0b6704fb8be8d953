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
                self.answered(index, first, answer, request.sent_ns, now_ns)?;
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        index: usize,
        first: u64,
        answer: &produce::PartitionProduceResponse,
        sent_ns: u64,
        now_ns: u64,
    ) -> Result<(), Error> {
        let code = answer.error_code;
        // The broker has it already: this was a retry.
        if code.is_ok() || code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            let measured = self.acked(index, first, now_ns);
            if measured > 0 {
                let service = &mut self.figures.service;
                service.at(now_ns);
                service.record_many(now_ns.saturating_sub(sent_ns), measured);
            }
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

    /// Its messages that are measured.
    fn acked(&mut self, index: usize, first: u64, now_ns: u64) -> u64 {
        let Some(batch) = self.streams[index].take(first) else {
            return 0;
        };
        self.run
            .acked
            .fetch_add(batch.count as u64, Ordering::Relaxed);
        self.measure(&batch, now_ns);
        self.forge.reclaim(batch.forged);
        batch.measured
    }

    fn measure(&mut self, batch: &Pending, now_ns: u64) {
        if batch.measured == 0 {
            return;
        }
        let figures = &mut self.figures;
        figures.ack.at(now_ns);
        for time_ns in &batch.times {
            figures.ack.record(now_ns.saturating_sub(*time_ns));
        }
        if batch.times.is_empty() {
            let since_ns = now_ns.saturating_sub(batch.made_ns);
            figures.ack.record_many(since_ns, batch.measured);
        }
        figures.measured += batch.measured;
        figures.measured_bytes += batch.measured_bytes;
        let first_ns = batch.times.first().copied();
        figures
            .window
            .include(first_ns.unwrap_or(batch.made_ns), now_ns);
    }
}
