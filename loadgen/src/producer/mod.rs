//! A producer: one thread, and in the usual case one connection.
//!
//! It batches as Kafka's producer does: a broker gets a request as soon as a batch for it is full or
//! has lingered, and one more may be in flight; the request then takes what there is for the broker's
//! other partitions along. Messages come from the [`source`], wait in their [`stream`] until there is
//! a batch of them, and are made there ([`forge`]).

mod answers;
mod figures;
pub mod forge;
mod lane;
pub mod source;
pub mod stream;
mod trouble;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Cluster, Error, Topic, wait};
use crate::latency::Latency;
use crate::options::Options;
use crate::report::acknowledged;
use crate::run::Run;
use crate::timeline::{SCHEDULE_LAG, SERVICE};
use crate::usage::Meter;
use forge::Forge;
use lane::{InFlight, Lane, Terms};
use source::Source;
use stream::Stream;
use trouble::Trouble;

pub use figures::Figures;

/// A thread looks at least this often whether another one failed, and for requests without answer.
const TICK_NS: u64 = 100_000_000;
/// Batches of one request, in bytes: Kafka's `max.request.size`.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Messages that wait for their batch: some megabytes. Those behind them are not forgotten, as their
/// times are fixed.
const MAX_WAITING: u64 = 1 << 18;

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
    source: Source,
    linger_ns: u64,
    /// Messages that were drawn and are in no batch yet.
    waiting: u64,
    /// Whether they are as many as may be.
    held_back: bool,
    streams: Vec<Stream>,
    lanes: Vec<Lane>,
    trouble: Option<Trouble>,
    next_check_ns: u64,
    figures: Figures,
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
        filler: &Arc<[u8]>,
        source: Source,
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
            forge: Forge::new(run.id, options, filler, id),
            source,
            linger_ns: options.linger.as_nanos() as u64,
            waiting: 0,
            held_back: false,
            streams,
            lanes: Vec::new(),
            trouble: None,
            next_check_ns: 0,
            figures: Figures {
                ack: Latency::tracked(run.timeline.track(acknowledged(options.acks))),
                lag: Latency::tracked(run.timeline.track(SCHEDULE_LAG)),
                service: Latency::tracked(run.timeline.track(SERVICE)),
                ..Figures::default()
            },
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
        self.figures.window.extend_to(now_ns);
        Ok(())
    }

    fn finished(&self) -> bool {
        self.source.is_empty()
            && self.streams.iter().all(Stream::finished)
            && !self.lanes.iter().any(|lane| lane.connection.has_unsent())
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.check_time()?;
        if self.trouble.is_some() && self.lanes.iter().all(|lane| lane.in_flight.is_empty()) {
            return self.recover();
        }
        self.draw_scheduled();
        self.each_lane(Self::send_due)?;
        let left_ns = self.next_event_ns().saturating_sub(self.run.now_ns());
        wait(
            self.lanes.iter().map(|lane| &lane.connection),
            Duration::from_nanos(left_ns),
        );
        self.each_lane(Self::receive)
    }

    /// Takes the next message from the source. Its stream.
    fn draw(&mut self, now_ns: u64) -> Option<usize> {
        let drawn = self.source.draw(now_ns)?;
        self.streams[drawn.stream].push(drawn.time_ns, drawn.key, drawn.measured);
        self.waiting += 1;
        Some(drawn.stream)
    }

    /// With a schedule: takes all messages that may be in a batch that is due by the next turn, before
    /// their time comes.
    fn draw_scheduled(&mut self) {
        let now_ns = self.run.now_ns();
        let until_ns = now_ns + self.linger_ns;
        while self.waiting < MAX_WAITING
            && self
                .source
                .next_ns()
                .is_some_and(|next_ns| next_ns <= until_ns)
        {
            self.draw(now_ns);
        }
        // Those that were held back waited for the brokers: that is no delay of the client.
        if mem::replace(&mut self.held_back, self.waiting >= MAX_WAITING) {
            for lane in &mut self.lanes {
                lane.room_since_ns = now_ns;
            }
        }
    }

    /// Without a schedule: takes messages until there is a full batch for this broker.
    fn draw_free(&mut self, lane: &Lane, now_ns: u64) {
        if self.source.has_schedule()
            || lane
                .streams
                .iter()
                .any(|index| self.streams[*index].has_full())
        {
            return;
        }
        while self.waiting < MAX_WAITING
            && let Some(index) = self.draw(now_ns)
        {
            let stream = &self.streams[index];
            if stream.has_full() && stream.leader == lane.broker {
                return;
            }
        }
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
            self.draw_free(lane, now_ns);
            let Some(due_ns) = self.due_ns(lane).filter(|due_ns| *due_ns <= now_ns) else {
                break;
            };
            self.send(lane, now_ns, due_ns)?;
        }
        Ok(())
    }

    /// When this lane's next request has to be sent.
    fn due_ns(&self, lane: &Lane) -> Option<u64> {
        let streams = lane.streams.iter();
        streams
            .filter_map(|index| self.streams[*index].due_ns())
            .min()
    }

    fn send(&mut self, lane: &mut Lane, now_ns: u64, due_ns: u64) -> Result<(), Error> {
        let (mut batches, mut order, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut measured = 0;
        for step in 0..lane.streams.len() {
            let index = lane.streams[(lane.turn + step) % lane.streams.len()];
            let stream = &mut self.streams[index];
            let partition = stream.partition;
            let handed = stream.handed();
            let batch = match stream.has_retry() {
                true => stream.retry(),
                false => stream.next_batch(&mut self.forge, &self.run, now_ns),
            };
            let Some(batch) = batch else { continue };
            if batch.first >= handed {
                self.waiting -= batch.count as u64;
            }
            batch.in_flight = true;
            measured += batch.measured;
            bytes += batch.forged.bytes().len();
            batches.push((partition, batch.forged.bytes().clone()));
            order.push((index, batch.first));
            if bytes >= MAX_REQUEST_BYTES {
                lane.turn += step + 1;
                break;
            }
        }
        if due_ns > 0 && measured > 0 {
            let since_ns = due_ns.max(lane.room_since_ns);
            self.figures.lag.at(now_ns);
            self.figures
                .lag
                .record_many(now_ns.saturating_sub(since_ns), measured);
        }
        self.figures.requests += 1;
        self.figures.batches += batches.len() as u64;
        // First noted, then sent: if that fails, these batches are to be sent again as well.
        lane.in_flight.push_back(InFlight {
            correlation_id: 0,
            sent_ns: self.run.now_ns(),
            batches: order,
        });
        let id = lane.send(&self.topic.name, &self.terms, batches)?;
        match lane.in_flight.back_mut() {
            Some(request) if self.terms.acks != 0 => request.correlation_id = id,
            _ => self.all_acked(lane),
        }
        Ok(())
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
        match self.source.next_ns() {
            Some(drawn_ns) if self.waiting < MAX_WAITING => next_ns.min(drawn_ns),
            _ => next_ns,
        }
    }
}
