//! Produce (0): appends record batches. KIP-98 (idempotence), KIP-467 (errors of single records),
//! KIP-516 (topic ids).
//!
//! Each batch is checked here, on the connection's shard, so that checking spreads over the cores;
//! then one message with all of its batches goes to each shard that owns some. Compressed and large
//! requests are checked in turns, and batches are written anew where the topic wants another codec
//! ([`super::recode`]); requests behind them on the connection wait, so that a producer's order is kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::task::Poll;

use shards::{Call as ShardCall, turn};

use super::{Answer, Api, Call, Handled, recode};
use crate::budget::Share;
use crate::catalog::Topic;
use crate::catalog::name::is_internal;
use crate::config::RecordValidation;
use crate::gateway::{Gateway, Reply, Request as ShardRequest};
use crate::partition::messages::{Durability, PartitionError, Produce};
use crate::partition::owner::now_ms;
use crate::record::batch::{Batch, TimestampType};
use crate::record::validate::{Mode, STEP_BYTES};
use crate::record::{
    Compression, Recode, RecordError, Rules, Scratch, Target, Validated, Validator, validate,
};
use crate::store::PartitionId;
use crate::wire::produce::{
    BatchIndexAndErrorMessage, KEY, PartitionProduceResponse, Request, Response, TopicProduceData,
    TopicProduceResponse,
};
use crate::wire::{ErrorCode, Records};

pub const API: Api = Api {
    key: KEY,
    name: "Produce",
    versions: 0..=13,
    handle,
};

/// Versions 0 to 2 are listed for librdkafka's sake (KAFKA-18659) and end the connection when used.
const VERSION_MIN: i16 = 3;
/// KIP-110.
const ZSTD_VERSION_MIN: i16 = 7;
/// Who may append to brokers' own topics: Kafka's admin client, by its name.
const ADMIN_CLIENT: &str = "__admin_client";
/// Uncompressed bytes that are checked without giving the core back.
const CHECKED_AT_ONCE_BYTES: usize = 1 << 20;

fn handle(mut call: Call) -> Handled {
    if call.version() < VERSION_MIN {
        return Ok(Answer::Close(format!(
            "Produce version {} carries record formats that are gone",
            call.version()
        )));
    }
    let request: Request = call.decode()?;
    let durability = match request.acks {
        0 => Durability::None,
        1 => Durability::Written,
        _ => Durability::Committed,
    };
    let mut work = Work::admit(&call, request);
    if work.is_quick(&call.gateway) {
        work.check_at_once(call.gateway.scratch());
        return Ok(work.append(call, durability));
    }
    Ok(Answer::First(Box::pin(async move {
        work.check_in_turns(call.gateway.scratch()).await;
        work.recode(&call.gateway, durability).await;
        work.room(&call.gateway).await;
        work.append(call, durability)
    })))
}

/// The request's batches on their way, and the answer as far as it is known.
struct Work {
    response: Response,
    admitted: Vec<Admitted>,
    now_ms: i64,
    /// Of batches that were written anew.
    memory: Option<Share>,
}

/// A batch that may be stored if its contents are good.
struct Admitted {
    /// Where its answer stands in the response.
    topic: usize,
    partition: usize,
    id: PartitionId,
    batch: Batch,
    rules: Rules,
    target: Option<Target>,
    /// Once it is checked: how it is to be written anew.
    recode: Option<Recode>,
    /// SeaweedMQ's brokers keep the partition's log.
    is_brokers: bool,
}

impl Work {
    /// Finds each batch's partition and looks at what its header says.
    fn admit(call: &Call, request: Request) -> Self {
        let (gateway, version) = (&call.gateway, call.version());
        let catalog = gateway.catalog();
        let is_admin = call.header.client_id.as_deref() == Some(ADMIN_CLIENT);
        let valid_acks = (-1..=1).contains(&request.acks);
        let mut work = Work {
            response: Response::default(),
            admitted: Vec::new(),
            now_ms: now_ms(),
            memory: None,
        };
        for data in once_each(request.topic_data) {
            let by_id = version >= 13;
            let topic = if by_id {
                catalog.by_id(&data.topic_id)
            } else {
                catalog.by_name(&data.name)
            };
            let unknown = if by_id {
                ErrorCode::UNKNOWN_TOPIC_ID
            } else {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            };
            let TopicProduceData {
                name,
                topic_id,
                partition_data,
            } = data;
            let mut answers = Vec::with_capacity(partition_data.len());
            for partition in partition_data {
                let found = topic.ok_or(unknown).and_then(|topic| {
                    let id = topic
                        .partition(partition.index)
                        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                    if !valid_acks {
                        return Err(ErrorCode::INVALID_REQUIRED_ACKS);
                    }
                    if is_internal(&topic.name) && !is_admin {
                        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
                    }
                    Ok((topic, id))
                });
                let batch = found.map_err(Refused::Code).and_then(|(topic, id)| {
                    let batch = open(partition.records, version)?;
                    let codec = batch.attributes().compression();
                    let target = codec.ok().and_then(|codec| topic.config.recode(codec));
                    // Brokers take records, not batches.
                    let target = target.filter(|_| !topic.is_brokers());
                    let rules = rules(gateway, topic, target);
                    Ok((id, batch, rules, target, topic.is_brokers()))
                });
                let mut answer = PartitionProduceResponse {
                    index: partition.index,
                    ..Default::default()
                };
                match batch {
                    Ok((id, batch, rules, target, is_brokers)) => {
                        let place = (work.response.responses.len(), answers.len());
                        work.admitted.push(Admitted {
                            topic: place.0,
                            partition: place.1,
                            id,
                            batch,
                            rules,
                            target,
                            recode: None,
                            is_brokers,
                        });
                    }
                    Err(refused) => refused.tell(&mut answer),
                }
                answers.push(answer);
            }
            work.response.responses.push(TopicProduceResponse {
                name,
                topic_id,
                partition_responses: answers,
            });
        }
        work
    }

