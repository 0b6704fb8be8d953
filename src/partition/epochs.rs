//! Leader epochs: which epoch began at which offset (KIP-101, KIP-279).

use bytes::Buf;

/// Epochs in ascending order with the offset each began at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<(i32, i64)>,
}

impl LeaderEpochs {
    /// The newest epoch, if there is one.
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// The epoch that `offset` belongs to, if one began at or before it.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let begun = self.entries.partition_point(|(_, start)| *start <= offset);
        let (epoch, _) = self.entries.get(begun.checked_sub(1)?)?;
        Some(*epoch)
    }

    /// The newest epoch up to `epoch`, and the next one after it with the offset it began at.
    pub fn around(&self, epoch: i32) -> (Option<i32>, Option<(i32, i64)>) {
        let after = self.entries.partition_point(|(e, _)| *e <= epoch);
        let before = after.checked_sub(1).map(|at| self.entries[at].0);
        (before, self.entries.get(after).copied())
    }

    /// A record at `offset` belongs to `epoch`. Epochs that began at or after it without a record go.
    pub fn assign(&mut self, epoch: i32, offset: i64) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        self.truncate(offset);
        self.entries.push((epoch, offset));
    }

    /// Forgets epochs that began at or after `offset`.
    pub fn truncate(&mut self, offset: i64) {
        while self
            .entries
            .last()
            .is_some_and(|(_, start)| *start >= offset)
        {
            self.entries.pop();
        }
    }

    /// Forgets epochs that ended at or before `offset`, where the log starts now.
    pub fn truncate_front(&mut self, offset: i64) {
        let begun = self.entries.partition_point(|(_, start)| *start <= offset);
        self.entries.drain(..begun.saturating_sub(1));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        for (epoch, offset) in &self.entries {
            out.extend_from_slice(&epoch.to_be_bytes());
            out.extend_from_slice(&offset.to_be_bytes());
        }
    }

    pub(super) fn decode(from: &mut &[u8]) -> Option<Self> {
        let count = from.try_get_u32().ok()?;
        let entry = |_| Some((from.try_get_i32().ok()?, from.try_get_i64().ok()?));
        Some(LeaderEpochs {
            entries: (0..count).map(entry).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(0, 0);
        epochs.assign(1, 10);
        epochs.assign(2, 10);
        assert_eq!(epochs.entries, [(0, 0), (2, 10)]);
    }

    #[test]
    fn an_older_epoch_is_not_taken_back() {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(3, 5);
        epochs.assign(2, 9);
        assert_eq!(epochs.entries, [(3, 5)]);
    }

    #[test]
    fn an_offset_belongs_to_the_epoch_that_began_last_before_it() {
        let mut epochs = LeaderEpochs::default();
        assert_eq!(epochs.epoch_at(0), None);
        epochs.assign(1, 5);
        epochs.assign(4, 10);
        let at = |offset| epochs.epoch_at(offset);
        assert_eq!([4, 5, 9].map(at), [None, Some(1), Some(1)]);
        assert_eq!([10, i64::MAX].map(at), [Some(4), Some(4)]);
    }

    #[test]
    fn the_epoch_that_the_log_starts_in_is_kept() {
        let mut epochs = LeaderEpochs::default();
        epochs.truncate_front(3);
        for (epoch, start) in [(0, 0), (2, 10), (3, 20)] {
            epochs.assign(epoch, start);
        }
        epochs.truncate_front(9);
        assert_eq!(epochs.entries.len(), 3);
        epochs.truncate_front(10);
        assert_eq!(epochs.entries, [(2, 10), (3, 20)]);
        epochs.truncate_front(100);
        assert_eq!(epochs.entries, [(3, 20)]);
    }

    #[test]
    fn it_survives_its_encoding() {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(0, 0);
        epochs.assign(4, 1 << 40);
        let mut bytes = Vec::new();
        epochs.encode(&mut bytes);
        assert_eq!(LeaderEpochs::decode(&mut bytes.as_slice()), Some(epochs));
        assert_eq!(LeaderEpochs::decode(&mut &bytes[..bytes.len() - 1]), None);
    }
}
