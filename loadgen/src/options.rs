//! What a run is asked to do, and how the values of the command line are read.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tidegate::record::Compression;

use crate::payload::HEAD_LEN;
use crate::schedule::MAX_MESSAGES;

/// Kafka keeps the last five batches of an idempotent producer to know a retry by.
pub const MAX_IDEMPOTENT_IN_FLIGHT: usize = 5;
/// Each connection is a thread.
const MAX_CONNECTIONS: usize = 1024;
const MAX_IN_FLIGHT: usize = 10_000;
const MAX_PARTITIONS: i32 = 100_000;
/// A batch, or a message, larger than what any broker is set to take.
const MAX_BYTES: usize = 256 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Sending: throughput, and the time until it is acknowledged.
    Produce,
    /// Reading what is there.
    Consume,
    /// The way of a message from the time it was to be sent until a consumer has it.
    E2e,
}

/// What is done before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Warmup {
    Messages(u64),
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    Time(Duration),
}

/// A run, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// Bytes of a message's value.
    pub size: usize,
    pub acks: i16,
    #[serde(serialize_with = "as_name")]
    pub compression: Compression,
    pub batch_bytes: usize,
    #[serde(rename = "linger_seconds", serialize_with = "as_seconds")]
    pub linger: Duration,
    /// Requests on a connection that wait for their answer.
    pub in_flight: usize,
    /// Connections to each broker, of producers and of consumers each.
    pub connections: usize,
    /// Messages a second, of all connections together; none: as fast as they are taken.
    pub rate: Option<u64>,
    pub warmup: Warmup,
    pub idempotence: bool,
    /// Whether `produce` reads back what it wrote.
    pub verify: bool,
    #[serde(rename = "delivery_timeout_seconds", serialize_with = "as_seconds")]
    pub delivery_timeout: Duration,
    #[serde(rename = "request_timeout_seconds", serialize_with = "as_seconds")]
    pub request_timeout: Duration,
    #[serde(skip)]
    pub json: Option<PathBuf>,
}

impl Options {
    /// What fits no run, as a sentence.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let fits = |name, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("--{name} must be from {least} to {most}")),
        };
        fits("messages", self.messages, 1, MAX_MESSAGES / 2)?;
        fits("size", self.size as u64, HEAD_LEN as u64, MAX_BYTES as u64)?;
        fits("batch-bytes", self.batch_bytes as u64, 1, MAX_BYTES as u64)?;
        fits(
            "connections",
            self.connections as u64,
            1,
            MAX_CONNECTIONS as u64,
        )?;
        fits("in-flight", self.in_flight as u64, 1, MAX_IN_FLIGHT as u64)?;
        if let Some(partitions) = self.partitions {
            fits(
                "partitions",
                partitions.max(0) as u64,
                1,
                MAX_PARTITIONS as u64,
            )?;
        }
        if let Warmup::Messages(messages) = self.warmup {
            fits("warmup", messages, 0, MAX_MESSAGES / 2)?;
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
