//! A consumer: one thread, and in the usual case one connection, that reads some partitions of a
//! topic as Kafka's consumer does: the next fetch is on its way while an answer is looked at.

mod figures;
pub mod tally;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::record::{Batch, split_first};
use tidegate::wire::{StrBytes, fetch};

use crate::client::{Cluster, Connection, Error, RETRY_BACKOFF, Topic, wait};
use crate::latency::Latency;
use crate::options::Options;
use crate::run::Run;
use crate::schedule::SECOND_NS;
use crate::usage::{Meter, Usage};
use tally::{Interest, Tally};

pub use figures::{Consumed, Figures, Meanwhile};

/// The lowest and the highest version used: with record batches v2, and topics by name.
const FETCH: (i16, i16) = (4, 12);
/// As Kafka's consumer: `fetch.max.wait.ms`, `fetch.max.bytes`, `max.partition.fetch.bytes`.
const MAX_WAIT_MS: i32 = 500;
const MAX_BYTES: i32 = 50 << 20;
const MAX_PARTITION_BYTES: i32 = 1 << 20;
/// A thread looks at least this often whether it has to end.
const TICK: Duration = Duration::from_millis(50);

/// Where each partition ends, as soon as that is known.
pub type Ends = Arc<OnceLock<Vec<i64>>>;

/// A partition, and how far it was read.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub partition: i32,
    pub leader: i32,
    pub offset: i64,
}

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    cluster: Cluster,
    topic: Topic,
    run: Arc<Run>,
    ends: Ends,
    /// Messages a second that are read until the ends are known; none: as fast as they come.
    rate: Option<f64>,
    request_timeout: Duration,
    delivery_timeout: Duration,
    /// By partition.
    positions: Vec<Position>,
    lanes: Vec<Lane>,
    /// Since when reading fails.
    trouble: Option<Instant>,
    /// When something was read the last time.
    progressed: Instant,
    figures: Figures,
}

/// A connection, and the fetch on it.
#[derive(Debug)]
struct Lane {
    broker: i32,
    connection: Connection,
    version: i16,
    /// Correlation id and time of the fetch that waits for its answer.
    in_flight: Option<(i32, Instant)>,
}

/// A batch, and the offset from which on it was asked for.
struct Read {
    partition: i32,
    from_offset: i64,
    batch: Batch,
}

impl Consumer {
    /// Connects to the brokers that lead the partitions.
    ///
    /// # Errors
    /// If one of them cannot be reached.
    pub fn open(
        options: &Options,
        cluster: &Cluster,
        topic: &Topic,
        run: &Arc<Run>,
        positions: Vec<Position>,
        interest: Interest,
        ends: &Ends,
    ) -> Result<Self, Error> {
        let latency = match interest {
            Interest::Run { .. } => Latency::tracked(run.timeline.track("end to end")),
            Interest::All => Latency::new(),
        };
        let mut consumer = Self {
            cluster: cluster.clone(),
            topic: topic.clone(),
            run: Arc::clone(run),
            ends: Arc::clone(ends),
            rate: None,
            request_timeout: options.request_timeout,
            delivery_timeout: options.delivery_timeout,
            positions,
            lanes: Vec::new(),
            trouble: None,
            progressed: Instant::now(),
            figures: Figures {
                tally: Tally::new(interest, latency),
                fetch: Latency::tracked(run.timeline.track("fetch")),
                fetches: 0,
                retries: 0,
                meanwhile: Meanwhile::default(),
                usage: Usage::default(),
            },
        };
        consumer.route()?;
        Ok(consumer)
    }

    /// Reads no more than so many messages a second, on average, until the ends are known.
    #[must_use]
    pub fn at_rate(mut self, rate: Option<f64>) -> Self {
        self.rate = rate;
        self
    }

    /// Reads until the ends.
    ///
    /// # Errors
    /// The first error that does not pass, or that does not pass in time.
    pub fn run(mut self) -> Result<Figures, Error> {
        let meter = Meter::of_thread();
        while !self.finished() && !self.run.stopped() {
            if let Err(error) = self.turn() {
                self.stumble(error)?;
            }
        }
        self.figures.usage = meter.stop();
        Ok(self.figures)
    }

