//! A producer's connection to one broker, and the requests on it that wait for their answer.

use std::collections::VecDeque;

use bytes::Bytes;
use tidegate::wire::{Records, StrBytes, produce};

use crate::client::{Cluster, Connection, Error, Topic};

/// The lowest and the highest version used: record batches v2, and topics by name.
const PRODUCE: (i16, i16) = (3, 12);

/// A request that waits for its answer.
#[derive(Debug)]
pub struct InFlight {
    pub correlation_id: i32,
    pub sent_ns: u64,
    /// The stream, and the first message, of each batch.
    pub batches: Vec<(usize, u64)>,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    pub broker: i32,
    pub connection: Connection,
    pub in_flight: VecDeque<InFlight>,
    /// The streams whose partitions this broker leads.
    pub streams: Vec<usize>,
    /// The stream that is asked first for the next request, so that all get their turn.
    pub turn: usize,
    /// Since when one more request could be sent.
    pub room_since_ns: u64,
    version: i16,
}

/// What goes into a request besides batches.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub acks: i16,
    pub timeout_ms: i32,
    pub max_in_flight: usize,
}

impl Lane {
    /// Connects.
    ///
    /// # Errors
    /// If there is no such broker, or it does not serve Produce.
    pub fn open(cluster: &Cluster, topic: &Topic, broker: i32) -> Result<Self, Error> {
        let connection = cluster.connect_to(topic, broker)?;
        let version = connection.version(produce::KEY, PRODUCE.0, PRODUCE.1)?;
        Ok(Self {
            broker,
            connection,
            in_flight: VecDeque::new(),
            streams: Vec::new(),
            turn: 0,
            room_since_ns: 0,
            version,
        })
    }

    /// Whether one more request may be sent. With acks=0 there are no answers to wait for: the kernel
    /// has to have taken the last one.
    pub fn has_room(&self, terms: &Terms) -> bool {
        match terms.acks {
            0 => !self.connection.has_unsent(),
            _ => self.in_flight.len() < terms.max_in_flight,
        }
    }

    /// Sends batches, at most one for each partition.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn send(
        &mut self,
        topic: &StrBytes,
        terms: &Terms,
        batches: Vec<(i32, Bytes)>,
    ) -> Result<i32, Error> {
        let partition = |(index, batch)| produce::PartitionProduceData {
            index,
            records: Some(Records::from(batch)),
        };
        let topic = produce::TopicProduceData {
            name: topic.clone(),
            partition_data: batches.into_iter().map(partition).collect(),
            ..Default::default()
        };
        let request = produce::Request {
            acks: terms.acks,
            timeout_ms: terms.timeout_ms,
            topic_data: vec![topic],
            ..Default::default()
        };
        self.connection.send(produce::KEY, self.version, &request)
    }

    /// The next answer, and the request that it answers, if it is there.
    ///
    /// # Errors
    /// If the connection broke, or what came is no answer.
    pub fn receive(&mut self) -> Result<Option<(InFlight, produce::Response)>, Error> {
        let Some(frame) = self.connection.receive()? else {
            return Ok(None);
        };
        let Some(request) = self.in_flight.pop_front() else {
            let what = "an answer without a request".to_owned();
            return Err(self.connection.unexpected(what));
        };
        let id = request.correlation_id;
        let response = self
            .connection
            .decode(frame, produce::KEY, self.version, id)?;
        Ok(Some((request, response)))
    }
}
