//! What a scenario can report without anybody knowing the scenario: tables, and series of figures
//! along an axis. Each column has a name and a unit; how a unit is shown is said here alone.

use serde::{Deserialize, Serialize};

use crate::timeline::Track;

/// What the numbers of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// How many.
    Count,
    /// Of any kind, with its fraction if it has one.
    Number,
    /// How many a second.
    PerSecond,
    Seconds,
    /// A latency: shown in milliseconds.
    Nanoseconds,
    Bytes,
    /// 1000000 bytes a second.
    MegabytesPerSecond,
    /// From 0 to 1: shown in percent.
    Share,
}

/// Figures of one kind. What is not known is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub unit: Unit,
    pub values: Vec<Option<f64>>,
}

/// Figures in rows with a name each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    pub rows: Vec<String>,
    pub columns: Vec<Column>,
    /// What is said of each row, if anything is.
    pub remarks: Vec<String>,
}

/// Figures along an axis, such as time, or an offered rate: what is drawn as lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub title: String,
    pub x: Column,
    pub columns: Vec<Column>,
}

impl Unit {
    /// What a column's values are in, as it is shown; empty where a name says it all.
    pub fn label(self) -> &'static str {
        match self {
            Self::Count | Self::Number => "",
            Self::PerSecond => "/s",
            Self::Seconds => "s",
            Self::Nanoseconds => "ms",
            Self::Bytes => "bytes",
            Self::MegabytesPerSecond => "MB/s",
            Self::Share => "%",
        }
    }

    /// A value in the unit of [`Unit::label`].
    pub fn scaled(self, value: f64) -> f64 {
        match self {
            Self::Nanoseconds => value / 1e6,
            Self::Share => value * 100.0,
            _ => value,
        }
    }

    /// A value as it is shown, without its unit.
    pub fn text(self, value: f64) -> String {
        let decimals = match self {
            Self::Number if value.fract().abs() > 0.0 => 6,
            Self::Number => 0,
            Self::Count | Self::PerSecond | Self::Bytes => 0,
            Self::Share => 1,
            Self::MegabytesPerSecond => 2,
            Self::Seconds | Self::Nanoseconds => 3,
        };
        format!("{:.decimals$}", self.scaled(value))
    }
}

impl Column {
    /// No values yet.
    pub fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self {
            name: name.into(),
            unit,
            values: Vec::new(),
        }
    }

    /// Its name, and its unit if it has one.
    pub fn heading(&self) -> String {
        match self.unit.label() {
            "" => self.name.clone(),
            unit => format!("{}, {unit}", self.name),
        }
    }

    /// A value as it is shown.
    pub fn text(&self, row: usize) -> String {
        let value = self.values.get(row).copied().flatten();
        value.map_or_else(|| "-".to_owned(), |value| self.unit.text(value))
    }
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, columns: &[(&str, Unit)]) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
            columns: columns_of(columns),
            remarks: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, name: impl Into<String>, values: &[Option<f64>]) {
        self.row_with_remark(name, values, "");
    }

    /// Adds a row, of which something is said.
    pub fn row_with_remark(
        &mut self,
        name: impl Into<String>,
        values: &[Option<f64>],
        remark: impl Into<String>,
    ) {
        self.rows.push(name.into());
        self.remarks.push(remark.into());
        push(&mut self.columns, values);
    }
}

impl Series {
    /// A series without points, along `x`.
    pub fn new(title: impl Into<String>, x: (&str, Unit), columns: &[(&str, Unit)]) -> Self {
        Self {
            title: title.into(),
            x: Column::new(x.0, x.1),
            columns: columns_of(columns),
        }
    }

    /// Adds what there is at `x`.
    pub fn point(&mut self, x: f64, values: &[Option<f64>]) {
        self.x.values.push(Some(x));
        push(&mut self.columns, values);
    }

    /// What was measured over time, at the middle of each span.
    pub fn of_track(track: &Track) -> Self {
        let columns = [
            ("rate", Unit::PerSecond),
            ("p50", Unit::Nanoseconds),
            ("p99", Unit::Nanoseconds),
            ("max", Unit::Nanoseconds),
        ];
        let mut series = Self::new(track.of, ("time", Unit::Seconds), &columns);
        for point in track.points() {
            let middle_ns = point.from_ns.midpoint(point.to_ns);
            let time = |of: fn(&crate::timeline::PointTimes) -> u64| {
                point.times.as_ref().map(|times| of(times) as f64)
            };
            let values = [
                Some(point.per_second()),
                time(|times| times.p50_ns),
                time(|times| times.p99_ns),
                time(|times| times.max_ns),
            ];
            series.point(middle_ns as f64 / 1e9, &values);
        }
        series
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether all columns have as many values as the axis: in a file, they may not.
    pub fn is_whole(&self) -> bool {
        let points = self.x.values.len();
        self.columns
            .iter()
            .all(|column| column.values.len() == points)
    }
}

fn columns_of(columns: &[(&str, Unit)]) -> Vec<Column> {
    let column = |(name, unit): &(&str, Unit)| Column::new(*name, *unit);
    columns.iter().map(column).collect()
}

/// What is missing is not known.
fn push(columns: &mut [Column], values: &[Option<f64>]) {
    for (at, column) in columns.iter_mut().enumerate() {
        column.values.push(values.get(at).copied().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_their_unit() {
        assert_eq!(Unit::Nanoseconds.text(1_234_567.0), "1.235");
        assert_eq!(Unit::Share.text(0.123), "12.3");
        assert_eq!(Unit::Count.text(1e6), "1000000");
        assert_eq!(Column::new("p99", Unit::Nanoseconds).heading(), "p99, ms");
        assert_eq!(
            Column::new("connections", Unit::Count).heading(),
            "connections"
        );
    }

    #[test]
    fn a_row_has_a_value_in_each_column_or_none() {
        let columns = [("held", Unit::Count), ("p99", Unit::Nanoseconds)];
        let mut table = Table::new("sweep", &columns);
        table.row("1", &[Some(5.0)]);
        assert_eq!(table.columns[0].text(0), "5");
        assert_eq!(table.columns[1].text(0), "-");
        assert_eq!(table.columns[1].text(7), "-", "not there at all");
    }
}
