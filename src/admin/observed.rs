//! What the admin thread looks at, and whether the gateway is ready.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shards::{Observer, Remote, ShardStats};

use crate::bridge::{Bridge, PeerHealth, Role};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::metrics::ShardMetrics;
use crate::metrics::seaweedfs::StoreMetrics;
use crate::partition::owner::now_ms;

/// A shard that has made no round for as many seconds is taken for one that hangs. Less than that
/// happens on a host that is short of CPUs.
const SILENT_SECONDS_MAX: u64 = 5;

/// How long the thread that speaks with SeaweedFS may take to say how it fares.
const BRIDGE_PATIENCE: Duration = Duration::from_secs(1);

/// What is looked at. It is filled while the gateway starts.
pub struct Observed {
    pub config: Config,
    pub shards: Box<[Arc<ShardMetrics>]>,
    seaweedfs: OnceLock<SeaweedFs>,
    running: OnceLock<Running>,
}

/// The store, where it is in SeaweedFS.
pub struct SeaweedFs {
    pub bridge: Bridge,
    pub store: Arc<StoreMetrics>,
}

/// The shards, once all of them serve.
pub struct Running {
    pub observer: Observer,
    pub remote: Remote<Gateway>,
}

/// Why the gateway is not ready, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("starting")]
    Starting,
    #[error("stopping")]
    Stopping,
    #[error(
        "another gateway has taken the store over; this one serves nothing any more and does not take it back: stop it"
    )]
    Fenced,
    #[error(
        "shard {0} stores nothing any more; the log says why: the disk or the filer lost what it was given, or a bug"
    )]
    Broken(usize),
    #[error("no {0} of SeaweedFS answers: see whether it runs, and --seaweedfs-masters")]
    NoServer(Role),
    #[error("the thread that speaks with SeaweedFS does not answer")]
    BridgeHangs,
    #[error("shard {shard} has made no progress for {seconds} s")]
    Hangs { shard: usize, seconds: u64 },
}

impl Observed {
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Observed {
            config: config.clone(),
            shards: (0..config.shards).map(|_| Arc::default()).collect(),
            seaweedfs: OnceLock::new(),
            running: OnceLock::new(),
        })
    }

    /// All shards serve from now on.
    pub fn runs(&self, running: Running) {
        // It is said once.
        let _ = self.running.set(running);
    }

    pub fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// Topics are in SeaweedFS.
    pub fn is_in(&self, seaweedfs: SeaweedFs) {
        // It is said once.
        let _ = self.seaweedfs.set(seaweedfs);
    }

    pub fn seaweedfs(&self) -> Option<&SeaweedFs> {
        self.seaweedfs.get()
    }

    /// The servers of SeaweedFS that are known; none where topics are on this machine.
    pub async fn peers(&self) -> Result<Vec<PeerHealth>, NotReady> {
        let Some(of) = self.seaweedfs() else {
            return Ok(Vec::new());
        };
        let told = tokio::time::timeout(BRIDGE_PATIENCE, of.bridge.peers()).await;
        told.ok().and_then(Result::ok).ok_or(NotReady::BridgeHangs)
    }

    /// Whether every shard serves and can store, and how the store is, for people: whole lines.
    pub async fn state(&self) -> (Result<(), NotReady>, String) {
        let peers = self.peers().await;
        let told = match (&peers, self.seaweedfs()) {
            (Ok(peers), Some(_)) => self.store_told(peers),
            _ => String::new(),
        };
        let of_store = || match (peers, self.seaweedfs()) {
            (Ok(peers), Some(_)) => of_peers(&peers),
            (peers, _) => peers.map(drop),
        };
        (self.readiness().and_then(|()| of_store()), told)
    }

    fn readiness(&self) -> Result<(), NotReady> {
        let running = self.running().ok_or(NotReady::Starting)?;
        if running.observer.is_stopping() {
            return Err(NotReady::Stopping);
        }
        if self.shards.iter().any(|shard| shard.fenced.get() != 0) {
            return Err(NotReady::Fenced);
        }
        let broken = self.shards.iter().map(|shard| shard.broken.get() != 0);
        of_shards(running.observer.stats().iter().zip(broken))
    }

    /// How the store in SeaweedFS is.
    fn store_told(&self, peers: &[PeerHealth]) -> String {
        let mut told = String::new();
        for role in [Role::Master, Role::Filer, Role::Broker, Role::Volume] {
            let all = peers.iter().filter(|peer| peer.role == role);
            let one = |peer: &PeerHealth| match peer.up {
                true => peer.address.clone(),
                false => format!("{} (does not answer)", peer.address),
            };
            let all: Vec<_> = all.map(one).collect();
            let all = match all.is_empty() {
                true => "none known".to_owned(),
                false => all.join(", "),
            };
            // Writing to a `String` cannot fail.
            let _ = writeln!(told, "{role}: {all}");
        }
        let last = self.shards.iter().map(|shard| shard.last_commit_ms.get());
        let _ = match last.max().filter(|ms| *ms > 0) {
            Some(ms) => {
                let ago = now_ms().saturating_sub_unsigned(ms).max(0);
                writeln!(told, "last commit: {:.1} s ago", ago as f64 / 1e3)
            }
            None => writeln!(told, "last commit: none since the start"),
        };
        let unreadable = self.shards.iter().map(|s| s.unreadable_partitions.get());
        let unreadable: u64 = unreadable.sum();
        if unreadable > 0 {
            let _ = writeln!(told, "partitions that cannot be read: {unreadable}");
        }
        let away = self.shards.iter().map(|s| s.away_partitions.get());
        let away: u64 = away.sum();
        if away > 0 {
            let _ = writeln!(told, "partitions that wait for a volume server: {away}");
        }
        told
    }
}

