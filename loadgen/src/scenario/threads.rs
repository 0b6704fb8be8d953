//! The threads of a run: who serves which partitions, and what they measured together.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use rustix::thread::set_current_timer_slack;

use super::Stage;
use crate::client::Error;
use crate::consumer::tally::{Expected, Interest};
use crate::consumer::{self, Consumer, Ends, Position};
use crate::options::Warmup;
use crate::payload::keys::{Draw, Keys};
use crate::producer::source::{self, Source};
use crate::producer::stream::{Batching, Stream};
use crate::producer::{self, Producer, forge};
use crate::run::Run;
use crate::schedule::Schedule;

/// The kernel may delay a wait by this many nanoseconds, and not by the usual 50 us: that would be
/// counted as the broker's.
const PRECISE: Option<NonZeroU64> = NonZeroU64::new(1_000);

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
pub fn spawn<T: Send + 'static>(
    run: &Arc<Run>,
    name: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<JoinHandle<Result<T, Error>>, Error> {
    let shared = Arc::clone(run);
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        // Where the kernel does not allow it, the schedule lag shows it.
        let _ = set_current_timer_slack(PRECISE);
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
    /// Producers, connected, for all that is to be sent. Without keys, each sends to some partitions of
    /// one broker, in turns; with keys, to all of them, as the keys lead.
    pub fn producers(&self) -> Result<Vec<Producer>, Error> {
        let options = self.options;
        let leaders = &self.topic.leaders;
        let keyed = options.keys != Keys::None;
        let dealt = match keyed {
            false => deal(leaders, options.connections, true),
            true => vec![(0..leaders.len() as i32).collect(); options.connections],
        };
        let producers = dealt.len();
        let streams: usize = dealt.iter().map(Vec::len).sum();
        let filler = forge::filler(options);
        let mut id = self.first_stream;
        let mut open = |(number, partitions): (usize, Vec<i32>)| {
            let first = (id - self.first_stream) as usize;
            let streams_of = partitions.into_iter().map(|partition| {
                id += 1;
                let leader = leaders[partition as usize];
                Stream::new(id - 1, partition, leader, Batching::new(options))
            });
            let streams_of: Vec<Stream> = streams_of.collect();
            let schedule = match keyed {
                true => Schedule::new(options.rate, number..number + 1, producers),
                false => Schedule::new(options.rate, first..first + streams_of.len(), streams),
            };
            let keys = Draw::new(options.keys, number as u64).map(|draw| (draw, leaders.len()));
            Producer::open(
                options,
                &self.cluster,
                &self.topic,
                &self.run,
                &filler,
                self.source(schedule, keys),
                streams_of,
            )
        };
        dealt.into_iter().enumerate().map(&mut open).collect()
    }

    fn source(&self, schedule: Schedule, keys: Option<(Draw, usize)>) -> Source {
        let options = self.options;
        let by_count = |messages| {
            let warmup = schedule.share(messages);
            let measured = schedule.share(messages + options.messages) - warmup;
            (source::Warmup::Messages(warmup), measured)
        };
        let (warmup, measured) = match options.warmup {
            Warmup::Messages(messages) => by_count(messages),
            Warmup::Time(time) => {
                let end_ns = time.as_nanos() as u64;
                match schedule.messages_in(end_ns) {
                    Some(messages) => by_count(messages),
                    None => (
                        source::Warmup::Until(end_ns),
                        schedule.share(options.messages),
                    ),
                }
            }
        };
        Source::new(schedule, warmup, measured, keys)
    }

    /// What readers have to find of this run.
    pub fn interest(&self) -> Interest {
        Interest::Run(Expected {
            run: self.run.id,
            sizes: self.options.size,
            keyed: self.options.keys != Keys::None,
            partitions: self.topic.leaders.len(),
        })
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
