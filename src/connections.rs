//! The connections of one shard: accepted within limits, closed when idle, drained at a stop.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustc_hash::FxHashMap;
use shards::local::Notify;
use shards::log_limited;
use shards::net::{Listener, Stream};

use crate::config::Config;
use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::metrics::{Closed, RefusedBy};

/// How often idle connections are looked for, at the most.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Connections of the whole process. Touched when one begins and when it ends, never in between.
#[derive(Debug)]
pub struct ConnectionCounts {
    max: usize,
    max_per_ip: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl ConnectionCounts {
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(ConnectionCounts {
            max: config.max_connections,
            max_per_ip: config.max_connections_per_ip,
            counts: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        shards::lock(&self.counts)
    }

    /// A place for a connection from `ip`, as long as the answer lives.
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Place, RefusedBy> {
        let mut counts = self.lock();
        let of_ip = counts.by_ip.get(&ip).copied().unwrap_or(0);
        if counts.all < self.max && of_ip < self.max_per_ip {
            counts.all += 1;
            *counts.by_ip.entry(ip).or_default() += 1;
            return Ok(Place {
                counts: self.clone(),
                ip,
            });
        }
        let connections = counts.all;
        drop(counts);
        log_limited!(warn, %ip, connections, of_this_address = of_ip,
            "refusing a connection: raise max_connections or max_connections_per_ip if they are wanted");
        Err(match connections < self.max {
            true => RefusedBy::ConnectionsPerIp,
            false => RefusedBy::Connections,
        })
    }
}

struct Place {
    counts: Arc<ConnectionCounts>,
    ip: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.all -= 1;
        if let Some(of_ip) = counts.by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
    }
}

/// The connections of one shard.
pub struct Connections {
    gateway: Rc<Gateway>,
    counts: Arc<ConnectionCounts>,
    open: RefCell<FxHashMap<u64, Rc<Connection>>>,
    ended: Notify,
}

impl Connections {
    pub fn new(gateway: Rc<Gateway>, counts: Arc<ConnectionCounts>) -> Rc<Self> {
        Rc::new(Connections {
            gateway,
            counts,
            open: RefCell::default(),
            ended: Notify::new(),
        })
    }

    /// Takes connections until the listener ends.
    pub fn accept_from(self: &Rc<Self>, listener: Listener) {
        let this = self.clone();
        self.gateway.shard().spawn(async move {
            let mut number = u64::from(listener.local_addr().port()) << 48;
            while let Some(stream) = listener.accept().await {
                number += 1;
                this.take(stream, number);
            }
        });
    }

    fn take(self: &Rc<Self>, stream: Stream, number: u64) {
        let place = match self.counts.enter(stream.peer_addr().ip()) {
            Ok(place) => place,
            Err(by) => return self.gateway.metrics().refused[by as usize].add(1),
        };
        let connection = Connection::new(stream, self.gateway.clone());
        self.open.borrow_mut().insert(number, connection.clone());
        let entry = Entry {
            connections: self.clone(),
            number,
            _place: place,
        };
        self.gateway.shard().spawn(async move {
            connection.serve().await;
            drop(entry);
        });
    }

    /// Closes connections that were idle for too long, and those that keep memory in use which others
    /// wait for, for as long as the shard runs.
    pub fn sweep(self: &Rc<Self>) {
        let max_idle = self.gateway.config().connections_max_idle;
        let max_stall = self.gateway.config().stalled_client_timeout;
        let this = self.clone();
        self.gateway.shard().spawn(async move {
            loop {
                let interval = max_idle.min(max_stall) / 4;
                shards::sleep(interval.min(SWEEP_INTERVAL_MAX)).await;
                let short = this.gateway.is_short_of_memory();
                for connection in this.open.borrow().values() {
                    if connection.idle_for() >= max_idle {
                        connection.close(Closed::Idle);
                    } else if short && connection.stalls_for() >= max_stall {
                        connection.close(Closed::Stalled);
                    }
                }
            }
        });
    }

    /// Takes no more requests, and waits until those taken are answered, up to `patience`.
    pub async fn drain(&self, patience: Duration) {
        self.open.borrow().values().for_each(|c| c.stop_reading());
        let all_ended = async {
            while !self.open.borrow().is_empty() {
                self.ended.notified().await;
            }
        };
        if shards::timeout(patience, all_ended).await.is_err() {
            let open = self.open.borrow();
            tracing::warn!(
                connections = open.len(),
                "closing connections whose clients do not take their answers"
            );
            open.values().for_each(|c| c.close(Closed::Stop));
        }
    }
}

/// A connection's place in the list, until its task ends, by a panic too.
struct Entry {
    connections: Rc<Connections>,
    number: u64,
    _place: Place,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.number);
        self.connections.ended.notify_waiters();
    }
}
