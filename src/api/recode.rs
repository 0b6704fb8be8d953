//! Writing batches anew on the shard that took them, for topics that set `compression.type`: where it
//! is done, and how much at a time.

use shards::{BlockingError, turn};

use crate::budget::Share;
use crate::gateway::Gateway;
use crate::record::{Batch, Recode, RecordError};

/// Work that takes no longer is done on the shard, which others wait for; longer work goes to threads
/// of its own. Handing it over takes some 20 µs.
const AT_ONCE_NS: usize = 200_000;
/// Batches of one request that are held, written anew, before they go to their owners.
const PART_BYTES: usize = 16 << 20;
/// Who needs no more than this need not wait for those who need more.
const SMALL_BYTES: usize = 256 << 10;

/// How many of a request's batches are to be written anew before they go to their owners: as many as
/// come to [`PART_BYTES`], and one at least.
pub(super) fn part<'a>(recodes: impl Iterator<Item = Option<&'a Recode>>) -> usize {
    let mut bytes = 0;
    let fits = |recode: &Option<&Recode>| {
        let Some(recode) = recode else { return true };
        let is_first = bytes == 0;
        bytes += recode.result_bytes();
        is_first || bytes <= PART_BYTES
    };
    recodes.take_while(fits).count()
}

/// Waits for the memory that writing a part anew takes. It is asked for once, before any is held: who
/// waits for more while holding some could wait for another who does the same.
pub(super) async fn memory<'a>(
    gateway: &Gateway,
    recodes: impl Iterator<Item = &'a Recode>,
) -> Share {
    let (mut held, mut working) = (0, 0);
    for recode in recodes {
        held += recode.result_bytes();
        working = recode.working_bytes().max(working);
    }
    let memory = gateway.recode_memory();
    let budget = match held + working <= SMALL_BYTES {
        true => &memory.small,
        false => &memory.large,
    };
    let mut share = budget.share();
    share.grow_to(held + working).await;
    share
}

/// Writes one batch anew.
pub(super) async fn run(
    gateway: &Gateway,
    recode: Recode,
) -> Result<Result<Batch, RecordError>, BlockingError> {
    if recode.cost_ns() > AT_ONCE_NS {
        return gateway.recoders().run(move || recode.run()).await;
    }
    let batch = recode.run();
    turn().await;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch::TimestampType;
    use crate::record::{Builder, Compression, Rules, Target, Validated};

    fn recode(inflated_bytes: usize) -> Recode {
        let mut builder = Builder::new();
        builder.append(1, None, None, &[]);
        let batch = Batch::parse(&builder.build()).expect("a batch");
        let rules = Rules {
            timestamp_type: TimestampType::CreateTime,
            max_batch_bytes: 64 << 20,
            ..Rules::default()
        };
        let validated = Validated {
            record_count: 1,
            max_timestamp: 1,
            offset_delta_of_max_timestamp: 0,
            inflated_bytes,
            restamp: None,
        };
        let target = Target {
            codec: Compression::Gzip,
            level: None,
        };
        Recode::new(batch, &validated, &rules, target).expect("it is not too large")
    }

    #[test]
    fn a_part_is_bounded_but_for_one_batch() {
        let (large, half, small) = (recode(20 << 20), recode(6 << 20), recode(1000));
        let part = |of: &[Option<&Recode>]| super::part(of.iter().copied());
        assert_eq!(part(&[]), 0);
        assert_eq!(part(&[None, None]), 2);
        assert_eq!(part(&[Some(&large), Some(&large)]), 1);
        assert_eq!(part(&[None, Some(&large), None]), 3);
        assert_eq!(part(&[None, Some(&large), None, Some(&small)]), 3);
        assert_eq!(part(&[Some(&half), Some(&half), Some(&half)]), 2);
    }
}
