//! `idle`: many connections that do nothing. What does each of them cost the server, and are they all
//! still served at the end?

use std::fmt;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Findings as Any;
use super::failures::Failures;
use super::process::{Process, allow_files};
use super::storm::OTHER_FILES;
use super::threads::{Threads, join, spawn};
use crate::client::{Cluster, Connection, Error, Sources};
use crate::latency::Latency;
use crate::options::Options;
use crate::report::{Client, Report};
use crate::run::Run;
use crate::usage::{Meter, Usage};

/// Threads that open connections.
const MAX_THREADS: usize = 16;

/// What became of the connections, and what they cost.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub asked: usize,
    /// Connections that were opened, in so many seconds.
    pub open: usize,
    pub opened_in_seconds: f64,
    /// How long they did nothing, and how many were served after that.
    pub idle_seconds: f64,
    pub served: usize,
    pub failures: Failures,
    /// None: its process is not known.
    pub server: Option<Server>,
}

/// What the server's process took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Server {
    pub pid: u32,
    /// Resident memory before the first connection, with all of them, and after they were idle.
    pub resident_before: u64,
    pub resident_open: u64,
    pub resident_after: u64,
    /// CPU time while they were opened, and while they were idle.
    pub opening_cpu_seconds: f64,
    pub idle_cpu_seconds: f64,
    pub bytes_per_connection: f64,
}

impl Findings {
    /// Whether all connections were opened, and served to the end.
    pub fn verdict(&self) -> Result<(), String> {
        match self.failures.most() {
            None => Ok(()),
            Some(most) => Err(format!(
                "{} of {} connections were not opened, and {} not served to the end; most often: {most}",
                self.asked - self.open,
                self.asked,
                self.open - self.served
            )),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  connections  {} of {} opened in {:.3} s, idle for {:.1} s; {} served after that",
            self.open, self.asked, self.opened_in_seconds, self.idle_seconds, self.served
        )?;
        self.failures.fmt(f)?;
        let Some(server) = &self.server else {
            return writeln!(
                f,
                "  server       not looked at: its process is not known (--pid)"
            );
        };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "  memory       {:.0} bytes a connection: {:.1} MiB resident before, {:.1} MiB with all, {:.1} MiB after",
            server.bytes_per_connection,
            mib(server.resident_before),
            mib(server.resident_open),
            mib(server.resident_after)
        )?;
        let each = |seconds: f64| seconds * 1e6 / self.open.max(1) as f64;
        writeln!(
            f,
            "  server CPU   {:.1} us to open each; idle: {:.4} cores, {:.3} us a second for each",
            each(server.opening_cpu_seconds),
            server.idle_cpu_seconds / self.idle_seconds,
            each(server.idle_cpu_seconds) / self.idle_seconds
        )
    }
}

/// One thread's figures, or those of all.
#[derive(Debug, Default)]
struct Figures {
    connect: Latency,
    first_answer: Latency,
    /// From a request after the idle time until its answer.
    after: Latency,
    open: usize,
    served: usize,
    failures: Failures,
    usage: Usage,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    // If there is no broker, this says so at once.
    let cluster = Cluster::new(options.bootstrap.clone(), options.request_timeout);
    drop(cluster.connect()?);
    allow_files(options.connections as u64 + OTHER_FILES)?;
    let look = || options.idle.pid.map(Process::look).transpose();
    let before = look()?;

    let threads = options.connections.min(MAX_THREADS);
    let gate = Arc::new(Barrier::new(threads + 1));
    let run = Arc::new(Run::new(0));
    let meter = Meter::of_process();
    let began = Instant::now();
    let holding = start(options, &run, &gate, threads)?;
    gate.wait();
    let opened_in = began.elapsed();
    // Whatever goes wrong from here on: the threads wait at the gate.
    let open = look();
    let idle_since = Instant::now();
    std::thread::sleep(options.idle.time);
    let (idle, after) = (idle_since.elapsed(), look());
    gate.wait();
    let figures = Figures::merged(join(holding)?);
    let server = server(options.idle.pid, [before, open?, after?], figures.open);

