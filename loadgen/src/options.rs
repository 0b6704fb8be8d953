//! What a run is asked to do, and how the values of the command line are read.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tidegate::record::Compression;

use crate::payload::HEAD_LEN;
use crate::payload::keys::{Keys, MAX_KEYS};
use crate::payload::sizes::Sizes;
use crate::schedule::MAX_MESSAGES;

/// Kafka keeps the last five batches of an idempotent producer to know a retry by.
pub const MAX_IDEMPOTENT_IN_FLIGHT: usize = 5;
/// Each connection is a thread, but where they are idle.
const MAX_CONNECTIONS: usize = 1024;
const MAX_IDLE_CONNECTIONS: usize = 1_000_000;
const MAX_IN_FLIGHT: usize = 10_000;
const MAX_PARTITIONS: i32 = 100_000;
/// A batch, or a message, larger than what any broker is set to take.
const MAX_BYTES: usize = 256 << 20;
/// So that a time and the next one differ.
const MAX_RATE: u64 = 1_000_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Sending: throughput, and the time until it is acknowledged.
    Produce,
    /// Reading what is there.
    Consume,
    /// The way of a message from the time it was to be sent until a consumer has it.
    #[default]
    E2e,
    /// Sending and reading at the same time, each at a rate of its own.
    Mixed,
    /// How far the rate can rise.
    Sweep,
    /// Connections that come, ask and go.
    Storm,
    /// Connections that do nothing.
    Idle,
}

/// As on the command line.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::E2e => "e2e",
            Self::Mixed => "mixed",
            Self::Sweep => "sweep",
            Self::Storm => "storm",
            Self::Idle => "idle",
        })
    }
}

/// What is done before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Warmup {
    Messages(u64),
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    Time(Duration),
}

impl Default for Warmup {
    fn default() -> Self {
        Self::Messages(0)
    }
}

/// A run, as it was asked for. What a scenario does not have is nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Options {
    pub scenario: Scenario,
    /// Addresses to ask first, each `host:port`.
    pub bootstrap: Vec<String>,
    /// None: a new one, which is deleted at the end.
    pub topic: Option<String>,
    /// None: those of the topic, or the default for a new one.
    pub partitions: Option<i32>,
    /// Messages that are measured.
    pub messages: u64,
    /// Of a message's value.
    pub size: Sizes,
    #[serde(serialize_with = "as_text")]
    pub keys: Keys,
    /// Share of the bytes behind a message's fields that are random; none: letters.
    pub entropy: Option<f64>,
    pub acks: i16,
    #[serde(serialize_with = "as_name")]
    pub compression: Compression,
    /// None: that of Kafka.
    pub compression_level: Option<i32>,
    pub batch_bytes: usize,
    #[serde(rename = "linger_seconds", serialize_with = "as_seconds")]
    pub linger: Duration,
    /// Requests on a connection that wait for their answer.
    pub in_flight: usize,
    /// Connections to each broker, of producers and of consumers each.
    pub connections: usize,
    /// Messages, or connections, a second, of all threads together; none: as fast as they are taken.
    pub rate: Option<u64>,
    pub warmup: Warmup,
    pub idempotence: bool,
    /// Whether `produce` reads back what it wrote.
    pub verify: bool,
    #[serde(rename = "delivery_timeout_seconds", serialize_with = "as_seconds")]
    pub delivery_timeout: Duration,
    #[serde(rename = "request_timeout_seconds", serialize_with = "as_seconds")]
    pub request_timeout: Duration,
    pub mixed: Mixed,
    pub sweep: Sweep,
    pub storm: Storm,
    pub idle: Idle,
    #[serde(skip)]
    pub output: Output,
}

/// What becomes of the figures, besides the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub json: Option<PathBuf>,
    /// Percentiles in HdrHistogram's text format.
    pub hgrm: Option<PathBuf>,
    pub html: Option<PathBuf>,
    /// Where the server's metrics are: `host:port`.
    pub metrics: Option<String>,
    /// Whether the machine is looked at before the run.
    pub box_check: bool,
}

