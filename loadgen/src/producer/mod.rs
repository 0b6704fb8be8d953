//! A producer: one thread, and in the usual case one connection.
//!
//! It batches as Kafka's producer does: a broker gets a request as soon as a batch for it is full or
//! has lingered, and one more may be in flight; the request then takes what there is for the broker's
//! other partitions along. What a message costs here is its place in a batch that is patched
//! ([`forge`]).
//!
//! When a batch is refused with an error that may pass, or a connection breaks, nothing new is sent
//! until all answers are in; then leaders are looked up again, and what is not acknowledged goes out
//! once more, in order. With idempotence the broker knows what it has already.

pub mod forge;
mod lane;
pub mod stream;

use std::mem;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;
use tidegate::wire::{ErrorCode, produce};

use crate::client::{Cluster, Error, RETRY_BACKOFF, Topic, wait};
use crate::latency::Latency;
use crate::options::Options;
use crate::run::Run;
use crate::usage::{Meter, Usage};
use forge::Forge;
use lane::{InFlight, Lane};
use stream::{Pending, Stream};

pub use lane::Terms;

/// A thread looks at least this often whether another one failed, and for requests without answer.
const TICK_NS: u64 = 100_000_000;
/// The kernel may delay a wait by this many nanoseconds, and not by the usual 50 us: that would be
/// counted as the broker's.
const PRECISE: Option<NonZeroU64> = NonZeroU64::new(1_000);
/// Batches of one request, in bytes: Kafka's `max.request.size`.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// What a producer measured.
#[derive(Debug, Default)]
pub struct Figures {
    /// From the time a message was to be sent until its acknowledgement.
    pub ack: Latency,
    /// From the time a batch was to be sent, and could be, until it was: the client's own delay.
    pub lag: Latency,
    /// Messages that were measured and acknowledged.
    pub measured: u64,
    /// When the first of them was to be sent, and the last of them acknowledged.
    pub window_ns: Option<(u64, u64)>,
    pub requests: u64,
    pub batches: u64,
    pub retries: u64,
    /// Messages of each stream in all.
    pub sent: Vec<(u32, u64)>,
    pub usage: Usage,
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    cluster: Cluster,
    topic: Topic,
    run: Arc<Run>,
    terms: Terms,
    request_timeout: Duration,
    delivery_timeout: Duration,
    forge: Forge,
    streams: Vec<Stream>,
    lanes: Vec<Lane>,
    trouble: Option<Trouble>,
    next_check_ns: u64,
    figures: Figures,
}

/// Why nothing new is sent, and since when.
#[derive(Debug)]
struct Trouble {
    since_ns: u64,
    error: Error,
}

impl Producer {
    /// Connects to the brokers that lead the streams' partitions.
    ///
    /// # Errors
    /// If one of them cannot be reached, or gives no producer id.
    pub fn open(
        options: &Options,
        cluster: &Cluster,
        topic: &Topic,
        run: &Arc<Run>,
        streams: Vec<Stream>,
    ) -> Result<Self, Error> {
        let id = match options.idempotence {
            true => Some(cluster.producer_id()?),
            false => None,
        };
        let mut producer = Self {
            cluster: cluster.clone(),
            topic: topic.clone(),
            run: Arc::clone(run),
            terms: Terms {
                acks: options.acks,
                timeout_ms: options
                    .request_timeout
                    .as_millis()
                    .try_into()
                    .unwrap_or(i32::MAX),
                max_in_flight: options.in_flight,
            },
            request_timeout: options.request_timeout,
            delivery_timeout: options.delivery_timeout,
            forge: Forge::new(
                run.id,
                options.size,
                options.batch_bytes,
                options.compression,
                id,
            ),
            streams,
            lanes: Vec::new(),
            trouble: None,
            next_check_ns: 0,
            figures: Figures::default(),
        };
        producer.route()?;
        Ok(producer)
    }

    /// Sends all there is to send.
    ///
    /// # Errors
    /// The first error that does not pass, or that does not pass in time.
    pub fn run(mut self) -> Result<Figures, Error> {
        self.run.wait_for_start();
        let meter = Meter::of_thread();
        // Where the kernel does not allow it, the schedule lag shows it.
        let _ = set_current_timer_slack(PRECISE);
        while !self.finished() && !self.run.stopped() {
            self.turn()?;
        }
        if self.terms.acks == 0 {
            self.wait_until_taken()?;
        }
        self.figures.usage = meter.stop();
        let sent = |stream: &Stream| (stream.id, stream.handed());
        self.figures.sent = self.streams.iter().map(sent).collect();
        Ok(self.figures)
    }

