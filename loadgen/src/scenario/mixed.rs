//! `mixed`: producers and consumers at the same time, each at a rate of their own. The consumers read
//! what is there already, and then what is new: does a broker that has to look for old data go on
//! taking new ones? What is left when all is sent is read as fast as it comes, and checked.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::threads::join;
use super::{Findings as Any, Stage, produce};
use crate::client::Error;
use crate::consumer::{Consumed, Ends};
use crate::options::{Options, Warmup};
use crate::producer;
use crate::progress::Progress;
use crate::report::{Checked, Client, Load, Report};
use crate::usage::Meter;
use crate::window::Window;

/// What consumers did while producers were at work.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub fetched: Load,
    /// Messages that were there before.
    pub backlog: u64,
    /// Messages that were not read yet when the last one was sent.
    pub behind: u64,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fetched = &self.fetched;
        writeln!(
            f,
            "  fetched      {:.0} messages/s, {:.2} MB/s: {} messages in {:.3} s, while messages were sent",
            fetched.messages_per_second,
            fetched.megabytes_per_second,
            fetched.messages,
            fetched.seconds
        )?;
        writeln!(
            f,
            "  backlog      {} messages were there before, {} were left to read when all was sent",
            self.backlog, self.behind
        )
    }
}

pub fn run(stage: &Stage) -> Result<Report, Error> {
    let options = stage.options;
    let starts = stage.cluster.earliest(&stage.topic)?;
    let before = backlog(stage)?;
    let mut stage = stage.again();
    stage.first_stream = before.len() as u32;
    let tops = stage.cluster.latest(&stage.topic)?;
    let there = tops.iter().zip(&starts).map(|(top, start)| top - start);
    let there: u64 = there.sum::<i64>().try_into().unwrap_or(0);

    let ends: Ends = Arc::new(OnceLock::new());
    let consumers = stage.consumers(&starts, stage.interest(), &ends)?;
    let share = 1.0 / consumers.len() as f64;
    let rate = options.mixed.consume_rate.map(|rate| rate as f64 * share);
    let consumers: Vec<_> = consumers.into_iter().map(|one| one.at_rate(rate)).collect();
    let producers = stage.producers()?;
    let threads = consumers.len() + producers.len();

    stage.run.start();
    let meter = Meter::of_process();
    let progress = Progress::show(&stage.run, "mixed", stage.expected(), |run| &run.acked);
    let consuming = stage.start_consumers(consumers)?;
    let sent = stage.start_producers(producers).and_then(join);
    let sent = sent.map(producer::Figures::merged).and_then(|sent| {
        let visible = stage.ends_after(&tops, sent.total_sent())?;
        ends.get_or_init(|| visible);
        Ok((sent, stage.run.now_ns()))
    });
    if sent.is_err() {
        stage.run.stop();
    }
    let consumed = join(consuming);
    drop(progress);
    let ((produced, until_ns), consumed) = (sent?, consumed?);
    let streams: Vec<(u32, u64)> = before.iter().chain(&produced.sent).copied().collect();
    let consumed = Consumed::new(consumed, &streams);
    let usage = produced.usage.most(consumed.usage);

    let mut report = Report::new(options, &stage.topic);
    report.load = Load::new(produced.measured, produced.measured_bytes, produced.window);
    report.produced(&produced, options);
    report.latency("fetch", &consumed.fetch);
    report.latency("end to end", &consumed.latency);
    report.consumed(&consumed);
    let meanwhile = consumed.meanwhile;
    report.findings = Some(Any::Mixed(Findings {
        fetched: Load::new(
            meanwhile.messages,
            meanwhile.bytes,
            Window::new(0, until_ns),
        ),
        backlog: there,
        behind: (there + produced.total_sent()).saturating_sub(meanwhile.messages),
    }));
    report.client = Client::new(meter.stop(), usage, threads);
    report.checked = Some(Checked::from(&consumed));
    report.over_time(&stage.run);
    Ok(report)
}

/// Fills a new topic; one that is kept has what it has. The streams that were sent.
fn backlog(stage: &Stage) -> Result<Vec<(u32, u64)>, Error> {
    let messages = stage.options.mixed.backlog;
    if stage.options.topic.is_some() || messages == 0 {
        return Ok(Vec::new());
    }
    // As a warm-up: none of these is measured.
    let options = Options {
        rate: None,
        warmup: Warmup::Messages(messages),
        messages: 0,
        ..stage.options.clone()
    };
    let stage = Stage {
        options: &options,
        ..stage.again()
    };
    Ok(produce::fill(&stage)?.0.sent)
}
