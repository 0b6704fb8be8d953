//! Connections that failed, by what went wrong.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;

use serde::Serialize;

use crate::client::Error;

/// Kinds that are told apart.
const MAX_KINDS: usize = 20;
/// A thread gives up after so many failures in a row.
const MAX_IN_A_ROW: u64 = 100;

/// How often which one came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Failures {
    kinds: BTreeMap<String, u64>,
    #[serde(skip)]
    in_a_row: u64,
}

impl Failures {
    /// One more.
    pub fn add(&mut self, error: &Error) {
        let cause = error.source().map(|cause| format!(": {cause}"));
        let mut kind = format!("{error}{}", cause.unwrap_or_default());
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&kind) {
            kind = "others".to_owned();
        }
        *self.kinds.entry(kind).or_default() += 1;
        self.in_a_row += 1;
    }

    /// One that did not fail.
    pub fn none(&mut self) {
        self.in_a_row = 0;
    }

    /// Whether to go on makes no sense.
    pub fn hopeless(&self) -> bool {
        self.in_a_row >= MAX_IN_A_ROW
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// The kind that came most often.
    pub fn most(&self) -> Option<&str> {
        let most = self.kinds.iter().max_by_key(|(_, count)| **count);
        most.map(|(kind, _)| kind.as_str())
    }
}

/// A line for each kind.
impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds = self.kinds.iter();
        kinds.try_for_each(|(kind, count)| writeln!(f, "  failed       {count} x {kind}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(address: usize) -> Error {
        let address = address.to_string();
        Error::Closed { address }
    }

    #[test]
    fn kinds_are_counted_and_not_without_end() {
        let mut failures = Failures::default();
        (0..50).for_each(|address| failures.add(&closed(address)));
        (0..9).for_each(|_| failures.add(&closed(3)));
        assert_eq!(
            (failures.count(), failures.kinds.len()),
            (59, MAX_KINDS + 1)
        );
        assert_eq!(failures.most(), Some("others"));
        let mut twice = failures.clone();
        twice.merge(failures);
        assert_eq!(twice.count(), 118);
        assert!(twice.to_string().contains("20 x 3 closed the connection"));
    }

    #[test]
    fn failures_without_success_between_them_end_it() {
        let mut failures = Failures::default();
        (1..MAX_IN_A_ROW).for_each(|_| failures.add(&closed(1)));
        failures.none();
        failures.add(&closed(1));
        assert!(!failures.hopeless());
        (1..MAX_IN_A_ROW).for_each(|_| failures.add(&closed(1)));
        assert!(failures.hopeless());
    }
}
