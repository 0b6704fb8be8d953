//! Hostile and unusual bytes, one kind at a time.

use bytes::{BufMut, Bytes};

use super::super::codec::Fault;
use super::super::frame::{RequestHeader, ResponseHeader, encode_request, encode_response};
use super::super::*;
use super::{decode_all, encode_all, hex};

fn fault<M: Message + std::fmt::Debug>(bytes: &str, version: i16) -> Fault {
    decode_all::<M>(hex(bytes), version).unwrap_err().fault()
}

#[test]
fn varints_have_at_most_32_bits() {
    let read = |digits| {
        Reader::new(hex(digits))
            .uvarint()
            .map_err(|err| err.fault())
    };
    assert_eq!(read("00"), Ok(0));
    assert_eq!(read("ff 01"), Ok(255));
    assert_eq!(read("ff ff ff ff 0f"), Ok(u32::MAX));
    assert_eq!(read("ff ff ff ff 1f"), Err(Fault::VarintTooLong));
    assert_eq!(read("80 80 80 80 80 00"), Err(Fault::VarintTooLong));
    assert_eq!(read("80 80"), Err(Fault::TooShort { needed: 1, left: 0 }));
}

#[test]
fn varints_are_written_as_they_are_read() {
    for value in (0..32).flat_map(|bit| [(1 << bit) - 1, 1 << bit, u32::MAX >> bit]) {
        let mut w = Writer::new();
        w.uvarint(value);
        assert_eq!(Reader::new(w.into_payload()).uvarint(), Ok(value));
    }
}

#[test]
fn lengths_are_checked() {
    use delete_groups::Request;
    assert_eq!(fault::<Request>("fffffffe", 0), Fault::NegativeLength(-2));
    assert_eq!(fault::<Request>("ffffffff", 0), Fault::Null);
    assert_eq!(
        fault::<Request>("00000001 fffe", 0),
        Fault::NegativeLength(-2)
    );
    assert_eq!(fault::<Request>("00000001 ffff", 0), Fault::Null);
    assert_eq!(
        fault::<Request>("00000001 0002 61", 0),
        Fault::TooShort { needed: 2, left: 1 }
    );
    assert_eq!(fault::<Request>("00000001 0002 c328", 0), Fault::NotUtf8);
    assert_eq!(
        fault::<Request>("7fffffff 0000", 0),
        Fault::ArrayTooLong {
            count: 0x7fffffff,
            left: 2
        }
    );
    assert_eq!(
        fault::<Request>("03 01", 2),
        Fault::ArrayTooLong { count: 2, left: 1 }
    );
    assert_eq!(fault::<Request>("00", 2), Fault::Null);
    assert_eq!(fault::<Request>("02 00", 2), Fault::Null);
    assert_eq!(
        fault::<Request>("ffffffff0f 00", 2),
        Fault::ArrayTooLong {
            count: 0xffff_fffe,
            left: 1
        }
    );
    assert_eq!(
        fault::<Request>("02 ffffffff0f 00", 2),
        Fault::TooShort {
            needed: 0xffff_fffe,
            left: 1
        }
    );
}

#[test]
fn errors_say_where() {
    let err = decode_all::<fetch::Request>(
        hex("ffffffff 00000001 00000001 00000001 00 00000001 0005 61"),
        4,
    );
    assert_eq!(
        err.unwrap_err().to_string(),
        "fetch::FetchTopic.topic: 5 bytes needed, 1 left at byte 23"
    );
    let err =
        decode_all::<heartbeat::Request>(hex("01 00000000 01 00 01 05 02 00"), 4).unwrap_err();
    assert_eq!(
        err.to_string(),
        "heartbeat::Request: 2 bytes needed, 1 left at byte 10"
    );
}

#[test]
fn versions_that_do_not_exist_are_refused() {
    for version in [-1, 5, i16::MAX, i16::MIN] {
        assert_eq!(
            fault::<heartbeat::Response>("00000000 0000", version),
            Fault::Version(version)
        );
    }
}

