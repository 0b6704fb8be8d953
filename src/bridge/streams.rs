//! What goes on for long: messages that are published to a partition, and changes in a folder of the
//! filer. Each ends by itself when the server or the connection does, and when its receiver is dropped.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{Either, select};
use futures::{SinkExt, StreamExt};
use hyper::http::uri::PathAndQuery;
use prost::Message;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout_at};
use tonic::Request;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use super::address::ServerAddress;
use super::broker::topic;
use super::call::{Failure, Time, failure, not_ready, unary_of};
use super::client::Client;
use super::peers::Peer;
use super::proto::filer_pb::{Entry, SubscribeMetadataRequest, SubscribeMetadataResponse};
use super::proto::messaging_pb::publish_message_request::{InitMessage, Message as Publish};
use super::proto::messaging_pb::{
    DataMessage, FetchMessageRequest, FetchMessageResponse, PublishMessageRequest,
    PublishMessageResponse,
};
use super::proto::schema_pb::{Partition, Topic};
use super::thread::Bridge;
use super::{BridgeError, Role};

const PUBLISH: &str = "/messaging_pb.SeaweedMessaging/PublishMessage";
const FETCH: &str = "/messaging_pb.SeaweedMessaging/FetchMessage";
const SUBSCRIBE_METADATA: &str = "/filer_pb.SeaweedFiler/SubscribeMetadata";
/// Groups of acknowledgements, and changes, that wait to be taken; the server waits then.
const QUEUE: usize = 1024;
/// Acknowledgements of one group.
const ACKS_AT_ONCE: usize = 1024;
/// Of one answer to a fetch, in bytes. A broker exceeds it by one message at most.
const FETCH_BYTES: i32 = 4 << 20;
const FETCH_ANSWER_BYTES_MAX: usize = 1 << 30;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Code of a partition that the broker does not lead.
const NOT_HERE: i32 = 1;

/// A partition of SeaweedMQ and the broker that leads it.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagePlace {
    topic: Topic,
    partition: Partition,
    leader: ServerAddress,
}

/// What a broker says of messages: the offsets that they got, in their order, or why there will be no
/// more.
pub type Ack = Result<Vec<i64>, String>;

/// A stream of messages to one partition. The broker has them in memory when it acknowledges them.
///
/// If `messages` is dropped, the broker writes what it has and then ends `acks`.
#[derive(Debug)]
pub struct Publisher {
    /// As many as the owner lets there be: it counts what is not acknowledged.
    pub messages: mpsc::UnboundedSender<PublishedMessage>,
    pub acks: mpsc::Receiver<Ack>,
}

/// A message on its way to a broker.
#[derive(Debug)]
pub struct PublishedMessage(PublishMessageRequest);

impl From<DataMessage> for PublishedMessage {
    fn from(data: DataMessage) -> Self {
        PublishedMessage(PublishMessageRequest {
            message: Some(Publish::Data(data)),
        })
    }
}

/// Messages from a broker's memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fetched {
    pub messages: Vec<DataMessage>,
    /// Behind the last message that the broker has. It may count them otherwise than it numbers them.
    pub high_watermark: i64,
    /// Behind the last one that is here.
    pub next_offset: i64,
}

/// An entry that was made or changed; `entry` is `None` when it was removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub folder: String,
    pub name: String,
    pub entry: Option<Entry>,
}

pub type Changes = mpsc::Receiver<Change>;

impl Bridge {
    /// Which broker leads a partition of a topic, by its index in the ring. Asking makes it load the
    /// partition: a stream that is opened before kills it.
    ///
    /// # Errors
    /// [`BridgeError::Unavailable`] while none does.
    pub async fn message_place(
        &self,
        namespace: &str,
        name: &str,
        index: usize,
    ) -> Result<MessagePlace, BridgeError> {
        let all = self.topic_brokers(namespace, name).await?;
        let not_found = || BridgeError::NotFound(format!("partition {index} of {name}"));
        let assigned = all.and_then(|all| all.into_iter().nth(index));
        let assigned = assigned.ok_or_else(not_found)?;
        let leader = ServerAddress::of_broker(&assigned.leader_broker);
        let place = MessagePlace {
            topic: topic(namespace, name)?,
            partition: assigned.partition.ok_or_else(not_found)?,
            leader: leader.map_err(|_| unavailable("no broker leads the partition".to_owned()))?,
        };
        self.fetch_messages(&place, 0, 1).await?;
        Ok(place)
    }

