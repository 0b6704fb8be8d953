//! A cluster: which brokers it has, which of them lead a topic's partitions, and what else is asked
//! of any broker. Everything in here waits for its answer, and belongs to no measurement.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidegate::wire::{
    ErrorCode, StrBytes, create_topics, delete_topics, init_producer_id, list_offsets, metadata,
};

use super::{Connection, Error, Sources};

/// How long what may pass is tried again: a new topic, for one, is not known everywhere at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
pub const RETRY_BACKOFF: Duration = Duration::from_millis(100);
/// ListOffsets' names for the ends of a partition.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Versions used of each API, all with topics by name.
const METADATA: (i16, i16, i16) = (metadata::KEY, 4, 9);
const CREATE_TOPICS: (i16, i16, i16) = (create_topics::KEY, 4, 7);
const DELETE_TOPICS: (i16, i16, i16) = (delete_topics::KEY, 1, 5);
const INIT_PRODUCER_ID: (i16, i16, i16) = (init_producer_id::KEY, 0, 4);
const LIST_OFFSETS: (i16, i16, i16) = (list_offsets::KEY, 1, 7);

/// Where a cluster can be asked, and how long an answer may take.
#[derive(Clone, Debug)]
pub struct Cluster {
    bootstrap: Vec<String>,
    timeout: Duration,
}

/// A topic as a cluster describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub name: StrBytes,
    /// The broker that leads each partition.
    pub leaders: Vec<i32>,
    /// The address of each broker.
    pub brokers: HashMap<i32, String>,
}

impl Topic {
    /// Where to connect to for a broker.
    ///
    /// # Errors
    /// If the cluster does not know it.
    pub fn address_of(&self, broker: i32) -> Result<&str, Error> {
        let address = self.brokers.get(&broker).map(String::as_str);
        address.ok_or_else(|| {
            let what = format!("broker {broker}");
            Error::refused(what, ErrorCode::LEADER_NOT_AVAILABLE, None)
        })
    }

    /// What error messages call a partition.
    pub fn partition_name(&self, partition: i32) -> String {
        format!("{}-{partition}", self.name)
    }
}

impl Cluster {
    /// `timeout` is that of one request.
    pub fn new(bootstrap: Vec<String>, timeout: Duration) -> Self {
        Self { bootstrap, timeout }
    }

    /// Asks the topic's brokers as well, should those of the start be gone.
    pub fn learn(&mut self, topic: &Topic) {
        for address in topic.brokers.values() {
            if !self.bootstrap.contains(address) {
                self.bootstrap.push(address.clone());
            }
        }
    }

