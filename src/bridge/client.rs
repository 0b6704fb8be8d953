//! What the bridge's thread has: the servers, and what is kept about them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::{RetryBudget, Time};
use super::http::Http;
use super::peers::{Peers, VolumeServers};
use super::security::Security;
use super::volume::{Places, Volumes};
use super::{BridgeConfig, PeerHealth, Role};
use crate::metrics::seaweedfs::BridgeMetrics;

/// Lives on the bridge's thread.
pub(super) struct Client {
    pub(super) masters: Peers,
    pub(super) filers: Peers,
    pub(super) brokers: Peers,
    pub(super) volume_servers: VolumeServers,
    /// Where volumes are.
    pub(super) volumes: Volumes,
    pub(super) places: Places,
    pub(super) http: Http,
    pub(super) filer_group: String,
    /// Somebody needs a server and there is none.
    pub(super) wanted: Rc<Notify>,
    pub(super) security: Security,
    pub(super) metrics: Arc<BridgeMetrics>,
    deadline: Duration,
}

impl Client {
    pub(super) fn new(config: BridgeConfig, metrics: Arc<BridgeMetrics>) -> Self {
        let wanted = Rc::new(Notify::new());
        let retries = |role| RetryBudget::new(role, metrics.clone());
        let tls = &config.security.tls;
        let peers = |role| Peers::new(retries(role), wanted.clone(), tls.clone());
        let masters = peers(Role::Master);
        masters.update(config.masters);
        Client {
            masters,
            filers: peers(Role::Filer),
            brokers: peers(Role::Broker),
            volume_servers: VolumeServers::new(retries(Role::Volume)),
            volumes: Volumes::default(),
            places: Places::default(),
            http: Http::new(metrics.clone()),
            filer_group: config.filer_group,
            wanted,
            security: config.security,
            metrics,
            deadline: config.deadline,
        }
    }

    /// The time of an operation that ends at `deadline`.
    pub(super) fn time(&self, deadline: Instant) -> Time {
        Time::until(deadline, self.deadline)
    }

    pub(super) fn health(&self) -> Vec<PeerHealth> {
        let grpc = [&self.masters, &self.filers, &self.brokers];
        let mut all: Vec<_> = grpc.into_iter().flat_map(Peers::health).collect();
        all.extend(self.volume_servers.health());
        all
    }
}