/// Of a store in SeaweedFS: whether there is somebody to commit to.
fn of_peers(peers: &[PeerHealth]) -> Result<(), NotReady> {
    match PeerHealth::lacking(peers) {
        Some(role) => Err(NotReady::NoServer(role)),
        None => Ok(()),
    }
}

/// Of shards that run: their statistics, and whether they are broken.
fn of_shards<'a>(shards: impl Iterator<Item = (&'a ShardStats, bool)>) -> Result<(), NotReady> {
    for (shard, (stats, broken)) in shards.enumerate() {
        if broken {
            return Err(NotReady::Broken(shard));
        }
        if stats.silent >= SILENT_SECONDS_MAX {
            let seconds = stats.silent;
            return Err(NotReady::Hangs { shard, seconds });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(seconds: u64) -> ShardStats {
        let mut stats = ShardStats::default();
        stats.silent = seconds;
        stats
    }

    #[test]
    fn nothing_is_ready_before_all_shards_serve() {
        let host = crate::config::Host {
            cpus: 2,
            name: "gate".to_owned(),
        };
        let config = crate::config::resolve(&[], &host).expect("defaults").config;
        assert_eq!(Observed::new(&config).readiness(), Err(NotReady::Starting));
    }

    #[test]
    fn a_store_in_seaweedfs_needs_a_filer_and_of_volume_servers_one_that_answers() {
        let peer = |role, up| PeerHealth {
            role,
            address: String::new(),
            up,
            failures: 0,
        };
        let (filer, volume) = (Role::Filer, Role::Volume);
        let no = |role| Err(NotReady::NoServer(role));
        assert_eq!(of_peers(&[peer(Role::Broker, true)]), no(filer));
        assert_eq!(of_peers(&[peer(filer, false)]), no(filer));
        let filers = [peer(filer, false), peer(filer, true)];
        assert_eq!(of_peers(&filers), Ok(()));
        let all = |up| [&filers[..], &[peer(volume, false), peer(volume, up)]].concat();
        assert_eq!(of_peers(&all(false)), no(volume));
        assert_eq!(of_peers(&all(true)), Ok(()));
    }

    #[test]
    fn one_shard_that_hangs_or_is_broken_is_enough() {
        let (well, late, hangs) = (silent(0), silent(4), silent(5));
        let of = |shards: [(&ShardStats, bool); 2]| of_shards(shards.into_iter());
        assert_eq!(of([(&well, false), (&late, false)]), Ok(()));
        assert_eq!(
            of([(&well, false), (&well, true)]),
            Err(NotReady::Broken(1))
        );
        let expected = NotReady::Hangs {
            shard: 0,
            seconds: 5,
        };
        assert_eq!(of([(&hangs, false), (&well, false)]), Err(expected));
    }
}
