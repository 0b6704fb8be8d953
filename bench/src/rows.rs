//! The rows of the comparison: one load each, what it is to reach, and how a round of it is run.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::floor::{raw_commits, raw_syncs};
use crate::goals::Bound::{AtLeast, AtMost, Below};
use crate::goals::{Bound, Goal, Measure, Of};
use crate::load::{Outcome, Produce, drain, end_to_end, touch};
use crate::peer::{Kind, Peer, Site};

/// A topic is written for so long at most before it is read, however slow the peer.
const FILL_PATIENCE: Duration = Duration::from_secs(20);
/// A topic or a peer is new for so long at most.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the interval at which SeaweedMQ's broker writes down what it holds.
const FORGETFUL_PAUSE: Duration = Duration::from_secs(7);
/// Up to so many a second a disk may sync each request by itself.
const RAW_RATE_MAX: u32 = 1000;

/// One row.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub load: Load,
    /// What the server's CPU time is divided by.
    pub unit: Unit,
    pub goals: &'static [Goal],
}

pub enum Load {
    Produce(Produce),
    /// Of a topic of 1 KiB values, as large as said.
    Drain {
        bytes: u64,
        after: Before,
    },
    /// Of one connection, at its rate, with consumers that wait for it.
    EndToEnd(Produce),
}

/// What happens between writing a topic and reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    Restart,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Megabyte,
    Request,
}

pub const BULK: Produce = Produce {
    connections: 2,
    in_flight: 5,
    records: 64,
    value_bytes: 1024,
    gzip: false,
    partitions: 4,
    rate: None,
};
pub const MANY: Produce = Produce {
    connections: 64,
    in_flight: 1,
    records: 1,
    value_bytes: 100,
    partitions: 16,
    ..BULK
};
pub const STEADY: Produce = Produce {
    connections: 1,
    in_flight: 1,
    records: 1,
    value_bytes: 1024,
    partitions: 4,
    rate: Some(1000),
    gzip: false,
};

const BOTH: &[Kind] = &[Kind::TidegateOs, Kind::TidegateDurable];
const DURABLE: &[Kind] = &[Kind::TidegateDurable];
const SEAWEEDMQ: &[Kind] = &[Kind::TidegateSeaweedMq];
const KAFKA: Of = Of::Peer(Kind::Kafka);
const FLOOR_SYNC: Of = Of::Peer(Kind::FloorSync);
const RAW_SYNC: Of = Of::Peer(Kind::RawSync);
const GO: Of = Of::Peer(Kind::GoGateway);
const RAW_COMMIT: Of = Of::Peer(Kind::RawCommit);
const OS: Of = Of::Peer(Kind::TidegateOs);

const fn goal(of: &'static [Kind], measure: Measure, bound: Bound) -> Goal {
    Goal { of, measure, bound }
}

/// Of a steady load, in ms, and of the server in us for each request.
const fn steady(cpu: f64) -> [Goal; 4] {
    [
        goal(BOTH, Measure::P50, Below(0.25)),
        goal(BOTH, Measure::P99, Below(1.5)),
        goal(BOTH, Measure::P999, Below(4.0)),
        goal(BOTH, Measure::Cpu, Below(cpu)),
    ]
}

/// Against Kafka, and with topics in SeaweedFS against its own gateway.
const fn bulk(throughput: f64, cpu: f64, go: f64) -> [Goal; 3] {
    [
        goal(SEAWEEDMQ, Measure::Throughput, AtLeast(go, GO)),
        goal(BOTH, Measure::Throughput, AtLeast(throughput, KAFKA)),
        goal(BOTH, Measure::Cpu, AtMost(cpu, KAFKA)),
    ]
}

