//! The rows of the comparison: one load each, and how a round of it is run.

use std::io;
use std::time::Duration;

use crate::client::Client;
use crate::load::{Outcome, Produce, drain};
use crate::peer::{Kind, Peer, Site};

/// One row.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub load: Load,
    /// What the server's CPU time is divided by.
    pub unit: Unit,
}

pub enum Load {
    Produce(Produce),
    /// Of a topic of 1 KiB values, as large as said.
    Drain {
        bytes: u64,
        after: Before,
    },
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
const MANY: Produce = Produce {
    connections: 64,
    in_flight: 1,
    records: 1,
    value_bytes: 100,
    partitions: 16,
    ..BULK
};
const STEADY: Produce = Produce {
    connections: 1,
    in_flight: 1,
    records: 1,
    value_bytes: 1024,
    partitions: 4,
    rate: Some(1000),
    gzip: false,
};

pub const ROWS: &[Row] = &[
    Row {
        name: "produce-64x1k",
        what: "produce, 64 x 1 KiB a request, 2 connections x 5 in flight, 4 partitions",
        load: Load::Produce(BULK),
        unit: Unit::Megabyte,
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
    },
    Row {
        name: "produce-900x1k",
        what: "produce, 900 x 1 KiB a request",
        load: Load::Produce(Produce {
            records: 900,
            ..BULK
        }),
        unit: Unit::Megabyte,
    },
    Row {
        name: "produce-gzip",
        what: "produce, 64 x 1 KiB gzip (4:1), MB compressed",
        load: Load::Produce(Produce { gzip: true, ..BULK }),
        unit: Unit::Megabyte,
    },
    Row {
        name: "produce-64c",
        what: "produce, 64 connections, 1 in flight, 1 x 100 B a request, 16 partitions",
        load: Load::Produce(MANY),
        unit: Unit::Request,
    },
    Row {
        name: "produce-64c-1000p",
        what: "the same, 1000 partitions",
        load: Load::Produce(Produce {
            partitions: 1000,
            ..MANY
        }),
        unit: Unit::Request,
    },
    Row {
        name: "steady-1000",
        what: "produce at a fixed 1000 requests/s, 1 x 1 KiB",
        load: Load::Produce(STEADY),
        unit: Unit::Request,
    },
    Row {
        name: "steady-5000",
        what: "the same at 5000 requests/s",
        load: Load::Produce(Produce {
            rate: Some(5000),
            ..STEADY
        }),
        unit: Unit::Request,
    },
    Row {
        name: "drain",
        what: "drain of a topic of 1 KiB values from memory, fetches of 1 MiB",
        load: Load::Drain {
            bytes: 256 << 20,
            after: Before::Nothing,
        },
        unit: Unit::Megabyte,
    },
    Row {
        name: "drain-restarted",
        what: "the same after a restart",
        load: Load::Drain {
            bytes: 256 << 20,
            after: Before::Restart,
        },
        unit: Unit::Megabyte,
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
    /// A floor stores what producers send, and no more.
    pub fn is_for(&self, kind: Kind) -> bool {
        matches!(self.load, Load::Produce(_)) || !kind.is_floor()
    }

    /// Runs one round on a topic of its own.
    pub fn run(&self, peer: &mut Peer, site: &Site, time: Duration) -> io::Result<Sample> {
        let topic = format!("{}-{}", self.name, std::process::id());
        let partitions = match &self.load {
            Load::Produce(load) => load.partitions,
            Load::Drain { .. } => BULK.partitions,
        };
        if !peer.kind.is_floor() {
            Client::connect(peer.address)?.create_topic(&topic, partitions)?;
            // A new topic's first requests find it being made.
            settle(peer, &topic, partitions)?;
        }
        let sample = match &self.load {
            Load::Produce(load) => measure(peer, |p| load.run(p.address, &topic, time)),
            Load::Drain { bytes, after } => {
                fill(peer, &topic, *bytes)?;
                if *after == Before::Restart {
                    peer.restart(site)?;
                }
                measure(peer, |p| drain(p.address, &topic, partitions))
            }
        };
        if !peer.kind.is_floor() {
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
    let began = std::time::Instant::now();
    loop {
        match one.run(peer.address, topic, Duration::from_millis(50)) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > Duration::from_secs(30) => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn fill(peer: &Peer, topic: &str, bytes: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes {
        let time = Duration::from_millis(200);
        filled += BULK.run(peer.address, topic, time)?.bytes;
    }
    Ok(())
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
