//! What the rows are to reach, as data, and whether they did.

use serde::Serialize;

use crate::peer::Kind;
use crate::report::{Figure, Summary};
use crate::rows::ROWS;

/// One thing that a row is to reach.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Whom it is for.
    pub of: &'static [Kind],
    pub measure: Measure,
    pub bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Throughput,
    Cpu,
    P50,
    P99,
    P999,
}

#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// So many times what the other has, or more.
    AtLeast(f64, Of),
    /// So many times what the other has, or less.
    AtMost(f64, Of),
    /// In the measure's own unit: ms, or what CPU time is told in.
    Below(f64),
}

/// What a figure is compared with.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// The same figure of another peer in the same row.
    Peer(Kind),
    /// The same figure of the same peer in another row.
    Row(&'static str),
}

/// A goal, and what came of it.
#[derive(Debug, Serialize)]
pub struct Verdict {
    pub row: &'static str,
    pub peer: &'static str,
    pub goal: String,
    /// What the goal bounds: a ratio taken round by round, or the figure itself.
    pub figure: Figure,
    pub met: bool,
}

impl Measure {
    fn of(self, summary: &Summary) -> &Figure {
        match self {
            Measure::Throughput => &summary.megabytes_per_second,
            Measure::Cpu => &summary.cpu,
            Measure::P50 => &summary.p50_ms,
            Measure::P99 => &summary.p99_ms,
            Measure::P999 => &summary.p999_ms,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Measure::Throughput => "throughput",
            Measure::Cpu => "CPU time",
            Measure::P50 => "p50",
            Measure::P99 => "p99",
            Measure::P999 => "p99.9",
        }
    }
}

impl Goal {
    /// In words: "throughput at least 4 x kafka".
    fn words(&self, unit: &str) -> String {
        let name = self.measure.name();
        match self.bound {
            Bound::AtLeast(times, of) => format!("{name} at least {times} x {}", of.name()),
            Bound::AtMost(times, of) if times < 1.0 => {
                let part = (10.0 / times).round() / 10.0;
                format!("{name} at most 1/{part} of {}", of.name())
            }
            Bound::AtMost(times, of) => format!("{name} at most {times} x {}", of.name()),
            Bound::Below(most) => format!("{name} at most {most} {unit}"),
        }
    }

    /// What came of it for one peer; nothing if it is for another, or what it is compared with was not run.
    fn judge(&self, of: &Summary, unit: &str, all: &[Summary]) -> Option<Verdict> {
        if !self.of.iter().any(|kind| kind.name() == of.peer) {
            return None;
        }
        let own = self.measure.of(of);
        let figure = match self.bound {
            Bound::AtLeast(_, other) | Bound::AtMost(_, other) => {
                Figure::ratio(own, self.measure.of(other.find(of, all)?))
            }
            Bound::Below(_) => own.clone(),
        };
        let met = match self.bound {
            Bound::AtLeast(least, _) => figure.median >= least,
            Bound::AtMost(most, _) | Bound::Below(most) => figure.median <= most,
        };
        (!figure.rounds.is_empty()).then(|| Verdict {
            row: of.row,
            peer: of.peer,
            goal: self.words(unit),
            met,
            figure,
        })
    }
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Of::Peer(kind) => kind.name(),
            Of::Row(row) => row,
        }
    }

    fn find<'a>(self, of: &Summary, all: &'a [Summary]) -> Option<&'a Summary> {
        let (row, peer) = match self {
            Of::Peer(kind) => (of.row, kind.name()),
            Of::Row(row) => (row, of.peer),
        };
        all.iter().find(|s| s.row == row && s.peer == peer)
    }
}

/// What came of all goals of the rows that could be looked at.
pub fn judge(all: &[Summary]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for summary in all {
        let row = ROWS.iter().find(|row| row.name == summary.row);
        for (row, goal) in row
            .into_iter()
            .flat_map(|row| row.goals.iter().map(move |g| (row, g)))
        {
            verdicts.extend(goal.judge(summary, row.unit_of(goal.measure), all));
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(row: &'static str, kind: Kind, rates: &[f64], p99_ms: f64) -> Summary {
        Summary {
            row,
            peer: kind.name(),
            promise: kind.promise(),
            failure: None,
            megabytes_per_second: Figure::of(rates.to_vec()),
            requests_per_second: Figure::default(),
            p50_ms: Figure::default(),
            p99_ms: Figure::of(vec![p99_ms]),
            p999_ms: Figure::default(),
            cpu: Figure::default(),
            resident_megabytes: Figure::default(),
        }
    }

    fn find<'a>(verdicts: &'a [Verdict], row: &str, goal: &str) -> &'a Verdict {
        let found = verdicts.iter().find(|v| v.row == row && v.goal == goal);
        found.unwrap_or_else(|| panic!("no {goal:?} among {verdicts:?}"))
    }

    #[test]
    fn a_goal_is_met_by_the_median_of_the_ratios_and_by_no_other_peer() {
        let all = [
            summary("produce-64c", Kind::TidegateOs, &[20.0, 27.0, 90.0], 4.1),
            summary("produce-64c", Kind::Kafka, &[10.0, 10.0, 20.0], 50.0),
        ];
        let verdicts = judge(&all);
        assert!(verdicts.iter().all(|v| v.peer == "tidegate-os"));
        let ratio = find(&verdicts, "produce-64c", "throughput at least 2.7 x kafka");
        assert!(ratio.met && ratio.figure.median == 2.7 && ratio.figure.max == 4.5);
        assert!(!find(&verdicts, "produce-64c", "p99 at most 4 ms").met);
    }

    #[test]
    fn a_peer_is_compared_with_itself_in_another_row() {
        let all = [
            summary("produce-64c", Kind::TidegateDurable, &[10.0], 1.0),
            summary("produce-64c-1000p", Kind::TidegateDurable, &[4.0], 1.0),
        ];
        let goal = "throughput at least 0.5 x produce-64c";
        assert!(!find(&judge(&all), "produce-64c-1000p", goal).met);
        assert!(judge(&all[1..]).is_empty(), "the other row was not run");
    }

    #[test]
    fn what_a_row_is_compared_with_is_a_row() {
        for goal in ROWS.iter().flat_map(|row| row.goals) {
            if let Bound::AtLeast(_, Of::Row(other)) | Bound::AtMost(_, Of::Row(other)) = goal.bound
            {
                assert!(ROWS.iter().any(|row| row.name == other), "{other}");
            }
        }
    }

    #[test]
    fn parts_are_told_as_people_do() {
        let row = ROWS.iter().find(|row| row.name == "produce-64c").unwrap();
        let words: Vec<_> = row.goals.iter().map(|goal| goal.words("ms")).collect();
        assert!(
            words.contains(&"CPU time at most 1/3.5 of kafka".to_owned()),
            "{words:?}"
        );
    }
}
