//! `storm`: clients that come, ask what every client asks first, and go: how many a second, and how
//! long does each wait? What fails is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::Findings as Any;
use super::failures::Failures;
use super::process::allow_files;
use super::threads::{join, spawn};
use crate::client::{Cluster, Error, Sources};
use crate::latency::Latency;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Client, Report};
use crate::run::Run;
use crate::schedule::Schedule;
use crate::timeline::SCHEDULE_LAG;
use crate::usage::{Meter, ProcessMeter, Usage};
use crate::window::Window;

/// Files that are open besides connections.
pub const OTHER_FILES: u64 = 64;
/// A delay, as a share of what was measured, that says that there were too few threads.
const LATE: f64 = 0.25;

/// How many came, and what went wrong.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub asked: u64,
    pub connects: u64,
    pub seconds: f64,
    pub connects_per_second: f64,
    pub failures: Failures,
}

impl Findings {
    /// Whether all connections did what they had to.
    pub fn verdict(&self) -> Result<(), String> {
        match self.failures.most() {
            None => Ok(()),
            Some(most) => Err(format!(
                "{} of {} connections failed; most often: {most}",
                self.failures.count(),
                self.asked
            )),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  connects     {:.0}/s: {} of {} in {:.3} s, {} failed",
            self.connects_per_second,
            self.connects,
            self.asked,
            self.seconds,
            self.failures.count()
        )?;
        self.failures.fmt(f)
    }
}

/// One thread's figures, or those of all.
#[derive(Debug, Default)]
struct Figures {
    /// From the time a connection was to be opened until it was, until ApiVersions was answered, and
    /// until Metadata was.
    connect: Latency,
    first_answer: Latency,
    metadata: Latency,
    /// How late a thread came to it.
    lag: Latency,
    window: Window,
    failures: Failures,
    usage: Usage,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    // If there is no broker, or none that says what is asked, this says so at once.
    let cluster = Cluster::new(options.bootstrap.clone(), options.request_timeout);
    let mut first = cluster.connect()?;
    if options.storm.metadata {
        Cluster::ask_brokers(&mut first, options.request_timeout)?;
    }
    drop(first);
    let threads = options.connections;
    allow_files(threads as u64 + OTHER_FILES)?;
    let run = Arc::new(Run::new(0));
    run.start();
    let meter = Meter::of_process();
    let progress = Progress::show(&run, "storm", options.storm.connects, |run| &run.connects);
    let started: Result<Vec<_>, Error> = (0..threads)
        .map(|number| {
            let comer = Comer {
                run: Arc::clone(&run),
                bootstrap: options.bootstrap.clone(),
                timeout: options.request_timeout,
                metadata: options.storm.metadata,
                schedule: Schedule::new(options.rate, number..number + 1, threads),
                sources: Sources::default(),
                figures: Figures::tracked(&run),
            };
            let connects = options.storm.connects;
            spawn(&run, "storm", move || Ok(comer.run(connects)))
        })
        .collect();
    let figures = Figures::merged(join(started?)?);
    drop(progress);
    Ok(report(options, figures, &meter, &run))
}

fn report(options: &Options, figures: Figures, meter: &ProcessMeter, run: &Run) -> Report {
    let mut report = Report::without_topic(options);
    report.latency("connect", &figures.connect);
    report.latency("first answer", &figures.first_answer);
    report.latency("metadata", &figures.metadata);
    let seconds = figures.window.seconds();
    if options.rate.is_some() {
        report.latency(SCHEDULE_LAG, &figures.lag);
        let (lag, all) = (&figures.lag, &figures.first_answer);
        if lag.percentile_ns(99.0) as f64 > all.percentile_ns(99.0) as f64 * LATE {
            report.warnings.push(format!(
                "connections were opened late: all {} threads were taken (more --connections?), or the client itself was slow",
                options.connections
            ));
        }
    }
    let connects = run.connects.load(Ordering::Relaxed);
    report.findings = Some(Any::Storm(Findings {
        asked: options.storm.connects,
        connects,
        seconds,
        connects_per_second: connects as f64 / seconds.max(f64::MIN_POSITIVE),
        failures: figures.failures,
    }));
    report.client = Client::new(meter.stop(), figures.usage, options.connections);
    report.over_time(run);
    report
}

/// A thread that opens one connection after the other.
struct Comer {
    run: Arc<Run>,
    bootstrap: Vec<String>,
    timeout: Duration,
    metadata: bool,
    schedule: Schedule,
    sources: Sources,
    figures: Figures,
}

impl Comer {
    /// Opens this thread's share of all `connects`.
    fn run(mut self, connects: u64) -> Figures {
        self.run.wait_for_start();
        let meter = Meter::of_thread();
        for number in 0..self.schedule.share(connects) {
            if self.figures.failures.hopeless() || self.run.stopped() {
                break;
            }
            let began_ns = self.wait_until(self.schedule.intended_ns(number));
            let address = (self.schedule.index(number) % self.bootstrap.len() as u64) as usize;
            match self.come_and_go(address, began_ns) {
                Ok(()) => {
                    self.figures.failures.none();
                    self.run.connects.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.figures.failures.add(&error);
                    self.run.errors.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.figures.window.include(began_ns, self.run.now_ns());
        }
        self.figures.usage = meter.stop();
        self.figures
    }

    /// From when on the next connection's time counts.
    fn wait_until(&mut self, intended_ns: Option<u64>) -> u64 {
        let Some(intended_ns) = intended_ns else {
            return self.run.now_ns();
        };
        let early_ns = intended_ns.saturating_sub(self.run.now_ns());
        std::thread::sleep(Duration::from_nanos(early_ns));
        self.figures.lag.since(intended_ns, self.run.now_ns());
        intended_ns
    }

    fn come_and_go(&mut self, address: usize, began_ns: u64) -> Result<(), Error> {
        let (run, figures) = (&self.run, &mut self.figures);
        let address = &self.bootstrap[address];
        let mut connection = self.sources.dial(address, self.timeout)?;
        figures.connect.since(began_ns, run.now_ns());
        connection.ask_versions(self.timeout)?;
        figures.first_answer.since(began_ns, run.now_ns());
        if self.metadata {
            Cluster::ask_brokers(&mut connection, self.timeout)?;
            figures.metadata.since(began_ns, run.now_ns());
        }
        Ok(())
    }
}

impl Figures {
    /// One thread's, of which the run has what was measured when.
    fn tracked(run: &Run) -> Self {
        let latency = |of| Latency::tracked(run.timeline.track(of));
        Self {
            connect: latency("connect"),
            first_answer: latency("first answer"),
            metadata: latency("metadata"),
            lag: latency(SCHEDULE_LAG),
            ..Self::default()
        }
    }

    fn merged(all: Vec<Self>) -> Self {
        let mut merged = Self::default();
        for figures in all {
            merged.connect.merge(&figures.connect);
            merged.first_answer.merge(&figures.first_answer);
            merged.metadata.merge(&figures.metadata);
            merged.lag.merge(&figures.lag);
            merged.window.merge(figures.window);
            merged.failures.merge(figures.failures);
            merged.usage = merged.usage.most(figures.usage);
        }
        merged
    }
}
