//! What a machine did in a span of time: proc_stat(5), proc_loadavg(5), and the kernel's pressure stall
//! information (PSI), where it has that.

use std::fs::read_to_string;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A span of time that goes on.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    ticks: Option<Ticks>,
    waiting_us: Option<u64>,
}

/// What the machine did. What the kernel does not tell is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// Share of all cores' time that something ran.
    pub busy: Option<f64>,
    /// Share of all cores' time that the hypervisor gave to others.
    pub steal: Option<f64>,
    /// Share of the time that something waited for a core (PSI: cpu, some).
    pub waiting: Option<f64>,
    /// Tasks that ran or could run, on average of the last minute, at the end.
    pub load: Option<f64>,
}

/// Times of all cores together, in ticks since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
    steal: u64,
}

impl Watch {
    /// From now on.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            ticks: ticks(),
            waiting_us: waiting_us(),
        }
    }

    /// What the machine did since the start.
    pub fn stop(&self) -> Activity {
        let us = self.began.elapsed().as_micros().max(1) as f64;
        let waited = waiting_us().zip(self.waiting_us);
        let spent = ticks()
            .zip(self.ticks)
            .and_then(|(now, then)| now.since(then));
        Activity {
            busy: spent.map(|spent| 1.0 - spent.share(spent.idle + spent.steal)),
            steal: spent.map(|spent| spent.share(spent.steal)),
            waiting: waited.map(|(now, then)| (now.saturating_sub(then) as f64 / us).min(1.0)),
            load: read("/proc/loadavg").and_then(|text| load_in(&text)),
        }
    }
}

impl Ticks {
    fn since(self, then: Self) -> Option<Self> {
        let spent = Self {
            all: self.all.checked_sub(then.all)?,
            idle: self.idle.saturating_sub(then.idle),
            steal: self.steal.saturating_sub(then.steal),
        };
        (spent.all > 0).then_some(spent)
    }

    fn share(self, ticks: u64) -> f64 {
        ticks.min(self.all) as f64 / self.all as f64
    }
}

fn read(path: &str) -> Option<String> {
    read_to_string(path).ok()
}

fn ticks() -> Option<Ticks> {
    ticks_in(&read("/proc/stat")?)
}

fn waiting_us() -> Option<u64> {
    waiting_in(&read("/proc/pressure/cpu")?)
}

/// `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests are in user and nice.
fn ticks_in(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Option<Vec<u64>> = line
        .split_whitespace()
        .take(8)
        .map(|n| n.parse().ok())
        .collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal] = fields?[..] else {
        return None;
    };
    Some(Ticks {
        all: user + nice + system + idle + iowait + irq + softirq + steal,
        idle: idle + iowait,
        steal,
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`
fn waiting_in(pressure: &str) -> Option<u64> {
    let line = pressure.lines().find(|line| line.starts_with("some "))?;
    line.rsplit_once("total=")?.1.trim().parse().ok()
}

/// The first of three: that of the last minute.
fn load_in(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_did_is_the_difference_of_its_counters() {
        let then = ticks_in("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        let now = ticks_in("cpu  130 0 60 840 60 0 0 10 5 0\n").unwrap();
        let spent = now.since(then).unwrap();
        assert_eq!((spent.all, spent.idle, spent.steal), (100, 50, 10));
        assert!((spent.share(spent.steal) - 0.1).abs() < 1e-9);
        assert_eq!(then.since(then), None, "no time has passed");
    }

    #[test]
    fn pressure_and_load_are_read_as_the_kernel_writes_them() {
        let pressure =
            "some avg10=0.01 avg60=11.59 avg300=39.63 total=410421487\nfull avg10=0.00 total=0\n";
        assert_eq!(waiting_in(pressure), Some(410_421_487));
        assert_eq!(load_in("1.53 4.55 2.92 1/130 12964\n"), Some(1.53));
        assert_eq!(ticks_in("cpu  1 2 3\n"), None, "an old kernel");
        assert_eq!(waiting_in(""), None);
    }
}
