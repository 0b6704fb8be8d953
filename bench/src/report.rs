//! Medians, spreads and ratios of all rounds, as a table for people and as JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::life::Life;
use crate::peer::Kind;
use crate::rows::{Row, Sample, Unit};

/// A figure over all rounds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Figure {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => 0.0,
            n if n % 2 == 1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Figure {
            median,
            min: values.first().copied().unwrap_or(0.0),
            max: values.last().copied().unwrap_or(0.0),
        }
    }
}

/// What a peer did in one row.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub row: &'static str,
    pub peer: &'static str,
    pub rounds: usize,
    /// Record batches.
    pub megabytes_per_second: Figure,
    pub requests_per_second: Figure,
    pub p50_ms: Figure,
    pub p99_ms: Figure,
    pub p999_ms: Figure,
    /// Of the server, user and system: milliseconds for each MB, or microseconds for each request.
    pub cpu: Figure,
    pub resident_megabytes: Figure,
}

impl Summary {
    pub fn new(row: &Row, kind: Kind, samples: &[Sample]) -> Self {
        let of = |figure: &dyn Fn(&Sample) -> f64| Figure::of(samples.iter().map(figure).collect());
        let per_second = |amount: u64, s: &Sample| amount as f64 / s.outcome.seconds.max(1e-9);
        let quantile = |q: f64| of(&|s| s.outcome.latency.value_at_quantile(q) as f64 / 1000.0);
        Summary {
            row: row.name,
            peer: kind.name(),
            rounds: samples.len(),
            megabytes_per_second: of(&|s| per_second(s.outcome.bytes, s) / 1e6),
            requests_per_second: of(&|s| per_second(s.outcome.requests, s)),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            cpu: of(&|s| match row.unit {
                Unit::Megabyte => s.cpu_seconds * 1e3 / (s.outcome.bytes as f64 / 1e6),
                Unit::Request => s.cpu_seconds * 1e6 / s.outcome.requests as f64,
            }),
            resident_megabytes: of(&|s| s.resident_bytes as f64 / 1e6),
        }
    }
}

/// Writes the rows of one load as a Markdown table, with ratios to Kafka.
pub fn write_row(out: &mut dyn Write, row: &Row, of_row: &[Summary]) -> io::Result<()> {
    let unit = match row.unit {
        Unit::Megabyte => "CPU ms/MB",
        Unit::Request => "CPU us/request",
    };
    writeln!(out, "\n### {}: {}\n", row.name, row.what)?;
    writeln!(
        out,
        "| peer | MB/s (min-max) | requests/s | p50 ms | p99 ms | p99.9 ms | {unit} (min-max) | RSS MB | x Kafka | CPU / Kafka |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    let kafka = of_row.iter().find(|s| s.peer == Kind::Kafka.name());
    for s in of_row {
        let ratio = |value: f64, of: Option<f64>| match of {
            Some(of) if of > 0.0 => format!("{:.2}", value / of),
            _ => "-".to_owned(),
        };
        let rate = s.requests_per_second.median;
        writeln!(
            out,
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {} | {:.0} | {} | {} |",
            s.peer,
            spread(s.megabytes_per_second),
            rate,
            s.p50_ms.median,
            s.p99_ms.median,
            s.p999_ms.median,
            spread(s.cpu),
            s.resident_megabytes.median,
            ratio(rate, kafka.map(|k| k.requests_per_second.median)),
            ratio(s.cpu.median, kafka.map(|k| k.cpu.median)),
        )?;
    }
    out.flush()
}

/// Writes what the peers' processes cost, as a Markdown table.
pub fn write_lives(out: &mut dyn Write, lives: &[Life]) -> io::Result<()> {
    if lives.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n| peer | start ms | RSS MB then | idle connection KB | start after kill -9 with 1 GiB in 100 partitions, ms |\n\
         | --- | --- | --- | --- | --- |"
    )?;
    lives.iter().try_for_each(|life| {
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.1} | {:.0} |",
            life.peer,
            life.start_ms,
            life.resident_megabytes,
            life.idle_connection_kilobytes,
            life.start_after_kill_ms
        )
    })
}

fn spread(figure: Figure) -> String {
    let digits = if figure.median < 20.0 { 2 } else { 0 };
    let Figure { median, min, max } = figure;
    format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_spread_holds_all() {
        let odd = Figure::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        let even = Figure::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
    }
}