    fn finished(&self) -> bool {
        let Some(ends) = self.ends.get() else {
            return false;
        };
        self.positions.iter().all(|position| {
            let end = ends.get(position.partition as usize);
            end.is_none_or(|end| position.offset >= *end)
        })
    }

    fn turn(&mut self) -> Result<(), Error> {
        if self.lanes.is_empty() {
            self.route()?;
        }
        // There is more, and no error either, but it does not come.
        if self.ends.get().is_some() && self.progressed.elapsed() > self.delivery_timeout {
            return Err(self.gave_up(None));
        }
        let pause = self.pause();
        for lane in &mut self.lanes {
            lane.connection.flush()?;
            if pause.is_zero() {
                lane.fetch(&self.topic.name, &self.positions)?;
            }
        }
        let timeout = if pause.is_zero() {
            TICK
        } else {
            pause.min(TICK)
        };
        wait(self.lanes.iter().map(|lane| &lane.connection), timeout);
        for index in 0..self.lanes.len() {
            self.receive(index)?;
        }
        Ok(())
    }

    /// How long no fetch may be sent, as what was read is ahead of its rate.
    fn pause(&self) -> Duration {
        match self.rate {
            Some(rate) if self.ends.get().is_none() => {
                let due_ns = self.figures.tally.messages as f64 / rate * SECOND_NS as f64;
                Duration::from_nanos((due_ns as u64).saturating_sub(self.run.now_ns()))
            }
            _ => Duration::ZERO,
        }
    }

    /// An error: if it may pass, all connections are given up, as it is not known which one it is
    /// about, and reading goes on from the same offsets.
    fn stumble(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_retriable() {
            return Err(error);
        }
        self.lanes.clear();
        self.figures.retries += 1;
        self.run.errors.fetch_add(1, Ordering::Relaxed);
        let since = *self.trouble.get_or_insert_with(Instant::now);
        if since.elapsed() > self.delivery_timeout {
            return Err(self.gave_up(Some(error)));
        }
        std::thread::sleep(RETRY_BACKOFF);
        Ok(())
    }

    fn gave_up(&self, last: Option<Error>) -> Error {
        Error::GaveUp {
            what: format!("topic {} could not be read", self.topic.name),
            after: self.delivery_timeout,
            last: last.map(Box::new),
        }
    }

    fn receive(&mut self, index: usize) -> Result<(), Error> {
        let lane = &mut self.lanes[index];
        let Some((response, asked)) = lane.receive(self.request_timeout)? else {
            return Ok(());
        };
        let now_ns = self.run.now_ns();
        self.figures.fetches += 1;
        self.figures.fetch.at(now_ns);
        self.figures.fetch.record(asked.elapsed().as_nanos() as u64);
        let mut reads = Vec::new();
        let mut result = self.advance(response, &mut reads);
        if result.is_ok() && self.rate.is_none() {
            result = self.lanes[index].fetch(&self.topic.name, &self.positions);
        }
        if result.is_ok() {
            self.trouble = None;
        }
        if !reads.is_empty() {
            self.progressed = Instant::now();
        }
        let before = (self.figures.tally.messages, self.figures.tally.bytes);
        // Whatever went wrong, these will not be fetched again.
        for read in &reads {
            self.look_at(read, now_ns)?;
        }
        if self.ends.get().is_none() {
            let meanwhile = &mut self.figures.meanwhile;
            meanwhile.messages += self.figures.tally.messages - before.0;
            meanwhile.bytes += self.figures.tally.bytes - before.1;
        }
        result
    }

