//! Medians, spreads and ratios of all rounds, as tables for people and as JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::Results;
use crate::goals::Verdict;
use crate::life::Life;
use crate::peer::Kind;
use crate::rows::{ROWS, Row, Sample, Unit};

/// A figure over all rounds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// In the order in which they were run.
    pub rounds: Vec<f64>,
}

impl Figure {
    pub fn of(rounds: Vec<f64>) -> Self {
        let mut values = rounds.clone();
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
            rounds,
        }
    }

    /// Round by round: what the machine did meanwhile hit both.
    pub fn ratio(own: &Figure, other: &Figure) -> Self {
        let pairs = own.rounds.iter().zip(&other.rounds);
        let pairs = pairs.filter(|(_, other)| **other > 0.0);
        Figure::of(pairs.map(|(own, other)| own / other).collect())
    }

    /// The median, and from where to where it went if there is more than one round.
    pub fn spread(&self) -> String {
        let digits = match self.median {
            m if m < 20.0 => 2,
            _ => 0,
        };
        let Figure {
            median, min, max, ..
        } = self;
        match self.rounds.len() {
            1 => format!("{median:.digits$}"),
            _ => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
        }
    }
}

/// What a peer did in one row.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub row: &'static str,
    pub peer: &'static str,
    /// What is behind its acknowledgements.
    pub promise: &'static str,
    /// Why it did not do all rounds, if so.
    pub failure: Option<String>,
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
    pub fn new(row: &Row, kind: Kind, samples: &[Sample], failure: Option<String>) -> Self {
        let of = |figure: &dyn Fn(&Sample) -> f64| Figure::of(samples.iter().map(figure).collect());
        let per_second = |amount: u64, s: &Sample| amount as f64 / s.outcome.seconds.max(1e-9);
        let quantile = |q: f64| of(&|s| s.outcome.latency.value_at_quantile(q) as f64 / 1000.0);
        Summary {
            row: row.name,
            peer: kind.name(),
            promise: kind.promise(),
            failure,
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

    /// Throughput and CPU time as ratios to Kafka's, if there is one.
    pub fn against_kafka(&self, of_row: &[&Summary]) -> Option<(Figure, Figure)> {
        let kafka = of_row.iter().find(|s| s.peer == Kind::Kafka.name())?;
        Some((
            Figure::ratio(&self.megabytes_per_second, &kafka.megabytes_per_second),
            Figure::ratio(&self.cpu, &kafka.cpu),
        ))
    }
}

/// The rows that were run, each with its summaries.
pub fn by_row(all: &[Summary]) -> impl Iterator<Item = (&'static Row, Vec<&Summary>)> {
    ROWS.iter().filter_map(move |row| {
        let of_row: Vec<_> = all.iter().filter(|s| s.row == row.name).collect();
        (!of_row.is_empty()).then_some((row, of_row))
    })
}

/// What CPU time is told in, as the head of a column.
pub fn cpu_unit(row: &Row) -> &'static str {
    match row.unit {
        Unit::Megabyte => "CPU ms/MB",
        Unit::Request => "CPU us/request",
    }
}

