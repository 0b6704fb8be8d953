//! A small group: how long it takes until it is stable after somebody came or went.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::consumer;
use super::member::{Member, await_coordinator};
use crate::crowd::milliseconds;
use crate::peer::Peer;

/// The shortest that Kafka allows as it comes.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
const ROUNDS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// In the order of the answer of [`run`].
pub const EVENTS: [&str; 4] = [
    "three start a group",
    "one of three leaves",
    "a third joins",
    "one of three crashes",
];

/// Sessions and heartbeats of the consumer protocol are the broker's; Kafka has the same here.
pub const OPTIONS: [&str; 8] = [
    "--group-consumer-min-session-timeout-ms",
    "6000",
    "--group-consumer-session-timeout-ms",
    "6000",
    "--group-consumer-min-heartbeat-interval-ms",
    "500",
    "--group-consumer-heartbeat-interval-ms",
    "500",
];

/// How members of a group live, and how many partitions each of so many has when they are shared out.
pub struct Protocol {
    live: fn(Seat) -> io::Result<()>,
    partitions: fn(usize) -> usize,
}

pub const CLASSIC: Protocol = Protocol {
    live,
    partitions: |_| 1,
};
pub const CONSUMER: Protocol = Protocol {
    live: consumer::live,
    partitions: |members| consumer::PARTITIONS / members,
};

/// Where a member lives.
pub struct Seat {
    pub address: SocketAddr,
    pub group: String,
    pub number: usize,
    pub orders: Receiver<Order>,
    pub synced: Sender<Synced>,
}

/// A member has its assignment.
pub struct Synced {
    pub number: usize,
    /// The member's epoch in the consumer protocol.
    pub generation: i32,
    pub partitions: usize,
    pub at: Instant,
}

pub enum Order {
    Leave,
    /// To close the connection without a word.
    Crash,
}

/// For each event the times to stable in ms, one for each round.
pub fn run(peer: &Peer, protocol: &Protocol) -> io::Result<[Vec<f64>; 4]> {
    await_coordinator(peer.address)?;
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..ROUNDS {
        // Heartbeats are in step since the last rebalance; events come evenly spread between two.
        let pause = HEARTBEAT_INTERVAL * (2 * round + 1) / (2 * ROUNDS);
        let mut group = Group::new(protocol, peer.address, format!("turnover-{round}"));
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
struct Group<'a> {
    protocol: &'a Protocol,
    address: SocketAddr,
    name: String,
    running: Vec<(usize, Sender<Order>, JoinHandle<io::Result<()>>)>,
    synced: (Sender<Synced>, Receiver<Synced>),
    /// Of the last time that all members had the same.
    generation: i32,
}

impl<'a> Group<'a> {
    fn new(protocol: &'a Protocol, address: SocketAddr, name: String) -> Self {
        Group {
            protocol,
            address,
            name,
            running: Vec::new(),
            synced: channel(),
            generation: 0,
        }
    }

    fn start(&mut self, number: usize) -> io::Result<()> {
        let (order, orders) = channel();
        let seat = Seat {
            address: self.address,
            group: self.name.clone(),
            number,
            orders,
            synced: self.synced.0.clone(),
        };
        let live = self.protocol.live;
        let thread = std::thread::Builder::new().spawn(move || live(seat))?;
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
        let mut latest = [(0, 0); 3];
        loop {
            let synced = self.synced.1.recv_timeout(PATIENCE);
            let synced = synced.map_err(|_| self.failure())?;
            latest[synced.number] = (synced.generation, synced.partitions);
            let whole = (
                synced.generation,
                (self.protocol.partitions)(self.running.len()),
            );
            let are_whole = self.running.iter().all(|(n, ..)| latest[*n] == whole);
            if synced.generation > self.generation && are_whole {
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
fn live(seat: Seat) -> io::Result<()> {
    let mut member = Member::connect(seat.address, &seat.group, SESSION_TIMEOUT)?;
    let mut is_stable = false;
    loop {
        while !is_stable {
            member.send_join()?;
            member.receive_join()?;
            member.send_sync()?;
            is_stable = member.receive_sync()?;
            if is_stable {
                let synced = Synced {
                    number: seat.number,
                    generation: member.generation,
                    partitions: 1,
                    at: Instant::now(),
                };
                seat.synced.send(synced).map_err(io::Error::other)?;
            }
        }
        match seat.orders.recv_timeout(HEARTBEAT_INTERVAL) {
            Ok(Order::Leave) => return member.leave(),
            Ok(Order::Crash) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                member.send_heartbeat()?;
                is_stable = member.receive_heartbeat()?;
            }
        }
    }
}
