//! Which of the figures may not be the broker's: a pure function of what was seen of the machine and
//! of the client itself.

use serde::{Deserialize, Serialize};

use super::Times;
use crate::machine::{Activity, Check};
use crate::usage::Usage;

/// From this share of a core on, a thread may be what limits the run.
const BUSY: f64 = 0.9;
/// The client's own delay, or the machine's floor, as a share of what was measured, that is too much.
const LATE: f64 = 0.25;
/// Shares of the time that are noise: the kernel counts ticks, and a thread that wakes always waits
/// for a moment.
const NO_STEAL: f64 = 0.001;
const NO_QUEUE: f64 = 0.02;
/// The machine waited for cores so much of the time that its queues are in the figures.
const CROWDED: f64 = 0.2;
/// A machine that did so much before the run was not quiet.
const NOT_QUIET: f64 = 0.1;

/// What is known of how a run went.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The latency that the run is about.
    pub measured: Option<&'a Times>,
    /// How late the client sent, if it had a schedule.
    pub lag: Option<&'a Times>,
    /// The most that any thread of the client had of each.
    pub worst_thread: Usage,
    /// The machine while it was measured.
    pub during: Activity,
    /// The machine before; none: nobody looked.
    pub check: Option<&'a Check>,
}

/// A reason not to take figures for the broker's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// The lowest percentile that it is about; 0: all figures.
    pub from_percentile: f64,
    /// In words.
    pub reason: String,
}

impl Doubt {
    fn new(from_percentile: f64, reason: String) -> Self {
        Self {
            from_percentile,
            reason,
        }
    }

    /// What it is about, in a word or two.
    pub fn about(&self) -> String {
        match self.from_percentile > 0.0 {
            true => format!("from p{}", self.from_percentile),
            false => "all".to_owned(),
        }
    }
}

/// The reasons not to take figures for the broker's, those about the most figures first.
pub fn doubts(evidence: &Evidence) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    doubts.extend(client_was_busy(evidence.worst_thread));
    doubts.extend(client_waited(evidence.worst_thread));
    doubts.extend(client_was_late(evidence));
    doubts.extend(hypervisor_took(&evidence.during, "during the run"));
    doubts.extend(machine_was_crowded(&evidence.during));
    if let Some(check) = evidence.check {
        doubts.extend(floors(check, evidence.measured));
        doubts.extend(machine_was_not_quiet(&check.before));
    }
    doubts.sort_by(|one, other| one.from_percentile.total_cmp(&other.from_percentile));
    doubts
}

fn client_was_busy(Usage { cpu, .. }: Usage) -> Option<Doubt> {
    let reason = format!(
        "a thread of the client was busy for {:.0} % of the time: the figures may show the client's limit",
        cpu * 100.0
    );
    (cpu >= BUSY).then(|| Doubt::new(0.0, reason))
}

fn client_waited(Usage { queued, .. }: Usage) -> Option<Doubt> {
    let queued = queued.filter(|queued| *queued >= NO_QUEUE)?;
    let reason = format!(
        "a thread of the client waited for a core for {} of the time",
        percent(queued)
    );
    Some(Doubt::new(beyond(queued), reason))
}

fn client_was_late(evidence: &Evidence) -> Option<Doubt> {
    let (measured, lag) = evidence.measured.zip(evidence.lag)?;
    let late = |(percentile, lag_ns, ns): &(f64, u64, u64)| {
        (*lag_ns as f64 > *ns as f64 * LATE).then_some((*percentile, *lag_ns, *ns))
    };
    let (percentile, lag_ns, ns) = pairs(lag, measured).iter().find_map(late)?;
    let reason = format!(
        "the client was late itself: its schedule lag is {:.3} ms at p{percentile}, {:.0} % of the latency",
        lag_ns as f64 / 1e6,
        lag_ns as f64 * 100.0 / ns.max(1) as f64
    );
    Some(Doubt::new(percentile, reason))
}

fn pairs(one: &Times, other: &Times) -> Vec<(f64, u64, u64)> {
    let (one, other) = (one.percentiles(), other.percentiles());
    let both = one.into_iter().zip(other);
    both.map(|((percentile, one), (_, other))| (percentile, one, other))
        .collect()
}

