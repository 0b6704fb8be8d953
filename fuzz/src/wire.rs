//! What has to hold for any bytes that are read as a Kafka message. Shared by the fuzz targets and
//! by `tests/wire_hostile.rs`.

use std::fmt::Debug;

use bytes::{Buf, Bytes};
use tidegate::wire::frame::RequestHeader;
use tidegate::wire::*;

/// Something to do with bytes that stand for a message.
pub trait Check {
    fn message<M: Message + Debug + PartialEq>(&mut self, r: Reader, version: i16);
}

/// Bytes are refused, or what they say is read again when it is written.
pub struct RoundTrip;

impl Check for RoundTrip {
    fn message<M: Message + Debug + PartialEq>(&mut self, mut r: Reader, version: i16) {
        let Ok(message) = M::decode(&mut r, version) else {
            return;
        };
        let mut w = Writer::new();
        message.encode(&mut w, version);
        let mut r = Reader::new(Records::from(w.finish()).into_bytes().slice(4..));
        assert_eq!(M::decode(&mut r, version).as_ref(), Ok(&message));
        assert_eq!(r.finish(), Ok(()), "{message:?}");
    }
}

/// Takes a frame for a request: its header says which.
pub fn request(frame: Bytes, check: &mut impl Check) {
    let mut r = Reader::new(frame);
    if let Ok(header) = RequestHeader::decode(&mut r) {
        request_of(header.api_key, r, header.api_version, check);
    }
}

/// Takes bytes for a response, behind the key and the version of its API.
pub fn response(mut bytes: Bytes, check: &mut impl Check) {
    if bytes.len() >= 4 {
        let (key, version) = (bytes.get_i16(), bytes.get_i16());
        response_of(key, Reader::new(bytes), version, check);
    }
}

macro_rules! apis {
    ($($module:ident)*) => {
        /// The keys of all APIs, and their newest versions.
        pub const APIS: &[(i16, i16)] = &[$(($module::KEY, *$module::VERSIONS.end())),*];

        fn request_of(key: i16, r: Reader, version: i16, check: &mut impl Check) {
            match key {
                $($module::KEY => check.message::<$module::Request>(r, version),)*
                _ => {}
            }
        }

        fn response_of(key: i16, r: Reader, version: i16, check: &mut impl Check) {
            match key {
                $($module::KEY => check.message::<$module::Response>(r, version),)*
                _ => {}
            }
        }
    };
}

apis! {
    produce fetch list_offsets metadata offset_commit offset_fetch find_coordinator join_group
    heartbeat leave_group sync_group describe_groups list_groups api_versions create_topics
    delete_topics delete_records init_producer_id offset_for_leader_epoch describe_acls create_acls
    delete_acls describe_configs alter_configs alter_replica_log_dirs describe_log_dirs
    create_partitions delete_groups elect_leaders incremental_alter_configs
    alter_partition_reassignments list_partition_reassignments offset_delete describe_client_quotas
    describe_user_scram_credentials describe_quorum update_features describe_cluster
    describe_producers unregister_broker consumer_group_heartbeat consumer_group_describe
    list_config_resources describe_topic_partitions
}
