//! What can be measured: one file for each scenario. Here is what they have in common: the topic, and
//! the threads.

mod consume;
mod e2e;
mod failures;
mod idle;
mod mixed;
mod process;
mod produce;
mod storm;
mod sweep;
mod threads;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{Cluster, Error, RETRY_BACKOFF, Topic};
use crate::options::{Options, Scenario};
use crate::report::Report;
use crate::run::Run;
use crate::server;

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
    /// Number of the first stream that is sent here.
    first_stream: u32,
}

/// What a scenario has to say that others do not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Findings {
    Mixed(mixed::Findings),
    Sweep(sweep::Findings),
    Storm(storm::Findings),
    Idle(idle::Findings),
}

impl Findings {
    /// What is wrong, if anything is.
    ///
    /// # Errors
    /// That, as one line.
    pub fn verdict(&self) -> Result<(), String> {
        match self {
            Self::Mixed(_) => Ok(()),
            Self::Sweep(sweep) => sweep.verdict(),
            Self::Storm(storm) => storm.verdict(),
            Self::Idle(idle) => idle.verdict(),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mixed(mixed) => mixed.fmt(f),
            Self::Sweep(sweep) => sweep.fmt(f),
            Self::Storm(storm) => storm.fmt(f),
            Self::Idle(idle) => idle.fmt(f),
        }
    }
}

/// Runs what is asked for.
///
/// # Errors
/// If it could not be run to its end.
pub fn run(options: &Options) -> Result<Report, Error> {
    let mut report = match options.scenario {
        Scenario::Storm => storm::run(options),
        Scenario::Idle => idle::run(options),
        _ => return with_topic(options),
    }?;
    let cluster = Cluster::new(options.bootstrap.clone(), options.request_timeout);
    report.server = server::describe(&cluster, None);
    Ok(report)
}

fn with_topic(options: &Options) -> Result<Report, Error> {
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
        first_stream: 0,
    };
    let mut report = match options.scenario {
        Scenario::Produce => produce::run(&stage),
        Scenario::Consume => consume::run(&stage),
        Scenario::Mixed => mixed::run(&stage),
        Scenario::Sweep => sweep::run(&stage),
        Scenario::E2e | Scenario::Storm | Scenario::Idle => e2e::run(&stage),
    }?;
    report.server = server::describe(&stage.cluster, Some(&stage.topic));
    Ok(report)
}

impl Stage<'_> {
    /// The same place, with a clock that has not started.
    fn again(&self) -> Self {
        Self {
            options: self.options,
            cluster: self.cluster.clone(),
            topic: self.topic.clone(),
            run: Arc::new(Run::new(self.run.id)),
            first_stream: self.first_stream,
        }
    }

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
