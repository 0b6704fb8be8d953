//! A producer: one thread, and in the usual case one connection.
//!
//! It batches as Kafka's producer does: a broker gets a request as soon as a batch for it is full or
//! has lingered, and one more may be in flight; the request then takes what there is for the broker's
//! other partitions along. What a message costs here is its place in a batch that is patched
//! ([`forge`]).

mod answers;
mod figures;
pub mod forge;
mod lane;
pub mod stream;
mod trouble;

use std::mem;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;

use crate::client::{Cluster, Error, Topic, wait};
use crate::options::Options;
use crate::run::Run;
use crate::usage::Meter;
use forge::Forge;
use lane::{InFlight, Lane, Terms};
use stream::Stream;
use trouble::Trouble;

pub use figures::Figures;

/// A thread looks at least this often whether another one failed, and for requests without answer.
const TICK_NS: u64 = 100_000_000;
/// The kernel may delay a wait by this many nanoseconds, and not by the usual 50 us: that would be
/// counted as the broker's.
const PRECISE: Option<NonZeroU64> = NonZeroU64::new(1_000);
/// Batches of one request, in bytes: Kafka's `max.request.size`.
const MAX_REQUEST_BYTES: usize = 1 << 20;

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
        self.figures.window.extend_to(now_ns);
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
        let mut measured = 0;
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
            measured += batch.measured;
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
                .record_many(now_ns.saturating_sub(since_ns), measured);
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
}