    /// Up to `messages_max` messages from an offset on, as the broker that leads the partition has them
    /// in memory. What it says of offsets is to be checked. Never waits for more.
    pub async fn fetch_messages(
        &self,
        place: &MessagePlace,
        offset: i64,
        messages_max: i32,
    ) -> Result<Fetched, BridgeError> {
        let request = FetchMessageRequest {
            topic: Some(place.topic.clone()),
            partition: Some(place.partition),
            start_offset: offset,
            max_bytes: FETCH_BYTES,
            max_messages: messages_max,
        };
        let leader = place.leader.clone();
        self.run(
            "FetchMessage",
            request.encoded_len(),
            async move |client: Rc<Client>, time: Time| {
                let peer = peer(&client, &leader)?;
                let grpc =
                    Grpc::new(peer.channel()).max_decoding_message_size(FETCH_ANSWER_BYTES_MAX);
                let asked = unary_of(grpc, Role::Broker, FETCH, request);
                let answer: FetchMessageResponse = ended(time, asked).await?;
                match answer.error_code {
                    0 if answer.error.is_empty() => Ok(Fetched {
                        messages: answer.messages,
                        high_watermark: answer.high_water_mark,
                        next_offset: answer.next_offset,
                    }),
                    NOT_HERE => Err(unavailable(answer.error)),
                    _ => Err(BridgeError::Refused {
                        role: Role::Broker,
                        reason: answer.error,
                    }),
                }
            },
        )
        .await
    }

    /// Opens a stream of messages to a partition.
    pub async fn publish(
        &self,
        place: &MessagePlace,
        publisher_name: &str,
    ) -> Result<Publisher, BridgeError> {
        let init = PublishMessageRequest {
            message: Some(Publish::Init(InitMessage {
                topic: Some(place.topic.clone()),
                partition: Some(place.partition),
                ack_interval: 1,
                publisher_name: publisher_name.to_owned(),
            })),
        };
        let leader = place.leader.clone();
        self.run(
            "PublishMessage",
            0,
            async move |client: Rc<Client>, time: Time| {
                let peer = peer(&client, &leader)?;
                ended(time, open(&peer, init)).await
            },
        )
        .await
    }

    /// What changes in some folders, and not below them, from a time on, in ns since the epoch. It takes a
    /// moment until the filer knows that somebody listens, so that time should be past.
    pub async fn watch(
        &self,
        mut folders: Vec<String>,
        since_ns: i64,
    ) -> Result<Changes, BridgeError> {
        folders.sort_unstable();
        // Without a prefix a filer tells of everything (`weed/pb/filer_pb/filer_pb_helper.go`).
        let Some((first, others)) = folders.split_first() else {
            return Ok(mpsc::channel(0).1);
        };
        let request = SubscribeMetadataRequest {
            client_name: "tidegate".to_owned(),
            path_prefix: first.clone(),
            directories: others.to_vec(),
            since_ns,
            client_id: getrandom::u32().unwrap_or_default() as i32 & i32::MAX,
            client_epoch: 1,
        };
        self.run("SubscribeMetadata", 0, async move |client: Rc<Client>, time: Time| {
            let Some(peer) = client.filers.pick(time.deadline, None).await else {
                let reason = "no filer is known".to_owned();
                let role = Role::Filer;
                return Err(BridgeError::Unavailable { role, reason });
            };
            let (to, changes) = mpsc::channel(QUEUE);
            // A filer answers with the first change.
            spawn_local(async move {
                if let Err(error) = forward_changes(&peer, request, &folders, to).await {
                    tracing::debug!(address = %peer.address, ?error, "a filer tells of no more changes");
                }
            });
            Ok(changes)
        })
        .await
    }
}

fn unavailable(reason: String) -> BridgeError {
    BridgeError::Unavailable {
        role: Role::Broker,
        reason,
    }
}

fn peer(client: &Client, leader: &ServerAddress) -> Result<Rc<Peer>, BridgeError> {
    let known = client.brokers.all();
    let found = known.into_iter().find(|peer| peer.address == *leader);
    found.ok_or_else(|| unavailable(format!("the broker {leader} is not known to the masters")))
}

