use super::super::consumer_protocol::{Assignment, Subscription, VERSIONS, decode, encode};
use super::*;

const ALL: Versions = Versions {
    valid: VERSIONS,
    flexible: i16::MAX,
};

proptest! {
    #[test]
    fn round_trips(entropy in entropy(), cut: Index) {
        super::round_trips::<Subscription>(&entropy, cut, &ALL);
        super::round_trips::<Assignment>(&entropy, cut, &ALL);
    }

    #[test]
    fn agrees_with_the_kafka_protocol_crate(entropy in entropy()) {
        agrees::<Subscription, theirs::ConsumerProtocolSubscription>(&entropy, &ALL);
        agrees::<Assignment, theirs::ConsumerProtocolAssignment>(&entropy, &ALL);
    }
}

#[test]
fn the_version_stands_in_front() {
    let assignment = Assignment::default();
    assert_eq!(encode(&assignment, 1), hex("0001 00000000 ffffffff"));
    assert_eq!(decode(hex("0001 00000000 ffffffff")), Ok(assignment));
}

#[test]
fn a_newer_version_is_read_as_the_newest_known() {
    let subscription = Subscription {
        rack_id: Some("r".into()),
        ..Default::default()
    };
    let mut bytes = encode(&subscription, 3).to_vec();
    bytes[1] = 9;
    bytes.extend_from_slice(b"fields of version 9");
    assert_eq!(decode(bytes.into()), Ok(subscription));
}

#[test]
fn a_negative_version_is_refused() {
    let err = decode::<Assignment>(hex("ffff 00000000 ffffffff")).unwrap_err();
    assert_eq!(err.fault(), Fault::Version(-1));
}
