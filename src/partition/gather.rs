//! When a commit waits for more to be committed with it.
//!
//! Producers that were just answered send again at once. A commit that begins with the first of them has
//! little to commit, and the others wait for its end: small and large commits take turns. Where a commit
//! costs much, whatever its size, the next one had better wait for them. It does as long as that lets more
//! requests be committed in the same time; if it did not pay off, the next ones do not try, for a while.
//! (PostgreSQL has `commit_delay` and `commit_siblings` for it, which an operator has to set.)

use std::time::{Duration, Instant};

/// However long commits take.
const WAIT_MAX: Duration = Duration::from_millis(2);
/// After waits that did not pay off, one after the other, so many commits less one do not wait: a power of 2.
const SKIPS_LOG2_MAX: u32 = 5;

#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The last commit's time.
    took: Duration,
    /// Requests that it answered.
    answered: usize,
    /// Waits that did not pay off, since one did.
    misses: u32,
    /// Commits that are not to wait.
    skips: u32,
}

impl Gathering {
    /// A commit has ended, and answered requests: their clients may send others at once.
    pub fn commit_ended(&mut self, took: Duration, answered: usize) {
        (self.took, self.answered) = (took, answered);
    }

    /// Whether the next commit is to wait, while so many requests wait for it.
    pub fn begin(&mut self, waiting: usize, now: Instant) -> Option<Wait> {
        let answered = std::mem::take(&mut self.answered);
        let expected = answered + waiting;
        if answered == 0 || expected < 2 {
            return None;
        }
        if self.skips > 0 {
            self.skips -= 1;
            return None;
        }
        Some(Wait {
            took: self.took,
            expected,
            deadline: now + WAIT_MAX.min(self.took / 2),
            first: (waiting > 0).then_some((waiting, now)),
        })
    }

    /// A commit begins after it waited.
    pub fn end(&mut self, wait: &Wait, waiting: usize, now: Instant) {
        if let Some((first, since)) = wait.first {
            let with = waiting as f64 / (wait.took + (now - since)).as_secs_f64();
            let without = first as f64 / wait.took.as_secs_f64();
            self.misses = match with > without {
                true => 0,
                false => SKIPS_LOG2_MAX.min(self.misses + 1),
            };
            self.skips = (1 << self.misses) - 1;
        }
    }
}

/// A commit that waits to begin.
pub(super) struct Wait {
    /// As long as it will take itself, probably.
    took: Duration,
    /// With so many requests it need not wait any more.
    expected: usize,
    deadline: Instant,
    /// How many requests waited when there were any, and since when.
    first: Option<(usize, Instant)>,
}

impl Wait {
    /// How much longer to wait for another request. `None`: not at all.
    pub fn patience(&mut self, waiting: usize, now: Instant) -> Option<Duration> {
        let left = self.deadline.checked_duration_since(now)?;
        if waiting >= self.expected || left.is_zero() {
            return None;
        }
        if waiting == 0 {
            return Some(left);
        }
        self.first.get_or_insert((waiting, now));
        // If one comes within the time that each of them takes, there are more in the same time with it.
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        Some(left.min(self.took / waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(800);

    fn after(commit: usize) -> Gathering {
        let mut gathering = Gathering::default();
        gathering.commit_ended(TOOK, commit);
        gathering
    }

    #[test]
    fn who_is_alone_does_not_wait() {
        let now = Instant::now();
        assert!(after(1).begin(0, now).is_none());
        // Nor does anybody when nobody was answered, as after a commit that failed.
        assert!(after(0).begin(7, now).is_none());
        assert!(Gathering::default().begin(7, now).is_none());
    }

    #[test]
    fn a_commit_waits_for_those_who_were_answered_and_less_the_more_wait() {
        let now = Instant::now();
        let mut wait = after(3).begin(1, now).unwrap();
        let half = TOOK / 2;
        assert_eq!(wait.patience(1, now), Some(half));
        assert_eq!(wait.patience(3, now), Some(TOOK / 3));
        assert_eq!(wait.patience(4, now), None);
        assert_eq!(wait.patience(1, now + half), None);
        assert_eq!(wait.patience(1, now + TOOK), None);
        let mut none_yet = after(3).begin(0, now).unwrap();
        assert_eq!(none_yet.patience(0, now), Some(half));
    }

    #[test]
    fn a_slow_store_makes_nobody_wait_for_long() {
        let mut gathering = Gathering::default();
        gathering.commit_ended(Duration::from_secs(10), 2);
        let now = Instant::now();
        let mut wait = gathering.begin(1, now).unwrap();
        assert_eq!(wait.patience(1, now), Some(WAIT_MAX));
    }

    #[test]
    fn waiting_that_does_not_pay_off_becomes_rare_and_is_resumed_when_it_does() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let mut wait_of = |came: usize| {
            for skipped in 0.. {
                gathering.commit_ended(TOOK, 1);
                if let Some(wait) = gathering.begin(1, now) {
                    gathering.end(&wait, 1 + came, now + TOOK / 2);
                    return skipped;
                }
            }
            unreachable!("it tries again some time")
        };
        let skipped: Vec<_> = (0..8).map(|_| wait_of(0)).collect();
        assert_eq!(skipped, [0, 1, 3, 7, 15, 31, 31, 31]);
        assert_eq!(
            [wait_of(1), wait_of(1), wait_of(0), wait_of(1)],
            [31, 0, 0, 1]
        );
    }
}