    let mut report = Report::without_topic(options);
    report.latency("connect", &figures.connect);
    report.latency("first answer", &figures.first_answer);
    report.latency("answer after", &figures.after);
    report.findings = Some(Any::Idle(Findings {
        asked: options.connections,
        open: figures.open,
        opened_in_seconds: opened_in.as_secs_f64(),
        idle_seconds: idle.as_secs_f64(),
        served: figures.served,
        failures: figures.failures,
        server,
    }));
    report.client = Client::new(meter.stop(), figures.usage, threads);
    Ok(report)
}

/// Starts the threads: each opens its connections, comes to the gate, waits there until the idle time
/// is over, and asks once more.
fn start(
    options: &Options,
    run: &Arc<Run>,
    gate: &Arc<Barrier>,
    threads: usize,
) -> Result<Threads<Figures>, Error> {
    let holder = |number: usize| {
        let connections = (number..options.connections).step_by(threads).len();
        let mut holder = Holder {
            bootstrap: options.bootstrap.clone(),
            timeout: options.request_timeout,
            held: Vec::with_capacity(connections),
            figures: Figures::default(),
        };
        let gate = Arc::clone(gate);
        spawn(run, "idle", move || {
            let meter = Meter::of_thread();
            holder.open(connections);
            gate.wait();
            gate.wait();
            holder.ask();
            holder.figures.usage = meter.stop();
            Ok(holder.figures)
        })
    };
    (0..threads).map(holder).collect()
}

fn server(
    pid: Option<u32>,
    [before, open, after]: [Option<Process>; 3],
    connections: usize,
) -> Option<Server> {
    let (pid, before, open, after) = (pid?, before?, open?, after?);
    let between = |from: Process, to: Process| to.cpu.saturating_sub(from.cpu).as_secs_f64();
    let added = open.resident as f64 - before.resident as f64;
    Some(Server {
        pid,
        resident_before: before.resident,
        resident_open: open.resident,
        resident_after: after.resident,
        opening_cpu_seconds: between(before, open),
        idle_cpu_seconds: between(open, after),
        bytes_per_connection: added / connections.max(1) as f64,
    })
}

/// A thread's connections.
struct Holder {
    bootstrap: Vec<String>,
    timeout: Duration,
    held: Vec<Connection>,
    figures: Figures,
}

impl Holder {
    fn open(&mut self, connections: usize) {
        let mut sources = Sources::default();
        for number in 0..connections {
            if self.figures.failures.hopeless() {
                break;
            }
            let address = number % self.bootstrap.len();
            match self.open_one(&mut sources, address) {
                Ok(connection) => {
                    self.held.push(connection);
                    self.figures.failures.none();
                }
                Err(error) => self.figures.failures.add(&error),
            }
        }
        self.figures.open = self.held.len();
    }

    fn open_one(&mut self, sources: &mut Sources, address: usize) -> Result<Connection, Error> {
        let began = Instant::now();
        let mut connection = sources.dial(&self.bootstrap[address], self.timeout)?;
        self.figures
            .connect
            .record(began.elapsed().as_nanos() as u64);
        connection.ask_versions(self.timeout)?;
        self.figures
            .first_answer
            .record(began.elapsed().as_nanos() as u64);
        connection.rest();
        Ok(connection)
    }

    /// Asks each once more: is it still served?
    fn ask(&mut self) {
        for mut connection in self.held.drain(..) {
            let began = Instant::now();
            match connection.ping(self.timeout) {
                Ok(()) => {
                    self.figures.after.record(began.elapsed().as_nanos() as u64);
                    self.figures.served += 1;
                }
                Err(error) => self.figures.failures.add(&error),
            }
        }
    }
}

impl Figures {
    fn merged(all: Vec<Self>) -> Self {
        let mut merged = Self::default();
        for figures in all {
            merged.connect.merge(&figures.connect);
            merged.first_answer.merge(&figures.first_answer);
            merged.after.merge(&figures.after);
            merged.open += figures.open;
            merged.served += figures.served;
            merged.failures.merge(figures.failures);
            merged.usage = merged.usage.most(figures.usage);
        }
        merged
    }
}
