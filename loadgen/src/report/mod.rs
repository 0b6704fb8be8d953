//! What comes out of a run: as text for people, as JSON for programs.

mod json;
mod text;

use serde::Serialize;

use crate::client::Topic;
use crate::consumer::Consumed;
use crate::latency::{Latency, PERCENTILES};
use crate::options::{Options, Scenario};
use crate::producer;
use crate::scenario::Findings;
use crate::sequence::Faults;
use crate::usage::Usage;
use crate::window::Window;

pub use json::write_json;

/// From this share of a core on, a thread may be what limits the run.
const BUSY: f64 = 0.9;
/// A thread that waits this share of the time for a core is late for that.
const STARVED: f64 = 0.2;
/// The client's own delay, as a share of what it measured, that is too much.
const LATE: f64 = 0.25;

/// A run's figures.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: Scenario,
    pub topic: String,
    pub partitions: usize,
    pub brokers: usize,
    pub load: Load,
    pub latencies: Vec<Times>,
    pub sending: Option<Sending>,
    pub reading: Option<Reading>,
    pub client: Client,
    #[serde(flatten)]
    pub findings: Option<Findings>,
    /// None: it was not asked for.
    pub checked: Option<Checked>,
    pub warnings: Vec<String>,
    #[serde(skip)]
    lag_p99_ns: Option<u64>,
    #[serde(skip)]
    description: String,
}

/// How much was done in which time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Load {
    pub messages: u64,
    /// From the first message (when it was to be sent) to the end of the last one.
    pub seconds: f64,
    pub messages_per_second: f64,
    /// Megabytes (1000000 bytes) of the messages' values.
    pub megabytes_per_second: f64,
}

/// A histogram's percentiles, in nanoseconds.
#[derive(Debug, Serialize)]
pub struct Times {
    pub of: &'static str,
    pub count: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub p99_99_ns: u64,
    pub max_ns: u64,
}

/// What producers did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sending {
    pub requests: u64,
    pub batches: u64,
    pub messages: u64,
    pub retries: u64,
}

/// What consumers did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Reading {
    pub fetches: u64,
    pub messages: u64,
    /// Messages that are not of this program, or not of this run.
    pub others: u64,
    pub retries: u64,
}

/// What the run cost this process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Client {
    /// Cores that it kept busy, on average.
    pub cores: f64,
    /// The most that any thread had of each.
    pub worst_thread: Usage,
    pub threads: usize,
}

/// Whether what was read is what was sent.
#[derive(Debug, Serialize)]
pub struct Checked {
    pub messages: u64,
    pub faults: Faults,
    pub first_fault: Option<String>,
}

impl From<&Consumed> for Checked {
    fn from(consumed: &Consumed) -> Self {
        Self {
            messages: consumed.messages - consumed.others,
            faults: consumed.verdict.faults,
            first_fault: consumed.verdict.example.clone(),
        }
    }
}

impl Load {
    /// Messages whose values have so many bytes together, in this time.
    pub fn new(messages: u64, bytes: u64, window: Window) -> Self {
        let seconds = window.seconds();
        let per_second = |amount: f64| match seconds > 0.0 {
            true => amount / seconds,
            false => 0.0,
        };
        Self {
            messages,
            seconds,
            messages_per_second: per_second(messages as f64),
            megabytes_per_second: per_second(bytes as f64 / 1e6),
        }
    }
}

impl Client {
    /// `process` is the usage of all threads together.
    pub fn new(process: Usage, worst_thread: Usage, threads: usize) -> Self {
        Self {
            cores: process.cpu,
            worst_thread,
            threads,
        }
    }
}

impl Times {
    fn new(of: &'static str, latency: &Latency) -> Self {
        let [p50_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns] =
            PERCENTILES.map(|percent| latency.percentile_ns(percent));
        Self {
            of,
            count: latency.count(),
            mean_ns: latency.mean_ns(),
            p50_ns,
            p90_ns,
            p99_ns,
            p99_9_ns,
            p99_99_ns,
            max_ns: latency.max_ns(),
        }
    }

