//! A latency as HdrHistogram's text of percentiles: what `outputPercentileDistribution` of its Java
//! library writes, and plotters read. Values are in milliseconds.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::Times;
use crate::latency::Latency;

/// Points each time that the distance to 1 halves; as HdrHistogram's own tools.
const TICKS: u32 = 5;

/// Writes each latency to a file: the first to `path`, the others beside it, with their name in the
/// file's.
///
/// # Errors
/// If a file cannot be written.
pub fn write_hgrm(path: &Path, latencies: &[Times]) -> io::Result<()> {
    for (at, times) in latencies.iter().enumerate() {
        let latency = times.decoded().map_err(io::Error::other)?;
        let path = match at {
            0 => path.to_owned(),
            _ => beside(path, &times.of),
        };
        std::fs::write(path, text(&latency))?;
    }
    Ok(())
}

/// `run.hgrm` and `schedule lag`: `run-schedule-lag.hgrm`.
fn beside(path: &Path, of: &str) -> PathBuf {
    let name =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let mut file = format!("{}-{}", name(path.file_stem()), of.replace(' ', "-"));
    if let Some(extension) = path.extension() {
        let _ = write!(file, ".{}", extension.to_string_lossy());
    }
    path.with_file_name(file)
}

/// The text. Writing to a string cannot fail.
fn text(latency: &Latency) -> String {
    let mut text = String::new();
    let ms = |ns: f64| ns / 1e6;
    let _ = writeln!(
        text,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in latency.quantiles(TICKS) {
        let (value, quantile) = (ms(step.ns as f64), step.quantile);
        let _ = write!(text, "{value:12.3} {quantile:2.12} {:10}", step.count);
        if quantile < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let (mean, deviation) = (ms(latency.mean_ns()), ms(latency.deviation_ns()));
    let (max, count) = (ms(latency.max_ns() as f64), latency.count());
    let (buckets, steps) = latency.buckets();
    let _ = writeln!(
        text,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]"
    );
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    let _ = writeln!(
        text,
        "#[Buckets = {buckets:12}, SubBuckets     = {steps:12}]"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency() -> Latency {
        let mut latency = Latency::new();
        (1..=10_000).for_each(|n| latency.record(n * 10_000));
        latency
    }

    /// The rows as a plotter reads them: value, percentile, count, and 1/(1-percentile) but for the last.
    fn rows(text: &str) -> Vec<Vec<f64>> {
        let lines = text.lines().skip(1).filter(|line| !line.is_empty());
        lines
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let numbers = line
                    .split_whitespace()
                    .map(|number| number.parse().unwrap());
                numbers.collect()
            })
            .collect()
    }

    #[test]
    fn the_rows_are_the_histogram() {
        let latency = latency();
        let rows = rows(&text(&latency));
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1] as u64, last[2] as u64), (3, 1, 10_000));
        assert!((last[0] - latency.max_ns() as f64 / 1e6).abs() < 0.001);
        for row in &rows[..rows.len() - 1] {
            assert_eq!(row.len(), 4, "{row:?}");
            let ns = latency.percentile_ns(row[1] * 100.0) as f64;
            assert!(
                (row[0] - ns / 1e6).abs() <= ns / 1e9 + 0.001,
                "{row:?}: {ns}"
            );
            assert!(
                (row[3] - 1.0 / (1.0 - row[1])).abs() <= row[3] / 100.0,
                "{row:?}"
            );
        }
        assert!(rows.windows(2).all(|two| two[0][2] <= two[1][2]));
        assert!(rows.iter().any(|row| (row[1] - 0.5).abs() < 1e-9));
    }

    #[test]
    fn the_text_has_the_form_of_hdrhistograms() {
        let text = text(&latency());
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("       Value     Percentile TotalCount 1/(1-Percentile)")
        );
        assert_eq!(lines.next(), Some(""));
        assert_eq!(
            lines.next(),
            Some("       0.010 0.000000000000          1           1.00")
        );
        let end: Vec<&str> = text.lines().rev().take(3).collect();
        assert!(end[2].starts_with("#[Mean    =       50.0") && end[2].ends_with("]"));
        assert!(
            end[1].ends_with("Total count    =        10000]"),
            "{}",
            end[1]
        );
        assert!(
            end[0].ends_with("SubBuckets     =         2048]"),
            "{}",
            end[0]
        );
    }

    #[test]
    fn other_latencies_have_their_name_in_the_files() {
        let path = beside(Path::new("runs/a.b.hgrm"), "schedule lag");
        assert_eq!(path, Path::new("runs/a.b-schedule-lag.hgrm"));
        assert_eq!(beside(Path::new("run"), "ack"), Path::new("run-ack"));
    }
}
