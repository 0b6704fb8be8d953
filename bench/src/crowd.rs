//! Many partitions on one peer: what each costs, and what the others notice of them.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::Client;
use crate::load::{Outcome, Produce, fetch_again, touch};
use crate::peer::{Kind, Peer, Site};
use crate::rows::{STEADY, await_acknowledgement, settle};

/// One request after the other, of 1 KiB, to a topic of its own.
const BESIDE: Produce = Produce {
    partitions: 8,
    rate: None,
    ..STEADY
};
const BESIDE_TIME: Duration = Duration::from_secs(1);
/// Of one topic. Kafka makes less than 10,000 partitions with one request.
const TOPIC_PARTITIONS: i32 = 1000;

/// A peer with `partitions` that hold one record each.
#[derive(Debug, Serialize)]
pub struct Crowd {
    pub partitions: i32,
    pub created_ms: f64,
    /// Memory that each takes after its record was written, and after a start.
    pub partition_kilobytes: f64,
    pub started_partition_kilobytes: f64,
    /// Files open after a start that were not before there were any.
    pub open_files: i64,
    /// Of requests to another topic, one after the other.
    pub produce_p50_ms: f64,
    pub produce_p99_ms: f64,
    pub produce_longest_ms: f64,
    pub fetch_p50_ms: f64,
    pub fetch_p99_ms: f64,
    /// To the first acknowledgement.
    pub start_ms: f64,
    pub start_after_kill_ms: f64,
}

impl Crowd {
    pub fn of(partitions: i32, kind: Kind, site: &Site) -> io::Result<Crowd> {
        let mut peer = Peer::start(kind, site)?;
        let empty_files = peer.open_files()?;
        let beside = "beside";
        Client::connect(peer.address)?.create_topic(beside, BESIDE.partitions)?;
        settle(&peer, beside, BESIDE.partitions)?;
        let empty_bytes = peer.resident_bytes()?;
        let topics: Vec<(String, i32)> = topics(partitions).collect();
        let began = Instant::now();
        for (topic, partitions) in &topics {
            Client::connect(peer.address)?.create_topic(topic, *partitions)?;
        }
        let created_ms = milliseconds(began.elapsed());
        for (topic, partitions) in &topics {
            settle(&peer, topic, *partitions)?;
            touch(peer.target(), topic, *partitions)?;
        }
        let each = |peer: &Peer| {
            let grown = peer.resident_bytes()?.saturating_sub(empty_bytes);
            Ok::<f64, io::Error>(grown as f64 / f64::from(partitions) / 1e3)
        };
        let partition_kilobytes = each(&peer)?;
        // What is written back is not to be what is measured.
        rustix::fs::sync();
        let produce = BESIDE.run(peer.target(), beside, BESIDE_TIME)?;
        let fetch = fetch_again(peer.target(), beside, BESIDE.partitions, BESIDE_TIME)?;
        // Ending it may take long, and is not counted.
        let (took, began) = (peer.restart(site)?, Instant::now());
        let open_files = peer.open_files()? as i64 - empty_files as i64;
        let start_ms = milliseconds(took + until_acknowledged(&peer, &topics, began)?);
        let started_partition_kilobytes = each(&peer)?;
        let (took, began) = (peer.kill_and_restart(site)?, Instant::now());
        let start_after_kill_ms = milliseconds(took + until_acknowledged(&peer, &topics, began)?);
        Ok(Crowd {
            partitions,
            created_ms,
            partition_kilobytes,
            started_partition_kilobytes,
            open_files,
            produce_p50_ms: quantile(&produce, 0.5),
            produce_p99_ms: quantile(&produce, 0.99),
            produce_longest_ms: quantile(&produce, 1.0),
            fetch_p50_ms: quantile(&fetch, 0.5),
            fetch_p99_ms: quantile(&fetch, 0.99),
            start_ms,
            start_after_kill_ms,
        })
    }
}

/// As many as it takes, with the partitions of each.
fn topics(partitions: i32) -> impl Iterator<Item = (String, i32)> {
    let first = (0..partitions).step_by(TOPIC_PARTITIONS as usize);
    first.map(move |first| {
        (
            format!("crowd-{first}"),
            TOPIC_PARTITIONS.min(partitions - first),
        )
    })
}

fn quantile(outcome: &Outcome, quantile: f64) -> f64 {
    outcome.latency.value_at_quantile(quantile) as f64 / 1e3
}

/// Until the first of the topics takes a record.
fn until_acknowledged(
    peer: &Peer,
    topics: &[(String, i32)],
    began: Instant,
) -> io::Result<Duration> {
    await_acknowledgement(peer, &topics[0].0)?;
    Ok(began.elapsed())
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_as_many_partitions_as_it_says() {
        for count in [1, 999, 1000, 1001, 10_000] {
            let topics: Vec<_> = topics(count).collect();
            assert_eq!(
                topics.iter().map(|(_, partitions)| partitions).sum::<i32>(),
                count
            );
            assert!(
                topics
                    .iter()
                    .all(|(_, partitions)| (1..=1000).contains(partitions))
            );
        }
    }
}