    fn columns(&self) -> [u64; 6] {
        [
            self.p50_ns,
            self.p90_ns,
            self.p99_ns,
            self.p99_9_ns,
            self.p99_99_ns,
            self.max_ns,
        ]
    }
}

impl Report {
    /// A report without figures, of a run that has no topic.
    pub fn without_topic(options: &Options) -> Self {
        Self::new(options, &Topic::default())
    }

    /// A report without figures.
    pub fn new(options: &Options, topic: &Topic) -> Self {
        let mut brokers: Vec<i32> = topic.leaders.clone();
        brokers.sort_unstable();
        brokers.dedup();
        Self {
            scenario: options.scenario,
            topic: topic.name.to_string(),
            partitions: topic.leaders.len(),
            brokers: brokers.len(),
            load: Load::default(),
            latencies: Vec::new(),
            sending: None,
            reading: None,
            client: Client::default(),
            findings: None,
            checked: None,
            warnings: Vec::new(),
            lag_p99_ns: None,
            description: text::describe(options),
        }
    }

    /// Adds a line of times, if there are any.
    pub fn latency(&mut self, of: &'static str, latency: &Latency) {
        if latency.count() > 0 {
            self.latencies.push(Times::new(of, latency));
        }
    }

    /// Adds what producers did, and how long messages took until they were acknowledged.
    pub fn produced(&mut self, produced: &producer::Figures, options: &Options) {
        self.sending = Some(Sending {
            requests: produced.requests,
            batches: produced.batches,
            messages: produced.total_sent(),
            retries: produced.retries,
        });
        let acknowledged = match options.acks {
            0 => "sent",
            _ => "ack",
        };
        self.latency(acknowledged, &produced.ack);
        self.latency("service", &produced.service);
        if options.rate.is_some() {
            self.lag_p99_ns = Some(produced.lag.percentile_ns(99.0));
            self.latency("schedule lag", &produced.lag);
        }
    }

    /// Adds what consumers did.
    pub fn consumed(&mut self, consumed: &Consumed) {
        self.reading = Some(Reading {
            fetches: consumed.fetches,
            messages: consumed.messages,
            others: consumed.others,
            retries: consumed.retries,
        });
    }

    /// Says where the client, and not the broker, may have been the limit.
    pub fn warn(&mut self) {
        let Usage { cpu, queued } = self.client.worst_thread;
        if cpu >= BUSY {
            self.warnings.push(format!(
                "a thread of the client was busy for {:.0} % of the time: the figures may show the client's limit",
                cpu * 100.0
            ));
        }
        if let Some(queued) = queued.filter(|queued| *queued >= STARVED) {
            self.warnings.push(format!(
                "a thread of the client waited for a core for {:.0} % of the time: the machine has too few",
                queued * 100.0
            ));
        }
        let measured = self.latencies.first().map_or(0, |times| times.p99_ns);
        if let Some(lag_ns) = self.lag_p99_ns
            && lag_ns as f64 > measured as f64 * LATE
        {
            self.warnings.push(format!(
                "the client was late itself: its schedule lag is {:.0} % of the latency at p99",
                lag_ns as f64 * 100.0 / measured.max(1) as f64
            ));
        }
    }

    /// What went wrong, or is wrong with what was read, if anything is.
    ///
    /// # Errors
    /// That, as one line.
    pub fn verdict(&self) -> Result<(), String> {
        if let Some(findings) = &self.findings {
            findings.verdict()?;
        }
        match &self.checked {
            Some(checked) if !checked.faults.none() => Err(format!(
                "what was read is not what was sent: {}; for example, {}",
                checked.faults,
                checked.first_fault.as_deref().unwrap_or("no example")
            )),
            _ => Ok(()),
        }
    }
}
