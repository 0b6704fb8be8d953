//! Many groups that rebalance at the same time.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::member::{Member, await_coordinator};
use crate::crowd::milliseconds;
use crate::peer::Peer;
use crate::report::Figure;

const GROUPS: usize = 1000;
const MEMBERS: usize = 10;
/// So long that nobody has to heartbeat between two storms.
const SESSION_TIMEOUT: Duration = Duration::from_secs(300);
/// Between heartbeats of members that wait to be told of a rebalance.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(10);
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);
/// A group's thread does little.
const STACK_BYTES: usize = 256 << 10;

#[derive(Clone, Copy)]
enum Event {
    Leave,
    Join,
}

/// What came of all rounds of one event.
pub struct Storm {
    pub event: &'static str,
    /// From the event until a group was stable again, of all groups and rounds, sorted.
    pub ms: Vec<f64>,
    /// Of the server for all groups: the median of the rounds.
    pub cpu_seconds: f64,
    pub resident_megabytes: f64,
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
    let storm = |event| Storm {
        event,
        ms: Vec::new(),
        cpu_seconds: 0.0,
        resident_megabytes: 0.0,
    };
    let mut storms = [storm("one of ten leaves"), storm("a tenth joins")];
    let mut cpu = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (n, event) in [Event::Leave, Event::Join].into_iter().enumerate() {
            let (before, began) = (peer.cpu_seconds()?, Instant::now());
            for group in &groups {
                // If it has ended, it has said why.
                let _ = group.send((event, began));
            }
            storms[n].ms.extend(gather(&times)?);
            cpu[n].push(peer.cpu_seconds()? - before);
            storms[n].resident_megabytes = peer.resident_bytes()? as f64 / 1e6;
        }
    }
    for (storm, cpu) in storms.iter_mut().zip(cpu) {
        storm.ms.sort_by(f64::total_cmp);
        storm.cpu_seconds = Figure::of(cpu).median;
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