    /// True if checking takes no longer than one task may run, and nobody's mailbox is full.
    fn is_quick(&self, gateway: &Gateway) -> bool {
        let plain = |a: &Admitted| {
            let codec = a.batch.attributes().compression();
            a.target.is_none() && matches!(codec, Ok(Compression::None))
        };
        let bytes: usize = self.admitted.iter().map(|a| a.batch.size_in_bytes()).sum();
        bytes <= CHECKED_AT_ONCE_BYTES
            && self.admitted.iter().all(plain)
            && self
                .owners(gateway)
                .all(|owner| gateway.shard().has_room(owner))
    }

    fn owners(&self, gateway: &Gateway) -> impl Iterator<Item = usize> {
        self.admitted.iter().map(|a| gateway.owner(a.id))
    }

    fn check_at_once(&mut self, scratch: &RefCell<Scratch>) {
        for admitted in std::mem::take(&mut self.admitted) {
            let scratch = &mut scratch.borrow_mut();
            let checked = validate(&admitted.batch, &admitted.rules, self.now_ms, scratch);
            self.checked(admitted, checked);
        }
    }

    async fn check_in_turns(&mut self, scratch: &RefCell<Scratch>) {
        for admitted in std::mem::take(&mut self.admitted) {
            let mut validator = Validator::new(admitted.batch.clone(), admitted.rules, self.now_ms);
            let checked = loop {
                match &mut validator {
                    Ok(validator) => {
                        if let Poll::Ready(result) =
                            validator.step(&mut scratch.borrow_mut(), STEP_BYTES)
                        {
                            break result;
                        }
                    }
                    Err(error) => break Err(error.clone()),
                }
                turn().await;
            };
            self.checked(admitted, checked);
            turn().await;
        }
    }

    fn checked(&mut self, mut admitted: Admitted, checked: Result<Validated, RecordError>) {
        let answer = admitted.answer(&mut self.response);
        let stored = checked.and_then(|validated| {
            if admitted.rules.timestamp_type == TimestampType::LogAppendTime {
                answer.log_append_time_ms = validated.max_timestamp;
            }
            admitted.checked(&validated)
        });
        match stored {
            Ok(()) => self.admitted.push(admitted),
            Err(error) => {
                answer.log_append_time_ms = -1;
                Refused::from(error).tell(answer)
            }
        }
    }

    /// Writes anew what has to be. What comes to too much at a time is appended in parts.
    async fn recode(&mut self, gateway: &Gateway, durability: Durability) {
        let mut rest = std::mem::take(&mut self.admitted);
        loop {
            let recodes = || rest.iter().map(|admitted| admitted.recode.as_ref());
            let part = recode::part(recodes());
            if recodes().take(part).flatten().next().is_some() {
                let part = recodes().take(part).flatten();
                self.memory = Some(recode::memory(gateway, part).await);
            }
            for admitted in rest.drain(..part) {
                self.recode_one(gateway, admitted).await;
            }
            if rest.is_empty() {
                return;
            }
            self.room(gateway).await;
            for sent in send(gateway, std::mem::take(&mut self.admitted), durability) {
                sent.collect(&mut self.response).await;
            }
            self.memory = None;
        }
    }

    async fn recode_one(&mut self, gateway: &Gateway, mut admitted: Admitted) {
        if let Some(recode) = admitted.recode.take() {
            let refused = match recode::run(gateway, recode).await {
                Ok(Ok(batch)) => {
                    admitted.batch = batch;
                    return self.admitted.push(admitted);
                }
                Ok(Err(error)) => Refused::Record(error),
                // To be tried again.
                Err(_) => Refused::Code(ErrorCode::KAFKA_STORAGE_ERROR),
            };
            let answer = admitted.answer(&mut self.response);
            answer.log_append_time_ms = -1;
            return refused.tell(answer);
        }
        self.admitted.push(admitted);
    }

