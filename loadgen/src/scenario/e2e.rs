//! `e2e`: how long it takes from the time a message was to be sent until a consumer has it. Producers
//! and consumers run in this process, so that one clock measures both ends; what arrives is checked.

use std::sync::{Arc, OnceLock};

use super::Stage;
use super::threads::join;
use crate::client::Error;
use crate::consumer::Consumed;
use crate::consumer::Ends;
use crate::producer;
use crate::progress::Progress;
use crate::report::{Checked, Client, Load, Report};
use crate::usage::Meter;

pub fn run(stage: &Stage) -> Result<Report, Error> {
    let options = stage.options;
    let starts = stage.cluster.latest(&stage.topic)?;
    let ends: Ends = Arc::new(OnceLock::new());
    let consumers = stage.consumers(&starts, stage.interest(), &ends)?;
    let producers = stage.producers()?;
    let threads = consumers.len() + producers.len();

    stage.run.start();
    let meter = Meter::of_process();
    let progress = Progress::show(&stage.run, "e2e", stage.expected(), |run| &run.received);
    let consuming = stage.start_consumers(consumers)?;
    let produced = stage.start_producers(producers).and_then(join);
    let produced = produced.and_then(|figures| end(stage, &starts, &ends, figures));
    if produced.is_err() {
        stage.run.stop();
    }
    let consumed = join(consuming);
    drop(progress);
    let (produced, consumed) = (produced?, consumed?);
    let consumed = Consumed::new(consumed, &produced.sent);
    let usage = produced.usage.most(consumed.usage);

    let mut report = Report::new(options, &stage.topic);
    let messages = consumed.latency.count();
    report.load = Load::new(messages, consumed.measured_bytes, consumed.window);
    report.latency("end to end", &consumed.latency);
    report.produced(&produced, options);
    report.consumed(&consumed);
    report.client = Client::new(meter.stop(), usage, threads);
    report.checked = Some(Checked::from(&consumed));
    report.over_time(&stage.run);
    Ok(report)
}

/// All is sent: tells the consumers where to end.
fn end(
    stage: &Stage,
    starts: &[i64],
    ends: &Ends,
    figures: Vec<producer::Figures>,
) -> Result<producer::Figures, Error> {
    let produced = producer::Figures::merged(figures);
    let total = produced.total_sent();
    let visible = stage.ends_after(starts, total)?;
    ends.get_or_init(|| visible);
    Ok(produced)
}
