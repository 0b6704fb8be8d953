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
    for (nth, broker_id) in broker_ids.into_iter().enumerate() {
        if !is_broker(broker_id) {
            return Err(format!(
                "{includes} broker {broker_id}, but no such broker is registered."
            ));
        }
        if nth > 0 {
            return Err(format!("{includes} the broker {broker_id} more than once."));
        }
    }
    Ok(())
}
