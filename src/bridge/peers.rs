//! The servers of one role, and how each fares.
//!
//! A server that fails rests, longer each time, and then one operation tries it for all: an outage
//! costs a server one attempt at a time, however many operations wait for its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint};

use super::address::ServerAddress;
use super::call::RetryBudget;
use super::security::Tls;
use super::{PeerHealth, Role};

/// Attempts that may get no answer, one after the other, before a server rests.
const LOST_MAX: u32 = 3;
const REST_MIN: Duration = Duration::from_millis(50);
const REST_MAX: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// SeaweedFS closes connections that are pinged more often than every 20 seconds.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How one server fares.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Since it last answered.
    failures: Cell<u32>,
    rests_until: Cell<Option<Instant>>,
    /// One operation tries whether it is back.
    on_trial: Cell<bool>,
}

impl Health {
    pub(super) fn is_up(&self) -> bool {
        self.rests_until.get().is_none()
    }

    pub(super) fn answered(&self) {
        self.failures.set(0);
        self.rests_until.set(None);
        self.on_trial.set(false);
    }

    /// It gave no answer. `surely`: it cannot be reached at all.
    pub(super) fn failed(&self, surely: bool) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        self.on_trial.set(false);
        if surely || failures >= LOST_MAX || !self.is_up() {
            let rest = jittered(backoff(REST_MIN, REST_MAX, failures));
            self.rests_until.set(Some(Instant::now() + rest));
        }
    }

    /// Whether it may be used now. If it has rested, this operation is the one that tries it.
    pub(super) fn admits(&self) -> bool {
        let now = Instant::now();
        let admitted = self.usable_at(now).is_some_and(|at| at <= now);
        self.on_trial
            .set(self.on_trial.get() || (admitted && !self.is_up()));
        admitted
    }

    /// When it may be used; `None` while another operation tries it.
    fn usable_at(&self, now: Instant) -> Option<Instant> {
        match self.rests_until.get() {
            None => Some(now),
            Some(_) if self.on_trial.get() => None,
            Some(at) => Some(at),
        }
    }

    fn told(&self, role: Role, address: String) -> PeerHealth {
        PeerHealth {
            role,
            address,
            up: self.is_up(),
            failures: self.failures.get(),
        }
    }
}

/// `min * 2^(times - 1)`, at most `max`.
pub(super) fn backoff(min: Duration, max: Duration, times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    min.saturating_mul(1 << doublings).min(max)
}

/// Half of it to all of it, so that those who failed together do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// A server that speaks gRPC.
pub(super) struct Peer {
    pub(super) address: ServerAddress,
    pub(super) health: Health,
    endpoint: Endpoint,
    channel: RefCell<Channel>,
}

impl Peer {
    fn new(address: ServerAddress, tls: Option<&Tls>) -> Result<Self, tonic::transport::Error> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", address.grpc()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let endpoint = match tls {
            Some(tls) => tls.secure(endpoint)?,
            None => endpoint,
        };
        Ok(Peer {
            address,
            health: Health::default(),
            channel: RefCell::new(endpoint.connect_lazy()),
            endpoint,
        })
    }

    /// The connection, which is made when it is used.
    pub(super) fn channel(&self) -> Channel {
        self.channel.borrow().clone()
    }

    /// Notes that it gave no answer. A connection on which nothing comes back is left.
    pub(super) fn failed(&self, surely: bool) {
        self.health.failed(surely);
        if !self.health.is_up() {
            self.channel.replace(self.endpoint.connect_lazy());
        }
    }
}

/// The servers of one role.
pub(super) struct Peers {
    pub(super) role: Role,
    /// By address: all gateways prefer the same server while it is well, so what one wrote there the
    /// others read there.
    peers: RefCell<Vec<Rc<Peer>>>,
    /// Which there are, or how one fares.
    changed: Notify,
    /// Somebody needs a server and there is none.
    wanted: Rc<Notify>,
    pub(super) retries: RetryBudget,
    tls: Option<Tls>,
}

