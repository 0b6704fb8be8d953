//! The oracle: were a stream's messages lost, doubled or reordered?
//!
//! A stream is what one producer sends to one partition, numbered from 0; a broker has to keep its
//! order. Numbers are given in the order in which they were read.

use std::collections::BTreeMap;
use std::fmt;

/// Gaps that are remembered for each stream, so that a broken broker cannot fill the memory.
const MAX_GAPS: usize = 100_000;

/// What was wrong, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Faults {
    /// Never read.
    pub lost: u64,
    /// Read once more.
    pub duplicates: u64,
    /// Read behind a later one.
    pub reordered: u64,
    /// Of this run, but not what was sent: in another partition, or with another size.
    pub corrupt: u64,
}

impl Faults {
    /// Whether nothing was wrong.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another stream's.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            duplicates,
            reordered,
            corrupt,
        } = self;
        write!(
            f,
            "{lost} lost, {duplicates} duplicates, {reordered} out of order, {corrupt} corrupt"
        )
    }
}

/// What was read of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// The number that has to come next.
    next: u64,
    /// Numbers below `next` that have not come: the first of a gap, and the one behind its last.
    gaps: BTreeMap<u64, u64>,
    faults: Faults,
    first_fault: Option<String>,
}

impl Stream {
    /// A stream that is read from its first message on.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream that is read from this message on: what was before is unknown.
    pub fn starting_at(number: u64) -> Self {
        Self {
            next: number,
            ..Self::default()
        }
    }

    /// The stream's next message was read.
    #[inline]
    pub fn read(&mut self, number: u64) {
        if number == self.next {
            self.next += 1;
        } else {
            self.out_of_turn(number);
        }
    }

    /// A message of the stream was not what was sent.
    pub fn corrupt(&mut self, what: String) {
        self.faults.corrupt += 1;
        self.first_fault.get_or_insert(what);
    }

    #[cold]
    fn out_of_turn(&mut self, number: u64) {
        let next = self.next;
        if number > next {
            self.first_fault
                .get_or_insert_with(|| format!("message {number} follows where {next} has to"));
            self.next = number.saturating_add(1);
            match self.gaps.len() {
                MAX_GAPS.. => self.faults.lost += number - next,
                _ => drop(self.gaps.insert(next, number)),
            }
        } else if self.fill(number) {
            self.faults.reordered += 1;
            self.first_fault
                .get_or_insert_with(|| format!("message {number} comes behind {}", next - 1));
        } else {
            self.faults.duplicates += 1;
            self.first_fault
                .get_or_insert_with(|| format!("message {number} comes twice"));
        }
    }

    /// Takes a number out of the gap it is in, if it is in one.
    fn fill(&mut self, number: u64) -> bool {
        let Some((&first, &end)) = self.gaps.range(..=number).next_back() else {
            return false;
        };
        if number >= end {
            return false;
        }
        self.gaps.remove(&first);
        if first < number {
            self.gaps.insert(first, number);
        }
        if number + 1 < end {
            self.gaps.insert(number + 1, end);
        }
        true
    }

    /// The verdict. `sent`: messages that have to be there, if that is known; else there may be more
    /// behind the last one that was read.
    pub fn finish(self, sent: Option<u64>) -> (Faults, Option<String>) {
        let mut faults = self.faults;
        faults.lost += self
            .gaps
            .iter()
            .map(|(first, end)| end - first)
            .sum::<u64>();
        let tail = sent.unwrap_or(0).saturating_sub(self.next);
        faults.lost += tail;
        let missing = (tail > 0).then(|| format!("nothing comes from message {} on", self.next));
        (faults, self.first_fault.or(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: impl IntoIterator<Item = u64>, sent: u64) -> Faults {
        let mut stream = Stream::new();
        numbers.into_iter().for_each(|number| stream.read(number));
        let (faults, first) = stream.finish(Some(sent));
        assert_eq!(faults.none(), first.is_none(), "a fault has a text");
        faults
    }

    fn expect(lost: u64, duplicates: u64, reordered: u64) -> Faults {
        Faults {
            lost,
            duplicates,
            reordered,
            corrupt: 0,
        }
    }

    #[test]
    fn a_stream_in_order_has_no_faults() {
        assert_eq!(faults(0..100, 100), expect(0, 0, 0));
        assert_eq!(faults([], 0), expect(0, 0, 0));
    }

    #[test]
    fn a_loss_is_found_wherever_it_is() {
        assert_eq!(faults((0..100).filter(|n| *n != 50), 100), expect(1, 0, 0));
        assert_eq!(faults(10..100, 100), expect(10, 0, 0), "at the front");
        assert_eq!(faults(0..97, 100), expect(3, 0, 0), "at the end");
        assert_eq!(faults([], 5), expect(5, 0, 0), "all");
    }

    #[test]
    fn a_duplicate_is_found() {
        assert_eq!(
            faults([0, 1, 1, 2], 3),
            expect(0, 1, 0),
            "right behind the first"
        );
        assert_eq!(faults([0, 1, 2, 3, 1, 2, 3], 4), expect(0, 3, 0), "a batch");
    }

    #[test]
    fn a_reordering_is_found_and_is_no_loss() {
        assert_eq!(faults([0, 2, 1, 3], 4), expect(0, 0, 1));
        assert_eq!(
            faults([0, 4, 5, 1, 2, 3, 6], 7),
            expect(0, 0, 3),
            "a batch that was passed"
        );
    }

    #[test]
    fn a_message_that_comes_late_and_again_is_both() {
        assert_eq!(faults([0, 3, 2, 2, 1, 4], 5), expect(0, 1, 2));
    }

    #[test]
    fn the_faults_do_not_hide_each_other() {
        assert_eq!(faults([0, 1, 1, 4, 3, 5], 8), expect(3, 1, 1));
    }

    #[test]
    fn a_stream_read_from_its_middle_has_lost_nothing() {
        let mut stream = Stream::starting_at(500);
        (500..600).for_each(|number| stream.read(number));
        assert_eq!(stream.finish(None), (Faults::default(), None));
    }

    #[test]
    fn gaps_without_end_do_not_take_memory_without_end() {
        let many = 3 * MAX_GAPS as u64;
        let mut stream = Stream::new();
        (0..many).for_each(|number| stream.read(2 * number));
        assert!(stream.gaps.len() <= MAX_GAPS);
        assert_eq!(stream.finish(None).0, expect(many - 1, 0, 0));
    }
}
