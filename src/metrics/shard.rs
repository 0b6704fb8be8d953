//! What one shard counts. The shard alone writes it.

use std::time::Duration;

use super::cell::{Amount, Histogram, Latency, Number, Size};
use crate::api::REGISTRY;
use crate::group::{Note, Reason};
use crate::wire::ErrorCode;

/// The error codes of the protocol, -1 to 133, and one for all others.
const CODES: usize = 136;
const FIRST_CODE: i32 = -1;

/// See the module. All is in the units that the names say; times in histograms are in microseconds.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    pub apis: PerApi,
    pub bytes_in: Number,
    pub bytes_out: Number,
    pub in_flight: Number,
    pub connections: Number,
    pub accepted: Number,
    pub refused: [Number; RefusedBy::NAMES.len()],
    pub closed: [Number; Closed::NAMES.len()],
    pub produced: Traffic,
    pub fetched_bytes: Number,
    pub fetch_waits: Number,
    pub fetch_tail: Number,
    pub fetch_cold: Number,
    pub commit: Histogram<Latency>,
    pub commit_batches: Histogram<Amount>,
    pub commit_bytes: Histogram<Size>,
    pub commit_partitions: Histogram<Amount>,
    /// When the last commit ended that stored something, in ms since the epoch; 0: none did.
    pub last_commit_ms: Number,
    pub sync: Histogram<Latency>,
    pub store_failures: Number,
    pub journal_bytes: Number,
    pub checkpoints: Number,
    pub checkpoint_failures: Number,
    pub compactions: Number,
    pub compaction_failures: Number,
    pub compaction_read_bytes: Number,
    pub compaction_written_bytes: Number,
    pub uncleanable_partitions: Number,
    pub max_dirty_percent: Number,
    /// 1: nothing is stored any more.
    pub broken: Number,
    /// 1: because another gateway has taken the store over.
    pub fenced: Number,
    /// Not served since the start, as what is stored of them is damaged.
    pub unreadable_partitions: Number,
    /// Not served, as no server has a volume that they need.
    pub away_partitions: Number,
    pub groups: GroupMetrics,
}

/// Batches that were stored.
#[derive(Debug, Default)]
pub struct Traffic {
    pub batches: Number,
    pub records: Number,
    pub bytes: Number,
}

/// What happens in groups.
#[derive(Debug, Default)]
pub struct GroupMetrics {
    pub rebalances: [Number; Reason::NAMES.len()],
    pub settled: Histogram<Latency>,
    pub silent: Number,
    pub commits: Number,
}

impl GroupMetrics {
    pub fn note(&self, note: Note) {
        match note {
            Note::Rebalance(reason) => self.rebalances[reason as usize].add(1),
            Note::Settled { after_ms } => {
                let took = Duration::from_millis(after_ms.unsigned_abs());
                self.settled.note_time(took);
            }
            Note::Silent => self.silent.add(1),
            Note::Committed(offsets) => self.commits.add(offsets as u64),
        }
    }
}

/// By the API's place in the registry.
#[derive(Debug)]
pub struct PerApi(Box<[ApiMetrics]>);

impl Default for PerApi {
    fn default() -> Self {
        PerApi(REGISTRY.iter().map(|_| ApiMetrics::default()).collect())
    }
}

impl std::ops::Index<usize> for PerApi {
    type Output = ApiMetrics;

    fn index(&self, api: usize) -> &ApiMetrics {
        &self.0[api]
    }
}

#[derive(Debug)]
pub struct ApiMetrics {
    pub requests: Number,
    pub latency: Histogram<Latency>,
    errors: [Number; CODES],
}

impl Default for ApiMetrics {
    fn default() -> Self {
        ApiMetrics {
            requests: Number::default(),
            latency: Histogram::default(),
            errors: std::array::from_fn(|_| Number::default()),
        }
    }
}

impl ApiMetrics {
    /// The error was told `n` times.
    pub fn note_error(&self, code: ErrorCode, n: u64) {
        let place = usize::try_from(i32::from(code.0) - FIRST_CODE).unwrap_or(CODES);
        self.errors[place.min(CODES - 1)].add(n);
    }

    /// How often each error was told.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        let told =
            |(place, n): (usize, &Number)| (ErrorCode((place as i32 + FIRST_CODE) as i16), n.get());
        self.errors.iter().enumerate().map(told)
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $reason_doc:literal])+ $reason:ident = $text:literal,)+
    })+) => { $(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $reason_doc])+ $reason,)+ }

        impl $name {
            /// As metrics call them, in order.
            pub const NAMES: &[&str] = &[$($text),+];
        }
    )+ };
}

reasons! {
    /// Why a connection ended.
    Closed {
        /// The client ended it, or went away.
        Client = "client",
        /// The client broke the rules.
        BadRequest = "bad_request",
        /// It was idle for too long.
        Idle = "idle",
        /// The client kept memory in use that others waited for.
        Stalled = "stalled",
        /// The gateway stops.
        Stop = "stop",
        /// Its task panicked.
        Failed = "failed",
    }

    /// Why a connection was not taken.
    RefusedBy {
        /// As many are open as may be.
        Connections = "max_connections",
        /// As many are open from this address as may be.
        ConnectionsPerIp = "max_connections_per_ip",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_its_place_and_unknown_ones_share_one() {
        let api = ApiMetrics::default();
        for code in [-1, 1, 133, 134, 999, i16::MAX] {
            api.note_error(ErrorCode(code), 2);
        }
        let told: Vec<_> = api.errors().filter(|(_, n)| *n > 0).collect();
        let of = |code, n| (ErrorCode(code), n);
        assert_eq!(told, [of(-1, 2), of(1, 2), of(133, 2), of(134, 6)]);
        assert_eq!(ErrorCode(134).name(), "UNKNOWN_ERROR_CODE");
    }
}
