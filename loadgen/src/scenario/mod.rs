//! What can be measured: one file for each scenario. Here is what they have in common: the topic, and
//! the threads.

mod consume;
mod e2e;
mod produce;
mod threads;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{Cluster, Error, RETRY_BACKOFF, Topic};
use crate::options::{Options, Scenario};
use crate::report::Report;
use crate::run::Run;

/// Partitions of a topic that is created, if nothing else is said.
const DEFAULT_PARTITIONS: i32 = 4;
/// How long messages may take to become visible, when there is no more to come.
const VISIBLE_PATIENCE: Duration = Duration::from_secs(10);

/// Where a scenario takes place.
#[derive(Debug)]
struct Stage<'a> {
    options: &'a Options,
    cluster: Cluster,
    topic: Topic,
    run: Arc<Run>,
}

/// Runs what is asked for.
///
/// # Errors
/// If it could not be run to its end.
pub fn run(options: &Options) -> Result<Report, Error> {
    let cluster = Cluster::new(options.bootstrap.clone(), options.request_timeout);
    // Random, without a source of randomness of its own.
    let id = RandomState::new().hash_one(std::process::id());
    let name = options.topic.clone();
    let name = name.unwrap_or_else(|| format!("loadgen-{id:016x}"));
    if options.topic.is_none() || options.scenario != Scenario::Consume {
        cluster.create(&name, options.partitions.unwrap_or(DEFAULT_PARTITIONS))?;
    }
    let result = staged(options, &cluster, &name, id);
    if options.topic.is_none() {
        let deleted = cluster.delete(&name);
        return result.and_then(|report| deleted.map(|()| report));
    }
    result
}

fn staged(options: &Options, cluster: &Cluster, name: &str, id: u64) -> Result<Report, Error> {
    let topic = match (options.scenario, &options.topic) {
        (Scenario::Consume, Some(_)) => cluster.topic(name)?,
        _ => cluster.topic_when_ready(name)?,
    };
    let actual = topic.leaders.len();
    if let Some(asked) = options.partitions.filter(|asked| *asked as usize != actual) {
        return Err(Error::OtherPartitions {
            topic: name.to_owned(),
            actual,
            asked,
        });
    }
    let mut cluster = cluster.clone();
    cluster.learn(&topic);
    let stage = Stage {
        options,
        cluster,
        topic,
        run: Arc::new(Run::new(id)),
    };
    match options.scenario {
        Scenario::Produce => produce::run(&stage),
        Scenario::Consume => consume::run(&stage),
        Scenario::E2e => e2e::run(&stage),
    }
}

impl Stage<'_> {
    /// The partitions' ends, once all that was sent lies before them: consumers see a message a bit
    /// after its producer knows that it is there. What is not there after some time is lost, which
    /// the reader will find.
    fn ends_after(&self, starts: &[i64], sent: u64) -> Result<Vec<i64>, Error> {
        let deadline = Instant::now() + VISIBLE_PATIENCE;
        loop {
            let ends = self.cluster.latest(&self.topic)?;
            let visible = |ends: &Vec<i64>| {
                let added = ends.iter().zip(starts).map(|(end, start)| end - start);
                added.sum::<i64>() >= i64::try_from(sent).unwrap_or(i64::MAX)
            };
            if visible(&ends) || Instant::now() >= deadline {
                return Ok(ends);
            }
            std::thread::sleep(RETRY_BACKOFF);
        }
    }
}