/// A table under its title, as Markdown.
pub fn write_table(
    out: &mut dyn Write,
    title: &str,
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> io::Result<()> {
    let rule = " --- |".repeat(columns.len());
    writeln!(out, "\n### {title}\n\n| {} |\n|{rule}", columns.join(" | "))?;
    for cells in rows {
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    out.flush()
}

/// Writes all of it.
pub fn write(out: &mut dyn Write, results: &Results) -> io::Result<()> {
    let Results {
        environment,
        lives,
        rows,
        verdicts,
    } = results;
    writeln!(out, "{}", environment.words())?;
    write_lives(out, lives, verdicts)?;
    for (row, of_row) in by_row(rows) {
        write_row(out, row, &of_row, verdicts)?;
    }
    let met = verdicts.iter().filter(|v| v.met).count();
    writeln!(out, "\n{met} of {} goals met", verdicts.len())?;
    if let Some(warning) = environment.warning() {
        writeln!(out, "\n{warning}")?;
    }
    out.flush()
}

/// Writes the rows of one load as a Markdown table, with ratios to Kafka, and what came of its goals.
fn write_row(
    out: &mut dyn Write,
    row: &Row,
    of_row: &[&Summary],
    verdicts: &[Verdict],
) -> io::Result<()> {
    writeln!(out, "\n### {}: {}\n", row.name, row.what)?;
    writeln!(
        out,
        "| peer | acknowledges from | MB/s (min-max) | requests/s | p50 ms | p99 ms | p99.9 ms | {} (min-max) | RSS MB | x Kafka | CPU / Kafka |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        cpu_unit(row)
    )?;
    for s in of_row {
        if let Some(failure) = &s.failure {
            writeln!(out, "| {} | {} | cannot: {failure} |", s.peer, s.promise)?;
        }
        if s.cpu.rounds.is_empty() {
            continue;
        }
        let (rate, cpu) = s.against_kafka(of_row).unwrap_or_default();
        writeln!(
            out,
            "| {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {} | {:.0} | {} | {} |",
            s.peer,
            s.promise,
            s.megabytes_per_second.spread(),
            s.requests_per_second.median,
            s.p50_ms.median,
            s.p99_ms.median,
            s.p999_ms.median,
            s.cpu.spread(),
            s.resident_megabytes.median,
            ratio(&rate),
            ratio(&cpu),
        )?;
    }
    let mut of_row = verdicts.iter().filter(|v| v.row == row.name).peekable();
    if of_row.peek().is_some() {
        writeln!(
            out,
            "\n| goal of | | measured (min-max) | |\n| --- | --- | --- | --- |"
        )?;
    }
    of_row.try_for_each(|verdict| write_verdict(out, verdict))
}

fn write_verdict(out: &mut dyn Write, verdict: &Verdict) -> io::Result<()> {
    let Verdict {
        peer, goal, figure, ..
    } = verdict;
    let met = if verdict.met { "met" } else { "NOT MET" };
    writeln!(out, "| {peer} | {goal} | {} | {met} |", figure.spread())
}

/// Empty if there is nothing to compare with.
fn ratio(figure: &Figure) -> String {
    match figure.rounds.is_empty() {
        true => "-".to_owned(),
        false => figure.spread(),
    }
}

/// Writes what the peers' processes cost, as a Markdown table, and what came of their goals.
fn write_lives(out: &mut dyn Write, lives: &[Life], verdicts: &[Verdict]) -> io::Result<()> {
    if lives.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "\n### {}: what a process costs\n\n| peer |",
        crate::life::ROW
    )?;
    crate::life::FACTS
        .iter()
        .try_for_each(|fact| write!(out, " {} |", fact.name))?;
    write!(
        out,
        "\n| --- |{}",
        " --- |".repeat(crate::life::FACTS.len())
    )?;
    for life in lives {
        write!(out, "\n| {} |", life.peer)?;
        for fact in crate::life::FACTS {
            match (fact.value)(life) {
                Some(value) => write!(out, " {value:.1} |")?,
                None => write!(out, " - |")?,
            }
        }
    }
    writeln!(
        out,
        "\n\n| goal of | | measured | |\n| --- | --- | --- | --- |"
    )?;
    let of_lives = verdicts.iter().filter(|v| v.row == crate::life::ROW);
    of_lives
        .into_iter()
        .try_for_each(|verdict| write_verdict(out, verdict))
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

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // The machine was slower in the second round, for both alike.
        let own = Figure::of(vec![8.0, 2.0, 8.0]);
        let other = Figure::of(vec![4.0, 1.0, 4.0]);
        let ratio = Figure::ratio(&own, &other);
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 2.0));
        let dead = Figure::of(vec![0.0]);
        assert!(Figure::ratio(&own, &dead).rounds.is_empty());
    }
}
