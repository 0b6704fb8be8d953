//! Where it was run.

use std::time::{Instant, SystemTime};

use serde::Serialize;

use crate::process::steal_seconds;

#[derive(Serialize)]
pub struct Environment {
    /// Seconds since the epoch, when it began.
    pub time: u64,
    pub command: String,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_gigabytes: f64,
    /// CPU time that the host took away during the run, as a share.
    pub steal: f64,
}

impl Environment {
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(key));
            line.and_then(|l| l.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.and_then(|m| m.split(' ').next()?.parse::<f64>().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut command: Vec<String> = std::env::args().collect();
        command[0] = "compare".to_owned();
        Environment {
            time: now.map_or(0, |d| d.as_secs()),
            command: command.join(" "),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: value(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| "an unknown CPU".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory_gigabytes: kilobytes.unwrap_or(0.0) * 1024.0 / 1e9,
            steal: 0.0,
        }
    }

    /// In one line.
    pub fn words(&self) -> String {
        let Environment {
            command,
            kernel,
            cpu,
            cores,
            memory_gigabytes,
            ..
        } = self;
        let date = date(self.time);
        format!(
            "{date}: `{command}` on {cores} cores ({cpu}), {memory_gigabytes:.0} GB, Linux {kernel}"
        )
    }

    /// If the figures are not to be trusted.
    pub fn warning(&self) -> Option<String> {
        let percent = self.steal * 100.0;
        (percent > 1.0).then(|| {
            format!("The host took {percent:.1} % of the CPU time: tails are not to be trusted.")
        })
    }
}

/// How much of the CPU time the host took from here on.
pub struct Clock {
    began: Instant,
    stolen: f64,
}

impl Clock {
    pub fn start() -> Self {
        Clock {
            began: Instant::now(),
            stolen: steal_seconds(),
        }
    }

    /// As a share of all CPUs' time.
    pub fn steal(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let all = cores as f64 * self.began.elapsed().as_secs_f64();
        (steal_seconds() - self.stolen) / all
    }
}

/// The day (UTC) of so many seconds since the epoch.
fn date(seconds: u64) -> String {
    // Days are counted from 1 March of the year 0, so that leap days come last (civil_from_days).
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = match month {
        0..10 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named_as_in_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(951_868_800), "2000-03-01");
        assert_eq!(date(1_735_689_599), "2024-12-31");
        assert_eq!(date(4_107_542_400), "2100-03-01");
    }
}