impl Peers {
    pub(super) fn new(retries: RetryBudget, wanted: Rc<Notify>, tls: Option<Tls>) -> Self {
        Peers {
            role: retries.role,
            tls,
            peers: RefCell::default(),
            changed: Notify::new(),
            wanted,
            retries,
        }
    }

    /// Takes what was found: those that are new are added, and those that are gone are left. Whether
    /// anything changed.
    pub(super) fn update(&self, mut found: Vec<ServerAddress>) -> bool {
        found.sort();
        found.dedup();
        let old = self.peers.take();
        let known = |address: &ServerAddress| old.iter().find(|p| p.address == *address).cloned();
        let peers = found
            .into_iter()
            .filter_map(|address| match known(&address) {
                Some(peer) => Some(peer),
                None => Peer::new(address, self.tls.as_ref()).ok().map(Rc::new),
            });
        let peers: Vec<_> = peers.collect();
        let same = |(a, b): (&Rc<Peer>, &Rc<Peer>)| Rc::ptr_eq(a, b);
        let changed = old.len() != peers.len() || !old.iter().zip(&peers).all(same);
        self.peers.replace(peers);
        if changed {
            self.changed.notify_waiters();
        }
        changed
    }

    /// Those that are in use now.
    pub(super) fn all(&self) -> Vec<Rc<Peer>> {
        self.peers.borrow().clone()
    }

    pub(super) fn health(&self) -> Vec<PeerHealth> {
        let peers = self.peers.borrow();
        let told = |p: &Rc<Peer>| p.health.told(self.role, p.address.to_string());
        peers.iter().map(told).collect()
    }

    /// Tells those that wait to look again.
    pub(super) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// The server to use, as soon as there is one, and not the one to `avoid` if there is another;
    /// `None` if there is none until `deadline`. Its health must be told what came of it.
    pub(super) async fn pick(
        &self,
        deadline: Instant,
        avoid: Option<&Rc<Peer>>,
    ) -> Option<Rc<Peer>> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            let wake = match self.usable(now, avoid) {
                Ok(peer) => return Some(peer),
                Err(at) => at.map_or(deadline, |at| at.min(deadline)),
            };
            self.wanted.notify_one();
            let _ = timeout_at(wake, changed).await;
        }
    }

    /// The first that is up, else the first that has rested, else when to ask again.
    fn usable(&self, now: Instant, avoid: Option<&Rc<Peer>>) -> Result<Rc<Peer>, Option<Instant>> {
        let peers = self.peers.borrow();
        let up = || peers.iter().filter(|peer| peer.health.is_up());
        let other = |peer: &&Rc<Peer>| !avoid.is_some_and(|avoid| Rc::ptr_eq(peer, avoid));
        if let Some(peer) = up().find(other).or_else(|| up().next()) {
            return Ok(peer.clone());
        }
        let rested = |p: &&Rc<Peer>| p.health.usable_at(now).is_some_and(|at| at <= now);
        if let Some(peer) = peers.iter().find(rested) {
            peer.health.on_trial.set(true);
            return Ok(peer.clone());
        }
        Err(peers.iter().filter_map(|p| p.health.usable_at(now)).min())
    }
}

/// Requests to one volume server at a time; more wait.
const REQUESTS_MAX: usize = 64;

/// A server that speaks HTTP.
pub(super) struct HttpServer {
    /// `host:port`
    pub(super) address: String,
    pub(super) health: Health,
    pub(super) slots: Semaphore,
}

impl HttpServer {
    pub(super) fn new(address: &str) -> Self {
        HttpServer {
            address: address.to_owned(),
            health: Health::default(),
            slots: Semaphore::new(REQUESTS_MAX),
        }
    }
}

/// A volume server that failed as often since it last answered is taken for one that is no more: after
/// some minutes, as it is asked every few seconds.
const FAILURES_MAX: u32 = 100;

