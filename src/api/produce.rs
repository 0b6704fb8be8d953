//! Produce (0): appends record batches. KIP-98 (idempotence), KIP-467 (errors of single records),
//! KIP-516 (topic ids).
//!
//! Each batch is checked here, on the connection's shard, so that checking spreads over the cores;
//! then one message with all of its batches goes to each shard that owns some. Compressed and large
//! requests are checked in turns; requests behind them on the connection wait, so that a producer's
//! order is kept.

use std::cell::RefCell;
use std::task::Poll;

use shards::{Call as ShardCall, turn};

use super::{Answer, Api, Call, Handled};
use crate::catalog::Topic;
use crate::config::RecordValidation;
use crate::gateway::{Gateway, Reply, Request as ShardRequest};
use crate::partition::messages::{Durability, Produce};
use crate::partition::owner::now_ms;
use crate::record::batch::{Batch, TimestampType};
use crate::record::validate::{Mode, STEP_BYTES};
use crate::record::{Compression, RecordError, Rules, Scratch, Validated, Validator, validate};
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
    let acks = request.acks;
    let mut work = Work::admit(&call.gateway, call.version(), request);
    if work.is_quick(&call.gateway) {
        work.check_at_once(call.gateway.scratch());
        return Ok(work.append(call, acks));
    }
    Ok(Answer::First(Box::pin(async move {
        work.check_in_turns(call.gateway.scratch()).await;
        for owner in work.owners(&call.gateway) {
            call.gateway.shard().room(owner).await;
        }
        work.append(call, acks)
    })))
}

/// The request's batches on their way, and the answer as far as it is known.
struct Work {
    response: Response,
    admitted: Vec<Admitted>,
    now_ms: i64,
}

/// A batch that may be stored if its contents are good.
struct Admitted {
    /// Where its answer stands in the response.
    topic: usize,
    partition: usize,
    id: PartitionId,
    batch: Batch,
    rules: Rules,
}

impl Work {
    /// Finds each batch's partition and looks at what its header says.
    fn admit(gateway: &Gateway, version: i16, request: Request) -> Self {
        let catalog = gateway.catalog();
        let valid_acks = (-1..=1).contains(&request.acks);
        let mut work = Work {
            response: Response::default(),
            admitted: Vec::new(),
            now_ms: now_ms(),
        };
        for data in request.topic_data {
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
                    Ok((topic, id))
                });
                let batch = found.map_err(Refused::Code).and_then(|(topic, id)| {
                    let batch = open(partition.records, version)?;
                    Ok((id, batch, rules(gateway, topic)))
                });
                let mut answer = PartitionProduceResponse {
                    index: partition.index,
                    ..Default::default()
                };
                match batch {
                    Ok((id, batch, rules)) => {
                        let place = (work.response.responses.len(), answers.len());
                        work.admitted.push(Admitted {
                            topic: place.0,
                            partition: place.1,
                            id,
                            batch,
                            rules,
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
        let plain =
            |a: &Admitted| matches!(a.batch.attributes().compression(), Ok(Compression::None));
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
        let answer =
            &mut self.response.responses[admitted.topic].partition_responses[admitted.partition];
        let batch = checked.and_then(|validated| match validated.restamp {
            None => Ok(admitted.batch.clone()),
            Some(timestamp_type) => {
                if timestamp_type == TimestampType::LogAppendTime {
                    answer.log_append_time_ms = validated.max_timestamp;
                }
                Batch::parse(
                    &admitted
                        .batch
                        .restamped(timestamp_type, validated.max_timestamp)
                        .freeze(),
                )
            }
        });
        match batch {
            Ok(batch) => {
                admitted.batch = batch;
                self.admitted.push(admitted);
            }
            Err(error) => Refused::from(error).tell(answer),
        }
    }

    /// Sends each owner its batches, in order, before this returns; answers when the owners do.
    fn append(self, call: Call, acks: i16) -> Answer {
        let Work {
            mut response,
            admitted,
            ..
        } = self;
        let durability = match acks {
            0 => Durability::None,
            1 => Durability::Written,
            _ => Durability::Committed,
        };
        let sent = send(&call.gateway, admitted, durability);
        if durability == Durability::None {
            return match first_error(&response) {
                // Without answers, ending the connection is how a producer learns that its topics moved.
                Some(error) => Answer::Close(format!("produce with acks=0 failed: {error:?}")),
                None => Answer::Silence,
            };
        }
        if sent.is_empty() {
            return Answer::Frame(call.frame(&response));
        }
        Answer::Later(Box::pin(async move {
            for sent in sent {
                sent.collect(&mut response).await;
            }
            call.frame(&response)
        }))
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
    let mut by_owner: Vec<(usize, Outgoing)> = Vec::with_capacity(1);
    for Admitted {
        topic,
        partition,
        id,
        batch,
        ..
    } in admitted
    {
        let owner = gateway.owner(id);
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
    let send = |(owner, Outgoing { places, batches })| {
        let request = ShardRequest::Produce(Produce {
            durability,
            batches,
        });
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
                Some(Err(error)) => Refused::Code(error.into()).tell(answer),
                None => Refused::Code(ErrorCode::KAFKA_STORAGE_ERROR).tell(answer),
            }
        }
    }
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

fn rules(gateway: &Gateway, topic: &Topic) -> Rules {
    let config = gateway.config();
    Rules {
        mode: match config.record_validation {
            RecordValidation::Full => Mode::Full,
            RecordValidation::Header => Mode::Header,
        },
        timestamp_type: topic.config.timestamp_type,
        timestamp_before_max_ms: topic.config.timestamp_before_max_ms,
        timestamp_after_max_ms: topic.config.timestamp_after_max_ms,
        compacted: false,
        max_batch_bytes: topic.config.max_message_bytes,
        max_inflated_bytes: config.max_inflated_bytes,
    }
}
