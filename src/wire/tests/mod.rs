//! Properties of all messages in all versions, and agreement with the `kafka-protocol` crate, which
//! was written by others from Kafka's own message definitions.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request as _};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

mod codec;
mod consumer_protocol;
mod group_records;
mod known_bytes;
pub(super) mod sample;

use super::codec::{Fault, Message, Reader, Version, Writer};
use super::frame::{RequestHeader, ResponseHeader};
use super::*;
use sample::Sample;

/// Cases for each property of an API; each goes through all versions, requests and responses.
const CASES: u32 = 32;

/// What decides the content of a sample message.
fn entropy() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..800)
}

/// The versions that a message has.
struct Versions {
    valid: RangeInclusive<i16>,
    flexible: i16,
}

impl Versions {
    fn each(&self) -> impl Iterator<Item = Version> {
        self.valid
            .clone()
            .map(|number| Version::new(number, self.flexible))
    }
}

fn decode_all<M: Message>(bytes: Bytes, version: i16) -> Result<M, DecodeError> {
    let mut r = Reader::new(bytes);
    let message = M::decode(&mut r, version)?;
    r.finish()?;
    Ok(message)
}

/// A message without header and length.
fn encode_all<M: Message>(message: &M, version: i16) -> Bytes {
    let mut w = Writer::new();
    message.encode(&mut w, version);
    Records::from(w.finish()).into_bytes().slice(4..)
}

/// Bytes from hexadecimal digits, with spaces anywhere.
fn hex(digits: &str) -> Bytes {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// What was written is read again; a part of it, or more, is refused.
fn round_trips<M: Message + Sample + Debug + PartialEq>(
    entropy: &[u8],
    cut: Index,
    versions: &Versions,
) {
    for v in versions.each() {
        let (message, bytes) = sample::message::<M>(entropy, v);
        let read = decode_all::<M>(bytes.clone(), v.number);
        assert_eq!(read.as_ref(), Ok(&message), "{v:?}");

        let more = Bytes::from([&bytes[..], &[0]].concat());
        let err = decode_all::<M>(more, v.number).expect_err("a byte too many");
        assert_eq!(err.fault(), Fault::Trailing(1));

        if !bytes.is_empty() {
            let cut = cut.index(bytes.len());
            let err = decode_all::<M>(bytes.slice(..cut), v.number).expect_err("cut");
            assert!(err.offset() <= cut, "{err}");
        }
    }
}

/// Damaged messages are refused, or read as what they then say.
fn survives_damage<M: Message + Sample + Debug + PartialEq>(
    entropy: &[u8],
    damage: &[(Index, u8)],
    versions: &Versions,
) {
    for v in versions.each() {
        let (_, bytes) = sample::message::<M>(entropy, v);
        let mut bytes = bytes.to_vec();
        if !bytes.is_empty() {
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
        }
        if let Ok(message) = decode_all::<M>(bytes.into(), v.number) {
            let bytes = encode_all(&message, v.number);
            assert_eq!(decode_all::<M>(bytes, v.number), Ok(message), "{v:?}");
        }
    }
}

/// A message of the other crate, which keeps the tagged fields that it does not know.
trait UnknownTags {
    fn unknown_tags(&mut self) -> &mut BTreeMap<i32, Bytes>;
}

macro_rules! unknown_tags {
    ($message:ident) => {
        impl UnknownTags for theirs::$message {
            fn unknown_tags(&mut self) -> &mut BTreeMap<i32, Bytes> {
                &mut self.unknown_tagged_fields
            }
        }
    };
    ($message:ident classic) => {
        impl UnknownTags for theirs::$message {
            fn unknown_tags(&mut self) -> &mut BTreeMap<i32, Bytes> {
                unreachable!("no version is flexible")
            }
        }
    };
}

/// Both sides read the other's bytes, write the same, and give the fields the same names.
fn agrees<Ours, Theirs>(entropy: &[u8], versions: &Versions)
where
    Ours: Message + Sample + Debug + PartialEq,
    Theirs: kafka_protocol::protocol::Message + Encodable + Decodable + UnknownTags + Debug,
{
    let known = Theirs::VERSIONS.min..=Theirs::VERSIONS.max;
    for v in versions.each().filter(|v| known.contains(&v.number)) {
        let (ours, bytes) = sample::message::<Ours>(entropy, v);
        let mut rest = bytes.clone();
        let mut theirs = Theirs::decode(&mut rest, v.number).expect("they read ours");
        assert!(rest.is_empty(), "{v:?}: they leave {} bytes", rest.len());
        assert_same_fields(&ours, &theirs);
        assert_eq!(encode_theirs(&theirs, v.number), bytes, "{v:?}");

        if v.flexible {
            theirs
                .unknown_tags()
                .insert(1000, Bytes::copy_from_slice(entropy));
            let bytes = encode_theirs(&theirs, v.number);
            assert_eq!(decode_all::<Ours>(bytes, v.number), Ok(ours), "{v:?}");
        }
    }
}

fn encode_theirs(message: &impl Encodable, version: i16) -> Bytes {
    let mut buf = BytesMut::new();
    message
        .encode(&mut buf, version)
        .expect("they write what they read");
    buf.freeze()
}

/// Compares two messages of different types by what they print: names and values line by line.
/// Bytes alone would not tell two fields of one type apart.
fn assert_same_fields(ours: &impl Debug, theirs: &impl Debug) {
    let theirs = printed_fields(theirs);
    // Fields that only newer versions have are missing on their side, and at their default on ours.
    let ours = printed_fields(ours)
        .into_iter()
        .filter(|(name, _)| name.is_empty() || theirs.iter().any(|(theirs, _)| theirs == name));
    let ours: Vec<_> = ours.collect();
    let same = |(a, b): (&(String, String), &(String, String))| {
        // Records print their length only; the bytes are compared where they are encoded.
        a == b || (a.1.starts_with("Records(") && b.1.starts_with("b\""))
    };
    assert!(
        ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same),
        "{ours:#?}\n{theirs:#?}"
    );
}

