//! DescribeLogDirs (35): what partitions take on the disk, and how large it is. KIP-113, KIP-827 (the
//! volume), KIP-1066 (directories that get no more partitions; there are none).
//!
//! The one log directory is the data folder. A broker tells the partitions that it leads, so that the
//! answers of all brokers add up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Api, Call, Handled, owners};
use crate::catalog::{Catalog, Topic};
use crate::config::Config;
use crate::gateway::{Gateway, Reply, Request as ShardRequest};
use crate::wire::StrBytes;
use crate::wire::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    KEY, Request, Response,
};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeLogDirs",
    versions: 1..=5,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(async move |call| Response {
        results: vec![describe(&call.gateway, request.topics.as_deref()).await],
        ..Response::default()
    })
}

/// The data folder as clients know it.
pub(super) fn log_dir(config: &Config) -> PathBuf {
    let dir = &config.data_dir;
    std::path::absolute(dir).unwrap_or_else(|_| dir.clone())
}

async fn describe(
    gateway: &Gateway,
    asked: Option<&[DescribableLogDirTopic]>,
) -> DescribeLogDirsResult {
    let catalog = gateway.catalog();
    let dir = log_dir(gateway.config());
    let log_dir = dir.to_string_lossy().into_owned().into();
    // A file system may be slow to tell.
    let volume = gateway.shard().blocking(move || volume(&dir));
    let topics = sizes(gateway, wanted(&catalog, asked)).await;
    let (total_bytes, usable_bytes) = volume.await.ok().flatten().unwrap_or((-1, -1));
    DescribeLogDirsResult {
        log_dir,
        topics,
        total_bytes,
        usable_bytes,
        ..DescribeLogDirsResult::default()
    }
}

/// The partitions asked for that there are, by their topics' names.
fn wanted<'a>(
    catalog: &'a Catalog,
    asked: Option<&[DescribableLogDirTopic]>,
) -> BTreeMap<&'a StrBytes, (&'a Topic, BTreeSet<i32>)> {
    let mut wanted = BTreeMap::new();
    let Some(asked) = asked else {
        let all = catalog.topics().map(|topic| {
            let partitions = (0..topic.partitions).collect();
            (&topic.name, (&**topic, partitions))
        });
        return all.collect();
    };
    for of in asked {
        if let Some(topic) = catalog.by_name(&of.topic) {
            let (_, partitions) = wanted
                .entry(&topic.name)
                .or_insert_with(|| (&**topic, BTreeSet::new()));
            let there = |index: &i32| topic.partition(*index).is_some();
            partitions.extend(of.partitions.iter().copied().filter(there));
        }
    }
    wanted
}

/// What those of the partitions take that this broker leads. Those whose owner does not answer are
/// left out.
async fn sizes(
    gateway: &Gateway,
    wanted: BTreeMap<&StrBytes, (&Topic, BTreeSet<i32>)>,
) -> Vec<DescribeLogDirsTopic> {
    let ids = wanted.values().flat_map(|(topic, partitions)| {
        let partitions = partitions.iter();
        partitions.filter_map(|index| topic.partition(*index))
    });
    let ids = ids.filter(|id| gateway.leader(*id) == gateway.broker_id());
    let ids: Vec<_> = ids.collect();
    let sizes = |reply| match reply {
        Reply::Sizes(sizes) => Some(sizes),
        _ => None,
    };
    let asked = ids.iter().copied();
    let sizes = owners::ask(gateway, asked, |id| *id, ShardRequest::Sizes, sizes).await;
    let mut found = BTreeMap::new();
    for (id, size) in ids.into_iter().zip(sizes) {
        if let Some(size) = size {
            let of_topic: &mut Vec<_> = found.entry(id.topic).or_default();
            of_topic.push(partition(id.index, size));
        }
    }
    let topics = wanted.into_iter().filter_map(|(name, (topic, _))| {
        Some(DescribeLogDirsTopic {
            name: name.clone(),
            partitions: found.remove(&topic.id)?,
        })
    });
    topics.collect()
}

fn partition(partition_index: i32, size: u64) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition {
        partition_index,
        partition_size: signed(size),
        ..DescribeLogDirsPartition::default()
    }
}

/// Total and usable bytes of the volume. Blocking.
fn volume(dir: &Path) -> Option<(i64, i64)> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let bytes = |blocks: u64| signed(blocks.saturating_mul(stat.f_frsize));
    Some((bytes(stat.f_blocks), bytes(stat.f_bavail)))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::topic_config::TopicConfig;

    /// As `topic partitions`, of a catalog with a topic `a` of 2 partitions and a topic `t` of 3.
    fn wanted_of(asked: Option<&[(&'static str, &[i32])]>) -> Vec<String> {
        let topic = |(name, partitions): (&'static str, i32)| {
            Topic::new(&name.into(), partitions, TopicConfig::default()).expect("an id")
        };
        let catalog = Catalog::from_iter([("t", 3), ("a", 2)].map(topic));
        let asked = asked.map(|asked| {
            let of = |(name, partitions): &(&'static str, &[i32])| DescribableLogDirTopic {
                topic: (*name).into(),
                partitions: partitions.to_vec(),
            };
            asked.iter().map(of).collect::<Vec<_>>()
        });
        let wanted = wanted(&catalog, asked.as_deref()).into_iter();
        let said = wanted.map(|(name, (_, partitions))| format!("{} {partitions:?}", &**name));
        said.collect()
    }

    #[test]
    fn null_asks_for_all_partitions_and_empty_for_none() {
        assert_eq!(wanted_of(None), ["a {0, 1}", "t {0, 1, 2}"]);
        assert!(wanted_of(Some(&[])).is_empty());
    }

    #[test]
    fn partitions_that_there_are_are_told_once() {
        let asked = [("t", &[2, 0, 2, 9, -1][..]), ("nope", &[0]), ("t", &[1, 0])];
        assert_eq!(wanted_of(Some(&asked)), ["t {0, 1, 2}"]);
    }

    #[test]
    fn a_volume_has_a_size_where_there_is_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let (total, usable) = volume(folder.path()).expect("a size");
        assert!(total > 0 && (0..=total).contains(&usable));
        assert_eq!(volume(&folder.path().join("nope")), None);
    }
}
