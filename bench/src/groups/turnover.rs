//! A small group: how long it takes until it is stable after somebody came or went.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::member::{Member, await_coordinator};
use crate::crowd::milliseconds;
use crate::peer::Peer;

/// The shortest that Kafka allows as it comes.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
const ROUNDS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// In the order of the answer of [`run`].
pub const EVENTS: [&str; 4] = [
    "three start a group",
    "one of three leaves",
    "a third joins",
    "one of three crashes",
];

/// A member has its assignment.
struct Synced {
    number: usize,
    generation: i32,
    at: Instant,
}

enum Order {
    Leave,
    /// To close the connection without a word.
    Crash,
}

/// For each event the times to stable in ms, one for each round.
pub fn run(peer: &Peer) -> io::Result<[Vec<f64>; 4]> {
    await_coordinator(peer.address)?;
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..ROUNDS {
        // Heartbeats are in step since the last rebalance; events come evenly spread between two.
        let pause = HEARTBEAT_INTERVAL * (2 * round + 1) / (2 * ROUNDS);
        let mut group = Group::new(peer.address, format!("turnover-{round}"));
        times[0].push(group.after(Duration::ZERO, |g| (0..3).try_for_each(|n| g.start(n)))?);
        times[1].push(group.after(pause, |g| g.end(2, Order::Leave))?);
        times[2].push(group.after(pause, |g| g.start(2))?);
        times[3].push(group.after(pause, |g| g.end(2, Order::Crash))?);
        group.end(1, Order::Leave)?;
        group.end(0, Order::Leave)?;
    }
    Ok(times)
}

/// A group whose members are threads.
struct Group {
    address: SocketAddr,
    name: String,
    running: Vec<(usize, Sender<Order>, JoinHandle<io::Result<()>>)>,
    synced: (Sender<Synced>, Receiver<Synced>),
    /// Of the last time that all members had the same.
    generation: i32,
}

impl Group {
    fn new(address: SocketAddr, name: String) -> Self {
        Group {
            address,
            name,
            running: Vec::new(),
            synced: channel(),
            generation: 0,
        }
    }

    fn start(&mut self, number: usize) -> io::Result<()> {
        let (order, orders) = channel();
        let (address, group, synced) = (self.address, self.name.clone(), self.synced.0.clone());
        let live = move || {
            let member = Member::connect(address, &group, SESSION_TIMEOUT)?;
            live(member, number, &orders, &synced)
        };
        let thread = std::thread::Builder::new().spawn(live)?;
        self.running.push((number, order, thread));
        Ok(())
    }

    fn end(&mut self, number: usize, order: Order) -> io::Result<()> {
        let at = self.running.iter().position(|(n, ..)| *n == number);
        let at = at.ok_or_else(|| io::Error::other("no such member"))?;
        let (_, orders, thread) = self.running.remove(at);
        // If it has ended, it says why.
        let _ = orders.send(order);
        let panicked = |_| Err(io::Error::other("a panic"));
        thread.join().unwrap_or_else(panicked)
    }

    /// From `event` until all members have their parts of one generation after it, in ms.
    fn after(
        &mut self,
        pause: Duration,
        event: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<f64> {
        std::thread::sleep(pause);
        let began = Instant::now();
        event(self)?;
        let mut latest = [0; 3];
        loop {
            let synced = self.synced.1.recv_timeout(PATIENCE);
            let synced = synced.map_err(|_| self.failure())?;
            latest[synced.number] = synced.generation;
            let is_in = |(number, ..): &(usize, _, _)| latest[*number] == synced.generation;
            if synced.generation > self.generation && self.running.iter().all(is_in) {
                self.generation = synced.generation;
                return Ok(milliseconds(synced.at - began));
            }
        }
    }

    /// Why nothing comes any more.
    fn failure(&mut self) -> io::Error {
        let ended = |(_, _, thread): &(usize, _, JoinHandle<_>)| thread.is_finished();
        let at = self.running.iter().position(ended);
        let result = at.map(|at| self.running.remove(at).2.join());
        match result {
            Some(Ok(Err(error))) => error,
            _ => io::Error::other("the group does not become stable"),
        }
    }
}

/// Joins again whenever a rebalance begins, until it is told to go.
fn live(
    mut member: Member,
    number: usize,
    orders: &Receiver<Order>,
    synced: &Sender<Synced>,
) -> io::Result<()> {
    let mut is_stable = false;
    loop {
        while !is_stable {
            member.send_join()?;
            member.receive_join()?;
            member.send_sync()?;
            is_stable = member.receive_sync()?;
            if is_stable {
                let (generation, at) = (member.generation, Instant::now());
                let synced = synced.send(Synced {
                    number,
                    generation,
                    at,
                });
                synced.map_err(io::Error::other)?;
            }
        }
        match orders.recv_timeout(HEARTBEAT_INTERVAL) {
            Ok(Order::Leave) => return member.leave(),
            Ok(Order::Crash) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                member.send_heartbeat()?;
                is_stable = member.receive_heartbeat()?;
            }
        }
    }
}
