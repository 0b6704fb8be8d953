//! A report as JSON, with what was asked for and where it ran.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::Report;
use crate::options::Options;

/// Where a run took place.
#[derive(Debug, Serialize)]
struct Environment {
    version: &'static str,
    kernel: String,
    cpu: String,
    cores: usize,
}

impl Environment {
    fn here() -> Self {
        let kernel = rustix::system::uname();
        let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: format!("{} {}", part(kernel.sysname()), part(kernel.release())),
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Writes the report, with what was asked for and where it ran.
///
/// # Errors
/// If the file cannot be written.
pub fn write_json(path: &Path, options: &Options, report: &Report) -> io::Result<()> {
    #[derive(Serialize)]
    struct All<'a> {
        options: &'a Options,
        environment: Environment,
        report: &'a Report,
    }
    let all = All {
        options,
        environment: Environment::here(),
        report,
    };
    let mut out = BufWriter::new(File::create(path)?);
    serde_json::to_writer_pretty(&mut out, &all)?;
    out.write_all(b"\n")?;
    out.flush()
}