    /// With acks=0 the last messages may still be on their way: they count when the broker has come
    /// to what is behind them.
    fn wait_until_taken(&mut self) -> Result<(), Error> {
        for lane in &mut self.lanes {
            lane.connection.ping(self.request_timeout)?;
        }
        let now_ns = self.run.now_ns();
        let window_ns = &mut self.figures.window_ns;
        *window_ns = window_ns.map(|(start_ns, _)| (start_ns, now_ns));
        Ok(())
    }

    fn finished(&self) -> bool {
        self.streams.iter().all(Stream::finished)
            && !self.lanes.iter().any(|lane| lane.connection.has_unsent())
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.check_time()?;
        if self.trouble.is_some() && self.lanes.iter().all(|lane| lane.in_flight.is_empty()) {
            return self.recover();
        }
        self.each_lane(Self::send_due)?;
        let left_ns = self.next_event_ns().saturating_sub(self.run.now_ns());
        wait(
            self.lanes.iter().map(|lane| &lane.connection),
            Duration::from_nanos(left_ns),
        );
        self.each_lane(Self::receive)
    }

    /// Runs `act` for each lane. One that fails is dropped, if that may pass.
    fn each_lane(
        &mut self,
        act: impl Fn(&mut Self, &mut Lane) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut failed = Ok(());
        let mut lanes = mem::take(&mut self.lanes);
        lanes.retain_mut(|lane| match act(self, lane) {
            Ok(()) => true,
            Err(error) if error.is_retriable() => {
                for stream in &lane.streams {
                    self.streams[*stream].requeue();
                }
                self.stumble(error);
                false
            }
            Err(error) => {
                failed = Err(error);
                true
            }
        });
        self.lanes = lanes;
        failed
    }

    /// Something went wrong that may pass.
    fn stumble(&mut self, error: Error) {
        self.figures.retries += 1;
        let since_ns = self.run.now_ns();
        self.trouble.get_or_insert(Trouble { since_ns, error });
    }

    fn send_due(&mut self, lane: &mut Lane) -> Result<(), Error> {
        if lane.connection.has_unsent() {
            lane.connection.flush()?;
            lane.room_since_ns = match self.terms.acks {
                0 => self.run.now_ns(),
                _ => lane.room_since_ns,
            };
        }
        while self.trouble.is_none() && lane.has_room(&self.terms) {
            let now_ns = self.run.now_ns();
            let Some(due_ns) = self.due_ns(lane).filter(|due_ns| *due_ns <= now_ns) else {
                break;
            };
            self.send(lane, now_ns, due_ns)?;
        }
        Ok(())
    }

    /// When this lane's next request has to be sent.
    fn due_ns(&self, lane: &Lane) -> Option<u64> {
        let capacity = self.forge.capacity();
        let streams = lane.streams.iter();
        streams
            .filter_map(|index| self.streams[*index].due_ns(capacity))
            .min()
    }

