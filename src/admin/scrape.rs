//! One scrape: all metrics of all shards, as text.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shards::ShardStats;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Observed, Running};
use crate::api::REGISTRY;
use crate::bridge::{PeerHealth, Role};
use crate::catalog::{Catalog, Topic};
use crate::gateway::{Memory, Request};
use crate::group::Reason;
use crate::metrics::cell::{Histogram, Number, Scale, Spread};
use crate::metrics::process::Process;
use crate::metrics::seaweedfs::OperationMetrics;
use crate::metrics::survey::{GroupLag, Survey, TopicSums};
use crate::metrics::table::*;
use crate::metrics::text::{Page, Series};
use crate::metrics::{Closed, RefusedBy, ShardMetrics};
use crate::store::seaweedmq::CHUNK_CACHE_BYTES;
use crate::wire::Uuid;

/// How long a scrape waits for the shards to tell their state.
const PATIENCE: Duration = Duration::from_secs(1);
/// What topics without series of their own are called. A topic of that name has none.
const OTHER_TOPICS: &str = "_other";

/// Makes scrapes, one at a time.
pub(super) struct Scraper {
    observed: Arc<Observed>,
    named: Mutex<NamedTopics>,
}

impl Scraper {
    pub fn new(observed: Arc<Observed>) -> Self {
        let max = observed.config.metrics_topics_max;
        Scraper {
            observed,
            named: Mutex::new(NamedTopics {
                max,
                ids: HashSet::new(),
            }),
        }
    }

    pub async fn scrape(&self) -> String {
        let mut named = self.named.lock().await;
        let surveys = match self.observed.running() {
            Some(running) => survey(running, self.observed.shards.len()).await,
            None => Vec::new(),
        };
        let mut scrape = Scrape {
            page: Page::default(),
            observed: &self.observed,
            surveys,
            peers: self.observed.peers().await.unwrap_or_default(),
        };
        scrape.write(&mut named);
        scrape.page.finish()
    }
}

/// Asks all shards for their state; `None` for those that do not tell it in time.
async fn survey(running: &Running, shards: usize) -> Vec<Option<Survey>> {
    let deadline = Instant::now() + PATIENCE;
    let ask = |shard| {
        let (reply, answer) = oneshot::channel();
        let sent = running.remote.send(shard, Request::Survey(reply));
        sent.is_ok().then_some(answer)
    };
    let asked: Vec<_> = (0..shards).map(ask).collect();
    let mut surveys = Vec::with_capacity(shards);
    for answer in asked {
        let told = match answer {
            Some(answer) => timeout_at(deadline, answer).await.ok(),
            None => None,
        };
        surveys.push(told.and_then(Result::ok));
    }
    surveys
}

/// The topics that have series of their own: those that were there first, for as long as they exist.
/// So no series goes back because another topic came or went.
struct NamedTopics {
    max: usize,
    ids: HashSet<Uuid>,
}

impl NamedTopics {
    fn update(&mut self, catalog: &Catalog) {
        self.ids.retain(|id| catalog.by_id(id).is_some());
        let left = self.max.saturating_sub(self.ids.len());
        if left > 0 {
            let may_have = |t: &&Arc<Topic>| t.name != *OTHER_TOPICS && !self.ids.contains(&t.id);
            let others = catalog.topics().filter(may_have);
            let others: Vec<_> = others.take(left).map(|t| t.id).collect();
            self.ids.extend(others);
        }
    }
}

/// What a topic has, all shards summed.
#[derive(Default)]
struct TopicSeries {
    partitions: u64,
    sums: TopicSums,
}

struct Scrape<'a> {
    page: Page,
    observed: &'a Observed,
    surveys: Vec<Option<Survey>>,
    /// Servers of SeaweedFS.
    peers: Vec<PeerHealth>,
}