/// The volume servers that were met.
pub(super) struct VolumeServers {
    servers: RefCell<Vec<Rc<HttpServer>>>,
    pub(super) retries: RetryBudget,
}

/// More are forgotten, the oldest first.
const VOLUME_SERVERS_MAX: usize = 1024;

impl VolumeServers {
    pub(super) fn new(retries: RetryBudget) -> Self {
        VolumeServers {
            servers: RefCell::default(),
            retries,
        }
    }

    /// Those that were met, and that rest now. One that is away for long is forgotten.
    pub(super) fn resting(&self) -> Vec<Rc<HttpServer>> {
        let mut servers = self.servers.borrow_mut();
        servers.retain(|server| server.health.failures.get() < FAILURES_MAX);
        let resting = servers.iter().filter(|server| !server.health.is_up());
        resting.cloned().collect()
    }

    pub(super) fn at(&self, address: &str) -> Rc<HttpServer> {
        let mut servers = self.servers.borrow_mut();
        if let Some(server) = servers.iter().find(|s| s.address == address) {
            return server.clone();
        }
        if servers.len() >= VOLUME_SERVERS_MAX {
            servers.remove(0);
        }
        let server = Rc::new(HttpServer::new(address));
        servers.push(server.clone());
        server
    }

    pub(super) fn health(&self) -> Vec<PeerHealth> {
        let servers = self.servers.borrow();
        let told = |s: &Rc<HttpServer>| s.health.told(Role::Volume, s.address.clone());
        servers.iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn rests_double_up_to_their_limit() {
        let of = |times| backoff(REST_MIN, REST_MAX, times).as_millis();
        assert_eq!([1, 2, 3, 5, 6, 99].map(of), [50, 100, 200, 800, 1000, 1000]);
        let pause = Duration::from_millis(100);
        assert!((50..=100).contains(&jittered(pause).as_millis()));
    }

    #[test]
    fn a_server_rests_at_once_when_unreachable_and_after_some_lost_answers() {
        let health = Health::default();
        health.failed(false);
        health.failed(false);
        assert!(health.is_up());
        health.failed(false);
        assert!(!health.is_up());
        health.answered();
        assert!(health.is_up());
        health.failed(true);
        assert!(!health.is_up());
    }

    #[test]
    fn one_operation_tries_a_server_that_rested() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(try_rested());
    }

    async fn try_rested() {
        let peers = Peers::new(
            RetryBudget::new(Role::Filer, Arc::default()),
            Rc::default(),
            None,
        );
        let soon = || Instant::now() + Duration::from_millis(300);
        assert!(peers.pick(soon(), None).await.is_none());
        let address = |port| ServerAddress::of_broker(&format!("127.0.0.1:{port}"));
        let found = vec![address(2).expect("valid"), address(1).expect("valid")];
        assert!(peers.update(found.clone()) && !peers.update(found));
        let [first, second] = peers.all().try_into().ok().expect("two");
        assert!(Rc::ptr_eq(
            &peers.pick(soon(), None).await.expect("one"),
            &first
        ));
        let other = peers.pick(soon(), Some(&first)).await.expect("one");
        assert!(Rc::ptr_eq(&other, &second));
        first.failed(true);
        let only = peers.pick(soon(), Some(&second)).await.expect("one");
        assert!(Rc::ptr_eq(&only, &second));
        assert!(Rc::ptr_eq(
            &peers.pick(soon(), None).await.expect("one"),
            &second
        ));
        second.failed(true);
        let tried = peers.pick(soon(), None).await.expect("one has rested");
        let other = peers
            .pick(soon(), None)
            .await
            .expect("the other has rested");
        assert!(!Rc::ptr_eq(&tried, &other));
        assert!(
            peers.pick(soon(), None).await.is_none(),
            "both are being tried"
        );
        tried.health.answered();
        peers.notify();
        assert!(Rc::ptr_eq(
            &peers.pick(soon(), None).await.expect("one"),
            &tried
        ));
    }
}