/// Of `mixed` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Mixed {
    /// Messages a second, of all consumers together; none: as fast as they come.
    pub consume_rate: Option<u64>,
    /// Messages of a new topic that are there before it begins.
    pub backlog: u64,
}

/// Of `sweep` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sweep {
    /// What the 99th percentile may not exceed.
    #[serde(rename = "p99_max_seconds", serialize_with = "as_seconds")]
    pub p99_max: Duration,
    #[serde(rename = "step_seconds", serialize_with = "as_seconds")]
    pub step: Duration,
    /// What the rate is multiplied by from step to step.
    pub factor: f64,
    pub max_rate: u64,
    /// Steps between the last rate that held and the first one that did not.
    pub refine: u32,
}

/// Of `storm` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Storm {
    /// Connections in all.
    pub connects: u64,
    /// Whether each asks for the cluster's metadata as well.
    pub metadata: bool,
}

/// Of `idle` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Idle {
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub time: Duration,
    /// The server's process, on this machine.
    pub pid: Option<u32>,
}

/// Whether an option's value is within its limits.
fn fits(name: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(format!("--{name} must be from {least} to {most}")),
    }
}

impl Options {
    /// What fits no run, as a sentence.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        fits("rate", self.rate.unwrap_or(1), 1, MAX_RATE)?;
        let connections = self.connections as u64;
        match self.scenario {
            Scenario::Storm => {
                fits("connects", self.storm.connects, 1, MAX_MESSAGES)?;
                fits("connections", connections, 1, MAX_CONNECTIONS as u64)
            }
            Scenario::Idle => fits("connections", connections, 1, MAX_IDLE_CONNECTIONS as u64),
            _ => {
                fits("connections", connections, 1, MAX_CONNECTIONS as u64)?;
                self.check_load()?;
                self.check_producers()
            }
        }
    }

    fn check_load(&self) -> Result<(), String> {
        match self.scenario {
            Scenario::Sweep => self.check_sweep()?,
            _ => fits("messages", self.messages, 1, MAX_MESSAGES / 2)?,
        }
        if let Warmup::Messages(messages) = self.warmup {
            fits("warmup", messages, 0, MAX_MESSAGES / 2)?;
        }
        if self.scenario == Scenario::Mixed {
            fits("backlog", self.mixed.backlog, 0, MAX_MESSAGES / 2)?;
        }
        let (least, most) = (self.size.least() as u64, self.size.most() as u64);
        fits("size", least, HEAD_LEN as u64, MAX_BYTES as u64)?;
        fits("size", most, least, MAX_BYTES as u64)?;
        match self.keys {
            Keys::None => Ok(()),
            Keys::Sequential(keys) | Keys::Random(keys) | Keys::Zipf(keys) => {
                fits("keys", keys, 1, MAX_KEYS)
            }
        }
    }

    fn check_sweep(&self) -> Result<(), String> {
        let sweep = &self.sweep;
        let first = self.rate.unwrap_or_default();
        fits("rate", first, 1, MAX_RATE)?;
        fits("max-rate", sweep.max_rate, first, MAX_RATE)?;
        let messages = u128::from(sweep.max_rate) * sweep.step.as_nanos() / 1_000_000_000;
        if sweep.step.is_zero() || messages > u128::from(MAX_MESSAGES / 2) {
            return Err(
                "--step-time must be more than 0, and what some messages fit into".to_owned(),
            );
        }
        // A warm-up by messages would be another time in each step.
        if !matches!(self.warmup, Warmup::Time(_)) {
            return Err("--warmup of sweep is a time".to_owned());
        }
        match sweep.factor {
            1.01..=100.0 => Ok(()),
            _ => Err("--rate-factor must be from 1.01 to 100".to_owned()),
        }
    }

    fn check_producers(&self) -> Result<(), String> {
        fits("batch-bytes", self.batch_bytes as u64, 1, MAX_BYTES as u64)?;
        fits("in-flight", self.in_flight as u64, 1, MAX_IN_FLIGHT as u64)?;
        if let Some(partitions) = self.partitions {
            let most = MAX_PARTITIONS as u64;
            fits("partitions", partitions.max(0) as u64, 1, most)?;
        }
        if !self
            .entropy
            .is_none_or(|entropy| (0.0..=1.0).contains(&entropy))
        {
            return Err("--entropy must be from 0 to 1".to_owned());
        }
        if let Some(level) = self.compression_level {
            let codec = self.compression.name();
            match self.compression.levels() {
                None => return Err(format!("--compression-level: {codec} has no levels")),
                Some(levels) if !levels.has(level) => {
                    return Err(format!(
                        "--compression-level of {codec} must be from {levels}"
                    ));
                }
                Some(_) => {}
            }
        }
        if self.idempotence && self.in_flight > MAX_IDEMPOTENT_IN_FLIGHT {
            return Err(format!(
                "--in-flight above {MAX_IDEMPOTENT_IN_FLIGHT} needs --no-idempotence: a broker knows \
                 retries of the last {MAX_IDEMPOTENT_IN_FLIGHT} batches only"
            ));
        }
        Ok(())
    }
}

