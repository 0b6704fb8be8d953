//! The state of a shard's groups and how far they lag, for who watches the gateway.

use std::time::Duration;

use rustc_hash::FxHashMap;
use shards::turn;

use super::{Coordinator, GROUPS_PER_TURN, fetch_of};
use crate::catalog::{Catalog, Topic};
use crate::gateway::{Reply, Request, Shard};
use crate::metrics::survey::{GroupLag, GroupSurvey};
use crate::partition::messages::{FoundOffset, OffsetQuery, OffsetSpec};
use crate::partition::owner::now_ms;
use crate::record::batch::{BatchHeader, HEADER_LEN};
use crate::store::PartitionId;
use crate::wire::StrBytes;

/// How long a survey reads records for their times. A scrape has little patience.
const TIMES_PATIENCE: Duration = Duration::from_millis(500);

/// When the record at an offset was written, in milliseconds since the epoch; of a group that stands still
/// it is read once.
pub(super) type Times = FxHashMap<(PartitionId, i64), i64>;

/// A partition that a group has an offset in.
struct Place {
    group: StrBytes,
    topic: StrBytes,
    id: PartitionId,
    committed: i64,
}

impl Coordinator {
    /// Looks at all groups, in turns. `series_max` bounds what is told of members and of lags, in the order of
    /// the groups' names.
    pub async fn survey(&self, series_max: usize) -> GroupSurvey {
        let mut ids = self.inner.borrow().groups.ids();
        ids.sort_unstable();
        let mut survey = GroupSurvey::default();
        let mut places = Vec::new();
        for ids in ids.chunks(GROUPS_PER_TURN) {
            self.survey_some(ids, series_max, &mut survey, &mut places);
            turn().await;
        }
        let ends = self.ends(&places).await;
        let next = places.iter().zip(&ends).map(next_to_read);
        let next: Vec<_> = next.collect();
        let behind = next.iter().flatten().filter(|next| next.left > 0);
        let times = self.times(behind.map(|next| next.at).collect()).await;
        let now_ms = now_ms();
        let lag = |(place, next): (Place, Option<Next>)| {
            let Next { at, left } = next?;
            let age = |written_ms: &i64| (now_ms - written_ms).max(0) as f64 / 1e3;
            Some(GroupLag {
                group: place.group,
                topic: place.topic,
                partition: place.id.index,
                records: left,
                seconds: match left {
                    0 => Some(0.0),
                    _ => times.get(&at).map(age),
                },
            })
        };
        survey.lags = places.into_iter().zip(next).filter_map(lag).collect();
        self.inner.borrow_mut().times = times;
        survey
    }

    fn survey_some(
        &self,
        ids: &[StrBytes],
        series_max: usize,
        survey: &mut GroupSurvey,
        places: &mut Vec<Place>,
    ) {
        let inner = self.inner.borrow();
        for group in ids.iter().filter_map(|id| inner.groups.get(id)) {
            *survey.states.entry(group.state_name()).or_default() += 1;
            match survey.members.len() < series_max {
                true => survey.members.push((group.id().clone(), group.size())),
                false => survey.hidden += 1,
            }
            for (of, committed) in group.offsets().iter() {
                if places.len() == series_max {
                    survey.hidden += 1;
                } else if let Some(id) = partition(&inner.catalog, &of.topic, of.partition) {
                    places.push(Place {
                        group: group.id().clone(),
                        topic: of.topic,
                        id,
                        committed: committed.offset,
                    });
                }
            }
        }
    }

    /// Where the logs begin and end, in the order of the places; `None` where that is not known.
    async fn ends(&self, places: &[Place]) -> Vec<Option<Ends>> {
        let mut asked: Vec<Vec<usize>> = vec![Vec::new(); self.shard.count()];
        for (n, place) in places.iter().enumerate() {
            asked[Topic::owner(place.id, self.shard.count())].push(n);
        }
        let mut ends = vec![None; places.len()];
        let calls: Vec<_> = asked
            .into_iter()
            .enumerate()
            .filter(|(_, places)| !places.is_empty())
            .map(|(shard, asked)| {
                let queries = asked.iter().flat_map(|n| both_ends(places[*n].id));
                let request = Request::ListOffsets(queries.collect());
                (asked, self.shard.call(shard, request))
            })
            .collect();
        for (asked, call) in calls {
            if let Ok(Reply::Offsets(found)) = call.await {
                for (n, pair) in asked.into_iter().zip(found.chunks(2)) {
                    ends[n] = Ends::of(pair);
                }
            }
        }
        ends
    }

    /// The times of records, as far as there is time to read them.
    async fn times(&self, of: Vec<(PartitionId, i64)>) -> Times {
        let mut times = Times::default();
        let mut unknown = Vec::new();
        for place in of {
            match self.inner.borrow().times.get(&place) {
                Some(time) => drop(times.insert(place, *time)),
                None => unknown.push(place),
            }
        }
        let read = async {
            for (id, offset) in unknown {
                if let Some(time) = time_at(&self.shard, id, offset).await {
                    times.insert((id, offset), time);
                }
            }
        };
        // What was not read in time has no lag in seconds in this scrape.
        let _ = shards::timeout(TIMES_PATIENCE, read).await;
        times
    }
}

/// Where a log begins and ends for consumers.
#[derive(Debug, Clone, Copy)]
struct Ends {
    start: i64,
    end: i64,
}

impl Ends {
    fn of<E>(found: &[Result<FoundOffset, E>]) -> Option<Ends> {
        match found {
            [Ok(start), Ok(end)] => Some(Ends {
                start: start.offset,
                end: end.offset,
            }),
            _ => None,
        }
    }
}

fn both_ends(id: PartitionId) -> [OffsetQuery; 2] {
    [OffsetSpec::Earliest, OffsetSpec::Latest].map(|spec| OffsetQuery {
        id,
        spec,
        leader_epoch: -1,
    })
}

/// What a group reads next of a partition.
struct Next {
    at: (PartitionId, i64),
    /// Records from there on.
    left: i64,
}

fn next_to_read((place, ends): (&Place, &Option<Ends>)) -> Option<Next> {
    let Ends { start, end } = (*ends)?;
    let offset = place.committed.clamp(start, end);
    Some(Next {
        at: (place.id, offset),
        left: end - offset,
    })
}

fn partition(catalog: &Catalog, topic: &str, index: i32) -> Option<PartitionId> {
    catalog.by_name(topic)?.partition(index)
}

/// The time of the batch that has the first record from `offset` on.
async fn time_at(shard: &Shard, id: PartitionId, offset: i64) -> Option<i64> {
    let owner = Topic::owner(id, shard.count());
    let Ok(Reply::Fetch(mut fetched)) = shard
        .call(owner, Request::Fetch(fetch_of(id, offset, 1)))
        .await
    else {
        return None;
    };
    // A batch in memory is in two pieces, of which the first has not all of its header.
    let pieces = fetched.pop()?.batches;
    let header: Vec<u8> = pieces.iter().flatten().take(HEADER_LEN).copied().collect();
    Some(BatchHeader::parse(&header).ok()?.max_timestamp())
}