    /// Waits until the owners' mailboxes have room.
    async fn room(&self, gateway: &Gateway) {
        for owner in self.owners(gateway) {
            gateway.shard().room(owner).await;
        }
    }

    /// Sends each owner its batches, in order, before this returns; answers when the owners do.
    fn append(self, call: Call, durability: Durability) -> Answer {
        let Work {
            mut response,
            admitted,
            memory,
            ..
        } = self;
        let sent = send(&call.gateway, admitted, durability);
        if durability == Durability::None {
            return match (first_error(&response), memory) {
                // Without answers, ending the connection is how a producer learns that its topics moved.
                (Some(error), _) => Answer::Close(format!("produce with acks=0 failed: {error:?}")),
                (None, None) if sent.is_empty() => Answer::Silence,
                // Until the owners have taken it, it counts as a request in flight: nothing else slows
                // a client that waits for no answers.
                (None, None) => Answer::Later(Box::pin(async move {
                    for sent in sent {
                        sent.collect(&mut response).await;
                    }
                    Vec::new()
                })),
                // What was written anew is not in the memory of the request: who sends more than is
                // taken has to wait.
                (None, Some(memory)) => Answer::First(Box::pin(async move {
                    for sent in sent {
                        sent.collect(&mut response).await;
                    }
                    drop(memory);
                    Answer::Silence
                })),
            };
        }
        if sent.is_empty() {
            return Answer::Frame(call.frame(&response));
        }
        Answer::Later(Box::pin(async move {
            for sent in sent {
                sent.collect(&mut response).await;
            }
            drop(memory);
            call.frame(&response)
        }))
    }
}

impl Admitted {
    fn answer<'a>(&self, response: &'a mut Response) -> &'a mut PartitionProduceResponse {
        &mut response.responses[self.topic].partition_responses[self.partition]
    }

    /// Makes of a good batch what is to be stored, or says how that is to be made.
    fn checked(&mut self, validated: &Validated) -> Result<(), RecordError> {
        if let Some(target) = self.target {
            let batch = self.batch.clone();
            self.recode = Some(Recode::new(batch, validated, &self.rules, target)?);
        } else if let Some(timestamp_type) = validated.restamp {
            let stamped = self
                .batch
                .restamped(timestamp_type, validated.max_timestamp);
            self.batch = Batch::parse(&stamped.freeze())?;
        }
        Ok(())
    }
}

fn first_error(response: &Response) -> Option<ErrorCode> {
    let answers = response
        .responses
        .iter()
        .flat_map(|t| &t.partition_responses);
    answers.map(|a| a.error_code).find(|code| !code.is_ok())
}

/// Batches of one owner, and where their answers stand in the response.
#[derive(Default)]
struct Outgoing {
    places: Vec<(usize, usize)>,
    batches: Vec<(PartitionId, Batch)>,
}

/// Batches that are with their owner.
struct Sent {
    call: ShardCall<Reply>,
    /// Where the answers stand in the response.
    places: Vec<(usize, usize)>,
}

fn send(gateway: &Gateway, admitted: Vec<Admitted>, durability: Durability) -> Vec<Sent> {
    let mut by_owner: Vec<((usize, bool), Outgoing)> = Vec::with_capacity(1);
    for Admitted {
        topic,
        partition,
        id,
        batch,
        is_brokers,
        ..
    } in admitted
    {
        let owner = (gateway.owner(id), is_brokers);
        let at = by_owner
            .iter()
            .position(|(o, _)| *o == owner)
            .unwrap_or_else(|| {
                by_owner.push((owner, Outgoing::default()));
                by_owner.len() - 1
            });
        let outgoing = &mut by_owner[at].1;
        outgoing.places.push((topic, partition));
        outgoing.batches.push((id, batch));
    }
    let send = |((owner, is_brokers), Outgoing { places, batches })| {
        let produce = Produce {
            durability,
            batches,
        };
        let request = match is_brokers {
            true => ShardRequest::Publish(produce),
            false => ShardRequest::Produce(produce),
        };
        Sent {
            call: gateway.shard().call(owner, request),
            places,
        }
    };
    by_owner.into_iter().map(send).collect()
}