fn hypervisor_took(activity: &Activity, when: &str) -> Option<Doubt> {
    let steal = activity.steal.filter(|steal| *steal >= NO_STEAL)?;
    let reason = format!(
        "the hypervisor took {} of the CPU time {when} (steal)",
        percent(steal)
    );
    Some(Doubt::new(beyond(steal), reason))
}

fn machine_was_crowded(during: &Activity) -> Option<Doubt> {
    let waiting = during.waiting.filter(|waiting| *waiting >= CROWDED)?;
    let reason = format!(
        "something waited for a core for {} of the run (run queue): the machine has too few for what runs on it",
        percent(waiting)
    );
    Some(Doubt::new(99.0, reason))
}

fn floors(check: &Check, measured: Option<&Times>) -> Vec<Doubt> {
    let Some(measured) = measured else {
        return Vec::new();
    };
    let floor = |what: &str, of: [(f64, u64, u64); 2]| {
        let high = |(_, floor_ns, ns): &(f64, u64, u64)| *floor_ns as f64 > *ns as f64 * LATE;
        let (percentile, floor_ns, ns) = of.into_iter().find(high)?;
        let reason = format!(
            "{what} takes {:.3} ms at p{percentile} on this machine, {:.0} % of what was measured",
            floor_ns as f64 / 1e6,
            floor_ns as f64 * 100.0 / ns.max(1) as f64
        );
        Some(Doubt::new(percentile, reason))
    };
    let of = |floor: crate::machine::Floor| {
        [
            (50.0, floor.p50_ns, measured.p50_ns),
            (99.0, floor.p99_ns, measured.p99_ns),
        ]
    };
    let timer = floor("waking from a sleep", of(check.timer));
    let loopback = check
        .loopback
        .and_then(|loopback| floor("a round trip without a broker", of(loopback)));
    timer.into_iter().chain(loopback).collect()
}

fn machine_was_not_quiet(before: &Activity) -> Option<Doubt> {
    let busy = before.busy.unwrap_or(0.0);
    let waiting = before.waiting.unwrap_or(0.0);
    if busy < NOT_QUIET && waiting < NOT_QUIET {
        return hypervisor_took(before, "before the run");
    }
    let reason = format!(
        "the machine was not quiet before the run: {} busy, and something waited for a core for {} of the time",
        percent(busy),
        percent(waiting)
    );
    Some(Doubt::new(99.0, reason))
}

/// What happens for this share of the time is in the percentiles beyond.
fn beyond(share: f64) -> f64 {
    const REPORTED: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];
    let untouched = 100.0 * (1.0 - share);
    let touched = REPORTED
        .into_iter()
        .find(|percentile| *percentile >= untouched);
    touched.unwrap_or(99.99)
}

