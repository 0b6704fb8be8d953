//! What the admin thread looks at, and whether the gateway is ready.

use std::sync::{Arc, OnceLock};

use shards::{Observer, Remote, ShardStats};

use crate::config::Config;
use crate::gateway::Gateway;
use crate::metrics::ShardMetrics;

/// A shard that has made no round for as many seconds is taken for one that hangs. Less than that
/// happens on a host that is short of CPUs.
const SILENT_SECONDS_MAX: u64 = 5;

/// What is looked at. It is filled while the gateway starts.
pub struct Observed {
    pub config: Config,
    pub shards: Box<[Arc<ShardMetrics>]>,
    running: OnceLock<Running>,
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
        "shard {0} stores nothing any more; the log says why: the disk lost what it was given, or another gateway has taken over"
    )]
    Broken(usize),
    #[error("shard {shard} has made no progress for {seconds} s")]
    Hangs { shard: usize, seconds: u64 },
}

impl Observed {
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Observed {
            config: config.clone(),
            shards: (0..config.shards).map(|_| Arc::default()).collect(),
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

    /// Whether every shard serves and can store.
    pub fn readiness(&self) -> Result<(), NotReady> {
        let running = self.running().ok_or(NotReady::Starting)?;
        if running.observer.is_stopping() {
            return Err(NotReady::Stopping);
        }
        let broken = self.shards.iter().map(|shard| shard.broken.get() != 0);
        of_shards(running.observer.stats().iter().zip(broken))
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
