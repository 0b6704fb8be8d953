//! `sweep`: the rate rises step by step until the broker does not keep up: where is the knee? Each step
//! is an `e2e` run with a schedule of its own, and with a warm-up. One that does not hold is run again,
//! as a machine may stumble once. Between the last rate that held and the first one that did not, some
//! more are tried.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::{Findings as Any, Stage, e2e};
use crate::client::Error;
use crate::options::{Options, Sweep};
use crate::report::{Report, Series, Table, Times, Unit};
use crate::run::Run;
use crate::sequence::Faults;

/// What has to arrive of the rate, as a share. The last message may take as long as it is allowed to.
const REACHED: f64 = 0.95;

/// One rate, and what came of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    pub rate: u64,
    /// Messages a second from the first one's time to the last one's arrival.
    pub reached: f64,
    /// From the time a message was to be sent until a consumer had it.
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
    pub lag_p99_ns: u64,
    /// CPU of this program, in cores.
    pub client_cores: f64,
    pub held: bool,
}

/// The steps, by rate.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub steps: Vec<Step>,
    /// The highest rate that held; none did, if that is missing.
    pub knee: Option<u64>,
    /// Whether the sweep ended before a rate did not hold.
    pub unbounded: bool,
    pub p99_max_ns: u64,
}

impl Findings {
    /// The steps, each with what came of it.
    fn table(&self) -> Table {
        let columns = [
            ("reached", Unit::PerSecond),
            ("p50", Unit::Nanoseconds),
            ("p99", Unit::Nanoseconds),
            ("max", Unit::Nanoseconds),
            ("lag p99", Unit::Nanoseconds),
            ("client's CPU", Unit::Share),
        ];
        let mut table = Table::new("messages/s", &columns);
        for step in &self.steps {
            let values = [
                step.reached,
                step.p50_ns as f64,
                step.p99_ns as f64,
                step.max_ns as f64,
                step.lag_p99_ns as f64,
                step.client_cores,
            ];
            let remark = match step.held {
                true => "held",
                false if step.p99_ns <= self.p99_max_ns => "rate not reached",
                false => "p99 too high",
            };
            table.row_with_remark(step.rate.to_string(), &values.map(Some), remark);
        }
        table
    }

    /// What came of which rate, as lines. Of a rate that was tried twice, the second time counts.
    fn series(&self) -> Series {
        let columns = [
            ("reached", Unit::PerSecond),
            ("p50", Unit::Nanoseconds),
            ("p99", Unit::Nanoseconds),
            ("max", Unit::Nanoseconds),
        ];
        let mut series = Series::new("sweep", ("offered rate", Unit::PerSecond), &columns);
        for steps in self.steps.chunk_by(|one, next| one.rate == next.rate) {
            let Some(step) = steps.last() else { continue };
            let ns = [step.p50_ns, step.p99_ns, step.max_ns].map(|ns| Some(ns as f64));
            series.point(step.rate as f64, &[Some(step.reached), ns[0], ns[1], ns[2]]);
        }
        series
    }

    /// Whether there was a rate that held.
    pub fn verdict(&self) -> Result<(), String> {
        let least = self.steps.first().map_or(0, |step| step.rate);
        match self.knee {
            Some(_) => Ok(()),
            None => Err(format!("no rate held, down to {least} messages/s")),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99_max = self.p99_max_ns as f64 / 1e6;
        match (self.knee, self.unbounded) {
            (None, _) => writeln!(f, "  knee         none of these rates held"),
            (Some(rate), true) => writeln!(
                f,
                "  knee         above {rate} messages/s: the sweep ended there, with p99 within {p99_max} ms"
            ),
            (Some(rate), false) => writeln!(
                f,
                "  knee         {rate} messages/s: the highest rate with p99 within {p99_max} ms"
            ),
        }
    }
}

pub fn run(stage: &Stage) -> Result<Report, Error> {
    let sweep = &stage.options.sweep;
    let mut search = Search::new(stage.options);
    let mut steps: Vec<Step> = Vec::new();
    let mut shown: Option<Report> = None;
    let (mut messages, mut faults, mut example) = (0, Faults::default(), None);
    while let Some(rate) = search.next() {
        let report = step(stage, rate, steps.len() as u64)?;
        let step = judge(&report, rate, sweep);
        search.tried(rate, step.held);
        steps.push(step);
        if let Some(checked) = &report.checked {
            messages += checked.messages;
            faults.add(checked.faults);
            example = example.or_else(|| checked.first_fault.clone());
        }
        // That of the knee is what is shown in full.
        if shown.is_none() || step.held {
            shown = Some(report);
        }
        if !faults.none() {
            break;
        }
    }
    steps.sort_by_key(|step| step.rate);
    let mut report = shown.expect("a search has a first rate");
    if let Some(checked) = &mut report.checked {
        checked.messages = messages;
        checked.faults = faults;
        checked.first_fault = example;
    }
    let findings = Findings {
        steps,
        knee: search.held,
        unbounded: search.failed.is_none(),
        p99_max_ns: sweep.p99_max.as_nanos() as u64,
    };
    report.tables.push(findings.table());
    report.series.insert(0, findings.series());
    report.findings = Some(Any::Sweep(findings));
    Ok(report)
}

/// A run at one rate, whose messages are told from those of other steps.
fn step(stage: &Stage, rate: u64, number: u64) -> Result<Report, Error> {
    let seconds = stage.options.sweep.step.as_secs_f64();
    let options = Options {
        rate: Some(rate),
        messages: ((rate as f64 * seconds) as u64).max(1),
        ..stage.options.clone()
    };
    e2e::run(&Stage {
        options: &options,
        run: Arc::new(Run::new(stage.run.id.wrapping_add(number))),
        ..stage.again()
    })
}

fn judge(report: &Report, rate: u64, sweep: &Sweep) -> Step {
    let times = |of: &str| report.latencies.iter().find(|times| times.of == of);
    let end_to_end = times("end to end");
    let ns = |get: fn(&Times) -> u64| end_to_end.map_or(0, get);
    let p99_ns = ns(|times| times.p99_ns);
    let in_time = sweep.step.as_secs_f64() / REACHED + sweep.p99_max.as_secs_f64();
    let quick = u128::from(p99_ns) <= sweep.p99_max.as_nanos();
    Step {
        rate,
        reached: report.load.messages_per_second,
        p50_ns: ns(|times| times.p50_ns),
        p99_ns,
        max_ns: ns(|times| times.max_ns),
        lag_p99_ns: times("schedule lag").map_or(0, |times| times.p99_ns),
        client_cores: report.client.cores,
        held: quick && report.load.seconds <= in_time,
    }
}

/// Which rate is next.
#[derive(Clone, Copy, Debug)]
struct Search {
    first: u64,
    factor: f64,
    max_rate: u64,
    /// Steps that are left once a rate did not hold.
    refine: u32,
    /// A rate that did not hold once.
    again: Option<u64>,
    /// The highest rate that held, and the lowest one that did not.
    held: Option<u64>,
    failed: Option<u64>,
}

impl Search {
    fn new(options: &Options) -> Self {
        Self {
            first: options.rate.unwrap_or(1),
            factor: options.sweep.factor,
            max_rate: options.sweep.max_rate,
            refine: options.sweep.refine,
            again: None,
            held: None,
            failed: None,
        }
    }