pub const ROWS: &[Row] = &[
    Row {
        name: "produce-64x1k",
        what: "produce, 64 x 1 KiB a request, 2 connections x 5 in flight, 4 partitions",
        load: Load::Produce(BULK),
        unit: Unit::Megabyte,
        goals: &[
            goal(BOTH, Measure::Throughput, AtLeast(4.0, KAFKA)),
            goal(BOTH, Measure::Cpu, AtMost(1.0 / 6.0, KAFKA)),
            goal(DURABLE, Measure::Throughput, AtLeast(3.0, FLOOR_SYNC)),
            goal(SEAWEEDMQ, Measure::Throughput, AtLeast(40.0, GO)),
        ],
    },
    Row {
        name: "produce-1000x100",
        what: "produce, 1000 x 100 B a request",
        load: Load::Produce(Produce {
            records: 1000,
            value_bytes: 100,
            ..BULK
        }),
        unit: Unit::Megabyte,
        goals: &bulk(3.5, 1.0 / 4.0, 40.0),
    },
    Row {
        name: "produce-900x1k",
        what: "produce, 900 x 1 KiB a request",
        load: Load::Produce(Produce {
            records: 900,
            ..BULK
        }),
        unit: Unit::Megabyte,
        goals: &bulk(3.0, 1.0 / 5.0, 40.0),
    },
    Row {
        name: "produce-1c-900x1k",
        what: "produce, 900 x 1 KiB a request, 1 connection x 5 in flight",
        load: Load::Produce(Produce {
            connections: 1,
            records: 900,
            ..BULK
        }),
        unit: Unit::Megabyte,
        goals: &[goal(SEAWEEDMQ, Measure::Throughput, AtLeast(40.0, GO))],
    },
    Row {
        name: "produce-1c-8000x100",
        what: "produce, 8000 x 100 B a request, 1 connection x 5 in flight",
        load: Load::Produce(Produce {
            connections: 1,
            records: 8000,
            value_bytes: 100,
            ..BULK
        }),
        unit: Unit::Megabyte,
        goals: &[goal(SEAWEEDMQ, Measure::Throughput, AtLeast(40.0, GO))],
    },
    Row {
        name: "produce-gzip",
        what: "produce, 64 x 1 KiB gzip (4:1), MB compressed",
        load: Load::Produce(Produce { gzip: true, ..BULK }),
        unit: Unit::Megabyte,
        goals: &bulk(6.0, 1.0 / 8.0, 40.0),
    },
    Row {
        name: "produce-64c",
        what: "produce, 64 connections, 1 in flight, 1 x 100 B a request, 16 partitions",
        load: Load::Produce(MANY),
        unit: Unit::Request,
        goals: &[
            goal(BOTH, Measure::Throughput, AtLeast(2.7, KAFKA)),
            goal(BOTH, Measure::P99, Below(4.0)),
            goal(BOTH, Measure::Cpu, AtMost(1.0 / 3.5, KAFKA)),
            goal(DURABLE, Measure::Throughput, AtLeast(4.0, FLOOR_SYNC)),
        ],
    },
    Row {
        name: "produce-64c-1000p",
        what: "produce, 64 connections, 1 in flight, 1 x 100 B a request, 1000 partitions",
        load: Load::Produce(Produce {
            partitions: 1000,
            ..MANY
        }),
        unit: Unit::Request,
        goals: &[goal(
            DURABLE,
            Measure::Throughput,
            AtLeast(0.5, Of::Row("produce-64c")),
        )],
    },
    Row {
        name: "produce-10x64k",
        what: "produce, 64 x 1 KiB a request, 10 connections x 5 in flight, 10 partitions",
        load: Load::Produce(Produce {
            connections: 10,
            partitions: 10,
            ..BULK
        }),
        unit: Unit::Megabyte,
        goals: &[goal(DURABLE, Measure::Throughput, AtLeast(0.8, OS))],
    },
    Row {
        name: "steady-100",
        what: "produce at a fixed 100 requests/s, 1 x 1 KiB",
        load: Load::Produce(Produce {
            rate: Some(100),
            ..STEADY
        }),
        unit: Unit::Request,
        goals: &[
            goal(DURABLE, Measure::P50, AtMost(2.0, RAW_SYNC)),
            goal(DURABLE, Measure::P99, AtMost(2.0, RAW_SYNC)),
            goal(SEAWEEDMQ, Measure::P50, AtMost(2.0, RAW_COMMIT)),
        ],
    },
    Row {
        name: "steady-1000",
        what: "produce at a fixed 1000 requests/s, 1 x 1 KiB",
        load: Load::Produce(STEADY),
        unit: Unit::Request,
        goals: &steady(60.0),
    },
    Row {
        name: "steady-5000",
        what: "produce at a fixed 5000 requests/s, 1 x 1 KiB",
        load: Load::Produce(Produce {
            rate: Some(5000),
            ..STEADY
        }),
        unit: Unit::Request,
        goals: &steady(40.0),
    },
    Row {
        name: "end-to-end-1000",
        what: "from a producer at a fixed 1000 requests/s, 1 x 1 KiB, to waiting consumers of 4 partitions",
        load: Load::EndToEnd(STEADY),
        unit: Unit::Request,
        goals: &[goal(SEAWEEDMQ, Measure::P99, AtMost(0.5, GO))],
    },
    Row {
        name: "drain",
        what: "drain of a topic of 1 KiB values from memory, fetches of 1 MiB",
        load: Load::Drain {
            bytes: 256 << 20,
            after: Before::Nothing,
        },
        unit: Unit::Megabyte,
        goals: &[
            goal(BOTH, Measure::Throughput, AtLeast(1.2, KAFKA)),
            goal(BOTH, Measure::Cpu, Below(0.4)),
            goal(SEAWEEDMQ, Measure::Throughput, AtLeast(5.0, GO)),
        ],
    },
    Row {
        name: "drain-restarted",
        what: "drain of a topic of 1 KiB values after a restart, fetches of 1 MiB",
        load: Load::Drain {
            bytes: 256 << 20,
            after: Before::Restart,
        },
        unit: Unit::Megabyte,
        goals: &bulk(1.0, 1.0, 2.0),
    },
];

