//! Many groups that rebalance at the same time.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::member::{Member, await_coordinator};
use crate::crowd::milliseconds;
use crate::peer::Peer;

const GROUPS: usize = 1000;
const MEMBERS: usize = 10;
/// So long that nobody has to heartbeat between two storms.
const SESSION_TIMEOUT: Duration = Duration::from_secs(300);
/// Between heartbeats of members that wait to be told of a rebalance.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(10);
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(120);
/// A group's thread does little.
const STACK_BYTES: usize = 256 << 10;

#[derive(Clone, Copy)]
enum Event {
    Leave,
    Join,
}

/// One event, in all rounds.
pub struct Storm {
    pub event: &'static str,
    /// From the event until a group was stable again: of half of the groups, of 99 %, of all.
    pub p50_ms: Vec<f64>,
    pub p99_ms: Vec<f64>,
    pub max_ms: Vec<f64>,
    /// Of the server for all groups.
    pub cpu_seconds: Vec<f64>,
    pub resident_megabytes: Vec<f64>,
}

impl Storm {
    fn of(event: &'static str) -> Self {
        Storm {
            event,
            p50_ms: Vec::new(),
            p99_ms: Vec::new(),
            max_ms: Vec::new(),
            cpu_seconds: Vec::new(),
            resident_megabytes: Vec::new(),
        }
    }

    fn add(&mut self, mut ms: Vec<f64>) {
        ms.sort_by(f64::total_cmp);
        self.p50_ms.push(ms[ms.len() / 2]);
        self.p99_ms.push(ms[ms.len() * 99 / 100]);
        self.max_ms.push(ms[ms.len() - 1]);
    }
}

/// Tidegate waits for a group's first members as Kafka does, so that all of them come at once.
pub const OPTIONS: [&str; 6] = [
    "--group-initial-rebalance-delay-ms",
    "3000",
    "--max-connections",
    "20000",
    "--max-connections-per-ip",
    "20000",
];

pub fn run(peer: &Peer) -> io::Result<[Storm; 2]> {
    await_coordinator(peer.address)?;
    let (done, times) = channel();
    let groups = (0..GROUPS).map(|n| start(peer.address, n, done.clone()));
    let groups: Vec<Sender<(Event, Instant)>> = groups.collect::<io::Result<_>>()?;
    gather(&times)?;
    let mut storms = [Storm::of("one of ten leaves"), Storm::of("a tenth joins")];
    for _ in 0..ROUNDS {
        for (storm, event) in storms.iter_mut().zip([Event::Leave, Event::Join]) {
            let (before, began) = (peer.cpu_seconds()?, Instant::now());
            for group in &groups {
                // If it has ended, it has said why.
                let _ = group.send((event, began));
            }
            storm.add(gather(&times)?);
            storm.cpu_seconds.push(peer.cpu_seconds()? - before);
            let resident = peer.resident_bytes()? as f64 / 1e6;
            storm.resident_megabytes.push(resident);
        }
    }
    Ok(storms)
}

/// The times of all groups in ms.
fn gather(times: &Receiver<io::Result<f64>>) -> io::Result<Vec<f64>> {
    let next = |_| {
        let time = times.recv_timeout(PATIENCE);
        time.unwrap_or_else(|_| Err(io::Error::other("a group does not become stable")))
    };
    (0..GROUPS).map(next).collect()
}

/// Connects the members of a group, and starts the thread that drives them.
fn start(
    address: SocketAddr,
    number: usize,
    done: Sender<io::Result<f64>>,
) -> io::Result<Sender<(Event, Instant)>> {
    let name = format!("storm-{number}");
    let connect = |_| Member::connect(address, &name, SESSION_TIMEOUT);
    let mut members: Vec<Member> = (0..MEMBERS).map(connect).collect::<io::Result<_>>()?;
    let (order, orders) = channel();
    let live = move || {
        let (mut since, mut stable) = (Instant::now(), enter(&mut members));
        loop {
            let is_over = stable.is_err();
            let sent = done.send(stable.map(|()| milliseconds(since.elapsed())));
            let (false, Ok(()), Ok((event, began))) = (is_over, sent, orders.recv()) else {
                return;
            };
            (since, stable) = (began, change(&mut members, event));
        }
    };
    let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
    builder.spawn(live)?;
    Ok(order)
}

/// The last member goes or comes, and all others follow. Its connection stays: a thousand new ones at a
/// time are more than Kafka's queue of 50 takes (`socket.listen.backlog.size`).
fn change(members: &mut [Member], event: Event) -> io::Result<()> {
    let Some((last, others)) = members.split_last_mut() else {
        return Ok(());
    };
    match event {
        Event::Leave => {
            last.leave()?;
            await_rebalance(others)?;
            enter(others)
        }
        Event::Join => {
            last.get_id()?;
            last.send_join()?;
            await_rebalance(others)?;
            others.iter_mut().try_for_each(Member::send_join)?;
            follow(members)
        }
    }
}

/// Heartbeats until all members are told to join again.
fn await_rebalance(members: &mut [Member]) -> io::Result<()> {
    let mut asking: Vec<&mut Member> = members.iter_mut().collect();
    loop {
        for member in &mut asking {
            member.send_heartbeat()?;
        }
        let mut untold = Vec::new();
        for member in asking {
            if member.receive_heartbeat()? {
                untold.push(member);
            }
        }
        if untold.is_empty() {
            return Ok(());
        }
        asking = untold;
        std::thread::sleep(HEARTBEAT_INTERVAL);
    }
}

fn enter(members: &mut [Member]) -> io::Result<()> {
    members.iter_mut().try_for_each(Member::send_join)?;
    follow(members)
}

/// What comes behind JoinGroup, until all members have their assignments.
fn follow(members: &mut [Member]) -> io::Result<()> {
    members.iter_mut().try_for_each(Member::receive_join)?;
    members.iter_mut().try_for_each(Member::send_sync)?;
    for member in members {
        if !member.receive_sync()? {
            return Err(io::Error::other("a rebalance without a cause"));
        }
    }
    Ok(())
}
