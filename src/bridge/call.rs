//! One operation: a server is picked, asked, and asked again, or another is, until the deadline.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
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
use crate::metrics::seaweedfs::BridgeMetrics;

/// What all operations with one role may spend on trying again: at once, each second, and for each
/// operation. A server that cannot be reached costs nothing here: it rests (`peers.rs`).
const RETRIES_AT_ONCE: f64 = 100.0;
const RETRIES_PER_SECOND: f64 = 20.0;
const RETRIES_PER_OPERATION: f64 = 0.2;
/// Parts of an operation's time that one attempt may take, so that there is time for another server.
const ATTEMPTS_IN_TIME: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// What a filer says, with code "unknown", of an entry that is absent.
const NO_ENTRY: &str = "no entry is found in filer store";
/// What it says so of a volume that no server has. (It is not found, in other words, also if no master
/// could be asked.)
const NO_VOLUME: &str = ": volume id ";

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

impl Failure {
    /// With the server's address.
    pub(super) fn said_by(self, server: &dyn fmt::Display) -> Self {
        let of = |reason| format!("{server}: {reason}");
        match self {
            Failure::NotSent(reason) => Failure::NotSent(of(reason)),
            Failure::Lost(reason) => Failure::Lost(of(reason)),
            Failure::Failed(reason) => Failure::Failed(of(reason)),
            Failure::Final(error) => Failure::Final(error),
        }
    }
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

/// The retries that may yet be made. One that is too many is made later.
pub(super) struct RetryBudget {
    pub(super) role: Role,
    metrics: Arc<BridgeMetrics>,
    left: Cell<f64>,
    at: Cell<Instant>,
}

impl RetryBudget {
    pub(super) fn new(role: Role, metrics: Arc<BridgeMetrics>) -> Self {
        RetryBudget {
            role,
            metrics,
            left: Cell::new(RETRIES_AT_ONCE),
            at: Cell::new(Instant::now()),
        }
    }

    fn add(&self, retries: f64) {
        self.left
            .set((self.left.get() + retries).min(RETRIES_AT_ONCE));
    }

    /// Takes one, and tells how long it is until it is there.
    fn take(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at.replace(now));
        self.add(passed.as_secs_f64() * RETRIES_PER_SECOND);
        let left = self.left.get() - 1.0;
        self.left.set(left);
        Duration::from_secs_f64((-left).max(0.0) / RETRIES_PER_SECOND)
    }
}

/// What is known while an operation is tried.
pub(super) struct Attempts<'a> {
    budget: &'a RetryBudget,
    role: Role,
    kind: Kind,
    time: Time,
    made: u32,
    /// Why it is not known whether an earlier attempt did it.
    unknown: Option<String>,
    last: String,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(budget: &'a RetryBudget, role: Role, kind: Kind, time: Time) -> Self {
        budget.add(RETRIES_PER_OPERATION);
        Attempts {
            budget,
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
        self.budget.metrics.retries[self.role as usize].add(1);
        let pause = jittered(backoff(PAUSE_MIN, PAUSE_MAX, self.made));
        let now = Instant::now();
        let next = now + pause.max(self.budget.take(now));
        if next >= self.time.deadline {
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
    let mut attempts = Attempts::new(&peers.retries, peers.role, kind, time);
    let mut last = None;
    loop {
        let Some(peer) = peers.pick(time.deadline, last.as_ref()).await else {
            return Err(attempts.ended());
        };
        let asked = timeout_at(time.attempt_end(), ask(&peer)).await;
        let asked = asked.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())));
        note(peers, &peer, &asked);
        match asked {
            Ok(answer) => return Ok(answer),
            Err(failure) => attempts.failed(failure.said_by(&peer.address)).await?,
        }
        last = Some(peer);
    }
}

/// Takes note of how a server fares, and says so when it changes.
pub(super) fn note<T>(peers: &Peers, peer: &Rc<Peer>, asked: &Result<T, Failure>) {
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

/// The method of a call's path, as SeaweedFS names it.
pub(super) fn method(path: &'static str) -> &'static str {
    path.rsplit_once('/').map_or(path, |(_, method)| method)
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
    unary_of(Grpc::new(channel), role, path, request).await
}

/// The same with a client of its own limits.
pub(super) async fn unary_of<Q, A>(
    mut grpc: Grpc<Channel>,
    role: Role,
    path: &'static str,
    request: Q,
) -> Result<A, Failure>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
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
        Code::Unknown
            if status.message().contains(NO_ENTRY) || status.message().contains(NO_VOLUME) =>
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_beyond_the_budget_come_later() {
        let budget = RetryBudget::new(Role::Filer, Arc::default());
        let now = budget.at.get();
        let delays: Vec<_> = (0..140).map(|_| budget.take(now).as_secs_f64()).collect();
        assert!(delays[..100].iter().all(|delay| *delay == 0.0));
        assert_eq!((delays[119], delays[139]), (1.0, 2.0));
        // Time and operations that succeed give it back.
        assert_eq!(budget.take(now + Duration::from_secs(3)), Duration::ZERO);
        (0..1000).for_each(|_| budget.add(RETRIES_PER_OPERATION));
        assert_eq!(budget.left.get(), RETRIES_AT_ONCE);
    }

    #[test]
    fn a_conflict_after_a_lost_attempt_may_be_with_oneself() {
        let budget = RetryBudget::new(Role::Filer, Arc::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        let time = Time::until(deadline, Duration::from_secs(60));
        let conflict = || Failure::Final(BridgeError::Conflict("gone".to_owned()));
        let lost = || Failure::Lost("no answer".to_owned());
        let after = async |kind, first: Failure| {
            let mut attempts = Attempts::new(&budget, Role::Filer, kind, time);
            attempts
                .failed(first)
                .await
                .expect("there is time for another");
            attempts
                .failed(conflict())
                .await
                .expect_err("it is an answer")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(async {
            let unknown = after(Kind::Change, lost()).await;
            assert!(
                matches!(unknown, BridgeError::Unknown { .. }),
                "{unknown:?}"
            );
            let known = BridgeError::Conflict("gone".to_owned());
            assert_eq!(after(Kind::Read, lost()).await, known);
            let not_sent = Failure::NotSent("refused".to_owned());
            assert_eq!(after(Kind::Change, not_sent).await, known);
        });
    }
}
