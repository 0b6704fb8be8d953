//! What the gateway counts, for those who run it.
//!
//! Each shard writes its own [`ShardMetrics`], plain numbers that it alone changes; the admin thread
//! reads those of all shards while they work. What is a state and not a count (memory in use, sizes of
//! topics) is asked of the shards when somebody wants to know it: [`survey`]. [`table`] names all
//! metrics, [`text`] writes them in the format of Prometheus. What speaks with SeaweedFS counts in
//! [`seaweedfs`].

pub mod cell;
pub mod process;
pub mod seaweedfs;
pub mod shard;
pub mod survey;
pub mod table;
pub mod text;

pub use shard::{Closed, RefusedBy, ShardMetrics};
