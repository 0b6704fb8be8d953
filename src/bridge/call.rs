//! One operation: a server is picked, asked, and asked again, or another is, until the deadline.

use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use hyper::http::uri::PathAndQuery;
use prost::Message;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Request, Status};
use tonic_prost::ProstCodec;

use super::peers::{Peer, Peers, backoff, jittered};
use super::{BridgeError, Role};

/// How often servers are asked for the same thing and answer with an error, or not at all. One that
/// cannot be reached does not count: nothing was asked.
const ATTEMPTS_MAX: u32 = 4;
/// Parts of an operation's time that one attempt may take, so that there is time for another server.
const ATTEMPTS_IN_TIME: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// What a filer says, with code "unknown", of an entry that is absent.
const NO_ENTRY: &str = "no entry is found in filer store";

/// What may be known of an attempt that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server was not reached.
    NotSent(String),
    /// It may have done it, and gave no answer.
    Lost(String),
    /// It answered with an error that may pass; it may have done a part.
    Failed(String),
    /// It answered.
    Final(BridgeError),
}

/// Whether doing it is a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Change,
}

/// When an operation ends, and how long one attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) deadline: Instant,
    attempt: Duration,
}

impl Time {
    pub(super) fn until(deadline: Instant, whole: Duration) -> Self {
        Time {
            deadline,
            attempt: whole / ATTEMPTS_IN_TIME,
        }
    }

    /// When an attempt that begins now ends.
    pub(super) fn attempt_end(&self) -> Instant {
        (Instant::now() + self.attempt).min(self.deadline)
    }
}

/// What is known while an operation is tried.
pub(super) struct Attempts {
    role: Role,
    kind: Kind,
    time: Time,
    made: u32,
    /// Why it is not known whether an earlier attempt did it.
    unknown: Option<String>,
    last: String,
}

impl Attempts {
    pub(super) fn new(role: Role, kind: Kind, time: Time) -> Self {
        Attempts {
            role,
            kind,
            time,
            made: 0,
            unknown: None,
            last: format!("no {role} is known"),
        }
    }

    /// Takes note of a failure, and pauses before the next attempt.
    ///
    /// # Errors
    /// The operation's, if there is to be no other attempt.
    pub(super) async fn failed(&mut self, failure: Failure) -> Result<(), BridgeError> {
        let (reason, asked) = match failure {
            // An attempt before may have been the one that changed it.
            Failure::Final(BridgeError::Conflict(what)) if self.unknown.is_some() => {
                self.unknown = Some(format!("{what}, perhaps by this operation itself"));
                return Err(self.ended());
            }
            Failure::Final(error) => return Err(error),
            Failure::NotSent(reason) => (reason, false),
            Failure::Lost(reason) | Failure::Failed(reason) => (reason, true),
        };
        self.last = reason;
        if !asked {
            // Its health sees to the pause.
            return Ok(());
        }
        if self.kind == Kind::Change {
            self.unknown = Some(self.last.clone());
        }
        self.made += 1;
        let pause = jittered(backoff(PAUSE_MIN, PAUSE_MAX, self.made));
        let next = Instant::now() + pause;
        if self.made >= ATTEMPTS_MAX || next >= self.time.deadline {
            return Err(self.ended());
        }
        sleep_until(next).await;
        Ok(())
    }

    /// The error of an operation that ends without an answer.
    pub(super) fn ended(&mut self) -> BridgeError {
        let role = self.role;
        match self.unknown.take() {
            Some(reason) => BridgeError::Unknown { role, reason },
            None => BridgeError::Unavailable {
                role,
                reason: std::mem::take(&mut self.last),
            },
        }
    }
}

/// Does `ask` with servers of a role until one answers.
pub(super) async fn ask<T>(
    peers: &Peers,
    kind: Kind,
    time: Time,
    ask: impl AsyncFn(&Peer) -> Result<T, Failure>,
) -> Result<T, BridgeError> {
    let mut attempts = Attempts::new(peers.role, kind, time);
    loop {
        let Some(peer) = peers.pick(time.deadline).await else {
            return Err(attempts.ended());
        };
        let asked = timeout_at(time.attempt_end(), ask(&peer)).await;
        let asked = asked.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())));
        note(peers, &peer, &asked);
        match asked {
            Ok(answer) => return Ok(answer),
            Err(failure) => attempts.failed(said_by(&peer, failure)).await?,
        }
    }
}

fn note<T>(peers: &Peers, peer: &Rc<Peer>, asked: &Result<T, Failure>) {
    let was_up = peer.health.is_up();
    match asked {
        Err(Failure::NotSent(_)) => peer.failed(true),
        Err(Failure::Lost(_)) => peer.failed(false),
        Ok(_) | Err(Failure::Failed(_) | Failure::Final(_)) => peer.health.answered(),
    }
    let (role, address) = (peers.role, &peer.address);
    match (was_up, peer.health.is_up()) {
        (true, false) => {
            tracing::warn!(%role, %address, "a server of SeaweedFS does not answer, looking for another and trying again; see whether it runs");
        }
        (false, true) => tracing::info!(%role, %address, "a server of SeaweedFS answers again"),
        _ => {}
    }
    if !was_up {
        peers.notify();
    }
}

fn said_by(peer: &Peer, failure: Failure) -> Failure {
    let of = |reason| format!("{}: {reason}", peer.address);
    match failure {
        Failure::NotSent(reason) => Failure::NotSent(of(reason)),
        Failure::Lost(reason) => Failure::Lost(of(reason)),
        Failure::Failed(reason) => Failure::Failed(of(reason)),
        Failure::Final(error) => Failure::Final(error),
    }
}

/// One call to one server: its path, what is sent and what is answered.
pub(super) async fn unary<Q, A>(
    channel: Channel,
    role: Role,
    path: &'static str,
    request: Q,
) -> Result<A, Failure>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(not_ready)?;
    let codec = ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(request), path, codec).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|s| failure(role, s))
}

pub(super) fn not_ready(error: tonic::transport::Error) -> Failure {
    Failure::NotSent(with_sources(&error))
}

/// What a status says about an attempt. One without a source is the server's own.
pub(super) fn failure(role: Role, status: Status) -> Failure {
    let reason = || status.message().to_owned();
    if let Some(source) = status.source() {
        let reached = !chain(source).any(|e| e.is::<ConnectError>());
        let reason = with_sources(source);
        return match reached {
            true => Failure::Lost(reason),
            false => Failure::NotSent(reason),
        };
    }
    match status.code() {
        Code::NotFound => Failure::Final(BridgeError::NotFound(reason())),
        Code::Unknown if status.message().contains(NO_ENTRY) => {
            Failure::Final(BridgeError::NotFound(reason()))
        }
        Code::FailedPrecondition => Failure::Final(BridgeError::Conflict(reason())),
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange
        | Code::ResourceExhausted => Failure::Final(BridgeError::Refused {
            role,
            reason: format!("{}: {}", status.code(), status.message()),
        }),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Failure::Failed(reason()),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// An error and its causes, each once.
pub(super) fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in chain(error) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}
