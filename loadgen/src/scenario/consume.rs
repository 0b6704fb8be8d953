//! `consume`: how fast a topic can be read that is there already. Without one, a new one is filled
//! first, which is not measured.

use std::sync::{Arc, OnceLock};

use super::threads::join;
use super::{Stage, produce};
use crate::client::Error;
use crate::consumer::Consumed;
use crate::consumer::tally::Interest;
use crate::progress::Progress;
use crate::report::{Checked, Client, Load, Report};
use crate::usage::Meter;
use crate::window::Window;

pub fn run(stage: &Stage) -> Result<Report, Error> {
    let options = stage.options;
    let starts = stage.cluster.earliest(&stage.topic)?;
    let (interest, sent) = match options.topic {
        Some(_) => (Interest::All, Vec::new()),
        None => (stage.interest(), produce::fill(stage)?.0.sent),
    };
    let total = sent.iter().map(|(_, messages)| messages).sum();
    let ends = stage.ends_after(&starts, total)?;
    let there: i64 = ends
        .iter()
        .zip(&starts)
        .map(|(end, start)| end - start)
        .sum();

    // A clock of its own: what was before does not count.
    let stage = &stage.again();
    let consumers = stage.consumers(&starts, interest, &Arc::new(OnceLock::from(ends)))?;
    let threads = consumers.len();
    stage.run.start();
    stage.run.wait_for_start();
    let meter = Meter::of_process();
    let total = there.try_into().unwrap_or(0);
    let progress = Progress::show(&stage.run, "consume", total, |run| &run.received);
    let figures = join(stage.start_consumers(consumers)?)?;
    drop(progress);
    let consumed = Consumed::new(figures, &sent);

    let mut report = Report::new(options, &stage.topic);
    report.load = Load::new(
        consumed.messages,
        consumed.bytes,
        Window::new(0, consumed.last_ns),
    );
    report.latency("fetch", &consumed.fetch);
    report.consumed(&consumed);
    report.client = Client::new(meter.stop(), consumed.usage, threads);
    report.checked = Some(Checked::from(&consumed));
    report.over_time(&stage.run);
    Ok(report)
}
