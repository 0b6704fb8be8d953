//! The store in SeaweedFS, in SeaweedMQ's layout.

pub mod codec;