#[test]
fn arrays_have_a_budget() {
    let groups = delete_groups::Request {
        groups_names: vec!["".into(); 1000],
    };
    let bytes = encode_all(&groups, 2);
    let size = 1000 * size_of::<StrBytes>();

    let mut r = Reader::with_budget(bytes.clone(), size);
    assert_eq!(delete_groups::Request::decode(&mut r, 2), Ok(groups));
    let mut r = Reader::with_budget(bytes, size - 1);
    let err = delete_groups::Request::decode(&mut r, 2).unwrap_err();
    assert_eq!(err.fault(), Fault::OverBudget { budget: size - 1 });
}

#[test]
fn unknown_tags_are_skipped_wherever_they_stand() {
    // One topic without partitions, with a tag of 2 bytes; one tag of no bytes behind all.
    let bytes = hex("00 0001 00000000 02 02 61 01 01 05 02 ffff 01 ff01 00");
    let request = decode_all::<produce::Request>(bytes, 9).unwrap();
    assert_eq!(request.topic_data.len(), 1);
    assert_eq!(request.topic_data[0].name, "a");
}

#[test]
fn tags_stay_inside_of_their_size() {
    use fetch::Request;
    let up_to_tags = "00000000 00000000 00000000 00 00000000 00000000 01 01 01";
    let read = |tags: &str| decode_all::<Request>(hex(&format!("{up_to_tags}{tags}")), 15);

    // Tag 0 is a nullable string: "a", in 2 bytes.
    assert_eq!(read("01 00 02 0261").unwrap().cluster_id, Some("a".into()));
    let fault = |tags| read(tags).unwrap_err().fault();
    assert_eq!(
        fault("01 00 03 0261"),
        Fault::TooShort { needed: 3, left: 2 }
    );
    assert_eq!(
        fault("01 00 01 0261"),
        Fault::TooShort { needed: 1, left: 0 }
    );
    assert_eq!(fault("01 00 03 026161"), Fault::TagSize { tag: 0, left: 1 });
    // The string claims a byte that lies behind its tag.
    assert_eq!(
        fault("01 00 02 0361 62"),
        Fault::TooShort { needed: 2, left: 1 }
    );
    assert_eq!(
        fault("ffffffff0f 09 00"),
        Fault::TooShort { needed: 1, left: 0 }
    );
}

#[test]
fn a_tag_of_another_version_is_unknown() {
    let up_to_tags = "ffffffff 00000000 00000000 00000000 00 00000000 00000000 01 01 01";
    // Tag 1, the replica state, exists from version 15.
    let request = decode_all::<fetch::Request>(hex(&format!("{up_to_tags} 01 01 02 ffff")), 14);
    assert_eq!(
        request.unwrap().replica_state,
        fetch::ReplicaState::default()
    );
}

#[test]
fn null_becomes_empty_where_it_cannot_be_said() {
    let all_topics = metadata::Request::default();
    assert_eq!(encode_all(&all_topics, 0), hex("00000000"));
    assert_eq!(encode_all(&all_topics, 1), hex("ffffffff"));
}

#[test]
fn strings_too_long_for_a_classic_version_are_cut_at_a_character() {
    let long = StrBytes::from("é".repeat(20_000));
    let request = delete_groups::Request {
        groups_names: vec![long.clone()],
    };
    assert_eq!(decode_all(encode_all(&request, 2), 2), Ok(request.clone()));
    let cut: delete_groups::Request = decode_all(encode_all(&request, 1), 1).unwrap();
    assert_eq!(cut.groups_names[0].len(), 32_766);
    assert!(long.starts_with(&*cut.groups_names[0]));
}

fn partition(records: Vec<Bytes>) -> fetch::PartitionData {
    fetch::PartitionData {
        records: Some(records.into()),
        ..Default::default()
    }
}

