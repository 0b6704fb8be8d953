//! What a peer's process costs beside its loads: starting, starting after a kill, idle clients.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;
use tidegate::wire::api_versions;

use crate::client::Client;
use crate::load::Produce;
use crate::peer::{Kind, Peer, Site};
use crate::rows::{BULK, settle};

/// Connections that are opened and left alone.
const IDLE_CONNECTIONS: usize = 900;
/// What a peer holds when it is killed.
const KILLED_BYTES: u64 = 1 << 30;
const KILLED_PARTITIONS: i32 = 100;

#[derive(Debug, Serialize)]
pub struct Life {
    pub peer: &'static str,
    /// From its start to its first answer, with nothing stored.
    pub start_ms: f64,
    pub resident_megabytes: f64,
    pub idle_connection_kilobytes: f64,
    /// From its start to its first acknowledgement, after `kill -9` with 1 GiB in 100 partitions.
    pub start_after_kill_ms: f64,
}

/// One life of a peer of its own.
pub fn live(kind: Kind, site: &Site) -> io::Result<Life> {
    let began = Instant::now();
    let mut peer = Peer::start(kind, site)?;
    ask(&mut Client::connect(peer.address)?)?;
    let start_ms = milliseconds(began.elapsed());
    let before = peer.resident_bytes()?;
    let mut idle = Vec::with_capacity(IDLE_CONNECTIONS);
    for _ in 0..IDLE_CONNECTIONS {
        let mut client = Client::connect(peer.address)?;
        ask(&mut client)?;
        idle.push(client);
    }
    let grown = peer.resident_bytes()?.saturating_sub(before);
    drop(idle);
    let topic = "life";
    Client::connect(peer.address)?.create_topic(topic, KILLED_PARTITIONS)?;
    settle(&peer, topic, KILLED_PARTITIONS)?;
    let load = Produce {
        partitions: KILLED_PARTITIONS,
        ..BULK
    };
    let mut filled = 0;
    while filled < KILLED_BYTES {
        filled += load.run(peer.address, topic, Duration::from_secs(1))?.bytes;
    }
    let began = Instant::now();
    peer.kill_and_restart(site)?;
    settle(&peer, topic, 1)?;
    Ok(Life {
        peer: kind.name(),
        start_ms,
        resident_megabytes: before as f64 / 1e6,
        idle_connection_kilobytes: grown as f64 / IDLE_CONNECTIONS as f64 / 1e3,
        start_after_kill_ms: milliseconds(began.elapsed()),
    })
}

fn ask(client: &mut Client) -> io::Result<()> {
    let request = api_versions::Request::default();
    let response: api_versions::Response = client.call(api_versions::KEY, 0, &request)?;
    crate::client::ok(response.error_code, "ApiVersions")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
