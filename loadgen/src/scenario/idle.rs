//! `idle`: many connections that do nothing. What does each of them cost the server, and are they all
//! still served at the end?

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde::Serialize;

use super::Findings as Any;
use super::failures::Failures;
use super::process::{Process, allow_files};
use super::storm::OTHER_FILES;
use super::threads::{Threads, join, spawn};
use crate::client::{Cluster, Connection, Error, Sources};
use crate::latency::Latency;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Client, Report, Series, Unit};
use crate::run::Run;
use crate::usage::{Meter, Usage};

/// Threads that open connections.
const MAX_THREADS: usize = 16;
/// How often the server is looked at: the kernel counts CPU time in ticks, of 10 ms as a rule.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often at most, however long it takes.
const MAX_LOOKS: u32 = 600;

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
    served: usize,
    failures: Failures,
    usage: Usage,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    // If there is no broker, this says so at once.
    let cluster = Cluster::new(options.bootstrap.clone(), options.request_timeout);
    drop(cluster.connect()?);
    allow_files(options.connections as u64 + OTHER_FILES)?;
    let before = options.idle.pid.map(Process::look).transpose()?;

    let threads = options.connections.min(MAX_THREADS);
    let gate = Arc::new(Barrier::new(threads + 1));
    let run = Arc::new(Run::new(0));
    run.start();
    let meter = Meter::of_process();
    let progress = Progress::show(&run, "open", options.connections as u64, |run| {
        &run.connects
    });
    let holding = start(options, &run, &gate, threads)?;
    gate.wait();
    drop(progress);
    let opened_ns = run.now_ns();
    // Whatever goes wrong from here on: the threads wait at the gate.
    let looks = look(&run, options.idle.pid, options.idle.time);
    let idle_ns = run.now_ns() - opened_ns;
    gate.wait();
    let figures = Figures::merged(join(holding)?);
    let looks = looks?;
    let open = run.connects.load(Ordering::Relaxed) as usize;

    let mut report = Report::without_topic(options);
    report.latency("connect", &figures.connect);
    report.latency("first answer", &figures.first_answer);
    report.latency("answer after", &figures.after);
    let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
    report.findings = Some(Any::Idle(Findings {
        asked: options.connections,
        open,
        opened_in_seconds: seconds(opened_ns),
        idle_seconds: seconds(idle_ns),
        served: figures.served,
        failures: figures.failures,
        server: server(options.idle.pid, before, &looks, open),
    }));
    report.client = Client::new(meter.stop(), figures.usage, threads);
    report.over_time(&run);
    report.series.extend(series(&looks));
    Ok(report)
}

/// The server at a time of the run.
type Look = (u64, Process);

/// Looks at the server at once and from time to time, until `time` is over. Of one that is not known,
/// there is nothing to see.
fn look(run: &Run, pid: Option<u32>, time: Duration) -> Result<Vec<Look>, Error> {
    let Some(pid) = pid else {
        std::thread::sleep(time);
        return Ok(Vec::new());
    };
    let interval = LOOK_INTERVAL.max(time / MAX_LOOKS);
    let look = || Ok((run.now_ns(), Process::look(pid)?));
    let mut looks = vec![look()?];
    let mut left = time;
    while !left.is_zero() {
        let pause = interval.min(left);
        std::thread::sleep(pause);
        left -= pause;
        looks.push(look()?);
    }
    Ok(looks)
}

/// What the server took over time.
fn series(looks: &[Look]) -> Option<Series> {
    let columns = [("resident", Unit::Bytes), ("CPU", Unit::Share)];
    let mut series = Series::new("server", ("time", Unit::Seconds), &columns);
    for two in looks.windows(2) {
        let [(from_ns, before), (to_ns, now)] = two else {
            continue;
        };
        let cpu = now.cpu.saturating_sub(before.cpu).as_secs_f64();
        let seconds = (to_ns - from_ns) as f64 / 1e9;
        let values = [now.resident as f64, cpu / seconds.max(f64::MIN_POSITIVE)];
        series.point(*to_ns as f64 / 1e9, &values.map(Some));
    }
    (looks.len() > 1).then_some(series)
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
            run: Arc::clone(run),
            bootstrap: options.bootstrap.clone(),
            timeout: options.request_timeout,
            held: Vec::with_capacity(connections),
            figures: Figures::tracked(run),
        };
        let gate = Arc::clone(gate);
        spawn(run, "idle", move || {
            holder.run.wait_for_start();
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
    before: Option<Process>,
    looks: &[Look],
    connections: usize,
) -> Option<Server> {
    let (pid, before) = (pid?, before?);
    let ((_, open), (_, after)) = (*looks.first()?, *looks.last()?);
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
    run: Arc<Run>,
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
                    self.run.connects.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &Error) {
        self.figures.failures.add(error);
        self.run.errors.fetch_add(1, Ordering::Relaxed);
    }

    fn open_one(&mut self, sources: &mut Sources, address: usize) -> Result<Connection, Error> {
        let (run, figures) = (&self.run, &mut self.figures);
        let began_ns = run.now_ns();
        let mut connection = sources.dial(&self.bootstrap[address], self.timeout)?;
        figures.connect.since(began_ns, run.now_ns());
        connection.ask_versions(self.timeout)?;
        figures.first_answer.since(began_ns, run.now_ns());
        connection.rest();
        Ok(connection)
    }

    /// Asks each once more: is it still served?
    fn ask(&mut self) {
        for mut connection in std::mem::take(&mut self.held) {
            let began_ns = self.run.now_ns();
            match connection.ping(self.timeout) {
                Ok(()) => {
                    self.figures.after.since(began_ns, self.run.now_ns());
                    self.figures.served += 1;
                }
                Err(error) => self.failed(&error),
            }
        }
    }
}

impl Figures {
    /// One thread's, of which the run has what was measured when.
    fn tracked(run: &Run) -> Self {
        let latency = |of| Latency::tracked(run.timeline.track(of));
        Self {
            connect: latency("connect"),
            first_answer: latency("first answer"),
            after: latency("answer after"),
            ..Self::default()
        }
    }

    fn merged(all: Vec<Self>) -> Self {
        let mut merged = Self::default();
        for figures in all {
            merged.connect.merge(&figures.connect);
            merged.first_answer.merge(&figures.first_answer);
            merged.after.merge(&figures.after);
            merged.served += figures.served;
            merged.failures.merge(figures.failures);
            merged.usage = merged.usage.most(figures.usage);
        }
        merged
    }
}
