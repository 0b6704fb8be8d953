//! Runs side by side: their throughput and their percentiles, with ratios to the first one's, and what
//! differs between them otherwise. Percentiles are those of the histograms in the files.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use super::html::options;
use super::{Document, ReadError, Unit};
use crate::latency::{Latency, PERCENTILES};

/// See the module.
#[derive(Debug)]
pub struct Comparison {
    /// At least one.
    pub runs: Vec<Compare>,
}

/// A run that is compared.
#[derive(Debug)]
pub struct Compare {
    /// Its file's name.
    pub name: String,
    pub document: Document,
}

/// A table with a row for each run.
#[derive(Debug)]
pub struct Compared {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// A figure, and what it is of the first run's.
#[derive(Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    /// Such as `×1.25`; none for the first run, and where that has nothing to compare with.
    pub ratio: Option<String>,
}

/// A row's figures, in a unit each.
type Row = (String, Vec<(Unit, f64)>);

impl Comparison {
    /// Reads the runs.
    ///
    /// # Errors
    /// The first file that is no report, and why.
    pub fn of_files(files: &[PathBuf]) -> Result<Self, (PathBuf, String)> {
        let read = |path: &PathBuf| match Document::read(path) {
            Ok(document) => Ok(Compare {
                name: name(path, files),
                document,
            }),
            Err(ReadError::Io(error)) => Err((path.clone(), format!("cannot be read: {error}"))),
            Err(error) => Err((path.clone(), error.to_string())),
        };
        let runs = files.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { runs })
    }

    /// Throughput, and a table for each latency of the first run.
    pub fn tables(&self) -> Vec<Compared> {
        let load = |run: &Compare| {
            let (load, client) = (&run.document.report.load, &run.document.report.client);
            let values = vec![
                (Unit::PerSecond, load.messages_per_second),
                (Unit::MegabytesPerSecond, load.megabytes_per_second),
                (Unit::Share, client.cores),
            ];
            (run.name.clone(), values)
        };
        let columns = ["messages/s", "MB/s", "CPU, %"];
        let mut tables = Vec::new();
        // Some scenarios have connections only.
        let messages = |run: &Compare| run.document.report.load.messages > 0;
        if self.runs.iter().any(messages) {
            let rows = self.runs.iter().map(load);
            tables.push(compared("throughput", &columns, rows));
        }
        for of in self.latencies() {
            let row = |(name, latency): (String, Latency)| {
                let percentiles = PERCENTILES.map(|percent| latency.percentile_ns(percent));
                let all = percentiles.into_iter().chain([latency.max_ns()]);
                let values = all.map(|ns| (Unit::Nanoseconds, ns as f64)).collect();
                (name, values)
            };
            let columns = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
            let title = format!("{of}, ms");
            tables.push(compared(
                &title,
                &columns,
                self.histograms(&of).into_iter().map(row),
            ));
        }
        tables
    }

    /// The latencies of the first run.
    pub fn latencies(&self) -> Vec<String> {
        let first = self.runs.first();
        let all = first
            .into_iter()
            .flat_map(|run| &run.document.report.latencies);
        all.map(|times| times.of.clone()).collect()
    }

    /// The histograms of this name, with their runs' names.
    pub fn histograms(&self, of: &str) -> Vec<(String, Latency)> {
        let histogram = |run: &Compare| {
            let times = run.document.report.times(of)?;
            Some((run.name.clone(), times.decoded().ok()?))
        };
        self.runs.iter().filter_map(histogram).collect()
    }

    /// Options and parts of the environment that are not the same in all runs, with their values.
    pub fn differences(&self) -> Vec<(String, Vec<String>)> {
        let facts: Vec<Vec<(String, String)>> = self.runs.iter().map(known).collect();
        let names: BTreeSet<&String> = facts.iter().flatten().map(|(name, _)| name).collect();
        let mut differences = Vec::new();
        for name in names {
            let value = |facts: &Vec<(String, String)>| {
                let found = facts.iter().find(|(other, _)| other == name);
                found.map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
            };
            let values: Vec<String> = facts.iter().map(value).collect();
            if values.windows(2).any(|two| two[0] != two[1]) {
                differences.push((name.clone(), values));
            }
        }
        differences
    }
}