fn percent(share: f64) -> String {
    match share < 0.01 {
        true => format!("{:.1} %", share * 100.0),
        false => format!("{:.0} %", share * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Floor;

    fn times(ns: [u64; 5]) -> Times {
        let [p50_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns] = ns;
        Times {
            of: "test".to_owned(),
            count: 1,
            mean_ns: 0.0,
            p50_ns,
            p90_ns,
            p99_ns,
            p99_9_ns,
            p99_99_ns,
            max_ns: p99_99_ns,
            histogram: String::new(),
        }
    }

    fn quiet() -> Activity {
        Activity {
            busy: Some(0.02),
            steal: Some(0.0),
            waiting: Some(0.01),
            load: Some(0.1),
        }
    }

    fn found(change: impl FnOnce(&mut Evidence, &mut Check)) -> Vec<(f64, String)> {
        let measured = times([4_000_000, 5_000_000, 8_000_000, 9_000_000, 10_000_000]);
        let mut check = Check {
            timer: Floor {
                p50_ns: 60_000,
                p99_ns: 100_000,
            },
            loopback: Some(Floor {
                p50_ns: 20_000,
                p99_ns: 50_000,
            }),
            before: quiet(),
        };
        let mut evidence = Evidence {
            measured: Some(&measured),
            lag: None,
            worst_thread: Usage {
                cpu: 0.3,
                queued: Some(0.001),
            },
            during: quiet(),
            check: None,
        };
        change(&mut evidence, &mut check);
        evidence.check = Some(&check);
        let found = doubts(&evidence).into_iter();
        found
            .map(|doubt| (doubt.from_percentile, doubt.reason))
            .collect()
    }

    fn one(change: impl FnOnce(&mut Evidence, &mut Check)) -> (f64, String) {
        let mut found = found(change);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn a_quiet_machine_and_an_idle_client_leave_no_doubt() {
        assert_eq!(found(|_, _| {}), []);
    }

    #[test]
    fn what_happens_for_a_share_of_the_time_is_in_the_percentiles_beyond() {
        for (share, from) in [(0.0015, 99.9), (0.0100001, 99.0), (0.03, 99.0), (0.3, 90.0)] {
            let (percentile, reason) = one(|evidence, _| evidence.during.steal = Some(share));
            assert!((percentile - from).abs() < 1e-9, "{share}: {percentile}");
            assert!(reason.contains("steal") && reason.contains("during"));
        }
        let woken = |evidence: &mut Evidence| evidence.worst_thread.queued = Some(0.012);
        assert_eq!(
            found(|evidence, _| woken(evidence)),
            [],
            "each wait ends with a moment of that"
        );
        let queued = |evidence: &mut Evidence| evidence.worst_thread.queued = Some(0.15);
        let (percentile, reason) = one(|evidence, _| queued(evidence));
        assert!(
            (percentile - 90.0).abs() < 1e-9 && reason.contains("15 %"),
            "{reason}"
        );
    }

    #[test]
    fn a_busy_client_is_a_doubt_about_everything() {
        let (percentile, reason) = one(|evidence, _| evidence.worst_thread.cpu = 0.95);
        assert!(percentile < 1.0 && reason.contains("95 %"), "{reason}");
    }

    #[test]
    fn the_clients_lag_counts_from_where_it_is_a_part_of_the_latency() {
        let lag = times([100_000, 200_000, 1_000_000, 3_000_000, 9_000_000]);
        let measured = times([4_000_000, 5_000_000, 8_000_000, 9_000_000, 10_000_000]);
        let evidence = Evidence {
            measured: Some(&measured),
            lag: Some(&lag),
            worst_thread: Usage::default(),
            during: Activity::default(),
            check: None,
        };
        let found = doubts(&evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].about(), "from p99.9");
        assert!(found[0].reason.contains("3.000 ms"), "{found:?}");
    }

    #[test]
    fn a_machine_that_was_not_quiet_is_named() {
        let (percentile, reason) = one(|_, check| check.before.busy = Some(0.5));
        assert!((percentile - 99.0).abs() < 1e-9 && reason.contains("before the run"));
        let (_, reason) = one(|evidence, _| evidence.during.waiting = Some(0.4));
        assert!(reason.contains("run queue"), "{reason}");
        let (_, reason) = one(|_, check| check.before.steal = Some(0.002));
        assert!(reason.contains("before the run (steal)"), "{reason}");
    }

    #[test]
    fn a_floor_that_is_near_what_was_measured_is_named() {
        let (percentile, reason) = one(|_, check| check.timer.p99_ns = 4_000_000);
        assert!(
            (percentile - 99.0).abs() < 1e-9 && reason.contains("50 %"),
            "{reason}"
        );
        let near = Floor {
            p50_ns: 2_000_000,
            p99_ns: 4_000_000,
        };
        let (percentile, _) = one(|_, check| check.loopback = Some(near));
        assert!((percentile - 50.0).abs() < 1e-9);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_no_doubt() {
        let found = found(|evidence, check| {
            evidence.during = Activity::default();
            evidence.worst_thread.queued = None;
            check.before = Activity::default();
            check.loopback = None;
        });
        assert_eq!(found, []);
    }

    #[test]
    fn doubts_about_more_figures_come_first() {
        let found = found(|evidence, _| {
            evidence.during.steal = Some(0.002);
            evidence.worst_thread.cpu = 1.0;
        });
        assert!(found[0].0 < found[1].0, "{found:?}");
    }
}
