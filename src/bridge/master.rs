//! What is asked of masters of the whole cluster (`weed/pb/master.proto`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::call::{Kind, Time, ask, method, unary};
use super::client::Client;
use super::peers::Peer;
use super::proto::filer_pb::{GetFilerConfigurationRequest, GetFilerConfigurationResponse};
use super::proto::master_pb::list_cluster_nodes_response::ClusterNode;
use super::proto::master_pb::{
    DiskInfo, GetMasterConfigurationRequest, GetMasterConfigurationResponse, VolumeListRequest,
    VolumeListResponse,
};
use super::thread::Bridge;
use super::{BridgeError, Role};

const VOLUME_LIST: &str = "/master_pb.Seaweed/VolumeList";
const CONFIGURATION: &str = "/master_pb.Seaweed/GetMasterConfiguration";
const FILER_CONFIGURATION: &str = "/filer_pb.SeaweedFiler/GetFilerConfiguration";

/// A filer or broker that a master knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    pub address: String,
    pub version: String,
}

/// Volumes of one kind of disk, on all volume servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Volumes that may be.
    pub max: i64,
    /// Those that may yet be made.
    pub free: i64,
    pub size_mib: u64,
}

impl Bridge {
    /// The servers of a role (filers or brokers) in the filer group: what any master knows, as those that
    /// do not lead may know of nobody.
    pub async fn nodes(&self, role: Role) -> Result<Vec<Node>, BridgeError> {
        let operation = async move |client: Rc<Client>, _: Time| {
            let (mut found, mut failed, mut answered) = (Vec::new(), String::new(), false);
            for master in client.masters.all() {
                match client.nodes(&master, role.name()).await {
                    Ok(nodes) => {
                        answered = true;
                        found.extend(nodes);
                    }
                    Err(reason) => failed = format!("{}: {reason}", master.address),
                }
            }
            match answered {
                true => Ok(found),
                false => Err(BridgeError::Unavailable {
                    role: Role::Master,
                    reason: failed,
                }),
            }
        };
        let nodes = self.run("ListClusterNodes", 0, operation).await?;
        let node = |node: ClusterNode| Node {
            address: node.address,
            version: node.version,
        };
        let mut nodes: Vec<_> = nodes.into_iter().map(node).collect();
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// How volumes are copied, as "001", where nobody says it: as the filer has it, or else the masters.
    pub async fn default_replication(&self) -> Result<String, BridgeError> {
        let operation = async |client: Rc<Client>, time| {
            let request = GetFilerConfigurationRequest {};
            let asked =
                client.ask_filer(Kind::Read, time, FILER_CONFIGURATION, &request, &|_| Ok(()));
            let of_filer: GetFilerConfigurationResponse = asked.await?;
            if !of_filer.replication.is_empty() {
                return Ok(of_filer.replication);
            }
            let once = async |peer: &Peer| {
                let request = GetMasterConfigurationRequest {};
                unary(peer.channel(), Role::Master, CONFIGURATION, request).await
            };
            let asked = ask(&client.masters, Kind::Read, time, once);
            let of_master: GetMasterConfigurationResponse = asked.await?;
            Ok(of_master.default_replication)
        };
        self.run(method(CONFIGURATION), 0, operation).await
    }

    /// Room for volumes, by kind of disk; the usual kind has no name or `hdd`.
    pub async fn room(&self) -> Result<BTreeMap<String, Room>, BridgeError> {
        let operation = async |client: Rc<Client>, time| {
            let once = async |peer: &Peer| {
                let request = VolumeListRequest {};
                unary(peer.channel(), Role::Master, VOLUME_LIST, request).await
            };
            ask(&client.masters, Kind::Read, time, once).await
        };
        let answer: VolumeListResponse = self.run(method(VOLUME_LIST), 0, operation).await?;
        let size_mib = answer.volume_size_limit_mb;
        let disks = answer.topology_info.unwrap_or_default().disk_infos;
        let room = |(kind, disk): (String, DiskInfo)| {
            let room = Room {
                max: disk.max_volume_count,
                free: disk.free_volume_count,
                size_mib,
            };
            (kind, room)
        };
        Ok(disks.into_iter().map(room).collect())
    }
}