/// One round of one row on one peer.
pub struct Sample {
    pub outcome: Outcome,
    /// Of the server.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
}

impl Row {
    /// A floor stores what producers send, and no more. A raw sync is for a disk that is not full of work.
    pub fn is_for(&self, kind: Kind) -> bool {
        match &self.load {
            Load::Produce(load) if kind.is_raw() => {
                load.rate.is_some_and(|rate| rate <= RAW_RATE_MAX)
            }
            Load::Produce(_) => true,
            Load::Drain { .. } | Load::EndToEnd(_) => kind.is_broker(),
        }
    }

    /// What a measure of this row is told in.
    pub fn unit_of(&self, measure: Measure) -> &'static str {
        match (measure, self.unit) {
            (Measure::Throughput, _) => "MB/s",
            (Measure::Cpu, Unit::Megabyte) => "ms/MB",
            (Measure::Cpu, Unit::Request) => "us/request",
            _ => "ms",
        }
    }

    /// Runs one round on a topic of its own.
    pub fn run(&self, peer: &mut Peer, site: &Site, time: Duration) -> io::Result<Sample> {
        static ROUNDS: AtomicU64 = AtomicU64::new(0);
        let topic = format!("{}-{}", self.name, ROUNDS.fetch_add(1, Ordering::Relaxed));
        let partitions = match &self.load {
            Load::Produce(load) | Load::EndToEnd(load) => load.partitions,
            Load::Drain { .. } => BULK.partitions,
        };
        if peer.kind.is_broker() {
            Client::connect(peer.address)?.create_topic(&topic, partitions)?;
            // A new topic's first requests find it being made.
            settle(peer, &topic, partitions)?;
        }
        let sample = match &self.load {
            Load::Produce(load) if peer.kind.is_raw() => {
                let rate = load.rate.unwrap_or(RAW_RATE_MAX);
                measure(peer, |peer| match peer.kind {
                    Kind::RawCommit => raw_commits(peer.master(), rate, time),
                    _ => raw_syncs(&site.work, rate, time),
                })
            }
            Load::Produce(load) => measure(peer, |p| load.run(p.target(), &topic, time)),
            Load::EndToEnd(load) => {
                touch(peer.target(), &topic, partitions)?;
                measure(peer, |p| end_to_end(load, p.target(), &topic, time))
            }
            Load::Drain { bytes, after } => {
                let records = fill(peer, &topic, *bytes)?;
                if *after == Before::Restart {
                    restart(peer, site)?;
                }
                measure(peer, |p| drain(p.target(), &topic, partitions, records))
            }
        };
        // The Go gateway's answer is not one of Kafka's, and it deletes nothing.
        if peer.kind.is_broker() && peer.kind != Kind::GoGateway {
            Client::connect(peer.address)?.delete_topic(&topic)?;
        }
        sample
    }
}

/// Waits until every partition takes a record.
pub fn settle(peer: &Peer, topic: &str, partitions: i32) -> io::Result<()> {
    let one = Produce {
        connections: 1,
        records: 1,
        value_bytes: 1,
        partitions,
        ..BULK
    };
    let began = Instant::now();
    loop {
        match one.run(peer.target(), topic, Duration::from_millis(50)) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > SETTLE_PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Waits for the first acknowledgement of a peer that has just been started.
pub fn await_acknowledgement(peer: &Peer, topic: &str) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match touch(peer.target(), topic, 1) {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > SETTLE_PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Writes `bytes`, or as much as a slow peer takes in its time. Gives the number of records.
pub fn fill(peer: &Peer, topic: &str, bytes: u64) -> io::Result<u64> {
    let (mut filled, mut records, began) = (0, 0, Instant::now());
    while filled < bytes && began.elapsed() < FILL_PATIENCE {
        let done = BULK.run(peer.target(), topic, Duration::from_millis(200))?;
        filled += done.bytes;
        records += done.records;
    }
    Ok(records)
}

fn restart(peer: &mut Peer, site: &Site) -> io::Result<()> {
    if peer.kind.is_forgetful() {
        std::thread::sleep(FORGETFUL_PAUSE);
    }
    peer.restart(site).map(|_| ())
}

fn measure(peer: &Peer, load: impl FnOnce(&Peer) -> io::Result<Outcome>) -> io::Result<Sample> {
    let before = peer.cpu_seconds()?;
    let outcome = load(peer)?;
    Ok(Sample {
        outcome,
        cpu_seconds: peer.cpu_seconds()? - before,
        resident_bytes: peer.resident_bytes()?,
    })
}
