use super::super::group_records::*;
use super::*;

const ALL: Versions = Versions {
    valid: VERSIONS,
    flexible: FLEXIBLE,
};

proptest! {
    #[test]
    fn round_trips(entropy in entropy(), cut: Index) {
        super::round_trips::<OffsetCommitKey>(&entropy, cut, &ALL);
        super::round_trips::<OffsetCommitValue>(&entropy, cut, &ALL);
        super::round_trips::<GroupMetadataKey>(&entropy, cut, &ALL);
        super::round_trips::<GroupMetadataValue>(&entropy, cut, &ALL);
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
    assert_eq!(Key::decode(hex("0003 0001 67")), Ok(Key::Other(3)));
    assert!(Key::decode(hex("0002 0009 67")).is_err());
    assert!(Key::decode(hex("ffff")).is_err());
}