impl Sent {
    async fn collect(self, response: &mut Response) {
        let outcomes = match self.call.await {
            Ok(Reply::Produce(outcomes)) => outcomes,
            // A shard that is overloaded or has ended: to be tried again.
            _ => Vec::new(),
        };
        let mut outcomes = outcomes.into_iter();
        for (topic, partition) in self.places {
            let answer = &mut response.responses[topic].partition_responses[partition];
            match outcomes.next() {
                Some(Ok(produced)) => {
                    answer.base_offset = produced.base_offset;
                    answer.log_start_offset = produced.log_start_offset;
                    if let Some(time) = produced.first_appended_ms {
                        answer.log_append_time_ms = time;
                    }
                }
                Some(Err(PartitionError::ReadOnly)) => Refused::ReadOnly.tell(answer),
                Some(Err(error)) => Refused::Code(error.into()).tell(answer),
                None => Refused::Code(ErrorCode::KAFKA_STORAGE_ERROR).tell(answer),
            }
        }
    }
}

fn all_differ<T: Ord>(all: impl Iterator<Item = T>) -> bool {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.windows(2).all(|pair| pair[0] != pair[1])
}

/// Of a partition that is named again the last batch counts, and it is answered once, as in Kafka. (Where
/// one of its batches is malformed, Kafka may store another and answer with an error.)
fn once_each(topics: Vec<TopicProduceData>) -> Vec<TopicProduceData> {
    let is_once =
        |topic: &TopicProduceData| all_differ(topic.partition_data.iter().map(|data| data.index));
    if all_differ(topics.iter().map(|t| (&t.name, &t.topic_id))) && topics.iter().all(is_once) {
        return topics;
    }
    let mut all: Vec<TopicProduceData> = Vec::with_capacity(topics.len());
    let (mut topics_at, mut partitions_at) = (HashMap::new(), HashMap::new());
    for TopicProduceData {
        name,
        topic_id,
        partition_data,
    } in topics
    {
        let at = match topics_at.entry((name.clone(), topic_id)) {
            Entry::Occupied(at) => *at.get(),
            Entry::Vacant(at) => {
                all.push(TopicProduceData {
                    name,
                    topic_id,
                    partition_data: Vec::with_capacity(partition_data.len()),
                });
                *at.insert(all.len() - 1)
            }
        };
        let partitions = &mut all[at].partition_data;
        for data in partition_data {
            match partitions_at.entry((at, data.index)) {
                Entry::Occupied(place) => partitions[*place.get()] = data,
                Entry::Vacant(place) => {
                    place.insert(partitions.len());
                    partitions.push(data);
                }
            }
        }
    }
    all
}

/// The one batch of a partition's records.
fn open(records: Option<Records>, version: i16) -> Result<Batch, Refused> {
    // Apache Kafka never answers null records; they are invalid like empty ones.
    let records = records.map(Records::into_bytes).unwrap_or_default();
    let batch = Batch::only_one(&records)?;
    match batch.attributes().compression() {
        Ok(Compression::Zstd) if version < ZSTD_VERSION_MIN => {
            Err(Refused::Code(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE))
        }
        // Transactions are not served, so nobody can have been allowed to write this.
        _ if batch.attributes().is_transactional() => Err(Refused::Code(
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        )),
        _ => Ok(batch),
    }
}

/// Why a batch is not stored.
enum Refused {
    Code(ErrorCode),
    /// SeaweedMQ's brokers keep the partition's log, and take nothing for it any more.
    ReadOnly,
    Record(RecordError),
}

impl From<RecordError> for Refused {
    fn from(error: RecordError) -> Self {
        Refused::Record(error)
    }
}

impl Refused {
    fn tell(self, answer: &mut PartitionProduceResponse) {
        answer.base_offset = -1;
        match self {
            Refused::Code(code) => answer.error_code = code,
            Refused::ReadOnly => {
                answer.error_code = PartitionError::ReadOnly.into();
                answer.error_message = Some(PartitionError::ReadOnly.to_string().into());
            }
            Refused::Record(error) => {
                answer.error_code = error.kind().into();
                answer.error_message = Some(error.to_string().into());
                let record = |r: &crate::record::error::RejectedRecord| BatchIndexAndErrorMessage {
                    batch_index: r.batch_index,
                    batch_index_error_message: Some(r.reason.to_string().into()),
                };
                answer.record_errors = error.record_errors().iter().map(record).collect();
            }
        }
    }
}

fn rules(gateway: &Gateway, topic: &Topic, target: Option<Target>) -> Rules {
    let config = gateway.config();
    Rules {
        mode: match (config.record_validation, target) {
            (RecordValidation::Header, None) if !topic.is_brokers() => Mode::Header,
            // What is written anew, or taken apart for brokers, is read anyway.
            _ => Mode::Full,
        },
        timestamp_type: topic.config.timestamp_type,
        timestamp_before_max_ms: topic.config.timestamp_before_max_ms,
        timestamp_after_max_ms: topic.config.timestamp_after_max_ms,
        compacted: topic.config.cleanup_policy.compacts(),
        max_batch_bytes: topic.config.max_message_bytes,
        max_inflated_bytes: config.max_inflated_bytes,
    }
}
