//! Assignments of replicas by hand.

/// Checks which brokers a client wants a partition on: it can only be one. The texts are Kafka's.
pub(super) fn check(broker_ids: &[i32], is_broker: &dyn Fn(i32) -> bool) -> Result<(), String> {
    let includes = "The manual partition assignment includes";
    if broker_ids.is_empty() {
        return Err(format!("{includes} an empty replica list."));
    }
    // Kafka goes through them in ascending order.
    let mut broker_ids = broker_ids.to_vec();
    broker_ids.sort_unstable();
    for (nth, broker_id) in broker_ids.iter().enumerate() {
        if !is_broker(*broker_id) {
            return Err(format!(
                "{includes} broker {broker_id}, but no such broker is registered."
            ));
        }
        if nth > 0 && broker_ids[nth - 1] == *broker_id {
            return Err(format!("{includes} the broker {broker_id} more than once."));
        }
    }
    // With a broker for each shard there are several to name.
    match broker_ids.len() {
        1 => Ok(()),
        replicas => Err(format!(
            "{includes} {replicas} brokers, but each partition has one replica."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broker_that_there_is_can_be_assigned() {
        let check = |broker_ids: &[i32]| check(broker_ids, &|id| id == 1 || id == 2);
        assert_eq!((check(&[1]), check(&[2])), (Ok(()), Ok(())));
        for (broker_ids, text) in [
            (&[][..], "an empty replica list."),
            (&[9, 1], "broker 9, but no such broker is registered."),
            (&[2, 1, 2], "the broker 2 more than once."),
            (&[2, 1], "2 brokers, but each partition has one replica."),
        ] {
            let text = format!("The manual partition assignment includes {text}");
            assert_eq!(check(broker_ids), Err(text));
        }
    }
}
