//! When a producer's batch is refused with an error that may pass, or a connection breaks, nothing
//! new is sent until all answers are in; then leaders are looked up again, and what is not
//! acknowledged goes out once more, in order. With idempotence the broker knows what it has already.

use std::sync::atomic::Ordering;

use tidegate::wire::produce;

use super::lane::Lane;
use super::{Producer, TICK_NS};
use crate::client::{Error, RETRY_BACKOFF};

/// Why nothing new is sent, and since when.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since_ns: u64,
    pub(super) error: Error,
}

impl Producer {
    /// Something went wrong that may pass.
    pub(super) fn stumble(&mut self, error: Error) {
        self.figures.retries += 1;
        self.run.errors.fetch_add(1, Ordering::Relaxed);
        let since_ns = self.run.now_ns();
        self.trouble.get_or_insert(Trouble { since_ns, error });
    }

    /// Gives up what takes too long.
    pub(super) fn check_time(&mut self) -> Result<(), Error> {
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
        if u128::from(now_ns.saturating_sub(since_ns)) <= self.delivery_timeout.as_nanos() {
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
    pub(super) fn recover(&mut self) -> Result<(), Error> {
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
    pub(super) fn route(&mut self) -> Result<(), Error> {
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
