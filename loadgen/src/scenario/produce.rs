//! `produce`: how much a broker takes, and how long it takes to acknowledge it. What was sent is read
//! back afterwards, and checked.

use std::sync::{Arc, OnceLock};

use super::Stage;
use super::threads::join;
use crate::client::Error;
use crate::consumer::Consumed;
use crate::options::Warmup;
use crate::producer;
use crate::progress::Progress;
use crate::report::{Checked, Client, Load, Report};
use crate::usage::Meter;

pub fn run(stage: &Stage) -> Result<Report, Error> {
    let options = stage.options;
    let starts = stage.cluster.latest(&stage.topic)?;
    let (produced, client) = fill(stage)?;
    stage.run.timeline.close();
    let checked = match options.verify {
        true => Some(read_back(stage, &starts, &produced.sent)?),
        false => None,
    };
    let mut report = Report::new(options, &stage.topic);
    report.load = Load::new(produced.measured, produced.measured_bytes, produced.window);
    report.produced(&produced, options);
    report.client = client;
    report.checked = checked;
    report.over_time(&stage.run);
    Ok(report)
}

/// Sends all messages.
pub fn fill(stage: &Stage) -> Result<(producer::Figures, Client), Error> {
    let producers = stage.producers()?;
    stage.run.start();
    let meter = Meter::of_process();
    let progress = Progress::show(&stage.run, "produce", stage.expected(), |run| &run.acked);
    let threads = producers.len();
    let figures = join(stage.start_producers(producers)?)?;
    drop(progress);
    let produced = producer::Figures::merged(figures);
    let client = Client::new(meter.stop(), produced.usage, threads);
    Ok((produced, client))
}

/// Reads what was sent, and finds what is wrong with it.
fn read_back(stage: &Stage, starts: &[i64], sent: &[(u32, u64)]) -> Result<Checked, Error> {
    let total = sent.iter().map(|(_, messages)| messages).sum();
    let ends = Arc::new(OnceLock::from(stage.ends_after(starts, total)?));
    let consumers = stage.consumers(starts, stage.interest(), &ends)?;
    let progress = Progress::show(&stage.run, "check", total, |run| &run.received);
    let figures = join(stage.start_consumers(consumers)?)?;
    drop(progress);
    Ok(Checked::from(&Consumed::new(figures, sent)))
}

impl Stage<'_> {
    /// About how many messages will be sent.
    pub fn expected(&self) -> u64 {
        let warmup = match self.options.warmup {
            Warmup::Messages(messages) => messages,
            Warmup::Time(time) => time.as_secs() * self.options.rate.unwrap_or(0),
        };
        self.options.messages + warmup
    }
}