    /// A connection to the first broker that takes one.
    ///
    /// # Errors
    /// That of the last broker, if none does.
    pub fn connect(&self) -> Result<Connection, Error> {
        let mut last = None;
        for address in &self.bootstrap {
            match Sources::default().open(address, self.timeout) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::refused("no address", ErrorCode::NONE, None)))
    }

    /// Which brokers there are, as any of them says it.
    ///
    /// # Errors
    /// If it does not.
    pub fn ask_brokers(connection: &mut Connection, timeout: Duration) -> Result<(), Error> {
        let request = metadata::Request {
            topics: Some(Vec::new()),
            ..Default::default()
        };
        let answer: Result<metadata::Response, Error> =
            connection.call(METADATA, &request, timeout);
        answer.map(drop)
    }

    /// A connection to a broker of the topic.
    ///
    /// # Errors
    /// If there is none.
    pub fn connect_to(&self, topic: &Topic, broker: i32) -> Result<Connection, Error> {
        Sources::default().open(topic.address_of(broker)?, self.timeout)
    }

    /// A topic whose partitions all have leaders.
    ///
    /// # Errors
    /// If it does not exist, or a partition has none.
    pub fn topic(&self, name: &str) -> Result<Topic, Error> {
        let asked = metadata::MetadataRequestTopic {
            name: Some(name.to_owned().into()),
            ..Default::default()
        };
        let request = metadata::Request {
            topics: Some(vec![asked]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let mut connection = self.connect()?;
        let response: metadata::Response = connection.call(METADATA, &request, self.timeout)?;
        let [topic] = &response.topics[..] else {
            return Err(connection.unexpected("metadata of other topics".to_owned()));
        };
        Ok(Topic {
            name: name.to_owned().into(),
            leaders: leaders(name, topic)?,
            brokers: response
                .brokers
                .iter()
                .map(|broker| (broker.node_id, address_text(&broker.host, broker.port)))
                .collect(),
        })
    }

    /// As [`Cluster::topic`], but waits until a new topic is known everywhere.
    ///
    /// # Errors
    /// As [`Cluster::topic`], after some patience.
    pub fn topic_when_ready(&self, name: &str) -> Result<Topic, Error> {
        patiently(|| self.topic(name))
    }

    /// Creates a topic. Whether it was not there before.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(&self, name: &str, partitions: i32) -> Result<bool, Error> {
        let topic = create_topics::CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: partitions,
            replication_factor: -1,
            ..Default::default()
        };
        let request = create_topics::Request {
            topics: vec![topic],
            timeout_ms: millis(self.timeout),
            ..Default::default()
        };
        let mut connection = self.connect()?;
        let response: create_topics::Response =
            connection.call(CREATE_TOPICS, &request, self.timeout)?;
        let [topic] = &response.topics[..] else {
            return Err(connection.unexpected("an answer on other topics".to_owned()));
        };
        match topic.error_code {
            ErrorCode::NONE => Ok(true),
            ErrorCode::TOPIC_ALREADY_EXISTS => Ok(false),
            code => {
                let what = format!("topic {name} cannot be created");
                Err(Error::refused(what, code, topic.error_message.as_deref()))
            }
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// If it is still there.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let request = delete_topics::Request {
            topic_names: vec![name.to_owned().into()],
            timeout_ms: millis(self.timeout),
            ..Default::default()
        };
        let mut connection = self.connect()?;
        let response: delete_topics::Response =
            connection.call(DELETE_TOPICS, &request, self.timeout)?;
        match response.responses.first().map(|topic| topic.error_code) {
            Some(ErrorCode::NONE) => Ok(()),
            code => {
                let what = format!("topic {name} cannot be deleted");
                Err(Error::refused(what, code.unwrap_or_default(), None))
            }
        }
    }

    /// A new id and epoch for an idempotent producer.
    ///
    /// # Errors
    /// If there is none.
    pub fn producer_id(&self) -> Result<(i64, i16), Error> {
        let request = init_producer_id::Request {
            transaction_timeout_ms: millis(self.timeout),
            ..Default::default()
        };
        patiently(|| {
            let response: init_producer_id::Response =
                self.connect()?
                    .call(INIT_PRODUCER_ID, &request, self.timeout)?;
            match response.error_code {
                ErrorCode::NONE => Ok((response.producer_id, response.producer_epoch)),
                code => Err(Error::refused("no producer id", code, None)),
            }
        })
    }

    /// The offset of each partition's first record.
    ///
    /// # Errors
    /// If a partition has no leader that answers.
    pub fn earliest(&self, topic: &Topic) -> Result<Vec<i64>, Error> {
        self.offsets_of(topic, EARLIEST)
    }

    /// The offset behind each partition's last record that consumers see.
    ///
    /// # Errors
    /// If a partition has no leader that answers.
    pub fn latest(&self, topic: &Topic) -> Result<Vec<i64>, Error> {
        self.offsets_of(topic, LATEST)
    }

    fn offsets_of(&self, topic: &Topic, timestamp: i64) -> Result<Vec<i64>, Error> {
        let asked = self.offsets(topic, timestamp);
        match asked {
            Err(error) if error.is_retriable() => patiently(|| {
                let topic = self.topic(&topic.name)?;
                self.offsets(&topic, timestamp)
            }),
            other => other,
        }
    }

    fn offsets(&self, topic: &Topic, timestamp: i64) -> Result<Vec<i64>, Error> {
        let mut offsets = vec![0; topic.leaders.len()];
        let mut leaders = topic.leaders.clone();
        leaders.sort_unstable();
        leaders.dedup();
        for leader in leaders {
            let partitions = (0_i32..).zip(&topic.leaders);
            let led = partitions.filter(|(_, of)| **of == leader).map(|(p, _)| p);
            let request = list_offsets_request(&topic.name, led, timestamp);
            let mut connection = self.connect_to(topic, leader)?;
            let response: list_offsets::Response =
                connection.call(LIST_OFFSETS, &request, self.timeout)?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let index = usize::try_from(partition.partition_index).ok();
                let offset = index.and_then(|index| offsets.get_mut(index));
                match (offset, partition.error_code) {
                    (Some(offset), ErrorCode::NONE) => *offset = partition.offset,
                    (_, code) => {
                        let name = topic.partition_name(partition.partition_index);
                        return Err(Error::refused(format!("offsets of {name}"), code, None));
                    }
                }
            }
        }
        Ok(offsets)
    }
}

/// Tries again for some time, while it may get better.
fn patiently<T>(attempt: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            // Whoever cannot be reached at all is not waited for.
            Err(Error::Connect { address, source }) => {
                return Err(Error::Connect { address, source });
            }
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                std::thread::sleep(RETRY_BACKOFF);
            }
            other => return other,
        }
    }
}

fn list_offsets_request(
    topic: &StrBytes,
    partitions: impl Iterator<Item = i32>,
    timestamp: i64,
) -> list_offsets::Request {
    let partition = |partition_index| list_offsets::ListOffsetsPartition {
        partition_index,
        timestamp,
        ..Default::default()
    };
    list_offsets::Request {
        replica_id: -1,
        topics: vec![list_offsets::ListOffsetsTopic {
            name: topic.clone(),
            partitions: partitions.map(partition).collect(),
        }],
        ..Default::default()
    }
}

fn leaders(name: &str, topic: &metadata::MetadataResponseTopic) -> Result<Vec<i32>, Error> {
    if !topic.error_code.is_ok() {
        return Err(Error::refused(
            format!("topic {name}"),
            topic.error_code,
            None,
        ));
    }
    let mut leaders = vec![-1; topic.partitions.len()];
    for partition in &topic.partitions {
        let index = usize::try_from(partition.partition_index).ok();
        if let Some(leader) = index.and_then(|index| leaders.get_mut(index)) {
            *leader = partition.leader_id;
        }
    }
    match leaders.iter().position(|leader| *leader < 0) {
        None if !leaders.is_empty() => Ok(leaders),
        missing => {
            let what = format!("partition {} of {name}", missing.unwrap_or(0));
            Err(Error::refused(what, ErrorCode::LEADER_NOT_AVAILABLE, None))
        }
    }
}

fn address_text(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn millis(time: Duration) -> i32 {
    time.as_millis().try_into().unwrap_or(i32::MAX)
}
