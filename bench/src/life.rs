//! What a peer's process costs beside its loads: starting, starting after a kill, idle clients and
//! partitions.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;
use tidegate::wire::api_versions;

use crate::client::Client;
use crate::crowd::{Crowd, milliseconds};
use crate::goals::Verdict;
use crate::load::Produce;
use crate::peer::{Kind, Peer, Site};
use crate::report::Figure;
use crate::rows::{BULK, await_acknowledgement, settle};

/// The name under which this stands among the rows.
pub const ROW: &str = "life";
/// Connections that are opened and left alone.
const IDLE_CONNECTIONS: usize = 900;
/// What a peer holds when it is killed.
const KILLED_BYTES: u64 = 1 << 30;
const KILLED_PARTITIONS: i32 = 100;
/// Partitions that hold one record each.
const CROWD_PARTITIONS: i32 = 10_000;

#[derive(Debug, Serialize)]
pub struct Life {
    pub peer: &'static str,
    /// From its start to its first answer, with nothing stored.
    pub start_ms: f64,
    pub resident_megabytes: f64,
    pub idle_connection_kilobytes: f64,
    /// From its start to its first acknowledgement, after `kill -9` with 1 GiB in 100 partitions. Not of
    /// one that forgets what it acknowledged.
    pub start_after_kill_ms: Option<f64>,
    /// Beside one partition and beside many; of a Tidegate that stores them itself only.
    pub crowds: Option<(Crowd, Crowd)>,
}

/// Something to be told of a life, and the most it may be, if there is such a goal for Tidegate.
pub struct Fact {
    pub name: &'static str,
    pub value: fn(&Life) -> Option<f64>,
    most: Option<f64>,
}

const fn fact(name: &'static str, most: f64, value: fn(&Life) -> Option<f64>) -> Fact {
    Fact {
        name,
        value,
        most: Some(most),
    }
}

pub const FACTS: &[Fact] = &[
    fact("start ms", 100.0, |l| Some(l.start_ms)),
    fact("resident MB then", 20.0, |l| Some(l.resident_megabytes)),
    fact("idle connection KB", 16.4, |l| {
        Some(l.idle_connection_kilobytes)
    }),
    fact(
        "start after kill -9 with 1 GiB in 100 partitions, ms",
        1000.0,
        |l| l.start_after_kill_ms,
    ),
    fact("idle partition KB, of 10,000", 8.2, |l| {
        Some(l.crowds.as_ref()?.1.started_partition_kilobytes)
    }),
    fact("files that 10,000 idle partitions keep open", 0.0, |l| {
        Some(l.crowds.as_ref()?.1.open_files.max(0) as f64)
    }),
    fact("start with 10,000 partitions, ms", 3000.0, |l| {
        Some(l.crowds.as_ref()?.1.start_ms)
    }),
    // No change, but for what two measurements differ by anyway.
    fact(
        "p50 of producing beside 10,000 partitions to that beside one",
        1.25,
        |l| {
            let (one, many) = l.crowds.as_ref()?;
            Some(many.produce_p50_ms / one.produce_p50_ms)
        },
    ),
];

impl Life {
    /// One life of a peer of its own.
    pub fn of(kind: Kind, site: &Site) -> io::Result<Life> {
        let began = Instant::now();
        let mut peer = Peer::start(kind, site)?;
        ask(&mut Client::connect(peer.address)?)?;
        let start_ms = milliseconds(began.elapsed());
        let resident = peer.resident_bytes()?;
        let idle = connect_idle(&peer, IDLE_CONNECTIONS)?;
        let grown = peer.resident_bytes()?.saturating_sub(resident);
        drop(idle);
        let start_after_kill_ms = match kind.is_forgetful() {
            true => None,
            false => Some(start_after_kill(&mut peer, site)?),
        };
        drop(peer);
        let crowds = match kind.is_local_tidegate() {
            true => Some((
                Crowd::of(1, kind, site)?,
                Crowd::of(CROWD_PARTITIONS, kind, site)?,
            )),
            false => None,
        };
        Ok(Life {
            peer: kind.name(),
            start_ms,
            resident_megabytes: resident as f64 / 1e6,
            idle_connection_kilobytes: grown as f64 / IDLE_CONNECTIONS as f64 / 1e3,
            start_after_kill_ms,
            crowds,
        })
    }

    /// What came of the goals.
    pub fn judge(&self) -> Vec<Verdict> {
        let verdict = |fact: &Fact| {
            let (most, value) = (fact.most?, (fact.value)(self)?);
            Some(Verdict {
                row: ROW,
                peer: self.peer,
                goal: format!("{} at most {most}", fact.name),
                figure: Figure::of(vec![value]),
                met: value <= most,
            })
        };
        let is_local = Kind::ALL
            .iter()
            .any(|kind| kind.is_local_tidegate() && kind.name() == self.peer);
        let facts = FACTS.iter().filter(|_| is_local);
        facts.filter_map(verdict).collect()
    }
}

/// Clients that asked once and then are silent.
pub fn connect_idle(peer: &Peer, count: usize) -> io::Result<Vec<Client>> {
    let connect = |_| {
        let mut client = Client::connect(peer.address)?;
        ask(&mut client)?;
        Ok(client)
    };
    (0..count).map(connect).collect()
}

fn start_after_kill(peer: &mut Peer, site: &Site) -> io::Result<f64> {
    let topic = "life";
    Client::connect(peer.address)?.create_topic(topic, KILLED_PARTITIONS)?;
    settle(peer, topic, KILLED_PARTITIONS)?;
    let load = Produce {
        partitions: KILLED_PARTITIONS,
        ..BULK
    };
    let mut filled = 0;
    while filled < KILLED_BYTES {
        let time = Duration::from_secs(1);
        filled += load.run(peer.target(), topic, time)?.bytes;
    }
    let began = Instant::now();
    peer.kill_and_restart(site)?;
    await_acknowledgement(peer, topic)?;
    Ok(milliseconds(began.elapsed()))
}

fn ask(client: &mut Client) -> io::Result<()> {
    let request = api_versions::Request::default();
    let response: api_versions::Response = client.call(api_versions::KEY, 0, &request)?;
    crate::client::ok(response.error_code, "ApiVersions")
}
