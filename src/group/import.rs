//! Offsets of groups that SeaweedFS's own Kafka gateway kept become offsets of the same groups here: once,
//! at the first start on a SeaweedFS that has some. A mark in the filer says that it was done.
//!
//! They are ordinary records of `__consumer_offsets` then. What is committed is not touched, so that a
//! start that was broken off begins again.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use super::messages::{GroupReply, GroupRequest, Imported};
use super::offsets::{Committed, TopicPartition};
use super::offsets_topic;
use crate::bridge::{Bridge, BridgeError};
use crate::gateway::{Gateway, Reply, Request};
use crate::partition::owner::now_ms;
use crate::store::seaweedmq::consumer_offsets::{self, KeptGroup, KeptOffset};
use crate::store::seaweedmq::marks;
use crate::wire::{ErrorCode, StrBytes, Uuid};

/// The mark's name.
const MARK: &str = "imported_offsets";
/// Offsets of one record batch.
const OFFSETS_AT_ONCE: usize = 100;
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Reasons told in one line of the log.
const REASONS_MAX: usize = 5;

/// What the mark says.
#[derive(Debug, Default, Serialize)]
struct Sum {
    imported_ms: i64,
    groups: usize,
    offsets: usize,
    skipped: usize,
}

/// Why it is not done yet.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    #[error("the coordinator answers with error {}", .0.0)]
    Coordinator(ErrorCode),
}

/// Imports, unless that was done. Ends when it is.
pub async fn at_first_start(gateway: Rc<Gateway>, bridge: Bridge) {
    let mut pause = AGAIN_MIN;
    while let Err(error) = import(&gateway, &bridge).await {
        // The coordinator is not there until it has loaded.
        if pause > 16 * AGAIN_MIN {
            tracing::warn!(%error, "cannot import the offsets of SeaweedFS's Kafka gateway yet; trying again");
        }
        shards::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

async fn import(gateway: &Gateway, bridge: &Bridge) -> Result<(), ImportError> {
    if marks::is_set(bridge, MARK).await? {
        return Ok(());
    }
    let groups = consumer_offsets::groups(bridge).await?;
    if groups.is_empty() {
        return Ok(());
    }
    if !offsets_topic::make(gateway).await {
        return Err(ImportError::Coordinator(
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ));
    }
    let mut sum = Sum {
        imported_ms: now_ms(),
        ..Sum::default()
    };
    for group in groups {
        let kept = consumer_offsets::of_group(bridge, &group).await?;
        let told = Told::of(gateway, &group, kept).await?;
        tracing::info!(
            group,
            partitions = told.taken,
            already_committed = told.already,
            skipped = told.skipped.len(),
            why = told.reasons(),
            "imported the offsets of a group of SeaweedFS's Kafka gateway"
        );
        sum.groups += 1;
        sum.offsets += told.taken;
        sum.skipped += told.skipped.len();
    }
    tracing::info!(
        groups = sum.groups,
        offsets = sum.offsets,
        skipped = sum.skipped,
        "imported the offsets of SeaweedFS's Kafka gateway; it is not done again"
    );
    Ok(marks::set(bridge, MARK, &sum).await?)
}

/// What became of a group's offsets.
#[derive(Debug, Default)]
struct Told {
    taken: usize,
    already: usize,
    /// Which, and why.
    skipped: Vec<(String, String)>,
}

impl Told {
    async fn of(gateway: &Gateway, group: &str, kept: KeptGroup) -> Result<Self, ImportError> {
        let mut told = Told {
            skipped: kept.unusable,
            ..Told::default()
        };
        let metadata_max = gateway.config().offset_metadata_max_bytes;
        let (good, long): (Vec<_>, Vec<_>) = kept
            .offsets
            .into_iter()
            .partition(|kept| kept.metadata.len() <= metadata_max);
        for kept in long {
            let why = format!("its metadata has {} bytes", kept.metadata.len());
            told.skip(&kept, &why);
        }
        for some in good.chunks(OFFSETS_AT_ONCE) {
            told.take(gateway, group, some).await?;
        }
        Ok(told)
    }

    async fn take(
        &mut self,
        gateway: &Gateway,
        group: &str,
        offsets: &[KeptOffset],
    ) -> Result<(), ImportError> {
        match ask(gateway, group, offsets).await {
            Ok(results) => {
                for (kept, result) in offsets.iter().zip(results) {
                    match result {
                        Imported::Taken => self.taken += 1,
                        Imported::Kept => self.already += 1,
                        Imported::Unknown => self.skip(kept, "there is no such partition"),
                    }
                }
                Ok(())
            }
            Err(error) => {
                let why = match error {
                    ErrorCode::UNKNOWN_MEMBER_ID => "the group has members",
                    ErrorCode::INVALID_GROUP_ID => "the group's name is not valid",
                    ErrorCode::INVALID_COMMIT_OFFSET_SIZE => "the record would be too large",
                    error => return Err(ImportError::Coordinator(error)),
                };
                offsets.iter().for_each(|kept| self.skip(kept, why));
                Ok(())
            }
        }
    }

    fn skip(&mut self, kept: &KeptOffset, why: &str) {
        let of = format!("{}/{}", kept.topic, kept.partition);
        self.skipped.push((of, why.to_owned()));
    }

    fn reasons(&self) -> String {
        let some = self.skipped.iter().take(REASONS_MAX);
        let mut some: Vec<_> = some.map(|(of, why)| format!("{of}: {why}")).collect();
        if self.skipped.len() > REASONS_MAX {
            some.push("...".to_owned());
        }
        some.join("; ")
    }
}

/// Asks the group's coordinator.
async fn ask(
    gateway: &Gateway,
    group: &str,
    offsets: &[KeptOffset],
) -> Result<Vec<Imported>, ErrorCode> {
    let config = gateway.config();
    // By their own time some would be gone before anybody reads them.
    let retention_ms = i64::from(config.offsets_retention_minutes) * 60_000;
    let expires_ms = Some(now_ms().saturating_add(retention_ms));
    let offset = |kept: &KeptOffset| {
        let of = TopicPartition {
            topic: kept.topic.clone().into(),
            partition: kept.partition,
        };
        let committed = Committed {
            offset: kept.offset,
            leader_epoch: -1,
            metadata: kept.metadata.clone().into(),
            committed_ms: kept.committed_ms,
            expires_ms,
            topic_id: Uuid::ZERO,
        };
        (of, committed)
    };
    let group = StrBytes::from(group.to_owned());
    let partition = gateway.group_partition(&group);
    let owner = partition.map(|id| gateway.owner(id));
    let request = GroupRequest::Import {
        group,
        offsets: offsets.iter().map(offset).collect(),
    };
    let owner = owner.ok_or(ErrorCode::NOT_COORDINATOR)?;
    let request = Request::Group(Box::new(request));
    match gateway.shard().call(owner, request).await {
        Ok(Reply::Group(reply)) => match *reply {
            GroupReply::Import(result) => result,
            GroupReply::Done(Err(error)) => Err(error),
            _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        },
        _ => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
    }
}
