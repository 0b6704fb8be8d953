//! A report with what was asked for and where it ran: what `--json` writes and `compare` reads.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Report;
use crate::options::Options;

/// What a file begins with. The number changes when a program that reads files has to.
const FORMAT: &str = "tidegate-loadgen report 1";
/// Far above what this program writes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    pub format: String,
    /// As they were asked for; of another version, maybe with other names.
    pub options: Value,
    pub environment: Environment,
    pub report: Report,
}

/// Where and when a run took place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    pub version: String,
    /// The program's, as git names it; empty: unknown.
    pub revision: String,
    /// When it ended, in UTC (RFC 3339).
    pub time: String,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    /// What governs the cores' frequency; none: nothing that can be seen from here.
    pub governor: Option<String>,
}

/// Why a file cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot be read")]
    Io(#[from] io::Error),
    #[error("is larger than any report of tidegate-loadgen")]
    TooLarge,
    #[error("is no report of tidegate-loadgen: {0}")]
    Json(#[source] serde_json::Error),
    #[error(
        "is no report that this version of tidegate-loadgen knows: it has no \"format\": \"{FORMAT}\""
    )]
    Format,
    #[error("is damaged: {0}")]
    Damaged(String),
}

impl Environment {
    /// That of this process.
    pub fn here() -> Self {
        let kernel = rustix::system::uname();
        let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("TIDEGATE_REVISION").to_owned(),
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            kernel: format!("{} {}", part(kernel.sysname()), part(kernel.release())),
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            governor: std::fs::read_to_string(governor)
                .ok()
                .map(|name| name.trim().to_owned()),
        }
    }
}

impl Document {
    /// A report of a run that has just ended here.
    ///
    /// # Errors
    /// If the options have something that JSON cannot have.
    pub fn new(options: &Options, report: Report) -> io::Result<Self> {
        Ok(Self {
            format: FORMAT.to_owned(),
            options: serde_json::to_value(options)?,
            environment: Environment::here(),
            report,
        })
    }

    /// Writes all of it as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        serde_json::to_writer_pretty(&mut out, self)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Reads what [`Document::write`] has written.
    ///
    /// # Errors
    /// If the file is something else.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let mut text = String::new();
        let mut file = File::open(path)?.take(MAX_FILE_BYTES + 1);
        match file.read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(ReadError::Json(serde_json::Error::custom(error)));
            }
            other => other?,
        };
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(ReadError::TooLarge);
        }
        Self::parse(&text)
    }

    /// As [`Document::read`], of a file's text.
    ///
    /// # Errors
    /// If it is something else.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        // First what it is: of another version, other fields would be missing.
        let value: Value = serde_json::from_str(text).map_err(ReadError::Json)?;
        if value.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(ReadError::Format);
        }
        let document: Self = serde_json::from_value(value).map_err(ReadError::Json)?;
        for times in &document.report.latencies {
            let of = &times.of;
            let damaged = |error| ReadError::Damaged(format!("the histogram of \"{of}\" {error}"));
            times.decoded().map_err(damaged)?;
        }
        let mut series = document.report.series.iter();
        if let Some(series) = series.find(|series| !series.is_whole()) {
            let what = format!(
                "the series \"{}\" has columns of other lengths",
                series.title
            );
            return Err(ReadError::Damaged(what));
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Document::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn what_is_no_report_says_so() {
        assert!(refused("hello").contains("no report of tidegate-loadgen: expected value"));
        assert!(refused("{}").contains("no report that this version"));
        assert!(refused("[1, 2]").contains("no report that this version"));
        let bare = format!("{{\"format\": \"{FORMAT}\"}}");
        assert!(
            refused(&bare).contains("missing field `options`"),
            "{}",
            refused(&bare)
        );
    }
}