    fn send(&mut self, lane: &mut Lane, now_ns: u64, due_ns: u64) -> Result<(), Error> {
        let (mut batches, mut order, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut messages = 0;
        for step in 0..lane.streams.len() {
            let index = lane.streams[(lane.turn + step) % lane.streams.len()];
            let stream = &mut self.streams[index];
            let partition = stream.partition;
            let batch = match stream.has_retry() {
                true => stream.retry(),
                false => stream.next_batch(&mut self.forge, &self.run, now_ns),
            };
            let Some(batch) = batch else { continue };
            batch.in_flight = true;
            messages += batch.count as u64;
            bytes += batch.forged.bytes().len();
            batches.push((partition, batch.forged.bytes().clone()));
            order.push((index, batch.first));
            if bytes >= MAX_REQUEST_BYTES {
                lane.turn += step + 1;
                break;
            }
        }
        if due_ns > 0 {
            let since_ns = due_ns.max(lane.room_since_ns);
            self.figures
                .lag
                .record_many(now_ns.saturating_sub(since_ns), messages);
        }
        self.figures.requests += 1;
        self.figures.batches += batches.len() as u64;
        // First noted, then sent: if that fails, these batches are to be sent again as well.
        lane.in_flight.push_back(InFlight {
            correlation_id: 0,
            sent_ns: now_ns,
            batches: order,
        });
        let id = lane.send(&self.topic.name, &self.terms, batches)?;
        match lane.in_flight.back_mut() {
            Some(request) if self.terms.acks != 0 => request.correlation_id = id,
            _ => self.all_acked(lane),
        }
        Ok(())
    }

    /// With acks=0, what is sent is done.
    fn all_acked(&mut self, lane: &mut Lane) {
        let now_ns = self.run.now_ns();
        for (index, first) in lane.in_flight.drain(..).flat_map(|request| request.batches) {
            self.acked(index, first, now_ns);
        }
    }

    fn receive(&mut self, lane: &mut Lane) -> Result<(), Error> {
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
        let (start_ns, _) = figures.window_ns.unwrap_or((first_ns, now_ns));
        figures.window_ns = Some((start_ns.min(first_ns), now_ns));
    }

    /// Until when there is nothing to do if no answer comes.
    fn next_event_ns(&self) -> u64 {
        let mut next_ns = self.next_check_ns;
        if self.trouble.is_some() {
            return next_ns;
        }
        for lane in self.lanes.iter().filter(|lane| lane.has_room(&self.terms)) {
            next_ns = next_ns.min(self.due_ns(lane).unwrap_or(u64::MAX));
        }
        next_ns
    }

    /// Gives up what takes too long.
    fn check_time(&mut self) -> Result<(), Error> {
        let now_ns = self.run.now_ns();
        if now_ns < self.next_check_ns {
            return Ok(());
        }
        self.next_check_ns = now_ns + TICK_NS;
        let request_timeout = self.request_timeout;
        self.each_lane(|_, lane| match lane.in_flight.front() {
            Some(request) if now_ns - request.sent_ns > request_timeout.as_nanos() as u64 => {
                Err(lane.connection.no_answer(produce::KEY, request_timeout))
            }
            _ => Ok(()),
        })?;
        self.check_delivery(now_ns)
    }

    fn check_delivery(&mut self, now_ns: u64) -> Result<(), Error> {
        let fronts = self.streams.iter().filter_map(|stream| {
            let batch = stream.pending.front()?;
            Some((batch.made_ns, stream.partition, batch.first))
        });
        let oldest = fronts.min();
        let waiting_since = self.trouble.as_ref().map(|trouble| trouble.since_ns);
        let since_ns = match (oldest, waiting_since) {
            (Some((made_ns, ..)), _) => made_ns,
            (None, Some(since_ns)) => since_ns,
            (None, None) => return Ok(()),
        };
        if u128::from(now_ns - since_ns) <= self.delivery_timeout.as_nanos() {
            return Ok(());
        }
        let what = match oldest {
            Some((_, partition, first)) => {
                let name = self.topic.partition_name(partition);
                format!("message {first} for {name} was not acknowledged")
            }
            None => "no broker took messages".to_owned(),
        };
        Err(Error::GaveUp {
            what,
            after: self.delivery_timeout,
            last: self.trouble.take().map(|trouble| Box::new(trouble.error)),
        })
    }

    /// All answers are in: looks up the leaders, and goes on.
    fn recover(&mut self) -> Result<(), Error> {
        std::thread::sleep(RETRY_BACKOFF);
        let routed = self.cluster.topic(&self.topic.name).and_then(|topic| {
            for stream in &mut self.streams {
                let leader = topic.leaders.get(stream.partition as usize);
                stream.leader = leader.copied().unwrap_or(stream.leader);
            }
            self.topic = topic;
            self.route()
        });
        match (routed, &mut self.trouble) {
            (Ok(()), trouble) => *trouble = None,
            (Err(error), Some(trouble)) if error.is_retriable() => trouble.error = error,
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }

    /// One lane for each broker that leads a partition of a stream.
    fn route(&mut self) -> Result<(), Error> {
        let now_ns = self.run.now_ns();
        for lane in &mut self.lanes {
            lane.streams.clear();
            lane.room_since_ns = now_ns;
        }
        for (index, stream) in self.streams.iter().enumerate() {
            let known = self
                .lanes
                .iter_mut()
                .find(|lane| lane.broker == stream.leader);
            match known {
                Some(lane) => lane.streams.push(index),
                None => {
                    let mut lane = Lane::open(&self.cluster, &self.topic, stream.leader)?;
                    lane.streams.push(index);
                    lane.room_since_ns = self.run.now_ns();
                    self.lanes.push(lane);
                }
            }
        }
        self.lanes.retain(|lane| !lane.streams.is_empty());
        Ok(())
    }
}
