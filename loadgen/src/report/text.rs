//! A report as text.

use std::fmt;

use super::Report;
use crate::options::{Options, Scenario};
use crate::payload::keys::Keys;

/// What was asked for.
pub(super) fn describe(options: &Options) -> String {
    let acks = match options.acks {
        -1 => "all".to_owned(),
        acks => acks.to_string(),
    };
    let rate = match (options.scenario, options.rate) {
        (Scenario::Consume | Scenario::Sweep, _) => String::new(),
        (_, Some(rate)) => format!(", {rate} messages/s (latency counts from the schedule)"),
        (_, None) => ", as fast as they are taken".to_owned(),
    };
    match options.scenario {
        Scenario::Consume if options.topic.is_some() => return "what is there".to_owned(),
        Scenario::Storm | Scenario::Idle => {
            return format!("connections to {}", options.bootstrap.join(", "));
        }
        _ => {}
    }
    let keys = match options.keys {
        Keys::None => String::new(),
        keys => format!(", keys {keys}"),
    };
    format!(
        "messages of {}{keys}, acks={acks}, compression {}{rate}",
        options.size,
        options.compression.name()
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.scenario, self.description)?;
        if !self.topic.is_empty() {
            self.write_topic(f)?;
        }
        self.write_latencies(f)?;
        self.write_work(f)?;
        if let Some(findings) = &self.findings {
            write!(f, "{findings}")?;
        }
        self.write_client(f)?;
        match &self.checked {
            None if self.scenario == Scenario::Produce => {
                writeln!(f, "  checked      no (--no-verify)")?;
            }
            None => {}
            Some(checked) => writeln!(
                f,
                "  checked      {} messages read: {}",
                checked.messages, checked.faults
            )?,
        }
        for warning in &self.warnings {
            writeln!(f, "  warning      {warning}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_topic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  topic        {}, {} partitions on {} broker{}",
            self.topic,
            self.partitions,
            self.brokers,
            if self.brokers == 1 { "" } else { "s" }
        )?;
        let load = &self.load;
        writeln!(
            f,
            "  throughput   {:.0} messages/s, {:.2} MB/s: {} messages in {:.3} s",
            load.messages_per_second, load.megabytes_per_second, load.messages, load.seconds
        )
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latencies.is_empty() {
            return Ok(());
        }
        write!(f, "  latency, ms ")?;
        for column in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            write!(f, "{column:>10}")?;
        }
        writeln!(f)?;
        for times in &self.latencies {
            write!(f, "    {:<10}", times.of)?;
            for (column, ns) in times.columns().into_iter().enumerate() {
                // The longest name takes two characters of the first column.
                let width = if column == 0 {
                    10 - times.of.len().saturating_sub(10)
                } else {
                    10
                };
                write!(f, "{:>width$.3}", ns as f64 / 1e6)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_work(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sending) = &self.sending {
            let per_batch = sending.messages as f64 / sending.batches.max(1) as f64;
            writeln!(
                f,
                "  sent         {} messages in {} batches (of {per_batch:.1}) in {} requests, {} retries",
                sending.messages, sending.batches, sending.requests, sending.retries
            )?;
        }
        if let Some(reading) = &self.reading {
            writeln!(
                f,
                "  read         {} messages in {} fetches, {} of them not of this program's run, {} retries",
                reading.messages, reading.fetches, reading.others, reading.retries
            )?;
        }
        Ok(())
    }

    fn write_client(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = &self.client;
        write!(
            f,
            "  client       {:.2} cores, {} threads; the busiest was so for {:.0} %",
            client.cores,
            client.threads,
            client.worst_thread.cpu * 100.0
        )?;
        if let Some(queued) = client.worst_thread.queued {
            write!(
                f,
                ", the longest wait for a core was {:.0} %",
                queued * 100.0
            )?;
        }
        writeln!(f)
    }
}