/// A file's name without folder and extension, if no other file has the same.
fn name(path: &Path, files: &[PathBuf]) -> String {
    let same = files
        .iter()
        .filter(|other| other.file_stem() == path.file_stem());
    match (same.count(), path.file_stem()) {
        (1, Some(stem)) => stem.to_string_lossy().into_owned(),
        _ => path.display().to_string(),
    }
}

/// What a run was asked to do, where it was, and what its server told of itself.
fn known(run: &Compare) -> Vec<(String, String)> {
    let here = &run.document.environment;
    let mut facts = options(&run.document.options);
    facts.extend(
        [
            ("program", format!("{} {}", here.version, here.revision)),
            ("kernel", here.kernel.clone()),
            ("CPU", here.cpu.clone()),
            ("cores", here.cores.to_string()),
            ("governor", here.governor.clone().unwrap_or_default()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    for known in &run.document.report.server.facts {
        // A topic of the run's own has another name each time.
        let of = known.of.replace(&run.document.report.topic, "of the run");
        let facts_of = known.facts.iter();
        facts.extend(facts_of.map(|(name, value)| (format!("{of}: {name}"), value.clone())));
    }
    facts
}

fn compared(title: &str, columns: &[&str], rows: impl Iterator<Item = Row>) -> Compared {
    let rows: Vec<Row> = rows.collect();
    let cell = |row: usize, column: usize, (unit, value): (Unit, f64)| Cell {
        text: unit.text(value),
        ratio: (row > 0)
            .then(|| rows[0].1.get(column))
            .flatten()
            .filter(|(_, first)| *first > 0.0)
            .map(|(_, first)| format!("×{:.2}", value / first)),
    };
    let cells = |(at, row): (usize, &Row)| {
        let values = row.1.iter().enumerate();
        let cells = values.map(|(column, value)| cell(at, column, *value));
        (row.0.clone(), cells.collect())
    };
    Compared {
        title: title.to_owned(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows.iter().enumerate().map(cells).collect(),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            let report = &run.document.report;
            let time = &run.document.environment.time;
            writeln!(
                f,
                "{}: {}, {}; {time}",
                run.name, report.scenario, report.description
            )?;
            if let Err(fault) = report.verdict() {
                writeln!(f, "  {fault}")?;
            }
            for doubt in &report.doubts {
                writeln!(f, "  not to be trusted {}: {}", doubt.about(), doubt.reason)?;
            }
        }
        for (name, values) in self.differences() {
            writeln!(f, "differs: {name}: {}", values.join(" | "))?;
        }
        for table in self.tables() {
            writeln!(f)?;
            table.write(f)?;
        }
        Ok(())
    }
}

impl Compared {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.rows.iter().map(|(name, _)| name.chars().count());
        let first = names.chain([self.title.len()]).max().unwrap_or(0);
        let mut line = format!("{:<first$}", self.title);
        for column in &self.columns {
            let _ = write!(line, "{column:>11}{:7}", "");
        }
        writeln!(f, "{}", line.trim_end())?;
        for (name, cells) in &self.rows {
            let mut line = format!("{name:<first$}");
            for cell in cells {
                let ratio = cell.ratio.as_deref().unwrap_or_default();
                let _ = write!(line, "{:>11}{ratio:>7}", cell.text);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_first_run() {
        let row = |name: &str, value| (name.to_owned(), vec![(Unit::Nanoseconds, value)]);
        let rows = [row("a", 4e6), row("b", 5e6), row("c", 0.0)];
        let table = compared("ack, ms", &["p50"], rows.into_iter());
        let cells: Vec<(&str, Option<&str>)> = table
            .rows
            .iter()
            .map(|(_, cells)| (cells[0].text.as_str(), cells[0].ratio.as_deref()))
            .collect();
        let expected = [
            ("4.000", None),
            ("5.000", Some("×1.25")),
            ("0.000", Some("×0.00")),
        ];
        assert_eq!(cells, expected);
        let none = compared(
            "ack, ms",
            &["p50"],
            [row("a", 0.0), row("b", 1.0)].into_iter(),
        );
        assert_eq!(
            none.rows[1].1[0].ratio, None,
            "there is nothing to compare with"
        );
    }

    #[test]
    fn runs_have_their_files_names_unless_two_are_the_same() {
        let files = ["x/a.json", "b.json", "y/b.json"].map(PathBuf::from);
        let names = files.each_ref().map(|path| name(path, &files));
        assert_eq!(names, ["a", "b.json", "y/b.json"]);
    }
}