/// Names and values of a message, in order. An array's elements have no name, a structure has no
/// value.
fn printed_fields(message: &impl Debug) -> Vec<(String, String)> {
    let printed = format!("{message:#?}");
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in printed
        .lines()
        .map(|line| line.trim().trim_end_matches(','))
    {
        if line.starts_with(['}', ']', ')']) || line.starts_with("unknown_tagged") {
            continue;
        }
        let unnamed = line.starts_with('"') || line.starts_with("b\"");
        let (name, value) = match line.split_once(": ") {
            Some(field) if !unnamed => field,
            _ => ("", line),
        };
        let empty = ["\"\"", "[]", "b\"\""].contains(&value) || value.starts_with("Records(0 ");
        match fields.last_mut() {
            // A nullable field that a version does not have is null here, and may be empty there.
            Some((_, outer)) if empty && outer == "Some(" => *outer = "None".to_owned(),
            // They write keywords with an underscore.
            _ => fields.push((name.trim_start_matches('_').to_owned(), comparable(value))),
        }
    }
    fields
}

/// A printed value without what the two sides print differently.
fn comparable(value: &str) -> String {
    if value.ends_with(['{', '[']) {
        return String::new();
    }
    let hex = value.replace('-', "");
    if value.len() == 36
        && hex.len() == 32
        && let Ok(bits) = u128::from_str_radix(&hex, 16)
    {
        return Uuid(bits.to_be_bytes()).to_string();
    }
    // An error code: its name, and its number in parentheses.
    match value
        .strip_suffix(')')
        .and_then(|value| value.split_once('('))
    {
        Some((name, number)) if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') => {
            number.to_owned()
        }
        _ => value.to_owned(),
    }
}

macro_rules! apis {
    ($($module:ident $request:ident $response:ident $($classic:ident)?,)*) => {
        $(
            unknown_tags!($request $($classic)?);
            unknown_tags!($response $($classic)?);

            mod $module {
                use super::*;
                use crate::wire::$module::*;

                const ALL: Versions = Versions { valid: VERSIONS, flexible: FLEXIBLE };

                proptest! {
                    #![proptest_config(ProptestConfig::with_cases(CASES))]

                    #[test]
                    fn round_trips(entropy in entropy(), cut: Index) {
                        super::round_trips::<Request>(&entropy, cut, &ALL);
                        super::round_trips::<Response>(&entropy, cut, &ALL);
                    }

                    #[test]
                    fn survives_damage(
                        entropy in entropy(),
                        damage in vec(any::<(Index, u8)>(), 1..4),
                    ) {
                        super::survives_damage::<Request>(&entropy, &damage, &ALL);
                        super::survives_damage::<Response>(&entropy, &damage, &ALL);
                    }

                    #[test]
                    fn agrees_with_the_kafka_protocol_crate(entropy in entropy()) {
                        agrees::<Request, theirs::$request>(&entropy, &ALL);
                        agrees::<Response, theirs::$response>(&entropy, &ALL);
                    }
                }

                #[test]
                fn headers_agree_with_the_kafka_protocol_crate() {
                    assert_eq!(KEY, theirs::$request::KEY);
                    let name = api_name(KEY).expect("the API is in the list");
                    assert_eq!(format!("{name}Request"), stringify!($request));
                    headers_agree::<theirs::$request>(KEY, VERSIONS);
                }
            }
        )*

        /// Versions of each API that the other crate does not have, so that nothing above covers
        /// but the round trip.
        fn versions_without_peer() -> Vec<(&'static str, Vec<i16>)> {
            let mut all = Vec::new();
            $({
                let theirs = <theirs::$request as kafka_protocol::protocol::Message>::VERSIONS;
                let missing = crate::wire::$module::VERSIONS.filter(|v| !(theirs.min..=theirs.max).contains(v));
                let missing: Vec<i16> = missing.collect();
                if !missing.is_empty() {
                    all.push((stringify!($module), missing));
                }
            })*
            all
        }
    };
}