impl Scrape<'_> {
    fn write(&mut self, named: &mut NamedTopics) {
        self.requests();
        self.connections();
        self.batches();
        self.store();
        self.seaweedfs();
        self.memory();
        self.shards();
        self.topics(named);
        self.group_events();
        self.groups();
        self.process();
    }

    fn metrics(&self) -> impl Iterator<Item = &ShardMetrics> + Clone {
        self.observed.shards.iter().map(|shard| &**shard)
    }

    fn sum(&self, of: impl Fn(&ShardMetrics) -> &Number) -> u64 {
        self.metrics().map(|shard| of(shard).get()).sum()
    }

    fn total(&mut self, metric: &'static Metric, of: impl Fn(&ShardMetrics) -> &Number) {
        let sum = self.sum(of);
        self.page.metric(metric).value(sum);
    }

    fn each(&mut self, metric: &'static Metric, of: impl Fn(&ShardMetrics) -> &Number) {
        let values: Vec<_> = self.metrics().map(|shard| of(shard).get()).collect();
        self.page.metric(metric).per_shard(values);
    }

    fn histogram<S: Scale>(
        &mut self,
        metric: &'static Metric,
        of: impl Fn(&ShardMetrics) -> &Histogram<S>,
    ) {
        let spread = Spread::of(self.metrics().map(of));
        self.page.metric(metric).histogram(&[], &spread);
    }

    /// One series for each name whose number is not 0.
    fn named(
        &mut self,
        metric: &'static Metric,
        names: &[&str],
        of: impl Fn(&ShardMetrics, usize) -> &Number,
    ) {
        let count = |n: usize| self.sum(|shard| of(shard, n));
        let counts: Vec<_> = (0..names.len()).map(count).collect();
        let mut series = self.page.metric(metric);
        let occurred = names.iter().zip(counts).filter(|(_, count)| *count > 0);
        occurred.for_each(|(name, count)| series.labelled(&[name], count));
    }

    /// A state of each shard that told it.
    fn surveyed(&mut self, metric: &'static Metric, of: impl Fn(&Survey) -> usize) {
        let mut series = self.page.metric(metric);
        for (shard, survey) in told(&self.surveys) {
            series.labelled(&[&shard.to_string()], of(survey));
        }
    }

    fn requests(&mut self) {
        let names: Vec<_> = REGISTRY.iter().map(|api| api.name).collect();
        self.named(&REQUESTS, &names, |shard, api| &shard.apis[api].requests);
        let spread = |api: usize| Spread::of(self.metrics().map(|shard| &shard.apis[api].latency));
        let spreads: Vec<_> = (0..names.len()).map(spread).collect();
        let mut series = self.page.metric(&REQUEST_SECONDS);
        let answered = names.iter().zip(&spreads).filter(|(_, s)| s.count() > 0);
        answered.for_each(|(name, spread)| series.histogram(&[name], spread));
        self.errors(&names);
        self.each(&REQUESTS_IN_FLIGHT, |shard| &shard.in_flight);
        self.total(&RECEIVED_BYTES, |shard| &shard.bytes_in);
        self.total(&SENT_BYTES, |shard| &shard.bytes_out);
    }

    fn errors(&mut self, apis: &[&str]) {
        let observed = self.observed;
        let mut series = self.page.metric(&REQUEST_ERRORS);
        for (api, name) in apis.iter().enumerate() {
            let mut told: Vec<_> = observed.shards[0].apis[api].errors().collect();
            for shard in &observed.shards[1..] {
                let more = shard.apis[api].errors();
                told.iter_mut()
                    .zip(more)
                    .for_each(|(sum, more)| sum.1 += more.1);
            }
            for (code, times) in told.into_iter().filter(|(_, times)| *times > 0) {
                series.labelled(&[name, code.name()], times);
            }
        }
    }

    fn connections(&mut self) {
        self.each(&CONNECTIONS, |shard| &shard.connections);
        let limit = self.observed.config.max_connections;
        self.page.metric(&CONNECTIONS_LIMIT).value(limit);
        self.total(&CONNECTIONS_ACCEPTED, |shard| &shard.accepted);
        self.named(&CONNECTIONS_REFUSED, RefusedBy::NAMES, |shard, by| {
            &shard.refused[by]
        });
        self.named(&CONNECTIONS_CLOSED, Closed::NAMES, |shard, why| {
            &shard.closed[why]
        });
    }

    fn batches(&mut self) {
        self.total(&PRODUCED_BATCHES, |shard| &shard.produced.batches);
        self.total(&PRODUCED_RECORDS, |shard| &shard.produced.records);
        self.total(&PRODUCED_BYTES, |shard| &shard.produced.bytes);
        self.total(&FETCHED_BYTES, |shard| &shard.fetched_bytes);
        self.total(&FETCH_WAITS, |shard| &shard.fetch_waits);
        self.surveyed(&FETCH_SESSIONS, |s| s.fetch_sessions);
        let (tail, cold) = (
            self.sum(|shard| &shard.fetch_tail),
            self.sum(|shard| &shard.fetch_cold),
        );
        let mut series = self.page.metric(&FETCH_READS);
        series.labelled(&["tail"], tail);
        series.labelled(&["cold"], cold);
    }

    fn store(&mut self) {
        self.histogram(&COMMIT_SECONDS, |shard| &shard.commit);
        self.histogram(&COMMIT_BATCHES, |shard| &shard.commit_batches);
        self.histogram(&COMMIT_BYTES, |shard| &shard.commit_bytes);
        self.histogram(&COMMIT_PARTITIONS, |shard| &shard.commit_partitions);
        let ended = self.metrics().map(|shard| shard.last_commit_ms.get());
        let ended: Vec<_> = ended.map(|ms| ms as f64 / 1e3).collect();
        self.page.metric(&LAST_COMMIT_SECONDS).per_shard(ended);
        self.histogram(&SYNC_SECONDS, |shard| &shard.sync);
        self.total(&STORE_FAILURES, |shard| &shard.store_failures);
        self.each(&STORE_BROKEN, |shard| &shard.broken);
        self.each(&STORE_FENCED, |shard| &shard.fenced);
        self.each(&UNREADABLE_PARTITIONS, |shard| &shard.unreadable_partitions);
        self.each(&AWAY_PARTITIONS, |shard| &shard.away_partitions);
        self.total(&JOURNAL_BYTES, |shard| &shard.journal_bytes);
        self.surveyed(&JOURNAL_FILES, |s| s.partitions.journal_files);
        self.total(&CHECKPOINTS, |shard| &shard.checkpoints);
        self.total(&CHECKPOINT_FAILURES, |shard| &shard.checkpoint_failures);
        self.total(&COMPACTIONS, |shard| &shard.compactions);
        self.total(&COMPACTION_FAILURES, |shard| &shard.compaction_failures);
        self.total(&COMPACTION_READ_BYTES, |shard| &shard.compaction_read_bytes);
        self.total(&COMPACTION_WRITTEN_BYTES, |shard| {
            &shard.compaction_written_bytes
        });
        self.each(&UNCLEANABLE_PARTITIONS, |shard| {
            &shard.uncleanable_partitions
        });
        self.each(&MAX_DIRTY_PERCENT, |shard| &shard.max_dirty_percent);
        self.surveyed(&OPEN_SEGMENTS, |s| s.partitions.open_segments);
    }

    /// Without series where topics are not there.
    fn seaweedfs(&mut self) {
        let observed = self.observed;
        let Some(of) = observed.seaweedfs() else {
            for metric in METRICS.iter().filter(|m| m.is_of_seaweedfs()) {
                self.page.metric(metric);
            }
            return;
        };
        let (bridge, store, page) = (of.bridge.metrics(), &of.store, &mut self.page);
        let operations = bridge.operations();
        let mut series = page.metric(&SEAWEEDFS_OPERATIONS);
        for (name, operation) in &operations {
            let results = OperationMetrics::result_names().zip(&operation.results);
            let occurred = results.filter(|(_, count)| count.get() > 0);
            occurred.for_each(|(result, count)| series.labelled(&[name, result], count.get()));
        }
        let mut series = page.metric(&SEAWEEDFS_OPERATION_SECONDS);
        for (name, operation) in &operations {
            let spread = Spread::of(std::iter::once(&operation.latency));
            series.histogram(&[name], &spread);
        }
        let mut series = page.metric(&SEAWEEDFS_RETRIES);
        for (role, retries) in Role::NAMES.iter().zip(&bridge.retries) {
            series.labelled(&[role], retries.get());
        }
        let (now, most) = (of.bridge.in_flight(), of.bridge.in_flight_max());
        let mut value = |metric, value: u64| page.metric(metric).value(value);
        value(&SEAWEEDFS_OVERLOADS, bridge.overloads.get());
        value(&SEAWEEDFS_IN_FLIGHT, now.operations as u64);
        value(&SEAWEEDFS_IN_FLIGHT_LIMIT, most.operations as u64);
        value(&SEAWEEDFS_IN_FLIGHT_BYTES, now.bytes as u64);
        value(&SEAWEEDFS_IN_FLIGHT_BYTES_LIMIT, most.bytes as u64);
        value(&SEAWEEDFS_SENT_BYTES, bridge.sent_bytes.get());
        value(&SEAWEEDFS_RECEIVED_BYTES, bridge.received_bytes.get());
        let mut of_peers = |metric, of: fn(&PeerHealth) -> u64| {
            let mut series: Series<'_> = page.metric(metric);
            for peer in &self.peers {
                series.labelled(&[peer.role.name(), &peer.address], of(peer));
            }
        };
        of_peers(&SEAWEEDFS_PEER_UP, |peer| u64::from(peer.up));
        of_peers(&SEAWEEDFS_PEER_FAILURES, |peer| peer.failures.into());
        page.metric(&SEAWEEDFS_EPOCH).value(store.epoch.get());
        let mut series = page.metric(&SEAWEEDFS_CHUNK_READS);
        series.labelled(&["memory"], store.chunk_hits.get());
        series.labelled(&["volume"], store.chunk_misses.get());
        page.metric(&SEAWEEDFS_CHUNK_CACHE_BYTES)
            .value(store.chunk_cache_bytes.get());
        page.metric(&SEAWEEDFS_CHUNK_CACHE_LIMIT_BYTES)
            .value(CHUNK_CACHE_BYTES);
        page.metric(&SEAWEEDFS_MERGES).value(store.merges.get());
        page.metric(&SEAWEEDFS_MERGED_BYTES)
            .value(store.merged_bytes.get());
        page.metric(&SEAWEEDFS_CHANGES).value(store.changes.get());
    }

    fn memory(&mut self) {
        let config = &self.observed.config;
        let small = Memory::small_of(config.request_memory);
        type Used = fn(&Survey) -> usize;
        let budgets: [(&str, usize, Used); 5] = [
            ("request_large", config.request_memory - small, |s| {
                s.request_large_bytes
            }),
            ("request_small", small, |s| s.request_small_bytes),
            ("answer", config.answer_memory, |s| s.answer_bytes),
            ("tail", config.tail_memory, |s| s.partitions.tail_bytes),
            ("uncommitted", config.max_uncommitted_bytes, |s| {
                s.partitions.uncommitted_bytes
            }),
        ];
        let mut series = self.page.metric(&MEMORY_BYTES);
        for (shard, survey) in told(&self.surveys) {
            for (budget, _, used) in budgets {
                series.labelled(&[&shard.to_string(), budget], used(survey));
            }
        }
        let mut series = self.page.metric(&MEMORY_LIMIT_BYTES);
        for (budget, limit, _) in budgets {
            series.labelled(&[budget], limit);
        }
        self.surveyed(&HELD_BACK, |s| s.partitions.held_back);
    }

    fn shards(&mut self) {
        let answers: Vec<_> = self.surveys.iter().map(|s| u8::from(s.is_some())).collect();
        self.page.metric(&SHARD_ANSWERS).per_shard(answers);
        let running = self.observed.running();
        let stats = running.map_or_else(Vec::new, |running| running.observer.stats());
        let mut each = |metric, of: fn(&ShardStats) -> u64| {
            let mut series: Series<'_> = self.page.metric(metric);
            series.per_shard(stats.iter().map(of));
        };
        each(&SHARD_ROUNDS, |s| s.rounds);
        each(&SHARD_LONG_ROUNDS, |s| s.long_rounds);
        each(&SHARD_STALLS, |s| s.stalls);
        each(&SHARD_PANICS, |s| s.panics);
        each(&SHARD_TASKS, |s| s.tasks);
        each(&SHARD_MAILBOX, |s| s.mailbox);
        each(&SHARD_REQUESTS, |s| s.requests);
        each(&SHARD_OVERFLOWED, |s| s.overflowed);
        each(&SHARD_BLOCKING, |s| s.blocking);
        let busy = stats.iter().map(|s| s.busy_ns as f64 / 1e9);
        self.page.metric(&SHARD_BUSY_SECONDS).per_shard(busy);
        self.surveyed(&SHARD_WAITING_FETCHES, |s| s.partitions.waiting_fetches);
        self.surveyed(&SHARD_PARTITIONS, |s| s.partitions.count);
    }

    fn topics(&mut self, named: &mut NamedTopics) {
        let newest = self.surveys.iter().flatten().map(|s| &s.catalog);
        let Some(catalog) = newest.max_by_key(|catalog| catalog.changes()).cloned() else {
            return self.no_topics();
        };
        named.update(&catalog);
        let topics = self.topic_series(&catalog, named);
        let count = catalog.topics().count();
        let partitions: u64 = topics.iter().map(|(_, topic)| topic.partitions).sum();
        self.page.metric(&TOPICS).value(count);
        self.page.metric(&PARTITIONS).value(partitions);
        let mut each = |metric, of: fn(&TopicSeries) -> u64| {
            let mut series: Series<'_> = self.page.metric(metric);
            for (name, topic) in &topics {
                series.labelled(&[name], of(topic));
            }
        };
        each(&TOPIC_PARTITIONS, |t| t.partitions);
        each(&TOPIC_SIZE_BYTES, |t| t.sums.size_bytes);
        each(&TOPIC_PRODUCED_BYTES, |t| t.sums.produced_bytes);
        each(&TOPIC_PRODUCED_RECORDS, |t| t.sums.produced_records);
        each(&TOPIC_FETCHED_BYTES, |t| t.sums.fetched_bytes);
    }

    /// No shard told of any.
    fn no_topics(&mut self) {
        for metric in METRICS.iter().filter(|m| m.is_of_topics()) {
            self.page.metric(metric);
        }
    }

    /// By name; what has no series of its own comes last.
    fn topic_series(&self, catalog: &Catalog, named: &NamedTopics) -> Vec<(String, TopicSeries)> {
        let mut topics = Vec::with_capacity(named.ids.len() + 1);
        let mut other = None;
        for topic in catalog.topics() {
            let mut own = TopicSeries::default();
            let is_named = named.ids.contains(&topic.id);
            let series = match is_named {
                true => &mut own,
                false => other.get_or_insert_with(TopicSeries::default),
            };
            series.partitions += topic.partitions as u64;
            let surveys = self.surveys.iter().flatten();
            let sums = surveys.filter_map(|s| s.partitions.topics.get(&topic.id));
            sums.for_each(|sums| series.sums.add(sums));
            if is_named {
                topics.push((topic.name.to_string(), own));
            }
        }
        topics.sort_by(|a, b| a.0.cmp(&b.0));
        topics.extend(other.map(|other| (OTHER_TOPICS.to_owned(), other)));
        topics
    }

    fn group_events(&mut self) {
        self.named(&GROUP_REBALANCES, Reason::NAMES, |shard, reason| {
            &shard.groups.rebalances[reason]
        });
        self.histogram(&GROUP_REBALANCE_SECONDS, |shard| &shard.groups.settled);
        self.total(&GROUP_SESSIONS_OVER, |shard| &shard.groups.silent);
        self.total(&GROUP_COMMITS, |shard| &shard.groups.commits);
    }

    fn groups(&mut self) {
        let groups = self.surveys.iter().flatten().map(|survey| &survey.groups);
        let mut states = BTreeMap::new();
        for (state, count) in groups.clone().flat_map(|survey| &survey.states) {
            *states.entry(state).or_insert(0) += count;
        }
        let mut series = self.page.metric(&GROUPS);
        for (state, count) in states {
            series.labelled(&[state], count);
        }
        let mut series = self.page.metric(&GROUP_MEMBERS);
        for (group, members) in groups.clone().flat_map(|survey| &survey.members) {
            series.labelled(&[group], members);
        }
        let lags = groups.clone().flat_map(|survey| &survey.lags);
        let index = |lag: &GroupLag| lag.partition.to_string();
        let mut series = self.page.metric(&GROUP_LAG);
        for lag in lags.clone() {
            series.labelled(&[&lag.group, &lag.topic, &index(lag)], lag.records);
        }
        let mut series = self.page.metric(&GROUP_LAG_SECONDS);
        for lag in lags {
            if let Some(seconds) = lag.seconds {
                series.labelled(&[&lag.group, &lag.topic, &index(lag)], seconds);
            }
        }
        let hidden: usize = groups.map(|survey| survey.hidden).sum();
        self.page.metric(&GROUP_SERIES_HIDDEN).value(hidden);
    }

    fn process(&mut self) {
        let process = Process::now();
        let page = &mut self.page;
        page.metric(&BUILD_INFO)
            .labelled(&[env!("CARGO_PKG_VERSION")], 1);
        page.metric(&PROCESS_CPU_SECONDS).value(process.cpu_seconds);
        page.metric(&PROCESS_RESIDENT_BYTES)
            .value(process.resident_bytes);
        page.metric(&PROCESS_OPEN_FDS).value(process.open_fds);
        page.metric(&PROCESS_MAX_FDS).value(process.max_fds);
        page.metric(&PROCESS_START_SECONDS)
            .value(process.start_seconds);
    }
}

/// The shards that told their state.
fn told(surveys: &[Option<Survey>]) -> impl Iterator<Item = (usize, &Survey)> {
    let told = surveys.iter().enumerate();
    told.filter_map(|(shard, survey)| Some((shard, survey.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::topic_config::TopicConfig;

    fn topic(name: &str) -> Topic {
        Topic::new(&name.to_owned().into(), 1, TopicConfig::default()).expect("an id")
    }

    #[test]
    fn topics_keep_their_series_for_as_long_as_they_exist() {
        let [a, b, c, other] = ["a", "b", "c", OTHER_TOPICS].map(topic);
        let mut named = NamedTopics {
            max: 2,
            ids: HashSet::new(),
        };
        named.update(&[other.clone(), c.clone()].into_iter().collect());
        assert_eq!(
            named.ids,
            HashSet::from([c.id]),
            "one has the name of all others"
        );
        named.update(&[a.clone(), b.clone(), c.clone()].into_iter().collect());
        assert!(named.ids.len() == 2 && named.ids.contains(&c.id));
        named.update(&[a.clone(), b.clone()].into_iter().collect());
        assert_eq!(named.ids, HashSet::from([a.id, b.id]));
    }
}
