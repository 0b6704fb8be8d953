//! A report as text.

use std::fmt;

use super::{Report, Table};
use crate::machine::{Activity, Check, Floor};
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
        for table in &self.tables {
            write_table(f, table)?;
        }
        if let Some(findings) = &self.findings {
            write!(f, "{findings}")?;
        }
        self.write_client(f)?;
        match &self.checked {
            None if self.sending.is_some() => {
                writeln!(f, "  checked      no (--no-verify)")?;
            }
            None => {}
            Some(checked) => writeln!(
                f,
                "  checked      {} messages read: {}",
                checked.messages, checked.faults
            )?,
        }
        self.write_trust(f)?;
        for warning in &self.warnings {
            writeln!(f, "  warning      {warning}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_topic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  topic        {}, {}", self.topic, topology(self))?;
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
            let percentiles = times.percentiles().map(|(_, ns)| ns);
            for (column, ns) in percentiles.into_iter().chain([times.max_ns]).enumerate() {
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

    /// What the machine was like, and what that means for the figures.
    fn write_trust(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(check) = &self.check {
            writeln!(f, "  machine      {}", floors(check))?;
            writeln!(f, "    before     {}", activity(&check.before))?;
            writeln!(f, "    during     {}", activity(&self.client.machine))?;
        }
        match (self.doubts.is_empty(), &self.check) {
            (false, _) => writeln!(f, "  not to be trusted:")?,
            (true, Some(_)) => writeln!(
                f,
                "  trust        the machine was quiet, and the client kept up"
            )?,
            (true, None) => writeln!(f, "  trust        the client kept up")?,
        }
        for doubt in &self.doubts {
            writeln!(f, "    {:<10} {}", doubt.about(), doubt.reason)?;
        }
        Ok(())
    }
}

/// `4 partitions on 1 broker`
pub(super) fn topology(report: &Report) -> String {
    let number = |number: usize, of: &str| match number {
        1 => format!("1 {of}"),
        _ => format!("{number} {of}s"),
    };
    let partitions = number(report.partitions, "partition");
    format!("{partitions} on {}", number(report.brokers, "broker"))
}

/// The machine's floors, in a line.
pub(super) fn floors(check: &Check) -> String {
    let of = |floor: Floor| {
        let ms = |ns: u64| ns as f64 / 1e6;
        format!(
            "{:.3} ms, at p99 {:.3} ms",
            ms(floor.p50_ns),
            ms(floor.p99_ns)
        )
    };
    let loopback = check.loopback.map_or_else(|| "none".to_owned(), of);
    format!(
        "a sleep ends late by {}; a loopback round trip takes {loopback}",
        of(check.timer)
    )
}

/// What the machine did, in a line.
pub(super) fn activity(activity: &Activity) -> String {
    let share = |share: Option<f64>| {
        let percent = share.map(|share| format!("{:.1} %", share * 100.0));
        percent.unwrap_or_else(|| "unknown".to_owned())
    };
    let load = activity.load.map(|load| format!("{load:.2}"));
    format!(
        "busy {}, steal {}, tasks waited for a core {} of the time, load {}",
        share(activity.busy),
        share(activity.steal),
        share(activity.waiting),
        load.unwrap_or_else(|| "unknown".to_owned())
    )
}

/// A table, each column as wide as what is in it.
pub(super) fn write_table(f: &mut dyn fmt::Write, table: &Table) -> fmt::Result {
    let rows = table.rows.iter().map(String::len);
    let first = rows.chain([table.title.len()]).max().unwrap_or(0);
    write!(f, "  {:<first$}", table.title)?;
    let mut widths = Vec::new();
    for column in &table.columns {
        let heading = column.heading();
        let cells = (0..table.rows.len()).map(|row| column.text(row).len());
        let width = cells.chain([heading.len()]).max().unwrap_or(0);
        write!(f, "  {heading:>width$}")?;
        widths.push(width);
    }
    writeln!(f)?;
    for (row, (name, remark)) in table.rows.iter().zip(&table.remarks).enumerate() {
        write!(f, "  {name:<first$}")?;
        for (column, width) in table.columns.iter().zip(&widths) {
            write!(f, "  {:>width$}", column.text(row))?;
        }
        let gap = if remark.is_empty() { "" } else { "  " };
        writeln!(f, "{gap}{remark}")?;
    }
    Ok(())
}
