use super::message::message;
use super::{Double, ErrorCode, StrBytes};

message! {
    /// DescribeClientQuotas (48): quotas of users, clients and addresses (KIP-546).
    /// v1: flexible (KIP-482).
    api 48, versions 0..=1, flexible 1..;

    request {
        components: Vec<ComponentData>,
        /// Entities of other types as well do not match.
        strict: bool,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        entries: Option<Vec<EntryData>>,
    }

    struct ComponentData {
        entity_type: StrBytes,
        /// 0: this name; 1: the default; 2: any name.
        match_type: i8,
        /// Null where the type needs none.
        r#match: Option<StrBytes>,
    }

    struct EntryData {
        entity: Vec<EntityData>,
        values: Vec<ValueData>,
    }

    struct EntityData {
        entity_type: StrBytes,
        /// Null is the default.
        entity_name: Option<StrBytes>,
    }

    struct ValueData {
        key: StrBytes,
        value: Double,
    }
}