    fn next(&mut self) -> Option<u64> {
        if self.again.is_some() {
            return self.again;
        }
        match (self.held, self.failed) {
            (None, None) => Some(self.first),
            (Some(held), None) if held < self.max_rate => {
                let raised = (held as f64 * self.factor).ceil() as u64;
                Some(raised.min(self.max_rate))
            }
            (Some(_), None) => None,
            (held, Some(failed)) => {
                self.refine = self.refine.checked_sub(1)?;
                let held = held.unwrap_or(0);
                let between = held + (failed - held) / 2;
                (between > held).then_some(between)
            }
        }
    }

    fn tried(&mut self, rate: u64, held: bool) {
        let again = self.again.take();
        match held {
            true => self.held = self.held.max(Some(rate)),
            false if again.is_none() => self.again = Some(rate),
            false => self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates that are tried, and the knee, when all rates up to `capacity` hold.
    fn sweep(capacity: u64, refine: u32) -> (Vec<u64>, Option<u64>) {
        let mut search = Search {
            first: 1_000,
            factor: 2.0,
            max_rate: 10_000,
            refine,
            again: None,
            held: None,
            failed: None,
        };
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            search.tried(rate, rate <= capacity);
            tried.push(rate);
        }
        for rates in tried.chunk_by(|one, other| one == other) {
            let times = if rates[0] <= capacity { 1 } else { 2 };
            assert_eq!(rates.len(), times, "{rates:?}");
        }
        tried.dedup();
        (tried, search.held)
    }

    #[test]
    fn the_rate_rises_until_it_does_not_hold_and_is_then_bisected() {
        let (tried, knee) = sweep(3_200, 3);
        assert_eq!(tried, [1_000, 2_000, 4_000, 3_000, 3_500, 3_250]);
        assert_eq!(knee, Some(3_000));
        assert_eq!(sweep(3_200, 0), (vec![1_000, 2_000, 4_000], Some(2_000)));
    }

    #[test]
    fn it_ends_at_the_highest_rate_that_is_allowed() {
        let (tried, knee) = sweep(u64::MAX, 3);
        assert_eq!(tried, [1_000, 2_000, 4_000, 8_000, 10_000]);
        assert_eq!(knee, Some(10_000));
    }

    #[test]
    fn one_failure_is_not_the_end() {
        let mut search = Search {
            first: 1_000,
            factor: 2.0,
            max_rate: 2_000,
            refine: 3,
            again: None,
            held: None,
            failed: None,
        };
        for (rate, held) in [(1_000, false), (1_000, true), (2_000, true)] {
            assert_eq!(search.next(), Some(rate));
            search.tried(rate, held);
        }
        assert_eq!(
            (search.next(), search.held, search.failed),
            (None, Some(2_000), None)
        );
    }

    #[test]
    fn when_the_first_rate_does_not_hold_lower_ones_are_tried() {
        assert_eq!(sweep(300, 3), (vec![1_000, 500, 250, 375], Some(250)));
        assert_eq!(sweep(0, 2), (vec![1_000, 500, 250], None));
        assert_eq!(sweep(0, 100).1, None, "it ends");
    }
}