    /// Cuts an answer into batches, and moves on behind them.
    fn advance(&mut self, response: fetch::Response, reads: &mut Vec<Read>) -> Result<(), Error> {
        if !response.error_code.is_ok() {
            return Err(Error::refused("a fetch", response.error_code, None));
        }
        for data in response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
        {
            let partition = data.partition_index;
            let name = || self.topic.partition_name(partition);
            if !data.error_code.is_ok() {
                let what = format!("a fetch of {}", name());
                return Err(Error::refused(what, data.error_code, None));
            }
            let found = self
                .positions
                .binary_search_by_key(&partition, |position| position.partition);
            let Ok(index) = found else { continue };
            let position = &mut self.positions[index];
            let mut bytes: Bytes = data.records.unwrap_or_default().into_bytes();
            let unreadable = |source| Error::Records {
                topic: self.topic.name.to_string(),
                partition,
                source,
            };
            while let Some(batch) = split_first(&mut bytes).map_err(unreadable)? {
                let from_offset = position.offset;
                position.offset = from_offset.max(batch.last_offset().saturating_add(1));
                reads.push(Read {
                    partition,
                    from_offset,
                    batch,
                });
            }
        }
        Ok(())
    }

    fn look_at(&mut self, read: &Read, now_ns: u64) -> Result<(), Error> {
        let (partition, topic) = (read.partition, || self.topic.name.to_string());
        if !read.batch.crc_ok() {
            return Err(Error::Checksum {
                topic: topic(),
                partition,
            });
        }
        let tally = &mut self.figures.tally;
        let of_interest = tally
            .read(partition, &read.batch, read.from_offset, now_ns)
            .map_err(|source| Error::Records {
                topic: topic(),
                partition,
                source,
            })?;
        self.run.received.fetch_add(of_interest, Ordering::Relaxed);
        Ok(())
    }

    /// One lane for each broker that leads a partition.
    fn route(&mut self) -> Result<(), Error> {
        if self.trouble.is_some() {
            self.topic = self.cluster.topic(&self.topic.name)?;
        }
        for position in &mut self.positions {
            let leader = self.topic.leaders.get(position.partition as usize);
            position.leader = leader.copied().unwrap_or(position.leader);
            if self.lanes.iter().any(|lane| lane.broker == position.leader) {
                continue;
            }
            let connection = self.cluster.connect_to(&self.topic, position.leader)?;
            self.lanes.push(Lane {
                broker: position.leader,
                version: connection.version(fetch::KEY, FETCH.0, FETCH.1)?,
                connection,
                in_flight: None,
            });
        }
        Ok(())
    }
}

impl Lane {
    /// Asks for what follows in all partitions that this broker leads, if no fetch is on its way.
    fn fetch(&mut self, topic: &StrBytes, positions: &[Position]) -> Result<(), Error> {
        if self.in_flight.is_some() {
            return Ok(());
        }
        let led = positions
            .iter()
            .filter(|position| position.leader == self.broker);
        let partition = |position: &Position| fetch::FetchPartition {
            partition: position.partition,
            fetch_offset: position.offset,
            partition_max_bytes: MAX_PARTITION_BYTES,
            ..Default::default()
        };
        let request = fetch::Request {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            topics: vec![fetch::FetchTopic {
                topic: topic.clone(),
                partitions: led.map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let id = self.connection.send(fetch::KEY, self.version, &request)?;
        self.in_flight = Some((id, Instant::now()));
        Ok(())
    }

    /// The answer, and when it was asked for, if it is there.
    fn receive(&mut self, timeout: Duration) -> Result<Option<(fetch::Response, Instant)>, Error> {
        let frame = self.connection.receive()?;
        match (frame, self.in_flight) {
            (None, Some((_, asked))) if asked.elapsed() > timeout => {
                Err(self.connection.no_answer(fetch::KEY, timeout))
            }
            (None, _) => Ok(None),
            (Some(frame), Some((id, asked))) => {
                self.in_flight = None;
                let response = self
                    .connection
                    .decode(frame, fetch::KEY, self.version, id)?;
                Ok(Some((response, asked)))
            }
            (Some(_), None) => {
                let what = "an answer without a request".to_owned();
                Err(self.connection.unexpected(what))
            }
        }
    }
}
