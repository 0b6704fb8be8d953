//! The threads of a run: who serves which partitions, and what they measured together.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::Stage;
use crate::client::Error;
use crate::consumer::tally::Interest;
use crate::consumer::{self, Consumer, Ends, Position};
use crate::options::Warmup;
use crate::producer::stream::{Stream, Task, WarmupShare};
use crate::producer::{self, Producer};
use crate::run::Run;
use crate::schedule::Schedule;

/// Threads that will return a value each.
pub type Threads<T> = Vec<JoinHandle<Result<T, Error>>>;

/// Deals the partitions out to connections, each of which leads to one broker. With `share`,
/// connections beyond the partitions of a broker share these; without, there are none.
fn deal(leaders: &[i32], connections: usize, share: bool) -> Vec<Vec<i32>> {
    let mut led: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (partition, leader) in (0..).zip(leaders) {
        led.entry(*leader).or_default().push(partition);
    }
    let mut dealt = Vec::new();
    for partitions in led.values() {
        let hands = match share {
            true => connections,
            false => connections.min(partitions.len()),
        };
        dealt.extend((0..hands).map(|hand| {
            match hand < partitions.len() {
                true => partitions
                    .iter()
                    .skip(hand)
                    .step_by(hands)
                    .copied()
                    .collect(),
                false => vec![partitions[hand % partitions.len()]],
            }
        }));
    }
    dealt
}

/// Starts a thread that ends the run when it fails.
fn spawn<T: Send + 'static>(
    run: &Arc<Run>,
    name: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<JoinHandle<Result<T, Error>>, Error> {
    let shared = Arc::clone(run);
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        let result = work();
        if result.is_err() {
            shared.stop();
        }
        result
    });
    thread.map_err(|source| {
        run.stop();
        Error::Thread(source)
    })
}

/// What all threads return, or the first error.
pub fn join<T>(threads: Threads<T>) -> Result<Vec<T>, Error> {
    let joined = threads.into_iter().map(|thread| match thread.join() {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    });
    // All are waited for, also behind one that failed.
    joined.collect::<Vec<_>>().into_iter().collect()
}

impl Stage<'_> {
    /// Producers, connected, for all that is to be sent.
    pub fn producers(&self) -> Result<Vec<Producer>, Error> {
        let options = self.options;
        let dealt = deal(&self.topic.leaders, options.connections, true);
        let schedule = Schedule::new(options.rate, dealt.iter().map(Vec::len).sum());
        let mut id = 0;
        let mut producers = Vec::new();
        for partitions in dealt {
            let streams = partitions.into_iter().map(|partition| {
                let leader = self.topic.leaders[partition as usize];
                let stream = Stream::new(id, partition, leader, self.task(schedule, id as usize));
                id += 1;
                stream
            });
            let streams = streams.collect();
            producers.push(Producer::open(
                options,
                &self.cluster,
                &self.topic,
                &self.run,
                streams,
            )?);
        }
        Ok(producers)
    }

    fn task(&self, schedule: Schedule, stream: usize) -> Task {
        let options = self.options;
        let time_ns = |time: std::time::Duration| time.as_nanos() as u64;
        let by_count = |messages| {
            let all = schedule.share(stream, messages + options.messages);
            let warmup = schedule.share(stream, messages);
            (WarmupShare::Messages(warmup), all - warmup)
        };
        let (warmup, measured) = match options.warmup {
            Warmup::Messages(messages) => by_count(messages),
            Warmup::Time(time) => match schedule.messages_in(time_ns(time)) {
                Some(messages) => by_count(messages),
                None => (
                    WarmupShare::Until(time_ns(time)),
                    schedule.share(stream, options.messages),
                ),
            },
        };
        Task {
            schedule,
            warmup,
            measured,
            linger_ns: time_ns(options.linger),
        }
    }

    /// Consumers, connected, for all partitions.
    pub fn consumers(
        &self,
        starts: &[i64],
        interest: Interest,
        ends: &Ends,
    ) -> Result<Vec<Consumer>, Error> {
        let dealt = deal(&self.topic.leaders, self.options.connections, false);
        let position = |partition: i32| Position {
            partition,
            leader: self.topic.leaders[partition as usize],
            offset: starts[partition as usize],
        };
        let consumer = |partitions: Vec<i32>| {
            let positions = partitions.into_iter().map(position).collect();
            Consumer::open(
                self.options,
                &self.cluster,
                &self.topic,
                &self.run,
                positions,
                interest,
                ends,
            )
        };
        dealt.into_iter().map(consumer).collect()
    }

    /// Lets producers loose.
    pub fn start_producers(
        &self,
        producers: Vec<Producer>,
    ) -> Result<Threads<producer::Figures>, Error> {
        let start = |producer: Producer| spawn(&self.run, "producer", || producer.run());
        producers.into_iter().map(start).collect()
    }

    /// Lets consumers loose.
    pub fn start_consumers(
        &self,
        consumers: Vec<Consumer>,
    ) -> Result<Threads<consumer::Figures>, Error> {
        let start = |consumer: Consumer| spawn(&self.run, "consumer", || consumer.run());
        consumers.into_iter().map(start).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_is_dealt_to_a_connection_to_its_leader() {
        let leaders = [1, 2, 1, 2, 1];
        assert_eq!(deal(&leaders, 1, true), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(
            deal(&leaders, 2, true),
            [vec![0, 4], vec![2], vec![1], vec![3]]
        );
    }

    #[test]
    fn connections_share_partitions_only_where_that_is_asked_for() {
        assert_eq!(deal(&[1, 1], 3, true), [vec![0], vec![1], vec![0]]);
        assert_eq!(deal(&[1, 1], 3, false), [vec![0], vec![1]]);
    }
}
