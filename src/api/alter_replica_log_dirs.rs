//! AlterReplicaLogDirs (34): moves partitions to another log directory of their broker. KIP-113.
//! There is one directory, so that partitions can only stay where they are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use super::describe_log_dirs::log_dir;
use super::{Api, Call, Handled, limits};
use crate::catalog::Catalog;
use crate::wire::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, KEY,
    Request, Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "AlterReplicaLogDirs",
    versions: 1..=2,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let catalog = call.gateway.catalog();
    let topics = request.dirs.iter().flat_map(|dir| &dir.topics);
    let counts = topics.map(|topic| topic.partitions.len());
    if let Some(refusal) = limits::too_many_partitions(&API, counts, &catalog) {
        return Ok(refusal);
    }
    call.answer(&Response {
        results: alter(&catalog, &log_dir(call.gateway.config()), &request.dirs),
        ..Response::default()
    })
}

/// Of a partition that is named more often the last directory counts.
fn alter(
    catalog: &Catalog,
    own: &Path,
    dirs: &[AlterReplicaLogDir],
) -> Vec<AlterReplicaLogDirTopicResult> {
    let mut paths: BTreeMap<(&StrBytes, i32), &StrBytes> = BTreeMap::new();
    for dir in dirs {
        for topic in &dir.topics {
            let partitions = topic.partitions.iter();
            paths.extend(partitions.map(|index| ((&topic.name, *index), &dir.path)));
        }
    }
    let mut results: BTreeMap<&StrBytes, Vec<_>> = BTreeMap::new();
    for ((name, partition_index), path) in paths {
        let exists = catalog
            .by_name(name)
            .is_some_and(|topic| topic.partition(partition_index).is_some());
        let error_code = match (own.as_os_str() == &**path, exists) {
            (false, _) => ErrorCode::LOG_DIR_NOT_FOUND,
            (true, false) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            (true, true) => ErrorCode::NONE,
        };
        let result = AlterReplicaLogDirPartitionResult {
            partition_index,
            error_code,
        };
        match results.entry(name) {
            Entry::Occupied(mut of_topic) => of_topic.get_mut().push(result),
            Entry::Vacant(of_topic) => {
                of_topic.insert(vec![result]);
            }
        }
    }
    let results = results.into_iter();
    let results = results.map(|(name, partitions)| AlterReplicaLogDirTopicResult {
        topic_name: name.clone(),
        partitions,
    });
    results.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Topic;
    use crate::catalog::topic_config::TopicConfig;
    use crate::wire::alter_replica_log_dirs::AlterReplicaLogDirTopic;

    fn dir(path: &'static str, name: &'static str, partitions: &[i32]) -> AlterReplicaLogDir {
        let topic = AlterReplicaLogDirTopic {
            name: name.into(),
            partitions: partitions.to_vec(),
        };
        AlterReplicaLogDir {
            path: path.into(),
            topics: vec![topic],
        }
    }

    /// On a broker with the directory `/data` and a topic `t` of 2 partitions.
    fn codes(dirs: &[AlterReplicaLogDir]) -> Vec<(String, i32, i16)> {
        let topic = Topic::new(&"t".into(), 2, TopicConfig::default()).expect("an id");
        let results = alter(&Catalog::from_iter([topic]), Path::new("/data"), dirs);
        let partitions = results.iter().flat_map(|topic| {
            let name = topic.topic_name.to_string();
            let code = move |p: &AlterReplicaLogDirPartitionResult| {
                (name.clone(), p.partition_index, p.error_code.0)
            };
            topic.partitions.iter().map(code)
        });
        partitions.collect()
    }

    #[test]
    fn partitions_stay_and_no_other_directory_is_found() {
        let told = codes(&[dir("/data", "t", &[0, 9]), dir("/other", "t", &[1])]);
        let t = |index, code| ("t".to_owned(), index, code);
        assert_eq!(told, [t(0, 0), t(1, 57), t(9, 3)]);
        for path in ["", "data", "/data/", "/other"] {
            let told = codes(&[dir(path, "nope", &[0])]);
            assert_eq!(told, [("nope".to_owned(), 0, 57)], "{path}");
        }
    }

    #[test]
    fn the_last_directory_of_a_partition_counts() {
        let told = codes(&[dir("/data", "t", &[0, 0]), dir("/other", "t", &[0])]);
        assert_eq!(told, [("t".to_owned(), 0, 57)]);
    }
}
