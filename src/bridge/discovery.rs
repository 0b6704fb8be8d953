//! Which filers and brokers there are, asked of the masters (`ListClusterNodes`).

use std::convert::Infallible;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use hyper::Request;
use shards::log_limited;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Role;
use super::address::{AddressError, ServerAddress};
use super::call::{Failure, note, unary};
use super::client::Client;
use super::http::{Rope, WORDS_MAX};
use super::peers::{Peer, Peers};
use super::proto::master_pb::list_cluster_nodes_response::ClusterNode;
use super::proto::master_pb::{ListClusterNodesRequest, ListClusterNodesResponse};

/// The standard question (gRPC health checking protocol), with an empty message.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
const LIST_CLUSTER_NODES: &str = "/master_pb.Seaweed/ListClusterNodes";
/// How long what was found is good for.
const EVERY: Duration = Duration::from_secs(3);
/// Between two looks while somebody waits for a server.
const PAUSE: Duration = Duration::from_millis(250);
/// A master that takes longer is passed over this time.
const MASTER_TIMEOUT: Duration = Duration::from_secs(2);

impl Client {
    /// Looks for servers, again and again; sooner when there is none that can be used.
    pub(super) async fn keep_finding(self: Rc<Self>) -> Infallible {
        loop {
            let next = Instant::now() + EVERY;
            self.find().await;
            self.revive(&self.filers).await;
            self.revive(&self.brokers).await;
            self.revive_volume_servers().await;
            sleep(PAUSE).await;
            let _ = timeout_at(next, self.wanted.notified()).await;
        }
    }

    async fn find(&self) {
        self.find_role(&self.filers, "filer", FromStr::from_str)
            .await;
        self.find_role(&self.brokers, "broker", ServerAddress::of_broker)
            .await;
    }

    /// What any master knows: those that do not lead may know of nobody. If all know of nobody, those
    /// that were known are kept; whether they are there shows when they are asked.
    async fn find_role(
        &self,
        peers: &Peers,
        client_type: &'static str,
        parse: fn(&str) -> Result<ServerAddress, AddressError>,
    ) {
        let mut found = Vec::new();
        let mut answered = false;
        for master in self.masters.all() {
            match self.nodes(&master, client_type).await {
                Ok(nodes) => {
                    answered = true;
                    found.extend(nodes);
                }
                Err(reason) => {
                    log_limited!(warn, master = %master.address, %reason, "a master of SeaweedFS does not answer; see whether it runs, and --master");
                }
            }
        }
        if !answered {
            return;
        }
        let found = found.iter().filter_map(|node: &ClusterNode| {
            let parsed = parse(&node.address);
            if let Err(error) = &parsed {
                log_limited!(warn, %error, "a master of SeaweedFS told of a server with an address that is none");
            }
            parsed.ok()
        });
        let found: Vec<_> = found.collect();
        if found.is_empty() {
            log_limited!(
                warn,
                "the masters of SeaweedFS know of no {client_type} in this filer group; start one"
            );
        } else if peers.update(found) {
            let known: Vec<_> = peers.all().iter().map(|p| p.address.to_string()).collect();
            tracing::info!(
                role = client_type,
                servers = known.join(","),
                "found servers of SeaweedFS"
            );
        }
    }

    /// Sees whether servers that failed are back, while operations go to others.
    async fn revive(&self, peers: &Peers) {
        for peer in peers.all().iter().filter(|peer| !peer.health.is_up()) {
            let asked = unary(
                peer.channel(),
                peers.role,
                HEALTH,
                ListClusterNodesRequest::default(),
            );
            let asked: Result<Result<ListClusterNodesResponse, _>, _> =
                timeout(HEALTH_TIMEOUT, asked).await;
            // That it does not know this method is an answer too.
            if let Ok(Ok(_) | Err(Failure::Failed(_) | Failure::Final(_))) = asked {
                note(peers, peer, &Ok(()));
            }
        }
    }

    /// The same of volume servers.
    async fn revive_volume_servers(&self) {
        for server in self.volume_servers.resting() {
            let asked = Request::get(format!("http://{}/healthz", server.address));
            let end = Instant::now() + HEALTH_TIMEOUT;
            // Its health is told what came of it, and whatever it answers, it is there.
            let asked = asked.body(Rope::default());
            let _ = self.http.converse(&server, end, asked, WORDS_MAX).await;
        }
    }

    pub(super) async fn nodes(
        &self,
        master: &Rc<Peer>,
        client_type: &str,
    ) -> Result<Vec<ClusterNode>, String> {
        let request = ListClusterNodesRequest {
            client_type: client_type.to_owned(),
            filer_group: self.filer_group.clone(),
            limit: 0,
        };
        let asked = unary(master.channel(), Role::Master, LIST_CLUSTER_NODES, request);
        let asked = timeout(MASTER_TIMEOUT, asked).await;
        let answer: Result<ListClusterNodesResponse, _> =
            asked.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())));
        match answer {
            Ok(answer) => {
                master.health.answered();
                Ok(answer.cluster_nodes)
            }
            Err(failure) => {
                let surely = matches!(failure, Failure::NotSent(_));
                master.failed(surely);
                Err(match failure {
                    Failure::NotSent(reason) | Failure::Lost(reason) | Failure::Failed(reason) => {
                        reason
                    }
                    Failure::Final(error) => error.to_string(),
                })
            }
        }
    }
}