/// One attempt; whoever asks tries again.
async fn ended<T>(
    time: Time,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, BridgeError> {
    let made = timeout_at(time.attempt_end(), attempt).await;
    made.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())))
        .map_err(|failure| match failure {
            Failure::Final(error) => error,
            Failure::NotSent(reason) | Failure::Lost(reason) | Failure::Failed(reason) => {
                unavailable(reason)
            }
        })
}

async fn open(peer: &Peer, init: PublishMessageRequest) -> Result<Publisher, Failure> {
    let (messages, outgoing) = mpsc::unbounded::<PublishedMessage>();
    let outgoing = futures::stream::iter([init]).chain(outgoing.map(|message| message.0));
    let mut grpc = Grpc::new(peer.channel());
    grpc.ready().await.map_err(not_ready)?;
    let codec = ProstCodec::<PublishMessageRequest, PublishMessageResponse>::default();
    let path = PathAndQuery::from_static(PUBLISH);
    let answer = grpc.streaming(Request::new(outgoing), path, codec).await;
    let mut answers = answer.map_err(|s| failure(Role::Broker, s))?.into_inner();
    let hello = answers.message().await;
    let hello = hello.map_err(|s| failure(Role::Broker, s))?;
    let hello = hello.ok_or_else(|| Failure::Lost("the broker closed the stream".to_owned()))?;
    if hello.error_code != 0 || !hello.error.is_empty() {
        return Err(Failure::Failed(hello.error));
    }
    let (mut to, acks) = mpsc::channel(QUEUE);
    spawn_local(async move {
        let mut groups = answers.ready_chunks(ACKS_AT_ONCE);
        while let Some(group) = groups.next().await {
            let (offsets, end) = assigned(group);
            if !offsets.is_empty() && to.send(Ok(offsets)).await.is_err() {
                return;
            }
            if let Some(why) = end {
                let _ = to.send(Err(why)).await;
                return;
            }
        }
    });
    Ok(Publisher { messages, acks })
}

/// The offsets of a group of acknowledgements, and why it is the last one.
fn assigned(
    group: Vec<Result<PublishMessageResponse, tonic::Status>>,
) -> (Vec<i64>, Option<String>) {
    let mut offsets = Vec::with_capacity(group.len());
    for answer in group {
        match answer {
            Ok(answer) if answer.error.is_empty() && answer.error_code == 0 => {
                offsets.push(answer.assigned_offset);
            }
            Ok(answer) => return (offsets, Some(answer.error)),
            Err(status) => return (offsets, Some(status.message().to_owned())),
        }
    }
    (offsets, None)
}

async fn forward_changes(
    peer: &Peer,
    request: SubscribeMetadataRequest,
    folders: &[String],
    mut to: mpsc::Sender<Change>,
) -> Result<(), Failure> {
    let failed = |s| failure(Role::Filer, s);
    let mut grpc = Grpc::new(peer.channel());
    grpc.ready().await.map_err(not_ready)?;
    let codec = ProstCodec::<SubscribeMetadataRequest, SubscribeMetadataResponse>::default();
    let path = PathAndQuery::from_static(SUBSCRIBE_METADATA);
    let answer = grpc.server_streaming(Request::new(request), path, codec);
    // Its receiver may go before there is any change.
    let Some(answer) = unless_closed(&to, answer).await else {
        return Ok(());
    };
    let mut events = answer.map_err(failed)?.into_inner();
    while let Some(event) = unless_closed(&to, events.message()).await {
        let Some(event) = event.map_err(failed)? else {
            return Ok(());
        };
        let Some(what) = event
            .event_notification
            .filter(|_| folders.binary_search(&event.directory).is_ok())
        else {
            continue;
        };
        let name = what.new_entry.as_ref().or(what.old_entry.as_ref());
        let Some(name) = name.map(|entry| entry.name.clone()) else {
            continue;
        };
        let change = Change {
            folder: event.directory,
            name,
            entry: what.new_entry,
        };
        if to.send(change).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What comes of `future`; `None` if its receiver goes first, which is looked at from time to time.
async fn unless_closed<T>(to: &mpsc::Sender<Change>, future: impl Future<Output = T>) -> Option<T> {
    let closed = async {
        while !to.is_closed() {
            sleep(LOOK_EVERY).await;
        }
    };
    match select(pin!(future), pin!(closed)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
