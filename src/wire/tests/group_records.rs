use super::super::consumer_group_records as consumer;
use super::super::group_records::*;
use super::*;

const ALL: Versions = Versions {
    valid: VERSIONS,
    flexible: FLEXIBLE,
};

const CONSUMER: Versions = Versions {
    valid: consumer::VERSIONS,
    flexible: consumer::FLEXIBLE,
};

proptest! {
    #[test]
    fn round_trips(entropy in entropy(), cut: Index) {
        super::round_trips::<OffsetCommitKey>(&entropy, cut, &ALL);
        super::round_trips::<OffsetCommitValue>(&entropy, cut, &ALL);
        super::round_trips::<GroupMetadataKey>(&entropy, cut, &ALL);
        super::round_trips::<GroupMetadataValue>(&entropy, cut, &ALL);
        super::round_trips::<ConsumerPartKey>(&entropy, cut, &ALL);
    }

    #[test]
    fn consumer_groups_round_trip(entropy in entropy(), cut: Index) {
        super::round_trips::<consumer::GroupValue>(&entropy, cut, &CONSUMER);
        super::round_trips::<consumer::MemberValue>(&entropy, cut, &CONSUMER);
        super::round_trips::<consumer::TargetValue>(&entropy, cut, &CONSUMER);
        super::round_trips::<consumer::MemberTargetValue>(&entropy, cut, &CONSUMER);
        super::round_trips::<consumer::MemberCurrentValue>(&entropy, cut, &CONSUMER);
        super::round_trips::<consumer::RegularExpressionValue>(&entropy, cut, &CONSUMER);
    }
}

#[test]
fn keys_and_values_have_kafkas_bytes() {
    let key = OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
    };
    let bytes = hex("0001 0001 67 0001 74 00000003");
    assert_eq!(encode(&key, OFFSET_COMMIT_KEY), bytes);
    assert_eq!(Key::decode(bytes), Ok(Key::Offset(key.clone())));
    let old = hex("0000 0001 67 0001 74 00000003");
    assert_eq!(Key::decode(old), Ok(Key::Offset(key)));

    let value = OffsetCommitValue {
        offset: 5,
        leader_epoch: 2,
        metadata: "m".into(),
        commit_timestamp: 7,
        ..OffsetCommitValue::default()
    };
    let bytes = hex("0003 0000000000000005 00000002 0001 6d 0000000000000007");
    assert_eq!(encode(&value, 3), bytes);
    assert_eq!(decode_value(bytes), Ok(value.clone()));
    let with_id = OffsetCommitValue {
        topic_id: Uuid([9; 16]),
        ..value
    };
    let bytes = hex(
        "0004 0000000000000005 00000002 02 6d 0000000000000007 01 00 10 09090909 09090909 09090909 09090909",
    );
    assert_eq!(encode(&with_id, 4), bytes);
    assert_eq!(decode_value(bytes), Ok(with_id));
}

#[test]
fn older_values_are_read() {
    let old: OffsetCommitValue = decode_value(hex(
        "0001 0000000000000005 0001 6d 0000000000000007 0000000000000009",
    ))
    .unwrap();
    assert_eq!((old.leader_epoch, old.expire_timestamp), (-1, 9));
    let member = "0001 6d 0001 63 0001 68 00000bb8 00000002 aabb 00000001 cc";
    let old: GroupMetadataValue = decode_value(hex(&format!(
        "0000 0001 70 00000004 ffff 0001 6d 00000001 {member}"
    )))
    .unwrap();
    assert_eq!(old.current_state_timestamp, -1);
    assert_eq!(old.members[0].rebalance_timeout, -1);
    assert_eq!(old.members[0].session_timeout, 3000);
}

#[test]
fn what_is_not_known_is_told_apart() {
    assert_eq!(Key::decode(hex("0009 0001 67")), Ok(Key::Other(9)));
    assert!(Key::decode(hex("0002 0009 67")).is_err());
    assert!(Key::decode(hex("ffff")).is_err());
}

#[test]
fn records_of_consumer_groups_have_kafkas_bytes() {
    let key = |part: &'static str| ConsumerPartKey {
        group: "g".into(),
        part: part.into(),
    };
    for (of, part, bytes) in [
        (ConsumerRecord::Group, "", "0003 0001 67"),
        (ConsumerRecord::Target, "", "0006 0001 67"),
        (ConsumerRecord::Member, "m", "0005 0001 67 0001 6d"),
        (
            ConsumerRecord::RegularExpression,
            "r",
            "0010 0001 67 0001 72",
        ),
    ] {
        assert_eq!(encode_consumer_key(of, &key(part)), hex(bytes));
        assert_eq!(Key::decode(hex(bytes)), Ok(Key::Consumer(of, key(part))));
    }
    let value = consumer::MemberCurrentValue {
        member_epoch: 2,
        previous_member_epoch: 1,
        state: 0,
        assigned_partitions: vec![consumer::AssignedPartitions {
            topic_id: Uuid([9; 16]),
            partitions: vec![4],
            assignment_epochs: Some(vec![2]),
        }],
        partitions_pending_revocation: Vec::new(),
    };
    let bytes = hex(
        "0000 00000002 00000001 00 02 09090909 09090909 09090909 09090909 02 00000004 01 00 05 02 00000002 01 00",
    );
    assert_eq!(consumer::encode_value(&value), bytes);
    assert_eq!(consumer::decode_value(bytes), Ok(value.clone()));
    let newer = hex("0001 00000007 00");
    let group: consumer::GroupValue = consumer::decode_value(newer).unwrap();
    assert_eq!(group.epoch, 7);
}