fn as_text<T: fmt::Display, S: serde::Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

fn as_name<S: serde::Serializer>(codec: &Compression, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(codec.name())
}

fn as_seconds<S: serde::Serializer>(time: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(time.as_secs_f64())
}

/// Reads a whole number.
///
/// # Errors
/// If it is none.
pub fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    digits
        .parse()
        .map_err(|_| format!("\"{text}\" is not a whole number"))
}

/// Reads a number of bytes: `4096`, `64KiB`, `1MiB`.
///
/// # Errors
/// If it is none.
pub fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("B", 1)];
    with_unit(text, &UNITS, 1)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| format!("\"{text}\" is not a size such as 4096, 64KiB, 1MiB"))
}

/// Reads the sizes of messages: `1KiB`, `100..2KiB`, `mix`.
///
/// # Errors
/// If it is none.
pub fn sizes(text: &str) -> Result<Sizes, String> {
    match text.split_once("..") {
        _ if text == "mix" => Ok(Sizes::Mix),
        Some((least, most)) => match (bytes(least)?, bytes(most)?) {
            (least, most) if least <= most => Ok(Sizes::Range(least, most)),
            _ => Err(format!("\"{text}\" ends before it begins")),
        },
        None => bytes(text).map(Sizes::Fixed),
    }
}

/// Reads what keys there are: `none`, `sequential`, `random:1000`, `zipf:1000`.
///
/// # Errors
/// If it is none.
pub fn keys(text: &str) -> Result<Keys, String> {
    let wrong =
        || format!("\"{text}\" is none of none, sequential, sequential:N, random:N, zipf:N");
    let (kind, keys) = match text.split_once(':') {
        Some((kind, keys)) => (kind, Some(number(keys)?)),
        None => (text, None),
    };
    match (kind, keys) {
        ("none", None) => Ok(Keys::None),
        ("sequential", keys) => Ok(Keys::Sequential(keys.unwrap_or(MAX_KEYS))),
        ("random", Some(keys)) => Ok(Keys::Random(keys)),
        ("zipf", Some(keys)) => Ok(Keys::Zipf(keys)),
        _ => Err(wrong()),
    }
}

/// Reads a time: milliseconds, or `500us`, `5ms`, `30s`, `10m`.
///
/// # Errors
/// If it is none.
pub fn time(text: &str) -> Result<Duration, String> {
    unit_of_time(text, 1_000)
        .ok_or_else(|| format!("\"{text}\" is not a time such as 5ms, 30s, 10m"))
}

/// Reads a warm-up: a time with its unit, or a number of messages.
///
/// # Errors
/// If it is neither.
pub fn warmup(text: &str) -> Result<Warmup, String> {
    if let Ok(messages) = number(text) {
        return Ok(Warmup::Messages(messages));
    }
    let time = unit_of_time(text, 1_000).map(Warmup::Time);
    time.ok_or_else(|| format!("\"{text}\" is neither a number of messages nor a time such as 5s"))
}