#[test]
fn large_records_are_referenced_and_small_ones_copied() {
    let large = Bytes::from(vec![7; Writer::MIN_SHARED_BYTES]);
    let small = Bytes::from(vec![8; Writer::MIN_SHARED_BYTES - 1]);
    let response = fetch::Response {
        responses: vec![fetch::FetchableTopicResponse {
            partitions: vec![
                partition(vec![large.clone(), large.clone(), small.clone()]),
                partition(vec![small.clone(), large.clone()]),
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    let rope = encode_response(fetch::KEY, 12, 5, &response);
    let referenced = rope
        .iter()
        .filter(|piece| piece.as_ptr() == large.as_ptr())
        .count();
    assert_eq!((rope.len(), referenced), (6, 3));
    assert!(rope.iter().all(|piece| piece.as_ptr() != small.as_ptr()));

    let mut frame = Records::from(rope).into_bytes();
    let len = frame.split_to(4);
    assert_eq!(
        u32::from_be_bytes(len[..].try_into().unwrap()) as usize,
        frame.len()
    );
    let mut r = Reader::new(frame);
    assert_eq!(
        ResponseHeader::decode(&mut r, fetch::KEY, 12)
            .unwrap()
            .correlation_id,
        5
    );
    assert_eq!(fetch::Response::decode(&mut r, 12), Ok(response));
    assert_eq!(r.finish(), Ok(()));
}

#[test]
fn what_is_read_lies_in_the_frame() {
    let records = Bytes::from(vec![7; 5000]);
    let request = produce::Request {
        topic_data: vec![produce::TopicProduceData {
            name: "topic".into(),
            partition_data: vec![produce::PartitionProduceData {
                index: 0,
                records: Some(records.into()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let frame = encode_all(&request, 9);
    let read: produce::Request = decode_all(frame.clone(), 9).unwrap();
    let inside = |ptr: *const u8| frame.as_ptr_range().contains(&ptr);
    let topic = &read.topic_data[0];
    assert!(inside(topic.name.as_ptr()));
    let records = topic.partition_data[0].records.as_ref().unwrap();
    assert_eq!(records.pieces().len(), 1);
    assert!(inside(records.pieces()[0].as_ptr()));
}

#[test]
fn an_answer_to_api_versions_has_the_old_header() {
    let response = api_versions::Response::default();
    let rope = encode_response(api_versions::KEY, 3, 1, &response);
    // Length, correlation id, error code, no keys, throttle time, no tags.
    assert_eq!(rope, [hex("0000000c 00000001 0000 01 00000000 00")]);
}

#[test]
fn a_request_carries_its_version() {
    let header = RequestHeader {
        api_key: heartbeat::KEY,
        api_version: 4,
        correlation_id: 9,
        client_id: Some("c".into()),
    };
    let request = heartbeat::Request {
        group_id: "g".into(),
        ..Default::default()
    };
    let mut frame = Records::from(encode_request(&header, &request))
        .into_bytes()
        .slice(4..);
    let mut r = Reader::new(frame.clone());
    assert_eq!(RequestHeader::decode(&mut r), Ok(header));
    assert_eq!(heartbeat::Request::decode(&mut r, 4), Ok(request));
    assert_eq!(r.finish(), Ok(()));

    frame.truncate(6);
    let err = RequestHeader::decode(&mut Reader::new(frame)).unwrap_err();
    assert_eq!(err.field(), "RequestHeader.correlation_id");
}

#[test]
fn the_header_of_an_unknown_api_can_be_read() {
    let mut bytes = Vec::new();
    bytes.put_slice(&hex("03e7 0007 00000001 ffff"));
    bytes.put_slice(b"whatever follows");
    let mut r = Reader::new(bytes.into());
    let header = RequestHeader::decode(&mut r).unwrap();
    assert_eq!(
        (header.api_key, header.correlation_id, header.client_id),
        (999, 1, None)
    );
    assert_eq!(api_name(999), None);
    assert_eq!(api_name(metadata::KEY), Some("Metadata"));
}
