//! Asking the owners of many partitions: one message to each shard that owns some.

use crate::gateway::{Gateway, Reply, Request};
use crate::store::PartitionId;

/// Asks for each of `items` at the owner of its partition. `request` makes the message for one owner,
/// `answers` takes its reply apart again. Gives the answers in the items' order; `None` for those
/// whose owner did not answer, as when it is overloaded or the process stops.
pub(super) async fn ask<T, R>(
    gateway: &Gateway,
    items: impl IntoIterator<Item = T>,
    partition: impl Fn(&T) -> PartitionId,
    request: impl Fn(Vec<T>) -> Request,
    answers: impl Fn(Reply) -> Option<Vec<R>>,
) -> Vec<Option<R>> {
    let mut by_owner: Vec<(Vec<T>, Vec<usize>)> = Vec::new();
    by_owner.resize_with(gateway.shard().count(), Default::default);
    let mut count = 0;
    for item in items {
        let (items, places) = &mut by_owner[gateway.owner(partition(&item))];
        items.push(item);
        places.push(count);
        count += 1;
    }
    let asked = by_owner
        .into_iter()
        .enumerate()
        .filter(|(_, (items, _))| !items.is_empty());
    let ask = |(owner, (items, places))| (gateway.shard().call(owner, request(items)), places);
    // All are asked before the first is waited for.
    let calls: Vec<_> = asked.map(ask).collect();
    let mut all: Vec<Option<R>> = Vec::new();
    all.resize_with(count, || None);
    for (call, places) in calls {
        let found = call.await.ok().and_then(&answers).unwrap_or_default();
        for (place, answer) in places.into_iter().zip(found) {
            all[place] = Some(answer);
        }
    }
    all
}

/// The leader epochs of partitions, in their order; unknown (-1) where the owner does not answer.
pub(super) async fn leader_epochs(
    gateway: &Gateway,
    partitions: impl IntoIterator<Item = PartitionId>,
) -> Vec<i32> {
    let epochs = |reply| match reply {
        Reply::LeaderEpochs(epochs) => Some(epochs),
        _ => None,
    };
    let found = ask(gateway, partitions, |id| *id, Request::LeaderEpochs, epochs).await;
    found.into_iter().map(|epoch| epoch.unwrap_or(-1)).collect()
}
