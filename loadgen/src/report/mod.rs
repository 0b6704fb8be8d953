//! What comes out of a run: as text and as a page for people, as JSON for programs.
//!
//! A scenario fills a [`Report`] with what all have (load, latencies, verdict), and with [`Table`]s and
//! [`Series`] of its own; what shows a report does not know the scenarios. A [`Document`] is a report
//! with what was asked for and where it ran; it is what files have, and what is compared.

pub mod compare;
mod document;
mod figure;
mod hgrm;
mod html;
mod text;
mod trust;

use serde::{Deserialize, Serialize};

use crate::client::Topic;
use crate::consumer::Consumed;
use crate::latency::{DecodeError, Latency, PERCENTILES};
use crate::machine::{Activity, Check};
use crate::options::Options;
use crate::producer;
use crate::run::Run;
use crate::scenario::Findings;
use crate::sequence::Faults;
use crate::server::Server;
use crate::timeline::{SCHEDULE_LAG, SERVICE};
use crate::usage::{ProcessUsage, Usage};
use crate::window::Window;

pub use document::{Document, Environment, ReadError};
pub use figure::{Column, Series, Table, Unit};
pub use hgrm::write_hgrm;
pub use html::{comparison_page, page};
pub use trust::{Doubt, Evidence, doubts};

/// A run's figures.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// As on the command line.
    pub scenario: String,
    /// What was asked for, in a sentence.
    pub description: String,
    pub topic: String,
    pub partitions: usize,
    pub brokers: usize,
    pub load: Load,
    pub latencies: Vec<Times>,
    pub sending: Option<Sending>,
    pub reading: Option<Reading>,
    pub client: Client,
    /// What this scenario has to say in its own words; read back, what is in the tables and series.
    #[serde(flatten, skip_deserializing)]
    pub findings: Option<Findings>,
    /// None: it was not asked for.
    pub checked: Option<Checked>,
    /// What this scenario has and others have not.
    pub tables: Vec<Table>,
    /// What was measured over time, and other lines to draw.
    pub series: Vec<Series>,
    /// The machine before the run; none: nobody looked.
    pub check: Option<Check>,
    /// Why figures may not be the broker's.
    pub doubts: Vec<Doubt>,
    /// What else is to be said of how the run went.
    pub warnings: Vec<String>,
    pub server: Server,
}

/// How much was done in which time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    pub messages: u64,
    /// From the first message (when it was to be sent) to the end of the last one.
    pub seconds: f64,
    pub messages_per_second: f64,
    /// Megabytes (1000000 bytes) of the messages' values.
    pub megabytes_per_second: f64,
}

/// A histogram, and its percentiles in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Times {
    pub of: String,
    pub count: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub p99_99_ns: u64,
    pub max_ns: u64,
    /// All of it: HdrHistogram's V2 encoding, compressed, in base64.
    pub histogram: String,
}

/// What producers did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sending {
    pub requests: u64,
    pub batches: u64,
    pub messages: u64,
    pub retries: u64,
}

/// What consumers did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reading {
    pub fetches: u64,
    pub messages: u64,
    /// Messages that are not of this program, or not of this run.
    pub others: u64,
    pub retries: u64,
}

/// What the run cost this process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Client {
    /// Cores that it kept busy, on average.
    pub cores: f64,
    /// The most that any thread had of each.
    pub worst_thread: Usage,
    pub threads: usize,
    /// What the whole machine did meanwhile.
    pub machine: Activity,
}

/// Whether what was read is what was sent.
#[derive(Debug, Serialize, Deserialize)]
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
    pub fn new(process: ProcessUsage, worst_thread: Usage, threads: usize) -> Self {
        Self {
            cores: process.usage.cpu,
            worst_thread,
            threads,
            machine: process.machine,
        }
    }
}

impl Times {
    fn new(of: &str, latency: &Latency) -> Self {
        let [p50_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns] =
            PERCENTILES.map(|percent| latency.percentile_ns(percent));
        Self {
            of: of.to_owned(),
            count: latency.count(),
            mean_ns: latency.mean_ns(),
            p50_ns,
            p90_ns,
            p99_ns,
            p99_9_ns,
            p99_99_ns,
            max_ns: latency.max_ns(),
            histogram: latency.encode(),
        }
    }

    /// The histogram.
    ///
    /// # Errors
    /// If the text is none, as it may be in a file.
    pub fn decoded(&self) -> Result<Latency, DecodeError> {
        Latency::decode(&self.histogram)
    }

    /// The percentiles, each with its time in nanoseconds.
    pub fn percentiles(&self) -> [(f64, u64); 5] {
        let [p50, p90, p99, p99_9, p99_99] = PERCENTILES;
        [
            (p50, self.p50_ns),
            (p90, self.p90_ns),
            (p99, self.p99_ns),
            (p99_9, self.p99_9_ns),
            (p99_99, self.p99_99_ns),
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
            scenario: options.scenario.to_string(),
            description: text::describe(options),
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
            tables: Vec::new(),
            series: Vec::new(),
            check: None,
            doubts: Vec::new(),
            warnings: Vec::new(),
            server: Server::default(),
        }
    }

    /// Adds a line of times, if there are any.
    pub fn latency(&mut self, of: &str, latency: &Latency) {
        if latency.count() > 0 {
            self.latencies.push(Times::new(of, latency));
        }
    }

    /// Adds what its latencies were over time.
    pub fn over_time(&mut self, run: &Run) {
        let tracks = run.timeline.tracks();
        for times in &self.latencies {
            let track = tracks.iter().find(|track| track.of == times.of);
            self.series
                .extend(track.map(|track| Series::of_track(track)));
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
        self.latency(acknowledged(options.acks), &produced.ack);
        self.latency(SERVICE, &produced.service);
        if options.rate.is_some() {
            self.latency(SCHEDULE_LAG, &produced.lag);
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

    /// Says where the machine or the client, and not the broker, may be what the figures show.
    pub fn judge(&mut self, check: Option<Check>) {
        self.check = check;
        self.doubts = doubts(&Evidence {
            measured: self.latencies.first(),
            lag: self.times(SCHEDULE_LAG),
            worst_thread: self.client.worst_thread,
            during: self.client.machine,
            check: self.check.as_ref(),
        });
    }

    /// The times of this name.
    pub fn times(&self, of: &str) -> Option<&Times> {
        self.latencies.iter().find(|times| times.of == of)
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

/// What the time until a message is acknowledged is called: with acks=0, it is only sent.
pub fn acknowledged(acks: i16) -> &'static str {
    match acks {
        0 => "sent",
        _ => "ack",
    }
}