apis! {
    produce ProduceRequest ProduceResponse,
    fetch FetchRequest FetchResponse,
    list_offsets ListOffsetsRequest ListOffsetsResponse,
    metadata MetadataRequest MetadataResponse,
    offset_commit OffsetCommitRequest OffsetCommitResponse,
    offset_fetch OffsetFetchRequest OffsetFetchResponse,
    find_coordinator FindCoordinatorRequest FindCoordinatorResponse,
    join_group JoinGroupRequest JoinGroupResponse,
    heartbeat HeartbeatRequest HeartbeatResponse,
    leave_group LeaveGroupRequest LeaveGroupResponse,
    sync_group SyncGroupRequest SyncGroupResponse,
    describe_groups DescribeGroupsRequest DescribeGroupsResponse,
    list_groups ListGroupsRequest ListGroupsResponse,
    api_versions ApiVersionsRequest ApiVersionsResponse,
    create_topics CreateTopicsRequest CreateTopicsResponse,
    delete_topics DeleteTopicsRequest DeleteTopicsResponse,
    delete_records DeleteRecordsRequest DeleteRecordsResponse,
    init_producer_id InitProducerIdRequest InitProducerIdResponse,
    offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
    describe_acls DescribeAclsRequest DescribeAclsResponse,
    create_acls CreateAclsRequest CreateAclsResponse,
    delete_acls DeleteAclsRequest DeleteAclsResponse,
    describe_configs DescribeConfigsRequest DescribeConfigsResponse,
    alter_configs AlterConfigsRequest AlterConfigsResponse,
    alter_replica_log_dirs AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse,
    describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse,
    create_partitions CreatePartitionsRequest CreatePartitionsResponse,
    delete_groups DeleteGroupsRequest DeleteGroupsResponse,
    elect_leaders ElectLeadersRequest ElectLeadersResponse,
    incremental_alter_configs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    alter_partition_reassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
    list_partition_reassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
    offset_delete OffsetDeleteRequest OffsetDeleteResponse classic,
    describe_client_quotas DescribeClientQuotasRequest DescribeClientQuotasResponse,
    describe_user_scram_credentials DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse,
    describe_quorum DescribeQuorumRequest DescribeQuorumResponse,
    update_features UpdateFeaturesRequest UpdateFeaturesResponse,
    describe_cluster DescribeClusterRequest DescribeClusterResponse,
    describe_producers DescribeProducersRequest DescribeProducersResponse,
    unregister_broker UnregisterBrokerRequest UnregisterBrokerResponse,
    consumer_group_heartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
    consumer_group_describe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse,
    list_config_resources ListConfigResourcesRequest ListConfigResourcesResponse,
    describe_topic_partitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
}

unknown_tags!(ConsumerProtocolSubscription classic);
unknown_tags!(ConsumerProtocolAssignment classic);

/// Headers are read and written as the other crate does.
fn headers_agree<Theirs>(key: i16, versions: RangeInclusive<i16>)
where
    Theirs: kafka_protocol::protocol::Request,
{
    for version in versions {
        let header = RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id: 7,
            client_id: (version % 2 == 0).then(|| "client".into()),
        };
        let mut w = Writer::new();
        header.encode(&mut w);
        let bytes = w.into_payload();
        let theirs =
            theirs::RequestHeader::decode(&mut bytes.clone(), Theirs::header_version(version));
        let mut theirs = theirs.expect("they read ours");
        assert_eq!(
            encode_theirs(&theirs, Theirs::header_version(version)),
            bytes,
            "v{version}"
        );
        if Theirs::header_version(version) >= 2 {
            theirs
                .unknown_tagged_fields
                .insert(3, Bytes::from_static(b"unknown"));
        }
        let mut r = Reader::new(encode_theirs(&theirs, Theirs::header_version(version)));
        assert_eq!(RequestHeader::decode(&mut r), Ok(header));
        assert_eq!(r.finish(), Ok(()));

        let header = ResponseHeader { correlation_id: 7 };
        let mut w = Writer::new();
        header.encode(&mut w, key, version);
        let bytes = w.into_payload();
        let theirs = theirs::ResponseHeader::default().with_correlation_id(7);
        let their_version = Theirs::Response::header_version(version);
        assert_eq!(encode_theirs(&theirs, their_version), bytes, "v{version}");
        let mut r = Reader::new(bytes);
        assert_eq!(ResponseHeader::decode(&mut r, key, version), Ok(header));
        assert_eq!(r.finish(), Ok(()));
    }
}

#[test]
fn versions_that_nobody_else_checks_are_known() {
    assert_eq!(
        versions_without_peer(),
        [
            ("produce", vec![0, 1, 2]),
            ("list_offsets", vec![11]),
            ("offset_commit", vec![10]),
            ("offset_fetch", vec![10]),
            ("init_producer_id", vec![6]),
            ("describe_log_dirs", vec![5]),
        ]
    );
}