fn unit_of_time(text: &str, default_us: u64) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [
        ("us", 1),
        ("ms", 1_000),
        ("s", 1_000_000),
        ("m", 60_000_000),
    ];
    with_unit(text, &UNITS, default_us).map(Duration::from_micros)
}

fn with_unit(text: &str, units: &[(&str, u64)], default: u64) -> Option<u64> {
    let unit = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, factor) = unit.unwrap_or((text, default));
    number(digits).ok()?.checked_mul(factor)
}

/// Reads a number of acknowledgements.
///
/// # Errors
/// If it is none.
pub fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "0" => Ok(0),
        "1" => Ok(1),
        _ => Err(format!("\"{text}\" is none of all, 1, 0")),
    }
}

/// Reads the name of a codec.
///
/// # Errors
/// If it is none.
pub fn compression(text: &str) -> Result<Compression, String> {
    let named = Compression::ALL
        .into_iter()
        .find(|codec| codec.name() == text);
    let names = || Compression::ALL.map(Compression::name).join(", ");
    named.ok_or_else(|| format!("\"{text}\" is none of {}", names()))
}

/// Reads addresses, separated by commas. The port may be left out.
///
/// # Errors
/// If one has no host or no number for its port.
pub fn addresses(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|part| address(part.trim())).collect()
}

fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("\"{text}\" is not an address such as 127.0.0.1:9092");
    // A bare IPv6 address has colons, but no port.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => (text, "9092"),
    };
    match port.parse::<u16>() {
        Ok(port) if !host.is_empty() => Ok(format!("{host}:{port}")),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(bytes("16384"), Ok(16384));
        assert_eq!(bytes("64KiB"), Ok(65536));
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        assert!(bytes("1XB").is_err() && bytes("-1").is_err() && bytes("").is_err());
        assert_eq!(time("5"), Ok(Duration::from_millis(5)));
        assert_eq!(time("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(time("2m"), Ok(Duration::from_mins(2)));
        assert!(time("5h").is_err() && time("99999999999999999999s").is_err());
    }

    #[test]
    fn sizes_are_one_a_range_or_a_mix() {
        assert_eq!(sizes("1KiB"), Ok(Sizes::Fixed(1024)));
        assert_eq!(sizes("100..2KiB"), Ok(Sizes::Range(100, 2048)));
        assert_eq!(sizes("mix"), Ok(Sizes::Mix));
        assert!(sizes("2..1").is_err() && sizes("..5").is_err() && sizes("1..2..3").is_err());
    }

    #[test]
    fn keys_are_shown_as_they_are_read() {
        for text in [
            "none",
            "sequential",
            "sequential:5",
            "random:7",
            "zipf:1000000",
        ] {
            assert_eq!(keys(text).map(|keys| keys.to_string()), Ok(text.to_owned()));
        }
        assert!(keys("random").is_err() && keys("zipf:x").is_err() && keys("none:1").is_err());
    }

    #[test]
    fn a_warm_up_is_messages_or_a_time() {
        assert_eq!(warmup("5_000"), Ok(Warmup::Messages(5_000)));
        assert_eq!(warmup("5s"), Ok(Warmup::Time(Duration::from_secs(5))));
        assert!(warmup("long").is_err());
    }

    #[test]
    fn addresses_may_lack_their_port() {
        let read = addresses("127.0.0.1:9093, kafka,[::1]:1").unwrap();
        assert_eq!(read, ["127.0.0.1:9093", "kafka:9092", "[::1]:1"]);
        assert!(addresses("").is_err() && addresses("a:b").is_err());
    }

    #[test]
    fn names_are_those_of_kafka() {
        assert_eq!(compression("zstd"), Ok(Compression::Zstd));
        assert!(compression("brotli").unwrap_err().contains("snappy"));
        assert_eq!(acks("all"), Ok(-1));
        assert!(acks("2").is_err());
    }
}
